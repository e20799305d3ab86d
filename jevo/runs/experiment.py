"""An experiment is a value, and one driver runs them all: load, compete, save, write the result, then draw."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from jevo import plots
from jevo.data.datasets import Dataset, load
from jevo.data.targets import learnt
from jevo.errors import InputError, require
from jevo.networks import Network
from jevo.runs.arguments import from_settings, resolved
from jevo.runs.champion import Answers, Champion, Saved, save_champion
from jevo.runs.compiled import use_compile_cache
from jevo.runs.config import RunConfig
from jevo.runs.contest import Contest, Outcome, comparison
from jevo.runs.loggers import require_loggers
from jevo.runs.machine import precision
from jevo.runs.own import (
    Given,
    Make,
    build_own,
    checked_goal,
    find,
    find_goal,
    given_name,
    goal_digest,
    is_own,
    program_digest,
)
from jevo.runs.portable import Portable, card, save_portable
from jevo.runs.processes import join
from jevo.runs.record import Run, open_run
from jevo.runs.report import sizes, table
from jevo.runs.start import from_params, from_run
from jevo.training.criterion import Criterion, Goal, criterion_of
from jevo.types import Member


class Report(NamedTuple):
    """What an experiment says of itself, beside what every experiment says.

    Attributes:
        findings: its own keys of `result.json`.
        notes: paragraphs of `report.md`.
        figures: for each PNG's name, what draws it at a path, and says what it shows: those that a finished run's
            folder does not suffice for.
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


def answers_figure(dataset: Dataset, predicted: np.ndarray, whose: str) -> dict[str, Callable[[Path], str]]:
    """What shows how somebody answers on the test set: the confusion matrix, or estimates and residuals.

    Args:
        dataset: all three sets.
        predicted: what `Judged` has.
        whose: the champion's, say.
    """
    if dataset.targets is None:
        caption = f"{whose} confusion matrix on the test set."
        draw = captioned(caption, plots.confusion_matrix, dataset.test.y, predicted, dataset.classes)
        return {"confusion.png": draw}
    caption = f"{whose} estimates on the test set, in units of the targets, and their residuals."
    return {"estimates.png": captioned(caption, plots.estimates, dataset.test.y, predicted, dataset.targets.names)}


