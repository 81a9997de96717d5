"""`agmbench verify-result`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agmbench.cli.options import registry_option, root_option, workers_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, RunFailed
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    from agmbench.leaderboard.result import Result
    from agmbench.leaderboard.verify import Verdict
    from agmbench.measures import Measure


@click.command("verify-result", cls=Verb)
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    help="How far numbers from another environment may differ: an absolute difference, or a relative one for numbers above 1.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress; print only the result.")
@workers_option
@root_option
@registry_option
def command(result: Path, device: str, tolerance: float, quiet: bool) -> None:
    """Run the job of RESULT again, from its job.yaml alone, and compare the numbers. RESULT is a folder RESULTS/DIGEST, or its job.yaml.

    In the same environment (device, CPU, platform, versions, threads), every number and the hashes of the predictions have to be equal.
    In another environment, every number has to be within the tolerance. The store is not touched. The exit status is 1 if the result is
    not reproduced.
    """
    from agmbench import build
    from agmbench.cli.watcher import Watcher
    from agmbench.execute import execute
    from agmbench.leaderboard.collect import result_of
    from agmbench.leaderboard.folder import read_result
    from agmbench.leaderboard.verify import changed, verdict
    from agmbench.trackers.mlflow import MlflowTracker

    stated, registry = read_result(result), load()
    chosen = build.device(device)
    job = build.resolve(stated.job, registry)
    if reason := changed(stated, job.digest, job.components, job.data.fingerprint):
        raise AgmbenchError(f"job {stated.run.digest} cannot be run here as it was: {reason}; so it cannot be verified")
    with tempfile.TemporaryDirectory(prefix="agmbench-") as folder, Watcher(quiet) as watcher:
        tracker = MlflowTracker(Path(folder), uri="")
        record = execute(stated.job, registry, tracker, chosen, watcher, _wanted(stated, registry))
        found = verdict(stated, result_of(record, tracker), tolerance)
    _show(stated, found)
    if not found.reproduced:
        raise RunFailed(f"result {stated.run.digest} is not reproduced: {_lacking(found)}")


def _wanted(stated: "Result", registry: Registry) -> "list[Measure]":
    """The metrics that measured the result, as far as this registry has them."""
    from agmbench.measures import ALONE, measures

    asked = {name for name, one in stated.metrics.measurements.items() if one.reason != ALONE}
    return [one for one in measures(registry) if one.name in asked]


def _show(stated: "Result", found: "Verdict") -> None:
    echo(f"job {stated.run.digest} '{stated.run.name}'")
    same = (
        "the same as that of the result"
        if not found.differing
        else f"differs from that of the result: {'; '.join(found.differing)}"
    )
    echo(f"environment: {same}")
    for name, (theirs, ours) in found.numbers.items():
        if theirs != ours:
            beyond = "" if name not in found.beyond else "; too far apart" if found.differing else "; they should be equal"
            echo(f"{name}: {theirs:.6g} in the result, {'not measured' if ours is None else f'{ours:.6g}'} here{beyond}")
    echo(f"numbers: {len(found.equal)} of {len(found.numbers)} are equal to the last bit")
    echo(
        f"predictions: the answers {'are equal' if found.answers else 'differ'}, the logits {'are equal' if found.logits else 'differ'}"
    )
    if found.reproduced:
        within = f"every number is within {found.tolerance:g}" if found.differing else "every number and prediction is equal"
        echo(f"reproduced: {within}")


def _lacking(found: "Verdict") -> str:
    """A few words that say what does not agree."""
    what = []
    if found.beyond:
        what.append(f"{len(found.beyond)} of {len(found.numbers)} numbers do not agree")
    if not found.differing and not (found.answers and found.logits):
        what.append("the predictions differ")
    return " and ".join(what)
