"""What a benchmark measured: throughput against the size of the population, and beside that of others."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jevo.plots.drawing import WIDTH, bare, number, save
from jevo.plots.palette import OWN

_OTHERS = "0.72"
"""The colour of the others."""


def throughput_by_population(path: Path, rows: Sequence[Mapping[str, Any]], *, unit: str, title: str, own: str) -> None:
    """Throughput against population size of one, and beside the others' at theirs, as the PNG `path`.

    Args:
        path: the PNG to write.
        rows: each with `name`, `population` [members], `per_second` [units/s], and `seconds` of a call: its `median`,
            and its `lower` and `upper` quartiles [s], which the error bars show. Where the others were measured, the
            last row of `own` at their population was measured in turn with them.
        unit: what `per_second` counts.
        title: over the axes.
        own: the name of the one.
    """
    others = [row for row in rows if row["name"] != own]
    at = {row["population"] for row in others}
    beside = {row["population"]: row for row in rows if row["name"] == own and row["population"] in at}
    compared = sorted([*beside.values(), *others], key=lambda row: -row["per_second"])
    alone = [row for row in rows if row["name"] == own and all(row is not one for one in beside.values())]
    panels = [(_by_population, alone)] * (len(alone) > 1) + [(_beside, compared)] * bool(others)
    panels = panels or [(_beside, rows)]
    height = max(3.0, 0.42 * len(compared) + 1.3)
    figure = Figure(figsize=(WIDTH if len(panels) > 1 else 6.5, height), layout="constrained")
    for axes, (draw, of) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes, of, unit, own)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _by_population(axes: Axes, rows: Sequence[Mapping[str, Any]], unit: str, own: str) -> None:
    rows = sorted(rows, key=lambda row: row["population"])
    sizes, rates = [row["population"] for row in rows], [row["per_second"] for row in rows]
    bare(axes)
    low, high = zip(*map(_off, rows), strict=True)
    axes.errorbar(
        sizes, rates, yerr=[low, high], color=OWN.colour, marker=OWN.marker, lw=OWN.width, ms=5, capsize=3, elinewidth=1
    )
    axes.set(xscale="log", xlabel=f"population of {own} [members]", ylabel=f"{unit} per second")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{round(x):,}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if max(rates) < 30 * min(rates):
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")


def _beside(axes: Axes, rows: Sequence[Mapping[str, Any]], unit: str, own: str) -> None:
    rates = [row["per_second"] for row in rows]
    colours = [OWN.colour if row["name"] == own else _OTHERS for row in rows]
    low, high = zip(*map(_off, rows), strict=True)
    places = range(len(rows))
    axes.barh(places, rates, 0.7, xerr=[low, high], color=colours, error_kw={"lw": 1, "capsize": 3})
    for place, row, off in zip(places, rows, high, strict=True):
        axes.annotate(
            _rounded(row["per_second"]), (row["per_second"] + off, place), (5, 0), textcoords="offset points",
            va="center", fontsize=9,
        )  # fmt: skip
    populations = sorted({row["population"] for row in rows})
    several = len(populations) > 1
    names = [f"{row['name']}, {row['population']:,}" if several else row["name"] for row in rows]
    axes.set_yticks(places, [textwrap.fill(name, 24) for name in names])
    axes.invert_yaxis()
    members = " or ".join(f"{population:,}" for population in populations)
    axes.set(xlabel=f"{unit} per second, population {members}")
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _off(row: Mapping[str, Any]) -> tuple[float, float]:
    """How far below and above the throughput its quartiles are."""
    rate, seconds = row["per_second"], row["seconds"]
    amount = rate * seconds["median"]
    return rate - amount / seconds["upper"], amount / seconds["lower"] - rate


def _rounded(rate: float) -> str:
    """With three digits, as far as these are behind the point."""
    return f"{rate:,.0f}" if rate >= 100 else number(float(f"{rate:.2g}"))
