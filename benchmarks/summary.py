"""The tables of measurements in the README and the docs, made from the newest result files.

`cog` prints them into the pages (`make docs`) and `make docs-check` fails when a page and the result files differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.report import every, interval, newest
from benchmarks.tasks_pretrained import error

RANKERS = {
    "memspan": "memspan",
    "memspan, not reranked": "memspan, not reranked",
    "BM25 alone": "BM25",
    "BM25 alone, no question words": "BM25 without question words",
    "MiniLM alone": "MiniLM embeddings",
    "MiniLM + BM25": "MiniLM + BM25",
}


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]]
    return "\n".join(lines)


# ---- the eight rows of the README


def headline(language: str = "en") -> str:
    """Eight measurements, each with its quantity and its unit; `language` is en or zh."""
    squad, cmrc, needles = by_ranker("recall-squad-600"), by_ranker("recall-cmrc"), newest("needles")["rows"][-1]
    answers, durability = newest("answers"), newest("durability")
    reading, slower, decoding = reading_rows()["plain"], reading_avx2()[0], decoding_rows()
    memory = newest("flat-memory")["reading"][-1]
    shares = {
        "squad": f"{percent(squad['memspan']['R@1'])} (BM25 {percent(squad['BM25 alone']['R@1'])}, MiniLM {percent(squad['MiniLM alone']['R@1'])})",
        "cmrc": f"{percent(cmrc['memspan']['R@1'])} (BM25 {percent(cmrc['BM25 alone']['R@1'])}, MiniLM {percent(cmrc['MiniLM alone']['R@1'])})",
    }
    english = [
        ("Questions whose paragraph is ranked first of 300, English (SQuAD, 600 questions)", shares["squad"]),
        ("The same, Chinese (CMRC2018, 200 questions)", shares["cmrc"]),
        (
            "Questions answered correctly from memory (SQuAD; 200 questions, SmolLM2-135M)",
            f"{percent(answers['memory'])} ({percent(answers['oracle'])} when handed the right paragraph)",
        ),
        (
            f"Facts hidden in {needles['tokens']:,} tokens: ranked first / answered",
            f"{needles['first of 8']} of 8 / {needles['answers']} of 8",
        ),
        (
            "Reading speed, two CPU cores",
            f"{reading[0]:,.0f} tokens/s ({reading[1]:.1f} times the plain model's) without a sentence encoder; with it, in float32 "
            f"on AVX2, {slower['read tok/s']:,.0f} ({slower['ratio']:.2f} times)",
        ),
        ("Growth of host memory while reading", f"{memory['host B/token']:.0f} bytes per token"),
        (
            f"Writing speed with a memory of {newest('decoding')['memory tokens']:,} tokens, relative to an almost empty memory",
            f"{decoding['memory of 128k tokens over an almost empty one']:.2f} times",
        ),
        (
            "Acknowledged changes lost when the writer was killed",
            f"{durability['lost']} in {durability['kills']} kills",
        ),
    ]
    if language == "en":
        return markdown(("quantity", "measured"), english)
    chinese = [
        "英文：300 段中把正确段落排在第一的问题比例（SQuAD，600 问）",
        "中文：同上（CMRC2018，200 问）",
        "凭记忆答对的问题比例（SQuAD，200 问，SmolLM2-135M）",
        f"藏在 {needles['tokens']:,} 个 token 中的 8 个事实：排在第一 / 答对",
        "阅读速度（两个 CPU 核）",
        "阅读时主机内存的增长",
        f"记忆有 {newest('decoding')['memory tokens']:,} 个 token 时的生成速度，相对于几乎为空的记忆",
        "写入过程中被强行终止：已确认却丢失的改动",
    ]
    values = [
        shares["squad"],
        shares["cmrc"],
        f"{percent(answers['memory'])}（直接给出正确段落时 {percent(answers['oracle'])}）",
        f"{needles['first of 8']} / {needles['answers']}（共 8 个）",
        f"不用句子编码器时 {reading[0]:,.0f} token/s（原模型的 {reading[1]:.1f} 倍）；使用它、在 AVX2 上以 float32 计算时 "
        f"{slower['read tok/s']:,.0f} token/s（{slower['ratio']:.2f} 倍）",
        f"每个 token {memory['host B/token']:.0f} 字节",
        f"{decoding['memory of 128k tokens over an almost empty one']:.2f} 倍",
        f"{durability['kills']} 次中 {durability['lost']} 次",
    ]
    return markdown(("测量项", "结果"), zip(chinese, values, strict=True))


# ---- docs/benchmarks.md


def retrieval() -> str:
    """Share of questions whose paragraph is at rank 1 and within rank 8."""
    columns = {
        "SQuAD, 200 questions": by_ranker("recall-squad"),
        "SQuAD, 600 questions": by_ranker("recall-squad-600"),
        "CMRC2018, 200 questions": by_ranker("recall-cmrc"),
        "in other words, 269 questions": by_ranker("recall-natural"),
    }
    rows = [
        [label, *(f"{column[name]['R@1']:.3f} / {column[name]['R@8']:.3f}" for column in columns.values())]
        for name, label in RANKERS.items()
    ]
    return markdown(("ranker", *columns), rows)


def answers() -> str:
    """Share of SQuAD questions whose answer contains the right one."""
    shares = newest("answers")
    return markdown(
        ("text in the prompt", "answers that contain the right one"),
        [
            ("retrieved passages", f"{shares['memory']:.3f}"),
            ("the right paragraph", f"{shares['oracle']:.3f}"),
            ("ratio", f"{shares['ratio']:.2f}"),
        ],
    )


def quoting() -> str:
    """What `ask` gives a reader, by the words of the questions."""
    names = ("paragraph first", "answer", "quote", "answer or quote", "right sentence")
    labels = {"squad": "SQuAD's", "natural": "in other words than the paragraph"}
    rows = [
        [
            label,
            f"{row['questions']}",
            *(_with_interval(row[name], row[f"{name} interval"]) for name in names),
        ]
        for data, label in labels.items()
        if (row := newest(f"quoting-{data}"))
    ]
    return markdown(("questions", "number", *names), rows)


def abstention() -> str:
    """How well confidence tells what a memory holds from what it does not."""
    labels = {"squad": "SQuAD", "cmrc": "CMRC2018", "natural": "in other words", "invented": "invented facts"}
    labels["people"] = "invented people, most of them never told of"
    rows = []
    for name, label in labels.items():
        found = newest(f"abstention-test-{name}")
        if found is None:
            continue
        one_in_twenty, default = found["one in twenty"], found["MIN_CONFIDENCE"]
        rows.append(
            [
                label,
                f"{default['held']['n']} / {default['not held']['n']}",
                _with_interval(found["auroc"], (found["low"], found["high"])),
                _share(one_in_twenty["not held"]),
                f"{default['held']['share']:.2f} / {default['not held']['share']:.2f}",
            ]
        )
    heads = (
        "questions",
        "held / not held",
        "AUROC",
        "not held, refused where 5 % of the others are",
        "refused at the default: held / not held",
    )
    return markdown(heads, rows)


def updates() -> str:
    """Facts that change: what the first passage says."""
    rows = []
    for run in newest("updates")["halves"]:
        if run["half"] != "test":
            continue
        for when in ("now", "as of a day"):
            counts = run[when]
            total = sum(counts.values())
            shares = [f"{counts[name] / total:.2f}" for name in ("another version", "another fact")]
            right = _with_interval(counts["right"] / total, interval(counts["right"], total))
            rows.append([run["words of a version"], when, str(total), right, *shares])
    return markdown(
        ("words of a version", "asked", "questions", "right version first", "another version", "another fact"), rows
    )


def updated_folder() -> str:
    """A folder of many files that is read again."""
    rows = [
        [
            row["update"],
            f"{row['seconds']:.1f}",
            f"{row['over reading all']:.3f}",
            str(row["commits"]),
            str(row["other sources that differ"]),
            str(row["files changed in place"]),
        ]
        for row in newest("updated-folder")["rows"]
    ]
    heads = (
        "10,000 files, of which",
        "seconds",
        "over reading all",
        "commits",
        "other sources that differ",
        "shards changed",
    )
    return markdown(heads, rows)


def bulk_reading() -> str:
    """Workers of Ray against a process: time, and whether the memory is the same."""
    rows = [
        (
            row["way"],
            f"{row['tokens/s']:,.0f}",
            f"{row['over a process']:.2f}",
            "yes" if row["same bytes"] and row["same search"] else "no",
        )
        for row in newest("bulk-reading")["rows"]
    ]
    return markdown(("read by", "tokens/s", "over a process with 1 thread", "same bytes, same search"), rows)


def multihop() -> str:
    """Questions that need two passages: both in the prompt."""
    figures = newest("multihop-hotpot")
    sizes = ("640", "1,280", "2,048", "4,096", "window 8,192")
    rows = [[rounds, *(_share(figures[rounds][size]) for size in sizes)] for rounds in ("one round", "two rounds")]
    return markdown(
        ("search", *(f"{size} tokens" for size in sizes[:4]), "default of a model with this window: 8,192"), rows
    )


def multihop_answers() -> str:
    """Questions that need two passages: what is right beside the passages."""
    figures = newest("multihop-hotpot")["answers"]
    labels = {"memory": "memory", "oracle": "the right paragraphs alone"}
    names = ("answer", "first quote", "quotes", "answer or quotes")
    rows = [[label, *(_share(figures[source][name]) for name in names)] for source, label in labels.items()]
    return markdown(("from", *names), rows)


def _share(figure: Mapping[str, Any]) -> str:
    return _with_interval(figure["share"], (figure["low"], figure["high"]))


def _with_interval(share: float, interval: Sequence[float]) -> str:
    return f"{share:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _with_three_digits(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def needles() -> str:
    """Invented facts hidden in a long text, by its length."""
    rows = [
        [f"{row['tokens']:,}", f"{row['passages']:,}", *(f"{row[key]}" for key in ("first of 8", "answers", "oracle"))]
        for row in newest("needles")["rows"]
    ]
    return markdown(("tokens", "passages", "ranked first, of 8", "answered", "answered given the passage"), rows)


def dialogues() -> str:
    """The share of questions with a relevant turn within the first eight, of every ranking of the same passages."""
    sets = {"qmsum-35": "QMSum, meetings", "multiwoz": "MultiWOZ", "crosswoz": "CrossWOZ, Chinese"}
    rankers = {
        "memspan": "memspan, not reranked",
        "BM25": "BM25, no question words, passages",
        "MiniLM": "MiniLM, passages",
        "MiniLM + BM25": "MiniLM + BM25, passages",
    }
    rows = []
    for name, label in sets.items():
        figures = newest(f"dialogue-{name}")
        found = {row["ranker"]: row["turn@8"] for row in figures["rankers"]}
        windows = max(value for ranker, value in found.items() if ranker.endswith("windows"))
        rows.append([label, str(figures["questions"]), *(found[ranker] for ranker in rankers.values()), windows])
    return markdown(("data", "questions", *rankers, "best of the others over windows"), rows)


def reading() -> str:
    """Reading speed, absolute and relative to the plain model in the same run."""
    labels = {
        "plain": "reading 100,000 tokens / plain model on 2,048-token windows",
        "late": "last tenth of a reading / its first tenth, each relative to the plain model beside it",
        "16k": "reading 16,384 tokens / one full-attention forward pass over them",
        "32k": "reading 32,768 tokens / one full-attention forward pass over them",
    }
    rows = [[labels[key], f"{speed:,.0f}", f"{ratio:.2f}"] for key, (speed, ratio) in reading_rows().items()]
    kinds = ("with the sentence encoder", "without it", "with it, last tenth / first tenth")
    rows += [
        [f"float32, AVX2, {row['tokens']:,} tokens: {kind}", f"{row['read tok/s']:,.0f}", f"{row['ratio']:.2f}"]
        for kind, row in zip(kinds, reading_avx2(), strict=True)
    ]
    return markdown(("quantity", "tokens/s", "ratio"), rows)


def host_memory() -> str:
    """Growth of resident host memory, and of the index, in bytes per token read."""
    rows = [
        [row["model"], f"{row['tokens']:,}", f"{row['host B/token']:.0f}", f"{row['index B/token']:.0f}"]
        for row in newest("flat-memory")["reading"]
    ]
    return markdown(("model", "tokens read", "host memory, bytes per token", "index, bytes per token"), rows)


def decoding() -> str:
    """Writing speed, absolute and as ratios, on a processor with bfloat16 products and on one without."""
    results = (newest("decoding"), newest("decoding-avx2"))
    kinds = ("bfloat16, avx512_bf16", "float32, avx2")
    speeds = [result["tokens/s"] for result in results]
    first = markdown(
        ("writer, tokens/s", *kinds), [(name, *(f"{of[name]:.1f}" for of in speeds)) for name in speeds[0]]
    )
    rows = [decoding_rows(result) for result in results]
    ratios = markdown(("ratio of speeds", *kinds), [(name, *(f"{of[name]:.2f}" for of in rows)) for name in rows[0]])
    return f"{first}\n\n{ratios}"


def serving() -> str:
    """What the server gains where several ask at once, and what it costs."""
    found = newest("serving")
    whole_budget = newest("serving-first-token")["ratios"][-1]
    rows = [(row["what"], f"{row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f})") for row in found["ratios"]]
    added = sorted(asked["first"] - asked["without a memory"] for asked in found["questions"])
    shown = f"{whole_budget['ratio']:.2f} ({whole_budget['least']:.2f} to {whole_budget['most']:.2f})"
    rows.append((whole_budget["what"], shown))
    rows += [
        ("seconds that the memory adds to it", f"{median(added):.2f} ({added[0]:.2f} to {added[-1]:.2f})"),
        (f"of {found['texts']} texts, those that differ from what is written alone", str(len(found["differ"]))),
        (
            f"words of others in {found['canaries']['turns']} turns of {found['canaries']['sessions']} sessions",
            str(found["canaries"]["words of other sessions"]),
        ),
    ]
    return markdown(("what", "measured"), rows)


def recognition() -> str:
    """Share of characters that text recognition gets wrong in drawn paragraphs, by what is done to the picture."""
    rows: Any = newest("ocr")
    rates = {(row["condition"], row["language"]): row for row in rows}
    shown = [
        (condition, *(_percent_of_characters(rates[condition, language]) for language in ("English", "Chinese")))
        for condition in dict.fromkeys(row["condition"] for row in rows)
    ]
    return markdown(("picture", "English", "Chinese"), shown)


def _percent_of_characters(row: Any) -> str:
    low, high = row["interval"]
    return f"{100 * row['error rate']:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def faults() -> str:
    """What a server kept under faults, and what they cost those who did nothing wrong."""
    found = newest("faults")
    latency, memory, down = found["latency"], found["memory"], found["seconds from a kill to the next reply"]
    again = found["found again"]
    by_kind = {row["kind"]: f"{row['p99 with'] / row['p99 without']:.2f}" for row in latency["by kind"]}
    rows = [
        ("kills", str(found["kills"])),
        (
            "times with a full disk; requests that it refused",
            f"{found['times with a full disk']}; {sum(found['requests that a full disk refused'].values())}",
        ),
        (
            "bad requests; connections of slow clients",
            f"{sum(found['bad requests'].values()):,}; {sum(found['slow connections'].values()):,}",
        ),
        (
            "acknowledged turns, files, files in stores and deletions looked for",
            f"{sum(again[name] for name in ('turns', 'files', 'files in stores', 'deleted')):,}",
        ),
        ("of them lost; doubled", f"{len(found['lost'])}; {len(found['doubled'])}"),
        ("wrong replies; tracebacks in the log", f"{len(found['wrong'])}; {found['tracebacks in the log']}"),
        *(
            (f"99th percentile of a {kind} with faults over that without", by_kind[kind])
            for kind in ("turn", "search", "read")
        ),
        (
            "the same of all requests that were carried out",
            f"{latency['ratio of p99']:.2f} ({latency['interval'][0]:.2f} to {latency['interval'][1]:.2f})",
        ),
        ("from a kill to the next reply, median, s", f"{down['median']:.1f}"),
        ("growth of the process's memory over the last minutes, MiB a minute", f"{memory['slope, MiB a minute']:.1f}"),
    ]
    return markdown(("what", "measured"), rows)


def candidates() -> str:
    """What a search by candidates finds and takes in large synthetic memories, beside one of all passages."""
    rows = []
    for name in ("candidates-250000", "candidates"):
        found = newest(name)["large"]
        first = round(found["first 8 found"] * 8 * found["questions, all"])
        rows.append(
            (
                f"{found['passages']:,}",
                str(found["questions, all"]),
                f"{first} of {8 * found['questions, all']}",
                f"{found['first found']:.2f}",
                f"{found['CPU s, candidates']:.1f}; {found['CPU s, all']:.1f}",
                f"{found['CPU s once, candidates']:.1f}; {found['CPU s once, all']:.0f}",
                f"{found['MB, candidates']:,.0f}; {found['MB, all']:,.0f}",
            )
        )
    head = (
        "passages",
        "questions",
        "first 8 found",
        "first found",
        "CPU s: candidates; all",
        "once after a change",
        "MB, most",
    )
    return markdown(head, rows)


def served_memory() -> str:
    """How a server's memory grew under load and faults when its budget was used up."""
    found = newest("served-memory")
    slopes = {
        name: (
            found[f"slope of the {name} of the last half, MiB a minute"],
            found[f"interval of the slope of the {name}"],
        )
        for name in ("medians", "floors")
    }
    rows = [
        (
            "minutes; requests of clients, of them in the last half",
            f"{found['minutes']:.0f}; {found['requests']:,}, {found['of them in the last half']:,}",
        ),
        (
            "budget, MiB; counted at most",
            f"{found['budget, MiB']}; {found['counted bytes of open memories, median and most'][1] / 2**20:.2f}",
        ),
        ("memories stored at the end", str(found["memories in the folder at the end"])),
        ("times with a full disk; bad requests", f"{found['times with a full disk']}; {found['bad requests']:,}"),
        (
            "MiB, medians of the sixths of the time",
            ", ".join(f"{size:.0f}" for size in found["MiB, median of each sixth of the time"]),
        ),
        (
            "MiB, tenth percentiles of these",
            ", ".join(f"{size:.0f}" for size in found["MiB, floor of each sixth of the time"]),
        ),
        *(
            (
                f"growth in the last half by the {what} of the minutes, MiB a minute",
                f"{slopes[name][0]:.1f} ({slopes[name][1][0]:.1f} to {slopes[name][1][1]:.1f})",
            )
            for name, what in (("medians", "medians"), ("floors", "tenth percentiles"))
        ),
        (
            "open descriptors, most of the first and the last third",
            "; ".join(map(str, found["descriptors, most of the first and the last third"])),
        ),
        ("wrong replies; tracebacks in the log", f"{len(found['wrong'])}; {found['tracebacks in the log']}"),
    ]
    return markdown(("what", "measured"), rows)


