"""Searches for a network that classifies, by forward passes: members are scored on the examples of their generation.

What the experiments on masks and on weights share: the settings, the programs, who competes, and the curves. What a
genome is, and how it is sought, is theirs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from jevo import plots, training
from jevo import population as pop
from jevo.data.datasets import Dataset
from jevo.data.task import Examples, Task, rotating_rows
from jevo.devices import members_at_once
from jevo.errors import InputError, require, shortened
from jevo.experiments import searcher
from jevo.experiments.searcher import Breeding, Cost, Look, More, Searcher, Worth
from jevo.genetics import Search, State, update_champion
from jevo.networks import Activation, Network, Weights, build
from jevo.plots import Panel
from jevo.runs import (
    BreedingConfig,
    Contestant,
    Judged,
    Phase,
    Phases,
    Programs,
    Saved,
    Stage,
    captioned,
    competitors,
    judging,
    metrics_file,
    without_population,
)
from jevo.runs.own import TAKES, is_own
from jevo.training import (
    accuracy,
    correct_by_example,
    evaluate,
    scaled_log_likelihood,
    scaled_log_likelihood_by_example,
)
from jevo.training.criterion import Criterion
from jevo.types import Key, Member

STEPS = 100
"""Gradient steps that a line of a reference's metrics stands for."""
BATCH = 128
"""Examples in a gradient step of a reference."""
PASSES = 3
"""Forward passes that the gradient of an example counts as: the way back costs two."""


