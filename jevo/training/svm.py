"""A support vector machine that reads a network's features, from scikit-learn."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import cpu_count
from typing import Any

import numpy as np

COSTS: Sequence[float] = (1.0, 3.0, 10.0)
"""What is tried for C."""
WIDTHS: Sequence[float] = (0.5, 1.0, 2.0, 4.0)
"""What is tried for gamma times the number of features."""
SEARCH_SAMPLES = 5000
"""The most train examples that one of those is tried with."""


def fit_svm(
    train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], samples: int = 0, seed: int = 0
) -> Any:
    """A classifier of features `[n, features]`: they are standardised, then an RBF support vector machine reads them.

    C and gamma are those with the lowest validation error (of several, the first), each tried with at most
    `SEARCH_SAMPLES` train examples; then it is fitted on all.

    Args:
        train: features and labels to fit on.
        validation: features and labels that C and gamma are chosen by.
        samples: how many train examples to fit on, drawn at random; 0 for all.
        seed: of the draw.

    Returns:
        A fitted scikit-learn pipeline, for `predict_classes`.
    """
    x, y = train
    order = np.random.default_rng(seed).permutation(len(y))[: samples or None]
    settings = [(cost, width / x.shape[1]) for cost in COSTS for width in WIDTHS]

    def tried(cost_and_gamma: tuple[float, float]) -> float:
        few = order[:SEARCH_SAMPLES]
        return float((_fitted(x[few], y[few], cost_and_gamma).predict(validation[0]) != validation[1]).mean())

    # libsvm works outside Python's lock.
    with ThreadPoolExecutor(cpu_count()) as pool:
        errors = list(pool.map(tried, settings))
    return _fitted(x[order], y[order], settings[int(np.argmin(errors))])


def predict_classes(svm: Any, x: np.ndarray) -> np.ndarray:
    """The classes `int [n]` of features `[n, features]`."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        return np.concatenate(list(pool.map(svm.predict, np.array_split(x, -(-len(x) // 2048)))))


def _fitted(x: np.ndarray, y: np.ndarray, cost_and_gamma: tuple[float, float]) -> Any:
    # scikit-learn takes two seconds to import.
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    settings: dict[str, Any] = dict(zip(("C", "gamma"), cost_and_gamma, strict=True))
    return make_pipeline(StandardScaler(), SVC(**settings, cache_size=1000)).fit(x, y)
