"""Mixed training: a member of a padded program learns what plain Flax and optax teach it alone; and the planner."""

import functools
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo.benchmark import parity
from jevo.benchmark.parity import OPTIMIZERS as OPTAX
from jevo.benchmark.parity import Alone, train_alone
from jevo.data import from_arrays
from jevo.data.task import Examples, Task, to_device
from jevo.errors import InputError
from jevo.hyperparams import SPACES, Choice, parse_space
from jevo.mixed import Conv, architecture, check_genes, largest, network
from jevo.mixed import planner as planning
from jevo.mixed.architectures import GENES
from jevo.mixed.layers import dropout_gain
from jevo.mixed.optimizers import OPTIMIZERS, coefficients, start, update
from jevo.mixed.planner import COSTS, Work, exact, fits, join, plan
from jevo.mixed.programs import Frame, Program, before, choices, unpad
from jevo.mixed.progress import begin, padded
from jevo.mixed.trainer import train
from jevo.mixed.worker import Job, MemberSpec, Training, Worker
from jevo.networks import ACTIVATIONS
from jevo.networks.convolutional import weigh, windows
from jevo.training.criterion import classification
from tests.marks import mostly_slow

BATCH = 16


def made_task(shape=(7, 6, 2), classes=3, examples=56, seed=0):
    rng = np.random.default_rng(seed)

    def split(n):
        y = rng.integers(0, classes, n)
        x = rng.normal(size=(n, *shape)) + y.reshape(-1, *[1] * len(shape))
        return Examples(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32))

    return Task(split(examples), split(20), jnp.zeros((1, *shape)), jnp.float32(1.0))


@functools.cache
def compiled(program):
    return jax.jit(train(program, classification(3), BATCH, 99))


def same_as_alone(genome, padding, task, epochs=2, tolerance=2e-4):
    """Train a genome in the program that `padding` makes of its own, and alone; compare the curves and the weights."""
    of, _ = architecture(genome, task.train.x.shape[1:], 3, epochs)
    program = padding(of)
    assert fits(of, program)
    key = jax.random.key(5)
    before = padded(begin(of, 5, program.epochs), of, program)
    trained = compiled(program)(key, before, choices(of, program), task).so_far
    params, curve = train_alone(of, task, BATCH, 5)
    np.testing.assert_allclose(trained.curve[:epochs], curve, rtol=tolerance)
    best = int(trained.best) - 1
    own = unpad(trained.params, of, program)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params[best])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=tolerance), own, params[best])
    # What is not the member's own is zero, as it was.
    for name, layer in trained.params.items():
        for part, array in layer.items():
            mine = own[name][part] if name in own else jnp.zeros(0)
            assert jnp.count_nonzero(array) == jnp.count_nonzero(mine), f"{name} {part} has learnt beyond its member"
    logits = network(of).apply(own, task.inputs(task.validation.x))
    by_flax = Alone(of).apply({"params": own}, task.inputs(task.validation.x))
    np.testing.assert_allclose(logits, by_flax, atol=1e-4)
    assert float(trained.score) == pytest.approx(float(jnp.mean(logits.argmax(1) == task.validation.y)))


