"""ReconBoost: boosting can achieve modality reconcilement (Hua et al., ICML 2024)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.contracts import Batch, Coalition, Context, Fused, Input, Model, Modulator, Promises, Step
from agmbench.modulators.heads import Heads, SharedHead, joined, late, unlike, vectors


class ReconBoost(Modulator):
    """The modalities take turns. Each has a stage of several epochs, in which it learns what the others cannot explain yet.

    Each modality has a head of its own, `z_m = h_m(e_m)`, and the prediction is `f(S) = rate sum_{m in S} z_m`, with a learned number
    `rate` that starts at 1. In the stage of m, only the encoder and the head of m learn. With `p_m = softmax(z_m)` and
    `p_rest = softmax(rate sum_{k != m} z_k)`:

        L = 1/C mean( -w1 log p_m[y] + w2 p_rest[y] log p_m[y] ) + alpha MSE(p_m, p_before)

    The MSE is a mean over samples and classes. `p_before` is the present prediction of the modality whose stage came before (none in the
    first stage), from a pass of its own. The passes of the other modalities have no gradient and run in train mode, so that their BatchNorm
    statistics move. After each stage come the epochs of a global rectification, which trains all encoders, heads and `rate` on
    `CE(f, y)`. The state of the optimizer, such as momentum, is reset at the beginning of each stage and of each rectification.

    stage: epochs of a modality's stage. Official code and ours 4.
    rectify: epochs of the rectification after it. Official code and ours 4; 0 leaves it out.
    w1, w2: weights of agreement with the labels, and with what the other modalities already explain. Paper, official code and ours 5
        and 1.
    alpha: weight of the memory of the stage before. Paper, official code and ours .5.
    boost_rate: whether `rate` is learned, as in the official code and by default; otherwise it stays 1.
    heads: `own`, one linear layer per modality, by default; `shared`, one network for all with two layers, 256 wide, which is the default
        of the official code.

    The model's own fusion, which has to be additive, does not learn.

    Official code: the same gradients, weights and statistics, step by step, with one exception (its values are in `tests/reference`): it
    detaches both sides of the MSE, so that this term has no gradient; ours detaches only `p_before`, as the equation says. It has two
    modalities. Unless it starts with trained encoders, its ensemble is empty in the first stage: `p_rest` is 1 there, and the rectification
    trains only the first modality. Ours has all modalities from the beginning, as the official code has with trained encoders.
    """

    promises = Promises(own_heads=True, rests=True, absent=False)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        stage: Annotated[int, Ge(1)] = 4,
        rectify: Annotated[int, Ge(0)] = 4,
        w1: Annotated[float, Ge(0)] = 5.0,
        w2: Annotated[float, Ge(0)] = 1.0,
        alpha: Annotated[float, Ge(0)] = 0.5,
        boost_rate: bool = True,
        heads: Literal["own", "shared"] = "own",
    ) -> None:
        super().__init__(modalities)
        self.stage = stage
        self.rectify = rectify
        self.w1 = w1
        self.w2 = w2
        self.alpha = alpha
        self.shared = heads == "shared"
        self.rate = nn.Parameter(torch.ones(()), requires_grad=boost_rate)
        self.turn = 0
        self.rectifying = False

    def refuses(self, model: Model) -> str | None:
        return late(model) or (unlike(model) if self.shared else None)

    def prepare(self, context: Context) -> None:
        self.heads = SharedHead(context.model) if self.shared else Heads(context.model)

    def begin_epoch(self, context: Context) -> None:
        self.turn, within = divmod(context.epoch, self.stage + self.rectify)
        self.rectifying = within >= self.stage
        if within in (0, self.stage) and context.optimizer is not None:
            context.optimizer.state.clear()

    def backward(self, model: Model, batch: Batch) -> Step:
        if self.rectifying:
            logits = self._sum(self._answers(model, batch.inputs, self.modalities))
            loss = model.loss(logits, batch.targets)
        else:
            own = self._at(self.turn)
            answer = self._answers(model, batch.inputs, [own])[own]
            with torch.no_grad():
                rest = self._sum(self._answers(model, batch.inputs, [m for m in self.modalities if m != own]))
                logits = rest + self._sum({own: answer})
            loss = self.boosted(answer, rest, batch.targets)
            if self.turn > 0:
                loss = loss + self.alpha * self._apart(model, batch.inputs, answer)
        loss.backward()
        return Step(loss.detach(), logits.detach(), {"boost_rate": self.rate.detach().clone()})

    def _at(self, turn: int) -> str:
        return self.modalities[turn % len(self.modalities)]

    def _answers(self, model: Model, inputs: Mapping[str, Input], which: Sequence[str]) -> dict[str, Tensor]:
        """`z_m`, `{m: [B, C]}`."""
        return self.heads.answers(model, model.encode(inputs, which))

    def _sum(self, answers: Mapping[str, Tensor]) -> Tensor:
        return self.rate * torch.stack(list(answers.values())).sum(dim=0)

    def boosted(self, answer: Tensor, rest: Tensor, targets: Tensor) -> Tensor:
        """The first term of L, from the logits `[B, C]` of the modality whose turn it is, and of the others together."""
        right = targets.unsqueeze(-1)
        log_p = answer.float().log_softmax(dim=-1).gather(-1, right)
        p_rest = rest.float().softmax(dim=-1).gather(-1, right)
        return -((self.w1 - self.w2 * p_rest) * log_p).mean() / answer.shape[-1]

    def _apart(self, model: Model, inputs: Mapping[str, Input], answer: Tensor) -> Tensor:
        """`MSE(p_m, p_before)`."""
        before = self._at(self.turn - 1)
        with torch.no_grad():
            remembered = self._answers(model, inputs, [before])[before]
        return F.mse_loss(answer.float().softmax(dim=-1), remembered.float().softmax(dim=-1))

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        features = vectors(model, model.encode(inputs, self.modalities))
        answers = self.heads.answers(model, features)
        return {c: Fused(self._sum({m: z for m, z in answers.items() if m in c}), joined(features, c)) for c in which}
