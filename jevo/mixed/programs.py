"""Padded programs: what a compiled program fixes, and where in it a member's own choices and weights are."""

from typing import Any, NamedTuple

import numpy as np

from jevo.mixed.architectures import ACTIVATION_NAMES, Architecture, Conv
from jevo.mixed.optimizers import OPTIMIZERS
from jevo.mixed.unpadded import kernel_shapes
from jevo.networks.convolutional import padding
from jevo.types import Member


class Program(NamedTuple):
    """What a compiled program fixes: everything that changes a shape.

    Attributes:
        shape: of an example.
        classes: of the output.
        conv: convolutions with padded kernels and units.
        dense: padded units of each hidden dense layer; those beyond `least` are as wide as the one before.
        least: hidden dense layers that every member has; at least one, if there are any.
        epochs: the most that a member may train.
    """

    shape: tuple[int, ...]
    classes: int
    conv: tuple[Conv, ...]
    dense: tuple[int, ...]
    least: int
    epochs: int

    @property
    def padded(self) -> Architecture:
        """The largest member, as an architecture."""
        hidden = len(self.conv) + len(self.dense)
        sizes = (self.shape, self.classes, self.conv, self.dense)
        return Architecture(*sizes, ("relu",) * hidden, (0.0,) * hidden, "adam", 1e-3, 0.0, self.epochs)


class Choices(NamedTuple):
    """One member's choices, as arrays.

    Attributes:
        units: int32 `[hidden]`, of each convolution and hidden dense layer; 0 for a layer passed by.
        kernel: int32 `[convolutions]`.
        depth: int32 `[]`, hidden dense layers.
        activation: int32 `[hidden]`, indices into `ACTIVATION_NAMES`.
        dropout: float32 `[hidden]`.
        optimizer: int32 `[]`, an index into `OPTIMIZERS`.
        learning_rate, weight_decay: float32 `[]`.
        epochs: int32 `[]`.
    """

    units: Any
    kernel: Any
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
        np.int32(len(of.dense)),
        np.asarray((*(ACTIVATION_NAMES.index(name) for name in of.activation), *spare), np.int32),
        np.asarray((*of.dropout, *spare), np.float32),
        np.int32(OPTIMIZERS.index(of.optimizer)),
        np.float32(of.learning_rate),
        np.float32(of.weight_decay),
        np.int32(of.epochs),
    )


def pad(params: Member, of: Architecture, program: Program) -> Member:
    """A member's weights `{layer: {kernel, bias}}` among zeros, as its program has them; NumPy arrays."""
    own = windows(of, program)
    found = {}
    for name, shape in kernel_shapes(program.padded).items():
        kernel, bias = np.zeros(shape, np.float32), np.zeros(shape[-1], np.float32)
        if name in own:
            kernel[own[name]], bias[own[name][-1]] = params[name]["kernel"], params[name]["bias"]
        found[name] = {"kernel": kernel, "bias": bias}
    return found


def unpad(params: Member, of: Architecture, program: Program) -> Member:
    """A member's own weights out of the padded ones, as `network` takes them."""
    return {
        name: {"kernel": params[name]["kernel"][window], "bias": params[name]["bias"][window[-1]]}
        for name, window in windows(of, program).items()
    }


def windows(of: Architecture, program: Program) -> dict[str, tuple[slice, ...]]:
    """Where in the padded kernels a member's own are."""
    found = {}
    for i, (name, shape) in enumerate(kernel_shapes(of).items()):
        first = offsets(program.conv[i], of.conv[i].kernel) if i < len(of.conv) else ()
        found[name] = tuple(slice(begin, begin + size) for begin, size in zip((*first, 0, 0), shape, strict=True))
    return found


def offsets(conv: Conv, kernel: Any) -> tuple[Any, Any]:
    """Row and column of a padded kernel where a smaller one sees what it would see alone."""
    if not conv.same:
        return 0, 0
    row, column = (
        padding(size, conv.kernel, conv.stride, True)[0] - padding(size, kernel, conv.stride, True)[0]
        for size in conv.image
    )
    return row, column
