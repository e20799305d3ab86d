"""Compiled programs are kept on disk: what one run compiled, no later run compiles again."""

import os
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
    # Most of a short run's programs are small, and there are hundreds of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def evict_oldest(folder: Path, limit: int) -> None:
    """Delete the oldest files of a folder, until it holds no more than `limit` bytes."""
    files = sorted(
        ((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(folder) if entry.is_file()),
        reverse=True,
    )
    held = 0
    for _, size, path in files:
        held += size
        if held > limit:
            Path(path).unlink(missing_ok=True)
