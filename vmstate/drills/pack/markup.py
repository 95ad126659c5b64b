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
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return _SPACE.sub(" ", "".join(reader.words)).strip(" ")


def _attribute(key: str, value: str | int | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    return "" if value is None else f' {name}="{html.escape(str(value))}"'


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)
