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
p, figcaption, caption { max-width: 50rem } .soft, figcaption, caption { color: var(--soft); font-size: .875rem }
.warning { color: var(--warn); border-left: 4px solid; padding-left: .75rem }
figure { margin: 1.5rem 0 } .scroll { overflow-x: auto } img { display: block; width: 100%; background: #fff; border-radius: 4px }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; margin-top: 1rem }
caption { text-align: left; caption-side: bottom; padding-top: .5rem }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top }
th { white-space: normal; vertical-align: bottom } th:first-child, td:first-child, td.text { text-align: left }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; font-size: .8rem } tr.minor td { color: var(--soft) }
@media print { body { max-width: none; font-size: 10pt } .scroll { overflow: visible } table { font-size: 7pt } img { min-width: 0 !important }
  figure, tr { break-inside: avoid } }
"""


def number(mean, std=math.nan, digits=3):
    """"0.445 ± 0.012"; without the std where there is none; "–" where there is no number."""
    return "–" if math.isnan(mean) else f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ± {std:.{digits}f}")


def heading(words, level=2):
    return f"<h{level}>{escape(words)}</h{level}>"


def paragraph(words, kind=""):
    return f'<p class="{kind}">{escape(words)}</p>'


def table(header, rows, caption, minor=0):
    """A table of words, the last `minor` rows standing back; a cell longer than a few words wraps."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td{' class=text' if len(str(cell)) > 60 else ''}>{escape(str(cell))}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr{' class=minor' if i >= len(rows) - minor else ''}>{line}</tr>" for i, line in enumerate(lines))
    return f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def text(header, rows):
    """The same table for a terminal."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(header, *rows)]
    return "\n".join("  ".join(str(cell).ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (header, *rows))


def figure(png, caption):
    """A PNG (bytes) and its caption. On a narrow screen it keeps half its pixels and scrolls, on a wide one it does not grow beyond them."""
    width = struct.unpack(">I", png[16:20])[0]
    image = (f'<img style="min-width:{width // 2}px;max-width:{width * 3 // 4}px" alt="{escape(caption)}" '
             f'src="data:image/png;base64,{base64.b64encode(png).decode()}">')
    return f'<figure><div class="scroll">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def document(title, parts):
    """The whole page from its parts (HTML)."""
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{CSS}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n")


def write(path, content):
    """Writes bytes or text to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode())
    files.replace(part, path)
