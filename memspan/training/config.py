"""What a training run is: groups of options, which are the sections of a YAML file, the options of `memspan train` and
its help.

A configuration is a plain value. Making or comparing one reads no data and builds no model; `memspan.training.build`
does that. Importing this module is cheap, so that the command line can show its help.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from memspan.errors import UsageError
from memspan.training.options import OptionGroup, option, option_name, option_type, read_yaml, shown

SCRATCH = "scratch"
RECOMMENDER = "recommender"  # a model that is fitted at once, on items and their texts
PRECISIONS = ("fp32", "bf16", "fp16", "auto")
TRACKERS = ("tensorboard", "wandb")
DEVICES = ("auto", "cpu")
ATTACKS = ("fgm", "pgd")


@dataclass(frozen=True)
class TaskOptions(OptionGroup):
    """The task, its data, and the length of its streams."""

    name: str = option(MISSING, "Name of the task.", name="task")
    settings: Mapping[str, Any] = option({}, "Settings of the task.", name="task_settings")
    data: Sequence[str] = option([], "Data files to train on; most tasks generate a small sample without any.")
    segments: int = option(5, "Number of segments per stream.", at_least=1)
    curriculum: int | None = option(
        None,
        "Number of segments per stream at the start; one more each time `curriculum_accuracy` is reached.",
        at_least=1,
    )
    curriculum_accuracy: float = option(
        0.9, "Training accuracy at which the curriculum adds a segment.", at_least=0, at_most=1
    )
    augment: Mapping[str, Any] = option(
        {},
        "Random changes of the training texts, as shares of their words, e.g. swap=.1: synonym, insert, swap, delete, "
        "context, table, wordnet.",
    )


@dataclass(frozen=True)
class ModelOptions(OptionGroup):
    """The model. It has either `layers`, spelled out as `ScratchConfig.layers` is, or `depth` equal layers: attention
    over the current window, and `mechanism` with its settings."""

    name: str = option(
        SCRATCH,
        "Model to train: scratch, recommender, or a pretrained one (a Hugging Face id, a folder, or smollm2).",
        name="model",
    )
    mechanism: str | None = option(None, "Memory mechanism of every layer (default: none, the window alone).")
    mechanism_settings: Mapping[str, Any] = option({}, "Settings of the mechanism.")
    width: int = option(64, "Width of the hidden states.", at_least=1)
    depth: int = option(2, "Number of layers.", at_least=1)
    window: int | None = option(
        None,
        "Tokens of the block that attention sees beside the mechanism (default: a segment; 0: no attention).",
        at_least=0,
    )
    layers: Sequence[Sequence[Mapping[str, Any]]] = option(
        [], "Every layer as a list of mechanisms with settings, instead of `depth`, `mechanism` and `window`."
    )
    lora: int | None = option(
        None, "Rank of the low-rank adapters of a pretrained model; 0 keeps its weights frozen.", at_least=0
    )
    features: Sequence[str] = option(
        [],
        "Kinds of features of a classifier that is fitted at once, with a pretrained model: words, characters, states, "
        "sentences, or auto for those that suit the texts.",
    )
    extract: bool = option(
        False,
        "Answer or summarise with words of the text, which a pretrained model helps to choose, rather than write any.",
    )
    feedforward: float = option(4.0, "Inner width of the feed-forward layers, as a multiple of `width`.", at_least=0)
    residual: str = option("prenorm", "Residual connections: prenorm or rezero.")
    dropout: float = option(0.0, "Dropout probability behind the embedding and in every branch.", at_least=0, at_most=1)
    tie_embeddings: bool = option(True, "Share the weights of the embedding and the output layer.")


@dataclass(frozen=True)
class OptimisationOptions(OptionGroup):
    """The optimizer and the length of the run."""

    steps: int | None = option(None, "Maximum optimizer steps (default: 1000 if `seconds` is not set).", at_least=1)
    seconds: float | None = option(None, "Maximum CPU time in seconds (default: no limit).", above=0)
    batch_size: int = option(32, "Number of streams per batch.", at_least=1)
    gradient_accumulation: int = option(1, "Number of batches per optimizer step.", at_least=1)
    learning_rate: float = option(2e-3, "Peak learning rate of AdamW.", above=0)
    warmup: float = option(
        0.05, "Share of the run in which the learning rate rises; it then falls as a cosine.", at_least=0, at_most=1
    )
    weight_decay: float = option(0.01, "Weight decay of matrices; vectors have none.", at_least=0)
    betas: tuple[float, float] = option((0.9, 0.98), "AdamW betas.")
    max_grad_norm: float | None = option(1.0, "Maximum norm of all gradients together.", above=0)
    bptt_segments: int | None = option(
        None, "Segments that gradients flow back through (default: the whole stream).", at_least=1
    )
    auxiliary_loss_weight: float = option(0.1, "Weight of the losses that mechanisms have of their own.", at_least=0)
    precision: str = option(
        "fp32",
        "Precision: fp32, bf16, fp16 (needs a GPU), or auto: what the hardware computes in fastest.",
        choices=PRECISIONS,
    )
    compile: bool = option(
        False, "Compile the model (torch.compile): first steps take up to minutes longer, later ones less time."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is None and self.seconds is None:
            object.__setattr__(self, "steps", 1000)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"betas must both be at least 0 and below 1, got {self.betas}.")


@dataclass(frozen=True)
class RegularisationOptions(OptionGroup):
    """What keeps a small model from learning its texts by heart."""

    label_smoothing: float = option(
        0.0,
        "Share of each target's probability that is spread over the vocabulary (Szegedy et al. 2016).",
        at_least=0,
        at_most=1,
    )
    adversarial: str | None = option(
        None, "Training on perturbed embeddings: fgm, or in several steps pgd (default: none).", choices=ATTACKS
    )
    adversarial_epsilon: float = option(
        1.0, "Norm of the perturbation of a stream's embedded tokens together.", above=0
    )
    adversarial_steps: int = option(3, "PGD search steps.", at_least=1)
    rdrop: float = option(0.0, "Weight of the divergence between two passes with dropout (R-Drop).", at_least=0)
    ema_decay: float | None = option(
        None,
        "Decay of the moving average of the weights that is measured and saved, e.g. 0.999 (default: no average).",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class ContinualOptions(OptionGroup):
    """How a run goes on from the model of an earlier one."""

    init_from: str | None = option(None, "Folder of the model to start from: `best` of an earlier run.")
    replay: float = option(0.0, "Share of the batches drawn from the earlier run's task.", at_least=0, at_most=1)
    ewc: float = option(
        0.0, "Weight of the penalty on changing what the earlier task needs (elastic weight consolidation).", at_least=0
    )


@dataclass(frozen=True)
class RunOptions(OptionGroup):
    """Where and how a run is carried out, measured and stopped."""

    output: str | None = option(None, "Folder of the checkpoints and the report (default: nothing is written).")
    seed: int = option(0, "Random seed of weights, streams and dropout.", at_least=0)
    device: str = option("auto", "Device: auto (CUDA if there is any) or cpu.", choices=DEVICES)
    fsdp: bool = option(False, "Divide weights, gradients and optimizer state among the processes of the run (FSDP2).")
    eval_every: int = option(100, "Steps between measurements on held-out streams; each is a checkpoint.", at_least=1)
    eval_batch_size: int | None = option(
        None, "Number of streams per evaluation batch (default: `batch_size`).", at_least=1
    )
    eval_batches: int = option(1, "Number of evaluation batches per measurement.", at_least=1)
    patience: int | None = option(
        None, "Measurements without a lower held-out loss after which the run stops (default: no limit).", at_least=1
    )
    target_accuracy: float | None = option(
        None, "Held-out accuracy at which the run stops (default: none).", at_least=0, at_most=1
    )
    tracker: str | None = option(
        None, "Experiment tracker to log to: tensorboard or wandb (default: none).", choices=TRACKERS
    )


# What may differ between two configurations of the same run: where it is carried out and what it writes.
ELSEWHERE = ("output", "tracker", "device", "fsdp")


class Option(NamedTuple):
    """An option of a run: its name among all, the section it stands in, its field and its type."""

    name: str
    section: str
    field: "Field[Any]"
    type: Any


@dataclass(frozen=True)
class TrainConfig:
    """One training run: a value made of groups of options.

    `TrainConfig.of(task="recall", steps=100)` takes options by name, whatever group they are in. Raises UsageError for an
    unknown option, a value out of bounds, or options that do not go together.
    """

    task: TaskOptions
    model: ModelOptions = field(default_factory=ModelOptions)
    optimisation: OptimisationOptions = field(default_factory=OptimisationOptions)
    regularisation: RegularisationOptions = field(default_factory=RegularisationOptions)
    continual: ContinualOptions = field(default_factory=ContinualOptions)
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        _check_streams_and_layers(self)
        _check_combinations(self)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The run with these options, by name."""
        return cls.from_mapping(nested(options))

    @classmethod
    def from_mapping(cls, sections: Mapping[str, Any]) -> Self:
        """The run that a YAML file's mapping of sections describes. Raises UsageError for unknown sections or options."""
        unknown = [name for name in sections if name not in SECTIONS]
        if unknown:
            raise UsageError(f"A training run has no section '{unknown[0]}'. Sections: {', '.join(SECTIONS)}.")
        groups: dict[str, Any] = {}
        for section, group in SECTIONS.items():
            values = {} if sections.get(section) is None else sections[section]
            if not isinstance(values, Mapping):
                raise UsageError(f"The section `{section}` must hold options and their values, got {shown(values)}.")
            names = [item.name for item in fields(group)]
            wrong = [name for name in values if name not in names]
            if wrong:
                raise UsageError(f"The section `{section}` has no option '{wrong[0]}'. Options: {', '.join(names)}.")
            if section == "task" and "name" not in values:
                raise UsageError("A training run needs a `task`.")
            groups[section] = group(**values)
        return cls(**groups)

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Self:
        """The run that a YAML file describes, with these `options` instead of its own."""
        return cls.from_mapping(merged(read_yaml(path), nested(options)))

    def save(self, path: str | Path) -> None:
        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), "utf-8")

    def to_dict(self) -> dict[str, Any]:
        """The sections with all their options, as YAML and JSON know them."""
        sections = asdict(self)
        sections["optimisation"]["betas"] = list(self.optimisation.betas)
        sections["model"]["layers"] = [list(layer) for layer in self.model.layers]
        return sections

    def options(self) -> dict[str, Any]:
        """All options by name."""
        return {item.name: getattr(getattr(self, item.section), item.field.name) for item in all_options()}

    @property
    def is_fitted(self) -> bool:
        """Whether the model is fitted at once, without steps."""
        return bool(self.model.features) or self.model.name == RECOMMENDER

    def replace(self, **options: Any) -> Self:
        """The same run with these options, by name."""
        groups = {name: replace(getattr(self, name), **values) for name, values in nested(options).items()}
        return replace(self, **groups)

    def same_run(self, other: "TrainConfig") -> bool:
        """Whether both lead to the same weights: where they are carried out and what they write does not matter."""
        return not self.differences(other)

    def differences(self, other: "TrainConfig") -> list[str]:
        """The names of the options in which two runs differ, but for those that do not change the weights."""
        mine, theirs = self.options(), other.options()
        return [name for name in mine if mine[name] != theirs[name] and name not in ELSEWHERE]


