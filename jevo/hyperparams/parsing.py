"""Spaces as users write them, in YAML or as plain Python, and the built-in ones."""

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from jevo.errors import InputError, suggestion
from jevo.hyperparams.genes import MAX_VALUES, Choice, Gene, LogInteger, Real, Scalar, rounded
from jevo.hyperparams.space import MAX_LAYERS, Condition, Group, Space


def parse_space(mapping: Mapping[str, Any], source: str) -> Space:
    """A space from what YAML gives, or from Python's own.

    A gene is a scalar (fixed), a list or `{values: list}` (a choice; None is one of its values if the list has it),
    `{min, max}` with integers and perhaps a `step` (a choice of integers), `{min, max}` with floats (a `Real`, or with
    a `step` a choice of floats), or `{min, max, log: true}` (by factors: a `LogInteger` if both are integers, else a
    `Real`). A mapping with `layers`, itself a gene, is a `Group`: its other keys are genes, and `same: true` lets all
    layers share them. Lists may be tuples or NumPy's arrays, values NumPy's scalars.

    A gene that is a mapping, and a group, may have a condition, `when: {optimizer: [sgd, rmsprop]}`: it exists only if
    each of the genes that are named does, and has one of these values. What is named is a choice, of the same layer if
    that has it, or else at the top.

    Args:
        mapping: genes by name.
        source: where it comes from, for messages.

    Raises:
        InputError: if it is no space, naming the gene.
    """
    if not isinstance(mapping, Mapping) or not mapping:
        raise InputError(f"space {source} is {reprlib.repr(mapping)}, but takes at least one gene: name: values")
    parse = _Parser(source)
    parse.names(mapping, "")
    loose = {name: parse.gene(value, name) for name, value in mapping.items() if not _is_group(value)}
    genes = {name: loose[name] if name in loose else parse.group(value, name, loose) for name, value in mapping.items()}
    return Space(genes, parse.conditions(mapping, genes, {}, ""))


def _is_group(value: Any) -> bool:
    return isinstance(value, Mapping) and "layers" in value


