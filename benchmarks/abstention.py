"""How well the confidence of an answer tells questions that a memory answers from those about which it says nothing.

    python -m benchmarks.abstention [--half choosing|test] [--sets squad cmrc natural invented people] [--questions N] [--save]
    python -m benchmarks.abstention --fit

- `squad`, `cmrc`: a heap of 300 shuffled paragraphs is cut into two memories, and each question is put to both. One holds
  its paragraph; the other holds paragraphs of the same articles, so its questions are near misses.
- `natural`: questions in other words than their paragraph, and questions that no paragraph of the whole heap answers, some
  about the subjects of its articles ("near") and some not ("far"). See `benchmarks.natural`.
- `invented`: the facts of `memspan.memory.index.probe_corpus`, cut in two as above: facts of the same kinds, and other facts
  about the same people.
- `people`: invented facts of `benchmarks.updates`, one statement of each, three about a person. Of three in five people two
  are read; asked for are also the third ("near") and the facts of the other people, who are named nowhere ("never").

AUROC, and of the questions without an answer the share that is refused by the threshold that refuses one in twenty of the
questions of this set that have one; then the same two shares at the thresholds that memspan comes with. Intervals are 95 %:
Wilson for shares, bootstrap over questions for AUROC. Passages are not reranked: their order among the first four does not
count.

`--fit` fits the weights of `memspan.assistant.confidence` anew on the halves for choosing: the sets count by `SHARES`, and
what is printed can be put there. `WITH_NAMES` is fitted on all questions, where one without unknown names lacks none;
`WITH_MEANING` has the same weights, and a constant by which `SUPPORTED` refuses one in twenty of SQuAD's that have an answer.
It also prints the shares found on five folds.
"""

import argparse
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import natural, questions, report, updates
from memspan.assistant import confidence
from memspan.assistant.quotes import Evidence

