"""Charts of a run: curves, fronts, a projection, estimates, a confusion matrix."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from jevo.plots.drawing import WIDTH, bare, caret, dots, fence, label, save, shortened
from jevo.plots.palette import BLACK, BLUE, GREY, PALETTE, style
from jevo.plots.subjects import Curve, Panel

COLUMNS = 3
"""Panels of curves in a row."""
STEPS = (1, 2, 2.5, 5, 10)
"""Between ticks, times a power of ten."""
TALL = 32
"""Letters that stand upright beside a panel."""
MARKED = 30
"""Points of a curve that are marked, at most: a line alone would not show where few are."""
POINTS, ROWS = 4000, 4
"""Examples and targets that a picture of estimates shows, at most."""
NAMED = 60
"""Classes of a confusion matrix that are named, at most."""


def curves(path: Path, panels: Sequence[Panel]) -> None:
    """Panels of curves, `COLUMNS` in a row, as the PNG `path`, with one legend below them: it covers nothing."""
    columns = min(COLUMNS, len(panels)) if len(panels) != 4 else 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 6.5, 3.1 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.axis("off")
    named: dict[str, Line2D | Patch] = {}
    notes: dict[str, Line2D | Patch] = {}
    for axes, panel in zip(grid, panels, strict=False):
        bare(axes)
        for curve in panel.curves:
            if curve.form != "dots":
                _draw(axes, curve)
        if _scatter(axes, [curve for curve in panel.curves if curve.form == "dots"], panel.log):
            beyond = "above" if panel.log else "below"
            notes[f"{beyond} the axis"] = Line2D([], [], ls="", color=GREY, marker=caret(panel.log))
        whole = all(isinstance(x, int) for curve in panel.curves for x in curve.x)
        axes.set(
            xlabel=panel.x, ylabel="\n".join(textwrap.wrap(panel.y, TALL)), yscale="log" if panel.log else "linear"
        )
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole, steps=STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS))  # Of a logarithmic axis others are set.
        named |= {curve.name: _in_legend(curve) for curve in panel.curves if curve.name not in named}
    if any(np.size(y) > 1 for panel in panels for curve in panel.curves for y in curve.y):
        notes["median and range of the seeds"] = Patch(color="0.85")
    _legend(figure, named | notes)
    save(figure, path)


def _scatter(axes: Axes, curves: Sequence[Curve], log: bool) -> bool:
    """Curves that are dots; returns whether some of them lie beyond the axis."""
    values = [np.asarray(curve.y, float) for curve in curves]
    if not sum(map(len, values)):
        return False
    worst, beyond = fence(np.concatenate(values), log), False
    for curve, y in reversed(list(zip(curves, values, strict=True))):
        beyond |= dots(axes, curve.x, y, worst, log, **_look(curve))
    return beyond


def _draw(axes: Axes, curve: Curve) -> None:
    """One curve that is no dots, as far as there is anything of it."""
    rows = [(x, np.ravel(y).astype(float)) for x, y in zip(curve.x, curve.y, strict=True)]  # None becomes NaN.
    rows = [(x, row) for x, row in rows if np.isfinite(row).any()]
    if not rows:
        return
    x, seeds = [x for x, _ in rows], np.stack([row for _, row in rows])
    y, look = np.nanmedian(seeds, axis=1), _look(curve)
    if curve.form == "level":
        axes.axhline(float(y[0]), **look)
    else:
        marked = curve.form == "line" and len(x) < MARKED
        axes.plot(x, y, **look, marker=curve.style.marker if marked else "", ms=1.2 + 2 * curve.style.width)
    if seeds.shape[1] > 1:
        low, high = np.nanmin(seeds, axis=1), np.nanmax(seeds, axis=1)
        axes.fill_between(x, low, high, color=curve.style.colour, alpha=0.18, lw=0)


def _look(curve: Curve) -> dict[str, Any]:
    colour, dashes, marker, width = curve.style
    if curve.form == "dots":
        return {"color": colour, "marker": marker, "ms": 4, "alpha": 0.6, "mew": 0}
    thin = curve.form == "thin"
    return {
        "color": colour,
        "ls": dashes,
        "lw": 0.8 if thin else width,
        "alpha": 0.6 if thin else 1.0,
        "drawstyle": "steps-post" if curve.form == "steps" else "default",
    }


def _in_legend(curve: Curve) -> Line2D:
    # Whoever has dots may have a line in another panel.
    return Line2D([], [], **{"ls": curve.style.line, **_look(curve), "drawstyle": "default"})


def _legend(figure: Figure, named: Mapping[str, Any]) -> None:
    """A legend below the axes, in as many columns as there is room for."""
    names = [label(name, 60) for name in named]

    def width(columns: int) -> float:
        """Inches, about, of which a line takes .75 and a letter .085."""
        parts = np.array_split([len(name) for name in names], columns)
        return sum(0.75 + 0.085 * int(part.max()) for part in parts)

    columns = next((n for n in range(len(names), 1, -1) if width(n) < figure.get_figwidth()), 1)
    figure.legend(
        list(named.values()), names, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2,
        columnspacing=1.5,
    )  # fmt: skip


def front(path: Path, fronts: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> None:
    """Fronts of two objectives by name, each its x values and y values, as marked points in steps: the experiment's
    own, its control's, and others."""
    figure = Figure(figsize=(6.5, 4.8), layout="constrained")
    axes = figure.subplots()
    bare(axes)
    named = {}
    for place, (name, (xs, ys)) in reversed(list(enumerate(fronts.items()))):
        order, (colour, dashes, marker, width) = np.argsort(xs), style(place)
        (named[name],) = axes.step(
            np.asarray(xs)[order], np.asarray(ys)[order], where="post", lw=width, ls=dashes, color=colour,
            marker=marker, ms=5,
        )  # fmt: skip
    axes.set(xlabel=x, ylabel=y)
    _legend(figure, dict(reversed(named.items())))
    save(figure, path)


