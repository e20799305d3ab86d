"""Drawings of a search: what explains the score, who descends from whom, and that they are drawn whatever comes."""

import math

import numpy as np
import pytest
from PIL import Image

from jevo.runs.diagrams import (
    Layer,
    Person,
    ancestors,
    explained,
    family,
    family_places,
    network,
    score_by_gene,
    telling_genes,
)


def drawn(path):
    """Width and height of a PNG that holds more than one colour; no half written file is left beside it."""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert any(low < high for low, high in image.convert("RGB").getextrema())
        return image.size


def people(generations, size, back, seed=0):
    """Everyone but the first generation has two parents, born up to `back` generations before."""
    generator = np.random.default_rng(seed)
    made = []
    for n in range(generations * size):
        generation = n // size
        first, last = max(0, generation - back) * size, generation * size
        parents = tuple(generator.integers(first, last, 2).tolist()) if generation else ()
        made.append(Person(n, generation, parents, float(generator.normal()), ""))
    return made


# The score by gene.


@pytest.fixture
def made():
    """Scores that hang on one gene of each kind, and genes they do not hang on."""
    generator = np.random.default_rng(0)
    n = 130
    rate = 10 ** generator.uniform(-5, -1, n)
    kind = generator.choice(["adam", "sgd", "rmsprop"], n)
    norm = generator.choice([True, False], n)
    units = generator.integers(8, 2048, n)
    effects = {"adam": 0.0, "sgd": 2.0, "rmsprop": -1.0}
    # The best learning rate lies in the middle: no correlation would tell.
    scores = [effects[k] for k in kind] - np.square(np.log10(rate) + 3) + 2.0 * norm + units / 700
    genes = {f"noise {i}": generator.uniform(size=n).tolist() for i in range(10)}
    genes |= {"rate": rate.tolist(), "each its own": [f"genome {i}" for i in range(n)], "kind": kind.tolist()}
    genes |= {f"word {i}": generator.choice(list("abcdefgh"), n).tolist() for i in range(10)}
    genes |= {"norm": norm.tolist(), "one": [3] * n, "units": units.tolist()}
    return genes, scores


def test_the_genes_that_explain_the_most_are_drawn_in_their_order(made):
    genes, scores = made
    assert telling_genes(genes, scores, 4) == ["rate", "kind", "norm", "units"]
    everyone = telling_genes(genes, scores, 100)
    assert everyone == [name for name in genes if name != "one"]
    assert len(telling_genes(genes, scores)) == 16