@dataclass(frozen=True)
class _Parser:
    """Reads genes of one source, and complains in its name."""

    source: str

    def names(self, of: Mapping[Any, Any], prefix: str) -> None:
        for name in of:
            if not isinstance(name, str) or not name or "." in name or not name.isprintable():
                raise InputError(
                    f"space {self.source}: gene {prefix}{name!r} has no usable name; it takes text without dots "
                    "(YAML reads yes, no, on, off and numbers as something else: put them in quotes)"
                )

    def group(self, value: Mapping[str, Any], name: str, outer: Mapping[str, Gene]) -> Group:
        """A group, whose genes may have conditions on those at the top, `outer`."""
        self.names(value, f"{name}.")
        for inner, gene in value.items():
            if _is_group(gene):
                raise self.error(f"{name}.{inner}", gene, "a list or a range: a group cannot hold a group")
        same = _plain(value.get("same", False))
        if not isinstance(same, bool):
            raise self.error(f"{name}.same", same, "true or false")
        if isinstance(value["layers"], Mapping) and "when" in value["layers"]:
            raise self.error(f"{name}.layers", value["layers"], "no condition of its own; give it to the group")
        layers = self.gene(value["layers"], f"{name}.layers")
        if not isinstance(layers, Choice) or not all(
            type(count) is int and 0 <= count <= MAX_LAYERS for count in layers.values
        ):
            raise self.error(f"{name}.layers", value["layers"], f"whole numbers from 0 to {MAX_LAYERS}")
        rest = {inner: gene for inner, gene in value.items() if inner not in ("layers", "same", "when")}
        genes = {inner: self.gene(gene, f"{name}.{inner}") for inner, gene in rest.items()}
        return Group(layers, genes, same, self.conditions(rest, genes, outer, f"{name}."))

    def conditions(
        self, of: Mapping[str, Any], genes: Mapping[str, Gene | Group], outer: Mapping[str, Gene], prefix: str
    ) -> dict[str, Condition]:
        """The conditions of genes, on each other and on those of `outer`, whose names they may hide."""
        given = {name: value["when"] for name, value in of.items() if isinstance(value, Mapping) and "when" in value}
        found = {name: self.condition(when, name, {**outer, **genes}, prefix) for name, when in given.items()}
        try:
            TopologicalSorter({name: set(when) & set(genes) for name, when in found.items()}).prepare()
        except CycleError as error:
            first, *others = reversed(error.args[1])
            circle = " needs ".join([first, *others])
            raise self.error(f"{prefix}{first}.when", given[first], f"no circle: {circle}") from None
        return found

    def condition(self, when: Any, name: str, genes: Mapping[str, Gene | Group], prefix: str) -> Condition:
        where = f"{prefix}{name}.when"
        if not isinstance(when, Mapping) or not when:
            raise self.error(where, when, "values of another gene by its name, as in {optimizer: sgd}")
        found: dict[str, tuple[Scalar, ...]] = {}
        for other, values in when.items():
            if other == name:
                raise self.error(where, dict(when), "a gene other than itself")
            if other not in genes:
                raise InputError(
                    f"space {self.source}: gene {where} names {reprlib.repr(other)}; {suggestion(str(other), genes)}"
                )
            gene, values = genes[other], _plain(values)
            if not isinstance(gene, Choice):
                what = "a group" if isinstance(gene, Group) else gene.takes
                raise self.error(where, dict(when), f"a gene that is a list of values; {other} is {what}")
            values = [_number_or_text(value) for value in (values if isinstance(values, list | tuple) else [values])]
            if not values:
                raise self.error(where, dict(when), f"at least one value for {other}")
            for value in values:
                if gene.index(value) is None:
                    raise self.error(f"{where}.{other}", value, gene.takes)
            # As the gene itself has them.
            found[other] = tuple(known for i, known in enumerate(gene.values) if i in set(map(gene.index, values)))
        return found

    def gene(self, value: Any, name: str) -> Gene:
        value = _plain(value)
        if isinstance(value, Mapping):
            rest = {key: of for key, of in value.items() if key != "when"}
            if "values" not in rest:
                return self.range(rest, name)
            if len(rest) > 1:
                raise self.error(name, dict(value), "beside values only when")
            value = _plain(rest["values"])
        return self.choice(value if isinstance(value, list | tuple) else [value], name, value)

    def choice(self, values: Sequence[Any], name: str, given: Any) -> Choice:
        if not values:
            raise self.error(name, given, "at least one value")
        if len(values) > MAX_VALUES:
            raise self.error(name, given, f"at most {MAX_VALUES} values; use a range of floats")
        values = [_number_or_text(value) for value in values]
        for value in values:
            fits = isinstance(value, str | int | float) or (value is None and given is not None)
            if not fits or (isinstance(value, float) and not math.isfinite(value)):
                raise self.error(name, given, "text, finite numbers, true and false, and null in a list")
        if len(set(values)) < len(values):
            twice = next(value for i, value in enumerate(values) if value in values[:i])
            raise self.error(name, given, f"each value once; {twice!r} equals an earlier one")
        return Choice(tuple(values))

    def range(self, value: Mapping[Any, Any], name: str) -> Gene:
        known = ("min", "max", "step", "log", "values", "when")
        for key in value:
            if key not in known:
                raise InputError(
                    f"space {self.source}: gene {name} has {key!r}; {suggestion(str(key), (*known, 'layers'))}"
                )
        for key in ("min", "max"):
            if key not in value:
                raise self.error(name, dict(value), f"both min and max; {key} is missing")
        low, high = (self.number(value[key], f"{name}.{key}") for key in ("min", "max"))
        if low > high:
            raise self.error(name, dict(value), "a min that is at most max")
        log = _plain(value.get("log", False))
        if not isinstance(log, bool):
            raise self.error(f"{name}.log", log, "true or false")
        if log and ("step" in value or low <= 0):
            raise self.error(name, dict(value), "min > 0 and no step, as it has log: true")
        whole = isinstance(low, int) and isinstance(high, int)
        if log and whole:
            if high - low >= MAX_VALUES:
                takes = f"at most {MAX_VALUES} whole numbers; write {float(low)} for a range of floats"
                raise self.error(name, dict(value), takes)
            return LogInteger(int(low), int(high))
        if log or ("step" not in value and not whole):
            return Real(float(low), float(high), log)
        return self.steps(low, high, self.number(value.get("step", 1), f"{name}.step"), name, dict(value))

    def steps(self, low: int | float, high: int | float, step: int | float, name: str, given: Any) -> Choice:
        """Evenly spaced values, the last at most `high`."""
        if step <= 0:
            raise self.error(f"{name}.step", step, "a number > 0")
        whole = all(isinstance(number, int) for number in (low, high, step))
        # (0.3 - 0.1) / 0.1 is a little less than 2.
        steps = (high - low) // step if whole else (high - low) / step + 1e-9
        if steps >= MAX_VALUES:
            raise self.error(name, given, f"at most {MAX_VALUES} values; give it a larger step, or floats")
        values = [low + i * step for i in range(int(steps) + 1)]
        return self.choice(values if whole else [rounded(value, low, high) for value in values], name, given)

    def number(self, value: Any, name: str) -> int | float:
        number = _plain(value)
        if isinstance(value, str):
            # YAML 1.1 reads 1e-3, which has no point, as text.
            try:
                number = float(value)
            except ValueError:
                raise self.error(name, value, "a number") from None
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= 1e300:
            raise self.error(name, value, "a number, at most 1e300 in size")
        return number

    def error(self, name: str, value: Any, takes: str) -> InputError:
        return InputError(f"space {self.source}: gene {name} is {reprlib.repr(value)}, but takes {takes}")


