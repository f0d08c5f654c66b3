"""What a command was given: a configuration file, options that go before it, and ``--set`` before both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlclf.cli.config import DataConfig, TrainConfig, assignment, make_config, read_config
from mlclf.cli.merging import merged
from mlclf.datasets import Dataset, load


def configured(file: Path | None, settings: list[str], given: dict[str, Any]) -> TrainConfig:
    """Put ``--set`` over the other options over the file.

    Parameters
    ----------
    file : Path or None
        Configuration file.
    settings : list of str
        What stands behind each ``--set``.
    given : dict
        Keys of a configuration that other options gave; empty values are left out.

    Returns
    -------
    TrainConfig

    Raises
    ------
    OptionsError
        If a key is not known or a value breaks its rule.
    """
    values = merged({} if file is None else read_config(file), {key: value for key, value in given.items() if value})
    for setting in settings:
        values = merged(values, assignment(setting))
    return make_config(values)


def one_or_more(names: list[str] | None) -> list[str] | str | None:
    """Return a name that was given once as that name."""
    return names[0] if names and len(names) == 1 else names or None


def without_none(**values: Any) -> dict[str, Any]:
    """Return the values that were given, paths as str."""
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items() if v is not None}


def read_rows(path: str | Path, data: DataConfig) -> Dataset:
    """Read labelled rows from a file, by the columns of a configuration.

    Raises
    ------
    DataFileError
    """
    return load(
        path,
        text_column=data.text_column,
        label_column=data.label_column,
        indicator_columns=data.indicator_columns,
        label_separator=data.label_separator,
    )
