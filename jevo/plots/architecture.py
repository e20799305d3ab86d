"""A network, layer by layer."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jevo.plots.drawing import LINE_LETTERS, save, wrapped
from jevo.plots.palette import BLUE
from jevo.plots.subjects import Layer

LETTERS = 18
"""In a line under a layer."""
COLUMN = 1.35
"""Inches that these take."""
LINE = 0.15
"""Inches from line to line."""
TALLEST = 1.6
"""Inches, of the tallest layer."""
PALE_BLUE, PALE_ORANGE, PALE_GREEN = "#AADAF4", "#F3CF7F", "#7FCEB9"
"""Images, vectors and the output; the palette's, lighter. Their forms tell them apart, too."""
SHEET = 0.05
"""Inches from sheet to sheet of a stack of channels."""


def network_diagram(path: Path, title: str, layers: Sequence[Layer]) -> None:
    """A network, layer by layer from left to right, as the PNG `path`.

    Images are stacks of sheets: their sides grow with the square root of those of the image, the number of sheets
    with the logarithm of the channels. Vectors are bars, as high as the logarithm of their units; up to 16 are
    told apart.
    """
    largest = max([32, *(side for layer in layers for side in layer.shape[:2] if len(layer.shape) > 1)])
    most = max([1024, *(math.prod(layer.shape) for layer in layers if len(layer.shape) < 2)])
    boxes = [_box(layer.shape, largest, most) for layer in layers]
    sizes = [(width + (sheets - 1) * SHEET, height + (sheets - 1) * SHEET) for width, height, sheets in boxes]
    cells = [max(COLUMN, width + 0.5) for width, _ in sizes]
    texts = [
        [wrapped(layer.name, LETTERS - 2), ["x".join(map(str, layer.shape or (1,)))], wrapped(layer.note, LETTERS)]
        for layer in layers
    ]
    width = max(sum(cells) + 0.2, 4.0)
    heading = wrapped(title, min(int(width / 0.1), LINE_LETTERS))
    below = LINE * max([3, *(sum(map(len, text)) for text in texts)]) + 0.35
    above = 0.24 * len(heading) + 0.3
    tallest = max([0.5, *(height for _, height in sizes)])
    figure = Figure((width, below + tallest + above))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, below + tallest + above))  # A unit is an inch.
    axes.axis("off")
    axes.text(width / 2, below + tallest + above - 0.15, "\n".join(heading), ha="center", va="top", fontsize=12)
    level, left, before = below + tallest / 2, (width - sum(cells)) / 2, None
    for i, (layer, box, size, cell, text) in enumerate(zip(layers, boxes, sizes, cells, texts, strict=True)):
        middle = left + cell / 2
        if before is not None:
            arrow = {"arrowstyle": "-|>", "color": "0.4", "lw": 1, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (middle - size[0] / 2 - 0.05, level), (before + 0.05, level), arrowprops=arrow)
        colour = "0.85" if i == 0 else PALE_GREEN if i == len(layers) - 1 else None
        _draw(axes, layer.shape, box, (middle - size[0] / 2, level - size[1] / 2), colour)
        top = below - 0.15
        for lines, colour, weight in zip(text, ("black", BLUE, "0.3"), ("bold", "normal", "normal"), strict=True):
            words = "\n".join(lines)
            axes.text(middle, top, words, ha="center", va="top", fontsize=8, color=colour, weight=weight)
            top -= LINE * len(lines)
        left, before = left + cell, middle + size[0] / 2
    save(figure, path)


def _box(shape: tuple[int, ...], largest: int, most: int) -> tuple[float, float, int]:
    """Width and height in inches, and the number of sheets."""
    if len(shape) < 2:
        return 0.24, 0.2 + (TALLEST - 0.2) * math.log(1 + math.prod(shape)) / math.log(1 + most), 1
    height, width = (max(0.12, TALLEST * math.sqrt(side / largest)) for side in shape[:2])
    return width, height, 1 + round(math.log2(max(1, math.prod(shape[2:]))))


def _draw(
    axes: Axes, shape: tuple[int, ...], box: tuple[float, float, int], corner: tuple[float, float], colour: str | None
) -> None:
    """The sheets of a layer from its lower left corner: the hindmost is up and to the left."""
    width, height, sheets = box
    x, y = corner
    fill = colour or (PALE_BLUE if len(shape) > 1 else PALE_ORANGE)
    for i in reversed(range(sheets)):
        at = (x + (sheets - 1 - i) * SHEET, y + i * SHEET)
        axes.add_patch(Rectangle(at, width, height, facecolor=fill, edgecolor="0.25", lw=0.7))
    units = math.prod(shape)
    if len(shape) < 2 and units <= 16:
        axes.hlines([y + height * i / units for i in range(1, units)], x, x + width, color="0.25", lw=0.7)
