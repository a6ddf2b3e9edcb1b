"""An extractive model: it answers and summarises with words of the text, and is saved as its weights alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn, zeros

from memspan.assistant.extracts import EXTRACTS
from memspan.assistant.extracts.base import Case, Extract, Source
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.loading import load_model
from memspan.errors import UsageError
from memspan.models.saved import SavedModel
from memspan.state import State


@dataclass(frozen=True)
class ExtractiveConfig:
    """What an extractive model is made of.

    Attributes:
        extract: its kind, a name of `memspan.assistant.extracts.EXTRACTS`.
        length: words of an extract.
        base: name of the language model that reads the texts.
        vocabulary: number of ids of its tokenizer.
        dtype: in which it is loaded, see `memspan.pretrained.hub.load`.
        device: the device it is loaded on; None for that of `load_model`.
    """

    extract: str
    length: int
    base: str
    vocabulary: int
    dtype: str = "auto"
    device: str | None = None


class ExtractiveModel(SavedModel):
    """Words of a text that answer a question about it or summarise it. It predicts no tokens, so it is no stream model."""

    kind, config_class = "extractive", ExtractiveConfig

    def __init__(self, config: ExtractiveConfig, lm: LanguageModel | None = None) -> None:
        """
        Args:
            lm: the language model, where it is loaded already.

        Raises UsageError for an unknown kind of extract, or no length.
        """
        super().__init__(config)
        if config.extract not in EXTRACTS:
            raise UsageError(f"An extract must be one of {', '.join(EXTRACTS)}, got '{config.extract}'.")
        if config.length < 1:
            raise UsageError(f"The length of an extract must be at least 1 word, got {config.length}.")
        self.extracts: Extract = EXTRACTS[config.extract](config.length)
        self.position = nn.Parameter(zeros(()), requires_grad=False)  # a model has a device
        self._lm = [] if lm is None else [lm]  # in a list: its weights are not this model's

    @property
    def lm(self) -> LanguageModel:
        """The language model; loaded at the first use."""
        if not self._lm:
            self._lm.append(load_model(self.config.base, device=self.config.device, dtype=self.config.dtype))
        return self._lm[0]

    def fit(self, examples: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        """Learns from texts, the questions about them and the right answers or summaries of each."""
        sources = self._sources(text for text, _, _ in examples)
        self.extracts.fit([Case(sources[text], question, tuple(targets)) for text, question, targets in examples])

    def extract(self, examples: Sequence[tuple[str, str]]) -> list[str]:
        """The words of each text that answer its question, or that summarise it where the question is empty."""
        sources = self._sources(text for text, _ in examples)
        return self.extracts.extract([Case(sources[text], question) for text, question in examples])

    def _sources(self, texts: Iterable[str]) -> dict[str, Source]:
        """Each text once, however many questions there are about it."""
        return {text: Source(self.lm, text) for text in dict.fromkeys(texts)}

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """Raises UsageError: there are no tokens to predict."""
        raise UsageError(
            "This model chooses words of a text and predicts no tokens: `memspan predict` uses it, and `memspan compare` "
            "measures one like it."
        )

    def learned(self) -> dict[str, Tensor]:
        return self.extracts.tensors()

    def save_weights(self, path: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.learned().items()}, path)

    def load_weights(self, path: Path) -> None:
        try:
            self.extracts.restore(load_file(path))
        except (KeyError, ValueError) as error:
            raise RuntimeError(f"the weights are of another extract: {error}") from error
