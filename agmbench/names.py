"""The names under which a run is kept in a store: of its tags, and of its metrics. Stores of every version have them, so none changes."""

from collections.abc import Mapping

# tags of the run of a job
DIGEST = "agmbench.digest"  # of runs that were made here alone: by it a job that is done is found
CELL = "agmbench.cell"
SETTING = "agmbench.setting"
TRAINING = "agmbench.training"
SPEC = "agmbench.spec"
FINGERPRINT = "agmbench.fingerprint"
MODALITIES = "agmbench.modalities"
CONCEPT = "agmbench.concept"  # whether it is a unimodal model's: "true" or "false"
TASK = "agmbench.task"
SELECTED = "agmbench.selected"
COMPONENTS = "agmbench.components"
DEPARTURES = "agmbench.departures"
REFERENCES = "agmbench.references"
OUTCOMES = "agmbench.outcomes"  # which artifact holds them
METRIC = "agmbench.metric."  # begins those that say what a metric's numbers are
ORIGIN = "agmbench.origin."  # begins those of components that are not built in
TAG = "agmbench.tag."  # begins those that users give
SAMPLE = "agmbench.sample"  # it is on a random pack of data

# tags of how a run came to be, and how it stands
ATTEMPT = "agmbench.attempt"  # which run of its job it is
REASON = "agmbench.reason"  # why it failed
OWNER = "agmbench.owner"  # who writes it
HEARTBEAT = "agmbench.heartbeat"  # of a claim: its owner's last sign of life
STATES = "agmbench.states"  # the newest of the states that are among its artifacts: mark and place
IMPORTED = "agmbench.imported"  # others made it: the name of the folder of results in which it came
IMPORTED_DIGEST = f"{IMPORTED}.digest"  # in place of `DIGEST`

# tags of studies and suites
TRIAL = "agmbench.trial"  # the number of a trial
STUDY = "agmbench.study"  # of which study
SWEEP = "agmbench.sweep"  # of the run of a study; in Optuna's storage, of the study itself
SUITE = "agmbench.suite"  # of the run below which a suite's stand

# metrics; those of a split are `SPLIT/NAME`
BEST_EPOCH = "best/epoch"
BEST, COST = "best/", "cost/"


def of_split(split: str, name: str) -> str:
    """What a number of a split is called, as `test/accuracy`, `valid/response/audio`."""
    return f"{split}/{name}"


def all_of_split(split: str, values: Mapping[str, float]) -> dict[str, float]:
    """Numbers of a split by the names under which they are kept."""
    return {of_split(split, name): value for name, value in values.items()}


def within(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a split by their own names, of all that a run has; `cost` and `best` are kept the same way."""
    start = f"{split}/"
    return {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}
