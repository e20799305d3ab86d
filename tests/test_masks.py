"""The mask experiment itself: its recipes, what it scores, its references."""

import itertools
import os
import subprocess
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo import bits, genetics
from jevo import population as pop
from jevo.data.datasets import load
from jevo.data.task import Examples, Task, to_device
from jevo.errors import InputError
from jevo.experiments import champion, masks
from jevo.experiments.masks import EXPERIMENT, contest, perturbation, search
from jevo.networks import linear, mlp, straight_through
from jevo.networks.masks import density, kept, thinned, weigh
from jevo.predict import main as predict
from jevo.runs import Interrupted, loop
from jevo.runs.lines import read_lines
from jevo.runs.own import Given
from jevo.training.criterion import classification
from jevo.training.perturbation import node_perturbation
from tests.commands import ROOT, command, deterministic, devices, result
from tests.lowering import PLATFORMS, lower
from tests.marks import mostly_slow
from tests.stages import walk
from tests.test_perturbation import cosine

SMALL = {"search": "genetic", "hidden": (8,), "population": 10, "breeders": 4, "generations": 3, "validate_every": 2}


def small(settings):
    # The other searches have no breeders.
    own = {name: value for name, value in SMALL.items() if name != "breeders" or "search" not in settings}
    return masks.Config(**{**own, **settings})


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def searched(config, dataset):
    """The data of the search, the first population and that after every generation, with the metrics."""
    phase = EXPERIMENT.contest(config, dataset, Given.usual(dataset)).contestants["search"].phases[0]
    data = phase.data([])
    return data, *walk(phase.stage, data)


SETTINGS = [
    {"mask": "mask_rs", "selection": "tournament"},
    {"mask": "flip", "selection": "rank", "crossover": "neuron"},
    {"mask": "mask_flip", "selection": "roulette", "crossover": "one_point", "parents": 2},
    {"channels": (2,), "crossover": "layer", "mutation": "redraw", "lucky": 2},
    {"batches": "fixed", "fitness": "accuracy", "consensus": 0, "mutation_rate": 0.01, "final_mutation_rate": 0.0},
    {"search": "perturbation"},
    {"search": "perturbation", "noise": "masks", "channels": (2,)},
    {"search": "distribution", "mask": "mask_flip", "learning_rate": 20.0},
    {"objectives": ("fitness", "kept"), "elites": 0.5},
    {"objectives": ("fitness", "kept"), "elites": 0.5, "mask": "mask_flip", "batches": "fixed", "fitness": "accuracy"},
    {"objectives": ("fitness", "kept"), "mask": "mask_rs", "selection": "tournament", "mutation": "redraw"},
]


@pytest.mark.parametrize("settings", mostly_slow(SETTINGS, SETTINGS[0], SETTINGS[7], SETTINGS[8]))
def test_every_setting_runs(settings, digits):
    config = small(settings)
    _, carries, metrics = searched(config, digits)
    assert int(carries[-1].state.generation) == 3
    assert np.isfinite(carries[-1].state.fitness).all()
    assert [bool(np.isfinite(m["validation"])) for m in metrics] == [False, True, True]
    assert float(carries[-1].validation) == max(float(m["validation"]) for m in metrics[1:])


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("settings", [*SETTINGS, {"reference": True, "reference_steps": 100, "chunk": 4}])
def test_every_setting_lowers(settings, platform, digits):
    lower(EXPERIMENT, small(settings), digits, platform)


def test_the_faithful_preset_is_the_published_recipe():
    config = masks.Config.from_preset("faithful", data="mnist")
    assert (config.population, config.elites, config.breeders, config.parents) == (100, 2, 17, 2)
    assert (config.density, config.redraw_ones) == (0.9, 0.7)
    assert (config.mutation_rate, config.final_mutation_rate) == (0.05, 0.05)
    assert (config.fitness, config.batches, config.first_image, config.images) == ("accuracy", "fixed", 5000, 2000)
    assert (config.weights, config.mask, config.hidden, config.activation) == (
        "signed_constant",
        "mask",
        (100,),
        "relu",
    )
    assert (config.crossover, config.mutation, config.generations) == ("layer", "redraw", 999)


