"""A tiny language model with random weights and a real tokenizer, as a folder: everything but the knowledge."""

import json
import re
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples.logbook.generate import make_logbook
from memspan.data.plain_text import plain_ids
from memspan.pretrained.adapt import adapt
from memspan.pretrained.condenser import Condenser
from memspan.pretrained.latent_fitting import Example, fit_latents
from memspan.tasks.base import IGNORE_INDEX

VOCABULARY = 2000
WINDOW = 2048


def logbook(words: int = 5000, seed: int = 7) -> str:
    """The text of an invented logbook."""
    return make_logbook(words, seed)[0]


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write a Llama of two layers and its byte-level tokenizer to `folder`, as `save_pretrained` does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([logbook()], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def save_tiny_encoder(folder: Path, seed: int = 0, size: int = 32) -> Path:
    """Write a sentence encoder to `folder`, as sentence-transformers does: a BERT of one layer, mean pooling, 40 tokens at once.

    Its vocabulary is written here, not trained: a trainer of WordPiece numbers and chooses the tokens differently in each
    process, and the random vectors with them. It holds the words of the logbook, their pairs of letters, and the letters.
    """
    words = set(re.findall(r"\w+|[^\w\s]", logbook().lower()))
    letters = set("".join(words)) | set(string.ascii_lowercase)
    parts = letters | {word[start : start + 2] for word in words for start in range(len(word) - 1)}
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words | parts), *(f"##{part}" for part in sorted(parts))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=size,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40}), "utf-8")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": size, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    return folder


def save_trained_memory(base: str, folder: Path, **settings: Any) -> Path:
    """Write a causal model with a working memory that has weights of its own, random ones, to `folder`, as a run does."""
    torch.manual_seed(0)
    model = adapt(base, len(AutoTokenizer.from_pretrained(base)), mechanism="gist", settings=settings)
    with torch.no_grad():
        for weight in model.learned().values():
            weight += torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def save_codec(base: str | Path, run: Path, text: str) -> Path:
    """Write the codec of latents of the trained memory in `run`, of the causal model `base`, by a text that it reads."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = plain_ids(tokenizer, text)
    texts = [ids[start : start + 64] for start in range(0, min(len(ids), 2048) - 63, 64)]
    examples = [Example(ids, [(ids[:8], [*ids[1:8], IGNORE_INDEX])]) for ids in texts]
    condenser = Condenser(LlamaForCausalLM.from_pretrained(base).eval(), (), run)
    return fit_latents(condenser, tokenizer, examples, run, directions=32, bits=4)
