"""Evolution of masks: which weights of a frozen random network to keep.

    python -m jevo.experiments.masks --data mnist

A genome is one packed bit for each weight; scoring is one forward pass; nothing is trained. The `faithful` preset
is the published recipe (stracini-git, Pruning-With-Genetic-Algorithm), the default is jevo's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo import bits, genetics, networks
from jevo import population as pop
from jevo.data.datasets import Dataset, load
from jevo.data.task import Task, no_normalization, normalize, ring, to_device
from jevo.experiments import controls, masks_report
from jevo.genetics import GeneticAlgorithm, Search, crown
from jevo.genetics.selection import descending
from jevo.networks import Activation, Network, Weights, masked
from jevo.networks.masked import Kind
from jevo.runs.checkpoint import load_arrays, save_arrays
from jevo.runs.command import main
from jevo.runs.config import RunConfig, require
from jevo.runs.contest import Champion, Contestant, Phase, champion_of, classifier, classifies, compete, verdict
from jevo.runs.loop import Stage
from jevo.runs.memory import members_at_once
from jevo.runs.record import Run, described, open_run, precision
from jevo.training import accuracy, evaluate, scaled_log_likelihood
from jevo.types import Fitness, Key, Member, Population


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Evolve which weights of a frozen random network to keep, against random search at equal evaluations."""

    presets: ClassVar = {
        "default": {},
        "faithful": {
            "generations": 999, "fitness": "accuracy", "batches": "fixed", "first_image": 5000, "density": 0.9,
            "parents": 17, "mates": 2, "crossover": "layer", "mutation": "redraw", "rate": 0.05, "final_rate": 0.05,
            "redraw_ones": 0.7,
            "consensus": 0,
        },
    }  # fmt: skip

    generations: int = 500
    """Generations after the first population [generations]."""
    population: int = 100
    """Members of the population."""
    images: int = 2000
    """Train examples that score a generation; all of them if there are fewer [examples]."""
    batches: Literal["rotating", "fixed"] = "rotating"
    """Which examples: the next ones every generation, or the same ones always."""
    first_image: int = 0
    """Where the examples of the first generation begin in the train set [index]."""
    fitness: Literal["likelihood", "accuracy"] = "likelihood"
    """What is maximised: the mean log-likelihood of logits brought to a fixed spread, or the accuracy."""
    spread: float = 2.0
    """Standard deviation to which logits are brought for the likelihood."""
    channels: tuple[int, ...] = ()
    """Channels of 3x3 convolutions before the dense layers, each with a 2x2 max-pooling; none for an MLP."""
    hidden: tuple[int, ...] = (100,)
    """Units of each hidden dense layer."""
    activation: Activation = "relu"
    """After each hidden layer."""
    weights: Weights = "signed_constant"
    """How the frozen weights are drawn."""
    mask: Kind = "mask"
    """What a bit does to its weight: mask (keep or drop), mask_rs (and rescale), flip (sign), mask_flip (both)."""
    density: float = 0.5
    """Probability that a bit of the first population is one."""
    selection: Literal["truncation", "tournament", "rank", "roulette"] = "truncation"
    """How parents are selected."""
    parents: float = 0.25
    """The best members that breed under truncation: a share of the population below 1, or a number of them."""
    entrants: int = 3
    """Members of which a tournament's best one breeds."""
    mates: int = 16
    """Parents of each child: 2, or a larger power of two for a crossover other than one_point."""
    crossover: Literal["gene", "neuron", "layer", "one_point"] = "gene"
    """What a child takes whole from any parent, at even odds; one_point cuts the string of all bits once."""
    mutation: Literal["flip", "redraw"] = "flip"
    """What mutation does to a bit: invert it, or draw it anew."""
    rate: float = 3e-3
    """Probability that a bit mutates, at the first generation."""
    final_rate: float = 2e-4
    """The same at the last generation; the rate falls geometrically between."""
    redraw_ones: float = 0.5
    """Probability that a redrawn bit is one."""
    elites: int = 2
    """Best members that survive; scored again when the batches rotate."""
    lucky: int = 0
    """Random other members that survive."""
    validate_every: int = 10
    """Generations from one look at the validation set to the next [generations]."""
    validate_top: int = 5
    """Members that are candidates for champion then: the best by fitness."""
    consensus: int = 20
    """Best members whose majority, bit by bit, is another candidate; 0 for none."""
    reference: bool = False
    """Also train masks by straight-through gradient, and the weights themselves, as reference lines."""
    reference_steps: int = 3000
    """Gradient steps of each reference, in hundreds [steps]."""
    chunk: int = 0
    """Members bred or scored at once, at most; 0 for what suits the device, and less where its memory is short.
    On a CPU it never changes a result."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("population", "images", "validate_every", "validate_top", "entrants"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("density", "rate", "final_rate", "redraw_ones"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a probability between 0 and 1")
        require(self.chunk >= 0, "chunk", self.chunk, "a number of members, or 0")
        require(self.consensus >= 0, "consensus", self.consensus, "a number of members, or 0")
        require(self.generations >= 1, "generations", self.generations, "at least 1")
        require(self.first_image >= 0, "first_image", self.first_image, "an index >= 0")
        require(self.spread > 0, "spread", self.spread, "a number > 0")
        require(all(n >= 1 for n in self.hidden + self.channels), "hidden or channels", self.hidden, "widths >= 1")
        survivors = self.elites + self.lucky
        require(
            min(self.lucky, self.elites) >= 0 and survivors < self.population,
            "elites + lucky", survivors, f"0 to {self.population - 1}, fewer than the population",
        )  # fmt: skip
        require(
            0 < self.parents <= self.population and (self.parents < 1 or self.parents % 1 == 0),
            "parents",
            self.parents,
            f"a share below 1, or a whole number up to the population of {self.population}",
        )
        require(
            self.mates == 2 or (self.crossover != "one_point" and self.mates > 2 and self.mates.bit_count() == 1),
            "mates", self.mates, "2, or for a crossover other than one_point 4, 8, 16, ...",
        )  # fmt: skip
        require(
            self.reference_steps >= controls.STEPS and self.reference_steps % controls.STEPS == 0,
            "reference_steps", self.reference_steps, f"a multiple of {controls.STEPS}",
        )  # fmt: skip


class Data(NamedTuple):
    """What the programs of this experiment read: the examples, and the frozen weights."""

    task: Task
    weights: Member


def network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network that `config` describes, without biases, for examples of `shape`."""
    return networks.build(
        shape,
        classes,
        channels=config.channels,
        hidden=config.hidden,
        activation=config.activation,
        weights=config.weights,
        bias=False,
    )