def load_dataset(config: RunConfig, regression: bool = False) -> Dataset:
    """The data set that the settings name."""
    return load(config.data, config.data_dir, config.validation, config.label, config.header, regression)


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
        contest: `(config, dataset, given) -> Contest`: its own contestant, its control, and any references.
        report: `(run, contest, outcomes) -> Report`.
        answers: how a saved champion answers.
        portable: the same champion as plain arrays, for whoever has no jevo, and what they compute with them.
        figures: of a finished run, those that its folder suffices for: for each PNG's name, what draws it at a path and
            says what it shows, or raises an InputError that says what is missing.
        seen: `(config, dataset) -> dataset`: what a run sees of a data set.
        contents: digests of what else a run reads, by name: if one has changed, it is another run.
        module: what `python -m` runs; by default `jevo.experiments.NAME`.
        own_network: whether the network may be the user's own; then a setting `network` names it.
    """

    name: str
    config: type[RunConfig]
    contest: Callable[..., Contest]
    report: Callable[[Run[Any], Contest, Mapping[str, Outcome]], Report]
    answers: Callable[[Saved], Champion]
    portable: Callable[[Saved], Portable]
    figures: Callable[[Saved], Mapping[str, Callable[[Path], str]]] = lambda saved: {}
    seen: Callable[[Any, Dataset], Dataset] = lambda config, dataset: dataset
    contents: Callable[[Any], Mapping[str, str]] = lambda config: {}
    module: str = ""
    own_network: bool = False

    def run(
        self,
        config: Any,
        *,
        dataset: Dataset | None = None,
        network: Network | Make | None = None,
        goal: Goal | None = None,
        start: Member | None = None,
    ) -> dict[str, Any]:
        """Run the experiment, or go on with it, and return what `result.json` holds.

        Args:
            config: its settings.
            dataset: in place of the one that they name, such as `data.from_arrays` makes.
            network: in place of the one that they describe: a Network, or what makes one (`jevo.runs.own.Make`).
            goal: in place of the one that they name: a task of your own.
            start: in place of the run that they name: params of the network, with which it begins.

        Raises:
            InputError: for settings, data or a network that cannot be used.
            Interrupted: after Ctrl-C or SIGTERM; call it again to go on.
        """
        if network is not None:
            require(self.own_network, "network", "your own", f"none in {self.name}, which builds its own")
            config = dataclasses.replace(config, network=given_name(network))
        if start is not None:
            require(self.own_network, "start", "params", f"none in {self.name}")
            config = dataclasses.replace(config, start="python:params")
        if goal is not None:
            config = dataclasses.replace(config, goal=given_name(checked_goal(goal, "goal")))
        if dataset is not None:
            named = config.goal if goal or is_own(config.goal) or dataset.targets is None else "regression"
            config = dataclasses.replace(config, data=dataset.name, goal=named)
        require_loggers(config.log)
        prepare(config)
        theirs, source = (goal, "") if goal or not is_own(config.goal) else find_goal(config.goal)
        kind = theirs.kind if theirs else config.goal
        dataset = self.dataset(config, dataset, regression=kind == "regression")
        criterion = criterion_of(config.goal, theirs, dataset)
        given, digests = self._given(config, network, start, dataset.train.x.shape[1:], criterion)
        if theirs:
            labels = jnp.asarray(learnt(dataset.train.y[:2], dataset.targets))
            digests["goal"] = source or goal_digest(theirs, criterion, labels)
        contents = {"data": dataset.digest, **digests, **self.contents(config)}
        with open_run(self.name, config, contents) as opened, jax.default_matmul_precision(precision(config)):
            if done := opened.result():
                return done
            # All that can be refused is refused before anything in the folder changes.
            contest, outcomes = self.contest(config, dataset, given), {}
            with contest.resources, opened.begun() as run:
                run.announce(dataset)
                own, *_ = contest.contestants
                run.home.claim(contest.files().values())
                for name, contestant in contest.contestants.items():
                    outcomes[name] = contestant.compete(run, outcomes)
                save_champion(run.folder, outcomes[own].champion.champion, contest.task)
                report = self.report(run, contest, outcomes)
                more = {"outputs": criterion.outputs, "estimates": list(criterion.estimates)} if theirs else {}
                result = {**run.describe(dataset), **comparison(outcomes, config.seed), **more, **report.findings}
                saved = Saved(run.folder, config, result, network=given.network)
                figures = {**self.figures(saved), **report.figures}
                run.home.claim([*report.files, *figures])
                for name, write in report.files.items():
                    write(run.folder / name)
                run.write_result(result)
                notes = [*report.notes, *contest.holes(run.folder), *self._leave(saved)]
                run.write_report(result, self.module or f"jevo.experiments.{self.name}", figures, notes)
                return result

    def _leave(self, saved: Saved) -> list[str]:
        """Write the champion for whoever has no jevo, and say where it is."""
        if jax.process_index() != 0:  # The others of a run have no champion of their own.
            return []
        try:
            portable = self.portable(saved)
            save_portable(saved.folder, portable, self._card(saved, portable))
        except InputError as error:
            return [f"The champion is only in jevo's own form: {error}"]
        return ["The champion for whoever has no jevo: `champion.safetensors`, and `champion.md` says how to use it."]

    def _card(self, saved: Saved, portable: Portable) -> str:
        result = saved.result
        data = result["data"]
        settings = {name: value for name, value in resolved(saved.config).items() if name not in self.config.free}
        # Where the user's own files lay is of no use elsewhere.
        files = (name for name in ("data", "network", "space", "first", "goal") if settings.get(name))
        settings |= {name: Path(settings[name]).name for name in files}
        return card(
            f"The champion of {self.name} on {data['name']}",
            [
                f"Found by jevo {result['versions']['jevo']}, experiment {self.name}, seed {result['seed']}. "
                "Validation data chose it; the test set was used once, for the numbers below. The control had the same "
                "budget.",
                f"Data: {data['name']}{', ' + data['note'] if data['note'] else ''}: {sizes(data)} examples of shape "
                f"{data['shape']}, {saved.values.described()}; {saved.kinds}.",
                table([result]),
                f"Settings:\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip()}\n```",
            ],
            portable,
        )

    def dataset(self, config: Any, given: Dataset | None = None, regression: bool = False) -> Dataset:
        """What a run of these settings sees: of the data set that they name, or of one that is given instead."""
        return self.seen(config, load_dataset(config, regression) if given is None else given)

    def _given(
        self,
        config: Any,
        network: Network | Make | None,
        start: Member | None,
        shape: tuple[int, ...],
        criterion: Criterion,
    ) -> tuple[Given, dict[str, str]]:
        """What the contest is made with, and what the user's own network and its first weights are known by."""
        given, digests = Given(criterion), {}
        if found := self._own(config, network, shape, criterion.outputs):
            given, digests["network"] = given._replace(network=found[0]), found[1]
        if self.own_network and config.start:
            begun, digests["start"] = from_run(config.start) if start is None else from_params(start)
            given = given._replace(begun=begun)
        return given, digests

    def _own(
        self, config: Any, network: Network | Make | None, shape: tuple[int, ...], outputs: int
    ) -> tuple[Network, str] | None:
        """The user's own network, and what it is known by."""
        if not self.own_network or not is_own(config.network):
            return None
        if network is not None:
            built = build_own(network, shape, outputs, config.network)
            return built, program_digest(built, shape)
        make, digest = find(config.network)
        return build_own(make, shape, outputs, config.network), digest

    def redrawn(self, folder: Path, result: Mapping[str, Any]) -> Mapping[str, Callable[[Path], str]]:
        """The figures of a finished run that its folder suffices for, as `figures` has them.

        Args:
            folder: of the run.
            result: what its `result.json` holds.

        Raises:
            InputError: if the settings in it are none of this experiment's.
        """
        return self.figures(
            Saved(folder, from_settings(self.config, result["config"], f"{folder / 'result.json'}"), result)
        )

    def champion(
        self,
        folder: Path,
        result: Mapping[str, Any],
        front: int | None = None,
        network: str | Network | Make | None = None,
    ) -> Champion:
        """The champion of a finished run of this experiment.

        Args:
            folder: of the run.
            result: what its `result.json` holds.
            front: which member of the run's front to take instead, counted from 1.
            network: of a run with a network of the user's own, that one, or its name as `FILE.py:NAME`. What a run's
                folder names is never imported.

        Raises:
            InputError: if something that it needs is missing or damaged, or if the network is another one.
        """
        config: Any = from_settings(self.config, result["config"], f"{folder / 'result.json'}")
        saved = Saved(folder, config, result, front)
        theirs = self.own_network and is_own(config.network)
        if theirs and network is None:
            raise InputError(
                f"the network of {folder} is your own ({config.network}); give it, too (--network FILE.py:NAME)"
            )
        require(theirs or network is None, "network", network, f"none: {folder} has one of jevo's")
        if theirs:
            named = isinstance(network, str)
            asked = dataclasses.replace(config, network=network) if named else config
            found = self._own(asked, None if named else network, saved.shape, saved.outputs)
            assert found
            if result["contents"].get("network") != found[1]:
                raise InputError(f"network {asked.network}: its contents have changed since {folder} was made with it")
            saved = saved._replace(network=found[0])
        try:
            values = saved.values
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
