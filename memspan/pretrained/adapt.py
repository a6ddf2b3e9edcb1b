"""Pretrained models adapted to a task: `(ids, state, logits_to_keep) -> (logits, state)`, as models from scratch.

Training changes few weights: low-rank updates (LoRA, Hu et al. 2022), and a head for the ids that a task adds behind those
of the tokenizer. Only these are saved; the base is loaded again by its name.

Letters: B batch, S tokens, D width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.models.saved import SavedModel, model_class
from memspan.plugins import require_installed
from memspan.pretrained import hub, loading

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # precision of a run -> dtype of the base
MAX_WINDOW = 512  # tokens that an encoder reads at once if its configuration has no bound


@dataclass(frozen=True)
class PretrainedConfig:
    """A pretrained base and its adaptation to a task.

    Attributes:
        base: name of the base: `smollm2`, a Hugging Face id, a folder.
        tokenizer_size: number of ids of its tokenizer.
        extra_ids: number of ids behind them, which only the learned head predicts; a model with extra ids predicts no
            others.
        pad: id that fills rows up on the left.
        answer: the answer marker: ids between the prompt and the answer.
        prefix, suffix: ids that the base's tokenizer puts before and after every text.
        window: number of tokens that an encoder reads at once, prefix and suffix included.
        lora: rank of the low-rank updates; None or 0 freezes the base.
        dtype: dtype of the base; learned weights are float32.
        mechanism, settings: working memory of a causal model, a mechanism over keys and values (default: memspan's own).
    """

    base: str
    tokenizer_size: int
    extra_ids: int = 0
    pad: int = 0
    answer: Sequence[int] = ()
    prefix: Sequence[int] = ()
    suffix: Sequence[int] = ()
    window: int = MAX_WINDOW
    lora: int | None = None
    dtype: str = "float32"
    mechanism: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.tokenizer_size + self.extra_ids


class Pretrained(SavedModel):
    """A pretrained base and the weights that are learned on top of it.

    Attributes:
        auto: the class of transformers that loads the base.
        is_generative: it predicts at every token, not only after an answer marker.
        body: the base, with its low-rank updates if there are any.
        head: hidden states (..., D) -> logits (..., extra_ids) of the ids behind the tokenizer's; None without any.
    """

    config_class = PretrainedConfig
    auto: ClassVar[str]
    is_generative: ClassVar[bool] = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        if config.lora:
            require_installed("Low-rank updates (lora) need", "peft")
        self.body = _load_body(self.auto, config)
        self.body.requires_grad_(False)
        if config.lora:
            _add_lora(self.body, config.lora)
        width = self.body.config.get_text_config().hidden_size
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.extra_ids)) if config.extra_ids else None

    def train(self, mode: bool = True) -> "Pretrained":
        """A frozen base stays in evaluation mode, without dropout."""
        super().train(mode)
        if not self.config.lora:
            self.body.eval()
        return self

    @classmethod
    def sized(cls, config: PretrainedConfig, weights: Path) -> Self:
        most = weights.stat().st_size  # bytes: each extra id, and each rank, has weights there
        for name in ("extra_ids", "lora"):
            value = getattr(config, name)
            if value is not None and not (isinstance(value, int) and 0 <= value <= most):
                raise UsageError(
                    f"{name} of config.json must be a number that fits the weights beside it, got {value}."
                )
        return cls(config)

    def learned(self) -> dict[str, Tensor]:
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def save_weights(self, path: Path) -> None:
        save_file({name: weight.detach().contiguous() for name, weight in self.learned().items()}, path)

    def load_weights(self, path: Path) -> None:
        weights = load_file(path)
        if weights.keys() != self.learned().keys():
            raise RuntimeError("other weights were learned")
        self.load_state_dict(weights, strict=False)

    def windows(self, texts: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[int]]:
        """Cut texts (T,) of any lengths into windows, each between the prefix and the suffix of the base's tokenizer.

        Returns the ids (W, N) int64 padded on the right, which of them are no padding (W, N) bool, and how many of the W
        windows each text has.
        """
        config = self.config
        room, counts, windows = config.window - len(config.prefix) - len(config.suffix), [], []
        for ids in texts:
            chunks = torch.split(ids, room)
            counts.append(len(chunks))
            prefix, suffix = ids.new_tensor(config.prefix), ids.new_tensor(config.suffix)
            windows += [torch.cat([prefix, chunk, suffix]) for chunk in chunks]
        padded = pad_sequence(windows, batch_first=True, padding_value=config.pad)
        lengths = padded.new_tensor([len(window) for window in windows])
        return padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None], counts

    def text_start(self, ids: Tensor) -> int:
        """The index of the first of ids (T,) that is no padding; 0 if all are."""
        return int((ids != self.config.pad).byte().argmax())

    def head_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, D) -> logits (B, S, V) float32 by the head; those of the tokenizer's ids are -inf."""
        assert self.head is not None
        logits = self.head(hidden.float())
        return torch.cat([logits.new_full((*logits.shape[:2], self.config.tokenizer_size), -torch.inf), logits], 2)


def adapt(
    name: str,
    vocabulary: int,
    lora: int | None = None,
    precision: str = "fp32",
    mechanism: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Pretrained:
    """The pretrained model `name` (a causal LM, an encoder or an encoder-decoder), ready to be trained on a task.

    Args:
        vocabulary: V; ids that its tokenizer does not have are predicted by a head that is learned.
        lora: rank of the low-rank updates; without them only the head is learned.
        precision: precision of the run, in which the base is loaded: fp32, bf16 or fp16.
        mechanism, settings: the working memory of a causal LM.

    Raises:
        UsageError: no such model; an encoder for a task that generates text; an invalid working memory.
        UnsupportedModel: a causal LM whose attention does not fit.
    """
    base, loaded = hub.config_of(name), hub.tokenizer_of(name)
    tokenizer = Tokenizer.of_pretrained(loaded)
    kind = kind_of(base)
    extra_ids = vocabulary - tokenizer.size
    if extra_ids < 0:
        raise UsageError(
            f"The task's vocabulary must have at least the {tokenizer.size} ids of '{name}', got {vocabulary}: use the "
            "model's tokenizer."
        )
    if kind == "pretrained_encoder" and not extra_ids:
        raise UsageError(f"'{name}' is an encoder, which predicts labels but generates no text: choose a causal model.")
    if kind != "pretrained_causal" and mechanism is not None:
        raise UsageError(f"'{name}' is no causal model, so it takes no working memory: leave out the mechanism.")
    prefix, suffix = _prefix_and_suffix(loaded)
    limit = getattr(base, "max_position_embeddings", None)
    config = PretrainedConfig(
        base=str(Path(name).resolve()) if Path(name).is_dir() else name,
        tokenizer_size=tokenizer.size,
        extra_ids=extra_ids,
        pad=tokenizer.pad,
        answer=list(tokenizer.answer),
        prefix=prefix,
        suffix=suffix,
        # RoBERTa's positions begin behind that of its padding; two tokens less do no harm to the others.
        window=min(loaded.model_max_length, MAX_WINDOW if limit is None else limit - 2),
        lora=lora,
        dtype=DTYPES[precision],
        mechanism=mechanism,
        settings=dict(settings or {}),
    )
    model = model_class(kind)(config)
    assert isinstance(model, Pretrained)
    return model


def kind_of(base: Any) -> str:
    """The kind of saved model for an architecture, by its transformers configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if base.is_encoder_decoder:
        return "pretrained_seq2seq"
    masked = base.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(base, "is_decoder", False)
    return "pretrained_encoder" if masked else "pretrained_causal"


def _prefix_and_suffix(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special ids that a tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(index for index in range(len(whole)) if whole[index : index + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _load_body(auto: str, config: PretrainedConfig) -> Any:
    folder = hub.find(config.base, weights=True).folder
    return loading.load_weights(auto, folder, hub.DTYPES[config.dtype]).model


def _add_lora(body: nn.Module, rank: int) -> None:
    """Add low-rank updates, in float32 and initially zero, to every linear map of the base but its head."""
    from peft import LoraConfig, inject_adapter_in_model

    if rank < 1:
        raise UsageError(f"lora must be a rank of at least 1, or 0 for none, got {rank}.")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), body)
    for weight in body.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
