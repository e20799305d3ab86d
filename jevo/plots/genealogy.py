"""Who descends from whom in a search."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.path import Path as Curve

from jevo.plots.drawing import fence, save, wrapped
from jevo.plots.palette import VERMILION
from jevo.plots.subjects import Individual

NAMED = 40
"""Families of up to so many have their members named."""
LETTERS, LINES = 20, 4
"""Of a member's label: letters in a line, and lines, at most."""


def ancestors(individuals: Sequence[Individual], chosen: int) -> set[int]:
    """The numbers of all that `chosen` descends from, as far as they are among the individuals.

    Raises:
        KeyError: when `chosen` is not.
    """
    known = {one.number: one for one in individuals}
    found: set[int] = set()
    rest = [known[chosen]]
    while rest:
        new = {number for one in rest for number in one.parents if number in known} - found
        found |= new
        rest = [known[number] for number in new]
    return found


def family_tree(
    path: Path, individuals: Sequence[Individual], chosen: int, score: str = "score", log: bool = False
) -> None:
    """The ancestors of `chosen`, the oldest at the top, coloured by their scores, as the PNG `path`.

    A row is a generation that one of them was born in. Up to `NAMED` have number, score and label beside them; the
    ring is around `chosen`.

    Args:
        path: the PNG to write.
        individuals: of whom some are its ancestors.
        chosen: the number of one.
        score: what the scores are.
        log: whether they are losses, all above 0, which are coloured by their logarithms: the least is best.

    Raises:
        KeyError: when `chosen` is not among the individuals.
    """
    numbers = ancestors(individuals, chosen) | {chosen}
    members = {one.number: one for one in individuals if one.number in numbers}
    generations = sorted({one.generation for one in members.values()})
    across = positions(list(members.values()))
    places = {n: (across[n], generations.index(one.generation)) for n, one in members.items()}
    widest = max(sum(one.generation == generation for one in members.values()) for generation in generations)
    named = len(members) <= NAMED
    words = {n: wrapped(one.label, LETTERS)[:LINES] if named else [] for n, one in members.items()}
    lines = max(map(len, words.values()))
    cell, row = (1.6, 0.62 + 0.11 * lines) if named else (0.25, 0.45)
    width = min(max(cell * widest, 3.5 if named else 5.0), 40.0 if named else 14.0)
    height = min(max(row * len(generations), 2.0), 30.0)
    figure = Figure((width + 1.5, height + 0.6), layout="constrained")
    axes = figure.subplots()
    unit = 1 / widest
    edges = [(places[n], places[p]) for n, one in members.items() for p in set(one.parents) if p in places]
    curves = [_edge(*edge, bow=unit / 2) for edge in edges]
    axes.add_collection(PathCollection(curves, facecolors="none", edgecolors="0.6", linewidths=0.7, zorder=1))
    scores = np.asarray([one.score for one in members.values()], float)
    norm, extend = _colours(scores[np.isfinite(scores)], log)
    points = axes.scatter(
        *np.asarray([places[n] for n in members]).T,
        c=np.where(np.isfinite(scores), scores, np.nan),
        cmap=colormaps["viridis_r" if log else "viridis"].with_extremes(bad="0.8"),
        norm=norm,
        s=130 if named else 45,
        edgecolors=[VERMILION if n == chosen else "0.3" for n in members],
        linewidths=[2.5 if n == chosen else 0.5 for n in members],
        plotnonfinite=True,
        zorder=2,
    )
    if named:
        for n, one in members.items():
            text = "\n".join([f"#{n}", f"{one.score:.4g}", *words[n]])
            box = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5}
            drawn = axes.annotate(text, places[n], (9, 0), textcoords="offset points", va="center", fontsize=6.5)
            drawn.set_bbox(box)
    axes.set(xlim=(0, 1 + 0.3 * unit * named), ylim=(len(generations) - 0.5, -0.5), xticks=[], ylabel="generation")
    shown = range(0, len(generations), -(-len(generations) // 40))
    axes.set_yticks(shown, [str(generations[i]) for i in shown])
    axes.set_title(f"ancestors of #{chosen} ({score} {members[chosen].score:.4g}): {len(members) - 1}", fontsize=10)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.colorbar(
        points, ax=axes, label=score, fraction=0.2 / width, aspect=height / 0.2, extend=extend
    )  # 0.2 inches wide
    save(figure, path)


def _colours(scores: np.ndarray, log: bool) -> tuple[Normalize, Literal["neither", "min", "max"]]:
    """How scores become colours, of which the brightest is best: those far worse than most share the darkest."""
    if not len(scores):
        return Normalize(0, 1), "neither"
    low, high, worst = scores.min(), scores.max(), fence(scores, log)
    if log:
        return LogNorm(low, min(high, worst)), "max" if high > worst else "neither"
    return Normalize(max(low, worst), high), "min" if low < worst else "neither"


def positions(members: Sequence[Individual]) -> dict[int, float]:
    """By number, where in 0..1 each stands in its generation: evenly spread, in the order of the mean of its children.

    From the last generation upwards, which leaves few crossings.
    """
    rows: defaultdict[int, list[Individual]] = defaultdict(list)
    for one in members:
        rows[one.generation].append(one)
    below: defaultdict[int, list[float]] = defaultdict(list)
    places: dict[int, float] = {}
    for generation in sorted(rows, reverse=True):
        row = sorted(rows[generation], key=lambda one: (np.mean(below[one.number] or [0.5]), one.number))
        for i, one in enumerate(row):
            places[one.number] = (i + 0.5) / len(row)
            for parent in one.parents:
                below[parent].append(places[one.number])
    return places


def _edge(child: tuple[float, float], parent: tuple[float, float], bow: float) -> Curve:
    """From child to parent. Around the rows between them, where others may stand."""
    (x, y), (x2, y2) = child, parent
    aside = bow * (abs(y - y2) > 1) * (1 if x + x2 > 1 else -1)
    middle = (y + y2) / 2
    return Curve([(x, y), (x + aside, middle), (x2 + aside, middle), (x2, y2)], [1, 4, 4, 4])
