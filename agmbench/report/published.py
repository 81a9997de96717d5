"""Figures that a paper printed, to be set beside ours: the supplement of Li et al., ICCV 2023."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

SOURCE = "Li et al., ICCV 2023, supplement"
FUSIONS = {"late": "concat"}  # the paper's words for ours
MODALITIES = {("avmnist", "visual"): "image"}
KEYS = {"acc": "response", "d": "strength"}
FIGURES = ("acc", "acc_audio", "acc_visual", "d_audio", "d_visual")


@dataclass(frozen=True)
class Published:
    """One row of a printed table: its figures by the keys of our columns; `variant` is what sets it apart there, such as `seed=99`."""

    table: str
    variant: str
    method: str
    figures: Mapping[str, float]

    @property
    def source(self) -> str:
        return f"table {self.table}{f', {self.variant}' if self.variant else ''}"


def published(dataset: str, fusion: str) -> list[Published]:
    """What is printed of a data set under a fusion, in the order of print; the concepts of a table are one row."""
    lines = files("agmbench.report").joinpath("published/supplement.csv").read_text(encoding="utf-8").splitlines()
    rows: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for line in csv.DictReader(line for line in lines if not line.startswith("#")):
        if (line["dataset"], FUSIONS.get(line["fusion"], line["fusion"])) == (dataset, fusion):
            method = "concept" if line["method"].startswith("concept-") else line["method"]
            figures = {_key(dataset, name): float(line[name]) for name in FIGURES if line[name]}
            rows[line["table"], line["variant"], method] |= figures
    return [Published(*key, figures) for key, figures in rows.items()]


def _key(dataset: str, name: str) -> str:
    figure, _, modality = name.partition("_")
    return f"{KEYS[figure]}/{MODALITIES.get((dataset, modality), modality)}" if modality else "accuracy"
