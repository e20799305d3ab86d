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
import optax
from flax import nnx

from jevo import genetics, networks, population, training
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

    def loss(params, batch, key):
        logits, params = network.update(params, task.inputs(batch.x), key)
        return -training.log_likelihood(logits, batch.y), params

    def worth(params, examples):
        def score(batch):
            logits = network.apply(params, task.inputs(batch.x))
            return {"loss": -training.log_likelihood(logits, batch.y), "accuracy": training.accuracy(logits, batch.y)}

        return {name: float(value) for name, value in training.mean_over_rows(score, examples, 500).items()}

    began = time.perf_counter()
    start_key, train_key, key = jax.random.split(jax.random.key(given.seed), 3)
    pair = population.init(start_key, training.learner(network.init, optimizer), 2)
    # In legs: a line now and then.
    for leg in range(given.epochs):
        pair, losses = training.train(
            jax.random.fold_in(train_key, leg),
            pair,
            train,
            loss,
            optimizer,
            steps=steps // given.epochs,
            batch_size=128,
        )
        print(
            f"epoch {leg + 1}: train loss {losses[:, -20:].mean(axis=1)}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    first, second = (population.take(pair, i).params for i in (0, 1))

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
