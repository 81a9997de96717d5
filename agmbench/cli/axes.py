"""The jobs that the options of `agmbench run` describe: everything that may have several values, and the combinations of these."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agmbench.errors import AgmbenchError
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.cli.run import Options
    from agmbench.suite import Planned

AXES = ("dataset", "modulator", "fusion")  # the axes that name components; all other axes are settings


def axes_of(given: "Options") -> dict[str, Sequence[Any]]:
    """The axes: the values of everything that may have several, by the kind of component or the key of the setting."""
    from agmbench.jobs import parse_ranges

    named: dict[str, Any] = {"training.epochs": given["epochs"], "training.accumulate": given["accumulate"]}
    named |= {"training.precision": given["precision"], "seed": given["seed"], "limit": given["limit"]}
    settings = parse_ranges(given["settings"], named)
    seeds = given["seeds"]
    if seeds and "seed" in settings:
        raise AgmbenchError("--seeds and --seed (or --set seed) both set the seed; leave one of them out")
    known = load()
    modulators = [known.get("modulator", name).name for name in given["modulator"]]
    fusions = [known.get("fusion", name).name for name in given["fusion"]]
    datasets = [known.get("dataset", name).name for name in given["dataset"]]
    return {"dataset": datasets, "modulator": modulators, "fusion": fusions, **settings, **({"seed": seeds} if seeds else {})}


def one_spec(axes: Mapping[str, Sequence[Any]], given: "Options") -> Any:
    """The spec of the one job, if no axis has several values."""
    from agmbench.jobs import compose

    dataset, modulator, fusion = (next(iter(axes[kind]), None) for kind in AXES)
    settings = [(key, values[0]) for key, values in axes.items() if key not in AXES]
    return compose(load(), str(dataset), str(modulator), fusion, _encoders(given), settings)


def product(axes: Mapping[str, Sequence[Any]], given: "Options") -> "list[Planned]":
    from agmbench.suite import Block, Suite, plan

    settings = {key: list(values) for key, values in axes.items() if key not in (*AXES, "seed")}
    for seed in (seeds := tuple(axes.get("seed", (999,)))):
        if not isinstance(seed, int) or seed < 0:
            raise AgmbenchError(f"'seed' is {seed!r}: should be a whole number, 0 or more")
    dataset, modulator, fusion = (tuple(axes[kind]) for kind in AXES)
    block = Block(dataset=dataset, modulator=modulator, fusion=fusion or (None,), encoder=_encoders(given), set=settings)
    return plan(Suite(name="run", seeds=seeds, jobs=(block,)), load())


def _encoders(given: "Options") -> dict[str, str]:
    from agmbench.jobs.texts import pairs

    return pairs("--encoder", given["encoders"], "modality=name, such as audio=resnet")