def pca_projection(path: Path, features: np.ndarray, y: np.ndarray, classes: Sequence[str]) -> float:
    """Features `[n, features]`, standardised, on their two principal components, coloured by class; up to 20 classes
    are named where the median of their examples is.

    Returns:
        The share of the variance that these two hold.
    """
    from sklearn.decomposition import PCA  # takes a second to import
    from sklearn.preprocessing import StandardScaler

    pca = PCA(min(2, features.shape[1]))
    points = pca.fit_transform(StandardScaler().fit_transform(features))
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    bare(axes)
    for i, name in enumerate(classes):
        chosen, colour = points[y == i], PALETTE[i % len(PALETTE)]
        marker = "o^sD"[i // len(PALETTE) % 4]
        axes.scatter(chosen[:, 0], chosen[:, -1], s=12, alpha=0.5, lw=0, color=colour, marker=marker)
        if len(classes) <= 20 and len(chosen):  # A colour alone would not tell everybody which class it is.
            middle = np.median(chosen, axis=0)
            axes.annotate(
                shortened(name, 24), (middle[0], middle[-1]), ha="center", va="center", weight="bold",
                path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
    axes.set(xlabel="first principal component", ylabel="second principal component")
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
    figure = Figure(figsize=(WIDTH, 4 * count), layout="constrained")
    every = max(1, -(-len(truth) // POINTS))
    for i, (left, right) in enumerate(figure.subplots(count, 2, squeeze=False)):
        true, said, name = truth[::every, i], estimated[::every, i], label(names[i])
        ends = min(true.min(), said.min()), max(true.max(), said.max())
        bare(left)
        bare(right)
        left.plot(ends, ends, color=BLACK, lw=1, ls="--", label="estimate = truth", zorder=3)
        left.scatter(true, said, s=10, alpha=0.5, lw=0, color=BLUE)
        left.set(xlabel=f"true {name}", ylabel=f"estimated {name}")
        left.legend(fontsize=8)
        right.axhline(0.0, color=BLACK, lw=1, ls="--", zorder=3)
        right.scatter(said, said - true, s=10, alpha=0.5, lw=0, color=BLUE)
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
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= NAMED:
        names = [shortened(name, 24) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
    else:
        axes.set_title(f"{len(classes)} classes, by number", fontsize=9)
    save(figure, path)
