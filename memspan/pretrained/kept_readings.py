"""The texts that a sentence encoder read last: until an answer is quoted, the same sentences are compared several times."""

import threading
from collections.abc import Callable, Sequence

from memspan.pretrained.text_encoder import ReadText

MOST_STATES = 2**14  # of tokens, over all texts that are kept: 25 MB for an encoder of 384 numbers a token


class KeptReadings:
    """Reads texts, and keeps the last ones. For several threads."""

    def __init__(self, read: Callable[[Sequence[str]], list[ReadText]], most_states: int = MOST_STATES) -> None:
        """
        Args:
            read: what each of the texts becomes.
            most_states: of tokens, kept at most; the text that was used longest ago goes first.
        """
        self._read, self._most = read, most_states
        self._kept: dict[str, ReadText] = {}  # in the order of their last use
        self._mutex = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> list[ReadText]:
        """What each text becomes; each is read once, and not at all while it is kept."""
        with self._mutex:
            known = {text: self._kept[text] for text in texts if text in self._kept}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(missing, self._read(missing) if missing else (), strict=True))
        with self._mutex:
            for text, read in known.items():
                self._kept.pop(text, None)
                self._kept[text] = read
            states = sum(len(read.states) for read in self._kept.values())
            while states > self._most:
                states -= len(self._kept.pop(next(iter(self._kept))).states)
        return [known[text] for text in texts]
