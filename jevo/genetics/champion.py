"""The champion of a search, and what counts as better where two programs have scored."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jevo import population as pop
from jevo.genetics.algorithm import State
from jevo.genetics.selection import as_fitness
from jevo.types import Fitness, Member, Population

TIE = 2.0**-18
"""The share of a score that is rounding: 32 units in the last place of a float32."""


class Search(NamedTuple):
    """A State, and the champion so far.

    Attributes:
        state: of the algorithm.
        champion: the member with the best validation so far.
        validation: float32 `[]`, its worth on validation data, higher is better; -inf before the first look.
        found: int32 `[]`, when it was found, in the search's own unit of time.
        front: of more than one objective, the `Archive` of the best compromises so far.
    """

    state: State
    champion: Member
    validation: jax.Array
    found: jax.Array
    front: Any = ()


def rounding(fitness: Fitness) -> jax.Array:
    """What two programs that compute the same score may differ by: scores this near to each other are a tie.

    Where scores of two programs are compared (a child's with its parents', a champion's with a rival's), it says which
    differences count. Scores of one program, as a selection ranks them, are compared as they are; there, members that
    are equal bit for bit keep their order.
    """
    return jnp.where(jnp.isfinite(fitness), TIE * jnp.abs(fitness), 0.0)


def update_champion(search: Search, members: Population, validation: jax.Array, found: jax.Array) -> Search:
    """The search with a new champion, if one of these members is better than the old one by more than rounding.

    So of equals the first one found is the champion, whichever program scored them.

    Args:
        search: as it was.
        members: who stand for champion, `[n, ...]`.
        validation: of each, float32 `[n]`; one that is NaN does not win.
        found: int32 `[]`, what time it is.
    """
    validation = as_fitness(validation, pop.size(members), "those who stand for champion")
    best = jnp.argmax(jnp.where(jnp.isnan(validation), -jnp.inf, validation))
    better = validation[best] > search.validation + rounding(search.validation)
    new = (pop.take(members, best), validation[best], found)
    old = (search.champion, search.validation, search.found)
    champion, validation, found = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
    return search._replace(champion=champion, validation=validation, found=found)
