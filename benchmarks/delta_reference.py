"""memspan's delta rule beside the naive references of flash-linear-attention (fla): results, gradients and training time.

    pip install --no-deps --target build/peers/fla -r benchmarks/peers/fla.txt
    PYTHONPATH=build/peers/fla python -m benchmarks.delta_reference     # a minute on one core

The same numbers go through both, and through both backward: outputs, last memory and the gradient of every input, over lengths,
heads, sizes, decays and rates, in single and double precision. All are compared with fla's loop over tokens in double precision.
Relative is the largest difference over the largest number of the tensor.

fla trains with Triton kernels, which need a GPU. Its naive references are what its authors test those kernels against; they are
written to be read, so the times do not say how fast fla is.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from benchmarks import report
from memspan.mechanisms.layers.delta_rule import gated_delta_rule

NAMES = ("q", "k", "v", "decay", "rate", "memory")
CHUNK = 32  # the default of memspan's mechanism; fla's is 64
LENGTHS, REPEATS = (64, 256, 1024), 9
# q, k (B, H, S, K), v (B, H, S, V), log decay, rate (B, H, S), memory (B, H, K, V) -> values read (B, H, S, V), last memory
Rule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Case(NamedTuple):
    """Shapes and numbers: decays are sigmoids of normal numbers about `decay`, rates of normal numbers, times `max_rate`."""

    name: str
    rows: int = 2
    heads: int = 2
    length: int = 128
    key: int = 16
    value: int = 16
    decay: float = 3.0
    spread: float = 1.0
    max_rate: float = 1.0
    initial: bool = True


CASES = (
    Case("whole chunks"),
    Case("empty memory", initial=False),
    Case("one token", length=1),
    Case("shorter than a chunk", length=13),
    Case("no whole chunks, four heads", rows=3, heads=4, length=101),
    Case("key 24, value 40", length=77, key=24, value=40),
    Case("value 8, key 64, one head", rows=1, heads=1, length=300, key=64, value=8),
    Case("decays near 1", length=333, decay=9.0),
    Case("decays near 0", length=101, decay=-6.0),
    Case("decays of all sizes", length=101, decay=0.0, spread=6.0),
    Case("rates up to 2", length=333, max_rate=2.0),
    Case("rates up to 2, decays near 1", length=333, decay=9.0, max_rate=2.0),
)


class InDouble(TorchFunctionMode):
    """Within it what asks for single precision gets double: fla's references cast to single, whatever they are given."""

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.float:
            function = Tensor.double
        wider = [torch.float64 if value is torch.float32 else value for value in args]
        named = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        return function(*wider, **named)


def ours(correct: bool) -> Rule:
    return lambda *inputs: gated_delta_rule(*inputs, CHUNK, correct)


