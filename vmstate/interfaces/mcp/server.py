"""`vmstate mcp`: authority itself as an MCP server, for an agent that climbs and comes back.

Tools are the runbook's and vmstate's own; resources are the law, its graph and the caller's own
receipts; a prompt says how to work under all that. Of what a rule needs only the names are told,
no threshold, length or amount: an agent that reads one states it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
import anyio.to_thread
import mcp_types as types
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from pydantic import BaseModel

from vmstate import canonical
from vmstate.constitution.diagram import to_mermaid
from vmstate.constitution.document import FactNeed
from vmstate.constitution.law import Constitution
from vmstate.door import Door
from vmstate.errors import LedgerNotFound, VmstateError
from vmstate.interfaces.mcp.own import OWN, Caller, OfReceipt, OwnTool, get_receipt
from vmstate.interfaces.mcp.results import failed, own_result, own_tool
from vmstate.interfaces.mcp.runbook import RUNBOOK, RunbookTool
from vmstate.interfaces.mcp.warden import Warden
from vmstate.session import Session

THREADS = 8
NEWEST = 100  # receipts that the list of one's own holds
LOOKED_THROUGH = 10_000  # of everybody's, for these
LAW, GRAPH, RECEIPTS = "vmstate://constitution", "vmstate://graph", "vmstate://receipts"
PROMPT = "work_under_vmstate"
GUIDE = """\
You work under vmstate. What you may do depends on the profile you hold; everybody starts at the
lowest one, and a higher one is a lease that ends by itself.

1. Ask status where you stand. Work with what you have as long as it does.
2. When something is refused, read what is missing and where it comes from. Never guess a value that
   might pass: facts are stated as they are, or attested by others.
3. Ask for the lowest profile that does the work: why first, which asks nothing, then
   request_escalation with a reason that a person can judge.
4. "pending" means that a person has been asked. Go on with other work and check_request after the
   seconds it says; activate once it is approved. Nothing you say or fill in is an approval.
5. Do the work, then release the lease. If it ends before you are done, say so and ask again; do not
   look for a way around.