def replicas() -> str:
    """What replicas of a server kept while one of them was killed again and again."""
    found = newest("replicas")
    again, statuses = found["found again"], found["requests by status"]
    pause, replaced = (
        found[f"seconds from a kill to {what}"]
        for what in ("the next request that is carried out", "another replica's process")
    )
    rows = [
        ("replicas; kills of one of them", f"{found['replicas']}; {found['kills']}"),
        ("requests carried out", f"{statuses['200']:,}"),
        ("refused with status 503; ended in the middle", f"{statuses.get('503', 0)}; {statuses.get('0', 0)}"),
        (
            "acknowledged turns, files, files in stores and deletions looked for",
            f"{sum(again[name] for name in ('turns', 'files', 'files in stores', 'deleted')):,}",
        ),
        (
            "of them lost; doubled; wrong replies",
            f"{len(found['lost'])}; {len(found['doubled'])}; {len(found['wrong'])}",
        ),
        ("from a kill to the next request carried out, most, s", f"{pause['most']:.1f}"),
        ("from a kill to another replica's process, median, s", f"{replaced['median']:.0f}"),
    ]
    return markdown(("what", "measured"), rows)


def warm() -> str:
    """How soon a question of the command line reaches the server that holds the model."""
    rows = newest("warm")["seconds"]
    return markdown(
        ("what", "median, s", "least", "most"),
        [(row["what"], f"{row['median']:.2f}", f"{row['least']:.2f}", f"{row['most']:.2f}") for row in rows],
    )


