"""Training of a network's weights without a derivative.

    python -m jevo.experiments.weights --data mnist

One network learns from what noise about it does to the fitness of examples: node perturbation, which takes no
derivative of network, activations or loss, but reads where the linear layers are.
"""

from jevo.experiments import forward
from jevo.experiments.weights import contest, report
from jevo.experiments.weights.config import Config
from jevo.runs import Experiment

__all__ = ["EXPERIMENT", "Config", "run"]

EXPERIMENT = Experiment(
    "weights", Config, contest.contest, report.report, contest.answers, contest.portable, forward.figures,
    own_network=True,
)  # fmt: skip
run = EXPERIMENT.run
