"""Options: typed, frozen values that say how a component or a training run behaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from mlclf.exceptions import OptionsError
from mlclf.hints import did_you_mean
from mlclf.uses import Uses


class Options(BaseModel):
    """Base of all options: frozen, unknown names refused, usable inside scikit-learn.

    Subclass it beside the component that it configures and set ``component`` to the component's
    registered name (``"lora"``, ``"acme:attention"``): an options object then says by itself which
    component is meant.

    Attributes
    ----------
    component : str
        Registered name of the component; must be set.
    model_config : dict
        How pydantic reads values; leave it as it is.

    Examples
    --------
    >>> from mlclf.options import Options
    >>> class NoiseOptions(Options):
    ...     component = "acme:noise"
    ...     rate: float = 0.1
    >>> NoiseOptions(rate=0.2).get_params()
    {'rate': 0.2}
    """

    component: ClassVar[str] = ""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False, protected_namespaces=())

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise OptionsError(_explain(type(self), error)) from error

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the options as a dictionary of name and value (scikit-learn's protocol)."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed; the values are checked by :meth:`validated`, not here.

        Checking is left to ``fit`` because a search over many values must be able to give one bad
        candidate a failed score instead of stopping as a whole.

        Raises
        ------
        OptionsError
            If a name is not an option of this class.
        """
        unknown = sorted(set(changes) - set(type(self).model_fields))
        if unknown:
            raise OptionsError(_no_option(type(self), unknown[0]))
        return self.model_copy(update=changes)

    def validated(self) -> Self:
        """Return an equal object whose values have all been checked.

        Raises
        ------
        OptionsError
            If a value breaks the rule of its option.
        """
        return type(self)(**self.get_params())

    def __sklearn_clone__(self) -> Self:
        return self


class NamedOptions(Options):
    """Base of options that stand inside other options: they are written with the name of their component.

    Options of losses, calibrators and augmentations extend it. Where they are saved or written as JSON they are
    ``{"name": "acme:soft-f1", "beta": 2.0}``, so that the reader knows whose options they are. A base class of all
    options of one kind says so in ``kind``.

    Attributes
    ----------
    kind : str
        Kind of the component where a base class is that of one kind, as ``LossOptions`` is; otherwise empty.

    Examples
    --------
    >>> from mlclf.options import NamedOptions
    >>> class TyposOptions(NamedOptions):
    ...     component = "acme:typos"
    ...     rate: float = 0.1
    >>> TyposOptions().model_dump()
    {'name': 'acme:typos', 'rate': 0.1}
    >>> TyposOptions(name="acme:typos", rate=0.2)
    TyposOptions(rate=0.2)
    """

    kind: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _without_name(cls, values: Any) -> Any:
        """Take the name of the component out of values as they are written, and refuse that of another one."""
        if not isinstance(values, dict) or "name" not in values:
            return values
        if values["name"] != cls.component:
            raise ValueError(f"name must be {cls.component!r}, got {values['name']!r}")
        return {key: value for key, value in values.items() if key != "name"}

    @model_serializer(mode="wrap")
    def _with_name(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        return {"name": type(self).component, **handler(self)}


def _no_option(cls: type[Options], name: str) -> str:
    known = sorted(cls.model_fields)
    return f"{cls.__name__} has no option {name!r}.{did_you_mean(name, known)} It has: {', '.join(known)}."


def _explain(cls: type[Options], error: ValidationError) -> str:
    """Turn pydantic's report into sentences that name option, value, rule and the known options."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(_no_option(cls, name))
        else:
            # pydantic puts this before what a validator raised, which is a sentence of our own.
            rule = item["msg"].removeprefix("Value error, ").removesuffix(".")
            rule = rule.replace("Input should", "input should", 1)
            lines.append(f"{cls.__name__}({name}={item['input']!r}): {rule}.")
    return "\n".join(lines)


# A synonym is written into a text as it is; a word to be replaced is one word of a text.
_Phrase = Annotated[str, StringConstraints(pattern=r"\S")]
_Word = Annotated[str, StringConstraints(pattern=r"^\S+$")]


class AugmentationOptions(NamedOptions):
    """How training texts are changed anew in every epoch; validation texts never are.

    Everything is off until its share is above 0. What is drawn depends on seed and epoch only.

    Parameters
    ----------
    replacement : float
        Share of the words that are replaced (Wei and Zou 2019, arXiv:1901.11196): by a synonym where ``synonyms`` has
        one; without ``synonyms`` uninformative words, by uninformative words of the training texts (Xie et al. 2020,
        arXiv:1904.12848).
    synonyms : dict of str to list of str, or None
        Words, in lower case or not, with what may stand in their place.
    swap : float
        Share of the words that change places with another word of their text (Wei and Zou 2019).
    deletion : float
        Share of the words that are deleted (Wei and Zou 2019); one word of a text always stays.
    masking : float
        Share of the tokens that are hidden, in spans, behind the tokenizer's mask token (Joshi et al. 2020,
        arXiv:1907.10529); one token of a text always stays.
    masking_span : float
        Mean length of such a span in tokens.
    mixing : float
        Share of the texts that another training text is appended to; the labels of both apply.
    back_translation : str or None
        Name given to :func:`mlclf.register_back_translation`; its function is called once, before training.
    back_translation_share : float
        Share of the texts that are read as they were translated back.

    Examples
    --------
    >>> AugmentationOptions(deletion=0.1, masking=0.15).masking_span
    3.0
    """

    component = "standard"
    replacement: float = Field(default=0.0, ge=0, le=1)
    synonyms: dict[_Word, Annotated[list[_Phrase], Field(min_length=1)]] | None = None
    swap: float = Field(default=0.0, ge=0, le=1)
    deletion: float = Field(default=0.0, ge=0, lt=1)
    masking: float = Field(default=0.0, ge=0, lt=1)
    masking_span: float = Field(default=3.0, ge=1)
    mixing: float = Field(default=0.0, ge=0, le=1)
    back_translation: str | None = None
    back_translation_share: float = Field(default=0.5, gt=0, le=1)


def _augmentations(value: Any) -> Any:
    """Check the form of ``augmentation``; which plugins there are is known further up, where training begins."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return _augmentation(value)
    if not value:
        raise ValueError("give at least one augmentation, or None")
    return tuple(_augmentation(part) for part in value)