def algorithm(config: Config, generation: jax.Array) -> GeneticAlgorithm:
    """The genetic algorithm of this generation, whose mutation rate follows the schedule."""
    select = {
        "truncation": lambda: genetics.truncation(config.parents if config.parents < 1 else int(config.parents)),
        "tournament": lambda: genetics.tournament(config.entrants),
        "rank": genetics.rank,
        "roulette": genetics.roulette,
    }[config.selection]()
    cross = genetics.one_point() if config.crossover == "one_point" else genetics.uniform(per=config.crossover)
    rate = config.rate if config.rate == config.final_rate else _rate(config, generation)
    mutate = genetics.flip(rate) if config.mutation == "flip" else genetics.redraw(rate, config.redraw_ones)
    return genetics.genetic(select, cross, mutate, parents=config.mates, lucky=config.lucky, **_survival(config))


def search(
    config: Config, network: Network, key: Key, breed: Callable[[Data, jax.Array], GeneticAlgorithm]
) -> tuple[Callable[[Data], Search], Callable[[Search, Data], tuple[Search, dict[str, jax.Array]]]]:
    """The programs of a search: `(start, step)`, as a Stage takes them.

    Args:
        config: says what is scored, and when the validation set is looked at.
        network: without its mask.
        key: root of the search.
        breed: `(data, generation) -> algorithm`.
    """
    objective = {
        "accuracy": accuracy,
        "likelihood": lambda logits, labels: scaled_log_likelihood(logits, labels, config.spread),
    }[config.fitness]

    start_key, run_key = jax.random.split(key)

    def net(data: Data) -> Network:
        return masked(network, data.weights, config.mask, config.density)

    def score(data: Data, generation: jax.Array, population: Population) -> Fitness:
        x, y = _batch(config, data.task, generation)
        apply = net(data).apply
        return evaluate(lambda genome: objective(apply(genome, x), y), population, _chunk(config))

    def start(data: Data) -> Search:
        generation = jnp.int32(0)
        population = pop.init(start_key, net(data).init, config.population, _chunk(config))
        state = breed(data, generation).init(population, score(data, generation, population))
        return Search(state, pop.take(population, 0), jnp.float32(-jnp.inf), generation)

    def step(search: Search, data: Data) -> tuple[Search, dict[str, jax.Array]]:
        generation = search.state.generation + 1
        state = genetics.generation(
            breed(data, generation),
            lambda _, candidates: (candidates, score(data, generation, candidates)),
            run_key,
            search.state,
        )
        due = (generation % config.validate_every == 0) | (generation == config.generations)
        validated = jax.lax.cond(
            due,
            lambda: _validate(config, net(data), search._replace(state=state), data.task),
            lambda: (search._replace(state=state), jnp.float32(jnp.nan)),
        )
        x, y = _batch(config, data.task, generation)
        best = pop.take(state.population, jnp.argmax(state.fitness))
        return validated[0], {
            "best": jnp.max(state.fitness),
            "mean": jnp.mean(state.fitness),
            "train": accuracy(net(data).apply(best, x), y),
            "validation": validated[1],
        }

    return start, step


