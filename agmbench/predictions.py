"""Per-sample predictions of a run as Parquet: what people look into, and what competition strength reads of a concept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

from agmbench.contracts import Outcome, SplitName


def write(outcomes: Mapping[SplitName, Outcome], path: Path) -> None:
    """One row a sample (or segment) of each split: its number, target, prediction, each response's prediction, and the C logits."""
    parquet.write_table(pa.concat_tables([_table(split, outcome) for split, outcome in outcomes.items()]), path)


def _table(split: SplitName, outcome: Outcome) -> pa.Table:
    count = len(outcome.targets)
    table: dict[str, NDArray[Any]] = {
        "split": np.repeat(split, count),
        "index": np.arange(count),
        **columns("target", outcome.targets),
        **columns("prediction", outcome.task.predicted(outcome.full)),
        **{
            name: column
            for m, response in outcome.responses.items()
            for name, column in columns(f"prediction/{m}", outcome.task.predicted(response)).items()
        },
        **columns("logit", outcome.full),
    }
    return pa.table(table)


def columns(name: str, values: Tensor) -> dict[str, NDArray[Any]]:
    """One column, or one a label."""
    if values.ndim == 1:
        return {name: values.numpy()}
    return {f"{name}/{number}": column for number, column in enumerate(values.numpy().T)}


def read_logits(path: Path) -> dict[str, NDArray[np.float32]]:
    """Logits `[N, C]` of each split, in the order of the samples."""
    table = parquet.read_table(path).to_pandas()
    logits = [name for name in table.columns if name.startswith("logit/")]
    return {str(split): rows.sort_values("index")[logits].to_numpy() for split, rows in table.groupby("split")}
