"""What a run leaves behind, and the seam through which it does: reports read `Record`s, jobs write through `Run`s. No torch."""

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
    """What a user calls a run: a name in place of ours, and tags by their keys. It is no part of the job."""

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
    `response/audio`), and what its `quantities` are; or the `reason` why there are no values."""

    metric: str
    version: str
    quantities: Sequence[Quantity]
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One run as a report reads it.

    `spec` is the resolved job as plain containers; `cell` names everything that fixes its numbers but modulator and seed, so that
    runs of one cell may be compared; `modalities` are those present in training (one of them in a mono-modal concept run).

    fingerprint: of what the data contain.   components: version and source of each, by name.   measurements: by metric.
    departures: what differs from the data set's published recipe, by the keys of `--set`; `None` if nobody noted it.
    selected: on which split the epoch was chosen, or that the last was taken.   references: digests of its unimodal models' jobs.
    training: digest of the job that trained its model: another's, where it is compared with unimodal models that are not its own.
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
    attempt: int = 0  # which run of its job it is, as the store counted
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
        """The same record with what metrics said of it since."""
        new = {one.metric: one for one in measurements}
        values = {name: value for one in new.values() for name, value in all_of_split("test", one.values).items()}
        return replace(self, measurements={**self.measurements, **new}, metrics={**self.metrics, **values})

    @property
    def order(self) -> tuple[int, int]:
        """Later runs of one job have a larger one, whatever the clocks say; runs before attempts were counted go by the clock."""
        return self.attempt, self.started

    @property
    def figure(self) -> str:
        """The one number by which its task is judged on test, as `accuracy 0.9000`; `not measured` where it could not be taken."""
        name = "r2" if self.task == "regression" else "accuracy"
        value = self.metrics.get(of_split("test", name))
        return f"{name} {'not measured' if value is None else f'{value:.4f}'}"

    @property
    def sample(self) -> bool:
        """Whether the data were a random pack of `agmbench data sample`."""
        return SAMPLE in self.tags

    @property
    def source(self) -> str:
        """The folder of results in which someone else's run came; empty for a run of this store."""
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
    """What is known of a job before it starts: the half of its `Record` that training does not change."""

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
    parent: str | None = None  # the run that it stands under
    label: Label = UNLABELLED

    @property
    def sample(self) -> bool:
        """Whether the data are a random pack of `agmbench data sample`."""
        return SAMPLE in self.tags


class Stopped(Exception):
    """Leaves a run that is ended on purpose: KILLED, with this text as the reason."""


class Beyond(Protocol):
    """What keeps the states of an unfinished job where other machines find them."""

    def fetch(self, path: Path) -> None:
        """Make this file the newest state that was kept, if it is not."""

    def keep(self, path: Path) -> None:
        """Keep this file as the newest state."""

    def clear(self) -> None:
        """Keep none any more."""


class Run(Protocol):
    """A run being written. Entered as a context, it ends FINISHED; FAILED or KILLED, with the reason, when an error leaves it.

    scratch: the folder, on this machine or shared, for the states of its job while that is not finished.   beyond: what keeps them for
    other machines, where that is not the folder itself.
    """

    id: str

    @property
    def scratch(self) -> Path: ...
    @property
    def beyond(self) -> Beyond | None: ...
    def check(self) -> None:
        """Raise `Taken` if another process has the job now, which took this one for dead. All that writes asks first."""

    def __enter__(self) -> "Run": ...
    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None: ...
    def points(self, points: Sequence[Point]) -> None:
        """Append to metric histories, in batches, at the latest when the run is left; points that a resumed run has already are skipped."""

    def measured(self, measurements: Iterable[Measurement], step: int) -> None:
        """Keep what metrics said: the values as `test/NAME`, and with each metric its version and what its numbers are."""

    def files(self, folder: Path) -> None:
        """Keep every file below `folder` as an artifact, under its path relative to it."""


