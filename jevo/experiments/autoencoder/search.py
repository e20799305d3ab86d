"""The programs of one phase of the autoencoder experiment: one weight matrix is searched for, the others are frozen."""

import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import genetics, training
from jevo import population as pop
from jevo.data.task import rotating_rows
from jevo.experiments.autoencoder.config import Config
from jevo.experiments.searcher import Cost, Look, Searcher, Worth, ascending, bred, search
from jevo.genetics import Algorithm, Candidates, State
from jevo.genetics.selection import descending
from jevo.networks import ACTIVATIONS, INITIALIZERS, Autoencoder, tied
from jevo.runs import Programs
from jevo.training import Learner, evaluate, mean_over_rows
from jevo.training.perturbation import Estimate, node_perturbation, relative_noise
from jevo.types import Fitness, Key, Member, Mutate

Method = Literal[
    "ga", "random-search", "ga-sgd", "sgd-layerwise", "sgd-joint", "perturbation", "long-run", "fine-tuning"
]
"""How a phase goes about it: a method, or a rival of one."""

ALONE = ("long-run", "fine-tuning")
"""Methods of one network, which takes all gradient steps."""
RESTARTS = ("sgd-layerwise", "sgd-joint", *ALONE)
"""Methods whose population changes by gradient steps, and by nothing else."""
TRAINED = ("ga-sgd", *RESTARTS)
"""Methods whose members take gradient steps."""

LEAST_ERROR = 1e-12
"""A mean squared error below this counts as this, so that 1/RMSE is finite."""


class Data(NamedTuple):
    """What a phase reads.

    Attributes:
        train, validation: `(x [n, inputs],)` where a layer is to reconstruct its own input, or `(x, y [n, pixels])`.
        below: params of the frozen layers, as `stacked` has them.
        begun: what fine-tuning begins with.
    """

    train: tuple[jax.Array, ...]
    validation: tuple[jax.Array, ...]
    below: Member
    begun: Member = ()


class Effort(NamedTuple):
    """What a method spends in a generation.

    Attributes:
        members: that are scored; the first population is one generation's more.
        learners: members that take gradient steps.
        steps: of each of them.
    """

    members: int
    learners: int
    steps: int

    @property
    def gradient_steps(self) -> int:
        """Of all members together."""
        return self.learners * self.steps


