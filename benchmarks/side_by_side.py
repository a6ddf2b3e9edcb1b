"""Recall of four facts beside other libraries' models, in one training loop, at about equal parameters and equal CPU time.

    for peer in x-transformers recurrent-memory-transformer-pytorch compressive-transformer-pytorch titans-pytorch; do
        pip install --no-deps --target build/peers/$peer -r benchmarks/peers/$peer.txt
    done
    python -m benchmarks.side_by_side

Every library is loaded in a process of its own, from its own folder with the versions that are pinned for it.

Two layers of width 64, segments of 32 tokens, streams of 2 to 5 segments as they are mastered, every model at the better of two
learning rates. Each is used as its own documentation shows: memories handed from segment to segment, or the whole stream in one
call. What a library's memory can reach is set to the longest stream measured where that is a setting.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import report

SEGMENT, FAR, VOCABULARY = 32, (5, 16), 64
RATES = (3e-3, 1e-3)


def memspan_delta() -> tuple[Any, Callable[[Any, Any], Any]]:
    from memspan.mechanisms import window_only
    from memspan.models.scratch import ScratchConfig, ScratchModel

    layer = [window_only(SEGMENT), {"name": "delta"}]
    model = ScratchModel(ScratchConfig(VOCABULARY, 64, [layer, layer], feedforward=2.0))
    return model, lambda model, ids: model(ids)[0]


def x_transformers() -> tuple[Any, Callable[[Any, Any], Any]]:
    import torch
    from x_transformers import Decoder, TransformerWrapper

    model = TransformerWrapper(
        num_tokens=VOCABULARY,
        max_seq_len=SEGMENT,
        max_mem_len=SEGMENT * max(FAR),
        use_abs_pos_emb=False,
        attn_layers=Decoder(dim=64, depth=2, heads=4, attn_dim_head=16, rel_pos_bias=True),
    )

    def read(model: Any, ids: Any) -> Any:
        memories, logits = None, []
        for segment in ids.split(SEGMENT, 1):
            logits_of_segment, memories = model(segment, mems=memories, return_mems=True, detach_mems=False)
            logits.append(logits_of_segment)
        return torch.cat(logits, 1)

    return model, read


def recurrent_memory_transformer() -> tuple[Any, Callable[[Any, Any], Any]]:
    import torch
    from recurrent_memory_transformer_pytorch import RecurrentMemoryTransformer

    model = RecurrentMemoryTransformer(
        dim=64, num_tokens=VOCABULARY, depth=2, num_memory_tokens=8, seq_len=SEGMENT, dim_head=16, heads=4
    )

    def read(model: Any, ids: Any) -> Any:
        memories, older, logits = None, None, []
        for segment in ids.split(SEGMENT, 1):
            logits_of_segment, memories, older = model(segment, memories, xl_memories=older)
            logits.append(logits_of_segment)
        return torch.cat(logits, 1)

    return model, read


def compressive_transformer() -> tuple[Any, Callable[[Any, Any], Any]]:
    import torch
    from compressive_transformer_pytorch import CompressiveTransformer

    model = CompressiveTransformer(
        num_tokens=VOCABULARY, dim=64, depth=2, seq_len=SEGMENT, mem_len=4 * SEGMENT, cmem_len=4 * SEGMENT, heads=4
    )

    def read(model: Any, ids: Any) -> Any:
        memories, logits = None, []
        for segment in ids.split(SEGMENT, 1):
            logits_of_segment, memories, _ = model(segment, memories=memories)
            logits.append(logits_of_segment)
        return torch.cat(logits, 1)

    return model, read


def titans() -> tuple[Any, Callable[[Any, Any], Any]]:
    from titans_pytorch import MemoryAsContextTransformer, MemoryMLP

    model = MemoryAsContextTransformer(
        num_tokens=VOCABULARY,
        dim=64,
        depth=2,
        segment_len=SEGMENT,
        num_persist_mem_tokens=4,
        num_longterm_mem_tokens=4,
        dim_head=16,
        heads=4,
        neural_memory_segment_len=SEGMENT,
        neural_memory_layers=(1, 2),
        neural_memory_model=MemoryMLP(dim=64, depth=2),
        neural_memory_kwargs={"dim_head": 64, "heads": 1},
    )
    return model, lambda model, ids: model(ids)


MODELS = {
    "memspan delta": memspan_delta,
    "x-transformers (XL memory)": x_transformers,
    "recurrent-memory-transformer-pytorch": recurrent_memory_transformer,
    "compressive-transformer-pytorch": compressive_transformer,
    "titans-pytorch (MAC)": titans,
}


# The folder and the list of pinned versions of a library, by the model
PEERS = {
    "x-transformers (XL memory)": "x-transformers",
    "recurrent-memory-transformer-pytorch": "recurrent-memory-transformer-pytorch",
    "compressive-transformer-pytorch": "compressive-transformer-pytorch",
    "titans-pytorch (MAC)": "titans-pytorch",
}


def train_and_measure(name: str, learning_rate: float, seconds: float, seed: int) -> dict[str, Any]:
    import torch
    from torch.nn.functional import cross_entropy

    from memspan.tasks import IGNORE_INDEX, build

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    task, generator = build("recall"), torch.Generator().manual_seed(seed)
    model, read = MODELS[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    begun, step, used, segments, recent = time.process_time(), 0, 0.0, 2, []
    while used < seconds:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 50) * max(0.02, 1 - used / seconds)
        batch = task.batch(32, segments, generator)
        targeted = batch.targets != IGNORE_INDEX
        logits_of_segment = read(model, batch.ids)[targeted]
        cross_entropy(logits_of_segment, batch.targets[targeted]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append((logits_of_segment.argmax(-1) == batch.targets[targeted]).float().mean().item())
        if len(recent) >= 10 and segments < 5 and sum(recent[-10:]) / 10 > 0.9:
            segments, recent = segments + 1, []
        step, used = step + 1, time.process_time() - begun
    model.eval()
    accuracy = {}
    generator = torch.Generator().manual_seed(10**6 + seed)
    with torch.no_grad():
        for length in FAR:
            right = []
            for _ in range(4):
                batch = task.batch(32, length, generator)
                targeted = batch.targets != IGNORE_INDEX
                right.append(
                    (read(model, batch.ids)[targeted].argmax(-1) == batch.targets[targeted]).float().mean().item()
                )
            accuracy[str(length)] = sum(right) / len(right)
    return {
        "accuracy": accuracy,
        "learning rate": learning_rate,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": step,
        "reached segments": segments,
        "cpu seconds": used,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", default=Path("build/peers"))
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        name, learning_rate = options.run
        print(json.dumps(train_and_measure(name, float(learning_rate), options.seconds, options.seed)))
        return

    missing = [peer for peer in PEERS.values() if not (options.peers / peer).is_dir()]
    if missing:
        sys.exit(f"This benchmark needs {', '.join(missing)} in {options.peers}: see benchmarks/peers and --help.")

    def measured(name: str, learning_rate: float) -> dict[str, Any]:
        rest = ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.side_by_side",
            "--run",
            name,
            str(learning_rate),
            *rest,
        ]
        paths = [str(options.peers.resolve() / PEERS[name])] if name in PEERS else []
        paths += filter(None, [os.environ.get("PYTHONPATH")])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures

    with ThreadPoolExecutor(options.jobs) as jobs:
        waiting = {name: [jobs.submit(measured, name, rate) for rate in RATES] for name in MODELS}
        rows = []
        for name, futures in waiting.items():
            best = max((future.result() for future in futures), key=lambda figures: figures["accuracy"]["5"])
            rows.append({"model": name, **{f"{n} segments": best["accuracy"][str(n)] for n in FAR}, **best})
            rows[-1].pop("accuracy")
            print(rows[-1], flush=True)
    report.table(rows)
    report.save("side-by-side", {"seconds": options.seconds, "rows": rows}, seeds=[options.seed])

    def draw(axes: Any) -> None:
        axes.barh([row["model"] for row in rows], [row["16 segments"] for row in rows])
        axes.set(xlim=(0, 1), xlabel="right values of 4 facts over 16 segments")

    report.plot("side-by-side", draw)


if __name__ == "__main__":
    main()
