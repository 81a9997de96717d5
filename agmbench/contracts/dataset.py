"""What a data set is."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from agmbench.contracts.splits import Split, SplitName
from agmbench.tasks import SingleLabel, Task


class Dataset(ABC):
    """Four splits of multimodal samples. Built from the job's seed and its own parameters.

    `shapes[m]` is the shape of one sample of modality m, `class_names` has C names, `task` says what the targets are.

    What the splits contain is hashed by agmbench and enters the digest of every job on them. `fingerprint` is for what it cannot see:
    it reads a split that is not in memory in a few places only.

    wants_folder: behind the seed it is given, as `at`, the folder of the file in which its entry stands, `None` for a built-in one: the
    files that its parameters name are below it.

    follows_seed: `False`, the splits are the same under every seed; `True`, they are made of seed and parameters alone; `None`, it is
    not known, and agmbench opens the data set under one more seed to tell runs on the same data from others.

    untransformed: modalities whose samples are features that were made beforehand, as in one layout of several: the transforms that
    the `job` of the data set's entry names are not for them.
    """

    task: Task = SingleLabel()
    follows_seed: ClassVar[bool | None] = None
    wants_folder: ClassVar[bool] = False

    shapes: Mapping[str, tuple[int, ...]]
    class_names: Sequence[str]
    fingerprint: str = ""
    untransformed: Collection[str] = ()

    @abstractmethod
    def __init__(self, seed: int) -> None: ...

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """`train` for gradients, `dev` (cut from train) for fits on a trained model, `valid` for choices, `test` for the result."""
