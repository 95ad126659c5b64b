"""`[tools.<server>]`: what an agent may call of the servers behind a gate, and from where up.

    [tools.git]
    visibility = "annotate"                                  # or "hide", which is the default
    approvers  = ["guardians"]                               # who may approve single calls
    tools."git_status" = { profile = "observer" }
    tools."git_*"      = { profile = "operator" }
    tools."git_push"   = { profile = "operator", each_call = true, on_end = "finish" }
    resources."repo:///*" = { profile = "observer" }
    prompts."*"           = { profile = "observer" }

Law 1: what no pattern matches is denied, and so is every server without a table. A pattern is a
name, or everything that begins with what stands before its one `*`, at the end. The order of the
file has no meaning: the exact name decides, else the pattern that says most of it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from vmstate.constitution.fields import Table, Word, Words

PATTERN_CHARACTERS = 255  # a tool's name and a resource's address are shorter by far
KINDS = ("tool", "resource", "prompt")

Kind: TypeAlias = Literal["tool", "resource", "prompt"]


def _check_tool_pattern(text: str) -> str:
    if not text or len(text) > PATTERN_CHARACTERS or not text.isascii() or not text.isprintable():
        raise ValueError(f"{text!r} is not a pattern: write up to 255 printable ASCII characters")
    if "*" in text[:-1]:
        raise ValueError(f"{text!r}: a wildcard stands at the end, write 'git_*' or the whole name")
    return text


ToolPattern = Annotated[str, AfterValidator(_check_tool_pattern)]


class ToolRule(Table):
    """From which profile up, whether each call needs its own approval, what a lease's end does.

    `on_end` is for a call that still runs when the authority it began under has ended: it is
    cancelled, or may finish.
    """

    profile: Word
    each_call: bool = False
    on_end: Literal["cancel", "finish"] = "cancel"


_Rules: TypeAlias = dict[ToolPattern, ToolRule]


class Server(Table):
    """One server behind a gate. `visibility` says what becomes of what may not be called now."""

    visibility: Literal["hide", "annotate"] = "hide"
    approvers: Words | None = None
    tools: _Rules = Field(default_factory=dict)
    resources: _Rules = Field(default_factory=dict)
    prompts: _Rules = Field(default_factory=dict)

    def rules(self, kind: Kind) -> Mapping[str, ToolRule]:
        """The patterns for tools, resources or prompts."""
        return {"tool": self.tools, "resource": self.resources, "prompt": self.prompts}[kind]

    def rule_for(self, kind: Kind, name: str) -> tuple[str, ToolRule] | None:
        """The pattern that decides about `name`, with its rule; None if there is none."""
        rules = self.rules(kind)
        if kind == "resource":
            if not is_plain(name):
                return None
            rules = {p: rule for p, rule in rules.items() if _tail(name) in {"", _tail(p)}}
            if name.endswith("/") and name[:-1] in rules:
                name = name[:-1]  # most servers take both for one
        if name in rules and not name.endswith("*"):
            return name, rules[name]
        prefixes = [p for p in rules if p.endswith("*") and name.startswith(p[:-1])]
        if not prefixes:
            return None
        longest = max(prefixes, key=len)
        return longest, rules[longest]


# A byte that may stand as it is has no second, encoded spelling; nor has one that hides a segment.
_IN_PATH = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,=:@/?#;-]|%(?:2[023]|3[CEF]|5[BDE]|60|7[BCD]|[89A-F][0-9A-F]))*"
)
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@\[\]-]*")


def is_plain(address: str) -> bool:
    """Whether an address has one spelling only, so that it means what it begins with.

    `file:///srv/../etc/passwd` begins with `file:///srv/` and is not below it; `%70rivate`,
    `/private` and `./private` are `private` to whoever opens them. So only the normal form of
    RFC 3986 is let through: nothing encoded that needs no encoding, no control, no character beyond
    ASCII, no empty and no dot segment. What follows `?`, `#` or `;` many servers leave out: an
    address with one of them is decided only by a pattern that has it too. Whether `A` and `a` are
    one is the server's business: under one that folds case, patterns must not depend on it.

    Source: RFC 3986, section 6.2.2.
    """
    scheme, colon, rest = address.partition(":")
    if not colon:
        scheme, rest = "", address
    host, path = "", rest
    if rest.startswith("//"):
        host = re.split("[/?#]", rest[2:])[0]
        path = rest[2 + len(host) :]
    path = path.removeprefix("/")
    if scheme != scheme.lower() or not _HOST.fullmatch(host) or not _IN_PATH.fullmatch(path):
        return False
    *above, last = [part.partition(";")[0] for part in re.split("[?#]", path)[0].split("/")]
    return "" not in above and not {".", ".."} & {*above, last}


def _tail(address: str) -> str:
    """The marks after which an address says what a server may leave out, in their order."""
    return "".join(mark for mark in address if mark in "?#;")


def rule_path(server: str, kind: Kind, pattern: str) -> str:
    """Where a rule stands: `tools.git.tools."git_*"`."""
    return f'tools.{server}.{kind}s."{pattern}"'
