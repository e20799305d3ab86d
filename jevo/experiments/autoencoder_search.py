"""The programs of one phase of the autoencoder experiment: one weight matrix is searched for, the others are frozen."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import genetics, training
from jevo import population as pop
from jevo.data.task import ring
from jevo.experiments.autoencoder_config import Config
from jevo.genetics import GeneticAlgorithm, Search, State, crown
from jevo.genetics.selection import descending
from jevo.networks import ACTIVATIONS, INITIALIZERS, Autoencoder, tied
from jevo.runs.memory import members_at_once
from jevo.training import Learner, evaluate, mean_over_rows
from jevo.types import Fitness, Key, Member, Population

Way = Literal["ga", "random-search", "ga-sgd", "sgd-layerwise", "sgd-joint"]
"""How a phase goes about it: a method, or the control of `ga`."""

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


class Programs(NamedTuple):
    """One phase's programs, as a Stage takes them, and their cost.

    Attributes:
        start, step: `start(data)` and `step(search, data)`.
        generations: of the phase.
        first: makes the first member of the first population.
        evaluations, gradient_steps: of all members together, in a generation; the first population is one
            generation's evaluations more.
    """

    start: Callable[[Data], Search]
    step: Callable[[Search, Data], tuple[Search, dict[str, jax.Array]]]
    generations: int
    first: Callable[[], Member]
    evaluations: int
    gradient_steps: int


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


def phase(
    config: Config, way: Way, autoencoder: Autoencoder, below: Autoencoder, generations: int, key: Key
) -> Programs:
    """A phase that searches for the params of `autoencoder` above the frozen layers `below`.

    Args:
        config: says how members mate, learn and are scored.
        way: who mates, and who learns.
        autoencoder: one layer, or a whole stack at once.
        below: the layers under it.
        generations: of the phase.
        key: root of the phase.
    """
    trained = way in ("ga-sgd", "sgd-layerwise", "sgd-joint")
    bred = way in ("ga", "random-search", "ga-sgd")
    members = config.population if bred else config.networks
    learners = config.learners if bred else config.networks
    steps = config.learners * config.steps // learners
    descend = optimizer(config, steps * generations, prune=bred and config.prune) if trained else None
    fresh = training.learner(autoencoder.init, descend or optax.identity())
    algorithm = breeding(config, way, autoencoder, fresh)
    start_key, breed_key, train_key = jax.random.split(key, 3)

    def score(params: Population, rows: Any, frozen: Member) -> Fitness:
        def fitness(params: Member) -> jax.Array:
            mean = mean_over_rows(lambda batch: error(autoencoder, below, params, frozen, batch), rows)
            return 1 / jnp.sqrt(jnp.maximum(mean, LEAST_ERROR))

        return evaluate(fitness, params, _chunk(config))

    def learn(key: Key, state: State, data: Data, rows: Any) -> State:
        """The state after its better members have taken gradient steps; nobody breeds of the others, nor stays."""
        assert descend
        order = descending(state.fitness)
        population, _ = training.train(
            key,
            pop.take(state.population, order[:learners]),
            data.train,
            lambda params, batch, _: error(autoencoder, below, params, data.below, batch),
            descend,
            steps=steps,
            batch_size=config.batch_size,
            chunk=_chunk(config),
        )
        fitness = score(population.params, rows, data.below)
        if learners < members:
            population = pop.concat(population, pop.take(state.population, order[learners:]))
            fitness = jnp.concatenate([fitness, jnp.full(members - learners, -jnp.inf)])
        return algorithm.init(population, fitness)._replace(generation=state.generation)

    def sample(data: Data, generation: jax.Array) -> Any:
        n = data.train[0].shape[0]
        rows = ring(n, min(config.images, n), generation)
        return jax.tree.map(lambda leaf: leaf[rows], data.train)

    def start(data: Data) -> Search:
        population = pop.init(start_key, fresh, members, _chunk(config))
        state = algorithm.init(population, score(population.params, sample(data, jnp.int32(0)), data.below))
        return Search(state, pop.take(population.params, 0), jnp.float32(-jnp.inf), jnp.int32(0))

    def step(search: Search, data: Data) -> tuple[Search, dict[str, jax.Array]]:
        generation = search.state.generation + 1
        rows, state, notes = sample(data, generation), search.state, {}
        if trained:
            state = learn(jax.random.fold_in(train_key, generation), state, data, rows)
        if bred:
            state = genetics.generation(
                algorithm,
                lambda _, candidates: (candidates, score(candidates.params, rows, data.below)),
                breed_key,
                state,
            )
        else:
            state = state._replace(generation=generation)
        if way == "ga-sgd":
            # Survivors come first in a new population.
            notes["promoted"] = jnp.mean(descending(state.fitness)[:learners] >= learners, dtype=jnp.float32)
        best = pop.take(state.population.params, jnp.argmax(state.fitness)[None])
        validation = score(best, data.validation, data.below)
        return crown(search._replace(state=state), best, validation, generation), {
            "best": jnp.max(state.fitness),
            "mean": jnp.mean(state.fitness),
            "validation": validation[0],
            "zeros": jnp.stack(zeros(pop.take(best, 0))),
            **notes,
        }

    return Programs(
        start,
        step,
        generations,
        lambda: autoencoder.init(jax.random.split(jax.random.clone(start_key), members)[0]),
        evaluations=members,
        gradient_steps=learners * steps if trained else 0,
    )


def breeding(config: Config, way: Way, autoencoder: Autoencoder, fresh: Callable[[Key], Learner]) -> GeneticAlgorithm:
    """How a population of `Learner` changes from one generation to the next, learning apart."""
    half = config.population // 2
    if way not in ("ga", "ga-sgd"):  # Of restarts, which never change but by learning, only `init` is used.
        return genetics.random_search(fresh, survivors=half, rescore=True, batch_size=_chunk(config))
    cross = {
        "average": genetics.average,
        "uniform": lambda: genetics.uniform(config.mate_rate),
        "neuron": lambda: genetics.uniform(config.mate_rate, per="neuron"),
    }[config.mate]()
    erase = {"random": genetics.zero, "smallest": genetics.prune}[config.erase](config.zero)
    mutate = genetics.route(kernel=erase)
    return genetics.genetic(
        genetics.truncation(half),
        training.mating(cross, autoencoder.symmetries if config.align and way == "ga-sgd" else ()),
        lambda key, learner: learner._replace(params=mutate(key, learner.params)),
        survivors=half,
        # Under ga-sgd survivors have just been scored, after learning; else their scores are of other examples.
        rescore=way == "ga",
        batch_size=_chunk(config),
    )


def _chunk(config: Config) -> int:
    """Members at once: large layers with their moments fill the cache one at a time."""
    return members_at_once(config.chunk, on_cpu=8 if config.method == "ga" else 1)


def optimizer(config: Config, steps: int, prune: bool) -> optax.GradientTransformation:
    """Adam over a phase of `steps`; to prune is to leave every kernel's exact zeros as they are."""
    rate = optax.cosine_decay_schedule(config.lr, steps) if config.schedule == "cosine" else config.lr
    return optax.chain(optax.adam(rate), training.keep_zeros("kernel")) if prune else optax.adam(rate)


def zeros(params: Member) -> list[jax.Array]:
    """The share of exact zeros in each kernel, the first layer's first: float32 `[]` each."""
    layers = [params] if "kernel" in params else [params[f"layer_{i}"] for i in range(len(params))]
    return [jnp.mean(layer["kernel"] == 0, dtype=jnp.float32) for layer in layers]
