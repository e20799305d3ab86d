"""Optuna beside jevo: one space, one trainable, one budget, for jevo's genetic search and for Optuna's TPE.

What is searched for is a support vector machine that estimates how far diabetes goes in a year, by five-fold r2.
"""

import jax
from sklearn.datasets import load_diabetes
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from jevo import hyperparams

x, y = load_diabetes(return_X_y=True)
space = hyperparams.parse_space(
    {
        "kernel": ["rbf", "poly", "sigmoid"],
        "C": {"min": 0.01, "max": 100.0, "log": True},
        "epsilon": {"min": 0.01, "max": 100.0, "log": True},
        "gamma": {"min": 0.0001, "max": 1.0, "log": True},
        "degree": {"min": 2, "max": 4, "when": {"kernel": "poly"}},  # A gene of polynomials alone.
    },
    "support vector machines",
)


def score(genome):
    return cross_val_score(make_pipeline(StandardScaler(), SVR(**genome)), x, y, cv=5).mean()


strategies = {
    "jevo": hyperparams.evolve(space, jax.random.key(0), population=16, generations=4),
    "Optuna": hyperparams.optuna_search(space, "tpe", seed=0, budget=64, population=16),
}
for name, strategy in strategies.items():
    trials, _ = hyperparams.search(strategy, hyperparams.from_function(score))
    best = hyperparams.best_trial(trials)
    print(f"{name}: r2 {best.score.value:.4f} in {len(trials)} trials, by {best.genome}")
