"""Per-sample predictions of a run as Parquet: what people look into, and what competition strength reads of a concept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from agmbench.contracts import Outcome, SplitName


def write(outcomes: Mapping[SplitName, Outcome], path: Path) -> None:
    """One row a sample of each split: its number, class, predicted class, each response's predicted class, and the C logits."""
    parquet.write_table(pa.concat_tables([_table(split, outcome) for split, outcome in outcomes.items()]), path)


def _table(split: SplitName, outcome: Outcome) -> pa.Table:
    count = len(outcome.targets)
    columns: dict[str, NDArray[Any]] = {
        "split": np.repeat(split, count),
        "index": np.arange(count),
        "target": outcome.targets.numpy(),
        "prediction": outcome.full.argmax(dim=1).numpy(),
        **{f"prediction/{m}": response.argmax(dim=1).numpy() for m, response in outcome.responses.items()},
        **{f"logit/{number}": column for number, column in enumerate(outcome.full.numpy().T)},
    }
    return pa.table(columns)


def read_logits(path: Path) -> dict[str, NDArray[np.float32]]:
    """Logits `[N, C]` of each split, in the order of the samples."""
    table = parquet.read_table(path).to_pandas()
    logits = [name for name in table.columns if name.startswith("logit/")]
    return {str(split): rows.sort_values("index")[logits].to_numpy() for split, rows in table.groupby("split")}