@dataclass(frozen=True, kw_only=True)
class ForwardConfig(BreedingConfig):
    """Settings of a search by forward passes."""

    longer: ClassVar = "generations"
    groups: ClassVar = {
        "network": ("network", "start", "hidden", "channels", "activation", "weights", "bias", "mask", "density"),
        **BreedingConfig.groups,
    }
    common: ClassVar = BreedingConfig.common | {
        "search", "population", "generations", "images", "hidden", "network", "learning_rate", "reference",
    }  # fmt: skip

    generations: int = 1000
    """Generations after the first population [generations]."""
    images: int = 1000
    """Train examples that score a generation; all if there are fewer [examples]."""
    batches: Literal["rotating", "fixed"] = "rotating"
    """Which examples: the next ones every generation, or the same ones always."""
    first_image: int = 0
    """Where the examples of the first generation begin in the train set [index]."""
    fitness: Literal["likelihood", "accuracy"] = "likelihood"
    """What is maximised: the mean log-likelihood of logits brought to a fixed spread, or the accuracy."""
    spread: float = 2.0
    """Standard deviation to which logits are brought for the likelihood: their scale says nothing of a mask, and noise
    in proportion to it does not feel it."""
    network: str = ""
    """A network of your own: FILE.py:NAME or package.module:NAME. It is a function or class that takes shape, outputs,
    and rngs for Flax NNX. Unset: what channels, hidden, activation and weights say."""
    start: str = ""
    """A finished run, or a champion.safetensors, whose weights the network begins with (in masks: the frozen ones)."""
    channels: tuple[int, ...] = ()
    """Channels of 3x3 convolutions before the dense layers, each with a 2x2 max-pooling; none for an MLP."""
    hidden: tuple[int, ...] = (100,)
    """Units of each hidden dense layer."""
    activation: Activation = "relu"
    """After each hidden layer."""
    weights: Weights = "he"
    """How the first weights are drawn."""
    schedule: Literal["linear", "constant"] = "linear"
    """How a learning rate goes: to zero by the last generation, or not at all; then a run can go on for more."""
    learning_rate: float = 3e-3
    """Of what learns: the first one."""
    validate_every: int = 10
    """Generations from one look at the validation set to the next [generations]."""
    validate_top: int = 5
    """Members that are candidates for champion, and for the front if there is one, then: the best."""
    reference: bool = False
    """Also train by gradient, as reference lines."""
    reference_steps: int = 0
    """Gradient steps of each reference, in hundreds; 0 for as many forward passes of an example as the search makes,
    where the gradient of one counts as three [steps]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("images", "validate_every", "validate_top"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.generations >= 1, "generations", self.generations, "at least 1")
        require(self.first_image >= 0, "first_image", self.first_image, "an index >= 0")
        if self.network:
            require(is_own(self.network), "network", self.network, TAKES)
        require(self.spread > 0, "spread", self.spread, "a number > 0")
        require(all(n >= 1 for n in self.hidden + self.channels), "hidden or channels", self.hidden, "widths >= 1")
        require(
            self.reference_steps >= 0 and self.reference_steps % STEPS == 0,
            "reference_steps", self.reference_steps, f"a multiple of {STEPS}, or 0",
        )  # fmt: skip

    @property
    def unread(self) -> Mapping[str, str]:
        """Settings that these others leave without effect."""
        described = ("channels", "hidden", "activation", "weights") if self.network else ()
        return dict.fromkeys(described, "its default: it has no effect on a network of your own")

    @property
    def scheduled(self) -> str:
        """What of these settings is planned over the whole run."""
        if self.reference and not self.reference_steps:
            return "references take as many steps as the search makes passes; give reference_steps"
        constant = self.schedule == "constant"
        return "" if constant else "its learning_rate falls to zero by the last one; with --schedule constant it can"

    def rate(self, steps: int) -> optax.Schedule:
        """The learning rate, over so many steps."""
        if self.schedule == "constant":
            return optax.constant_schedule(self.learning_rate)
        return optax.linear_schedule(self.learning_rate, 0.0, steps)

    @property
    def passes(self) -> int:
        """Forward passes that a member of the search costs, each an evaluation."""
        return 1

    def built(self, shape: tuple[int, ...], classes: int, bias: bool) -> Network:
        """The network that these settings describe, for examples of `shape`."""
        return build(
            shape,
            classes,
            channels=self.channels,
            hidden=self.hidden,
            activation=self.activation,
            weights=self.weights,
            bias=bias,
        )

    def batch(self, task: Task, generation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The examples that score a generation: consecutive ones of the train set, as if it were a ring."""
        examples = len(task.train.y)
        count = min(self.images, examples)
        rows = rotating_rows(examples, count, generation if self.batches == "rotating" else 0, self.first_image)
        return task.inputs(task.train.x[rows]), task.train.y[rows]

    def objective(self, criterion: Criterion, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """The fitness of a member, float32 `[]`."""
        if not criterion.classifies:
            return jnp.mean(criterion.reward(logits, labels))
        if self.fitness == "accuracy":
            return accuracy(logits, labels)
        return scaled_log_likelihood(logits, labels, self.spread)

    def objective_by_example(self, criterion: Criterion, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """The same, shared out among the examples `[n]`."""
        if not criterion.classifies:
            return criterion.reward(logits, labels)
        if self.fitness == "accuracy":
            return correct_by_example(logits, labels)
        return scaled_log_likelihood_by_example(logits, labels, self.spread)


Networks = Callable[[Any], Network]
"""The network whose params are sought, made from the data of a stage, which have the examples as `task`."""


def bred(
    config: ForwardConfig,
    criterion: Criterion,
    network: Networks,
    breeding: Breeding,
    more: More | None = None,
    cost: Cost | None = None,
) -> Searcher:
    """A search whose members are made by an algorithm, and scored by forward passes alone.

    Args:
        config: says on which examples, and what is maximised.
        criterion: what outputs are for.
        network: whose params are the members.
        breeding: the algorithm of each generation.
        more: who else stands for champion.
        cost: what is made small beside, by NSGA-II; all members must be scored every generation then.
    """

    def fitness(data: Any, generation: jax.Array) -> Worth:
        x, y = config.batch(data.task, generation)
        apply = network(data).apply
        return lambda genome: config.objective(criterion, apply(genome, x), y)

    return searcher.bred(config.population, lambda data: network(data).init, fitness, breeding, more, cost)


def search(
    config: ForwardConfig, criterion: Criterion, network: Networks, key: Key, sought: Searcher
) -> Callable[[int], Programs]:
    """The programs of a search, for so many members at once.

    Args:
        config: says when the validation set is looked at.
        criterion: what outputs are for.
        network: whose params are sought.
        key: root of the search.
        sought: how it goes on.
    """

    def worth(data: Any) -> Worth:
        apply = network(data).apply
        x, y = data.task.inputs(data.task.validation.x), data.task.validation.y
        return lambda genome: criterion.score(apply(genome, x), y)

    def metrics(data: Any, state: State, best: Member) -> dict[str, jax.Array]:
        x, y = config.batch(data.task, state.generation)
        return {"train": criterion.score(network(data).apply(best, x), y)}

    start_key, run_key = jax.random.split(key)
    look = Look(config.validate_every, config.generations, config.validate_top, worth)
    return searcher.search(sought, start_key, run_key, look, metrics)


def descent(criterion: Criterion, network: Networks, key: Key, steps: int, learning_rate: float = 1e-3) -> Programs:
    """Plain training of one network by Adam, `STEPS` gradient steps of `BATCH` examples a generation.

    Args:
        criterion: what its outputs are for.
        network: what to train, made from the stage's data.
        key: of the first params and of the batches.
        steps: in all; the learning rate falls to zero by the last.
        learning_rate: the first one, of Adam.
    """
    optimizer = optax.adam(optax.linear_schedule(learning_rate, 0.0, steps))
    start_key, run_key = jax.random.split(key)

    def start(data: Any) -> Search:
        population = pop.init(start_key, training.learner(network(data).init, optimizer), 1)
        state = State(population, jnp.full(1, -jnp.inf), jnp.int32(0))
        return Search(state, pop.take(population.params, 0), jnp.float32(-jnp.inf), jnp.int32(0))

    def step(search: Search, data: Any) -> tuple[Search, dict[str, jax.Array]]:
        apply, task = network(data).apply, data.task
        generation = search.state.generation + 1

        def loss(params: Member, examples: Examples, key: Key) -> jax.Array:
            return -jnp.mean(criterion.reward(apply(params, task.inputs(examples.x)), examples.y))

        population, losses = training.train(
            jax.random.fold_in(run_key, generation),
            search.state.population,
            task.train,
            loss,
            optimizer,
            steps=STEPS,
            batch_size=BATCH,
        )
        fitness = -losses.mean(axis=1)
        x, y = task.inputs(task.validation.x), task.validation.y
        validation = evaluate(lambda params: criterion.score(apply(params, x), y), population.params, 1)
        search = search._replace(state=State(population, fitness, generation))
        return update_champion(search, population.params, validation, generation), {
            "best": fitness[0],
            "mean": fitness[0],
            "validation": validation[0],
        }

    return Programs(start, step)


def contestants(
    config: ForwardConfig,
    criterion: Criterion,
    dataset: Dataset,
    data: Any,
    network: Networks,
    searchers: Mapping[str, Searcher],
    references: Mapping[str, Networks],
    judge: Callable[[Member], Judged],
    *,
    key: Key,
    candidates: int,
    saved: Callable[[Member], Member] = lambda genome: genome,
) -> dict[str, Contestant]:
    """The search, its control, and the references if asked for.

    Args:
        config: of the run.
        criterion: what outputs are for.
        dataset: all three sets.
        data: of every stage; the examples are its `task`.
        network: whose params are sought.
        searchers: by name; all make as many forward passes in a generation.
        references: what is trained by gradient beside them, by name, made from the data of its stage.
        judge: says what is worth what is `saved` of a champion.
        key: root of the run.
        candidates: members that the search scores in a generation.
        saved: what is saved of a genome.
    """
    if not criterion.classifies:
        config.require_no_classes(("fitness", "spread"))
    if config.network:
        _require_layers(searchers, data)
    # Convolutions have large temporaries, and gain nothing by standing beside others on a CPU.
    chunk = min(config.population, members_at_once(config.chunk, on_cpu=1 if config.channels else 16))
    evaluations = config.passes * (config.population + config.generations * candidates)
    passes = evaluations * min(config.images, len(dataset.train.y))
    found: dict[str, Contestant] = {}
    for i, (name, sought) in enumerate(searchers.items(), start=1):
        programs = search(config, criterion, network, jax.random.fold_in(key, i), sought)
        file = metrics_file(name, "search")
        work = (config.passes * candidates, "eval")
        stage = Stage(name, programs, config.generations, work, chunk=chunk, metrics=file)
        found[name] = Phases(
            [Phase(stage, lambda _: data, without_population)],
            judge,
            evaluations=evaluations,
            gradient_steps=0,
            example_passes=passes,
            champions=lambda kept: [saved(kept[0].champion)],
        )
    batch = min(BATCH, len(dataset.train.y))
    steps = config.reference_steps or max(1, passes // (PASSES * batch * STEPS)) * STEPS
    for i, (name, make) in enumerate(references.items() if config.reference else (), start=1 + len(searchers)):
        stage = Stage(
            name,
            lambda chunk, make=make, i=i: descent(criterion, make, jax.random.fold_in(key, i), steps),
            steps // STEPS,
            (STEPS, "steps"),
            metrics=metrics_file(name, "search"),
        )
        found[name] = Phases(
            [Phase(stage, lambda _: data, without_population)],
            judging(make(data), criterion, data.task, dataset),
            evaluations=0,
            gradient_steps=steps,
            example_passes=PASSES * steps * batch,
        )
    return found


def scale_notes(config: ForwardConfig, criterion: Criterion) -> list[str]:
    """Why a loss may say less than the accuracy beside it."""
    if config.fitness != "likelihood" or not criterion.classifies:
        return []
    return [
        f"Fitness brings logits to a standard deviation of {config.spread:g} before it looks at them. Their own scale, "
        "on which the loss and the probabilities of `predict` depend, is nobody's aim, so a loss may be high beside a "
        "good accuracy; which class is the likeliest does not depend on it."
    ]


def require_no_state(network: Network) -> None:
    """Raise an InputError for a network with state, which forward passes alone leave as it was made."""
    if network.update is not None:
        raise InputError(
            "your network has a state beside its weights, such as the running statistics of batch normalisation, and "
            "this search takes no training pass that would estimate it; use layers without, such as LayerNorm or "
            "GroupNorm, or the experiment hybrid, which trains it"
        )


def _require_layers(searchers: Mapping[str, Searcher], data: Any) -> None:
    """Raise an InputError if a search reads a network's linear layers, and cannot read those of the user's own."""
    for sought in searchers.values():
        try:
            jax.eval_shape(lambda data, sought=sought: sought.start(jax.random.key(0), data, 1), data)
        except ValueError as error:
            raise InputError(
                f"this search cannot read the layers of your network: {shortened(error, 300)}; give another one, or "
                "take another search, such as --preset genetic of masks, which reads none"
            ) from None


def figures(saved: Saved) -> dict[str, Callable[[Path], str]]:
    """The curves."""
    scored = next(iter(saved.result["metrics"]["test"]))
    caption = (
        "Left: fitness of the best member and the mean of all, on the train examples of their generation. Right: "
        f"{scored} on validation data, and of the best member on the train examples of its generation."
    )
    if saved.result["references"]:
        caption += " References are trained by gradient: a level is what their champion has."
    fitness = "accuracy" if saved.config.fitness == "accuracy" else "log-likelihood [nats]"
    label = f"fitness: {fitness}" if scored == "accuracy" else "fitness: minus the loss"
    return {"curves.png": captioned(caption, draw_curves, saved, label, scored)}


def draw_curves(path: Path, saved: Saved, fitness: str, scored: str) -> None:
    """Fitness, and what validation prefers, by generation."""
    own, control, *references = competitors(saved)
    sign = -1 if scored == "loss" else 1
    levels = [each.level(sign * each.entry["metrics"]["validation"][scored]) for each in references]
    panels = [
        Panel(
            "generation",
            fitness,
            [
                own.by_generation("best"),
                own.by_generation("mean", "mean (left)", "thin"),
                control.by_generation("best"),
            ],
        ),
        Panel(
            "generation",
            f"validation {'minus the loss' if scored == 'loss' else scored}",
            [
                own.by_generation("validation"),
                control.by_generation("validation"),
                *levels,
                own.by_generation("train", "train batch (right)", "thin"),
            ],
        ),
    ]
    if own.has("hypervolume"):
        areas = [each.by_generation("hypervolume") for each in (own, control)]
        panels.append(Panel("generation", "hypervolume of the front (validation)", areas))
    plots.curves(path, panels)
