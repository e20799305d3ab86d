"""Checkpoints of a running stage, with Orbax: written whole or not at all, the last few kept and the best."""

from pathlib import Path
from typing import Any

import jax

from jevo.data.files import atomic_write
from jevo.errors import InputError
from jevo.runs.processes import all_max


class Checkpoints:
    """The checkpoints in one folder, numbered by generation.

    Args:
        folder: made if need be.
        keep: how many of the latest to keep, beside the best one.
    """

    def __init__(self, folder: Path, keep: int = 2):
        # Orbax takes a second to import: only a run pays for it.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as managers

        self._ocp = ocp
        latest, best = managers.LatestN(keep), managers.BestN(get_metric_fn=lambda metrics: metrics["score"], n=1)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([latest, best]),
            best_fn=lambda metrics: metrics["score"],
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
        )
        try:
            self._manager = ocp.CheckpointManager(folder.resolve(), options=options)
        except ValueError as error:  # A score that is not JSON: the list of checkpoints itself is damaged.
            raise InputError(f"the checkpoints in {folder} cannot be read ({error}); start over with fresh") from None

    def save(self, generation: int, carry: Any, score: float) -> None:
        """Save a pytree of arrays; `score`, higher is better, decides which checkpoint is the best."""
        if generation in self._manager.all_steps():
            return
        self._manager.save(generation, args=self._ocp.args.StandardSave(carry), metrics={"score": score})

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
        abstract = jax.tree.map(self._ocp.utils.to_shape_dtype_struct, like)
        damaged = []
        for generation in sorted(self._manager.all_steps(), reverse=True):
            carry, problem = None, ""
            try:
                carry = self._manager.restore(generation, args=self._ocp.args.StandardRestore(abstract))
            except Exception as error:  # Orbax raises whatever the damaged file provokes in its parsers.
                problem = type(error).__name__
            # A part that one process cannot read is missing to all.
            if any(all_max(bool(problem))):
                reason = problem or "in a part of another process"
                damaged.append(f"checkpoint {generation} is damaged ({reason}); going back to an older one")
                continue
            for line_generation in [g for g in self._manager.all_steps() if g > generation]:
                self._manager.delete(line_generation)
            return generation, carry, damaged
        if damaged:
            raise InputError(f"no checkpoint in {self._manager.directory} can be read; start over with fresh")
        return -1, like, []

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()


def save_arrays(folder: Path, tree: Any) -> None:
    """Save a pytree of arrays in a folder of its own, replacing what is there."""
    import orbax.checkpoint as ocp

    # Of several processes each saves to a folder of its own, and waits for no other.
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(me, {me}, f"process-{me}")
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        checkpointer.save(folder.absolute(), args=ocp.args.StandardSave(jax.device_get(tree)), force=True)


def save_model(path: Path, model: Any) -> None:
    """Save a fitted scikit-learn model as a file that runs no code when it is read."""
    from skops import io

    atomic_write(path, io.dumps(model))


def load_model(path: Path) -> Any:
    """The model that `save_model` saved.

    Raises:
        InputError: if it is not there, or damaged, or holds anything but scikit-learn's own types.
    """
    from skops import io

    try:
        return io.loads(path.read_bytes())
    except Exception as error:  # As above: any error means that the file cannot be used.
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}); run the experiment again with fresh"
        ) from None


def load_arrays(folder: Path, like: Any) -> Any:
    """The pytree that `save_arrays` saved, with the structure, shapes and dtypes of `like`.

    Raises:
        InputError: if it is not there, or damaged.
    """
    import orbax.checkpoint as ocp

    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder.absolute(), jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
    except Exception as error:  # As above: any error means that the folder cannot be used.
        raise InputError(
            f"{folder} cannot be read ({type(error).__name__}); run the experiment again with fresh"
        ) from None
