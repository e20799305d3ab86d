"""Who competes in the hybrid experiment, and how its champion answers afterwards."""

import logging
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jevo import population as pop
from jevo.data.datasets import Dataset, against_rest
from jevo.data.task import to_device
from jevo.devices import members_at_once
from jevo.errors import require, shortened
from jevo.experiments import elsewhere
from jevo.experiments.hybrid.config import Config
from jevo.experiments.hybrid.ensemble import saying
from jevo.experiments.hybrid.search import programs
from jevo.genetics import Search
from jevo.networks import INITIALIZERS, Network, build, logistic, symmetries
from jevo.runs import (
    Champion,
    Contest,
    Phase,
    Phases,
    Portable,
    Saved,
    Stage,
    judging,
    metrics_file,
    without_population,
)
from jevo.runs.own import Given

_log = logging.getLogger("jevo")

_EXAMPLES = 8
"""That symmetries of the user's own network are tried on."""


def dataset(config: Config, whole: Dataset) -> Dataset:
    """The data set, or one class of it against the rest."""
    require(
        not config.positive or bool(whole.classes), "positive", config.positive, "unset, where there are no classes"
    )
    return against_rest(whole, config.positive) if config.positive else whole


def network(config: Config, shape: tuple[int, ...], outputs: int) -> Network:
    """The network that `config` describes, for examples of `shape`."""
    if config.network == "logistic":
        kernel_init = INITIALIZERS[config.weights]
        return logistic(int(np.prod(shape)), outputs, bias=config.bias, kernel_init=kernel_init)
    return build(
        shape,
        outputs,
        channels=config.channels if config.network == "cnn" else (),
        hidden=config.hidden,
        activation=config.activation,
        weights=config.weights,
        bias=config.bias,
        dropout=config.dropout,
    )


class Kept(NamedTuple):
    """What is kept of a contestant.

    Attributes:
        search: its champions, `[R x G]`, without the population.
        rows: of these, the one that each seed has chosen by validation loss, int `[R]`.
        said: what all its members say together at the end, as `saying` has it, if that is asked for.
    """

    search: Search
    rows: Any
    said: Any = None


def contest(config: Config, dataset: Dataset, given: Given) -> Contest:
    """The search, and at equal gradient steps its controls (independent restarts, and one long run) and its rivals."""
    criterion, own, begun = given
    net = begun(own or network(config, dataset.train.x.shape[1:], criterion.outputs))
    if not criterion.classifies:
        config.require_no_classes(("loss", "smoothing", "tune_smoothing"))
        require(config.network != "logistic", "network", config.network, "another one: this one tells classes")
    task = to_device(dataset, config.center, config.scale)
    rivals = {name: config.rival(name) for name in config.rivals}
    matching = any(each.matches and each.crossover != "clone" for each in (config, *rivals.values()))
    if matching and not net.symmetries and own:
        net = net._replace(symmetries=symmetries(own, task.inputs(task.train.x[:_EXAMPLES])))
        if net.symmetries:
            _log.info("units of your network that are matched before parents mate: %s", _names(net))
        else:
            _log.info("no units of your network are known that may be renumbered: parents mate without alignment")
    legs, chunk, points = config.cycles * config.legs, members_at_once(config.chunk, on_cpu=5), len(config.points)
    rows = config.repeats * points
    judge, together = judging(net, criterion, task, dataset), saying(net, criterion, task, dataset)
    total = config.population * config.cycles * config.steps

    def contestant(name: str, config: Config, members: int, mates: bool, ensemble: bool = False) -> Phases:
        each = total // members // legs
        # Every leg, and after a mating; and the mean of all members every leg.
        scored = members * legs
        if mates:
            scored += members * (config.cycles - 1) * (not config.mixes) + config.consensus * legs
        stage = Stage(
            name,
            partial(programs, config, criterion, net, members, each, mates),
            legs,
            (members * each * rows, "steps"),
            chunk=min(chunk, members * rows),
            metrics=metrics_file(name, "search"),
            advice="try a smaller lr",
        )

        def keep(carry: Any) -> Kept:
            search, _ = carry
            best = np.argmax(np.asarray(search.validation).reshape(config.repeats, points), axis=1)
            chosen = np.arange(config.repeats) * points + best
            said = together(pop.take(search.state, chosen)) if ensemble else None
            return Kept(without_population(search), chosen, said)

        return Phases(
            [Phase(stage, lambda _: task, keep)],
            judge,
            evaluations=scored,
            gradient_steps=total,
            grid_points=points if config.tuned else None,
            champions=lambda kept: [pop.take(kept[0].search.champion, int(row)) for row in kept[0].rows],
            best=lambda kept: int(np.argmax(kept[0].search.validation[kept[0].rows])),
        )

    contestants = {
        "search": contestant("search", config, config.population, mates=True),
        "restarts": contestant("restarts", config, config.population, mates=False, ensemble=True),
        "long_run": contestant("long_run", config, 1, mates=False),
        **{name: contestant(name, rival, config.population, mates=True) for name, rival in rivals.items()},
    }
    return Contest(dataset, task, contestants, network=net, criterion=criterion)


def _names(network: Network) -> str:
    """Where a network's units are, by the array that says how many there are."""
    return shortened(", ".join("/".join(map(str, symmetry[0].path)) for symmetry in network.symmetries), 200)


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    return saved.answering(saved.network or network(saved.config, saved.shape, saved.outputs))


def portable(saved: Saved) -> Portable:
    """The champion as its params."""
    config, two = saved.config, saved.classes == 2
    found = saved.arrays((saved.network or network(config, saved.shape, saved.outputs)).init)
    if saved.network:
        code = elsewhere.theirs(saved)
    elif config.network == "logistic":
        code = elsewhere.classifier(saved, elsewhere.chain(0, 1, config.bias, "linear"), one=two)
    else:
        code = elsewhere.classifier(saved, elsewhere.layers(config, config.bias, convolutions=config.network == "cnn"))
    return saved.portable(found, found.params, code)
