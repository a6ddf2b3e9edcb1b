"""Spans as an extract: the sentence that bears most on a question is found as for a quote, then the few words of it that
answer the question, see `memspan.assistant.spans`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memspan.assistant import spans
from memspan.assistant.extracts.base import Case, Extract
from memspan.assistant.extracts.overlap import shared_words
from memspan.assistant.quotes import PASSAGES, Evidence
from memspan.assistant.spans import WEIGHTS, Candidate, Floats, Sentence
from memspan.data.scripts import words

FITTED_ON = 300  # cases, at most
STRENGTH = 0.01  # of the regularisation towards the weights that were fitted before
ROUNDS = 60  # of the optimiser

NAMES = tuple(WEIGHTS)


class Spans(Extract):
    """The few words that answer a question. The length does not matter: the likelihoods of the model decide."""

    kind, is_ready, reads = "spans", True, True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.weights = dict(WEIGHTS)

    def fit(self, cases: Sequence[Case]) -> None:
        """Moves the weights to where the F1 that is expected under a softmax over the candidates is highest."""
        from scipy.optimize import minimize

        rows, values = [], []
        for case in cases[:FITTED_ON]:
            sentences, candidates = _candidates(case)
            if len(candidates) < 2:  # none, or the stretch of a script without spaces, which has weights of its own
                continue
            features = spans.features(case.question, sentences, candidates)
            rows.append(np.stack([features[name] for name in NAMES], axis=1))
            right = [words(target) for target in case.targets]
            texts = [words(candidate.text(sentences)) for candidate in candidates]
            values.append(
                np.array([max((shared_words(text, target) for target in right), default=0.0) for text in texts])
            )
        if not rows:
            return
        scale = np.concatenate(rows).std(0) + 1e-6
        before = np.array([WEIGHTS[name] for name in NAMES]) * scale

        def negative(weights: Floats) -> tuple[float, Floats]:
            """The mean expected F1 with the sign changed, plus the regularisation, and the gradient."""
            loss, gradient = STRENGTH * float(((weights - before) ** 2).sum()), 2 * STRENGTH * (weights - before)
            for row, value in zip(rows, values, strict=True):
                scores = row / scale @ weights
                shares = np.exp(scores - scores.max())
                shares /= shares.sum()
                expected = float(shares @ value)
                loss -= expected / len(rows)
                gradient -= (shares * (value - expected)) @ (row / scale) / len(rows)
            return loss, gradient

        found = minimize(negative, before, jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS}).x
        self.weights = dict(zip(NAMES, (found / scale).tolist(), strict=True))

    def extract(self, cases: Sequence[Case]) -> list[str]:
        found = []
        for case in cases:
            sentences, candidates = _candidates(case)
            text = ""
            if candidates:
                text = candidates[spans.best(case.question, sentences, candidates, self.weights)].text(sentences)
            found.append(text)
        return found

    def tensors(self) -> dict[str, Tensor]:
        return {"weights": torch.tensor([self.weights[name] for name in NAMES], dtype=torch.float64)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        weights = tensors["weights"]
        if weights.shape != (len(NAMES),):
            raise ValueError("the weights must be those of spans")
        self.weights = dict(zip(NAMES, weights.tolist(), strict=True))


def _candidates(case: Case) -> tuple[list[Sentence], list[Candidate]]:
    """The sentences of the passage that bears most on the question, and the runs of words in them."""
    lm, memory = case.source.lm, case.source.memory
    if not len(memory) or not case.question.strip():
        return [], []
    found = lm.search(memory, case.question, top=PASSAGES)
    chosen = spans.choice(Evidence(memory.view(), case.question, found, lm.retriever), lm.span_reader)
    return chosen.sentences, chosen.candidates
