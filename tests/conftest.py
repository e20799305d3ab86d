"""Every test runs strictly: a rank promotion, a key used twice or any warning is an error."""

import atexit
import datetime
import fcntl
import gc
import os
import shutil
import sys
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A worker of pytest-xdist has its environment from the process that started it, and not its arguments.
if "PYTEST_XDIST_WORKER" not in os.environ and "--slow" not in sys.argv:
    # Most of the time of a test is XLA compiling it. The full suite (--slow) compiles as users do.
    # Those that emit fusions take half of it, and other passes of LLVM a tenth of the rest.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
        " --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1",
    )

# Many tests compile the same programs, some of them in processes of their own: within a session, each is compiled once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jevo-test-programs-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest

from jevo.experiments import EXPERIMENTS, experiment

BEGAN = time.monotonic()
# One day for all workers, also at midnight.
TODAY = int(os.environ.setdefault("JEVO_TEST_DAY", str(datetime.date.today().toordinal())))
gc.set_threshold(100_000, 20, 100)  # Tracing makes millions of objects, few of them garbage: a tenth of the time.
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


# A fifth experiment: whatever walks the registry shows that a new one gets it, too.
EXPERIMENTS["signs"] = "tests.signs"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption(
        "--minutes",
        type=float,
        help="skip the tests that would begin later than so many minutes from now; which come first changes by the day",
    )


@pytest.hookimpl(trylast=True)  # Of what -m leaves.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: give --slow to run it"))
    if config.getoption("--minutes") is not None:
        items[:] = from_another_place(items, TODAY)


def from_another_place(items: list, day: int) -> list:
    """All of them, beginning elsewhere every day: steps by the golden ratio come by every place within a few days."""
    first = int(len(items) * (day * 0.618034 % 1))
    return items[first:] + items[:first]


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - BEGAN > 60 * minutes:
        pytest.skip("its turn came too late: give more --minutes, or leave them out")


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory, worker_id):
    """`name -> folder` of a finished small run, made once in a session, by the worker that asks first. Only to read."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def finished(name):
        folder, found = shared / f"smoke-{name}", experiment(name)
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                # The check for keys used twice takes a vmapped map over keys for one; others test for it.
                with jax.debug_key_reuse(False):
                    found.run(found.config.from_preset("smoke", out=folder))
        return folder

    return finished
