"""Collects results from the runs in a store."""

from collections.abc import Iterable, Sequence

from agmbench import measures, predictions
from agmbench.errors import AgmbenchError
from agmbench.jobs import spec_of
from agmbench.leaderboard.folder import check
from agmbench.leaderboard.result import Result, of_record
from agmbench.names import BEST_EPOCH, of_split, within
from agmbench.records import FINISHED, Record, Tracker


def with_references(chosen: Iterable[Record], stored: Iterable[Record]) -> list[Record]:
    """The last finished run of each chosen job, and of the unimodal models with which these are compared, in the order of digests."""
    last = {record.digest: record for record in sorted(stored, key=lambda record: record.order) if record.status == FINISHED}
    wanted = {digest for record in chosen for digest in (record.digest, *record.references.values())}
    return [last[digest] for digest in sorted(wanted & last.keys())]


def results(records: Sequence[Record], tracker: Tracker) -> tuple[list[Result], list[str]]:
    """The results of the runs, and a line for each run of which no result can be made."""
    found, left_out = [], []
    for record in records:
        try:
            result = result_of(record, tracker)
            check(result)
            found.append(result)
        except AgmbenchError as error:
            left_out.append(f"{record.run_id[:8]} '{record.name}': {error}")
    return found, left_out


def result_of(record: Record, tracker: Tracker) -> Result:
    """The result of a finished run, made from what the store has of it."""
    names = [of_split("valid", name) for name in within("valid", record.metrics)]
    epoch = record.metrics.get(BEST_EPOCH)
    curves = tracker.history(record, names) if epoch is not None else {}
    valid = within("valid", {name: value for name, curve in curves.items() for step, value in curve if step == epoch})
    return of_record(record, valid, predictions.hashes(measures.load_outcomes(tracker, record)), spec_of(record.spec))
