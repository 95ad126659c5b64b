"""How rows of text are spelled as labels: HTML-like, plain with marks, or Mermaid's.

Names come from somebody's file and are shown as text, never read as markup.
"""

import html
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from vmstate.constitution.wording import FACES, LOOKS, ROWS, Look, Rows

Spell: TypeAlias = Callable[[Rows, Literal["left", "center"]], str]
# Noncharacters are set aside by Unicode for use inside a program. One before each row of a plain
# label says which look it has, and is gone when the SVG has been dressed.
_MARKS = {look: chr(0xFDD0 + number) for number, look in enumerate(LOOKS)}
_MARKED = {mark: look for look, mark in _MARKS.items()}
_ROW = re.compile(
    r'<text[^>]*?(text-anchor="\w+" x="[^"]+" y="[^"]+")[^>]*>'
    "([\ufdd0-\ufdef])(.*?)(?:\\s|&#160;)*</text>"
)
_NOT_TEXT = re.compile(
    "[^\u0020-\u007e\u00a0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]"
)
# In Mermaid these could end a label, start a directive or make a list.
_MERMAID_SYNTAX = re.compile(r"[!-&(-+/;-@\[-^`{-~]|[-.](?= )")


def _lines(rows: Rows) -> Iterator[tuple[Look, str]]:
    """The rows, cut to lines, without characters that XML forbids."""
    for look, row in rows:
        text = _NOT_TEXT.sub("\ufffd", row)
        for line in textwrap.wrap(
            text, look.characters, max_lines=ROWS, placeholder=" …", break_on_hyphens=False
        ):
            yield look, line


def as_html(rows: Rows, align: Literal["left", "center"]) -> str:
    """An HTML-like label: a table with a cell for each line."""
    cells = []
    for look, line in _lines(rows):
        text = f"<b>{html.escape(line)}</b>" if look.bold else html.escape(line)
        font = f'<font face="{look.face}" point-size="{look.points}" color="{look.colour}">'
        cells.append(f'<tr><td align="{align}">{font}{text}</font></td></tr>')
    table = '<table border="0" cellborder="0" cellspacing="0" cellpadding="1">'
    return f"<{table}{''.join(cells)}</table>>"


def as_marked_text(rows: Rows, align: Literal["left", "center"]) -> str:
    """A plain label, because the Graphviz that vmstate brings reads no HTML-like ones."""
    end = "\\l" if align == "left" else "\\n"
    lines = []
    for look, line in _lines(rows):
        text = line.replace("\\", "\\\\").replace("&", "&amp;")
        # A bold line is wider than it is laid out: leave room beside it.
        room = " " * (len(line) // 4) if look.bold else ""
        lines.append(f"{_MARKS[look]}{text}{room}{end}")
    return "".join(lines).removesuffix("\\n")


def dress(svg: bytes) -> bytes:
    """Give each row of an SVG that was drawn from marked text its look."""

    def dressed(row: re.Match[str]) -> str:
        place, look, text = row[1], _MARKED[row[2]], row[3]
        weight = ' font-weight="bold"' if look.bold else ""
        font = f'font-family="{FACES[look.face]}" font-size="{look.points}"{weight}'
        return f'<text xml:space="preserve" {place} {font} fill="{look.colour}">{text}</text>'

    return _ROW.sub(dressed, svg.decode()).encode()


def as_mermaid(rows: Rows) -> str:
    """A quoted label; `#45;` in it is how Mermaid writes a hyphen."""
    lines = (_MERMAID_SYNTAX.sub(lambda c: f"#{ord(c[0])};", line) for _, line in _lines(rows))
    return f'"{"<br/>".join(lines)}"'
