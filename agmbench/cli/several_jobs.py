"""Runs several jobs by one `agmbench run`, as a suite without a file."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agmbench.cli.axes import product
from agmbench.cli.terminal import echo
from agmbench.errors import AgmbenchError
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.cli.run import Options
    from agmbench.records import Label

FOR_ONE = ("devices", "no_strength", "profile", "force")  # options that are possible only for a single job


def carry_out(axes: Mapping[str, Sequence[Any]], given: "Options", label: "Label") -> None:
    """Run every combination of the axes as a job of a suite without a file, and print the table that compares them."""
    from agmbench import suite
    from agmbench.cli.batches import listed, raise_if_failed, recorded, run_jobs, summary
    from agmbench.cli.tables import tabled
    from agmbench.jobs import digest
    from agmbench.registry.entry import check_name
    from agmbench.report.terminal import show
    from agmbench.trackers.mlflow import MlflowTracker

    if wrong := [key for key in FOR_ONE if given[key]] + ["device"] * (given["device"] != "auto"):  # type: ignore[literal-required]
        raise AgmbenchError(
            f"--{wrong[0].replace('_', '-')} needs a single job that runs in this process; leave it out, or name only one job"
        )
    if label.name:
        check_name(label.name, "--name of several jobs")
    planned = suite.checked(product(axes, given))
    if all(one.skipped for one in planned):
        raise AgmbenchError(planned[0].skipped)
    name = label.name or f"run-{digest(sorted(one.label for one in planned))[:8]}"
    if given["dry_run"]:
        echo("\n".join(listed(planned)))
        return
    tracker = MlflowTracker()
    found, failure = run_jobs(name, planned, tracker, given, label.tags, given["quiet"], given["log_format"] == "json")
    echo("\n".join(summary(name, found)), err=True)
    show(*tabled(recorded(found, tracker, label.tags), load()))
    raise_if_failed(failure)
