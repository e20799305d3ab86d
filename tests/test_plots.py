"""Plots: that they are drawn whatever comes, what explains a score, who descends from whom."""

import math

import numpy as np
import pytest
from PIL import Image

from jevo import plots
from jevo.plots import (
    Individual,
    Layer,
    Panel,
    ancestors,
    family_tree,
    most_important_genes,
    network_diagram,
    score_by_gene,
    variance_explained,
)
from jevo.plots.genealogy import positions


def drawn(path):
    """Width and height of a PNG that holds more than one colour; no half written file is left beside it."""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert any(low < high for low, high in image.convert("RGB").getextrema())
        return image.size


def descendants(generations, size, back, seed=0):
    """Everyone but the first generation has two parents, born up to `back` generations before."""
    generator = np.random.default_rng(seed)
    made = []
    for n in range(generations * size):
        generation = n // size
        first, last = max(0, generation - back) * size, generation * size
        parents = tuple(generator.integers(first, last, 2).tolist()) if generation else ()
        made.append(Individual(n, generation, parents, float(generator.normal()), ""))
    return made


# Charts of a run, and of a benchmark.

LINES = {"one": ([1, 2], [None, 0.5]), "seeds": ([1, 2], [[1.0, None], [2.0, 3.0]]), "none": ([], [])}
ROWS = [
    {"name": name, "population": p, "per_second": rate, "seconds": {"median": 2.0, "lower": 1.5, "upper": 3.0}}
    for name, p, rate in [("jevo", 10, 50.0), ("other", 10, 1.0), ("jevo", 1, 20.0)]
]
GREY, COLOUR = np.linspace(0, 1, 48).reshape(3, 4, 4), np.linspace(-1, 2, 72).reshape(2, 3, 4, 3)
CHARTS = {
    "curves": lambda path: plots.curves(path, [Panel("x", "y", LINES, log=True)]),
    "curves, two rows": lambda path: plots.curves(path, [Panel("x", "y", LINES)] * 4),
    "bars": lambda path: plots.bars(path, {"g": {"a": 1.0, "b": 2.0}}, "share"),
    "confusion": lambda path: plots.confusion_matrix(path, np.array([0, 1, 1]), np.array([0, 1, 0]), ["a", "b"]),
    "image grid": lambda path: plots.image_grid(path, GREY, list("abc"), columns=2),
    "image rows": lambda path: plots.image_rows(path, [("one", COLOUR), ("another", COLOUR[..., :1])]),
    "projection": lambda path: plots.pca_projection(path, COLOUR.reshape(12, 6), np.arange(12) % 2, ["a", "b"]),
    "throughput": lambda path: plots.throughput_by_population(path, ROWS, unit="steps", title="all", own="jevo"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_drawn(name, tmp_path):
    CHARTS[name](tmp_path / "chart.png")
    width, height = drawn(tmp_path / "chart.png")
    assert width > 200
    assert height > 150


NAMES = [
    "$0_to_$50",
    "_hidden",
    "a^b_{c}",
    "\\frac{1}{2}",
    "two\nlines",
    "x" * 5000,
    "",
    "\u732b\U0001f600\u05d0",
    "$$",
    "$",
    "half a letter \ud800",
]


@pytest.mark.parametrize("many", [11, 300, 1000])
def test_any_class_names_and_any_number_of_them(many, tmp_path):
    """Names are no formulas, no figure needs all the memory there is, and no class is left out of the legend."""
    classes = [NAMES[i] if i < len(NAMES) else f"class {i}" for i in range(many)]
    y = np.arange(2 * many) % many
    for name, draw in {
        "confusion": lambda path: plots.confusion_matrix(path, y, y[::-1], classes),
        "projection": lambda path: plots.pca_projection(path, np.random.default_rng(0).random((len(y), 3)), y, classes),
        "bars": lambda path: plots.bars(path, {name: dict.fromkeys(classes[:11], 1.0) for name in classes[:11]}, "$y"),
        "curves": lambda path: plots.curves(path, [Panel("$x_{$", "y", {classes[i]: LINES["one"] for i in range(11)})]),
        "grid": lambda path: plots.image_grid(path, GREY, classes[:3]),
        "rows": lambda path: plots.image_rows(path, [(name, COLOUR) for name in classes[:11]]),
        "genes": lambda path: score_by_gene(path, {classes[0]: classes[:11] * 2}, list(range(22)), "$"),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        draw(folder / "chart.png")
        width, height = drawn(folder / "chart.png")
        assert width < 5000
        assert height < 5000


def test_powers_of_ten_stay_formulas_on_a_logarithmic_axis(monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda figure, file, **_: kept.append(figure) or file.write(b"x")
    )
    plots.curves(tmp_path / "x.png", [Panel("$a$", "y", {"one": ([1, 2], [1e-6, 1e3])}, log=True)])
    (axes,) = kept[0].axes
    assert not axes.xaxis.label.get_parse_math()
    assert axes.get_yticklabels()[0].get_parse_math()


@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4, 5, 9])
def test_pictures_of_any_channels_are_shown(channels, tmp_path):
    images = np.random.default_rng(0).random((3, 4, 4, channels) if channels else (3, 4, 4))
    plots.image_grid(tmp_path / "x.png", images, list("abc"))
    drawn(tmp_path / "x.png")
    if channels:
        plots.image_rows(tmp_path / "x.png", [("one", images), ("two", images)])
        drawn(tmp_path / "x.png")


def test_two_components_hold_the_variance_of_what_lies_in_a_plane(tmp_path):
    plane = np.random.default_rng(0).normal(size=(50, 2))
    classes = np.arange(50) % 2
    for features, share in ((plane @ [[1, 2, 3], [3, -1, 1]], 1), (np.eye(50)[:, :49], 2 / 49)):
        found = plots.pca_projection(tmp_path / "features.png", features, classes, ["a", "b"])
        assert found == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(("slowest", "scale"), [(2.0, "linear"), (1.0, "log")])
def test_throughputs_far_apart_have_a_logarithmic_axis(slowest, scale, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("jevo.plots.throughput.save", lambda figure, path, dpi: figures.append(figure))
    rows = [{**ROWS[0], "per_second": rate} for rate in (slowest, 50.0)]
    plots.throughput_by_population(tmp_path / "chart.png", rows, unit="steps", title="all", own="jevo")
    (axes,) = figures[0].axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", scale)


def test_a_plot_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "bars.png"
    plots.bars(path, {"g": {"a": 1.0}}, "share")
    before = path.read_bytes()

    def fail(figure, file, **_):
        file.write(b"half a picture")
        raise RuntimeError

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(RuntimeError):
        plots.bars(path, {"g": {"a": 2.0}}, "share")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


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
    assert most_important_genes(genes, scores, 4) == ["rate", "kind", "norm", "units"]
    everyone = most_important_genes(genes, scores, 100)
    assert everyone == [name for name in genes if name != "one"]
    assert len(most_important_genes(genes, scores)) == 16


def test_how_much_variance_is_explained():
    scores = np.arange(40.0)
    assert variance_explained((scores // 20).tolist(), scores) == pytest.approx(0.75, abs=0.02)  # Of ranks: 1 - 1/2**2.
    assert variance_explained((scores < 20).tolist(), scores) == variance_explained((scores // 20).tolist(), scores)
    assert variance_explained(scores.tolist(), scores) == pytest.approx(1 - 1 / 36, abs=0.01)  # 6 bins.
    assert variance_explained(scores.tolist(), np.exp(-scores)) == pytest.approx(
        variance_explained(scores.tolist(), scores)
    )
    assert variance_explained([str(score) for score in scores], scores) == 0
    assert variance_explained([1, 2] * 20, np.ones(40)) == 0
    assert variance_explained([], []) == 0
    noise = [variance_explained(np.random.default_rng(i).integers(0, 8, 40).tolist(), scores) for i in range(50)]
    assert abs(np.mean(noise)) < 0.05  # Chance explains nothing, however many the categories.
    half = [float(score) if score % 2 else None for score in scores]
    assert variance_explained(half, scores) == pytest.approx(variance_explained(scores.tolist(), scores) / 2, abs=0.02)


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
    assert most_important_genes(MIXED, scores) == ["absent", "not finite", "both", "pair", "numpy"]
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
    everyone = descendants(7, 6, back=3, seed=seed)
    parent = np.zeros((len(everyone), len(everyone)), bool)
    for one in everyone:
        parent[one.number, list(one.parents)] = True
    closure = parent
    for _ in everyone:
        closure = closure | (closure @ parent)
    for one in everyone:
        assert ancestors(everyone, one.number) == set(np.flatnonzero(closure[one.number]).tolist())


def test_unknown_parents_are_no_ancestors():
    everyone = [Individual(3, 1, (1, 2), 0.0, ""), Individual(1, 0, (77,), 0.0, ""), Individual(4, 1, (1,), 0.0, "")]
    assert ancestors(everyone, 3) == {1}
    with pytest.raises(KeyError):
        ancestors(everyone, 2)


def test_a_generation_stands_evenly_and_above_its_children():
    everyone = [Individual(n, 0, (), 0.0, "") for n in range(4)]
    everyone += [
        Individual(4, 1, (3, 1), 0.0, ""),
        Individual(5, 1, (2, 0), 0.0, ""),
        Individual(6, 2, (4, 5), 0.0, ""),
    ]
    places = positions(everyone)
    assert places == {6: 0.5, 4: 0.25, 5: 0.75, 1: 0.125, 3: 0.375, 0: 0.625, 2: 0.875}


@pytest.mark.parametrize(
    ("generations", "size", "back", "named"), [(1, 1, 1, True), (5, 3, 2, True), (12, 20, 1, False), (45, 1, 1, False)]
)
def test_a_family_is_drawn(tmp_path, generations, size, back, named):
    everyone = descendants(generations, size, back)
    chosen = everyone[-1].number
    assert (len(ancestors(everyone, chosen)) < 40) == named
    family_tree(tmp_path / "family.png", everyone, chosen)
    width, height = drawn(tmp_path / "family.png")
    assert 400 < width < 2500
    assert 250 < height < 4000


@pytest.mark.parametrize("scores", [(math.nan, math.nan), (0.5, 0.5), (-math.inf, 0.5)])
def test_a_family_of_few_scores_and_many_words(tmp_path, scores):
    first, second = scores
    label = "three convolutions, two dense layers, averylongwordthatdoesnotfit"
    everyone = [
        Individual(100000, 3, (99, 5, 5), first, label),
        Individual(5, 0, (), second, ""),
        Individual(6, 0, (), 0.1, ""),
    ]
    family_tree(tmp_path / "family.png", everyone, 100000)
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
    network_diagram(tmp_path / "network.png", "a network", convolutional(depth))
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
    network_diagram(tmp_path / "network.png", "a title of many words, " * 8, layers)
    drawn(tmp_path / "network.png")


def test_fronts_of_one_point_or_none_are_drawn(tmp_path):
    fronts = {"search": ([3.0, 1.0, 2.0], [90.0, 70.0, 80.0]), "random $search$": ([0.0], [10.0]), "nobody": ([], [])}
    plots.front(tmp_path / "front.png", fronts, "share of weights kept [%]", "test accuracy [%]")
    drawn(tmp_path / "front.png")