def durability() -> str:
    """What was found after each kill."""
    found = newest("durability")
    labels = {
        "kills": "kills",
        "acknowledged": "changes acknowledged before a kill",
        "lost": "acknowledged changes lost",
        "wrong": "memories with content that was never written",
        "unreadable": "memories that could not be opened",
        "not_forgotten": "forgotten texts still in a file after the same call again",
        "forks_broken": "forks that were not whole",
    }
    return markdown(("quantity", "count"), [(label, f"{found[key]:,}") for key, label in labels.items()])


def killed_training() -> str:
    """What became of runs that were killed and resumed."""
    found = newest("killed-training")
    rows = [
        ("kills (SIGKILL, SIGTERM, SIGHUP)", f"{found['kills']}"),
        ("runs with the weights of the undisturbed one, bit for bit", f"{found['equal']} of {found['runs']}"),
        ("reads of `best` and `last` while they were written, without a failure", f"{found['read while it ran']:,}"),
        ("folders left behind", f"{found['folders left behind at the end']}"),
    ]
    return markdown(("quantity", "count"), rows)


def flips() -> str:
    """What a damage to a stored file came to, by kind of folder."""
    columns = ("damages", "refused", "warned", "equal", "SILENT", "UNTYPED", "SLOW")
    sums: dict[str, list[int]] = {}
    for row in newest("flips")["kinds"]:
        if row["of"] == "all":
            continue
        totals = sums.setdefault(row["of"], [0] * len(columns))
        sums[row["of"]] = [total + row[column] for total, column in zip(totals, columns, strict=True)]
    sums["all"] = [sum(column) for column in zip(*sums.values(), strict=True)]
    heads = (
        "folder",
        "damages",
        "refused",
        "warned",
        "equal result",
        "silent difference",
        "untyped error",
        "above 10 s",
    )
    return markdown(heads, [(name, *map(str, totals)) for name, totals in sums.items()])