def contestants(config: Config, network: Network, data: Data, dataset: Dataset) -> dict[str, Contestant]:
    """The search, random search at the same number of evaluations, and the references if asked for."""
    root = jax.random.key(config.seed)
    candidates = config.population - (0 if config.batches == "rotating" else config.elites + config.lucky)
    evaluations = config.population + config.generations * candidates
    over = masked(network, data.weights, config.mask)

    def random_masks(data: Data, generation: jax.Array) -> GeneticAlgorithm:
        init = masked(network, data.weights, config.mask, config.density).init
        return genetics.random_search(init, **_survival(config))

    def contestant(stage: Stage, network: Network, evaluations: int, gradient_steps: int) -> Contestant:
        phase = Phase(stage, lambda _: data, champion_of)
        return Contestant([phase], classifier(network, data.task, dataset), evaluations, gradient_steps)

    found = {}
    breeders = {"search": lambda data, generation: algorithm(config, generation), "random_search": random_masks}
    for i, (name, breed) in enumerate(breeders.items(), start=1):
        programs = search(config, network, jax.random.fold_in(root, i), breed)
        stage = Stage(name, *programs, config.generations, (candidates, "eval"), masks_report.METRICS[name])
        found[name] = contestant(stage, over, evaluations, 0)
    if config.reference:
        generations = config.reference_steps // controls.STEPS
        trained = {
            "straight_through": lambda data: controls.straight_through(network, data.weights),
            "trained_weights": lambda data: network,
        }
        for i, (name, make) in enumerate(trained.items(), start=1 + len(breeders)):
            programs = controls.adam(make, lambda data: data.task, jax.random.fold_in(root, i), 1e-3, 128)
            stage = Stage(name, *programs, generations, (controls.STEPS, "steps"), f"{name}.jsonl")
            found[name] = contestant(stage, make(data), 0, config.reference_steps)
    return found


def run(config: Config) -> dict[str, Any]:
    """Run the experiment, or go on with it, and return what `result.json` holds.

    Raises:
        InputError: for settings or data that cannot be used.
        Interrupted: after Ctrl-C or SIGTERM; call it again to go on.
    """
    with open_run("masks", config) as record:
        if done := record.result():
            return done
        return _run(config, record)


