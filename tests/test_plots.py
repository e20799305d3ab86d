"""Plots: that they are drawn whatever comes, what explains a score, who descends from whom."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from jevo import plots
from jevo.plots import (
    LEVEL,
    Curve,
    Individual,
    Layer,
    Panel,
    ancestors,
    family_tree,
    most_important_genes,
    network_diagram,
    score_by_gene,
    style,
    variance_explained,
)
from jevo.plots.drawing import dots, fence, log_ticks, number
from jevo.plots.genealogy import positions
from tests.marks import mostly_slow


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

LINES = [
    Curve("one", style(0), [1, 2], [None, 0.5]),
    Curve("seeds", style(1), [1, 2], [[1.0, None], [2.0, 3.0]]),
    Curve("none", style(2), [], []),
    Curve("steps", style(3), range(50), np.arange(1.0, 51.0), "steps"),
    Curve("thin", style(0), [1, 2], [1.0, 2.0], "thin"),
    Curve("dots", style(1), range(9), [1.0, 2.0, 1.5, 1.2, 1.1, 1.3, 1.0, 1.4, 1e9], "dots"),
    Curve("level", LEVEL, [0], [0.7], "level"),
]
ROWS = [
    {"name": name, "population": p, "per_second": rate, "seconds": {"median": 2.0, "lower": 1.5, "upper": 3.0}}
    for name, p, rate in [("jevo", 10, 50.0), ("other", 10, 1.0), ("jevo", 1, 20.0)]
]
GREY, COLOUR = np.linspace(0, 1, 48).reshape(3, 4, 4), np.linspace(-1, 2, 72).reshape(2, 3, 4, 3)
CLOUD = {"own": np.random.default_rng(0).random((5, 7)), "control": np.zeros((5, 7))}
CHARTS = {
    "curves": lambda path: plots.curves(path, [Panel("x", "y", LINES, log=True)]),
    "curves, two rows": lambda path: plots.curves(path, [Panel("x", "y", LINES)] * 4),
    "confusion": lambda path: plots.confusion_matrix(path, np.array([0, 1, 1]), np.array([0, 1, 0]), ["a", "b"]),
    "image grid": lambda path: plots.image_grid(path, GREY, list("abc"), columns=2),
    "image rows": lambda path: plots.image_rows(path, [("one", COLOUR), ("another", COLOUR[..., :1])]),
    "projection": lambda path: plots.pca_projection(path, COLOUR.reshape(12, 6), np.arange(12) % 2, ["a", "b"]),
    "snapshots": lambda path: plots.snapshots(path, {0: GREY[0], 2: GREY[1], 4: GREY[2]}, CLOUD, "score", "all"),
    "frame": lambda path: plots.frame(path, plots.tiles(GREY, 2), CLOUD, "score", "generation 3", [0, 1, 2, 4]),
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


@pytest.mark.parametrize("many", mostly_slow([11, 300, 1000], 300))
def test_any_class_names_and_any_number_of_them(many, tmp_path):
    """Names are no formulas, no figure needs all the memory there is, and no class is left out of the legend."""
    classes = [NAMES[i] if i < len(NAMES) else f"class {i}" for i in range(many)]
    y = np.arange(2 * many) % many
    for name, draw in {
        "confusion": lambda path: plots.confusion_matrix(path, y, y[::-1], classes),
        "projection": lambda path: plots.pca_projection(path, np.random.default_rng(0).random((len(y), 3)), y, classes),
        "curves": lambda path: plots.curves(
            path, [Panel("$x_{$", "y", [LINES[0]._replace(name=classes[i], style=style(i)) for i in range(11)])]
        ),
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


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, laid out as they are in their files."""
    found = []

    def keep(figure, file, **_):
        FigureCanvasAgg(figure).draw()
        found.append(figure)
        file.write(b"x")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", keep)
    return found


@given(st.floats(-12, 12), st.floats(0.02, 12))
def test_a_logarithmic_axis_has_a_few_round_numbers(power, decades):
    """Each is told from its neighbours by how it is written."""
    low, high = 10.0**power, 10.0 ** (power + decades)
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 10
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in ticks)
    assert ticks == sorted(ticks)
    assert all(float(f"{tick:.5g}") == pytest.approx(tick, rel=1e-9) for tick in ticks)


