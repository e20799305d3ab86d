"""SGD, then mate: a population trains by gradient for a cycle, its members mate by crossing weights, and again.

    python -m jevo.experiments.hybrid --data mnist

Independent restarts and one long run, at the same number of member gradient steps, are trained in the same command.
The `faithful` preset is the published recipe (patelotech, genetic_deep_learning), the default is jevo's own.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jevo import networks
from jevo import population as pop
from jevo.data.datasets import Dataset, against_rest, load
from jevo.data.task import Task, no_normalization, normalize, to_device
from jevo.experiments import hybrid_report
from jevo.experiments.hybrid_config import Config
from jevo.experiments.hybrid_search import repeated, search
from jevo.genetics import Search
from jevo.networks import INITIALIZERS, Network
from jevo.runs.checkpoint import load_arrays, save_arrays
from jevo.runs.command import main
from jevo.runs.contest import Champion, Contestant, Phase, champion_of, classifier, classifies, compete, verdict
from jevo.runs.loop import Stage
from jevo.runs.record import described, open_run, precision


def network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network that `config` describes, for examples of `shape`."""
    if config.network == "logistic":
        kernel_init = INITIALIZERS[config.weights]
        return networks.logistic(int(np.prod(shape)), classes, bias=config.bias, kernel_init=kernel_init)
    return networks.build(
        shape,
        classes,
        channels=config.channels if config.network == "cnn" else (),
        hidden=config.hidden,
        activation=config.activation,
        weights=config.weights,
        bias=config.bias,
        dropout=config.dropout,
    )


def contestants(config: Config, network: Network, task: Task, dataset: Dataset) -> dict[str, Contestant]:
    """The search, and its controls at equal gradient steps: independent restarts, and one long run."""
    legs = config.cycles * config.legs
    judge = classifier(network, task, dataset)
    total = config.members * config.cycles * config.steps

    def contestant(name: str, members: int, mates: bool) -> Contestant:
        each = total // members // legs
        start, step = repeated(config, search(config, network, members, each, mates))
        # Every leg, and after a mating; and the mean of all members every leg.
        scored = members * legs
        if mates:
            scored += members * (config.cycles - 1) + config.consensus * legs
        stage = Stage(
            name, start, step, legs, (members * each * config.repeats, "steps"), hybrid_report.METRICS[name],
            advice="try a smaller --lr",
        )  # fmt: skip
        phase = Phase(stage, lambda _: task, lambda carry: champion_of(carry[0]))
        return Contestant([phase], judge, scored, total, lambda kept: pop.unstack(kept[0].champion))

    return {
        "search": contestant("search", config.members, mates=True),
        "restarts": contestant("restarts", config.members, mates=False),
        "long_run": contestant("long_run", 1, mates=False),
    }


def run(config: Config) -> dict[str, Any]:
    """The whole experiment, into its folder: what `result.json` holds.

    Raises:
        InputError: for data or settings that cannot be used.
        Interrupted: when asked to stop; the same config goes on.
    """
    with open_run("hybrid", config) as record:
        if done := record.result():
            return done
        dataset = load(config.data, config.data_dir)
        if config.positive:
            dataset = against_rest(dataset, config.positive)
        record.announce(dataset)
        net = network(config, dataset.train.x.shape[1:], len(dataset.classes))
        with jax.default_matmul_precision(precision(config)):
            task = to_device(dataset, config.center, config.scale)
            outcomes = {
                name: compete(record.folder, contestant, config.checkpoint_every, config.devices)
                for name, contestant in contestants(config, net, task, dataset).items()
            }
        found: Search = outcomes["search"].kept[0]
        best = int(np.argmax(found.validation))
        champion = pop.take(found.champion, best)
        save_arrays(record.folder / "champion", {"params": champion, "mean": task.mean, "scale": task.scale})
        result = {
            **record.describe(dataset),
            **verdict("search", "restarts", outcomes, config.seed),
            "champion": {
                "seed": config.seed + best,
                "steps": int(found.found[best]),
                "validation_loss": -float(found.validation[best]),
            },
            **hybrid_report.summary(record.folder, config.cycles, config.legs),
        }
        hybrid_report.write(record, result, dataset, outcomes, best)
        return result


def champion(folder: Path, result: dict[str, Any]) -> Champion:
    """The champion of a finished run."""
    config, shape, classes = described(Config, folder, result)
    net = network(config, shape, classes)
    like = jax.eval_shape(lambda: {"params": net.init(jax.random.key(0)), **no_normalization(shape)})
    saved = load_arrays(folder / "champion", like)
    return classifies(lambda x: net.apply(saved["params"], normalize(x, saved["mean"], saved["scale"])))


if __name__ == "__main__":
    main(Config, run)
