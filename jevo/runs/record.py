"""What a run writes of itself: its result and its report. Files are written whole or not at all."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

import jax

from jevo.data.datasets import SPLITS, Dataset
from jevo.data.files import atomic_write, read_file
from jevo.errors import InputError, shortened
from jevo.runs.arguments import as_arguments, resolved
from jevo.runs.config import Config
from jevo.runs.folder import Folder, open_folder, read_json, read_marker, require_shape, sha256
from jevo.runs.loggers import FILES
from jevo.runs.logs import Logs, open_logs
from jevo.runs.machine import device, precision, versions
from jevo.runs.page import page
from jevo.runs.report import decimal, entries, report, verdict


@contextmanager
def open_run(experiment: str, config: Config, contents: Mapping[str, str] = {}) -> Iterator["Run[Config]"]:
    """The folder of one run, as `open_folder` holds it. Nothing in it is changed.

    Args:
        experiment: its name.
        config: the settings of the run.
        contents: digests of what the settings only name, such as the data.

    Raises:
        InputError: if the folder holds a run with other settings or contents, and `fresh` is not set, or something that
            is not a run, or another process is at work in it.
    """
    name = _clean(f"{experiment}-{Path(config.data).stem}-{config.preset}")
    path = Path(config.out or f"runs/{name}-seed{config.seed}")
    files = ("result.json", "report.md", "report.html", *config.files)
    home = Folder(
        path, experiment, resolved(config), contents, config.free, files, config.fresh, config.longer, config.scheduled
    )
    with open_folder(home):
        yield Run(home, config)


def _clean(name: str) -> str:
    """A name of letters, digits, dots and dashes alone, which no shell and no library takes for a pattern."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name)[:80].strip("-.")


@dataclass(frozen=True)
class Run(Generic[Config]):
    """One run, as `open_run` gives it.

    Attributes:
        home: its folder.
        config: its settings.
        log: what is told of it elsewhere.
    """

    home: Folder
    config: Config
    log: Logs = field(default_factory=lambda: Logs({}))

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.home.path

    @contextmanager
    def begun(self) -> Iterator["Run[Config]"]:
        """The run as it may write to its folder, after what an earlier one left is deleted if the settings say so."""
        settings = {name: value for name, value in resolved(self.config).items() if name not in self.config.free}
        with self.home.begun() as home:
            home.claim(FILES if self.config.log else ())
            with open_logs(self.config.log, home.path, settings) as log:
                yield replace(self, home=home, log=log)

    @property
    def scratch(self) -> Path:
        """A folder for what is needed until the run is done; then it is deleted."""
        return self.folder / "checkpoints" / "scratch"

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, after saying that it is done; or None."""
        if self.config.fresh or not all((self.folder / name).exists() for name in ("result.json", "report.md")):
            return None
        if self.home.grows(read_marker(self.folder)):
            return None
        if jax.process_index() == 0:
            print(f"{self.folder} is done: see {self.folder / 'report.md'}, or start over with fresh")
        return read_result(self.folder)

    def announce(self, dataset: Dataset) -> None:
        """Say what begins, on what device."""
        where, note = device(), f" ({dataset.note})" if dataset.note else ""
        print(
            f"{self.home.experiment} on {dataset.name}{note}, on {where['count']} x {where['kind']} "
            f"with {precision(self.config)} products, into {self.folder}",
            *dataset.taken,
            sep="\n",
            flush=True,
        )

    def describe(self, dataset: Dataset) -> dict[str, Any]:
        """The part of `result.json` that says what was run, on what."""
        return {
            "experiment": self.home.experiment,
            "preset": self.config.preset,
            "config": resolved(self.config),
            "seed": self.config.seed,
            "data": {
                "name": dataset.name,
                **{name: len(getattr(dataset, name).y) for name in SPLITS},
                "shape": list(dataset.train.x.shape[1:]),
                "classes": list(dataset.classes),
                **({} if dataset.targets is None else {"targets": dataset.targets.to_json()}),
                "values": dataset.values.to_json(),
                "note": dataset.note,
                "taken": list(dataset.taken),
            },
            "contents": dict(self.home.contents),
            "device": device(),
            "precision": precision(self.config),
            "versions": versions(),
        }

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, and say how the experiment and its control did."""
        text = json.dumps(result, indent=2) + "\n"
        atomic_write(self.folder / "result.json", text)
        # The digest lies beside it: what is in the result itself is the same however often a run was interrupted.
        self.home.seal(text.encode())
        for name, entry in list(entries(result).items())[:2]:
            measured = ", ".join(f"{metric} {decimal(value)}" for metric, value in entry["metrics"]["test"].items())
            print(f"test  {name}: {measured}", flush=True)

    def write_report(
        self,
        result: Mapping[str, Any],
        module: str,
        figures: Mapping[str, Callable[[Path], str]],
        notes: Sequence[str] = (),
    ) -> None:
        """Draw the figures and write `report.md`: from now on the run is done.

        Args:
            result: what `result.json` holds.
            module: that `python -m` runs.
            figures: for each PNG's name, what draws it at a path, and says what it shows. One that fails is a note in
                the report: no run is lost for a picture.
            notes: paragraphs for the report.
        """
        captions, failures = {}, []
        for name, draw in figures.items():
            try:
                captions[name] = draw(self.folder / name)
            except Exception as error:  # Whatever a drawing may raise.
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                failures.append(f"{name} could not be drawn: {shortened(reason, 200)}")
                print(failures[-1], flush=True)
        command = shlex.join(["python", "-m", module, *as_arguments(self.config)])
        text = report(result, command, captions, [*notes, *failures])
        atomic_write(self.folder / "report.html", page(text, self.folder))
        atomic_write(self.folder / "report.md", text)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.log.show([self.folder / name for name in captions])
        print(
            verdict(result).replace("**", ""),
            f"report in {self.folder / 'report.md'}, and report.html",
            sep="\n",
            flush=True,
        )


