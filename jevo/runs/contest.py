"""A run is a contest: the experiment, its control at an equal budget, and any references, judged alike."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jevo.data.datasets import SPLITS, Dataset
from jevo.data.task import Task
from jevo.networks import Network
from jevo.runs.loop import Stage, run_stage
from jevo.runs.processes import on_each_host
from jevo.training import measure, predict
from jevo.types import Member


class Judged(NamedTuple):
    """A champion and what it is worth.

    Attributes:
        champion: params of the network.
        metrics: by split, as `result.json` holds them.
        predicted: int `[n]`, the classes of the test examples.
        details: what else the experiment wants to know of it.
    """

    champion: Member
    metrics: dict[str, dict[str, float]]
    predicted: np.ndarray
    details: Any = None


class Answers(NamedTuple):
    """What the champion of a finished run says of examples.

    Attributes:
        classes: int `[n]`, the index of each one's class.
        probabilities: float32 `[n, classes]`, if it has them.
        reconstructions: float32 `[n, ...]` as the examples are, if it makes them.
    """

    classes: np.ndarray
    probabilities: np.ndarray | None = None
    reconstructions: np.ndarray | None = None


Champion = Callable[[np.ndarray], Answers]
"""The champion of a finished run: it takes examples `[n, ...]` as the run's data set has them."""


def classifies(logits: Callable[[jax.Array], jax.Array]) -> Champion:
    """A champion that gives class probabilities, from `[rows, ...] -> [rows, classes]`, normalisation included."""

    def answer(x: np.ndarray) -> Answers:
        probabilities = predict(logits, x)
        return Answers(probabilities.argmax(axis=1), probabilities)

    return answer


class Phase(NamedTuple):
    """A part of a contestant's way, whose data may depend on what the phases before it have found.

    Attributes:
        stage: runs it.
        data: what its stage reads, made from what was kept of each phase before.
        keep: what is kept of its last carry, without the population, which may be larger than one host holds.
    """

    stage: Stage
    data: Callable[[Sequence[Any]], Any]
    keep: Callable[[Any], Any]


def champion_of(carry: Any) -> Any:
    """What most phases keep: a Search without its population, or all of a carry that has none."""
    return carry._replace(state=None) if hasattr(carry, "state") else carry


class Contestant(NamedTuple):
    """One way to find a network.

    Attributes:
        phases: one after another.
        judge: says what a champion is worth. The test set is used here, and once.
        evaluations: member evaluations that it spends for one seed, the first population's included.
        gradient_steps: member gradient steps that it spends for one seed.
        champions: finds in what was kept of each phase the champion of each seed, chosen on validation data.
    """

    phases: Sequence[Phase]
    judge: Callable[[Member], Judged]
    evaluations: int
    gradient_steps: int
    champions: Callable[[Sequence[Any]], list[Member]] = lambda kept: [kept[-1].champion]


class Outcome(NamedTuple):
    """What became of a contestant.

    Attributes:
        kept: of each phase.
        budget: as `result.json` holds it.
        judged: the champion of each seed.
    """

    kept: Sequence[Any]
    budget: dict[str, Any]
    judged: list[Judged]

    @property
    def entry(self) -> dict[str, Any]:
        """`budget` and `metrics`, as `result.json` holds them: each metric is the median over the seeds."""
        return {"budget": self.budget, "metrics": _medians([each.metrics for each in self.judged])}


def classifier(network: Network, task: Task, dataset: Dataset) -> Callable[[Member], Judged]:
    """Judges networks that classify by accuracy and loss.

    Args:
        network: what a champion is the params of.
        task: how its input is normalised.
        dataset: all three sets.
    """

    def judge(champion: Member) -> Judged:
        def logits(x: jax.Array) -> jax.Array:
            return network.apply(champion, task.inputs(x))

        splits = {name: getattr(dataset, name) for name in SPLITS}
        probabilities = {name: predict(logits, split.x) for name, split in splits.items()}
        metrics = {name: measure(probabilities[name], split.y) for name, split in splits.items()}
        return Judged(champion, metrics, probabilities["test"].argmax(axis=1))

    return judge


def compete(folder: Path, contestant: Contestant, every: int, devices: int = 1) -> Outcome:
    """Run a contestant to its end and judge its champions.

    Args:
        folder: of the run.
        contestant: who competes.
        every: generations between checkpoints.
        devices: that the population is spread over; 0 for all there are.
    """
    kept, wall_s, compile_s = [], 0.0, 0.0
    for phase in contestant.phases:
        finished = run_stage(folder, phase.stage, phase.data(kept), every, devices)
        wall_s, compile_s = wall_s + finished.wall_s, compile_s + finished.compile_s
        kept.append(on_each_host(phase.keep(finished.carry)))
    budget = {
        "evaluations": contestant.evaluations,
        "gradient_steps": contestant.gradient_steps,
        "wall_s": round(wall_s, 3),
        "compile_s": round(compile_s, 3),
    }
    return Outcome(kept, budget, [contestant.judge(champion) for champion in contestant.champions(kept)])


def verdict(contestant: str, control: str, outcomes: Mapping[str, Outcome], seed: int) -> dict[str, Any]:
    """The part of `result.json` that says who did how well.

    Args:
        contestant: the name of the experiment's own outcome.
        control: the name of its control's.
        outcomes: by name; the others are references.
        seed: the first one, if there are several; then `repeats` has the metrics of each.
    """
    others = [name for name in outcomes if name not in (contestant, control)]
    own, against = outcomes[contestant], outcomes[control]
    found = {
        **own.entry,
        "control": {"name": control.replace("_", " "), **against.entry},
        "references": {name.replace("_", " "): outcomes[name].entry for name in others},
    }
    if len(own.judged) > 1:
        found["repeats"] = [
            {
                "seed": seed + i,
                "metrics": own.judged[i].metrics,
                "control": {"metrics": against.judged[i].metrics},
                "references": {
                    name.replace("_", " "): {"metrics": outcomes[name].judged[i].metrics} for name in others
                },
            }
            for i in range(len(own.judged))
        ]
    return found


def _medians(metrics: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        split: {name: statistics.median(each[split][name] for each in metrics) for name in metrics[0][split]}
        for split in metrics[0]
    }
