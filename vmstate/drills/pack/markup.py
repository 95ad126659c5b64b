"""Markup that can't be broken out of: text is escaped unless it was made here.

tag("td", "<img onerror=1>", class_="why")   ->   <td class="why">&lt;img onerror=1&gt;</td>
"""

import html
import re
from collections.abc import Iterable
from html.parser import HTMLParser

_SPACE = re.compile("[ \t\n\r\f]+")  # what HTML itself calls space, in any language


class Markup(str):
    """Text that is markup already. Only `tag` and `joined` make it."""

    __slots__ = ()


def tag(name: str, *inner: str, **attributes: str | int | None) -> Markup:
    """An element; `class_` and `data_log` are spelled `class` and `data-log`, None is left out."""
    spelled = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{spelled}>{joined(inner)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """The parts, one after the other, each escaped unless it is markup."""
    return Markup(
        "".join(part if isinstance(part, Markup) else html.escape(part) for part in parts)
    )


def words_of(markup: Markup) -> str:
    """The words of this markup: what `textContent` says, with its spaces run together."""
    words = "".join(part[1] for part in parts_of(markup) if part[0] == "text")
    return _SPACE.sub(" ", words).strip(" ")


# Where a passage begins: what a reader would point at, a heading, a paragraph, a cell.
_BLOCKS = frozenset(
    ("h1", "h2", "h3", "p", "nav", "th", "td", "caption", "summary", "pre", "title", "text")
)


def passages_of(markup: Markup) -> list[str]:
    """The words, passage by passage, spaces run together; what stands before the first is one.

    Each further line of a passage is one as well: the file of a constitution has hundreds.
    """
    found = [""]
    for part in parts_of(markup):
        if part[0] == "begin" and part[1] in _BLOCKS:
            found.append("")
        elif part[:2] == ["begin", "div"]:
            found[-1] += " "  # a line of a cell
        elif part[0] == "text":
            first, *more = part[1].split("\n")
            found[-1] += first
            found += more
    return [_SPACE.sub(" ", one).strip(" ") for one in found]


def parts_of(markup: Markup) -> list[list[str]]:
    """The markup as a browser holds it: elements with every attribute, texts, and ends, in order.

        <p class="bad">no<br></p>  ->  ["begin", "p", "class", "bad"], ["text", "no"],
                                       ["begin", "br"], ["end", "p"]

    Names are in lower case and attributes in the order of their names.
    """
    reader = _Reader()
    reader.feed(markup.replace("\r\n", "\n").replace("\r", "\n"))
    reader.close()
    return reader.parts


def _attribute(key: str, value: str | int | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    return "" if value is None else f' {name}="{html.escape(str(value))}"'


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = sorted((name, value or "") for name, value in attrs)
        self.parts.append(["begin", tag, *(word for pair in said for word in pair)])

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(["end", tag])

    def handle_data(self, data: str) -> None:
        before = self.parts[-1] if self.parts else []
        if before[:2] == ["begin", "pre"]:
            data = data.removeprefix("\n")  # a browser drops the first line end in a <pre>
        if before[:1] == ["text"]:
            before[1] += data
        elif data:
            self.parts.append(["text", data])
