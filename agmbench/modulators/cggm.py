"""CGGM: classifier-guided gradient modulation (Guo et al., NeurIPS 2024)."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step
from agmbench.modulators.features import detached
from agmbench.modulators.heads import Heads, several
from agmbench.tasks import Regression, Task

TINY = 1e-8


class CGGM(Modulator):
    """An encoder learns faster the more the other modalities have improved. A side head for each modality measures this.

    The side head `h_m` learns from the features of m, but passes no gradient back to them. With `acc_m` its accuracy in a batch, before
    its step:

        d_m = acc_m - acc_m of the batch before              (before the first batch it counts as 0)
        c_m = (sum_k d_k - d_m + 1e-8) / (sum_k d_k + 1e-8)

    and all gradients of encoder m, including those of biases and norms, are multiplied by `k_m = rho c_m`.

    rho: strength. Official code 1.3 (1 on BraTS); ours 1.3.
    clip: `c_m` is kept between 0 and this bound, because the ratio reaches 1e7 if the sum of `d` is near 0. Official code: no bound,
        `null`; ours 2.
    head_rate: the learning rate of the side heads, as a factor of the rate of the rest. Official code: a rate of its own; ours 1.

    With gradient accumulation, the accuracy is that of all micro-batches, and the gradients are scaled once. In reruns by others over
    five seeds it was below joint training; here it serves as a baseline.

    Official code: with `clip: null` the same accuracies, coefficients and weights, step by step (its values are in `tests/reference`).
    The second part of the method, a loss on the direction of gradients, is left out: the released code compares the *weights* of the
    batch before (an open issue of its repository), so no values of the paper's loss could be recorded. As in the official code, the
    accuracy of a regression is that of signs; for several labels it is the mean over them (ours).
    """

    promises = Promises(absent=False, weights=True)
    before: Tensor

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        rho: Annotated[float, Gt(0)] = 1.3,
        clip: Annotated[float, Gt(0)] | None = 2.0,
        head_rate: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__(modalities)
        self.rho = rho
        self.clip = clip
        self.head_rate = head_rate
        self.register_buffer("before", torch.zeros(len(modalities), dtype=torch.float64))

    def refuses(self, model: Model) -> str | None:
        return several(model)

    def prepare(self, context: Context) -> None:
        self.heads = Heads(context.model)

    def rates(self, context: Context) -> Mapping[str, float]:
        return {"modulator": self.head_rate}

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        loss = model.loss(logits, batch.targets, batch.weights)
        answers = self.heads.answers(model, detached(features))
        watching = torch.stack([model.loss(answers[m], batch.targets, batch.weights) for m in self.modalities])
        (loss + watching.sum()).backward()
        hits = torch.stack([right(model.task, answers[m], batch.targets) for m in self.modalities])  # [M, B]
        return Step(loss.detach(), logits.detach(), kept={"right": hits})

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        accuracy = torch.cat([part.kept["right"] for part in parts], dim=1).mean(dim=1)  # [M]
        c = self.coefficients(accuracy - self.before)
        self.before.copy_(accuracy)
        kappa = self.rho * c
        for modality, coefficient in zip(self.modalities, kappa, strict=True):
            for tensor in model.encoders[modality].parameters():
                if tensor.grad is not None:
                    tensor.grad.mul_(coefficient)
        return self.named(kappa=kappa, accuracy=accuracy)

    def coefficients(self, improved: Tensor) -> Tensor:
        """`c_m`, `[M]`, from the rise `d_m` of each accuracy."""
        whole = improved.sum()
        c = (whole - improved + TINY) / (whole + TINY)
        return c if self.clip is None else c.clamp(0, self.clip)


@torch.no_grad()
def right(task: Task, logits: Tensor, targets: Tensor) -> Tensor:
    """To which degree the prediction of each sample is right, `[B]`: the mean over segments or labels. A regression is right if its sign
    is."""
    said = task.predicted(logits)
    agrees = (said > 0) == (targets > 0) if isinstance(task, Regression) else said == task.hard(targets)
    return agrees.reshape(len(agrees), -1).double().mean(dim=1)
