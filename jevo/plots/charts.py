"""Charts of a run: curves, bars, a projection, a confusion matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jevo.plots.drawing import label, save, shortened

COLUMNS = 3
"""Panels of curves in a row."""
DISTINCT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Colours that those who see fewer tell apart, too (Okabe and Ito, "Color universal design", 2008)."""
POINTS, ROWS = 4000, 4
"""Examples and targets that a picture of estimates shows, at most."""
NAMED = 60
"""Classes of a confusion matrix that are named, at most."""


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
    save(figure, path)


def front(path: Path, fronts: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> None:
    """Fronts of two objectives by name, each its x values and y values, as marked points in steps."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for i, (name, (xs, ys)) in enumerate(fronts.items()):
        order = np.argsort(xs)
        axes.step(
            np.asarray(xs)[order], np.asarray(ys)[order], where="post", lw=1, ms=5,
            color=DISTINCT[i % len(DISTINCT)], marker="osD^"[i % 4], label=label(name),
        )  # fmt: skip
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def bars(path: Path, groups: Mapping[str, Mapping[str, float]], y: str) -> None:
    """Bars by name, the groups side by side, with their values on them."""
    names = list(next(iter(groups.values())))
    figure = Figure(figsize=(max(4, 1.6 * len(names)), 3.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(groups)
    for i, (group, values) in enumerate(groups.items()):
        drawn = axes.bar(np.arange(len(names)) + i * width, list(values.values()), width * 0.95, label=group)
        axes.bar_label(drawn, fmt="%.3f", fontsize=7)
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, [shortened(name, 24) for name in names])
    axes.set_ylabel(y)
    if len(groups) > 1:
        axes.legend()
    save(figure, path)


def pca_projection(path: Path, features: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> float:
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
        axes.scatter(chosen[:, 0], chosen[:, -1], s=10, alpha=0.6, lw=0, color=f"C{i % 10}", label=label(name))
    axes.set(xlabel="first component", ylabel="second component")
    if len(classes) <= 20:
        axes.legend(markerscale=3, fontsize=8)
    save(figure, path)
    return float(pca.explained_variance_ratio_.sum())


def estimates(path: Path, truth: np.ndarray, estimated: np.ndarray, names: Sequence[str]) -> None:
    """What a regression says: on the left estimates against true values, on the right their residuals.

    Args:
        path: of the PNG.
        truth: `[n, targets]`, in units of the targets. At most `POINTS` examples are drawn, evenly spaced, and the
            first `ROWS` targets.
        estimated: the same, as estimated.
        names: of the targets.
    """
    count = min(len(names), ROWS)
    figure = Figure(figsize=(9, 4 * count), layout="constrained")
    every = max(1, -(-len(truth) // POINTS))
    for i, (left, right) in enumerate(figure.subplots(count, 2, squeeze=False)):
        true, said, name = truth[::every, i], estimated[::every, i], label(names[i])
        ends = min(true.min(), said.min()), max(true.max(), said.max())
        left.plot(ends, ends, color="0.6", lw=1, label="estimate = truth")
        left.scatter(true, said, s=10, alpha=0.5, lw=0)
        left.set(xlabel=f"true {name}", ylabel=f"estimated {name}")
        left.legend(fontsize=8)
        right.axhline(0.0, color="0.6", lw=1)
        right.scatter(said, said - true, s=10, alpha=0.5, lw=0)
        right.set(xlabel=f"estimated {name}", ylabel="residual: estimate less truth")
    save(figure, path)


def confusion_matrix(path: Path, truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> None:
    """The confusion matrix: rows are the true classes, columns the predicted ones, numbers are counts."""
    from sklearn.metrics import confusion_matrix as count  # takes a second to import

    counts = count(truth, predicted, labels=range(len(classes)))
    size = min(max(4, 0.55 * len(classes)), 16)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, label="share of the true class")
    if len(classes) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= NAMED:
        names = [shortened(name, 24) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
    else:
        axes.set_title(f"{len(classes)} classes, by number", fontsize=9)
    save(figure, path)
