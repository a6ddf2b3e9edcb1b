"""What a server is made of, as values that can be sent to another process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memspan.assistant.answerers import answerer_of
from memspan.assistant.language_model import LanguageModel
from memspan.serve.engine import Engine
from memspan.serve.library import Library
from memspan.serve.requests import model_name
from memspan.serve.service import Limits, Service

if TYPE_CHECKING:
    from memspan.serve.app import Mounted


@dataclass(frozen=True)
class Settings:
    """Of a server, without its address and its keys.

    Attributes:
        root: see `Library`.
        limits: of each owner.
        answer_with: what writes the replies, see `answerer_of`; None for the language model.
        ram_bytes: see `Library`.
        most_waiting, most_running: see `Engine`.
        has_tools: whether there are tools at /mcp.
        write_to: the memory of each owner that tools may change; None for none.
    """

    root: Path
    limits: Limits
    answer_with: str | None
    ram_bytes: int
    most_waiting: int
    most_running: int
    has_tools: bool
    write_to: str | None

    def service(self, lm: LanguageModel, report: Callable[[str], None], *, is_shared: bool = False) -> Service:
        """The service of a model.

        Args:
            report: called with what is to be known about what writes the replies.
            is_shared: whether other processes serve the same root.

        Raises as `answerer_of` and `Library` do.
        """
        answerer = None if self.answer_with is None else answerer_of(self.answer_with, report)
        library = Library(self.root, lm, ram_bytes=self.ram_bytes, is_shared=is_shared)
        of_owner = max(1, self.most_waiting // 4)
        engine = Engine(most_waiting=self.most_waiting, most_of_owner=of_owner, most_running=self.most_running)
        return Service(library, engine, model_name(lm.name), answerer, self.limits)

    def mounted_at(self) -> tuple[str, ...]:
        """The paths of the further apps. Raises UsageError for a memory that cannot be written to."""
        if not self.has_tools:
            return ()
        from memspan.serve.mcp.mounted import PATH, require_writable

        if self.write_to is not None:
            require_writable(self.write_to)
        return (PATH,)

    def mounted(self, service: Service) -> "dict[str, Mounted]":
        """The further apps of a service, by their paths. Raises as `mounted_at`."""
        if not self.has_tools:
            return {}
        from memspan.serve.mcp.mounted import PATH, MountedTools

        return {PATH: MountedTools(service, self.write_to)}