def wider(of, by=3, deeper=1, epochs=3, pixels=3):
    own = exact(of, epochs)
    convs = tuple(
        Frame(c.kernel + 2, c.units + by, c.pool, (c.output[0] + pixels, c.output[1] + pixels)) for c in own.conv
    )
    widths = [n + by for n in of.dense]
    widths[-1:] = [max(widths)] * (1 + deeper) if widths else []
    return Program(of.shape, of.classes, convs, tuple(widths), len(of.dense), epochs)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_equals_optax_step_for_step(optimizer):
    rng = np.random.default_rng(1)
    weights = jnp.asarray(rng.normal(size=40), jnp.float32)
    gradients = jnp.asarray(rng.normal(size=(30, 40)) * np.geomspace(1e-4, 10, 40), jnp.float32)
    index, rate = jnp.int32(OPTIMIZERS.index(optimizer)), jnp.float32(3e-3)
    reference = OPTAX[optimizer](3e-3)

    def ours(state, gradient):
        weights, first, second, count = state
        by = coefficients(index, count)
        weights, first, second = update(by, rate, jnp.float32(0), gradient, first, second, weights)
        return (weights, first, second, count + 1), weights

    def theirs(state, gradient):
        weights, inner = state
        updates, inner = reference.update(gradient, inner, weights)
        return (optax.apply_updates(weights, updates),) * 1 + (inner,), optax.apply_updates(weights, updates)

    _, found = jax.lax.scan(ours, (weights, *start((40,), optimizer), jnp.int32(1)), gradients)
    _, expected = jax.lax.scan(theirs, (weights, reference.init(weights)), gradients)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_weight_decay_is_decoupled():
    index, weights = jnp.int32(OPTIMIZERS.index("adam")), jnp.linspace(-1, 1, 9)
    reference, gradient = optax.adamw(1e-2, weight_decay=0.1), jnp.linspace(1, 2, 9)
    found = update(
        coefficients(index, jnp.int32(1)), jnp.float32(1e-2), jnp.float32(0.1), gradient, *start((9,), "adam"), weights
    )
    updates, _ = reference.update(gradient, reference.init(weights), weights)
    np.testing.assert_allclose(found[0], optax.apply_updates(weights, updates), rtol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_moves_what_is_zero_and_has_no_gradient(optimizer):
    index, zeros = jnp.int32(OPTIMIZERS.index(optimizer)), jnp.zeros(4)
    weights, moments = zeros, start((4,), optimizer)
    for count in range(1, 4):
        weights, *moments = update(
            coefficients(index, jnp.int32(count)), jnp.float32(1), jnp.float32(0.5), zeros, *moments, weights
        )
    assert not weights.any()


@pytest.mark.parametrize(
    "activation",
    [
        "relu",
        "swish",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ACTIVATIONS if name not in ("relu", "swish")),
    ],
)
def test_a_padded_mlp_learns_as_it_does_alone(activation):
    optimizer = OPTIMIZERS[list(ACTIVATIONS).index(activation)]
    layers = [{"units": 5, "activation": activation, "dropout": 0.25}, {"units": 5, "activation": activation}]
    task = made_task((9,))
    same_as_alone({"dense": layers, "optimizer": optimizer, "lr": 3e-3}, wider, task)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_layers_that_a_member_has_not_are_passed_by(depth):
    genome = {"dense": [{"units": 4, "activation": "tanh", "dropout": 0.1}] * depth}
    same_as_alone(genome, lambda of: Program(of.shape, of.classes, (), (6, 6, 6), 1, 2), made_task((9,)))


CONVOLUTIONS = [
    [(4, 2, "same"), (3, 1, "valid")],
    [(3, 1, "valid"), (4, 2, "same")],
    [(5, 3, "same"), (3, 1, "same")],
    [(4, 1, "valid"), (5, 3, "same")],
    [(3, 2, "valid"), (2, 1, "valid")],
]
"""Kernels, strides and paddings of networks that share one program."""


def convolutional(number):
    activation, rate, names = (
        ("swish", "tanh", "relu", "elu", "selu")[number],
        0.1 * number,
        ("kernel", "stride", "padding"),
    )
    genes = [dict(zip(names, layer, strict=True)) for layer in CONVOLUTIONS[number]]
    conv = [
        {"units": 2 + i + number % 2, "activation": activation, "dropout": rate, **own} for i, own in enumerate(genes)
    ]
    return {"conv": conv, "dense": [{"units": 3 + number}], "optimizer": OPTIMIZERS[number]}


@functools.cache
def program_of_convolutions():
    shape = (9, 8, 2)
    return functools.reduce(join, [exact(architecture(convolutional(i), shape, 3, 2)[0], 2) for i in range(5)])


@pytest.mark.parametrize("number", mostly_slow(range(5), 0))
def test_convolutions_of_any_kernel_stride_and_padding_learn_in_one_program_as_they_do_alone(number):
    same_as_alone(convolutional(number), lambda of: program_of_convolutions(), made_task((9, 8, 2)))


@jax.jit
def windows_and_slopes(x, kernel, stride, before, slope):
    """In a padded image of 8x9, with a padded kernel of 5x5 and a padded output of 9x8."""
    z, back = jax.vjp(lambda x, kernel: weigh(kernel, windows(x, 5, stride, tuple(before), (9, 8))), x, kernel)
    return z, *back(slope)


