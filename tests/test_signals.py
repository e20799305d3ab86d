"""Ctrl-C and SIGTERM at moments that a run does not foresee: none is swallowed, and the run goes on as if there were
none."""

import os
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import pytest

from jevo import devices
from jevo.runs.loop import Programs, Stage, run_stage
from jevo.runs.signals import Interrupted, StopSignal
from tests.commands import ROOT, deterministic


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers():
    """SIGTERM as the command line has it; and every handler as it was, afterwards."""
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_nobody_acts_on_is_not_lost(number):
    with pytest.raises(KeyboardInterrupt), StopSignal():
        send(number)
    assert signal.getsignal(number) is signal.default_int_handler


def test_what_is_acted_on_is_not_raised_twice():
    def acts():
        with StopSignal() as stop:
            send()
            if stop.received:
                raise Interrupted("saved")

    with pytest.raises(Interrupted):
        acts()


def test_the_second_ends_at_once():
    reached = []

    def twice():
        with StopSignal():
            send()
            reached.append("the first is noted")
            send()
            reached.append("the second, too")

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert reached == ["the first is noted"]


def test_without_a_signal_nothing_happens():
    with StopSignal() as stop:
        pass
    assert not stop.received


def test_in_a_thread_its_owner_handles_signals():
    entered = []

    def enter():
        with StopSignal() as stop:
            entered.append(stop.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [False]


def counting(generations, when=None, fails=None):
    """A stage that counts, and is sent Ctrl-C after so many generations; once its memory runs out with this chunk."""

    def programs(chunk):
        def host(done):
            if int(done) == when:
                send()
            if (chunk, int(done)) == fails:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: pretended")

        def step(carry, data):
            carry = carry + 1
            jax.debug.callback(host, carry)
            value = carry.astype(jnp.float32)
            return carry, {"best": value, "mean": value, "validation": jnp.float32(jnp.nan)}

        return Programs(lambda data: jnp.int32(0), step)

    return Stage("search", programs, generations, (1, "evaluations"), chunk=2)


@pytest.mark.parametrize("when", [1, 4, 7])
def test_a_stage_stops_in_any_block_the_last_one_too(when, tmp_path):
    with pytest.raises(Interrupted, match=r"search stopped at generation \d of 7; the same command goes on"):
        run_stage(tmp_path, counting(7, when), jnp.zeros(1), 100)
    assert int(run_stage(tmp_path, counting(7), jnp.zeros(1), 100).carry) == 7


def test_a_stage_stops_before_its_first_generation(tmp_path, monkeypatch):
    """As when Ctrl-C comes while it compiles."""
    sent = []
    monkeypatch.setattr(devices, "_free", lambda: None if sent else sent.append(send()))
    with pytest.raises(Interrupted, match="at generation 0 of 7"):
        run_stage(tmp_path, counting(7), jnp.zeros(1), 100)
    monkeypatch.undo()
    assert int(run_stage(tmp_path, counting(7), jnp.zeros(1), 100).carry) == 7


def test_a_stage_stops_where_its_memory_ran_out_in_the_same_block(tmp_path):
    with pytest.raises(Interrupted):
        run_stage(tmp_path, counting(7, when=3, fails=(2, 3)), jnp.zeros(1), 100)
    assert int(run_stage(tmp_path, counting(7), jnp.zeros(1), 100).carry) == 7


AT = """
import os, signal, sys
import jevo.runs.contest, jevo.runs.loop, jevo.runs.record, jevo.experiments.hyperparams.contest
from jevo.experiments import experiment
from jevo.runs import main

_, name, place, number, *sys.argv[1:] = sys.argv
module, _, attribute = place.rpartition(".")
owner = sys.modules.get(module) or getattr(sys.modules[module.rpartition(".")[0]], module.rpartition(".")[2])
original, sent = getattr(owner, attribute), []

def patched(*arguments, **settings):
    if not sent:
        sent.append(os.kill(os.getpid(), int(number)))
    return original(*arguments, **settings)

setattr(owner, attribute, patched)
main(experiment(name))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "number"),
    [
        ("masks", "jevo.runs.contest.gather", signal.SIGTERM),
        ("masks", "jevo.runs.contest.measure", signal.SIGINT),
        ("masks", "jevo.runs.loop.Checkpoints.save", signal.SIGTERM),
        ("masks", "jevo.runs.record.report", signal.SIGINT),
        ("hyperparams", "jevo.experiments.hyperparams.contest.weights_of", signal.SIGTERM),
        ("hyperparams", "jevo.experiments.hyperparams.contest.best_trial", signal.SIGINT),
    ],
)
def test_a_command_ends_with_130_wherever_it_is_and_goes_on(name, place, number, tmp_path):
    def run(out, place):
        settings = ["--preset", "smoke", "--out", str(tmp_path / out)]
        command = [sys.executable, "-c", AT, name, place, str(int(number)), *settings]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    stopped = run("run", place)
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.count("\n") == 1
    assert "the same command goes on" in stopped.stderr
    assert not (tmp_path / "run" / "report.md").exists()
    for out in ("run", "whole"):
        done = subprocess.run(
            [sys.executable, "-m", f"jevo.experiments.{name}", "--preset", "smoke", "--out", str(tmp_path / out)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    found, whole = (deterministic(tmp_path / out) for out in ("run", "whole"))
    assert found == whole
