"""Compares other ways to run a step with the way that is used, as ratios that are measured side by side: below 1 is faster.

    python benchmarks/variants.py [--rounds 5] [--device cpu]

The works are an epoch of joint training of avmnist-mini's default job, and a joint step of two ResNet18 at AV-MNIST's shapes.
"""

import argparse
from collections.abc import Callable, Iterator

import torch
from steps import WORKS, compared
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from agmbench import build, jobs, registry
from agmbench.contracts import Split, TensorSplit
from agmbench.model import MultimodalModel

KNOWN = registry.load()
JOB, RESNETS = "default job of avmnist-mini", "2 x ResNet18"
Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    print("| work | variant | ratio to as it is |\n|---|---|---:|", flush=True)
    for work, model, split, size, rate in ((JOB, *job(), 64, 0.1), (RESNETS, *resnet(), 64, 1e-4)):
        usual = epoch(model(), split, size, rate, device)
        for name, variant in {
            "contiguous instead of channels_last": epoch(
                model().to(memory_format=torch.contiguous_format), split, size, rate, device
            ),
            "fused optimizer": epoch(model(), split, size, rate, device, fused=True),
            "torch.compile of the encoders": epoch(compiled(model()), split, size, rate, device),
            "a loader a sample": epoch(model(), split, size, rate, device, a_sample=True),
        }.items():
            print(f"| {work} | {name} | {compared(usual, variant, chosen.rounds, device):.2f} |", flush=True)


def job() -> tuple[Callable[[], MultimodalModel], Split]:
    made = build.resolve(jobs.compose(KNOWN, "avmnist-mini", "joint"), KNOWN)
    return lambda: build.model(made), made.dataset.split("train")


def resnet() -> tuple[Callable[[], MultimodalModel], Split]:
    work = WORKS[0]

    def model() -> MultimodalModel:
        encoders = {m: work.encoder(shape) for m, shape in work.shapes.items()}
        fusion = work.fusion({m: encoder.out_features for m, encoder in encoders.items()}, work.classes)
        return MultimodalModel(encoders, fusion).to(memory_format=torch.channels_last)

    inputs = {m: torch.randn(64, *shape) for m, shape in work.shapes.items()}
    return model, TensorSplit(inputs, torch.randint(work.classes, (64,)))


def compiled(model: MultimodalModel) -> MultimodalModel:
    for encoder in model.encoders.values():
        encoder.compile()
    return model


class Samples(Dataset[tuple[dict[str, torch.Tensor], torch.Tensor]]):
    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        batch = self.split.batch(torch.tensor([index]))
        return {m: x[0] for m, x in batch.inputs.items()}, batch.targets[0]  # type: ignore[misc, index]


def epoch(
    model: nn.Module, split: Split, size: int, rate: float, device: torch.device, fused: bool = False, a_sample: bool = False
) -> Step:
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4, fused=fused)

    def batches() -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        if a_sample:
            yield from DataLoader(Samples(split), size, shuffle=True)
        else:
            for index in torch.randperm(len(split)).split(size):
                batch = split.batch(index)
                yield dict(batch.inputs), batch.targets  # type: ignore[arg-type]

    def run() -> None:
        for inputs, targets in batches():
            loss = F.cross_entropy(model({m: x.to(device) for m, x in inputs.items()}).logits, targets.to(device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


if __name__ == "__main__":
    main()
