"""Symmetries are found in programs: those that there are, and never one that is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jevo import genetics
from jevo.genetics.alignment import renumber
from jevo.genetics.matching import match
from jevo.networks import (
    Network,
    cnn,
    from_linen,
    from_nnx,
    mlp,
    propagation,
    reconstruction,
    stacked,
    symmetries,
    tied,
)
from jevo.networks.renumbering import joined
from tests.marks import mostly_slow


def with_statistics(make):
    """A network of an NNX module, whose params hold running statistics, too."""

    def parts(key):
        return nnx.split(make(nnx.Rngs(key)), nnx.Any(nnx.Param, nnx.BatchStat), ...)

    def apply(params, x):
        graph, template, rest = parts(jax.random.key(0))
        nnx.replace_by_pure_dict(template, params)
        module = nnx.merge(graph, template, rest)
        module.eval()
        return module(x)

    return Network(lambda key: nnx.to_pure_dict(parts(key)[1]), apply)


class Layers(nnx.Module):
    """Layers by name, and how they are wired."""

    def __init__(self, wire, rngs, **layers):
        self.wire = wire
        for name, make in layers.items():
            setattr(self, name, make(rngs))

    def __call__(self, x):
        return self.wire(self, x)


def wired(wire, **layers):
    return with_statistics(lambda rngs: Layers(wire, rngs, **layers))


def linear(inputs, outputs, **settings):
    return lambda rngs: nnx.Linear(inputs, outputs, rngs=rngs, **settings)


def conv(inputs, outputs, size=3, **settings):
    return lambda rngs: nnx.Conv(inputs, outputs, (size, size), rngs=rngs, **settings)


def made(kind, *args, **settings):
    return lambda rngs: kind(*args, rngs=rngs, **settings)


def residual(net, x):
    h = nnx.relu(net.a(x))
    h = h + net.c(nnx.relu(net.b(h)))
    return net.out(h + net.e(nnx.relu(net.d(h))))


RESIDUAL = wired(
    residual, a=linear(5, 8), b=linear(8, 6), c=linear(6, 8), d=linear(8, 7), e=linear(7, 8), out=linear(8, 3)
)


def resnet(net, x):
    h = nnx.relu(net.norm(net.stem(x)))
    h = nnx.relu(h + net.norm_b(net.b(nnx.relu(net.norm_a(net.a(h))))))
    h = nnx.relu(net.short(h) + net.d(nnx.relu(net.c(h))))
    return net.out(h.mean((1, 2)))


RESNET = wired(
    resnet,
    stem=conv(2, 4),
    norm=made(nnx.BatchNorm, 4),
    a=conv(4, 5),
    norm_a=made(nnx.BatchNorm, 5),
    b=conv(5, 4),
    norm_b=made(nnx.BatchNorm, 4),
    short=conv(4, 6, 1, strides=2),
    c=conv(4, 7, strides=2),
    d=conv(7, 6),
    out=linear(6, 3),
)


def transformer(net, x):
    h = net.embed(x) + net.places[...][None]
    h = h + net.attend(net.norm(h), decode=False)
    return net.out((h + net.down(nnx.silu(net.gate(g := net.norm_b(h))) * net.up(g))).mean(1))


TRANSFORMER = wired(
    transformer,
    embed=linear(3, 8),
    places=lambda rngs: nnx.Param(rngs.params.normal((4, 8))),
    norm=made(nnx.LayerNorm, 8),
    attend=made(nnx.MultiHeadAttention, 2, 8, 6),
    norm_b=made(nnx.RMSNorm, 8),
    gate=linear(8, 5),
    up=linear(8, 5),
    down=linear(5, 8),
    out=linear(8, 2),
)


def heads(net, x):
    """Attention with one product for queries, keys and values."""
    q, k, v = jnp.split(net.qkv(x), 3, axis=-1)
    q, k, v = (part.reshape(*part.shape[:2], 2, 3) for part in (q, k, v))
    return net.out(jax.nn.dot_product_attention(q, k, v).reshape(*x.shape[:2], 6)).mean(1)


def glu(net, x):
    a, b = jnp.split(net.a(x), 2, axis=-1)
    return net.b(a * nnx.sigmoid(b))


def recurrent(net, x):
    def step(h, row):
        h = jnp.tanh(net.a(row) + net.b(h))
        return h, h

    h, hs = jax.lax.scan(step, jnp.zeros((x.shape[0], 5)), x.swapaxes(0, 1))
    return net.c(h) + net.d(hs[0])


IMAGE, ROWS, TOKENS = (6, 6, 2), (5,), (4, 3)
STREAM = {
    ("a/kernel", -1),
    ("a/bias", -1),
    ("b/kernel", -2),
    ("c/kernel", -1),
    ("c/bias", -1),
    ("d/kernel", -2),
    ("e/kernel", -1),
    ("e/bias", -1),
    ("out/kernel", -2),
}


def units(name, *further, inner=1, bias="bias"):
    """The units of a layer, which the others read."""
    own = {(f"{name}/kernel", -1, inner)} | ({(f"{name}/{bias}", -1, inner)} if bias else set())
    return own | {place if len(place) == 3 else (*place, 1) for place in further}


def norm(name, *which):
    return {(f"{name}/{part}", -1, 1) for part in which or ("scale", "bias", "mean", "var")}


NETWORKS = {
    "layer norm": (
        wired(
            lambda net, x: net.b(nnx.gelu(net.norm(net.a(x)))),
            a=linear(5, 6),
            norm=made(nnx.LayerNorm, 6),
            b=linear(6, 3),
        ),
        ROWS,
        [units("a", ("b/kernel", -2)) | norm("norm", "scale", "bias")],
    ),
    "group norm": (  # The groups, and the units within each of them alike.
        wired(
            lambda net, x: net.b(nnx.relu(net.norm(net.a(x)))),
            a=linear(5, 6),
            norm=made(nnx.GroupNorm, 6, 2),
            b=linear(6, 3),
        ),
        ROWS,
        [
            {
                (path, axis, inner)
                for path, axis in (
                    ("a/kernel", -1),
                    ("a/bias", -1),
                    ("b/kernel", -2),
                    ("norm/scale", -1),
                    ("norm/bias", -1),
                )
            }
            for inner in (3, 1)
        ],
    ),
    "batch norm": (
        wired(
            lambda net, x: net.b(nnx.relu(net.norm(net.a(x))).reshape(x.shape[0], -1)),
            a=conv(2, 4),
            norm=made(nnx.BatchNorm, 4),
            b=linear(144, 3),
        ),
        IMAGE,
        [units("a", ("b/kernel", -2)) | norm("norm")],
    ),
    "residual": (
        RESIDUAL,
        ROWS,
        [{(*place, 1) for place in STREAM}, units("b", ("c/kernel", -2)), units("d", ("e/kernel", -2))],
    ),
    "resnet": (
        RESNET,
        IMAGE,
        [
            units("stem", ("a/kernel", -2), ("b/kernel", -1), ("b/bias", -1), ("short/kernel", -2), ("c/kernel", -2))
            | norm("norm")
            | norm("norm_b"),
            units("a", ("b/kernel", -2)) | norm("norm_a"),
            units("short", ("d/kernel", -1), ("d/bias", -1), ("out/kernel", -2)),
            units("c", ("d/kernel", -2)),
        ],
    ),
    "depthwise": (
        wired(
            lambda net, x: net.c(nnx.relu(net.b(net.a(x)))).mean((1, 2)),
            a=conv(2, 4),
            b=conv(4, 4, feature_group_count=4),
            c=conv(4, 3),
        ),
        IMAGE,
        [units("a", ("b/kernel", -1), ("b/bias", -1), ("c/kernel", -2))],
    ),
    "transformer": (
        TRANSFORMER,
        TOKENS,
        [
            units(
                "embed",
                ("places", -1),
                *((f"attend/{name}/kernel", -3) for name in ("query", "key", "value")),
                ("attend/out/kernel", -1),
                ("attend/out/bias", -1),
                ("gate/kernel", -2),
                ("up/kernel", -2),
                ("down/kernel", -1),
                ("down/bias", -1),
                ("out/kernel", -2),
            )
            | norm("norm", "scale", "bias")
            | norm("norm_b", "scale"),
            {(f"attend/{name}/{part}", -2, 1) for name in ("query", "key", "value") for part in ("kernel", "bias")}
            | {("attend/out/kernel", -3, 1)},
            units("attend/query", ("attend/key/kernel", -1), ("attend/key/bias", -1)),
            units("attend/value", ("attend/out/kernel", -2)),
            units("gate", ("up/kernel", -1), ("up/bias", -1), ("down/kernel", -2)),
        ],
    ),
    "heads in one product": (
        wired(heads, qkv=linear(3, 18), out=linear(6, 4)),
        TOKENS,
        [units("qkv", ("out/kernel", -2, 3), inner=3), units("qkv", ("out/kernel", -2))],
    ),
    "gated unit": (wired(glu, a=linear(5, 12), b=linear(6, 3)), ROWS, [units("a", ("b/kernel", -2))]),
    "recurrent": (
        wired(recurrent, a=linear(3, 5), b=linear(5, 5), c=linear(5, 2), d=linear(5, 2)),
        TOKENS,
        [units("a", ("b/kernel", -2), ("b/kernel", -1), ("b/bias", -1), ("c/kernel", -2), ("d/kernel", -2))],
    ),
    "checkpointed": (
        wired(
            lambda net, x: net.b(jax.checkpoint(lambda h: jax.nn.relu(h) ** 2)(net.a(x))),
            a=linear(5, 6),
            b=linear(6, 3),
        ),
        ROWS,
        [units("a", ("b/kernel", -2))],
    ),
    "table": (
        wired(
            lambda net, x: net.b(nnx.relu(net.table(jnp.int32(x * 9) % 7).sum(1))),
            table=made(nnx.Embed, 7, 6),
            b=linear(6, 3),
        ),
        ROWS,
        [{("table/embedding", -1, 1), ("b/kernel", -2, 1)}],
    ),
}


def example(shape):
    return jax.random.normal(jax.random.key(3), (4, *shape))


def sets(found):
    """Symmetries, as sets of paths, axes and how many numbers a unit has."""
    return [{("/".join(map(str, place.path)), place.axis, place.inner) for place in symmetry} for symmetry in found]


def noisy(params, seed=5):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + rng.uniform(0.1, 0.9, leaf.shape), jnp.float32), params)


def at(params, path):
    for name in path:
        params = params[name]
    return params


def units_in(params, symmetry):
    return symmetry[0].units or at(params, symmetry[0].path).shape[symmetry[0].axis]


def reordered(params, symmetry, order):
    """The params with units in another order: by NumPy, on its own."""
    params = jax.tree.map(np.array, params)
    for place in symmetry:
        array, length = at(params, place.path), order.size * place.inner
        moved = np.moveaxis(array, place.axis, 0)
        moved = moved.reshape(-1, order.size, place.inner, *moved.shape[1:])[:, order]
        array[...] = np.moveaxis(moved.reshape(-1, *moved.shape[3:]), 0, place.axis)
        assert array.shape[place.axis] % length == 0
    return params


def assert_sound(network, found, x, seeds=2):
    """Any order of each symmetry's units leaves the outputs as they are."""
    apply = jax.jit(lambda params: network.apply(params, x))
    made = jax.jit(network.init)(jax.random.key(1))
    for seed in range(seeds):
        params, rng = noisy(made, seed), np.random.default_rng(seed)
        together, were = params, np.asarray(apply(params))
        assert np.isfinite(were).all()
        for symmetry in found:
            order = rng.permutation(units_in(params, symmetry))
            together = reordered(together, symmetry, order)
            close = apply(reordered(params, symmetry, order))
            np.testing.assert_allclose(close, were, rtol=1e-4, atol=1e-4 * np.abs(were).max(), err_msg=str(symmetry))
        np.testing.assert_allclose(apply(together), were, rtol=1e-4, atol=1e-4 * np.abs(were).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_units_of_an_architecture_are_found(name):
    network, shape, expected = NETWORKS[name]
    x = example(shape)
    found = symmetries(network, x)
    key = lambda group: sorted(map(str, group))  # noqa: E731
    assert sorted(sets(found), key=key) == sorted(expected, key=key)
    assert_sound(network, found, x)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (mlp([5, 6, 4, 3]), ROWS),
        (mlp([5, 6, 3], jnp.tanh, bias=False, dropout=0.5), ROWS),
        (cnn(IMAGE, [4, 3], [5, 2]), IMAGE),
        (cnn((7, 9, 1), [4], [2], bias=False), (7, 9, 1)),
        (reconstruction(stacked([tied(5, 6), tied(6, 4, jnp.tanh), tied(4, 3)])), ROWS),
        (reconstruction(stacked([tied(5, 6), tied(6, 4)])), ROWS),
    ],
)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_built_in_networks_have_those_that_are_written_down(network, shape, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # A convolution is another program elsewhere.
    assert symmetries(network, example(shape)) == network.symmetries


def test_params_may_be_any_pytree():
    x = example(ROWS)

    def init(key):
        return [(jax.random.normal(key, (5, 6)), jnp.zeros(6)), {"last": jnp.ones((6, 3)), "count": jnp.int32(3)}]

    def apply(params, x):
        (kernel, bias), rest = params
        return jax.nn.relu(x @ kernel + bias[None]) @ rest["last"] * rest["count"]

    network = Network(init, apply)
    (symmetry,) = symmetries(network, x)
    assert sets([symmetry]) == [{("0/0", -1, 1), ("0/1", -1, 1), ("1/last", -2, 1)}]
    params = [(jax.random.normal(jax.random.key(0), (5, 6)), jnp.arange(6.0)), {"last": jnp.ones((6, 3)), "count": 3}]
    order = jnp.int32([3, 1, 0, 5, 4, 2])
    renumbered = renumber(params, [symmetry], [order], params)
    np.testing.assert_array_equal(renumbered[0][1], order)
    np.testing.assert_array_equal(renumbered[1]["last"], params[1]["last"])


def test_modules_of_flax_have_theirs():
    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.LayerNorm()(linen.relu(linen.Dense(6)(x)))
            return linen.Dense(2)(x)

    x = example(ROWS)
    found = symmetries(from_linen(Linen(), x), x)
    assert sets(found) == [
        {("Dense_0/kernel", -1, 1), ("Dense_0/bias", -1, 1), ("LayerNorm_0/scale", -1, 1), ("LayerNorm_0/bias", -1, 1),
         ("Dense_1/kernel", -2, 1)}
    ]  # fmt: skip
    layers = lambda rngs: nnx.Sequential(linear(5, 6)(rngs), nnx.Dropout(0.5, rngs=rngs), linear(6, 2)(rngs))  # noqa: E731
    assert sets(symmetries(from_nnx(layers), x)) == [
        {("layers/0/kernel", -1, 1), ("layers/0/bias", -1, 1), ("layers/2/kernel", -2, 1)}
    ]
    assert symmetries(mlp([5, 3]), x) == ()


def between(function, width=8, read=8):
    """Two layers of 8 units, the second of which reads what `function` makes of the first's."""
    return wired(lambda net, x: net.b(function(net.a(x))), a=linear(5, width), b=linear(read, 3))


FREE, NONE = [{("a/kernel", -1, 1), ("a/bias", -1, 1), ("b/kernel", -2, 1)}], []
ADVERSARIAL = {
    "sorted": (between(lambda h: jnp.sort(h, axis=-1)), NONE),
    "cumsum": (between(lambda h: jnp.cumsum(h, axis=-1)), NONE),
    "the greatest": (between(lambda h: h * (jnp.arange(8)[None] == h.argmax(-1)[:, None])), NONE),
    "the top": (between(lambda h: jax.lax.top_k(h, 3)[0], read=3), NONE),
    "flipped": (between(lambda h: h + h[:, ::-1]), NONE),
    "rolled": (between(lambda h: h + jnp.roll(h, 1, -1)), NONE),
    "softmax": (between(jax.nn.softmax), FREE),
    "normed": (between(lambda h: h / jnp.linalg.norm(h, axis=-1, keepdims=True)), FREE),
    "largest of pairs": (between(lambda h: h.reshape(-1, 4, 2).max(-1), read=4), None),
    "pooled across": (
        between(lambda h: jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 3), (1, 1), "SAME")),
        NONE,
    ),
    "half of them": (between(lambda h: h[:, :4], read=4), None),
    "half and half": (between(lambda h: jnp.concatenate([h[:, 4:], h[:, :4]], -1)), None),
    "every other": (between(lambda h: h[:, ::2], read=4), NONE),
    "three of them": (between(lambda h: h[:, 2:5], read=3), NONE),
    "one of them": (between(lambda h: h * h[:, :1]), NONE),
    "by number": (between(lambda h: h[:, jnp.array([1, 0, 2, 3, 4, 5, 6, 7])]), NONE),
    "doubled": (between(lambda h: jnp.concatenate([h, jnp.sin(h)], -1), read=16), FREE),
    "padded": (between(lambda h: jnp.pad(h, ((0, 0), (1, 1))), read=10), NONE),
    "with the input": (
        between(lambda h: h, 5, 5)._replace(apply=lambda p, x: jnp.tanh(x @ p["a"]["kernel"] + x) @ p["b"]["kernel"]),
        NONE,
    ),
    "by constants": (between(lambda h: h * jnp.arange(8.0)[None]), NONE),
    "by equal constants": (between(lambda h: h * jnp.full((1, 8), 2.0) + np.ones((4, 8), np.float32)), FREE),
    "through constants": (between(lambda h: h @ jnp.sin(jnp.arange(64.0)).reshape(8, 8)), NONE),
    "through the identity": (between(lambda h: h @ jnp.eye(8)), NONE),
    "through the unknown": (between(lambda h: jnp.fft.fft(h).real), NONE),
    "random numbers": (between(lambda h: h * jax.random.normal(jax.random.key(0), (8,))[None]), NONE),
    "as a square": (between(lambda h: h.reshape(-1, 2, 4).swapaxes(1, 2).reshape(-1, 8)), None),
    "another square": (between(lambda h: h + h.reshape(-1, 2, 4).swapaxes(1, 2).reshape(-1, 8)), None),
    "outer product": (between(lambda h: (h[:, :, None] * h[:, None]).reshape(-1, 64), read=64), None),
    "in turn": (
        between(lambda h: jax.lax.scan(lambda c, row: (c * 0.5 + row, c), jnp.zeros(h.shape[0]), h.T)[1].T),
        NONE,
    ),
    "while": (
        between(lambda h: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, h))[1]),
        FREE,
    ),
    "while they roll": (
        between(lambda h: jax.lax.fori_loop(0, 3, lambda i, c: jnp.roll(c, 1, -1) + h, h)),
        NONE,
    ),
    "either": (between(lambda h: jax.lax.cond(h.sum() > 0, jnp.sin, jnp.cos, h)), FREE),
    "either in order": (between(lambda h: jax.lax.cond(h.sum() > 0, lambda h: h, lambda h: h[:, ::-1], h)), NONE),
    "written over": (between(lambda h: h.at[:, 0].set(1.0)), NONE),
    "two at once": (between(lambda h: jax.lax.dynamic_slice_in_dim(h, jnp.int32(h.sum()) % 4, 4, 1), read=4), NONE),
    "tied": (
        wired(lambda net, x: jnp.tanh(net.a(x)) @ net.a.kernel[...].T, a=linear(5, 6)),
        [{("a/kernel", -1, 1), ("a/bias", -1, 1)}],
    ),
    "tied twice": (
        wired(
            lambda net, x: net.b(jnp.tanh(net.c(jnp.tanh(net.c(net.a(x)))))),
            a=linear(5, 6),
            b=linear(6, 3),
            c=linear(6, 6),
        ),
        [
            {
                ("a/kernel", -1, 1),
                ("a/bias", -1, 1),
                ("c/kernel", -2, 1),
                ("c/kernel", -1, 1),
                ("c/bias", -1, 1),
                ("b/kernel", -2, 1),
            }
        ],
    ),
    "transposed": (
        wired(
            lambda net, x: net.b(jnp.tanh(jnp.tanh(net.a(x)) @ net.c.kernel[...].T)),
            a=linear(5, 6),
            b=linear(7, 3),
            c=linear(7, 6, use_bias=False),
        ),
        [{("a/kernel", -1, 1), ("a/bias", -1, 1), ("c/kernel", -1, 1)}, {("c/kernel", -2, 1), ("b/kernel", -2, 1)}],
    ),
    "two branches": (
        wired(lambda net, x: net.b(h := jnp.tanh(net.a(x))) * net.c(h), a=linear(5, 6), b=linear(6, 3), c=linear(6, 3)),
        [{("a/kernel", -1, 1), ("a/bias", -1, 1), ("b/kernel", -2, 1), ("c/kernel", -2, 1)}],
    ),
    "one branch in order": (
        wired(
            lambda net, x: net.b(h := jnp.tanh(net.a(x))) * net.c(h[:, ::-1]),
            a=linear(5, 6),
            b=linear(6, 3),
            c=linear(6, 3),
        ),
        NONE,
    ),
    "what goes out": (wired(lambda net, x: net.a(x) + net.b(net.a(x)), a=linear(5, 3), b=linear(3, 3)), NONE),
    "two kernels side by side": (
        wired(
            lambda net, x: net.b(jnp.tanh(jnp.concatenate([net.a(x), net.c(x)], -1))),
            a=linear(5, 4),
            b=linear(8, 3),
            c=linear(5, 4),
        ),
        None,
    ),
    "two of other widths": (
        wired(
            lambda net, x: net.b(jnp.tanh(jnp.concatenate([net.a(x), net.c(x)], -1))),
            a=linear(5, 4),
            b=linear(9, 3),
            c=linear(5, 5),
        ),
        NONE,
    ),
    "groups": (
        wired(lambda net, x: net.b(net.a(x)).mean((1, 2)), a=conv(2, 6), b=conv(6, 4, feature_group_count=2)),
        None,
    ),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_what_the_program_says_is_never_wrong(name):
    """Before anything is tried: the trials are no more than a second lock."""
    network, expected = ADVERSARIAL[name]
    x = example(IMAGE if name == "groups" else ROWS)
    found = joined(network, x)
    if expected is not None:
        assert sets(found) == expected
    assert_sound(network, found, x)
    assert set(symmetries(network, x)) <= set(found)


