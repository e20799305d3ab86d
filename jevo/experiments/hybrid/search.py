"""The programs of the hybrid experiment: one leg of a cycle, for one seed or for many side by side.

The search's time is each member's gradient steps. With `repeats` all of it has a leading axis `[R]`; where contestants
choose their own settings, it is `[R x G]`, all points of the grid for each seed in turn.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jevo import genetics, training
from jevo import population as pop
from jevo.data.task import Examples, Task
from jevo.devices import in_chunks
from jevo.experiments.hybrid.config import Config, Point
from jevo.genetics import Algorithm, Search, State, update_champion
from jevo.networks import Network, depths
from jevo.runs import Programs
from jevo.stateful import genome, with_genome
from jevo.training import Learner, evaluate, mean_over_rows, train
from jevo.training.criterion import Criterion
from jevo.types import Fitness, Key, Member, Mix, Mutate, Population

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": partial(optax.adamw, weight_decay=0.0),
    "nadam": optax.nadam,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "momentum": partial(optax.sgd, momentum=0.9),
    "sgd": optax.sgd,
}

CALIBRATION = 1024
"""The most train examples on which a child's running statistics are estimated."""

Objective = Callable[[jax.Array, jax.Array], jax.Array]
"""`(logits [batch, classes], labels [batch]) -> float32 []`, higher is better."""


def summed_squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Minus the squared error of the class probabilities, summed over the rows, a quarter for each class: the published
    recipe's learning rate is for the sum."""
    wrong = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])
    return -0.25 * jnp.sum(wrong**2)


def objectives(config: Config, criterion: Criterion, point: Point | None = None) -> tuple[Objective, Objective]:
    """Minus the loss that gradients descend, and minus the one that is reported and compared; the former at a point of
    the grid, if there is one."""
    if not criterion.classifies:
        reward = lambda outputs, targets: jnp.mean(criterion.reward(outputs, targets))  # noqa: E731
        return reward, reward
    if config.loss == "squared":
        return summed_squared_error, training.absolute_error
    if config.smoothing or config.tune_smoothing:
        smoothing = point.smoothing if point and config.tune_smoothing else config.smoothing
        return partial(training.smoothed_log_likelihood, smoothing=smoothing), training.log_likelihood
    return training.log_likelihood, training.log_likelihood


def optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """The optimizer over a run of `steps`. The learning rate is part of its state, so each member has its own."""
    make = OPTIMIZERS[config.optimizer]
    if config.weight_decay:
        make = partial(make, weight_decay=config.weight_decay)
    descent = optax.inject_hyperparams(lambda learning_rate: make(learning_rate))(learning_rate=config.lr)
    if config.schedule == "constant":
        return descent
    return optax.chain(descent, optax.scale_by_schedule(schedule(config, steps)))


def schedule(config: Config, steps: int) -> optax.Schedule:
    """What the learning rate is multiplied by, over a run of `steps`."""
    return optax.constant_schedule(1.0) if config.schedule == "constant" else optax.cosine_decay_schedule(1.0, steps)


def recalibrated(network: Network, task: Task) -> Mutate:
    """A mutation that estimates running statistics anew, on train examples spread evenly over their set."""
    examples = len(task.train.y)
    count = min(examples, CALIBRATION)
    rows = np.arange(count) * examples // count
    return training.recalibration(network, task.inputs(task.train.x[rows]))


def algorithm(config: Config, network: Network, chunk: int, task: Task) -> Algorithm:
    """How a population of `Learner` mates, so many children at once."""
    clone, soup = config.crossover == "clone", config.crossover == "soup"
    breeders = genetics.number_of(config.breeders, config.population)
    selection = {
        "shuffled": lambda: genetics.shuffled(breeders),
        "truncation": lambda: genetics.truncation(breeders, config.lucky),
    }[config.selection]
    crossover = genetics.CROSSOVERS["average" if soup else config.crossover]()
    # A clone has nothing to match, and the state of its weights.
    symmetries = network.symmetries if config.matches and not clone else ()
    return genetics.genetic(
        genetics.leaders(breeders) if soup else selection(),
        training.mating(crossover, symmetries),
        retuned(genetics.perturb(1.2, 0.8))
        if clone
        else None
        if network.update is None
        else recalibrated(network, task),
        elites=config.elites,
        lucky=config.lucky,
        rescore=True,  # Survivors train too.
        parents=breeders if soup else config.parents,
        chunk=chunk,
    )


def mixing(config: Config, network: Network, task: Task, steps: int) -> Mix:
    """What learners give to each other as they train, in a run of `steps`."""
    _, rate = config.mix
    if config.crossover == "wash":
        deep = depths(network, task.inputs(task.train.x[:1]))
        rates = jax.tree.map(lambda depth: rate * (1 - depth), deep)
        return training.mixing(genetics.exchange(rates), config.mix_moments)

    def pulled(key: Key, learners: Population) -> Population:
        # The schedule's count of steps is the last part of an optimizer that has one.
        done = 0 if config.schedule == "constant" else learners.optimizer[-1].count[0]
        falling = jnp.asarray(rate * schedule(config, steps)(done))
        return training.mixing(genetics.pull(falling))(key, learners)

    return pulled


