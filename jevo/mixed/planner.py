"""Which members share a compiled program: padding costs time in every step, a program of one's own costs compiling it.

The plan is a function of the members and of the programs planned before, with the costs of a kind of device as they
were measured once. Timing the run itself would be a better guess and a worse idea: another plan pads otherwise, which
changes the last bits of a result.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, zip_longest
from typing import NamedTuple

from jevo.mixed.architectures import Architecture
from jevo.mixed.programs import Frame, Program
from jevo.mixed.unpadded import kernel_shapes


class Costs(NamedTuple):
    """What things cost on a kind of device.

    Attributes:
        flops_per_s: of matrix products.
        bytes_per_s: of memory.
        step_s: of a gradient step that computes next to nothing [s].
        compile_s: of a program of no layer [s].
        layer_s: of compiling each layer [s].
        together: members that train side by side, by `vmap`; then layers that one passes by are computed all the same.
    """

    flops_per_s: float
    bytes_per_s: float
    step_s: float
    compile_s: float
    layer_s: float
    together: int = 1


COSTS = {
    # Measured as CPU time over two cores: seven CNNs of 16 to 128 channels, exact and joined, in batches of 300, took
    # what is expected up to 10%.
    "cpu": Costs(1.4e11, 9e9, 4e-4, 1.5, 0.6),
    # Not measured: from the figures that vendors and users give.
    "gpu": Costs(2e13, 1e12, 1e-4, 4.0, 1.0, together=32),
    "tpu": Costs(2e13, 6e11, 1e-4, 6.0, 1.5, together=32),
}


class Work(NamedTuple):
    """What members are trained with.

    Attributes:
        batch_size: train examples in a step.
        steps: in an epoch.
        epochs: the most that a program may have to train.
    """

    batch_size: int
    steps: int
    epochs: int


class Batch(NamedTuple):
    """Members that one call trains.

    Attributes:
        program: that they share.
        members: their indices in what was planned.
        seconds: expected, without compiling.
    """

    program: Program
    members: tuple[int, ...]
    seconds: float


class Plan(NamedTuple):
    """Who trains with whom.

    Attributes:
        batches: in an order in which the first of every program come first.
        compiled: programs that were not known before.
        seconds: expected of training and compiling.
        padding: the share of the training seconds that padding takes.
    """

    batches: list[Batch]
    compiled: tuple[Program, ...]
    seconds: float
    padding: float

    def __str__(self) -> str:
        members = sum(len(batch.members) for batch in self.batches)
        programs = len({batch.program for batch in self.batches})
        return (
            f"{members} to train in {programs} programs, {len(self.compiled)} of them new; "
            f"padding {self.padding:.0%}; about {self.seconds:.0f} s"
        )


Groups = dict[Program, list[Architecture]]


def plan(
    members: Sequence[Architecture],
    known: Collection[Program],
    work: Work,
    costs: Costs,
    settled: Mapping[int, Program] | None = None,
) -> Plan:
    """The cheapest of three plans: every member exactly, as few programs as there can be, or joined where that pays.

    Args:
        members: who is to be trained.
        known: programs that need no compiling.
        work: what they are trained with.
        costs: of the device.
        settled: programs of members that go on, by their index: they stay where they are, so that what they come to
            has the same bits as without a pause.
    """
    settled = dict(settled or {})
    free = [i for i in range(len(members)) if i not in settled]
    chosen = dict(zip(free, _chosen([members[i] for i in free], known, work, costs), strict=True))
    return _planned(members, [(settled | chosen)[i] for i in range(len(members))], known, work, costs)


def _chosen(members: Sequence[Architecture], known: Collection[Program], work: Work, costs: Costs) -> list[Program]:
    """The program of each member."""

    def cost(program: Program, group: Sequence[Architecture]) -> float:
        compiling = 0.0 if program in known else compile_seconds(program, costs)
        return compiling + sum(seconds(program, member, work, costs) for member in group)

    alone: Groups = {}
    for member in members:
        alone.setdefault(exact(member, work.epochs), []).append(member)
    # A program that is there already takes in whom it costs less than one of their own.
    hosted: Groups = {}
    for program, group in alone.items():
        hosts = [host for host in known if fits(group[0], host)]
        best = min([program, *hosts], key=lambda host: cost(host, group))
        hosted.setdefault(best, []).extend(group)
    # The pair that saves most is joined, again and again.
    joined, fewest = _merged(hosted, cost, lambda saving: saving > 0), _merged(alone, cost, lambda saving: True)
    programs = min((joined, alone, fewest), key=lambda groups: sum(cost(*item) for item in groups.items()))

    def cheapest(member: Architecture) -> Program:
        return min((p for p in programs if fits(member, p)), key=lambda p: seconds(p, member, work, costs))

    return [cheapest(member) for member in members]


def _merged(
    groups: Groups,
    cost: Callable[[Program, Sequence[Architecture]], float],
    wanted: Callable[[float], bool],
) -> Groups:
    groups = dict(groups)
    savings: dict[tuple[Program, Program], tuple[float, Program]] = {}

    def look(one: Program, other: Program) -> None:
        if both := join(one, other):
            apart = cost(one, groups[one]) + cost(other, groups[other])
            savings[one, other] = apart - cost(both, groups[one] + groups[other]), both

    for one, other in combinations(groups, 2):
        look(one, other)
    while savings:
        (one, other), (saving, both) = max(savings.items(), key=lambda item: item[1][0])
        if not wanted(saving):
            break
        group = groups.pop(one) + groups.pop(other)
        savings = {pair: value for pair, value in savings.items() if not {one, other, both} & set(pair)}
        groups[both] = groups.get(both, []) + group
        for program in groups:
            if program != both:
                look(program, both)
    return groups


def _planned(
    members: Sequence[Architecture], hosts: Sequence[Program], known: Collection[Program], work: Work, costs: Costs
) -> Plan:
    by_program: dict[Program, list[int]] = {}
    # Those that train for as long go together.
    for i in sorted(range(len(members)), key=lambda i: -members[i].epochs):
        by_program.setdefault(hosts[i], []).append(i)
    rounds: dict[int, list[Batch]] = {}
    for program, indices in by_program.items():
        for number, first in enumerate(range(0, len(indices), costs.together)):
            chosen = tuple(indices[first : first + costs.together])
            expected = sum(seconds(program, members[i], work, costs) for i in chosen)
            rounds.setdefault(number, []).append(Batch(program, chosen, expected))
    batches = [batch for number in sorted(rounds) for batch in sorted(rounds[number], key=lambda b: -b.seconds)]
    new = tuple(program for program in by_program if program not in known)
    training = sum(batch.seconds for batch in batches)
    least = sum(seconds(exact(member, work.epochs), member, work, costs) for member in members)
    padding = max(1 - least / training, 0.0) if training else 0.0
    return Plan(batches, new, training + sum(compile_seconds(program, costs) for program in new), padding)


def exact(of: Architecture, epochs: int) -> Program:
    """A member's program without padding."""
    convs = tuple(Frame(conv.kernel, conv.units, conv.pool, conv.output) for conv in of.conv)
    return Program(of.shape, of.classes, convs, of.dense, len(of.dense), epochs)


