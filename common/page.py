"""The report as one HTML file that opens anywhere by itself: figures embedded, no script, light and dark, phone and print."""
import base64
import math
import struct
from html import escape

from common import files

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #666; --line: #ddd; --back: #fff; --warn: #8a3b00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #a0a0a0; --line: #3a3a3a; --back: #161616; --warn: #ffb273 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 72rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem }
p, figcaption, caption { max-width: 48rem } .soft, figcaption, caption { color: var(--soft); font-size: .875rem }
.warning { color: var(--warn); border-left: 4px solid; padding-left: .75rem }
figure { margin: 1.5rem 0 } .scroll { overflow-x: auto }
img { display: block; width: 100%; background: #fff; border-radius: 4px }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
caption { text-align: left; caption-side: bottom; padding-top: .5rem }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top }
th { vertical-align: bottom } th.wrap { white-space: normal; min-width: 4.5rem } th:first-child, td:first-child, td.text { text-align: left }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 12rem } tr.minor td { color: var(--soft) }
code { font-size: .8rem } figure, table { break-inside: avoid }
@media print { body { max-width: none; font-size: 10pt } .scroll { overflow: visible } table { font-size: 7pt } img { min-width: 0 !important } }
"""


def number(mean, std=math.nan, digits=3):
    """"0.445 ± 0.012"; without the std where there is none; "–" where there is no number."""
    if mean is None or math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if not math.isnan(std) else "")


def table(header, rows, caption, minor=()):
    """A table of words; `minor`: indices of rows that stand back. A cell given as ("text", words) is left-aligned and wraps."""
    head = "".join(f'<th class="wrap">{escape(cell)}</th>' for cell in header)
    body = "".join(f'<tr{" class=minor" if i in minor else ""}>{"".join(map(_cell, row))}</tr>\n' for i, row in enumerate(rows))
    return f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(cell):
    return f'<td class="text"><code>{escape(cell[1])}</code></td>' if isinstance(cell, tuple) else f"<td>{escape(str(cell))}</td>"


def text(header, rows):
    """The same table for a terminal."""
    widths = [max(len(str(line[i])) for line in (header, *rows)) for i in range(len(header))]
    return "\n".join("  ".join(str(cell).rjust(width) if i else str(cell).ljust(width) for i, (cell, width) in enumerate(zip(line, widths)))
                     for line in (header, *rows))


def figure(png, caption):
    """A PNG (bytes) with its caption; never shrunk below 75 pixels an inch (it scrolls on a phone), nor blown up."""
    width = struct.unpack(">I", png[16:20])[0] // 2  # CSS pixels, half of the PNG's: sharp on high-density screens
    image = f'<img style="min-width:{width}px;max-width:{width * 3 // 2}px" alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f'<figure><div class="scroll">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def paragraph(words, kind=""):
    return f'<p class="{kind}">{escape(words)}</p>'


def heading(words, level=2):
    return f"<h{level}>{escape(words)}</h{level}>"


def document(title, parts):
    """The whole page."""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{CSS}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n")


def write(path, content):
    """Writes bytes or text to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode())
    files.replace(part, path)
