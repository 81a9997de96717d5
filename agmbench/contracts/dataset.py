"""What a data set is."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from agmbench.contracts.splits import Split, SplitName
from agmbench.tasks import SingleLabel, Task


class Dataset(ABC):
    """Four splits of multimodal samples. Built from the job's seed and its own parameters.

    `shapes[m]` is the shape of one sample of modality m, `class_names` has C names, `task` says what the targets are.

    agmbench hashes the content of the splits, and the hash enters the digest of every job on them. `fingerprint` is for what this hash
    cannot see: of a split that is not in memory, only a few samples are read.

    wants_folder: after the seed, the data set is given the folder of the file that has its entry, as `at` (`None` for a built-in one). The
    files that its parameters name are below this folder.

    follows_seed: `False`: the splits are the same under every seed. `True`: they depend only on the seed and the parameters. `None`: this
    is not known, and agmbench opens the data set under one more seed to tell runs on the same data from others.

    untransformed: modalities whose samples are features that were made beforehand, as in some layouts. The transforms that the `job` of
    the data set's entry names are not applied to them.
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
        """`train` is for gradients, `dev` (cut from train) for fits on a trained model, `valid` for choices, `test` for the result."""
