"""The command `jevo`: what it says, what it passes on, and what a shell completes of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jevo import __main__ as jevo
from jevo import completion, experiments
from jevo.runs.help import called
from jevo.version import __version__

ROOT = Path(__file__).parents[1]
OWN = [name for name, module in experiments.EXPERIMENTS.items() if module.startswith("jevo.")]  # Tests have theirs.


def said(capsys, *arguments):
    jevo.main(arguments)
    return capsys.readouterr().out


def test_jevo_alone_says_in_ten_lines_what_there_is(capsys):
    text = said(capsys)
    assert text == said(capsys, "--help")
    assert len(text.splitlines()) <= 11
    assert max(map(len, text.splitlines())) <= 80
    for name in [*OWN, "predict", "summary", "benchmark", "completion"]:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)


def test_the_experiments_of_the_command_are_those_of_the_registry():
    assert list(jevo.EXPERIMENTS) == OWN


def test_version(capsys):
    assert said(capsys, "--version") == f"jevo {__version__}\n"


def test_an_unknown_command_is_a_line_with_what_was_meant():
    done = subprocess.run(
        [sys.executable, "-m", "jevo", "mask"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: command 'mask' is unknown; did you mean masks?")
    assert done.stderr.count("\n") == 1


def test_nothing_slow_is_imported_to_say_what_there_is():
    code = "import sys; sys.argv = ['jevo']; import jevo.__main__ as m; m.main(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


@pytest.mark.slow
def test_a_run_by_the_command_is_that_of_the_module(tmp_path, capsys):
    text = said(capsys, "masks", "--preset", "smoke", "--generations", "2", "--out", str(tmp_path / "run"))
    assert "masks on digits" in text
    assert "--generations 2" in (tmp_path / "run" / "report.md").read_text()
    assert "goes on" not in text


@pytest.mark.parametrize(
    ("argv", "program", "expected"),
    [
        (["/usr/bin/jevo", "masks", "--help"], None, "jevo masks"),
        (["C:/Scripts/jevo.exe", "predict"], None, "jevo predict"),
        (["x/jevo/__main__.py", "hybrid", "--help"], "jevo.__main__", "python -m jevo hybrid"),
        (["x", "--help"], "jevo.experiments.masks.__main__", "python -m jevo.experiments.masks"),
    ],
)
def test_help_names_the_command_as_it_was_called(monkeypatch, argv, program, expected):
    monkeypatch.setattr(sys, "argv", argv)
    spec = type("Spec", (), {"name": program})() if program else None
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    assert called() == expected


@pytest.mark.parametrize("name", ["predict", "summary", "benchmark"])
def test_help_of_the_other_commands(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        jevo.main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ")
    assert "--out" in text or name == "summary"


def completed(script: str, line: str) -> list[str]:
    """What bash offers at the end of a line."""
    words = line.split(" ")
    code = f"""
source {script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words) - 1}
COMP_LINE='{line}' COMP_POINT={len(line)}
function=$(complete -p jevo | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function jevo "${{COMP_WORDS[COMP_CWORD]}}" ''
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_bash_completes_commands_settings_and_names(capsys, tmp_path):
    script = tmp_path / "jevo.bash"
    completion.main(["bash"])
    script.write_text(capsys.readouterr().out)
    assert "masks" in completed(str(script), "jevo ")
    assert completed(str(script), "jevo hyb") == ["hybrid"]
    assert "--mutation-rate" in completed(str(script), "jevo masks --mut")
    assert set(completed(str(script), "jevo masks --preset ")) == set(experiments.experiment("masks").config.presets)
    assert set(completed(str(script), "jevo masks --search g")) == {"genetic"}
    assert "sgd" in completed(str(script), "jevo benchmark ")
    assert completed(str(script), "jevo benchmark sgd --pop") == ["--populations"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell, capsys):
    completion.main([shell])
    assert "--mutation-rate" in capsys.readouterr().out or shell == "fish"


def test_completion_of_no_shell_is_a_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        completion.main(["csh"])
    assert stopped.value.code == 2
    assert "bash" in capsys.readouterr().err
