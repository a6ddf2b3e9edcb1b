"""Checkpoints as an enemy would write them: each a name and a function that changes a folder, checksums included.

The folder is `last` of a run of `LIVING`, whose streams go on from batch to batch, with averaged weights.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from memspan.models.folders import write_checksums

Change = Callable[[Path], None]

LIVING: dict[str, Any] = {
    "task": "language_modelling", "task_settings": {"segment": 8}, "segments": 2, "mechanism": "sink_window",
    "mechanism_settings": {"window": 8, "block": 4}, "width": 8, "depth": 1, "batch_size": 2, "steps": 5, "eval_every": 2,
    "ema_decay": 0.9, "device": "cpu",
}  # fmt: skip


def hostile(change: Change) -> Change:
    """The change, after which the checksums are right again."""

    def changed(folder: Path) -> None:
        change(folder)
        write_checksums(folder)

    return changed


def text(name: str, content: str | bytes) -> Change:
    """The file `name` replaced by `content`."""
    raw = content if isinstance(content, bytes) else content.encode()
    return hostile(lambda folder: (folder / name).write_bytes(raw) and None)


def json_value(name: str, *path: Any, value: Any) -> Change:
    """The value under `path` of a JSON file replaced; a string that begins with RAW is put in as it is."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text("utf-8"))
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        raw = json.dumps(content)
        if isinstance(value, str) and value.startswith(RAW):
            raw = raw.replace(json.dumps(value), value.removeprefix(RAW))
        (folder / name).write_text(raw, "utf-8")

    return hostile(change)


def without(name: str, *path: Any) -> Change:
    """A key of a JSON file left out."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text("utf-8"))
        node = content
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]
        (folder / name).write_text(json.dumps(content), "utf-8")

    return hostile(change)


def tensors(name: str, which: int | str, function: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """A tensor of a file changed: the one of this name, or the first of so many dimensions and floats."""

    def change(folder: Path) -> None:
        content = load_file(folder / name)
        floats = sorted(key for key, tensor in content.items() if tensor.dim() == which and tensor.is_floating_point())
        key = which if isinstance(which, str) else floats[0]
        content[key] = function(content[key]).contiguous()
        save_file(content, folder / name)

    return hostile(change)


def form(*path: Any, value: Any) -> Change:
    """A node of the tree of training.json replaced; `path` names keys of its dicts."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "training.json").read_text("utf-8"))
        node, where = content, "form"
        for key in path:
            pairs = node[where]["dict"]
            index = next(index for index, (name, _) in enumerate(pairs) if name == key)
            node, where = pairs[index], 1
        node[where] = value
        (folder / "training.json").write_text(json.dumps(content), "utf-8")

    return hostile(change)


def yaml_option(section: str, name: str, value: str) -> Change:
    """An option of config.yaml replaced by YAML of any kind."""

    def change(folder: Path) -> None:
        lines = (folder / "config.yaml").read_text("utf-8").splitlines()
        begin = lines.index(f"{section}:")
        at = next(index for index in range(begin + 1, len(lines)) if lines[index].startswith(f"  {name}:"))
        end = next(
            index for index in range(at + 1, len(lines) + 1) if not lines[index : index + 1] or lines[index][2] != " "
        )
        lines[at:end] = [f"  {name}: {value}"]
        (folder / "config.yaml").write_text("\n".join(lines) + "\n", "utf-8")

    return hostile(change)


