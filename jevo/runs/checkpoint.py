"""Checkpoints of a running stage, and arrays and models of a finished run: what is read is what was saved, or refused.

Orbax writes a set of arrays whole or not at all, but does not notice a bit that has changed since. So every set holds a
checksum of itself.
"""

import glob
import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo.data.files import atomic_write
from jevo.errors import InputError
from jevo.runs.processes import all_max, several
from jevo.runs.system import system_reason

_ASIDE = ("_sharding", "array_metadatas")
"""What Orbax keeps beside the arrays, and reads if it is there: arrays of known shape and place need none of it, and it
could be damaged."""
_ON_HOST = 2**25
"""What is no larger is read by the host for its checksum [bytes]."""
_CHANGED = "its numbers are not those that were saved"


class Checkpoints:
    """The checkpoints in one folder, numbered by generation.

    Args:
        folder: made if need be.
        keep: how many of the latest to keep.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self._folder, self._keep = folder, keep
        if _first():
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.orbax-checkpoint-tmp*"):  # Half written when the process was killed.
                shutil.rmtree(path)

    def generations(self) -> list[int]:
        """The generations that there are checkpoints of, the oldest first."""
        names = [path.name for path in self._folder.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def save(self, generation: int, carry: Any) -> None:
        """Save a pytree of arrays, and delete all but the latest up to it: what is newer could not be restored."""
        _save(self._folder / str(generation), carry, generation)
        there = self.generations()
        latest = [other for other in there if other <= generation][-self._keep :]
        for other in there:
            if other not in latest:
                self._delete(other)

    def restore(self, like: Any) -> tuple[int, Any, list[str]]:
        """The newest checkpoint that can be read.

        Args:
            like: a pytree of the structure, shapes and dtypes to restore.

        Returns:
            Its generation (-1 if there is none), the pytree (`like` itself if there is none), and a line for
            each newer checkpoint that is damaged.

        Raises:
            InputError: if there are checkpoints and none can be read.
        """
        damaged = []
        for generation in self.generations()[::-1]:
            sealed, problem = {}, ""
            try:
                sealed = _read(self._folder / str(generation), like)
            except Exception as error:  # Orbax raises whatever the damaged file provokes in its parsers.
                problem = _damage(error)
            # A part that one process cannot read is missing to all; the checksum is computed by all together.
            if any(all_max(bool(problem))):
                problem = problem or "in a part of another process"
            elif not _intact(sealed, generation):
                problem = _CHANGED
            if not problem:
                return generation, sealed["saved"], damaged
            damaged.append(f"checkpoint {generation} is damaged ({problem}); going back to an older one")
        if damaged:
            raise InputError(f"no checkpoint in {self._folder} can be read; start over with fresh")
        return -1, like, []

    def _delete(self, generation: int) -> None:
        if _first():
            shutil.rmtree(self._folder / str(generation))


def save_arrays(folder: Path, tree: Any) -> None:
    """Save a pytree of arrays in a folder of its own, replacing what is there, and read it back.

    Raises:
        InputError: if it cannot be read.
    """
    if _first():  # The others of a run keep no books, and Orbax would write nothing for them.
        tree = jax.device_get(tree)
        _save(folder, tree, alone=True)
        load_arrays(folder, tree)


def load_arrays(folder: Path, like: Any) -> Any:
    """The pytree that `save_arrays` saved, with the structure, shapes and dtypes of `like`.

    Raises:
        InputError: if it is not there, or damaged.
    """
    try:
        sealed = _read(folder, like, alone=True)
        problem = "" if _intact(sealed) else _CHANGED
    except Exception as error:  # As above: any error means that the folder cannot be used.
        sealed, problem = {}, _damage(error)
    if problem:
        raise InputError(f"{folder} cannot be read ({problem}); run the experiment again with fresh")
    return jax.tree.map(jnp.asarray, sealed["saved"])


def save_model(path: Path, model: Any) -> None:
    """Save a fitted scikit-learn model as a file that runs no code when it is read."""
    from skops import io

    file = BytesIO(io.dumps(model))
    with zipfile.ZipFile(file, "a") as members:
        members.comment = _digest(members)
    atomic_write(path, file.getvalue())


def load_model(path: Path) -> Any:
    """The model that `save_model` saved.

    Raises:
        InputError: if it is not there, or damaged, or holds anything but scikit-learn's own types.
    """
    from skops import io

    try:
        if not path.is_file():
            raise FileNotFoundError
        raw = path.read_bytes()
        with zipfile.ZipFile(BytesIO(raw)) as members:
            if members.comment != _digest(members):
                raise ValueError(_CHANGED)
        return io.loads(raw)
    except Exception as error:  # As above: any error means that the file cannot be used.
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}); run the experiment again with fresh"
        ) from None


def _digest(members: zipfile.ZipFile) -> bytes:
    """sha256 of the names and contents in a zip file, in hexadecimal."""
    found = hashlib.sha256()
    for name in members.namelist():
        found.update(f"{name} {members.getinfo(name).file_size} ".encode() + members.read(name))
    return found.hexdigest().encode()


def _save(folder: Path, tree: Any, label: int = 0, alone: bool = False) -> None:
    import orbax.checkpoint as ocp

    sealed = {"saved": tree, "checksum": _checksum(tree, label)}
    with _literal(folder) as place, _checkpointer(alone) as checkpointer:
        checkpointer.save(place, args=ocp.args.StandardSave(sealed), force=True)
        if _first():
            for name in _ASIDE:
                path = place / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _checkpointer(alone: bool) -> Any:
    """What saves and restores; of several processes, one that does so alone waits for no other."""
    import orbax.checkpoint as ocp  # Takes a second: only a run pays for it.

    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(me, {me}, f"process-{me}") if alone else None
    given: Any = {} if options is None else {"multiprocessing_options": options}
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(**given), **given)


def _read(folder: Path, like: Any, alone: bool = False) -> dict[str, Any]:
    """What `_save` wrote: the pytree, and the checksum that it had. Read alone, it is in NumPy arrays."""
    import orbax.checkpoint as ocp

    if alone:
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    sealed = {"saved": like, "checksum": np.zeros((len(jax.tree.leaves(like)), 2), np.uint32)}
    abstract = sealed if alone else jax.tree.map(ocp.utils.to_shape_dtype_struct, sealed)
    with _literal(folder) as place, _checkpointer(alone) as checkpointer:
        found = checkpointer.restore(place, args=ocp.args.StandardRestore(abstract))
    # Orbax does not mind another shape.
    if [np.shape(leaf) for leaf in jax.tree.leaves(found)] != [leaf.shape for leaf in jax.tree.leaves(abstract)]:
        raise ValueError("it has other shapes")
    return found


def _intact(sealed: Any, label: int = 0) -> bool:
    """Whether a pytree has the checksum that was saved with it."""
    return np.array_equal(np.asarray(sealed["checksum"]), _checksum(sealed["saved"], label))


def _damage(error: Exception) -> str:
    """Words for damage that an error tells of.

    Raises:
        Exception: the error itself, if it tells of the system instead: then nothing is known to be damaged.
    """
    if system_reason(error):
        raise error
    return type(error).__name__


def _checksum(tree: Any, label: int = 0) -> np.ndarray:
    """uint32 `[leaves, 2]`: a checksum of all bits of each leaf, however it is spread over devices.

    A weighted sum, modulo 2^32, of the elements as integers. Weights are odd, so a change of one element changes it;
    they differ by place, leaf and label, so two that change places do, too. Of what is small it is computed by NumPy:
    that takes less time than compiling a program for it.
    """
    leaves = [_plain(leaf) for leaf in jax.tree.leaves(tree)]
    if several() or sum(leaf.nbytes for leaf in leaves) > _ON_HOST:
        return np.asarray(_on_device(leaves, label))
    return np.array([_on_host(leaf, i, label) for i, leaf in enumerate(leaves)], np.uint32).reshape(-1, 2)


def _plain(leaf: Any) -> Any:
    """A leaf as an array of numbers."""
    leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _mixed(number: Any, salt: int) -> Any:
    """The finalizer of MurmurHash3 (Appleby, public domain), of an array of uint32."""
    number = (number ^ np.uint32(salt)) * np.uint32(0x85EBCA6B)
    number = (number ^ (number >> 13)) * np.uint32(0xC2B2AE35)
    return number ^ (number >> 16)


def _start(i: int, label: Any) -> Any:
    """uint32 `[1]`: what the weights of a leaf begin with."""
    return _mixed(label + np.array([i * 0x9E3779B1 % 2**32], np.uint32), 0)


def _on_host(leaf: Any, i: int, label: int) -> list[int]:
    raw = np.ascontiguousarray(leaf).reshape(-1)
    words = raw.view({1: np.uint8, 2: np.uint16}.get(raw.dtype.itemsize, np.uint32)).astype(np.uint32)
    place = _start(i, np.array([label], np.uint32)) + np.arange(len(words), dtype=np.uint32)
    return [int((words * (_mixed(place, salt) | np.uint32(1))).sum(dtype=np.uint32)) for salt in (1, 2)]


@jax.jit
def _on_device(leaves: Sequence[Any], label: Any) -> jax.Array:
    def sums(leaf: Any, i: int) -> jax.Array:
        words = _words(jnp.asarray(leaf))
        start = _start(i, jnp.asarray(label).astype(jnp.uint32))[0]
        place, stride = jnp.full(words.shape, start), 1
        for axis in range(words.ndim - 1, -1, -1):
            place += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(stride % 2**32)
            stride *= words.shape[axis]
        return jnp.stack([(words * (_mixed(place, salt) | 1)).sum(dtype=jnp.uint32) for salt in (1, 2)])

    return jnp.stack([sums(leaf, i) for i, leaf in enumerate(leaves)]) if leaves else jnp.zeros((0, 2), jnp.uint32)


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of an array as uint32, one or more words an element."""
    if leaf.dtype == bool:
        leaf = leaf.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(leaf, {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32))
    return bits.astype(jnp.uint32)


@contextmanager
def _literal(folder: Path) -> Iterator[Path]:
    """A path of the folder that Orbax takes by the letter: it reads some as patterns, in which [1] stands for 1.

    Raises:
        InputError: for such a path, in a run of several processes.
    """
    absolute = folder.absolute()
    if not glob.has_magic(str(absolute)):
        yield absolute
        return
    if several():
        raise InputError(f"{folder}: give an out without [, ], * and ? to a run of several processes")
    with tempfile.TemporaryDirectory(prefix="jevo-") as name:
        alias = Path(name) / "folder"
        alias.symlink_to(absolute.parent)
        yield alias / absolute.name


def _first() -> bool:
    return jax.process_index() == 0
