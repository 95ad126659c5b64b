"""Telling at a URL: a POST that its receiver can check with the log's public key.

The headers are those of Standard Webhooks 1.0.0, by its asymmetric scheme, so that no secret is
shared and none stands in a constitution:

    webhook-id: msg_3f6b…                  the same for each attempt
    webhook-timestamp: 1893499200          when this attempt was made, seconds since 1970
    webhook-signature: v1a,<base64>        Ed25519 over `{id}.{timestamp}.{body}`
    content-type: application/json

The key is the log's, which also signs checkpoints. What is signed here is one line and a checkpoint
is at least three, so that neither is ever taken for the other. A receiver at several URLs sees in
`target` which of them was meant.

Delivered is what is answered with a 2xx; a redirect is not followed, and no proxy is asked: behind
one, name a command. `vmstate notify key` prints the public key as receivers' libraries read it.

Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from vmstate.keys import Ed25519Key

ANSWER_BYTES = 1_024
LONGEST_PAUSE_SECONDS = 3_600  # that a receiver may ask for


def spell_key(key: Ed25519Key) -> str:
    """The public key as a receiver's library reads it: `whpk_<base64>`."""
    return f"whpk_{base64.b64encode(key.raw).decode()}"


def signed_headers(
    id_: str, at_s: int, body: bytes, sign: Callable[[bytes], bytes]
) -> dict[str, str]:
    """The headers that go with `body`; `at_s` is when this attempt is made."""
    content = f"{id_}.{at_s}.".encode() + body
    return {
        "content-type": "application/json",
        "user-agent": "vmstate",
        "webhook-id": id_,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1a,{base64.b64encode(sign(content)).decode()}",
    }


def post(url: str, headers: dict[str, str], body: bytes, *, seconds: float) -> tuple[str, int]:
    """POST `body` to `url`, in `seconds` at most.

    Returns why that failed, or nothing, and how many seconds the receiver asks to be left alone.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, parts.port, timeout=seconds)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    late = threading.Event()
    # A socket's timeout starts anew with each byte; this one is for all of them.
    timer = threading.Timer(seconds, _hang_up, (connection, late))
    timer.daemon = True
    timer.start()
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        if late.is_set():  # hung up on in mid-answer, which reads as its end
            return f"did not answer within {seconds:g} s", 0
        return _fault(answer.status), _pause(answer.getheader("retry-after"))
    except (OSError, http.client.HTTPException, ssl.CertificateError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            return f"did not answer within {seconds:g} s", 0
        return f"can't be reached: {_reason(error)}", 0
    finally:
        timer.cancel()
        connection.close()


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    sock: socket.socket | None = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _fault(status: int) -> str:
    if 200 <= status <= 299:  # noqa: PLR2004 -- HTTP's own numbers
        return ""
    if 300 <= status <= 399:  # noqa: PLR2004
        return f"answered {status}, and redirects are not followed: mend the URL"
    return f"answered {status}"


def _pause(asked: str | None) -> int:
    """`Retry-After` in seconds; a date, which would take two clocks that agree, is not read."""
    if asked is None or not asked.isascii() or not asked.isdigit():
        return 0
    return min(int(asked[:9]), LONGEST_PAUSE_SECONDS)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
