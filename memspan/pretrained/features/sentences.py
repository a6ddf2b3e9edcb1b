"""The vector of a sentence encoder for a text."""

from collections.abc import Sequence

from memspan.errors import UsageError
from memspan.pretrained import encoders
from memspan.pretrained.features.base import DenseFeatures, Floats, Progress, Sources
from memspan.pretrained.features.stored import Stored
from memspan.pretrained.sentence_encoder import SentenceEncoder


class Sentences(DenseFeatures):
    """The vector of the whole text; that of a long text is the mean of those of its parts."""

    kind = "sentences"

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)
        self._encoder: SentenceEncoder | None = None

    def vectors(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        if self._encoder is None:
            loaded = encoders.load(self.sources.encoder)
            if not isinstance(loaded, SentenceEncoder):
                raise UsageError(
                    f"'{self.sources.encoder}' holds vectors that need the language model they were trained for: features of "
                    "sentences take a sentence encoder of its own, such as minilm."
                )
            self._encoder = loaded
        return Stored(f"sentences {self._encoder.identity}").vectors(texts, self._encoder.passages, progress)