def _augmentation(value: Any) -> Any:
    if isinstance(value, Options):
        return value.validated()
    if isinstance(value, Mapping) and value.get("name", AugmentationOptions.component) == AugmentationOptions.component:
        return AugmentationOptions(**value)
    name = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or ":" not in name:
        raise ValueError("must be AugmentationOptions(...), 'plugin:name', options of a plugin's, or a list of these")
    return value


AugmentationChoice = Annotated[
    str | dict[str, Any] | SerializeAsAny[Options] | tuple[str | dict[str, Any] | SerializeAsAny[Options], ...] | None,
    BeforeValidator(_augmentations),
    Uses("augmentation"),
]


class TrainingOptions(Options):
    """How a model is trained; the same for every backbone, strategy and head.

    Parameters
    ----------
    epochs : int
        Passes over the training rows.
    batch_size : int
        Rows that are put through the network at once.
    learning_rate : float or None
        Peak learning rate of what the strategy trains; None takes the strategy's own default, which
        differs by a factor of 20 and more between strategies.
    head_learning_rate : float or None
        Peak learning rate of the head; None takes the strategy's default.
    weight_decay : float
        Decoupled weight decay (AdamW) of matrices; biases and norms have none.
    warmup_ratio : float
        Share of the optimizer steps over which the rate rises linearly to its peak.
    schedule : {"linear", "cosine", "constant"}
        How the rate goes on after the warm-up.
    max_grad_norm : float or None
        Gradients are scaled down to this global L2 norm; None leaves them alone.
    gradient_accumulation : int
        Batches whose gradients are summed for one optimizer step.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Arithmetic of the forward and backward pass. "auto" measures once per process whether bf16 pays on
        this processor and falls back to fp32; weights and optimizer state are float32 in every case.
    early_stopping_patience : int or None
        Stop after this many epochs without improvement of ``monitor``; None trains all epochs.
        The best weights are restored in either case.
    monitor : {"micro_f1", "macro_f1", "mean_average_precision", "loss"}
        Validation figure that says which epoch is best.
    evaluations_per_epoch : int
        How often the validation rows are scored in an epoch.
    checkpoint_dir : str or None
        Folder for checkpoints: written at the end of every epoch and on interruption.
    resume_from : str or None
        Checkpoint folder to continue from; data, options and seed must be those of the first run.
    compile : bool
        Compile the network with ``torch.compile``: worth it for long runs only.
    num_workers : int
        Extra threads for tokenisation; 0 lets the tokenizer choose.
    gradient_checkpointing : bool
        Recompute activations in the backward pass: less memory, about a third more time.
    cache_memory : float
        GiB of memory that outputs of constant lower layers may take. Where they would need more, they are
        computed anew in every epoch, with the same result.
    augmentation : AugmentationOptions, str, Options, tuple of these, or None
        How training texts are changed in every epoch; None leaves them as they are. A plugin's augmentation is given by
        its name (``"acme:typos"``) or its options; several are applied one after the other.

    Examples
    --------
    >>> TrainingOptions(epochs=5, early_stopping_patience=2).epochs
    5
    """

    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    head_learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    gradient_accumulation: int = Field(default=1, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    early_stopping_patience: int | None = Field(default=None, ge=1)
    monitor: Literal["micro_f1", "macro_f1", "mean_average_precision", "loss"] = "micro_f1"
    evaluations_per_epoch: int = Field(default=1, ge=1)
    checkpoint_dir: str | None = None
    resume_from: str | None = None
    compile: bool = False
    num_workers: int = Field(default=0, ge=0)
    gradient_checkpointing: bool = False
    cache_memory: float = Field(default=2.0, ge=0)
    augmentation: AugmentationChoice = None
