"""Measures the cost of a training step under each method, as a ratio to joint training of the same model, side by side in one process.

    python benchmarks/steps.py [--rounds 5] [--device cpu] [--work ResNet18] [--csv benchmarks/epochs.csv]

In each round, a method's step lies between two steps of joint training, so that a drifting speed of the machine affects both alike. The
ratio of a round is to the mean of the two, and the table has the median over the rounds. `naive` computes AGM's responses by one full
forward pass per coalition, as its published code does; it exists only here.

The last work takes every modulator of the registry that trains, and measures whole epochs, so that work before the first batch
(prototypes, rounds of copies) and copies of samples count as well. `--csv` saves these ratios for docs/methods.md.
"""

import argparse
import copy
import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch

from agmbench import registry
from agmbench.contracts import SPLITS, Batch, Context, Encoder, Fusion, Modulator, TensorSplit
from agmbench.encoders.conv import Conv
from agmbench.encoders.resnet import ResNet
from agmbench.encoders.transformer import Transformer
from agmbench.fusions.concat import Concat
from agmbench.fusions.early import Early
from agmbench.jobs import Training
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.joint import Joint
from agmbench.modulators.mla import MLA
from agmbench.modulators.mmpareto import MMPareto
from agmbench.modulators.ogm import OGM
from agmbench.modulators.ogm_ge import OGMGE
from agmbench.modulators.opm import OPM
from agmbench.modulators.pmr import PMR
from agmbench.modulators.reconboost import ReconBoost
from agmbench.modulators.umt import UMT
from agmbench.optimizers import make_optimizer, of_recipe
from agmbench.testing import NaiveModel


@dataclass
class Work:
    """One network at the shapes of a data set, and the target of each method (empty for none). With `epochs`, whole epochs are measured."""

    name: str
    encoder: Callable[[tuple[int, ...]], Encoder]
    shapes: Mapping[str, tuple[int, ...]]
    fusion: Callable[..., Fusion]
    batch: int
    classes: int
    targets: Mapping[str, str]
    epochs: bool = False


BATCHES = 8  # batches per epoch
EARLY_ON: Mapping[str, Mapping[str, object]] = {  # parameters for methods that do their work only later or in some epochs
    "g-blend": {"super_epoch": 1},
    "opm": {"starts": 0},
    "sample-level": {"warmup": 0},
}
TRAINED = {entry.name: entry for entry in registry.builtin().entries("modulator") if entry.load().promises.trains}
RESNETS = {"audio": (1, 112, 112), "image": (1, 28, 28)}
SEQUENCES = {"visual": (20, 371), "audio": (20, 81), "text": (20, 300)}
LATE = {"agm exact": "<= 2.1", "agm shared": "<= 1.15", "naive agm": ">= 2.8", "ogm": "<= 1.10", "ogm-ge": "<= 1.10"}
LATE |= dict.fromkeys(("mmpareto", "pmr", "opm", "mla", "reconboost", "umt"), "")
EARLY = {"agm exact": "<= 2.1", "agm shared": "<= 1.15", "naive agm": ">= 2.8"}
TEXT = {"agm exact": "<= 2.2", "agm shared": "<= 1.15", "naive agm": ">= 6"}
SAME = {"agm exact": "<= 1.1", "agm shared": "", "naive agm": ""}  # train mode and eval mode are the same pass
TWO = {m: SEQUENCES[m] for m in ("audio", "text")}


def undropped(shape: tuple[int, ...]) -> Encoder:
    return Transformer(shape, layers=2, width=256, dropout=0.0)


def conv(shape: tuple[int, ...]) -> Encoder:
    return Conv(shape, width=16, layers=3)


ALL = dict.fromkeys(TRAINED, "")


def frozen(shape: tuple[int, ...]) -> Encoder:
    return undropped(shape).requires_grad_(False)


WORKS = (
    Work("2 x ResNet18, late (AV-MNIST)", ResNet, RESNETS, Concat, 64, 10, LATE),
    Work("2 x ResNet18, early (AV-MNIST)", ResNet, RESNETS, Early, 64, 10, EARLY),
    Work("3 x Transformer, late (UR-FUNNY)", Transformer, SEQUENCES, Concat, 32, 2, TEXT),
    Work("2 x Transformer without dropout, late", undropped, TWO, Concat, 64, 2, SAME),
    Work("2 x frozen Transformer without dropout, late", frozen, TWO, Concat, 64, 2, SAME),
    Work(
        "2 x conv, late (avmnist-mini), epochs", conv, {"audio": (1, 32, 32), "image": (1, 28, 28)}, Concat, 64, 10, ALL, True
    ),
)
METHODS: Mapping[str, tuple[type[MultimodalModel], Callable[[tuple[str, ...]], Modulator]]] = {
    "joint": (MultimodalModel, Joint),
    "agm exact": (MultimodalModel, AGM),
    "agm shared": (MultimodalModel, lambda m: AGM(m, coalitions="shared")),
    "ogm": (MultimodalModel, OGM),
    "ogm-ge": (MultimodalModel, OGMGE),
    "naive agm": (NaiveModel, AGM),
    "mmpareto": (MultimodalModel, MMPareto),
    "pmr": (MultimodalModel, PMR),
    "opm": (MultimodalModel, lambda m: OPM(m, starts=0)),
    "mla": (MultimodalModel, MLA),
    "reconboost": (MultimodalModel, ReconBoost),
    "umt": (MultimodalModel, UMT),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--work", default="", help="only networks with this in their name")
    parser.add_argument("--csv", type=Path, help="keep the ratios of whole epochs here")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}; median of {chosen.rounds} rounds\n")
    print("| work | method | ratio to joint | target | met |\n|---|---|---:|---:|---|", flush=True)
    epochs: list[tuple[str, str]] = []
    for work in (work for work in WORKS if chosen.work in work.name):
        joint = stepper(work, "joint", device)
        for name, target in work.targets.items():
            ratio = compared(joint, stepper(work, name, device), chosen.rounds, device)
            print(f"| {work.name} | {name} | {ratio:.2f} | {target} | {met(ratio, target)} |", flush=True)
            epochs += [(name, f"{ratio:.2f}")] if work.epochs else []
    if chosen.csv is not None:
        with chosen.csv.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("method", "ratio"), *epochs])


