"""Planted secrets of eight kinds in three languages: which of them reach the files of a memory, and what else is taken for one.

    pip install faker && python -m benchmarks.redaction             # two minutes on two cores

Faker writes the secrets in the forms of four countries (English, German, Chinese; keys of interfaces and passwords are ours), and each
stands in a sentence of a document that `memspan read --redact all` reads. A secret is found if its characters stand in any file of the
memory. False alarms are counted in texts that hold next to none: a novel, encyclopedias, transcripts of meetings.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import report
from memspan import Redaction

LOCALES = {"English": ("en_US", "en_GB"), "German": ("de_DE",), "Chinese": ("zh_CN",)}
SENTENCES = {
    "English": (
        "They wrote down {} and left.",
        "Please use {}, not the old one.",
        "({}) was on the back of the photograph.",
    ),
    "German": ("Auf dem Zettel stand {}, sonst nichts.", "Bitte nehmen Sie {}.", "Gestern kam {} an."),
    "Chinese": ("纸上写着{}，没有别的。", "请用{}。", "昨天他们收到了{}这个号码。"),
}
PASSWORDS = {"English": "password: {}", "German": "Passwort: {}", "Chinese": "密码：{}"}
PREFIXES = (("sk-", 40), ("ghp_", 36), ("hf_", 34), ("xoxb-", 40), ("glpat-", 20))
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


def secrets(count: int, seed: int) -> list[tuple[str, str, str, str]]:
    """So many secrets in turn: their kind, language, characters, and the words they stand in."""
    try:
        from faker import Faker
    except ImportError:
        sys.exit("This benchmark needs Faker: pip install faker")
    draw, found = random.Random(seed), list[tuple[str, str, str, str]]()
    writers = {locale: Faker(locale) for locales in LOCALES.values() for locale in locales}
    for number, writer in enumerate(writers.values()):
        writer.seed_instance(seed + number)
    kinds = ("email", "phone", "card", "iban", "id", "ip", "key", "password")
    for number in range(count):
        kind, language = kinds[number % len(kinds)], list(LOCALES)[number // len(kinds) % len(LOCALES)]
        writer = writers[draw.choice(LOCALES[language])]
        secret = _secret(kind, writer, draw)
        words = PASSWORDS[language].format(secret) if kind == "password" else secret
        found.append((kind, language, secret, draw.choice(SENTENCES[language]).format(words)))
    return found


def _secret(kind: str, writer: Any, draw: random.Random) -> str:
    """The characters of a secret. Of Germany Faker has no personal numbers: American ones stand there."""
    if kind == "key":
        prefix, length = draw.choice(PREFIXES)
        return prefix + "".join(draw.choices(LETTERS, k=length))
    if kind == "password":
        return "".join(draw.choices(LETTERS + "!#%&*+-_", k=12))
    if kind == "ip":
        return str(draw.choice((writer.ipv4, writer.ipv6))())
    if kind == "iban" and writer.locales == ["zh_CN"]:  # China has none
        kind = "card"
    names = {"phone": "phone_number", "card": "credit_card_number", "id": "ssn"}
    return str(getattr(writer, names.get(kind, kind))())


def leaks(planted: list[tuple[str, str, str, str]], model: str) -> dict[str, Any]:
    """Reads a document with the secrets into a memory, and looks for them in its files."""
    with tempfile.TemporaryDirectory() as folder:
        document, memory = Path(folder) / "notes.txt", Path(folder) / "notes.mem"
        document.write_text("\n\n".join(text for *_, text in planted), "utf-8")
        words = ["read", str(document), "--into", str(memory), "--model", model, "--redact", "all", "--json"]
        done = subprocess.run([sys.executable, "-m", "memspan", *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr.strip()[-2000:])
        stored = b"".join(path.read_bytes() for path in memory.rglob("*") if path.is_file())
    left = [(kind, language, secret) for kind, language, secret, _ in planted if secret.encode() in stored]
    return {
        "planted": len(planted),
        "kinds": dict(Counter(kind for kind, *_ in planted)),
        "languages": dict(Counter(language for _, language, *_ in planted)),
        "found in the memory": len(left),
        "examples": left[:20],
        "tokens": json.loads(done.stdout)["tokens"],
    }


def texts() -> dict[str, str]:
    """Texts in which hardly any secret stands."""
    with zipfile.ZipFile(report.needs(report.DATA / "squad11_dev" / "dev-v1.1.json.zip")) as archive:
        (name,) = archive.namelist()
        articles = json.loads(archive.read(name))
    meetings = report.needs(report.DATA / "qmsum" / "ALL_val.jsonl").read_text("utf-8")
    turns = [turn["content"] for line in meetings.splitlines() for turn in json.loads(line)["meeting_transcripts"]]
    chinese = json.loads(report.needs(report.DATA / "cmrc2018" / "cmrc2018_dev.json").read_text("utf-8"))
    return {
        "Moby Dick": report.needs(report.DATA / "gutenberg_en" / "pg2701.txt").read_text("utf-8"),
        "Wikipedia (SQuAD)": "\n".join(_contexts(articles)),
        "meetings (QMSum)": "\n".join(turns),
        "Chinese Wikipedia (CMRC)": "\n".join(_contexts(chinese)),
    }


def _contexts(data: Any) -> list[str]:
    return [part["context"] for article in data["data"] for part in article["paragraphs"]]


def alarms(name: str, text: str) -> dict[str, Any]:
    found = Redaction().find(text)
    shown = [text[max(0, each.start - 20) : each.end + 10] for each in found[:5]]
    return {"text": name, "characters": len(text), "alarms": len(found), "examples": shown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secrets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    planted = leaks(secrets(options.secrets, options.seed), options.model)
    false = [alarms(name, text) for name, text in texts().items()]
    print({key: value for key, value in planted.items() if key != "examples"})
    report.table([{key: value for key, value in row.items() if key != "examples"} for row in false])
    report.save("redaction", {"secrets": planted, "false alarms": false}, seeds=[options.seed])


if __name__ == "__main__":
    main()
