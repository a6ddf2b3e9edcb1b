"""Deliberate faults in the training, memory, assistant and pretrained rooms, and whether a test of the room fails.

    python -m benchmarks.mutations              # all of them, two at a time: about half an hour on two cores
    python -m benchmarks.mutations --only loop  # those whose file or fault contains a text

Each fault replaces one stretch of one file in a copy of the repository; the tests named beside it are run there until the
first failure. A fault that no test sees has survived. Mechanisms have their own faults in tests/mechanisms.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks import report

ROOT = Path(__file__).parents[1]
TIMEOUT = 900  # seconds; tests that no longer end have seen the fault, too


class Fault(NamedTuple):
    """A stretch of a file, its wrong replacement, and the tests that should fail."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


LAWS, LOOP = "tests/training/test_laws.py", "tests/training/test_loop.py"
STORE, INDEX = "tests/memory/store", "tests/memory/index"
PARITY = (
    "tests/pretrained/test_parity.py",
    "tests/pretrained/test_bounded_memory.py",
    "tests/pretrained/test_refusals.py",
    "tests/pretrained/test_learned_positions.py",
)

FAULTS = [
    # ---- training: what the optimizer receives
    Fault("training/run.py", 'group["lr"] = self.learning_rate(self.fraction())', 'group["lr"] = self.config.optimisation.learning_rate', (LAWS,)),
    Fault("training/run.py", '"params": vectors, "weight_decay": 0.0', '"params": vectors, "weight_decay": options.weight_decay', (LAWS,)),
    Fault("training/run.py", "betas=options.betas, fused=True", "fused=True", (LAWS,)),
    Fault("training/run.py", "self.accelerator.clip_grad_norm_(self.parameters, self.config.optimisation.max_grad_norm)", "pass", (LAWS,)),
    Fault("training/run.py", "round(SCHEDULE_STEPS * options.warmup)", "round(SCHEDULE_STEPS * options.warmup / 2)", (LAWS,)),
    Fault("training/run.py", "loss, correct = loss + counts[0] / targets, counts[1].float()", "loss, correct = loss + counts[0] / len(labels), counts[1].float()", (LAWS, LOOP)),
    Fault("training/run.py", "draw < self.config.continual.replay", "draw > self.config.continual.replay", (LAWS,)),
    Fault("training/run.py", "loss + weight * fraction * torch.stack", "loss + weight * torch.stack", (LAWS, LOOP)),
    Fault("training/run.py", "loss = (loss + second[0] / targets) / 2", "loss = loss + second[0] / targets", ("tests/training/test_regularisation.py",)),
    Fault("training/run.py", "state: State = None if batch.fresh else self.stream_state", "state: State = self.stream_state", (LAWS, LOOP)),
    Fault("training/run.py", "state = _detached(state)\n        if is_own", "pass\n        if is_own", (LAWS, LOOP)),
    Fault("training/run.py", "self.at.step += 1\n", "self.at.step += 1\n        self.at.step += self.at.step == 3\n", (LAWS, LOOP)),
    # ---- training: limits, measurements, checkpoints
    Fault("training/loop.py", "at.measurements_since_best >= options.patience", "at.measurements_since_best > options.patience", (LAWS,)),
    Fault("training/loop.py", "and whole_length", "", (LAWS,)),
    Fault("training/loop.py", "score.accuracy >= options.target_accuracy", "score.accuracy > options.target_accuracy", (LOOP,)),
    Fault("training/loop.py", "is_best = score.loss < at.best_loss", "is_best = score.loss > at.best_loss", (LOOP,)),
    Fault("training/loop.py", "at.accuracy >= task.curriculum_accuracy", "at.accuracy > task.curriculum_accuracy", (LOOP,)),
    Fault("training/checkpoint.py", '"streams": run.generator.get_state()', '"streams": torch.Generator().get_state()', (LOOP,)),
    Fault("training/checkpoint.py", "RunState.restored(saved[\"progress\"], run.config)", "RunState.restored({**saved[\"progress\"], \"position\": 0}, run.config)", (LOOP,)),
    Fault("training/checkpoint.py", "    verify(folder)\n", "", ("tests/models/test_folders.py",)),
    Fault("training/measure.py", "task = torch.Generator().manual_seed(seed), task.held_out()", "task = torch.Generator().manual_seed(seed), task", (LOOP, "tests/evaluation/test_evaluate.py", "tests/tasks/text/test_language_modelling.py", "tests/tasks/text/test_classification.py")),
    Fault("training/measure.py", "scores.detach().argmax(1) == labels", "scores.detach().argmin(1) == labels", ("tests/evaluation/test_evaluate.py",)),
    Fault("training/ewc.py", "gradient.detach() ** 2 / streams", "gradient.detach().abs() / streams", ("tests/training/test_ewc.py",)),
    Fault("training/regularisation.py", "(1 + step) / (10 + step)", "(1 + step) / (1 + step)", ("tests/training/test_regularisation.py",)),
    Fault("training/pseudo_labels.py", "pseudo.confidence >= confidence", "pseudo.confidence <= confidence", ("tests/training/test_pseudo_labels.py",)),
    Fault("training/config.py", '("output", "tracker", "device", "fsdp")', '("output", "tracker", "device", "fsdp", "seed")', ("tests/training/test_config.py", LOOP)),
    Fault("training/options.py", "not above < value < float", "not above <= value < float", ("tests/training/test_config.py",)),
    # ---- models: folders and states
    Fault("models/folders.py", "if not intact:", "if not intact and name != CHECKSUMS and not name.endswith('.yaml'):", ("tests/models/test_folders.py",)),
    Fault("models/folders.py", "path.read_bytes() != _record(files).encode() or", "", ("tests/models/test_folders.py",)),
    Fault("state.py", "torch.where(fresh.to(old.device)", "torch.where(~fresh.to(old.device)", ("tests/test_state.py",)),
    # ---- memory: index
    Fault("memory/index/head_scores.py", "int(starts[first]), int(block.ends[last - 1])", "int(starts[first]), int(block.ends[last - 1]) - 1", (INDEX,)),
    Fault("memory/index/head_scores.py", "log_mass.max(axis=1, keepdims=True)", "log_mass.max(axis=0, keepdims=True)", (INDEX,)),
    Fault("memory/index/fusion.py", "np.minimum(scores - scores.mean(dtype=np.float64), most)", "scores - scores.mean(dtype=np.float64)", (INDEX,)),
    Fault("memory/index/fusion.py", "(words / full_word_score - NO_MATCH)", "(words / full_word_score)", (INDEX,)),
    Fault("memory/index/conversations.py", "np.where(numbers >= 0, ratios[numbers], 0)", "ratios[numbers]", (INDEX,)),
    Fault("assistant/newest.py", "key=lambda index: (times[index], -index)", "key=lambda index: (-times[index], -index)", ("tests/assistant/test_newest.py",)),
    Fault("memory/index/rankers/meaning.py", "scores[known].mean(dtype=np.float32)", "0.0", ("tests/assistant/test_meaning.py",)),
    Fault("memory/index/head_scores.py", 'np.argsort(-scores, kind="stable")', "np.argsort(-scores[::-1], kind='stable')", (INDEX,)),
    Fault("memory/index/encoder.py", "stream[max(0, start - CONTEXT) : end]", "stream[max(0, start - CONTEXT + 8) : end]", (INDEX,)),
    Fault("memory/index/encoder.py", "self.reader.queries(rows, self.heads)[0, -count:]", "self.reader.queries(rows, self.heads)[0, 1 : count + 1]", (INDEX,)),
    Fault("memory/index/encoder.py", "rows[-1][3] = end\n        elif", "pass\n        elif", (INDEX,)),
    Fault("memory/index/calibration.py", "math.ceil(DEPTH * reader.layers)", "reader.layers", (INDEX,)),
    Fault("memory/index/calibration.py", "alone[head] >= MIN_QUALITY * alone[ranked[0]]", "alone[head] >= 0", (INDEX,)),
    Fault("memory/index/calibration.py", "(scores >= own[:, None])", "(scores > own[:, None])", (INDEX,)),
    # ---- memory: store
    Fault("memory/store/compaction.py", "FAN_IN = 8", "FAN_IN = 9", (f"{STORE}/test_compaction.py",)),
    Fault("memory/store/compaction.py", "and newest < FINAL_CLASS", "", (f"{STORE}/test_compaction.py",)),
    Fault("memory/store/snapshot.py", "max(0, position - before) : position + after + 1", "max(0, position - before) : position + after", ("tests/memory", "tests/assistant/test_retriever.py")),
    Fault("memory/store/snapshot.py", "bisect_right(self._firsts, number) - 1", "max(0, bisect_right(self._firsts, number) - 2)", ("tests/memory/test_append.py", STORE)),
    Fault("memory/memory.py", "manifest.lineage == before.snapshot.lineage", "True", ("tests/memory/test_forget.py", "tests/memory/test_memory.py", STORE)),
    Fault("memory/store/folder.py", "self.index.delete_foreign(manifest.lineage)", "pass", ("tests/memory/test_forget.py",)),
    Fault("memory/memory.py", "names = free_names(theirs.sources, self.sources)", "names = {name: name for name in theirs.sources if name not in self.sources}", ("tests/memory",)),
    Fault("memory/memory.py", "_State(state.snapshot, state.words.fork(state.snapshot))", "_State(state.snapshot, state.words)", ("tests/memory",)),
    Fault("memory/index/word_search.py", "or len(self._scorers) > 0", "", ("tests/memory/test_views.py",)),
    Fault("assistant/retriever.py", "view = memory.view()\n        if len(view)", "view = memory\n        if len(view)", ("tests/assistant/test_threads.py",)),
    # ---- assistant
    Fault("assistant/retriever.py", "passages[0].score - RERANK_GAP", "passages[-1].score - RERANK_GAP", ("tests/assistant/test_retriever.py",)),
    Fault("assistant/retriever.py", "ranked_anew(LIKELIHOOD_WEIGHT * gain)", "ranked_anew(-LIKELIHOOD_WEIGHT * gain)", ("tests/assistant/test_retriever.py",)),
    Fault("assistant/closer_look.py", "min(0.0, lowest - passage.score)", "0.0", ("tests/assistant/test_closer_look.py",)),
    Fault("assistant/closer_look.py", "np.argsort(-(scores + added), kind=\"stable\")", "range(len(near))", ("tests/assistant/test_closer_look.py",)),
    Fault("assistant/chat.py", "_bearing(judged, self.min_confidence)", "_bearing(judged, 0.0)", ("tests/assistant/test_chat.py",)),
    Fault("assistant/quotes.py", "Evidence(self.view, query, led_to, self.retriever)", "Evidence(self.view, query, (best,), self.retriever)", ("tests/assistant/test_quotes.py",)),
    Fault("assistant/quotes.py", "if first.passage in {passage.number for passage in led_to}:", "if False:", ("tests/assistant/test_quotes.py",)),
    Fault("assistant/quotes.py", "texts = [with_context(passage) for", "texts = [passage.text for", ("tests/assistant/test_meaning.py",)),
    # ---- pretrained
    Fault("pretrained/sentence_encoder.py", "begun >= BEGINNING * len(word)", "True", ("tests/pretrained/test_sentence_encoder.py",)),
    Fault("pretrained/hooks.py", "half + (positions - limit) % (limit - half)", "(positions - limit) % limit", PARITY),
    Fault("pretrained/hooks.py", 'kwargs.pop("logits_to_keep", None)', 'kwargs.get("logits_to_keep")', PARITY),
    Fault("pretrained/hooks.py", "mask[:, -length:].bool()", "mask[:, :length].bool()", PARITY),
    Fault("pretrained/cache.py", "cache.seen += self.length", "cache.seen += 1", PARITY),
    Fault("pretrained/cache.py", "self.text_tokens = states.select(self.text_tokens, beam_idx)", "pass", PARITY),
    Fault("pretrained/cache.py", "self.after[layer] = state", "self.after.setdefault(layer, self.before[layer])", PARITY),
    Fault("pretrained/rotary.py", "length = min(length, self._trained)", "pass", PARITY),
    Fault("pretrained/rotary.py", "min((int(count) for count in originals", "max((int(count) for count in originals", PARITY),
    Fault("pretrained/decoding.py", "prefix.cache.crop(shared - len(prefix.ids))", "pass", ("tests/pretrained/test_decoding.py",)),
    Fault("pretrained/decoding.py", "if token != guess:", "if False:", ("tests/pretrained/test_decoding.py",)),
    Fault("pretrained/packed_linear.py", "and torch.equal(sample, old_sample)", "", ("tests/pretrained/test_packed_linear.py",)),
    Fault("assistant/answerers/gguf.py", 'self._server.plain(message["content"])', 'message["content"]', ("tests/assistant/test_gguf.py",)),
    Fault("assistant/answer_table.py", "return escape(text, quote=True)", "return text", ("tests/assistant/test_answer_stream.py",)),
    Fault("pretrained/self_test.py", "4 * max(", "4000 * max(", ("tests/pretrained",)),
]  # fmt: skip


