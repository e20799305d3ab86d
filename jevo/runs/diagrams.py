"""Drawings of a search over hyperparameters: what its genes do to the score, a family, a network."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.path import Path as Curve
from matplotlib.ticker import MaxNLocator

from jevo.data.files import whole

PANELS = 16
"""Genes that `score_by_gene` draws at most."""
COLUMNS = 4
"""Panels of genes in a row."""
DISCRETE = 8
"""Numbers of up to so many distinct values are drawn as categories."""
BINS = 6
"""Groups of like size that more of them are put into, to tell what they explain."""
NAMED = 40
"""Families of up to so many have their members named."""

LETTERS = 18
"""In a line under a layer."""
COLUMN = 1.35
"""Inches that these take."""
LINE = 0.15
"""Inches from line to line."""
TALLEST = 1.6
"""Inches, of the tallest layer."""
SHEET = 0.05
"""Inches from sheet to sheet of a stack of channels."""


class Person(NamedTuple):
    """A genome of a search and where it came from.

    Attributes:
        number: its own, unlike any other's.
        generation: that it was born in.
        parents: their numbers; all of earlier generations.
        score: NaN or infinite where there is none.
        label: what else to write beside it, a few words or nothing.
    """

    number: int
    generation: int
    parents: tuple[int, ...]
    score: float
    label: str


class Layer(NamedTuple):
    """A layer as it is drawn.

    Attributes:
        name: such as "conv 5x5".
        shape: of what comes out of it for one example: `[height, width, channels]` or `[units]`.
        note: such as "stride 2, same, relu"; broken into lines at its commas.
    """

    name: str
    shape: tuple[int, ...]
    note: str


def score_by_gene(path: Path, genes: Mapping[str, Sequence[Any]], scores: Sequence[float], label: str) -> None:
    """The score against every gene: a panel for each, a point for each genome, as the PNG `path`.

    Words and few numbers are categories, whose medians are marked; many numbers have an axis of numbers.

    Args:
        path: the PNG to write.
        genes: by name, the value of each genome: a number, a truth value or a word; None where it lacks this gene.
        scores: one for each genome; those that are not finite are left out.
        label: what the scores are.
    """
    names = telling_genes(genes, scores)
    columns = max(1, min(COLUMNS, len(names)))
    height = max(1, -(-len(names) // columns))
    # A lone panel would have no room for the label.
    figure = Figure(figsize=(max(4.5, 3.1 * columns + 0.4), 2.5 * height + 0.3), layout="constrained")
    grid = figure.subplots(height, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(names) :]:
        axes.axis("off")
    if not names:
        grid[0].text(0.5, 0.5, "no gene with two values\nand scores to draw", ha="center", va="center")
    else:
        figure.supylabel(label, fontsize=10)
    generator = np.random.default_rng(0)
    for axes, name in zip(grid, names, strict=False):
        axes.tick_params(labelsize=8)
        _score_panel(axes, *_present(genes[name], scores), generator)
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.3)
    _save(figure, path)


def telling_genes(genes: Mapping[str, Sequence[Any]], scores: Sequence[float], count: int = PANELS) -> list[str]:
    """The genes of more than one value, or the `count` of them that explain the most of the scores, in their order."""
    varied = [name for name, values in genes.items() if len(np.unique(_present(values, scores)[0])) > 1]
    best = sorted(varied, key=lambda name: explained(genes[name], scores), reverse=True)[:count]
    return [name for name in varied if name in best]


def explained(values: Sequence[Any], scores: Sequence[float]) -> float:
    """The share of the variance of the ranks of the scores that lies between the values of a gene.

    Ranks, for a score that is far off shall not decide. Many numbers are put into `BINS`, which unlike a correlation
    sees that the middle is best. The share is adjusted for what chance explains, by which many categories would win,
    and may be below 0 for that; and it is reduced by the share of the genomes that lack the gene.
    """
    xs, ys = _present(values, scores)
    if _continuous(xs):
        xs = np.floor((_ranks(xs) - 1) * BINS / len(xs))
    ranks = _ranks(ys)
    groups = [ranks[xs == value] for value in np.unique(xs)]
    if len(groups) in (0, len(xs)) or np.ptp(ranks) == 0:
        return 0.0
    share = 1 - sum(np.square(group - group.mean()).sum() for group in groups) / np.square(ranks - ranks.mean()).sum()
    adjusted = 1 - (1 - share) * (len(xs) - 1) / (len(xs) - len(groups))
    return float(adjusted * len(xs) / np.isfinite(np.asarray(scores, float)).sum())


def _present(values: Sequence[Any], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Values (numbers, truth values or words) and scores of the genomes that have both."""
    known = [
        (value if isinstance(value, bool | int | float | np.generic) else str(value), score)
        for value, score in zip(values, np.asarray(scores, float), strict=True)
        if np.isfinite(score) and value is not None and not (_number(value) and not np.isfinite(value))
    ]
    return np.asarray([value for value, _ in known]), np.asarray([score for _, score in known])


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def _continuous(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf" and len(np.unique(values)) > DISCRETE


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equals share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _score_panel(axes: Axes, values: np.ndarray, scores: np.ndarray, generator: np.random.Generator) -> None:
    style = {"s": 12, "alpha": 0.5, "lw": 0, "color": "C0", "zorder": 3}
    if _continuous(values):
        axes.scatter(values, scores, **style)
        if values.min() > 0 and values.max() / values.min() > 50:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=values.dtype.kind in "iu"))
        return
    categories, places = np.unique(values, return_inverse=True)
    axes.scatter(places + generator.uniform(-0.2, 0.2, len(places)), scores, **style)
    medians = [np.median(scores[places == i]) for i in range(len(categories))]
    at = np.arange(len(categories))
    axes.hlines(medians, at - 0.32, at + 0.32, color="C3", lw=2)
    names = [f"{value:g}" if categories.dtype.kind == "f" else str(value) for value in categories]
    names = [name if len(name) <= 16 else f"{name[:14]}..." for name in names]
    # About 28 letters stand side by side under a panel, each word in as much room as the longest; 180 points upright.
    upright = max(map(len, names)) * len(names) > 28
    axes.set_xticks(at, names, rotation=90 if upright else 0, fontsize=max(1.0, min(8.0, 180 / len(names))))
    axes.set_xlim(-0.6, len(categories) - 0.4)


