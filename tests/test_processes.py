"""A run of several processes: two real ones on this machine, which talk over loopback as hosts do over a network."""

import json
import os
import signal
import socket
import time

import psutil
import pytest

from jevo import experiments as registry
from jevo.errors import InputError
from jevo.experiments import EXPERIMENTS, hyperparams, masks
from jevo.runs import processes
from tests.commands import command, result, start
from tests.commands import devices as pretended

MINUTE = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def several(name, *settings, outs, devices=1, slurm=False):
    """One process for each folder, of one run, or a run of its own if there is one folder.

    Args:
        slurm: whether they find one another by what Slurm would put into their environment.
    """
    coordinator, started = f"127.0.0.1:{free_port()}", []
    for number, out in enumerate(outs):
        arguments, environment = command(name, *settings, out=out), pretended(devices)
        if slurm:
            arguments += ["--coordinator", "auto"]
            environment |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "127.0.0.1"}
            environment |= {"SLURM_NTASKS": str(len(outs)), "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}
        elif len(outs) > 1:
            arguments += ["--coordinator", coordinator, "--processes", str(len(outs)), "--process-id", str(number)]
        started.append(start(arguments, **environment))
    return started


def ends(started, timeout=240):
    """`(exit code, output, errors)` of each."""
    try:
        said = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def fitness(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["best"] for line in lines]


def wait_for(path, processes):
    while not path.exists():
        assert all(process.poll() is None for process in processes), ends(processes)
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_two_processes_find_what_one_finds(experiment, tmp_path):
    """Every generation's best to the last bits, which depend on how many members a device computes at once."""
    try:
        registry.experiment(experiment).config(coordinator="host:1")
    except InputError as refused:
        pytest.skip(f"{refused}")
    settings = ["--seed", "3"]
    ((code, *_),) = ends(several(experiment, *settings, outs=[tmp_path / "one"]))
    assert code == 0
    first, second = ends(several(experiment, *settings, outs=[tmp_path / "two"] * 2, devices=2))
    assert first[0] == second[0] == 0, (first, second)
    assert "on 4 x cpu" in first[1]
    assert "generation" not in second[1]  # Only process 0 speaks.
    assert fitness(tmp_path / "two") == pytest.approx(fitness(tmp_path / "one"), rel=1e-6)
    if experiment == "masks":
        assert result(tmp_path / "two")["metrics"] == result(tmp_path / "one")["metrics"]
        assert result(tmp_path / "two")["control"]["metrics"] == result(tmp_path / "one")["control"]["metrics"]
    both = [{path.name for path in (tmp_path / name).iterdir()} - {".lock"} for name in ("one", "two")]
    assert both[0] == both[1]
    # What is done is done for all, and says so once.
    first, second = ends(several(experiment, *settings, outs=[tmp_path / "two"] * 2, devices=2))
    assert (first[0], second[0]) == (0, 0)
    assert "is done" in first[1]
    assert "is done" not in second[1]


@pytest.mark.slow
def test_under_slurm_nothing_need_be_told(tmp_path):
    first, second = ends(several("masks", outs=[tmp_path] * 2, slurm=True))
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert result(tmp_path)["device"]["processes"] == 2


def test_who_cannot_be_found_is_said_plainly(tmp_path):
    """Nothing in the environment tells of others."""
    ((code, _, errors),) = ends(several("masks", "--coordinator", "auto", outs=[tmp_path / "run"]))
    assert code == 2
    assert errors.startswith("error: cannot join the other processes (coordinator auto): ")
    assert "the coordinator HOST:PORT of process 0" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("coordinator", "names", "bound"),
    [
        ("127.0.0.1:5", {}, "127.0.0.1:5"),
        ("localhost:5", {"localhost": ["127.0.0.1"]}, "127.0.0.1:5"),
        ("0.0.0.0:5", {}, "0.0.0.0:5"),
        # Of the addresses of a name, the first that is this host's; its own name for loopback leads nobody here.
        ("head:5", {"head": ["192.0.2.7", "127.0.1.1", "127.0.0.1"]}, None),
        ("192.0.2.7:5", {}, None),
        ("auto", {}, None),
    ],
)
def test_process_0_listens_where_it_was_told(coordinator, names, bound, monkeypatch, capsys):
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    known = lambda host, port, **_: [  # noqa: E731
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, int(port))) for address in names.get(host, [host])
    ]
    monkeypatch.setattr(socket, "getaddrinfo", known)
    assert processes._bind_address(coordinator, 0) == bound
    said = capsys.readouterr().err
    assert ("listens on all" in said) == (bound is None and coordinator != "auto")
    # The others listen nowhere; and what the environment names comes first.
    assert processes._bind_address(coordinator, 1) is None
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "127.0.0.1:7")
    assert processes._bind_address(coordinator, 0) is None
    assert capsys.readouterr().err == ""


