"""Which requests belong together, so that one of several replicas answers them all.

The turns of a session follow each other, and a memory that is written to is open where it was opened: one replica does both
best. Everything else can be answered by any.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from memspan.serve.replies import ApiError
from memspan.serve.requests import named_session
from memspan.serve.response_ids import session_of_conversation, session_of_response

GROUPS = 512  # among which sessions and memories are divided
_KEPT = {"conversations": session_of_conversation, "responses": session_of_response}
_NAMED = ("memories", "vector_stores")


def group_of(owner: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """The name of the group that a request belongs to, one of `GROUPS`; "" for none.

    Args:
        headers: by their names in lower case.
    """
    subject = _of_path(path) or _of_body(headers, body)
    if subject is None:
        return ""
    digest = hashlib.sha256("\0".join((owner, subject)).encode("utf-8", "replace")).digest()
    return f"group {int.from_bytes(digest[:8], 'big') % GROUPS}"


def _of_path(path: str) -> str | None:
    """The memory that a path names: /v1/conversations/ID, /v1/memories/NAME, ..."""
    _, _, kind, name, *_ = [*path.split("/"), "", "", "", ""]
    if not name:
        return None
    if kind in _KEPT:
        return _KEPT[kind](name)
    return name if kind in _NAMED else None


def _of_body(headers: Mapping[str, str], body: bytes) -> str | None:
    """The memory of the session that a request names, in whichever way."""
    fields: Any = None
    if headers.get("content-type", "").startswith("application/json"):
        with suppress(ValueError, RecursionError):
            fields = json.loads(body)
    if not isinstance(fields, dict):
        fields = {}
    wish = fields.get("conversation")
    conversation = wish.get("id") if isinstance(wish, dict) else wish
    if isinstance(conversation, str):
        return session_of_conversation(conversation)
    if isinstance(before := fields.get("previous_response_id"), str):
        return session_of_response(before)
    with suppress(ApiError):  # which the replica says
        return named_session(fields, headers.get("x-session-id"), headers.get("x-task"))
    return None