def join(one: Program, other: Program) -> Program | None:
    """The smallest program for the members of both, or None: what no padding makes alike is how many convolutions there
    are, whether there are dense layers, and what is pooled."""
    if bool(one.dense) != bool(other.dense) or [c.pool for c in one.conv] != [c.pool for c in other.conv]:
        return None
    convs = tuple(_framed(a, b) for a, b in zip(one.conv, other.conv, strict=True))
    least = min(one.least, other.least)
    widths = [max(pair) for pair in zip_longest(one.dense, other.dense, fillvalue=0)]
    if least < len(widths):
        # Whoever passes a layer by hands on what the layer before it made.
        widths[least - 1 :] = [max(widths[least - 1 :])] * (len(widths) - least + 1)
    return one._replace(conv=convs, dense=tuple(widths), least=least, epochs=max(one.epochs, other.epochs))


def _framed(one: Frame, other: Frame) -> Frame:
    """The smallest frame for the members of both."""
    height, width = (max(sizes) for sizes in zip(one.output, other.output, strict=True))
    return Frame(max(one.kernel, other.kernel), max(one.units, other.units), one.pool, (height, width))


def fits(of: Architecture, program: Program) -> bool:
    """Whether a program can train a member."""
    own = exact(of, of.epochs)
    joined = join(own, program)
    # Joining may lower `least` or widen a layer that the program has: then it is another program.
    return joined == program


@lru_cache(maxsize=100_000)
def seconds(program: Program, of: Architecture, work: Work, costs: Costs) -> float:
    """Expected time of training one member in a program."""
    convs = len(program.conv)
    present = {*(f"conv_{i}" for i in range(convs)), *(f"dense_{i}" for i in range(len(of.dense))), "output"}
    flops = moved = 0.0
    for i, (name, shape) in enumerate(kernel_shapes(program.padded).items()):
        if name not in present and costs.together == 1:
            continue
        pixels = math.prod(program.conv[i].output) if i < convs else 1
        size = math.prod(shape)
        # Forward, the gradient of the kernel, and that of the input of all layers but the first.
        flops += 2 * size * pixels * work.batch_size * (3 if i else 2)
        # Weights, gradient and two slots are read, and three of them written; units pass a dozen times, patches four.
        moved += 28 * size + 48 * shape[-1] * pixels * work.batch_size
        if i < convs:
            moved += 16 * size // shape[-1] * pixels * work.batch_size
    step = costs.step_s + flops / costs.flops_per_s + moved / costs.bytes_per_s
    return step * work.steps * of.epochs


def compile_seconds(program: Program, costs: Costs) -> float:
    """Expected time of compiling a program."""
    return costs.compile_s + costs.layer_s * (4 * len(program.conv) + len(program.dense))