@given(
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_traced_windows_see_in_a_padded_image_what_they_see_in_the_image(size, kernel, stride, same, seed):
    conv = Conv(kernel, stride, same or kernel > min(size), 3, False, size)
    height, width = conv.output
    rng = np.random.default_rng(seed)
    x, weights = rng.normal(size=(2, *size, 2)), rng.normal(size=(kernel, kernel, 2, 3))
    slope = rng.normal(size=(3, height, width, 2))
    # The oracle walks over the windows, one by one.
    first = before(conv)
    around = np.zeros((2, 30, 30, 2))
    around[:, first[0] : first[0] + size[0], first[1] : first[1] + size[1]] = x
    z, by_around, by_weights = np.zeros_like(slope), np.zeros_like(around), np.zeros_like(weights)
    for i, j in product(range(height), range(width)):
        place = slice(None), slice(i * stride, i * stride + kernel), slice(j * stride, j * stride + kernel)
        z[:, i, j] = np.einsum("chwb,hwco->ob", around[place], weights)
        by_around[place] += np.einsum("ob,hwco->chwb", slope[:, i, j], weights)
        by_weights += np.einsum("chwb,ob->hwco", around[place], slope[:, i, j])

    def corner(array, shape):
        return np.pad(array, [(0, most - own) for own, most in zip(array.shape, shape, strict=True)]).astype(np.float32)

    found, by_x, by_kernel = windows_and_slopes(
        corner(x, (2, 8, 9, 2)), corner(weights, (5, 5, 2, 3)), np.int32(stride), np.int32(first),
        corner(slope, (3, 9, 8, 2)),
    )  # fmt: skip
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(found[:, :height, :width], z)
    close(by_x[:, : size[0], : size[1]], by_around[:, first[0] :, first[1] :][:, : size[0], : size[1]])
    close(by_kernel[:kernel, :kernel], by_weights)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_deep_networks_learn_as_they_do_alone(seed):
    rng = np.random.default_rng(seed)

    def pick(*values):
        return values[rng.integers(len(values))]

    names = list(ACTIVATIONS)
    convs = [
        {
            "units": int(rng.integers(1, 6)), "kernel": int(rng.integers(2, 6)), "stride": int(rng.integers(1, 4)),
            "padding": pick("same", "valid"), "activation": pick(*names), "dropout": pick(0.0, 0.3),
        }
        for _ in range(rng.integers(1, 5))
    ]  # fmt: skip
    dense = [
        {"units": int(rng.integers(1, 9)), "activation": pick(*names), "dropout": pick(0.0, 0.5)}
        for _ in range(rng.integers(0, 4))
    ]
    genome = {"conv": convs, "dense": dense, "optimizer": pick(*OPTIMIZERS), "lr": 1e-3}
    same_as_alone(genome, wider, made_task((11, 9, 3)), tolerance=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["mlp", "dense", "cnn"])
def test_random_genomes_of_a_space_learn_mixed_what_they_learn_alone(space):
    result = parity.measure(parity.Parity(space=space, count=6, epochs=2, batch_size=200))
    assert result["largest_difference"] < 1e-3


def test_vmapped_members_learn_what_they_learn_one_by_one():
    task = made_task((9,))
    genomes = [
        {"dense": [{"units": 3, "activation": "relu"}], "optimizer": "sgd", "epochs": 1},
        {"dense": [{"units": 6, "activation": "tanh", "dropout": 0.5}] * 2, "optimizer": "adadelta", "epochs": 3},
        {"dense": [{"units": 5, "activation": "elu"}] * 3, "optimizer": "adamax", "epochs": 2},
    ]
    program = Program((9,), 3, (), (6, 6, 6), 1, 3)
    networks = [architecture(genome, (9,), 3, 3)[0] for genome in genomes]
    members = [(padded(begin(of, 5, 3), of, program), choices(of, program)) for of in networks]
    one = train(program, classification(3), BATCH, 99)
    keys = jax.random.split(jax.random.key(2), 3)
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *members)
    together = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None)))(keys, *stacked, task)
    for i, member in enumerate(members):
        alone = jax.jit(one)(jax.random.split(jax.random.key(2), 3)[i], *member, task)
        assert int(alone.so_far.epochs) == genomes[i]["epochs"]
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), mine, alone)


