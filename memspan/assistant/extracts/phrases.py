"""Phrases: a stretch of a clause as a title, as titles of papers are often made of words of their abstracts.

Every stretch of words within a clause is a candidate. A linear model scores it by the words at its ends and beside them,
which say where a noun phrase begins and where it ends ("a study of ... | shows that"), by how often its pairs of words
return in the rest of the text, by its length, and by where its clause stands. The targets of the fit are the ROUGE-L of
sampled candidates.

Letters: T tokens of a text, C candidates, F features of words at the ends, D other features.
"""

import random
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspan.assistant.extracts.base import Case, Extract
from memspan.assistant.extracts.overlap import longest_common
from memspan.data.scripts import CHARACTER_WORDS

SHORTEST, LONGEST = 1 / 3, 1.8  # of a candidate, as shares of the usual length
SAMPLED = 150  # candidates of a text that the weights are fitted to
STRENGTH = 10.0  # of the regularisation
BUCKETS = 2**16  # features of words at the ends, by their hash
SCALE = 0.3  # of these features beside the others, whose values are about 1
MOST_TOKENS = 4000  # of a text, from its beginning: a title is there

_TOKEN = re.compile(rf"[{CHARACTER_WORDS}]|[^\W_{CHARACTER_WORDS}]+|[^\w\s]|_")
_CLAUSE_END = frozenset("，。；：、,.;:！？!?\n")

Floats = NDArray[np.float64]


