"""Stages of a run, taken step by step without its loop."""

import jax


def walk(stage, data):
    """Every carry of a stage, the first included, and the metrics of every generation."""
    programs = stage.programs(stage.chunk)
    carries, metrics = [jax.jit(programs.start)(data)], []
    step = jax.jit(programs.step)
    for _ in range(stage.generations):
        carry, values = step(carries[-1], data)
        carries.append(carry)
        metrics.append(values)
    return carries, metrics
