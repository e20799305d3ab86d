"""The mean of two ResNets: of weights as they are, of matched ones, and with statistics that are estimated anew.

    python experiments/barrier/barrier.py --data cifar10.npz --out experiments/barrier/result.json

Two ResNet-20s with batch normalisation (He et al., "Deep residual learning for image recognition", 2016; theirs have a
width of 16) learn the same images from other first weights and in other batches. Their units are found by
`networks.symmetries` and matched by `genetics.align`; statistics of a mean are estimated by `training.recalibration`
(Jordan et al., "REPAIR", 2022). The barrier is the loss of a mean less the mean loss of the two.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jevo import genetics, networks, training
from jevo.data import load
from jevo.data.task import to_device
from jevo.stateful import genome, with_genome


class Block(nnx.Module):
    def __init__(self, before, width, stride, rngs):
        self.first = nnx.Conv(before, width, (3, 3), stride, use_bias=False, rngs=rngs)
        self.second = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(width, rngs=rngs) for _ in range(2)])
        self.past = nnx.Conv(before, width, (1, 1), stride, use_bias=False, rngs=rngs) if before != width else None

    def __call__(self, x):
        h = self.norms[1](self.second(nnx.relu(self.norms[0](self.first(x)))))
        return nnx.relu(h + (x if self.past is None else self.past(x)))


class ResNet20(nnx.Module):
    def __init__(self, width, rngs):
        self.stem, self.norm = nnx.Conv(3, width, (3, 3), use_bias=False, rngs=rngs), nnx.BatchNorm(width, rngs=rngs)
        widths = [width] * 3 + [2 * width] * 3 + [4 * width] * 3
        self.blocks = nnx.List(
            [Block(a, b, 1 + (a != b), rngs) for a, b in zip([width, *widths[:-1]], widths, strict=True)]
        )
        self.out = nnx.Linear(4 * width, 10, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            h = block(h)
        return self.out(h.mean(axis=(1, 2)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=10_000, help="train images")
    parser.add_argument("--width", type=int, default=8, help="channels of the first stage")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="")
    given = parser.parse_args()

    dataset = load(given.data)
    task = to_device(dataset)
    train = jax.tree.map(lambda leaf: leaf[: given.images], task.train)
    test = type(train)(jnp.asarray(dataset.test.x), jnp.asarray(dataset.test.y))
    network = networks.from_nnx(lambda rngs: ResNet20(given.width, rngs))
    steps = given.epochs * (len(train.y) // 128)
    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, 4e-3), weight_decay=1e-3)

    def loss(weights, params, batch, key):
        logits, params = network.update(with_genome(params, weights), task.inputs(batch.x), key)
        return -training.log_likelihood(logits, batch.y).mean(), params

    # One network after the other, a step at a time: on a CPU, XLA's convolutions are fast neither side by side nor in
    # loops.
    @jax.jit
    def step(params, moments, batch, key):
        (value, params), slope = jax.value_and_grad(loss, has_aux=True)(genome(params), params, batch, key)
        updates, moments = optimizer.update(slope, moments, genome(params))
        return with_genome(params, optax.apply_updates(genome(params), updates)), moments, value

    @jax.jit
    def scores(params, batch):
        logits = network.apply(params, task.inputs(batch.x))
        return {"loss": -training.log_likelihood(logits, batch.y), "accuracy": training.accuracy(logits, batch.y)}

    def worth(params, examples):
        parts = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 500], examples) for i in range(0, len(examples.y), 500)]
        found = [scores(params, part) for part in parts]
        return {name: float(np.mean([of[name] for of in found])) for name in found[0]}

    began = time.perf_counter()
    first_key, second_key, key = jax.random.split(jax.random.key(given.seed), 3)

    def trained(key):
        params = network.init(key)
        moments = optimizer.init(genome(params))
        for epoch in range(given.epochs):
            rows = jax.random.permutation(jax.random.fold_in(key, epoch), len(train.y))
            for i in range(0, len(rows) // 128 * 128, 128):
                batch = jax.tree.map(lambda leaf, i=i, rows=rows: leaf[rows[i : i + 128]], train)
                params, moments, value = step(params, moments, batch, key)
            print(f"epoch {epoch + 1}: train loss {value:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
        return params

    first, second = trained(first_key), trained(second_key)

    x = task.inputs(train.x[:1000])
    began = time.perf_counter()
    symmetries = networks.symmetries(network, x[:8])
    found_s = time.perf_counter() - began
    matched = with_genome(second, genetics.align(genome(first), genome(second), symmetries))
    recalibrate = training.recalibration(network, x)

    def mean(a, b):
        return jax.tree.map(lambda *leaves: sum(leaves) / 2, a, b)

    kinds = {
        "first": first,
        "second": second,
        "second, renumbered": recalibrate(key, matched),
        "mean": mean(first, second),
        "mean, statistics anew": recalibrate(key, mean(first, second)),
        "matched mean": mean(first, matched),
        "matched mean, statistics anew": recalibrate(key, mean(first, matched)),
    }
    splits = {"train": train, "test": test}
    found = {name: {split: worth(params, of) for split, of in splits.items()} for name, params in kinds.items()}
    for name, of in found.items():
        for split in splits:
            ends = (found["first"][split]["loss"] + found["second"][split]["loss"]) / 2
            of[split]["barrier"] = of[split]["loss"] - ends
        print(f"{name:32s}", {split: {n: round(v, 4) for n, v in of[split].items()} for split in splits})
    settings = {**vars(given), "data": dataset.name.rpartition("/")[2], "steps": steps}
    result = {"settings": settings, "symmetries": len(symmetries), "symmetries_s": round(found_s, 1), "found": found}
    if given.out:
        with open(given.out, "w") as file:
            file.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
