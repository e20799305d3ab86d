"""A fifth experiment, to show what one takes; live line, checkpoints, resume, devices and predict are the driver's."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from jevo import genetics, plots
from jevo import population as pop
from jevo.data.task import to_device
from jevo.devices import members_at_once
from jevo.experiments import elsewhere
from jevo.genetics import Search, update_champion
from jevo.networks import Network, masked, mlp
from jevo.networks.masks import weigh
from jevo.runs import (
    BreedingConfig,
    Contest,
    Experiment,
    Phase,
    Phases,
    Portable,
    Programs,
    Report,
    Stage,
    captioned,
    competitors,
    judging,
    main,
    metrics_file,
    without_population,
)
from jevo.training import accuracy, evaluate, log_likelihood


@dataclass(frozen=True, kw_only=True)
class Config(BreedingConfig):
    """Evolve the sign of every weight of a frozen network, and a scale for each of its layers."""

    presets: ClassVar = {"default": {}, "smoke": {"population": 8, "generations": 4, "checkpoint_every": 2}}
    recipes: ClassVar = {"default": "as many generations as it takes", "smoke": "a run of seconds"}

    generations: int = 200
    """Generations after the first population [generations]."""
    mutation_rate: float = 0.005
    """Probability that a sign is inverted."""


def network(config, shape, classes) -> Network:
    """Params are the genome, and the frozen weights that it is over."""
    frozen = mlp([shape[0] * shape[1], 32, classes], bias=False)

    def init(key):
        weight_key, sign_key = jax.random.split(key)
        weights = frozen.init(weight_key)
        scales = jax.tree.map(lambda _: jnp.float32(1), weights)
        return {"signs": masked(frozen, weights, "flip").init(sign_key), "scales": scales, "weights": weights}

    def apply(params, x, key=None):
        scaled = jax.tree.map(jnp.multiply, params["weights"], params["scales"])
        return masked(frozen, scaled, "flip").apply(params["signs"], x, key)

    return Network(init, apply)


def contest(config, dataset, given) -> Contest:
    """Evolution, and random search at as many evaluations."""
    net, task = network(config, dataset.train.x.shape[1:], given.criterion.outputs), to_device(dataset)
    root = jax.random.key(config.seed)
    weights = net.init(root)["weights"]
    children, most = config.population - config.survivors, members_at_once(config.chunk, on_cpu=16)

    def fresh(key):
        return {name: genes for name, genes in net.init(key).items() if name != "weights"}

    def programs(evolves: bool, chunk: int) -> Programs:
        mutation = genetics.route(signs=genetics.flip(config.mutation_rate), scales=genetics.perturb(1.1))
        select, elites = genetics.truncation(config.breeders, config.lucky), config.survivors
        evolution = genetics.genetic(select, genetics.uniform(), mutation, elites=elites, chunk=chunk)
        algorithm = evolution if evolves else genetics.random_search(fresh, elites=elites, chunk=chunk)

        def score(objective, task, examples, population):
            x, y = task.inputs(examples.x), examples.y
            return evaluate(
                lambda genome: objective(net.apply({**genome, "weights": weights}, x), y), population, chunk
            )

        def start(task) -> Search:
            population = pop.init(jax.random.fold_in(root, 1), fresh, config.population, chunk)
            state = algorithm.init(population, score(log_likelihood, task, task.train, population))
            return Search(state, pop.take(population, 0), jnp.float32(-jnp.inf), jnp.int32(0))

        def step(search: Search, task):
            evaluated = genetics.scored(partial(score, log_likelihood, task, task.train))
            state = genetics.generation(algorithm, evaluated, jax.random.fold_in(root, 2), search.state)
            best = pop.take(state.population, jnp.argmax(state.fitness)[None])
            validation = score(accuracy, task, task.validation, best)
            search = update_champion(search._replace(state=state), best, validation, state.generation)
            return search, {"best": state.fitness.max(), "mean": state.fitness.mean(), "validation": validation[0]}

        return Programs(start, step)

    def contestant(name: str) -> Phases:
        chunk, work = min(most, config.population), (children, "eval")
        made, file = partial(programs, name == "search"), metrics_file(name, "search")
        return Phases(
            [Phase(Stage(name, made, config.generations, work, chunk, file), lambda _: task, without_population)],
            judging(net, given.criterion, task, dataset),
            evaluations=config.population + config.generations * children,
            gradient_steps=0,
            champions=lambda kept: [{**kept[0].champion, "weights": weights}],
        )

    return Contest(dataset, task, {name: contestant(name) for name in ("search", "random_search")})


def report(run, contest, outcomes):
    scales = {name: float(layer["kernel"]) for name, layer in outcomes["search"].champion.champion["scales"].items()}
    return Report({"scales": scales}, [f"Scales of the champion: {scales}."])


def figures(saved):
    return {"curves.png": captioned("Fitness of the best member by generation.", draw_curves, saved)}


def draw_curves(path, saved):
    best = [each.by_generation("best") for each in competitors(saved)]
    plots.curves(path, [plots.Panel("generation", "fitness", best)])


def answers(saved):
    return saved.answering(network(saved.config, saved.shape, saved.outputs))


def portable(saved) -> Portable:
    found = saved.arrays(network(saved.config, saved.shape, saved.classes).init)
    params, layers = found.params, elsewhere.chain(0, 2, False, "relu")
    scaled = jax.tree.map(jnp.multiply, params["weights"], params["scales"])
    return saved.portable(found, weigh(scaled, params["signs"], "flip"), elsewhere.classifier(saved, layers))


EXPERIMENT = Experiment("signs", Config, contest, report, answers, portable, figures, module="tests.signs")

if __name__ == "__main__":
    main(EXPERIMENT)
