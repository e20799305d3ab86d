"""Programs for which there is not enough memory: in a process with a real limit, and with a pretended one."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo import population as pop
from jevo.runs import memory
from jevo.runs.loop import Stage, run_stage
from jevo.types import InputError

LARGE = """
import json, resource, sys
from pathlib import Path
import jax, jax.numpy as jnp
from jevo import population as pop
from jevo.runs.loop import Stage, run_stage

def member(x):  # A product of 16 MB that XLA can't do without, for each member of a chunk.
    return jnp.sort(jnp.outer(jnp.arange(2000.0) + x, jnp.arange(2000.0) - x), axis=0)[7].sum()

def step(total, data):
    total = total + pop.in_chunks(member, data, 64)
    return total, {"best": total.max(), "mean": total.mean(), "validation": jnp.float32(jnp.nan)}

stage = Stage("search", lambda data: jnp.zeros(64), step, 3, (64, "evaluations"))
if sys.argv[2] == "limited":
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(1.5e9),) * 2)
print(json.dumps(run_stage(Path(sys.argv[1]), stage, jnp.arange(64.0), 2).carry.tolist()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_small_memory_is_survived(tmp_path):
    def run(limit):
        command = [sys.executable, "-c", LARGE, str(tmp_path / limit), limit]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    limited = run("limited")
    assert "search: no room for 64 members at once, goes on with 32" in limited
    assert limited[-1] == run("free")[-1]
    lines = [json.loads(line) for line in (tmp_path / "limited" / "metrics.jsonl").read_text().splitlines()]
    assert [line["generation"] for line in lines] == [1, 2, 3]


def stage():
    def step(total, data):
        total = total + pop.in_chunks(lambda x: jnp.sin(x).sum(), data, 8)
        return total, {"best": total.max(), "mean": total.mean(), "validation": jnp.float32(jnp.nan)}

    return Stage("search", lambda data: jnp.zeros(8), step, 2, (8, "evaluations"))


def test_half_as_many_members_until_they_fit(tmp_path, monkeypatch, capsys):
    data, free = jnp.ones((8, 5)), iter([0, 0, 10**12])
    monkeypatch.setattr(memory, "_free", lambda: next(free))
    carry = run_stage(tmp_path, stage(), data, 1).carry
    np.testing.assert_allclose(carry, 2 * np.sin(1) * 5, rtol=1e-6)
    out = capsys.readouterr().out
    assert "no room for 8 members at once, goes on with 4" in out
    assert "no room for 4 members at once, goes on with 2" in out


def test_no_room_for_a_single_member_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_free", lambda: 0)
    with pytest.raises(InputError, match="needs more memory than there is, even with one member at a time"):
        run_stage(tmp_path, stage(), jnp.ones((8, 5)), 1)


def test_other_errors_pass(tmp_path):
    def refuse(total, data):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    broken = Stage("search", lambda data: jnp.zeros(2), refuse, 2, (2, "evaluations"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run_stage(tmp_path, broken, jnp.ones(2), 1)


@pytest.mark.parametrize("members", [1, 3, 8, 100])
def test_a_limit_holds_for_what_is_traced_inside_and_changes_nothing(members):
    program = lambda: jax.jit(lambda x: pop.in_chunks(lambda row: row * 2, x, 8))(jnp.arange(14.0).reshape(7, 2))  # noqa: E731
    with pop.limited(members) as limit:
        np.testing.assert_array_equal(program(), np.arange(14.0).reshape(7, 2) * 2)
        assert limit.asked == min(members, 7)
        with pop.limited(2):
            assert pop.chunk_of(10, 8) == 2
        assert pop.chunk_of(100, 8) <= members
    assert pop.chunk_of(100, 8) == 5


def test_what_is_asked_for_comes_before_what_suits_the_device(monkeypatch):
    assert memory.members_at_once(3, on_cpu=16) == 3
    assert memory.members_at_once(0, on_cpu=16) == 16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert memory.members_at_once(0, on_cpu=16) == sys.maxsize
