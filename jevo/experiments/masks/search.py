"""The programs of the mask experiment: a search over masks, and the references that train by gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jevo import bits, genetics, training
from jevo import population as pop
from jevo.data.task import Examples, Task, rotating_rows
from jevo.experiments.masks.config import STEPS, Config
from jevo.genetics import Algorithm, Search, State, update_champion
from jevo.genetics.selection import descending
from jevo.networks import Network, masked
from jevo.networks.masks import kept, thinned
from jevo.runs import Programs
from jevo.training import accuracy, evaluate, log_likelihood, scaled_log_likelihood
from jevo.types import Fitness, Key, Member, Population


class Data(NamedTuple):
    """What the programs of this experiment read: the examples, and the frozen weights."""

    task: Task
    weights: Member


FRONT = 32
"""Masks on the front that is kept, at most."""
THINNEST = 1 / 30
"""Of the share of its weights that a child loses at most: the least."""
SPREADING = 0.2
"""The last part of the generations, in which children lose more and more."""

Breeding = Callable[[Data, jax.Array, int], Algorithm]
"""`(data, generation, members at once) -> algorithm`."""


def evolution(config: Config) -> Breeding:
    """The genetic algorithm of each generation, whose mutation rate follows the schedule."""
    selection = {
        "truncation": lambda: genetics.truncation(config.breeders, config.lucky),
        "tournament": lambda: genetics.tournament(config.tournament_size),
        "rank": genetics.rank,
        "roulette": genetics.roulette,
    }[config.selection]()
    constant = config.mutation_rate == config.final_mutation_rate

    def breeding(data: Data, generation: jax.Array, chunk: int) -> Algorithm:
        rate = config.mutation_rate if constant else scheduled_rate(config, generation)
        mutation = genetics.flip(rate) if config.mutation == "flip" else genetics.redraw(rate, config.redraw_ones)

        def thin(key: Key, genome: Member) -> Member:
            share_key, key = jax.random.split(key)
            # Wide steps at the end make the front long; from the start, the empty mask would be better than all.
            most = config.thinning ** jnp.minimum((1 - generation / config.generations) / SPREADING, 1)
            return thinned(key, genome, config.mask, most * THINNEST ** jax.random.uniform(share_key))

        return genetics.genetic(
            selection,
            genetics.CROSSOVERS[config.crossover](),
            genetics.chain(mutation, thin) if len(config.objectives) > 1 else mutation,
            elites=config.elites,
            lucky=config.lucky,
            parents=config.parents,
            rescore=config.rescored,
            chunk=chunk,
        )

    return breeding


def random_masks(config: Config, network: Network) -> Breeding:
    """The control: fresh masks each generation, as many as the search scores."""

    def breeding(data: Data, generation: jax.Array, chunk: int) -> Algorithm:
        def init(key: Key) -> Member:
            if len(config.objectives) == 1:
                return masked(network, data.weights, config.mask, config.density).init(key)
            share_key, thin_key, key = jax.random.split(key, 3)  # A front wants masks of any density.
            whole = masked(network, data.weights, config.mask, 1.0).init(key)
            return thinned(thin_key, whole, config.mask, jax.random.uniform(share_key))

        return genetics.random_search(init, elites=config.survivors, rescore=config.rescored, chunk=chunk)

    return breeding


class Searcher(NamedTuple):
    """How a search begins, and goes on: pure functions of its key, so that a run resumes from its State alone.

    Attributes:
        start: `(key, data, members at once) -> State`.
        step: `(key, state, data, members at once) -> State`, a generation later.
    """

    start: Callable[[Key, Data, int], State]
    step: Callable[[Key, State, Data, int], State]


def bred(config: Config, network: Network, breeding: Breeding) -> Searcher:
    """A search whose members are bred, and scored by forward passes alone.

    Args:
        config: says what is scored.
        network: without its mask.
        breeding: of each generation.
    """
    objective = {
        "accuracy": accuracy,
        "likelihood": lambda logits, labels: scaled_log_likelihood(logits, labels, config.spread),
    }[config.fitness]

    def score(
        data: Data, generation: jax.Array, population: Population, chunk: int, places: jax.Array | None = None
    ) -> tuple[Fitness, Any]:
        x, y = batch(config, data.task, generation)
        apply = masked(network, data.weights, config.mask).apply
        if len(config.objectives) == 1:
            return evaluate(lambda genome: objective(apply(genome, x), y), population, chunk, places), ()
        both = lambda genome: jnp.stack([objective(apply(genome, x), y), -kept(genome, config.mask)])  # noqa: E731
        objectives = evaluate(both, population, chunk, places)
        return genetics.nsga2_fitness(objectives), objectives

    def start(key: Key, data: Data, chunk: int) -> State:
        generation = jnp.int32(0)
        init = masked(network, data.weights, config.mask, config.density).init
        population = pop.init(key, init, config.population, chunk)
        fitness, own = score(data, generation, population, chunk)
        return breeding(data, generation, chunk).init(population, fitness)._replace(own=own)

    def step(key: Key, state: State, data: Data, chunk: int) -> State:
        generation = state.generation + 1
        evaluated = lambda _, population, places: score(data, generation, population, chunk, places)  # noqa: E731
        return genetics.generation(breeding(data, generation, chunk), evaluated, key, state, has_aux=True)

    return Searcher(start, step)


def search(config: Config, network: Network, key: Key, searcher: Searcher) -> Callable[[int], Programs]:
    """The programs of a search, for so many members at once.

    Args:
        config: says when the validation set is looked at.
        network: without its mask.
        key: root of the search.
        searcher: how it goes on.
    """
    start_key, run_key = jax.random.split(key)

    def programs(chunk: int) -> Programs:
        def start(data: Data) -> Search:
            state = searcher.start(start_key, data, chunk)
            first = pop.take(state.population, 0)
            front = genetics.empty_archive(first, FRONT, 2) if len(config.objectives) > 1 else ()
            return Search(state, first, jnp.float32(-jnp.inf), jnp.int32(0), front)

        def step(search: Search, data: Data) -> tuple[Search, dict[str, jax.Array]]:
            net = masked(network, data.weights, config.mask)
            state = searcher.step(run_key, search.state, data, chunk)
            generation = state.generation
            due = (generation % config.validate_every == 0) | (generation == config.generations)
            validated = jax.lax.cond(
                due,
                lambda: validate(config, net, search._replace(state=state), data.task, chunk),
                lambda: (search._replace(state=state), jnp.float32(jnp.nan)),
            )
            x, y = batch(config, data.task, generation)
            fitness = fitness_of(config, state)
            best = pop.take(state.population, jnp.argmax(fitness))
            metrics = {
                "best": jnp.max(fitness),
                "mean": jnp.mean(fitness),
                "train": accuracy(net.apply(best, x), y),
                "validation": validated[1],
            }
            if len(config.objectives) > 1:
                worst = jnp.array([0.0, -1.0])  # No image right, every weight kept.
                hypervolume = genetics.hypervolume(validated[0].front.objectives, worst)
                metrics |= {"kept": kept(best, config.mask), "hypervolume": hypervolume}
            return validated[0], metrics

        return Programs(start, step)

    return programs


def scheduled_rate(config: Config, generation: jax.Array) -> jax.Array:
    """The mutation rate of a generation: it falls geometrically from the first to the last."""
    progress = generation / config.generations
    low = np.finfo(np.float32).tiny  # A rate of zero has no logarithm; this one is rounded to zero.
    first, last = (np.log(max(rate, low)) for rate in (config.mutation_rate, config.final_mutation_rate))
    return jnp.exp((1 - progress) * first + progress * last)


def batch(config: Config, task: Task, generation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The examples that score a generation: consecutive ones of the train set, as if it were a ring."""
    examples = len(task.train.y)
    count = min(config.images, examples)
    rows = rotating_rows(examples, count, generation if config.batches == "rotating" else 0, config.first_image)
    return task.inputs(task.train.x[rows]), task.train.y[rows]