def threads() -> str:
    """What threads saw that searched, wrote and forgot at once."""
    found = newest("threads")
    return markdown(
        ("quantity", "count"), [(name, f"{value:,}") for name, value in found.items() if isinstance(value, int | float)]
    )


def bookkeeping() -> str:
    """Processor time of an operation at the beginning and at the end."""
    rows = [
        (
            row["operation"],
            f"{row['count']:,}",
            *(f"{row[key]:.3g}" for key in ("first ms, median", "last ms, median", "ratio, median")),
        )
        for row in newest("bookkeeping")["operations"]
    ]
    return markdown(("operation", "count", "first tenth, ms", "last tenth, ms", "ratio"), rows)


def injections() -> str:
    """Orders planted in documents: how many are obeyed, and how many questions are still answered."""
    rows = [(row["prompt"], f"{row['obeys']:.2f}", f"{row['right']:.2f}") for row in newest("injections")["prompts"]]
    return markdown(("prompt", "answers that obey", "right answers"), rows)


def mechanisms() -> str:
    """Accuracy on held-out streams of every test of `benchmarks.remember`, and the size of the state."""
    rows = [
        [
            name,
            ", ".join(f"{length}: {accuracy:.3f}" for length, accuracy in test["median"].items()),
            f"{list(test['state bytes'].values())[-1]:,}",
        ]
        for name, test in newest("remember").items()
    ]
    return markdown(("test", "accuracy, by segments in the stream", "state, bytes"), rows)


