"""A run is a contest: the experiment, its control at an equal budget, and any references, judged alike."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jevo.data.datasets import SPLITS, Dataset
from jevo.data.task import Task
from jevo.networks import Network
from jevo.runs.lines import read_generations
from jevo.runs.loop import Stage, block_of, run_stage
from jevo.runs.processes import gather
from jevo.runs.record import Run
from jevo.runs.report import titled
from jevo.training.criterion import Criterion, classification
from jevo.training.scoring import in_rows
from jevo.types import Member


class Judged(NamedTuple):
    """A champion and what it is worth.

    Attributes:
        champion: params of the network.
        metrics: by split, as `result.json` holds them.
        predicted: of the test examples, the classes, int `[n]`; or their targets, float64 `[n, targets]`.
        details: what else the experiment wants to know of it.
    """

    champion: Member
    metrics: dict[str, dict[str, float]]
    predicted: np.ndarray
    details: Any = None


class Outcome(NamedTuple):
    """What became of a contestant.

    Attributes:
        found: whatever it wants to keep: of phases, what each has kept.
        budget: as `result.json` holds it.
        judged: the champion of each seed.
        best: which of these validation data prefer.
    """

    found: Any
    budget: dict[str, Any]
    judged: list[Judged]
    best: int = 0

    @property
    def entry(self) -> dict[str, Any]:
        """`budget` and `metrics`, as `result.json` holds them: each metric is the median over the seeds."""
        return {"budget": self.budget, "metrics": medians([each.metrics for each in self.judged])}

    @property
    def champion(self) -> Judged:
        """The one that is saved."""
        return self.judged[self.best]


class Contestant(Protocol):
    """One way to find a network."""

    def compete(self, run: Run, earlier: Mapping[str, Outcome]) -> Outcome:
        """Go the whole way, and be judged.

        Args:
            run: whose folder and settings it has.
            earlier: what became of those before it, by name: a control may spend what the experiment has spent.
        """
        ...

    def traced(self) -> Iterator[jax.stages.Traced]:
        """Its programs, not compiled: for whoever wants to know whether they can be made for another device."""
        ...


class Contest(NamedTuple):
    """Who competes, over what.

    The experiment's own is the first contestant, its control the second.

    Attributes:
        dataset: all three sets.
        task: the train and validation sets on the device.
        contestants: by name: the experiment's own, its control, and any references.
        resources: what they hold together until all are done, such as a cluster.
        network: whose params they seek, if it is one.
        criterion: what outputs are for; by default those of classes.
    """

    dataset: Dataset
    task: Task
    contestants: Mapping[str, Contestant]
    resources: ExitStack = ExitStack()
    network: Network | None = None
    criterion: Criterion = classification(2)

    def files(self) -> dict[str, str]:
        """The metrics file of each contestant."""
        own, *_ = self.contestants
        return {name: metrics_file(name, own) for name in self.contestants}

    def lines(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """What each contestant that goes in phases has written, a line for every generation, as `read_generations` has
        them."""
        found = {}
        for name, contestant in self.contestants.items():
            if isinstance(contestant, Phases):
                count = sum(phase.stage.generations for phase in contestant.phases)
                found[name] = read_generations(folder / self.files()[name], count)
        return found

    def holes(self, folder: Path) -> list[str]:
        """A sentence for each metrics file that lacks lines."""
        holes = {
            name: [str(line["generation"]) for line in lines if line["best"] is None]
            for name, lines in self.lines(folder).items()
        }
        return [
            f"{self.files()[name]} lacks generations {', '.join(lost[:10])}{', ...' if len(lost) > 10 else ''} (it was "
            "changed or damaged since): figures and findings leave them out."
            for name, lost in holes.items()
            if lost
        ]


def metrics_file(name: str, own: str) -> str:
    """Where a contestant's generations are written, `own` being the experiment's own."""
    return "metrics.jsonl" if name == own else f"{name}.jsonl"


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


def without_population(carry: Any) -> Any:
    """What most phases keep: a Search without its population."""
    return carry._replace(state=None)


@dataclass(frozen=True)
class Phases:
    """A contestant whose way is one compiled program after another.

    Attributes:
        phases: in turn.
        judge: says what a champion is worth. The test set is used here, and once.
        evaluations: member evaluations that it spends for one seed, the first population's included.
        gradient_steps: member gradient steps that it spends for one seed.
        example_passes: forward passes of one example through one member that it spends for one seed, where that is what
            a comparison holds equal.
        grid_points: where it chooses its own settings, from so many: it spends all these at each of them.
        champions: finds in what was kept of each phase the champion of each seed, chosen on validation data.
        best: finds there which of these validation data prefer.
    """

    phases: Sequence[Phase]
    judge: Callable[[Member], Judged]
    evaluations: int
    gradient_steps: int
    example_passes: int | None = None
    grid_points: int | None = None
    champions: Callable[[Sequence[Any]], list[Member]] = lambda kept: [kept[-1].champion]
    best: Callable[[Sequence[Any]], int] = lambda kept: 0

    def compete(self, run: Run, earlier: Mapping[str, Outcome]) -> Outcome:
        """Run each phase to its end, and judge the champions."""
        kept, wall_s, compile_s = [], 0.0, 0.0
        for phase in self.phases:
            data = phase.data(kept)
            every, devices = run.config.checkpoint_every, run.config.devices
            name = phase.stage.name
            title = titled(run.home.experiment if name == "search" else name.replace("_", " "), len(earlier))
            finished = run_stage(run.folder, phase.stage, data, every, devices, run.log.tell, title)
            wall_s, compile_s = wall_s + finished.wall_s, compile_s + finished.compile_s
            kept.append(gather(phase.keep(finished.carry)))
        counts = {"example_passes": self.example_passes, "grid_points": self.grid_points}
        budget = {
            "evaluations": self.evaluations,
            "gradient_steps": self.gradient_steps,
            **{name: count for name, count in counts.items() if count is not None},
            "wall_s": round(wall_s, 3),
            "compile_s": round(compile_s, 3),
        }
        return Outcome(kept, budget, [self.judge(champion) for champion in self.champions(kept)], self.best(kept))

    def traced(self) -> Iterator[jax.stages.Traced]:
        """The start and a block of every phase; a later one reads what the earlier ones start with."""
        kept = []
        for phase in self.phases:
            start, step = phase.stage.programs(phase.stage.chunk)
            start, data = jax.jit(start), phase.data(kept)
            yield start.trace(data)
            yield jax.jit(block_of(step)).trace(jax.eval_shape(start, data), data, 0)
            kept.append(phase.keep(start(data)))


def judging(network: Network, criterion: Criterion, task: Task, dataset: Dataset) -> Callable[[Member], Judged]:
    """Judges networks by the metrics of a criterion.

    Args:
        network: what a champion is the params of.
        criterion: what its outputs are for.
        task: how its input is normalised.
        dataset: all three sets.
    """

    def judge(champion: Member) -> Judged:
        # On the device, wherever it comes from: what NumPy computes beforehand is rounded otherwise.
        champion = jax.tree.map(jnp.asarray, champion)

        def finished(x: jax.Array) -> jax.Array:
            return criterion.finish(network.apply(champion, task.inputs(x)))

        splits = {name: getattr(dataset, name) for name in SPLITS}
        said = {name: in_rows(finished, split.x) for name, split in splits.items()}
        metrics = {name: criterion.measure(said[name], split.y) for name, split in splits.items()}
        return Judged(champion, metrics, predicted(said["test"][:, list(criterion.estimates)], dataset))

    return judge


def predicted(said: np.ndarray, dataset: Dataset) -> np.ndarray:
    """The classes, or the targets in the numbers of their source, of what is said for each class or target `[n, k]`."""
    return said.argmax(axis=1) if dataset.targets is None else dataset.targets.source(said)


def comparison(outcomes: Mapping[str, Outcome], seed: int) -> dict[str, Any]:
    """The part of `result.json` that says who did how well.

    Args:
        outcomes: by name: the experiment's own, its control's, and those of references.
        seed: the first one, if there are several; then `repeats` has the metrics of each.
    """
    _, control, *others = outcomes
    own, against, *_ = outcomes.values()
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


def medians(metrics: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each metric of each split, over seeds."""
    return {
        split: {name: statistics.median(each[split][name] for each in metrics) for name in metrics[0][split]}
        for split in metrics[0]
    }