WAYS = (
    lambda h, w: jnp.tanh(h @ w[:, :12]),
    lambda h, w: h * jax.nn.softmax(h),
    lambda h, w: h + w[0, :12][None],
    lambda h, w: h @ w[:, :12].T,
    lambda h, w: jnp.concatenate(jnp.split(h, 2, axis=-1)[::-1], -1),
    lambda h, w: h.reshape(-1, 3, 4).swapaxes(1, 2).reshape(-1, 12),
    lambda h, w: (h.reshape(-1, 3, 4) - h.reshape(-1, 3, 4).mean(2, keepdims=True)).reshape(-1, 12),
    lambda h, w: jnp.einsum("bij,jk->bik", h.reshape(-1, 4, 3), w[:3, :3]).reshape(-1, 12),
    lambda h, w: jnp.einsum("bij,bik->bjk", h.reshape(-1, 2, 6), h.reshape(-1, 2, 6))[:, :2].reshape(-1, 12),
    lambda h, w: jnp.repeat(h[:, :6], 2, axis=-1),
    lambda h, w: jnp.tile(h[:, 4:8], (1, 3)),
    lambda h, w: (h @ w)[:, 3:15],
    lambda h, w: h[:, ::-1] + h,
    lambda h, w: jnp.maximum(*jnp.split(h @ w, 2, axis=-1)[:2])[:, :9] @ w[:9, :12],
)


