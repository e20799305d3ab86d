"""A champion for whoever has no jevo: `champion.safetensors`, flat names of plain arrays, and the card beside it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo import bits
from jevo.bits import is_bits
from jevo.data.files import atomic_write, read_file
from jevo.data.task import normalize
from jevo.errors import InputError, shortened

WEIGHTS, CARD = "champion.safetensors", "champion.md"
"""What a run writes beside its own form of the champion."""
FORMAT = 1
"""Of these files; one of a later format is refused."""
_BESIDE = {"mean": "input_mean", "scale": "input_scale", "offset": "input_offset", "gain": "output_scale"}
"""What the arrays beside the params are called in the file."""
_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
"""NumPy's (and JAX's) names of the types that these files have."""


class Portable(NamedTuple):
    """A champion as plain arrays, and what else its outputs take.

    Attributes:
        params: of its network: nested dicts of arrays. What were bits are bools; entries of lists and fields of named
            tuples have their place or name.
        mean, scale: float32 `[1, ...]` and `[]` or `[1, features]`: the network reads examples less the mean, over the
            scale. None: as they are.
        offset: float64, of the shape of an example: what is subtracted before that, in float64. None: nothing.
        gain: float32 `[]`, what the network's outputs are multiplied by. None: by nothing.
        code: lines of Python that compute what it answers, for its card. A file holds none.
    """

    params: Any
    mean: Any = None
    scale: Any = None
    offset: Any = None
    gain: Any = None
    code: str = ""

    def inputs(self, x: Any) -> jax.Array:
        """Examples `[n, ...]`, as the source of its data has them, as its network takes them."""
        if self.offset is not None:
            x = (np.asarray(x, np.float64) - self.offset).astype(np.float32)
        return jnp.asarray(x) if self.mean is None else normalize(jnp.asarray(x), self.mean, self.scale)


def from_safetensors(path: str | Path, like: Any = None) -> Portable:
    """The champion in a `champion.safetensors`, as a run wrote it, bit for bit.

    Args:
        path: of the file.
        like: arrays, or their shapes, in the structure that its params are to have, such as
            `jax.eval_shape(network.init, key)`. None: nested dicts, which is what most networks have.

    Returns:
        Its params and what goes with them: `network.apply(found.params, found.inputs(x))` are the outputs.

    Raises:
        InputError: in one line, if there is no such file, or it is damaged, or not jevo's, or of another structure.
    """
    path = Path(path)
    try:
        raw = read_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a run's {WEIGHTS}") from None
    arrays, said = _read(path, raw)
    paths = {name: tuple(where) for name, where in said["paths"].items()}
    beside: dict[str, Any] = {
        # What is float64 stays as it is.
        field: arrays[name] if field == "offset" else jnp.asarray(arrays[name])
        for field, name in said["beside"].items()
    }
    found = {where: arrays[name] for name, where in paths.items()}
    if like is None:
        return Portable(_nested({where: jnp.asarray(array) for where, array in found.items()}), **beside)
    leaves, treedef = _leaves(like)
    differ = sorted({".".join(map(str, where)) for where in found.keys() ^ leaves.keys()})
    if differ:
        raise InputError(f"{path} is of another structure: {shortened(', '.join(differ), 300)} is in one of the two")
    return Portable(treedef.unflatten([_like(path, w, found[w], leaf) for w, leaf in leaves.items()]), **beside)


def to_bytes(portable: Portable) -> bytes:
    """What `champion.safetensors` holds of a champion: the same bytes for the same arrays.

    Raises:
        InputError: for an array of a type that such files do not have.
    """
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    beside, paths = {}, {}
    for field, name in _BESIDE.items():
        if (array := getattr(portable, field)) is not None:
            arrays[name], beside[field] = _plain(array), name
    for where, leaf in _leaves(portable.params)[0].items():
        name = ".".join(map(str, where)) or "array"
        # Names of the user's own may have dots, or be one of those above: where they belong is said beside.
        while name in arrays:
            name += "_"
        arrays[name], paths[name] = _plain(leaf), list(where)
        if str(arrays[name].dtype) not in _TYPES.values():
            raise InputError(f"{name} is {arrays[name].dtype}, which {WEIGHTS} cannot hold")
    said = {"format": FORMAT, "paths": paths, "beside": beside}
    # A single entry: of several, the order would be another one each time.
    return save(arrays, {"jevo": json.dumps({**said, "sha256": _digest(arrays, said)})})


def save_portable(folder: Path, portable: Portable, card: str) -> None:
    """Write a champion and its card, each whole or not at all.

    Raises:
        InputError: for an array of a type that such files do not have.
    """
    atomic_write(folder / WEIGHTS, to_bytes(portable))
    atomic_write(folder / CARD, card)


def card(title: str, said: Sequence[str], portable: Portable) -> str:
    """A card in Markdown: what a champion is, and how it is loaded.

    Args:
        title: what it is.
        said: paragraphs: data, metrics, settings.
        portable: the champion.
    """
    named = {name: getattr(portable, field) for field, name in _BESIDE.items() if getattr(portable, field) is not None}
    shapes = {".".join(map(str, where)) or "array": _shape(leaf) for where, leaf in _leaves(portable.params)[0].items()}
    shapes |= {name: f"{np.asarray(array).dtype} {list(np.shape(array))}" for name, array in named.items()}
    listed = "\n".join(f"- `{name}`: {shape}" for name, shape in shapes.items())
    return (
        "\n\n".join(
            [
                f"# {title}",
                *said,
                f"Without jevo (`pip install numpy safetensors`), beside `{WEIGHTS}`:",
                f"```python\n{portable.code.strip()}\n```",
                f"With jevo, `jevo.runs.from_safetensors` checks the file, and gives params as its networks take them. "
                f"What `{WEIGHTS}` holds:",
                listed,
            ]
        )
        + "\n"
    )


def _leaves(tree: Any) -> tuple[dict[tuple[Any, ...], Any], Any]:
    """The leaves of a pytree by their paths, in order, and its structure; bits are leaves."""
    found, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_bits)
    return {tuple(map(_step, path)): leaf for path, leaf in found}, treedef


def _step(key: Any) -> str | int:
    """A step of a path: a name, or a place."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            step = getattr(key, attribute)
            return int(step) if isinstance(step, int | np.integer) else str(step)
    return str(key)


