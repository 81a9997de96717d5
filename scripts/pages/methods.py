"""Makes docs/methods.md: a table of all modulators of the registry."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from agmbench.contracts import Promises
from agmbench.parameters import parameters
from agmbench.registry import Entry, Registry
from pages.docstrings import described, prose

FAMILIES = {
    "baselines": "Baselines: a method that balances modalities should be better than these",
    "data": "Data: which samples are seen, and how",
    "feed-forward": "Feed-forward: what reaches the head, or how predictions are made",
    "objective": "Objective: further losses beside the joint one",
    "optimization": "Optimization: how gradients, weights and rates are changed",
}
HEAD = """# Methods

This page is made by `python scripts/write_methods.py` from the registry, the docstrings and two recorded runs; a test checks that it is up
to date. The pages of the [modulators](components/modulators/index.md) have the equations, the sources and each parameter.

- **needs**: `concepts` are the finished unimodal models, one for each modality. They are trained first if they are not there. A package is
  named by the extra that installs it.
- **refuses**: `absent modalities` means that the method lets each modality learn or predict by itself, and so refuses training samples that
  lack a modality (empty cells of a [table](your-data.md)). `weights` means that it has further losses, in which all samples count the same,
  and so refuses training samples that have weights.
- **cost**: the time of an epoch, as a ratio to joint training of the same model: two small convolutional networks under late fusion. There,
  work that is done once per step weighs more than with large encoders. Validation and the training of unimodal models are not included.
  If a method has a warm-up, or rounds between epochs, an epoch with these is measured. The figure is processor time, by
  `OMP_NUM_THREADS=1 python benchmarks/steps.py --device cpu --rounds 5 --work conv --csv benchmarks/epochs.csv`.
- **agreement**: the file in `tests/reference` with values recorded from official code, and the largest absolute difference of all numbers
  that its test compares (losses, coefficients, gradients, weights), by `python scripts/agreement.py`; otherwise the reason why there is
  none.

MMCosine is the fusion [`cosine`](components/fusions/cosine.md) with any of these (`cosine`: {cosine}).
"""
NOT_HERE = {
    "ARL (ICCV 2025)": """The released code computes its weights, prints them and never assigns them; its scaling of gradients multiplies
        a tensor by a tuple, which fails. So there is no rule that has run and could be followed.""",
    "MCR (NeurIPS 2025)": """The newest class for two modalities no longer adds the regulariser of the paper, an older one does, and the
        configurations name options that neither has. This has to be settled from the paper first.""",
    "AMCo (ICASSP 2023)": """There is no official code, and a third party's (BalanceBenchmark) trains another network than it tests.""",
    "Greedy (ICML 2022)": """It is bound to MMTM blocks between two convolutional networks, and needs a fusion of feature maps at every
        stage. There is no such fusion here.""",
    "AUG (NeurIPS 2025)": """Its heads grow during training, so the optimizer would have to be made again in the middle of a run.""",
}


def page(registry: Registry, costs: Mapping[str, str], agreement: Mapping[str, str]) -> str:
    """The whole page. `costs` are by method; `agreement` has the largest difference for each file of tests/reference."""
    entries = [entry for entry in registry.entries("modulator") if entry.origin == "built-in"]
    files = files_of([entry.name for entry in entries] + ["mmcosine"], agreement)
    head = HEAD.format(cosine=_files(files["mmcosine"], agreement))
    parts = [head.strip()]
    for family, title in FAMILIES.items():
        rows = [_row(entry, costs, files[entry.name], agreement) for entry in entries if entry.family == family]
        lines = [
            "| method | venue | needs | refuses | parameters | cost | agreement |",
            "|---|---|---|---|---|---:|---|",
            *rows,
        ]
        parts += [f"## {title}", "\n".join(lines)]
    absent = ["| method | why |", "|---|---|", *(f"| {name} | {prose(why)} |" for name, why in NOT_HERE.items())]
    return "\n\n".join([*parts, "## Not here", "\n".join(absent)]) + "\n"


def files_of(names: list[str], agreement: Mapping[str, str]) -> dict[str, list[str]]:
    """The recorded files of each method: those that begin with its name, and not with a longer name of another method."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for file in agreement:
        stems = [name for name in names if f"{file}_".startswith(f"{name.replace('-', '_')}_")]
        if stems:
            found[max(stems, key=len)].append(file)
    return found


def _row(entry: Entry, costs: Mapping[str, str], files: list[str], agreement: Mapping[str, str]) -> str:
    target, schema = entry.load(), parameters(entry)
    names = ", ".join(f"`{name}`" for name in schema.model_fields)
    cells = [
        f"[`{entry.name}`](components/modulators/{entry.name}.md)",
        prose(venue(entry.paper)),
        ", ".join(_needs(entry, target.needs_concepts)),
        "; ".join(filter(None, (prose(entry.refuses), *_not_promised(target.promises)))),
        names,
        costs.get(entry.name, "trains nothing" if not target.promises.trains else ""),
        _files(files, agreement) or _why_not(entry, described(target.__doc__, schema.model_fields).official),
    ]
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def _not_promised(promises: Promises) -> Iterator[str]:
    if not promises.absent:
        yield "absent modalities"
    if not promises.weights:
        yield "weights"


def _needs(entry: Entry, concepts: bool) -> Iterator[str]:
    if concepts:
        yield "concepts"
    if extra := re.search(r"agmbench\[\w+\]", entry.summary):
        yield f"`{extra[0]}`"


def venue(paper: str) -> str:
    """The last part of a reference that ends in a year: `CVPR 2022`."""
    found = re.findall(r"(?:^|, )([A-Z][\w ]*? (?:19|20)\d\d)(?=$|[,;])", paper)
    return found[0] if found else ""


def _files(files: list[str], agreement: Mapping[str, str]) -> str:
    return "<br>".join(f"`{file}` {agreement[file]}" for file in files)


def _why_not(entry: Entry, official: str) -> str:
    """Why there is no recorded file: the first sentence about official code, or that there is no paper."""
    if not official:
        return "no paper, nothing to agree with"
    return f"official code: {official[0].lower()}{official[1:]}".split(". ")[0].rstrip(".")


def read(path: Path) -> dict[str, str]:
    """A recorded table of two columns as a mapping, without its header."""
    with path.open(newline="", encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])