def test_what_is_explained():
    scores = np.arange(40.0)
    assert explained((scores // 20).tolist(), scores) == pytest.approx(0.75, abs=0.02)  # Of ranks: 1 - 1/2**2.
    assert explained((scores < 20).tolist(), scores) == explained((scores // 20).tolist(), scores)
    assert explained(scores.tolist(), scores) == pytest.approx(1 - 1 / 36, abs=0.01)  # 6 bins.
    assert explained(scores.tolist(), np.exp(-scores)) == pytest.approx(explained(scores.tolist(), scores))
    assert explained([str(score) for score in scores], scores) == 0
    assert explained([1, 2] * 20, np.ones(40)) == 0
    assert explained([], []) == 0
    noise = [explained(np.random.default_rng(i).integers(0, 8, 40).tolist(), scores) for i in range(50)]
    assert abs(np.mean(noise)) < 0.05  # Chance explains nothing, however many the categories.
    half = [float(score) if score % 2 else None for score in scores]
    assert explained(half, scores) == pytest.approx(explained(scores.tolist(), scores) / 2, abs=0.02)


def test_scores_are_drawn_by_gene(tmp_path, made):
    genes, scores = made
    score_by_gene(tmp_path / "genes.png", genes, scores, "validation accuracy")
    width, height = drawn(tmp_path / "genes.png")
    assert 1200 < width < 1600
    assert 900 < height < 1300


MIXED = {
    "absent": [None, None, 1.5, 2.5, None, 3.5],
    "never": [None] * 6,
    "one": ["a"] * 6,
    "one left": [1, 1, 1, 1, 1, 2],
    "not finite": [math.nan, math.inf, 0.1, 0.2, 0.3, 0.1],
    "both": [None, "sgd", 1, 0.5, True, "sgd"],
    "pair": [(3, 3), (5, 5), (3, 3), None, (3, 5), (1, 1)],
    "numpy": list(np.float32([1, 2, 3, 1, 2, 3])),
}


def test_absent_values_and_scores_are_left_out(tmp_path):
    scores = [1.0, 2.0, 3.0, 2.5, 2.0, -math.inf]
    assert telling_genes(MIXED, scores) == ["absent", "not finite", "both", "pair", "numpy"]
    score_by_gene(tmp_path / "genes.png", MIXED, scores, "score")
    drawn(tmp_path / "genes.png")


@pytest.mark.parametrize(
    ("genes", "scores"),
    [
        ({}, []),
        ({"a": []}, []),
        ({"a": [1, 1]}, [0.0, 1.0]),
        ({"a": [1, 2]}, [math.nan, -math.inf]),
        ({"a": [1, 2]}, [math.nan, 1.0]),
        ({"a": [1, 2]}, [1.0, 1.0]),
        ({"a": [f"a very long name, number {i}" for i in range(60)]}, range(60)),
        ({"a": [10.0**i for i in range(-9, 9)], "b": [-(10.0**i) for i in range(-9, 9)]}, range(18)),
    ],
)
def test_little_or_odd_to_draw_by_gene(tmp_path, genes, scores):
    score_by_gene(tmp_path / "genes.png", genes, scores, "score")
    width, height = drawn(tmp_path / "genes.png")
    assert width > 400
    assert height > 250


def test_as_many_values_as_scores(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        score_by_gene(tmp_path / "genes.png", {"a": [1, 2, 3]}, [1.0, 2.0], "score")
    assert not list(tmp_path.iterdir())


# The family.


@pytest.mark.parametrize("seed", range(5))
def test_ancestors_are_the_closure_of_parents(seed):
    everyone = people(7, 6, back=3, seed=seed)
    parent = np.zeros((len(everyone), len(everyone)), bool)
    for person in everyone:
        parent[person.number, list(person.parents)] = True
    closure = parent
    for _ in everyone:
        closure = closure | (closure @ parent)
    for person in everyone:
        assert ancestors(everyone, person.number) == set(np.flatnonzero(closure[person.number]).tolist())


def test_unknown_parents_are_no_ancestors():
    everyone = [Person(3, 1, (1, 2), 0.0, ""), Person(1, 0, (77,), 0.0, ""), Person(4, 1, (1,), 0.0, "")]
    assert ancestors(everyone, 3) == {1}
    with pytest.raises(KeyError):
        ancestors(everyone, 2)


def test_a_generation_stands_evenly_and_above_its_children():
    everyone = [Person(n, 0, (), 0.0, "") for n in range(4)]
    everyone += [Person(4, 1, (3, 1), 0.0, ""), Person(5, 1, (2, 0), 0.0, ""), Person(6, 2, (4, 5), 0.0, "")]
    places = family_places(everyone)
    assert places == {6: 0.5, 4: 0.25, 5: 0.75, 1: 0.125, 3: 0.375, 0: 0.625, 2: 0.875}


@pytest.mark.parametrize(
    ("generations", "size", "back", "named"), [(1, 1, 1, True), (5, 3, 2, True), (12, 20, 1, False), (45, 1, 1, False)]
)
def test_a_family_is_drawn(tmp_path, generations, size, back, named):
    everyone = people(generations, size, back)
    chosen = everyone[-1].number
    assert (len(ancestors(everyone, chosen)) < 40) == named
    family(tmp_path / "family.png", everyone, chosen)
    width, height = drawn(tmp_path / "family.png")
    assert 400 < width < 2500
    assert 250 < height < 4000


@pytest.mark.parametrize("scores", [(math.nan, math.nan), (0.5, 0.5), (-math.inf, 0.5)])
def test_a_family_of_few_scores_and_many_words(tmp_path, scores):
    first, second = scores
    label = "three convolutions, two dense layers, averylongwordthatdoesnotfit"
    everyone = [Person(100000, 3, (99, 5, 5), first, label), Person(5, 0, (), second, ""), Person(6, 0, (), 0.1, "")]
    family(tmp_path / "family.png", everyone, 100000)
    drawn(tmp_path / "family.png")


# The network.


def convolutional(depth):
    """As many layers, half of them images."""
    images = [
        Layer("conv 5x5", (32 >> i // 2, 32 >> i // 2, 3 << i), "stride 2, same, leaky_relu, batch norm, dropout .15")
        for i in range(depth // 2)
    ]
    return [*images, *(Layer("dense", (2048 >> i,), "relu, dropout .3") for i in range(depth - depth // 2))]


@pytest.mark.parametrize("depth", [1, 2, 4, 11, 18])
def test_a_network_is_drawn_as_wide_as_it_has_layers(tmp_path, depth):
    network(tmp_path / "network.png", "a network", convolutional(depth))
    width, height = drawn(tmp_path / "network.png")
    assert 130 * depth < width < 300 * depth + 450
    assert 200 < height < 500


def test_odd_layers_are_drawn(tmp_path):
    layers = [
        Layer("aninputwithaverylongname", (1, 300, 1), ""),
        Layer("", (7, 4096), "a part that is longer than a line may be, same"),
        Layer("sum", (), ""),
        Layer("wide", (100_000,), ", ".join(["dropout .1"] * 6)),
    ]
    network(tmp_path / "network.png", "a title of many words, " * 8, layers)
    drawn(tmp_path / "network.png")
