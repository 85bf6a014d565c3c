"""The report as one HTML file that opens anywhere by itself: figures inside, no script, light and dark, phone and print."""

import re
from html import escape

from common import files

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5c5c5c; --line: #ddd; --back: #fff; --warn: #8a3b00; --link: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #aaa; --line: #444; --back: #161616; --warn: #ffb273; --link: #8ec5ff } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --warn: #8a3b00; --link: #000 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back) }
body { max-width: 80rem; margin: auto; padding: 1rem } a { color: var(--link) }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem }
p { max-width: 56rem; margin: .6rem 0 } .soft, figcaption, details { color: var(--soft); font-size: .875rem } .scroll { overflow-x: auto }
.warning { color: var(--warn); border-left: 4px solid; padding-left: .75rem } tr.group { font-weight: 600 } tr.group td { padding-top: .9rem; text-align: left }
tr.group div { max-width: calc(100vw - 3rem); white-space: normal } .answer { font-size: 1.15rem; font-weight: 600 }
nav { font-size: .875rem; line-height: 1.9 } nav a { margin-right: 1rem; white-space: nowrap } summary { cursor: pointer }
figure { display: inline-block; vertical-align: top; max-width: 100%; margin: .5rem .5rem 1.5rem 0 }
.long { overflow-wrap: anywhere } svg { display: block; width: 100%; height: auto } svg text { font-family: system-ui, sans-serif }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; margin-top: 1rem }
th, td { padding: .2rem .45rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; vertical-align: top }
th { vertical-align: bottom } th:first-child, td:first-child, .long { text-align: left }
th, td:first-child, .long { white-space: normal; min-width: 4rem } td:first-child { min-width: 9rem } .long { min-width: 16rem }
td.mid { white-space: normal; min-width: 6.5rem }
@media print { body { max-width: none; font-size: 10pt } .scroll { overflow: visible } table { font-size: 6.5pt } nav, details { display: none }
  td, th { white-space: normal; min-width: 0 !important } svg { min-width: 0 !important } figure, tr { break-inside: avoid } h2, tr.group { break-after: avoid } }
"""


def element(tag, words, kind=""):
    """One HTML element of words: a heading (its words are its anchor), a paragraph, a cell."""
    anchor = f' id="{re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")}"' if tag == "h2" else ""
    return f'<{tag}{anchor} class="{kind}">{escape(str(words))}</{tag}>'


def finding(heading, words):
    """A paragraph that begins with its heading."""
    return f"<p><b>{escape(heading)}:</b> {escape(words)}</p>"


def table(lines, caption, open_=None):
    """A table of `lines` of words and numbers, the first its header; long cells wrap. A
    line of one cell begins a group. With `open_`, words, the table folds away behind them."""
    lines, rows = list(lines), []
    for i, line in enumerate(lines):
        kind = "group" if i and len(line) < len(lines[0]) else ""
        cells = [
            element(
                "td" if i else "th",
                cell,
                "long" if len(str(cell)) > 60 else "mid" if len(str(cell)) > 18 else "",
            )
            for cell in line
        ]
        if kind == "group":
            cells = [f'<td colspan="{len(lines[0])}">{element("div", line[0])}</td>']
        rows.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    rows = "\n".join(rows)
    made = f'<div class="scroll"><table>{rows}</table></div>{element("p", caption, "soft")}'
    return f"<details><summary>{escape(open_)}</summary>{made}</details>" if open_ else made


def figure(svg, caption, sources):
    """An SVG figure, its caption, and where its numbers are: `sources` [(link, HDF5 group, command)] a file. It shrinks to a phone's width down to
    half of its size, then scrolls."""
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) * 4 / 3
    svg = svg.replace(
        "<svg",
        f'<svg role="img" aria-label="{escape(caption)}" style="min-width:{width / 2:.0f}px"',
        1,
    )
    lines = "".join(
        f'<br><a href="{escape(link)}">{escape(link)}</a> {escape(group)} ← {escape(command)}'
        for link, group, command in sources
    )
    made = f'<details class="long"><summary>data and commands of this figure</summary>{lines}</details>'
    return f'<figure style="width:{width:.0f}px"><div class="scroll">{svg}</div>{element("figcaption", caption)}{made}</figure>'


def contents(parts):
    """Links to every heading of `parts`."""
    found = re.findall(r'<h2 id="(.*?)"[^>]*>(.*?)</h2>', "".join(parts))
    return (
        "<nav>" + " ".join(f'<a href="#{anchor}">{words}</a>' for anchor, words in found) + "</nav>"
    )


def document(title, parts):
    """The whole page from its parts (HTML)."""
    head = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return "\n".join([head, element("title", title), f"<style>{CSS}</style>", *parts, ""])


def write(path, content):
    """Writes text or bytes to `path`, whole or not at all."""
    with files.atomic(path) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
