"""A population on its way: pictures of it, and the scores of all its members, generation by generation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from jevo.plots.drawing import WIDTH, bare, save
from jevo.plots.palette import style

GAP = "#B8D8EA"
"""Colour between the tiles of a picture, which are grey."""


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Images `[n, height, width]` in 0..1 as one, `columns` in a row; NaN between them."""
    count, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), np.nan)
    for i, image in enumerate(images):
        top, left = (1 + part * (size + 1) for part, size in zip(divmod(i, columns), (height, width), strict=True))
        sheet[top : top + height, left : left + width] = image
    return sheet


def snapshots(
    path: Path, pictures: Mapping[int, np.ndarray], scores: Mapping[str, np.ndarray], label: str, title: str
) -> None:
    """Pictures of a population in a row, each above its generation on the axis of its members' scores.

    Args:
        path: the PNG to write.
        pictures: by generation: the first one is 0, and each but the next is the double of the one before.
        scores: by name, of every member at every generation, `[generations + 1, members]`, in 0..1: the experiment's
            own, its control's, and perhaps others.
        label: what the scores are.
        title: over all.
    """
    marks, height, side = list(pictures), 5.5, 0.9 * WIDTH / len(pictures)
    figure = Figure((WIDTH, height))
    axes = figure.add_axes((0.065, 0.1, 0.925, (height - side - 1.45) / height))
    _cloud(axes, scores, label, marks, -0.1)
    for mark, picture in pictures.items():
        x, _ = figure.transFigure.inverted().transform(axes.transData.transform((mark, 0)))
        above = figure.add_axes((x - side / WIDTH / 2, 1 - (side + 0.7) / height, side / WIDTH, side / height))
        _show(above, picture)
        above.set_title(f"generation {mark:,}", fontsize=9, pad=3)
        axes.axvline(mark, color="0.8", lw=0.8, zorder=0)
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=10)
    save(figure, path)


def frame(
    path: Path, picture: np.ndarray, scores: Mapping[str, np.ndarray], label: str, title: str, marks: Sequence[int]
) -> None:
    """One picture of a film: a population, and beside it the scores so far, on an axis of generations with `marks`."""
    figure = Figure((7.2, 3.6))
    left, right = figure.add_axes((0.01, 0.03, 0.45, 0.9)), figure.add_axes((0.55, 0.2, 0.43, 0.72))
    _show(left, picture)
    left.set_title(title, fontsize=9, pad=3)
    _cloud(right, scores, label, marks, -0.18)
    save(figure, path, dpi=100)


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap=colormaps["gray"].with_extremes(bad=GAP), vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")


def _cloud(axes: Axes, scores: Mapping[str, np.ndarray], label: str, marks: Sequence[int], below: float) -> None:
    """A dot for every member, and a line through the medians. Where marks double they are as far apart as the first
    two, between which generations are even. The legend is so far below the axes, in parts of their height."""
    bare(axes)
    axes.set_xscale("symlog", base=2, linthresh=marks[1], linscale=0.5)
    axes.set(xlim=(-marks[1] / 2, marks[-1] * 2**0.5), ylim=(0, 1), xlabel="generation", ylabel=label)
    axes.xaxis.set_major_locator(FixedLocator(list(marks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for place, (name, values) in enumerate(scores.items()):
        colour, dashes, _, width = style(place)
        generations = np.repeat(np.arange(len(values)), values.shape[1])
        axes.plot(generations, values.ravel(), ls="", marker="o", ms=2.2, mew=0, alpha=0.12, color=colour, zorder=1)
        middle = np.median(values, axis=1)
        halo = [patheffects.withStroke(linewidth=width + 1.5, foreground="white")]
        axes.plot(middle, color=colour, ls=dashes, lw=width, label=f"{name}: median", zorder=2, path_effects=halo)
    axes.legend(
        loc="upper right", bbox_to_anchor=(1, below), ncols=2, frameon=False, fontsize=8, handlelength=2.8,
        columnspacing=1.2, borderaxespad=0,
    )  # fmt: skip