def test_the_faithful_preset_scores_accuracy_on_its_images(digits):
    config = masks.Config.from_preset("faithful", **SMALL, first_image=100, images=300)
    data, carries, _ = searched(config, digits)
    x = np.asarray(data.task.inputs(data.task.train.x[100:400])).reshape(300, -1)
    for carry in carries:
        for genome, fitness in zip(pop.unstack(carry.state.population), carry.state.fitness, strict=True):
            w = [np.asarray(layer["kernel"]) for layer in weigh(data.weights, genome, "mask").values()]
            predicted = (np.maximum(x @ w[0], 0) @ w[1]).argmax(axis=1)
            assert float(fitness) == pytest.approx(np.mean(predicted == digits.train.y[100:400]), abs=2 / 300)
    # Two elites survive, each in its place and with the score it has.
    for before, after in itertools.pairwise(carries):
        elites = np.argsort(-before.state.fitness, stable=True)[:2]
        stayed = [pop.take(carry.state.population, elites) for carry in (before, after)]
        jax.tree.map(np.testing.assert_array_equal, *stayed)
        np.testing.assert_array_equal(after.state.fitness[elites], before.state.fitness[elites])


def test_batches_rotate_as_a_ring():
    task = Task(Examples(jnp.arange(10.0)[:, None], jnp.arange(10)), *(None,) * 3)._replace(mean=0.0, scale=1.0)

    def batch(generation, **settings):
        return masks.Config(images=4, **settings).batch(task, generation)[1].tolist()

    assert [batch(g) for g in (0, 1, 2)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert batch(1_000_000) == [0, 1, 2, 3]  # 4 million is a multiple of ten.
    assert batch(5, batches="fixed", first_image=8) == [8, 9, 0, 1]
    assert len(masks.Config(images=99).batch(task, 3)[1]) == 10


def test_the_rate_falls_geometrically():
    config = masks.Config(search="genetic", mutation_rate=1e-2, final_mutation_rate=1e-4, generations=100)
    rates = [float(search.scheduled_rate(config, jnp.int32(g))) for g in (0, 50, 100)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4], rel=1e-4)
    never = masks.Config(search="genetic", generations=500, mutation_rate=1e-2, final_mutation_rate=0.0)
    assert float(search.scheduled_rate(never, jnp.int32(500))) < 1e-30


def test_convolutions_want_images():
    with pytest.raises(InputError, match="these examples are not images"):
        contest.network(masks.Config(channels=(2,)), (64,), 10)


def test_normalisation_is_numpys(digits):
    task, x = to_device(digits), digits.train.x.astype(np.float64)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(task.inputs(digits.train.x), centred / centred.std(), rtol=1e-4, atol=1e-5)


def test_straight_through_trains_the_scores_of_a_hard_mask(key):
    network = mlp([3, 2], bias=False)
    weights = {"layer_0": {"kernel": jnp.arange(1.0, 7.0).reshape(3, 2)}}
    over = straight_through(network, weights)
    scores = {"layer_0": {"kernel": jnp.array([[0.5, -0.5], [0.0, 2.0], [-1.0, 0.1]])}}
    x = jnp.array([[1.0, 10.0, 100.0]])
    hard = weights["layer_0"]["kernel"] * (scores["layer_0"]["kernel"] > 0)
    np.testing.assert_allclose(over.apply(scores, x), x @ hard)
    gradient = jax.grad(lambda s: over.apply(s, x).sum())(scores)["layer_0"]["kernel"]
    np.testing.assert_allclose(gradient, weights["layer_0"]["kernel"] * x.T)
    first = over.init(key)["layer_0"]["kernel"]
    assert np.all((first >= 0.01) & (first <= 0.1))


def test_the_references_learn(digits):
    config = masks.Config(**SMALL, reference=True, reference_steps=300)
    contestants = EXPERIMENT.contest(config, digits, Given.usual(digits)).contestants
    assert list(contestants) == ["search", "random_search", "straight_through", "trained_weights"]
    for name in ("straight_through", "trained_weights"):
        phase = contestants[name].phases[0]
        carries, metrics = walk(phase.stage, phase.data([]))
        assert float(carries[-1].validation) > 0.5
        # Adam counts the steps that were taken.
        assert int(carries[-1].state.population.optimizer[0].count[0]) == 300 == contestants[name].gradient_steps
        losses = [-float(values["best"]) for values in metrics]
        assert losses == sorted(losses, reverse=True)


