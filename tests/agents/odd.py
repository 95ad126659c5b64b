"""A server that does what no server should; its first argument says what."""

import json
import os
import signal
import sys
import time

TOOLS = ["look", "die", "look\u0000", "vmstate_status", "look"]


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(asked, result):
    say({"jsonrpc": "2.0", "id": asked["id"], "result": result})


def text(said):
    return {"content": [{"type": "text", "text": said}]}


def initialize(_params):
    capabilities = {"tools": {"listChanged": True}}
    info = {"name": "odd", "version": "1"}
    return {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info}


def list_tools(_params):
    hints = {"readOnlyHint": True, "destructiveHint": False}
    schema = {"type": "object"}
    return {"tools": [{"name": n, "inputSchema": schema, "annotations": hints} for n in TOOLS]}


def call(params):
    for step in range(params["arguments"].get("steps", 0)):
        told = {"progressToken": params["_meta"]["progressToken"], "progress": step + 1}
        say({"jsonrpc": "2.0", "method": "notifications/progress", "params": told})
    if params["arguments"].get("stays"):
        sys.stdin.readline()
    match params["name"]:
        case "die":
            sys.exit(1)
        case "lie":
            return {"content": "no list at all"}
        case "secret":
            return text(os.environ.get("ODD_SECRET", "none"))
        case "babble":
            sys.stdout.write("not a message: token=swordfish\n")
        case "bytes":
            sys.stdout.buffer.write(b"not text: \xff\xfe\n")
    return text("looked")


METHODS = {"initialize": initialize, "tools/list": list_tools, "tools/call": call}


def main(how):
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how == "garbage":
        sys.stdout.write("Welcome! token=swordfish\n\x00\xff{\n[1,2\n")
        sys.stdout.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("method") in METHODS:
            answer(asked, METHODS[asked["method"]](asked.get("params")))
        elif "id" in asked:
            error = {"code": -32601, "message": "Method not found"}
            say({"jsonrpc": "2.0", "id": asked["id"], "error": error})
    if how == "stubborn":
        time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
