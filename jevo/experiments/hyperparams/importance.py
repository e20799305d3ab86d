"""Which genes matter: by how much worse a random forest foretells scores when one of them is shuffled."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jevo.experiments.hyperparams.genomes import by_gene
from jevo.hyperparams import Genome, Trial, identity

FEWEST = 10
"""Genomes from which anything is said."""
_FOLDS, _TREES, _SHUFFLES = 5, 100, 10


class Importance(NamedTuple):
    """The importance of genes.

    Attributes:
        genomes: that it was computed from.
        until: epochs after which they were compared; None: at the end of their training.
        explained: share of the variance of scores that the forest foretells, for genomes that it was not fitted to.
        genes: by name, by how much of that variance its error grows when the gene is shuffled among those that have
            it, the greatest first. A gene that does not matter has about 0.
    """

    genomes: int
    until: int | None
    explained: float
    genes: dict[str, float]


def importance(trials: Sequence[Trial]) -> Importance | None:
    """Which genes matter (permutation importance: Breiman, "Random forests", 2001), in the scores of all genomes that
    were trained; None if they are fewer than `FEWEST`, or all alike.

    Halved, genomes are compared at the rung that most have reached. The folds, the forests and the shuffling are the
    same every time.
    """
    by_rung: dict[int | None, dict[str, tuple[Genome, float]]] = {}
    for trial in trials:
        for rung, value in (trial.rungs or {None: trial.score.value}).items():
            if np.isfinite(value):
                by_rung.setdefault(rung, {})[identity(trial.genome)] = trial.genome, value
    if not by_rung:
        return None
    until = max(by_rung, key=lambda rung: (len(by_rung[rung]), rung or np.inf))
    genomes, scores = zip(*by_rung[until].values(), strict=True)
    y = np.asarray(scores)
    columns = {name: values for name, values in by_gene(genomes).items() if len({*values} - {None}) > 1}
    if len(y) < FEWEST or np.ptp(y) == 0 or not columns:
        return None
    rng = np.random.default_rng(0)
    has = np.array([[value is not None for value in values] for values in columns.values()]).T
    x = np.stack([_ranks(values, rng) for values in columns.values()], axis=1)
    explained, grown = _grown(x, y, has, rng)
    ranked = sorted(zip(columns, grown, strict=True), key=lambda gene: -gene[1])
    return Importance(len(y), until, round(explained, 4), {name: round(value, 4) for name, value in ranked})


def table(found: Importance, most: int = 12) -> str:
    """What the report says of it: a paragraph, and the first genes as a Markdown table."""
    when = "at the end of their training" if found.until is None else f"after epoch {found.until}"
    said = (
        f"Importance of the genes, from the scores of {found.genomes:,} genomes {when}: a random forest foretells "
        f"{max(found.explained, 0):.0%} of their variance, for genomes that it was not fitted to"
    )
    if found.explained <= 0:
        return f"{said}, so that nothing can be said of single genes."
    rows = [f"| {name} | {value:.3f} |" for name, value in list(found.genes.items())[:most]]
    rest = f"\n\n{len(found.genes) - most} more genes are in `result.json`." if len(found.genes) > most else ""
    head = "| gene | error added, in variances, by shuffling it |\n|---|---|"
    return "\n".join([f"{said}.\n", head, *rows]) + rest


def _ranks(values: Sequence[Any], rng: np.random.Generator) -> np.ndarray:
    """A gene as a forest takes it: numbers in their order, then words. Whoever lacks it has the value of another who
    has it, drawn at random, so that the gene says nothing of which others there are."""
    known = sorted({*values} - {None}, key=lambda value: (isinstance(value, str), value))
    codes = {value: code for code, value in enumerate(known)}
    there = [codes[value] for value in values if value is not None]
    return np.array([codes[v] if v is not None else rng.choice(there) for v in values], float)


def _grown(x: np.ndarray, y: np.ndarray, has: np.ndarray, rng: np.random.Generator) -> tuple[float, list[float]]:
    """The share of the variance that is foretold, and by what share of it the error grows for each gene.

    Args:
        x: genes of each genome, `[n, genes]`.
        y: scores `[n]`.
        has: whether a genome has a gene, `[n, genes]`.
        rng: shuffles.
    """
    from sklearn.ensemble import RandomForestRegressor

    shuffled = np.repeat(x[None], x.shape[1] * _SHUFFLES, axis=0)
    for place, one in enumerate(shuffled):
        gene = place // _SHUFFLES
        one[has[:, gene], gene] = rng.permutation(x[has[:, gene], gene])
    versions = np.concatenate([x[None], shuffled])
    errors = np.zeros(versions.shape[:2])
    for held in np.array_split(rng.permutation(len(y)), _FOLDS):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0)
        forest.fit(np.delete(x, held, axis=0), np.delete(y, held))
        # One call for all versions: a call costs more than its rows.
        foretold = forest.predict(versions[:, held].reshape(-1, x.shape[1]))
        errors[:, held] = (foretold.reshape(len(versions), -1) - y[held]) ** 2
    error, *others = errors.mean(axis=1) / y.var()
    return float(1 - error), (np.reshape(others, (-1, _SHUFFLES)).mean(axis=1) - error).tolist()
