"""The README's table of measured numbers, made from the newest result files: numbers and text cannot drift apart."""

import json
from typing import Any

from benchmarks.report import RESULTS


def newest(name: str) -> tuple[str, Any] | None:
    """The date and the figures of the newest result called `name`."""
    paths = [path for path in sorted(RESULTS.glob(f"*-{name}.json")) if path.stem[11:] == name]
    if not paths:
        return None
    record = json.loads(paths[-1].read_text("utf-8"))
    return record["date"][:10], record["figures"]


def rows(chinese: bool) -> list[tuple[str, str, str]]:
    """(what, figure, command) for every result that is there."""

    def say(english: str, other: str) -> str:
        return other if chinese else english

    found = []

    def add(name: str, command: str, tell: Any) -> None:
        result = newest(name)
        if result is not None:
            for what, figure in tell(result[1]):
                found.append((what, figure, f"`{command}`"))

    def recall(figures: Any, data: str) -> list[tuple[str, str]]:
        by_name = {row["ranker"]: row for row in figures["rankers"]}
        shown = ["memspan", "BM25 alone", "BM25 alone, no question words", "MiniLM alone", "MiniLM + BM25"]
        known = [name for name in shown if name in by_name]
        parts = [f"{name} {by_name[name]['R@1']:.3f} / {by_name[name]['R@8']:.3f}" for name in known]
        what = say(
            f"right paragraph of 300 ({data}) at rank 1 / within 8, {figures['questions']} questions",
            f"从 300 段（{data}）中找对段落：第 1 名 / 前 8 名，{figures['questions']} 个问题",
        )
        return [(what, ", ".join(parts))]

    add("recall-squad", "python -m benchmarks.recall", lambda f: recall(f, "SQuAD"))
    add("recall-squad-600", "python -m benchmarks.recall --questions 600", lambda f: recall(f, "SQuAD"))
    add("recall-cmrc", "python -m benchmarks.recall --data cmrc", lambda f: recall(f, "CMRC2018"))
    add(
        "answers",
        "python -m benchmarks.recall --answers",
        lambda f: [
            (
                say("answers from memory over answers handed the right paragraph", "凭记忆作答与直接给出正确段落之比"),
                f"{f['ratio']:.2f} ({f['memory']:.3f} / {f['oracle']:.3f})",
            )
        ],
    )
    add(
        "needles",
        "python -m benchmarks.needles",
        lambda f: [
            (
                say(
                    f"8 facts hidden in {row['tokens']:,} tokens: found first / answered / answered by the oracle",
                    f"藏在 {row['tokens']:,} 个 token 中的 8 个事实：排第一 / 答对 / 直接给段落时答对",
                ),
                f"{row['first of 8']} / {row['answers']} / {row['oracle']}",
            )
            for row in f["rows"]
        ],
    )
    reading = {
        "read over plain": say(
            "reading over the plain model on 2,048-token windows", "阅读速度与原模型逐窗前向之比（2,048）"
        ),
        "last tenth": say(
            "last tenth of a reading over its first: each against the plain model beside it / raw tokens/s",
            "一次阅读中最后一成与第一成速度之比：各与同时运行的原模型相比 / 原始 token/s",
        ),
        "forward of 16384": say(
            "reading 16k tokens over one full-attention forward", "读 16k token 与一次全注意力前向之比"
        ),
        "forward of 32768": say(
            "reading 32k tokens over one full-attention forward", "读 32k token 与一次全注意力前向之比"
        ),
    }

    def raw(figures: Any) -> float:
        first, *_, last = figures["seconds a tenth"]["read"]
        return float(first / last)

    add(
        "reading",
        "python -m benchmarks.reading",
        lambda f: [
            (what, f"{row['ratio']:.2f}" + (f" / {raw(f):.2f}" if part == "last tenth" else ""))
            for row in f["rows"]
            for part, what in reading.items()
            if part in row["what"]
        ],
    )
    add(
        "flat-memory",
        "python -m benchmarks.flat_memory",
        lambda f: [
            (
                say(
                    f"host memory while {row['model']} reads {row['tokens']:,} tokens",
                    f"{row['model']} 读 {row['tokens']:,} 个 token 时主机内存增长",
                ),
                f"{row['host B/token']:.0f} B/token",
            )
            for row in f["reading"]
        ],
    )
    add(
        "decoding",
        "python -m benchmarks.decoding",
        lambda f: [
            (row["what"] if not chinese else f"写作速度：{row['what']}", f"{row['ratio']:.2f}") for row in f["ratios"]
        ],
    )
    add(
        "durability",
        "python benchmarks/durability.py --kills 200",
        lambda f: [
            (say("kill -9 during append: acknowledged and lost", "追加时 kill -9：已确认而丢失"), durability(f))
        ],
    )
    add("remember", "python -m benchmarks.remember", lambda f: remembered(f, chinese))
    add(
        "autoencode",
        "python -m benchmarks.autoencode",
        lambda f: [
            (
                say("tokens rebuilt from latents of 64 floats", "由 64 维潜变量重建的 token 比例"),
                ", ".join(f"{row['tokens']} {row['rate']} {row['rebuilt']:.4f}" for row in f["rows"]),
            )
        ],
    )
    add(
        "language",
        "python -m benchmarks.language",
        lambda f: [
            (
                say(
                    "wikitext-2, bits per byte after 2 MB of training, equal parameters",
                    "wikitext-2 每字节比特数（参数量相同，训练 2 MB）",
                ),
                ", ".join(
                    f"{row['model']} {row['bits per byte']:.2f}"
                    for row in sorted(f["table"], key=lambda row: row["bits per byte"])
                ),
            )
        ],
    )
    for name in ("delta", "ltm", "retrieval"):
        add(
            f"babi-{name}",
            "python -m benchmarks.babi",
            lambda f: [
                (
                    say(
                        f"bAbI's first task in a book, trained on 512 tokens ({f['mechanism']}): right answers",
                        f"书中的 bAbI 任务一（训练长度 512，{f['mechanism']}）：正确率",
                    ),
                    ", ".join(f"{row['tokens']} {row['accuracy']:.2f}" for row in f["rows"]),
                )
            ],
        )
    add(
        "tasks",
        "python -m benchmarks.tasks",
        lambda f: [_task(name, told, chinese) for name, told in f["tasks"].items()],
    )
    add(
        "classification",
        "python -m benchmarks.classification",
        lambda f: [
            (f"{row['data']}: {row['metric']}", f"memspan {row['memspan']:.3f}, TF-IDF + linear {row['TF-IDF']:.3f}")
            for row in f["rows"]
        ],
    )
    add(
        "speed",
        "python -m benchmarks.speed",
        lambda f: [
            (
                say("training tokens/s over torch's LSTM of the same width", "训练速度与同宽度 torch LSTM 之比"),
                ", ".join(f"{row['mechanism']} {row['of nn.LSTM']:.2f}" for row in f["rows"]),
            )
        ],
    )
    return found