def _plain(value: Any) -> Any:
    """What Python itself has for a scalar or an array of NumPy's; anything else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _number_or_text(value: Any) -> Any:
    """A scalar; text such as 1e-3 is the number that was meant, which YAML 1.1 reads as text for want of a point."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value):
        return float(value)
    return _plain(value)


_OPTIMIZERS = ["rmsprop", "adam", "sgd", "adagrad"]
_DENSE = {
    "units": {"min": 16, "max": 256, "step": 16},
    "dropout": [0.1, 0.2, 0.3],
    "activation": ["relu", "tanh", "swish"],
}
_EPOCHS = {"min": 10, "max": 15}

SPACES: dict[str, dict[str, Any]] = {
    # Source: Harvey, neural-network-genetic-algorithm, 2017.
    "mlp": {
        "dense": {
            "layers": [1, 2, 3, 4],
            "same": True,
            "units": [64, 128, 256, 512, 768, 1024],
            "activation": ["relu", "elu", "tanh", "sigmoid"],
            "dropout": 0.2,
        },
        "optimizer": ["rmsprop", "adam", "sgd", "adagrad", "adadelta", "adamax", "nadam"],
    },
    # What decides about training beside the architecture.
    "recipe": {
        "dense": {
            "layers": [1, 2, 3],
            "units": {"min": 16, "max": 256, "log": True},
            "activation": ["relu", "elu", "tanh", "sigmoid", "swish"],
            "dropout": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
        },
        "optimizer": ["rmsprop", "adam", "sgd", "adagrad", "adadelta", "adamax", "nadam"],
        "lr": {"min": 1e-4, "max": 1.0, "log": True},
        "weight_decay": {"min": 1e-6, "max": 1.0, "log": True},
    },
    # Source of both: mkoeppel, Optimizing_neural_nets.
    "dense": {"dense": {"layers": 3, **_DENSE}, "optimizer": _OPTIMIZERS, "epochs": _EPOCHS},
    "cnn": {
        "conv": {
            "layers": 2,
            "units": [16, 32, 64, 128],
            "kernel": {"min": 3, "max": 5},
            "stride": {"min": 1, "max": 3},
            "padding": ["same", "valid"],
            "dropout": [0.1, 0.2, 0.3],
            "activation": ["relu", "tanh", "swish"],
        },
        "dense": {"layers": 2, **_DENSE},
        "optimizer": _OPTIMIZERS,
        "epochs": _EPOCHS,
    },
}
"""Built-in spaces by name, as `parse_space` takes them."""
