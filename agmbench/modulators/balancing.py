"""Shared code of the methods that compare the modalities with one another: AGM, OGM and their variants."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from agmbench.contracts import Batch, Context, Model, Modulator, Split

Scores = Literal["batch", "dev"]


class Windowed(Modulator):
    """A method that only modulates (is `active`) in epochs `starts <= epoch < ends`; `None` means until the end."""

    def __init__(self, modalities: tuple[str, ...], starts: int, ends: int | None) -> None:
        super().__init__(modalities)
        self.starts = starts
        self.ends = ends
        self.active = True

    def begin_epoch(self, context: Context) -> None:
        self.active = self.starts <= context.epoch and (self.ends is None or context.epoch < self.ends)


class Balancing(Windowed):
    """A method that computes its coefficients from scores of the modalities.

    scores: where they come from: the training `batch`, or a batch of the same size drawn from the `dev` split, in eval mode.
    """

    def __init__(self, modalities: tuple[str, ...], starts: int, ends: int | None, scores: Scores) -> None:
        super().__init__(modalities, starts, ends)
        self.scores = scores
        self._dev: Split | None = None

    def refuses(self, model: Model) -> str | None:
        if len(model.modalities) < 2:
            return f"needs two or more modalities to compare; found {', '.join(model.modalities)}"
        return None

    def prepare(self, context: Context) -> None:
        self.generator = context.generator
        if self.scores == "dev":
            self._dev = context.splits["dev"]

    def terms(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        """The logits that each modality gives for a batch by itself, `{m: [B, C]}`."""
        raise TypeError(f"{type(self).__name__} should define terms(model, batch)")

    @torch.no_grad()
    def scored(self, model: Model, batch: Batch, terms: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Tensor]:
        """The terms and targets from which scores are taken: those of the given training batch, or of a batch of `dev`."""
        if self._dev is None:
            return terms, batch.targets
        count, device = min(len(batch.targets), len(self._dev)), batch.targets.device
        # the numbers are drawn on the CPU, where samples are read; if the modulator's generator is on another device, by torch's own
        drawing = self.generator if self.generator.device.type == "cpu" else torch.default_generator
        dev = self._dev.batch(torch.randperm(len(self._dev), generator=drawing)[:count]).to(device)
        with model.evaluating():
            return self.terms(model, dev), dev.targets