def _run(config: Config, record: Run) -> dict[str, Any]:
    dataset = load(config.data, config.data_dir)
    record.announce(dataset)
    net = network(config, dataset.train.x.shape[1:], len(dataset.classes))
    weights_key = jax.random.fold_in(jax.random.key(config.seed), 0)
    with jax.default_matmul_precision(precision(config)):
        data = Data(to_device(dataset), jax.jit(net.init)(weights_key))
        outcomes = {
            name: compete(record.folder, contestant, config.checkpoint_every, config.devices)
            for name, contestant in contestants(config, net, data, dataset).items()
        }
    found = outcomes["search"].kept[0]
    save_arrays(
        record.folder / "champion",
        {"genome": found.champion, "weights": data.weights, "mean": data.task.mean, "scale": data.task.scale},
    )
    result = {
        **record.describe(dataset),
        **verdict("search", "random_search", outcomes, config.seed),
        "champion": {"generation": int(found.found), "validation": float(found.validation)},
        "density": masks_report.density_by_layer(found.champion, config.mask),
    }
    masks_report.write(record, result, dataset, outcomes, config.mask)
    return result


def champion(folder: Path, result: dict[str, Any]) -> Champion:
    """The champion of a finished run."""
    config, shape, classes = described(Config, folder, result)
    net = network(config, shape, classes)

    def arrays() -> dict[str, Any]:
        weights = net.init(jax.random.key(0))
        genome = masked(net, weights, config.mask).init(jax.random.key(0))
        return {"genome": genome, "weights": weights, **no_normalization(shape)}

    saved = load_arrays(folder / "champion", jax.eval_shape(arrays))
    apply = masked(net, saved["weights"], config.mask).apply
    return classifies(lambda x: apply(saved["genome"], normalize(x, saved["mean"], saved["scale"])))


def _survival(config: Config) -> dict[str, Any]:
    """What the algorithm and its control have in common."""
    survivors, rescore = config.elites + config.lucky, config.batches == "rotating"
    return {"survivors": survivors, "rescore": rescore, "batch_size": _chunk(config)}


def _chunk(config: Config) -> int:
    """Members at once. Convolutions have large temporaries, and gain nothing by standing beside others on a CPU."""
    return members_at_once(config.chunk, on_cpu=1 if config.channels else 16)


def _rate(config: Config, generation: jax.Array) -> jax.Array:
    """The mutation rate, falling geometrically from `rate` to `final_rate`."""
    progress = generation / config.generations
    low = np.finfo(np.float32).tiny  # A rate of zero has no logarithm; this one is rounded to zero.
    return jnp.exp((1 - progress) * np.log(max(config.rate, low)) + progress * np.log(max(config.final_rate, low)))


def _batch(config: Config, task: Task, generation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The examples that score a generation: consecutive ones of the train set, as if it were a ring."""
    examples = len(task.train.y)
    count = min(config.images, examples)
    rows = ring(examples, count, generation if config.batches == "rotating" else 0, config.first_image)
    return task.inputs(task.train.x[rows]), task.train.y[rows]


def _validate(config: Config, net: Network, search: Search, task: Task) -> tuple[Search, jax.Array]:
    """Let the best members by fitness, and what they agree on, stand for champion on the validation set."""
    top = descending(search.state.fitness)[: config.validate_top]
    candidates = pop.take(search.state.population, top)
    if config.consensus:
        voters = pop.take(search.state.population, descending(search.state.fitness)[: config.consensus])
        agreed = jax.tree.map(bits.majority, voters, is_leaf=bits.is_bits)
        candidates = pop.concat(candidates, pop.stack([agreed]))
    x, y = task.inputs(task.validation.x), task.validation.y
    scores = evaluate(lambda genome: accuracy(net.apply(genome, x), y), candidates, _chunk(config))
    return crown(search, candidates, scores, search.state.generation), jnp.max(scores)


if __name__ == "__main__":
    main(Config, run)
