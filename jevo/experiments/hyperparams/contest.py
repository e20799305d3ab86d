"""Who competes in the hyperparameter experiment: searches that train on the host's orders, one after another."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from jevo.data.datasets import Dataset
from jevo.data.task import to_device
from jevo.errors import InputError
from jevo.experiments import elsewhere
from jevo.experiments.hyperparams.config import Config
from jevo.experiments.hyperparams.first import read_first
from jevo.experiments.hyperparams.journal import Found, Journal, OnFront, ProgressStore, WeightStore, front_of
from jevo.experiments.hyperparams.search import (
    budget,
    halving,
    objectives,
    read_space,
    strategy,
    trainer,
    training_backend,
)
from jevo.experiments.hyperparams.study import Study, close_storage, new_name, open_storage
from jevo.hyperparams import Genome, Halving, Objectives, Space, Strategy, Trial, best_trial
from jevo.mixed import Architecture, Job, MemberSpec, MixedTrainer, Worker, architecture, network
from jevo.runs import (
    Champion,
    Contest,
    Contestant,
    Judged,
    Lines,
    LiveTable,
    Outcome,
    Portable,
    Run,
    Saved,
    StopSignal,
    judging,
    metrics_file,
)
from jevo.runs.loggers import NAMES, named
from jevo.runs.own import Given
from jevo.types import Member

Opening = Callable[[Mapping[str, Outcome]], tuple[Strategy, int | None]]
"""`earlier outcomes -> (strategy, how many generations it will ask for, if that is known)`."""

MOST = 1_000_000
"""Genomes that brute force trains."""


@dataclass(frozen=True)
class GenomeSearch:
    """A contestant that proposes genomes and has them trained.

    Attributes:
        name: of the search.
        opening: its strategy, which may depend on what those before it have spent.
        space: of the genomes.
        trainer: trains them; all contestants share it, with its programs.
        judge: `(architecture, params) -> Judged`.
        objectives: of a search for a front.
        rungs: at which its genomes are halved, if they are.
        storage: of Optuna's, where it is a study, too; None: nowhere.
    """

    name: str
    opening: Opening
    space: Space
    trainer: MixedTrainer
    judge: Callable[[Architecture, Member], Judged]
    objectives: Objectives | None = None
    rungs: Halving | None = None
    storage: Any = None

    def compete(self, run: Run, earlier: Mapping[str, Outcome]) -> Outcome:
        """Search to the end, and judge the best genome with the weights that it was scored with."""
        (run.folder / "checkpoints").mkdir(exist_ok=True)
        chosen, generations = self.opening(earlier)
        path = run.folder / "genomes.jsonl"
        with (
            StopSignal() as stop,
            LiveTable(("score", "generation", "genome")) as table,
            Lines(path, durable=True) as lines,
        ):
            weights = WeightStore(run.scratch)
            self.trainer.kept = ProgressStore(run.scratch / "kept", self.trainer.begin)
            own = next(iter(earlier), self.name)
            file = metrics_file(self.name, own)
            tell, study = partial(run.log.tell, file), self._study(run, table)
            journal = Journal(self.name, generations, path, lines, weights, table, stop, tell, self.objectives, study)
            if journal.known and not earlier:
                table.say(f"goes on with {len(journal.known)} genomes trained")
            found = journal.search(chosen, self.trainer)
            champion = best_trial(found.trials)
            assert champion, "a search that has ended has a best genome"
            judged = self.judge(*weights_of(champion, weights, self.trainer, table))
            front = front_of(found.trials, self.objectives) if self.objectives else []
            # Of the members of the front only what was judged is held: their weights are on the disk.
            found = found._replace(
                front=[
                    OnFront(
                        trial,
                        partial(weights_of, trial, weights, self.trainer, table),
                        self.judge(*weights_of(trial, weights, self.trainer, table)).metrics,
                    )
                    for trial in front
                ]
            )
        found.write_metrics(run.folder / file)
        return Outcome(found, found.budget, [judged])

    def _study(self, run: Run, table: LiveTable) -> Study | None:
        if self.storage is None:
            return None
        run.home.claim([NAMES])
        name = f"{named(run.folder, 'study', lambda: new_name(run.folder))}/{self.name}"
        table.say(f"study {name}")
        about = {"run": run.folder.name, "search": self.name, "data": run.config.data, "space": run.config.space}
        return Study(self.storage, name, self.space, self.rungs.rungs[-1] if self.rungs else None, about)

    def traced(self) -> Iterator[jax.stages.Traced]:
        """The programs that train a few genomes of the space."""
        trainer = replace(self.trainer)  # What is only looked at counts as compiled for nobody.
        genomes = [self.space.decode(self.space.init(jax.random.key(seed))) for seed in range(4)]
        worker = Worker(trainer.task, trainer.training)
        for batch in trainer.plan(genomes).plan.batches[:2]:
            members = [i % len(genomes) for i in batch.members]
            specs = tuple(MemberSpec(i, 0, trainer.architecture(genomes[i])[0], 0) for i in members)
            yield worker.traced(Job(batch.program, specs))


def contest(config: Config, dataset: Dataset, given: Given) -> Contest:
    """The search and its controls, each at as many epochs as the first."""
    if not given.criterion.classifies:
        config.require_no_classes(("fitness",))
    space, task = read_space(config.space), to_device(dataset)
    own_key, random_key = jax.random.split(jax.random.key(config.seed))
    asks = config.generations + 1
    if config.search == "brute":
        space.genomes()  # Says which gene has no end of values.
        size = int(space.size())
        if size > MOST:
            raise InputError(
                f"space {config.space} has more than {MOST:,} genomes, too many for the search brute; "
                "take genetic or random, or a smaller space"
            )
        asks = 1 if config.halving else -(-size // config.population)
    rungs = halving(config, space)
    most, begun = budget(config, space, rungs), first_genomes(config, space)

    def opening(name: str, halved: Halving | None, earlier: Mapping[str, Outcome]) -> tuple[Strategy, int | None]:
        if not earlier:
            known = config.search in ("genetic", "brute")
            return strategy(config, space, name, own_key, halved, most, begun), asks if known else None
        first: Found = earlier[config.search].found
        # Random search begins with the same first population, Optuna's samplers draw their own.
        same = config.search == "genetic" and name == "random"
        start = [t.genome for t in first.generations[0].trials] if same else begun
        return strategy(config, space, name, random_key, halved, first.generations[-1].spent, start), None

    def judge(of: Architecture, params: Member) -> Judged:
        return judging(network(of), given.criterion, task, dataset)(params)

    names: dict[str, tuple[str, Halving | None]] = {
        config.search: (config.search, rungs),
        "random_search": ("random", None),
    }
    if rungs and config.search != "random":
        names["random_halving"] = "random", rungs
    if config.control == "optuna":
        names |= {"tpe": ("tpe", None), **({"tpe_hyperband": ("tpe", rungs)} if rungs else {"nsga2": ("nsga2", None)})}
    with ExitStack() as stack:
        backend = stack.enter_context(training_backend(config))
        train = trainer(config, space, task, given.criterion, backend)
        storage = open_storage(config.study) if config.study else None
        stack.callback(close_storage, storage)
        contestants: dict[str, Contestant] = {
            name: GenomeSearch(name, partial(opening, *of), space, train, judge, objectives(config), of[1], storage)
            for name, of in names.items()
        }
        return Contest(dataset, task, contestants, stack.pop_all(), criterion=given.criterion)


def contents(config: Config) -> dict[str, str]:
    """Digests of the space and of the first genomes, which the settings only name."""
    space = read_space(config.space)
    read = {"space": space, **({"first": first_genomes(config, space)} if config.first else {})}
    return {name: hashlib.sha256(repr(found).encode()).hexdigest() for name, found in read.items()}


def first_genomes(config: Config, space: Space) -> list[Genome]:
    """The genomes of a file that the search begins with."""
    return read_first(config.first, space, config.population) if config.first else []


def weights_of(
    trial: Trial, weights: WeightStore, trainer: MixedTrainer, table: LiveTable
) -> tuple[Architecture, Member]:
    """The network of a genome and the weights that it was scored with; trained again if these were lost."""
    of, _ = trainer.architecture(trial.genome)
    params = weights.load(trial, jax.eval_shape(lambda: network(of).init(jax.random.key(0))))
    if params is None:
        table.say(f"the weights of genome {trial.number} were not kept: it is trained again")
        rung = Halving((trial.until,)) if trial.until else None
        ((_, again),) = trainer.score([trial.genome], trainer.plan([trial.genome], rung))
        params = again.params
    return of, params


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    genome = (saved.on_front or saved.result["champion"])["genome"]
    of, _ = architecture(genome, saved.shape, saved.outputs, saved.config.epochs)
    return saved.answering(network(of), apart=True)


def portable(saved: Saved) -> Portable:
    """The champion as its params, at its own sizes."""
    of, _ = architecture(saved.result["champion"]["genome"], saved.shape, saved.outputs, saved.config.epochs)
    found = saved.arrays(network(of).init)
    layers = [
        elsewhere.Layer(name, True, kind) for name, kind in zip(of.layers, [*of.activation, "linear"], strict=True)
    ]
    convs = [
        layer._replace(stride=conv.stride, same=conv.same, pool=conv.pool)
        for layer, conv in zip(layers, of.conv, strict=False)
    ]
    code = elsewhere.classifier(saved, [*convs, *layers[len(convs) :]], first=bool(convs))
    return saved.portable(found, found.params, code)
