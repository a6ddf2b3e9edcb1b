"""What a training run is: the fields below are the YAML file, the options of `memspan train` and its help.

Importing this module is cheap, so that the command line can show its help: torch is imported when a run is checked.
"""

import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Union, get_args, get_origin, get_type_hints

import yaml

from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.data.augment import Augment
    from memspan.models.saved import SavedModel
    from memspan.models.scratch import ScratchConfig
    from memspan.tasks import Task

SCRATCH = "scratch"
PRECISIONS = ("fp32", "bf16", "fp16")
TRACKERS = ("tensorboard", "wandb")
DEVICES = ("auto", "cpu")
ATTACKS = ("fgm", "pgd")


def _field(default: Any, panel: str, about: str) -> Any:
    """A field with what the help says of it; `panel` is the heading under which it stands there."""
    metadata = {"panel": panel, "help": about}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Raises UsageError at once for a combination that cannot be.

    The model has either `layers`, spelled out as `ScratchConfig.layers` is, or `depth` layers that are all alike: one
    part that sees the current window, and `mechanism` with its `settings`.
    """

    task: str = _field(MISSING, "Task", "What is asked.")
    task_settings: Mapping[str, Any] = _field({}, "Task", "Settings of the task.")
    data: Sequence[str] = _field([], "Task", "Text files, for a task that reads some.")
    segments: int = _field(5, "Task", "Segments of a stream.")
    curriculum: int | None = _field(
        None, "Task", "Begin with streams of so many segments; one more whenever the task is mastered."
    )
    mastered: float = _field(0.9, "Task", "Accuracy at which the curriculum goes on.")
    augment: Mapping[str, Any] = _field(
        {},
        "Task",
        "Changes of texts to train on, e.g. swap=.1: synonym, insert, swap, delete, context, table, wordnet.",
    )

    begin: str | None = _field(None, "After another run", "Begin with the model in this folder: `best` of that run.")
    rehearse: float = _field(0.0, "After another run", "The part of the batches that are of that run's task.")
    ewc: float = _field(
        0.0, "After another run", "How firmly weights that matter for that task are held (elastic consolidation)."
    )

    model: str = _field(SCRATCH, "Model", "scratch, or a pretrained model: a Hugging Face id, a folder, or smollm2.")
    lora: int | None = _field(
        None, "Model", "Rank of the low-rank changes that a pretrained model learns; 0 leaves it as it is."
    )
    width: int = _field(64, "Model", "Width of the hidden states.")
    depth: int = _field(2, "Model", "Layers, all alike.")
    mechanism: str | None = _field(None, "Model", "The memory mechanism of every layer; none at all by default.")
    settings: Mapping[str, Any] = _field({}, "Model", "Settings of the mechanism.")
    window: int | None = _field(
        None, "Model", "Tokens of the block that attention sees beside the mechanism: a segment by default; 0 is none."
    )
    layers: Sequence[Sequence[Mapping[str, Any]]] = _field(
        [], "Model", "Every layer spelled out, as a list of lists of parts, instead of depth, mechanism and window."
    )
    feedforward: float = _field(4.0, "Model", "Inner width of the feed-forward part as a multiple of the width.")
    residual: str = _field("prenorm", "Model", "prenorm or rezero.")
    dropout: float = _field(0.0, "Model", "After the embedding and in every branch.")
    tied: bool = _field(True, "Model", "Share the weights of embedding and head.")

    rows: int = _field(32, "Optimisation", "Streams of a batch.")
    accumulate: int = _field(1, "Optimisation", "Batches whose gradients are added up before the weights change.")
    steps: int | None = _field(None, "Optimisation", "Changes of the weights at most: 1000 where no time is given.")
    seconds: float | None = _field(None, "Optimisation", "Seconds of CPU time at most.")
    learning_rate: float = _field(2e-3, "Optimisation", "The highest one, after the warm-up.")
    warmup: float = _field(0.05, "Optimisation", "The part of the run in which it rises; then it falls as a cosine.")
    weight_decay: float = _field(0.01, "Optimisation", "Of matrices; vectors do not decay.")
    betas: tuple[float, float] = _field((0.9, 0.98), "Optimisation", "Of AdamW.")
    clip: float | None = _field(1.0, "Optimisation", "The largest norm of all gradients together.")
    truncate: int | None = _field(
        None, "Optimisation", "Segments that gradients go back through; the whole stream by default."
    )
    loss_weight: float = _field(0.1, "Optimisation", "Of the objectives that mechanisms have of their own.")
    label_smoothing: float = _field(
        0.0, "Optimisation", "The part of each target that is spread over the whole vocabulary (Szegedy et al. 2016)."
    )
    adversarial: str | None = _field(
        None, "Optimisation", "Also learn from embeddings changed for the worse: fgm, or in several steps pgd."
    )
    epsilon: float = _field(1.0, "Optimisation", "The norm of that change, of a stream's embedded tokens together.")
    adversarial_steps: int = _field(3, "Optimisation", "Of pgd.")
    consistency: float = _field(
        0.0, "Optimisation", "The weight of two passes' disagreement that dropout causes (R-Drop)."
    )
    average: float | None = _field(
        None, "Optimisation", "Measure and save weights averaged over the steps with this decay, e.g. 0.999."
    )
    precision: str = _field("fp32", "Optimisation", "fp32, bf16 or fp16; fp16 needs a GPU.")

    fsdp: bool = _field(
        False, "Run", "Of several processes, each keeps a part of weights, gradients and optimizer state (FSDP2)."
    )
    seed: int = _field(0, "Run", "Of the weights, the streams and the dropout.")
    device: str = _field("auto", "Run", "auto takes CUDA where there is; or cpu.")
    output: str | None = _field(None, "Run", "The folder of checkpoints and the report.")
    eval_every: int = _field(100, "Run", "Steps between measurements on streams held out; each is a checkpoint.")
    eval_rows: int | None = _field(None, "Run", "Streams of a measurement; as many as a batch has by default.")
    eval_batches: int = _field(1, "Run", "Batches of a measurement.")
    patience: int | None = _field(None, "Run", "Stop after so many measurements without a lower loss.")
    stop_at: float | None = _field(None, "Run", "Stop at this accuracy.")
    tracker: str | None = _field(None, "Run", "Also log to tensorboard or wandb, where it is installed.")

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, _converted(one.name, getattr(self, one.name), _TYPES[one.name]))
        if self.steps is None and self.seconds is None:
            object.__setattr__(self, "steps", 1000)
        self._check_numbers()
        self._check_choices()
        self._check_model()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """The run with these fields. Raises UsageError for one that there is not, naming those that there are."""
        known = [one.name for one in fields(cls)]
        if "task" not in values:
            raise UsageError("A training run needs a `task`.")
        unknown = [name for name in values if name not in known]
        if unknown:
            raise UsageError(f"A training run has no field '{unknown[0]}'. Known: {', '.join(known)}.")
        return cls(**values)

    @classmethod
    def load(cls, path: str | Path, **changes: Any) -> Self:
        """The run that a YAML file describes, with `changes` made to it."""
        return cls.from_mapping({**read_yaml(path), **changes})

    def save(self, path: str | Path) -> None:
        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), "utf-8")

    def to_dict(self) -> dict[str, Any]:
        """All fields, as YAML and JSON know them."""
        return {**asdict(self), "betas": list(self.betas), "layers": [list(layer) for layer in self.layers]}

    def replace(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def same_run(self, other: "TrainConfig") -> bool:
        """Whether both lead to the same weights: where they are put and what is logged does not matter."""
        elsewhere: dict[str, Any] = {"output": None, "tracker": None, "device": DEVICES[0], "fsdp": False}
        return self.replace(**elsewhere).to_dict() == other.replace(**elsewhere).to_dict()

    def make_task(self) -> "Task":
        """The task, always the same one: what it learned from its data, it learned once."""
        if not hasattr(self, "_task"):
            object.__setattr__(self, "_task", self._new_task())
        task: Task = self._task  # type: ignore[attr-defined]
        return task

    def _new_task(self) -> "Task":
        from memspan.tasks import build, task_class

        given: dict[str, Any] = {"data": list(self.data)} if self.data else {}
        if self.model != SCRATCH and not task_class(self.task).is_text:
            raise UsageError(
                f"The streams of the task '{self.task}' hold more than words, for which '{self.model}' has no embeddings: "
                "take a model from scratch."
            )
        if self.model != SCRATCH:
            given["tokenizer"] = self.model
        saved: dict[str, Any] = {}
        if self.begin is not None and "saved" in inspect.signature(task_class(self.task)).parameters:
            saved = {"saved": self.begin}  # the same ids for the same words
        task = build(self.task, **{**saved, **self.task_settings, **given})
        return task if not self.augment else task.augmented(self._changes())

    def _changes(self) -> "Augment":
        from memspan.data.augment import Augment

        known = [name for name in inspect.signature(Augment).parameters if not name.startswith("rewrite")]
        unknown = [name for name in self.augment if name not in known]
        if unknown:
            raise UsageError(f"`augment` has no '{unknown[0]}'. Known: {', '.join(known)}.")
        try:
            return Augment(**self.augment)
        except TypeError as error:
            raise UsageError(f"`augment` cannot be {dict(self.augment)}: shares are numbers.") from error

    def make_model(self, task: "Task") -> "SavedModel":
        """The model before training; its weights come from torch's random numbers, or are pretrained ones."""
        if self.begin is not None:
            from memspan.models.saved import open_model

            model = open_model(self.begin)
            if model.config.vocabulary != task.vocabulary:
                raise UsageError(
                    f"The model in {self.begin} knows {model.config.vocabulary} tokens, but this task has "
                    f"{task.vocabulary}: begin with a model of the same vocabulary."
                )
            return model
        if self.model == SCRATCH:
            from memspan.models.scratch import ScratchModel

            return ScratchModel(self.make_model_config(task))
        from memspan.pretrained.adapt import adapt

        adapted = adapt(self.model, task.vocabulary, self.lora, self.precision, self.mechanism, self.settings)
        if not (adapted.is_generative or task.answer_last):
            raise UsageError(
                f"'{self.model}' is an encoder-decoder, which answers what it has read, and the task '{self.task}' asks no "
                "question: choose a causal model."
            )
        return adapted

    def make_model_config(self, task: "Task") -> "ScratchConfig":
        from memspan.mechanisms import window_only
        from memspan.models.scratch import ScratchConfig

        layers: list[list[Mapping[str, Any]]] = [list(layer) for layer in self.layers]
        if not layers:
            window = task.segment if self.window is None else self.window
            parts: list[Mapping[str, Any]] = [window_only(window)] if window else []
            if self.mechanism is not None:
                parts.append({"name": self.mechanism, **self.settings})
            layers = [parts for _ in range(self.depth)]
        return ScratchConfig(
            vocabulary=task.vocabulary,
            width=self.width,
            layers=layers,
            feedforward=self.feedforward,
            residual=self.residual,
            dropout=self.dropout,
            tie_embeddings=self.tied,
            causal=task.causal,
        )

    def _check_numbers(self) -> None:
        least = {
            "segments": 1, "curriculum": 1, "width": 1, "depth": 1, "window": 0, "feedforward": 0, "dropout": 0,
            "rows": 1, "accumulate": 1, "steps": 1, "warmup": 0, "weight_decay": 0, "truncate": 1, "loss_weight": 0,
            "eval_every": 1, "eval_rows": 1, "eval_batches": 1, "patience": 1, "seed": 0, "adversarial_steps": 1,
            "consistency": 0, "ewc": 0,
        }  # fmt: skip
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and not value >= bound:
                raise UsageError(f"{name}={value} cannot be: it is at least {bound}.")
        for name in ("seconds", "learning_rate", "clip", "epsilon"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name}={value} cannot be: it is above 0.")
        for name in ("mastered", "stop_at", "warmup", "dropout", "label_smoothing", "average", "rehearse"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name}={value} cannot be: it is between 0 and 1.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"betas={self.betas} cannot be: both are at least 0 and below 1.")
        if self.curriculum is not None and self.curriculum > self.segments:
            raise UsageError(
                f"The curriculum begins with {self.curriculum} segments, but the streams have no more than {self.segments}."
            )

    def _check_choices(self) -> None:
        choices = {
            "precision": PRECISIONS,
            "device": DEVICES,
            "tracker": (None, *TRACKERS),
            "adversarial": (None, *ATTACKS),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                names = ", ".join(str(one) for one in known if one is not None)
                raise UsageError(f"There is no {name} '{getattr(self, name)}'. Known: {names}.")
        if self.layers and (self.mechanism is not None or self.window is not None):
            raise UsageError("Give either `layers`, or `mechanism` and `window`: both describe the layers.")
        if self.settings and self.mechanism is None:
            raise UsageError("`settings` are those of a mechanism: name it with `mechanism`.")
        if self.consistency and self.model == SCRATCH and not self.dropout:
            raise UsageError("`consistency` compares two passes that dropout makes differ: set `dropout`.")
        if self.fsdp and (self.ewc or self.consistency or self.adversarial == "pgd"):
            raise UsageError("With `fsdp` there is no `ewc`, no `consistency` and no `pgd`: leave out one of both.")
        if self.begin is None and (self.rehearse or self.ewc):
            raise UsageError("`rehearse` and `ewc` keep what an earlier run learned: name it with `begin`.")
        if "name" in self.settings:
            raise UsageError("The name of the mechanism goes into `mechanism`, not into its settings.")

    def _check_model(self) -> None:
        """Builds task and model once: they know best what cannot be."""
        import torch

        from memspan.models.scratch import ScratchModel, grid

        task = self.make_task()
        if self.model != SCRATCH or self.begin is not None:
            return
        if any("name" not in part for layer in self.layers for part in layer):
            raise UsageError("Every part of `layers` names its mechanism: {name: ..., and its settings}.")
        try:
            with torch.random.fork_rng(devices=[]):
                model = ScratchModel(self.make_model_config(task))
        except (TypeError, ValueError, RuntimeError) as error:  # from within a mechanism or from torch
            raise UsageError(f"No model can be made with these settings: {str(error).splitlines()[0]}.") from error
        pieces = None if self.truncate is None else self.truncate * task.segment
        if pieces is not None and self.truncate < self.segments and pieces % grid(model):  # type: ignore[operator]
            raise UsageError(
                f"truncate={self.truncate} cuts the stream every {pieces} tokens, but the model can be cut only at "
                f"multiples of {grid(model)}."
            )


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UsageError where there is none."""
    try:
        values = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UsageError(f"{path} does not hold fields and their values, like `task: recall`.")
    return values


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["heads=2", "rule=delta"]` -> `{"heads": 2, "rule": "delta"}`: values are read as YAML reads them."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"'{pair}' is no setting: write NAME=VALUE.")
        try:
            values[name] = _number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise UsageError(f"'{pair}' has a value that cannot be read: {' '.join(str(error).split())}") from error
    return values


def default_of(one: "Field[Any]") -> Any:
    """The value of a field that is not given; None where it must be."""
    if one.default_factory is not MISSING:
        return one.default_factory()
    return None if one.default is MISSING else one.default


def _number(value: Any) -> Any:
    """YAML takes 1e-3, without a point, for a text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _converted(name: str, value: Any, wanted: Any) -> Any:
    """`value` as the field's type has it. Raises UsageError where it is of another one."""
    options = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    plain = get_origin(kind) or kind
    if plain is float:
        value = _number(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif plain is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif plain is tuple:
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == len(get_args(kind)):
            return tuple(_converted(name, one, part) for one, part in zip(value, get_args(kind), strict=True))
    elif plain is Mapping or issubclass(plain, Mapping):
        if isinstance(value, Mapping):
            return {key: _number(one) for key, one in value.items()}
    elif issubclass(plain, Sequence) and plain is not str:
        if isinstance(value, str) and get_args(kind) == (str,):
            return [value]
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [_converted(name, one, get_args(kind)[0]) for one in value]
    elif isinstance(value, plain):
        return value
    shown = {"Mapping": "a mapping", "Sequence": "a list", "tuple": "a pair of numbers", "int": "a whole number"}
    shown |= {"float": "a number", "str": "a text", "bool": "true or false"}
    raise UsageError(f"{name}={value!r} cannot be: it is {shown[plain.__name__]}.")


_TYPES = get_type_hints(TrainConfig)
