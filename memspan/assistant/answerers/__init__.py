"""Answerers: what writes an answer, given the messages of a prompt."""

from collections.abc import Callable

from memspan.assistant.answerers.base import Answerer


def answerer_of(target: str, on_warning: Callable[[str], None]) -> Answerer:
    """The answerer that a user names: a GGUF file, or the address of a server with a model of it behind a #.

    Args:
        on_warning: called with a sentence if something about an answer is to be known.

    Raises:
        UsageError: no such answerer.
    """
    if target.lower().endswith(".gguf") and "://" not in target:
        from memspan.assistant.answerers.gguf import GgufAnswerer

        return GgufAnswerer(target, on_warning=on_warning)
    from memspan.assistant.answerers.endpoint import EndpointAnswerer

    url, _, model = target.partition("#")
    return EndpointAnswerer(url, model or None, on_warning=on_warning)