def test_a_member_stops_after_its_patience_and_keeps_its_best_weights():
    task = made_task((9,))
    # Labels of the validation set that nothing can be learnt for: sooner or later it gets no better.
    rng = np.random.default_rng(3)
    task = task._replace(validation=task.validation._replace(y=jnp.asarray(rng.integers(0, 3, 20), jnp.int32)))
    of, _ = architecture({"dense": [{"units": 16}], "lr": 0.05}, (9,), 3, 60)
    program = exact(of, 60)
    found = jax.jit(train(program, classification(3), BATCH, 4))(
        jax.random.key(0), begin(of, 5, program.epochs), choices(of, program), task
    ).so_far
    assert int(found.epochs) == int(found.best) + 4 < 60
    shorter = of._replace(epochs=int(found.best))
    again = jax.jit(train(program, classification(3), BATCH, 4))(
        jax.random.key(0), begin(of, 5, program.epochs), choices(shorter, program), task
    ).so_far
    jax.tree.map(np.testing.assert_array_equal, found.params, again.params)
    assert not found.curve[int(found.epochs) :].any()


def test_a_member_that_diverges_stops_at_once():
    task = made_task((9,))
    of, _ = architecture({"dense": [{"units": 8}], "optimizer": "sgd", "lr": 1e30}, (9,), 3, 50)
    program = exact(of, 50)
    found = jax.jit(train(program, classification(3), BATCH, 50))(
        jax.random.key(0), begin(of, 5, program.epochs), choices(of, program), task
    ).so_far
    assert int(found.epochs) <= 3
    assert not np.isfinite(found.curve).all()


@pytest.mark.parametrize(("units", "more", "rate"), [(1, 1, 0.0), (3, 4, 0.5), (17, 30, 0.99), (30, 2, 0.1)])
def test_dropout_of_a_unit_does_not_depend_on_how_many_units_and_pixels_there_are(units, more, rate):
    key, other = jax.random.key(1), jax.random.key(1)
    few = dropout_gain(key, (units, 3, 2, 7), jnp.float32(rate))
    many = dropout_gain(other, (units + more, 4, 5, 7), jnp.float32(rate))
    np.testing.assert_array_equal(few, many[:units, :3, :2])


def test_dropout_drops_its_share_and_makes_up_for_it(key):
    gain = dropout_gain(key, (200, 1000), jnp.float32(0.3))
    assert float((gain == 0).mean()) == pytest.approx(0.3, abs=0.005)
    assert float(gain.mean()) == pytest.approx(1, abs=0.01)


def test_repairs_make_every_genome_some_network():
    conv = {"units": 4, "kernel": 5, "stride": 3, "padding": "valid"}
    of, repairs = architecture({"conv": [conv] * 7}, (8, 8, 1), 10, 3)
    assert all(min(each.output) >= 1 and min(each.pooled) >= 1 for each in of.conv)
    assert any("conv.1.padding same" in repair for repair in repairs)
    assert any("not pooled" in repair for repair in repairs)
    logits = network(of).apply(network(of).init(jax.random.key(0)), jnp.zeros((2, 8, 8, 1)))
    assert logits.shape == (2, 10)


VALUES = {
    "units": [1, 4, 64], "dropout": [0, 0.0, 0.25, 0.99], "activation": ["relu", "swish"], "kernel": [1, 3, 9, 40],
    "stride": [1, 2, 50], "padding": ["same", "valid"], "optimizer": ["adam", "nadam"], "lr": [1e-3, 1, "1e-2"],
    "weight_decay": [0, 1e-4], "epochs": [1, 5],
}  # fmt: skip
WRONG = [
    0,
    -1,
    1.5,
    1e-400,
    10**30,
    2**31,
    True,
    None,
    "abc",
    "",
    "08",
    "relu ",
    "Adam",
    [1],
    [],
    {},
    math.nan,
    math.inf,
]


