"""Gradient steps of a population."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jevo import population as pop
from jevo.benchmark import figures
from jevo.benchmark.timing import Call, Times, compiled, in_turns, plain_product, plain_rate
from jevo.devices import needs
from jevo.networks import Network, mlp
from jevo.training import Learner, learner, log_likelihood, train
from jevo.types import Key, Population

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Sgd:
    """Measure gradient steps (Adam) of a population of networks, on random examples."""

    populations: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Population sizes to measure."""
    compare: int = 64
    """Population at which what a user would do instead is measured beside; 0 for none."""
    sizes: tuple[int, ...] = (784, 100, 10)
    """Units of the input, the hidden layers and the output."""
    batch_size: int = 64
    """Examples in a step [examples]."""
    examples: int = 10_000
    """Train examples."""
    steps: int = 150
    """Gradient steps of each member in a timed call [steps]."""
    chunk: int = 4
    """Members trained side by side."""
    budget_s: float = 60.0
    """Seconds of timed calls: half of them for the populations, half for the comparison."""
    out: Path = Path("runs/benchmark")
    """Folder for the table as JSON, and the plot."""


def measure(settings: Sgd) -> dict[str, Any]:
    """Member gradient steps per second.

    Of the Python loops, one makes each batch by indexing and calls the jitted step with it; the tight one does all a
    loop can: it indexes inside the step, and donates the member.

    Raises:
        AssertionError: if a peer's loss of the same members on the same batch is another.
    """
    half = settings.budget_s / 2
    rows = []
    for members in settings.populations:
        own = Training(settings, members)
        times = in_turns({"train": own.train, "plain": plain_product()}, half / len(settings.populations))
        rows.append(_row(settings, own, members, times))
    if settings.compare:
        rows += _compared(settings, half)
    return figures.result("sgd", "member gradient steps", settings, rows)


def flops(settings: Sgd, members: int) -> int:
    """Of a timed call: forward, the gradient of the weights, and that of the inputs of all layers but the first."""
    weights = list(map(mul, settings.sizes, settings.sizes[1:]))
    return members * settings.steps * settings.batch_size * 2 * (3 * sum(weights) - weights[0])


class Training:
    """A population of networks with their optimizers, and its program."""

    def __init__(self, settings: Sgd, members: int):
        keys = jax.random.split(jax.random.key(0), 5)
        self.network = mlp(settings.sizes)
        self.data = (
            jax.random.normal(keys[0], (settings.examples, settings.sizes[0])),
            jax.random.randint(keys[1], (settings.examples,), 0, settings.sizes[-1]),
        )
        self.optimizer = optax.adam(LEARNING_RATE)
        self.rows = jax.random.randint(keys[4], (settings.steps, settings.batch_size), 0, settings.examples)

        def loss(params: Any, batch: Any, key: Key | None) -> jax.Array:
            return batch_loss(self.network, params, batch)

        def steps(key: Key, population: Population) -> tuple[Population, jax.Array]:
            steps, size, chunk = settings.steps, settings.batch_size, settings.chunk
            return train(key, population, self.data, loss, self.optimizer, steps=steps, batch_size=size, chunk=chunk)

        start = jax.jit(lambda key: pop.init(key, learner(self.network.init, self.optimizer), members))
        self.population = start(keys[2])
        self.first = jax.tree.map(np.asarray, self.population.params)
        self.members = pop.unstack(self.population) if members == settings.compare else []
        self.program, self.compile_s = compiled(steps, keys[3], self.population, donate_argnums=1)
        self._key = keys[3]

    def train(self) -> Any:
        """All steps of all members."""
        self.population, losses = self.program(self._key, self.population)
        return losses


def batch_loss(network: Network, params: Any, batch: Any) -> jax.Array:
    """The cross-entropy of a batch `(x, y)`."""
    return -log_likelihood(network.apply(params, batch[0]), batch[1])


class Peer(NamedTuple):
    """One way to train: losses of the first population on the first batch, and a call that takes all steps."""

    losses: np.ndarray
    train: Call


def jax_loop(own: Training) -> Peer:
    """Python loops over members and steps: a batch made by indexing, then a jitted step."""
    step = jax.jit(lambda member, batch: _step(own, member, batch))
    return _loop(own, lambda member, rows: step(member, jax.tree.map(lambda leaf: leaf[rows], own.data)))


def tight_loop(own: Training) -> Peer:
    """The same with all a loop can do: the batch is made inside the step, which takes the member's place in memory."""
    program = lambda member, rows: _step(own, member, jax.tree.map(lambda leaf: leaf[rows], own.data))  # noqa: E731
    return _loop(own, jax.jit(program, donate_argnums=0))


def torch_loop(own: Training) -> Peer | None:
    """PyTorch's own optimizer, one member after another."""
    if find_spec("torch") is None:
        return None
    import torch  # pyright: ignore[reportMissingImports]

    x, y, rows, stacked = _torch_arrays(torch, own)
    losses = []
    runs = []
    for i in range(len(own.members)):
        params = [p[i].clone().requires_grad_() for p in stacked]
        runs.append((params, torch.optim.Adam(params, LEARNING_RATE)))
        with torch.no_grad():
            losses.append(float(_torch_loss(torch, params, x[rows[0]], y[rows[0]])))

    def call() -> None:
        for params, optimizer in runs:
            for batch in rows:
                optimizer.zero_grad()
                _torch_loss(torch, params, x[batch], y[batch]).backward()
                optimizer.step()

    return Peer(np.array(losses), call)