Score = Callable[[Population, Task], tuple[Fitness, Fitness]]
"""`(params, task) -> (fitness [P], minus the validation loss [P])`."""


def scoring(config: Config, criterion: Criterion, network: Network, chunk: int) -> Score:
    """How members are scored, so many at once."""
    _, reported = objectives(config, criterion)

    def score(params: Population, task: Task) -> tuple[Fitness, Fitness]:
        def on(params: Member, examples: Examples) -> jax.Array:
            return mean_over_rows(lambda rows: reported(network.apply(params, task.inputs(rows.x)), rows.y), examples)

        def both(params: Member) -> tuple[jax.Array, jax.Array]:
            validation = on(params, task.validation)
            return on(params, task.train) if config.fitness == "train" else validation, validation

        return evaluate(both, params, chunk)

    return score


Mate = Callable[[Key, Search, Task, jax.Array], tuple[Search, jax.Array]]
"""`(key, search, task, gradient steps so far) -> (search, mean barrier of the children)`."""


def mating(config: Config, algorithm: Callable[[Task], Algorithm], score: Score) -> Mate:
    """How the population is replaced by its children between two cycles; they stand for champion before they train."""
    guard = config.guard and config.crossover != "clone"  # A clone is its parent: there is no mating to go wrong.

    def mate(key: Key, search: Search, task: Task, steps: jax.Array) -> tuple[Search, jax.Array]:
        candidates = algorithm(task).ask(key, search.state)
        fitness, validation = score(candidates.members.params, task)
        barrier = genetics.barrier(search.state, candidates, fitness)
        bred = genetics.guarded(search.state, candidates, fitness) if guard else candidates
        search = update_champion(search, candidates.members.params, validation, steps)
        # Survivors come first, and have none.
        search = search._replace(state=search.state._replace(population=bred.members))
        return search, barrier[config.survivors :].mean()

    return mate


def consensus(config: Config, network: Network, params: Population, fitness: Fitness, task: Task) -> Population:
    """The mean of all members, each matched to the best: a population of one."""
    weights = genome(params)
    if config.matches and network.symmetries:
        best = pop.take(weights, jnp.argmax(fitness))
        weights = jax.vmap(lambda member: genetics.align(best, member, network.symmetries))(weights)
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0, keepdims=True), weights)
    if network.update is None:
        return mean
    member = with_genome(pop.take(params, 0), pop.take(mean, 0))
    return pop.stack([recalibrated(network, task)(jax.random.key(0), member)])


class OneSeed(NamedTuple):
    """The programs of one seed: `start(key, task, point)`, and `step(key, search, task, number, point)`, one leg of a
    cycle. The point is of the grid, None where nothing is tuned."""

    start: Callable[..., Search]
    step: Callable[..., tuple[Search, dict[str, jax.Array]]]


