"""The pictures and the report of a hybrid experiment."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jevo import plots
from jevo.experiments.hybrid.config import Config
from jevo.plots import Panel
from jevo.runs import Contest, Outcome, Report, Run, answers_figure, captioned


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
    fitness = f"{config.fitness} loss of the best member"
    figures = {
        "curves.png": captioned(
            f"The {fitness} by gradient steps and by wall time, and the barrier of each mating"
            + (f"; median and range of {seeds} seeds." if seeds > 1 else "."),
            draw_curves, fitness, lines, outcomes, findings["barrier"],
        ),
        **answers_figure(contest.dataset, own.champion.predicted, "The kept champion's"),
    }  # fmt: skip
    return Report(findings, notes(config.fitness, contest.criterion.scored, findings, outcomes), figures)


def draw_curves(
    path: Path,
    fitness: str,
    lines: Mapping[str, list[dict[str, Any]]],
    outcomes: Mapping[str, Outcome],
    barrier: list[Any],
) -> None:
    """The loss by gradient steps and by wall time, and the barrier by cycle."""
    legs, seeds = len(lines["search"]), len(outcomes["search"].judged)

    def series(key: str, whole: Mapping[str, float]) -> dict[str, tuple[list[float], list[Any]]]:
        """A metric of every contestant, by what it spent of its `whole` budget."""
        return {
            name.replace("_", " "): (
                [whole[name] * line["generation"] / legs for line in lines[name]],
                [line[key] for line in lines[name]],
            )
            for name in lines
        }

    steps = {name: float(outcome.budget["gradient_steps"]) for name, outcome in outcomes.items()}
    seconds = {name: outcome.budget["wall_s"] for name, outcome in outcomes.items()}
    together = ", all seeds together" if seeds > 1 else ""
    panels = [
        Panel("member gradient steps", fitness, series("loss", steps), log=True),
        Panel(f"wall time [s]{together}", fitness, series("loss", seconds), log=True),
        Panel(
            "after cycle",
            "barrier: child's loss less its parents' mean",
            {"search": (range(1, len(barrier) + 1), barrier)},
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
