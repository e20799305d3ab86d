"""What a user would do instead to evolve masks: each with the same network, the same data and the same fitness."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo.training import scaled_log_likelihood

BREEDERS, ELITES = 0.2, 2
"""The best members that breed, as a share; the best ones that survive."""
FLIPS = 2e-3
"""Probability that a gene mutates."""


class Problem(NamedTuple):
    """What all of them solve.

    Attributes:
        weights: float32 `[in, out]` of each layer, frozen.
        masks: bool `[P, in, out]` of each layer, the first population.
        x, y: float32 `[n, in]` and int32 `[n]`, the examples.
    """

    weights: list[np.ndarray]
    masks: list[np.ndarray]
    x: np.ndarray
    y: np.ndarray

    @property
    def members(self) -> int:
        """P."""
        return len(self.masks[0])


class Peer(NamedTuple):
    """One way to do it.

    Attributes:
        fitness: of the first population, float `[P]`.
        generation: scores a population and breeds the next; it returns what to wait for.
    """

    fitness: Callable[[], np.ndarray]
    generation: Callable[[], Any]


def numpy_loop(problem: Problem) -> Peer:
    """The published generation (stracini-git) in NumPy: one network after another, whole layers crossed, 5% redrawn."""
    rng, masks = np.random.default_rng(0), [mask.copy() for mask in problem.masks]
    rows = np.arange(len(problem.y))

    def score(i: int) -> float:
        h = problem.x
        for layer, (weights, mask) in enumerate(zip(problem.weights, masks, strict=True)):
            h = h @ (weights * mask[i])
            if layer + 1 < len(masks):
                h = np.maximum(h, 0)
        spread = h.std()
        h = h * (2.0 / (spread if spread > 0 else 1.0))
        h = h - h.max(axis=1, keepdims=True)
        return float((h[rows, problem.y] - np.log(np.exp(h).sum(axis=1))).mean())

    def fitness() -> np.ndarray:
        return np.array([score(i) for i in range(problem.members)])

    def generation() -> None:
        order = np.argsort(-fitness())
        breeders, children = order[: max(1, int(BREEDERS * problem.members))], []
        for mask in masks:
            child = mask[rng.choice(breeders, problem.members)]
            redrawn = rng.random(child.shape) < 0.05
            child = np.where(redrawn, rng.random(child.shape) < 0.7, child)
            child[:ELITES] = mask[order[:ELITES]]
            children.append(child)
        masks[:] = children

    return Peer(fitness, generation)


def jax_loop(problem: Problem) -> Peer:
    """A Python loop: a jitted call scores one member, another breeds one child."""
    weights, x, y = _on_device(problem)
    score = jax.jit(lambda masks: _jax_score(weights, masks, x, y))

    @jax.jit
    def child(key: jax.Array, first: list[jax.Array], second: list[jax.Array]) -> list[jax.Array]:
        return _jax_child(key, first, second)

    members = [[jnp.asarray(mask[i]) for mask in problem.masks] for i in range(problem.members)]
    keys = list(jax.random.split(jax.random.key(1), problem.members))
    rng = np.random.default_rng(0)

    def generation() -> Any:
        # The fitness is fetched, as such a loop does: the next parents are chosen on the host.
        fitness = jax.device_get([score(member) for member in members])
        order = np.argsort(-np.asarray(fitness))
        parents = rng.choice(order[: max(1, int(BREEDERS * problem.members))], (problem.members, 2))
        children = [child(key, members[a], members[b]) for key, (a, b) in zip(keys, parents, strict=True)]
        children[:ELITES] = [members[i] for i in order[:ELITES]]
        members[:] = children
        return members

    return Peer(lambda: np.array([score(member) for member in members]), generation)


def jax_vmap(problem: Problem) -> Peer:
    """One jitted generation: one vmap over all members, a random number for each gene."""
    weights, x, y = _on_device(problem)
    score = jax.vmap(lambda masks: _jax_score(weights, masks, x, y))

    def generation(key: jax.Array, masks: list[jax.Array]) -> list[jax.Array]:
        order = jnp.argsort(-score(masks))
        pick_key, child_key = jax.random.split(key)
        best = order[: max(1, int(BREEDERS * problem.members))]
        parents = jax.random.choice(pick_key, best, (problem.members, 2))
        keys = jax.random.split(child_key, problem.members)
        children = jax.vmap(_jax_child)(keys, *([m[parents[:, i]] for m in masks] for i in range(2)))
        return [new.at[:ELITES].set(old[order[:ELITES]]) for new, old in zip(children, masks, strict=True)]

    masks, key = [jnp.asarray(mask) for mask in problem.masks], jax.random.key(1)
    fitness = np.asarray(jax.jit(score)(masks))
    program = jax.jit(generation, donate_argnums=1)

    def call() -> Any:
        nonlocal masks
        masks = program(key, masks)
        return masks

    return Peer(lambda: fitness, call)


def evosax(problem: Problem) -> Peer | None:
    """evosax's SimpleGA, if it is installed: genes are floats, and a weight is kept where its gene is positive."""
    if find_spec("evosax") is None:
        return None
    from evosax.algorithms import SimpleGA  # pyright: ignore[reportMissingImports]

    weights, x, y = _on_device(problem)
    score = jax.vmap(lambda genes: _jax_score(weights, [gene > 0 for gene in genes], x, y))
    genes = [jnp.asarray(mask, jnp.float32) - 0.5 for mask in problem.masks]
    fitness = jax.jit(score)(genes)
    algorithm = SimpleGA(population_size=problem.members, solution=[gene[0] for gene in genes])
    params = algorithm.default_params
    state = algorithm.init(jax.random.key(0), genes, -fitness, params)

    @jax.jit
    def generation(key: jax.Array, state: Any) -> Any:
        ask_key, tell_key = jax.random.split(key)
        population, state = algorithm.ask(ask_key, state, params)
        return algorithm.tell(tell_key, population, -score(population), state, params)[0]

    key, numbers = jax.random.key(1), np.asarray(fitness)

    def call() -> Any:
        nonlocal state
        state = generation(key, state)
        return state

    return Peer(lambda: numbers, call)