def ancestors(people: Sequence[Person], chosen: int) -> set[int]:
    """The numbers of all that `chosen` descends from, as far as they are among the people.

    Raises:
        KeyError: when `chosen` is not.
    """
    known = {person.number: person for person in people}
    found: set[int] = set()
    rest = [known[chosen]]
    while rest:
        new = {number for person in rest for number in person.parents if number in known} - found
        found |= new
        rest = [known[number] for number in new]
    return found


def family(path: Path, people: Sequence[Person], chosen: int) -> None:
    """The ancestors of `chosen`, the oldest at the top, coloured by their scores, as the PNG `path`.

    A row is a generation that one of them was born in. Up to `NAMED` have number, score and label beside them.

    Raises:
        KeyError: when `chosen` is not among the people.
    """
    numbers = ancestors(people, chosen) | {chosen}
    members = {person.number: person for person in people if person.number in numbers}
    generations = sorted({person.generation for person in members.values()})
    across = family_places(list(members.values()))
    places = {n: (across[n], generations.index(person.generation)) for n, person in members.items()}
    widest = max(sum(person.generation == generation for person in members.values()) for generation in generations)
    named = len(members) <= NAMED
    words = {n: _wrapped(person.label, 14)[:2] if named else [] for n, person in members.items()}
    lines = max(map(len, words.values()))
    cell, row = (1.25, 0.62 + 0.11 * lines) if named else (0.25, 0.45)
    width = min(max(cell * widest, 3.5 if named else 5.0), 40.0 if named else 14.0)
    height = min(max(row * len(generations), 2.0), 30.0)
    figure = Figure((width + 1.5, height + 0.6), layout="constrained")
    axes = figure.subplots()
    unit = 1 / widest
    edges = [(places[n], places[p]) for n, person in members.items() for p in set(person.parents) if p in places]
    curves = [_edge(*edge, bow=unit / 2) for edge in edges]
    axes.add_collection(PathCollection(curves, facecolors="none", edgecolors="0.6", linewidths=0.7, zorder=1))
    scores = np.asarray([person.score for person in members.values()], float)
    finite = scores[np.isfinite(scores)]
    points = axes.scatter(
        *np.asarray([places[n] for n in members]).T,
        c=np.where(np.isfinite(scores), scores, np.nan),
        cmap=colormaps["viridis"].with_extremes(bad="0.8"),
        vmin=finite.min() if len(finite) else 0,
        vmax=finite.max() if len(finite) else 1,
        s=130 if named else 45,
        edgecolors=["red" if n == chosen else "0.3" for n in members],
        linewidths=[2.5 if n == chosen else 0.5 for n in members],
        plotnonfinite=True,
        zorder=2,
    )
    if named:
        for n, person in members.items():
            text = "\n".join([f"#{n}", f"{person.score:.4g}", *words[n]])
            box = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5}
            drawn = axes.annotate(text, places[n], (9, 0), textcoords="offset points", va="center", fontsize=6.5)
            drawn.set_bbox(box)
    axes.set(xlim=(0, 1 + 0.3 * unit * named), ylim=(len(generations) - 0.5, -0.5), xticks=[], ylabel="generation")
    shown = range(0, len(generations), -(-len(generations) // 40))
    axes.set_yticks(shown, [str(generations[i]) for i in shown])
    axes.set_title(f"ancestors of #{chosen} (score {members[chosen].score:.4g}): {len(members) - 1}", fontsize=10)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.colorbar(points, ax=axes, label="score", fraction=0.2 / width, aspect=height / 0.2)  # 0.2 inches wide
    _save(figure, path)


def family_places(members: Sequence[Person]) -> dict[int, float]:
    """By number, where in 0..1 each stands in its generation: evenly spread, in the order of the mean of its children.

    From the last generation upwards, which leaves few crossings.
    """
    rows: defaultdict[int, list[Person]] = defaultdict(list)
    for person in members:
        rows[person.generation].append(person)
    below: defaultdict[int, list[float]] = defaultdict(list)
    places: dict[int, float] = {}
    for generation in sorted(rows, reverse=True):
        row = sorted(rows[generation], key=lambda person: (np.mean(below[person.number] or [0.5]), person.number))
        for i, person in enumerate(row):
            places[person.number] = (i + 0.5) / len(row)
            for parent in person.parents:
                below[parent].append(places[person.number])
    return places


def _edge(child: tuple[float, float], parent: tuple[float, float], bow: float) -> Curve:
    """From child to parent. Around the rows between them, where others may stand."""
    (x, y), (x2, y2) = child, parent
    aside = bow * (abs(y - y2) > 1) * (1 if x + x2 > 1 else -1)
    middle = (y + y2) / 2
    return Curve([(x, y), (x + aside, middle), (x2 + aside, middle), (x2, y2)], [1, 4, 4, 4])


def network(path: Path, title: str, layers: Sequence[Layer]) -> None:
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
        [_wrapped(layer.name, LETTERS - 2), ["x".join(map(str, layer.shape or (1,)))], _wrapped(layer.note)]
        for layer in layers
    ]
    width = max(sum(cells) + 0.2, 4.0)
    heading = textwrap.wrap(title, int(width / 0.1))
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
        colour = "0.85" if i == 0 else "#a8d5a2" if i == len(layers) - 1 else None
        _draw(axes, layer.shape, box, (middle - size[0] / 2, level - size[1] / 2), colour)
        top = below - 0.15
        for lines, colour, weight in zip(text, ("black", "C0", "0.3"), ("bold", "normal", "normal"), strict=True):
            words = "\n".join(lines)
            axes.text(middle, top, words, ha="center", va="top", fontsize=8, color=colour, weight=weight)
            top -= LINE * len(lines)
        left, before = left + cell, middle + size[0] / 2
    _save(figure, path)


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
    fill = colour or ("#9ecae1" if len(shape) > 1 else "#fdd0a2")
    for i in reversed(range(sheets)):
        at = (x + (sheets - 1 - i) * SHEET, y + i * SHEET)
        axes.add_patch(Rectangle(at, width, height, facecolor=fill, edgecolor="0.25", lw=0.7))
    units = math.prod(shape)
    if len(shape) < 2 and units <= 16:
        axes.hlines([y + height * i / units for i in range(1, units)], x, x + width, color="0.25", lw=0.7)


def _wrapped(text: str, letters: int = LETTERS) -> list[str]:
    """Lines of at most so many letters, broken between parts rather than within one: "dropout .1" stays together."""
    parts = [part if len(part) >= letters else part.replace(" ", "\xa0") for part in text.split(", ")]
    return textwrap.wrap(", ".join(parts), letters, break_on_hyphens=False)


def _save(figure: Figure, path: Path) -> None:
    with whole(path) as file:
        figure.savefig(file, dpi=110, format="png")
