"""Turns texts into numbers: words by a hash, which needs no vocabulary and is the same on every machine, or the bytes of raw text."""

import re
from zlib import crc32

import numpy as np

from agmbench.datasets.arrays import Array

WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+(?:'\w+)?")
FIRST = 2  # the first number of a word; encoder lstm reads 0 as no word and 1 as an unknown word


def words(text: str) -> list[str]:
    """The words of a text in lower case: runs of letters and digits, and each Chinese, Japanese or Korean character by itself."""
    return WORD.findall(text.lower())


def word_numbers(text: str, vocabulary: int, length: int) -> Array:
    """The numbers of the first words of a text, `[n, 1]`, with n at most `length`: 2 + crc32(word) mod (vocabulary - 2). Two words may have
    the same number."""
    found = [FIRST + crc32(word.encode()) % (vocabulary - FIRST) for word in words(text)[:length]]
    return np.array(found, dtype=np.float32).reshape(-1, 1)


def byte_numbers(text: str, length: int) -> Array:
    """The bytes of a text in UTF-8, `[n, 1]`, with n at most `length`, as `agmbench.contracts.utf8` gives them. A text is never cut within
    a character."""
    content = text.encode()[:length].decode(errors="ignore").encode()
    return np.frombuffer(content, dtype=np.uint8).astype(np.float32).reshape(-1, 1)
