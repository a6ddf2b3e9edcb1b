"""An answer while it is written."""

from collections.abc import Generator, Iterator

from memspan.assistant.answer import Answer


class AnswerStream(Iterator[str]):
    """The new text of an answer, part by part, and then the answer.

    for part in (stream := lm.stream(memory, question)):
        print(part, end="", flush=True)
    print(stream.answer.passages)
    """

    def __init__(self, parts: Generator[str, None, Answer]) -> None:
        self._parts = parts
        self._answer: Answer | None = None

    def __next__(self) -> str:
        try:
            return next(self._parts)
        except StopIteration as end:
            if end.value is not None:
                self._answer = end.value
            raise StopIteration from None

    @property
    def answer(self) -> Answer:
        """The answer; what is not written yet is written now. Raises RuntimeError if the stream was closed before its end."""
        for _ in self:
            pass
        if self._answer is None:
            raise RuntimeError("This stream was closed before the answer was complete.")
        return self._answer

    def close(self) -> None:
        """Stops writing."""
        self._parts.close()
