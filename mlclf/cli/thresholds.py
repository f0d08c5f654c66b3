"""Thresholds as they are written on a command line."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlclf.exceptions import OptionsError


def parse_thresholds(text: str, classes: Sequence[str | int]) -> float | dict[str | int, float]:
    """Read thresholds.

    Parameters
    ----------
    text : str
        A number for all labels; ``label=number`` pairs with commas between them; or a JSON object.
    classes : sequence of str or int
        Labels of the model.

    Returns
    -------
    float or dict of label and float
        As ``MultiLabelClassifier.predict`` takes them; labels that are not named keep their thresholds.

    Raises
    ------
    OptionsError
        If the text has another form. Unknown labels are left to the classifier.

    Examples
    --------
    >>> parse_thresholds("0.4", ["joy", 7])
    0.4
    >>> parse_thresholds("joy=0.3, 7=0.6", ["joy", 7])
    {'joy': 0.3, 7: 0.6}
    """
    try:
        return float(text)
    except ValueError:
        pass
    by_text = {str(label): label for label in classes}
    return {by_text.get(name, name): _number(value, text) for name, value in _pairs(text)}


def _pairs(text: str) -> list[tuple[str, object]]:
    if text.lstrip().startswith("{"):
        try:
            return list(json.loads(text).items())
        except json.JSONDecodeError as error:
            raise OptionsError(f"--thresholds {text}: not JSON ({error.msg}).") from error
    # From the right: a label may hold an equals sign.
    parts = [part.rpartition("=") for part in text.split(",")]
    if not all(equals for _, equals, _ in parts):
        raise OptionsError(
            f"--thresholds {text}: write a number, label=number pairs with commas between them, or a JSON object."
        )
    return [(name.strip(), value) for name, _, value in parts]


def _number(value: object, text: str) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # whatever it is, the except clause says so
    except (TypeError, ValueError):
        raise OptionsError(f"--thresholds {text}: {value!r} is not a number.") from None
