"""Who competes in the weights experiment, and how its champion answers afterwards."""

import jax
import jax.numpy as jnp

from jevo.data.datasets import Dataset
from jevo.data.task import to_device
from jevo.experiments.forward import contestants, require_no_state
from jevo.experiments.weights.config import Config
from jevo.experiments.weights.search import Data, learning, random_weights
from jevo.networks import Network
from jevo.runs import Champion, Contest, Saved, classification
from jevo.types import Key, Member


def with_scale(network: Network) -> Network:
    """The network as it is saved: its `params`, and the `scale` that brings its logits to the spread."""

    def init(key: Key) -> Member:
        return {"params": network.init(key), "scale": jnp.float32(1.0)}

    def apply(saved: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return saved["scale"] * network.apply(saved["params"], x, key)

    return Network(init, apply)


def network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network whose weights are sought, for examples of `shape`."""
    return config.built(shape, classes, config.bias)


def contest(config: Config, dataset: Dataset, own: Network | None = None) -> Contest:
    """The search, random search at the same number of evaluations, and training by gradient if asked for; `own` is
    the network, if it is the user's."""
    net = own or network(config, dataset.train.x.shape[1:], len(dataset.classes))
    require_no_state(net)
    data = Data(to_device(dataset))

    def saved(params: Member) -> Member:
        deviation = jnp.std(net.apply(params, config.batch(data.task, jnp.int32(0))[0]))
        return {"params": params, "scale": config.spread / jnp.where(deviation > 0, deviation, 1.0)}

    found = contestants(
        config,
        dataset,
        data,
        lambda data: net,
        {"search": learning(config, net), "random_search": random_weights(config, net)},
        {"gradient": lambda data: net},
        classification(with_scale(net), data.task, dataset),
        key=jax.random.key(config.seed),
        candidates=config.population,
        saved=saved,
    )
    return Contest(dataset, data.task, found, network=net)


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    return saved.classifier(with_scale(saved.network or network(saved.config, saved.shape, saved.classes)))