@st.composite
def written_spaces(draw):
    """Spaces as users write them, every twentieth value of which is wrong."""

    def value(name):
        return draw(st.sampled_from(WRONG if draw(st.integers(0, 19)) == 0 else VALUES[name]))

    def gene(name):
        values = [value(name) for _ in range(draw(st.integers(1, 3)))]
        if draw(st.integers(0, 3)) or isinstance(VALUES[name][0], str):
            return values if len(values) > 1 else values[0]
        return {"min": values[0], "max": values[-1], **draw(st.sampled_from([{}, {}, {"log": True}, {"step": 1}]))}

    def condition():
        optimizers = space.get("optimizer")
        if draw(st.integers(0, 3)) or not isinstance(optimizers, list) or draw(st.integers(0, 19)) == 0:
            return {}
        return {"when": {"optimizer": draw(st.sampled_from(optimizers))}}

    def maybe(name, of):
        """A gene, perhaps null or under a condition; units of a layer that have one are refused."""
        if isinstance(of, list) and draw(st.integers(0, 5)) == 0:
            of = [*of, None]
        if when := condition() if name != "units" or draw(st.integers(0, 9)) == 0 else {}:
            return {**(of if isinstance(of, dict) else {"values": of}), **when}
        return of

    def genes(names):
        return {name: maybe(name, gene(name)) for name in names if name == "units" or draw(st.booleans())}

    space = {}
    space |= genes(["optimizer"])
    space |= genes([name for name in GENES[""] if name != "optimizer"])
    for group in ("conv", "dense"):
        if draw(st.booleans()):
            layers = draw(st.sampled_from([0, 1, 3, [0, 2], {"min": 1, "max": 7}]))
            space[group] = {"layers": layers, "same": draw(st.booleans()), **genes(GENES[group]), **condition()}
    return space


@given(written_spaces(), st.sampled_from([(8, 8, 1), (4,), (1, 1, 1), (5, 2, 3)]), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_whatever_passes_the_check_of_a_space_is_some_network(mapping, shape, seed):
    """A space is refused in one line before anything trains, or all that it can draw can be built."""
    try:
        space = parse_space(mapping, "written")
        check_genes(space)
        most = largest(space, shape, 3)
    except InputError:
        return
    drawn = np.random.default_rng(seed)
    for _ in range(3):
        ends = [0, 1, drawn.random()]
        leaves = {
            path: np.int32(drawn.integers(gene.size())) if isinstance(gene, Choice) else np.float32(drawn.choice(ends))
            for path, gene in space.leaves().items()
        }
        genome = space.decode(jax.tree.unflatten(jax.tree.structure(space.tree()), list(leaves.values())))
        found, _ = architecture(genome, shape, 3, 1)
        assert min(found.weights.values()) >= 1
        # Whether an image is pooled hangs on its shorter side.
        assert sum(found.weights.values()) <= sum(most.values()) or shape == (5, 2, 3)
        assert all(min(conv.output) >= 1 for conv in found.conv)
        assert np.float32(found.learning_rate) > 0


@pytest.mark.parametrize(
    ("genome", "parts"),
    [
        ({"dense": [{"units": 0}]}, ["dense.0.units is 0", "whole number from 1"]),
        ({"dense": [{}]}, ["dense.0.units is None"]),
        ({"dense": [{"units": 3, "activation": "rely"}]}, ["'rely'", "did you mean relu?"]),
        ({"dense": [{"units": 3, "dropout": 1.0}]}, ["dropout is 1.0", "below 1"]),
        ({"optimizer": "adm"}, ["'adm'", "did you mean"]),
        ({"lr": -1.0}, ["-1.0", "number > 0"]),
        ({"conv": [{"units": 3, "padding": "full"}]}, ["conv.0.padding is 'full'", "same, valid"]),
        ({"conv": [{"units": 3, "stride": 0}]}, ["conv.0.stride is 0"]),
        ({"dense": [{"units": None}]}, ["dense.0.units is None"]),
        ({"dense": [{"units": 3, "activation": None}]}, ["dense.0.activation is None", "one of relu"]),
        ({"conv": [{"units": 3, "kernel": None}]}, ["conv.0.kernel is None"]),
        ({"optimizer": None}, ["optimizer is None"]),
    ],
)
def test_a_gene_that_no_network_can_have_is_named(genome, parts):
    with pytest.raises(InputError) as caught:
        architecture(genome, (8, 8, 1), 10, 3)
    for part in parts:
        assert part in str(caught.value)


def test_what_is_left_out_or_null_has_its_default():
    plain = architecture({"dense": [{"units": 3}], "optimizer": "sgd"}, (4,), 2, 7)
    nulls = {"dense": [{"units": 3, "dropout": None}], "optimizer": "sgd"}
    assert architecture({**nulls, "lr": None, "weight_decay": None, "epochs": None}, (4,), 2, 7) == plain
    assert (plain[0].dropout, plain[0].learning_rate, plain[0].weight_decay, plain[0].epochs) == ((0.0,), 0.01, 0.0, 7)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"momentum": {"values": [0.0, 0.9], "when": {"optimizer": "sgd"}}}, "has the gene momentum; known: optimizer"),
        ({"optimizer": ["sgd", None]}, "gene optimizer is None, but takes one of"),
        ({"dense": {"layers": 1, "units": [4, None]}}, "gene dense.units is None, but takes a whole number"),
        ({"dense": {"layers": 1, "units": {"min": 0.5, "max": 4, "log": True}}}, "gene dense.units is 0.5, but takes"),
        (
            {"dense": {"layers": 1, "units": {"values": [4, 8], "when": {"optimizer": "sgd"}}}},
            "gene dense.units has the condition {'optimizer': ('sgd',)}, but every layer takes units",
        ),
        ({"lr": {"values": [-1.0], "when": {"optimizer": "sgd"}}}, "gene lr is -1.0, but takes a number > 0, or null"),
    ],
)
def test_a_gene_that_the_trainer_cannot_use_is_refused_early(more, message):
    written = {"optimizer": ["sgd", "adam"], "dense": {"layers": 1, "units": {"min": 4, "max": 64, "log": True}}}
    check_genes(parse_space(written, "example"))
    with pytest.raises(InputError) as caught:
        check_genes(parse_space({**written, **more}, "example"))
    assert message in str(caught.value)


