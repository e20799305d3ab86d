"""The pictures and the report of a hybrid experiment."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jevo import plots
from jevo.experiments.hybrid.config import Config
from jevo.experiments.hybrid.ensemble import ensemble
from jevo.plots import LEVEL, Curve, Panel
from jevo.runs import Contest, Outcome, Report, Run, Saved, answers_figure, captioned, competitors


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the hybrid experiment says of itself: keys of `result.json` have one entry a seed.

    `barrier`: of each mating. `final_loss`: of each contestant's best member by fitness, after the last step.
    `ensemble`: what all restarts say together at the end. `grid`: where settings were tuned, its points, and the number
    (from 0) of the one that each contestant has chosen.
    """
    own, config = outcomes["search"], run.config
    kept, best, seeds = own.found[0], own.best, len(own.judged)
    row = kept.rows[best]
    lines = contest.lines(run.folder)
    rows = {name: outcome.found[0].rows for name, outcome in outcomes.items()}
    matings = [] if config.mixes else [lines["search"][cycle * config.legs] for cycle in range(1, config.cycles)]
    findings = {
        "champion": {
            "seed": config.seed + best,
            "steps": int(kept.search.found[row]),
            "validation_loss": -float(kept.search.validation[row]),
        },
        "barrier": [_of(line["barrier"], rows["search"]) or [None] * seeds for line in matings],
        "final_loss": {name: _of(found[-1]["loss"], rows[name]) or [None] * seeds for name, found in lines.items()},
        "ensemble": ensemble(
            contest.criterion, contest.dataset, outcomes["restarts"].found[0].said, config.population, config.seed
        ),
    }
    if config.tuned:
        chosen = {name: [int(row) % len(config.points) for row in found] for name, found in rows.items()}
        findings["grid"] = {"points": [point._asdict() for point in config.points], "chosen": chosen}
    figures = answers_figure(contest.dataset, own.champion.predicted, "The kept champion's")
    return Report(findings, notes(config.fitness, contest.criterion.scored, findings, outcomes), figures)


def _of(values: Sequence[Any] | None, rows: Sequence[int]) -> list[Any]:
    """Of what a line has for every seed and point of the grid, that of the points that were chosen."""
    return [values[row] for row in rows] if values else []


def figures(saved: Saved) -> dict[str, Callable[[Path], str]]:
    """The curves."""
    seeds = saved.config.repeats
    caption = (
        f"The {saved.config.fitness} loss of the best member by gradient steps and by wall time"
        + (
            ""
            if saved.config.mixes
            else ", and the barrier of each mating: what a child loses more than its parents do in the mean"
        )
        + (f". Lines are medians of {seeds} seeds, bands their range." if seeds > 1 else ".")
    )
    return {"curves.png": captioned(caption, draw_curves, saved)}


def draw_curves(path: Path, saved: Saved) -> None:
    """The loss by gradient steps and by wall time, and the barrier by cycle."""
    found, config = competitors(saved), saved.config
    legs, fitness = config.cycles * config.legs, f"{config.fitness} loss of the best member"
    points = len(config.points)
    chosen = list(saved.result.get("grid", {}).get("chosen", {}).values()) or [[0] * config.repeats] * len(found)
    rows = [[seed * points + point for seed, point in enumerate(each)] for each in chosen]

    def series(place: int, key: str) -> list[Any]:
        """A metric of a contestant, at the points that it has chosen."""
        return [_of(values, rows[place]) or None for values in found[place].series(key)]

    def spent(budget: str) -> list[Curve]:
        """The loss of all who compete, by what they have spent of a budget."""
        return [
            Curve(
                each.title,
                each.style,
                [each.entry["budget"][budget] * leg / legs for leg in range(1, 1 + len(each.lines))],
                series(place, "loss"),
            )
            for place, each in enumerate(found)
        ]

    side_by_side = [what for what, count in {"seeds": config.repeats, "points": points}.items() if count > 1]
    together = f", all {' and '.join(side_by_side)} together" if side_by_side else ""
    panels = [
        Panel("gradient steps of members", fitness, spent("gradient_steps"), log=True),
        Panel(f"wall time [s]{together}", fitness, spent("wall_s"), log=True),
    ]
    own, barrier = found[0], series(0, "barrier")[config.legs :: config.legs]
    if not config.mixes:
        mated = Curve(own.title, own.style, range(1, 1 + len(barrier)), barrier)
        level = Curve("no barrier", LEVEL, [0], [0.0], "level")
        panels.append(Panel("mating after cycle", "barrier: child's loss less parents' mean", [mated, level]))
    plots.curves(path, panels)


def notes(fitness: str, scored: str, findings: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> list[str]:
    """Paragraphs for the report; `scored` is the metric beside the loss, if there is another."""
    final = findings["final_loss"]
    losses = ", ".join(f"{name.replace('_', ' ')} {_range(values)}" for name, values in final.items())
    said = [f"{fitness.capitalize()} loss of the best member after the last step: {losses}."]
    (_, own), *others = outcomes.items()
    mine = [each.metrics["test"] for each in own.judged]
    for name, rival in others:
        wins = _wins(mine, [each.metrics["test"] for each in rival.judged], scored)
        said.append(f"On test data, against {name.replace('_', ' ')}: {wins}.")
    together = findings["ensemble"]
    theirs = [each["metrics"]["test"] for each in together.get("repeats", [together])]
    metrics = ", ".join(
        f"{metric.replace('_', ' ')} {_range([each[metric] for each in theirs])}" for metric in theirs[0]
    )
    passes = together["members"]
    said.append(
        f"The ensemble of the {passes} restarts (the mean of what all say; an answer costs {passes} passes, a "
        f"champion's one) has on test data {metrics}. "
        f"Against it the search's champion has {_wins(mine, theirs, scored)}."
    )
    if "grid" in findings:
        said.append(_chosen(**findings["grid"]))
    if findings["barrier"]:
        first, last = (_range(findings["barrier"][i]) for i in (0, -1))
        said.append(f"Barrier of the first mating {first}, of the last {last}.")
    return said


def _wins(mine: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], scored: str) -> str:
    """In how many seeds the search is better than another."""
    pairs = list(zip(mine, theirs, strict=True))
    loss = sum(own["loss"] < other["loss"] for own, other in pairs)
    higher = sum(own[scored] > other[scored] for own, other in pairs)
    return f"lower loss in {loss} of {len(pairs)} seeds" + (
        f", higher {scored} in {higher}" if scored != "loss" else ""
    )


def _chosen(points: Sequence[Mapping[str, float]], chosen: Mapping[str, Sequence[int]]) -> str:
    """Who has chosen what."""
    named = ["lr {lr:g}, smoothing {smoothing:g}".format(**point) for point in points]
    theirs = [
        f"{name.replace('_', ' ')} "
        + "; ".join(f"{named[i]} ({count} of {len(seeds)} seeds)" for i, count in Counter(seeds).most_common())
        for name, seeds in chosen.items()
    ]
    return (
        f"Every contestant ran at each of {len(points)} points of a grid, of which it chose one for each seed, by the "
        f"validation loss of its champion; gradient steps and evaluations are those of one point. Chosen: "
        f"{', '.join(theirs)}."
    )


def _range(values: list[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "none"
    middle = f"{statistics.median(found):.4f}"
    return middle if len(values) == 1 else f"{middle} ({min(found):.4f} to {max(found):.4f})"
