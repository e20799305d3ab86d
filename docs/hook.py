"""What makes a site of the repository's own pages: links that work in both, records and examples in their places, and
the API reference, a page for each part of jevo, from the docstrings of all that it exports."""

import importlib
import json
import logging
import os
import pkgutil
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import jevo
from jevo.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
INCLUDE = re.compile(r"<!-- include -->\n\[[^\]]*\]\(([^)]+)\)\n")
"""A comment, and on the next line a link to a file, which the site has in their place."""
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?\[[^\]]*\])\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")
PICTURES = {".gif", ".jpg", ".png", ".svg", ".webp"}
DOCTEST = re.compile(r"(?:^>>> .*\n(?:.+\n?)*)", re.MULTILINE)

log = logging.getLogger("mkdocs.hooks.jevo")


def parts() -> list[str]:
    """The modules that the API reference has pages of: all that lie in jevo itself, and each experiment."""
    found = [module.name for module in pkgutil.iter_modules(jevo.__path__) if not module.name.startswith("_")]
    experiments = [module.removeprefix("jevo.") for module in EXPERIMENTS.values()]
    return sorted({*found, *experiments} - {"version"})


def reference(name: str) -> str:
    """The page of one of them: what it exports, or of a plain module what is public."""
    exported = getattr(importlib.import_module(f"jevo.{name}"), "__all__", None)
    options = {"show_root_heading": False, "show_root_toc_entry": False}
    if exported is None:
        return f"# jevo.{name}\n\n{shown(name, options)}"
    # The settings of an experiment are mostly those of every run.
    each = "".join(shown(f"{name}.{export}", {"inherited_members": export == "Config"}) for export in exported)
    return f"# jevo.{name}\n\n{shown(name, options | {'members': False})}{each}"


def shown(name: str, options: dict[str, bool]) -> str:
    """What has mkdocstrings show a part of jevo."""
    return f"::: jevo.{name}\n    options: {json.dumps(options)}\n\n"


class Doctests(griffe.Extension):
    """Shows the examples of docstrings as code."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            fenced = lambda found: f"```python\n{found[0].rstrip()}\n```\n"  # noqa: E731
            obj.docstring.value = DOCTEST.sub(fenced, obj.docstring.value)


def prose(text: str, change: Callable[[str], str]) -> str:
    """The text, with all of it changed that is no code."""
    return "".join(part if part.startswith("```") else change(part) for part in FENCED.split(text))


def includes() -> Iterator[tuple[str, str]]:
    """For each file that a page includes, from the root: it and the page, which is where links to it go."""
    for page in ROOT.glob("docs/*.md"):
        for target in INCLUDE.findall(page.read_text()):
            yield os.path.normpath(f"docs/{target}"), page.name


def on_config(config: MkDocsConfig) -> None:
    config.nav = [*(config.nav or []), {"API": [{name: f"api/{name}.md"} for name in parts()]}]
    config.extra["included"] = dict(includes())


def on_files(files: Files, config: MkDocsConfig) -> None:
    pictures = (path for path in sorted(ROOT.glob("experiments/**/*")) if path.suffix in PICTURES)
    for picture in pictures:
        files.append(File.generated(config, picture.relative_to(ROOT).as_posix(), abs_src_path=str(picture)))
    for name in parts():
        files.append(File.generated(config, f"api/{name}.md", content=reference(name)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.file.generated_by:
        return markdown

    def linked(text: str, folder: str) -> str:
        """Links from a file of this folder of the repository, as links from the page."""

        def link(found: re.Match[str]) -> str:
            words, target, anchor = found[1], os.path.normpath(f"{folder}/{found[2]}"), found[3] or ""
            if not (ROOT / target).exists():
                log.warning("%s: there is no %s", page.file.src_uri, target)
            target = config.extra["included"].get(target, target.removeprefix("docs/"))
            if files.get_file_from_path(target):
                return f"{words}({os.path.relpath(target, Path(page.file.src_uri).parent)}{anchor})"
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            return f"{words}({REPOSITORY}/{kind}/main/{target}{anchor})"

        return prose(text, lambda part: LINK.sub(link, part))

    def included(found: re.Match[str]) -> str:
        file = ROOT / os.path.normpath(f"docs/{found[1]}")
        text = file.read_text()
        if file.suffix == ".py":
            return f'```python title="{file.relative_to(ROOT)}"\n{text}```\n'
        body = text.partition("\n")[2]  # Without its heading, and the others a level lower.
        lower = prose(body, lambda part: re.sub(r"^#", "##", part, flags=re.MULTILINE))
        return linked(lower, str(file.parent.relative_to(ROOT)))

    pieces = INCLUDE.split(markdown)
    texts = [linked(piece, "docs") for piece in pieces[::2]]
    files_in_place = [included(found) for found in INCLUDE.finditer(markdown)]
    return "".join(text + place for text, place in zip(texts, [*files_in_place, ""], strict=True))
