"""The recipe of a job: how it is trained with any method."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

OF_PARTS = {"lr": "lr_of", "weight_decay": "weight_decay_of"}  # settings that a part of the model may have for itself


class Frozen(BaseModel):
    """A part of a spec: it is immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=1_000_000)]  # a number of epochs, batches or decays


class Schedule(Frozen):
    """How the learning rate changes, once per epoch.

    `constant` leaves the rate as it is, `step` multiplies it by `gamma` every `step_size` epochs, and `cosine` brings it to zero over the
    run. `plateau` multiplies it by `gamma` after `patience` epochs without a gain on valid; with `reload`, the weights of the best
    epoch are then restored. `last` is the largest number of decays of `step` and `plateau`; `None` means no limit. `timm-NAME` is a
    schedule of `timm.scheduler` over the epochs of the run, with `args` for timm's `create_scheduler_v2` (`warmup_epochs`, `min_lr`,
    `cycle_limit`, ...); of the other settings it uses only `warmup`. For any schedule, the rate in the n-th of the first `warmup`
    epochs is n/(warmup+1) of what it would be.
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
    """The recipe. `select` says which epoch's weights are kept: those of the best epoch on `valid`, or of the `last` epoch.

    `select_by` is the quantity by which an epoch is best, such as `macro-f1` or `response/audio`; `None` is the task's own (accuracy;
    for a regression R2). Among equals the smallest loss decides. `precision` is the number format of training: `bf16` and `fp16` use
    autocast in forward passes, while weights, gradients, losses and scores stay in float32; `fp16` scales gradients inside backward
    passes and skips steps that overflow. Evaluation is in float32. `accumulate` is the number of batches whose gradients make one
    optimizer step. `reduction` says whether the loss is the `mean` over their samples or the `sum`, whose gradients are larger by the
    number of samples. Before a step, each element of the gradients is limited to `clip_value`, and the norm of all gradients to
    `clip_norm`, unless a method has a rule of its own (AGM's `clip`). With `clip_when=head` the norm is limited only in steps in which an
    element of a head's weight gradient is larger than `clip_norm`, as AGM's code does for all methods under early fusion. Training ends
    after `early_stopping` epochs in a row without a gain on valid; each decay of schedule `plateau` starts the count again. `drop_last`
    leaves out the last batch of an epoch if it is not full.

    `optimizer` is torch's `sgd`, `adam` or `adamw`, or any other of `timm.optim.list_optimizers()`, with its own parameters in
    `optimizer_args`. `lr_of` and `weight_decay_of` are values for an encoder (by its modality), for `fusion` or for `modulator` that
    differ from the recipe's: `--set training.lr.audio=1e-4`. With `layer_decay`, the rate of each layer of an encoder is that of the
    next layer times this factor; the last layer has the rate of the encoder (BEiT, Bao et al., ICLR 2022).

    `label_smoothing` is the share of a sample's target that is spread evenly over all classes. `class_weights=balanced` multiplies each
    sample's loss by n / (C n_c), with n_c the training samples of its class. `sampling=balanced` draws as many training samples per
    epoch as there are, with replacement, and every class equally often. These settings affect only training: losses and scores in
    evaluation, and the scores of AGM and OGM in training, are those of the task. `mixup` is alpha of mixup (Zhang et al., ICLR 2018):
    each batch is mixed with itself in reverse order, with a share drawn from Beta(alpha, alpha). `ema` is the decay of a running mean
    of the weights; after the n-th optimizer step it is min(ema, (1+n)/(10+n)). This mean is validated, kept and tested, while training
    goes on with the weights themselves. With `cache_features`, a frozen encoder runs once over the data, in eval mode, and training
    reads its features.
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
    clip_when: Literal["always", "head"] = "always"
    early_stopping: Count | None = None
    drop_last: bool = False
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    class_weights: Literal["balanced"] | None = None
    sampling: Literal["balanced"] | None = None
    mixup: float | None = Field(default=None, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    cache_features: bool = False