def effort(config: Config, method: Method) -> Effort:
    """What a method spends in a generation: all that train take as many steps together."""
    networks = 1 if method in ALONE else config.networks
    members = networks if method in RESTARTS else config.population
    learners = networks if method in RESTARTS else config.learners
    return Effort(members, learners, config.learners * config.steps // learners if method in TRAINED else 0)


class PhasePlan(NamedTuple):
    """One phase: its programs, how long it is, and what it costs.

    Attributes:
        programs: for so many members at once.
        generations: of the phase.
        effort: of a generation.
        first: makes the first member of the first population.
    """

    programs: Callable[[int], Programs]
    generations: int
    effort: Effort
    first: Callable[[], Member]


def layers(config: Config, shape: tuple[int, ...]) -> list[Autoencoder]:
    """The tied layers of an autoencoder with these units, the inputs first."""
    names = config.activation * (1 if len(config.activation) > 1 else len(shape) - 1)
    activations = [ACTIVATIONS[name] for name in names]
    first = jax.nn.sigmoid if config.output == "sigmoid" else ACTIVATIONS["linear"]
    # What a layer reconstructs is the features of the one below, so it goes through that one's activation.
    restores = [first, *activations[:-1]]
    return [
        tied(inputs, outputs, activation, restore, bias=config.bias, kernel_init=INITIALIZERS[config.weights])
        for inputs, outputs, activation, restore in zip(shape[:-1], shape[1:], activations, restores, strict=True)
    ]


class Goal(NamedTuple):
    """What a phase searches for.

    Attributes:
        autoencoder: one layer, or a whole stack at once: whose params.
        below: the frozen layers under it.
    """

    autoencoder: Autoencoder
    below: Autoencoder

    def reconstruct(self, params: Member, x: jax.Array) -> jax.Array:
        """What the autoencoder makes of its inputs `[n, inputs]`."""
        return self.autoencoder.decode(params, self.autoencoder.encode(params, x))

    def missed(self, found: jax.Array, rows: Any, frozen: Member) -> jax.Array:
        """What a reconstruction of rows `(x,)` or `(x, y)` misses them by, `[n, inputs]` or `[n, pixels]`.

        With a target of its own, the reconstruction goes on through the frozen decoder of the layers below.
        """
        return found - rows[0] if len(rows) == 1 else self.below.decode(frozen, found) - rows[1]

    def error(self, params: Member, rows: Any, frozen: Member) -> jax.Array:
        """The mean squared error, float32 `[]`."""
        return jnp.mean(self.missed(self.reconstruct(params, rows[0]), rows, frozen) ** 2)

    def noisy_error(self, params: Member, rows: Any, frozen: Member, key: Key, share: float) -> jax.Array:
        """The same where a share of the inputs is lost on the way in: of a denoising autoencoder.

        Source: Vincent et al., "Extracting and composing robust features with denoising autoencoders", 2008.
        """
        seen = jnp.where(jax.random.uniform(key, rows[0].shape) < share, 0, rows[0])
        return jnp.mean(self.missed(self.reconstruct(params, seen), rows, frozen) ** 2)

    def worth(self, rows: Any, frozen: Member) -> Worth:
        """1 / RMSE of params on all of these rows."""
        return lambda params: inverse_rmse(mean_over_rows(lambda batch: self.error(params, batch, frozen), rows))


def inverse_rmse(squared: jax.Array) -> jax.Array:
    """The fitness of a mean squared error."""
    return 1 / jnp.sqrt(jnp.maximum(squared, LEAST_ERROR))


def scored_rows(config: Config, data: Data, generation: jax.Array) -> Any:
    """The train examples that score a generation."""
    n = data.train[0].shape[0]
    rows = rotating_rows(n, min(config.images, n), generation)
    return jax.tree.map(lambda leaf: leaf[rows], data.train)


def phase(
    config: Config, method: Method, autoencoder: Autoencoder, below: Autoencoder, generations: int, key: Key
) -> PhasePlan:
    """A phase that searches for the params of `autoencoder` above the frozen layers `below`.

    Args:
        config: says how members mate, learn and are scored.
        method: who mates, and who learns.
        autoencoder: one layer, or a whole stack at once.
        below: the layers under it.
        generations: of the phase.
        key: root of the phase.
    """
    spent, goal = effort(config, method), Goal(autoencoder, below)
    start_key, breed_key, train_key = jax.random.split(key, 3)
    if method == "perturbation":
        sought = perturbed(config, goal, generations)
    else:
        sought = populous(config, method, goal, generations, train_key)

    def metrics(data: Data, state: State, best: Member) -> dict[str, jax.Array]:
        found = {"zeros": jnp.stack(zeros(best))}
        if method == "ga-sgd":
            # Survivors come first in a new population.
            leading = descending(state.fitness)[: spent.learners]
            found["promoted"] = jnp.mean(leading >= spent.learners, dtype=jnp.float32)
        return found

    look = Look(
        config.validate_every, generations, config.validate_top, lambda data: goal.worth(data.validation, data.below)
    )

    def first() -> Member:
        return autoencoder.init(jax.random.split(jax.random.clone(start_key), spent.members)[0])

    return PhasePlan(search(sought, start_key, breed_key, look, metrics), generations, spent, first)


def populous(config: Config, method: Method, goal: Goal, generations: int, train_key: Key) -> Searcher:
    """A search by a population of `Learner`, which breeds, or is trained, or both in turn.

    Args:
        config: says how.
        method: who breeds, and who is trained.
        goal: what is sought.
        generations: of the phase.
        train_key: root of the training.
    """
    spent = effort(config, method)
    prune = method == "fine-tuning" or (method == "ga-sgd" and config.prune)
    descend = optimizer(config, spent.steps * generations, prune) if spent.steps else optax.identity()
    fresh = training.learner(goal.autoencoder.init, descend)
    params = operator.attrgetter("params")

    def first(data: Data) -> Callable[[Key], Learner]:
        return training.learner(lambda key: data.begun, descend) if method == "fine-tuning" else fresh

    def loss(params: Member, batch: Any, key: Key, frozen: Member) -> jax.Array:
        if config.input_noise:
            return goal.noisy_error(params, batch, frozen, key, config.input_noise)
        return goal.error(params, batch, frozen)

    found = bred(
        spent.members,
        first,
        lambda data, generation: goal.worth(scored_rows(config, data, generation), data.below),
        lambda data, generation, chunk: breeding(config, method, goal.autoencoder, fresh, chunk),
        cost=Cost("nonzero", nonzero) if len(config.objectives) > 1 else None,
        genome=params,
    )

    def learn(key: Key, state: State, data: Data, chunk: int) -> State:
        """The best members learn; nobody breeds of the others, nor stays."""
        members, learners, steps = spent
        order = descending(state.fitness)
        population, _ = training.train(
            key,
            pop.take(state.population, order[:learners]),
            data.train,
            lambda params, batch, key: loss(params, batch, key, data.below),
            descend,
            steps=steps,
            batch_size=config.batch_size,
            chunk=chunk,
        )
        worth = goal.worth(scored_rows(config, data, state.generation + 1), data.below)
        fitness = evaluate(worth, population.params, chunk)
        if learners < members:
            population = pop.concat(population, pop.take(state.population, order[learners:]))
            fitness = jnp.concatenate([fitness, jnp.full(members - learners, -jnp.inf)])
        return state._replace(population=population, fitness=fitness)

    def trained(key: Key, state: State, data: Data, chunk: int) -> State:
        state = learn(jax.random.fold_in(train_key, state.generation + 1), state, data, chunk)
        if method in RESTARTS:
            return state._replace(generation=state.generation + 1)
        return found.step(key, state, data, chunk)

    return found._replace(step=trained) if spent.steps else found


def perturbed(config: Config, goal: Goal, generations: int) -> Searcher:
    """A search by node perturbation of one network, in which a generation's members are noise about it.

    A kernel is in two linear layers, there and back: what noise on the features and on the reconstruction does to each
    example's squared error moves it by Adam. After that it loses weights, as children of the other methods do.

    Args:
        config: says how.
        goal: what is sought.
        generations: of the phase.
    """

    def estimate(key: Key, params: Member, data: Data, generation: jax.Array, chunk: int) -> Estimate:
        rows = scored_rows(config, data, generation)
        found = node_perturbation(
            goal.reconstruct,
            params,
            rows[0],
            lambda found: -jnp.mean(goal.missed(found, rows, data.below) ** 2, axis=1),
            key,
            noise=relative_noise(config.noise),
            pairs=config.population // 2,
        )
        return found._replace(fitness=inverse_rmse(-found.fitness))

    return ascending(
        lambda key, data: goal.autoencoder.init(key),
        estimate,
        optimizer(config, generations + 1, config.prune),
        mutation=erasing(config) if config.mutation_rate else None,
    )


def breeding(
    config: Config, method: Method, autoencoder: Autoencoder, fresh: Callable[[Key], Learner], chunk: int
) -> Algorithm:
    """How a population of `Learner` changes from one generation to the next, learning apart."""
    if method not in ("ga", "ga-sgd"):  # Of restarts, which never change but by learning, only `init` is used.
        init = fresh if len(config.objectives) == 1 else thinned(fresh)
        return genetics.random_search(init, elites=config.survivors, rescore=True, chunk=chunk)
    crossover = genetics.CROSSOVERS[config.crossover]
    cross = crossover() if config.crossover == "average" else crossover(config.crossover_rate)
    mutate = erasing(config)
    algorithm = genetics.genetic(
        genetics.truncation(config.breeders, config.lucky),
        training.mating(cross, autoencoder.symmetries if config.align and method == "ga-sgd" else ()),
        lambda key, learner: learner._replace(params=mutate(key, learner.params)),
        elites=config.elites,
        lucky=config.lucky,
        parents=config.parents,
        # Under ga-sgd survivors have just been scored, after learning; else their scores are of other examples.
        rescore=method == "ga",
        chunk=chunk,
    )
    return guarding(algorithm) if config.guard and method == "ga-sgd" else algorithm


def guarding(algorithm: Algorithm) -> Algorithm:
    """The same, but a child worse than the mean of its parents gives its place, and its score, to the better one."""

    def tell(state: State, candidates: Candidates, fitness: Fitness) -> State:
        scored = candidates._replace(members=(candidates.members, fitness))
        kept = genetics.guarded(state._replace(population=(state.population, state.fitness)), scored, fitness)
        members, fitness = kept.members
        return algorithm.tell(state, candidates._replace(members=members), fitness)

    return algorithm._replace(tell=tell, breed=None)


def erasing(config: Config) -> Mutate:
    """The mutation of params: some weights of each kernel become zero."""
    return on_kernels({"random": genetics.zero, "smallest": genetics.prune}[config.mutation](config.mutation_rate))


def on_kernels(mutate: Mutate) -> Mutate:
    """A mutation of kernels as one of the params of a layer, or of a stack."""
    layer = genetics.route(kernel=mutate)

    def changed(key: Key, params: Member) -> Member:
        return (layer if "kernel" in params else genetics.route(**dict.fromkeys(params, layer)))(key, params)

    return changed


def thinned(fresh: Callable[[Key], Learner]) -> Callable[[Key], Learner]:
    """Makes members each of which has lost a share of its weights, drawn evenly from 0 to 1: a front wants any."""

    def init(key: Key) -> Learner:
        share_key, erase_key, key = jax.random.split(key, 3)
        share = jax.random.uniform(share_key)
        # A number for each weight: of a share that is traced, genetics.zero draws in two ways.
        erase = on_kernels(lambda key, kernel: jnp.where(jax.random.uniform(key, kernel.shape) < share, 0, kernel))
        learner = fresh(key)
        return learner._replace(params=erase(erase_key, learner.params))

    return init


def optimizer(config: Config, steps: int, prune: bool) -> optax.GradientTransformation:
    """Adam over a phase of `steps`; to prune is to leave every kernel's exact zeros as they are."""
    rate = optax.cosine_decay_schedule(config.lr, steps) if config.schedule == "cosine" else config.lr
    return optax.chain(optax.adam(rate), training.keep_zeros("kernel")) if prune else optax.adam(rate)


def zeros(params: Member) -> list[jax.Array]:
    """The share of exact zeros in each kernel, the first layer's first: float32 `[]` each."""
    return [jnp.mean(kernel == 0, dtype=jnp.float32) for kernel in kernels(params)]


def nonzero(params: Member) -> jax.Array:
    """The share of the weights of all kernels together that are not zero: float32 `[]`."""
    found = kernels(params)
    return jnp.stack([jnp.count_nonzero(kernel) for kernel in found]).sum() / sum(kernel.size for kernel in found)


def kernels(params: Member) -> list[jax.Array]:
    """The kernel of a layer, or those of a stack, the first layer's first."""
    layers = [params] if "kernel" in params else [params[f"layer_{i}"] for i in range(len(params))]
    return [layer["kernel"] for layer in layers]