@given(st.floats(-15, 15), st.integers(100, 999), st.sampled_from([-1, 1]))
def test_a_number_as_people_write_it_says_what_it_is(power, digits, sign):
    value = sign * digits * 10.0 ** round(power)
    text = number(value)
    assert "e" not in text
    assert len(text) < 14
    plain = text.replace(",", "").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    ten = plain.rpartition("\N{MULTIPLICATION SIGN}")
    if abs(value) < 1e-4 or abs(value) >= 1e12:
        factor, power_of_ten = float(ten[0] or plain[: plain.index("10")] + "1"), int(ten[2].lstrip("-")[2:])
        assert factor * 10.0**power_of_ten == pytest.approx(value)
    else:
        assert float(plain.removesuffix("M")) * (1e6 if plain.endswith("M") else 1) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("ys", "log", "labels"),
    [
        ([0.06, 0.3], True, ["0.10", "0.15", "0.20", "0.30"]),
        ([1e-6, 1e3], True, ["10⁻⁶", "0.0001", "0.01", "1", "100"]),
        ([0.05, 0.15], False, ["0.04", "0.06", "0.08", "0.10", "0.12", "0.14"]),
        ([0, 60000], False, ["0", "20,000", "40,000", "60,000"]),
        ([-1e-3, 1e-3], False, ["-0.0010", "-0.0005", "0.0000", "0.0005", "0.0010"]),
        ([0, 4e6], False, ["0", "1M", "2M", "3M", "4M"]),
    ],
)
def test_axes_have_numbers_as_people_write_them(ys, log, labels, figures, tmp_path):
    plots.curves(tmp_path / "x.png", [Panel("$a$", "y", [Curve("one", style(0), [1, 2], ys)], log)])
    (axes,) = figures[0].axes
    written = [label for label in axes.get_yticklabels() if label.get_text()]
    assert {label.get_text() for label in written} >= set(labels)
    assert not any(text.get_parse_math() for text in [axes.xaxis.label, *written])


def test_everyone_is_told_by_colour_and_without_it():
    styles = [style(i) for i in range(6)]
    for of in (lambda one: one.colour, lambda one: str(one.line), lambda one: one.marker):
        assert len({of(one) for one in styles}) == len(styles)
    assert LEVEL.line not in [one.line for one in styles]
    # Whoever comes later lies above, and must not cover who comes first.
    assert all(one.width < styles[0].width and one.line != "solid" for one in styles[1:])


def test_a_name_has_one_colour_in_all_panels_and_the_legend_covers_nothing(figures, tmp_path):
    turned = [Panel("x", "y", LINES[i:] + LINES[:i], log=True) for i in range(len(LINES))]
    plots.curves(tmp_path / "x.png", turned)
    (figure,) = figures
    (legend,) = figure.legends
    entries = dict(zip([text.get_text() for text in legend.get_texts()], legend.legend_handles, strict=True))
    assert entries.keys() == {*(curve.name for curve in LINES), "median and range of the seeds", "above the axis"}
    assert all(entries[curve.name].get_color() == curve.style.colour for curve in LINES)
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert not axes.get_tightbbox().overlaps(legend.get_window_extent())


def test_only_what_is_measured_is_marked(figures, tmp_path):
    few, many = (Curve("a", style(0), range(n), range(n)) for n in (5, 500))
    level = Curve("b", style(2), [0], [0.5], "level")
    plots.curves(tmp_path / "x.png", [Panel("x", "y", [few, level]), Panel("x", "y", [many, level])])
    marks = [[line.get_marker() for line in axes.lines] for axes in figures[0].axes]
    assert marks == [["o", "None"], ["", "None"]]


