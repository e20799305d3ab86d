"""What the system refuses, and what a terminal cannot show: a line and an exit code, and the run goes on later."""

import errno
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jevo.errors import InputError
from jevo.runs.command import plain_errors
from jevo.runs.signals import Interrupted
from jevo.runs.system import system_reason
from tests.commands import ROOT, command, deterministic

TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Error writing "carry/0" in OCDBT database at local file "/runs/a/checkpoints/search/2/": '
    'Failed writing: "/runs/a/checkpoints/search/2/d/f9": Failed to write 9 bytes to file 7: No space left on device '
    "[os_error_code='28'] [source locations='local/file.cc:1']"
)


def wrapped(error, how):
    """An error as a library hands it on."""
    try:
        try:
            raise error
        except type(error) as inner:
            if how == "cause":
                raise ValueError("a library gives up") from inner
            raise ValueError("a library stumbles over what it was handling")  # noqa: B904
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.json"), "No space left on device: a.json"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "Disk quota exceeded"),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE), b"a"), "Stale file handle: a"),
        (ValueError(TENSORSTORE), "No space left on device: /runs/a/checkpoints/search/2/d/f9"),
        (RuntimeError("cannot open: Too many open files"), "Too many open files"),
        (ValueError("[Errno 30] Read-only file system: '/a/b'"), "Read-only file system: /a/b"),
        (wrapped(OSError(errno.EMFILE, "Too many open files"), "cause"), "Too many open files"),
        (wrapped(OSError(errno.EIO, "Input/output error", "x"), "context"), "Input/output error: x"),
        (MemoryError(), "not enough memory"),
        (np._core._exceptions._ArrayMemoryError((10**12,), np.dtype("f8")), "not enough memory (Unable to allocate 7"),
        (RuntimeError("can't start new thread"), "can't start another thread"),
        # Mistakes of a program, and damaged files, are none of the system's.
        (ValueError("array of 28 elements"), None),
        (KeyError("No space left on device"), None),
        (wrapped(FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "context"), None),
        (ValueError("NOT_FOUND: [os_error_code='2']"), None),
    ],
)
def test_what_the_system_refuses_is_found_in_any_wrapping(error, reason):
    found = system_reason(error)
    assert (found or "").startswith(reason) if reason else found is None


def test_errors_that_go_round_in_a_circle_end():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert system_reason(first) is None


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("what to do"), 2, "error: what to do"),
        (OSError(errno.ENOSPC, "full", "x"), 1, "error: full: x; once that is mended, the same command goes on"),
        (FileNotFoundError(errno.ENOENT, "gone", "x"), 1, "error: gone: x"),
        (ValueError(TENSORSTORE), 1, "error: No space left on device: /runs"),
        (MemoryError("Unable to allocate"), 1, "error: not enough memory (Unable to allocate); once"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes\nmore"), 2, "error: not enough memory (RESOURCE_EXH"),
        (UnicodeEncodeError("ascii", "caf\xe9", 3, 4, "no"), 2, "error: 'caf\\xe9' cannot be written as ascii; have"),
        (Interrupted("the same command goes on"), 130, "the same command goes on"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
def test_a_line_and_an_exit_code(error, code, line, capsys, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # Put back afterwards.
    with pytest.raises(SystemExit) as ended, plain_errors():
        raise error
    assert ended.value.code == code
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == bool(line)


def test_a_mistake_of_the_program_keeps_its_traceback(capsys):
    with pytest.raises(ZeroDivisionError), plain_errors():
        _ = 1 // 0
    assert capsys.readouterr().err == ""


# A program that was cut short in the cache of this session would be complained of by other tests.
UNCACHED = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"}


def run(arguments, **more):
    return subprocess.run(arguments, cwd=ROOT, text=True, capture_output=True, **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "reason"),
    [("-f 2", "File too large"), ("-n 16", "Too many open files"), ("-n 20", "Too many open files")],
)
def test_what_is_short_is_a_line_and_the_same_command_goes_on(limit, reason, tmp_path):
    arguments = command("masks", out=tmp_path / "run")
    refused = run(["bash", "-c", f'ulimit {limit}; exec "$0" "$@"', *arguments], env=UNCACHED)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {reason}")
    assert refused.stderr.count("\n") == 1
    assert run(arguments).returncode == 0
    assert run(command("masks", out=tmp_path / "whole")).returncode == 0
    assert deterministic(tmp_path / "run") == deterministic(tmp_path / "whole")


VANISHES = """
import shutil, sys
from jevo.experiments import experiment
from jevo.runs import loop, main

shown = loop.Progress.show
def show(self, done, *rest):
    if done == 1:
        shutil.rmtree(sys.argv[-1])
    return shown(self, done, *rest)

loop.Progress.show = show
main(experiment("masks"))
"""


@pytest.mark.slow
def test_a_folder_that_vanishes_ends_the_run_with_a_line(tmp_path):
    done = run([sys.executable, "-c", VANISHES, "--preset", "smoke", "--out", str(tmp_path / "run")])
    assert done.returncode == 1
    assert done.stderr == f"error: deleted while the run went on: {tmp_path / 'run' / 'metrics.jsonl'}\n"
    assert run(command("masks", out=tmp_path / "run")).returncode == 0


SAY = """
import sys
from jevo.runs.command import plain_errors
with plain_errors():
    for _ in range(int(sys.argv[1])):
        print("caf\\u00e9 \\u65e5\\u672c " * 10)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_any_terminal_takes_any_text(encoding):
    done = run([sys.executable, "-c", SAY, "1"], env=os.environ | {"PYTHONIOENCODING": encoding}, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("\u65e5" if encoding == "utf-8" else r"\u65e5") in done.stdout


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("| head -1", 141, ""),
        ("> /dev/full", 1, "error: No space left on device; once that is mended, the same command goes on\n"),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_an_output_that_nobody_takes(shell, code, said):
    # `wait` of a pipe is the last program's: bash is asked for the first's.
    script = f'"$0" -c "$1" 20000 {shell}; exit ${{PIPESTATUS[0]}}'
    done = run(["bash", "-c", script, sys.executable, SAY])
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("module", ["experiments.masks", "summary", "predict", "benchmark"])
def test_an_argument_of_bytes_that_are_no_text_is_said_plainly(module):
    done = run([sys.executable.encode(), b"-m", f"jevo.{module}".encode(), b"--data=\xff\xfe.csv"])
    assert done.returncode == 2
    assert done.stderr.startswith(r"error: the argument '--data=\xff\xfe.csv' is not text in the encoding ")
    assert done.stderr.count("\n") == 1