# The planner.

widths = st.sampled_from([16, 64, 128, 256, 1024])


@st.composite
def members(draw):
    """Architectures of one space, MLPs or CNNs."""
    convs = draw(st.integers(0, 2))

    def one():
        conv = [
            {
                "units": draw(st.sampled_from([16, 64])), "kernel": draw(st.integers(3, 5)),
                "stride": draw(st.integers(1, 2)), "padding": draw(st.sampled_from(["same", "valid"])),
            }
            for _ in range(convs)
        ]  # fmt: skip
        dense = [{"units": draw(widths)} for _ in range(draw(st.integers(1, 3)))]
        return architecture({"conv": conv, "dense": dense, "epochs": draw(st.integers(1, 9))}, (28, 28, 1), 10, 9)[0]

    return [one() for _ in range(draw(st.integers(1, 8)))]


def cost(members, batches, known, work, costs):
    programs = {batch.program for batch in batches}
    running = sum(planning.seconds(b.program, members[i], work, costs) for b in batches for i in b.members)
    return running + sum(planning.compile_seconds(p, costs) for p in programs if p not in known)


@given(members(), members(), st.sampled_from([1, 30, 3000]), st.sampled_from(["cpu", "gpu"]))
@settings(max_examples=60, deadline=None)
def test_a_plan_trains_everyone_once_and_is_never_worse_than_either_extreme(some, before, steps, device):
    work, costs = Work(64, steps, 9), COSTS[device]
    known = set(plan(before, (), work, costs).compiled)
    found = plan(some, known, work, costs)
    assert sorted(i for batch in found.batches for i in batch.members) == list(range(len(some)))
    assert all(fits(some[i], batch.program) for batch in found.batches for i in batch.members)
    assert all(len(batch.members) <= costs.together for batch in found.batches)
    assert set(found.compiled) == {batch.program for batch in found.batches} - known
    total = cost(some, found.batches, known, work, costs)
    assert found.seconds == pytest.approx(total)
    # Every member exactly.
    own = [planning.Batch(exact(m, 9), (i,), 0.0) for i, m in enumerate(some)]
    assert total <= cost(some, own, known, work, costs) * (1 + 1e-9)
    # As few programs as there can be.
    groups = []
    for member in some:
        program = exact(member, 9)
        for i, group in enumerate(groups):
            if joined := join(group, program):
                groups[i] = joined
                break
        else:
            groups.append(program)
    hosts = [next(g for g in groups if fits(m, g)) for m in some]
    fewest = [planning.Batch(host, (i,), 0.0) for i, host in enumerate(hosts)]
    assert total <= cost(some, fewest, known, work, costs) * (1 + 1e-9)


@given(members())
@settings(max_examples=40, deadline=None)
def test_joining_is_symmetric_and_holds_both(some):
    for a, b in product(some, some):
        one, other = exact(a, 9), exact(b, 9)
        joined = join(one, other)
        assert joined == join(other, one)
        if joined:
            assert fits(a, joined)
            assert fits(b, joined)
            assert join(joined, one) == joined


