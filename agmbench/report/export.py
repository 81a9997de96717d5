"""The origin of an export: when and by which version it was made, from which store and which runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agmbench import provenance
from agmbench.report.tables import Table


@dataclass(frozen=True)
class Origin:
    """What every export states: the date, the version and commit of agmbench, and the store of runs (without a password)."""

    store: str = ""
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    version: str = field(default_factory=provenance.version_here)
    commit: str = field(default_factory=provenance.commit)

    def words(self, tables: Sequence[Table]) -> str:
        """The origin as one or two sentences, with the runs of the tables."""
        commit = f", commit {self.commit}" if self.commit else ""
        return (
            f"Exported on {self.date} by agmbench {self.version}{commit} from {self.store}. Runs: {', '.join(run_ids(tables))}."
        )


def run_ids(tables: Sequence[Table]) -> list[str]:
    """The ids of the finished runs behind the tables, each once."""
    return list(dict.fromkeys(record.run_id for table in tables for row in table.rows for record in row.records))
