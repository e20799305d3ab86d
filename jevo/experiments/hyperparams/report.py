"""The pictures and the report of a hyperparameter search."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jevo import plots
from jevo.data.files import atomic_write
from jevo.experiments.hyperparams.config import Config
from jevo.experiments.hyperparams.genomes import TABLE, Row, brief, by_gene, describe, layers, read_table, table
from jevo.experiments.hyperparams.importance import importance
from jevo.experiments.hyperparams.importance import table as importance_table
from jevo.experiments.hyperparams.journal import Found
from jevo.hyperparams import best_trial
from jevo.mixed import architecture
from jevo.plots import Curve, Panel
from jevo.runs import (
    ACCURACY,
    R2,
    Contest,
    Front,
    Outcome,
    Price,
    Report,
    Run,
    Saved,
    answers_figure,
    captioned,
    competitors,
    front_figures,
    front_report,
    save_apart,
)

LABELS = {"parameters": "parameters", "flops": "floating-point operations of a forward pass"}
"""What figures call the cost of a network."""


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the hyperparameter search says of itself."""
    found: dict[str, Found] = {name: outcome.found for name, outcome in outcomes.items()}
    champions = {name: trial for name, one in found.items() if (trial := best_trial(one.trials))}
    champion = next(iter(champions.values()))
    findings = {
        "champion": {
            "number": champion.number,
            "generation": champion.generation,
            "genome": champion.genome,
            "score": champion.score.value,
            **{name: champion.score.details[name] for name in ("best_epoch", "repairs")},
        },
        "champions": {name: {"genome": c.genome, "score": c.score.value} for name, c in champions.items()},
    }
    front = fronts(run, contest, found) if len(run.config.objectives) > 1 else Report({})
    said = notes(findings, found)
    if matter := importance([trial for one in found.values() for trial in one.trials]):
        findings["importance"] = matter._asdict()
        said.append(importance_table(matter))
    return Report(
        {**findings, **front.findings},
        [*said, *front.notes],
        answers_figure(contest.dataset, next(iter(outcomes.values())).champion.predicted, "The champion's"),
        {TABLE: lambda path: atomic_write(path, table(found)), **front.files},
    )


def fronts(run: Run[Config], contest: Contest, found: Mapping[str, Found]) -> Report:
    """The fronts of all who compete: what networks are worth against what they cost."""
    _, cost = run.config.objectives
    dearest = max(one.trial.score.details[cost] for of in found.values() for one in of.front)

    def front(of: Found) -> Front:
        cheapest_first = list(reversed(of.front))

        def save(folder: Path) -> None:
            for number, one in enumerate(cheapest_first, start=1):
                save_apart(folder, number, one.network()[1], contest.task)

        return Front(
            save,
            [
                {
                    cost: one.trial.score.details[cost],
                    "found": one.trial.generation,
                    "genome": one.trial.genome,
                    "metrics": one.metrics,
                }
                for one in cheapest_first
            ],
        )

    merit = ACCURACY if contest.criterion.classifies else R2
    return front_report({name: front(of) for name, of in found.items()}, Price(cost, LABELS[cost], dearest), merit)


def figures(saved: Saved) -> dict[str, Callable[[Path], str]]:
    """The curves, what the genes do, the champion's ancestors and layers, and the front if there is one."""
    config = saved.config
    drawn = {
        "curves.png": captioned(
            "Left: every genome trained. Right: the best so far. Both by the epochs that its search had trained by "
            "then.",
            draw_curves, saved,
        ),
        "genes.png": captioned(
            "Every genome that the search trained, by the value of each gene, and the medians of values.",
            draw_genes, saved,
        ),
    }  # fmt: skip
    if config.search == "genetic":
        drawn["family.png"] = captioned("The champion (in a ring) and its ancestors.", draw_family, saved)
    drawn["network.png"] = captioned("The champion, layer by layer.", draw_network, saved)
    if len(config.objectives) > 1:
        cost = config.objectives[1]
        price = Price(cost, LABELS[cost], math.inf)
        drawn |= front_figures(saved, price, ACCURACY if _classifies(saved) else R2)
    return drawn


ACCURATE = "validation accuracy"


class Scale(NamedTuple):
    """How scores are shown: as accuracies, or as losses on a logarithmic axis, if all of them are above 0.

    Attributes:
        label: of the axis.
        sign: what a score is times.
        log: whether the axis is logarithmic.
    """

    label: str
    sign: int
    log: bool

    def shown(self, row: Row) -> float:
        """The score of a genome. Accuracies are less what tells equal ones apart: the loss, in millionths."""
        return round(row.score, 5) if self.label == ACCURATE else self.sign * row.score

    def best(self, values: Sequence[float]) -> float:
        """Of what is shown; NaN if there is nothing."""
        return float(np.fmin.reduce(values) if self.sign < 0 else np.fmax.reduce(values))