def met(ratio: float, target: str) -> str:
    """Whether a ratio meets a target such as `<= 1.1` or `>= 2.8`, in a word; empty if there is no target."""
    sign, _, bound = target.partition(" ")
    return {"": "", "<=": "yes" if ratio <= float(bound or 0) else "NO", ">=": "yes" if ratio >= float(bound or 0) else "NO"}[
        sign
    ]


def compared(joint: Callable[[], None], method: Callable[[], None], rounds: int, device: torch.device) -> float:
    """The median ratio of a method's step to a step of joint training, after one round to warm up."""
    ratios = []
    for _ in range(rounds + 1):
        before, own, after = timed(joint, device), timed(method, device), timed(joint, device)
        ratios.append(2 * own / (before + after))
    return median(ratios[1:])


def stepper(work: Work, method: str, device: torch.device) -> Callable[[], None]:
    """A function that does one whole optimizer step of a method on a fixed batch, or one whole epoch if the work has `epochs`."""
    torch.manual_seed(0)
    kind, make = METHODS.get(method) or (MultimodalModel, registered(method))
    encoders = {m: work.encoder(shape) for m, shape in work.shapes.items()}
    fusion = work.fusion({m: encoder.out_features for m, encoder in encoders.items()}, work.classes)
    model = kind(encoders, fusion).to(device).train()
    count = work.batch * (BATCHES if work.epochs else 1)
    inputs = {m: torch.randn(count, *shape) for m, shape in work.shapes.items()}
    batch = Batch(inputs, torch.randint(work.classes, (count,)), torch.arange(count)).to(device)
    modulator = make(tuple(work.shapes))
    split = TensorSplit(batch.inputs, batch.targets)
    concepts = {
        m: MultimodalModel({m: encoder}, Concat({m: encoder.out_features}, work.classes)) for m, encoder in encoders.items()
    }
    teachers = {m: copy.deepcopy(concept).requires_grad_(False).eval() for m, concept in concepts.items()}
    drawn = torch.Generator(device).manual_seed(0)
    recipe, steps = Training(lr=1e-4), BATCHES if work.epochs else 1
    context = Context(
        epoch=1 if work.epochs else 0,
        epochs=2,
        steps_per_epoch=steps,
        splits=dict.fromkeys(SPLITS, split),
        generator=drawn,
        model=model,
        valid_accuracy=dict.fromkeys(work.shapes, 0.5),
        valid_loss=dict.fromkeys(work.shapes, 0.7),
        concepts=teachers,
        fresh=lambda tensors: of_recipe(recipe, tensors, recipe.lr),
    )
    modulator.prepare(context)
    modulator.to(device)
    optimizer = make_optimizer(recipe, model, modulator)
    if work.epochs:
        return partial(epoch, modulator, context, work.batch, optimizer)
    modulator.begin_epoch(context)

    def step() -> None:
        for _ in modulator.steps(model, [batch]):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def registered(name: str) -> Callable[[tuple[str, ...]], Modulator]:
    """The maker of a modulator of the registry, with its defaults and `EARLY_ON`."""
    entry = TRAINED[name]
    return lambda modalities: entry.load()(modalities, **{**entry.params, **EARLY_ON.get(name, {})})


def epoch(modulator: Modulator, context: Context, size: int, optimizer: torch.optim.Optimizer) -> None:
    """Train one epoch, without validation."""
    split, model = context.splits["train"], context.model
    modulator.begin_epoch(context)
    samples = modulator.samples(context)
    if samples is None:
        samples = torch.randperm(len(split))
    begun = 0
    for piece in samples.split(size):
        batch = replace(split.batch(piece.to(context.generator.device)), at=torch.arange(begun, begun + len(piece)))
        begun += len(piece)
        for _ in modulator.steps(model, [batch.to(context.generator.device)]):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def timed(step: Callable[[], None], device: torch.device) -> float:
    """The seconds of a step. With one thread on a CPU it is processor time, which does not depend on other users of the machine."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    for _ in range(20 if device.type == "cuda" else 1):  # a GPU's steps are short
        step()
    synchronize(device)
    return clock() - begun


def synchronize(device: torch.device) -> None:
    """Wait until a GPU, which works asynchronously, has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
