"""Who competes in the mask experiment, and how its champion answers afterwards."""

from collections.abc import Callable

import jax

from jevo.data.datasets import Dataset
from jevo.data.task import to_device
from jevo.devices import in_room, members_at_once
from jevo.experiments.masks.config import STEPS, Config
from jevo.experiments.masks.perturbation import perturbed
from jevo.experiments.masks.search import Data, bred, descent, evolution, random_masks, search
from jevo.networks import Network, build, masked, straight_through
from jevo.runs import (
    Champion,
    Contest,
    Contestant,
    Phase,
    Phases,
    Saved,
    Stage,
    classification,
    metrics_file,
    without_population,
)
from jevo.types import Key, Member


def network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network that `config` describes, without biases, for examples of `shape`."""
    return build(
        shape,
        classes,
        channels=config.channels,
        hidden=config.hidden,
        activation=config.activation,
        weights=config.weights,
        bias=False,
    )


def with_weights(network: Network, config: Config) -> Network:
    """A masked network as it is saved: its params are a `genome`, and the frozen `weights`."""

    def init(key: Key) -> Member:
        weight_key, genome_key = jax.random.split(key)
        weights = network.init(weight_key)
        return {"genome": masked(network, weights, config.mask).init(genome_key), "weights": weights}

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return masked(network, params["weights"], config.mask).apply(params["genome"], x, key)

    return Network(init, apply)


def contest(config: Config, dataset: Dataset) -> Contest:
    """The search, random search at the same number of evaluations, and the references if asked for."""
    root = jax.random.key(config.seed)
    net = network(config, dataset.train.x.shape[1:], len(dataset.classes))
    data = Data(to_device(dataset), in_room(net.init, jax.random.fold_in(root, 0)))
    # Convolutions have large temporaries, and gain nothing by standing beside others on a CPU.
    chunk = min(config.population, members_at_once(config.chunk, on_cpu=1 if config.channels else 16))
    # Node perturbation runs as many members in every generation, and so does its control.
    candidates = config.population - (0 if config.rescored else config.survivors)
    judge = classification(with_weights(net, config), data.task, dataset)

    def searching(stage: Stage) -> Phases:
        return Phases(
            [Phase(stage, lambda _: data, without_population)],
            judge,
            evaluations=config.population + config.generations * candidates,
            gradient_steps=0,
            champions=lambda kept: [{"genome": kept[0].champion, "weights": data.weights}],
        )

    own = perturbed(config, net) if config.search == "perturbation" else bred(config, net, evolution(config))
    searchers = {"search": own, "random_search": bred(config, net, random_masks(config, net))}
    contestants: dict[str, Contestant] = {}
    for i, (name, searcher) in enumerate(searchers.items(), start=1):
        programs = search(config, net, jax.random.fold_in(root, i), searcher)
        file = metrics_file(name, "search")
        contestants[name] = searching(
            Stage(name, programs, config.generations, (candidates, "eval"), chunk=chunk, metrics=file)
        )
    references: dict[str, Callable[[Data], Network]] = {
        "straight_through": lambda data: straight_through(net, data.weights),
        "trained_weights": lambda data: net,
    }
    for i, (name, make) in enumerate(references.items() if config.reference else (), start=1 + len(searchers)):
        stage = Stage(
            name,
            lambda chunk, make=make, i=i: descent(make, jax.random.fold_in(root, i)),
            config.reference_steps // STEPS,
            (STEPS, "steps"),
            metrics=metrics_file(name, "search"),
        )
        contestants[name] = Phases(
            [Phase(stage, lambda _: data, without_population)],
            classification(make(data), data.task, dataset),
            evaluations=0,
            gradient_steps=config.reference_steps,
        )
    return Contest(dataset, data.task, contestants)


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    net = network(saved.config, saved.shape, saved.classes)
    return saved.classifier(with_weights(net, saved.config), varying="genome")
