"""What the hyperparameter experiment searches, how, and with what it trains."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jevo import genetics
from jevo.data.files import expanded
from jevo.data.task import Task
from jevo.errors import InputError, require, suggestion
from jevo.experiments.hyperparams.config import Config
from jevo.hyperparams import (
    SPACES,
    Choice,
    Halving,
    LogInteger,
    Objectives,
    Space,
    Strategy,
    evolve,
    grid_search,
    hyperband,
    optuna_search,
    parse_space,
    random_search,
    redrawn,
    stepped,
)
from jevo.memory import free_memory
from jevo.mixed import (
    COSTS,
    Backend,
    Costs,
    MixedTrainer,
    check_genes,
    jobs_at_once,
    largest,
    ray_backend,
    thread_executor,
)
from jevo.runs import population_mesh, precision, read_yaml
from jevo.runs.own import find_own, is_own
from jevo.training.criterion import Criterion
from jevo.types import Key, Mutate

COPIES = 4
"""Arrays as large as the weights while they are trained: themselves, a gradient, and two moments."""

OWN = "the path of a .yaml file, or FILE.py:NAME or package.module:NAME of a dictionary"


def read_space(name: str) -> Space:
    """The space of that name, in that file, or of that name in the user's own code.

    Raises:
        InputError: naming the gene that is wrong.
    """
    if name in SPACES:
        return parse_space(SPACES[name], name)
    path = expanded(name)
    if path.suffix in (".yaml", ".yml"):
        space = parse_space(read_yaml(path), str(path))
    elif is_own(name):
        found, _ = find_own(name, "space", OWN)
        space = found if isinstance(found, Space) else parse_space(found, name)
    else:
        raise InputError(f"space {name[:60]!r} is unknown; {suggestion(name[:60], SPACES)}, or {OWN}")
    check_genes(space)
    return space


def mutation(config: Config, space: Space) -> Mutate:
    """How children mutate."""
    if config.mutation == "redraw":
        return redrawn(space, config.mutation_rate)
    return stepped(space, config.mutation_rate, nominal=config.mutation == "step")


def longest(config: Config, space: Space) -> int:
    """Epochs that a genome may train at the most."""
    gene = space.genes.get("epochs")
    found = [] if gene and "epochs" not in space.conditions else [config.epochs]
    if isinstance(gene, Choice | LogInteger):
        found += [int(value or config.epochs) for value in gene.values]
    return max(found)


def halving(config: Config, space: Space) -> Halving | None:
    """The rungs of a halved generation; None if it is not halved.

    Raises:
        InputError: if its first rung is beyond its last.
    """
    if not config.halving:
        return None
    last = longest(config, space)
    require(
        config.first_epochs <= last, "first_epochs", config.first_epochs, f"at most the {last} epochs of a training"
    )
    return Halving.between(config.first_epochs, last, config.halving)


def budget(config: Config, space: Space, halved: Halving | None) -> int:
    """Epochs that the genetic search may spend at the most, for the other searches."""

    def cost(count: int) -> int:
        return halved.cost(count) if halved else count * longest(config, space)

    return cost(config.population) + config.generations * cost(config.population - config.survivors)


def objectives(config: Config) -> Objectives | None:
    """What a score is worth beside its value; None if that is all."""
    _, *costs = config.objectives
    return (lambda score: [score.value, *(-score.details[name] for name in costs)]) if costs else None


def strategy(
    config: Config, space: Space, name: str, key: Key, halved: Halving | None, budget: float, first: Any = ()
) -> Strategy:
    """How genomes are chosen.

    Args:
        config: the settings.
        space: of the genomes.
        name: genetic, random, hyperband, brute, tpe or nsga2.
        key: of the draws.
        halved: how generations are halved.
        budget: epochs that it may spend; genetic and brute have their own end.
        first: genomes to begin with; brute has its own order.
    """
    if name == "genetic":
        return evolve(
            space,
            key,
            population=config.population,
            generations=config.generations,
            elites=config.elites,
            breeders=config.breeders,
            lucky=config.lucky,
            parents=config.parents,
            crossover=genetics.CROSSOVERS[config.crossover](),
            mutation=mutation(config, space),
            novel=config.novel,
            first=first,
            halving=halved,
            objectives=objectives(config),
        )
    if name == "random":
        return random_search(space, key, config.population, budget, first, halved, objectives(config))
    if name == "hyperband" and halved:
        return hyperband(space, key, budget, halved, first, objectives(config))
    if name == "brute":
        return grid_search(space, config.population, halved, objectives(config))
    return optuna_search(space, name, config.seed, budget, config.population, halved, first)


@contextmanager
def training_backend(config: Config) -> Iterator[Backend]:
    """Where training happens: a Ray cluster, or this process, whose devices share the members of a batch."""
    if config.ray:
        with ray_backend(config.ray, config.workers) as found:
            yield found
        return
    platform = jax.default_backend()
    mesh = population_mesh(config.devices) if costs_of(config, platform).together > 1 else None
    at_once = jobs_at_once(config.workers, platform, os.cpu_count() or 1)
    yield Backend(platform, thread_executor(at_once, mesh), mesh.size if mesh else 1)


def costs_of(config: Config, platform: str) -> Costs:
    """The costs of a device, with as many networks side by side as the settings say."""
    costs = COSTS.get(platform, COSTS["gpu"])
    return costs._replace(together=config.chunk or costs.together)


def trainer(config: Config, space: Space, task: Task, criterion: Criterion, backend: Backend) -> MixedTrainer:
    """What trains the genomes."""
    costs = costs_of(config, backend.platform)
    found = MixedTrainer(
        task,
        criterion,
        batch_size=config.batch_size,
        epochs=config.epochs,
        max_epochs=longest(config, space),
        patience=config.patience,
        repeats=config.repeats,
        seed=config.seed,
        fitness=config.fitness,
        precision=precision(config, backend.platform),
        make_executor=backend.make_executor,
        costs=costs._replace(together=costs.together * backend.devices),
    )
    _require_room(space, task, criterion.outputs)
    return found


def _require_room(space: Space, task: Task, outputs: int) -> None:
    """Raise an InputError if a space has networks that no memory here holds, before anything is trained."""
    layers = largest(space, task.train.x.shape[1:], outputs)
    weights, name, free = sum(layers.values()), max(layers, key=lambda name: layers[name]), free_memory()
    if free is not None and (wanted := COPIES * 4 * weights) > free:
        raise InputError(
            f"the largest network of the space has {weights:,} weights, most of them in {name}: to train it takes "
            f"{wanted / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free; give it fewer units"
        )
