"""Programs for which there is not enough memory: in a process with a real limit, and with a pretended one."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo import devices, kept, memory
from jevo.errors import InputError
from jevo.mixed import MixedTrainer
from jevo.runs.loop import Programs, Stage, run_stage
from jevo.training.criterion import classification
from tests.stages import walk

LARGE = """
import json, resource, sys
from pathlib import Path
import jax, jax.numpy as jnp
from jevo.devices import in_chunks
from jevo.runs.loop import Programs, Stage, run_stage

def member(x):  # A product of 16 MB that XLA can't do without, for each member of a chunk.
    return jnp.sort(jnp.outer(jnp.arange(2000.0) + x, jnp.arange(2000.0) - x), axis=0)[7].sum()

def programs(chunk):
    def step(total, data):
        total = total + in_chunks(member, data, chunk)
        return total, {"best": total.max(), "mean": total.mean(), "validation": jnp.float32(jnp.nan)}
    return Programs(lambda data: jnp.zeros(64), step)

stage = Stage("search", programs, 3, (64, "evaluations"), chunk=64)
if sys.argv[2] == "limited":
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(1.5e9),) * 2)
print(json.dumps(run_stage(Path(sys.argv[1]), stage, jnp.arange(64.0), 2).carry.tolist()))
"""


def generations(folder):
    return [json.loads(line)["generation"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_small_memory_is_survived(tmp_path):
    def run(limit):
        command = [sys.executable, "-c", LARGE, str(tmp_path / limit), limit]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    limited = run("limited")
    assert "search: no room for 64 members at once, goes on with 32" in limited
    assert limited[-1] == run("free")[-1]
    assert generations(tmp_path / "limited") == [1, 2, 3]


def test_mappings_are_counted_where_linux_tells_of_them(tmp_path):
    assert memory.mappings_used(tmp_path) == 0
    for name, text in {"proc/sys/vm/max_map_count": "200\n", "proc/self/maps": "7f00-7f01 r--p 0 0:0 0\n" * 50}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.mappings_used(tmp_path) == 0.25
    assert memory.mappings_used() < 0.9


def test_what_nobody_asked_for_goes_first_and_half_where_mappings_are_short(monkeypatch):
    taken = []
    monkeypatch.setattr("jevo.kept.mappings_used", lambda: 0.6 if taken else 0.4)
    few = kept.Kept(4)
    for name in "abcd":
        few.keep(name, name.upper())
    assert few.get("a") == "A"
    few.keep("e", "E")
    assert [name for name in "abcde" if name in few] == ["a", "c", "d", "e"]
    taken.append("many")
    few.keep("f", "F")
    assert [name for name in "abcdef" if name in few] == ["e", "f"]
    for name in "ghi":  # It is no use, as they are not the ones that take them: one at least stays.
        few.keep(name, name)
    assert [name for name in "efghi" if name in few] == ["i"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_program_that_goes_gives_its_mappings_back():
    """Without that, forgetting programs would be no use."""

    def count():
        return Path("/proc/self/maps").read_text().count("\n")

    x = jnp.ones((7, 7))
    programs = kept.Kept(30)
    for i in range(30):
        programs.keep(i, jax.jit(lambda x, i=i: jnp.sin(x @ x + i).sum(axis=0)).lower(x).compile())
    before = count()
    programs.at_most = 1
    programs.keep(30, programs.get(0))
    assert before - count() > 29


MEMBERS = jnp.linspace(0.1, 1.5, 40).reshape(8, 5)


def stage(length=2, fails=lambda chunk, done: False):
    """Sums over members, eight at once to begin with; which chunks it was made for is in `made`.

    Args:
        length: generations.
        fails: whether the memory runs out, with this chunk and after so many generations.
    """
    made = []

    def programs(chunk):
        made.append(chunk)

        def refuse(done):
            if fails(chunk, int(done)):
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: pretended")

        def step(carry, data):
            done, total = carry
            jax.debug.callback(refuse, done)
            total = total + devices.in_chunks(lambda x: jnp.sin(x).sum(), data, chunk)
            return (done + 1, total), {"best": total.max(), "mean": total.mean(), "validation": jnp.float32(jnp.nan)}

        return Programs(lambda data: (jnp.int32(0), jnp.zeros(8)), step)

    return Stage("search", programs, length, (8, "evaluations"), chunk=8), made


def test_half_as_many_members_until_they_fit(tmp_path, monkeypatch, capsys):
    search, made = stage()
    monkeypatch.setattr(devices, "_free", lambda: 10**12 if made == [8, 4, 2] else 40)  # For the carry.
    done, total = run_stage(tmp_path, search, MEMBERS, 1).carry
    np.testing.assert_allclose(total, 2 * np.sin(MEMBERS).sum(axis=1), rtol=1e-6)
    assert made == [8, 4, 2]
    assert int(done) == 2
    out = capsys.readouterr().out
    assert "search: no room for 8 members at once, goes on with 4\n" in out
    assert "search: no room for 4 members at once, goes on with 2\n" in out


def test_what_runs_out_on_the_way_goes_on_from_its_checkpoint_with_half(tmp_path, capsys):
    search, made = stage(7, fails=lambda chunk, done: chunk == 8 and done == 4)
    done, total = run_stage(tmp_path, search, MEMBERS, 3).carry
    assert made == [8, 4]
    assert int(done) == 7
    carries, _ = walk(stage(7)[0], MEMBERS)
    np.testing.assert_allclose(total, carries[-1][1], rtol=1e-6)
    assert generations(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    said = capsys.readouterr().out.splitlines()
    at = said.index("search: no room for 8 members at once, goes on with 4")
    assert "search goes on from generation 3" in said[at:]


def summed(carry, data):
    value = carry.sum()
    return carry, {"best": value, "mean": value, "validation": value}


def test_no_room_for_a_single_member_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_free", lambda: 40)
    search, made = stage()
    message = "search needs more memory than there is, even with one member at a time; take a smaller population"
    with pytest.raises(InputError, match=message):
        run_stage(tmp_path, search, MEMBERS, 1)
    assert made == [8, 4, 2, 1]


@pytest.mark.parametrize("wide", [4 * 10**6, 10**12, 2**40])
def test_room_is_asked_for_before_the_first_population_is_made(wide, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_free", lambda: 10**7)
    made = []

    def start(data):
        jax.debug.callback(lambda: made.append("started"))
        return jnp.zeros((wide,))

    huge = Stage("search", lambda chunk: Programs(start, summed), 1, (1, "evaluations"))
    with pytest.raises(InputError, match="search: its first population would take"):
        run_stage(tmp_path, huge, jnp.zeros(1), 1)
    assert made == []


def test_what_the_first_population_needs_beside_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_free", lambda: 10**5)
    made = []

    def start(data):
        jax.debug.callback(lambda: made.append("started"))
        return jnp.sort(jnp.sin(jnp.arange(1e5)))[:8]

    huge = Stage("search", lambda chunk: Programs(start, summed), 1, (1, "evaluations"))
    with pytest.raises(InputError, match="search needs more memory than there is"):
        run_stage(tmp_path, huge, jnp.zeros(1), 1)
    assert made == []


def test_what_is_more_than_jax_counts_is_said_plainly(tmp_path):
    start = lambda data: jnp.arange(8) < 10**13  # noqa: E731
    huge = Stage("search", lambda chunk: Programs(start, None), 1, (1, "evaluations"))
    with pytest.raises(InputError, match="larger than 2,147,483,647"):
        run_stage(tmp_path, huge, jnp.zeros(1), 1)


def test_room_counts_on_every_device(monkeypatch):
    monkeypatch.setattr(devices, "_free", lambda: 2 * 10**9)
    like = jax.ShapeDtypeStruct((10**9,), jnp.float32)
    with pytest.raises(InputError, match=r"it all would take 4\.0 GB of memory, and 2\.0 GB are free; take a smaller"):
        devices.require_room_for({"a": like}, "it all")
    devices.require_room_for([jax.ShapeDtypeStruct((10**9,), jnp.int8)] * 2, "it all")


def test_a_genome_without_room_is_no_result_and_not_the_end(monkeypatch):
    from tests.test_hyperparams import made_task

    monkeypatch.setattr(devices, "_free", lambda: 1000)
    genome = {"dense": [{"units": 3, "activation": "tanh"}], "lr": 0.01}
    trainer = MixedTrainer(made_task((9,)), classification(3), batch_size=16, epochs=1, max_epochs=1, patience=1)
    ((_, score),) = trainer.score([genome], trainer.plan([genome]))
    assert score.reason == "it needs more memory than there is"


def test_what_is_made_at_once_needs_room_before(monkeypatch):
    make = lambda x: jnp.full((1000,), x)  # noqa: E731
    np.testing.assert_array_equal(devices.in_room(make, 2.0), np.full(1000, 2.0))
    monkeypatch.setattr(devices, "_free", lambda: 3999)
    with pytest.raises(jax.errors.JaxRuntimeError, match="4000 bytes are wanted, 3999 are free"):
        devices.in_room(make, 2.0)


def test_other_errors_pass(tmp_path):
    made = []

    def programs(chunk):
        made.append(chunk)

        def refuse(total, data):
            raise jax.errors.JaxRuntimeError("INTERNAL: something else")

        return Programs(lambda data: jnp.zeros(2), refuse)

    broken = Stage("search", programs, 2, (2, "evaluations"), chunk=8)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run_stage(tmp_path, broken, jnp.ones(2), 1)
    assert made == [8]


def doubled(widths):
    """Twice a row; how many rows were taken at once is appended to `widths`."""

    @jax.custom_batching.custom_vmap
    def double(row):
        return row * 2

    @double.def_vmap
    def _(size, batched, rows):
        widths.append(size)
        return rows * 2, True

    return double


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
def test_a_chunk_holds_for_what_is_computed_and_changes_nothing(chunk):
    widths = []
    found = jax.jit(lambda x: devices.in_chunks(doubled(widths), x, chunk))(jnp.arange(14.0).reshape(7, 2))
    np.testing.assert_array_equal(found, np.arange(14.0).reshape(7, 2) * 2)
    assert max(widths) == min(chunk, 7)


@pytest.mark.parametrize(("n", "at_most", "taken"), [(100, 8, 5), (10, 8, 5), (7, 3, 3), (7, 8, 7), (64, 64, 64)])
def test_a_chunk_divides_what_there_is_if_one_of_at_least_half_does(n, at_most, taken):
    assert devices.chunk_of(n, at_most) == taken


def compiled(chunk, n=64, width=1000):
    """A program that holds `width` floats for each member of a chunk."""
    member = lambda x: jnp.sort(jnp.sin(jnp.arange(float(width)) * x))[7]  # noqa: E731
    return (
        jax.jit(lambda x: devices.in_chunks(member, x, chunk)).lower(jax.ShapeDtypeStruct((n,), jnp.float32)).compile()
    )


def test_half_as_many_members_need_less():
    needed = [devices.needs(compiled(chunk)) for chunk in (64, 32, 1)]
    assert needed[0] > needed[1] > needed[2]
    assert needed[0] >= 4 * 64 * 1000
    assert needed[2] >= 4 * 2 * 64  # The arguments and the results.


def test_what_a_program_needs_of_its_own_has_to_be_free(monkeypatch):
    program = compiled(64)
    wanted = devices.needs(program) - 4 * 64  # The arguments are there already.
    for free in (wanted, None):
        monkeypatch.setattr(devices, "_free", lambda free=free: free)
        devices.require_room(program)
    monkeypatch.setattr(devices, "_free", lambda: wanted - 1)
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"{wanted} bytes are wanted, {wanted - 1} are free") as caught:
        devices.require_room(program)
    assert devices.is_exhausted(caught.value)


def test_what_is_asked_for_comes_before_what_suits_the_device(monkeypatch):
    assert devices.members_at_once(3, on_cpu=16) == 3
    assert devices.members_at_once(0, on_cpu=16) == 16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert devices.members_at_once(0, on_cpu=16) == sys.maxsize


GIB = 2**30


@pytest.fixture
def cgroups(tmp_path):
    """Writes the files by which a kernel tells of cgroups, under a root of its own: `(own, {folder: {file: text}})`."""

    def written(own, files):
        (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/self/cgroup").write_text(own)
        for folder, texts in files.items():
            at = tmp_path / "sys/fs/cgroup" / folder
            at.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (at / name).write_text(f"{text}\n")
        return tmp_path

    return written


def v2(limit, used, stat="", **more):
    return {"memory.max": limit, "memory.current": used, "memory.stat": stat, **more}


def v1(limit, used, stat=""):
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}


CACHE = f"anon 5\ninactive_file {GIB}\nactive_file {GIB}\nshmem {GIB}\nfile {3 * GIB}"


@pytest.mark.parametrize(
    ("own", "files", "rooms"),
    [
        # A container: the namespace's root has the limit.
        ("0::/\n", {"": v2(8 * GIB, 3 * GIB)}, [5 * GIB]),
        # What the kernel keeps of files is as good as free; what is shared between processes (and so in `file`) is not.
        ("0::/\n", {"": v2(8 * GIB, 7 * GIB, CACHE)}, [3 * GIB]),
        # Every group on the way up has a say.
        (
            "0::/slurm/job/step\n",
            {"slurm": v2(4 * GIB, GIB), "slurm/job": v2("max", GIB), "slurm/job/step": v2(9 * GIB, GIB)},
            [8 * GIB, 3 * GIB],
        ),
        # Above memory.high a process is slowed down until it hardly moves.
        ("0::/a\n", {"a": v2(8 * GIB, GIB, **{"memory.high": 2 * GIB})}, [GIB]),
        ("0::/a\n", {"a": v2("max", GIB, **{"memory.high": "max"})}, []),
        # More is used than the limit that was lowered since.
        ("0::/a\n", {"a": v2(GIB, 2 * GIB)}, [0]),
        # The host's path, of which a container sees nothing but the root; and one outside of the namespace.
        ("0::/kubepods/pod1/abc\n", {"": v2(2 * GIB, GIB)}, [GIB]),
        ("0::/../../elsewhere\n", {"": v2(2 * GIB, GIB)}, [GIB]),
        # Version 1; the other controllers have groups of their own, and no limit is a very large number.
        (
            "12:cpu,cpuacct:/x\n9:memory:/docker/abc\n1:name=systemd:/y\n",
            {"memory": v1(2**63 - 4096, GIB), "memory/docker/abc": v1(4 * GIB, 2 * GIB, f"total_inactive_file {GIB}")},
            [3 * GIB, 2**63 - 4096 - GIB],
        ),
        # Both at once, each with a controller.
        ("5:memory:/a\n0::/b\n", {"memory/a": v1(3 * GIB, GIB), "unified/b": v2("max", GIB)}, [2 * GIB]),
        # Nothing, or nonsense.
        ("", {}, []),
        ("0::/\n", {"": v2("much", "little")}, []),
        ("nonsense\n0::/a\n", {"a": {"memory.max": GIB}}, []),
    ],
)
def test_the_limit_of_every_cgroup_counts(own, files, rooms, cgroups):
    root = cgroups(own, files)
    assert list(memory.cgroup_rooms(root)) == rooms
    free = memory.free_memory(root)
    assert free is not None
    assert free <= min(rooms, default=free)


def test_without_a_limit_the_machine_says_what_is_free(tmp_path):
    import psutil

    assert memory.free_memory(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_what_is_free_here_is_asked_of_both(monkeypatch):
    monkeypatch.setattr(devices, "free_memory", lambda: 7)
    assert devices._free() == 7
