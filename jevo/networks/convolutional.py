"""Convolutional networks, as plain functions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jevo.networks.initializers import INITIALIZERS, Initializer
from jevo.networks.network import Network
from jevo.networks.perceptron import mlp
from jevo.networks.renumbering import chain
from jevo.types import Key, Member


def cnn(
    image: tuple[int, int, int],
    channels: Sequence[int],
    dense: Sequence[int],
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    *,
    kernel: int = 3,
    bias: bool = True,
    kernel_init: Initializer = INITIALIZERS["he"],
    dropout: float = 0.0,
) -> Network:
    """Convolutions, each followed by 2x2 max-pooling, then fully connected layers; the output is linear.

    Args:
        image: height, width and channels of the input.
        channels: output channels of each convolution (stride 1, same padding).
        dense: units of the fully connected layers, the last being the output.
        activation: after each convolution and each hidden layer.
        kernel: height and width of the convolutions.
        bias: whether layers have biases, which start at zero.
        kernel_init: for the kernels, `[height, width, in, out]` and `[in, out]`.
        dropout: probability that a unit of a hidden dense layer is dropped in training, for one example.

    >>> network = cnn((8, 8, 1), channels=[4], dense=[10])
    >>> network.apply(network.init(jax.random.key(0)), jnp.ones((5, 8, 8, 1))).shape
    (5, 10)
    """
    height, width, inputs = image
    shrink = 2 ** len(channels)
    if min(height, width) < shrink:
        raise ValueError(f"{len(channels)} poolings need an image of at least {shrink}x{shrink}, not {height}x{width}")
    fan_ins = [inputs, *channels]
    names = [f"conv_{i}" for i in range(len(channels))]
    flat = (height // shrink) * (width // shrink) * fan_ins[-1]
    head = mlp([flat, *dense], activation, bias=bias, kernel_init=kernel_init, dropout=dropout)

    def init(key: Key) -> Member:
        head_key, *keys = jax.random.split(key, len(names) + 1)
        params = {}
        for i, name in enumerate(names):
            shape = (kernel, kernel, fan_ins[i], channels[i])
            params[name] = {"kernel": kernel_init(keys[i], shape, jnp.float32)}
            if bias:
                params[name]["bias"] = jnp.zeros(channels[i])
        return params | head.init(head_key)

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        x = x.transpose(3, 1, 2, 0)  # Examples last: shifting and pooling then move whole runs of memory.
        for name in names:
            x = convolve(x, params[name]["kernel"])
            if bias:
                x = x + params[name]["bias"][:, None, None, None]
            x = max_pool(activation(x))
        return head.apply(params, x.transpose(3, 1, 2, 0), key)

    layers = [*names, *(f"layer_{i}" for i in range(len(dense)))]
    return Network(init, apply, chain(layers, bias))


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x [in, height, width, batch]` with `kernel [k, k, in, out]`, zeros around: `[out, height, width, batch]`."""
    if jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("CHWN", "HWIO", "CHWN"))
    return convolve_patches(x, kernel)


