"""Spaces of hyperparameter genomes: what is read, what is bred, and that every genome stays legal."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jevo import genetics
from jevo.errors import InputError
from jevo.hyperparams import (
    SPACES,
    Choice,
    Group,
    LogInteger,
    Real,
    Space,
    flatten,
    identity,
    parse_space,
    redrawn,
    stepped,
)
from tests.members import seeds

relaxed = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors]
)
many = settings(relaxed, max_examples=50)
COUNT = 24  # Genomes at once. Always as many: all leaves are then of one shape, and XLA compiles each operation once.

MIXED = parse_space(
    {
        "lr": {"min": 1e-4, "max": 0.1, "log": True},
        "decay": {"min": 0.0, "max": 0.5},
        "optimizer": ["adam", "sgd", "rmsprop"],
        "fixed": 7,
        "conv": {"layers": [0, 1, 3], "units": [16, 32, 64, 128], "act": ["relu", "tanh"], "drop": 0.1},
        "dense": {"layers": {"min": 1, "max": 2}, "same": True, "units": {"min": 8, "max": 32, "step": 8}},
    },
    "mixed",
)

scalars = (
    st.integers(-50, 50) | st.booleans() | st.sampled_from(["relu", "tanh", "a b", ""]) | st.floats(-9, 9, width=16)
)
reals = st.floats(-1e6, 1e6, allow_subnormal=False)
positives = st.floats(1e-9, 1e6)


@st.composite
def one(draw, finite=False):
    """A gene as YAML gives it; a finite one has a few values."""
    kinds = ["fixed", "list", "integers", "spaced", "factors", *([] if finite else ["floats", "log"])]
    kind = draw(st.sampled_from(kinds))
    if kind == "fixed":
        return draw(scalars)
    if kind == "list":
        return draw(st.lists(scalars | st.none(), min_size=1, max_size=4, unique=True))
    if kind == "factors":
        low = draw(st.integers(1, 20))
        return {"min": low, "max": low + draw(st.integers(0, 3)), "log": True}
    if kind in ("integers", "spaced"):
        low, count, step = draw(st.integers(-5, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
        gene = {"min": low, "max": low + (count - 1) * step, "step": step}
        return gene if kind == "integers" else {name: value / 10 for name, value in gene.items()}
    low, high = sorted(draw(st.tuples(*[positives if kind == "log" else reals] * 2)))
    return {"min": low, "max": high, **({"log": True} if kind == "log" else {})}


@st.composite
def group(draw, finite=False, most=3):
    names = draw(
        st.lists(st.sampled_from(["units", "kernel", "max", "log"]), max_size=3 if most > 2 else 2, unique=True)
    )
    layers = draw(st.integers(0, most) | st.lists(st.integers(0, most), min_size=1, max_size=3, unique=True))
    same = draw(st.sampled_from([{}, {"same": True}, {"same": False}]))
    return {"layers": layers, **same, **{name: draw(one(finite)) for name in names}}


def choices(mapping):
    """The values of the genes that are choices, by name."""
    genes = {name: parse_space({"x": gene}, "drawn").genes["x"] for name, gene in mapping.items()}
    return {name: gene.values for name, gene in genes.items() if isinstance(gene, Choice)}


@st.composite
def conditional(draw, genes, outer=()):
    """The same genes and groups, some of them under conditions on others, or on those of `outer`, in any order."""
    found, known = {}, {name: values for name, values in dict(outer).items() if name not in genes}
    for name in draw(st.permutations(list(genes))):
        gene, own = genes[name], choices({name: genes[name]})
        if known and draw(st.booleans()):
            others = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=2, unique=True))
            some = lambda values: st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)  # noqa: E731
            when = {other: draw(some(known[other]) | st.sampled_from(known[other])) for other in others}
            gene = {**(gene if isinstance(gene, dict) else {"values": gene}), "when": when}
        found[name] = gene
        known |= own
    return {name: found[name] for name in genes}


@st.composite
def spaces(draw, finite=False):
    """A space with one to four genes or groups."""
    names = draw(st.lists(st.sampled_from(["b", "a", "optimizer", "max"]), min_size=1, max_size=3, unique=True))
    loose = {name: draw(one(finite)) for name in names}
    mapping = draw(conditional(loose))
    if draw(st.booleans()):
        conv = draw(group(finite, 2 if finite else 3))
        inner = {name: gene for name, gene in conv.items() if name not in ("layers", "same")}
        mapping["conv"] = {**conv, **draw(conditional(inner, choices(loose)))}
        if draw(st.booleans()) and (known := choices(loose)):
            mapping["conv"]["when"] = {other: draw(st.sampled_from(known[other])) for other in known}
    # As in a file: what is parsed is what YAML makes of it.
    return parse_space(yaml.safe_load(yaml.safe_dump(mapping)), "drawn")


def drawn(space, seed, count=COUNT):
    """Encoded genomes drawn without JAX, stacked."""
    rng = np.random.default_rng(seed)
    treedef = jax.tree.structure(space.tree())
    return treedef.unflatten(
        rng.integers(0, len(gene.values), count).astype(np.int32)
        if isinstance(gene, Choice)
        else rng.choice([0, 1, *rng.random(5)], count).astype(np.float32)
        for gene in space.leaves().values()
    )


def unstacked(genomes):
    """Stacked genomes as a list of NumPy scalars."""
    host = jax.device_get(genomes)
    return [jax.tree.map(lambda leaf: leaf[i], host) for i in range(len(jax.tree.leaves(host)[0]))]  # noqa: B023


def well_formed(space, genomes):
    """Structure, types and domain of every leaf of stacked genomes."""
    assert jax.tree.structure(genomes) == jax.tree.structure(space.tree())
    for gene, leaf in zip(space.leaves().values(), jax.tree.leaves(genomes), strict=True):
        assert leaf.shape == (COUNT,)
        assert leaf.dtype == (np.int32 if isinstance(gene, Choice) else np.float32)
        assert np.all((np.asarray(leaf) >= 0) & (leaf <= (len(gene.values) - 1 if isinstance(gene, Choice) else 1)))


def there(genes, conditions, values, outer):
    """Of these genes those whose condition holds of the values of this layer, or at the top."""
    return [
        name
        for name in genes
        if all(
            other in (scope := values if other in genes else outer) and scope[other] in taken
            for other, taken in conditions.get(name, {}).items()
        )
    ]


def legal(space, decoded):
    """It is in the space, checked against what the space says and not by its own methods."""
    assert list(decoded) == there(space.genes, space.conditions, decoded, {})
    for name in decoded:
        gene = space.genes[name]
        if isinstance(gene, Group):
            assert len(decoded[name]) in gene.layers.values
            for layer in decoded[name]:
                assert list(layer) == there(gene.genes, gene.conditions, layer, decoded)
            pairs = [(gene.genes[inner], value) for layer in decoded[name] for inner, value in layer.items()]
            if gene.same:
                assert all(layer == decoded[name][0] for layer in decoded[name])
        else:
            pairs = [(gene, decoded[name])]
        for inner, value in pairs:
            if isinstance(inner, Choice):
                assert any(value is known for known in inner.values)
            elif isinstance(inner, LogInteger):
                assert type(value) is int
                assert inner.low <= value <= inner.high
            else:
                assert type(value) is float
                assert inner.low <= value <= inner.high
                assert value in (inner.low, inner.high, float(f"{value:.6g}"))


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


# What is read


@pytest.mark.parametrize(
    ("text", "gene"),
    [
        ("adam", Choice(("adam",))),
        ("0.2", Choice((0.2,))),
        ("[16, 32]", Choice((16, 32))),
        ("[true, false]", Choice((True, False))),
        ("[1e-3, 1.5E+2, e-3, '12']", Choice((0.001, 150.0, "e-3", "12"))),
        ("{min: 3, max: 5}", Choice((3, 4, 5))),
        ("{min: 3, max: 3}", Choice((3,))),
        ("{min: 16, max: 50, step: 16}", Choice((16, 32, 48))),
        ("{min: 16, max: 48, step: 16}", Choice((16, 32, 48))),
        ("{min: 0.1, max: 0.3, step: 0.1}", Choice((0.1, 0.2, 0.3))),
        ("{min: 0, max: 1, step: 0.4}", Choice((0.0, 0.4, 0.8))),
        ("{min: 0, max: 1.0}", Real(0.0, 1.0)),
        ("{min: 1e-3, max: 1}", Real(0.001, 1.0)),
        ("{min: 1e-5, max: 1e-1, log: true}", Real(1e-5, 0.1, True)),
        ("{min: 1, max: 100.0, log: true}", Real(1.0, 100.0, True)),
        ("{min: 1, max: 100, log: true}", LogInteger(1, 100)),
        ("{values: [16, 32]}", Choice((16, 32))),
        ("{values: adam}", Choice(("adam",))),
        ("[null, 0.1, none]", Choice((None, 0.1, "none"))),
        ("{min: 1, max: 2, log: false}", Choice((1, 2))),
        ("{layers: 2, units: [4, 8]}", Group(Choice((2,)), {"units": Choice((4, 8))})),
        (
            "{layers: {min: 0, max: 2}, same: true, max: {min: 0.5, max: 1}}",
            Group(Choice((0, 1, 2)), {"max": Real(0.5, 1.0)}, True),
        ),
        ("{layers: [1, 3]}", Group(Choice((1, 3)), {})),
        (
            "{layers: 1, a: [1, 2], b: {values: [3, 4], when: {a: 2}}}",
            Group(Choice((1,)), {"a": Choice((1, 2)), "b": Choice((3, 4))}, False, {"b": {"a": (2,)}}),
        ),
    ],
)
def test_a_gene_is_read(text, gene):
    space = parse_space({"x": yaml.safe_load(text)}, "example")
    assert space == Space({"x": gene})
    if isinstance(gene, Choice):
        assert list(map(type, space.genes["x"].values)) == list(map(type, gene.values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("units: []", "gene units is [], but takes at least one value"),
        ("conv: {layers: 2, units: []}", "gene conv.units is [], but takes at least one value"),
        ("units: [1, 2, 1]", "gene units is [1, 2, 1], but takes each value once; 1 equals"),
        ("units: [1, 1.0]", "each value once; 1.0 equals an earlier one"),
        ("units: [[1], [2]]", "gene units is [[1], [2]], but takes text, finite numbers, true and false"),
        ("units:", "gene units is None, but takes text, finite"),
        ("units: [.nan]", "gene units is [nan], but takes text, finite"),
        ("day: 2001-12-14", "gene day is datetime.date(2001, 12, 14), but takes text"),
        (
            "lr: {mim: 1, max: 2}",
            "gene lr has 'mim'; did you mean min? known: min, max, step, log, values, when, layers",
        ),
        ("conv: {layer: 1, units: 3}", "gene conv has 'layer'; did you mean layers?"),
        ("lr: {}", "gene lr is {}, but takes both min and max; min is missing"),
        ("lr: {min: 1}", "gene lr is {'min': 1}, but takes both min and max; max is missing"),
        ("lr: {min: 2, max: 1}", "gene lr is {'max': 1, 'min': 2}, but takes a min that is at most max"),
        ("lr: {min: a, max: 1}", "gene lr.min is 'a', but takes a number"),
        ("lr: {min: true, max: 2}", "gene lr.min is True, but takes a number"),
        ("lr: {min: 0, max: .inf}", "gene lr.max is inf, but takes a number"),
        ("lr: {min: nan, max: 1}", "gene lr.min is 'nan', but takes a number"),
        ("lr: {min: 1, max: [2]}", "gene lr.max is [2], but takes a number"),
        ("lr: {min: 1, max: 2, step: 0}", "gene lr.step is 0, but takes a number > 0"),
        ("lr: {min: 1, max: 2, step: x}", "gene lr.step is 'x', but takes a number"),
        ("lr: {min: 1, max: 10000000}", "at most 100000 values"),
        ("lr: {min: 0.0, max: 1.0, step: 1e-300}", "at most 100000 values"),
        (
            "lr: {min: 1000000.0, max: 1000001.0, step: 0.1}",
            "gene lr is {'max': 1000001.0, 'min': 1000000.0, 'step': 0.1}",
        ),
        ("lr: {min: 0, max: 1, log: true}", "takes min > 0 and no step, as it has log: true"),
        ("lr: {min: 1, max: 4, step: 1, log: true}", "takes min > 0 and no step, as it has log: true"),
        ("lr: {min: 1, max: 4, log: 2}", "gene lr.log is 2, but takes true or false"),
        ("conv: {layers: -1, units: 3}", "gene conv.layers is -1, but takes whole numbers from 0 to 100"),
        ("conv: {layers: 1.0, units: 3}", "gene conv.layers is 1.0, but takes whole"),
        ("conv: {layers: true, units: 3}", "gene conv.layers is True, but takes whole"),
        ("conv: {layers: 101, units: 3}", "gene conv.layers is 101, but takes whole"),
        ("conv: {layers: {min: 1.0, max: 2}}", "gene conv.layers is {'max': 2, 'min': 1.0}, but takes whole"),
        ("conv: {layers: {layers: 1}}", "gene conv.layers is {'layers': 1}, but takes a list or a range"),
        ("conv: {layers: 1, same: 1}", "gene conv.same is 1, but takes true or false"),
        ("conv: {layers: 1, in: {layers: 1}}", "gene conv.in is {'layers': 1}, but takes a list or a range"),
        ("conv: {layers: 1, units: {max: 1}}", "gene conv.units is {'max': 1}, but takes both min and max"),
        ("units: [1, null, null]", "each value once; None equals"),
        ("units: {values: }", "gene units is None, but takes text, finite"),
        ("units: {values: []}", "gene units is [], but takes at least one value"),
        ("units: {values: [1], min: 2}", "gene units is {'min': 2, 'values': [1]}, but takes beside values only when"),
        (
            "units: {min: 1, max: 200000, log: true}",
            "takes at most 100000 whole numbers; write 1.0 for a range of floats",
        ),
        ("a: 1\nb: {values: 2, when: {}}", "gene b.when is {}, but takes values of another gene by its name"),
        ("a: 1\nb: {values: 2, when: a}", "gene b.when is 'a', but takes values of another gene by its name"),
        ("a: 1\nb: {values: 2, when: }", "gene b.when is None, but takes values of another gene"),
        ("a: 1\nb: {values: 2, when: {aa: 1}}", "gene b.when names 'aa'; did you mean a? known: a, b"),
        ("a: [x, y]\nb: {values: 2, when: {a: z}}", "gene b.when.a is 'z', but takes x or y"),
        ("a: [0, 1]\nb: {values: 2, when: {a: [1, true]}}", "gene b.when.a is True, but takes 0 or 1"),
        ("a: [0, 1]\nb: {values: 2, when: {a: }}", "gene b.when.a is None, but takes 0 or 1"),
        ("a: [0, 1]\nb: {values: 2, when: {a: []}}", "but takes at least one value for a"),
        ("a: [0, 1]\nb: {values: 2, when: {a: {x: 1}}}", "gene b.when.a is {'x': 1}, but takes 0 or 1"),
        ("a: {values: 1, when: {a: 1}}", "gene a.when is {'a': 1}, but takes a gene other than itself"),
        (
            "a: {values: 1, when: {c: 1}}\nb: {values: 1, when: {a: 1}}\nc: {values: 1, when: {b: 1}}",
            "gene a.when is {'c': 1}, but takes no circle: a needs c needs b needs a",
        ),
        ("a: {min: 0.0, max: 1.0}\nb: {values: 1, when: {a: 0.5}}", "a gene that is a list of values; a is a number"),
        ("c: {layers: 1}\nb: {values: 1, when: {c: 1}}", "gene b.when is {'c': 1}, but takes a gene that is a list"),
        ("a: 1\nc: {layers: {values: [1, 2], when: {a: 1}}}", "takes no condition of its own; give it to the group"),
        ("c: {layers: 1, b: {values: 1, when: {x: 1}}}\na: 1", "gene c.b.when names 'x'; known: a, b"),
        ("c: {layers: 1, b: {values: 1, when: {b: 1}}}\nb: 1", "gene c.b.when is {'b': 1}, but takes a gene other"),
        ("on: 1", "gene True has no usable name; it takes text"),
        ("conv: {layers: 1, 3: 1}", "gene conv.3 has no usable name"),
        ("a.b: 1", "gene 'a.b' has no usable name; it takes text without dots"),
        ("'': 1", "gene '' has no usable name"),
        ("{}", "space my.yaml is {}, but takes at least one gene"),
        ("[1, 2]", "space my.yaml is [1, 2], but takes at least one gene"),
    ],
)
def test_what_is_no_space_is_said_in_one_line(text, message):
    with pytest.raises(InputError) as error:
        parse_space(yaml.safe_load(text), "my.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("space my.yaml")
    assert "\n" not in str(error.value)


def test_pythons_own_and_numpys_values_are_those_of_yaml():
    written = {
        "lr": {"min": np.float64(0.5), "max": np.int32(2), "log": np.True_},
        "units": (np.int64(16), np.uint8(32)),
        "share": np.array([0.25, 0.5]),
        "flag": (np.bool_(True), False, None, np.str_("word")),
        "conv": {"layers": np.arange(1, 3), "same": np.False_, "a": {"values": (1, 2), "when": {"units": np.int8(16)}}},
    }
    plain = {
        "lr": {"min": 0.5, "max": 2, "log": True},
        "units": [16, 32],
        "share": [0.25, 0.5],
        "flag": [True, False, None, "word"],
        "conv": {"layers": [1, 2], "a": {"values": [1, 2], "when": {"units": [16]}}},
    }
    space = parse_space(written, "python")
    assert repr(space) == repr(parse_space(plain, "yaml"))
    assert space.encode({**space.decode(space.init(jax.random.key(0))), "units": np.int16(16), "conv": [{"a": 2}]})


@pytest.mark.parametrize(
    ("values", "ordered"),
    [
        ((1, 2), True),
        ((0, 0.5, 3), True),
        ((1,), False),
        ((2, 1), False),
        ((False, True), False),
        (("a", "b"), False),
        ((1, "a"), False),
        ((None, 1), False),
    ],
)
def test_what_is_ordered(values, ordered):
    assert Choice(values).ordered == ordered


# Decoding and its inverse


@many
@given(space=spaces(), seed=seeds)
def test_encode_is_the_inverse_of_decode(space, seed):
    for genome in unstacked(drawn(space, seed, 5)):
        decoded = space.decode(genome)
        legal(space, decoded)
        again = space.encode(decoded)
        assert jax.tree.structure(again) == jax.tree.structure(genome)
        assert [leaf.dtype for leaf in jax.tree.leaves(again)] == [leaf.dtype for leaf in jax.tree.leaves(genome)]
        assert identity(space.decode(again)) == identity(decoded)
        assert json.loads(identity(decoded)) == decoded
        assert space.decode(space.encode(json.loads(identity(decoded)))) == decoded


@settings(max_examples=200, deadline=None)
@given(low=st.integers(1, 200) | st.integers(1, 10**18), count=st.integers(1, 100_000), seed=seeds)
def test_an_integer_by_factors_is_the_inverse_of_itself(low, count, seed):
    gene = LogInteger(low, low + count - 1)
    ends = {low, min(low + 1, gene.high), max(gene.high - 1, low), gene.high}
    for value in [*ends, *np.random.default_rng(seed).integers(low, gene.high, 20, endpoint=True)]:
        position = gene.encode(value, "x")
        assert gene.decode(position) == value
        # Each has positions enough to be drawn: those of uniform draws are 2**-23 apart.
        assert gene.decode(position + np.float32(2**-23)) == value == gene.decode(position - np.float32(2**-23))
    assert (gene.decode(0.0), gene.decode(1.0)) == (gene.low, gene.high)


def test_integers_by_factors_are_drawn_by_factors():
    gene = LogInteger(1, 16)
    positions = jax.vmap(gene.draw)(jax.random.split(jax.random.key(0), 16000))
    counts = np.bincount([gene.decode(position) for position in np.asarray(positions)], minlength=17)[1:]
    expected = np.diff(np.log(np.arange(0.5, 17))) / np.log(33)
    assert np.sum((counts / 16000 - expected) ** 2 / expected) * 16000 < 15 + 6 * math.sqrt(30)


@settings(max_examples=200, deadline=None)
@given(ends=st.tuples(positives, positives), log=st.booleans(), negative=st.booleans(), seed=seeds)
def test_a_real_is_the_inverse_of_itself(ends, log, negative, seed):
    low, high = sorted(ends)
    real = Real(low - (0 if log or not negative else (low + high) / 2), high, log)
    for position in np.random.default_rng(seed).random(20).astype(np.float32):
        value = real.decode(position)
        assert real.decode(real.encode(value, "x")) == value


def test_a_range_is_linear_or_by_factors():
    assert [Real(2.0, 6.0).decode(np.float32(p)) for p in (0, 0.25, 1)] == [2, 3, 6]
    assert [Real(1e-4, 1.0, True).decode(np.float32(p)) for p in (0, 0.25, 0.5, 1)] == [1e-4, 1e-3, 1e-2, 1]
    assert Real(0.12345678, 0.12345679).decode(np.float32(0.5)) == 0.12345679  # 0.123457 is above it.
    assert Real(1.0, 1.0, True).decode(Real(1.0, 1.0, True).encode(1, "x")) == 1
    assert float(Real(0.0, 10.0).encode(2.51234567, "x")) == pytest.approx(0.251234567)
    assert math.copysign(1, Real(-1.0, 1.0).decode(np.float32(0.5))) == 1


def test_genomes_that_differ_in_inactive_genes_only_decode_alike():
    genome = jax.tree.map(lambda gene: np.zeros((), np.int32 if isinstance(gene, Choice) else np.float32), MIXED.tree())
    genome["conv"]["layers"] = np.int32(1)
    other = {**genome, "conv": {**genome["conv"], "1": {**genome["conv"]["0"], "units": np.int32(3)}}}
    assert MIXED.decode(genome) == MIXED.decode(other)
    assert identity(MIXED.decode(genome)) == identity(MIXED.decode(other))
    active = {**genome, "conv": {**genome["conv"], "0": {**genome["conv"]["0"], "units": np.int32(3)}}}
    assert MIXED.decode(genome) != MIXED.decode(active)
    assert identity(MIXED.decode(genome)) != identity(MIXED.decode(active))


@many
@given(space=spaces(), seed=seeds)
def test_identities_are_equal_exactly_if_genomes_are(space, seed):
    decoded = [space.decode(genome) for genome in unstacked(drawn(space, seed, 6))]
    for a, b in itertools.combinations(decoded, 2):
        assert (identity(a) == identity(b)) == (a == b)


def test_identity_is_canonical():
    assert identity({"b": 1, "a": [{"y": 0.5, "x": True}]}) == '{"a":[{"x":true,"y":0.5}],"b":1}'


LEGAL = {
    "lr": 0.01,
    "decay": 0.25,
    "optimizer": "sgd",
    "fixed": 7,
    "conv": [{"units": 64, "act": "relu", "drop": 0.1}],
    "dense": [{"units": 8}, {"units": 8}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1.0}, "gene lr is 1.0, but takes a number from 0.0001 to 0.1"),
        ({"lr": "0.01"}, "gene lr is '0.01', but takes a number"),
        ({"lr": math.nan}, "gene lr is nan, but takes a number"),
        ({"decay": False}, "gene decay is False, but takes a number"),
        ({"optimizer": "adm"}, "gene optimizer is 'adm', but takes adam, sgd or rmsprop"),
        ({"optimizer": ["adam"]}, "gene optimizer is ['adam'], but takes adam, sgd or rmsprop"),
        ({"fixed": 8}, "gene fixed is 8, but takes 7"),
        ({"fixed": True}, "gene fixed is True, but takes 7"),
        ({"fixed": None}, "gene fixed is None, but takes 7"),
        ({"optimiser": 1}, "gene optimiser is unknown; did you mean optimizer?"),
        ({"conv": {}}, "gene conv is {}, but takes a list of 0, 1 or 3 layers"),
        ({"conv": LEGAL["conv"] * 2}, "gene conv.layers is 2, but takes 0, 1 or 3"),
        ({"conv": [3]}, "gene conv.0 is 3, but takes a value for each gene by name"),
        ({"conv": [{"units": 64, "act": "relu"}]}, "gene conv.0.drop is missing; it takes 0.1"),
        ({"conv": [LEGAL["conv"][0]] * 2 + [{"units": 65}]}, "gene conv.2.act is missing; it takes relu or tanh"),
        ({"conv": [{**LEGAL["conv"][0], "units": 65}]}, "gene conv.0.units is 65, but takes 16, 32, 64 or 128"),
        ({"conv": [{**LEGAL["conv"][0], "unit": 64}]}, "gene conv.0.unit is unknown; did you mean units?"),
        ({"dense": [{"units": 8}, {"units": 16}]}, "gene dense has layers that differ, but takes equal ones"),
    ],
)
def test_what_is_no_genome_is_said_in_one_line(change, message):
    assert MIXED.decode(MIXED.encode(LEGAL)) == LEGAL
    with pytest.raises(InputError) as error:
        MIXED.encode({**LEGAL, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_genome_lacks_nothing():
    with pytest.raises(InputError, match="gene dense is missing; it takes a list of 1 or 2 layers"):
        MIXED.encode({name: value for name, value in LEGAL.items() if name != "dense"})
    with pytest.raises(InputError, match="a genome is 3, but takes a value for each gene"):
        MIXED.encode(3)  # pyright: ignore[reportArgumentType]
    units = parse_space({"units": {"min": 16, "max": 256, "step": 16}}, "example")
    with pytest.raises(InputError, match=r"gene units is 1, but takes one of 16, 32, 48, \.\.\. 256"):
        units.encode({"units": 1})


def test_true_is_not_one():
    space = parse_space({"x": [True, 2], "y": [1, 2]}, "example")
    assert space.decode(space.encode({"x": True, "y": 1})) == {"x": True, "y": 1}
    for wrong in ({"x": 1, "y": 1}, {"x": True, "y": True}):
        with pytest.raises(InputError, match=r"gene [xy] is"):
            space.encode(wrong)


def test_a_genome_as_columns():
    assert flatten(LEGAL) == {
        "lr": 0.01,
        "decay": 0.25,
        "optimizer": "sgd",
        "fixed": 7,
        "conv.layers": 1,
        "conv.0.units": 64,
        "conv.0.act": "relu",
        "conv.0.drop": 0.1,
        "dense.layers": 2,
        "dense.0.units": 8,
        "dense.1.units": 8,
    }
    assert flatten({"conv": []}) == {"conv.layers": 0}


def test_leaves_are_in_the_order_of_the_tree():
    space = parse_space({"z": 1, "conv": {"layers": 11, "b": [1, 2], "a": {"min": 0.0, "max": 1.0}}, "m": 2}, "example")
    paths, _ = jax.tree.flatten_with_path(space.encode(space.decode(unstacked(drawn(space, 0, 1))[0])))
    assert list(space.leaves()) == [tuple(step.key for step in path) for path, _ in paths]
    assert list(space.leaves())[:6] == [
        *itertools.product(["conv"], ["0", "1", "10"], ["a", "b"]),
    ]
    assert list(space.leaves())[-3:] == [("conv", "layers"), ("m",), ("z",)]
    assert space.leaves()["conv", "10", "b"] == Choice((1, 2))


# All genomes


@many
@given(space=spaces(finite=True))
def test_all_genomes_are_visited_once(space):
    size = space.size()
    assert isinstance(size, int)
    some = list(itertools.islice(space.genomes(), 2000))
    assert len(some) == min(size, 2000)
    assert len(set(map(identity, some))) == len(some)
    for genome in some[:20]:
        legal(space, genome)
        assert space.decode(space.encode(genome)) == genome


@relaxed
@given(space=spaces(), seed=seeds)
def test_size_counts_what_is_drawn(space, seed):
    found = {identity(space.decode(genome)) for genome in unstacked(drawn(space, seed, 20))}
    assert len(found) <= space.size()
    if space.size() <= 2000:
        assert found <= set(map(identity, space.genomes()))


def test_the_sizes_of_the_built_in_spaces():
    sizes = {name: parse_space(mapping, name).size() for name, mapping in SPACES.items()}
    layer = 16 * 3 * 3
    assert sizes == {
        "mlp": 672,
        "recipe": math.inf,
        "dense": layer**3 * 4 * 6,
        "cnn": (4 * 3 * 3 * 2 * 3 * 3) ** 2 * layer**2 * 4 * 6,
    }
    genomes = [*parse_space(SPACES["mlp"], "mlp").genomes()]
    assert len(set(map(identity, genomes))) == 672
    assert {len(genome["dense"]) for genome in genomes} == {1, 2, 3, 4}


def test_large_spaces_are_counted_and_walked_lazily():
    conv = {"layers": 100, "units": {"min": 1, "max": 50000}, "kernel": [1, 2]}
    space = parse_space({"conv": conv}, "large")
    assert space.size() == 100_000**100
    assert [genome["conv"][99] for genome in itertools.islice(space.genomes(), 3)] == [
        {"units": 1, "kernel": 1},
        {"units": 1, "kernel": 2},
        {"units": 2, "kernel": 1},
    ]
    assert parse_space({"conv": conv, "lr": {"min": 0.0, "max": 1.0}}, "large").size() == math.inf
    with pytest.raises(InputError, match=r"gene conv\.layers is 0, but takes 100"):
        space.encode({"conv": []})


def test_grid_search_takes_no_ranges_of_floats():
    floats = {"min": 0.0, "max": 1.0}
    for mapping, name in [({"lr": floats}, "lr"), ({"a": 1, "conv": {"layers": [0, 1], "x": floats}}, "conv.x")]:
        assert parse_space(mapping, "example").size() == math.inf
        with pytest.raises(InputError, match=f"gene {name} is a number from 0.0 to 1.0, but grid search takes"):
            parse_space(mapping, "example").genomes()
    fine = parse_space({"lr": {"min": 0.5, "max": 0.5}, "conv": {"layers": 0, "x": floats}}, "example")
    assert fine.size() == 1
    assert list(fine.genomes()) == [{"lr": 0.5, "conv": []}]


# Breeding


@relaxed
@given(space=spaces(), seed=seeds, chain=st.lists(st.sampled_from(["gene", "layer", "stepped", "redrawn"]), max_size=3))
def test_whatever_is_bred_is_legal(space, seed, chain):
    keys = iter(jax.random.split(jax.random.key(seed), 4))
    draw = lambda: jax.random.split(next(keys), COUNT)  # noqa: E731
    genomes = jax.vmap(space.init)(draw())
    well_formed(space, genomes)
    for name in chain:
        if name in ("gene", "layer"):
            mates = drawn(space, seed)
            children = jax.vmap(genetics.uniform(per=name))(draw(), genomes, mates)
            for child, a, b in zip(*map(jax.tree.leaves, (children, genomes, mates)), strict=True):
                assert np.all((child == a) | (child == b))
            genomes = children
        else:
            genomes = jax.vmap({"stepped": stepped, "redrawn": redrawn}[name](space, 0.5))(draw(), genomes)
        well_formed(space, genomes)
    for genome in unstacked(genomes)[:6]:
        decoded = space.decode(genome)
        legal(space, decoded)
        assert space.decode(space.encode(decoded)) == decoded


@pytest.mark.slow
@relaxed
@given(space=spaces(), seed=seeds)
def test_mutations_at_the_ends_of_their_rates(space, seed):
    keys = [jax.random.split(key, COUNT) for key in jax.random.split(jax.random.key(seed), 5)]
    genomes = drawn(space, seed)
    same(jax.vmap(stepped(space, 0.0))(keys[0], genomes), genomes)
    same(jax.vmap(redrawn(space, 0.0))(keys[1], genomes), genomes)
    genes, before = list(space.leaves().values()), jax.tree.leaves(genomes)
    active = np.stack(jax.tree.leaves(jax.vmap(space.active)(genomes)))
    moved = jax.tree.leaves(jax.vmap(stepped(space, 1.0))(keys[2], genomes))
    for gene, old, new in zip(genes, before, moved, strict=True):
        assert np.all((new != old) == gene.varies)
        if isinstance(gene, Choice) and gene.ordered:
            assert np.all(np.abs(new - old) == 1)
    calm = jax.tree.leaves(jax.vmap(stepped(space, 1.0, nominal=False))(keys[3], genomes))
    for gene, old, new in zip(genes, before, calm, strict=True):
        assert np.all((new != old) == (gene.varies and (not isinstance(gene, Choice) or gene.ordered)))
    changed = jax.tree.leaves(jax.vmap(redrawn(space, 1.0))(keys[4], genomes))
    differing = np.stack([np.asarray(new != old) for old, new in zip(before, changed, strict=True)])
    may = active & np.array([gene.varies for gene in genes])[:, None]
    assert np.all(differing.sum(axis=0) == may.any(axis=0))
    assert not np.any(differing & ~may)


N = 8000


@pytest.fixture(scope="module")
def population():
    """Genomes of the mixed space, by jit and vmap, on the host."""
    return jax.device_get(jax.jit(jax.vmap(MIXED.init))(jax.random.split(jax.random.key(0), N)))


def uniform(counts):
    """Chi-square is within six standard deviations of its mean, or thereabouts."""
    expected = np.sum(counts) / len(counts)
    free = len(counts) - 1
    return np.sum((np.asarray(counts) - expected) ** 2) / expected < free + 6 * math.sqrt(2 * free) + 6


def histogram(gene, leaf):
    if isinstance(gene, Choice):
        return np.bincount(leaf, minlength=len(gene.values))
    return np.histogram(leaf, 10, (0, 1))[0]


def test_init_is_uniform_and_every_leaf_has_draws_of_its_own(population):
    leaves = jax.tree.leaves(population)
    for gene, leaf in zip(MIXED.leaves().values(), leaves, strict=True):
        assert uniform(histogram(gene, leaf))
    for a, b in itertools.combinations([leaf for leaf in leaves if np.ptp(leaf) > 0], 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.06


def test_stepped_meets_its_rate_and_goes_both_ways(population):
    keys = jax.random.split(jax.random.key(1), N)
    mutate = jax.jit(lambda keys, genomes, rate: jax.vmap(stepped(MIXED, rate))(keys, genomes))
    moved = jax.device_get(mutate(keys, population, 0.3))  # The rate is traced, so that a schedule can set it.
    for gene, old, new in zip(MIXED.leaves().values(), *map(jax.tree.leaves, (population, moved)), strict=True):
        if not gene.varies:
            continue
        changed = old != new
        assert changed.mean() == pytest.approx(0.3, abs=0.03)
        if isinstance(gene, Real):
            inner = changed & (np.abs(old - 0.5) < 0.1)
            assert (new - old)[inner].std() == pytest.approx(0.1, rel=0.15)
        elif gene.ordered and len(gene.values) > 2:
            inner = changed & (old > 0) & (old < len(gene.values) - 1)
            assert (new > old)[inner].mean() == pytest.approx(0.5, abs=0.08)
        elif not gene.ordered:
            for value in range(len(gene.values)):
                counts = np.bincount(new[changed & (old == value)], minlength=len(gene.values))
                assert counts[value] == 0
                assert uniform(np.delete(counts, value))


def test_redrawn_takes_every_gene_and_every_other_value_alike(population):
    keys = jax.random.split(jax.random.key(2), N)
    changed = jax.device_get(jax.jit(jax.vmap(redrawn(MIXED, 0.75)))(keys, population))
    genes = list(MIXED.leaves().values())
    pairs = list(zip(*map(jax.tree.leaves, (population, changed)), strict=True))
    differing = np.stack([old != new for old, new in pairs])
    assert set(differing.sum(axis=0)) == {0, 1}
    assert differing.any(axis=0).mean() == pytest.approx(0.75, abs=0.03)
    varies = np.array([gene.varies for gene in genes])
    active = np.stack(jax.tree.leaves(jax.vmap(MIXED.active)(population)))
    assert not np.any(differing & ~active)
    for index in range(3):
        here = population["conv"]["layers"] == index
        assert uniform(differing[:, here].sum(axis=1)[varies & active[:, here].all(axis=1)])
    for gene, (_, new), where in zip(genes, pairs, differing, strict=True):
        if gene.varies:
            assert uniform(histogram(gene, new[where]))


def test_crossover_per_layer_moves_a_layers_genes_together(population):
    keys = jax.random.split(jax.random.key(3), N)
    first = jax.tree.map(jnp.zeros_like, population)
    second = jax.tree.map(jnp.ones_like, population)
    for per, together in [("layer", True), ("gene", False)]:
        child = jax.device_get(jax.jit(jax.vmap(genetics.uniform(per=per)))(keys, first, second))
        for row in "012":
            layer = child["conv"][row]
            assert np.array_equal(layer["units"], layer["act"]) == together
            assert np.array_equal(layer["units"], layer["drop"]) == together
            assert layer["units"].mean() == pytest.approx(0.5, abs=0.03)
        for a, b in [
            (child["conv"]["0"]["units"], child["conv"]["1"]["units"]),
            (child["conv"]["0"]["units"], child["conv"]["layers"]),
            (child["lr"], child["decay"]),
        ]:
            assert np.mean(a == b) == pytest.approx(0.5, abs=0.03)
        keys = jax.random.split(jax.random.key(4), N)


def test_a_jitted_init_makes_one_genome(key):
    space = parse_space(SPACES["mlp"], "mlp")
    genome = jax.jit(space.init)(key)
    legal(space, space.decode(genome))
    assert {leaf.shape for leaf in jax.tree.leaves(genome)} == {()}
