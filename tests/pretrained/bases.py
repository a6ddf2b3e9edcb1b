"""Tiny pretrained models of three kinds, as folders: the fixture `bases` of the whole suite."""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from memspan.tasks.text.classification import Classification

SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def save(model: PreTrainedModel, folder: Path, frame: str) -> str:
    """A tiny model and a byte-level tokenizer that puts texts into a `frame`, as `save_pretrained` writes them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((record["text"] for record in Classification.sample(200)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(frame, special_tokens=[("<s>", 2), ("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", model_max_length=64
    )
    fast.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


def save_bases(new_folder: Callable[[str], Path]) -> dict[str, str]:
    """Folders of a tiny causal model, encoder and encoder-decoder with random weights, by these names."""
    torch.manual_seed(0)
    made = {
        "causal": (LlamaForCausalLM(LlamaConfig(**SIZES, max_position_embeddings=256)), "<s> $A"),
        "encoder": (BertModel(BertConfig(**SIZES, max_position_embeddings=66)), "<s> $A </s>"),
        "seq2seq": (
            T5ForConditionalGeneration(
                T5Config(
                    vocab_size=400, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
                )
            ),
            "$A </s>",
        ),
    }
    return {name: save(model, new_folder(name), frame) for name, (model, frame) in made.items()}
