"""The programs of the hybrid experiment: one leg of a cycle, for one seed or for many side by side.

The search's time is each member's gradient steps. With `repeats` all of it has a leading axis `[R]`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jevo import genetics, training
from jevo import population as pop
from jevo.data.task import Examples, Task
from jevo.experiments.hybrid_config import Config
from jevo.genetics import Candidates, GeneticAlgorithm, Search, crown
from jevo.networks import Network
from jevo.runs.memory import members_at_once
from jevo.training import Learner, evaluate, mean_over_rows, train
from jevo.types import Cross, Fitness, Key, Member, Mutate, Population

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
        batch_size=members_at_once(config.chunk, on_cpu=5),
    )


Programs = tuple[
    Callable[[Key, Task], Search],
    Callable[[Key, Search, Task, jax.Array], tuple[Search, dict[str, jax.Array]]],
]


def search(config: Config, network: Network, members: int, leg: int, mates: bool) -> Programs:
    """The programs of one seed: `start(key, task)`, and `step(key, search, task, number)`, one leg of a cycle.

    Args:
        config: says how members are trained and scored.
        network: what they are.
        members: how many.
        leg: gradient steps of each in a leg.
        mates: whether they mate between cycles.
    """
    mating = algorithm(config, network)
    guard = config.guard and config.mate != "clone"  # A clone is its parent: there is no mating to go wrong.
    descend = optimizer(config, config.cycles * config.legs * leg)
    descended, reported = objectives(config)
    fresh = _spread(training.learner(network.init, descend), config.lr_spread)
    chunk = max(1, members_at_once(config.chunk, on_cpu=5) // config.repeats)

    def score(params: Population, task: Task) -> tuple[Fitness, Fitness]:
        """Fitness `[P]`, and minus the validation loss `[P]`."""

        def on(params: Member, examples: Examples) -> jax.Array:
            return mean_over_rows(lambda rows: reported(network.apply(params, task.inputs(rows.x)), rows.y), examples)

        def both(params: Member) -> tuple[jax.Array, jax.Array]:
            validation = on(params, task.validation)
            return on(params, task.train) if config.fitness == "train" else validation, validation

        return evaluate(both, params, chunk)

    def mean(params: Population, fitness: Fitness) -> Population:
        """The mean of all members, each matched to the best: a population of one."""
        if config.align and network.symmetries:
            best = pop.take(params, jnp.argmax(fitness))
            params = jax.vmap(lambda member: genetics.align(best, member, network.symmetries))(params)
        return jax.tree.map(lambda leaf: leaf.mean(axis=0, keepdims=True), params)

    def start(key: Key, task: Task) -> Search:
        population = pop.init(jax.random.fold_in(key, 0), fresh, members, chunk)
        state = mating.init(population, jnp.full(members, -jnp.inf))
        return Search(state, pop.take(population.params, 0), jnp.float32(-jnp.inf), jnp.int32(0))

    def mate(key: Key, search: Search, task: Task, steps: jax.Array) -> tuple[Search, jax.Array]:
        candidates = mating.ask(key, search.state)
        fitness, validation = score(candidates.members.params, task)
        barrier = genetics.barrier(search.state, candidates, fitness)
        bred = genetics.guarded(search.state, candidates, fitness) if guard else candidates
        search = crown(search, candidates.members.params, validation, steps)
        # Survivors come first, and have none.
        return search._replace(state=search.state._replace(population=bred.members)), barrier[config.elites :].mean()

    def step(key: Key, search: Search, task: Task, number: jax.Array) -> tuple[Search, dict[str, jax.Array]]:
        mate_key, train_key = (jax.random.fold_in(jax.random.fold_in(key, i), number) for i in (1, 2))
        barrier = jnp.float32(jnp.nan)
        if mates:
            search, barrier = jax.lax.cond(
                (number > 0) & (number % config.legs == 0),
                lambda search: mate(mate_key, search, task, number * leg),
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
        nobody = jnp.zeros(0, jnp.int32)
        state = mating.tell(search.state, Candidates(population, nobody, nobody), fitness)
        search = crown(search._replace(state=state), population.params, validation, (number + 1) * leg)
        if mates and config.consensus:
            agreed = mean(population.params, state.fitness)
            search = crown(search, agreed, score(agreed, task)[1], (number + 1) * leg)
        return search, {
            "fitness": jnp.max(state.fitness),
            "mean_fitness": jnp.nanmean(fitness),
            "validation_loss": -jnp.nanmax(validation),
            "barrier": barrier,
        }

    return start, step


def repeated(config: Config, programs: Programs) -> tuple[Callable[[Task], Any], Callable[[Any, Task], Any]]:
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