def equal_bytes() -> str:
    """Accuracy on held-out streams by their tokens, of every mechanism that fits the same bytes of state and number of weights."""
    found = {task: newest(f"state-budget-{task}")["outcomes"] for task in ("mqar", "recall")}
    by_name = {row["mechanism"]: row for row in found["recall"]}
    rows = []
    for row in found["mqar"]:
        both = (row["accuracy"], by_name[row["mechanism"]]["accuracy"])
        shown = [", ".join(f"{length}: {share:.2f}" for length, share in accuracy.items()) for accuracy in both]
        rows.append([row["mechanism"], *shown, f"{max(row['state_bytes'].values()):,}", str(row["steps"])])
    return markdown(("mechanism", "MQAR, four pairs", "recall, four facts", "state, bytes", "steps"), rows)


def side_by_side() -> str:
    """memspan's delta rule and other libraries in one training loop."""
    rows = [
        [row["model"], f"{row['5 segments']:.2f}", f"{row['16 segments']:.2f}", f"{row['steps']:,}"]
        for row in newest("side-by-side")["rows"]
    ]
    return markdown(("model", "accuracy over 5 segments", "over 16 segments", "training steps in 60 s"), rows)


def delta_reference() -> str:
    """The largest relative differences of the delta rule from fla's naive reference in double precision."""
    rows = []
    for row in newest("delta-reference")["rows"]:
        relative = {tensor: found["relative"] for tensor, found in row["largest"].items()}
        gradients = max(value for tensor, value in relative.items() if tensor.startswith("gradient"))
        by = f"{row['by']}, {'double' if row['bits'] == 64 else 'single'}"
        shown = (relative["outputs"], relative["last memory"], gradients)
        rows.append([row["rule"], by, *(f"{value:.0e}" for value in shown)])
    return markdown(("rule", "computed by, precision", "outputs", "last memory", "gradients"), rows)


