"""Chooses the checks of a component, by the kind of its entry or by the base of its class."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from agmbench.contracts import Dataset, Encoder, Fusion, Modulator, Promises, Transform
from agmbench.errors import AgmbenchError
from agmbench.launch import Launcher
from agmbench.outcomes import Metric
from agmbench.parameters import check_parameters
from agmbench.registry import Entry
from agmbench.testing import datasets, encoders, fusions, launchers, metrics, modulators, transforms
from agmbench.testing.checks import BrokenPromise, Check, judged, one_thread
from agmbench.testing.imports import imported

KINDS: Mapping[str, Callable[..., list[Check]]] = {
    "dataset": datasets.check,
    "transform": transforms.check,
    "encoder": encoders.check,
    "fusion": fusions.check,
    "modulator": modulators.check,
    "metric": metrics.check,
    "launcher": launchers.check,
}
CONTRACTS = {
    "dataset": Dataset,
    "transform": Transform,
    "encoder": Encoder,
    "fusion": Fusion,
    "modulator": Modulator,
    "metric": Metric,
    "launcher": Launcher,
}


def check(
    make: Entry | Callable[..., Any], promises: Promises | None = None, params: Mapping[str, Any] | None = None
) -> list[Check]:
    """Run every check of a component, given its entry or its class.

    `promises` replace those that a modulator declares; `params` override those of the entry and of the signature.
    """
    target = make.load() if isinstance(make, Entry) else make
    kind = make.kind if isinstance(make, Entry) else kind_of(target)
    known = {**(make.params if isinstance(make, Entry) else {}), **(params or {})}
    if isinstance(make, Entry) and getattr(target, "wants_folder", False):
        known["at"] = make.folder
    with torch.random.fork_rng(devices=[]), one_thread():
        return KINDS[kind](target, known, *([promises] if kind == "modulator" else []))


def check_entry(entry: Entry, settings: Mapping[str, Any]) -> list[Check]:
    """Check that the target of an entry can be imported (in a separate process), then its signature, then run every check of its kind.

    Raises `AgmbenchError` for `settings` that the component cannot take.
    """
    found = [imported(entry)]
    if found[0].outcome == "passed":
        given = check_parameters(entry, settings) if settings else None
        found.append(judged("contract", _contract, entry, given))
    if found[-1].outcome == "failed":
        return [*found, Check("the others", "skipped", f"{found[-1].name} failed")]
    return [*found, *check(entry, params=check_parameters(entry, settings))]


def _contract(entry: Entry, given: Mapping[str, Any] | None) -> str:
    """The check that the target is a class of the right kind, and that each of its parameters has a type and a default, or is given."""
    target, contract = entry.load(), CONTRACTS[entry.kind]
    if not (inspect.isclass(target) and issubclass(target, contract)):
        raise BrokenPromise(f"{entry.target} should be a class that derives from {contract.__name__}; found {target!r}")
    try:
        params = check_parameters(entry, {}) if given is None else given
    except AgmbenchError as error:
        raise BrokenPromise(str(error)) from error
    return f"derives from {contract.__name__}; parameters: {', '.join(f'{name}={value}' for name, value in params.items()) or 'none'}"


def kind_of(target: Callable[..., Any]) -> str:
    """The kind of a component, by the contract from which its class derives. Raises `AgmbenchError` if it derives from none."""
    bases = target.__mro__ if inspect.isclass(target) else ()
    for kind, contract in CONTRACTS.items():
        if contract in bases:
            return kind
    raise AgmbenchError(
        f"{target!r} should be a class that derives from one of {', '.join(c.__name__ for c in CONTRACTS.values())}"
    )
