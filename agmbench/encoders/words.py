"""Turns raw text into token ids by the tokenizer of a network."""

from typing import Any

import torch
from torch import Tensor

from agmbench.contracts import Input, Tokens, Unsuitable, texts_of
from agmbench.encoders.pretrained import one_line

BYTES = "bytes"


class Words:
    """Turns texts as bytes `[B, T, 1]` into ids, mask and segments `[B, 3, L]`. L is the number of tokens of the longest text, but at most
    `length`.

    name: a tokenizer on the hub, or a folder; `bytes` needs no files and takes each byte as a token (as ByT5 does).
    """

    def __init__(self, name: str, length: int) -> None:
        from transformers import AutoTokenizer, ByT5Tokenizer

        try:
            self.tokenizer: Any = ByT5Tokenizer(extra_ids=0) if name == BYTES else AutoTokenizer.from_pretrained(name)
        except Exception as error:  # the hub and a tokenizer raise what they like
            raise Unsuitable(f"transformers cannot load the tokenizer '{name}': {one_line(error)}") from error
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "right"
        self.length = length

    def __call__(self, x: Input, whole: bool = False) -> Tensor:
        """Tokenize the texts. With `whole`, L is always `length`, so that a text has the same tokens in any batch. An empty text has no
        token."""
        texts = texts_of(x if isinstance(x, Tokens) else Tokens(x))
        padding = "max_length" if whole else "longest"
        found = self.tokenizer(texts, padding=padding, truncation=True, max_length=self.length, return_tensors="np")
        ids = torch.from_numpy(found["input_ids"])
        segments = torch.from_numpy(found["token_type_ids"]) if "token_type_ids" in found else torch.zeros_like(ids)
        there = torch.from_numpy(found["attention_mask"]) * torch.tensor([bool(text) for text in texts]).unsqueeze(1)
        return torch.stack([ids * there, there, segments * there], dim=1).float()
