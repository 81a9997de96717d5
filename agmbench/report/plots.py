"""The plots of one run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from agmbench.records import Point
from agmbench.report.style import any_script, drawn

Series = Mapping[str, tuple[list[int], list[float]]]


@drawn
def save(
    folder: Path,
    history: Sequence[Point],
    modalities: Sequence[str],
    title: str,
    class_names: Sequence[str],
    confusion: tuple[np.ndarray, np.ndarray] | None,
    best: int | None = None,
) -> None:
    """Write `curves.png`, `modalities.png` and, given classes and predicted classes, `confusion.png` into `folder`, which is created.

    `title` is plain text with the job and its departures from the published recipe. `best` is the chosen epoch, which is marked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = _series(history)
    figures = {"curves": _curves(series), "modalities": _modalities(series, modalities)}
    if best is not None:
        _mark_chosen(best, [axes for figure in figures.values() for axes in figure.axes if axes.get_xlabel() == "epoch"])
    if confusion is not None:
        figures["confusion"] = _confusion(*confusion, class_names)
    with any_script():  # names of classes may be in any script
        for name, figure in figures.items():
            figure.suptitle("\n".join(wrap(title, width=90)), fontsize="small")
            figure.savefig(folder / f"{name}.png")


def _series(history: Sequence[Point]) -> Series:
    series: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for name, value, step in history:
        series[name][0].append(step)
        series[name][1].append(value)
    return series


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5 * panels, 3.5), dpi=100, layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, panels)))


def _curves(series: Series) -> Figure:
    figure, (loss, accuracy) = _figure(2)
    _draw_lines(loss, series, {"train": "train/loss", "valid": "valid/loss"}, "epoch", "loss")
    name = _name(series)
    _draw_lines(accuracy, series, {"train": f"train/{name}", "valid": f"valid/{name}"}, "epoch", name)
    return figure


def _modalities(series: Series, modalities: Sequence[str]) -> Figure:
    """The accuracy of each response over epochs and, if the method has one, the coefficient of each modality over steps."""
    modulated = any(f"kappa/{modality}" in series for modality in modalities)
    figure, axes = _figure(2 if modulated else 1)
    name = _name(series)
    response = "response" if name == "accuracy" else f"response-{name}"
    responses = {modality: f"valid/{response}/{modality}" for modality in modalities}
    _draw_lines(axes[0], series, {"all": f"valid/{name}", **responses}, "epoch", f"{name} of responses on valid")
    if modulated:
        _draw_lines(axes[1], series, {modality: f"kappa/{modality}" for modality in modalities}, "step", "kappa")
        axes[1].axhline(1, color="gray", linewidth=0.5)
    return figure


def _mark_chosen(best: int, panels: Sequence[Axes]) -> None:
    for axes in panels:
        axes.axvline(best, color="black", linewidth=0.8, linestyle="--", label="chosen")
        axes.legend()


def _name(series: Series) -> str:
    """The figure of the task: accuracy, or R2 for regression."""
    return "accuracy" if "valid/accuracy" in series else "r2"


def _draw_lines(axes: Axes, series: Series, names: Mapping[str, str], x: str, y: str) -> None:
    for label, name in names.items():
        if name in series:
            steps, values = series[name]
            axes.plot(steps, values, label=label, linewidth=1, marker="." if len(steps) < 30 else None)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _confusion(targets: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> Figure:
    counts = np.zeros((len(class_names), len(class_names)), dtype=int)
    np.add.at(counts, (targets, predicted), 1)  # scikit-learn's confusion_matrix takes a second to import
    figure = Figure(figsize=(5, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(counts, cmap="Blues")
    figure.colorbar(image, ax=axes, label="samples")
    axes.set_xlabel("predicted on test")
    axes.set_ylabel("class")
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=0 if max(map(len, class_names)) < 4 else 90)
    axes.set_yticks(ticks, class_names)
    if len(class_names) <= 12:
        _write_numbers(axes, counts)
    return figure


def _write_numbers(axes: Axes, counts: np.ndarray) -> None:
    """Write each number into its square, in white on dark squares."""
    for row, column in np.ndindex(counts.shape):
        dark = counts[row, column] > counts.max() / 2
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color="white" if dark else "black", size=8)
