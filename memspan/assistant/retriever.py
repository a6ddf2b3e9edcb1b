"""Retrieval: passages ranked by all rankers together, in one or two rounds, and the best of them at a closer look.

That is taken by the sentence encoder. Where it has nothing to say, with none at hand or in a language that it does not know,
passages that score alike are ranked by the likelihood of the question.

Letters: P passages of a memory, T tokens of a passage.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from math import inf, isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memspan.assistant import newest
from memspan.assistant.closer_look import looked_at_closely
from memspan.assistant.newest import Statement
from memspan.assistant.prompts import likelihood_prefix
from memspan.assistant.retrieved import RetrievedPassage, distinct
from memspan.assistant.second_round import larger, second_scores
from memspan.data.plain_text import plain_ids
from memspan.errors import UsageError
from memspan.memory import Contents, Filter, Fingerprint, Passage, View
from memspan.memory.context import with_context
from memspan.memory.index.bm25 import without_question_words
from memspan.memory.index.candidates import candidate_scores
from memspan.memory.index.conversations import conversation_scores
from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.index.fusion import fuse, shares
from memspan.memory.index.head_scores import best, token_scores
from memspan.memory.index.passage_vectors import VectorEncoder
from memspan.memory.index.rankers import Encoders, Scores, make_rankers, rank
from memspan.pretrained.placement import input_device

# Each measured on questions outside the benchmarks, see LOG.md.
RERANKED = 16  # passages that are looked at closely, at most
BY_LIKELIHOOD = 4  # of them that are ranked by the likelihood of the question, each of which costs a pass of the model
LIKELIHOOD_WEIGHT = 3.0  # of the score that one nat per token counts for
RERANK_GAP = 2.0  # a passage that scores further below the best is not reranked; where the best stands out, none is

RERANK_BATCH = 4  # prompts of similar length, so that little is padded


class Retriever:
    """Finds the passages of a memory that bear on a question."""

    def __init__(
        self,
        causal_lm: Any,
        tokenizer: Any,
        encoder: KeyEncoder,
        fingerprint: Fingerprint,
        window: int,
        vectors: VectorEncoder | None = None,
    ) -> None:
        """
        Args:
            causal_lm: the transformers model that computes likelihoods.
            encoder: encodes questions as the retrieval heads see them.
            fingerprint: of the memories that may be searched.
            window: tokens of the longest prompt.
            vectors: compares the meaning of passages and questions; None for no sentence encoder.
        """
        self.causal_lm, self.tokenizer, self.encoder = causal_lm, tokenizer, encoder
        self.fingerprint, self.window = fingerprint, window
        self.vectors = VectorEncoder() if vectors is None else vectors
        self.rankers = make_rankers(Encoders(encoder, self.vectors))

    def search(
        self,
        memory: Contents,
        question: str,
        *,
        top: int = 8,
        rerank: int = RERANKED,
        by_likelihood: int = BY_LIKELIHOOD,
        among: Callable[[Passage], bool] | None = None,
        filter: Filter | None = None,
    ) -> list[RetrievedPassage]:
        """The `top` passages that bear most on `question`, best first; see `LanguageModel.search`.

        Args:
            by_likelihood: passages that are ranked anew by the likelihood of the question, at most, where sentences cannot tell.
        """
        memory.check_fingerprint(self.fingerprint)
        self.check_length(question)
        view = memory.view()
        if len(view) == 0:
            return []
        passing = view.passing(filter)  # the others neither are found nor count in how far a passage stands out
        first = self._fused(view, question, passing)
        second = self._second(view, question, first, passing)
        scores = first if second is None else larger(first, second)
        ranked = map(view.passage, best(scores, len(passing)))
        looked_at = ranked if among is None else (passage for passage in ranked if among(passage))
        found = list(
            islice(distinct(looked_at), max(top, rerank, newest.looked_at(view, question, self.vectors.encoder)))
        )
        statements = newest.newest(
            view, question, found, scores[[passage.number for passage in found]], self.vectors.encoder
        )
        passages = [_retrieved(passage, scores, second) for passage in found]
        if rerank > 0 and passages:
            closer = looked_at_closely(view, question, passages, rerank, self.vectors.encoder)
            passages = self.rerank(question, passages, min(rerank, by_likelihood)) if closer is None else closer
        return _first(statements, passages)[:top]

    def token_scores(self, memory: Contents, question: str, numbers: Sequence[int]) -> list[NDArray[np.float32]]:
        """How strongly the retrieval heads point from `question` at each token of the passages `numbers`: (T,) each."""
        memory.check_fingerprint(self.fingerprint)
        return token_scores(self.encoder.question(question), memory.blocks(), numbers)

    def rankings(self, memory: Contents, question: str) -> dict[str, Scores]:
        """The share of each ranker in the score of each passage, (P,), in the first round; of those that do not abstain."""
        memory.check_fingerprint(self.fingerprint)
        return shares(*self._compared(memory.view(), question))

    def raised(self, memory: Contents, question: str) -> Scores:
        """What a second round adds to the score of each passage, (P,); zeros where there is none."""
        memory.check_fingerprint(self.fingerprint)
        view = memory.view()
        everything = view.passing(None)
        first = self._fused(view, question, everything)
        second = self._second(view, question, first, everything)
        return np.zeros_like(first) if second is None else larger(first, second) - first

    def rerank(self, question: str, passages: Sequence[RetrievedPassage], count: int) -> list[RetrievedPassage]:
        """The passages with those of the first `count` that score near the best sorted anew, the likelihood included.

        Where no other scores near the best, all stay as they are, and nothing is computed.
        """
        near = [passage for passage in passages[:count] if passage.score > passages[0].score - RERANK_GAP]
        if len(near) < 2:
            return list(passages)
        gains = self.likelihood_gains(question, [with_context(passage) for passage in near])
        reranked = [passage.ranked_anew(LIKELIHOOD_WEIGHT * gain) for passage, gain in zip(near, gains, strict=True)]
        return sorted(reranked, key=lambda passage: -passage.score) + list(passages[len(near) :])

    @torch.inference_mode()
    def likelihood_gains(self, question: str, texts: Sequence[str]) -> list[float]:
        """Nats per token by which each text makes the question likelier than no text does."""
        question_ids = plain_ids(self.tokenizer, " " + question.strip())
        prefixes = [plain_ids(self.tokenizer, likelihood_prefix(text)) for text in ("", *texts)]
        room = self.window - len(question_ids)
        rows = [[*ids[-room:], *question_ids] for ids in prefixes]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        means = [0.0] * len(rows)
        for first in range(0, len(order), RERANK_BATCH):
            batch = order[first : first + RERANK_BATCH]
            batch_means = self.mean_log_likelihoods([rows[row] for row in batch], len(question_ids))
            for row, mean in zip(batch, batch_means, strict=True):
                means[row] = mean
        return [mean - means[0] for mean in means[1:]]

    def _second(self, view: View, question: str, first: Scores, passing: NDArray[np.int64]) -> Scores | None:
        """The scores of a second round, (P,), if one is called for, given those of the first."""
        return second_scores(view, question, first, lambda query: self._fused(view, query, passing))

    def _fused(self, view: View, question: str, passing: NDArray[np.int64]) -> Scores:
        """The score of each of the passages `passing`, (P,); -inf for the others."""
        of_candidates = candidate_scores(self.rankers, view, question, passing)
        if of_candidates is not None:
            return of_candidates
        scores = np.full(len(view), -np.inf, np.float32)
        rankings, spoken, full = self._compared(view, question)
        selected = {name: part[passing] for name, part in rankings.items()}
        scores[passing] = fuse(selected, None if spoken is None else spoken[passing], full)
        return scores

    def _compared(self, view: View, question: str) -> tuple[dict[str, Scores], Scores | None, float]:
        """What `fuse` compares: the scores of each passage, (P,), by every ranker that does not abstain, those of its
        conversation, (P,), and the score by words that a passage has at most."""
        return (
            rank(self.rankers, view, question),
            conversation_scores(view, question),
            view.full_word_score(without_question_words(question)),
        )

    @torch.inference_mode()
    def mean_log_likelihoods(self, rows: Sequence[list[int]], count: int) -> list[float]:
        """The mean log-probability of the last `count` tokens of each row; shorter rows are padded on the left."""
        longest = max(len(row) for row in rows)
        pad = 0 if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        device = input_device(self.causal_lm)
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
        output = self.causal_lm(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=count + 1)
        log_probabilities = output.logits[:, :-1].float().log_softmax(-1)
        means: list[float] = log_probabilities.gather(2, ids[:, -count:, None])[..., 0].mean(1).tolist()
        return means

    def check_length(self, question: str) -> None:
        """Raises UsageError for a question of more than half of the window: the rest is for retrieved text and an answer."""
        length = len(plain_ids(self.tokenizer, question))
        if length > self.window // 2:
            raise UsageError(
                f"The question must have at most {self.window // 2} tokens, half of the model's window, got {length}: "
                "shorten it, or read the long part into the memory as a document and ask about it."
            )


def _first(statements: tuple[Statement, ...], passages: list[RetrievedPassage]) -> list[RetrievedPassage]:
    """The passages with that of the last statement, if there is one, ahead of the others and with the score of the best."""
    if not statements:
        return passages
    latest = statements[-1].passage
    (chosen,) = (passage for passage in passages if passage.number == latest)
    first = replace(chosen, score=passages[0].score, statements=statements)
    return [first, *(passage for passage in passages if passage.number != latest)]


def _retrieved(passage: Passage, scores: Scores, second: Scores | None) -> RetrievedPassage:
    """A passage with its score, and its gap in the second round, among the scores of all passages, (P,) each."""
    gap = inf if second is None else float(second.max() - second[passage.number])
    return RetrievedPassage.of(passage, float(scores[passage.number]), gap if isfinite(gap) else None)
