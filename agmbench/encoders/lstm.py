"""An LSTM over words or over vectors."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Input, Tokens, Unsuitable
from agmbench.encoders.recurrent import Recurrent

UNKNOWN = 1


class LSTM(Encoder):
    """From word numbers `[B, T, 1]`, which go through an embedding, or from vectors `[B, T, F]`, to the states of an LSTM `[B, T, width]`.

    Word numbers are whole: 0 is no word, 1 an unknown word; a number beyond the vocabulary is read as 1. Hidden tokens change nothing,
    whether they are at the beginning or at the end.

    width: width of the states. Paper and UMONS code 512; default 512.
    layers: number of layers. UMONS code and default 1.
    vocabulary: rows of the embedding. Default 24,000, a little more than the 23,026 distinct words of CMU-MOSEI.
    embedding: width of a word's vector. UMONS code and default 300.
    vectors: a `.npy` file `[V, E]` with initial vectors, such as the cache `train_glove.npy` beside UMONS's files. It then gives
        vocabulary and width, and its vectors are trained further, as in UMONS code. Default: none, random vectors.
    dropout: dropout of word vectors. UMONS code and default 0.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Annotated[int, Gt(0)] = 512,
        layers: Annotated[int, Gt(0)] = 1,
        vocabulary: Annotated[int, Gt(1)] = 24_000,
        embedding: Annotated[int, Gt(0)] = 300,
        vectors: str | None = None,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__(shape)
        if len(shape) != 2:
            raise Unsuitable(
                f"takes a sequence [T, F], or word numbers [T, 1]; found the shape {list(shape)}; take encoder mlp"
            )
        self.embed: nn.Embedding | None = None
        if shape[1] == 1:
            self.embed = (
                nn.Embedding(vocabulary, embedding) if vectors is None else nn.Embedding.from_pretrained(_read(vectors), False)
            )
        elif vectors is not None:
            raise Unsuitable(f"vectors are for word numbers [T, 1]; found the shape {list(shape)}")
        self.reads_numbers = self.embed is not None
        self.drop = nn.Dropout(dropout)
        self.lstm = Recurrent(shape[1] if self.embed is None else self.embed.embedding_dim, width, layers, batch_first=True)
        self.out_features = width

    def forward(self, x: Input) -> Tokens:
        values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
        if self.embed is not None:
            words = values.squeeze(2).round().long().clamp(min=0)
            values = self.embed(torch.where(words < self.embed.num_embeddings, words, UNKNOWN))  # [B, T, E]
        values = self.drop(values)
        if mask is None:
            return Tokens(self.lstm(values)[0])
        order = (~mask).long().argsort(dim=1, stable=True)  # hidden tokens go to the end, where they do not affect the others
        states: Tensor = self.lstm(_moved(values, order))[0]  # [B, T, width]
        return Tokens(_moved(states, order.argsort(dim=1)), mask)


def _moved(values: Tensor, order: Tensor) -> Tensor:
    """Tokens `[B, T, F]` of each sample in another order `[B, T]`."""
    return values.gather(1, order.unsqueeze(2).expand(-1, -1, values.shape[2]))


def _read(path: str) -> Tensor:
    file = Path(path).expanduser()
    if file.exists() and not file.is_file():  # a pipe would keep its reader waiting
        raise Unsuitable(f"vectors: {path} is not a file; expected an array of NumPy")
    try:
        vectors = np.load(file, allow_pickle=False)
    except Exception as error:  # numpy raises what it likes on a broken file
        raise Unsuitable(f"vectors: {path} cannot be read as an array: {' '.join(str(error).split())}") from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or len(vectors) <= UNKNOWN or vectors.dtype.kind != "f":
        raise Unsuitable(
            f"vectors: {path} should be an array [V, E] of floats; found {getattr(vectors, 'shape', type(vectors))}"
        )
    return torch.from_numpy(vectors).float()