def test_a_consensus_stands_for_champion(digits):
    """With no member of its own on the ballot better, the majority's accuracy is what is reported."""
    config = masks.Config(**{**SMALL, "validate_top": 1, "consensus": 10, "generations": 2})
    data, carries, metrics = searched(config, digits)
    net = contest.network(config, (8, 8, 1), 10)
    state = carries[-1].state
    agreed = jax.tree.map(bits.majority, state.population, is_leaf=bits.is_bits)
    best = pop.take(state.population, int(jnp.argmax(state.fitness)))
    x, y = data.task.inputs(data.task.validation.x), np.asarray(data.task.validation.y)
    scores = [
        np.mean(np.asarray(net.apply(weigh(data.weights, genome, "mask"), x)).argmax(axis=1) == y)
        for genome in (best, agreed)
    ]
    assert float(metrics[-1]["validation"]) == pytest.approx(max(scores), abs=1e-6)


def test_a_users_own_table_runs_to_its_report(tmp_path):
    """Vectors, not images: features with units of their own, classes with names, no pictures of masks."""
    rng = np.random.default_rng(0)
    sick = rng.random(300) < 0.5
    rows = [
        f"{170 + 10 * rng.normal():.1f},{s * 0.002 + 0.001 * rng.normal():.5f},{'yes' if s else 'no'}" for s in sick
    ]

    table = tmp_path / "patients.csv"
    table.write_text("height,marker,label\n" + "\n".join(rows) + "\n")
    config = masks.Config(**{**SMALL, "generations": 30}, data=str(table), out=tmp_path / "run")
    result = masks.run(config)
    assert result["data"]["classes"] == ["no", "yes"]
    assert result["metrics"]["test"]["accuracy"] > 0.7
    assert not (tmp_path / "run" / "masks.png").exists()
    answer, _ = champion(tmp_path / "run")
    dataset = load(str(table))
    accuracy = (answer(dataset.test.x).classes == dataset.test.y).mean()
    assert accuracy == pytest.approx(result["metrics"]["test"]["accuracy"])


MASKS = {"noise": "masks", "flips": 0.05}


@pytest.mark.parametrize(
    "settings",
    mostly_slow(
        [{}, {"mask": "flip", "channels": (3,)}, {"fitness": "accuracy"}, MASKS, MASKS | {"mask": "flip"}], {}, MASKS
    ),
)
def test_node_perturbation_finds_masks_that_random_search_does_not(settings, digits):
    """At as many evaluations; the mask is all of it: no weight changes."""
    config = small(
        {"search": "perturbation", "population": 4, "images": 200, "generations": 60, "hidden": (12,),
         "validate_every": 10, **settings}
    )  # fmt: skip
    compete = contest.contest(config, digits, Given.usual(digits))
    reached = []
    for name in ("search", "random_search"):
        contestant = compete.contestants[name]
        (phase,) = contestant.phases
        start, step = phase.stage.programs(phase.stage.chunk)
        data = phase.data([])
        carry = jax.jit(start)(data)
        carry = jax.jit(lambda c, d, step=step: jax.lax.fori_loop(0, 60, lambda i, c: step(c, d)[0], c))(carry, data)
        reached.append(float(carry.validation))
        # A member that is run under two masks is two evaluations; the control draws as many masks.
        twice = 2 if settings.get("noise") == "masks" else 1
        assert contestant.evaluations == twice * 4 * 61
        assert contestant.example_passes == twice * 4 * 61 * 200
        assert pop.size(carry.state.population) == (1 if name == "search" else twice * 4)
    assert reached[0] > reached[1] + 0.2
    genome = carry.champion
    assert all(bits.is_bits(leaf) for leaf in jax.tree.leaves(genome, is_leaf=bits.is_bits))


@pytest.mark.parametrize("flips", [0.003, 0.05, 0.4, 0.5])
def test_twins_of_a_mask_have_few_bits_flipped_and_none_of_them_both(flips, key):
    mask = {"a": bits.bernoulli(jax.random.key(1), 0.7, (300, 50)), "b": bits.bernoulli(jax.random.key(2), 0.2, (977,))}
    ones, others = perturbation.mask_twins(key, mask, flips)
    changed = []
    for one, other in ((ones, mask), (others, mask)):
        assert jax.tree.structure(one) == jax.tree.structure(mask)
        own = [jax.tree.leaves(each, is_leaf=bits.is_bits) for each in (one, other)]
        changed.append(np.concatenate([np.ravel(bits.unpack(a) != bits.unpack(b)) for a, b in zip(*own, strict=True)]))
    assert not (changed[0] & changed[1]).any()
    for where in changed:
        assert where.mean() == pytest.approx(flips, abs=0.01 * flips + 4 * np.sqrt(flips / where.size))