Every step leaves a receipt.
"""

Context = ServerRequestContext[Any, Any]
Tool = OwnTool | RunbookTool


@dataclass(slots=True)
class AuthorityServer:
    """Everything one can ask as an agent; `who` says as which."""

    warden: Warden
    who: Callable[[], str]
    session_of: Callable[[str, Door], Session]
    _tools: Mapping[str, Tool] = field(
        default_factory=lambda: {
            **{tool.name: tool for tool in RUNBOOK},
            **{tool.name: tool for tool in OWN},
        }
    )
    _limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(THREADS))

    @property
    def door(self) -> Door:
        return self.warden.door

    def server(self) -> Server[Any]:
        return Server(
            "vmstate",
            version=version("vmstate"),
            instructions=GUIDE,
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
        )

    async def list_tools(self, _: Context, _params: object) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[own_tool(name, tool) for name, tool in self._tools.items()]
        )

    async def call_tool(
        self, _: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        principal, tool = self.who(), self._tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r}")
        try:
            answer = await anyio.to_thread.run_sync(
                partial(self._use, principal, tool, params.arguments), limiter=self._limiter
            )
        except VmstateError as error:
            return failed(error)
        return own_result(answer)

    async def list_resources(self, _: Context, _params: object) -> types.ListResourcesResult:
        said = (
            (LAW, "constitution", "The law in force, without the values that would pass."),
            (GRAPH, "graph", "The law as a drawing, in Mermaid."),
            (RECEIPTS, "receipts", "The newest receipts about me, a line of JSON each."),
        )
        kinds = {LAW: "application/json", GRAPH: "text/plain", RECEIPTS: "application/jsonl"}
        resources = [
            types.Resource(uri=uri, name=name, description=text, mime_type=kinds[uri])
            for uri, name, text in said
        ]
        return types.ListResourcesResult(resources=resources)

    async def list_templates(
        self, _: Context, _params: object
    ) -> types.ListResourceTemplatesResult:
        one = types.ResourceTemplate(
            uri_template=f"{RECEIPTS}/{{seq}}",
            name="receipt",
            description="A receipt about me, by its number.",
            mime_type="application/json",
        )
        return types.ListResourceTemplatesResult(resource_templates=[one])

    async def read_resource(
        self, _: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        principal = self.who()
        try:
            text = await anyio.to_thread.run_sync(
                partial(self._read, principal, params.uri), limiter=self._limiter
            )
        except VmstateError as error:
            raise MCPError(types.INVALID_PARAMS, str(error)) from error
        contents = types.TextResourceContents(uri=params.uri, text=text)
        return types.ReadResourceResult(contents=[contents])

    async def list_prompts(self, _: Context, _params: object) -> types.ListPromptsResult:
        prompt = types.Prompt(name=PROMPT, description="How to work under vmstate.")
        return types.ListPromptsResult(prompts=[prompt])

    async def get_prompt(
        self, _: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        if params.name != PROMPT:
            raise MCPError(types.INVALID_PARAMS, f"there is no prompt {params.name!r}")
        text = types.TextContent(type="text", text=GUIDE)
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=text)])

    # ---- inside -----------------------------------------------------------------------------

    def _caller(self, principal: str) -> Caller:
        return Caller(self.warden, principal)

    def _use(self, principal: str, tool: Tool, arguments: Mapping[str, Any] | None) -> BaseModel:
        if isinstance(tool, RunbookTool):
            here = self.session_of(principal, self.warden.door_of(principal))
            return tool.call(here, arguments)
        return tool.call(self._caller(principal), arguments)

    def _read(self, principal: str, uri: str) -> str:
        law = self.door.constitution
        if uri == LAW:
            return canonical.encode(_without_values(law)).decode()
        if uri == GRAPH:
            return to_mermaid(_without_needs(law))
        if uri == RECEIPTS:
            after = max(-1, self.door.size() - 1 - LOOKED_THROUGH)
            newest = self.door.receipts(after=after, principal=principal, limit=LOOKED_THROUGH)
            return "".join(f"{self._receipt(principal, one.seq)}\n" for one in newest[-NEWEST:])
        seq = uri.removeprefix(f"{RECEIPTS}/")
        if not seq.isascii() or not seq.isdigit() or len(seq) > 15:  # noqa: PLR2004 -- below 2^53
            raise LedgerNotFound(f"there is no resource {uri!r}")
        return self._receipt(principal, int(seq))

    def _receipt(self, principal: str, seq: int) -> str:
        shown = get_receipt(self._caller(principal), OfReceipt(receipt=seq))
        return canonical.encode(shown.receipt).decode()


def _without_values(law: Constitution) -> canonical.Json:
    """The law as its digest has it, without values that would pass and tokens' digests."""
    said: Any = canonical.parse(law.canonical)
    for rule in said.get("escalations", {}).values():
        needs = rule.get("needs", {})
        for fact in needs.get("facts", {}):
            needs["facts"][fact] = {}
        if "reason" in needs:
            needs["reason"] = {}
        if "cost" in rule:
            rule["cost"].pop("amount", None)
    said.get("drill", {}).pop("budget_ceiling", None)
    for principal in said.get("principals", {}).values():
        principal.pop("token", None)
    kept: canonical.Json = said
    return kept


def _without_needs(law: Constitution) -> Constitution:
    """The law for a drawing that names the facts a rule needs, and no value that would pass."""
    rules = {}
    for name, rule in law.rules.items():
        facts = dict.fromkeys(rule.needs.facts, FactNeed.model_construct())
        needs = rule.needs.model_copy(update={"facts": facts, "reason": None})
        rules[name] = rule.model_copy(update={"needs": needs, "cost": None})
    return replace(law, document=law.document.model_copy(update={"escalations": rules}))