def delta_times() -> str:
    """The time of a training step of the gated delta rule, of memspan's chunks and of fla's naive references."""
    rows = newest("delta-reference")["times"]
    lengths = dict.fromkeys(row["tokens"] for row in rows)
    found = {(row["by"], row["tokens"]): row for row in rows}
    return markdown(
        ("computed by", *(f"{length:,} tokens" for length in lengths)),
        [
            [by, *(f"{1000 * found[by, n]['seconds']:.0f} ms, {found[by, n]['over memspan']:.1f}" for n in lengths)]
            for by in dict.fromkeys(row["by"] for row in rows)
        ],
    )


def latents() -> str:
    """Share of tokens that the autoencoder rebuilds from one latent a chunk."""
    rows = [[row["tokens"], row["rate"], f"{row['rebuilt']:.4f}"] for row in newest("autoencode")["rows"]]
    return markdown(("tokens", "tokens per latent", "share rebuilt"), rows)


def stored_latents() -> str:
    """The losses behind passages in condensed form, as slots and as latents, and the values of facts that are right."""
    found = newest("stored-latents")
    rows = []
    for form, metrics in found["forms"].items():
        for reading, label in (
            ("text", "the text itself"),
            ("following", "the next 64 tokens"),
            ("facts", "facts' values"),
        ):
            losses = [f"{metrics[f'{reading} {memory}']:.3f}" for memory in ("nothing", "other", "own", "full")]
            closed = [f"{metrics[f'{reading} {name}']:.2f}" for name in ("closed", "closed by another text's")]
            rows.append([form, label, *losses, *closed])
        right = [
            f"{round(metrics[f'facts right {memory}'] * found['texts'])}"
            for memory in ("nothing", "other", "own", "full")
        ]
        rows.append([form, f"values right, of {found['texts']}", *right, "", ""])
    heads = ("passages as", "reading", "nothing", "another text's", "own", "full", "closed", "closed by another's")
    return markdown(heads, rows)


def kept_keys() -> str:
    """The values of facts that are right where one key in eight of a text is kept, by memspan and by kvpress."""
    rows = []
    for run in ("kept-keys", "kept-keys-kvpress"):
        for row in newest(run)["rows"]:
            low, high = row["interval"]
            rows.append([row["kept"], f"{row['loss']:.2f}", f"{row['right']} of {row['of']} [{low:.2f}, {high:.2f}]"])
    return markdown(("kept of a text", "loss of the values", "values right"), rows)


def short_training() -> str:
    """The share of the distance from nothing to the full text that each trained memory closes after the same short training."""
    newest_rows = {(row["memory"], row["seed"]): row for run in every("short_training") for row in run["rows"]}
    memories: dict[str, list[dict[str, Any]]] = {}
    for (memory, _), row in sorted(newest_rows.items()):
        memories.setdefault(memory, []).append(row)
    rows = []
    for memory, seeds in sorted(memories.items(), key=lambda item: (len(item[0]), item[0])):  # 4 before 16
        shares = [
            ", ".join(f"{row[f'{reading} closed{by}']:.2f}" for row in seeds)
            for reading in ("text", "following", "facts")
            for by in ("", " by another text's")
        ]
        rows.append([memory, *shares])
    heads = (
        "memory",
        "the text itself",
        "by another's",
        "the next 64 tokens",
        "by another's",
        "facts' values",
        "by another's",
    )
    return markdown(heads, rows)


def language() -> str:
    """Bits per byte on the test part of wikitext-2."""
    ordered = sorted(newest("language")["table"], key=lambda row: row["bits per byte"])
    return markdown(("mechanism", "bits per byte"), [(row["model"], f"{row['bits per byte']:.2f}") for row in ordered])


def babi() -> str:
    """Right answers to bAbI's first task by the length of the book around it."""
    rows = []
    for row in newest("babi-delta")["rows"]:
        least, greatest = row["95 %"]
        rows.append((row["tokens"], f"{row['accuracy']:.2f}", f"{least:.2f} to {greatest:.2f}", str(row["questions"])))
    return markdown(("tokens of the novels", "right answers", "95 % interval", "questions"), rows)


def tasks() -> str:
    """Every task on real data: a memory, none, and the best baseline."""
    return markdown(
        ("task", "metric", "with a memory", "without", "spread over seeds", "baselines"),
        [_task(name, result) for name, result in newest("tasks")["tasks"].items()],
    )


# The words of `tasks_on_texts` in Chinese; names of data sets, metrics and methods stay as they are.
IN_CHINESE = {
    "financial sentiment, all agree": "金融情感（标注者全部一致）",
    "financial sentiment, half agree": "金融情感（半数以上一致）",
    "in-scope accuracy": "范围内准确率",
    "CSL, disciplines of Chinese titles": "CSL，按中文标题分学科",
    "replies, MultiWOZ": "对话回复，MultiWOZ",
    "replies, KdConv (Chinese)": "对话回复，KdConv（中文）",
    "TF-IDF, last turn": "TF-IDF，最后一轮",
    "short answers, SQuAD": "简短答案，SQuAD",
    "short answers, CMRC 2018 (Chinese, 30 questions)": "简短答案，CMRC 2018（中文，30 问）",
    "nearest sentence, given the right document": "最相近的句子（已给定正确文档）",
    "titles, CSL (Chinese)": "标题，CSL（中文）",
    "first 18 words": "前 18 个词",
    "meetings, QMSum": "会议摘要，QMSum",
    "first 71 words": "前 71 个词",
    "next film, MovieLens": "下一部电影，MovieLens",
}


