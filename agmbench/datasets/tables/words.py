"""Texts as numbers: words by a hash, so that no vocabulary is needed and every machine has the same, or the bytes of raw text."""

import re
from zlib import crc32

import numpy as np

from agmbench.datasets.arrays import Array

WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+(?:'\w+)?")
FIRST = 2  # 0 is no word and 1 an unknown one, as encoder lstm reads them


def words(text: str) -> list[str]:
    """Lower case; runs of letters and digits, and each Chinese, Japanese or Korean character by itself."""
    return WORD.findall(text.lower())


def word_numbers(text: str, vocabulary: int, length: int) -> Array:
    """`[n, 1]`, n at most `length`: 2 + crc32(word) mod (vocabulary - 2). Two words may share a number."""
    found = [FIRST + crc32(word.encode()) % (vocabulary - FIRST) for word in words(text)[:length]]
    return np.array(found, dtype=np.float32).reshape(-1, 1)


def byte_numbers(text: str, length: int) -> Array:
    """`[n, 1]`, n at most `length`: the bytes of the text in UTF-8, cut between two letters, as `agmbench.contracts.utf8` has them."""
    content = text.encode()[:length].decode(errors="ignore").encode()
    return np.frombuffer(content, dtype=np.uint8).astype(np.float32).reshape(-1, 1)
