"""Where an MLflow store keeps claims: in parameters of a run, and in names of experiments. MLflow gives each of these to only one of
several processes, over SQL and over HTTP."""

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, ViewType
from mlflow.exceptions import MlflowException

from agmbench.names import HEARTBEAT, OWNER
from agmbench.trackers.claims import ClaimState, Owner, owner

CLAIM = "claim."  # prefix of the parameters of a run that say who took each number
BEAT = "agmbench.claim."  # prefix of the tags of a run that hold the last heartbeat of each number
GIVEN_BACK = "given back"
NAMED = "agmbench.lock."  # prefix of the names of experiments that are claims
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class OnRun:
    """The place of a job's claim: parameters and tags of its first run. They stay there, and show which processes had the job."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run = client, run_id

    def state(self) -> ClaimState:
        data = self._client.get_run(self._run).data
        numbers = [name.removeprefix(CLAIM) for name in data.params if name.startswith(CLAIM)]
        number = max([int(text) for text in numbers if text.isdigit()], default=0)
        beat = data.tags.get(f"{BEAT}{number}", "")
        return ClaimState(number, owner(data.params.get(f"{CLAIM}{number}", "")), beat, number == 0 or beat == GIVEN_BACK)

    def take(self, number: int, owner: Owner) -> bool:
        try:
            self._client.log_param(self._run, f"{CLAIM}{number}", owner.text)
        except MlflowException as error:
            if error.error_code in REFUSED and "Changing param values" in str(error):
                return False
            raise
        return True

    def beat(self, number: int, text: str) -> None:
        self._client.set_tag(self._run, f"{BEAT}{number}", text)

    def give_back(self, number: int) -> None:
        self.beat(number, GIVEN_BACK)


class Named:
    """The place of a claim by name, for which there is no run: experiments without runs. Each is deleted when it is given back, so that
    users do not see it.

    MLflow keeps the name of a deleted experiment until `mlflow gc`; after that, the numbers start at 1 again.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client, self._prefix = client, f"{NAMED}{name}."
        self._mine: dict[int, str] = {}  # the ids of this process's experiments, by number

    def state(self) -> ClaimState:
        newest = max(self._all(), key=self._number, default=None)
        if newest is None:
            return ClaimState(0)
        free = newest.lifecycle_stage != LifecycleStage.ACTIVE
        return ClaimState(self._number(newest), owner(newest.tags.get(OWNER, "")), newest.tags.get(HEARTBEAT, ""), free)

    def take(self, number: int, owner: Owner) -> bool:
        try:
            self._mine[number] = self._client.create_experiment(f"{self._prefix}{number}", tags={OWNER: owner.text})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            there = self._client.get_experiment_by_name(f"{self._prefix}{number}")
            if there is None or there.tags.get(OWNER) != owner.text:
                return False
            self._mine[number] = there.experiment_id  # this process had asked before, but the answer was lost
        for experiment in self._all() if number > 1 else ():  # delete those of owners from whom the claim was taken
            if self._number(experiment) < number and experiment.lifecycle_stage == LifecycleStage.ACTIVE:
                self._client.delete_experiment(experiment.experiment_id)
        return True

    def beat(self, number: int, text: str) -> None:
        self._client.set_experiment_tag(self._mine[number], HEARTBEAT, text)

    def give_back(self, number: int) -> None:
        self._client.delete_experiment(self._mine[number])

    def _all(self) -> list[Experiment]:
        condition, found, token = f"name LIKE '{self._prefix}%'", [], None
        while True:
            page = self._client.search_experiments(ViewType.ALL, filter_string=condition, page_token=token)
            found += [one for one in page if one.name.removeprefix(self._prefix).isdigit()]
            if not (token := page.token):
                return found

    def _number(self, experiment: Experiment) -> int:
        return int(experiment.name.removeprefix(self._prefix))


def worker(tags: Mapping[str, str]) -> str:
    """A text, from the tags of a run, that says which process writes it and, if a server holds the store, its last heartbeat."""
    beats = {name.removeprefix(BEAT): beat for name, beat in tags.items() if name.startswith(BEAT)}
    number = max((int(text) for text in beats if text.isdigit()), default=0)
    said = beats.get(str(number), "")
    heard = f"; its last heartbeat is number {said}" if said not in ("", GIVEN_BACK) else ""
    return f"{tags.get(OWNER) or 'an unknown process'}{heard}"
