"""Compares encoders under torch.compile with encoders as they are: by a step that is repeated on one batch, and by a whole job.

    python benchmarks/compiled.py [--rounds 11] [--work conv]

The ratio of a step is measured as in `steps.py`, after the compiler has finished; below 1 is faster. A job has several graphs per encoder
(train mode, eval mode, a muted input, the last batch of an epoch, validation), each of which is compiled at its first use.
"""

import argparse
import time
from collections.abc import Callable

import steps
import torch
from steps import METHODS, SEQUENCES, Work, compared, stepper

from agmbench import build, jobs, registry
from agmbench.contracts import SPLITS, Encoder
from agmbench.encoders.conv import Conv
from agmbench.encoders.resnet import ResNet
from agmbench.encoders.transformer import Transformer
from agmbench.fusions.concat import Concat
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.train import train

CPU = torch.device("cpu")
SMALL = {"audio": (1, 28, 28), "image": (1, 28, 28)}
LARGE = {"audio": (1, 112, 112), "image": (1, 28, 28)}
TWO = {m: SEQUENCES[m] for m in ("audio", "text")}


class Plain(MultimodalModel):
    """A model in the memory format of jobs."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)


class Compiled(Plain):
    """A model whose encoders are compiled, with one graph per shape and mode."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)
        for encoder in self.encoders.values():
            encoder.compile(dynamic=False)


def transformer(shape: tuple[int, ...]) -> Encoder:
    return Transformer(shape, layers=2, width=256)


def narrow(shape: tuple[int, ...]) -> Encoder:
    return ResNet(shape, width=16)


WORKS = (
    Work("2 x conv, 28 x 28", Conv, SMALL, Concat, 64, 10, {}),
    Work("2 x conv (AV-MNIST)", Conv, LARGE, Concat, 64, 10, {}),
    Work("2 x Transformer of two layers", transformer, TWO, Concat, 64, 2, {}),
    Work("2 x ResNet18, 16 wide (AV-MNIST)", narrow, LARGE, Concat, 64, 10, {}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--work", default="", help="only networks with this in their name")
    chosen = parser.parse_args()
    print("| work | method | ratio to as it is |\n|---|---|---:|", flush=True)
    for work in (work for work in WORKS if chosen.work in work.name):
        for method in ("joint", "agm exact"):
            ratio = compared(made(work, method, Plain), made(work, method, Compiled), chosen.rounds, CPU)
            print(f"| {work.name} | {method} | {ratio:.2f} |", flush=True)
    print("\n| avmnist-mini under agm | wall s | samples/s of each epoch |\n|---|---:|---|", flush=True)
    for name in ("as it is", "compiled"):
        begun = time.perf_counter()
        rates = ", ".join(f"{rate:,.0f}" for rate in job(name == "compiled"))
        print(f"| {name} | {time.perf_counter() - begun:.0f} | {rates} |", flush=True)


def made(work: Work, method: str, kind: type[MultimodalModel]) -> Callable[[], None]:
    steps.METHODS = {**METHODS, method: (kind, METHODS[method][1])}
    return stepper(work, method, CPU)


def job(compiled: bool) -> list[float]:
    known = registry.builtin()
    spec = jobs.compose(known, "avmnist-mini", "agm", settings=[("training.epochs", 6)])
    resolved = build.resolve(spec, known)
    model = build.model(resolved)
    if compiled:
        torch.compiler.reset()  # the graphs of the steps above count against the limit
        for encoder in model.encoders.values():
            encoder.compile()
    splits = {name: resolved.dataset.split(name) for name in SPLITS}
    epochs = train(model, build.modulator(resolved, model), Feed(splits, CPU), resolved.spec.training, 1)
    return [point.value for epoch in epochs for point in epoch.costs if point.name == "cost/samples_per_second"]


if __name__ == "__main__":
    main()
