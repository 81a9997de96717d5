"""InfoReg: adaptive unimodal regulation of information acquisition (Huang et al., CVPR 2025)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step
from agmbench.modulators import terms
from agmbench.modulators.heads import additive
from agmbench.tasks import Regression


class InfoReg(Modulator):
    """Each modality's own term has a loss too. An encoder that is ahead and still takes up information quickly is pulled back towards the
    weights that it had at the beginning of the epoch.

    With `z_m` the fusion's own term of m and `S_m = sum_i softmax(z_m)[i, y_i]` over the batch:

        L     = CE(f, y) + sum_m CE(z_m, y)
        grad <- grad + beta_m exp( tanh( S_m - mean_{k != m} S_k ) ) (theta - theta at the epoch's beginning)
                                       for encoder m, if  S_m > mean_{k != m} S_k  and  k_m > threshold

    for every tensor of it, including biases and norms. `k_m` is how fast its information grows, measured by the gradients of earlier
    epochs:

        F_m   = sum over the weights of encoder m of  mean over their elements of  sum over the epoch's steps of grad^2
        A_m   = sum of F_m over the last `window` epochs,   A'_m over those that end one epoch earlier
        k_m   = (A_m - A'_m) / A_m,    1 in the first epoch

    so at first `k_m` is about one over the number of epochs so far, and later it is the growth over `window` epochs. It only decides
    whether there is a pull, and does not scale it.

    beta: strength; one number, or one per modality by name (others take .95). Official code .95 for audio and .1 for visual; ours .95.
    threshold: there is a pull only if `k_m` is above it. Official code and ours .05.
    window: official code and ours 10. Epochs before the first count as 0.

    Weights are tensors of two or more dimensions. With gradient accumulation S is summed over the micro-batches, and the pull is added
    once, after the last. With more than two modalities, each is compared with the mean of the others.

    Official code: the same weights and F, epoch by epoch (its values are in `tests/reference`). It uses F of the audio encoder for both
    modalities; ours uses F of each encoder, which led to the same decisions in the recorded runs. As released, its step fails because it
    squares the gradient of heads that have none; it was recorded with these heads frozen.
    """

    promises = Promises(absent=False, weights=True)
    history: Tensor
    sums: Tensor

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        beta: Annotated[float, Ge(0)] | dict[str, float] = 0.95,
        threshold: Annotated[float, Ge(0)] = 0.05,
        window: Annotated[int, Ge(1)] = 10,
    ) -> None:
        super().__init__(modalities)
        named = beta if isinstance(beta, dict) else dict.fromkeys(modalities, beta)
        self.beta = {m: named.get(m, 0.95) for m in modalities}
        self._unknown = sorted(named.keys() - set(modalities))
        self.threshold = threshold
        count = len(modalities)
        self.register_buffer("history", torch.zeros(window + 1, count, dtype=torch.float64))  # F of epochs, newest last
        self.register_buffer("sums", torch.zeros(count, dtype=torch.float64))  # F of this epoch, so far

    def refuses(self, model: Model) -> str | None:
        if self._unknown:
            return f"has beta for {', '.join(self._unknown)}, no modality of this data set: {', '.join(self.modalities)}"
        if isinstance(model.task, Regression):
            return "compares probabilities of classes or labels; the task of this data set is Regression; take agm"
        return additive(model)

    def begin_epoch(self, context: Context) -> None:
        self._start = {m: [tensor.detach().clone() for tensor in _learning(context.model.encoders[m])] for m in self.modalities}
        self._first = context.epoch == 0

    def end_epoch(self, context: Context) -> None:
        self.history.copy_(torch.cat([self.history[1:], self.sums.unsqueeze(0)]))
        self.sums.zero_()

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits, own = model.fusion(features).logits, model.fusion.terms(features)
        alone = torch.stack([model.loss(own[m], batch.targets, batch.weights) for m in self.modalities])  # [M]
        loss = model.loss(logits, batch.targets, batch.weights) + alone.sum()
        loss.backward()
        score = terms.likelihoods(model.task, own, batch.targets, self.modalities)
        return Step(loss.detach(), logits.detach(), self.named(loss=alone.detach()), {"score": score})

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        score = terms.over_all(parts)
        growth = self.growth()
        pull = self.pull(score, growth)
        for number, modality in enumerate(self.modalities):
            for tensor, start in zip(_learning(model.encoders[modality]), self._start[modality], strict=True):
                if tensor.grad is not None:
                    tensor.grad.add_(pull[number] * (tensor.detach() - start))
                    if tensor.ndim >= 2:
                        self.sums[number] += tensor.grad.square().mean()
        return self.named(pull=pull, growth=growth, score=score)

    def growth(self) -> Tensor:
        """`k_m`, `[M]`: 1 in the first epoch, and 0 for an encoder that has never learnt anything."""
        last = self.history[1:].sum(dim=0)
        k = (last - self.history[:-1].sum(dim=0)) / last.clamp(min=1e-30)
        return torch.ones_like(k) if self._first else k

    def pull(self, score: Tensor, growth: Tensor) -> Tensor:
        """The factor of `theta - start`, `[M]`; 0 for a modality that is not ahead."""
        ahead = score - (score.sum() - score) / (len(score) - 1)
        betas = zip((self.beta[m] for m in self.modalities), torch.exp(torch.tanh(ahead)), strict=True)
        strength = torch.stack([beta * factor for beta, factor in betas])
        return torch.where((ahead > 0) & (growth > self.threshold), strength, 0.0)


def _learning(module: nn.Module) -> Iterator[nn.Parameter]:
    return (tensor for tensor in module.parameters() if tensor.requires_grad)
