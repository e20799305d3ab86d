"""A tied autoencoder, evolved one weight matrix at a time; a support vector machine reads its features.

    python -m jevo.experiments.autoencoder --data mnist

Phase k searches for layer k above the frozen layers below it. The same autoencoder by gradient alone, layer by layer
and all layers at once, is trained at as many gradient steps in the same command. Without gradients (the presets `ga`,
`perturbation` and `pareto`, which finds a front of error and zeros) the control is random search. The `faithful` preset
is the recipe as published (genetic-autoencoder, after David and Greental, "Genetic algorithms for evolving deep neural
networks", 2014), the default is jevo's own.
"""

from jevo.experiments.autoencoder import contest, report
from jevo.experiments.autoencoder.config import Config
from jevo.runs import Experiment

__all__ = ["EXPERIMENT", "Config", "run"]

EXPERIMENT = Experiment(
    "autoencoder", Config, contest.contest, report.report, contest.answers, contest.portable, report.figures
)
run = EXPERIMENT.run