class Candidates(NamedTuple):
    """Stretches of tokens.

    Attributes:
        first, last: the first token of each and the one behind its last, int64 (C,).
        begin, end: of its clause.
        clause: the number of its clause.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    clause: NDArray[np.int64]


class Phrases(Extract):
    """The stretch of a clause with the highest expected ROUGE-L."""

    kind = "phrases"

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.hashed = np.zeros(BUCKETS, np.float32)
        self.dense = np.zeros(DENSE, np.float32)

    def fit(self, cases: Sequence[Case]) -> None:
        from scipy import sparse
        from sklearn.linear_model import Ridge

        draw = random.Random(0)
        keys, dense, values = [], [], []
        for case in cases:
            text = Tokens(case.source.text)
            candidates = text.candidates(self.length)
            sampled = draw.sample(range(len(candidates.first)), min(SAMPLED, len(candidates.first)))
            chosen = Candidates(*(numbers[sampled] for numbers in candidates))
            keys.append(text.ends(chosen))
            dense.append(text.dense(chosen, self.length))
            values += _rouge(text, chosen, case.targets)
        if not values:
            return
        columns, others = np.concatenate(keys), np.concatenate(dense)
        rows = np.repeat(np.arange(len(columns)), columns.shape[1])
        entries = np.full(columns.size, SCALE, np.float32)
        at_ends = sparse.csr_matrix((entries, (rows, columns.ravel())), shape=(len(columns), BUCKETS))
        model = Ridge(alpha=STRENGTH, solver="sparse_cg", fit_intercept=False)
        model.fit(sparse.hstack([at_ends, sparse.csr_matrix(others)], format="csr"), np.array(values))
        self.hashed, self.dense = (part.astype(np.float32) for part in np.split(model.coef_, [BUCKETS]))

    def extract(self, cases: Sequence[Case]) -> list[str]:
        return [self._best(Tokens(case.source.text)) for case in cases]

    def _best(self, text: "Tokens") -> str:
        candidates = text.candidates(self.length)
        if not len(candidates.first):
            return ""
        at_ends = SCALE * self.hashed[text.ends(candidates)].sum(1)
        best = int(np.argmax(at_ends + text.dense(candidates, self.length) @ self.dense))
        return text.between(int(candidates.first[best]), int(candidates.last[best]))

    def tensors(self) -> dict[str, Tensor]:
        return {"hashed": torch.from_numpy(self.hashed), "dense": torch.from_numpy(self.dense)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        hashed, dense = (tensors[name].float().numpy() for name in ("hashed", "dense"))
        if hashed.shape != (BUCKETS,) or dense.shape != (DENSE,):
            raise ValueError("the weights must be those of phrases")
        self.hashed, self.dense = hashed, dense


DENSE = 8


class Tokens:
    """A text as words, characters of scripts without spaces, and marks."""

    def __init__(self, text: str) -> None:
        self.text = text
        matches = list(_TOKEN.finditer(text))[:MOST_TOKENS]
        self.spans = [match.span() for match in matches]
        self.words = [match.group().lower() for match in matches]

    def between(self, first: int, last: int) -> str:
        """The text of the tokens from `first` to before `last`."""
        return self.text[self.spans[first][0] : self.spans[last - 1][1]]

    def candidates(self, length: int) -> Candidates:
        """Stretches within a clause of about as many tokens; shorter clauses as a whole."""
        least, most = max(1, round(SHORTEST * length)), max(2, round(LONGEST * length))
        found, begin, clause = [], 0, 0
        for end in range(len(self.words) + 1):
            if end < len(self.words) and self.words[end] not in _CLAUSE_END:
                continue
            starts = range(begin, end)
            found += [
                (first, last, begin, end, clause)
                for first in starts
                for last in range(min(end, first + least), min(end, first + most) + 1)
                if last - first >= least or (first, last) == (begin, end)
            ]
            clause += end > begin
            begin = end + 1
        numbers = np.array(found, np.int64).reshape(-1, 5)
        return Candidates(*numbers.T)

    def ends(self, candidates: Candidates) -> NDArray[np.int64]:
        """The buckets of the words at the ends of candidates and beside them, (C, F)."""
        words = ["^", "^", *self.words, "$", "$"]
        before, pair = [_bucket("p", word) for word in words], list(pairwise(words))
        tables = {
            name: np.array([_bucket(name, *two) for two in pair]) for name in ("pp", "ff", "ll", "qq", "pf", "lq")
        }
        single = {name: np.array([_bucket(name, word) for word in words]) for name in ("f", "l", "q")}
        first, last = candidates.first + 2, candidates.last + 2  # positions in `words`
        length = np.minimum(candidates.last - candidates.first, 40)
        whole = 2 * (candidates.first == candidates.begin) + (candidates.last == candidates.end)
        from_end = np.minimum(candidates.clause.max(initial=0) - candidates.clause, 4)
        columns = [
            np.array(before)[first - 1],
            tables["pp"][first - 2],
            single["f"][first],
            tables["ff"][first],
            single["l"][last - 1],
            tables["ll"][last - 2],
            single["q"][last],
            tables["qq"][last],
            tables["pf"][first - 1],
            tables["lq"][last - 1],
            _numbered("length", length),
            _numbered("whole", whole),
            _numbered("clause", np.minimum(candidates.clause, 8)),
            _numbered("from end", from_end),
        ]
        return np.stack(columns, axis=1)

    def dense(self, candidates: Candidates, length: int) -> Floats:
        """The other features of candidates, (C, D)."""
        counts = Counter(pairwise(self.words))
        again = [counts[pair] - 1 for pair in pairwise(self.words)]
        often = np.concatenate([[0.0], np.cumsum(np.minimum(again, 4)), [0.0]])
        ever = np.concatenate([[0.0], np.cumsum(np.minimum(again, 1)), [0.0]])
        first, last = candidates.first, candidates.last
        size = last - first
        clauses = max(1, int(candidates.clause.max(initial=0)) + 1)
        features = [
            np.ones(len(first)),
            (often[last - 1] - often[first]) / size,
            (ever[last - 1] - ever[first]) / size,
            (ever[last - 1] - ever[first]) / length,
            size / length,
            np.abs(size - length) / length,
            candidates.clause / clauses,
            (candidates.end - candidates.begin) / (4 * length),
        ]
        return np.stack(features, axis=1)


def _bucket(*words: str) -> int:
    return zlib.crc32("\0".join(words).encode("utf-8", "surrogatepass")) % BUCKETS


def _numbered(name: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each number."""
    table = np.array([_bucket(name, str(number)) for number in range(int(numbers.max(initial=0)) + 1)])
    return table[numbers]


def _rouge(text: Tokens, candidates: Candidates, targets: Sequence[str]) -> list[float]:
    """The ROUGE-L of each candidate, with the best of the targets."""
    right = [Tokens(target).words for target in targets]
    right = [[word for word in words if word.isalnum()] for words in right]
    values = []
    for first, last in zip(candidates.first.tolist(), candidates.last.tolist(), strict=True):
        words = [word for word in text.words[first:last] if word.isalnum()]
        values.append(max((longest_common(words, others) for others in right), default=0.0))
    return values
