"""Runs a function on several ranks, each in its own process; and the functions that test_devices.py runs in this way."""

import copy
import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import PATIENCE
from test_train import CPU, EARLY, REGISTRY, splits_of, untrained_concepts
from torch import Tensor, nn

from agmbench import build, jobs
from agmbench.contracts import Batch, Model, Split, Step, Tokens
from agmbench.distributed.encoders import encoded
from agmbench.distributed.feed import DealtFeed
from agmbench.distributed.ranks import here, joined
from agmbench.encoders.lstm import LSTM
from agmbench.errors import RunFailed
from agmbench.loading import Feed
from agmbench.modulators.joint import Joint
from agmbench.records import Point
from agmbench.train import train


def together(size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Run the function on all ranks of one group, and return the results of each rank."""
    with tempfile.TemporaryDirectory() as folder:
        context = get_context("spawn")
        ranks = [context.Process(target=_rank, args=(rank, size, folder, function, args)) for rank in range(size)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(timeout=PATIENCE)
            rank.kill()
        left = {one.read_text() for one in Path(folder).glob("*.threads")}
        assert not any("gloo" in names for names in left), f"threads of torch outlive the group: {left}"
        return [torch.load(Path(folder, f"{number}.pt"), weights_only=False) for number in range(size)]


def _rank(rank: int, size: int, folder: str, function: Callable[..., Any], args: Sequence[Any]) -> None:
    os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": f"{size}", "AGMBENCH_MEETING": f"file://{folder}/meeting"}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "AGMBENCH_DEBUG": "1"}
    with joined(CPU):
        torch.save(function(*args), Path(folder, f"{rank}.pt"))
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]  # empty on systems without /proc
    Path(folder, f"{rank}.threads").write_text(" ".join(names))


Trained = tuple[dict[str, Tensor], list[Point], Any]


def trained(dataset: str, name: str, settings: dict[str, Any], state: Any = None, epochs: int | None = None) -> Trained:
    """Train from a state or from the beginning. Returns the tensors of model and modulator, all points and the last state."""
    given = {**settings, **EARLY.get(name, {})}
    spec = jobs.compose(REGISTRY, dataset, name, given.pop("fusion", None), settings=[*given.items()])
    job = build.resolve(spec, REGISTRY)
    model = build.model(job)
    modulator = build.modulator(job, model)
    concepts = untrained_concepts(job) if modulator.needs_concepts else {}
    points, last = [], state
    own = copy.deepcopy(state)  # a copy, because training changes the state, which lies in memory that the processes share
    all_epochs = train(model, modulator, Feed(splits_of(job), CPU), spec.training, spec.seed, concepts, own)
    for epoch in itertools.islice(all_epochs, epochs):
        points += epoch.points
        last = epoch.state()
    parts = {"model": model, "modulator": modulator}
    tensors = {
        f"{part}.{key}": value
        for part, module in parts.items()
        for key, value in module.state_dict().items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    return tensors, points, last


def all_trained(dataset: str, names: Sequence[str], settings: dict[str, Any]) -> dict[str, Trained]:
    return {name: trained(dataset, name, settings) for name in names}


def gradients(seed: int, samples: int) -> dict[str, Tensor]:
    """The gradients, by passes of every kind, of two networks with BatchNorm and of one that reads sequences with masks, in float64."""
    torch.manual_seed(seed)
    x = torch.randn(samples, 2, 9, 9).double().requires_grad_()
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5, affine=False),
        nn.Flatten(),
    ).double()
    values, mask = torch.randn(samples, 6, 3).double(), torch.rand(samples, 6) < 0.6
    reader = Cutting((6, 3), width=4).double()
    weights = torch.randn(samples, 125).double(), torch.randn(samples, 6, 4).double()
    found: dict[str, Tensor] = {}

    def loss(pictures: Tensor, tokens: Any) -> Tensor:
        states = torch.zeros(samples, 6, 4, dtype=torch.float64)
        states = torch.cat([tokens.values, states], dim=1)[:, :6]
        return ((pictures.tanh() * weights[0]).sum() + (states.tanh() * weights[1]).sum()).tanh()

    def passes() -> Tensor:
        tokens = encoded(reader, Tokens(values, mask))
        assert isinstance(tokens, Tokens)
        assert tokens.values.shape[1] == int(mask.sum(dim=1).max())
        first, second = encoded(net, x), encoded(net, 2 * x)
        net.eval()
        third = encoded(net, x)
        net.train()
        return loss(first + second + third, tokens)  # type: ignore[operator]

    passes().backward()
    found |= {f"backward.{name}": tensor.grad.clone() for name, tensor in net.named_parameters() if tensor.grad is not None}
    found |= {f"backward.{name}": tensor.grad.clone() for name, tensor in reader.named_parameters() if tensor.grad is not None}
    learning = [*net.parameters(), x]
    found |= {f"grad.{place}": one for place, one in enumerate(torch.autograd.grad(passes(), learning))}
    net.eval()  # for second derivatives, as in LFM
    with torch.backends.cudnn.flags(enabled=False):
        first = torch.autograd.grad((encoded(net, x).tanh() * weights[0]).sum(), learning, create_graph=True)  # type: ignore[union-attr]
        along = torch.stack([one.square().sum() for one in first]).sum()
    second = torch.autograd.grad(along, learning, allow_unused=True)
    found |= {f"second.{place}": one for place, one in enumerate(second) if one is not None}
    found |= {name: tensor.double() for name, tensor in net.named_buffers()}
    return found


class Cutting(LSTM):
    """An LSTM that cuts a batch to its longest sequence, as packed sequences do."""

    def forward(self, x: Any) -> Tokens:
        longest = int(x.mask.sum(dim=1).max())
        order = (~x.mask).long().argsort(dim=1, stable=True)[:, :longest]  # tokens that are not hidden come first
        return super().forward(Tokens(x.values.gather(1, order.unsqueeze(2).expand(-1, -1, 3)), x.mask.gather(1, order)))


class Noisy(Joint):
    """Draws random numbers that differ between the ranks."""

    def backward(self, model: Model, batch: Batch) -> Step:
        step = super().backward(model, batch)
        drawn = np.random.default_rng().normal()
        for tensor in model.parameters():
            if tensor.grad is not None:
                tensor.grad.mul_(1 + drawn)
        return step


def noisy() -> str:
    """The error of a training with `Noisy`; empty if there is none."""
    spec = jobs.compose(REGISTRY, "synthetic", "joint", settings=[("dataset.samples", 96), ("training.epochs", 2)])
    job = build.resolve(spec, REGISTRY)
    try:
        list(train(build.model(job), Noisy(("m0", "m1")), Feed(splits_of(job), CPU), spec.training, spec.seed))
    except RunFailed as error:
        return str(error)
    return ""


class OnDisk:
    """A split of sequences that is not in memory, and notes which samples were read."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 11

    def batch(self, index: Tensor) -> Batch:
        self.asked += index.tolist()
        values = index.float().view(-1, 1, 1).expand(-1, 3, 2)
        mask = torch.arange(3) < (index % 4).view(-1, 1)
        inputs = {"a": Tokens(values, mask), "b": index.float().unsqueeze(1)}
        return Batch(inputs, index % 2, index, absent={"b": index % 3 == 0}, weights=index / 5)


def read(pieces: Sequence[Sequence[int]]) -> tuple[list[Batch], list[int]]:
    """The batches of these samples, and the samples that this rank has read."""
    split: Split = OnDisk()
    kind = Feed if here() is None else DealtFeed
    batches = list(kind({"train": split}, CPU).batches("train", [torch.tensor(piece) for piece in pieces], epoch=0))
    return batches, split.asked  # type: ignore[attr-defined]


def dropped() -> tuple[Tensor, Tensor]:
    """The features that an encoder with dropout gives for ten equal samples, and the numbers that torch draws afterwards."""
    torch.manual_seed(3)
    made = encoded(nn.Dropout(0.5), torch.ones(10, 16))
    assert isinstance(made, Tensor)
    return made, torch.rand(4)
