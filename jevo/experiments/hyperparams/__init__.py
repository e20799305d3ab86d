"""Search over architectures and training settings: genomes breed on the host, and train as mixed batches.

    python -m jevo.experiments.hyperparams --space cnn --data cifar10

Networks of different widths, depths, activations and optimizers train in a few shared compiled programs. Random search,
at as many trainings and with the same programs, runs in the same command. The presets are published recipes (`harvey`:
neural-network-genetic-algorithm, `mkoeppel`: Optimizing_neural_nets), the default is jevo's own.
"""

from jevo.experiments.hyperparams import contest, report
from jevo.experiments.hyperparams.config import Config
from jevo.runs import Experiment

__all__ = ["EXPERIMENT", "Config", "run"]

EXPERIMENT = Experiment(
    "hyperparams", Config, contest.contest, report.report, contest.answers, contest.portable, report.figures,
    contents=contest.contents,
)  # fmt: skip
run = EXPERIMENT.run
