"""The report of a run as one HTML file with its pictures within, which can be sent to a colleague."""

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

from jevo.data.files import read_file

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } img { max-width: 100%; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem; text-align: left; font-variant-numeric: tabular-nums; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } pre { background: #262626; }
th, td { border-color: #444; } img { background: #fff; } a { color: #8ab4f8; } }
"""


def page(markdown: str, folder: Path) -> str:
    """A report in Markdown as an HTML page that needs nothing beside it.

    Args:
        markdown: the report; its pictures are PNGs by name. What HTML it holds is shown as text.
        folder: where the pictures are; one that is not there is left out.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    title = html.escape(next(iter(re.findall(r"^# (.+)$", markdown, re.MULTILINE)), "jevo"))
    body = re.sub(r'<img src="([^"]+)" alt="([^"]*)" ?/?>', lambda found: _inlined(folder, *found.groups()), body)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n{body}</body>\n</html>\n"
    )


def _inlined(folder: Path, name: str, caption: str) -> str:
    path = folder / html.unescape(name)
    if path.parent != folder or path.suffix != ".png" or not path.is_file():
        return ""
    return f'<img src="data:image/png;base64,{base64.b64encode(read_file(path)).decode()}" alt="{caption}">'
