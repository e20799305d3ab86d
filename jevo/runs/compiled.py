"""Compiled programs are kept on disk: what one run compiled, no later run compiles again."""

import os
import warnings
from contextlib import suppress
from pathlib import Path

import jax

from jevo.data import cache

LIMIT = 4 * 2**30
"""What the folder may hold; beyond it, the oldest programs go at the next start [bytes]."""


def use_compile_cache() -> None:
    """Have JAX keep what it compiles in the cache folder, unless the user has told JAX where, or not to.

    JAX's own settings come first: `JAX_COMPILATION_CACHE_DIR` names another folder, `JAX_ENABLE_COMPILATION_CACHE=0`
    keeps nothing. A folder that cannot be written is no reason to fail: JAX then compiles as if there were none.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = cache.folder() / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        evict_oldest(folder, LIMIT)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A full disk keeps nothing, which hundreds of programs need not say.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    # Most of a short run's programs are small, and there are hundreds of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def evict_oldest(folder: Path, limit: int) -> None:
    """Delete the oldest files of a folder, until it holds no more than `limit` bytes.

    JAX's own limit (`jax_compilation_cache_max_size`) is not used: with it every new program reads the times of all
    that are there, and a process that was killed between writing a program and its time leaves a folder in which
    nothing is kept any more.
    """
    found = []
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # Another process is at it, too.
            if entry.is_file():
                found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
    held = 0
    for _, size, path in sorted(found, reverse=True):
        held += size
        if held > limit:
            Path(path).unlink(missing_ok=True)
