"""The programs of one phase of the autoencoder experiment: one weight matrix is searched for, the others are frozen."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import genetics, training
from jevo import population as pop
from jevo.data.task import rotating_rows
from jevo.experiments.autoencoder.config import Config
from jevo.genetics import Algorithm, Search, State, update_champion
from jevo.genetics.selection import descending
from jevo.networks import ACTIVATIONS, INITIALIZERS, Autoencoder, tied
from jevo.runs import Programs
from jevo.training import Learner, evaluate, mean_over_rows
from jevo.types import Fitness, Key, Member, Population

Method = Literal["ga", "random-search", "ga-sgd", "sgd-layerwise", "sgd-joint"]
"""How a phase goes about it: a method, or the control of `ga`."""

BRED = ("ga", "random-search", "ga-sgd")
"""Methods whose population changes by more than learning."""
TRAINED = ("ga-sgd", "sgd-layerwise", "sgd-joint")
"""Methods whose members take gradient steps."""

LEAST_ERROR = 1e-12
"""A mean squared error below this counts as this, so that 1/RMSE is finite."""


class Data(NamedTuple):
    """What a phase reads.

    Attributes:
        train, validation: `(x [n, inputs],)` where a layer is to reconstruct its own input, or `(x, y [n, pixels])`.
        below: params of the frozen layers, as `stacked` has them.
    """

    train: tuple[jax.Array, ...]
    validation: tuple[jax.Array, ...]
    below: Member


class Effort(NamedTuple):
    """What a method spends in a generation.

    Attributes:
        members: that are scored; the first population is one generation's more.
        learners: members that take gradient steps.
        steps: of each of them.
    """

    members: int
    learners: int
    steps: int

    @property
    def gradient_steps(self) -> int:
        """Of all members together."""
        return self.learners * self.steps


def effort(config: Config, method: Method) -> Effort:
    """What a method spends in a generation: all that train take as many steps together."""
    members = config.population if method in BRED else config.networks
    learners = config.learners if method in BRED else config.networks
    return Effort(members, learners, config.learners * config.steps // learners if method in TRAINED else 0)


class PhasePlan(NamedTuple):
    """One phase: its programs, how long it is, and what it costs.

    Attributes:
        programs: for so many members at once.
        generations: of the phase.
        effort: of a generation.
        first: makes the first member of the first population.
    """

    programs: Callable[[int], Programs]
    generations: int
    effort: Effort
    first: Callable[[], Member]


def layers(config: Config, shape: tuple[int, ...]) -> list[Autoencoder]:
    """The tied layers of an autoencoder with these units, the inputs first."""
    names = config.activation * (1 if len(config.activation) > 1 else len(shape) - 1)
    activations = [ACTIVATIONS[name] for name in names]
    first = jax.nn.sigmoid if config.output == "sigmoid" else ACTIVATIONS["linear"]
    # What a layer reconstructs is the features of the one below, so it goes through that one's activation.
    restores = [first, *activations[:-1]]
    return [
        tied(inputs, outputs, activation, restore, bias=config.bias, kernel_init=INITIALIZERS[config.weights])
        for inputs, outputs, activation, restore in zip(shape[:-1], shape[1:], activations, restores, strict=True)
    ]


def error(autoencoder: Autoencoder, below: Autoencoder, params: Member, frozen: Member, rows: Any) -> jax.Array:
    """The mean squared error of what an autoencoder makes of rows `(x,)` or `(x, y)`: float32 `[]`.

    With a target of its own, the reconstruction goes on through the frozen decoder of the layers below.
    """
    found = autoencoder.decode(params, autoencoder.encode(params, rows[0]))
    return jnp.mean((found - rows[0]) ** 2 if len(rows) == 1 else (below.decode(frozen, found) - rows[1]) ** 2)


Score = Callable[[Population, Any, Member], Fitness]
"""`(params, rows, frozen params) -> 1 / RMSE [P]`."""


def scoring(autoencoder: Autoencoder, below: Autoencoder, chunk: int) -> Score:
    """How members are scored on rows, so many at once."""

    def score(params: Population, rows: Any, frozen: Member) -> Fitness:
        def fitness(params: Member) -> jax.Array:
            mean = mean_over_rows(lambda batch: error(autoencoder, below, params, frozen, batch), rows)
            return 1 / jnp.sqrt(jnp.maximum(mean, LEAST_ERROR))

        return evaluate(fitness, params, chunk)

    return score


Learn = Callable[[Key, State, Data, Any], State]
"""`(key, state, data, rows to score on) -> state`, after its best members have taken gradient steps."""


def learning(
    config: Config,
    effort: Effort,
    autoencoder: Autoencoder,
    below: Autoencoder,
    descend: optax.GradientTransformation,
    algorithm: Algorithm,
    chunk: int,
) -> Learn:
    """How the best members learn; nobody breeds of the others, nor stays."""
    members, learners, steps = effort
    score = scoring(autoencoder, below, chunk)

    def learn(key: Key, state: State, data: Data, rows: Any) -> State:
        order = descending(state.fitness)
        population, _ = training.train(
            key,
            pop.take(state.population, order[:learners]),
            data.train,
            lambda params, batch, _: error(autoencoder, below, params, data.below, batch),
            descend,
            steps=steps,
            batch_size=config.batch_size,
            chunk=chunk,
        )
        fitness = score(population.params, rows, data.below)
        if learners < members:
            population = pop.concat(population, pop.take(state.population, order[learners:]))
            fitness = jnp.concatenate([fitness, jnp.full(members - learners, -jnp.inf)])
        return state._replace(population=population, fitness=fitness)

    return learn


def phase(
    config: Config, method: Method, autoencoder: Autoencoder, below: Autoencoder, generations: int, key: Key
) -> PhasePlan:
    """A phase that searches for the params of `autoencoder` above the frozen layers `below`.

    Args:
        config: says how members mate, learn and are scored.
        method: who mates, and who learns.
        autoencoder: one layer, or a whole stack at once.
        below: the layers under it.
        generations: of the phase.
        key: root of the phase.
    """
    spent = effort(config, method)
    prune = method in BRED and config.prune
    descend = optimizer(config, spent.steps * generations, prune) if spent.steps else optax.identity()
    fresh = training.learner(autoencoder.init, descend)
    start_key, breed_key, train_key = jax.random.split(key, 3)

    def sample(data: Data, generation: jax.Array) -> Any:
        n = data.train[0].shape[0]
        rows = rotating_rows(n, min(config.images, n), generation)
        return jax.tree.map(lambda leaf: leaf[rows], data.train)

    def programs(chunk: int) -> Programs:
        score = scoring(autoencoder, below, chunk)
        algorithm = breeding(config, method, autoencoder, fresh, chunk)
        learn = learning(config, spent, autoencoder, below, descend, algorithm, chunk)

        def start(data: Data) -> Search:
            population = pop.init(start_key, fresh, spent.members, chunk)
            state = algorithm.init(population, score(population.params, sample(data, jnp.int32(0)), data.below))
            return Search(state, pop.take(population.params, 0), jnp.float32(-jnp.inf), jnp.int32(0))

        def advanced(state: State, data: Data, rows: Any, generation: jax.Array) -> State:
            if spent.steps:
                state = learn(jax.random.fold_in(train_key, generation), state, data, rows)
            if method not in BRED:
                return state._replace(generation=generation)
            scored = genetics.scored(lambda candidates: score(candidates.params, rows, data.below))
            return genetics.generation(algorithm, scored, breed_key, state)

        def step(search: Search, data: Data) -> tuple[Search, dict[str, jax.Array]]:
            generation = search.state.generation + 1
            state = advanced(search.state, data, sample(data, generation), generation)
            best = pop.take(state.population.params, jnp.argmax(state.fitness)[None])
            validation = score(best, data.validation, data.below)
            metrics = {
                "best": jnp.max(state.fitness),
                "mean": jnp.mean(state.fitness),
                "validation": validation[0],
                "zeros": jnp.stack(zeros(pop.take(best, 0))),
            }
            if method == "ga-sgd":
                # Survivors come first in a new population.
                leading = descending(state.fitness)[: spent.learners]
                metrics["promoted"] = jnp.mean(leading >= spent.learners, dtype=jnp.float32)
            return update_champion(search._replace(state=state), best, validation, generation), metrics

        return Programs(start, step)

    def first() -> Member:
        return autoencoder.init(jax.random.split(jax.random.clone(start_key), spent.members)[0])

    return PhasePlan(programs, generations, spent, first)


def breeding(
    config: Config, method: Method, autoencoder: Autoencoder, fresh: Callable[[Key], Learner], chunk: int
) -> Algorithm:
    """How a population of `Learner` changes from one generation to the next, learning apart."""
    if method not in ("ga", "ga-sgd"):  # Of restarts, which never change but by learning, only `init` is used.
        return genetics.random_search(fresh, elites=config.survivors, rescore=True, chunk=chunk)
    crossover = genetics.CROSSOVERS[config.crossover]
    cross = crossover() if config.crossover == "average" else crossover(config.crossover_rate)
    erase = {"random": genetics.zero, "smallest": genetics.prune}[config.mutation](config.mutation_rate)
    mutate = genetics.route(kernel=erase)
    return genetics.genetic(
        genetics.truncation(config.breeders, config.lucky),
        training.mating(cross, autoencoder.symmetries if config.align and method == "ga-sgd" else ()),
        lambda key, learner: learner._replace(params=mutate(key, learner.params)),
        elites=config.elites,
        lucky=config.lucky,
        parents=config.parents,
        # Under ga-sgd survivors have just been scored, after learning; else their scores are of other examples.
        rescore=method == "ga",
        chunk=chunk,
    )


def optimizer(config: Config, steps: int, prune: bool) -> optax.GradientTransformation:
    """Adam over a phase of `steps`; to prune is to leave every kernel's exact zeros as they are."""
    rate = optax.cosine_decay_schedule(config.lr, steps) if config.schedule == "cosine" else config.lr
    return optax.chain(optax.adam(rate), training.keep_zeros("kernel")) if prune else optax.adam(rate)


def zeros(params: Member) -> list[jax.Array]:
    """The share of exact zeros in each kernel, the first layer's first: float32 `[]` each."""
    layers = [params] if "kernel" in params else [params[f"layer_{i}"] for i in range(len(params))]
    return [jnp.mean(layer["kernel"] == 0, dtype=jnp.float32) for layer in layers]
