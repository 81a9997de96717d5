"""Published figures that are shown beside ours: the supplement of Li et al., ICCV 2023."""

import csv
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files

SOURCE = "Li et al., ICCV 2023, supplement"
FUSIONS = {"late": "concat"}  # the paper's names with ours
MODALITIES = {("avmnist", "visual"): "image"}
TABLES = (5, 6, 7, 8)
# Under late fusion, AGM's code reports as Acc_m the accuracy of the head's own term for these methods, and that of the Shapley response for
# AGM and its variants.
BY_HEAD = ("joint", "ogm-ge", "ogm-ge-ra", "mslr", "mses")
FIGURES = ("acc", "acc_audio", "acc_visual", "d_audio", "d_visual")


@dataclass(frozen=True)
class Published:
    """One row of a published table: its figures by the keys of our columns, under the definition that the table used.

    `variant` distinguishes rows of one method; it is one of our settings, such as `concept_seed=99`.
    """

    table: str
    variant: str
    method: str
    figures: Mapping[str, float]

    @property
    def source(self) -> str:
        return f"table {self.table}{f', {self.variant}' if self.variant else ''}"


def published(dataset: str, fusion: str, tables: Collection[int] = TABLES) -> list[Published]:
    """The published figures of a data set and a fusion, in the order of the tables; the unimodal models of a table are one row."""
    lines = files("agmbench.report").joinpath("published/supplement.csv").read_text(encoding="utf-8").splitlines()
    rows: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for line in csv.DictReader(line for line in lines if not line.startswith("#")):
        if (line["dataset"], FUSIONS.get(line["fusion"], line["fusion"])) == (dataset, fusion) and int(line["table"]) in tables:
            method = "concept" if line["method"].startswith("concept-") else line["method"]
            accuracy = "term" if method in BY_HEAD and line["fusion"] == "late" else "response"
            figures = {_key(dataset, name, accuracy): float(line[name]) for name in FIGURES if line[name]}
            rows[line["table"], line["variant"], method] |= figures
    return [Published(*key, figures) for key, figures in rows.items()]


def _key(dataset: str, name: str, accuracy: str) -> str:
    figure, _, modality = name.partition("_")
    quantity = accuracy if figure == "acc" else "strength"
    return f"{quantity}/{MODALITIES.get((dataset, modality), modality)}" if modality else "accuracy"
