"""The task and the model that a configuration or a checkpoint describes."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from memspan.data.augment import Augment
from memspan.data.tokenizer import FILE as TOKENIZER
from memspan.errors import UsageError
from memspan.mechanisms import OVER_TURNS, window_only
from memspan.models.folders import beside_weights, read_whole, verify
from memspan.models.saved import SavedModel, check_holds, model_class, naming_plugins, open_model
from memspan.models.scratch import ScratchConfig, ScratchModel, grid
from memspan.plugins import require_installed
from memspan.tasks import Labelled, Task, build, settings_of, task_class
from memspan.training.config import RECOMMENDER, SCRATCH, TrainConfig
from memspan.training.options import read_yaml
from memspan.training.precision import precision_of

if TYPE_CHECKING:
    from memspan.assistant.extracts.model import ExtractiveModel
    from memspan.assistant.language_model import LanguageModel
    from memspan.pretrained.features import Sources

CONFIG = "config.yaml"  # the configuration of the run, in the folder of the model that came of it


def build_task(config: TrainConfig) -> Task:
    """The task of a run; reads its data. Raises UsageError for a task, settings or data that do not suit."""
    name = config.task.name
    cls = task_class(name)
    require_installed(f"The task '{name}' needs", *cls.packages)
    settings: dict[str, Any] = {"data": list(config.task.data)} if config.task.data else {}
    if config.model.name not in (SCRATCH, RECOMMENDER):
        if not cls.is_text:
            raise UsageError(
                f"The streams of the task '{name}' hold more than words, for which '{config.model.name}' has no embeddings: "
                "take a model from scratch."
            )
        settings["tokenizer"] = config.model.name
    if config.continual.init_from is not None and learns(name):  # the same ids per word
        learned_before = {**config.task.settings, **settings}
        task = read_whole(
            Path(config.continual.init_from), lambda folder: build(name, **{"saved": str(folder), **learned_before})
        )
    else:
        task = build(name, **{**config.task.settings, **settings})
    return task if not config.task.augment else task.augmented(_augmentation(config.task.augment))


def _augmentation(shares: Mapping[str, Any]) -> Augment:
    names = [name for name in inspect.signature(Augment).parameters if not name.startswith("rewrite")]
    unknown = [name for name in shares if name not in names]
    if unknown:
        raise UsageError(f"`augment` has no '{unknown[0]}'. Known: {', '.join(names)}.")
    try:
        return Augment(**shares)
    except TypeError as error:
        raise UsageError(f"`augment` must map names to shares between 0 and 1, got {dict(shares)}.") from error


def build_model(config: TrainConfig, task: Task, weights: Path | None = None) -> SavedModel:
    """The model before training. Weights come from torch's random numbers, or are pretrained ones.

    Args:
        weights: a file whose weights the model is going to have; a configuration of far more is refused.
    """
    if config.continual.init_from is not None:
        model = open_model(config.continual.init_from)
        if model.config.vocabulary != task.vocabulary:
            raise UsageError(
                f"The model in {config.continual.init_from} has a vocabulary of {model.config.vocabulary} tokens, but this "
                f"task has {task.vocabulary}: start from a model of the same vocabulary."
            )
        return model
    if config.model.name == RECOMMENDER:
        from memspan.training.recommending import build_recommender

        return build_recommender(task)
    if config.model.name == SCRATCH:
        if task.learned_by is not None:
            raise UsageError(
                f"The task '{config.task.name}' needs a pretrained model, whose states it reads: name it, as in --model smollm2."
            )
        try:
            described = model_config(config, task)
            return ScratchModel(described) if weights is None else ScratchModel.sized(described, weights)
        except (TypeError, ValueError, RuntimeError) as error:  # from within a mechanism or from torch
            raise UsageError(f"No model can be made with these settings: {str(error).splitlines()[0]}.") from error
    return _pretrained_model(config, task, weights)


def _pretrained_model(config: TrainConfig, task: Task, weights: Path | None) -> SavedModel:
    """A pretrained model that is to be trained on the task, or a classifier over features of one."""
    from memspan.pretrained.adapt import adapt

    options = config.model
    if options.features:
        return (_reply_ranker if task.fitted_by == "reply_ranker" else _feature_classifier)(config, task)
    if isinstance(task, Labelled) and task.learned_by is not None:
        raise UsageError(f"The task '{config.task.name}' is fitted on features: name them, as in --features auto.")
    if options.extract:
        return build_extractive(config, task)
    if weights is not None and (options.lora or 0) > weights.stat().st_size:
        raise UsageError(f"lora must be a rank that fits the weights in {weights}, got {options.lora}.")
    if task.learned_by == "pretrained_vectors":
        from memspan.pretrained.text_vectors import adapt_vectors

        return adapt_vectors(options.name, precision_of(config), lora=options.lora)
    adapted = adapt(
        options.name,
        task.vocabulary,
        options.lora,
        precision_of(config),
        *_working_memory(config, task),
    )
    if task.learned_by not in (None, adapted.kind):
        raise UsageError(f"The task '{config.task.name}' needs a causal language model, got '{options.name}'.")
    if not (adapted.is_generative or task.answer_last):
        raise UsageError(
            f"'{options.name}' is an encoder-decoder, which answers behind what it has read, and the task "
            f"'{config.task.name}' asks no question there: choose a causal model."
        )
    return adapted


def _feature_classifier(config: TrainConfig, task: Task) -> SavedModel:
    from memspan.pretrained.feature_classifier import FeatureClassifierConfig

    sources, kind = sources_of(config), model_class(task.fitted_by or "feature_classifier")
    return kind(
        FeatureClassifierConfig(  # which class is outside of all others, `fit` adds
            base=sources.base,
            tokenizer_size=task.vocabulary - task.classes,
            classes=task.classes,
            features=list(config.model.features),
            encoder=sources.encoder,
            dtype=sources.dtype,
        )
    )


def _reply_ranker(config: TrainConfig, task: Task) -> SavedModel:
    from memspan.pretrained.reply_ranker import ReplyRanker, ReplyRankerConfig

    options, sources = config.model, sources_of(config)
    return ReplyRanker(
        ReplyRankerConfig(
            base=sources.base,
            tokenizer_size=task.vocabulary,
            features=list(options.features),
            encoder=sources.encoder,
            dtype=sources.dtype,
            mechanism=options.mechanism or OVER_TURNS,
            mechanism_settings=dict(options.mechanism_settings),
            width=options.width,
            window=options.window,
            dropout=options.dropout,
        )
    )


def sources_of(config: TrainConfig) -> "Sources":
    """The pretrained models that the features of a classifier are computed with."""
    from memspan.pretrained import encoders
    from memspan.pretrained.adapt import DTYPES
    from memspan.pretrained.features import Sources

    encoder = encoders.chosen(encoders.AUTO)
    return Sources(
        base=_base(config),
        dtype=DTYPES[precision_of(config)],
        encoder=encoders.DEFAULT if encoder == encoders.AUTO else encoder,
    )


def _working_memory(config: TrainConfig, task: Task) -> tuple[str | None, Mapping[str, Any]]:
    """The mechanism of a pretrained model and its settings: the run's, beside those that its task has for this mechanism."""
    name, chosen, default = config.model.mechanism, config.model.mechanism_settings, task.working_memory
    if default is None or name not in (None, default["name"]):
        return name, chosen
    settings = {**default, **chosen}
    return settings.pop("name"), settings


