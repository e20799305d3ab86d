"""How weights learn without a derivative: node perturbation, and random search as its control."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import genetics
from jevo import population as pop
from jevo.data.task import Task
from jevo.experiments.forward import Searcher, bred
from jevo.experiments.weights.config import Config
from jevo.genetics import State
from jevo.networks import Network
from jevo.training.perturbation import node_perturbation, relative_noise
from jevo.types import Key, Member


class Data(NamedTuple):
    """What the programs of this experiment read: the examples."""

    task: Task


def perturbed(config: Config, network: Network) -> Searcher:
    """A search for the weights of one network, in which a generation's members are noise about it.

    Args:
        config: says how.
        network: whose weights.
    """
    rate = optax.linear_schedule(config.learning_rate, 0.0, config.generations + 1)
    optimizer = optax.adam(rate, b1=0.9, b2=0.99)

    def advanced(key: Key, params: Member, moments: optax.OptState, data: Data, generation: jax.Array) -> State:
        x, y = config.batch(data.task, generation)
        found = node_perturbation(
            network.apply,
            params,
            x,
            lambda logits: config.objective_by_example(logits, y),
            jax.random.fold_in(key, generation),
            noise=relative_noise(config.noise),
            pairs=config.population // 2,
        )
        updates, moments = optimizer.update(jax.tree.map(jnp.negative, found.gradient), moments)
        return State(pop.stack([optax.apply_updates(params, updates)]), found.fitness[None], generation, moments)

    def start(key: Key, data: Data, chunk: int) -> State:
        first_key, key = jax.random.split(key)
        params = network.init(first_key)
        return advanced(key, params, optimizer.init(params), data, jnp.int32(0))

    def step(key: Key, state: State, data: Data, chunk: int) -> State:
        return advanced(key, pop.take(state.population, 0), state.own, data, state.generation + 1)

    return Searcher(start, step)


def random_weights(config: Config, network: Network) -> Searcher:
    """The control: fresh weights each generation, as many as the search scores."""
    return bred(
        config,
        lambda data: network,
        lambda data, generation, chunk: genetics.random_search(
            network.init, elites=config.survivors, rescore=True, chunk=chunk
        ),
    )
