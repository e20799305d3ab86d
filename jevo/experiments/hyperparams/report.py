"""The pictures and the report of a hyperparameter search."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jevo import plots
from jevo.data.files import atomic_write
from jevo.experiments.hyperparams.config import Config
from jevo.experiments.hyperparams.genomes import by_gene, describe, layers, table
from jevo.experiments.hyperparams.importance import importance
from jevo.experiments.hyperparams.importance import table as importance_table
from jevo.experiments.hyperparams.journal import Found
from jevo.hyperparams import Tally, best_trial
from jevo.mixed import architecture
from jevo.plots import Panel
from jevo.runs import (
    ACCURACY,
    R2,
    Contest,
    Front,
    Outcome,
    Price,
    Report,
    Run,
    answers_figure,
    captioned,
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
        {**front.figures, **figures(run, contest, found, findings["champion"], next(iter(outcomes.values())))},
        {"genomes.csv": lambda path: atomic_write(path, table(found)), **front.files},
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


def figures(
    run: Run[Config], contest: Contest, found: Mapping[str, Found], champion: Mapping[str, Any], own: Outcome
) -> dict[str, Callable[[Path], str]]:
    """What is drawn, by name."""
    dataset, trials = contest.dataset, next(iter(found.values())).trials
    once = list({trial.number: trial for trial in trials if trial.trained and not trial.score.reason}.values())
    genes, scores = by_gene([trial.genome for trial in once]), [trial.score.value for trial in once]

    # A mean of losses is that of the few networks that learn nothing, and would leave the best a flat line.
    means = run.config.fitness == "accuracy" and contest.criterion.classifies

    def draw_network(path: Path) -> None:
        genome, shape = champion["genome"], dataset.train.x.shape[1:]
        of, _ = architecture(genome, shape, contest.criterion.outputs, run.config.epochs)
        plots.network_diagram(
            path, describe(genome), layers(of, "softmax" if contest.criterion.classifies else "linear")
        )

    drawn = {
        "curves.png": captioned(
            f"Best {'and mean ' if means else ''}of the population by generation, and the best so far by epochs "
            "trained (validation score).",
            plots.curves, [_by_generation(found, means), _by_epochs(found)],
        ),
        "genes.png": captioned(
            "The score of every genome trained, by the value of each gene.",
            plots.score_by_gene, genes, scores, "validation score",
        ),
    }  # fmt: skip
    if any(trial.parents for trial in trials):
        people = [plots.Individual(t.number, t.generation, t.parents, t.score.value, "") for t in trials]
        drawn["family.png"] = captioned("The champion's ancestors.", plots.family_tree, people, champion["number"])
    drawn["network.png"] = captioned("The champion, layer by layer.", draw_network)
    return drawn | answers_figure(dataset, own.champion.predicted, "The champion's")


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


def _by_generation(found: Mapping[str, Found], means: bool) -> Panel:
    curves = {}
    for name, one in found.items():
        for what in ("best", "mean") if means else ("best",):
            xs = [generation.number for generation in one.generations]
            curves[f"{name.replace('_', ' ')}, {what}"] = xs, [getattr(g, what) for g in one.generations]
    return Panel("generation", "validation score of the population", curves)


def _by_epochs(found: Mapping[str, Found]) -> Panel:
    curves = {}
    for name, one in found.items():
        best, tally, xs, ys = float("-inf"), Tally(), [], []
        for trial in one.trials:
            tally.add(trial.genome, trial.score)
            best = best if trial.score.reason else max(best, trial.score.value)
            if math.isfinite(best):
                xs.append(tally.spent)
                ys.append(best)
        curves[name.replace("_", " ")] = xs, ys
    return Panel("epochs", "best validation score so far", curves)
