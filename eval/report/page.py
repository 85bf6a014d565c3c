"""The page: text, pictures and tables, in order, made into one HTML file by templates/.

A picture is rows of panels, as many side by side as fit, with its tables folded under it. The file
opens anywhere by itself: no script, light and dark, phone and print. All text is data: Jinja2
escapes it.
"""

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import jinja2

from common import files
from eval.report import drawing
from eval.report.panels import Panel
from eval.report.results import Result
from eval.report.styles import Style

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)
MOST = 6  # panels side by side
LONG, MIDDLE = 60, 18  # characters of a cell from which it may wrap, at which width
FILES = (
    "training.h5: how a minimum was trained; passport.h5: all that was measured on it, a group of "
    "HDF5 a measurement; TASK/MODE.h5: how it was finetuned. ←: the command that made it."
)
SMALL = 6  # panels of a picture that stays on one sheet of paper


@dataclass
class Table:
    """Lines of words and numbers that fold away behind `fold`, the first of them the header.

    A line of one cell begins a group of lines.
    """

    fold: str
    lines: Iterable[Sequence]
    caption: str = ""


class Page:
    """What stands above the table of contents, and what below; pictures go into files as well.

    `links`: {name: anchor} of minima and settings: where a name stands in a table, it leads there.
    """

    def __init__(self, folder: Path, title: str, links: dict[str, str] | None = None):
        self.folder, self.title, self.links = folder, title, links or {}
        self.top: list[dict] = []
        self.body: list[dict] = []
        self._drawn: dict[str, tuple[dict, Future]] = {}  # {name: its block, what is drawn}
        self._explained = False  # what is in which file
        self._drawer = files.worker_pool(2)  # while it draws, the rest goes on

    def lead(self, text: str, kind: str):
        """A paragraph on top; `kind` is "soft", "warning" or "answer"."""
        self.top.append({"template": "paragraph.html", "text": text, "kind": kind})

    def finding(self, heading: str, text: str):
        """A paragraph on top that begins with its heading."""
        self.top.append({"template": "finding.html", "heading": heading, "text": text})

    def heading(self, text: str):
        """Begins a section; the table of contents links to it."""
        self.body.append({"template": "heading.html", "text": text, "anchor": slug(text)})

    def paragraph(self, text: str):
        self.body.append({"template": "paragraph.html", "text": text, "kind": ""})

    def folded(self, summary: str, text: str):
        """A paragraph that folds away behind `summary`."""
        self.body.append({"template": "folded.html", "summary": summary, "text": text})

    def table(self, table: Table):
        """A table that belongs to no picture."""
        self.body.append({"template": "table.html", "table": self._table(table)})

    def listing(self, header: Sequence[str], lines: Iterable, caption: str):
        """A table in full: `lines` are rows of cells, or (text, anchor) of a group of rows."""
        self.body.append(
            {"template": "list.html", "header": header, "lines": list(lines), "caption": caption}
        )

    def picture(
        self,
        name: str,
        rows: dict[str, list[Panel]] | list[Panel],
        see: str,
        caption: str,
        results: Sequence[Result] = (),
        groups: Sequence[str] = ("",),
        legend: dict[str, Style] | None = None,
        tables: Sequence[Table] = (),
        fold: str = "",
        on_top: bool = False,
    ):
        """A picture of `rows`, {heading: its panels}, into the page, and `name` into figures/.

        `see`: what is to be seen, its title; `caption`: how to read it; `results` and `groups`: the
        files that it was made from, and where in them. With `fold` all of it folds away.
        """
        rows = rows if isinstance(rows, dict) else {"": rows}
        legend = legend or {}
        count = sum(map(len, rows.values()))
        if not count:  # nothing to see: the tables alone
            for table in tables:
                self.table(table)
            return
        block = {
            "template": "picture.html",
            "name": slug(f"figure-{name}"),
            "many": count > SMALL or len(rows) > 1,
            "small": on_top,
            "see": see,
            "rows": rows,
            "legend": legend,
            "links": self.links,
            "caption": caption,
            "tables": [self._table(table) for table in tables],
            "sources": list(self._sources(results, groups)),
            "files": "" if self._explained else FILES,
            "fold": fold,
        }
        self._explained |= bool(results)
        (self.top if on_top else self.body).append(block)
        drawn = self._drawer.submit(drawing.picture, rows, legend)
        self._drawn[re.sub(r"[^\w.=@-]+", "-", name)] = block, drawn

    def _table(self, table: Table) -> dict:
        """A table as its template takes it."""
        header, *rows = ([self._cell(value) for value in line] for line in table.lines)
        return {"fold": table.fold, "header": header, "rows": rows, "caption": table.caption}

    def _cell(self, value) -> dict[str, str | None]:
        """The text of a cell, the class that says how it wraps, and where it leads."""
        text = str(value)
        kind = "long" if len(text) > LONG else "mid" if len(text) > MIDDLE else ""
        return {"text": text, "kind": kind, "link": self.links.get(text)}

    def _sources(self, results: Sequence[Result], groups: Sequence[str]):
        """A file, the groups in it, and the command that made them, for every one that is there."""
        for result in results:
            there = [name for name in groups if not name or _has_folder(result, name)]
            by_command = {}
            for group in there:
                command = result.groups.get(group, result.attrs)["command"]
                by_command.setdefault(command, []).append(f"/{group}")
            for command, names in by_command.items():
                yield {
                    "link": os.path.relpath(result.path, self.folder),
                    "group": " ".join(names),
                    "command": command,
                }

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *error):
        """Ends the processes that draw, also where something failed."""
        self._drawer.shutdown(cancel_futures=True)

    def html(self) -> str:
        """The whole page."""
        for block, drawn in self._drawn.values():
            block["drawn"] = drawn.result()
        return TEMPLATES.get_template("page.html").render(
            title=self.title, top=self.top, body=self.body
        )

    def write(self):
        """Writes index.html, after what is in figures/."""
        text = self.html()
        for name, (block, _) in self._drawn.items():
            write(self.folder / "figures" / f"{name}.svg", block["drawn"].svg)
            write(self.folder / "figures" / f"{name}.pdf", block["drawn"].pdf)
        write(self.folder / "index.html", text)


def across(count: int) -> int:
    """How many of `count` panels stand side by side at most: rows are as full as can be."""
    rows = -(-count // MOST)
    return -(-count // rows) if count else 1


TEMPLATES.globals["across"] = across


def slug(text: str) -> str:
    """A word for the address of a part of the page."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def anchors(kinds: dict[str, Iterable[str]]) -> dict[str, str]:
    """{name: an address of its own on the page} of names, {kind: its names}; the first kind that
    has a name keeps it.
    """
    result, taken = {}, set()
    for kind, names in kinds.items():
        for name in names:
            if name not in result:
                address = plain = slug(f"{kind}-{name}")
                number = 1
                while address in taken:
                    number += 1
                    address = f"{plain}-{number}"
                taken.add(address)
                result[name] = address
    return result


def _has_folder(result: Result, group: str) -> bool:
    """Whether datasets lie somewhere in an HDF5 group of the file."""
    return group in result.groups or any(name.startswith(f"{group}/") for name in result.data)


def write(path: str | Path, content: str | bytes):
    """Writes text or bytes to `path`, whole or not at all.

    Characters that XML and UTF-8 do not have become a replacement character, or a "?".
    """
    if isinstance(content, str):
        content = drawing.as_text(content).encode(errors="replace")
    with files.atomic(Path(path)) as part:
        part.write_bytes(content)
