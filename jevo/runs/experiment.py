"""An experiment is a value, and one driver runs them all: load, compete, save, write the result, then draw."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jevo.data.datasets import Dataset, load
from jevo.data.values import Values
from jevo.errors import InputError
from jevo.runs.arguments import from_settings
from jevo.runs.champion import Answers, Champion, Saved, save_champion
from jevo.runs.compiled import use_compile_cache
from jevo.runs.config import RunConfig
from jevo.runs.contest import Contest, Outcome, comparison
from jevo.runs.machine import precision
from jevo.runs.processes import join
from jevo.runs.record import Run, open_run


class Report(NamedTuple):
    """What an experiment says of itself, beside what every experiment says.

    Attributes:
        findings: its own keys of `result.json`.
        notes: paragraphs of `report.md`.
        figures: for each PNG's name, what draws it at a path, and says what it shows.
        files: for each other file's name, what writes it at a path.
    """

    findings: Mapping[str, Any]
    notes: Sequence[str] = ()
    figures: Mapping[str, Callable[[Path], str]] = {}
    files: Mapping[str, Callable[[Path], None]] = {}


def captioned(caption: str, draw: Callable[..., Any], *arguments: Any) -> Callable[[Path], str]:
    """A figure: `draw(path, *arguments)`, and what it shows."""

    def drawn(path: Path) -> str:
        draw(path, *arguments)
        return caption

    return drawn


def load_dataset(config: RunConfig) -> Dataset:
    """The data set that the settings name."""
    return load(config.data, config.data_dir, label=config.label, header=config.header)


def prepare(config: RunConfig) -> None:
    """What comes before the first touch of a device: meet the other processes, and say where programs are kept.

    Raises:
        InputError: if the others cannot be reached.
    """
    join(config.coordinator, config.processes, config.process_id)
    if config.compile_cache:
        use_compile_cache()


class Experiment(NamedTuple):
    """All that one experiment is.

    Attributes:
        name: of it.
        config: its settings, which also say which of them never change a result, and which files a run writes.
        contest: `(config, dataset) -> Contest`: its own contestant, its control, and any references.
        report: `(run, contest, outcomes) -> Report`.
        answers: how a saved champion answers.
        dataset: what a run reads.
        contents: digests of what else a run reads, by name: if one has changed, it is another run.
        module: what `python -m` runs; by default `jevo.experiments.NAME`.
    """

    name: str
    config: type[RunConfig]
    contest: Callable[[Any, Dataset], Contest]
    report: Callable[[Run[Any], Contest, Mapping[str, Outcome]], Report]
    answers: Callable[[Saved], Champion]
    dataset: Callable[[Any], Dataset] = load_dataset
    contents: Callable[[Any], Mapping[str, str]] = lambda config: {}
    module: str = ""

    def run(self, config: RunConfig) -> dict[str, Any]:
        """Run the experiment, or go on with it, and return what `result.json` holds.

        Raises:
            InputError: for settings or data that cannot be used.
            Interrupted: after Ctrl-C or SIGTERM; call it again to go on.
        """
        prepare(config)
        dataset = self.dataset(config)
        contents = {"data": dataset.digest, **self.contents(config)}
        with open_run(self.name, config, contents) as opened, jax.default_matmul_precision(precision(config)):
            if done := opened.result():
                return done
            # All that can be refused is refused before anything in the folder changes.
            contest, outcomes = self.contest(config, dataset), {}
            with contest.resources, opened.begun() as run:
                run.announce(dataset)
                own, *_ = contest.contestants
                run.home.claim(contest.files().values())
                for name, contestant in contest.contestants.items():
                    outcomes[name] = contestant.compete(run, outcomes)
                save_champion(run.folder, outcomes[own].champion.champion, contest.task)
                report = self.report(run, contest, outcomes)
                run.home.claim([*report.files, *report.figures])
                for name, write in report.files.items():
                    write(run.folder / name)
                result = {**run.describe(dataset), **comparison(outcomes, config.seed), **report.findings}
                run.write_result(result)
                notes = [*report.notes, *contest.holes(run.folder)]
                run.write_report(result, self.module or f"jevo.experiments.{self.name}", report.figures, notes)
                return result

    def champion(self, folder: Path, result: Mapping[str, Any], front: int | None = None) -> Champion:
        """The champion of a finished run of this experiment.

        Args:
            folder: of the run.
            result: what its `result.json` holds.
            front: which member of the run's front to take instead, counted from 1.

        Raises:
            InputError: if something that it needs is missing or damaged.
        """
        saved = Saved(folder, from_settings(self.config, result["config"], f"{folder / 'result.json'}"), result, front)
        try:
            values = Values.from_json(result["data"]["values"], saved.shape)
            answer = self.answers(saved)
        except InputError:
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:  # It parses, but lies.
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise InputError(
                f"{folder / 'result.json'} does not fit its champion ({reason}); run the experiment again with fresh"
            ) from None

        def answered(x: np.ndarray) -> Answers:
            found = answer(values.stored(x))
            remade = found.reconstructions
            return found._replace(reconstructions=None if remade is None else values.source(remade))

        return answered
