"""`hook pre-tool-use`: for agent programs that ask a command before they run a tool.

    stdin   {"tool_name": "Bash", "tool_input": {"command": "ls"}}
    stdout  {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "deny",
             "permissionDecisionReason": "…"}}

Such programs go on if a hook fails, so nothing here fails: what can't be decided is denied.
"""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from vmstate.errors import InputError, VmstateError
from vmstate.interfaces.cli.settings import (
    Command,
    Group,
    Settings,
    asker,
    named,
    principal_option,
)

if TYPE_CHECKING:
    from vmstate.interfaces.mcp.warden import Judgement

ALLOW, DENY, ASK = "allow", "deny", "ask"
INPUT_BYTES = 8_388_608  # of one tool call; what is more is not read
MCP = "mcp__"  # how agent programs begin the names of tools that an MCP server has


@click.group(cls=Group)
def hook() -> None:
    """Decide for agent programs that ask before they run a tool."""


@hook.command("pre-tool-use", cls=Command)
@principal_option("Whose tools they are.  [env: VMSTATE_PRINCIPAL]")
@click.option(
    "--server",
    default="local",
    show_default=True,
    help="The table under [tools] for the program's own tools; those of MCP servers have theirs.",
)
@click.option("--ask", is_flag=True, help="Have the program's user asked as well before it runs.")
@click.pass_obj
def pre_tool_use(settings: Settings, who: str | None, server: str, *, ask: bool) -> None:
    """Read a tool call on standard input; print allow, deny or ask.

    Allowed is what [tools.<server>] gives the profile held now, on the record. What a user answers
    when asked is the program's business, and never an approval.
    """
    try:
        judged = _judge(settings, who, server)
    except VmstateError as error:
        _print(DENY, f"vmstate can't decide: {error}")
        return
    except click.ClickException as error:
        _print(DENY, f"vmstate can't decide: {error.format_message()}")
        return
    except Exception as error:  # noqa: BLE001 -- a hook that fails would let the tool run
        _print(DENY, f"vmstate can't decide: {type(error).__name__}")
        return
    if judged.refusal is not None:
        _print(DENY, f"{judged.refusal.sentence} {json.dumps(judged.refusal.body())}")
        return
    receipt = "" if judged.receipt is None else f", receipt {judged.receipt}"
    _print(ASK if ask else ALLOW, f"allowed by vmstate{receipt}")


def _judge(settings: Settings, who: str | None, server: str) -> "Judgement":
    from vmstate.interfaces.mcp.warden import Warden

    if not settings.socket:
        named(who)
    call = _read_call()
    name = call.get("tool_name", call.get("tool"))
    arguments = call.get("tool_input", call.get("arguments", {}))
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InputError("the call has no tool_name that is text, or no tool_input that is a table")
    if name.startswith(MCP) and "__" in name.removeprefix(MCP):
        server, _, name = name.removeprefix(MCP).partition("__")
    authority = settings.authority()
    if authority.is_drill:
        raise InputError(f"{settings.ledger} is a drill's ledger, and tools do something real")
    warden = Warden(authority, server)
    judged = warden.judge(asker(authority, who), "tool", name, arguments)
    warden.flush(everything=True)
    return judged


def _read_call() -> dict[str, Any]:
    data = sys.stdin.buffer.read(INPUT_BYTES + 1)
    if len(data) > INPUT_BYTES:
        raise InputError(f"the call has more than {INPUT_BYTES:,} bytes")
    try:
        call = json.loads(data)
    except ValueError as error:
        raise InputError(f"the call is not JSON: {error}") from error
    if not isinstance(call, dict):
        raise InputError("the call is no JSON object")
    return call


def _print(decision: str, reason: str) -> None:
    said = {
        "hookEventName": "PreToolUse",
        "permissionDecision": decision,
        "permissionDecisionReason": reason,
    }
    click.echo(json.dumps({"hookSpecificOutput": said}))
