"""How weights learn without a derivative, and random search as the control."""

from typing import NamedTuple

import jax
import optax

from jevo import genetics
from jevo.data.task import Task
from jevo.experiments.forward import bred
from jevo.experiments.searcher import Searcher, ascending
from jevo.experiments.weights.config import Config
from jevo.genetics import centred_ranks
from jevo.networks import Network
from jevo.training.criterion import Criterion
from jevo.training.low_rank import low_rank_perturbation
from jevo.training.perturbation import Estimate, node_perturbation, relative_noise
from jevo.types import Key, Member


class Data(NamedTuple):
    """What the programs of this experiment read: the examples."""

    task: Task


def learning(config: Config, criterion: Criterion, network: Network) -> Searcher:
    """A search for the weights of one network, in which a generation's members are noise about it.

    Args:
        config: says how.
        criterion: what outputs are for.
        network: whose weights.
    """
    optimizer = optax.adam(config.rate(config.generations + 1), b1=0.9, b2=0.99)
    pairs = config.population // 2

    def estimate(key: Key, params: Member, data: Data, generation: jax.Array, chunk: int) -> Estimate:
        x, y = config.batch(data.task, generation)
        if config.search == "strategy":
            return low_rank_perturbation(
                network.apply,
                params,
                x,
                lambda logits: config.objective(criterion, logits, y)[None],
                key,
                sigma=config.noise,
                rank=config.rank,
                pairs=pairs,
                shaping=centred_ranks,
                chunk=max(1, chunk // 2),
            )
        return node_perturbation(
            network.apply,
            params,
            x,
            lambda logits: config.objective_by_example(criterion, logits, y),
            key,
            noise=relative_noise(config.noise),
            pairs=pairs,
        )

    return ascending(lambda key, data: network.init(key), estimate, optimizer)


def random_weights(config: Config, criterion: Criterion, network: Network) -> Searcher:
    """The control: fresh weights each generation, as many as the search scores."""
    return bred(
        config,
        criterion,
        lambda data: network,
        lambda data, generation, chunk: genetics.random_search(
            network.init, elites=config.survivors, rescore=True, chunk=chunk
        ),
    )
