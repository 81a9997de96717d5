"""LFM: learning the modality gap (Yang et al., NeurIPS 2024)."""

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step
from agmbench.modulators.heads import additive
from agmbench.tasks import SingleLabel

FITTED = (0.204623704, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)  # official code
HALVED = 20  # epochs after which a learnt weight moves half as far


class LFM(Modulator):
    """A loss of classification, and an alignment of the modalities' predictions, in a proportion that changes from epoch to epoch.

    With `o_m = M z_m`, M times the fusion's own term of m (so that `f = mean_m o_m`), `p_m = softmax(o_m)` and `q = (p_j + p_k)/2`:

        L = 2 ( a_0 CE(f, y) + a_1 mean_{j<k} A(o_j, o_k) ),    a_0 + a_1 = 1
        A = mean_i ( KL(q | p_j) + KL(q | p_k) ) / 2

    schedule: where `a_1` comes from. `fitted`, official and default: the official code's polynomial of the epoch as a share of all
        epochs, by which `a_0` rises from .2 to 1. `constant`: always `weight`. `learnt`: before each epoch, on a few samples of `dev` in
        eval mode, `a_1 <- clip( a_1 - rate mean(H g), .05, .95 )`, with H the Hessian of `a_0 L_0 + a_1 A` and g the gradient of `L_0`,
        over all parameters. The mean is only over those elements of `H g` that are in the first tensor, as in the official code. This
        is arbitrary, so it is not the default.
    weight: `a_1` if it is constant, and its first value if it is learnt. Official code and ours .95.
    rate: the learning rate of the learnt weight, halved every 20 epochs. Official code and ours 1e-4.
    held_out: how many samples of dev the weight is learnt from; they are drawn once. Official code and ours 8.
    divergence: `released`, as above and in the official code, which swaps the arguments of the Jensen-Shannon divergence; `js` is that
        divergence, with `KL(p_j | q)`. Ours `released`.

    The paper has two modalities; for more, A is the mean over all pairs. `learnt` needs the second derivative of every layer.

    Official code: the same losses and gradients of logits, the same fitted weights, and, when they are learnt, the same weights of network
    and losses, step by step (its values are in `tests/reference`). It learns them from half a batch of its held-out samples.
    """

    promises = Promises(absent=False)
    a1: Tensor
    held: Tensor

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        schedule: Literal["fitted", "constant", "learnt"] = "fitted",
        weight: Annotated[float, Ge(0), Le(1)] = 0.95,
        rate: Annotated[float, Gt(0)] = 1e-4,
        held_out: Annotated[int, Ge(1)] = 8,
        divergence: Literal["released", "js"] = "released",
    ) -> None:
        super().__init__(modalities)
        self.schedule = schedule
        self.rate = rate
        self.held_out = held_out
        self.divergence = divergence
        self.register_buffer("a1", torch.tensor(weight, dtype=torch.float64))

    def refuses(self, model: Model) -> str | None:
        if not isinstance(model.task, SingleLabel):
            return f"aligns probabilities of classes; the task of this data set is {type(model.task).__name__}"
        return additive(model)

    def prepare(self, context: Context) -> None:
        if self.schedule == "learnt":
            count, device = len(context.splits["dev"]), context.generator.device
            drawn = torch.randperm(count, generator=context.generator, device=device)[: self.held_out]
            self.register_buffer("held", drawn)

    def begin_epoch(self, context: Context) -> None:
        if self.schedule == "fitted":
            self.a1.fill_(1 - fitted(context.epoch, context.epochs))
        elif self.schedule == "learnt":
            (batch,) = context.batches("dev", [self.held.cpu()])
            rate = self.rate * 0.5 ** (context.epoch // HALVED)
            self.a1.sub_(rate * self.slope(context.model, batch)).clamp_(0.05, 0.95)

    def backward(self, model: Model, batch: Batch) -> Step:
        logits, own = self._said(model, batch)
        joint, alignment = model.loss(logits, batch.targets), self.alignment(own)
        a1 = self.a1.to(joint.dtype)
        loss = 2 * ((1 - a1) * joint + a1 * alignment)
        loss.backward()
        return Step(loss.detach(), logits.detach(), {"alignment": alignment.detach(), "weight": a1.clone()})

    def _said(self, model: Model, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits `[B, C]`, and `o_m` of each modality."""
        terms = model.fusion.terms(model.encode(batch.inputs))
        return torch.stack(list(terms.values())).sum(dim=0), {m: len(terms) * z for m, z in terms.items()}

    def alignment(self, own: Mapping[str, Tensor]) -> Tensor:
        """The mean of A over all pairs."""
        log_p = [z.float().log_softmax(dim=-1) for z in own.values()]
        return torch.stack([self._apart(one, two) for one, two in combinations(log_p, 2)]).mean()

    def _apart(self, one: Tensor, two: Tensor) -> Tensor:
        log_q = ((one.exp() + two.exp()) / 2).log()
        pairs = [(log_q, log_p) if self.divergence == "released" else (log_p, log_q) for log_p in (one, two)]
        return torch.stack([(a.exp() * (a - b)).sum(dim=-1).mean() for a, b in pairs]).mean()

    def slope(self, model: Model, batch: Batch) -> Tensor:
        """The mean of `H g` over the elements of the first tensor; this needs kernels that have second derivatives."""
        learning = [tensor for tensor in model.parameters() if tensor.requires_grad]
        with model.evaluating(), torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            logits, own = self._said(model, batch)
            joint, a1 = model.loss(logits, batch.targets), self.a1.to(logits.dtype)
            g = torch.autograd.grad(joint, learning, retain_graph=True, allow_unused=True, materialize_grads=True)
            both = (1 - a1) * joint + a1 * self.alignment(own)
            first = torch.autograd.grad(both, learning, create_graph=True, allow_unused=True, materialize_grads=True)
            along = torch.stack([(one * two).sum() for one, two in zip(first, g, strict=True)]).sum()
            (product,) = torch.autograd.grad(along, learning[:1], allow_unused=True, materialize_grads=True)
        return product.mean()


def fitted(epoch: int, epochs: int) -> float:
    """`a_0` of an epoch: the official polynomial of the epoch, scaled to a training of 200 epochs."""
    t = 200 * epoch / epochs
    return min(1.0, max(0.0, sum(factor * t**power for power, factor in enumerate(FITTED))))
