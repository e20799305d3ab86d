"""Bad settings, YAML, spaces and data by the hundred, each of which shall end in one plain line.

`python -m tests.bad_input` takes each to the moment before anything trains: it is refused in one line and at once, or
it turns out to be good.
"""

import argparse
import contextlib
import dataclasses
import io
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from jevo.errors import InputError
from jevo.experiments import EXPERIMENTS, experiment
from jevo.hyperparams.parsing import SPACES
from jevo.runs.arguments import from_command_line
from jevo.runs.own import Given

SLOW = 2.0
"""A refusal may take so long [s]."""
CONDITIONAL = {
    "optimizer": ["sgd", "adam", "nadam"],
    "weight_decay": {"values": [None, 0.1], "when": {"optimizer": ["adam", "nadam"]}},
    "lr": {"min": 0.001, "max": 0.1, "log": True, "when": {"weight_decay": 0.1, "optimizer": "adam"}},
    "dense": {
        "layers": [1, 2],
        "units": {"min": 4, "max": 64, "log": True},
        "activation": ["relu", "tanh"],
        "dropout": {"values": [None, 0.5], "when": {"activation": "relu", "optimizer": "sgd"}},
    },
    "conv": {"layers": 1, "units": [2, 3], "when": {"optimizer": "nadam"}},
}
"""A space with every form that a gene has."""
HOSTILE = [
    *("", " ", "-", "--", "--fresh", "-1", "0", "1e30", "1e999", "-inf", "inf", "nan", "NaN", "abc", "1_000", "0x10"),
    *("None", "null", "true", "[]", "{}", "!!", "\u0661\u0662", "\udcff", "a\nb", "'", '"', "~nosuchuser", "/dev/zero"),
    *("0.5", "1.5", "-0.0", "1e-400", str(2**31), str(2**32), str(2**63), str(10**30), "9" * 5000, "x" * 300, "\0"),
]
"""Words in place of a value."""


def hostile_flags(generator, folder, name):
    """A setting or two with a word that does not fit, or may not."""
    fields = [field.name for field in dataclasses.fields(experiment(name).config)]
    arguments = []
    for _ in range(generator.randint(1, 2)):
        flag = "--" + generator.choice(fields).replace("_", "-")
        word = generator.choice(HOSTILE)
        arguments += generator.choice([[flag, word], [f"{flag}={word}"], [flag], [word, flag], [flag[:-2], word]])
    return arguments


def nested(generator, depth=0):
    """Something that YAML may hold."""
    kind = generator.randrange(9 if depth < 4 else 6)
    if kind < 2:
        return generator.choice([0, -1, 10**30, 2**63, 1.5, float("inf"), float("nan"), True, None, 1e-400])
    if kind < 6:
        return generator.choice([word for word in HOSTILE if word.isprintable()])
    if kind < 8:
        return [nested(generator, depth + 1) for _ in range(generator.randrange(4))]
    return {
        generator.choice([1, None, "a", "layers", "min", "max", "when", "values", "optimizer"]): nested(
            generator, depth + 1
        )
        for _ in range(3)
    }


def hostile_yaml(generator, folder, name):
    """A settings file of values of any type, whole or broken."""
    fields = [field.name for field in dataclasses.fields(experiment(name).config)]
    chosen = {generator.choice(fields): nested(generator) for _ in range(generator.randint(1, 3))}
    path = folder / "settings.yaml"
    path.write_bytes(broken(generator, yaml.safe_dump(chosen, allow_unicode=True)))
    return ["--config", str(path)]


def broken(generator, text):
    """The bytes of a text, often in another encoding, cut short, flipped, repeated, nested, or full of aliases."""
    kind = generator.randrange(12)
    if kind == 0:
        return text.encode("utf-16")
    if kind == 1:
        return text.encode("latin-1", "replace") + b"caf\xe9: 1\n"
    if kind == 2:
        return text.encode()[: generator.randrange(len(text) + 1)]
    if kind == 3:
        return b"[" * generator.choice([100, 3000, 200_000])
    if kind == 4:
        return (text + text).encode()
    if kind == 5:
        links = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
        return ("a0: &a0 [x, x]\n" + links + text).encode()
    if kind == 6:
        return generator.randbytes(200)
    if kind == 7:
        return text.replace("\n", "\r\n\t").encode()
    if kind == 8:
        return text.encode() + b"\0"
    if kind == 9:
        return f"{text}---\n{text}".encode()
    return text.encode()


def hostile_space(generator, folder, name):
    """A space in which one value, of any gene, is no value."""
    space = yaml.safe_load(
        yaml.safe_dump({**SPACES, "conditional": CONDITIONAL}[generator.choice([*SPACES, "conditional"])])
    )
    for _ in range(generator.randint(1, 2)):
        at = space
        while True:
            key = generator.choice(list(at))
            if isinstance(at[key], dict) and at[key] and generator.random() < 0.8:
                at = at[key]
                continue
            if isinstance(at[key], list) and generator.random() < 0.7:
                at[key] = [*at[key], nested(generator, 3)]
            else:
                at[key] = nested(generator, 2)
            break
    path = folder / "space.yaml"
    path.write_bytes(broken(generator, yaml.safe_dump(space, allow_unicode=True)))
    return ["--space", str(path), "--preset", "smoke"]


