"""A run is a contest: the experiment, its control at an equal budget, and any references, judged alike."""

from collections.abc import Mapping
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
        stage: runs it; its carry has a `champion`, chosen on validation data.
        network: what the champion is the params of.
        evaluations: member evaluations that the stage spends, the first population's included.
        gradient_steps: member gradient steps that it spends.
    """

    stage: Stage
    network: Network
    evaluations: int
    gradient_steps: int


class Outcome(NamedTuple):
    """What became of a contestant.

    Attributes:
        carry: of its last generation.
        entry: `budget` and `metrics`, as `result.json` holds them.
        probabilities: float32 `[n, classes]`, of the test examples.
    """

    carry: Any
    entry: dict[str, Any]
    probabilities: np.ndarray

    @property
    def champion(self) -> Member:
        return self.carry.champion


def compete(folder: Path, contestant: Contestant, data: Any, task: Task, dataset: Dataset, every: int) -> Outcome:
    """Run a contestant to its end and judge its champion. The test set is used here, and once.

    Args:
        folder: of the run.
        contestant: who competes.
        data: what its stage reads.
        task: the train and validation examples on the device, with their normalisation.
        dataset: all three sets.
        every: generations between checkpoints.
    """
    finished = run_stage(folder, contestant.stage, data, every)

    def logits(x: jax.Array) -> jax.Array:
        return contestant.network.apply(finished.carry.champion, task.inputs(x))

    splits = {name: getattr(dataset, name) for name in SPLITS}
    probabilities = {name: predict(logits, split.x) for name, split in splits.items()}
    entry = {
        "budget": {
            "evaluations": contestant.evaluations,
            "gradient_steps": contestant.gradient_steps,
            "wall_s": round(finished.wall_s, 3),
            "compile_s": round(finished.compile_s, 3),
        },
        "metrics": {name: measure(probabilities[name], split.y) for name, split in splits.items()},
    }
    return Outcome(finished.carry, entry, probabilities["test"])


def verdict(contestant: str, control: str, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The part of `result.json` that says who did how well.

    Args:
        contestant: the name of the experiment's own outcome.
        control: the name of its control's.
        outcomes: by name; the others are references.
    """
    others = [name for name in outcomes if name not in (contestant, control)]
    return {
        **outcomes[contestant].entry,
        "control": {"name": control.replace("_", " "), **outcomes[control].entry},
        "references": {name.replace("_", " "): outcomes[name].entry for name in others},
    }
