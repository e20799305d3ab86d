"""Padded programs: what a compiled program fixes, and where in it a member's own choices and weights are."""

from typing import Any, NamedTuple

import numpy as np

from jevo.mixed.architectures import ACTIVATION_NAMES, Architecture, Conv
from jevo.mixed.optimizers import OPTIMIZERS
from jevo.mixed.unpadded import kernel_shapes
from jevo.networks.convolutional import padding
from jevo.types import Member


class Frame(NamedTuple):
    """What a program fixes of a convolution. A member's image is at its top left, and zeros are beyond.

    Attributes:
        kernel: padded height and width.
        units: padded output channels.
        pool: whether a pooling follows.
        output: padded height and width before the pooling.
    """

    kernel: int
    units: int
    pool: bool
    output: tuple[int, int]


class Program(NamedTuple):
    """What a compiled program fixes: everything that changes a shape.

    Attributes:
        shape: of an example.
        classes: of the output.
        conv: the convolutions.
        dense: padded units of each hidden dense layer; those beyond `least` are as wide as the one before.
        least: hidden dense layers that every member has; at least one, if there are any.
        epochs: the most that a member may train.
    """

    shape: tuple[int, ...]
    classes: int
    conv: tuple[Frame, ...]
    dense: tuple[int, ...]
    least: int
    epochs: int

    @property
    def padded(self) -> Architecture:
        """An architecture with arrays of the program's shapes."""
        hidden = len(self.conv) + len(self.dense)
        # Such a convolution gives an output as large as its image.
        convs = tuple(Conv(of.kernel, 1, True, of.units, of.pool, of.output) for of in self.conv)
        sizes = (self.shape, self.classes, convs, self.dense)
        return Architecture(*sizes, ("relu",) * hidden, (0.0,) * hidden, "adam", 1e-3, 0.0, self.epochs)


class Choices(NamedTuple):
    """One member's choices, as arrays.

    Attributes:
        units: int32 `[hidden]`, of each convolution and hidden dense layer; 0 for a layer passed by.
        kernel, stride: int32 `[convolutions]`.
        before: int32 `[convolutions, 2]`, zeros above and left of the image.
        pooled: int32 `[convolutions, 2]`, height and width of what the next layer sees.
        depth: int32 `[]`, hidden dense layers.
        activation: int32 `[hidden]`, indices into `ACTIVATION_NAMES`.
        dropout: float32 `[hidden]`.
        optimizer: int32 `[]`, an index into `OPTIMIZERS`.
        learning_rate, weight_decay: float32 `[]`.
        epochs: int32 `[]`.
    """

    units: Any
    kernel: Any
    stride: Any
    before: Any
    pooled: Any
    depth: Any
    activation: Any
    dropout: Any
    optimizer: Any
    learning_rate: Any
    weight_decay: Any
    epochs: Any


def choices(of: Architecture, program: Program) -> Choices:
    """A member's choices, for a program that it fits in; NumPy arrays."""
    spare = (0,) * (len(program.dense) - len(of.dense))
    units = (*(conv.units for conv in of.conv), *of.dense, *spare)
    # Each small operation of JAX's own would be compiled, once for every shape.
    return Choices(
        np.asarray(units, np.int32),
        np.asarray([conv.kernel for conv in of.conv], np.int32),
        np.asarray([conv.stride for conv in of.conv], np.int32),
        np.asarray([before(conv) for conv in of.conv], np.int32),
        np.asarray([conv.pooled for conv in of.conv], np.int32),
        np.int32(len(of.dense)),
        np.asarray((*(ACTIVATION_NAMES.index(name) for name in of.activation), *spare), np.int32),
        np.asarray((*of.dropout, *spare), np.float32),
        np.int32(OPTIMIZERS.index(of.optimizer)),
        np.float32(of.learning_rate),
        np.float32(of.weight_decay),
        np.int32(of.epochs),
    )


def before(conv: Conv) -> tuple[int, int]:
    """Zeros above and left of its image."""
    rows, columns = (padding(size, conv.kernel, conv.stride, conv.same)[0] for size in conv.image)
    return rows, columns


def pad(params: Member, of: Architecture, program: Program) -> Member:
    """A member's weights `{layer: {kernel, bias}}` among zeros, as its program has them; NumPy arrays."""
    own, shapes = _boxes(of), kernel_shapes(program.padded)
    found = {}
    for name, box in _boxes(program.padded).items():
        kernel, bias = np.zeros(box, np.float32), np.zeros(box[-1], np.float32)
        if name in own:
            kernel[_corner(own[name])] = params[name]["kernel"].reshape(own[name])
            bias[: own[name][-1]] = params[name]["bias"]
        found[name] = {"kernel": kernel.reshape(shapes[name]), "bias": bias}
    return found


def unpad(params: Member, of: Architecture, program: Program) -> Member:
    """A member's own weights out of the padded ones, as `network` takes them."""
    own, boxes = _boxes(of), _boxes(program.padded)
    return {
        name: {
            "kernel": params[name]["kernel"].reshape(boxes[name])[_corner(own[name])].reshape(shape),
            "bias": params[name]["bias"][: shape[-1]],
        }
        for name, shape in kernel_shapes(of).items()
    }


def _boxes(of: Architecture) -> dict[str, tuple[int, ...]]:
    """The kernels' shapes, the first dense one's as what the convolutions give, `[channels, height, width, units]`: so
    a member's own weights are a corner of the padded ones."""
    shapes = kernel_shapes(of)
    if of.conv:
        name = of.layers[len(of.conv)]
        shapes[name] = (of.conv[-1].units, *of.conv[-1].pooled, shapes[name][-1])
    return shapes


def _corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(size) for size in shape)
