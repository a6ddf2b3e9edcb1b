"""A ranker of replies: how well each of them goes on a conversation, by features of its turns and by the words they share.

Letters: N texts, C candidates, F features of a turn, D width, W words.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from memspan.errors import UsageError
from memspan.mechanisms import OVER_TURNS
from memspan.models.saved import SavedModel
from memspan.pretrained.features import Features, Sources, feature_class
from memspan.pretrained.features.base import Floats
from memspan.pretrained.features.reduced import Reduced
from memspan.pretrained.features.words import Words
from memspan.pretrained.turn_network import TurnNetwork
from memspan.state import State

DEFAULT = ("words", "sentences")  # kinds of features
EVIDENCE = ("network", "words of the last turn", "words of all turns")
AT_ONCE = 64  # conversations that are read together
_WORDS = "shared"  # the words that are compared as they are, beside those among the features

Report = Callable[[str, int, int], None]  # what is computed, how many texts are done, and all of them


@dataclass(frozen=True)
class ReplyRankerConfig:
    """What a ranker of replies is made of.

    Attributes:
        base: name of the model whose tokenizer the task has, and whose hidden states may be features.
        tokenizer_size: number of ids of its tokenizer.
        features: kinds of features, names of `memspan.pretrained.features.FEATURES`.
        encoder: name of the sentence encoder.
        dtype: dtype of the base.
        mechanism, mechanism_settings, width, window, dropout: of the `TurnNetwork`.
        inputs: F; 0 before the features are fitted.
    """

    base: str
    tokenizer_size: int
    features: Sequence[str] = field(default_factory=lambda: list(DEFAULT))
    encoder: str = "minilm"
    dtype: str = "float32"
    mechanism: str = OVER_TURNS
    mechanism_settings: Mapping[str, Any] = field(default_factory=dict)
    width: int = 256
    window: int | None = None
    dropout: float = 0.3
    inputs: int = 0

    @property
    def vocabulary(self) -> int:
        """The number of ids."""
        return self.tokenizer_size


@dataclass(frozen=True)
class Turns:
    """Texts with what the ranker sees of them.

    Attributes:
        numbers: of each text, its row.
        features: float32 (N, F).
        words: sparse (N, W), rows of length one.
    """

    numbers: Mapping[str, int]
    features: Tensor
    words: Any

    def rows(self, texts: Sequence[str]) -> list[int]:
        return [self.numbers[text] for text in texts]


class ReplyRanker(SavedModel):
    """The score of a reply is a weighted sum of `EVIDENCE`: the cosine by the network over its temperature, and the cosines of
    TF-IDF with the last turn, and with all turns.

    Attributes:
        weights: of the evidence, (3,).
        known: the replies that `best` chooses from where no candidates are given.
    """

    kind, config_class = "reply_ranker", ReplyRankerConfig

    def __init__(self, config: ReplyRankerConfig) -> None:
        super().__init__(config)
        sources = Sources(config.base, config.dtype, config.encoder)
        self.features: dict[str, Reduced] = {name: Reduced(feature_class(name)(sources)) for name in config.features}
        self.words: Features = Words(sources)
        self.weights = torch.tensor([1.0, 0.0, 0.0])
        self.known: list[str] = []
        self._known = torch.zeros(0, config.inputs, dtype=torch.float16)  # their features
        self.network: TurnNetwork | None = self._network() if config.inputs else None
        self.position = nn.Parameter(torch.zeros(()), requires_grad=False)  # where the model is

    def _network(self) -> TurnNetwork:
        config = self.config
        settings = dict(config.mechanism_settings)
        return TurnNetwork(config.inputs, config.width, config.mechanism, settings, config.window, config.dropout)

    # ---- fitting

    def fit_features(self, texts: Sequence[str], report: Report | None = None) -> Turns:
        """Learn the features of the turns `texts`, and make the network that reads them, with new weights."""
        texts = list(dict.fromkeys(texts))
        parts: list[Floats] = []
        for name, features in self.features.items():
            progress = None if report is None else lambda done, total, name=name: report(name, done, total)
            parts.append(features.fit(texts, progress))
        words = self.words.fit(texts)
        self.config = replace(self.config, inputs=sum(part.shape[1] for part in parts))
        self.network = self._network()
        return Turns(_numbered(texts), torch.from_numpy(np.concatenate(parts, 1)), words.tocsr())

    def learn_replies(self, turns: Turns, replies: Sequence[str]) -> None:
        """Keep these replies, each once, to choose from; `turns` holds them."""
        self.known = list(dict.fromkeys(replies))
        self._known = turns.features[turns.rows(self.known)].half()

    # ---- ranking

    def turns(self, texts: Sequence[str], report: Report | None = None) -> Turns:
        """Texts, each once, with their features."""
        texts = list(dict.fromkeys(texts))
        parts: list[Floats] = []
        for name, features in self.features.items():
            if report is not None:
                report(f"{name}, held out", 0, len(texts))
            parts.append(features.transform(texts))
            if report is not None:
                report(f"{name}, held out", len(texts), len(texts))
        return Turns(_numbered(texts), torch.from_numpy(np.concatenate(parts, 1)), self.words.transform(texts).tocsr())

    def evidence(
        self, turns: Turns, contexts: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]
    ) -> Iterator[Tensor]:
        """`EVIDENCE` of the candidates of each context, float32 (C, 3) each; `turns` holds all of their texts."""
        assert self.network is not None, "the ranker is not fitted"
        with torch.no_grad():
            vectors = self.network.replies(turns.features.to(self.position.device)).cpu()
            for first in range(0, len(contexts), AT_ONCE):
                some = contexts[first : first + AT_ONCE]
                read = self._vectors(turns, some)
                for context, vector, texts in zip(some, read, candidates[first : first + AT_ONCE], strict=True):
                    rows = turns.rows(texts)
                    cosines = vectors[rows] @ vector * self.network.log_scale.exp().cpu()
                    yield torch.cat([cosines[:, None], self._shared(turns, context, rows)], 1)

    def _vectors(self, turns: Turns, contexts: Sequence[Sequence[str]]) -> Tensor:
        """The vector of each context, (B, D)."""
        assert self.network is not None
        window = self.config.window
        rows = [turns.features[turns.rows(context if window is None else context[-window:])] for context in contexts]
        lengths = torch.tensor([len(row) for row in rows], device=self.position.device)
        padded = pad_sequence(rows, batch_first=True).to(self.position.device)
        vectors = self.network.conversations(padded, lengths)
        return vectors[torch.arange(len(rows)), lengths - 1].cpu()

    def _shared(self, turns: Turns, context: Sequence[str], rows: Sequence[int]) -> Tensor:
        """The cosines of TF-IDF of candidates with the last turn, and with all turns in the window, (C, 2)."""
        seen = turns.words[turns.rows(context if self.config.window is None else context[-self.config.window :])]
        sought = np.stack([seen[-1].toarray()[0], np.asarray(seen.sum(0)).ravel()], 1)
        sought /= np.maximum(np.linalg.norm(sought, axis=0), 1e-9)
        return torch.from_numpy(np.asarray(turns.words[list(rows)] @ sought, np.float32))

    def best(
        self, contexts: Sequence[Sequence[str]], candidates: Sequence[str] | None = None, top: int = 1
    ) -> list[list[tuple[str, float]]]:
        """For each conversation the `top` replies with their scores, best first.

        Args:
            contexts: the turns so far, the last one waiting for a reply.
            candidates: to choose from; None for the replies known from training.

        Raises UsageError for a conversation without a turn, or where there is no candidate.
        """
        if not all(contexts):
            raise UsageError("A conversation must have at least one turn to reply to.")
        replies = self.known if candidates is None else list(dict.fromkeys(candidates))
        if not replies:
            raise UsageError("There is no reply to choose from: give candidates.")
        new_turns = [turn for context in contexts for turn in context]
        turns = self.turns([*replies, *new_turns]) if candidates is not None else self._beside_known(new_turns)
        found = []
        for evidence in self.evidence(turns, contexts, [replies] * len(contexts)):
            scores = evidence @ self.weights
            order = scores.argsort(descending=True, stable=True)[:top].tolist()
            found.append([(replies[number], float(scores[number])) for number in order])
        return found

    def _beside_known(self, texts: Sequence[str]) -> Turns:
        """The known replies, whose features are at hand, and these texts."""
        from scipy import sparse

        known = Turns(_numbered(self.known), self._known.float(), self.words.transform(self.known).tocsr())
        new = list(dict.fromkeys(text for text in texts if text not in known.numbers))
        if not new:
            return known
        more = self.turns(new)
        words = sparse.vstack([known.words, more.words], format="csr")
        return Turns(_numbered([*self.known, *new]), torch.cat([known.features, more.features]), words)

    # ---- as a model

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """Raises UsageError: a ranker writes no words."""
        raise UsageError(
            "A ranker of replies chooses among replies and writes none: use `memspan predict`, or train with --from-scratch."
        )

    # ---- on disk

    def learned(self) -> dict[str, Tensor]:
        tensors = {"weights": self.weights, "known": _bytes("\0".join(self.known)), "known_features": self._known}
        if self.network is not None:
            tensors |= {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for kind, features in self._features().items():
            tensors |= {f"{kind}.{name}": tensor for name, tensor in features.tensors().items()}
        return tensors

    def _features(self) -> dict[str, Reduced | Features]:
        return {**self.features, _WORDS: self.words}

    def save_weights(self, path: Path) -> None:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in self.learned().items()}, path)

    def load_weights(self, path: Path) -> None:
        tensors = load_file(path)
        try:
            if self.network is None:
                raise ValueError("it has no features")
            for kind, features in self._features().items():
                features.restore(_of(tensors, kind))
            self.network.load_state_dict(_of(tensors, "network"))
            if tensors["weights"].shape != self.weights.shape:
                raise ValueError(f"there must be {len(self.weights)} weights of the evidence")
            self.weights = tensors["weights"].float()
            self.known = bytes(tensors["known"].numpy()).decode("utf-8", "surrogatepass").split("\0")
            self._known = tensors["known_features"].half()
            if self._known.shape != (len(self.known), self.config.inputs) or len(set(self.known)) != len(self.known):
                raise ValueError("there must be features of each of different known replies")
        except (KeyError, ValueError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise RuntimeError(f"the weights are of another ranker: {error}") from error


def _numbered(texts: Sequence[str]) -> dict[str, int]:
    return {text: number for number, text in enumerate(texts)}


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode("utf-8", "surrogatepass")), dtype=torch.uint8)


def _of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}."
    return {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
