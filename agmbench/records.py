"""What a run leaves behind, and the interface of the store: reports read `Record`s, jobs write through `Run`s. Torch is not imported."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from agmbench.jobs import setting
from agmbench.names import IMPORTED, REASON, SAMPLE, TAG, all_of_split, of_split
from agmbench.outcomes import Kind, Quantity

FINISHED, FAILED, KILLED, RUNNING = "FINISHED", "FAILED", "KILLED", "RUNNING"


class Label(NamedTuple):
    """A user's description of a run: a name in place of the usual one, and tags by their keys. It is not part of the job."""

    name: str = ""
    tags: Mapping[str, str] = {}


UNLABELLED = Label()


class Point(NamedTuple):
    """One value of a metric's history. Per-epoch metrics count epochs from 0, per-step ones optimizer steps."""

    name: str
    value: float
    step: int


Selected = Literal["valid", "test", "last"]


@dataclass(frozen=True)
class Measurement:
    """What one metric, in one `version`, measured of a run: the `values` by the names under which they are kept (`accuracy`,
    `response/audio`) and the `quantities` that describe them; or the `reason` why there are no values."""

    metric: str
    version: str
    quantities: Sequence[Quantity]
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One run as a report reads it.

    `spec` is the resolved job as plain containers. `cell` identifies everything that fixes its numbers except modulator and seed, so runs
    of one cell may be compared. `modalities` are those present in training (only one in the run of a unimodal model).

    fingerprint: of the content of the data.   components: version and source of each, by name.   measurements: by metric.
    departures: what differs from the data set's published recipe, by the keys of `--set`; `None` if the run did not note it.
    selected: the split on which the epoch was chosen, or `last`.   references: digests of the jobs of its unimodal models, by modality.
    training: digest of the job that trained its model. It is another job if the run is compared with unimodal models that are not its own.
    """

    run_id: str
    name: str
    status: str
    digest: str
    cell: str
    spec: Mapping[str, Any]
    modalities: tuple[str, ...]
    concept: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    started: int = 0  # milliseconds since 1970
    attempt: int = 0  # the number of this run among the runs of its job, as the store counted them
    task: Kind = "classification"
    selected: Selected = "valid"
    fingerprint: str = ""
    components: Mapping[str, str] = field(default_factory=dict)
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    departures: Mapping[str, Any] | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    outcomes_kept: bool = False
    training: str = ""

    def with_measured(self, measurements: Iterable[Measurement]) -> "Record":
        """The same record with new measurements added."""
        new = {one.metric: one for one in measurements}
        values = {name: value for one in new.values() for name, value in all_of_split("test", one.values).items()}
        return replace(self, measurements={**self.measurements, **new}, metrics={**self.metrics, **values})

    @property
    def order(self) -> tuple[int, int]:
        """The key by which the runs of one job are ordered: by attempt, not by clock. Runs of versions that did not count attempts have 0,
        and are ordered by clock."""
        return self.attempt, self.started

    @property
    def figure(self) -> str:
        """The main number of the task on test, such as `accuracy 0.9000`; `accuracy not measured` if there is none."""
        name = "r2" if self.task == "regression" else "accuracy"
        value = self.metrics.get(of_split("test", name))
        return f"{name} {'not measured' if value is None else f'{value:.4f}'}"

    @property
    def sample(self) -> bool:
        """Whether the data were a random pack of `agmbench data sample`."""
        return SAMPLE in self.tags

    @property
    def source(self) -> str:
        """The folder of results from which someone else's run was imported; empty for a run of this store."""
        return self.tags.get(IMPORTED, "")

    @property
    def label(self) -> Mapping[str, str]:
        """The tags that a user gave, by their keys."""
        return {name.removeprefix(TAG): value for name, value in self.tags.items() if name.startswith(TAG)}

    @property
    def reason(self) -> str:
        """Why the run did not finish; empty if it did."""
        return self.tags.get(REASON, "")


@dataclass(frozen=True)
class Heading:
    """What is known about a job before it starts: the part of its `Record` that does not depend on training."""

    name: str
    digest: str
    cell: str
    spec: Mapping[str, Any]
    modalities: tuple[str, ...]
    concept: bool
    fingerprint: str
    samples: Mapping[str, int]
    tags: Mapping[str, str]
    setting: str = ""
    task: Kind = "classification"
    selected: Selected = "valid"
    components: Mapping[str, str] = field(default_factory=dict)
    departures: Mapping[str, Any] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    training: str = ""
    parent: str | None = None  # the id of its parent run
    label: Label = UNLABELLED

    @property
    def sample(self) -> bool:
        """Whether the data are a random pack of `agmbench data sample`."""
        return SAMPLE in self.tags


class Stopped(Exception):
    """Raised to end a run on purpose: it becomes KILLED, with this text as the reason."""


class Beyond(Protocol):
    """Keeps the states of an unfinished job where other machines find them."""

    def fetch(self, path: Path) -> None:
        """Replace this file by the newest state that was kept, unless it is that state already."""

    def keep(self, path: Path) -> None:
        """Keep this file as the newest state."""

    def clear(self) -> None:
        """Remove all states."""


