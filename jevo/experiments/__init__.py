"""The experiments, by name: a new one is a folder, or a module, and a row here."""

from importlib import import_module
from pathlib import Path
from typing import Any

from jevo.errors import InputError, suggestion
from jevo.networks import Network
from jevo.runs import Champion, Experiment, read_result
from jevo.runs.own import Make

__all__ = ["EXPERIMENTS", "champion", "experiment"]

EXPERIMENTS = {
    "masks": "jevo.experiments.masks",
    "weights": "jevo.experiments.weights",
    "hybrid": "jevo.experiments.hybrid",
    "autoencoder": "jevo.experiments.autoencoder",
    "hyperparams": "jevo.experiments.hyperparams",
}
"""The module of each, which `python -m` runs and whose `EXPERIMENT` says what it is; imported when it is asked for."""


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"experiment {name!r} is unknown; {suggestion(name, EXPERIMENTS)}")
    return import_module(EXPERIMENTS[name]).EXPERIMENT


def champion(
    folder: str | Path, front: int | None = None, network: str | Network | Make | None = None
) -> tuple[Champion, dict[str, Any]]:
    """The champion of a finished run, and what the run's `result.json` holds.

    Args:
        folder: of the run.
        front: which member of the run's front to take instead, counted from 1.
        network: of a run with a network of your own, that one, or its name as `FILE.py:NAME`.

    Raises:
        InputError: if the folder holds no finished run, or a damaged one, or there is no such member.
    """
    result = read_result(Path(folder))
    return experiment(result["experiment"]).champion(Path(folder), result, front, network), result
