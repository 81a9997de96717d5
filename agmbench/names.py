"""The names of the tags and metrics of a run in a store. Stores of every version use them, so they never change."""

from collections.abc import Mapping

# tags of the run of a job
DIGEST = "agmbench.digest"  # only of runs that were made in this store, not of imported ones; a finished job is found by it
CELL = "agmbench.cell"
SETTING = "agmbench.setting"
TRAINING = "agmbench.training"
SPEC = "agmbench.spec"
FINGERPRINT = "agmbench.fingerprint"
MODALITIES = "agmbench.modalities"
CONCEPT = "agmbench.concept"  # whether it is the run of a unimodal model: "true" or "false"
TASK = "agmbench.task"
SELECTED = "agmbench.selected"
COMPONENTS = "agmbench.components"
DEPARTURES = "agmbench.departures"
REFERENCES = "agmbench.references"
OUTCOMES = "agmbench.outcomes"  # the artifact that holds the outcomes
METRIC = "agmbench.metric."  # prefix of the tags that describe a metric's numbers
ORIGIN = "agmbench.origin."  # prefix of the tags of components that are not built in
TAG = "agmbench.tag."  # prefix of the tags that users give
SAMPLE = "agmbench.sample"  # the run is on a pack of random data

# tags that say how a run came to be, and in which state it is
ATTEMPT = "agmbench.attempt"  # the number of this run among the runs of its job
REASON = "agmbench.reason"  # why it failed
OWNER = "agmbench.owner"  # the process that writes it
HEARTBEAT = "agmbench.heartbeat"  # of a claim: its owner's last heartbeat, with number and time
STATES = "agmbench.states"  # the newest state among its artifacts: its mark and its place
IMPORTED = "agmbench.imported"  # of a run that others made: the name of the folder of results that was imported
IMPORTED_DIGEST = f"{IMPORTED}.digest"  # of an imported run, in place of `DIGEST`

# tags of studies and suites
TRIAL = "agmbench.trial"  # the number of a trial
STUDY = "agmbench.study"  # the study of a trial
SWEEP = "agmbench.sweep"  # of the run of a study; in Optuna's storage, of the study itself
SUITE = "agmbench.suite"  # of the parent run of a suite's runs

# names of metrics; the numbers of a split are called `SPLIT/NAME`
BEST_EPOCH = "best/epoch"
BEST, COST = "best/", "cost/"


def of_split(split: str, name: str) -> str:
    """The name of a number of a split, such as `test/accuracy` or `valid/response/audio`."""
    return f"{split}/{name}"


def all_of_split(split: str, values: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a split, by the names under which they are kept."""
    return {of_split(split, name): value for name, value in values.items()}


def within(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a run that are numbers of a split, by their names without `SPLIT/`; `cost` and `best` are read in the same way."""
    start = f"{split}/"
    return {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}