def _base(config: TrainConfig) -> str:
    """The name of a run's pretrained model, that of a folder as an absolute path."""
    name = config.model.name
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def build_extractive(config: TrainConfig, task: Task, lm: "LanguageModel | None" = None) -> "ExtractiveModel":
    """The extractive model of a run, not fitted yet; `lm` is its language model where that is loaded already.

    Raises UsageError for a task whose answers are no words of its texts.
    """
    from memspan.assistant.extracts.model import ExtractiveConfig, ExtractiveModel
    from memspan.pretrained.adapt import DTYPES

    extract, length = task.extract_of()
    described = ExtractiveConfig(
        extract=extract,
        length=length,
        base=_base(config),
        vocabulary=task.vocabulary,
        dtype=DTYPES[precision_of(config)],
        device=None if config.run.device == "auto" else config.run.device,
    )
    return ExtractiveModel(described, lm)


def model_config(config: TrainConfig, task: Task) -> ScratchConfig:
    """The configuration of a model from scratch."""
    options = config.model
    layers: list[list[Mapping[str, Any]]] = [list(layer) for layer in options.layers]
    if not layers:
        window = task.segment if options.window is None else options.window
        parts: list[Mapping[str, Any]] = [window_only(window)] if window else []
        if options.mechanism is not None:
            parts.append({"name": options.mechanism, **options.mechanism_settings})
        layers = [parts for _ in range(options.depth)]
    return ScratchConfig(
        vocabulary=task.vocabulary,
        width=options.width,
        layers=layers,
        feedforward=options.feedforward,
        residual=options.residual,
        dropout=options.dropout,
        tie_embeddings=options.tie_embeddings,
        causal=task.causal,
        padding=task.padding,
    )


