"""Pretrained models in the place of scratch ones: `(ids, state, logits_to_keep) -> (logits, state)`.

What is learned is little beside what is there already: low-rank changes of the weights (LoRA, Hu et al. 2022), and a head
for the ids that a task adds behind those of the tokenizer. Only that is saved; the base is loaded again by its name.

Letters: B batch, S tokens, D width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.models.saved import KINDS, SavedModel
from memspan.pretrained import hub

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # of the base, by the precision of a run
LONGEST = 512  # tokens that an encoder is given at once, where its configuration does not say


@dataclass(frozen=True)
class PretrainedConfig:
    """A base, and what is put around it.

    Attributes:
        base: its name: `smollm2`, a Hugging Face id, a folder.
        words: ids of its tokenizer.
        extra: ids behind them, which the learned head alone says: a model that has any says nothing else.
        pad: the id that fills rows up on the left.
        answer: the ids between what is read and what should be said.
        before, after: the ids that the model was trained to find around a text.
        reach: tokens that an encoder sees at once, `before` and `after` among them.
        lora: rank of the low-rank changes; None or 0 leaves the base as it is: frozen features.
        dtype: of the base. What is learned is in float32.
        mechanism, settings: the working memory of a causal model, over keys and values; None is memspan's default.
    """

    base: str
    words: int
    extra: int = 0
    pad: int = 0
    answer: Sequence[int] = ()
    before: Sequence[int] = ()
    after: Sequence[int] = ()
    reach: int = LONGEST
    lora: int | None = None
    dtype: str = "float32"
    mechanism: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.words + self.extra


class Pretrained(SavedModel):
    """A pretrained base and what is learned on top of it.

    Attributes:
        auto: the class of transformers that loads the base.
        says_throughout: it says something at every token, not only where an answer begins.
        body: the base, with LoRA in it where there is any.
        head: hidden states (..., D) -> scores (..., `extra`) of the ids behind the tokenizer's; None without any.
    """

    config_class = PretrainedConfig
    auto: ClassVar[str]
    is_generative: ClassVar[bool] = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.body = _load_body(self.auto, config)
        self.body.requires_grad_(False)
        if config.lora:
            _add_lora(self.body, config.lora)
        width = self.body.config.get_text_config().hidden_size
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.extra)) if config.extra else None

    def train(self, mode: bool = True) -> "Pretrained":
        """A base of which nothing is learned has no dropout either."""
        super().train(mode)
        if not self.config.lora:
            self.body.eval()
        return self

    def learned(self) -> dict[str, Tensor]:
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def save_weights(self, path: Path) -> None:
        save_file({name: weight.detach().contiguous() for name, weight in self.learned().items()}, path)

    def load_weights(self, path: Path) -> None:
        kept = load_file(path)
        if kept.keys() != self.learned().keys():
            raise RuntimeError("other weights were learned")
        self.load_state_dict(kept, strict=False)

    def windows(self, texts: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[int]]:
        """Texts (T,) of any lengths, cut into windows framed as an encoder knows texts: ids (W, N), which of them are
        there (W, N) bool, and how many of the W windows each text has."""
        config = self.config
        room, counts, framed = config.reach - len(config.before) - len(config.after), [], []
        for ids in texts:
            parts = torch.split(ids, room)
            counts.append(len(parts))
            framed += [torch.cat([ids.new_tensor(config.before), part, ids.new_tensor(config.after)]) for part in parts]
        filled = pad_sequence(framed, batch_first=True, padding_value=config.pad)
        lengths = filled.new_tensor([len(window) for window in framed])
        return filled, torch.arange(filled.shape[1], device=filled.device) < lengths[:, None], counts

    def begin(self, ids: Tensor) -> int:
        """The first of ids (T,) that is no padding; 0 if all are."""
        return int((ids != self.config.pad).byte().argmax())

    def said(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, D) -> logits (B, S, V) float32 of a model with a head: only `extra` ids can be said."""
        assert self.head is not None
        scores = self.head(hidden.float())
        return torch.cat([scores.new_full((*scores.shape[:2], self.config.words), -torch.inf), scores], 2)


def adapt(
    name: str,
    vocabulary: int,
    lora: int | None = None,
    precision: str = "fp32",
    mechanism: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Pretrained:
    """The pretrained model `name`, to be trained further: a causal LM, an encoder or an encoder-decoder.

    Args:
        vocabulary: V; ids that its tokenizer does not have are said by a head that is learned.
        lora: rank of the changes that are learned; without, only that head is.
        precision: of the run: the base is loaded in fp32, bf16 or fp16.
        mechanism, settings: the working memory of a causal LM.

    Raises:
        UsageError: no such model; an encoder that should write; a working memory that cannot be.
        UnsupportedModel: a causal LM that cannot be given a working memory.
    """
    from transformers import AutoConfig, AutoTokenizer

    place = hub.resolve(name)
    tokenizer = Tokenizer.of_pretrained(place)
    try:
        base = AutoConfig.from_pretrained(place)
        loaded = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise UsageError(hub.cannot_load(name, error)) from error
    kind = kind_of(base)
    extra = vocabulary - tokenizer.size
    if extra < 0:
        raise UsageError(
            f"The task has {vocabulary} different tokens, fewer than the {tokenizer.size} of '{name}': let it take the "
            "model's tokenizer."
        )
    if kind == "pretrained_encoder" and not extra:
        raise UsageError(f"'{name}' is an encoder: it can tell labels apart, but not write; choose a causal model.")
    if kind != "pretrained_causal" and mechanism is not None:
        raise UsageError(f"'{name}' is no causal model, so it takes no working memory: leave out the mechanism.")
    before, after = _frame(loaded)
    limit = getattr(base, "max_position_embeddings", None)
    config = PretrainedConfig(
        base=str(Path(name).resolve()) if Path(name).is_dir() else name,
        words=tokenizer.size,
        extra=extra,
        pad=tokenizer.pad,
        answer=list(tokenizer.answer),
        before=before,
        after=after,
        # RoBERTa's positions begin behind its padding's; two tokens less do no harm to the others.
        reach=min(loaded.model_max_length, LONGEST if limit is None else limit - 2),
        lora=lora,
        dtype=DTYPES[precision],
        mechanism=mechanism,
        settings=dict(settings or {}),
    )
    module, cls = KINDS[kind].split(":")
    model: Pretrained = getattr(import_module(module), cls)(config)
    return model


def kind_of(base: Any) -> str:
    """Which of the kinds of saved models an architecture is, by its transformers configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if base.is_encoder_decoder:
        return "pretrained_seq2seq"
    masked = base.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(base, "is_decoder", False)
    return "pretrained_encoder" if masked else "pretrained_causal"


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special ids that a tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _load_body(auto: str, config: PretrainedConfig) -> Any:
    import transformers

    place = hub.resolve(config.base)
    with hub.quiet():
        try:
            return getattr(transformers, auto).from_pretrained(place, dtype=hub.DTYPES[config.dtype])
        except (OSError, ValueError) as error:
            raise UsageError(hub.cannot_load(config.base, error)) from error


def _add_lora(body: nn.Module, rank: int) -> None:
    """Low-rank changes, in float32, beside every linear map of the base but its head; at first they change nothing."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError("Low-rank changes need PEFT: pip install 'memspan[peft]'.") from error
    if rank < 1:
        raise UsageError(f"lora={rank} cannot be: a rank is at least 1, and 0 is none.")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), body)
    for weight in body.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
