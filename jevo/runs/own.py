"""A network or a goal of the user's own, named as `FILE.py:NAME` or `package.module:NAME`, or handed over."""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from jevo.data.datasets import Dataset
from jevo.errors import InputError, shortened
from jevo.networks.network import Network, from_linen, from_nnx
from jevo.programs import closed
from jevo.runs.start import Begun, as_it_is
from jevo.stateful import has_state
from jevo.training.criterion import Criterion, Goal, criterion_of

Make = Callable[..., Any]
"""`(shape, outputs) -> Network or Flax Linen module`, or `(shape, outputs, rngs) -> Flax NNX module`: a class of such
modules is one. `shape` is that of an example, without the batch axis."""

TAKES = "FILE.py:NAME or package.module:NAME, of a function or class that takes shape, outputs, and rngs for NNX"
GOALS = "classification, regression, or FILE.py:NAME or package.module:NAME of a jevo.training.Goal"


class Given(NamedTuple):
    """What a contest is made with beside its settings and data.

    Attributes:
        criterion: how outputs are scored.
        network: the user's own, if it is.
        begun: gives a network the weights that it begins with.
    """

    criterion: Criterion
    network: Network | None = None
    begun: Begun = as_it_is

    @classmethod
    def usual(cls, dataset: Dataset) -> Self:
        """With nothing of the user's own but the data."""
        return cls(criterion_of("classification" if dataset.targets is None else "regression", None, dataset))


def is_own(name: str) -> bool:
    """Whether a name is of the user's own code."""
    return ":" in name


def given_name(own: Any) -> str:
    """What a network or goal is called that was handed over in Python."""
    return f"python:{getattr(own, '__qualname__', type(own).__name__)}"


def find(name: str) -> tuple[Make, str]:
    """What makes the network of that name, and a digest of its name there and its source: its file, and whatever lies
    beside that file, or below, and is imported by it.

    Raises:
        InputError: if there is none, or its file raises an error.
    """
    make, digest = find_own(name, "network", TAKES)
    if not callable(make):
        raise InputError(f"{name} is no function or class, but {type(make).__name__}; the network is {TAKES}")
    return make, digest


def find_goal(name: str) -> tuple[Goal, str]:
    """The goal of that name, and a digest as `find` has it.

    Raises:
        InputError: if there is none, or its file raises an error.
    """
    found, digest = find_own(name, "goal", GOALS)
    with _of_the_user(name):
        goal = found() if callable(found) and not isinstance(found, Goal) else found
    return checked_goal(goal, name), digest


def checked_goal(goal: Any, name: str) -> Goal:
    """The goal, if it is one.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(goal, Goal):
        raise InputError(
            f"{name} is {type(goal).__name__}, but takes a jevo.training.Goal, or a function that makes one"
        )
    takes = {
        "loss": callable(goal.loss),
        "metrics": isinstance(goal.metrics, Mapping) and all(map(callable, goal.metrics.values())),
        "outputs": goal.outputs is None or (type(goal.outputs) is int and goal.outputs >= 1),
        "kind": goal.kind in ("regression", "classification"),
        "estimates": goal.estimates is None or all(type(i) is int for i in goal.estimates),
    }
    if wrong := [field for field, fits in takes.items() if not fits]:
        raise InputError(f"{name}: {wrong[0]} is {getattr(goal, wrong[0])!r}; see jevo.training.Goal for what it takes")
    return goal


def goal_digest(goal: Goal, criterion: Criterion, labels: Any) -> str:
    """What a goal is known by that has no name: its programs, what these close over, and what it estimates."""
    outputs, said = jnp.zeros((2, criterion.outputs)), [goal.kind, repr(criterion.estimates)]
    for name, function in {"": goal.loss, **goal.metrics}.items():
        program = closed(function, outputs, labels)
        said += [name, program.digest, *program.names]
    return hashlib.sha256(" ".join(said).encode()).hexdigest()


def find_own(name: str, setting: str, takes: str) -> tuple[Any, str]:
    """What has that name, and the digest.

    Args:
        name: as `FILE.py:NAME` or `package.module:NAME`.
        setting: that has it.
        takes: words for what the setting takes.

    Raises:
        InputError: if there is nothing of that name, or its file raises an error.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise InputError(f"setting {setting} is {name!r}, but takes {takes}")
    with _of_the_user(name):
        module = _imported(place, setting, takes)
    if not hasattr(module, attribute):
        public = ", ".join(found for found in vars(module) if not found.startswith("_"))
        raise InputError(f"{place} has no {attribute}; it has {shortened(public, 200) or 'nothing'}")
    return getattr(module, attribute), hashlib.sha256(f"{attribute} {_digest(module)}".encode()).hexdigest()