def tasks_on_texts(language: str = "en") -> str:
    """What one command reaches on public data, beside the best baseline without a neural network; `language` is en or zh."""
    rows = []
    for row in newest("classification")["rows"]:
        shown = row["metric"] in ("macro F1", "in-scope accuracy") and not row["unseen"]
        if shown and not row["data"].endswith("words alone"):
            rows.append([row["data"], row["metric"], row["memspan"], row["best baseline"], row["baseline"]])
    for corpus, data in (("multiwoz", "replies, MultiWOZ"), ("kdconv", "replies, KdConv (Chinese)")):
        found = {row["model"]: row["R@10"] for row in newest(f"replies-{corpus}")["rows"]}
        best = max((name for name in found if name.startswith("TF-IDF")), key=lambda name: found[name])
        rows.append([data, "R@10", found["with a memory"], best, found[best]])
    for data in ("squad", "cmrc", "csl", "qmsum"):
        run = newest(f"tasks-pretrained-{data}")["runs"][data]
        best = max(run["baselines"], key=lambda name: run["baselines"][name])
        label = {
            "squad": "short answers, SQuAD",
            "cmrc": "short answers, CMRC 2018 (Chinese, 30 questions)",
            "csl": "titles, CSL (Chinese)",
            "qmsum": "meetings, QMSum",
        }[data]
        rows.append([label, run["metric"], run["contenders"][0]["mean"], best, run["baselines"][best]])
    details = newest("recommendation")["dates"]["0.2"]
    others = {name: side["metrics"]["NDCG@10"] for name, side in details["details"]["baselines"].items()}
    best = max((name for name in others if name != "last item alone"), key=lambda name: others[name])
    rows.append(["next film, MovieLens", "NDCG@10", details["metrics"]["NDCG@10"], best, others[best]])
    heads = {
        "en": ("data", "metric", "memspan", "baseline", "its value"),
        "zh": ("数据", "指标", "memspan", "基线", "基线的值"),
    }[language]
    words = IN_CHINESE if language == "zh" else {}
    rows = [[words.get(cell, cell) if isinstance(cell, str) else f"{cell:.3f}" for cell in row] for row in rows]
    return markdown(heads, rows)


def translation() -> str:
    """Sentences translated behind the most similar known pairs, behind random ones, and the best baseline: chrF."""
    rows = []
    for direction, run in newest("translation")["directions"].items():
        means = {each["name"]: each for each in run["contenders"]}
        draws = [f"{figures['chrF']:.1f}" for figures in means["translation memory"]["figures"]]
        rows.append(
            [
                direction,
                f"{means['translation memory']['mean']:.1f} ({', '.join(draws)})",
                f"{means['random pairs']['mean']:.1f}",
                f"{run['baselines']['most similar sentence']:.1f}",
            ]
        )
    heads = ("direction", "translation memory, mean and the three draws", "random pairs", "most similar sentence")
    return markdown(heads, rows)


def memory_on_texts() -> str:
    """Tasks on public data with a pretrained model: with a memory, without, and the best plain baseline, 95 % intervals."""
    rows = []
    labels = {
        "squad": (
            "question answering",
            "SQuAD, three draws of 60 questions about a heap of 300 paragraphs",
            "the last 640 tokens",
        ),
        "cmrc": (
            "question answering",
            "CMRC 2018, one draw of 30 questions about a heap of 300 Chinese paragraphs",
            "the last 640 tokens",
        ),
        "csl": ("summarisation", "CSL, titles of 1,000 Chinese abstracts", "the last 160 tokens"),
        "qmsum": ("summarisation", "QMSum, questions about 35 meetings", "the last 640 tokens"),
    }
    for data, (task, label, seen) in labels.items():
        run = newest(f"tasks-pretrained-{data}")["runs"][data]
        memory, none = run["contenders"]
        found = [
            _with_three_digits(side["mean"], [side["mean"] + sign * 1.96 * error(side["figures"]) for sign in (-1, 1)])
            for side in (memory, none)
        ]
        best = max(run["baselines"], key=lambda name: run["baselines"][name])
        rows.append(
            [task, label, run["metric"], found[0], f"{seen}: {found[1]}", f"{best}: {run['baselines'][best]:.3f}"]
        )
    for corpus, label in (("multiwoz", "MultiWOZ, three seeds"), ("kdconv", "KdConv (Chinese), three seeds")):
        sides = {row["model"]: row for row in newest(f"replies-{corpus}")["rows"]}
        shown = {
            name: f"{side['R@10']:.3f} [{side['R@10 interval'].replace(' to ', ', ')}]" for name, side in sides.items()
        }
        best = max((name for name in sides if name.startswith("TF-IDF")), key=lambda name: sides[name]["R@10"])
        twin = "last turn alone"
        rows.append(
            ["dialogue", label, "R@10", shown["with a memory"], f"{twin}: {shown[twin]}", f"{best}: {shown[best]}"]
        )
    for share, run in newest("recommendation")["dates"].items():
        sides = {"": run["metrics"]} | {name: one["metrics"] for name, one in run["details"]["baselines"].items()}
        spans = {"": run["details"]["intervals"]} | {
            name: one["intervals"] for name, one in run["details"]["baselines"].items()
        }
        shown = {name: _with_three_digits(side["NDCG@10"], spans[name]["NDCG@10"]) for name, side in sides.items()}
        twin = "last item alone"
        best = max((name for name in sides if name and name != twin), key=lambda name: sides[name]["NDCG@10"])
        label = f"MovieLens, newest {float(share):.0%} held out"
        rows.append(["recommendation", label, "NDCG@10", shown[""], f"{twin}: {shown[twin]}", f"{best}: {shown[best]}"])
    return markdown(("task", "data", "metric", "with a memory", "without", "best plain baseline"), rows)


