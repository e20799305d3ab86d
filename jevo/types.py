"""The vocabulary of jevo in one file: read this first.

- A **member** is one candidate: any pytree of arrays, without a population axis.
- A **population** is members stacked: the same pytree, every leaf `[P, ...]`.
- The **genome** is the part of a member that evolution varies.
- **Fitness** is float32 `[P]`, higher is better, always. A loss enters as its negative. NaN means
  that the member failed; it becomes -inf where a State is made (`init` and `tell` of an algorithm).
- A **generation** is ask, score, tell.
- The **champion** is the member chosen on validation data.
- A **budget** is what a comparison holds equal: member evaluations and member gradient steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Key = jax.Array
"""One typed random key (`jax.random.key`): first argument, consumed, never returned."""

Member = Any
"""A pytree of arrays (or of `jevo.bits.Bits`): one candidate."""


class Stateful(NamedTuple):
    """The member of a network that keeps something beside its weights, such as running statistics: where others have
    params, it has this.

    Gradients, optimizers, mutation and crossover change its `params`, and see nothing else of it; a training pass of
    the network changes its `state`. A child has its first parent's.

    Attributes:
        params: the weights.
        state: a pytree of arrays.
    """

    params: Member
    state: Any


Population = Any
"""Members stacked: the pytree of a member, with a leading axis `[P, ...]` on every leaf."""

Fitness = jax.Array
"""float32 `[P]`, higher is better; -inf for a member that failed."""

Rate = float | jax.Array
"""A probability in [0, 1]. A traced scalar is allowed, so a rate may follow a schedule inside `jit`."""


class Breeders(NamedTuple):
    """Who may breed, and who does: only the pool is gathered, however large the population.

    Attributes:
        pool: int32 `[B]`, indices into the population.
        drawn: int32 `[n]`, positions in the pool.
    """

    pool: jax.Array
    drawn: jax.Array

    @property
    def indices(self) -> jax.Array:
        """Who breeds, int32 `[n]`."""
        return self.pool[self.drawn]


Select = Callable[[Key, Fitness, int], Breeders]
"""`(key, fitness [P], n) -> Breeders`: indices of the members that breed, never the members."""

Cross = Callable[..., Member]
"""`(key, first, second) -> child`, written for one pair (some operators take more parents); the engine vmaps it."""

Mutate = Callable[[Key, Member], Member]
"""`(key, member) -> member`, written for one member; the engine vmaps it."""

Mix = Callable[[Key, Population], Population]
"""`(key, population) -> population`, written for all members together: what they give to each other as they train."""


class Axis(NamedTuple):
    """Where units run along an array: `path` to it from the root of the params, and its axis.

    If the axis is longer than there are units, it is `[blocks, units, inner]` flattened: `[blocks, units]` as after a
    convolution, `[units, inner]` as heads of attention are.
    """

    path: tuple[str | int, ...]
    axis: int
    inner: int = 1
    units: int = 0
    """How many there are, where the symmetry's first axis is not as long as that."""


Symmetry = tuple[Axis, ...]
"""Units, such as the hidden ones of a layer, which may be renumbered along all these axes at once without changing what
the network computes. The first is that of the layer's own kernel: its length, or its `units`, is their number."""
