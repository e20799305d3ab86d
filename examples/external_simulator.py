"""A simulator that knows nothing of JAX, by ask and tell: networks learn to balance a pole on a cart."""

import math
import random

import jax
import numpy as np

from jevo import genetics, networks, population


def seconds_upright(policy, seed, seconds=20):
    """Until the pole leans too far. This could be any other program: arrays of a member in, a number out."""
    x, lean, speed, spin = (random.Random(seed + i).uniform(-0.3, 0.3) for i in range(4))
    for step in range(50 * seconds):
        if abs(x) > 2.4 or abs(lean) > math.radians(30):
            return step / 50
        hidden = np.tanh(np.array([x, lean, speed, spin]) @ policy["layer_0"]["kernel"])
        push = 10 if hidden @ policy["layer_1"]["kernel"] > 0 else -10
        pull = (push + 0.05 * spin**2 * math.sin(lean)) / 1.1
        turn = (9.8 * math.sin(lean) - pull * math.cos(lean)) / (2 / 3 - math.cos(lean) ** 2 / 22)
        x, lean, speed = x + speed / 50, lean + spin / 50, speed + (pull - turn * math.cos(lean) / 22) / 50
        spin += turn / 50
    return seconds


def scores(members, seeds=range(5)):
    policies = [jax.tree.map(np.asarray, population.take(members, i)) for i in range(population.size(members))]
    return np.array([np.mean([seconds_upright(policy, 100 * seed) for seed in seeds]) for policy in policies])


algorithm = genetics.genetic(genetics.truncation(8), genetics.uniform(per="neuron"), genetics.gaussian(0.3), elites=4)
members = population.init(jax.random.key(0), networks.mlp([4, 8, 1], bias=False).init, 32)
ask, tell, state = jax.jit(algorithm.ask), jax.jit(algorithm.tell), algorithm.init(members, scores(members))
for number in range(1, 12):
    candidates = ask(jax.random.key(number), state)
    state = tell(state, candidates, scores(candidates.members))
    print(f"generation {number}: best {state.fitness.max():.1f} s of 20, median {np.median(state.fitness):.1f} s")
best = population.take(state.population, state.fitness.argmax()[None])
print("from 50 other starts:", *scores(best, range(100, 150)), "s")