def torch_vmap(problem: Problem) -> Peer | None:
    """PyTorch, if it is installed: `torch.func.vmap` over all members."""
    return _torch(problem, lambda torch, score: torch.func.vmap(score))


def torch_loop(problem: Problem) -> Peer | None:
    """PyTorch, if it is installed: one member after another; the next population is bred at once."""
    return _torch(
        problem, lambda torch, score: lambda *masks: torch.stack([score(*m) for m in zip(*masks, strict=True)])
    )


PEERS: dict[str, Callable[[Problem], Peer | None]] = {
    "a NumPy loop": numpy_loop,
    "a Python loop of jitted calls": jax_loop,
    "a naive vmap": jax_vmap,
    "evosax SimpleGA": evosax,
    "torch.func.vmap": torch_vmap,
    "a PyTorch loop": torch_loop,
}
"""By name; one that is not installed gives None."""


def _on_device(problem: Problem) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    return [jnp.asarray(w) for w in problem.weights], jnp.asarray(problem.x), jnp.asarray(problem.y)


def _jax_score(weights: list[jax.Array], masks: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    h = x
    for layer, (weight, mask) in enumerate(zip(weights, masks, strict=True)):
        h = h @ (weight * mask)
        if layer + 1 < len(weights):
            h = jax.nn.relu(h)
    return scaled_log_likelihood(h, y, 2.0)


def _jax_child(key: jax.Array, first: list[jax.Array], second: list[jax.Array]) -> list[jax.Array]:
    """Each gene from either parent, then inverted with probability `FLIPS`: two random numbers a gene."""
    children = []
    for key, a, b in zip(jax.random.split(key, len(first)), first, second, strict=True):  # noqa: B020
        from_key, flip_key = jax.random.split(key)
        child = jnp.where(jax.random.bernoulli(from_key, 0.5, a.shape), a, b)
        children.append(child ^ jax.random.bernoulli(flip_key, FLIPS, a.shape))
    return children


def _torch(problem: Problem, batched: Callable[[Any, Callable[..., Any]], Callable[..., Any]]) -> Peer | None:
    if find_spec("torch") is None:
        return None
    import torch  # pyright: ignore[reportMissingImports]

    at = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    weights = [torch.tensor(w, device=at) for w in problem.weights]
    x, y = torch.tensor(problem.x, device=at), torch.tensor(problem.y, device=at).long()
    masks = [torch.tensor(mask, device=at) for mask in problem.masks]

    def score(*masks: Any) -> Any:
        h = x
        for layer, (weight, mask) in enumerate(zip(weights, masks, strict=True)):
            h = h @ (weight * mask)
            if layer + 1 < len(weights):
                h = torch.relu(h)
        h = h * (2.0 / h.std(correction=0).clamp_min(1e-30))
        return torch.log_softmax(h, dim=1).gather(1, y[:, None]).mean()

    fitness = batched(torch, score)

    @torch.no_grad()
    def generation() -> None:
        order = torch.argsort(fitness(*masks), descending=True)
        best = order[: max(1, int(BREEDERS * problem.members))]
        a, b = (best[torch.randint(len(best), (problem.members,), device=at)] for _ in range(2))
        children = []
        for mask in masks:
            child = torch.where(torch.rand(mask.shape, device=at) < 0.5, mask[a], mask[b])
            child ^= torch.rand(mask.shape, device=at) < FLIPS
            child[:ELITES] = mask[order[:ELITES]]
            children.append(child)
        masks[:] = children
        if at == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad():
        first = fitness(*masks).cpu().numpy()
    return Peer(lambda: first, generation)
