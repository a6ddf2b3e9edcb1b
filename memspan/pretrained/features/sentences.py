"""The vector of a sentence encoder for a text."""

from collections.abc import Sequence

from memspan.errors import UsageError
from memspan.pretrained import encoders
from memspan.pretrained.features.base import SAMPLE, DenseFeatures, Floats, Progress, Sources
from memspan.pretrained.features.stored import Stored
from memspan.pretrained.sentence_encoder import MOST_UNKNOWN, SentenceEncoder


class Sentences(DenseFeatures):
    """The vector of the whole text; that of a long text is the mean of those of its parts."""

    kind = "sentences"

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)
        self._encoder: SentenceEncoder | None = None

    def vectors(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        encoder = self._loaded()
        return Stored(f"sentences {encoder.identity}").vectors(texts, encoder.passages, progress)

    def objection(self, texts: Sequence[str]) -> str | None:
        if self.sources.encoder == encoders.NONE:
            return "there is no sentence encoder"
        encoder, sample = self._loaded(), texts[:SAMPLE]
        if sum(map(encoder.unknown_share, sample)) > MOST_UNKNOWN * len(sample):
            return f"{self.sources.encoder} does not know most words of the texts"
        return None

    def _loaded(self) -> SentenceEncoder:
        if self._encoder is None:
            loaded = encoders.load(self.sources.encoder)
            if not isinstance(loaded, SentenceEncoder):
                raise UsageError(
                    f"'{self.sources.encoder}' holds vectors that need the language model they were trained for: features of "
                    "sentences take a sentence encoder of its own, such as minilm."
                )
            self._encoder = loaded
        return self._encoder