def program(seed):
    """Four steps at random, some of which are added to what went before."""
    rng = np.random.default_rng(seed)
    steps, added = rng.integers(len(WAYS), size=4), rng.integers(4, size=4) == 0

    def init(key):
        return {f"w{i}": jax.random.normal(key, (12, 18)) / 3 for i, key in enumerate(jax.random.split(key, 6))}

    def apply(params, x):
        h = x @ params["w4"][:5, :12]
        for i, (step, also) in enumerate(zip(steps, added, strict=True)):
            made = WAYS[step](h, params[f"w{i}"])
            h = h + made if also else made
        return h @ params["w5"]

    return Network(init, apply)


@pytest.mark.parametrize("seed", range(24))
def test_programs_at_random_are_read_right(seed):
    x = example(ROWS)
    assert_sound(program(seed), joined(program(seed), x), x, seeds=1)


def test_programs_at_random_have_symmetries():
    """So that what is above is no test of nothing."""
    assert sum(bool(joined(program(seed), example(ROWS))) for seed in range(24)) >= 10


@pytest.mark.parametrize("name", ["sorted", "flipped", "by constants"])
def test_what_is_read_wrong_does_not_pass_the_trials(name, monkeypatch):
    rules = propagation._RULES
    for primitive in ("sort", "rev"):
        monkeypatch.setitem(rules, primitive, rules["square"])
    monkeypatch.setattr(propagation.Propagation, "constant", lambda self, value: self.fresh(value))
    monkeypatch.setitem(rules, "iota", lambda walk, eqn, given: [walk.fresh(eqn.outvars[0].aval)])
    network, _ = ADVERSARIAL[name]
    x = example(ROWS)
    assert joined(network, x)
    assert symmetries(network, x) == ()


