"""Who competes in the weights experiment, and how its champion answers afterwards."""

import jax

from jevo.data.datasets import Dataset
from jevo.data.task import to_device
from jevo.experiments.forward import Model, contestants
from jevo.experiments.weights.config import Config
from jevo.experiments.weights.search import Data, perturbed, random_weights
from jevo.networks import Network, build
from jevo.runs import Champion, Contest, Saved, classification


def network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network that `config` describes, for examples of `shape`."""
    return build(
        shape,
        classes,
        channels=config.channels,
        hidden=config.hidden,
        activation=config.activation,
        weights=config.weights,
        bias=config.bias,
    )


def contest(config: Config, dataset: Dataset) -> Contest:
    """The search, random search at the same number of evaluations, and training by gradient if asked for."""
    net = network(config, dataset.train.x.shape[1:], len(dataset.classes))
    data = Data(to_device(dataset))
    found = contestants(
        config,
        dataset,
        data,
        Model(lambda data: net),
        {"search": perturbed(config, net), "random_search": random_weights(config, net)},
        {"gradient": lambda data: net},
        classification(net, data.task, dataset),
        key=jax.random.key(config.seed),
        candidates=config.population,
    )
    return Contest(dataset, data.task, found)


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    return saved.classifier(network(saved.config, saved.shape, saved.classes))
