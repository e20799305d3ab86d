"""SGD, then mate: a population trains by gradient for a cycle, its members mate by crossing weights, and again.

    python -m jevo.experiments.hybrid --data mnist

Independent restarts and one long run, at the same number of member gradient steps, are trained in the same command.
The `faithful` preset is the published recipe (patelotech, genetic_deep_learning), the default is jevo's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jevo import genetics, networks, training
from jevo import population as pop
from jevo.data.datasets import against_rest, load
from jevo.data.task import Examples, Task, normalize, to_device
from jevo.experiments import hybrid_report
from jevo.genetics import GeneticAlgorithm, State
from jevo.networks import INITIALIZERS, Activation, Network, Weights
from jevo.runs.checkpoint import load_arrays, save_arrays
from jevo.runs.command import main
from jevo.runs.config import RunConfig, from_settings, require
from jevo.runs.contest import Contestant, compete, verdict
from jevo.runs.loop import Stage
from jevo.runs.record import open_run, precision
from jevo.training import Learner, evaluate, mean_over_rows, predict, train
from jevo.types import Cross, Key, Member, Mutate

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": partial(optax.adamw, weight_decay=0.0),
    "nadam": optax.nadam,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "momentum": partial(optax.sgd, momentum=0.9),
    "sgd": optax.sgd,
}

Objective = Callable[[jax.Array, jax.Array], jax.Array]
"""`(logits [batch, classes], labels [batch]) -> float32 []`, higher is better."""


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Train a population by gradient and mate it every cycle, against restarts at equal gradient steps."""

    presets: ClassVar = {
        "default": {},
        "faithful": {
            "network": "logistic", "bias": False, "weights": "uniform", "positive": "1", "center": 50.0, "scale": 50.0,
            "loss": "squared", "fitness": "train", "optimizer": "sgd", "lr": 1e-3, "schedule": "constant",
            "batch_size": 0, "keep": 4, "parents": "drawn", "mate": "uniform", "align": False, "guard": False,
            "consensus": False,
        },
    }  # fmt: skip

    members: int = 10
    """Networks of the population."""
    cycles: int = 10
    """Cycles of training; the population mates between them [cycles]."""
    steps: int = 600
    """Gradient steps of each member in a cycle [steps]."""
    legs: int = 3
    """Parts of a cycle: after each the networks are scored, and the run can stop and go on."""
    repeats: int = 1
    """Seeds to run side by side as one batch: seed, seed + 1, and so on."""
    network: Literal["logistic", "mlp", "cnn"] = "mlp"
    """Logistic regression, dense layers, or convolutions and then dense layers."""
    hidden: tuple[int, ...] = (100,)
    """Units of each hidden dense layer of mlp and cnn."""
    channels: tuple[int, ...] = (8, 16)
    """Channels of the 3x3 convolutions of cnn, each with a 2x2 max-pooling."""
    activation: Activation = "relu"
    """After each hidden layer."""
    weights: Weights = "he"
    """How the first weights are drawn."""
    bias: bool = True
    """Whether layers have biases."""
    dropout: float = 0.0
    """Probability that a unit of a hidden dense layer is dropped in training."""
    positive: str = ""
    """Class to tell from all others; unset: tell every class from every other."""
    center: float | None = None
    """Subtracted from every input feature. Unset: its mean over the train examples."""
    scale: float | None = None
    """Divides every input feature then. Unset: the standard deviation over the train examples."""
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    """What gradients descend. squared: summed over the batch, and reported as mean |y - p|."""
    smoothing: float = 0.0
    """Share of each label that is spread over all classes in training, with cross_entropy."""
    fitness: Literal["validation", "train"] = "validation"
    """Examples whose loss decides who mates."""
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "adagrad", "momentum", "sgd"] = "adam"
    """Optimizer of every member."""
    lr: float = 2e-3
    """Learning rate."""
    lr_spread: float = 1.0
    """Members' learning rates are drawn between lr / lr_spread and lr * lr_spread."""
    weight_decay: float = 0.0
    """Decoupled decay of adamw: a step takes lr * weight_decay of every weight."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate goes over the whole run: to zero by a half cosine, or not at all."""
    batch_size: int = 64
    """Train examples in a gradient step; 0 for all of them [examples]."""
    shared_batches: bool = False
    """All members of a seed see the same batches; otherwise each has shuffles of its own."""
    mate: Literal["average", "uniform", "neuron", "layer", "soup", "clone"] = "average"
    """How two parents make a child: their mean; each weight, neuron or layer from either; soup: the mean of all `keep`
    parents; clone: a copy of one, with its learning rate perturbed."""
    align: bool = True
    """Renumber the other parents' hidden units to match the first's."""
    guard: bool = True
    """A child that is worse than the mean of its parents gives its place to a copy of the better one."""
    keep: int = 0
    """Best members that mate; 0 for all."""
    parents: Literal["in_turn", "drawn"] = "in_turn"
    """Those who mate do so in turn, each as often and with another; or every parent is drawn among them."""
    elites: int = 0
    """Best members that go on as they are; the others are replaced by children."""
    consensus: bool = True
    """After each leg, the mean of all members stands for champion beside them; it can win once they have mated."""
    chunk: int = 5
    """Members trained or bred side by side, of all seeds together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("members", "cycles", "steps", "legs", "repeats", "chunk"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.members >= 2, "members", self.members, "at least 2: a member mates with another")
        require(self.steps % self.legs == 0, "legs", self.legs, f"a divisor of the {self.steps} steps of a cycle")
        require(all(n >= 1 for n in self.hidden), "hidden", self.hidden, "widths >= 1")
        require(
            all(n >= 1 for n in self.channels) and (self.network != "cnn" or bool(self.channels)),
            "channels", self.channels, "widths >= 1, and for a cnn at least one",
        )  # fmt: skip
        for name in ("dropout", "smoothing"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a share from 0, below 1")
        require(self.lr > 0, "lr", self.lr, "a number > 0")
        require(self.lr_spread >= 1, "lr_spread", self.lr_spread, "a factor >= 1")
        require(
            self.weight_decay == 0 or (self.optimizer == "adamw" and self.weight_decay > 0),
            "weight_decay", self.weight_decay, "0, or with the optimizer adamw a number > 0",
        )  # fmt: skip
        require(self.scale is None or self.scale > 0, "scale", self.scale, "a number > 0")
        require(self.batch_size >= 0, "batch_size", self.batch_size, "a number of examples, or 0 for all")
        require(0 <= self.keep <= self.members, "keep", self.keep, f"0 for all, or up to the {self.members} members")
        require(
            0 <= self.elites < self.members,
            "elites", self.elites, f"0 to {self.members - 1}, fewer than the members",
        )  # fmt: skip


class Search(NamedTuple):
    """One seed's population under way. With `repeats` all of it has a leading axis `[R]`.

    Attributes:
        state: of the genetic algorithm, its population of `Learner` as trained so far.
        champion: the params with the lowest validation loss so far.
        validation: float32 `[]`, minus that loss; -inf before the first look.
        found: int32 `[]`, each member's gradient steps until then.
    """

    state: State
    champion: Member
    validation: jax.Array
    found: jax.Array


def network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network that `config` describes, for examples of `shape`."""
    if config.network == "logistic":
        kernel_init = INITIALIZERS[config.weights]
        return networks.logistic(int(np.prod(shape)), classes, bias=config.bias, kernel_init=kernel_init)
    return networks.build(
        shape,
        classes,
        channels=config.channels if config.network == "cnn" else (),
        hidden=config.hidden,
        activation=config.activation,
        weights=config.weights,
        bias=config.bias,
        dropout=config.dropout,
    )


