"""What the author of a component imports: the kinds of component and what passes between them. For metrics, see `outcomes.py`.

What the job knows (shapes, classes, modalities, the seed) is passed to a component by position. Its parameters are keyword-only and
typed, and the signature has their defaults. `registry.yaml` may override a default; `--set` overrides both.

Shapes: B samples in a batch, N in a split, C classes, D features, M modalities.
"""

from agmbench.contracts.batches import Batch, muted
from agmbench.contracts.context import Context
from agmbench.contracts.dataset import Dataset
from agmbench.contracts.encoder import Encoder
from agmbench.contracts.fusion import Fused, Fusion
from agmbench.contracts.inputs import Alike, Input, Tokens, joined, texts_of, utf8
from agmbench.contracts.model import Mode, Model, Reduction
from agmbench.contracts.modulator import Modulator, Promises, Step
from agmbench.contracts.splits import (
    SPLITS,
    Change,
    ChangeOf,
    Split,
    SplitName,
    Staged,
    TensorSplit,
    changed_each,
    finished,
    in_memory,
    in_order,
    read,
)
from agmbench.contracts.transform import Transform
from agmbench.contracts.unsuitable import Unsuitable
from agmbench.shapley import Coalition, coalitions, responses

__all__ = [
    "SPLITS",
    "Alike",
    "Batch",
    "Change",
    "ChangeOf",
    "Coalition",
    "Context",
    "Dataset",
    "Encoder",
    "Fused",
    "Fusion",
    "Input",
    "Mode",
    "Model",
    "Modulator",
    "Promises",
    "Reduction",
    "Split",
    "SplitName",
    "Staged",
    "Step",
    "TensorSplit",
    "Tokens",
    "Transform",
    "Unsuitable",
    "changed_each",
    "coalitions",
    "finished",
    "in_memory",
    "in_order",
    "joined",
    "muted",
    "read",
    "responses",
    "texts_of",
    "utf8",
]
