"""SGD, then mate: a population trains by gradient for a cycle, its members mate by crossing weights, and again.

    python -m jevo.experiments.hybrid --data mnist

Independent restarts and one long run, at the same number of member gradient steps, are trained in the same command.
The `faithful` preset is the published recipe (patelotech, genetic_deep_learning), the default is jevo's own.
"""

from jevo.experiments.hybrid import contest, report
from jevo.experiments.hybrid.config import Config
from jevo.runs import Experiment

__all__ = ["EXPERIMENT", "Config", "run"]

EXPERIMENT = Experiment(
    "hybrid", Config, contest.contest, report.report, contest.answers, contest.portable, report.figures,
    contest.dataset, own_network=True,
)  # fmt: skip
run = EXPERIMENT.run
