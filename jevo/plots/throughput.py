"""What a benchmark measured: throughput against the size of the population."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from jevo.plots.drawing import save


def throughput_by_population(path: Path, rows: Sequence[Mapping[str, Any]], *, unit: str, title: str, own: str) -> None:
    """Throughput against population size, a line for each name, as the PNG `path`.

    Args:
        path: the PNG to write.
        rows: each with `name`, `population` [members], `per_second` [units/s], and `seconds` of a call: its `median`,
            and its `lower` and `upper` quartiles [s], which the error bars show.
        unit: what `per_second` counts.
        title: over the axes.
        own: the name whose line is drawn bold.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    for label, points in by_name.items():
        points = sorted(points, key=lambda row: row["population"])
        size, rate = [row["population"] for row in points], [row["per_second"] for row in points]
        amounts = [row["per_second"] * row["seconds"]["median"] for row in points]
        spread = [
            [r - a / row["seconds"]["upper"] for r, a, row in zip(rate, amounts, points, strict=True)],
            [a / row["seconds"]["lower"] - r for r, a, row in zip(rate, amounts, points, strict=True)],
        ]
        axes.errorbar(size, rate, yerr=spread, marker="o", capsize=3, label=label, linewidth=2 if label == own else 1)
    axes.set(xscale="log", xlabel="population [members]", ylabel=f"{unit} per second")
    rates = [row["per_second"] for row in rows]
    if max(rates) < 30 * min(rates):
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
    axes.set_title(title)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    save(figure, path, dpi=120)