@pytest.mark.parametrize("kind", ["mask", "flip"])
@pytest.mark.parametrize("noise", ["units", "masks"])
def test_noise_is_as_large_as_it_says_and_about_the_mean_network(noise, kind):
    """What pairs draw, at a layer of a network that is the mean of the masks, many times over."""
    config = masks.Config(noise=noise, flips=0.1, mask=kind)
    net = mlp([40, 5], bias=False)
    weights, theta = net.init(jax.random.key(0)), net.init(jax.random.key(1))
    zero, one = (0, 1) if kind == "mask" else (-1, 1)
    mean = jax.tree.map(lambda w, t: w * (zero + (one - zero) * np.where(t > 0, 0.9, 0.1)), weights, theta)
    x, found = jax.random.normal(jax.random.key(2), (6, 40)), []

    def at(layer):
        made = perturbation.noise(config, weights, theta)
        ends = lambda key: made.ends(layer, made.draw(key) if made.draw else None)  # noqa: E731
        middle, half = jax.vmap(ends)(jax.random.split(jax.random.key(3), 4000))
        expected = np.broadcast_to(layer.outputs, middle.shape[1:])
        np.testing.assert_allclose(middle.mean(axis=0), expected, atol=0.06)
        np.testing.assert_allclose((half**2).mean(axis=0), made.variance(layer, layer.outputs), rtol=0.15)
        if noise == "masks":  # Whatever is added up is a product with a mask.
            allowed = np.asarray(weights["layer_0"]["kernel"])[None] * np.array([zero, one])[:, None, None]
            up, down = (np.asarray(leaves[0]) for leaves in made.draw(jax.random.key(4)))
            assert all((kernel[None] == allowed).any(axis=0).all() for kernel in (up, down))
            assert (up != down).mean() == pytest.approx(0.2, abs=0.1)
        found.append(layer)
        return layer.outputs

    linear.walk(net.apply, mean, x, at)
    assert len(found) == 1


@pytest.mark.slow
def test_what_masks_say_goes_to_the_gradient_of_the_mean_network_with_their_number(digits):
    config = masks.Config(noise="masks", flips=0.02, hidden=(20,))
    net, task = contest.network(config, (64,), 10), to_device(digits)
    weights, theta = net.init(jax.random.key(0)), net.init(jax.random.key(1))
    x, y = config.batch(task, jnp.int32(0))
    x, y = x.reshape(len(x), -1)[:300], y[:300]
    mean = jax.tree.map(lambda w, t: w * jnp.where(t > 0, 0.98, 0.02), weights, theta)
    gradient = jax.grad(lambda params: config.objective(classification(10), net.apply(params, x), y))(mean)
    near = []
    for pairs in (2, 20, 300):
        found = jax.jit(
            lambda key, pairs=pairs: node_perturbation(
                net.apply, mean, x, lambda logits: config.objective_by_example(classification(10), logits, y), key,
                noise=perturbation.noise(config, weights, theta), pairs=pairs,
            ).gradient
        )(jax.random.key(4))  # fmt: skip
        near.append(cosine(found, gradient))
    angles = [angle for angle, _ in near]
    assert angles == sorted(angles)
    assert angles[-1] > 0.93
    assert near[-1][1] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"noise": "masks", "flips": 0.6}, "0.5 at most with --noise masks"),
        ({"search": "distribution", "noise": "masks"}, "noise is masks, but takes effect only with another search"),
        ({"search": "genetic", "noise": "masks"}, "noise is masks, but takes effect only with another search"),
        ({"population": 5}, "even number"),
        ({"search": "distribution", "population": 5}, "even number"),
        ({"search": "distribution", "flips": 0.5}, "below 0.5"),
        ({"mask": "mask_rs"}, "mask or flip"),
        ({"density": 1.0}, "between 0 and 1"),
    ],
)
def test_what_a_search_cannot_do_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        masks.Config(**{"search": "perturbation", **given})


@pytest.mark.slow
def test_a_search_by_a_distribution_that_is_stopped_goes_on_to_the_same_end(tmp_path, monkeypatch):
    config = small({"search": "distribution", "learning_rate": 20.0, "generations": 6, "checkpoint_every": 2})
    real, written = loop._lines, []

    def stops(values, done, count):
        if done + count > 2 and not written:
            written.append(done)
            raise Interrupted("stopped")
        return real(values, done, count)

    masks.run(replace(config, out=tmp_path / "whole"))
    monkeypatch.setattr(loop, "_lines", stops)
    with pytest.raises(Interrupted):
        masks.run(replace(config, out=tmp_path / "broken"))
    assert written == [2]
    masks.run(replace(config, out=tmp_path / "broken"))
    assert deterministic(tmp_path / "broken") == deterministic(tmp_path / "whole")