def hostile_table(generator, folder, name):
    """A table of numbers and classes with something that does not belong there."""
    draw = np.random.default_rng(generator.randrange(2**32))
    rows = [[*map(str, draw.normal(size=4).round(3)), draw.choice(["yes", "no"])] for _ in range(60)]
    rows.insert(0, ["a", "b", "c", "d", "e"])
    for _ in range(generator.randint(0, 2)):
        row, column = generator.randrange(len(rows)), generator.randrange(5)
        word = generator.choice([*HOSTILE, "NA", "?", "1,5", "2020-01-01", "12%", ",", ";", "#", '"', "e\u0301"])
        rows[row][column : column + 1] = generator.choice([[word], [word, word], []])
    separator = generator.choice([",", ",", ";", "\t", "|", " "])
    text = "\n".join(separator.join(row) for row in rows).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    path = folder / generator.choice(["table.csv", "table.csv", "table.npz", "table.parquet"])
    path.write_bytes(broken(generator, text))
    label = generator.choice([[], [], ["--label", generator.choice(["a", "e", "9", "-1", "nosuch", "", "0"])]])
    return ["--data", str(path), *label]


def hostile_arrays(generator, folder, name):
    """An .npz whose arrays do not fit each other, or are of no usable type."""
    draw = np.random.default_rng(generator.randrange(2**32))
    x, y = draw.normal(size=(40, 3)), draw.integers(0, 3, 40)
    special = [np.nan, np.inf, 1e300, 1e-300]
    arrays = {"x_train": x, "y_train": y}
    for _ in range(generator.randint(1, 2)):
        arrays |= generator.choice(
            [
                {"x_train": x.astype(generator.choice(["complex64", "S5", "U3", "float16", ">f8", "bool", "uint64"]))},
                {"x_train": np.where(draw.random(x.shape) < 0.1, generator.choice(special), x)},
                {"x_train": x[:30]}, {"x_train": x[..., None, None, None]}, {"x_train": x[:, 0]}, {"x_train": x[:, :0]},
                {"x_train": np.array([1, "a", None], object)}, {"y_train": y[:, None]}, {"y_train": y + 0.5},
                {"y_train": np.eye(3)[y]}, {"y_train": np.where(y == 1, np.nan, y)}, {"y_train": y.astype("S")},
                {"y_train": np.zeros(40)}, {"y_train": np.arange(40)}, {"x_test": x, "y_test": y + 1}, {"x_test": x},
                {"x_test": x[:, :2], "y_test": y}, {"y_train": y.astype(bool)}, {"y_train": np.array(1)},
            ]
        )  # fmt: skip
    path = folder / "arrays.npz"
    np.savez(path, allow_pickle=True, **arrays)
    if generator.random() < 0.3:
        raw = bytearray(path.read_bytes())
        raw[generator.randrange(len(raw))] ^= 1 << generator.randrange(8)
        path.write_bytes(bytes(raw[: generator.choice([len(raw), len(raw) // 2])]))
    return ["--data", str(path)]


KINDS = (hostile_flags, hostile_yaml, hostile_space, hostile_table, hostile_arrays)


def attempt(name, arguments):
    """What becomes of a command before anything trains: the line that refuses it, or "" if it is good; and seconds."""
    began, found = time.perf_counter(), experiment(name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            config = from_command_line(found.config, arguments)
            dataset = found.dataset(config)
            found.contest(config, dataset, Given.usual(dataset))
        line = ""
    except InputError as error:
        line = str(error)
        assert line.strip(), "a refusal that says nothing"
        assert len(line.splitlines()) == 1, f"a refusal of several lines: {line!r}"
        assert len(line) < 2000, f"a refusal of {len(line)} letters"
    except SystemExit as stop:
        if stop.code:  # It is 0 after --help.
            raise
        line = ""
    return line, time.perf_counter() - began


def trial(generator, folder):
    """One input: `(experiment, arguments)`."""
    kind = generator.choice(KINDS)
    names = [name for name in EXPERIMENTS if name != "signs"]
    name = "hyperparams" if kind is hostile_space else generator.choice(names)
    return kind, name, ["--out", str(folder / "run"), *kind(generator, folder, name)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    refused, slowest, wrong = Counter(), 0.0, 0
    for number in range(asked.count):
        generator = random.Random(f"{asked.seed} {number}")
        with tempfile.TemporaryDirectory(prefix="jevo-bad-") as folder:
            kind, name, arguments = trial(generator, Path(folder))
            try:
                line, seconds = attempt(name, arguments)
                assert not line or seconds < SLOW, f"it took {seconds:.1f} s to say: {line}"
            except BaseException as error:  # Whatever comes: the input is what is wanted.
                wrong += 1
                print(f"{number}: {name} {arguments!r:.300}: {type(error).__name__}: {str(error)[:300]}", flush=True)
                if isinstance(error, KeyboardInterrupt):
                    raise
                continue
        refused[kind.__name__, bool(line)] += 1
        slowest = max(slowest, seconds if line else 0.0)
    for (kind, said), count in sorted(refused.items()):
        print(f"{kind}: {count} {'refused' if said else 'good'}")
    print(f"{asked.count} inputs, {wrong} wrong, the slowest refusal {slowest:.2f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
