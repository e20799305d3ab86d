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
from jevo.training import measure, predict
from jevo.types import Member


class Contestant(NamedTuple):
    """One way to find a network.

    Attributes:
        stage: runs it.
        network: what a champion is the params of.
        evaluations: member evaluations that the stage spends for one seed, the first population's included.
        gradient_steps: member gradient steps that it spends for one seed.
        champions: finds in the last carry the champion of each seed, chosen on validation data.
    """

    stage: Stage
    network: Network
    evaluations: int
    gradient_steps: int
    champions: Callable[[Any], list[Member]] = lambda carry: [carry.champion]


class Judged(NamedTuple):
    """A champion and what it is worth.

    Attributes:
        champion: params of the network.
        metrics: by split, as `result.json` holds them.
        probabilities: float32 `[n, classes]`, of the test examples.
    """

    champion: Member
    metrics: dict[str, dict[str, float]]
    probabilities: np.ndarray


class Outcome(NamedTuple):
    """What became of a contestant.

    Attributes:
        carry: of its last generation.
        budget: as `result.json` holds it.
        judged: the champion of each seed.
    """

    carry: Any
    budget: dict[str, Any]
    judged: list[Judged]

    @property
    def entry(self) -> dict[str, Any]:
        """`budget` and `metrics`, as `result.json` holds them: each metric is the median over the seeds."""
        return {"budget": self.budget, "metrics": _medians([each.metrics for each in self.judged])}


def compete(folder: Path, contestant: Contestant, data: Any, task: Task, dataset: Dataset, every: int) -> Outcome:
    """Run a contestant to its end and judge its champions. The test set is used here, and once.

    Args:
        folder: of the run.
        contestant: who competes.
        data: what its stage reads.
        task: the train and validation examples on the device, with their normalisation.
        dataset: all three sets.
        every: generations between checkpoints.
    """
    finished = run_stage(folder, contestant.stage, data, every)

    def judge(champion: Member) -> Judged:
        def logits(x: jax.Array) -> jax.Array:
            return contestant.network.apply(champion, task.inputs(x))

        splits = {name: getattr(dataset, name) for name in SPLITS}
        probabilities = {name: predict(logits, split.x) for name, split in splits.items()}
        metrics = {name: measure(probabilities[name], split.y) for name, split in splits.items()}
        return Judged(champion, metrics, probabilities["test"])

    budget = {
        "evaluations": contestant.evaluations,
        "gradient_steps": contestant.gradient_steps,
        "wall_s": round(finished.wall_s, 3),
        "compile_s": round(finished.compile_s, 3),
    }
    return Outcome(finished.carry, budget, [judge(champion) for champion in contestant.champions(finished.carry)])


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