def test_known_programs_are_used_and_cheap_runs_share_one():
    many = [architecture({"dense": [{"units": n}]}, (28, 28, 1), 10, 2)[0] for n in range(16, 48, 4)]
    work = Work(64, 10, 2)
    first = plan(many, (), work, COSTS["cpu"])
    assert len(first.compiled) == 1
    second = plan(many[:3], set(first.compiled), work, COSTS["cpu"])
    assert second.compiled == ()
    assert "0 of them new" in str(second)
    # When training takes hours, nobody is padded.
    long = plan(many, (), Work(64, 10**7, 2), COSTS["cpu"])
    assert len(long.compiled) == len(many)
    assert long.padding == pytest.approx(0)


def test_random_convolutional_networks_need_few_programs_where_compiling_is_what_costs():
    space = parse_space(SPACES["cnn"], "cnn")
    drawn = [space.decode(space.init(key)) for key in jax.random.split(jax.random.key(0), 40)]
    many = [architecture({**genome, "epochs": 3}, (8, 8, 1), 10, 3)[0] for genome in drawn]
    assert len({(conv.stride, conv.same) for of in many for conv in of.conv}) == 6
    assert len(plan(many, (), Work(64, 20, 3), COSTS["cpu"]).compiled) < 8
    # When training takes hours, nobody is padded.
    assert plan(many, (), Work(64, 10**7, 3), COSTS["cpu"]).padding == pytest.approx(0)


@pytest.mark.slow
def test_networks_that_train_at_once_are_what_each_is_alone():
    """Of a size at which two programs that shared a CPU's threads came to other numbers each time."""
    x = np.random.default_rng(0).integers(0, 256, (1000, 32, 32, 3)).astype(np.uint8)
    task = to_device(from_arrays(x, np.arange(1000) % 10, validation=100))
    layer = {"activation": "relu", "dropout": 0.0, "kernel": 4, "padding": "valid", "stride": 2, "units": 64}
    genome = {
        "conv": [layer, layer | {"activation": "tanh", "kernel": 3, "stride": 1, "units": 16}],
        "dense": [{"activation": "swish", "dropout": 0.0, "units": 182}],
        "optimizer": "rmsprop", "lr": 6e-4, "weight_decay": 0.01,
    }  # fmt: skip
    of, _ = architecture(genome, (32, 32, 3), 10, 12)
    job = Job(exact(of, 27), (MemberSpec(0, 0, of, 10),))
    worker = Worker(task, Training(64, 27, "float32", classification(10)))
    (alone,) = worker.train(job)
    with ThreadPoolExecutor(2) as pool:
        for (other,) in pool.map(worker.train, [job] * 4):
            jax.tree.map(np.testing.assert_array_equal, (other.trained, other.params), (alone.trained, alone.params))


SMALL = {"dense": [{"units": 4, "activation": "relu"}], "optimizer": "sgd", "lr": 0.1}


def small_jobs():
    """A worker, and two jobs of different programs."""
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    task = to_device(from_arrays(x, np.arange(40) % 2, validation=10))
    deep = SMALL | {"dense": SMALL["dense"] * 2}
    of = [architecture(genome, (5,), 2, 1)[0] for genome in (SMALL, deep)]
    jobs = [Job(exact(one, 1), (MemberSpec(0, 0, one, 1),)) for one in of]
    return Worker(task, Training(10, 1, "float32", classification(2))), jobs


def test_a_worker_forgets_old_programs():
    worker, jobs = small_jobs()
    worker._programs.at_most = 1
    first, other, again = (worker.train(job) for job in (*jobs, jobs[0]))
    assert [worker.has_compiled(job) for job in jobs] == [True, False]
    jax.tree.map(np.testing.assert_array_equal, first[0].params, again[0].params)
    assert other[0].compile_s > 0
    assert again[0].compile_s > 0


def test_what_is_compiled_is_trained_while_another_program_is_being_compiled(monkeypatch):
    worker, (known, new) = small_jobs()
    worker.compile(known)
    begun, trained, traced = threading.Event(), threading.Event(), worker.traced

    def slow(job):
        begun.set()
        assert trained.wait(60)
        return traced(job)

    monkeypatch.setattr(worker, "traced", slow)
    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(worker.compile, new)
        assert begun.wait(60)
        worker.train(known)
        trained.set()
        compiling.result()