def check_run(config: TrainConfig, task: Task, model: SavedModel) -> None:
    """Raises UsageError where nothing of the model would be learned, or it cannot be cut where the run cuts streams."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(
            f"Nothing of '{config.model.name}' would be learned: set `lora` to a rank like 8, which adds adapters."
        )
    segments = config.optimisation.bptt_segments
    if segments is None or segments >= config.task.segments:
        return
    length = segments * task.segment
    if length % grid(model):
        raise UsageError(
            f"bptt_segments={segments} cuts streams every {length} tokens, but this model can be cut only at multiples of "
            f"{grid(model)} tokens."
        )


def count_parameters(config: TrainConfig, task: Task) -> int:
    """The number of weights of a model from scratch, built for it and dropped."""
    with torch.random.fork_rng(devices=[]):
        return sum(weight.numel() for weight in ScratchModel(model_config(config, task)).parameters())


def task_of_checkpoint(checkpoint: Path, name: str | None = None, settings: dict[str, Any] | None = None) -> Task:
    """The task that the model in `checkpoint` was trained for, or the one called `name`; `settings` replace single ones."""
    with naming_plugins(checkpoint):
        return read_whole(checkpoint, lambda version: _task_of(version, name, settings))


def _task_of(checkpoint: Path, name: str | None, settings: dict[str, Any] | None) -> Task:
    learned = {"saved": str(checkpoint)} if (checkpoint / TOKENIZER).is_file() else {}
    if not (checkpoint / CONFIG).is_file():
        if name is None:
            raise UsageError(f"{checkpoint} holds no {CONFIG} that names the model's task: name a task.")
        return build(name, **(settings or {}), **learned)
    values = read_run(checkpoint)
    trained_for = trained_task(values)
    if name is not None and name != trained_for:
        if learned or learns(name):
            raise UsageError(f"{checkpoint} was trained for {trained_for}, not for {name}.")
        return build(name, **(settings or {}))
    config = config_of(checkpoint, values)
    if learns(config.task.name):
        check_holds(checkpoint, TOKENIZER)
    changes = {**config.task.settings, **(settings or {}), **learned}
    return build_task(config.replace(data=changes.pop("data", config.task.data), task_settings=changes))


def read_run(checkpoint: Path) -> dict[str, Any]:
    """The sections of a checkpoint's configuration. Raises DamagedFolder where a small file is not as it was written."""
    verify(checkpoint, beside_weights)
    return read_yaml(checkpoint / CONFIG)


def trained_task(sections: Mapping[str, Any]) -> str | None:
    """The name of the task in the sections of a configuration."""
    task = sections.get("task")
    return task.get("name") if isinstance(task, Mapping) else None


def learns(task: str) -> bool:
    """Whether a task learns from its data what tokens mean."""
    return "saved" in settings_of(task)


def config_of(checkpoint: Path, sections: Mapping[str, Any]) -> TrainConfig:
    """The run of a checkpoint. Raises UsageError that names its file."""
    try:
        return TrainConfig.from_mapping(sections)
    except UsageError as error:
        raise UsageError(f"{checkpoint / CONFIG} cannot be used: {error}") from error
