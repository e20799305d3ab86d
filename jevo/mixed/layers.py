"""The layers of a padded program: each computes, within fixed sizes, what its member's own layer computes alone.

A layer's units beyond the member's own are masked after the activation, as are rows and columns beyond its image. So
they get no gradient, and neither do the weights that read them: what starts at zero there stays zero.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo.mixed.architectures import ACTIVATION_NAMES
from jevo.mixed.optimizers import Coefficients, Slots, update
from jevo.mixed.programs import Choices, Frame, Program
from jevo.mixed.unpadded import layer_key
from jevo.networks import ACTIVATIONS
from jevo.networks.convolutional import max_pool, weigh, windows
from jevo.types import Key, Member


class Layer(NamedTuple):
    """One layer of a program.

    Attributes:
        program: whose layer it is.
        number: among the program's layers, the output being the last.
    """

    program: Program
    number: int

    @property
    def name(self) -> str:
        return self.program.padded.layers[self.number]

    @property
    def conv(self) -> Frame | None:
        return self.program.conv[self.number] if self.number < len(self.program.conv) else None

    @property
    def hidden(self) -> bool:
        return self.number < len(self.program.conv) + len(self.program.dense)

    @property
    def optional(self) -> bool:
        """Whether a member may have to pass it by."""
        return self.hidden and self.number - len(self.program.conv) >= self.program.least

    def present(self, chosen: Choices) -> jax.Array:
        """1 or 0, int32 `[]`: whether the member has it."""
        return (self.number - len(self.program.conv) < chosen.depth).astype(jnp.int32)

    def seen(self, h: jax.Array, chosen: Choices) -> jax.Array:
        """What the weights are multiplied by, made of the input: patches of images, or features `[features, batch]`."""
        if self.conv is None:
            return h.reshape(-1, h.shape[-1])
        rows, columns = chosen.before[self.number]
        return windows(h, self.conv.kernel, chosen.stride[self.number], (rows, columns), self.conv.output)

    def linear(self, params: Member, seen: jax.Array, chosen: Choices) -> jax.Array:
        """`[channels, height, width, batch]` or `[units, batch]`, before the activation."""
        kernel, bias = params["kernel"], params["bias"]
        if self.conv is None:
            return kernel.T @ seen + bias[:, None]
        own = jnp.arange(self.conv.kernel) < chosen.kernel[self.number]
        # What is around a smaller kernel sees pixels, and must not learn from them.
        kernel = jnp.where((own[:, None] & own[None, :])[:, :, None, None], kernel, 0)
        return weigh(kernel, seen) + bias[:, None, None, None]

    def shaped(self, z: jax.Array, chosen: Choices) -> jax.Array:
        """The activation, and the pooling."""
        a = activate(chosen.activation[self.number], z)
        return max_pool(a) if self.conv and self.conv.pool else a

    def gain(self, shape: tuple[int, ...], chosen: Choices, noise: Key | None) -> jax.Array:
        """What the layer's output is multiplied by: nothing is left of units, rows and columns that the member does not
        have, and in training of what is dropped."""
        own = [chosen.units[self.number], *(chosen.pooled[self.number] if self.conv else ())]
        mask = jnp.ones((1,) * len(shape))
        for axis, size in enumerate(own):
            inside = (jnp.arange(shape[axis]) < size).astype(jnp.float32)
            mask *= jnp.expand_dims(inside, [other for other in range(len(shape)) if other != axis])
        if noise is None:
            return mask
        return mask * dropout_gain(layer_key(noise, self.name), shape, chosen.dropout[self.number])

    def backward(
        self,
        own: Slots,
        h: jax.Array,
        seen: jax.Array,
        z: jax.Array,
        gain: jax.Array,
        slope: jax.Array,
        chosen: Choices,
        by: Coefficients,
    ) -> tuple[Slots, jax.Array]:
        """The layer after a gradient step, and the slope of the loss by its input (not by the first's: examples).

        Args:
            own: the layer.
            h: its input.
            seen: what it made of that.
            z: what `linear` made of it.
            gain: what its units were multiplied by; of the output, which has none, any.
            slope: of the loss by its output.
            chosen: of the member.
            by: the optimizer's formula.
        """
        if self.hidden:
            slope = jax.vjp(partial(self.shaped, chosen=chosen), z)[1](slope * gain)[0]
        back = jax.vjp(partial(self.linear, chosen=chosen), own.params, seen)[1]
        gradient, slope = back(slope)
        if self.number:
            slope = jax.vjp(partial(self.seen, chosen=chosen), h)[1](slope)[0]
        new = {
            name: update(
                by,
                chosen.learning_rate,
                chosen.weight_decay,
                gradient[name],
                own.moments[0][name],
                own.moments[1][name],
                array,
            )
            for name, array in own.params.items()
        }
        params, first, second = ({name: arrays[i] for name, arrays in new.items()} for i in range(3))
        return Slots(params, (first, second)), slope


def dropout_gain(key: Key, shape: tuple[int, ...], rate: jax.Array) -> jax.Array:
    """0 with probability `rate`, else what makes up for it. `shape` is `[units, ..., batch]`.

    A unit's draws, at each place of an image, do not depend on how many units and places there are.
    """
    # A hash of the indices, one axis after another: JAX's own bits hang on the whole shape, and take longer.
    word = jax.random.bits(key)
    for size in shape:
        index = jnp.expand_dims(jnp.arange(size, dtype=jnp.uint32), range(word.ndim))
        word = _scrambled(word[..., None] + np.uint32(0x9E3779B9) * index)
    return jnp.where(word < (rate * 2.0**32).astype(jnp.uint32), 0.0, 1 / (1 - rate))


def _scrambled(word: jax.Array) -> jax.Array:
    """32 bits, each of which hangs on all (Wellons' lowbias32, https://nullprogram.com/blog/2018/07/31/)."""
    word = (word ^ (word >> 16)) * np.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * np.uint32(0x846CA68B)
    return word ^ (word >> 16)


_FUNCTIONS = [ACTIVATIONS[name] for name in ACTIVATION_NAMES]
_SLOPES = [lambda z, f=f: jax.jvp(f, (z,), (jnp.ones_like(z),))[1] for f in _FUNCTIONS]


@jax.custom_vjp
def activate(index: jax.Array, z: jax.Array) -> jax.Array:
    """The activation number `index` of `z`; differentiated with nothing kept but `z`, for all of them alike."""
    return jax.lax.switch(index, _FUNCTIONS, z)


activate.defvjp(
    lambda index, z: (activate(index, z), (index, z)),
    lambda kept, slope: (None, slope * jax.lax.switch(kept[0], _SLOPES, kept[1])),
)