def theirs() -> dict[str, dict[str, Rule]]:
    """fla's naive references by rule and name, with memspan's conventions. The first of a rule is its loop over tokens.

    As memspan's, they take the logarithm of the decay, forget before they correct and write, read after the write, and leave it to
    the caller to make q and k of length 1. Unlike memspan's, their tensors are (B, S, H, *), except those of the delta rule without
    decay; q is divided by the root of K unless a scale is given; and what only adds has no rates: values are multiplied by theirs.
    """
    from fla.ops.delta_rule.naive import delta_rule_recurrence
    from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule, naive_recurrent_gated_delta_rule
    from fla.ops.linear_attn.naive import naive_recurrent_linear_attn
    from fla.ops.simple_gla.naive import naive_chunk_simple_gla, naive_recurrent_simple_gla

    def turned(rule: Callable[..., Any], names: tuple[str, ...], **settings: Any) -> Rule:
        def call(*inputs: Tensor) -> tuple[Tensor, Tensor]:
            given = dict(zip(NAMES, inputs, strict=True))
            if "rate" not in names:
                given["v"] = given["v"] * given["rate"][..., None]
            arguments = {fla: given[name].transpose(1, 2) for fla, name in FLA.items() if name in names}
            memory = given["memory"]
            read, memory = rule(**arguments, scale=1.0, initial_state=memory, output_final_state=True, **settings)
            return read.transpose(1, 2), memory

        return call

    def without_decay(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, _, rate, memory = inputs
        return delta_rule_recurrence(q * sqrt(q.shape[-1]), k, v, rate, initial_state=memory)

    gated, decaying = ("q", "k", "v", "decay", "rate"), ("q", "k", "v", "decay")
    return {
        "gated delta rule": {
            "fla, loop": turned(naive_recurrent_gated_delta_rule, gated),
            "fla, chunks of 64": turned(naive_chunk_gated_delta_rule, gated),
            "fla, chunks of 32": turned(naive_chunk_gated_delta_rule, gated, chunk_size=CHUNK),
        },
        "delta rule": {"fla, loop": without_decay},
        "additive with decay": {
            "fla, loop": turned(naive_recurrent_simple_gla, decaying),
            "fla, chunks of 64": turned(naive_chunk_simple_gla, decaying),
        },
        "additive": {"fla, loop": turned(naive_recurrent_linear_attn, ("q", "k", "v"))},
    }


FLA = {"q": "q", "k": "k", "v": "v", "g": "decay", "beta": "rate"}


def drawn(case: Case, gated: bool, seed: int) -> dict[str, Tensor]:
    """The inputs in double precision; `gated` decides whether the memory decays."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(case.rows, case.heads, *sizes, generator=generator, dtype=torch.float64)

    q, k = (normal(case.length, case.key) for _ in range(2))
    q, k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    decay = (case.decay + case.spread * normal(case.length)).sigmoid().log()
    return {
        "q": q,
        "k": k,
        "v": normal(case.length, case.value),
        "decay": decay * gated,
        "rate": case.max_rate * normal(case.length).sigmoid(),
        "memory": normal(case.key, case.value) * case.initial,
    }


def computed(rule: Rule, inputs: dict[str, Tensor], precision: torch.dtype) -> dict[str, Tensor]:
    """Outputs, last memory, and the gradients of a sum of both with fixed weights."""
    leaves = [inputs[name].to(precision).requires_grad_() for name in NAMES]
    if precision is torch.float64:
        with InDouble():
            read, memory = rule(*leaves)
    else:
        read, memory = rule(*leaves)
    weights = torch.Generator().manual_seed(1)
    loss = sum((x * torch.randn(x.shape, generator=weights, dtype=torch.float64)).sum() for x in (read, memory))
    # a rule without decay does not depend on it
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = {"outputs": read, "last memory": memory}
    found |= {f"gradient of {name}": x for name, x in zip(NAMES, gradients, strict=True) if x is not None}
    return {name: x.detach().double() for name, x in found.items()}


def compared(rule: str, references: dict[str, Rule]) -> list[dict[str, Any]]:
    """The differences from the first reference in double precision, by case, by what computed it and by precision."""
    first, decays = next(iter(references)), rule in ("gated delta rule", "additive with decay")
    ways = {"memspan": ours("delta" in rule), **references}
    # without decay, cases that differ in it alone are all the same
    cases = [case for case in CASES if decays or (case.decay, case.spread) == (CASES[0].decay, CASES[0].spread)]
    rows = []
    for seed, case in enumerate(cases):
        inputs = drawn(case, decays, seed)
        expected = computed(references[first], inputs, torch.float64)
        for name, way in ways.items():
            for precision in (torch.float64, torch.float32):
                if (name, precision) == (first, torch.float64):
                    continue
                found = computed(way, inputs, precision)
                row = {"rule": rule, "case": case.name, "by": name, "bits": torch.finfo(precision).bits}
                for tensor, right in expected.items():
                    difference = (found[tensor] - right).abs().max().item()
                    relative = difference / right.abs().max().item()
                    rows.append({**row, "tensor": tensor, "absolute": difference, "relative": relative})
    return rows


def largest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By rule, by what computed it and by precision: the largest differences of each tensor, and the case of the relative one."""
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        tensors = groups.setdefault((row["rule"], row["by"], row["bits"]), {})
        worst = tensors.setdefault(row["tensor"], {"absolute": 0.0, "relative": -1.0, "case": ""})
        worst["absolute"] = max(worst["absolute"], row["absolute"])
        if row["relative"] > worst["relative"]:
            worst |= {"relative": row["relative"], "case": row["case"]}
    return [{"rule": rule, "by": by, "bits": bits, "largest": found} for (rule, by, bits), found in groups.items()]


def timed(ways: dict[str, Rule]) -> list[dict[str, Any]]:
    """Median seconds of CPU time of a step forward and backward, in turns, and each over memspan's of the same turn."""
    rows = []
    for length in LENGTHS:
        inputs = drawn(Case("time", rows=4, length=length, key=32, value=32), True, 0)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(REPEATS + 1):
            for name, way in ways.items():
                leaves = [inputs[name].float().requires_grad_() for name in NAMES]
                begun = time.process_time()
                read, memory = way(*leaves)
                (read.sum() + memory.sum()).backward()
                if turn:  # the first is for the caches
                    seconds[name].append(time.process_time() - begun)
        for name, each in seconds.items():
            ratios = [one / base for one, base in zip(each, seconds["memspan"], strict=True)]
            row = {"tokens": length, "by": name, "seconds": statistics.median(each)}
            rows.append({**row, "over memspan": statistics.median(ratios), "all ratios": ratios})
    return rows


def layer() -> str:
    """What fla's own layer says to a CPU."""
    from fla.layers import GatedDeltaNet

    try:
        GatedDeltaNet(hidden_size=64, num_heads=2, head_dim=32)(torch.randn(1, 128, 64))
    except RuntimeError as error:
        return str(error)
    return "runs"


def _short(found: dict[str, Any] | None) -> str:
    """Empty for an input that a rule does not depend on."""
    return "" if found is None else f"{found['relative']:.0e}"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    references = theirs()
    rows = largest([row for rule, ways in references.items() for row in compared(rule, ways)])
    report.table(
        [
            {name: row[name] for name in ("rule", "by", "bits")}
            | {tensor: _short(row["largest"].get(tensor)) for tensor in rows[0]["largest"]}
            for row in rows
        ]
    )
    times = timed({"memspan": ours(True), **references["gated delta rule"]})
    report.table([{key: row[key] for key in ("tokens", "by", "seconds", "over memspan")} for row in times])
    figures = {"fla": version("fla-core"), "layer on this machine": layer(), "rows": rows, "times": times}
    report.save("delta-reference", figures, seeds=range(len(CASES)))


if __name__ == "__main__":
    main()
