"""PMR: prototypical modal rebalance (Fan et al., CVPR 2023)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step, Tokens
from agmbench.modulators import terms
from agmbench.modulators.heads import classes, vectors, width
from agmbench.tasks import SingleLabel


class PMR(Modulator):
    """A modality that is behind is drawn towards prototypes of the classes; one that is ahead is kept from being too sure of them.

    The prototype `c_{m,k}` is the mean feature of modality m over class k. With `d_m[i, k] = -|e_m[i] - c_{m,k}|_2`,
    `S_m = sum_i softmax(d_m)[i, y_i]`, `rho_m = S_m / mean_{k != m} S_k` and H the mean entropy of `softmax(d_m)`:

        L = CE(f, y)  +  mu sum_m beta_m CE(d_m, y)  -  entropy sum_m gamma_m H_m    the last term only in the first `entropy_epochs` epochs
        beta_m  = clip(1 / rho_m - 1, 0, 1)       above 0 for a modality that is behind, rho_m < 1
        gamma_m = clip(rho_m - 1, 0, 1)           above 0 for a modality that is ahead

    Prototypes are updated at the beginning of an epoch, in eval mode, from a part of the training set:
    `c <- momentum c + (1 - momentum) mean`. A class that does not occur in this part keeps its prototype; a class that occurs for the first
    time takes the mean.

    mu: weight of the loss of the prototypes. Paper `alpha`, 1 or 2 by data set; official code `alpha`, 1 by default; ours 1.
    beta: a constant for every modality that is behind, as in the official code (1, times `alpha`). With `None`, as in the paper and by
        default, the formula above.
    entropy: weight of the entropy term. The paper has this term, official code 0; ours .01.
    entropy_epochs: how many epochs the entropy term lasts. Ours 10.
    part: share of the training set from which prototypes are updated. Official code and ours .1 (on AVE, all of valid).
    momentum: official code .2 by default, 0 in nearly all of its published commands; ours .5, as in the code of a third party.

    The paper has two modalities, where `gamma` of the one ahead is `beta` of the other; for more, we compare with the mean of the
    others. Prototypes carry no gradient.

    Official code: has a constant `beta` and no entropy term; our defaults are the paper's. With `beta=1`, `entropy=0`, `momentum=0` and
    `mu` equal to its `alpha`, it has the same prototypes, gradients and weights, step by step (its values are in `tests/reference`). With
    momentum they differ from epoch 1 on, because the official code *replaces* the prototypes of the untrained network there; ours mixes
    them, as the paper's equation 12 and algorithm 1 do. For a class that does not occur, the official code's prototype is not a number;
    ours keeps the old one.
    """

    promises = Promises(neutral={"mu": 0.0, "entropy": 0.0}, absent=False)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        mu: Annotated[float, Ge(0)] = 1.0,
        beta: Annotated[float, Ge(0)] | None = None,
        entropy: Annotated[float, Ge(0)] = 0.01,
        entropy_epochs: Annotated[int, Ge(0)] = 10,
        part: Annotated[float, Gt(0), Le(1)] = 0.1,
        momentum: Annotated[float, Ge(0), Le(1)] = 0.5,
    ) -> None:
        super().__init__(modalities)
        self.mu = mu
        self.beta = beta
        self.entropy = entropy
        self.entropy_epochs = entropy_epochs
        self.part = part
        self.momentum = momentum
        self.early = True

    def refuses(self, model: Model) -> str | None:
        if len(model.modalities) < 2:
            return f"needs two or more modalities to compare; found {', '.join(model.modalities)}"
        if not isinstance(model.task, SingleLabel):
            return f"needs classes, of which there are prototypes; the task of this data set is {type(model.task).__name__}"
        return None

    def prepare(self, context: Context) -> None:
        widths = {modality: width(context.model, modality) for modality in self.modalities}
        self.prototypes = Prototypes(widths, classes(context.model)).to(context.generator.device)

    @torch.no_grad()
    def begin_epoch(self, context: Context) -> None:
        self.early = context.epoch < self.entropy_epochs
        model, count, device = context.model, len(context.splits["train"]), context.generator.device
        drawn = torch.randperm(count, generator=context.generator, device=device)[: max(1, round(self.part * count))].cpu()
        rows: dict[str, list[Tensor]] = {modality: [] for modality in self.modalities}
        targets = []
        with model.evaluating():
            for batch in context.batches("train", drawn.split(256)):
                found = self._rows(model, model.encode(batch.inputs, self.modalities))
                for modality, kept in rows.items():
                    kept.append(found[modality])
                targets.append(model.task.rows(batch.targets))
        self.prototypes.renew({m: torch.cat(kept) for m, kept in rows.items()}, torch.cat(targets), self.momentum)

    def _rows(self, model: Model, features: Mapping[str, Tensor | Tokens]) -> dict[str, Tensor]:
        """The features `[N, D_m]` of all things that have a class: samples, or segments."""
        return {m: model.task.rows(e).float() for m, e in vectors(model, features).items()}

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        rows = self._rows(model, features)
        targets = model.task.rows(batch.targets)
        near = {m: self.prototypes.nearness(m, rows[m]) for m in self.modalities}  # d_m, [N, C]
        with torch.no_grad():
            rho = terms.to_the_others(torch.stack([_likelihood(d, targets) for d in near.values()]))
        behind, ahead = self.coefficients(rho)
        drawn = torch.stack([F.cross_entropy(d, targets) for d in near.values()])
        entropy = torch.stack([_entropy(d) for d in near.values()])
        loss = model.loss(logits, batch.targets) + (self.mu * behind * drawn).sum()
        if self.early:
            loss = loss - (self.entropy * ahead * entropy).sum()
        loss.backward()
        return Step(loss.detach(), logits.detach(), self.named(beta=behind, ratio=rho, prototype_loss=drawn.detach()))

    def coefficients(self, rho: Tensor) -> tuple[Tensor, Tensor]:
        """`beta_m` and `gamma_m`, each `[M]`."""
        behind = (1 / rho - 1).clamp(0, 1)
        if self.beta is not None:
            behind = torch.where(rho < 1, self.beta, 0.0)
        return behind, (rho - 1).clamp(0, 1)


class Prototypes(nn.Module):
    """`c_{m,k}`: for each modality the centre of each class, `[C, D_m]`; `known` `[C]` marks the classes that have occurred."""

    known: Tensor

    def __init__(self, widths: Mapping[str, int], classes: int) -> None:
        super().__init__()
        self.register_buffer("known", torch.zeros(classes, dtype=torch.bool))
        for modality, size in widths.items():
            self.register_buffer(f"of_{modality}", torch.zeros(classes, size))

    def renew(self, rows: Mapping[str, Tensor], targets: Tensor, momentum: float) -> None:
        """Move the prototypes towards the mean features of the classes that occur, from rows `{m: [N, D_m]}` with `targets` `[N]`."""
        of_class = F.one_hot(targets, len(self.known)).float()  # [N, C]
        counts = of_class.sum(dim=0)
        occurs = counts > 0
        stays = torch.where(self.known, momentum, 0.0).unsqueeze(1)
        for modality, features in rows.items():
            old = self.get_buffer(f"of_{modality}")
            mean = of_class.T @ features / counts.clamp(min=1).unsqueeze(1)
            old.copy_(torch.where(occurs.unsqueeze(1), stays * old + (1 - stays) * mean, old))
        self.known |= occurs

    def nearness(self, modality: str, rows: Tensor) -> Tensor:
        """`d_m[i, k] = -|e_m[i] - c_{m,k}|_2`, `[N, C]`."""
        return -torch.cdist(rows, self.get_buffer(f"of_{modality}"), compute_mode="donot_use_mm_for_euclid_dist")


def _likelihood(near: Tensor, targets: Tensor) -> Tensor:
    return near.softmax(dim=1).gather(1, targets.unsqueeze(1)).sum()


def _entropy(near: Tensor) -> Tensor:
    return -(near.softmax(dim=1) * near.log_softmax(dim=1)).sum(dim=1).mean()
