"""The configuration of ``mlclf train``: a YAML or JSON file, and what the command line puts over it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from mlclf.cli.merging import COMPONENTS, section
from mlclf.exceptions import OptionsError
from mlclf.hints import did_you_mean
from mlclf.options import TrainingOptions


class DataConfig(BaseModel):
    """Section ``data``: which files are read, and how.

    Parameters
    ----------
    train : str or None
        File of training rows (JSON Lines, CSV, TSV or Parquet).
    validation : str or None
        File of validation rows; None holds out a share of the training rows.
    text_column : str
        Column of the texts.
    label_column : str
        Column of the label sets.
    label_separator : str
        What stands between two labels in a cell of CSV or TSV.
    indicator_columns : list of str or None
        Columns of 0 and 1, one for each label, instead of ``label_column``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: str | None = None
    validation: str | None = None
    text_column: str = "text"
    label_column: str = "labels"
    label_separator: str = ";"
    indicator_columns: list[str] | None = None


class ComponentConfig(BaseModel):
    """Sections ``backbone``, ``strategy`` and ``head``: a component's name, and its options beside it.

    ``strategy: lora`` and ``strategy: {name: lora, r: 16}`` are both legal.

    Parameters
    ----------
    name : str or None
        Registered name; None for the default of ``MultiLabelClassifier``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Options given, by name; checked when the component is known."""
        return dict(self.model_extra or {})


class TrainConfig(BaseModel):
    """The whole configuration; every key may be left out.

    Paths are relative to the folder in which the command runs.

    Parameters
    ----------
    data : DataConfig
        Which files are read.
    out : str or None
        Folder of the trained model.
    include_backbone : bool
        Also save pretrained weights that the strategy left alone.
    include_replay : bool
        Also save the training texts that are kept for ``mlclf update``.
    backbone, strategy, head : str or ComponentConfig
        The components, by name or with options. Several strategies in a list are trained together.
    training : dict
        Options of :class:`mlclf.TrainingOptions`.
    classes : list of str or int, or None
        Labels in column order.
    validation : float or None
        Share of the training rows held out.
    thresholds : str or float
        ``per-label``, ``global``, or a number.
    calibration : str, dict or None
        ``platt``, or none.
    replay : float or None
        Share of the rows that is kept, to be learned from again with new ones.
    device : str or None
        ``cpu``, ``cuda``, ...
    random_state : int or None
        Seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataConfig = DataConfig()
    out: str | None = None
    include_backbone: bool = False
    include_replay: bool = False
    backbone: ComponentConfig = ComponentConfig()
    strategy: ComponentConfig | list[ComponentConfig] = ComponentConfig()
    head: ComponentConfig = ComponentConfig()
    training: dict[str, Any] = Field(default_factory=dict)
    classes: list[str] | list[int] | None = None
    validation: float | None = None
    thresholds: float | str = "per-label"
    calibration: str | dict[str, Any] | None = None
    replay: float | None = None
    device: str | None = None
    random_state: int | None = None

    @field_validator(*COMPONENTS, mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        found = section(str(info.field_name), value)
        if not isinstance(found, dict | list | ComponentConfig):
            raise ValueError("input should be a valid dictionary or a name")
        return found

    @field_validator("strategy", mode="before")
    @classmethod
    def _each_named(cls, value: Any) -> Any:
        """Refuse a list with something else than strategies by name, with or without options."""
        parts = value if isinstance(value, list) else []
        named = [isinstance(part, str) or (isinstance(part, dict) and bool(part.get("name"))) for part in parts]
        if isinstance(value, list) and not (named and all(named)):
            raise ValueError("a list must hold at least one strategy, each with its name, such as [lora, adapter]")
        return value


# Keys that may follow each section's name; those of a component are known once the component is.
_SECTIONS: dict[str, Iterable[str]] = {"data": DataConfig.model_fields, "training": TrainingOptions.model_fields}


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Parameters
    ----------
    path : Path
        ``.yaml``, ``.yml`` or ``.json``.

    Returns
    -------
    dict
        With known keys, whose values :func:`make_config` checks.

    Raises
    ------
    OptionsError
        If the file cannot be read, is no mapping, or has an unknown key.
    """
    import yaml

    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise OptionsError(f"{path}: a configuration file must end with .yaml, .yml or .json.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise OptionsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise OptionsError(f"{path} is not UTF-8. Save it as UTF-8.") from error
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise OptionsError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise OptionsError(f"{path}: expected keys and values, got {type(values).__name__}.")
    _refuse_unknown(values, str(path))
    return values


def assignment(text: str) -> dict[str, Any]:
    """Read ``strategy.r=16`` as it stands behind ``--set``.

    Parameters
    ----------
    text : str
        Dotted key, ``=``, and a value in JSON or YAML; what is neither is a text.

    Returns
    -------
    dict
        Nested as the key is.

    Raises
    ------
    OptionsError
        If there is no ``=`` or the key is not known.

    Examples
    --------
    >>> assignment("strategy.r=16")
    {'strategy': {'r': 16}}
    >>> assignment("training.learning_rate=1e-3")
    {'training': {'learning_rate': 0.001}}
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise OptionsError(f"--set {text}: write KEY=VALUE, such as strategy.r=16 or training.epochs=2.")
    nested: Any = _value(value)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    _refuse_unknown(nested, f"--set {text}")
    return dict(nested)


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Check a configuration.

    Raises
    ------
    OptionsError
        Naming every key whose value breaks its rule.
    """
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])}: {_lower(item['msg'].removeprefix('Value error, '))}, "
            f"got {item['input']!r}."
            for item in error.errors()
        ]
        raise OptionsError("The configuration has wrong values.\n" + "\n".join(lines)) from error


def _lower(sentence: str) -> str:
    """Write a sentence with a small first letter."""
    return sentence[0].lower() + sentence[1:]


def check_replay(include_replay: bool, replay: float | None) -> None:
    """Refuse to save rows of which none are kept.

    Raises
    ------
    OptionsError
    """
    if include_replay and not replay:
        raise OptionsError(
            f"include_replay=True and replay={replay}: no rows are kept. Use replay=0.2 or another share."
        )


def _refuse_unknown(values: Mapping[Any, Any], where: str) -> None:
    """Refuse keys that nothing reads."""
    _refuse_outside(values, TrainConfig.model_fields, where, "")
    for name, known in _SECTIONS.items():
        inner = values.get(name)
        if isinstance(inner, dict):
            _refuse_outside(inner, known, where, f"{name}.")


def _refuse_outside(values: Mapping[Any, Any], known: Iterable[str], where: str, prefix: str) -> None:
    for key in values:
        if key not in known:
            raise OptionsError(
                f"{where}: there is no key {prefix + str(key)!r}.{did_you_mean(str(key), known)} "
                f"Keys{f' of {prefix[:-1]}' if prefix else ''}: {', '.join(known)}."
            )


def _value(text: str) -> Any:
    """Read a value in JSON (``1e-3``, ``null``) or YAML (``[query, value]``), or as the text it is."""
    import yaml

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