def bomb(levels: int, merged: bool = False) -> str:
    """YAML whose aliases stand for 10^levels values."""
    rows = ["task: {name: recall}", "a0: &a0 {k0: 1}" if merged else "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        rows.append(f"a{level}: &a{level} " + (f"{{<<: [{aliases}]}}" if merged else f"[{aliases}]"))
    return "\n".join(rows) + "\n"


RAW = "raw:"
NAN = float("nan")
MANY = 10**9
DEEP = '{"dict": [["a", ' * 20_000 + '{"value": 1}' + "]]}" * 20_000
OPTIMIZER = {"dict": [["state", {"dict": []}], ["param_groups", {"list": []}]]}
FORMS: dict[str, Any] = {
    "a class": {"collections.defaultdict": [["default_factory_module", "payload"]]},
    "a torch tree": {"type": "builtins.dict", "context": {"default_factory_module": "this"}, "children_spec": []},
    "no kind": {},
    "two kinds": {"list": [], "tuple": []},
    "a list for a node": [],
    "null": None,
    "a number": 7,
    "an object of python": {"value": {"py/object": "os.system"}},
    "a tensor that is not there": {"tensor": "999"},
    "a tensor named by a number": {"tensor": 0},
    "a tensor named by a list": {"tensor": ["0"]},
    "a dict of triples": {"dict": [["a", {"value": 1}, 2]]},
    "a dict of a number": {"dict": 5},
    "keys that are lists": {"dict": [[["a"], {"value": 1}]]},
    "a list of a text": {"list": "abc"},
}

# Of training.json and training.safetensors: `train --resume` reads them.
TRAINING: dict[str, Change] = {
    **{f"form: {name}": json_value("training.json", "form", value=value) for name, value in FORMS.items()},
    "form: nested deeply": json_value("training.json", "form", value=RAW + DEEP),
    "form: left out": without("training.json", "form"),
    "training.json: no JSON": text("training.json", "{"),
    "training.json: no object": text("training.json", "[1]"),
    "training.json: brackets": text("training.json", "[" * 300_000),
    "training.json: bytes": text("training.json", b"\xff\xfe\x00"),
    "training.json: a number of 5,000 digits": json_value("training.json", "progress", "step", value=RAW + "9" * 5000),
    "progress: left out": without("training.json", "progress"),
    "progress: null": json_value("training.json", "progress", value=None),
    "progress: an unknown key": json_value("training.json", "progress", "__class__", value="os.system"),
    **{
        f"progress: {name} = {value!r}"[:60]: json_value("training.json", "progress", name, value=value)
        for name, value in (
            ("step", "9"),
            ("step", -1),
            ("step", 2.5),
            ("step", True),
            ("step", 10**30),
            ("segments", 0),
            ("segments", MANY),
            ("position", -5),
            ("position", None),
            ("tokens", [1]),
            ("seconds", NAN),
            ("seconds", -1e300),
            ("seconds", "0"),
            ("best_loss", {}),
            ("loss", None),
            ("stopped", "now"),
            ("stopped", ["steps"]),
            ("history", 5),
            ("history", [5]),
            ("history", [{"step": 1}]),
            ("history", [{"step": "x", "held_out_loss": 1.0}]),
            ("score", []),
            ("score", {"loss": 1}),
            ("measurements_since_best", "many"),
        )
    },
    **{
        f"tree: {name} = {json.dumps(value)}"[:70]: form(name, value=value)
        for name in ("optimizer", "state", "random", "streams", "weights")
        for value in ({"value": None}, {"value": 10**18}, {"list": [{"value": "x"}]}, {"dict": []}, {"tensor": "0"})
        if (name, json.dumps(value)) not in {("weights", '{"value": null}')}
    },
    "optimizer: an index that is none": form("optimizer", "state", value={"dict": [[10**6, {"dict": []}]]}),
    "optimizer: an index that is a text": form("optimizer", "state", value={"dict": [["0", {"dict": []}]]}),
    "optimizer: an unknown moment": form(
        "optimizer", "state", value={"dict": [[0, {"dict": [["exp", {"tensor": "1"}]]}]]}
    ),
    "optimizer: a moment of another shape": tensors("training.safetensors", 2, lambda tensor: tensor[:1]),
    "optimizer: a moment of another type": tensors("training.safetensors", 2, lambda tensor: tensor.double()),
    "optimizer: NaN": tensors("training.safetensors", 2, lambda tensor: tensor * NAN),
    "optimizer: infinite": tensors("training.safetensors", 1, lambda tensor: tensor + float("inf")),
    "optimizer: steps below 0": tensors("training.safetensors", 0, lambda tensor: tensor - 1e6),
    "training.safetensors: empty": text("training.safetensors", b""),
    "training.safetensors: a header of 2^60 bytes": text("training.safetensors", (2**60).to_bytes(8, "little") + b"{}"),
    "training.safetensors: a pickle": text("training.safetensors", b"\x80\x04cposix\nsystem\n(S'true'\ntR."),
}

CONFIG: dict[str, Change] = {
    "config.yaml: aliases for 10^9 values": text("config.yaml", bomb(9)),
    "config.yaml: merged keys": text("config.yaml", bomb(7, merged=True)),
    "config.yaml: an alias of itself": text("config.yaml", "task: &a {name: recall, settings: *a}\n"),
    "config.yaml: python object": text("config.yaml", "task: !!python/object/apply:os.system ['touch hacked']\n"),
    "config.yaml: python name": text("config.yaml", "task: {name: !!python/name:os.system ''}\n"),
    "config.yaml: an unknown tag": text("config.yaml", "task: !payload {name: recall}\n"),
    "config.yaml: nested": text("config.yaml", "task: " + "[" * 2_000),
    "config.yaml: large": text("config.yaml", "# " + "x" * 2**20 + "\ntask: {name: recall}\n"),
    "config.yaml: no mapping": text("config.yaml", "- recall\n"),
    "config.yaml: keys that are numbers": text("config.yaml", "task: {name: recall, settings: {1: 2}}\n"),
    "config.yaml: a date that is none": text("config.yaml", "task: {name: 2020-99-99}\n"),
    "config.yaml: a number of 5,000 digits": text("config.yaml", f"task: {{name: recall, segments: {'9' * 5000}}}\n"),
    "config.yaml: a hexadecimal number": text("config.yaml", f"task: {{name: recall, segments: 0x{'f' * 5000}}}\n"),
    "config.yaml: a huge learning rate": text(
        "config.yaml", f"task: {{name: recall}}\noptimisation: {{learning_rate: 0x{'f' * 5000}}}\n"
    ),
    "config.yaml: an unknown section": text("config.yaml", "task: {name: recall}\npayload: {a: 1}\n"),
    "config.yaml: an unknown option": text("config.yaml", "task: {name: recall, payload: 1}\n"),
    "config.yaml: bytes": text("config.yaml", b"\xff\xfe\x00task"),
    "config.yaml: empty": text("config.yaml", ""),
}

# Of config.json and model.safetensors: whoever opens the model reads them.
MODEL: dict[str, Change] = {
    **{
        f"config.json: {name} = {value!r}"[:60]: json_value("config.json", name, value=value)
        for name, value in (
            ("width", MANY),
            ("width", "8"),
            ("width", 0),
            ("width", -8),
            ("width", 7.5),
            ("width", None),
            ("width", 10**30),
            ("vocabulary", MANY),
            ("vocabulary", []),
            ("feedforward", 1e12),
            ("feedforward", NAN),
            ("feedforward", "4"),
            ("layers", 5),
            ("layers", [[5]]),
            ("layers", [[{"name": "os.system"}]]),
            ("layers", [[{"name": ["delta"]}]]),
            ("layers", [[{"name": "memory_tokens", "depth": MANY}]]),
            ("layers", [[{"name": "ltm", "slots": MANY}]]),
            ("layers", [[{"name": "bidirectional", "layers": MANY}]]),
            ("layers", [[{"name": "delta", "heads": 0}]]),
            ("layers", [[{"name": "delta", "__class__": 1}]]),
            ("dropout", 7),
            ("dropout", "x"),
            ("residual", {}),
            ("model", "os.system"),
            ("model", ["scratch"]),
            ("model", "classifier"),
            ("payload", 1),
            ("tie_embeddings", "no"),
        )
    },
    "config.json: no object": text("config.json", "[]"),
    "config.json: nested": text("config.json", "[" * 300_000),
    "config.json: bytes": text("config.json", b"\xff\xfe"),
    "model.safetensors: NaN": tensors("model.safetensors", 2, lambda tensor: tensor * NAN),
    "model.safetensors: infinite": tensors("model.safetensors", 1, lambda tensor: tensor / 0),
    "model.safetensors: another shape": tensors("model.safetensors", 2, lambda tensor: tensor[:, :3]),
    "model.safetensors: empty": text("model.safetensors", b""),
    "model.safetensors: cut header": text("model.safetensors", b"\xff\xff\x00\x00\x00\x00\x00\x00{"),
    "model.safetensors: a header of 2^60 bytes": text("model.safetensors", (2**60).to_bytes(8, "little") + b"{}"),
    "model.safetensors: a pickle": text("model.safetensors", b"\x80\x04cposix\nsystem\n(S'true'\ntR."),
}

# Of what a task learned; the folder is of a classification.
LEARNED: dict[str, Change] = {
    **{
        f"labels.json: {value!r}"[:60]: text("labels.json", json.dumps(value))
        for value in (
            {"a": 1},
            [1, 2],
            [],
            "ab",
            None,
            5,
            ["one"],
            [["a"], ["b"]],
            ["a", None],
            ["a"] * 5000,
            ["a", "a"],
        )
    },
    "labels.json: nested": text("labels.json", "[" * 300_000),
    "labels.json: bytes": text("labels.json", b"\xff"),
    "tokenizer.json: no object": text("tokenizer.json", "[]"),
    "tokenizer.json: nested": text("tokenizer.json", "[" * 300_000),
    **{
        f"tokenizer.json: {name} = {value!r}"[:60]: json_value("tokenizer.json", name, value=value)
        for name, value in (
            ("pad", -1),
            ("pad", MANY),
            ("pad", "0"),
            ("pad", None),
            ("pad", True),
            ("answer", 5),
            ("answer", ["a"]),
            ("answer", [MANY]),
            ("answer", [1.5]),
            ("end", -7),
            ("end", []),
            ("tokenizer", {}),
            ("tokenizer", "x"),
        )
    },
    "tokenizer.json: an id far away": json_value("tokenizer.json", "tokenizer", "model", "vocab", "a", value=10**6),
    "tokenizer.json: a library's panic": json_value(
        "tokenizer.json", "tokenizer", "model", "continuing_subword_prefix", value="x" * 1000
    ),
    "tokenizer.json: fewer ids than the model": json_value(
        "tokenizer.json",
        "tokenizer",
        value=RAW + '{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2},"merges":[]}}',
    ),
}
