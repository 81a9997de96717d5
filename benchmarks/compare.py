"""Measures how long `agmbench compare` takes for a data set with 500 runs in a store of 10,000 runs, without the imports.

    python benchmarks/compare.py

The store has copies of one real run, made by SQL: 20 data sets of 500 runs each (4 cells, 5 methods, 25 seeds), with every tag,
parameter and last metric. Histories are left out, because only the HTML report reads them. Best of three. Target: 3 s.
"""

import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout, suppress
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

SETS, CELLS, METHODS, SEEDS = 20, 4, ("joint", "ogm-ge", "agm", "mslr", "mses"), 25
TABLES = ("runs", "tags", "params", "latest_metrics")


def main() -> None:
    from agmbench.cli import main as agmbench

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        agmbench_ = quiet(agmbench)
        agmbench_("run", "-d", "synthetic", "-m", "joint", "--epochs", "1", "--set", "dataset.samples=128")
        fill(Path("runs/mlflow.db"))
        agmbench_("compare", "-d", "synthetic", "--format", "html")  # imports everything
        print("| command | s | target |\n|---|---:|---:|")
        for words in (["compare", "-d", "synthetic"], ["compare", "-d", "synthetic", "--coalitions", "--cost"]):
            print(f"| agmbench {' '.join(words)} | {min(agmbench_(*words) for _ in range(3)):.2f} | 3 |", flush=True)


def quiet(agmbench: Any) -> Any:
    """The command line as a function that prints nothing and returns the seconds that it took."""

    def timed(*words: str) -> float:
        begun = time.perf_counter()
        with redirect_stdout(StringIO()), suppress(SystemExit):
            agmbench(list(words))
        return time.perf_counter() - begun

    return timed


def fill(store: Path) -> None:
    """Copy the store's multimodal run until it has 10,000 runs, with random accuracies."""
    draw = random.Random(0)
    with sqlite3.connect(store) as connection:
        (real,) = next(connection.execute("select run_uuid from tags where key = 'agmbench.concept' and value = 'false'"))
        rows = {table: read(connection, table, real) for table in TABLES}
        home = rows["runs"][0]["experiment_id"]
        spec = json.loads(next(row["value"] for row in rows["tags"] if row["key"] == "agmbench.spec"))
        for number in range(SETS):
            experiment = home if number == 0 else another(connection, home, number)
            for cell, method, seed in product(range(CELLS), METHODS, range(SEEDS)):
                name = f"{number:02}{cell:02}{METHODS.index(method):02}{seed:02}".rjust(32, "0")
                training = {**spec["training"], "epochs": 10 + cell}
                tags = {
                    "agmbench.digest": name,
                    "agmbench.cell": f"cell {cell}",
                    "agmbench.spec": json.dumps(
                        {**spec, "training": training, "modulator": {"name": method, "params": {}}, "seed": seed}
                    ),
                }
                for table in TABLES:
                    copies = list(changed(rows[table], name, experiment, tags, draw))
                    columns = list(copies[0])
                    values = [tuple(copy.values()) for copy in copies]
                    places = ", ".join("?" * len(columns))
                    connection.executemany(f"insert into {table} ({', '.join(columns)}) values ({places})", values)


def read(connection: sqlite3.Connection, table: str, run: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f"select * from {table} where run_uuid = ?", (run,))
    return [dict(zip([column[0] for column in cursor.description], row, strict=True)) for row in cursor]


def another(connection: sqlite3.Connection, home: int, number: int) -> int:
    cursor = connection.execute("select * from experiments where experiment_id = ?", (home,))
    row = dict(zip([column[0] for column in cursor.description], next(cursor), strict=True))
    row |= {"experiment_id": home + number, "name": f"other {number}"}
    connection.execute(f"insert into experiments ({', '.join(row)}) values ({', '.join('?' * len(row))})", tuple(row.values()))
    return home + number


def changed(
    rows: list[dict[str, Any]], run: str, experiment: int, tags: dict[str, str], draw: random.Random
) -> Iterator[dict[str, Any]]:
    """The rows of a table for another run: with its id, experiment and tags, and with a random accuracy."""
    for row in rows:
        copy = {**row, "run_uuid": run}
        if "experiment_id" in row:
            copy["experiment_id"] = experiment
        if row.get("key") in tags:
            copy["value"] = tags[row["key"]]
        if row.get("key") == "test/accuracy":
            copy["value"] = draw.gauss(0.7, 0.02)
        yield copy


if __name__ == "__main__":
    main()