def search(
    config: Config, criterion: Criterion, network: Network, members: int, leg: int, mates: bool, chunk: int
) -> OneSeed:
    """The programs of one seed.

    Args:
        config: says how members are trained and scored.
        criterion: what their outputs are for.
        network: what they are.
        members: how many.
        leg: gradient steps of each in a leg.
        mates: whether they mate between cycles, or are mixed as they train; otherwise each is on its own.
        chunk: members of all seeds at once.
    """
    own = max(1, chunk // (config.repeats * len(config.points)))
    steps = config.cycles * config.legs * leg
    breeds, mixes = mates and not config.mixes, mates and config.mixes
    score = scoring(config, criterion, network, own)
    mate = mating(config, partial(algorithm, config, network, chunk), score)
    descend = optimizer(config, steps)

    def start(key: Key, task: Task, point: Point | None = None) -> Search:
        fresh = training.learner(network.init, descend)
        if point and config.tune_lr:
            fresh = begun_at(fresh, point.lr)
        population = pop.init(jax.random.fold_in(key, 0), spread(fresh, config.lr_spread), members, own)
        state = State(population, jnp.full(members, -jnp.inf), jnp.int32(0))
        return Search(state, pop.take(population.params, 0), jnp.float32(-jnp.inf), jnp.int32(0))

    def learn(key: Key, population: Population, task: Task, point: Point | None) -> Population:
        descended, _ = objectives(config, criterion, point)

        def loss(params: Member, batch: Examples, key: Key) -> Any:
            x = task.inputs(batch.x)
            if network.update is None:
                return -descended(network.apply(params, x, key), batch.y)
            logits, params = network.update(params, x, key)
            return -descended(logits, batch.y), params

        trained, _ = train(
            key,
            population,
            task.train,
            loss,
            descend,
            steps=leg,
            batch_size=config.batch_size or None,
            shared=config.shared_batches,
            chunk=own,
            mix=mixing(config, network, task, steps) if mixes else None,
            every=config.mix[0] if mixes else 1,
        )
        if mixes and network.update is not None:
            # Weights have come from others since the running statistics were those of their own.
            anew = recalibrated(network, task)
            return in_chunks(lambda learner: anew(jax.random.key(0), learner), trained, own)
        return trained

    def step(
        key: Key, search: Search, task: Task, number: jax.Array, point: Point | None = None
    ) -> tuple[Search, dict[str, jax.Array]]:
        mate_key, train_key = (jax.random.fold_in(jax.random.fold_in(key, i), number) for i in (1, 2))
        barrier = jnp.float32(jnp.nan)
        if breeds:
            search, barrier = jax.lax.cond(
                (number > 0) & (number % config.legs == 0),
                lambda search: mate(mate_key, search, task, number * leg),
                lambda search: (search, barrier),
                search,
            )
        population = learn(train_key, search.state.population, task, point)
        fitness, validation = score(population.params, task)
        state = genetics.replaced(search.state, population, fitness)
        search = update_champion(search._replace(state=state), population.params, validation, (number + 1) * leg)
        if mates and config.consensus:
            agreed = consensus(config, network, population.params, state.fitness, task)
            search = update_champion(search, agreed, score(agreed, task)[1], (number + 1) * leg)
        return search, {
            "fitness": jnp.max(state.fitness),
            "mean_fitness": jnp.nanmean(fitness),
            "validation_loss": -jnp.nanmax(validation),
            "barrier": barrier,
        }

    return OneSeed(start, step)


def programs(
    config: Config, criterion: Criterion, network: Network, members: int, leg: int, mates: bool, chunk: int
) -> Programs:
    """The programs of all seeds, side by side, as a Stage takes them; the arguments are those of `search`.

    The carry is the search, with a leading axis `[R x G]`, and the number of the next leg, which has none: a program
    that branches by it takes one branch for all seeds.
    """
    start, step = search(config, criterion, network, members, leg, mates, chunk)
    seeds, grid = range(config.seed, config.seed + config.repeats), config.points
    points = Point(*(jnp.array(column * config.repeats) for column in map(list, zip(*grid, strict=True))))
    points = points if config.tuned else None

    def keys() -> jax.Array:
        return jnp.stack([jax.random.key(seed) for seed in seeds for _ in grid])

    def start_all(task: Task) -> tuple[Search, jax.Array]:
        return side_by_side(lambda key, point: start(key, task, point), keys(), points), jnp.int32(0)

    def step_all(carry: tuple[Search, jax.Array], task: Task) -> tuple[Any, dict[str, jax.Array]]:
        state, number = carry
        one = lambda key, state, point: step(key, state, task, number, point)  # noqa: E731
        state, rows = side_by_side(one, keys(), state, points)
        # Of each seed, the point that is best now.
        fitness = rows["fitness"].reshape(len(seeds), len(grid))
        best = jnp.arange(len(seeds)) * len(grid) + jnp.argmax(fitness, axis=1)
        now = {name: values[best] for name, values in rows.items()}
        return (state, number + 1), {
            # A seed whose members have all failed ends the run: medians without it would be another experiment's.
            "best": jnp.where(jnp.isfinite(now["fitness"]).all(), jnp.median(now["fitness"]), -jnp.inf),
            "mean": jnp.median(now["mean_fitness"]),
            "validation": -jnp.median(now["validation_loss"]),
            "loss": -rows["fitness"],
            "validation_loss": rows["validation_loss"],
            "barrier": rows["barrier"],
        }

    return Programs(start_all, step_all)


def side_by_side(function: Callable[..., Any], *rows: Any) -> Any:
    """`vmap`; but a single row is computed as it is, since tracing a batch of one takes twice as long."""
    if len(jax.tree.leaves(rows)[0]) > 1:
        return jax.vmap(function)(*rows)
    found = function(*jax.tree.map(lambda leaf: leaf[0], rows))
    return jax.tree.map(lambda leaf: leaf[None], found)


def begun_at(fresh: Callable[[Key], Learner], rate: jax.Array) -> Callable[[Key], Learner]:
    """Fresh members of this learning rate."""
    return lambda key: retuned(lambda _, old: jnp.full_like(old, rate))(key, fresh(key))


def spread(fresh: Callable[[Key], Learner], factor: float) -> Callable[[Key], Learner]:
    """Fresh members whose learning rates differ by up to `factor`, log-uniformly; their weights are what they were."""
    if factor == 1:
        return fresh

    def drawn(key: Key) -> Learner:
        rate_key = jax.random.fold_in(jax.random.clone(key), 1)
        exponent = jax.random.uniform(rate_key, (), minval=-1.0, maxval=1.0)
        return retuned(lambda _, rate: rate * factor**exponent)(rate_key, fresh(key))

    return drawn


def retuned(mutate: Mutate) -> Mutate:
    """A mutation of a member's learning rate."""

    def tune(key: Key, learner: Learner) -> Learner:
        rate = optax.tree.get(learner.optimizer, "learning_rate")
        return learner._replace(optimizer=optax.tree.set(learner.optimizer, learning_rate=mutate(key, rate)))

    return tune
