"""Plots and the report of a run. Only this file knows matplotlib."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jevo.data.datasets import SPLITS


def curves(path: Path, panels: Mapping[str, Mapping[str, tuple[Sequence, Sequence]]], x: str) -> None:
    """One panel beside another, each with named curves.

    Args:
        path: the PNG to write.
        panels: for each panel's y label, the curves by name: x values and y values (None where there is none).
        x: label of the x axis.
    """
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axes, (label, lines) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for i, (name, (xs, ys)) in enumerate(lines.items()):
            points = [(a, b) for a, b in zip(xs, ys, strict=True) if b is not None]
            # Few points are marked: a line alone would not show where they are.
            marker = "o" if len(points) < 30 else None
            axes.plot(
                *zip(*points, strict=True) if points else ([], []),
                label=name,
                color=f"C{i}",
                lw=1.3,
                marker=marker,
                ms=3,
            )
        axes.set(xlabel=x, ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def pictures(path: Path, images: np.ndarray, titles: Sequence[str], columns: int = 10) -> None:
    """Grey or colour pictures in a grid.

    Args:
        path: the PNG to write.
        images: `[n, height, width]` or `[n, height, width, 3]`, in 0..1.
        titles: one each.
        columns: pictures in a row.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.1 * columns, 1.3 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, title in zip(grid, images, titles, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=7)
    _save(figure, path)


def bars(path: Path, groups: Mapping[str, Mapping[str, float]], label: str) -> None:
    """Bars by name, the groups side by side, with their values on them."""
    names = list(next(iter(groups.values())))
    figure = Figure(figsize=(max(4, 1.6 * len(names)), 3.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(groups)
    for i, (group, values) in enumerate(groups.items()):
        drawn = axes.bar(np.arange(len(names)) + i * width, list(values.values()), width * 0.95, label=group)
        axes.bar_label(drawn, fmt="%.3f", fontsize=7)
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
    axes.set_ylabel(label)
    if len(groups) > 1:
        axes.legend()
    _save(figure, path)


def confusion(path: Path, truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> None:
    """The confusion matrix: rows are the true classes, columns the predicted ones, numbers are counts."""
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, predicted), 1)
    size = max(4, 0.55 * len(classes))
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, label="share of the true class")
    if len(classes) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
    axes.set_xticklabels(classes, rotation=90 if max(map(len, classes)) > 3 else 0)
    axes.set_yticklabels(classes)
    _save(figure, path)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The metrics of a run, of its control and of its references, as a Markdown table.

    Args:
        results: of one run, or of several that differ in their seed: then the median of each metric, and its range.
    """
    first = results[0]
    rows = {first["experiment"]: results, f"{first['control']['name']} (control)": [r["control"] for r in results]}
    rows |= {f"{name} (reference)": [r["references"][name] for r in results] for name in first["references"]}
    names = list(first["metrics"]["test"])
    head = ["", *(f"{split} {name}" for name in names for split in SPLITS), "evaluations", "gradient steps"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for title, entries in rows.items():
        cells = [_spread([entry["metrics"][split][name] for entry in entries]) for name in names for split in SPLITS]
        budget = entries[0]["budget"]
        cells += [f"{budget['evaluations']:,}", f"{budget['gradient_steps']:,}"]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):.4f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.4f}-{max(values):.4f})"


def report(result: Mapping[str, Any], command: str, figures: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The report of a run in Markdown.

    Args:
        result: what `result.json` holds.
        command: that made the run.
        figures: for each PNG's name, what it shows.
        notes: paragraphs between the table and the figures.
    """
    data, budget = result["data"], result["budget"]
    sizes = ", ".join(f"{data[split]:,} {split}" for split in SPLITS)
    parts = [
        f"# {result['experiment']}: {data['name']}, {result['preset']} preset, seed {result['seed']}",
        f"```\n{command}\n```",
        table([result]),
        f"Data: {sizes} examples{'; ' + data['note'] if data['note'] else ''}. The champion was chosen on validation "
        "data; the test set was used once, for the numbers above.",
        f"Device: {result['device']['kind']} x {result['device']['count']} ({result['device']['platform']}), precision "
        f"{result['precision']}; {budget['wall_s']:.1f} s of search, {budget['compile_s']:.1f} s of compiling.",
        *notes,
        *(f"![{text}]({name})\n\n{text}" for name, text in figures.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _save(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)