def test_a_name_of_this_host_is_where_it_listens(monkeypatch):
    own = next(a.address for i in psutil.net_if_addrs().values() for a in i if a.family == socket.AF_INET)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (own, 5))])
    host = "localhost" if own.startswith("127.") else "head"
    assert processes._bind_address(f"{host}:5", 0) == f"{own}:5"


def test_a_coordinator_that_nobody_knows_is_said_plainly():
    with pytest.raises(InputError, match=r"cannot find the host of the coordinator nowhere\.invalid:5 \("):
        processes._bind_address("nowhere.invalid:5", 0)


@pytest.mark.slow
def test_the_coordinator_is_reached_by_its_address_alone(tmp_path):
    port = free_port()
    arguments = [*command("masks", out=tmp_path), "--coordinator", f"127.0.0.1:{port}"]
    process = start([*arguments, "--processes", "2", "--process-id", "0"])
    try:
        until, found = time.monotonic() + MINUTE, set()
        while not found and time.monotonic() < until:
            connections = psutil.Process(process.pid).net_connections("inet")
            found = {c.laddr for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port == port}
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert {address.ip.removeprefix("::ffff:") for address in found} == {"127.0.0.1"}


LONG = ["--checkpoint-every", "5", "--seed", "3"]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_is_killed_the_other_ends_and_the_run_goes_on_alone(killed, tmp_path):
    settings, generations = [*LONG, "--generations"], 60
    assert ends(several("masks", *settings, generations, outs=[tmp_path / "whole"]))[0][0] == 0
    broken = tmp_path / "broken"
    both = several("masks", *settings, generations, outs=[broken] * 2)
    wait_for(broken / "checkpoints" / "search" / "5", both)
    both[killed].send_signal(signal.SIGKILL)
    began = time.monotonic()
    other = ends(both)[1 - killed]
    assert time.monotonic() - began < MINUTE
    assert other[0] not in (0, None)
    # The coordinator's own end is seen by JAX's runtime as soon as by jevo, which may then have no time to speak.
    line = "another process of this run was lost"
    assert line in other[2] or (killed == 0 and "another task died" in other[2])
    if line in other[2]:
        assert "Traceback" not in other[2]
    # The restart, on one process, goes on from the checkpoint to the same end.
    ((code, said, _),) = ends(several("masks", *settings, generations, outs=[broken]))
    assert code == 0
    assert "goes on from generation" in said
    assert result(broken)["metrics"] == result(tmp_path / "whole")["metrics"]


@pytest.mark.slow
def test_when_one_process_is_asked_to_stop_all_do(tmp_path):
    both = several("masks", *LONG, "--generations", 2000, outs=[tmp_path / "run"] * 2)
    wait_for(tmp_path / "run" / "checkpoints" / "search" / "5", both)
    both[1].send_signal(signal.SIGTERM)
    for code, _, errors in ends(both, MINUTE):
        assert code == 130
        assert "the same command goes on" in errors


@pytest.mark.slow
def test_what_process_0_refuses_all_refuse(tmp_path):
    assert ends(several("masks", outs=[tmp_path]))[0][0] == 0
    for code, _, errors in ends(several("masks", "--mutation-rate", "0.5", outs=[tmp_path] * 2)):
        assert code == 2
        assert "holds a run with other settings (mutation_rate: 0.003 -> 0.5)" in errors


@pytest.mark.slow
def test_processes_must_share_the_folder(tmp_path):
    for code, _, errors in ends(several("masks", outs=[tmp_path / "here", tmp_path / "there"])):
        assert code == 2
        assert "not every process sees the run folder" in errors


def test_a_process_alone_agrees_with_itself(tmp_path):
    assert not processes.several()
    assert processes.broadcast("word") == "word"
    assert processes.all_max(1.5, True) == (1.5, True)
    with processes.process_folder(tmp_path) as own:
        assert own == tmp_path


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"coordinator": "host"}, "setting coordinator is host, but takes HOST:PORT of process 0, or auto"),
        ({"processes": 2}, "setting processes is 2, but takes a coordinator beside it"),
        ({"process_id": 0}, "setting process_id is 0, but takes a coordinator beside it"),
        (
            {"coordinator": "host:1", "processes": 2, "process_id": 2},
            "setting process_id is 2, but takes 0 or more, and less than processes",
        ),
    ],
)
def test_processes_that_cannot_be_are_said_plainly(settings, complaint):
    with pytest.raises(InputError) as error:
        masks.Config(**settings)
    assert str(error.value) == complaint


def test_hyperparams_points_to_its_own_way():
    with pytest.raises(InputError, match="ray spreads genomes over hosts"):
        hyperparams.Config(coordinator="host:1")
