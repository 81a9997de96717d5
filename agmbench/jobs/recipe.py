"""The recipe of a job: how it is trained, whatever the method."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

OF_PARTS = {"lr": "lr_of", "weight_decay": "weight_decay_of"}  # what an encoder, fusion and modulator may have alone


class Frozen(BaseModel):
    """A part of a spec: it does not change, and has no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=1_000_000)]  # of what one job can have


class Schedule(Frozen):
    """How the learning rate moves, once an epoch.

    `step` multiplies it by `gamma` every `step_size` epochs, `cosine` takes it to zero over the run, `constant` leaves it. `plateau`
    multiplies it by `gamma` after `patience` epochs without a gain on valid; with `reload` the weights of the best epoch come back then.
    `last` is the number of decays after which `step` and `plateau` leave it; `None` is no end. `timm-NAME` is a schedule of
    `timm.scheduler` over the run's epochs, with `args` as timm's `create_scheduler_v2` takes them (`warmup_epochs`, `min_lr`,
    `cycle_limit`, ...); the other settings are not for it, but for `warmup`. In the first `warmup` epochs n of any schedule the rate
    is n/(warmup+1) of what it would be.
    """

    name: Literal[
        "constant",
        "step",
        "cosine",
        "plateau",
        "timm-cosine",
        "timm-tanh",
        "timm-step",
        "timm-multistep",
        "timm-poly",
        "timm-wsd",
        "timm-rsqrt",
    ] = "constant"
    step_size: Count = 70
    gamma: float = Field(default=0.9, gt=0, le=1)
    last: Count | None = None
    patience: Count = 1
    reload: bool = False
    warmup: int = Field(default=0, ge=0, le=1_000_000)
    args: dict[str, Any] = Field(default_factory=dict)


class Training(Frozen):
    """The recipe. `select` says which epoch's weights are kept: the best on `valid`, or the `last`.

    `select_by` is the quantity that is best there, such as `macro-f1` or `response/audio`; `None` is the task's own (accuracy, of a
    regression R2). Among equals the least loss decides. `precision` is that of training's passes: `bf16` and `fp16` are autocast in
    forward passes, with weights, gradients, losses and scores in float32; `fp16` scales inside backward passes and skips the steps
    that overflow. Evaluation is float32. `accumulate` is the number of batches whose gradients make one optimizer step. `reduction` of
    the loss over their samples is the `mean`, or the `sum`, whose gradients are as many times larger as there are samples. Before a
    step, each element of the gradients is cut to `clip_value`, and the norm of them all to `clip_norm`, but where a method has a rule of
    its own (AGM's `clip`). Training ends after `early_stopping` epochs in a row without a gain on valid, counted anew from each decay
    of schedule `plateau`. `drop_last` leaves out an epoch's last batch where it is not full.

    `optimizer` is torch's `sgd`, `adam` or `adamw`, or any other of `timm.optim.list_optimizers()`, with `optimizer_args` as it takes
    them. `lr_of` and `weight_decay_of` are those of an encoder (by its modality), of `fusion` or of `modulator` where they are not the
    recipe's: `--set training.lr.audio=1e-4`. With `layer_decay` the rate of an encoder's layer is that of the next one times it; the
    last layer has the encoder's own (BEiT, Bao et al., ICLR 2022).

    `label_smoothing` is the share of a sample's target that all classes have in common. `class_weights=balanced` weighs each sample's
    loss by n / (C n_c), n_c the training samples of its class. `sampling=balanced` draws as many training samples an epoch as there
    are, with replacement, every class as often. These are of training alone: losses and scores of evaluation, and AGM's and OGM's of
    training, are the task's. `mixup` is alpha of mixup (Zhang et al., ICLR 2018): each batch is mixed with itself in reverse order, in
    shares drawn from Beta(alpha, alpha). `ema` is the decay of a running mean of the weights after each optimizer step, n-th with
    min(ema, (1+n)/(10+n)); it is what is validated, kept and tested, while training goes on with the weights themselves.
    With `cache_features` an encoder that is frozen runs once over the data, in eval mode, and training reads what it made.
    """

    epochs: Count = 100
    batch_size: int = Field(default=64, ge=2, le=1_000_000)
    accumulate: Count = 1
    optimizer: str = "sgd"
    optimizer_args: dict[str, Any] = Field(default_factory=dict)
    lr: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    lr_of: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    weight_decay_of: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    schedule: Schedule = Field(default_factory=Schedule)
    select: Literal["valid", "last"] = "valid"
    select_by: str | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    reduction: Literal["mean", "sum"] = "mean"
    clip_value: float | None = Field(default=None, gt=0)
    clip_norm: float | None = Field(default=None, gt=0)
    early_stopping: Count | None = None
    drop_last: bool = False
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    class_weights: Literal["balanced"] | None = None
    sampling: Literal["balanced"] | None = None
    mixup: float | None = Field(default=None, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    cache_features: bool = False