SECTIONS: dict[str, type[OptionGroup]] = {
    "task": TaskOptions,
    "model": ModelOptions,
    "optimisation": OptimisationOptions,
    "regularisation": RegularisationOptions,
    "continual": ContinualOptions,
    "run": RunOptions,
}


def all_options() -> Iterator[Option]:
    """The options of all sections, in order."""
    for section, group in SECTIONS.items():
        for item in fields(group):
            yield Option(option_name(item), section, item, option_type(group, item))


def nested(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by name as sections: `{"steps": 9}` -> `{"optimisation": {"steps": 9}}`. Raises UsageError for unknown ones."""
    known = {item.name: item for item in all_options()}
    sections: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"A training run has no option '{name}'. Options: {', '.join(known)}.")
        sections.setdefault(known[name].section, {})[known[name].field.name] = value
    return sections


def merged(sections: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The sections of a file with changes made to single options of them."""
    names = [*sections, *(name for name in changes if name not in sections)]
    both = {name: (sections.get(name) or {}, changes.get(name, {})) for name in names}
    return {name: {**old, **new} if isinstance(old, Mapping) else old for name, (old, new) in both.items()}


def _check_streams_and_layers(config: TrainConfig) -> None:
    task, model = config.task, config.model
    if task.curriculum is not None and task.curriculum > task.segments:
        raise UsageError(f"curriculum must be at most `segments`, {task.segments}, got {task.curriculum}.")
    if model.layers and (model.mechanism is not None or model.window is not None):
        raise UsageError("Give either `layers`, or `mechanism` and `window`: both describe the layers.")
    if any("name" not in part for layer in model.layers for part in layer):
        raise UsageError("Every part of `layers` must name its mechanism: {name: ..., and its settings}.")
    if model.mechanism_settings and model.mechanism is None:
        raise UsageError("`mechanism_settings` are those of a mechanism: name it with `mechanism`.")
    if "name" in model.mechanism_settings:
        raise UsageError("The name of the mechanism goes into `mechanism`, not into `mechanism_settings`.")


def _check_combinations(config: TrainConfig) -> None:
    regularisation, continual = config.regularisation, config.continual
    if regularisation.rdrop and config.model.name == SCRATCH and not config.model.dropout:
        raise UsageError("`rdrop` compares two passes that dropout makes differ: set `dropout`.")
    if config.model.features and (config.model.name in (SCRATCH, RECOMMENDER) or config.model.lora is not None):
        raise UsageError(
            "`features` are those of a frozen pretrained model: name it with `model`, and leave out `lora`."
        )
    if config.model.extract and (
        config.model.name == SCRATCH or config.model.lora is not None or config.model.features
    ):
        raise UsageError(
            "`extract` reads with a pretrained model as it is: name it with `model`, and leave out `lora` and `features`."
        )
    if config.run.fsdp and (continual.ewc or regularisation.rdrop or regularisation.adversarial == "pgd"):
        raise UsageError("`fsdp` does not go together with `ewc`, `rdrop` or `pgd`: leave out one of the two.")
    if config.optimisation.compile and (config.run.fsdp or regularisation.adversarial):
        raise UsageError("`compile` does not go together with `fsdp` or `adversarial`: leave out one of the two.")
    if continual.init_from is None and (continual.replay or continual.ewc):
        raise UsageError("`replay` and `ewc` keep what an earlier run learned: name its model with `init_from`.")