def fitness_of(config: Config, state: State) -> Fitness:
    """The fitness of members, of which that of a State is their rank where there is another objective, too."""
    return genetics.as_objectives(state.own)[:, 0] if len(config.objectives) > 1 else state.fitness


def validate(config: Config, net: Network, search: Search, task: Task, chunk: int) -> tuple[Search, jax.Array]:
    """Let the best members, and what those of most fitness agree on, stand for champion on the validation set, and for
    the front if there is one."""
    top = descending(search.state.fitness)[: config.validate_top]
    candidates = pop.take(search.state.population, top)
    if config.consensus and pop.size(search.state.population) > 1:
        fittest = descending(fitness_of(config, search.state))
        voters = pop.take(search.state.population, fittest[: config.consensus])
        agreed = jax.tree.map(bits.majority, voters, is_leaf=bits.is_bits)
        candidates = pop.concat(candidates, pop.stack([agreed]))
    x, y = task.inputs(task.validation.x), task.validation.y
    scores = evaluate(lambda genome: accuracy(net.apply(genome, x), y), candidates, chunk)
    search = update_champion(search, candidates, scores, search.state.generation)
    if len(config.objectives) > 1:
        objectives = jnp.stack([scores, -jax.vmap(lambda genome: kept(genome, config.mask))(candidates)], axis=1)
        front = genetics.update_archive(search.front, candidates, objectives, search.state.generation)
        search = search._replace(front=front)
    return search, jnp.max(scores)


def descent(
    network: Callable[[Data], Network], key: Key, learning_rate: float = 1e-3, batch_size: int = 128
) -> Programs:
    """Plain training of one network by Adam, `STEPS` gradient steps a generation.

    Args:
        network: what to train, made from the stage's data.
        key: of the first params and of the batches.
        learning_rate: of Adam.
        batch_size: train examples in a step.
    """
    optimizer = optax.adam(learning_rate)
    start_key, run_key = jax.random.split(key)

    def start(data: Data) -> Search:
        population = pop.init(start_key, training.learner(network(data).init, optimizer), 1)
        state = State(population, jnp.full(1, -jnp.inf), jnp.int32(0))
        return Search(state, pop.take(population.params, 0), jnp.float32(-jnp.inf), jnp.int32(0))

    def step(search: Search, data: Data) -> tuple[Search, dict[str, jax.Array]]:
        apply, task = network(data).apply, data.task
        generation = search.state.generation + 1

        def loss(params: Member, examples: Examples, key: Key) -> jax.Array:
            return -log_likelihood(apply(params, task.inputs(examples.x)), examples.y)

        population, losses = training.train(
            jax.random.fold_in(run_key, generation),
            search.state.population,
            task.train,
            loss,
            optimizer,
            steps=STEPS,
            batch_size=batch_size,
        )
        fitness = -losses.mean(axis=1)
        x, y = task.inputs(task.validation.x), task.validation.y
        validation = evaluate(lambda params: accuracy(apply(params, x), y), population.params, 1)
        search = search._replace(state=State(population, fitness, generation))
        return update_champion(search, population.params, validation, generation), {
            "best": fitness[0],
            "mean": fitness[0],
            "validation": validation[0],
        }

    return Programs(start, step)
