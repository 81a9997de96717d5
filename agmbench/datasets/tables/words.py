"""The plain tokenizer of texts: words by a hash, so that it needs no vocabulary and is the same on every machine."""

import re
from zlib import crc32

import numpy as np

from agmbench.datasets.files import Array

WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+(?:'\w+)?")
FIRST = 2  # 0 is no word and 1 an unknown one, as encoder lstm reads them


def words(text: str) -> list[str]:
    """Lower case; runs of letters and digits, and each Chinese, Japanese or Korean character by itself."""
    return WORD.findall(text.lower())


def word_numbers(text: str, vocabulary: int, length: int) -> Array:
    """`[n, 1]`, n at most `length`: 2 + crc32(word) mod (vocabulary - 2). Two words may share a number."""
    found = [FIRST + crc32(word.encode()) % (vocabulary - FIRST) for word in words(text)[:length]]
    return np.array(found, dtype=np.float32).reshape(-1, 1)