class Run(Protocol):
    """A run that is being written. As a context manager it ends FINISHED, or FAILED or KILLED with the reason if an error leaves the block.

    scratch: the folder, on this machine or shared, for the states of its job while the job is unfinished.   beyond: keeps the states for
    other machines, if the folder is not shared with them.
    """

    id: str

    @property
    def scratch(self) -> Path: ...
    @property
    def beyond(self) -> Beyond | None: ...
    def check(self) -> None:
        """Raise `Taken` if another process has taken the job over because it believed this one dead. Called before anything is written."""

    def __enter__(self) -> "Run": ...
    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None: ...
    def log_points(self, points: Sequence[Point]) -> None:
        """Append points to metric histories. They are written in batches, at the latest when the run ends. Points that a resumed run
        already has are skipped."""

    def log_measurements(self, measurements: Iterable[Measurement], step: int) -> None:
        """Keep measurements: the values as `test/NAME`, and for each metric its version and the description of its numbers."""

    def log_files(self, folder: Path) -> None:
        """Keep every file below `folder` as an artifact, under its path relative to `folder`."""


class Tracker(Protocol):
    """A store of runs."""

    def find(self, digest: str) -> Record | None:
        """The last FINISHED run of a job, if there is one. Does not create a store."""

    def before(self, setting: str, digest: str) -> Record | None:
        """The last FINISHED run with the same setting but another digest: its data or code have changed since."""

    def records(self, dataset: str | None = None) -> list[Record]:
        """Every run of a data set (by default of all), newest first, without the trials of sweeps. Does not create a store."""

    def imported(self, dataset: str | None = None) -> list[Record]:
        """The runs of others that were imported. No other method finds them, because their jobs were not done in this store."""

    def adopt(self, record: Record, folder: Path, sha256: str) -> bool:
        """Keep someone else's finished run, whose record names its `source`, with the files of `folder` (`sha256` is the hash of all of
        them). Returns whether it is new. A different result of the same job from the same source is refused."""

    def history(self, record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """The history of each metric in `names` that the run has: pairs of step and value, in the order of steps."""

    def claim(self, heading: Heading, taken: Callable[[str], None]) -> AbstractContextManager[Any]:
        """The claim on a job, held inside the block, so that no two processes on any machines work on the same job. While another process
        has it, this waits; `taken` is called once with the description of that process, and may raise to stop waiting. The claim is taken
        over if its owner is dead, or has not renewed it for too long."""

    def start(self, heading: Heading) -> Run:
        """A run to write. Called under the job's claim, so a run that a dead process left behind is continued."""

    def group(self, dataset: str, name: str, tags: Mapping[str, str]) -> Run:
        """A parent run for others: the one with these tags in the data set's experiment, or a new one."""

    def of_group(self, dataset: str, tags: Mapping[str, str], path: str) -> str | None:
        """The text of an artifact of the parent run with these tags, if there is one. Does not create a store."""

    def finish_group(self, dataset: str, tags: Mapping[str, str]) -> None:
        """Mark the parent run with these tags FINISHED, if its command was killed after all its work was done."""

    def mark_lost(self, digest: str, reason: str, place: str = "") -> None:
        """Mark a run that the process of a job left RUNNING as FAILED for this reason, because that process is gone. For a process on
        another machine, the launcher that gave it a `place` (`AGMBENCH_PLACE`) states by this place that it is gone. Nothing is done if
        another process has the job now."""

    def unsettled(self) -> Set[str]:
        """The digests of jobs that have states or a RUNNING run, whether their process is alive or dead."""

    def tidy(self, digest: str) -> None:
        """Remove what killed processes left behind of a finished job: its states and RUNNING runs."""

    def label(self, known: Record, label: Label) -> Record:
        """Give a finished run the name and tags of a label; whatever the label does not name stays as it is."""

    def reopen(self, record: Record) -> Run:
        """Open a finished run again to add measurements; called under the job's claim."""

    def artifact(self, record: Record, path: str) -> AbstractContextManager[Path]:
        """A local copy of one artifact, which exists inside the block."""

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """A lock of the whole store for anything that is not a job: only one process at a time holds it."""


def numbers(values: Mapping[str, float], step: int) -> list[Point]:
    """The values of several metrics as points of one step."""
    return [Point(name, value, step) for name, value in values.items()]


def chosen(selected: Selected, spec: Mapping[str, Any]) -> str:
    """A sentence that says on which split the epoch was chosen, and by which number."""
    if selected == "last":
        return "The last epoch is taken"
    by = spec.get("training", {}).get("select_by")
    figure = f" by {by}" if by else ""
    if selected == "test":
        paper = ", as in the paper" if spec["dataset"]["params"].get("protocol") == "paper" else ""
        return f"The epoch is chosen ON TEST{figure}{paper}, so figures are those of the best epoch there"
    return f"The epoch is chosen on valid{figure}, and test is read once"


def departing(departures: Mapping[str, Any], sample: bool) -> list[str]:
    """The departures from the published recipe in the words of titles, such as `limit=64`, and `RANDOM SAMPLE` if the data are random."""
    return [*(setting(key, value) for key, value in departures.items()), *(["RANDOM SAMPLE"] if sample else [])]
