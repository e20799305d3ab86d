"""TensorBoard, Weights & Biases and MLflow, as the logs of a run tell them; each is imported when it is asked for."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jevo.data.files import atomic_write
from jevo.errors import InputError, require

NAMES = "log.json"
"""In the folder of a run, what its logs are called where they are."""
FILES = (NAMES, "tensorboard", "wandb")
"""What loggers write there."""


class Row(NamedTuple):
    """A line of a metrics file, as a logger has it.

    Attributes:
        part: the file's name without its end: `metrics`, or a control's or reference's.
        generation: of the line.
        scalars: its numbers, by name, `generation` among them.
    """

    part: str
    generation: int
    scalars: Mapping[str, float]

    @property
    def named(self) -> dict[str, float]:
        """The numbers by names that no other part has: `metrics/best`."""
        return {f"{self.part}/{name}": value for name, value in self.scalars.items()}


class Logger(Protocol):
    """One log of one run, which may have been told some of it before. Whatever it raises is the end of it."""

    def known(self) -> Mapping[str, int]:
        """The last generation of each part that it was told before."""
        ...

    def tell(self, rows: Sequence[Row]) -> None:
        """Tell of what comes next. When it returns, no kill of this process can make the log forget it, as far as the
        package has a way to say so."""
        ...

    def show(self, pictures: Sequence[Path]) -> None:
        """Show pictures, PNGs."""
        ...

    def close(self) -> None:
        """Have all of it be where it belongs."""
        ...


class TensorBoard:
    """Event files in the run's folder `tensorboard`, by tensorboardX; what they hold is read back.

    Args:
        folder: of the run.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        from tensorboardX import SummaryWriter

        there = sorted((folder / "tensorboard").glob("*.tfevents.*"))
        self._last: dict[str, int] = {}
        for event in (event for path in there for event in _events(path.read_bytes())):
            for value in event.summary.value:
                self._last[value.tag] = max(event.step, self._last.get(value.tag, -1))
        # Without a name of its own, a file that is made in the same second would take the place of another.
        self._writer = SummaryWriter(str(folder / "tensorboard"), filename_suffix=f".{len(there)}")
        if not self._last:
            self._writer.add_text("settings", f"```json\n{json.dumps(dict(settings), indent=2)}\n```")

    def known(self) -> Mapping[str, int]:
        return {n.rpartition("/")[0]: last for n, last in self._last.items() if n.endswith("/generation")}

    def tell(self, rows: Sequence[Row]) -> None:
        for row in rows:
            # The generation goes last: where it is, all of its row is. A kill may have left a part of the row after.
            for name, value in sorted(row.named.items(), key=lambda entry: entry[0] == f"{row.part}/generation"):
                if row.generation > self._last.get(name, -1):
                    self._writer.add_scalar(name, value, row.generation)
        self._writer.flush()

    def show(self, pictures: Sequence[Path]) -> None:
        from PIL import Image

        for path in pictures:
            if path.stem not in self._last:
                with Image.open(path) as image:
                    self._writer.add_image(path.stem, np.asarray(image.convert("RGB")), dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _events(raw: bytes) -> Iterator[Any]:
    """The events in a file of records (length, checksum, content, checksum), up to one that a kill cut short."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto import event_pb2

    place, kind = 0, getattr(event_pb2, "Event")  # noqa: B009 (made when it is imported, so that no type checker sees it)
    while place + 12 <= len(raw):
        length = int.from_bytes(raw[place : place + 8], "little")
        content, place = raw[place + 12 : place + 12 + length], place + 16 + length
        if place > len(raw):
            return
        with suppress(DecodeError):
            yield kind.FromString(content)


class WandB:
    """A run of Weights & Biases, in the project that WANDB_PROJECT names, else `jevo`. Where WANDB_MODE is offline its
    file lies in the run's folder `wandb`, for `wandb sync`.

    Args:
        folder: of the run.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        import wandb

        name = named(folder, "wandb", lambda: secrets.token_hex(8))
        # What an offline session leaves, however it ended, cannot be added to: this one tells all again in its place.
        for path in (folder / "wandb").glob(f"offline-run-*-{name}"):
            shutil.rmtree(path, ignore_errors=True)
        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jevo"),
            id=name,
            name=folder.name,
            dir=str(folder),
            config=dict(settings),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        self._parts: set[str] = set()

    def known(self) -> Mapping[str, int]:
        if not self._run.resumed:
            return {}
        summary: Any = self._run.summary
        return {n.rpartition("/")[0]: int(summary[n]) for n in list(summary.keys()) if n.endswith("/generation")}

    def tell(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.part not in self._parts:
                self._parts.add(row.part)
                self._run.define_metric(f"{row.part}/*", step_metric=f"{row.part}/generation")
            self._run.log(row.named)

    def show(self, pictures: Sequence[Path]) -> None:
        self._run.log({path.stem: self._image(str(path)) for path in pictures})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow, where MLFLOW_TRACKING_URI says (else where MLflow has it: `mlflow.db` in the folder that the
    command runs in), in the experiment that MLFLOW_EXPERIMENT_NAME names, else `jevo`.

    Args:
        folder: of the run.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()

        def made() -> str:
            called = os.environ.get("MLFLOW_EXPERIMENT_NAME", "jevo")
            there = self._client.get_experiment_by_name(called)
            experiment = there.experiment_id if there else self._client.create_experiment(called)
            run = self._client.create_run(experiment, run_name=folder.name).info.run_id
            self._client.log_batch(run, params=[Param(name, str(value)[:6000]) for name, value in settings.items()])
            return run

        self._id = named(folder, "mlflow", made)
        try:
            last = self._client.get_run(self._id).data.metrics
        except MlflowException:  # Another server, or another folder.
            self._id, last = named(folder, "mlflow", made, anew=True), {}
        self._client.update_run(self._id, status="RUNNING")
        self._known = {n.rpartition("/")[0]: int(value) for n, value in last.items() if n.endswith("/generation")}

    def known(self) -> Mapping[str, int]:
        return self._known

    def tell(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        batch: list[Any] = []
        for row in rows:
            own = [Metric(name, value, now, row.generation) for name, value in row.named.items()]
            if batch and len(batch) + len(own) > 1000:  # As many as a server takes.
                self._client.log_batch(self._id, metrics=batch)
                batch = []
            batch += own
        self._client.log_batch(self._id, metrics=batch)

    def show(self, pictures: Sequence[Path]) -> None:
        for path in pictures:
            self._client.log_artifact(self._id, str(path))

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Kind(NamedTuple):
    """A kind of logger.

    Attributes:
        make: opens the log of the run in a folder, with these settings.
        package: that it needs, as it is imported.
    """

    make: Callable[[Path, Mapping[str, Any]], Logger]
    package: str


LOGGERS = {
    "tensorboard": Kind(TensorBoard, "tensorboardX"),
    "wandb": Kind(WandB, "wandb"),
    "mlflow": Kind(MLflow, "mlflow"),
}
"""By the name that the setting `log` and the extra have."""


def require_loggers(names: Sequence[str]) -> None:
    """Raise an InputError unless there are loggers of these names, and their packages are installed."""
    require(not isinstance(names, str), "log", names, f"a list, of {', '.join(LOGGERS)}")
    for name in names:
        require(name in LOGGERS, "log", name, f"{', '.join(LOGGERS)}, any of them")
        found = find_spec(LOGGERS[name].package)
        # A folder of that name beside the command, which wandb makes, is found, too, but has no origin.
        if found is None or found.origin is None:
            raise InputError(f"the log {name} needs the package {LOGGERS[name].package}: pip install 'jevo[{name}]'")


def named(folder: Path, logger: str, made: Callable[[], str], anew: bool = False) -> str:
    """What the log of a run is called, made if it has no name yet, or is to have another."""
    path, names = folder / NAMES, {}
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        names = {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}
    if anew or logger not in names:
        names[logger] = made()
        atomic_write(path, json.dumps(names, indent=2) + "\n")
    return names[logger]