def objectives(config: Config) -> tuple[Objective, Objective]:
    """Minus the loss that gradients descend, and minus the one that is reported and compared."""
    if config.loss == "squared":
        return training.squared_error, training.absolute_error
    if config.smoothing:
        return partial(training.smoothed_log_likelihood, smoothing=config.smoothing), training.log_likelihood
    return training.log_likelihood, training.log_likelihood


def optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """The optimizer over a run of `steps`. The learning rate is part of its state, so each member has its own."""
    make = OPTIMIZERS[config.optimizer]
    if config.weight_decay:
        make = partial(make, weight_decay=config.weight_decay)
    descent = optax.inject_hyperparams(lambda learning_rate: make(learning_rate))(learning_rate=config.lr)
    if config.schedule == "constant":
        return descent
    return optax.chain(descent, optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, steps)))


def algorithm(config: Config, network: Network) -> GeneticAlgorithm:
    """How a population of `Learner` mates."""
    crossovers: dict[str, Callable[[], Cross]] = {
        "average": genetics.average,
        "soup": genetics.average,
        "uniform": genetics.uniform,
        "neuron": lambda: genetics.uniform(per="neuron"),
        "layer": lambda: genetics.uniform(per="layer"),
        "clone": genetics.clone,
    }
    # A clone has nothing to match.
    symmetries = network.symmetries if config.align and config.mate != "clone" else ()
    keep, soup = config.keep or config.members, config.mate == "soup"
    draw = genetics.shuffled if config.parents == "in_turn" else genetics.truncation
    return genetics.genetic(
        genetics.leaders(keep) if soup else draw(keep),
        training.mating(crossovers[config.mate](), symmetries),
        _retune(genetics.perturb()) if config.mate == "clone" else lambda _, learner: learner,
        survivors=config.elites,
        rescore=True,  # Survivors train too.
        parents=keep if soup else 2,
        batch_size=config.chunk,
    )


