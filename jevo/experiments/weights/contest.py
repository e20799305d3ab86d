"""Who competes in the weights experiment, and how its champion answers afterwards."""

import jax
import jax.numpy as jnp

from jevo.data.datasets import Dataset
from jevo.data.task import to_device
from jevo.experiments import elsewhere
from jevo.experiments.forward import contestants, require_no_state
from jevo.experiments.weights.config import Config
from jevo.experiments.weights.search import Data, learning, random_weights
from jevo.networks import Network
from jevo.runs import Champion, Contest, Portable, Saved, judging
from jevo.runs.own import Given
from jevo.types import Key, Member


def with_scale(network: Network) -> Network:
    """The network as it is saved: its `params`, and the `scale` that brings its logits to the spread."""

    def init(key: Key) -> Member:
        return {"params": network.init(key), "scale": jnp.float32(1.0)}

    def apply(saved: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return saved["scale"] * network.apply(saved["params"], x, key)

    return Network(init, apply)


def network(config: Config, shape: tuple[int, ...], outputs: int) -> Network:
    """The network whose weights are sought, for examples of `shape`."""
    return config.built(shape, outputs, config.bias)


def contest(config: Config, dataset: Dataset, given: Given) -> Contest:
    """The search, random search at the same number of evaluations, and training by gradient if asked for."""
    criterion = given.criterion
    net = given.network or network(config, dataset.train.x.shape[1:], criterion.outputs)
    require_no_state(net)
    begun = given.begun(net)
    data = Data(to_device(dataset))

    def saved(params: Member) -> Member:
        if not criterion.classifies:
            return {"params": params, "scale": jnp.float32(1.0)}
        deviation = jnp.std(net.apply(params, config.batch(data.task, jnp.int32(0))[0]))
        return {"params": params, "scale": config.spread / jnp.where(deviation > 0, deviation, 1.0)}

    found = contestants(
        config,
        criterion,
        dataset,
        data,
        lambda data: net,
        {"search": learning(config, criterion, begun), "random_search": random_weights(config, criterion, net)},
        {"gradient": lambda data: begun},
        judging(with_scale(net), criterion, data.task, dataset),
        key=jax.random.key(config.seed),
        candidates=config.population,
        saved=saved,
    )
    return Contest(dataset, data.task, found, network=net, criterion=criterion)


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    return saved.answering(with_scale(saved.network or network(saved.config, saved.shape, saved.outputs)))


def portable(saved: Saved) -> Portable:
    """The champion as its params, and what its logits are multiplied by."""
    config = saved.config
    net = saved.network or network(config, saved.shape, saved.outputs)
    found, chain = saved.arrays(with_scale(net).init), elsewhere.layers(config, config.bias)
    code = elsewhere.theirs(saved, True) if saved.network else elsewhere.classifier(saved, chain, gain=True)
    return saved.portable(found, found.params["params"], code, found.params["scale"])
