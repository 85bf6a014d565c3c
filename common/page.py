"""The report as one HTML file that opens anywhere by itself: figures embedded, no script, light and dark, phone and print."""
import base64
import struct
from html import escape

from common import files

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #666; --line: #ddd; --back: #fff; --warn: #8a3b00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #aaa; --line: #444; --back: #161616; --warn: #ffb273 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back) }
body { max-width: 72rem; margin: auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem }
p { max-width: 50rem } .soft, figcaption { color: var(--soft); font-size: .875rem } .scroll { overflow-x: auto }
.warning { color: var(--warn); border-left: 4px solid; padding-left: .75rem } tr.minor { color: var(--soft) }
figure { display: inline-block; vertical-align: top; max-width: 100%; margin: .5rem .5rem 1.5rem 0 }
.long { overflow-wrap: anywhere } img { display: block; width: 100%; background: #fff; border-radius: 4px }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; margin-top: 1rem }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; vertical-align: top }
th { vertical-align: bottom } th:first-child, td:first-child, .long { text-align: left }
th, td:first-child, .long { white-space: normal; min-width: 4rem } td:first-child { min-width: 9rem } .long { min-width: 16rem }
@media print { body { max-width: none; font-size: 10pt } .scroll { overflow: visible } table { font-size: 7pt }
  img { min-width: 0 !important } figure, tr { break-inside: avoid } h2 { break-after: avoid } }
"""


def element(tag, words, kind=""):
    """One HTML element of words: a heading, a paragraph, a cell."""
    return f'<{tag} class="{kind}">{escape(str(words))}</{tag}>'


def table(lines, caption, minor=0):
    """A table of `lines` of words and numbers, the first of them its header, the last `minor` standing back; long cells wrap."""
    rows = ["".join(element("td" if i else "th", cell, "long" if len(str(cell)) > 60 else "") for cell in line)
            for i, line in enumerate(lines)]
    rows = "\n".join(f'<tr class="{"minor" if i >= len(rows) - minor else ""}">{row}</tr>' for i, row in enumerate(rows))
    return f'<div class="scroll"><table>{rows}</table></div>{element("p", caption, "soft")}'


def figure(png, caption):
    """A PNG (bytes) and its caption, 0.62 of its pixels wide; on a phone it shrinks to half of them, then scrolls."""
    width, data = struct.unpack(">I", png[16:20])[0], base64.b64encode(png).decode()
    image = f'<img style="min-width:{width // 2}px" alt="{escape(caption)}" src="data:image/png;base64,{data}">'
    caption = element("figcaption", caption)
    return f'<figure style="width:{width * 62 // 100}px"><div class="scroll">{image}</div>{caption}</figure>'


def document(title, parts):
    """The whole page from its parts (HTML)."""
    head = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return "\n".join([head, element("title", title), f"<style>{CSS}</style>", *parts, ""])


def write(path, content):
    """Writes text or bytes to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode())
    files.replace(part, path)