def survives(fault: Fault) -> bool:
    """Whether the tests of a fault pass with it. Ends the program if the code is no longer there to be broken."""
    source = (ROOT / "memspan" / fault.file).read_text("utf-8")
    if source.count(fault.right) != 1:
        raise SystemExit(f"{fault.file} must hold this once, and does {source.count(fault.right)} times: {fault.right}")
    return passes(fault.tests, fault.file, source.replace(fault.right, fault.wrong))


def passes(tests: Sequence[str], file: str, content: str) -> bool:
    """Whether the tests pass in a copy of the repository in which a file of the package has this content."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "repository"
        for name in ("memspan", "tests", "benchmarks", "examples", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        (copy / "memspan" / file).write_text(content, "utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode not in (0, 1, 2):
            raise SystemExit(f"pytest ended with {done.returncode} for {file}: {done.stdout[-600:]}")
        return done.returncode == 0


def run(faults: Sequence[Fault], jobs: int) -> list[dict[str, object]]:
    def one_of_them(fault: Fault) -> dict[str, object]:
        started = time.perf_counter()
        survived = survives(fault)
        print(f"{'SURVIVED' if survived else 'killed  '}  {fault.file}: {fault.wrong.strip()[:90]}", flush=True)
        return {
            "file": fault.file,
            "fault": fault.wrong,
            "survived": survived,
            "seconds": time.perf_counter() - started,
        }

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one_of_them, faults))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose file or wrong code contains this text")
    parser.add_argument("--jobs", type=int, default=2, help="faults tried at a time")
    parser.add_argument("--check", action="store_true", help="only whether each fault still finds its code")
    chosen = parser.parse_args()
    faults = [fault for fault in FAULTS if chosen.only in fault.file + fault.wrong]
    if chosen.check:
        counts = [(ROOT / "memspan" / fault.file).read_text("utf-8").count(fault.right) for fault in faults]
        for fault, count in zip(faults, counts, strict=True):
            if count != 1:
                print(f"{fault.file} holds this {count} times: {fault.right}")
        raise SystemExit(any(count != 1 for count in counts))
    tests = sorted({path for fault in faults for path in fault.tests})
    if not passes(tests, "errors.py", (ROOT / "memspan/errors.py").read_text("utf-8")):
        raise SystemExit("The tests must pass without a fault before faults can say anything.")
    results = run(faults, chosen.jobs)
    survivors = [result for result in results if result["survived"]]
    print(f"{len(survivors)} of {len(results)} faults survived.")
    if not chosen.only:
        report.save("mutations", {"faults": len(results), "survived": len(survivors), "results": results}, seeds=[])


if __name__ == "__main__":
    main()