@pytest.mark.parametrize(
    "name",
    mostly_slow(["residual", "resnet", "transformer", "heads in one product", "recurrent", "group norm"], "residual"),
)
def test_a_renumbered_copy_comes_back_exactly(name):
    network, shape, _ = NETWORKS[name]
    found = joined(network, example(shape))
    params = noisy(network.init(jax.random.key(2)))
    rng = np.random.default_rng(0)
    orders = [jnp.asarray(rng.permutation(units_in(params, symmetry)), jnp.int32) for symmetry in found]
    other = renumber(params, found, orders, params)
    child = jax.jit(genetics.aligned(genetics.average(), found))(jax.random.key(0), params, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), child, params)


def test_residual_streams_are_matched_as_one():
    """Two networks that are near each other, one renumbered, in a population: nothing improves on what is found."""
    found = joined(RESIDUAL, example(ROWS))
    params = noisy(RESIDUAL.init(jax.random.key(2)))
    rng = np.random.default_rng(0)
    orders = [jnp.asarray(rng.permutation(units_in(params, symmetry)), jnp.int32) for symmetry in found]
    near = jax.tree.map(lambda leaf: leaf + 0.05 * rng.standard_normal(leaf.shape).astype(np.float32), params)
    others = jax.tree.map(lambda *leaves: jnp.stack(leaves), near, renumber(near, found, orders, near))
    matched = jax.jit(jax.vmap(lambda other: match(params, other, found)))(others)
    for order, first in zip(orders, matched, strict=True):
        np.testing.assert_array_equal(first[0], np.arange(order.size))
        np.testing.assert_array_equal(order[first[1]], np.arange(order.size))


class Normed(nnx.Module):
    """A residual stream with batch normalisation, whose statistics are state."""

    def __init__(self, rngs):
        self.stem, self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.inner, self.second = nnx.Conv(4, 6, (3, 3), rngs=rngs), nnx.BatchNorm(6, rngs=rngs)
        self.back, self.out = nnx.Conv(6, 4, (3, 3), rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.first(self.stem(x)))
        h = h + self.back(nnx.relu(self.second(self.inner(h))))
        return self.out(h.mean(axis=(1, 2)))


def test_units_of_a_network_with_state_are_those_of_its_params(key):
    """The state runs over the same units, is renumbered with them in the trials, and is left out of what mates."""
    network = from_nnx(Normed)
    found = symmetries(network, jax.random.normal(key, (4, 6, 6, 3)))
    said = [sorted("/".join(map(str, place.path)) for place in symmetry) for symmetry in found]
    stream = ["back/bias", "back/kernel", "first/bias", "first/scale", "inner/kernel", "out/kernel"]
    assert said == [
        [*stream, "stem/bias", "stem/kernel"],
        ["back/kernel", "inner/bias", "inner/kernel", "second/bias", "second/scale"],
    ]
    assert [symmetry[0].units for symmetry in found] == [4, 6]