@settings(deadline=None)
@given(arrays(float, st.integers(1, 60), elements=st.floats(1e-3, 1e3)), st.booleans())
def test_what_is_far_worse_than_most_stands_at_the_edge(values, log):
    """Nothing is lost, the better half and the best never stand there, and what is left is no flat line."""
    axes = Figure().subplots()
    worst = fence(values, log)
    beyond = dots(axes, np.arange(len(values)), values, worst, log)
    inside, *edge = (line.get_ydata() for line in axes.lines)
    assert beyond == bool(edge)
    assert len(inside) + sum(map(len, edge)) == len(values)
    better = np.sort(values if log else -values)[: -(-len(values) // 2)]
    assert set(better if log else -better) <= set(inside)
    assert all((y == float(log)).all() for y in edge)


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
def test_throughputs_far_apart_have_a_logarithmic_axis(slowest, scale, tmp_path, figures):
    rows = [{**ROWS[0], "population": i, "per_second": rate} for i, rate in enumerate((slowest, 50.0), start=1)]
    plots.throughput_by_population(tmp_path / "chart.png", rows, unit="steps", title="all", own="jevo")
    (axes,) = figures[0].axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", scale)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]


def test_what_is_measured_twice_at_a_population_is_no_stroke(figures, tmp_path):
    """Beside the others stands what was measured in turn with them; alone, no line joins two values."""
    again = {**ROWS[0], "per_second": 40.0}
    plots.throughput_by_population(tmp_path / "chart.png", [*ROWS, again], unit="steps", title="all", own="jevo")
    alone, beside = figures[0].axes
    sizes, rates = alone.lines[0].get_data()
    assert (list(sizes), list(rates)) == ([1, 10], [20.0, 50.0])
    assert [bar.get_width() for bar in beside.patches] == [40.0, 1.0]
    assert [label.get_text() for label in beside.get_yticklabels()] == ["jevo", "other"]


def test_one_population_has_no_axis_of_populations(figures, tmp_path):
    plots.throughput_by_population(tmp_path / "chart.png", ROWS[:2], unit="steps", title="all", own="jevo")
    (beside,) = figures[0].axes
    assert len(beside.patches) == 2


def test_names_of_rows_and_their_pictures_are_in_line(figures, tmp_path):
    rows = [("input", COLOUR), ("layer 10, before", COLOUR), ("", COLOUR)]
    plots.image_rows(tmp_path / "x.png", rows)
    (axes,) = figures[0].axes
    names = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert names[0].x1 == pytest.approx(names[1].x1, abs=1)
    lefts = [image.get_extent()[0] for image in axes.images]
    assert lefts[:2] == lefts[2:4] == lefts[4:]
    assert all(name.x1 < axes.transData.transform((lefts[0], 0))[0] for name in names)
    assert all(abs(name.x0) < figures[0].bbox.width and name.x0 > 0 for name in names)


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_tiles_hold_every_image_and_a_gap_between_them(columns):
    found = plots.tiles(GREY, columns)
    assert np.isnan(found).any()
    assert np.nansum(found) == pytest.approx(GREY.sum())
    assert np.isfinite(found).sum() == GREY.size
    np.testing.assert_array_equal(found[1:5, 1:5], GREY[0])


def test_a_snapshot_stands_above_its_generation(figures, tmp_path):
    plots.snapshots(tmp_path / "x.png", {0: GREY[0], 10: GREY[1], 20: GREY[2], 40: GREY[0]}, CLOUD, "score", "all")
    axes, *above = figures[0].axes
    for mark, picture in zip((0, 10, 20, 40), above, strict=True):
        box = picture.get_window_extent()
        assert (box.x0 + box.x1) / 2 == pytest.approx(axes.transData.transform((mark, 0))[0], abs=1)
        assert box.y0 > axes.get_window_extent().y1


def test_a_plot_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "front.png"
    plots.front(path, {"g": ([1.0], [1.0])}, "x", "y")
    before = path.read_bytes()

    def fail(figure, file, **_):
        file.write(b"half a picture")
        raise RuntimeError

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(RuntimeError):
        plots.front(path, {"g": ([2.0], [1.0])}, "x", "y")
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


@pytest.mark.parametrize("log", [False, True])
def test_what_learns_nothing_does_not_spoil_the_axis(log, figures, tmp_path):
    losses = np.exp(np.random.default_rng(0).normal(size=40))
    losses[:4] = 1e9
    genes = {"rate": (losses * 2).tolist(), "kind": ["bad"] * 4 + ["a", "b"] * 18}
    score_by_gene(tmp_path / "genes.png", genes, losses if log else -losses, "loss", log)
    low, high = figures[0].axes[0].get_ylim()
    assert (0 < low < high < 1e3) if log else (-1e3 < low < high < 1)
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["a genome", "median"]
    assert legend.get_texts()[2].get_text() == f"{'above' if log else 'below'} the axis"


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


@pytest.mark.parametrize("log", [False, True])
def test_the_best_of_a_family_is_the_brightest(log, figures, tmp_path):
    scores = [0.5, 0.4, 0.3, 0.2, 0.1, 99.0 if log else -99.0]
    everyone = [Individual(i, i, (i - 1,) if i else (), score, f"genome {i}") for i, score in enumerate(scores)]
    family_tree(tmp_path / "family.png", everyone, 5, "loss", log)
    axes = figures[0].axes[0]
    points = next(found for found in axes.collections if found.get_array() is not None and len(found.get_array()) == 6)
    light = points.to_rgba(points.get_array())[:, :3].sum(axis=1)
    order = np.argsort(scores) if log else np.argsort(scores)[::-1]
    assert list(np.argsort(-light, kind="stable")) == list(order)
    assert any("genome 3" in text.get_text() for text in axes.texts)


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
    assert 200 < height < 650


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