class Tracker(Protocol):
    """A store of runs."""

    def find(self, digest: str) -> Record | None:
        """The last FINISHED run of a job, if there is one. Makes no store."""

    def before(self, setting: str, digest: str) -> Record | None:
        """The last FINISHED run of the same setting under another digest: of data or code that have changed since."""

    def records(self, dataset: str | None = None) -> list[Record]:
        """Every run of a data set (of all), newest first, but the trials of sweeps. Makes no store."""

    def imported(self, dataset: str | None = None) -> list[Record]:
        """The runs of others that were imported. No other method gives or finds them: they are no jobs done here."""

    def adopt(self, record: Record, folder: Path, sha256: str) -> bool:
        """Keep someone else's finished run, which names its `source`, with the files of its folder, which have one `sha256`; whether it
        was not there yet. Another result of the same job from that source is refused."""

    def history(self, record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """The steps and values of those of the metrics named that the run has, in the order of steps."""

    def claim(self, heading: Heading, taken: Callable[[str], None]) -> AbstractContextManager[Any]:
        """Held while a process works on a job, so that no two do, on whatever machines. While another has it, it is waited for;
        `taken` is told once who that is, and may raise instead. It is taken over when its owner is dead, or silent for too long."""

    def start(self, heading: Heading) -> Run:
        """A run to write; called under the job's claim, so one that a process left behind is taken over."""

    def group(self, dataset: str, name: str, tags: Mapping[str, str]) -> Run:
        """A run for others to stand under: the one of these tags in the data set's experiment, or a new one."""

    def of_group(self, dataset: str, tags: Mapping[str, str], path: str) -> str | None:
        """The text of an artifact of such a run, if there is one. Makes no store."""

    def settle(self, dataset: str, tags: Mapping[str, str]) -> None:
        """The run of these tags, if its command was killed at the very end, is finished."""

    def lost(self, digest: str, reason: str, place: str = "") -> None:
        """The process of a job is gone: a run that it left RUNNING is FAILED, for this reason. Of a process elsewhere, that it is gone
        is known to whoever gave it the `place` that it was at (`AGMBENCH_PLACE`). A job that is another's now is left to that."""

    def unsettled(self) -> Set[str]:
        """The digests of jobs that have states, or a run at work, of a living process or of a dead one."""

    def tidy(self, digest: str) -> None:
        """Of a finished job, take away what a process that was killed left behind: its states, and runs at work."""

    def label(self, known: Record, label: Label) -> Record:
        """A run, called from now on as the label says; what the label does not say stays."""

    def reopen(self, record: Record) -> Run:
        """A finished run, to add measurements to; called under the job's claim."""

    def artifact(self, record: Record, path: str) -> AbstractContextManager[Path]:
        """A local copy of one artifact, for as long as it is held."""

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """Held by one process at a time of all that use the store, for what is not a job."""


def numbers(values: Mapping[str, float], step: int) -> list[Point]:
    """A dictionary of metrics as points of one step."""
    return [Point(name, value, step) for name, value in values.items()]


def chosen(selected: Selected, spec: Mapping[str, Any]) -> str:
    """On what the epoch was chosen, and by what."""
    if selected == "last":
        return "The last epoch is taken"
    by = spec.get("training", {}).get("select_by")
    figure = f" by {by}" if by else ""
    if selected == "test":
        paper = ", as in the paper" if spec["dataset"]["params"].get("protocol") == "paper" else ""
        return f"The epoch is chosen ON TEST{figure}{paper}, so figures are those of the best epoch there"
    return f"The epoch is chosen on valid{figure}, and test is read once"


def departing(departures: Mapping[str, Any], sample: bool) -> list[str]:
    """What departs from the published recipe, as titles say it: `limit=64`, and whether the data are a random pack."""
    return [*(setting(key, value) for key, value in departures.items()), *(["RANDOM SAMPLE"] if sample else [])]
