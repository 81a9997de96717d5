"""Per-sample predictions of a run as a Parquet file that people can inspect, and hashes of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from agmbench.outcomes import Kind, Outcome


def write(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """Write one row per sample (or segment) of each split: number, target, prediction, each response's prediction, and the C logits."""
    parquet.write_table(pa.concat_tables([_table(split, outcome) for split, outcome in outcomes.items()]), path)


def _table(split: str, outcome: Outcome) -> pa.Table:
    count = len(outcome.targets)
    table: dict[str, NDArray[Any]] = {
        "split": np.repeat(split, count),
        "index": np.arange(count),
        **columns("target", outcome.targets),
        **columns("prediction", outcome.predicted(outcome.full)),
        **{
            name: column
            for m, response in outcome.responses.items()
            for name, column in columns(f"prediction/{m}", outcome.predicted(response)).items()
        },
        **columns("logit", outcome.full),
    }
    return pa.table(table)


def columns(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Values `[N]` as one column, or `[N, C]` as C columns `name/0`, `name/1`, ..."""
    return {name: values} if values.ndim == 1 else {f"{name}/{number}": column for number, column in enumerate(values.T)}


def outcomes(path: Path, kind: Kind, modalities: tuple[str, ...], class_names: tuple[str, ...] = ()) -> dict[str, Outcome]:
    """The outcome of each split as far as a file of predictions has it: the targets, and the logits with every modality present."""
    table = parquet.read_table(path).to_pandas()
    return {
        str(split): Outcome(
            kind,
            modalities,
            class_names,
            {frozenset(modalities): _matrix(rows, "logit")},
            _matrix(rows, "target") if "target" not in rows else rows["target"].to_numpy(),
        )
        for split, rows in table.sort_values("index").groupby("split")
    }


def hashes(found: Mapping[str, Outcome]) -> dict[str, str]:
    """The sha256 of the `answers` (targets and predictions) and of the `logits` of all splits, independent of the file that holds them.

    Splits are taken in the order of their names, samples in the order of the split. Of each array, the name, type and shape are hashed as
    a line such as `test/logits <f4 (64, 4)` with its line end, followed by the numbers in C order, little-endian.
    """
    answers, logits = hashlib.sha256(), hashlib.sha256()
    for split, outcome in sorted(found.items()):
        _hash(answers, f"{split}/target", outcome.targets)
        _hash(answers, f"{split}/prediction", outcome.predicted(outcome.full))
        _hash(logits, f"{split}/logits", outcome.full)
    return {"answers": answers.hexdigest(), "logits": logits.hexdigest()}


def _hash(into: Any, name: str, values: NDArray[Any]) -> None:
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    into.update(f"{name} {plain.dtype.str} {plain.shape}\n".encode() + plain.tobytes())


def _matrix(rows: Any, name: str) -> NDArray[Any]:
    return np.ascontiguousarray(rows[[column for column in rows.columns if column.startswith(f"{name}/")]].to_numpy())
