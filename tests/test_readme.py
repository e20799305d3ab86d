"""The README's Python runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_python_in_the_readme_runs(capsys):
    evolved, trained = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for code, good in ((evolved, lambda accuracy: accuracy > 0.5), (trained, lambda loss: 0 < loss < 0.3)):
        exec(compile(code, str(README), "exec"), {})
        assert good(float(capsys.readouterr().out.split()[-1]))
