"""Where networks begin: at weights that are there already, such as another run's champion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jevo.data.files import read_file
from jevo.errors import InputError
from jevo.networks import Network
from jevo.runs.folder import sha256
from jevo.runs.portable import WEIGHTS, Portable, from_safetensors, to_bytes
from jevo.types import Key, Member

Begun = Callable[[Network], Network]
"""`network -> network`, one whose `init` gives the weights that networks begin with."""


def as_it_is(network: Network) -> Network:
    """Fresh weights."""
    return network


def from_run(place: str) -> tuple[Begun, str]:
    """Networks that begin with the champion of a finished run, and the digest of that.

    Args:
        place: the folder of the run, or a `champion.safetensors`.

    Raises:
        InputError: if there is none. A champion of another network is refused when the network is known.
    """
    path = Path(place).expanduser()
    path = path / WEIGHTS if path.is_dir() else path
    try:
        digest = sha256(read_file(path))
    except OSError as error:
        raise InputError(
            f"start {place} has no champion to begin with ({path.name}: {error.strerror}); "
            f"give the folder of a finished run, or a {WEIGHTS}"
        ) from None
    return lambda network: _begun(network, from_safetensors(path, _shapes(network)).params), digest


def from_params(params: Member) -> tuple[Begun, str]:
    """Networks that begin with these weights, and the digest of them.

    Raises:
        InputError: when the network is known, if they are of another.
    """
    given = jax.tree.map(jnp.asarray, params)

    def begun(network: Network) -> Network:
        wanted, found = map(_described, (_shapes(network), given))
        if wanted != found:
            raise InputError(f"start has other arrays than the network: {found} instead of {wanted}")
        return _begun(network, given)

    return begun, sha256(to_bytes(Portable(given)))


def _shapes(network: Network) -> Any:
    return jax.eval_shape(network.init, jax.random.key(0))


def _described(params: Member) -> Any:
    return jax.tree.map(lambda leaf: f"{leaf.dtype} {list(leaf.shape)}", params)


def _begun(network: Network, params: Member) -> Network:
    def init(key: Key) -> Member:
        return params

    return network._replace(init=init)
