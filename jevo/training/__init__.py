"""Scoring, objectives to score by, and training by gradient."""

from jevo.training.evaluate import evaluate as evaluate
from jevo.training.evaluate import in_rows as in_rows
from jevo.training.evaluate import mean_over_rows as mean_over_rows
from jevo.training.evaluate import measure as measure
from jevo.training.evaluate import predict as predict
from jevo.training.objectives import absolute_error as absolute_error
from jevo.training.objectives import accuracy as accuracy
from jevo.training.objectives import log_likelihood as log_likelihood
from jevo.training.objectives import scaled_log_likelihood as scaled_log_likelihood
from jevo.training.objectives import smoothed_log_likelihood as smoothed_log_likelihood
from jevo.training.objectives import squared_error as squared_error
from jevo.training.sgd import Learner as Learner
from jevo.training.sgd import keep_zeros as keep_zeros
from jevo.training.sgd import learner as learner
from jevo.training.sgd import mating as mating
from jevo.training.sgd import train as train
from jevo.training.svm import fit_svm as fit_svm
from jevo.training.svm import predict_classes as predict_classes
