"""The pictures and the report of a hybrid experiment."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jevo.data.datasets import Dataset
from jevo.runs import report
from jevo.runs.contest import Outcome
from jevo.runs.record import Run, read_metrics
from jevo.runs.report import Panel, by_seed

METRICS = {"search": "metrics.jsonl", "restarts": "restarts.jsonl", "long_run": "long_run.jsonl"}
"""The file of each contestant's metrics."""


def summary(folder: Path, cycles: int, legs: int) -> dict[str, Any]:
    """What `result.json` holds beside the judgement, each with one entry a seed.

    `barrier`: of each mating. `final_loss`: of each contestant's best member by fitness, after the last step.
    """
    lines = {name: read_metrics(folder / file) for name, file in METRICS.items()}
    return {
        "barrier": [lines["search"][cycle * legs]["barrier"] for cycle in range(1, cycles)],
        "final_loss": {name: lines[name][-1]["loss"] for name in lines},
    }


def write(run: Run, result: dict[str, Any], dataset: Dataset, outcomes: Mapping[str, Outcome], best: int) -> None:
    """Draw the figures and finish the run.

    Args:
        run: the run.
        result: what `result.json` shall hold.
        dataset: its data.
        outcomes: of each contestant.
        best: which seed's champion is kept.
    """
    lines = {name: read_metrics(run.folder / file) for name, file in METRICS.items()}
    legs = len(lines["search"])

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
    seeds = len(outcomes["search"].judged)
    many = f", {seeds} seeds" if seeds > 1 else ""
    fitness = f"{result['config']['fitness']} loss of the best member"
    barrier = {"search": (range(1, len(result["barrier"]) + 1), result["barrier"])}
    panels = [
        Panel("member gradient steps", fitness, series("loss", steps), log=True),
        Panel(f"wall time [s]{many and ', all seeds together'}", fitness, series("loss", seconds), log=True),
        Panel("after cycle", "barrier: child's loss less its parents' mean", barrier),
    ]
    report.curves(run.folder / "curves.png", panels)
    figures = {
        "curves.png": f"The {fitness} by gradient steps and by wall time, and the barrier of each mating"
        + (f"; median and range of {seeds} seeds." if many else ".")
    }
    predicted = outcomes["search"].judged[best].predicted
    report.confusion(run.folder / "confusion.png", dataset.test.y, predicted, dataset.classes)
    figures["confusion.png"] = "The kept champion's confusion matrix on the test set."
    run.finish(result, figures, _notes(result))


def _notes(result: Mapping[str, Any]) -> list[str]:
    final = result["final_loss"]
    losses = ", ".join(f"{name.replace('_', ' ')} {_range(values)}" for name, values in final.items())
    notes = [f"{result['config']['fitness'].capitalize()} loss of the best member after the last step: {losses}."]
    seeds = by_seed(result)
    for name, other in (("restarts", "control"), *((name, "references") for name in result["references"])):
        against = [seed["control"] if other == "control" else seed["references"][name] for seed in seeds]
        loss, accuracy = (
            sum(
                sign * seed["metrics"]["test"][key] > sign * rival["metrics"]["test"][key]
                for seed, rival in zip(seeds, against, strict=True)
            )
            for key, sign in (("loss", -1), ("accuracy", 1))
        )
        notes.append(
            f"On test data, against {name}: lower loss in {loss} of {len(seeds)} seeds, higher accuracy in {accuracy}."
        )
    if result["barrier"]:
        first, last = (_range(result["barrier"][i]) for i in (0, -1))
        notes.append(f"Barrier of the first mating {first}, of the last {last}.")
    return notes


def _range(values: list[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "none"
    middle = f"{statistics.median(found):.4f}"
    return middle if len(values) == 1 else f"{middle} ({min(found):.4f} to {max(found):.4f})"
