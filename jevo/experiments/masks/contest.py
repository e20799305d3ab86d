"""Who competes in the mask experiment, and how its champion answers afterwards."""

from dataclasses import replace

import jax

from jevo import population as pop
from jevo.data.datasets import Dataset
from jevo.data.task import to_device
from jevo.devices import in_room
from jevo.errors import require
from jevo.experiments import elsewhere
from jevo.experiments.forward import bred, contestants, require_no_state
from jevo.experiments.masks.config import Config
from jevo.experiments.masks.perturbation import perturbed
from jevo.experiments.masks.search import Data, consensus, distribution, evolution, random_masks, share_kept
from jevo.genetics import mode
from jevo.networks import Network, masked, straight_through
from jevo.networks.masks import weigh
from jevo.runs import Champion, Contest, Portable, Saved, judging
from jevo.runs.own import Given
from jevo.types import Key, Member


def network(config: Config, shape: tuple[int, ...], outputs: int) -> Network:
    """The network whose weights are masked, for examples of `shape`: it has no biases."""
    return config.built(shape, outputs, bias=False)


def with_weights(network: Network, config: Config) -> Network:
    """A masked network as it is saved: its params are a `genome`, and the frozen `weights`."""

    def init(key: Key) -> Member:
        weight_key, genome_key = jax.random.split(key)
        weights = network.init(weight_key)
        return {"genome": masked(network, weights, config.mask).init(genome_key), "weights": weights}

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return masked(network, params["weights"], config.mask).apply(params["genome"], x, key)

    return Network(init, apply)


def contest(config: Config, dataset: Dataset, given: Given) -> Contest:
    """The search, random search at the same number of evaluations, and the references if asked for."""
    root, criterion = jax.random.key(config.seed), given.criterion
    if criterion.name == "own":
        require(len(config.objectives) == 1, "objectives", config.objectives, "fitness alone, with a goal of your own")
    net = given.network or network(config, dataset.train.x.shape[1:], criterion.outputs)
    require_no_state(net)
    begun = given.begun(net)
    data = Data(to_device(dataset), in_room(begun.init, jax.random.fold_in(root, 0)))
    masks = lambda data: masked(net, data.weights, config.mask, config.density)  # noqa: E731
    agreed = consensus(config)
    searcher = {
        "perturbation": lambda: perturbed(config, criterion, net),
        "genetic": lambda: bred(config, criterion, masks, evolution(config), agreed, share_kept(config)),
        "distribution": lambda: bred(
            config, criterion, masks, distribution(config), lambda state, _: pop.stack([mode(state)])
        ),
    }[config.search]()
    # A member of the search may cost more than one pass: then as many more are drawn.
    drawn = replace(config, population=config.passes * config.population)
    control = bred(drawn, criterion, masks, random_masks(drawn, net), agreed, share_kept(config))
    found = contestants(
        config,
        criterion,
        dataset,
        data,
        masks,
        {"search": searcher, "random_search": control},
        {
            "straight_through": lambda data: straight_through(net, data.weights),
            "trained_weights": lambda data: begun,
        },
        judging(with_weights(net, config), criterion, data.task, dataset),
        key=root,
        candidates=config.population - (0 if config.rescored else config.survivors),
        saved=lambda genome: {"genome": genome, "weights": data.weights},
    )
    return Contest(dataset, data.task, found, network=net, criterion=criterion)


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    net = saved.network or network(saved.config, saved.shape, saved.outputs)
    return saved.answering(with_weights(net, saved.config), varying="genome")


def portable(saved: Saved) -> Portable:
    """The champion as the weights that it computes with."""
    config = saved.config
    net = saved.network or network(config, saved.shape, saved.outputs)
    found = saved.arrays(with_weights(net, config).init, varying="genome")
    code = elsewhere.theirs(saved) if saved.network else elsewhere.classifier(saved, elsewhere.layers(config, False))
    return saved.portable(found, weigh(found.params["weights"], found.params["genome"], config.mask), code)
