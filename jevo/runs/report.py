"""The report of a run, and its table of metrics."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from jevo.data.datasets import SPLITS

BUDGET = ("evaluations", "epochs", "gradient_steps", "example_passes", "grid_points")
"""What a budget may say beside its seconds, in the order of the report."""
_COSTS = ("epochs", "gradient_steps", "evaluations")
"""By which of them contestants are equal, where they have it: the first that is there."""
_BETTER = {"accuracy": 1, "r2": 1, "loss": -1, "error": -1, "svm_error": -1, "rmse": -1, "mae": -1}
"""Of each metric that jevo has, whether more of it is better, or less."""


def verdict(result: Mapping[str, Any]) -> str:
    """Who won, by how much, at what budget and on how many seeds: the experiment or its control, by the first of their
    metrics on test data; of several seeds by medians. Where nobody knows which way a metric is good, both are said."""
    seeds = by_seed(result)
    own, control = result["experiment"], result["control"]["name"]
    metric = next(iter(result["metrics"]["test"]))
    theirs = [(one["metrics"]["test"][metric], one["control"]["metrics"]["test"][metric]) for one in seeds]
    mine, other = (statistics.median(values) for values in zip(*theirs, strict=True))
    # What a metric of the user's own goal is called says nothing, but for the loss.
    sign = 0 if "outputs" in result and metric != "loss" else _BETTER.get(metric, 0)
    lead, words = sign * (mine - other), metric.replace("_", " ")
    if not sign or not math.isfinite(lead):
        said = f"**{own} has test {words} {decimal(mine)}, {control} {decimal(other)}**"
    elif lead == 0:
        said = f"**{own} and {control} are level: test {words} {decimal(mine)}**"
    else:
        winner, loser = (own, control) if lead > 0 else (control, own)
        best, worst = (mine, other) if lead > 0 else (other, mine)
        by = decimal(abs(lead))
        said = f"**{winner} beats {loser} by {by} in test {words}: {decimal(best)} against {decimal(worst)}**"
    cost = next((name for name in _COSTS if result["budget"].get(name)), "evaluations")
    spent, beside = (f"{budget[cost]:,}" for budget in (result["budget"], result["control"]["budget"]))
    unit = cost.replace("_", " ")
    budget = f"at {spent} {unit} each" if spent == beside else f"at {spent} {unit} ({control} {beside})"
    if len(seeds) == 1:
        return f"{said}, {budget}; one seed."
    wins = sum(sign * (a - b) > 0 for a, b in theirs)
    count = f"; {own} is better in {wins} of {len(seeds)}" if sign else ""
    return f"{said}, in the median of {len(seeds)} seeds, {budget}{count}."


def table(results: Sequence[Mapping[str, Any]], splits: Sequence[str] = SPLITS) -> str:
    """The metrics of a run, of its control and of its references, as a Markdown table.

    Args:
        results: of one run, or of several that differ in their seed. Of several seeds, in whichever way, it gives
            the median of each metric, and its range.
        splits: whose metrics.
    """
    results = [seed for result in results for seed in by_seed(result)]
    first = results[0]
    rows = {title: [entries(result)[title] for result in results] for title in entries(first)}
    names = list(first["metrics"]["test"])
    spent = [name for name in BUDGET if name in first["budget"]]
    head = ["", *(f"{split} {name}" for name in names for split in splits), *(name.replace("_", " ") for name in spent)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for title, found in rows.items():
        cells = [_spread([entry["metrics"][split][name] for entry in found]) for name in names for split in splits]
        cells += [f"{found[0]['budget'][name]:,}" for name in spent]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def entries(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Budget and metrics of all who compete, by the names that tables and figures give them: the experiment's own
    first, then its control, then any references."""
    control = result["control"]
    found = [(result["experiment"], result), (control["name"], control), *result["references"].items()]
    return {titled(name, place): entry for place, (name, entry) in enumerate(found)}


def titled(name: str, place: int) -> str:
    """What one who competes is called by its place: 0 is the experiment's own, 1 its control, and references follow."""
    return name if place == 0 else f"{name} ({'control' if place == 1 else 'reference'})"


def by_seed(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A result for each seed of a run, with the metrics of that seed."""
    if not result.get("repeats"):
        return [dict(result)]
    shared = {name: value for name, value in result.items() if name != "repeats"}
    return [
        {
            **shared,
            "seed": one["seed"],
            "metrics": one["metrics"],
            "control": {**result["control"], **one["control"]},
            "references": {name: {**entry, **one["references"][name]} for name, entry in result["references"].items()},
        }
        for one in result["repeats"]
    ]


def sizes(data: Mapping[str, Any]) -> str:
    """Of the sets of a run, in words."""
    return ", ".join(f"{data[split]:,} {split}" for split in SPLITS)


def _spread(values: Sequence[float]) -> str:
    middle = decimal(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({decimal(min(values))}-{decimal(max(values))})"


def decimal(value: float) -> str:
    """A metric: with four decimals, or four digits where it has a unit that makes it large or small."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.4g}"


def report(result: Mapping[str, Any], command: str, figures: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The report of a run in Markdown.

    Args:
        result: what `result.json` holds.
        command: that made the run.
        figures: for each PNG's name, what it shows.
        notes: paragraphs between the table and the figures.
    """
    data, budget = result["data"], result["budget"]
    seeds = [one["seed"] for one in by_seed(result)]
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}, median (range)"
    parts = [
        f"# {result['experiment']}: {data['name']}, {result['preset']} preset, {which}",
        verdict(result),
        table([result], ["test"]),
        f"```\n{command}\n```",
        f"Data: {sizes(data)} examples{'; ' + data['note'] if data['note'] else ''}. The champion was chosen on "
        "validation data; the test set was used once, for the numbers above.",
        f"Device: {result['device']['kind']} x {result['device']['count']} ({result['device']['platform']}), precision "
        f"{result['precision']}; {budget['wall_s']:.1f} s of search, {budget['compile_s']:.1f} s of compiling.",
        *notes,
        *(f"![{text}]({name})\n\n{text}" for name, text in figures.items()),
        "## Train, validation and test data",
        table([result]),
    ]
    return "\n\n".join(parts) + "\n"
