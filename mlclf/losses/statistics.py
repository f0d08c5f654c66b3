"""What losses and heads derive from the names and counts of labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlclf.exceptions import UnknownLabelError

if TYPE_CHECKING:
    from mlclf.interfaces.head import LabelStatistics

# Probability of 4.5e-5: below it, a start at the prior saves no steps that are worth having.
_LOGIT_LIMIT = 10.0


def prior_logits(statistics: LabelStatistics) -> Tensor:
    """Return the logit of how often each label applies where that is known.

    Counts are smoothed by one row with the label and one row without it (Laplace), so that labels which always or
    never apply have finite logits too; values are kept within -10 and 10.

    Parameters
    ----------
    statistics : LabelStatistics
        Counts of the training rows.

    Returns
    -------
    Tensor of float32, shape (n_labels,)

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.interfaces import LabelStatistics
    >>> from mlclf.losses import prior_logits
    >>> counts = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> prior_logits(counts).sigmoid()
    tensor([0.5000, 0.1000])
    """
    positives = statistics.positives.astype(np.float64)
    logits = np.log(positives + 1.0) - np.log(statistics.known - positives + 1.0)
    return torch.from_numpy(np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT).astype(np.float32))


def named_weights(label_weights: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Turn weights by label name into one weight a column.

    Parameters
    ----------
    label_weights : mapping of str to float
        Weights of some labels; all others have weight 1.
    names : sequence of str, length n_labels
        Label names in column order.

    Returns
    -------
    Tensor of float32, shape (n_labels,)

    Raises
    ------
    UnknownLabelError
        If a name is no label.

    Examples
    --------
    >>> from mlclf.losses.statistics import named_weights
    >>> named_weights({"fear": 3.0}, ["anger", "fear"])
    tensor([1., 3.])
    """
    columns = {str(name): column for column, name in enumerate(names)}
    weights = torch.ones(len(names))
    for name, weight in label_weights.items():
        if name not in columns:
            raise UnknownLabelError(f"label_weights has {name!r}, which is no label. {did_you_mean(name, columns)}")
        weights[columns[name]] = weight
    return weights


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name closest to a wrong one, or else with the first known names."""
    known = list(known)
    close = get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(map(repr, known[:10]))}{', ...' if len(known) > 10 else ''}."
