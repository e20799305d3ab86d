"""What the genes of a search do to its score."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from jevo.plots.drawing import WIDTH, bare, caret, dots, fence, log_ticks, number, save, shortened, worse
from jevo.plots.palette import BLACK, BLUE

PANELS = 16
"""Genes that `score_by_gene` draws at most."""
COLUMNS = 4
"""Panels of genes in a row."""
DISCRETE = 8
"""Numbers of up to so many distinct values are drawn as categories."""
DOT: dict[str, Any] = {"marker": "o", "ms": 4, "alpha": 0.5, "mew": 0, "color": BLUE}
"""How a genome looks."""
BINS = 6
"""Groups of like size that more of them are put into, to tell what they explain."""


def score_by_gene(
    path: Path, genes: Mapping[str, Sequence[Any]], scores: Sequence[float], label: str, log: bool = False
) -> None:
    """The score against every gene: a panel for each, a point for each genome, as the PNG `path`.

    Words and few numbers are categories, whose medians are marked; many numbers have an axis of numbers. What is
    far worse than most stands at the edge, as a caret.

    Args:
        path: the PNG to write.
        genes: by name, the value of each genome: a number, a truth value or a word; None where it lacks this gene.
        scores: one for each genome; those that are not finite are left out.
        label: what the scores are.
        log: whether they are losses, all above 0, on a logarithmic axis: the least is best.
    """
    names = most_important_genes(genes, scores)
    columns = max(1, min(COLUMNS, len(names)))
    height = max(1, -(-len(names) // columns))
    # A lone panel would have no room for the label.
    figure = Figure(figsize=(max(4.5, (WIDTH - 0.4) / COLUMNS * columns + 0.4), 2 * height + 0.5), layout="constrained")
    grid = figure.subplots(height, columns, squeeze=False, sharey=True).ravel()
    for axes in grid[len(names) :]:
        axes.axis("off")
    if not names:
        grid[0].text(0.5, 0.5, "no gene with two values\nand scores to draw", ha="center", va="center")
    else:
        figure.supylabel(label, fontsize=10)
    worst = fence(_present(scores, scores)[1], log) if names else 0.0
    beyond = False
    generator = np.random.default_rng(0)
    for axes, name in zip(grid, names, strict=False):
        axes.tick_params(labelsize=8)
        bare(axes)
        beyond |= _score_panel(axes, *_present(genes[name], scores), worst, log, generator)
        axes.set_title(name, fontsize=9)
    legend = {"a genome": Line2D([], [], ls="", **DOT), "median": Line2D([], [], color=BLACK, lw=2)}
    if beyond:
        legend[f"{'above' if log else 'below'} the axis"] = Line2D([], [], ls="", **{**DOT, "marker": caret(log)})
    if names:
        grid[0].set_yscale("log" if log else "linear")
        figure.legend(
            list(legend.values()), list(legend), loc="outside lower center", ncols=3, frameon=False, fontsize=9
        )
    save(figure, path)


def most_important_genes(genes: Mapping[str, Sequence[Any]], scores: Sequence[float], count: int = PANELS) -> list[str]:
    """The genes of more than one value, or the `count` of them that explain the most of the scores, in their order."""
    varied = [name for name, values in genes.items() if len(np.unique(_present(values, scores)[0])) > 1]
    best = sorted(varied, key=lambda name: variance_explained(genes[name], scores), reverse=True)[:count]
    return [name for name in varied if name in best]


def variance_explained(values: Sequence[Any], scores: Sequence[float]) -> float:
    """The share of the variance of the ranks of the scores that lies between the values of a gene.

    Ranks, for a score that is far off shall not decide. Many numbers are put into `BINS`, which unlike a correlation
    sees that the middle is best. The share is adjusted for what chance explains, by which many categories would win,
    and may be below 0 for that; and it is reduced by the share of the genomes that lack the gene.
    """
    from scipy.stats import rankdata  # takes a while to import

    xs, ys = _present(values, scores)
    if _continuous(xs):
        xs = np.floor((rankdata(xs) - 1) * BINS / len(xs))
    ranks = rankdata(ys)
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


def _score_panel(
    axes: Axes, values: np.ndarray, scores: np.ndarray, worst: float, log: bool, generator: np.random.Generator
) -> bool:
    """Returns whether some scores are worse than the worst that is shown."""
    if _continuous(values):
        beyond = dots(axes, values, scores, worst, log, **DOT)
        if values.min() > 0 and values.max() / values.min() > 50:
            axes.set_xscale("log")
            ticks = log_ticks(*axes.get_xlim())
            axes.xaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // 5)]))  # More would touch.
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=values.dtype.kind in "iu"))
        return beyond
    categories, places = np.unique(values, return_inverse=True)
    beyond = dots(axes, places + generator.uniform(-0.2, 0.2, len(places)), scores, worst, log, **DOT)
    medians = np.array([np.median(scores[places == i]) for i in range(len(categories))])
    at = np.arange(len(categories))
    shown = ~worse(medians, worst, log)
    axes.hlines(medians[shown], at[shown] - 0.32, at[shown] + 0.32, color=BLACK, lw=2, zorder=3)
    names = [number(float(f"{v:.3g}")) if categories.dtype.kind == "f" else str(v) for v in categories]
    names = [shortened(name, 16) for name in names]
    # About 28 letters stand side by side under a panel, each word in as much room as the longest; 180 points upright.
    upright = max(map(len, names)) * len(names) > 28
    axes.set_xticks(at, names, rotation=90 if upright else 0, fontsize=max(1.0, min(8.0, 180 / len(names))))
    axes.set_xlim(-0.6, len(categories) - 0.4)
    return beyond
