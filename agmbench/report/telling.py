"""Which methods of a cell have pictures of their own: if there are many, those that differ most from the baseline."""

from collections.abc import Sequence
from statistics import mean

from agmbench.report.tables import Row, Table, Value

METHODS = 12  # the largest number of methods that have pictures of their own


def methods_of(table: Table) -> list[Row]:
    """The rows of a table, without that of its unimodal models."""
    return [row for row in table.rows if row.method]


def mean_of(row: Row, key: str) -> float | None:
    """The mean of a row in a column, if it has that column and a number there."""
    return row.values.get(key, Value()).mean


def telling(table: Table, baseline: str, methods: Sequence[Row], what: str = "shown") -> tuple[list[Row], str]:
    """The methods that have pictures of their own, and a sentence that says which methods are `shown` if these are not all.

    If there are more than twelve methods, the baseline and the methods that are farthest from it are shown. The distance is the sum over
    modalities of the differences between mean Shapley accuracies, or the difference in the table's figure if runs have none.
    """
    if len(methods) <= METHODS:
        return [*methods], ""
    responses = [f"{quantity}/{m}" for quantity in ("response", "response-r2") for m in table.modalities]
    known = {key for key in (*responses, table.figure.key) if any(mean_of(row, key) is not None for row in methods)}
    keys = [key for key in responses if key in known] or [*known]
    means = {row.label: {key: found for key in keys if (found := mean_of(row, key)) is not None} for row in methods}
    here = means.get(baseline) or {key: mean(found[key] for found in means.values() if key in found) for key in keys}

    def order(label: str) -> tuple[bool, float]:
        return label != baseline, -sum(abs(value - here[key]) for key, value in means[label].items() if key in here)

    kept = sorted(means, key=order)[:METHODS]
    chosen = f"{baseline} and those whose modalities differ" if baseline in means else "those whose modalities differ"
    middle = "it" if means.get(baseline) else "the mean of all"
    said = f" {METHODS} of {len(methods)} methods are {what}: {chosen} most from {middle}."
    return [row for row in methods if row.label in kept], said