SETS = ("squad", "cmrc", "natural", "invented", "people")
KINDS = ("near", "far", "never")
PEOPLE, READ_OF = 60, 36  # invented, and those of whom something is read
FALSE_REFUSALS = 0.05
PASSAGES, NEEDLES, SEED = 160, 80, 77  # of the invented corpus; other seeds than those of the calibration of heads
RESAMPLED, FOLDS = 1000, 5
# What a set counts for in the fit. Questions in other words than their passage can hardly be told apart: `IN_OTHER_WORDS`,
# which is set and not fitted, keeps them from being refused.
SHARES = {
    "WITH_NAMES": {"squad": 1.0, "invented": 1.0, "people": 1.0},
    "WITHOUT_MEANING": {"squad": 1.0, "cmrc": 1.0, "invented": 0.3},
}
MODELS = ("WITH_MEANING", "WITH_NAMES", "WITHOUT_MEANING")
ROUNDS = 3  # of a fit, in which the passage is chosen that a question is judged by

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A question that was put to a memory.

    Attributes:
        number: of the question; those of both halves have the same.
        is_held: whether the memory holds the answer.
        is_found: whether the first passage holds the paragraph with the answer.
        kind: one of `KINDS` of questions without an answer, else "".
        values: the features of each passage that was judged by name, (P,) each.
    """

    number: int
    is_held: bool
    is_found: bool
    kind: str
    model: str
    values: dict[str, Floats]
    confidence: float

    def rows(self, names: Sequence[str]) -> Floats:
        """These features of each passage, (P, F); a question without unknown names lacks none."""
        passages = len(next(iter(self.values.values())))
        return np.stack([self.values.get(name, np.ones(passages)) for name in names], axis=1)


def measure(lm: Any, set_: str, test: bool, most: int) -> list[Case]:
    """The cases of one set."""
    if set_ == "natural":
        paragraphs, held = natural.load(test)
        _, others = natural.load_unanswerable(test)
        memory = lm.read("\n\n".join(paragraphs))
        cases = [case(lm, memory, n, q.question, paragraphs[q.paragraph], True) for n, q in enumerate(held[:most])]
        kinds = [(q.question, "near" if q.near else "far") for q in others[:most]]
        return cases + [
            case(lm, memory, n, q, None, False, kind) for n, (q, kind) in enumerate(kinds, start=len(cases))
        ]
    if set_ == "people":
        return people(lm, test)
    if set_ == "invented":
        from memspan.memory.index.probe_corpus import haystack

        paragraphs, needles = haystack(PASSAGES, NEEDLES, SEED + test)
        asked = [(needle.passage, needle.question) for needle in needles[:most]]
    else:
        paragraphs, loaded = questions.load(set_, test=test, questions=most)
        asked = [(question.paragraph, question.question) for question in loaded]
    cases = []
    first = set(np.random.default_rng(SEED).permutation(len(paragraphs))[: len(paragraphs) // 2].tolist())
    for half in (first, set(range(len(paragraphs))) - first):
        memory = lm.read("\n\n".join(paragraphs[number] for number in sorted(half)))
        cases += [
            case(lm, memory, number, question, paragraphs[paragraph], paragraph in half)
            for number, (paragraph, question) in enumerate(asked)
        ]
    return cases


def people(lm: Any, test: bool) -> list[Case]:
    """The cases of invented people."""
    half, rng = ("test" if test else "choosing"), random.Random(SEED + test)
    facts = updates.facts_of(half, 3 * PEOPLE, rng, "own")
    read = set(rng.sample(range(PEOPLE), READ_OF))
    kinds = ["never" if number // 3 not in read else "near" if number % 3 == 2 else "" for number in range(len(facts))]
    texts = []
    for fact, kind in zip(facts, kinds, strict=True):
        prose = rng.sample(updates.PROSE[half], 3)
        prose.insert(rng.randrange(len(prose) + 1), fact.versions[0].statement)
        if not kind:
            texts.append(" ".join(prose))
    memory = lm.new_memory()
    for number, text in enumerate(rng.sample(texts, len(texts))):
        lm.read(text, memory, source=f"note-{number}")
    return [
        case(lm, memory, number, fact.question, None if kind else fact.versions[0].statement, not kind, kind)
        for number, (fact, kind) in enumerate(zip(facts, kinds, strict=True))
    ]


def case(
    lm: Any, memory: Any, number: int, question: str, paragraph: str | None, is_held: bool, kind: str = ""
) -> Case:
    """A question put to a memory."""
    view = memory.view()
    found = lm.search(view, question, top=4, rerank=0)
    evidence = Evidence(view, question, found, lm.retriever)
    model, values = confidence.features(evidence)
    name = next(name for name in MODELS if model is getattr(confidence, name))
    text = found[0].text.strip()
    is_found = is_held and paragraph is not None and (text in paragraph or paragraph in text)
    return Case(number, is_held, is_found, kind, name, values, confidence.confidence(evidence))


def auroc(scores: Floats, held: NDArray[np.bool_]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(held, scores))


def auroc_interval(cases: Sequence[Case]) -> tuple[float, float]:
    """The 95 % interval, by drawing questions anew."""
    rng = np.random.default_rng(SEED)
    numbers = np.array([case.number for case in cases])
    scores, held = _columns(cases)
    of = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    drawn = []
    for _ in range(RESAMPLED):
        rows = np.concatenate([of[index] for index in rng.integers(len(of), size=len(of))])
        if 0 < held[rows].sum() < len(rows):
            drawn.append(auroc(scores[rows], held[rows]))
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def share(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """A share with its 95 % interval and its number."""
    if len(hits) == 0:
        return {"share": None, "low": None, "high": None, "n": 0}
    low, high = report.interval(int(hits.sum()), len(hits))
    return {"share": float(hits.mean()), "low": max(0.0, low), "high": min(1.0, high), "n": len(hits)}


def figures(cases: Sequence[Case]) -> dict[str, Any]:
    """What is reported of a set."""
    scores, held = _columns(cases)
    low, high = auroc_interval(cases)
    out: dict[str, Any] = {"auroc": auroc(scores, held), "low": low, "high": high, "models": {}}
    out["models"] = {name: sum(case.model == name for case in cases) for name in sorted({c.model for c in cases})}
    thresholds = {
        "one in twenty": float(np.quantile(scores[held], FALSE_REFUSALS)),
        "MIN_CONFIDENCE": confidence.MIN_CONFIDENCE,
        "SUPPORTED": confidence.SUPPORTED,
    }
    found, kinds = np.array([case.is_found for case in cases]), np.array([case.kind for case in cases])
    groups = {"held": held, "held and found first": held & found, "not held": ~held}
    groups |= {kind: kinds == kind for kind in KINDS if kind in kinds}
    for name, threshold in thresholds.items():
        refused = scores < threshold
        out[name] = {"threshold": threshold} | {group: share(refused[rows]) for group, rows in groups.items()}
    return out


def fit(cases: dict[str, list[Case]], name: str) -> None:
    """Prints the weights of a model, and shares found on questions that the weights were not fitted on."""
    is_without = name == "WITHOUT_MEANING"
    chosen = {
        set_: [case for case in cases.get(set_, ()) if (case.model == "WITHOUT_MEANING") == is_without]
        for set_ in SHARES[name]
    }
    chosen = {set_: rows for set_, rows in chosen.items() if len({case.is_held for case in rows}) == 2}
    if not chosen:
        return
    names = list(getattr(confidence, name).weights)
    weights, constant = _fitted(chosen, name, None)
    print(f"{name} = Weights({dict(zip(names, weights.round(2).tolist(), strict=True))}, {constant:.2f})")
    for set_, rows in chosen.items():
        logits, held = np.zeros(len(rows)), np.array([case.is_held for case in rows])
        folds = np.array([_fold(case) for case in rows])
        for fold in range(FOLDS):
            of_fold, of_fold_constant = _fitted(chosen, name, fold)
            for index in np.flatnonzero(folds == fold):
                logits[index] = (rows[index].rows(names) @ of_fold + of_fold_constant).max()
        threshold = np.quantile(logits[held], FALSE_REFUSALS)
        refused = np.mean(logits[~held] < threshold)
        print(
            f"  {set_}: AUROC {auroc(logits, held):.3f}; {refused:.3f} refused at one in twenty, a logit of {threshold:.2f}"
        )
        if set_ == "squad" and not is_without:
            supported = np.log(confidence.SUPPORTED / (1 - confidence.SUPPORTED))
            raised = constant + weights[names.index("names")] + supported - threshold
            print(f"  WITH_MEANING: the same without the names, {raised:.2f}")


def _fitted(chosen: dict[str, list[Case]], name: str, without: int | None) -> tuple[Floats, float]:
    """The weights of the features and the constant, from the questions outside one fold.

    A case is described by the passage for which most speaks, at first by the largest value of each feature.
    """
    from sklearn.linear_model import LogisticRegression

    names = list(getattr(confidence, name).weights)
    kept = {set_: [case for case in rows if _fold(case) != without] for set_, rows in chosen.items()}
    passages = [case.rows(names) for rows in kept.values() for case in rows]
    held = np.array([case.is_held for rows in kept.values() for case in rows])
    counts = [SHARES[name][set_] / len(rows) for set_, rows in kept.items() for _ in rows]
    # The penalty is that of 1000 cases: next to none, but that weights stay finite where a set can be told apart.
    sample_weight = 1000 * np.array(counts) / sum(counts)
    features = np.array([rows.max(axis=0) for rows in passages])
    for _ in range(ROUNDS):
        mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
        found = LogisticRegression(C=1.0).fit((features - mean) / spread, held, sample_weight)
        weights: Floats = found.coef_[0] / spread
        features = np.array([rows[np.argmax(rows @ weights)] for rows in passages])
    return weights, float(found.intercept_[0] - weights @ mean)


def _fold(case: Case) -> int:
    return zlib.crc32(str(case.number).encode()) % FOLDS


def _columns(cases: Sequence[Case]) -> tuple[Floats, NDArray[np.bool_]]:
    return np.array([case.confidence for case in cases]), np.array([case.is_held for case in cases])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("choosing", "test"), default="choosing")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--questions", type=int, default=400, help="of each set, at most")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--save", action="store_true", help="write a result file for each set")
    options = parser.parse_args()
    if options.fit and options.half == "test":
        parser.error("weights are fitted on the half for choosing")
    import memspan

    lm = memspan.load_model(options.model)
    cases = {}
    for set_ in options.sets:
        cases[set_] = measure(lm, set_, options.half == "test", options.questions)
        found = figures(cases[set_])
        report.table(_rows(set_, found))
        if options.save:
            report.save(f"abstention-{options.half}-{set_}", {"model": options.model, **found}, seeds=[SEED, 1, 2])
    if options.fit:
        for name in SHARES:
            fit(cases, name)


def _rows(set_: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a table."""
    auc = f"{result['auroc']:.3f} [{result['low']:.2f}, {result['high']:.2f}]"
    return [
        {
            "set": set_,
            "AUROC": auc,
            "threshold": f"{name} ({result[name]['threshold']:.3f})",
            "questions": group,
            "n": value["n"],
            "refused": f"{value['share']:.3f} [{value['low']:.2f}, {value['high']:.2f}]",
        }
        for name in ("one in twenty", "MIN_CONFIDENCE", "SUPPORTED")
        for group, value in result[name].items()
        if isinstance(value, dict) and value["n"]
    ]


if __name__ == "__main__":
    main()