def scale(saved: Saved, rows: Sequence[Row]) -> Scale:
    """How the scores of these genomes are shown."""
    if _classifies(saved) and saved.config.fitness == "accuracy":
        return Scale(ACCURATE, 1, False)
    losses = not any(row.score >= 0 for row in rows)
    return Scale("validation loss", -1, True) if losses else Scale("minus the validation loss", 1, False)


def draw_curves(path: Path, saved: Saved) -> None:
    """Every genome, and the best so far, by epochs."""
    found = read_table(saved.folder / TABLE)
    shown = scale(saved, [row for rows in found.values() for row in rows])
    every, best = [], []
    for each, rows in zip(competitors(saved), found.values(), strict=True):
        spent, at, values = {}, [], []
        for row in rows:
            name = json.dumps(row.genome)  # A genome that is met again, or trained further, counts once.
            spent[name] = max(row.spent, spent.get(name, 0.0))
            at.append(sum(spent.values()))
            values.append(shown.shown(row))
        new = [i for i, row in enumerate(rows) if row.trained and math.isfinite(row.score)]
        every.append(Curve(each.title, each.style, [at[i] for i in new], [values[i] for i in new], "dots"))
        so_far = list(itertools.accumulate(values, lambda *two: shown.best(two)))
        best.append(Curve(each.title, each.style, at, so_far, "steps"))
    x = "epochs trained"
    plots.curves(
        path, [Panel(x, shown.label, every, shown.log), Panel(x, f"best {shown.label} so far", best, shown.log)]
    )


def draw_genes(path: Path, saved: Saved) -> None:
    """The score of every genome that the search trained, by the value of each gene."""
    rows = _own(saved)
    once = list({row.number: row for row in rows if row.trained and math.isfinite(row.score)}.values())
    shown = scale(saved, once)
    genes = by_gene([row.genome for row in once])
    plots.score_by_gene(path, genes, [shown.shown(row) for row in once], shown.label, shown.log)


def draw_family(path: Path, saved: Saved) -> None:
    """The champion and those it descends from."""
    rows = _own(saved)
    shown = scale(saved, rows)
    people = [
        plots.Individual(row.number, row.generation, row.parents, shown.shown(row), brief(row.genome)) for row in rows
    ]
    plots.family_tree(path, people, saved.result["champion"]["number"], shown.label, shown.log)


def draw_network(path: Path, saved: Saved) -> None:
    """The champion, layer by layer."""
    genome = saved.result["champion"]["genome"]
    of, _ = architecture(genome, saved.shape, saved.outputs, saved.config.epochs)
    plots.network_diagram(path, describe(genome), layers(of, "softmax" if _classifies(saved) else "linear"))


def _own(saved: Saved) -> list[Row]:
    """What the search itself proposed."""
    return next(iter(read_table(saved.folder / TABLE).values()))


def _classifies(saved: Saved) -> bool:
    """Whether a score may be an accuracy: that a goal of one's own is not."""
    return next(iter(saved.result["metrics"]["test"])) == "accuracy"


def notes(findings: Mapping[str, Any], found: Mapping[str, Found]) -> list[str]:
    """Paragraphs for the report."""
    champion = findings["champion"]
    own = next(iter(found))
    said = [
        f"Champion: {describe(champion['genome'])}; validation score {champion['score']:.4f}, found in generation "
        f"{champion['generation']}, weights of epoch {', '.join(map(str, champion['best_epoch'])) or 'unknown'}."
    ]
    for name, one in found.items():
        best, last = findings["champions"][name], one.generations[-1]
        said.append(
            f"{name.replace('_', ' ')}: best score {best['score']:.4f} ({describe(best['genome'])}); mean of the last "
            f"generation {last.mean:.4f}; {sum(generation.trained for generation in one.generations):,} genomes were "
            "trained for it, beside those that were known."
        )
    failed = [trial for trial in found[own].trials if trial.score.reason and trial.trained]
    if failed:
        reasons = "; ".join(f"{trial.score.reason} ({describe(trial.genome)})" for trial in failed[:5])
        said.append(f"{len(failed)} genomes failed: {reasons}{' ...' if len(failed) > 5 else ''}.")
    if champion["repairs"]:
        said.append(f"Repaired in the champion: {'; '.join(champion['repairs'])}.")
    return said
