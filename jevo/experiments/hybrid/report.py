"""The pictures and the report of a hybrid experiment."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jevo import plots
from jevo.experiments.hybrid.config import Config
from jevo.plots import LEVEL, Curve, Panel
from jevo.runs import Contest, Outcome, Report, Run, Saved, answers_figure, captioned, competitors


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the hybrid experiment says of itself: keys of `result.json` have one entry a seed.

    `barrier`: of each mating. `final_loss`: of each contestant's best member by fitness, after the last step.
    """
    own, config = outcomes["search"], run.config
    found, best, seeds = own.found[0], own.best, len(own.judged)
    lines = contest.lines(run.folder)
    findings = {
        "champion": {
            "seed": config.seed + best,
            "steps": int(found.found[best]),
            "validation_loss": -float(found.validation[best]),
        },
        "barrier": [
            lines["search"][cycle * config.legs]["barrier"] or [None] * seeds for cycle in range(1, config.cycles)
        ],
        "final_loss": {name: found[-1]["loss"] or [None] * seeds for name, found in lines.items()},
    }
    figures = answers_figure(contest.dataset, own.champion.predicted, "The kept champion's")
    return Report(findings, notes(config.fitness, contest.criterion.scored, findings, outcomes), figures)


def figures(saved: Saved) -> dict[str, Callable[[Path], str]]:
    """The curves."""
    seeds = saved.config.repeats
    caption = (
        f"The {saved.config.fitness} loss of the best member by gradient steps and by wall time, and the barrier of "
        "each mating: what a child loses more than its parents do in the mean"
        + (f". Lines are medians of {seeds} seeds, bands their range." if seeds > 1 else ".")
    )
    return {"curves.png": captioned(caption, draw_curves, saved)}


def draw_curves(path: Path, saved: Saved) -> None:
    """The loss by gradient steps and by wall time, and the barrier by cycle."""
    found, config = competitors(saved), saved.config
    legs, fitness = config.cycles * config.legs, f"{config.fitness} loss of the best member"

    def spent(budget: str) -> list[Curve]:
        """The loss of all who compete, by what they have spent of a budget."""
        return [
            Curve(
                each.title,
                each.style,
                [each.entry["budget"][budget] * leg / legs for leg in range(1, 1 + len(each.lines))],
                each.series("loss"),
            )
            for each in found
        ]

    own = found[0]
    barrier = own.series("barrier")[config.legs :: config.legs]
    together = ", all seeds together" if config.repeats > 1 else ""
    panels = [
        Panel("gradient steps of members", fitness, spent("gradient_steps"), log=True),
        Panel(f"wall time [s]{together}", fitness, spent("wall_s"), log=True),
        Panel(
            "mating after cycle",
            "barrier: child's loss less parents' mean",
            [
                Curve(own.title, own.style, range(1, 1 + len(barrier)), barrier),
                Curve("no barrier", LEVEL, [0], [0.0], "level"),
            ],
        ),
    ]
    plots.curves(path, panels)


def notes(fitness: str, scored: str, findings: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> list[str]:
    """Paragraphs for the report; `scored` is the metric beside the loss, if there is another."""
    final = findings["final_loss"]
    losses = ", ".join(f"{name.replace('_', ' ')} {_range(values)}" for name, values in final.items())
    said = [f"{fitness.capitalize()} loss of the best member after the last step: {losses}."]
    (_, own), *others = outcomes.items()
    for name, rival in others:
        pairs = [(a.metrics["test"], b.metrics["test"]) for a, b in zip(own.judged, rival.judged, strict=True)]
        loss = sum(mine["loss"] < theirs["loss"] for mine, theirs in pairs)
        higher = sum(mine[scored] > theirs[scored] for mine, theirs in pairs)
        also = f", higher {scored} in {higher}" if scored != "loss" else ""
        said.append(
            f"On test data, against {name.replace('_', ' ')}: lower loss in {loss} of {len(pairs)} seeds{also}."
        )
    if findings["barrier"]:
        first, last = (_range(findings["barrier"][i]) for i in (0, -1))
        said.append(f"Barrier of the first mating {first}, of the last {last}.")
    return said


def _range(values: list[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "none"
    middle = f"{statistics.median(found):.4f}"
    return middle if len(values) == 1 else f"{middle} ({min(found):.4f} to {max(found):.4f})"
