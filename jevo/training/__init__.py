"""Scoring, objectives to score by, and training by gradient."""

from jevo.training.criterion import Criterion, Goal
from jevo.training.objectives import (
    absolute_error,
    accuracy,
    correct_by_example,
    log_likelihood,
    log_likelihood_by_example,
    scaled_log_likelihood,
    scaled_log_likelihood_by_example,
    smoothed_log_likelihood,
    squared_error,
)
from jevo.training.recalibrating import recalibration
from jevo.training.scoring import evaluate, in_rows, mean_over_rows, measure, predict
from jevo.training.sgd import Learner, keep_zeros, learner, mating, mixing, train
from jevo.training.svm import fit_svm, predict_classes

__all__ = [
    "Criterion",
    "Goal",
    "Learner",
    "absolute_error",
    "accuracy",
    "correct_by_example",
    "evaluate",
    "fit_svm",
    "in_rows",
    "keep_zeros",
    "learner",
    "log_likelihood",
    "log_likelihood_by_example",
    "mating",
    "mean_over_rows",
    "measure",
    "mixing",
    "predict",
    "predict_classes",
    "recalibration",
    "scaled_log_likelihood",
    "scaled_log_likelihood_by_example",
    "smoothed_log_likelihood",
    "squared_error",
    "train",
]