def classification() -> str:
    """What `memspan train --task classification` reaches, beside the best baseline."""
    rows = [
        [
            row["data"],
            row["metric"],
            _with_three_digits(row["memspan"], row["interval"]),
            _with_three_digits(row["baseline"], row["baseline interval"]),
            row["best baseline"],
            str(row["runs"]),
        ]
        for row in newest("classification")["rows"]
    ]
    return markdown(("data", "metric", "memspan", "baseline", "which baseline", "splits"), rows)


def replies() -> str:
    """What `memspan train --task dialogue` reaches with and without a memory, beside TF-IDF, with 95 % intervals."""
    rows = []
    for corpus in ("multiwoz", "crosswoz", "kdconv"):
        found = newest(f"replies-{corpus}")
        for row in found["rows"] if found else []:
            shares = [
                f"{row[name]:.3f} [{row[f'{name} interval'].replace(' to ', ', ')}]" for name in ("R@10", "R@1", "MRR")
            ]
            trained = row["R@10 spread"] or row["MRR spread"]
            spread = f"{row['R@10 spread']:.3f} of {len(found['seconds'])}" if trained else ""
            rows.append([corpus, row["model"], *shares, spread])
    return markdown(("data", "replies ranked by", "R@10", "R@1", "MRR", "spread of R@10 over seeds"), rows)


def speed() -> str:
    """Training speed of each mechanism relative to torch's LSTM, and the size of its state."""
    rows = [
        [
            row["mechanism"],
            f"{row['training tokens/s']:,.0f}",
            f"{row['of nn.LSTM']:.2f}",
            f"{row['state bytes at 16k']:,}",
        ]
        for row in newest("speed")["rows"]
    ]
    heads = ("mechanism", "training, tokens/s", "relative to torch.nn.LSTM", "state after 16,384 tokens, bytes")
    return markdown(heads, rows)


def speed_by_width() -> str:
    """Training speed of `delta` relative to torch's LSTM, by shape, with the least and the greatest of the processes."""
    found = newest("speed-delta")
    rows = [
        [
            row["mechanism"],
            f"{row['rows']} of {row['length']:,}",
            str(row["width"]),
            str(row["settings"]["heads"]),
            f"{row['of nn.LSTM']:.2f} [{row['least']:.2f}, {row['greatest']:.2f}]",
            f"{row['ms']:.1f}",
            f"{row['ms of nn.LSTM']:.1f}",
        ]
        for row in found["rows"]
    ]
    heads = ("mechanism", "rows of tokens", "width", "heads", "relative to torch.nn.LSTM", "ms", "ms of nn.LSTM")
    return markdown(heads, rows)


# ---- what several tables share


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def by_ranker(name: str) -> dict[str, Mapping[str, float]]:
    return {row["ranker"]: row for row in newest(name)["rankers"]}


def reading_rows() -> dict[str, tuple[float, float]]:
    """Tokens/s and ratio of each measurement of `benchmarks.reading`."""
    keys = {"plain": "over plain", "late": "last tenth", "16k": "forward of 16384", "32k": "forward of 32768"}
    rows = newest("reading")["rows"]
    return {
        key: next((row["read tok/s"], row["ratio"]) for row in rows if part in row["what"])
        for key, part in keys.items()
    }


def reading_avx2() -> list[Any]:
    """The same on a processor without products in bfloat16: with the sentence encoder, without it, and its last tenth."""
    rows: list[Any] = newest("reading-avx2")["rows"]
    return rows


def decoding_rows(result: Any = None) -> dict[str, float]:
    """The ratios of a result, the newest with bfloat16 products where none is given, by what they compare."""
    return {row["what"]: row["ratio"] for row in (newest("decoding") if result is None else result)["ratios"]}


def _task(name: str, result: Any) -> list[str]:
    memory, none = result["contenders"]
    direction = "lower" if result["lower_is_better"] else "higher"
    return [
        name.replace("_", " "),
        f"{result['metric']} ({direction} is better)",
        f"{memory['name']} {memory['mean']:.3f}",
        f"{none['mean']:.3f}",
        f"{max(memory['spread'], none['spread']):.3f}",
        ", ".join(f"{baseline} {value:.3f}" for baseline, value in result["baselines"].items()) or "none",
    ]