def build_own(make: Make | Network, shape: tuple[int, ...], outputs: int, name: str = "the network") -> Network:
    """The network that is made for examples of `shape`.

    Args:
        make: makes it, or is it.
        shape: of an example.
        outputs: that it has for each.
        name: of it, to begin messages with.

    Raises:
        InputError: in one line, if it cannot be made, or does not take such examples, or has other outputs.
    """
    x = jnp.zeros((2, *shape))
    with _of_the_user(name):
        network = make if isinstance(make, Network) else _made(make, x, outputs, name)
        params = jax.eval_shape(network.init, jax.random.key(0))
        found = jax.eval_shape(network.apply, params, x)
        if has_state(params) is not (network.update is not None):
            raise InputError(
                f"{name} has an update without a state, or a state without an update; it takes both or none"
            )
    given = f"{found.dtype} {list(found.shape)}" if isinstance(found, jax.ShapeDtypeStruct) else "no array"
    if given != f"float32 {[2, outputs]}":
        raise InputError(
            f"{name} gives {given} for two examples of shape {list(shape)}; "
            f"it takes float32 [2, {outputs}], {outputs} outputs for each"
        )
    return network


def program_digest(network: Network, shape: tuple[int, ...]) -> str:
    """What a network is known by that has no name: its programs, and the arrays that they close over."""
    init = closed(network.init, jax.random.key(0))
    apply = closed(network.apply, init.result, jnp.zeros((2, *shape)))
    said = [init.digest, apply.digest, *init.names, *apply.names]
    if network.update is not None:
        update = closed(network.update, init.result, jnp.zeros((2, *shape)), jax.random.key(0))
        said += [update.digest, *update.names]
    return hashlib.sha256("".join(said).encode()).hexdigest()


def _made(make: Make, x: jax.Array, outputs: int, name: str) -> Network:
    shape = x.shape[1:]
    if "rngs" in inspect.signature(_called(make)).parameters:
        return from_nnx(lambda rngs: make(shape, outputs, rngs=rngs))
    found = make(shape, outputs)
    if isinstance(found, Network):
        return found
    from flax import linen, nnx

    if isinstance(found, linen.Module):
        return from_linen(found, x)
    if isinstance(found, nnx.Module):
        raise InputError(f"{name} makes an NNX module of random numbers of its own; have it take shape, outputs, rngs")
    raise InputError(f"{name} makes {type(found).__name__}, but takes a Network, or a Flax Linen or NNX module")


def _called(make: Any) -> Any:
    """Whose signature says what it takes: NNX's classes are called through their metaclass, which takes anything."""
    return make.__init__ if inspect.isclass(make) else make


def _imported(place: str, setting: str, takes: str) -> ModuleType:
    """The module of that name, or in that file."""
    if not place.endswith(".py"):
        # As `python -m` finds modules: those in the folder it is called in, too.
        sys.path.insert(0, os.getcwd())
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise InputError(f"there is no module {place}; the {setting} is {takes}") from None
        finally:
            sys.path.remove(os.getcwd())
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise InputError(f"there is no file {place}; the {setting} is {takes}")
    spec = importlib.util.spec_from_file_location(f"own_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    sys.path.insert(0, str(path.parent))  # It may import what lies beside it.
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def _digest(module: ModuleType) -> str:
    """Of the sources of a module and of what it imports, and so on, as far as they lie in its folder or below."""
    home = Path(module.__file__ or "").resolve().parent
    waiting, seen = [module], dict[Path, bytes]()
    while waiting:
        module = waiting.pop()
        path = Path(getattr(module, "__file__", None) or "").resolve()
        if path in seen or path.suffix != ".py" or not path.is_relative_to(home):
            continue
        seen[path] = path.read_bytes()
        waiting += [sys.modules[name] for name in _imports(seen[path], module) if name in sys.modules]
    said = hashlib.sha256()
    for path in sorted(seen):
        said.update(f"{path.relative_to(home)} {len(seen[path])} ".encode() + seen[path])
    return said.hexdigest()


def _imports(source: bytes, module: ModuleType) -> Iterator[str]:
    """Names of modules that a module's source may import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.level:
                base = importlib.util.resolve_name(base, module.__package__ or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@contextmanager
def _of_the_user(name: str) -> Iterator[None]:
    """Turns whatever the user's code raises into one line that says where."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        here = os.sep + os.path.join("jevo", "")
        theirs = [f for f in frames if "site-packages" not in f.filename and here not in f.filename]
        where = f" (line {theirs[-1].lineno} of {theirs[-1].filename})" if theirs else ""
        if isinstance(error, SyntaxError) and error.filename:
            where = f" (line {error.lineno} of {error.filename})"
        reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()), 300)
        raise InputError(f"{name}: {reason}{where}") from error