TWO = {
    **SMALL, "preset": "pareto", "objectives": ("fitness", "kept"), "elites": 0.5, "population": 20, "hidden": (12,),
    "generations": 6, "thinning": 0.2, "validate_top": 10, "images": 200,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["mask", "mask_rs", "mask_flip"])
def test_the_share_kept_is_that_of_all_weights_and_thinning_lowers_it(kind, key):
    net = mlp([20, 11, 3], bias=False)
    weights = net.init(key)
    genome = search.masked(net, weights, kind, 0.6).init(jax.random.key(1))
    of = lambda genome: [np.asarray(w) != 0 for w in jax.tree.leaves(weigh(weights, genome, kind))]  # noqa: E731
    whole = np.concatenate([used.ravel() for used in of(genome)])
    assert float(kept(genome, kind)) == pytest.approx(whole.mean())
    assert [float(share) for share in jax.tree.leaves(density(genome, kind))] == [
        pytest.approx(used.mean()) for used in of(genome)
    ]
    thin = thinned(jax.random.key(2), genome, kind, 0.5)
    left = np.concatenate([used.ravel() for used in of(thin)])
    assert not (left & ~whole).any()
    assert 0.35 < left.sum() / whole.sum() < 0.65
    if kind != "mask_rs":  # What is left is as it was.
        for old, new in zip(*(jax.tree.leaves(weigh(weights, one, kind)) for one in (genome, thin)), strict=True):
            np.testing.assert_array_equal(new[new != 0], old[new != 0])
    with pytest.raises(ValueError, match="keeps all weights"):
        kept(genome, "flip")


@pytest.mark.slow
def test_two_objectives_are_ranked_as_nsga2_does_and_found_beside_each_other(digits):
    config = masks.Config(**TWO)
    data, carries, metrics = searched(config, digits)
    for carry, line in zip(carries[1:], metrics, strict=True):
        own = np.asarray(carry.state.own)
        shares = [float(kept(genome, "mask")) for genome in pop.unstack(carry.state.population)]
        np.testing.assert_allclose(-own[:, 1], shares, rtol=1e-6)
        np.testing.assert_array_equal(carry.state.fitness, genetics.nsga2_fitness(own))
        assert float(line["best"]) == own[:, 0].max()
        assert float(line["kept"]) == pytest.approx(shares[own[:, 0].argmax()])
        assert float(line["mean"]) == pytest.approx(own[:, 0].mean())
    # Half of them survive, scored anew on the next batch.
    for before, after in itertools.pairwise(carries):
        best = np.argsort(-before.state.fitness, stable=True)[:10]
        jax.tree.map(
            np.testing.assert_array_equal, *(pop.take(carry.state.population, best) for carry in (before, after))
        )
        assert (before.state.own[best, 0] != after.state.own[best, 0]).any()
    # Whoever is on the front is there with what it is worth, and dominated by nobody.
    front = carries[-1].front
    there = np.flatnonzero(np.asarray(front.objectives[:, 0]) > -np.inf)
    assert len(there) > 1
    assert (np.asarray(genetics.fronts(front.objectives[there])) == 0).all()
    x, y = data.task.inputs(data.task.validation.x), np.asarray(data.task.validation.y)
    net = contest.network(config, (8, 8, 1), 10)
    for i in there:
        genome = pop.take(front.members, int(i))
        right = np.asarray(net.apply(weigh(data.weights, genome, "mask"), x)).argmax(axis=1) == y
        np.testing.assert_allclose(front.objectives[i], [right.mean(), -float(kept(genome, "mask"))], rtol=1e-5)
    assert float(front.objectives[:, 0].max()) == float(carries[-1].validation)


def test_both_contestants_spend_the_same_and_random_search_draws_any_density(digits):
    compete = EXPERIMENT.contest(masks.Config(**TWO, batches="fixed"), digits, Given.usual(digits))
    spent = {contestant.evaluations for contestant in compete.contestants.values()}
    assert spent == {20 + 6 * 20}
    phase = compete.contestants["random_search"].phases[0]
    carries, _ = walk(phase.stage, phase.data([]))
    shares = -np.asarray(carries[-1].state.own)[:, 1]
    assert shares.min() < 0.2
    assert shares.max() > 0.6