def _nested(found: Mapping[tuple[Any, ...], Any]) -> Any:
    if () in found:
        return found[()]
    tree: dict[Any, Any] = {}
    for where, array in found.items():
        branch = tree
        for step in where[:-1]:
            branch = branch.setdefault(step, {})
        branch[where[-1]] = array
    return tree


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as plain numbers: of bits their bools, of keys their data."""
    if is_bits(leaf):
        leaf = bits.unpack(leaf)
    elif _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return np.asarray(jax.device_get(leaf), order="C")


def _like(path: Path, where: tuple[Any, ...], array: np.ndarray, leaf: Any) -> Any:
    """A plain array as the leaf that it was made of."""
    of_bits, of_keys = bool(is_bits(leaf)), _is_key(leaf)
    shape, dtype = tuple(leaf.shape), "bool" if of_bits else "uint32" if of_keys else str(leaf.dtype)
    given = array.shape[:-1] if of_keys else array.shape
    if (given, str(array.dtype)) != (shape, dtype):
        name = ".".join(map(str, where))
        raise InputError(f"{path} has {name} {array.dtype} {list(given)}, but takes {dtype} {list(shape)}")
    if of_keys:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    return bits.pack(jnp.asarray(array)) if of_bits else jnp.asarray(array)


def _is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of keys."""
    return not is_bits(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _shape(leaf: Any) -> str:
    array = jax.eval_shape(lambda: bits.unpack(leaf)) if is_bits(leaf) else leaf
    return f"{array.dtype} {list(array.shape)}"


def _read(path: Path, raw: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays in such a file, and what jevo says of them.

    Raises:
        InputError: if it is none, or damaged.
    """
    from safetensors import SafetensorError, deserialize

    try:
        found = dict(deserialize(raw))
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
    except (SafetensorError, ValueError, RecursionError) as error:
        reason = shortened(str(error).partition("\n")[0], 100)
        raise InputError(f"{path} is damaged, or no safetensors file ({reason}); give a run's {WEIGHTS}") from None
    try:
        said = json.loads(header["__metadata__"]["jevo"])
        digest, later = said.pop("sha256"), said["format"] > FORMAT
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise InputError(f"{path} is a safetensors file, but no champion that jevo wrote; load it yourself") from None
    if later:
        raise InputError(f"{path} is of a later jevo; update jevo")
    try:
        arrays = {
            name: np.frombuffer(bytes(one["data"]), jnp.dtype(_TYPES[one["dtype"]])).reshape(one["shape"])
            for name, one in found.items()
        }
        if digest != _digest(arrays, said):
            raise ValueError("its numbers are not those that were saved")
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({shortened(error, 100)}); run the experiment again with fresh") from None
    return arrays, said


def _digest(arrays: Mapping[str, np.ndarray], said: Mapping[str, Any]) -> str:
    """Of all that such a file holds."""

    def parts() -> Iterator[bytes]:
        yield json.dumps(said, sort_keys=True).encode()
        for name in sorted(arrays):
            yield json.dumps([name, str(arrays[name].dtype), list(arrays[name].shape)]).encode()
            yield arrays[name].tobytes()

    found = hashlib.sha256()
    for part in parts():
        found.update(part)
    return found.hexdigest()