Programs = tuple[
    Callable[[Key, Task], Search],
    Callable[[Key, Search, Task, jax.Array], tuple[Search, dict[str, jax.Array]]],
]


def search(config: Config, network: Network, members: int, leg: int, mating: GeneticAlgorithm | None) -> Programs:
    """The programs of one seed: `start(key, task)`, and `step(key, search, task, number)`, one leg of a cycle.

    Args:
        config: says how members are trained and scored.
        network: what they are.
        members: how many.
        leg: gradient steps of each in a leg.
        mating: what happens between cycles; None for nothing.
    """
    descend = optimizer(config, config.cycles * config.legs * leg)
    descended, reported = objectives(config)
    fresh = _spread(training.learner(network.init, descend), config.lr_spread)
    chunk = max(1, config.chunk // config.repeats)

    def score(params: Any, task: Task) -> tuple[jax.Array, jax.Array]:
        """Fitness `[P]`, and minus the validation loss `[P]`."""

        def on(params: Member, examples: Examples) -> jax.Array:
            return mean_over_rows(lambda rows: reported(network.apply(params, task.inputs(rows.x)), rows.y), examples)

        def both(params: Member) -> tuple[jax.Array, jax.Array]:
            validation = on(params, task.validation)
            return on(params, task.train) if config.fitness == "train" else validation, validation

        return evaluate(both, params, chunk)

    def crown(search: Search, params: Any, validation: jax.Array, steps: jax.Array) -> Search:
        """The search with a new champion, if one of these is better than the old one."""
        best = jnp.argmax(jnp.where(jnp.isnan(validation), -jnp.inf, validation))
        better = validation[best] > search.validation
        new = (pop.take(params, best), validation[best], steps)
        old = (search.champion, search.validation, search.found)
        return Search(search.state, *jax.tree.map(partial(jnp.where, better), new, old))

    def mean(params: Any, fitness: jax.Array) -> Any:
        """The mean of all members, each matched to the best: a population of one."""
        if config.align and network.symmetries:
            best = pop.take(params, jnp.argmax(fitness))
            params = jax.vmap(lambda member: genetics.align(best, member, network.symmetries))(params)
        return jax.tree.map(lambda leaf: leaf.mean(axis=0, keepdims=True), params)

    def start(key: Key, task: Task) -> Search:
        population = pop.init(jax.random.fold_in(key, 0), fresh, members, chunk)
        state = State(population, jnp.full(members, -jnp.inf), jnp.int32(0))
        return Search(state, pop.take(population.params, 0), jnp.float32(-jnp.inf), jnp.int32(0))

    def mate(
        key: Key, search: Search, task: Task, steps: jax.Array, mating: GeneticAlgorithm
    ) -> tuple[Search, jax.Array]:
        candidates = mating.ask(key, search.state)
        fitness, validation = score(candidates.members.params, task)
        crowned = crown(search, candidates.members.params, validation, steps)
        # The children's loss before any further step, less the mean of their parents'. Survivors come first.
        among = search.state.fitness[candidates.parents]
        barrier = jnp.mean(among, axis=1) - fitness
        learners = candidates.members
        if config.guard:
            better = jnp.take_along_axis(candidates.parents, jnp.argmax(among, axis=1, keepdims=True), axis=1)[:, 0]
            accepted = barrier <= 0
            learners = jax.tree.map(
                lambda child, parent: jnp.where(accepted.reshape(-1, *(1,) * (child.ndim - 1)), child, parent),
                learners,
                pop.take(search.state.population, better),
            )
        state = crowned.state._replace(population=learners)
        return crowned._replace(state=state), jnp.mean(barrier[config.elites :])

    def step(key: Key, search: Search, task: Task, number: jax.Array) -> tuple[Search, dict[str, jax.Array]]:
        mate_key, train_key = (jax.random.fold_in(jax.random.fold_in(key, i), number) for i in (1, 2))
        barrier = jnp.float32(jnp.nan)
        if mating:
            search, barrier = jax.lax.cond(
                (number > 0) & (number % config.legs == 0),
                lambda search, mating=mating: mate(mate_key, search, task, number * leg, mating),
                lambda search: (search, barrier),
                search,
            )

        def loss(params: Member, batch: Examples, key: Key) -> jax.Array:
            return -descended(network.apply(params, task.inputs(batch.x), key), batch.y)

        population, _ = train(
            train_key,
            search.state.population,
            task.train,
            loss,
            descend,
            steps=leg,
            batch_size=config.batch_size or None,
            shared=config.shared_batches,
            chunk=chunk,
        )
        fitness, validation = score(population.params, task)
        failed = jnp.isnan(fitness)
        state = State(population, jnp.where(failed, -jnp.inf, fitness), search.state.generation + 1)
        search = crown(search._replace(state=state), population.params, validation, (number + 1) * leg)
        if mating and config.consensus:
            agreed = mean(population.params, state.fitness)
            search = crown(search, agreed, score(agreed, task)[1], (number + 1) * leg)
        return search, {
            "fitness": jnp.max(state.fitness),
            "mean_fitness": jnp.nanmean(fitness),
            "validation_loss": -jnp.nanmax(validation),
            "barrier": barrier,
        }

    return start, step


def contestants(config: Config, network: Network) -> dict[str, Contestant]:
    """The search, and its controls at equal gradient steps: independent restarts, and one long run."""
    legs = config.cycles * config.legs
    total = config.members * config.cycles * config.steps

    def contestant(name: str, members: int, mating: GeneticAlgorithm | None) -> Contestant:
        each = total // members // legs
        start, step = _repeated(config, search(config, network, members, each, mating))
        # Every leg, and after a mating; and the mean of all members every leg.
        scored = members * legs
        if mating:
            scored += members * (config.cycles - 1) + config.consensus * legs
        stage = Stage(
            name, start, step, legs, (members * each * config.repeats, "steps"), hybrid_report.METRICS[name],
            advice="try a smaller --lr",
        )  # fmt: skip
        return Contestant(stage, network, scored, total, lambda carry: pop.unstack(carry[0].champion))

    return {
        "search": contestant("search", config.members, algorithm(config, network)),
        "restarts": contestant("restarts", config.members, None),
        "long_run": contestant("long_run", 1, None),
    }


def run(config: Config) -> dict[str, Any]:
    """The whole experiment, into its folder: what `result.json` holds.

    Raises:
        InputError: for data or settings that cannot be used.
        Interrupted: when asked to stop; the same config goes on.
    """
    with open_run("hybrid", config) as record:
        if done := record.result():
            print(f"{record.folder} is done; --fresh starts over")
            return done
        dataset = load(config.data, config.data_dir)
        if config.positive:
            dataset = against_rest(dataset, config.positive)
        record.announce(dataset)
        net = network(config, dataset.train.x.shape[1:], len(dataset.classes))
        with jax.default_matmul_precision(precision(config)):
            task = to_device(dataset, config.center, config.scale)
            outcomes = {
                name: compete(record.folder, contestant, task, task, dataset, config.checkpoint_every)
                for name, contestant in contestants(config, net).items()
            }
        found: Search = outcomes["search"].carry[0]
        best = int(np.argmax(found.validation))
        champion = pop.take(found.champion, best)
        save_arrays(record.folder / "champion", {"params": champion, "mean": task.mean, "scale": task.scale})
        result = {
            **record.describe(dataset),
            **verdict("search", "restarts", outcomes, config.seed),
            "champion": {
                "seed": config.seed + best,
                "steps": int(found.found[best]),
                "validation_loss": -float(found.validation[best]),
            },
            **hybrid_report.summary(record.folder, config.cycles, config.legs),
        }
        hybrid_report.write(record, result, dataset, outcomes, best)
        return result


def champion(folder: Path, result: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The champion of a finished run: examples `[n, ...]` -> class probabilities `[n, classes]`."""
    config = from_settings(Config, result["config"], str(folder / "result.json"))
    shape, classes = tuple(result["data"]["shape"]), len(result["data"]["classes"])
    net = network(config, shape, classes)

    def arrays() -> dict[str, Any]:
        scale = jnp.zeros(()) if len(shape) > 1 else jnp.zeros((1, *shape))
        return {"params": net.init(jax.random.key(0)), "mean": jnp.zeros((1, *shape)), "scale": scale}

    saved = load_arrays(folder / "champion", jax.eval_shape(arrays))
    return lambda x: predict(lambda x: net.apply(saved["params"], normalize(x, saved["mean"], saved["scale"])), x)


def _repeated(config: Config, programs: Programs) -> tuple[Callable[[Task], Any], Callable[[Any, Task], Any]]:
    """The programs of one seed as those of all, side by side, as a Stage takes them.

    The carry is the search, with a leading axis `[R]`, and the number of the next leg, which has none: a program
    that branches by it takes one branch for all seeds.
    """
    start, step = programs

    def keys() -> jax.Array:
        return jnp.stack([jax.random.key(config.seed + i) for i in range(config.repeats)])

    def start_all(task: Task) -> tuple[Search, jax.Array]:
        return jax.vmap(start, in_axes=(0, None))(keys(), task), jnp.int32(0)

    def step_all(carry: tuple[Search, jax.Array], task: Task) -> tuple[Any, dict[str, jax.Array]]:
        search, number = carry
        search, seeds = jax.vmap(step, in_axes=(0, 0, None, None))(keys(), search, task, number)

        return (search, number + 1), {
            # A seed whose members have all failed ends the run: medians without it would be another experiment's.
            "best": jnp.where(jnp.isfinite(seeds["fitness"]).all(), jnp.median(seeds["fitness"]), -jnp.inf),
            "mean": jnp.median(seeds["mean_fitness"]),
            "validation": -jnp.median(seeds["validation_loss"]),
            "loss": -seeds["fitness"],
            "validation_loss": seeds["validation_loss"],
            "barrier": seeds["barrier"],
        }

    return start_all, step_all


def _spread(fresh: Callable[[Key], Learner], factor: float) -> Callable[[Key], Learner]:
    """Fresh members whose learning rates differ by up to `factor`, log-uniformly."""
    if factor == 1:
        return fresh

    def spread(key: Key) -> Learner:
        fresh_key, rate_key = jax.random.split(key)
        exponent = jax.random.uniform(rate_key, (), minval=-1.0, maxval=1.0)
        return _retune(lambda _, rate: rate * factor**exponent)(rate_key, fresh(fresh_key))

    return spread


def _retune(mutate: Mutate) -> Mutate:
    """A mutation of a member's learning rate."""

    def tune(key: Key, learner: Learner) -> Learner:
        rate = optax.tree.get(learner.optimizer, "learning_rate")
        return learner._replace(optimizer=optax.tree.set(learner.optimizer, learning_rate=mutate(key, rate)))

    return tune


if __name__ == "__main__":
    main(Config, run)