@pytest.fixture(scope="module")
def front_run(tmp_path_factory):
    """A finished run of two objectives, only to read."""
    out = tmp_path_factory.mktemp("front") / "run"
    with jax.debug_key_reuse(False):
        return out, masks.run(masks.Config(**TWO, out=out))


def test_a_run_of_two_objectives_reports_its_front(front_run):
    out, found = front_run
    points = found["front"]
    assert len(points) > 1
    shares = [point["kept"] for point in points]
    assert shares == sorted(shares)
    reached = [point["metrics"]["validation"]["accuracy"] for point in points]
    assert reached == sorted(reached)
    assert reached[-1] == found["metrics"]["validation"]["accuracy"]
    assert set(found["hypervolume"]) == {"search", "random search"}
    text = (out / "report.md").read_text()
    assert f"| {len(points)} | {shares[-1]:.4f} | {reached[-1]:.4f} |" in text
    assert "![" in text.partition("(front.png)")[0]
    rows = (out / "front.csv").read_text().splitlines()
    assert len(rows) == 1 + len(points) + len(found["control_front"])
    assert rows[1].startswith(f"search,1,{shares[0]}")
    assert {"kept", "hypervolume"} <= read_lines(out / "metrics.jsonl")[0].keys()


def test_any_member_of_the_front_answers_as_it_was_judged(front_run, digits, capsys, tmp_path):
    out, found = front_run
    for number in (1, len(found["front"])):
        answer, _ = champion(out, number)
        right = (answer(digits.test.x).classes == digits.test.y).mean()
        assert right == pytest.approx(found["front"][number - 1]["metrics"]["test"]["accuracy"])
    np.save(tmp_path / "digits.npy", digits.test.x[:50])
    predict([str(out), str(tmp_path / "digits.npy"), "--front", "1"])
    said = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert said == [digits.classes[i] for i in champion(out, 1)[0](digits.test.x[:50]).classes]


def test_a_member_that_is_not_on_the_front_is_refused(front_run, smoke):
    out, found = front_run
    for number in (0, -1, len(found["front"]) + 1):
        with pytest.raises(InputError, match=f"setting front is {number}, but takes 1 to {len(found['front'])}"):
            champion(out, number)
    for name in ("masks", "hybrid"):
        with pytest.raises(InputError, match="has no front"):
            champion(smoke(name), 1)


@pytest.mark.slow
def test_a_run_of_two_objectives_that_is_stopped_goes_on_to_the_same_front(front_run, tmp_path, monkeypatch):
    whole, found = front_run
    config, real = masks.Config(**TWO, out=tmp_path / "run", checkpoint_every=1), loop._lines

    def stopped(values, done, count):
        if done + count > 4:
            raise Interrupted
        return real(values, done, count)

    monkeypatch.setattr(loop, "_lines", stopped)
    with jax.debug_key_reuse(False):
        with pytest.raises(Interrupted):
            masks.run(config)
        monkeypatch.setattr(loop, "_lines", real)
        again = masks.run(config)
    assert [again[name] for name in ("front", "control_front", "metrics")] == [
        found[name] for name in ("front", "control_front", "metrics")
    ]
    assert (tmp_path / "run" / "front.csv").read_text() == (whole / "front.csv").read_text()


@pytest.mark.slow
def test_a_front_does_not_depend_on_the_number_of_devices(tmp_path):
    found = []
    for count in (1, 8):
        settings = ["--objectives", "fitness", "kept", "--elites", 0.5]
        line = command("masks", *settings, out=tmp_path / str(count))
        subprocess.run(line, cwd=ROOT, capture_output=True, env=os.environ | devices(count), check=True)
        found.append(result(tmp_path / str(count)))
    assert found[0]["device"]["count"] != found[1]["device"]["count"]
    assert found[0]["front"] == found[1]["front"]
    assert found[0]["control_front"] == found[1]["control_front"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"search": "perturbation"}, "only with another search"),
        ({"mask": "flip"}, "fitness alone where a mask drops nothing"),
        ({"objectives": ("kept",)}, "objectives is kept, but takes fitness, or fitness kept"),
        ({"objectives": ()}, "takes fitness, or fitness kept"),
    ],
)
def test_objectives_that_there_are_not_are_refused(given, says):
    with pytest.raises(InputError, match=says):
        masks.Config(**{"search": "genetic", "objectives": ("fitness", "kept"), **given})