def read_result(folder: Path) -> dict[str, Any]:
    """The `result.json` of a finished run.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    path = folder / "result.json"
    if not path.exists():
        raise InputError(f"{folder} holds no finished run (no result.json there); run the experiment to its end")
    advice = "run the experiment again with fresh"
    result = read_json(path, advice)
    require_shape(result, _RESULT, path, advice)
    require_shape(result, _even(result), path, advice)
    if _written(folder) not in ("", sha256(read_file(path))):
        raise InputError(f"{path} was changed, or damaged, since it was written; {advice}")
    return result


def _written(folder: Path) -> str:
    """The digest of the result that a run has written; "" where the result alone was kept, or its marker is damaged."""
    try:
        return read_marker(folder)["result"]
    except InputError:
        return ""


def _even(result: Mapping[str, Any]) -> dict[str, Any]:
    """The shape that a result has beyond that of all: each of those compared has the same metrics, in every repeat, and
    spends of the same."""

    def compared(judged: Any) -> dict[str, Any]:
        return {**judged, "control": judged, "references": dict.fromkeys(result["references"], judged)}

    judged = {"metrics": {split: dict.fromkeys(result["metrics"]["test"], _NUMBER) for split in SPLITS}}
    passes = {"example_passes": int} if "example_passes" in result["budget"] else {}
    front = [{"metrics": {split: {str: _NUMBER} for split in SPLITS}}]  # Of some experiments it is judged by fewer.
    optional = {
        "contents": {str: str},
        "front": front,
        "outputs": int,
        "estimates": [int],
        "repeats": [{"seed": int, **compared(judged)}],
    }
    return compared(judged | {"budget": passes}) | {name: shape for name, shape in optional.items() if name in result}


_NUMBER = (int, float)
_METRICS = {split: {str: _NUMBER} for split in SPLITS}
_BUDGET = {"evaluations": int, "gradient_steps": int, "wall_s": _NUMBER, "compile_s": _NUMBER}
_RESULT = {
    "experiment": str, "preset": str, "config": {}, "seed": int, "metrics": _METRICS, "budget": _BUDGET,
    "data": {"name": str, "shape": [int], "classes": [str], "note": str, **dict.fromkeys(SPLITS, int)},
    "control": {"name": str, "metrics": _METRICS, "budget": _BUDGET},
    "references": {str: {"metrics": _METRICS, "budget": _BUDGET}},
}  # fmt: skip
"""The shape of a result, as `require_shape` takes it."""
