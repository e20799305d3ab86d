"""Evolution of masks: which weights of a frozen random network to keep.

    python -m jevo.experiments.masks --data mnist

A genome is one packed bit for each weight; scoring is one forward pass; nothing is trained. The `faithful` preset
is the published recipe (stracini-git, Pruning-With-Genetic-Algorithm), the default is jevo's own.
"""

from jevo.experiments.masks import contest, report
from jevo.experiments.masks.config import Config
from jevo.runs import Experiment

__all__ = ["EXPERIMENT", "Config", "run"]

EXPERIMENT = Experiment(
    "masks", Config, contest.contest, report.report, contest.answers, contest.portable, report.figures,
    own_network=True,
)  # fmt: skip
run = EXPERIMENT.run
