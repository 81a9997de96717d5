"""Turns a spec into live objects. This is the only package that resolves entries and chooses a device."""

from agmbench.build.changes import augmentation, transforms
from agmbench.build.data import Data, opened
from agmbench.build.devices import device, gpus
from agmbench.build.job import Job, entries, judge
from agmbench.build.networks import concept_models, model, modulator
from agmbench.build.resolving import concepts, references, resolve

__all__ = [
    "Data",
    "Job",
    "augmentation",
    "concept_models",
    "concepts",
    "device",
    "entries",
    "gpus",
    "judge",
    "model",
    "modulator",
    "opened",
    "references",
    "resolve",
    "transforms",
]
