"""The page: blocks of text, tables and figures, in order, made into one HTML file by templates/.

The file opens anywhere by itself: figures inside, no script, light and dark, phone and print. All
text is data: Jinja2 escapes it.
"""

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from common import files
from eval.report import figures
from eval.report.results import Result

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)
LONG, MIDDLE = 60, 18  # characters of a cell from which it may wrap, at which width
MANY = 20  # lines of a table that is shown in full
PIXELS = 4 / 3  # a point
NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # control characters


class Page:
    """What stands above the table of contents, and what below; figures go into files as well."""

    def __init__(self, folder: Path, title: str):
        self.folder, self.title = folder, title
        self.top: list[dict] = []
        self.body: list[dict] = []
        self._drawing: dict[Path, Future] = {}
        self._drawer = files.worker_pool(1)  # draws PDFs, for which the page does not wait

    def lead(self, text: str, kind: str):
        """A paragraph on top; `kind` is "soft", "warning" or "answer"."""
        self.top.append({"template": "paragraph.html", "text": text, "kind": kind})

    def finding(self, heading: str, text: str):
        """A paragraph on top that begins with its heading."""
        self.top.append({"template": "finding.html", "heading": heading, "text": text})

    def heading(self, text: str):
        """Begins a section; the table of contents links to it."""
        anchor = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        self.body.append({"template": "heading.html", "text": text, "anchor": anchor})

    def paragraph(self, text: str):
        self.body.append({"template": "paragraph.html", "text": text, "kind": ""})

    def folded(self, summary: str, text: str):
        """A paragraph that folds away behind `summary`."""
        block = {"template": "folded.html", "summary": summary, "text": text}
        self.body.append(block)

    def table(self, lines: Iterable[Sequence], caption: str, fold: str = "", fold_long: str = ""):
        """A table of words and numbers, the first of `lines` its header.

        A line of one cell begins a group of lines. With `fold`, words, the table folds away behind
        them; with `fold_long`, what its lines are, it does so where there are many.
        """
        header, *rows = ([_cell(value) for value in line] for line in lines)
        if fold_long and len(rows) > MANY:
            fold = f"{len(rows)} {fold_long}"
        self.body.append(
            {
                "template": "table.html",
                "header": header,
                "rows": rows,
                "caption": caption,
                "fold": fold,
            }
        )

    def figure(
        self,
        name: str,
        figure: Figure,
        caption: str,
        results: list[Result],
        groups: Sequence[str] = ("",),
    ):
        """A figure into the page and into figures/: `results`, its files, `groups`, where in them.

        On a phone it shrinks down to half of its size, then scrolls.
        """
        svg = self._draw(name, figure)
        self.body.append(
            {
                "template": "figure.html",
                "svg": svg.removeprefix("<svg"),
                "width": round(figure.get_figwidth() * 72 * PIXELS),
                "caption": caption,
                "sources": list(self._sources(results, groups)),
            }
        )

    def panels(
        self,
        name: str,
        rows: dict[str, list[figures.Climb]],
        caption: str,
        results: list[Result],
    ):
        """Rows of panels on top, {heading: its panels}, as many side by side as fit; in figures/
        they are one figure.
        """
        self._draw(name, figures.ladders(rows))
        drawn = [
            {
                "heading": heading,
                "panels": [
                    {"panel": panel, "svg": figures.svg(figures.climb(panel)).removeprefix("<svg")}
                    for panel in panels
                ],
            }
            for heading, panels in rows.items()
        ]
        self.top.append(
            {
                "template": "panels.html",
                "rows": drawn,
                "caption": caption,
                "sources": list(self._sources(results, ("",))),
            }
        )

    def _draw(self, name: str, figure: Figure) -> str:
        """Writes a figure into figures/, as SVG and as PDF; returns the SVG."""
        svg = figures.svg(figure)
        path = self.folder / "figures" / re.sub(r"[^\w.=@-]+", "-", name)
        write(f"{path}.svg", svg.replace("<svg", '<svg style="background:#fff"', 1))
        self._drawing[Path(f"{path}.pdf")] = self._drawer.submit(figures.pdf, figure)
        return svg

    def _sources(self, results: list[Result], groups: Sequence[str]):
        """A file, the group in it, and the command that made it, for every one that is there."""
        for result in results:
            for group in groups:
                if not group or group in result.groups or _has_folder(result, group):
                    yield {
                        "link": os.path.relpath(result.path, self.folder),
                        "group": f"/{group}",
                        "command": result.groups.get(group, result.attrs)["command"],
                    }

    def html(self) -> str:
        """The whole page."""
        return TEMPLATES.get_template("page.html").render(
            title=self.title, top=self.top, body=self.body
        )

    def write(self):
        """Writes what is left to write: the PDFs, and last of all index.html."""
        for path, drawn in self._drawing.items():
            write(path, drawn.result())
        self._drawer.shutdown()
        write(self.folder / "index.html", self.html())


def _cell(value) -> dict[str, str]:
    """The text of a cell, and the class that says how it wraps."""
    text = str(value)
    kind = "long" if len(text) > LONG else "mid" if len(text) > MIDDLE else ""
    return {"text": text, "kind": kind}


def _has_folder(result: Result, group: str) -> bool:
    """Whether datasets lie somewhere in an HDF5 group of the file."""
    return any(Path(group) in Path(dataset).parents for dataset in result.data)


def write(path: str | Path, content: str | bytes):
    """Writes text or bytes to `path`, whole or not at all.

    Characters that XML and UTF-8 do not have become a replacement character, or a "?".
    """
    if isinstance(content, str):
        content = NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", content).encode(errors="replace")
    with files.atomic(Path(path)) as part:
        part.write_bytes(content)