def _task(name: str, told: Any, chinese: bool) -> tuple[str, str]:
    """A memory against none."""
    memory, none = told["contenders"]
    baselines = "".join(f", {one} {value:.3f}" for one, value in told["baselines"].items())
    spread = max(memory["spread"], none["spread"])
    without, shown = ("无记忆", "极差") if chinese else ("no memory", "spread")
    figures = f"{memory['name']} {memory['mean']:.3f}, {without} {none['mean']:.3f} ({shown} {spread:.3f}){baselines}"
    return f"{name.replace('_', ' ')}: {told['metric']}", figures


def remembered(figures: Any, chinese: bool) -> list[tuple[str, str]]:
    """The two rows that tell most; the others stand in docs/mechanisms.md."""

    def tell(names: dict[str, str], length: str) -> str:
        known = {shown: figures[name]["median"] for name, shown in names.items() if name in figures}
        return ", ".join(f"{shown} {median[length]:.2f}" for shown, median in known.items())

    near = {f"recall-{name}": name for name in ("window-only", "lstm-4", "neural", "delta", "ltm", "retrieval")}
    far = {"far-delta": "delta", "far-ltm": "ltm"}
    rows = [
        (
            "4 facts among noise recalled 64 segments later, trained on 5 segments for 60 to 150 s",
            "噪声中的 4 个事实在 64 段之后的准确率（训练长度 5 段，60 至 150 秒）",
            tell(near, "64"),
        ),
        (
            "the same 256 segments later, trained on 12 for 220 s",
            "同上，256 段之后（训练长度 12 段，220 秒）",
            tell(far, "256"),
        ),
    ]
    return [(other if chinese else english, told) for english, other, told in rows]


def mechanisms() -> str:
    """docs/mechanisms.md: every test of `benchmarks.remember`."""
    result = newest("remember")
    if result is None:
        return ""
    lines = ["| test | accuracy at so many segments | state bytes | bar |", "| --- | --- | --- | --- |"]
    for name, shown in result[1].items():
        told = ", ".join(f"{length}: {value:.3f}" for length, value in shown["median"].items())
        bars = ", ".join(f"{length}: {bar}" for length, bar in shown["bars"].items())
        met = {True: f"{bars}: met", False: f"{bars}: not met", None: ""}[shown["met"]]
        lines.append(f"| {name} | {told} | {list(shown['state bytes'].values())[-1]:,} | {met} |")
    return "\n".join(lines)


def durability(figures: Any) -> str:
    return f"{figures.get('lost', '?')} of {figures.get('kills', '?')} kills"


def _table(heads: tuple[str, str, str], chinese: bool) -> str:
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows(chinese)]
    return "\n".join(lines)


def english() -> str:
    return _table(("what", "measured", "command"), chinese=False)


def chinese() -> str:
    return _table(("测什么", "结果", "命令"), chinese=True)
