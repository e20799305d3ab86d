"""The devices that members are spread over, and how many of them a device takes at once.

The mesh is JAX's own context (`jax.set_mesh`), which is part of what a program is traced and kept by: nothing here is a
hidden argument. Where there is none, one device has it all.
"""

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jevo.errors import InputError
from jevo.memory import free_memory

AXIS = "population"
"""The axis of a mesh that members are spread over."""


def in_chunks(function: Callable[..., Any], arguments: Any, chunk: int, *shared: Any) -> Any:
    """`function` of every element of `arguments`, `chunk` elements at a time: vectorised, and in bounded memory.

    Args:
        function: of one element, a pytree without the leading axis, and of what is shared.
        arguments: a pytree of `[n, ...]`.
        shared: pytrees of arrays that every device has whole. What `function` only closes over it cannot index.
        chunk: at most so many at a time. Somewhat fewer are taken if they divide `n`, since the chunk
            that is left over is a second program to compile.

    Returns:
        The results, stacked `[n, ...]`.
    """

    def mapped(some: Any, *shared: Any) -> Any:
        each = lambda one: function(one, *shared)  # noqa: E731
        return jax.lax.map(each, some, batch_size=chunk_of(_length(some), chunk))

    return over_devices(mapped, arguments, *shared)


def chunk_of(n: int, at_most: int) -> int:
    """How many of `n` to take at once: `at_most`, or as few as half of that if it then divides `n`."""
    at_most = min(at_most, n)
    return next((chunk for chunk in range(at_most, at_most // 2, -1) if n % chunk == 0), at_most)


def for_some(step: Callable[[Any, jax.Array], Any], carry: Any, wanted: jax.Array, chunk: int) -> Any:
    """`carry = step(carry, rows [chunk])` over all rows that are wanted, whose number is known only as it runs.

    Args:
        step: what is done about some rows. About the last ones it may be done twice, so twice has to be as once.
        carry: a pytree of arrays.
        wanted: bool `[n]`.
        chunk: at most so many rows at a time; as `in_chunks`, somewhat fewer if they divide n.
    """
    chunk = chunk_of(wanted.size, chunk)
    rows, count = jnp.argsort(~wanted, stable=True), jnp.sum(wanted)

    def turn(number: jax.Array, carry: Any) -> Any:
        some = jnp.minimum(number * chunk + jnp.arange(chunk), jnp.maximum(count - 1, 0))
        return step(carry, rows[some])

    return jax.lax.fori_loop(0, -(-count // chunk), turn, carry)


def spread(mesh: Mesh | None) -> AbstractContextManager[Any]:
    """Programs traced inside give each device of `mesh` its own share of a population's members.

    Args:
        mesh: any mesh, whatever its axes and their types: members are spread over all of its devices, in its order.
            None for a single device.
    """
    return jax.set_mesh(_of_members(mesh)) if mesh and mesh.size > 1 else nullcontext()


def _of_members(mesh: Mesh) -> Mesh:
    """A mesh of the same devices with the one axis of members."""
    if mesh.axis_names == (AXIS,) and mesh.axis_types == (AxisType.Auto,):
        return mesh
    return Mesh(mesh.devices.reshape(-1), (AXIS,), axis_types=(AxisType.Auto,))


def is_spread() -> bool:
    """Whether programs traced here share members out among devices."""
    mesh = jax.sharding.get_abstract_mesh()
    # Within a shard_map of the user's own, over an axis of this name, each device is on its own.
    return dict(zip(mesh.axis_names, mesh.axis_types, strict=True)).get(AXIS) == AxisType.Auto


def over_devices(program: Callable[..., Any], arguments: Any, *shared: Any) -> Any:
    """`program` of `arguments`, each device computing its own share of them.

    Args:
        program: `([n, ...], *shared) -> [n, ...]`, each row a function of the same row alone, and of what is shared,
            or closed over.
        arguments: a pytree of `[n, ...]`. Where n does not divide evenly, the last row is computed again for the
            places that are left over, and dropped.
        shared: pytrees of arrays that every device has whole. What the program only closes over it cannot index.
    """
    if not is_spread():
        return program(arguments, *shared)
    n, devices = _length(arguments), jax.sharding.get_abstract_mesh().shape[AXIS]
    places = -(-n // devices) * devices
    if places > n:
        last = jnp.minimum(jnp.arange(places), n - 1)
        arguments = jax.tree.map(lambda leaf: leaf[last], arguments)
    rows = PartitionSpec(AXIS)
    # Nothing is said of what varies over devices: rows do, and there is nothing else.
    specs = (rows, *[PartitionSpec()] * len(shared))
    found = jax.shard_map(program, in_specs=specs, out_specs=rows, check_vma=False)(arguments, *shared)
    return jax.tree.map(lambda leaf: leaf[:n], found) if places > n else found


def summed(function: Callable[..., Any], arguments: Any, *shared: Any) -> Any:
    """The sum of `function` over every element of `arguments`, a few at a time, each device summing its own share.

    Of integers it is the same on however many devices; of floats it differs in last bits.

    Args:
        function: of one element, a pytree without the leading axis, and of what is shared. Where n does not divide
            evenly, places are left over: elements that are all zeros, of which it must be zero.
        arguments: a pytree of `[n, ...]`.
        shared: pytrees of arrays that every device has whole. What `function` only closes over it cannot index.
    """

    def share(some: Any, *shared: Any) -> Any:
        element = lambda i: function(jax.tree.map(lambda leaf: leaf[i], some), *shared)  # noqa: E731
        start = jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), jax.eval_shape(element, 0))

        def turn(total: Any, i: jax.Array) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, element(i)), None

        # Some at a time, as one pass over the total.
        return jax.lax.scan(turn, start, jnp.arange(_length(some)), unroll=8)[0]

    if not is_spread():
        return share(arguments, *shared)
    left = -_length(arguments) % jax.sharding.get_abstract_mesh().shape[AXIS]
    if left:
        arguments = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, left), *[(0, 0)] * (leaf.ndim - 1)]), arguments)
    everywhere = lambda some, *shared: jax.lax.psum(share(some, *shared), AXIS)  # noqa: E731
    specs = (PartitionSpec(AXIS), *[PartitionSpec()] * len(shared))
    return jax.shard_map(everywhere, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)(arguments, *shared)


