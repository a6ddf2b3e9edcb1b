"""Model folders of strangers: each case changes the folder of a tiny Llama into one that must be refused, or does no harm.

`tests/fuzz` and `test_hostile.py` go through them. Code that runs leaves a file whose path is in $MEMSPAN_MARKER.
"""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Case = Callable[[Path], None]

CODE = "import os, pathlib\npathlib.Path(os.environ['MEMSPAN_MARKER']).touch()\n"
CLASSES = """
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class C(LlamaConfig):
    model_type = "evil"
class M(LlamaForCausalLM):
    config_class = C
class T(PreTrainedTokenizerFast):
    pass
class P:
    pass
"""


def edit(folder: Path, name: str = "config.json", **fields: Any) -> None:
    """Put fields into a JSON file; those that are None are removed."""
    path = folder / name
    record = json.loads(path.read_text("utf-8")) if path.exists() else {}
    record.update(fields)
    for key in [key for key, value in fields.items() if value is None]:
        del record[key]
    path.write_text(json.dumps(record), "utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Write the weights anew after a change of the dict of tensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class _Runs:
    """A pickle that leaves the marker when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ('touch "$MEMSPAN_MARKER"',)


def code(folder: Path) -> None:
    (folder / "evil.py").write_text(CODE + CLASSES)


def code_of_config(folder: Path) -> None:
    code(folder)
    edit(folder, model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})


def code_of_model(folder: Path) -> None:
    code(folder)
    edit(folder, auto_map={"AutoModelForCausalLM": "evil.M"}, model_type="albert")


def code_of_tokenizer(folder: Path) -> None:
    code(folder)
    edit(folder, model_type="evil", auto_map={"AutoConfig": "evil.C"})
    edit(folder, "tokenizer_config.json", tokenizer_class="T", auto_map={"AutoTokenizer": [None, "evil.T"]})


def code_elsewhere(folder: Path) -> None:
    edit(folder, model_type="evil", auto_map={"AutoConfig": "somebody/elsewhere--evil.C"})


def code_beside_a_known_model(folder: Path) -> None:
    code(folder)
    edit(folder, auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": "evil.T"})
    edit(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.T"]})


def code_of_generation(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE + "def generate(model, **options): pass\n")
    (folder / "custom_generate" / "requirements.txt").write_text("os\n")


def code_of_processor(folder: Path) -> None:
    code(folder)
    for name in ("processor_config.json", "preprocessor_config.json", "feature_extractor_config.json"):
        edit(folder, name, auto_map={"AutoProcessor": "evil.P", "AutoImageProcessor": "evil.P"}, processor_class="P")


def pickled(name: str) -> Case:
    def case(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(_Runs()))

    return case


def pickled_index(folder: Path) -> None:
    pickled("pytorch_model-00001-of-00001.bin")(folder)
    edit(folder, "pytorch_model.bin.index.json", weight_map={"lm_head.weight": "pytorch_model-00001-of-00001.bin"})


def pickle_beside(folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", ".metadata"):
        (folder / name).write_bytes(pickle.dumps(_Runs()))


def pickle_called_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(_Runs()))


def adapter_only(folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    adapter(folder)


def adapter(folder: Path) -> None:
    edit(folder, "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(folder), r=4)
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Runs()))


def index(weight_map: Any) -> Case:
    def case(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "elsewhere.safetensors")
        edit(folder, "model.safetensors.index.json", weight_map=weight_map, metadata={})

    return case


def index_to_outside(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    names = load_file(folder.parent / "outside.safetensors")
    edit(folder, "model.safetensors.index.json", weight_map=dict.fromkeys(names, "../outside.safetensors"), metadata={})


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def absurd_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def without_a_tensor(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.__delitem__("model.layers.1.mlp.up_proj.weight"))


def without_tensors(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.clear())


def with_a_tensor_too_many(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"model.layers.2.mlp.up_proj.weight": torch.ones(8, 8)}))


def renamed_tensor(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"model.nom.weight": tensors.pop("model.norm.weight")}))


def weight(value: float) -> Case:
    def case(folder: Path) -> None:
        change_weights(folder, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"][3, 3].fill_(value))

    return case


def config(**fields: Any) -> Case:
    return lambda folder: edit(folder, **fields)


def text(name: str, content: str) -> Case:
    def case(folder: Path) -> None:
        (folder / name).write_text(content, "utf-8")

    return case


def nested(folder: Path) -> None:
    record = (folder / "config.json").read_text("utf-8").rstrip()
    (folder / "config.json").write_text(record[:-1] + ', "deep": ' + "[" * 50_000 + "]" * 50_000 + "}", "utf-8")


def naming_itself(folder: Path) -> None:
    edit(folder, configuration_files=["config.1.0.0.json"])
    edit(folder, "config.1.0.0.json", configuration_files=["config.1.0.0.json"])


def too_large(name: str) -> Case:
    def case(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(2**33)  # a sparse file

    return case


def pipe(name: str) -> Case:
    def case(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return case


def link(name: str, target: str) -> Case:
    def case(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return case


def links_to_files(folder: Path) -> None:
    """As in the cache of the hub's client."""
    shutil.copytree(folder, folder.parent / "blobs")
    for path in list(folder.iterdir()):
        path.unlink()
        path.symlink_to(folder.parent / "blobs" / path.name)


def emptied(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.unlink()


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("{}")


def more_ids(folder: Path) -> None:
    record = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    record["model"]["vocab"] |= {f"more{number}": 2000 + number for number in range(8)}
    (folder / "tokenizer.json").write_text(json.dumps(record), "utf-8")


def ids_far_away(folder: Path) -> None:
    record = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    word = max(record["model"]["vocab"], key=record["model"]["vocab"].get)
    record["model"]["vocab"][word] = 2**31
    (folder / "tokenizer.json").write_text(json.dumps(record), "utf-8")


REFUSED: dict[str, Case] = {
    "code of the configuration": code_of_config,
    "code of the model": code_of_model,
    "code of the tokenizer": code_of_tokenizer,
    "code in another repository": code_elsewhere,
    "kernels from elsewhere": config(_attn_implementation="somebody/kernels:flash"),
    "kernels from elsewhere, nested": config(attn_implementation={"text_config": "somebody/kernels"}),
    "pickle": pickled("pytorch_model.bin"),
    "pickle of another name": pickled("consolidated.00.pth"),
    "several pickles": pickled_index,
    "pickle called safetensors": pickle_called_safetensors,
    "adapter only": adapter_only,
    "adapter and model": adapter,
    "index of pickles": index({"lm_head.weight": "pytorch_model.bin"}),
    "index to outside": index_to_outside,
    "index of numbers": index({"lm_head.weight": 3}),
    "index without files": index([]),
    "index to a missing file": index({"lm_head.weight": "model-1.safetensors"}),
    "distributed checkpoint": lambda folder: (folder / "model.safetensors").rename(
        folder / "shard-00000-model-00001-of-00001.safetensors"
    ),
    "weights named by the configuration": config(transformers_weights="../../outside.safetensors"),
    "cut weights": cut_weights,
    "empty weights": empty_weights,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "header of 2^62 bytes": absurd_header,
    "a tensor is missing": without_a_tensor,
    "no tensors": without_tensors,
    "a tensor too many": with_a_tensor_too_many,
    "a renamed tensor": renamed_tensor,
    "NaN in the weights": weight(float("nan")),
    "infinity in the weights": weight(float("inf")),
    "another size": config(intermediate_size=160),
    "a layer less": config(num_hidden_layers=1),
    "a layer more": config(num_hidden_layers=3),
    "a billion layers": config(num_hidden_layers=10**9),
    "a billion heads": config(num_attention_heads=10**9),
    "width of 2^40": config(hidden_size=2**40),
    "vocabulary of 2^50": config(vocab_size=2**50),
    "intermediate size of 2^60": config(intermediate_size=2**60),
    "negative size": config(hidden_size=-64),
    "size as text": config(hidden_size="sixty-four"),
    "no heads": config(num_attention_heads=0),
    "padding id beyond": config(pad_token_id=10**9),
    "NaN in the configuration": config(rms_norm_eps=float("nan")),
    "deep configuration": nested,
    "configuration that names itself": naming_itself,
    "configuration is a list": text("config.json", "[]"),
    "configuration is no JSON": text("config.json", "{"),
    "configuration of 8 GB": too_large("config.json"),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "unknown architecture": config(model_type="hypothesis"),
    "no architecture": config(model_type=None, architectures=None),
    "architecture is a number": config(model_type=3),
    "an encoder": config(model_type="bert"),
    "an encoder-decoder": config(model_type="t5"),
    "quantisation by pickles": config(quantization_config={"quant_method": "torchao", "quant_type": "os.system"}),
    "tokenizer with more ids": more_ids,
    "tokenizer with ids far away": ids_far_away,
    "tokenizer is no JSON": text("tokenizer.json", "{"),
    "tokenizer is empty": text("tokenizer.json", "{}"),
    "tokenizer of 8 GB": too_large("tokenizer.json"),
    "no tokenizer": lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
    "tokenizer configuration is a list": text("tokenizer_config.json", "[]"),
    "pipe as configuration": pipe("config.json"),
    "pipe as weights": pipe("model.safetensors"),
    "pipe as chat template": pipe("chat_template.jinja"),
    "pipe as generation configuration": pipe("generation_config.json"),
    "link to a device": link("tokenizer.json", "/dev/zero"),
    "link to itself": link("config.json", "config.json"),
    "link to nothing": link("model.safetensors", "nothing"),
    "link to a folder": link("config.json", "/tmp"),
    "empty folder": emptied,
    "a file": a_file,
}

HARMLESS: dict[str, Case] = {
    "unknown quantisation": config(quantization_config={"quant_method": "hypothesis"}),
    "code beside a known model": code_beside_a_known_model,
    "code of generation": code_of_generation,
    "code of a processor": code_of_processor,
    "pickles beside the weights": pickle_beside,
    "links to files": links_to_files,
    "tokenizer file elsewhere": lambda folder: edit(folder, "tokenizer_config.json", tokenizer_file="/dev/zero"),
    "vocabulary file elsewhere": lambda folder: edit(folder, "tokenizer_config.json", vocab_file="/dev/zero"),
    "map of special tokens elsewhere": lambda folder: edit(
        folder, "tokenizer_config.json", special_tokens_map_file="/dev/zero"
    ),
    "configuration that names another model": config(_name_or_path="somebody/elsewhere"),
    "maximum above the number of layers": config(max_window_layers=70),
    "stop tokens beyond": lambda folder: edit(folder, "generation_config.json", eos_token_id=[10**9]),
}