def torch_vmap(own: Training) -> Peer | None:
    """`torch.func.vmap` over the members' gradients, and Adam on the stacked arrays."""
    if find_spec("torch") is None:
        return None
    import torch  # pyright: ignore[reportMissingImports]

    x, y, rows, params = _torch_arrays(torch, own)
    loss = lambda x, y, *params: _torch_loss(torch, params, x, y)  # noqa: E731
    every = tuple(range(2, 2 + len(params)))
    batched = (0, 0, *(0 for _ in params))
    gradients = torch.func.vmap(torch.func.grad(loss, argnums=every), in_dims=batched)
    with torch.no_grad():
        same = rows[0].expand(len(own.members), -1)
        first = torch.func.vmap(loss, in_dims=batched)(x[same], y[same], *params).numpy()
    stacked = [p.clone().requires_grad_() for p in params]
    optimizer = torch.optim.Adam(stacked, LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)

    def call() -> None:
        for _ in range(len(rows)):
            # A batch of each member's own, as jevo has.
            batch = torch.randint(len(x), (len(own.members), rows.shape[1]), generator=generator)
            for p, g in zip(stacked, gradients(x[batch], y[batch], *(p.detach() for p in stacked)), strict=True):
                p.grad = g
            optimizer.step()

    return Peer(first, call)


PEERS: dict[str, Callable[[Training], Peer | None]] = {
    "a Python loop of jitted steps": jax_loop,
    "a tight Python loop": tight_loop,
    "torch.func.vmap": torch_vmap,
    "a PyTorch loop": torch_loop,
}
"""By name; one that is not installed gives None."""


def _compared(settings: Sgd, budget_s: float) -> list[dict[str, Any]]:
    own = Training(settings, settings.compare)
    peers = {name: peer for name, make in PEERS.items() if (peer := make(own))}
    batch = jax.tree.map(lambda leaf: leaf[own.rows[0]], own.data)
    losses = jax.vmap(lambda params: batch_loss(own.network, params, batch))(jax.tree.map(jnp.asarray, own.first))
    for name, peer in peers.items():
        np.testing.assert_allclose(peer.losses, losses, rtol=1e-4, atol=1e-5, err_msg=name)
    calls = {"train": own.train, "plain": plain_product()}
    times = in_turns(calls, budget_s, {name: peer.train for name, peer in peers.items()})
    amount, needed = settings.compare * settings.steps, flops(settings, settings.compare)
    rate = plain_rate(times["plain"])
    others = [figures.row(name, settings.compare, amount, times[name], flops=needed, rate=rate) for name in peers]
    return [*others, _row(settings, own, settings.compare, times)]


def _row(settings: Sgd, own: Training, members: int, times: dict[str, Times]) -> dict[str, Any]:
    return figures.row(
        figures.OWN,
        members,
        members * settings.steps,
        times["train"],
        flops=flops(settings, members),
        rate=plain_rate(times["plain"]),
        compile_s=own.compile_s,
        bytes_per_member=needs(own.program) / members,
    )


def _step(own: Training, member: Learner, batch: Any) -> Learner:
    gradient = jax.grad(lambda params: batch_loss(own.network, params, batch))(member.params)
    updates, state = own.optimizer.update(gradient, member.optimizer, member.params)
    return Learner(optax.apply_updates(member.params, updates), state)


def _loop(own: Training, step: Callable[[Learner, jax.Array], Learner]) -> Peer:
    batch = jax.tree.map(lambda leaf: leaf[own.rows[0]], own.data)
    loss = jax.jit(lambda params: batch_loss(own.network, params, batch))
    # Copies: a step may take the place of what it is given.
    members = jax.tree.map(jnp.copy, own.members)
    losses = np.array([loss(member.params) for member in members])
    batches = list(own.rows)

    def call() -> Any:
        for i in range(len(members)):
            for rows in batches:
                members[i] = step(members[i], rows)
        return members

    return Peer(losses, call)


def _torch_arrays(torch: Any, own: Training) -> tuple[Any, Any, Any, list[Any]]:
    """The examples, the rows of each step, and kernel and bias of each layer, `[P, ...]`."""
    x, y, rows = (torch.tensor(np.asarray(a)) for a in (*own.data, own.rows))
    params = [torch.tensor(layer[name]) for layer in own.first.values() for name in ("kernel", "bias")]
    return x, y.long(), rows.long(), params


def _torch_loss(torch: Any, params: Any, x: Any, y: Any) -> Any:
    for i in range(0, len(params), 2):
        x = x @ params[i] + params[i + 1]
        if i + 2 < len(params):
            x = torch.relu(x)
    return torch.nn.functional.cross_entropy(x, y)
