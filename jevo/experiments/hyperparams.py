"""Search over architectures and training settings: genomes breed on the host, and train as mixed batches.

    python -m jevo.experiments.hyperparams --space cnn --data cifar10

Networks of different widths, depths, activations and optimizers train in a few shared compiled programs. Random search,
at as many trainings and with the same programs, runs in the same command. The presets are published recipes (`harvey`:
neural-network-genetic-algorithm, `mkoeppel`: Optimizing_neural_nets), the default is jevo's own.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from jevo import genetics
from jevo.data.datasets import Dataset, load
from jevo.data.task import Task, no_normalization, normalize, to_device
from jevo.experiments import hyperparams_report as report
from jevo.experiments.hyperparams_config import Config
from jevo.experiments.hyperparams_desk import Desk, Found
from jevo.hyperparams import (
    COSTS,
    SPACES,
    Choice,
    Costs,
    Mixed,
    Site,
    Space,
    Strategy,
    Trial,
    architecture,
    check_genes,
    draw,
    enumerate_all,
    evolve,
    identity,
    jobs_at_once,
    network,
    optuna_search,
    parse_space,
    ray_cluster,
    redrawn,
    stepped,
    threads,
)
from jevo.hyperparams.search import champion as best_of
from jevo.runs.checkpoint import load_arrays, save_arrays
from jevo.runs.command import main
from jevo.runs.config import read_yaml, suggestion
from jevo.runs.contest import Champion, Outcome, classifier, classifies, verdict
from jevo.runs.devices import population_mesh
from jevo.runs.ledger import Ledger
from jevo.runs.loop import Patience
from jevo.runs.progress import Board
from jevo.runs.record import described, open_run, precision
from jevo.types import InputError, Key, Member, Mutate


def read_space(name: str) -> Space:
    """The space of that name, or in that file.

    Raises:
        InputError: naming the gene that is wrong.
    """
    if name in SPACES:
        return parse_space(SPACES[name], name)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"space {name!r} is unknown; {suggestion(name, SPACES)}, or the path of a .yaml file")
    space = parse_space(read_yaml(path), str(path))
    check_genes(space)
    return space


def mutation(config: Config, space: Space) -> Mutate:
    """How children mutate."""
    if config.mutate == "redraw":
        return redrawn(space, config.mutation)
    return stepped(space, config.mutation, nominal=config.mutate == "step")


def strategy(config: Config, space: Space, name: str, key: Key, sizes: Sequence[int] = (), first: Any = ()) -> Strategy:
    """How genomes are chosen.

    Args:
        config: the settings.
        space: of the genomes.
        name: genetic, random, brute, tpe or nsga2.
        key: of the draws.
        sizes: of random search and Optuna: genomes in each generation.
        first: genomes that random search begins with.
    """
    if name == "genetic":
        return evolve(
            space,
            key,
            population=config.population,
            generations=config.generations,
            keep=config.keep,
            lucky=config.lucky,
            cross=genetics.uniform(per=config.crossover),
            mutate=mutation(config, space),
            novel=config.novel,
        )
    if name == "random":
        return draw(space, key, sizes, first)
    if name == "brute":
        return enumerate_all(space, config.population)
    return optuna_search(space, name, config.seed, sum(sizes), config.population)


def run(config: Config) -> dict[str, Any]:
    """The whole experiment, into its folder: what `result.json` holds.

    Raises:
        InputError: for data, settings or a space that cannot be used.
        Interrupted: when asked to stop; the same config goes on.
    """
    with open_run("hyperparams", config) as record:
        if done := record.result():
            return done
        space = read_space(config.space)
        dataset = load(config.data, config.data_dir)
        record.announce(dataset)
        task = to_device(dataset)
        with (
            hiring(config) as site,
            Patience() as patience,
            Board(("score", "generation", "genome")) as board,
            Ledger(record.folder / "genomes.jsonl") as ledger,
        ):
            trainable = mixed(config, space, task, dataset, site)
            (record.folder / "checkpoints").mkdir(exist_ok=True)
            desk = Desk(record.folder, ledger, board, patience)
            found = searches(config, space, desk, trainable)
            outcomes, champions = {}, {}
            for name, one in found.items():
                champions[name] = best_of(one.trials)
                params, of = weights(desk, trainable, champions[name], board)
                judged = classifier(network(of), task, dataset)(params)
                outcomes[name] = Outcome([one], budget(one, config.repeats), [judged])
        own = next(iter(found))
        champion = champions[own]
        saved = {"params": outcomes[own].judged[0].champion, "mean": task.mean, "scale": task.scale}
        save_arrays(record.folder / "champion", saved)
        result = {
            **record.describe(dataset),
            **verdict(own, "random_search", outcomes, config.seed),
            "champion": {
                "number": champion.number,
                "generation": champion.generation,
                "genome": champion.genome,
                "score": champion.score.value,
                **{name: champion.score.details[name] for name in ("best_epoch", "repairs")},
            },
            "champions": {name: {"genome": c.genome, "score": c.score.value} for name, c in champions.items()},
        }
        report.write(
            record, result, dataset, found, outcomes[own].judged[0], trainable.architecture(champion.genome)[0]
        )
        desk.weights.clear()
        return result


@contextmanager
def hiring(config: Config) -> Iterator[Site]:
    """Those who train: a Ray cluster, or this process, whose devices share the members of a batch."""
    if config.ray:
        with ray_cluster(config.ray, config.workers) as found:
            yield found
        return
    platform = jax.default_backend()
    mesh = population_mesh(config.devices) if costs_of(config, platform).together > 1 else None
    at_once = jobs_at_once(config.workers, platform, os.cpu_count() or 1)
    yield Site(platform, threads(at_once, mesh), mesh.size if mesh else 1)


def costs_of(config: Config, platform: str) -> Costs:
    """The costs of a device, with as many networks side by side as the settings say."""
    costs = COSTS.get(platform, COSTS["gpu"])
    return costs._replace(together=config.together or costs.together)


def mixed(config: Config, space: Space, task: Task, dataset: Dataset, site: Site) -> Mixed:
    """What trains the genomes."""
    costs = costs_of(config, site.platform)
    gene = space.genes.get("epochs")
    longest = [int(value) for value in gene.values] if isinstance(gene, Choice) else [config.epochs]
    trainable = Mixed(
        task,
        len(dataset.classes),
        batch_size=config.batch_size,
        epochs=config.epochs,
        longest=max(longest),
        patience=config.patience,
        repeats=config.repeats,
        seed=config.seed,
        fitness=config.fitness,
        precision=precision(config, site.platform),
        hire=site.hire,
        costs=costs._replace(together=costs.together * site.devices),
    )
    # A space that no network can be built from is refused before anything is trained.
    trainable.architecture(space.decode(jax.jit(space.init)(jax.random.key(0))))
    return trainable


def searches(config: Config, space: Space, desk: Desk, trainable: Mixed) -> dict[str, Found]:
    """The search and its controls, one after another: each at as many trainings as the first."""
    own_key, random_key = jax.random.split(jax.random.key(config.seed))
    rounds = config.generations
    if config.search == "brute":
        rounds = math.ceil(space.size() / config.population) if math.isfinite(space.size()) else 1
    sizes = [config.population] + [config.population - config.survivors] * (config.generations - 1)
    own = strategy(config, space, config.search, own_key, sizes)
    found = {config.search: desk.search(config.search, rounds, own, trainable)}
    first = found[config.search]
    distinct = [len({identity(t.genome) for t in g.trials if t.trained}) for g in first.generations]
    start = [t.genome for t in first.generations[0].trials] if config.search == "genetic" else ()
    control = strategy(config, space, "random", random_key, distinct, start)
    found["random_search"] = desk.search("random_search", len(distinct), control, trainable)
    for sampler in ("tpe", "nsga2") if config.control == "optuna" else ():
        asked = strategy(config, space, sampler, random_key, distinct)
        found[sampler] = desk.search(sampler, len(distinct), asked, trainable)
    return found


def weights(desk: Desk, trainable: Mixed, trial: Trial, board: Board) -> tuple[Member, Any]:
    """The weights of a champion, and its network; trained again if they were lost."""
    of, _ = trainable.architecture(trial.genome)
    like = jax.eval_shape(lambda: network(of).init(jax.random.key(0)))
    params = desk.weights.load(trial.genome, like)
    if params is None:
        board.say(f"the weights of genome {trial.number} were not kept: it is trained again")
        score: Callable[..., Any] = trainable.score
        (_, again) = next(iter(score([trial.genome], trainable.plan([trial.genome]))))
        params = again.params
    return params, of


def budget(found: Found, repeats: int) -> dict[str, Any]:
    """What a search spent, as `result.json` holds it; what it did not train because it was known counts, too."""
    once = {identity(trial.genome): trial.score for trial in found.trials}
    return {
        "evaluations": len(once) * repeats,
        "gradient_steps": sum(score.details.get("steps", 0) for score in once.values()),
        "wall_s": round(found.wall_s, 3),
        "compile_s": round(found.compile_s, 3),
    }


def champion(folder: Path, result: dict[str, Any]) -> Champion:
    """The champion of a finished run."""
    config, shape, classes = described(Config, folder, result)
    of, _ = architecture(result["champion"]["genome"], shape, classes, config.epochs)
    net = network(of)
    like = jax.eval_shape(lambda: {"params": net.init(jax.random.key(0)), **no_normalization(shape)})
    saved = load_arrays(folder / "champion", like)
    return classifies(lambda x: net.apply(saved["params"], normalize(x, saved["mean"], saved["scale"])))


if __name__ == "__main__":
    main(Config, run)