def convolve_patches(x: jax.Array, kernel: jax.Array, stride: int = 1, same: bool = True) -> jax.Array:
    """A convolution as a product of the kernel and patches of the image.

    XLA's own convolution is slow on the CPU inside loops and with a kernel for each member: a training step takes 10 to
    35 times as long. On a GPU, kernels of many members make it a grouped one.

    Args:
        x: `[in, height, width, batch]`.
        kernel: `[k, k, in, out]`.
        stride: in both directions.
        same: whether there are zeros around the image, as in `padding`.

    Returns:
        `[out, height', width', batch]`, where height' is ceil(height / stride) if `same`, else
        ceil((height - k + 1) / stride).

    >>> convolve_patches(jnp.ones((3, 8, 9, 2)), jnp.ones((3, 3, 3, 4)), stride=2, same=False).shape
    (4, 3, 4, 2)
    """
    size = kernel.shape[0]
    rows, columns = (padding(n, size, stride, same) for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
    # Shifting along one axis at a time copies less.
    x = jnp.concatenate([_shifted(x, 2, i, size, stride) for i in range(size)])
    x = jnp.concatenate([_shifted(x, 1, i, size, stride) for i in range(size)])
    return weigh(kernel, x)


def windows(x: jax.Array, kernel: int, stride: Any, before: tuple[Any, Any], output: tuple[int, int]) -> jax.Array:
    """The patches of `convolve_patches` with traced strides and paddings, at no more time. What windows see outside of
    the image is zero.

    Args:
        x: `[in, height, width, batch]`.
        kernel: height and width of a window.
        stride: in both directions, int32 `[]`.
        before: rows and columns by which the first window begins before the image, int32 `[]` each.
        output: height' and width', of windows.

    Returns:
        `[kernel * kernel * in, height', width', batch]`, for `weigh`.

    >>> windows(jnp.ones((3, 8, 9, 2)), kernel=3, stride=2, before=(1, 0), output=(4, 3)).shape
    (27, 4, 3, 2)
    """
    for axis in (2, 1):
        x = _windows(x, axis, kernel, output[axis - 1], stride, before[axis - 1])
    return x


def weigh(kernel: jax.Array, patches: jax.Array) -> jax.Array:
    """The product `[out, height, width, batch]` of a kernel `[k, k, in, out]` and patches
    `[k * k * in, height, width, batch]`."""
    outputs = kernel.shape[-1]
    return (kernel.reshape(-1, outputs).T @ patches.reshape(len(patches), -1)).reshape(outputs, *patches.shape[1:])


def padding(size: int, kernel: int, stride: int, same: bool) -> tuple[int, int]:
    """Zeros before and after an image `size` wide, as XLA and TensorFlow have them."""
    if not same:
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _shifted(x: jax.Array, axis: int, first: int, kernel: int, stride: int) -> jax.Array:
    """What tap number `first` of a kernel sees along an axis."""
    return jax.lax.slice_in_dim(x, first, x.shape[axis] - kernel + 1 + first, stride, axis)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _windows(x: jax.Array, axis: int, kernel: int, count: int, stride: Any, before: Any) -> jax.Array:
    """What the taps of a kernel see along an axis, tap after tap along the first."""
    seen = [jnp.arange(count) * stride - before + tap for tap in range(kernel)]
    return jnp.concatenate([_rows(x, axis, at, (at >= 0) & (at < x.shape[axis])) for at in seen])


def _windows_back(
    axis: int, kernel: int, count: int, kept: tuple[int, Any, Any], slope: jax.Array
) -> tuple[jax.Array, None, None]:
    size, stride, before = kept
    total: Any = 0.0
    # Gathers turned around would scatter, one row after another. But a tap sees no row twice: what saw it is gathered.
    for tap, of_tap in enumerate(jnp.split(slope, kernel)):
        at = jnp.arange(size) + before - tap
        total += _rows(of_tap, axis, at // stride, (at >= 0) & (at < count * stride) & (at % stride == 0))
    return total, None, None


_windows.defvjp(
    lambda x, axis, kernel, count, stride, before: (
        _windows(x, axis, kernel, count, stride, before),
        (x.shape[axis], stride, before),
    ),
    _windows_back,
)


def _rows(x: jax.Array, axis: int, which: jax.Array, there: jax.Array) -> jax.Array:
    """Rows along an axis by their numbers; zeros where they are not there."""
    there = jnp.expand_dims(there, [other for other in range(x.ndim) if other != axis])
    return jnp.where(there, jnp.take(x, which, axis, mode="clip"), 0)


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of every 2x2 square of `[channels, height, width, batch]`; an odd row or column is left out."""
    # `reduce_window` is slow on the CPU: a training step takes 1.5 times as long. `.max((2, 4))` scores slower too.
    channels, height, width, batch = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2].reshape(channels, height // 2, 2, width // 2, 2, batch)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])
