"""Plots and the report of a run. Only this file and diagrams.py know matplotlib."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jevo.data.datasets import SPLITS
from jevo.data.files import whole

COLUMNS = 3
"""Panels of curves in a row."""


class Panel(NamedTuple):
    """Named curves over one pair of axes.

    Attributes:
        x, y: labels of the axes.
        curves: by name, x values and y values. A y value is a number, or a list with one number a seed, of which the
            median is drawn in a band from the least to the greatest; None where there is none.
        log: whether the y axis is logarithmic.
    """

    x: str
    y: str
    curves: Mapping[str, tuple[Sequence, Sequence]]
    log: bool = False


def curves(path: Path, panels: Sequence[Panel]) -> None:
    """Panels of curves, `COLUMNS` in a row, as the PNG `path`."""
    columns = min(COLUMNS, len(panels))
    height = -(-len(panels) // columns)
    figure = Figure(figsize=(5.5 * columns, 4 * height), layout="constrained")
    grid = figure.subplots(height, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.axis("off")
    for axes, panel in zip(grid, panels, strict=False):
        for i, (name, (xs, ys)) in enumerate(panel.curves.items()):
            rows = [(x, np.ravel(y).astype(float)) for x, y in zip(xs, ys, strict=True)]  # None becomes NaN.
            rows = [(x, row) for x, row in rows if np.isfinite(row).any()]
            if not rows:
                axes.plot([], label=name, color=f"C{i}")
                continue
            x, seeds = [x for x, _ in rows], np.stack([row for _, row in rows])
            # Few points are marked: a line alone would not show where they are.
            marker = "o" if len(x) < 30 else None
            axes.plot(x, np.nanmedian(seeds, axis=1), label=name, color=f"C{i}", lw=1.3, marker=marker, ms=3)
            if seeds.shape[1] > 1:
                low, high = np.nanmin(seeds, axis=1), np.nanmax(seeds, axis=1)
                axes.fill_between(x, low, high, color=f"C{i}", alpha=0.2, lw=0)
        counted = all(isinstance(x, int) for xs, _ in panel.curves.values() for x in xs)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=counted))
        axes.set(xlabel=panel.x, ylabel=panel.y, yscale="log" if panel.log else "linear")
        if not panel.log:
            axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(alpha=0.3, which="both")
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


def sheet(path: Path, rows: Sequence[tuple[str, np.ndarray]]) -> None:
    """Rows of pictures one above another, each with its name.

    Args:
        path: the PNG to write.
        rows: name and images `[n, height, width, channels]`, as many in each; what is outside 0..1 is cut.
    """
    columns = len(rows[0][1])
    figure = Figure(figsize=(0.9 * columns + 1.2, 0.95 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(grid, rows, strict=True):
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8)
        for axes, image in zip(line, images, strict=True):
            axes.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for axes in grid.ravel():
        axes.axis("off")
    _save(figure, path)


def projection(path: Path, features: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> float:
    """Features `[n, features]`, standardised, on their two principal components, coloured by class.

    Returns:
        The share of the variance that these two hold.
    """
    from sklearn.decomposition import PCA  # takes a second to import
    from sklearn.preprocessing import StandardScaler

    pca = PCA(min(2, features.shape[1]))
    points = pca.fit_transform(StandardScaler().fit_transform(features))
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(classes):
        chosen = points[y == i]
        axes.scatter(chosen[:, 0], chosen[:, -1], s=10, alpha=0.6, lw=0, color=f"C{i % 10}", label=name)
    axes.set(xlabel="first component", ylabel="second component")
    if len(classes) <= 20:
        axes.legend(markerscale=3, fontsize=8)
    _save(figure, path)
    return float(pca.explained_variance_ratio_.sum())


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
        results: of one run, or of several that differ in their seed. Of several seeds, in whichever way, it gives
            the median of each metric, and its range.
    """
    results = [seed for result in results for seed in by_seed(result)]
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


def by_seed(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A result for each seed of a run, with the metrics of that seed."""
    if "repeats" not in result:
        return [dict(result)]
    shared = {name: value for name, value in result.items() if name != "repeats"}
    return [
        {
            **shared,
            "seed": one["seed"],
            "metrics": one["metrics"],
            "control": {**result["control"], **one["control"]},
            "references": {name: {**entry, **one["references"][name]} for name, entry in result["references"].items()},
        }
        for one in result["repeats"]
    ]


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
    seeds = [one["seed"] for one in by_seed(result)]
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}, median (range)"
    parts = [
        f"# {result['experiment']}: {data['name']}, {result['preset']} preset, {which}",
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
    with whole(path) as file:
        figure.savefig(file, dpi=110, format="png")