def without_explicit_axes(program: Callable[[Any], Any], arguments: Any) -> Any:
    """`program` of `arguments`, where arrays on a mesh of Explicit axes, or such a mesh that is set, count as of Auto
    axes: the types of the former say where arrays are, and forbid to pick members from among all devices.

    Results are on the mesh that was given. Nothing moves.
    """
    here = jax.sharding.get_mesh() if _is_explicit(jax.sharding.get_abstract_mesh()) else None
    meshes = [mesh for mesh in (here, *map(_mesh, jax.tree.leaves(arguments))) if mesh and _is_explicit(mesh)]
    if not meshes:
        return program(arguments)
    given = meshes[0]
    with jax.set_mesh(_automatic(here)) if here else nullcontext():
        found = program(jax.tree.map(lambda leaf: _on(leaf, _mesh(leaf) and _automatic(_mesh(leaf))), arguments))
    return jax.tree.map(lambda leaf: _on(leaf, given if _mesh(leaf) == _automatic(given) else None), found)


def _mesh(array: Any) -> Any:
    return getattr(getattr(array, "sharding", None), "mesh", None)


def _on(array: Any, mesh: Any) -> Any:
    """The array where it is, on this mesh of the same devices and axes; None leaves it as it is."""
    return array if mesh is None else jax.device_put(array, NamedSharding(mesh, array.sharding.spec))


def _is_explicit(mesh: Any) -> bool:
    return AxisType.Explicit in mesh.axis_types


def _automatic(mesh: Mesh) -> Mesh:
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """Where an array is that every device of a mesh has whole; None where there is one device."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def abstract(tree: Any) -> Any:
    """Shapes and dtypes of a pytree of arrays, to lower a program from.

    Where arrays are is told apart: part of a traced array's type, it would forbid to index into one that a device's
    share of the work closes over.
    """
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tree)


def members_at_once(asked: int, on_cpu: int) -> int:
    """The chunk that a setting means: what was asked for, or for 0 what suits the device.

    That is `on_cpu` on a CPU, where a chunk should fit the cache; elsewhere all there are, until a program turns out
    not to fit (the loop of a run then takes half).
    """
    return asked or (on_cpu if jax.default_backend() == "cpu" else sys.maxsize)


def needs(program: jax.stages.Compiled) -> int:
    """Bytes that a compiled program needs at its peak, its arguments and results included, by XLA's own count."""
    memory: Any = program.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def require_room(program: jax.stages.Compiled) -> None:
    """Raise what the device would raise if the program's temporaries do not fit the memory that is free.

    On a CPU the system would not refuse, but swap, or kill the process.

    Raises:
        jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED.
    """
    memory: Any = program.memory_analysis()
    wanted = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    room = _free()
    if room is not None and wanted > room:
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {wanted} bytes are wanted, {room} are free")


def require_room_for(tree: Any, what: str) -> None:
    """Raise an InputError if arrays do not fit the memory that is free, not even spread over all devices.

    Args:
        tree: a pytree of arrays, or of their shapes and dtypes.
        what: they are, to begin the message with.
    """
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    mesh = jax.sharding.get_abstract_mesh()
    room = _free()
    if room is not None and size > room * max(1, mesh.size):
        raise InputError(
            f"{what} would take {size / 1e9:,.1f} GB of memory, and {room / 1e9:,.1f} GB are free; "
            "take a smaller population or network"
        )


def in_room(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` of the arguments, compiled, if there is room for what it makes.

    Raises:
        jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED, before anything is made.
    """
    program = jax.jit(function).lower(*arguments).compile()
    require_room(program)
    return program(*arguments)


def is_exhausted(error: BaseException) -> bool:
    """Whether a device ran out of memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _free() -> int | None:
    """Free bytes of the device, or None where nobody tells."""
    device = jax.local_devices()[0]
    if stats := device.memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    if device.platform != "cpu":
        return None
    return free_memory()


def _length(arguments: Any) -> int:
    return jax.tree.leaves(arguments)[0].shape[0]
