"""The ids of responses and conversations: each holds the session that it belongs to.

conv_<32 hex digits of the session>, resp_<32 hex digits of the session><16 of its own>. They are looked up among the sessions
of the owner whose key came with the request, so that a guessed id finds nothing of another owner.
"""

import re
import secrets

_CONVERSATION = re.compile(r"conv_([0-9a-f]{32})")
_RESPONSE = re.compile(r"resp_([0-9a-f]{32})[0-9a-f]{16}")
_SESSION = re.compile(r"session-([0-9a-f]{32})(?:-[0-9]+)?")


def new_session() -> str:
    """The name of the memory of a session that nobody has named."""
    return f"session-{secrets.token_hex(16)}"


def new_response_id(session: str | None) -> str:
    """An id for a response in a session, or in none."""
    match = None if session is None else _SESSION.fullmatch(session)
    return f"resp_{secrets.token_hex(16) if match is None else match[1]}{secrets.token_hex(8)}"


def conversation_id(session: str) -> str:
    """The id of the conversation that a session is."""
    return f"conv_{session.removeprefix('session-')}"


def session_of_conversation(identity: str) -> str | None:
    """The name of the session's memory; None for what is no id."""
    match = _CONVERSATION.fullmatch(identity)
    return None if match is None else f"session-{match[1]}"


def session_of_response(identity: str) -> str | None:
    """The name of the session's memory; None for what is no id."""
    match = _RESPONSE.fullmatch(identity)
    return None if match is None else f"session-{match[1]}"
