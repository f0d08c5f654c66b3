"""Model card: what a saved model is, for people and for the Hugging Face hub; facts only.

The card is ``README.md`` in the saved folder. It is written with every save and never read: it has no checksum, so that
its owner may add to it what mlclf cannot know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from mlclf._version import __version__
from mlclf.exceptions import OptionsError
from mlclf.model import Model
from mlclf.report import Report

if TYPE_CHECKING:
    from mlclf.interfaces import BackboneSource

# Labels of the table; manifest.json has all.
_MOST_LABELS = 1000

# Figures of a report that stand in the card: the hub's type of metric, and the name.
_METRICS = {
    "micro_f1": ("f1", "micro-F1"),
    "macro_f1": ("f1", "macro-F1"),
    "samples_f1": ("f1", "samples-F1"),
    "mean_average_precision": ("mean_average_precision", "mean average precision"),
    "subset_accuracy": ("accuracy", "subset accuracy"),
    "hamming_loss": ("hamming_loss", "Hamming loss"),
}


@dataclass(frozen=True)
class CardFacts:
    """What a model card says that mlclf cannot know by itself.

    Parameters
    ----------
    language : str, tuple of str or None
        Languages of the texts as ISO 639 codes: ``"en"``.
    license : str or None
        The hub's name of the licence: ``"apache-2.0"``.
    evaluation : Report or None
        What :meth:`~mlclf.MultiLabelClassifier.evaluate` returned; its figures stand in the card instead of those of
        the validation rows.
    dataset : str or None
        Name of the rows that were evaluated.

    Raises
    ------
    OptionsError
        If ``evaluation`` is something else than a report, or ``dataset`` is given without it.

    Examples
    --------
    >>> from mlclf import CardFacts
    >>> facts = CardFacts(language="en", license="apache-2.0")
    """

    language: str | tuple[str, ...] | None = None
    license: str | None = None
    evaluation: Report | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        if self.evaluation is not None and not isinstance(self.evaluation, Report):
            raise OptionsError(
                f"evaluation must be a Report, got {type(self.evaluation).__name__}. "
                "Pass what clf.evaluate(X, Y) returns."
            )
        if self.dataset is not None and self.evaluation is None:
            raise OptionsError("dataset names the rows of an evaluation: pass evaluation=clf.evaluate(X, Y) too.")


def card(model: Model, facts: CardFacts | None = None) -> str:
    """Return the model card as Markdown with a YAML head.

    Parameters
    ----------
    model : Model
    facts : CardFacts or None
        What mlclf cannot know.

    Returns
    -------
    str
        Label names and other texts from outside are escaped.
    """
    facts = facts or CardFacts()
    figures = model.metrics if facts.evaluation is None else facts.evaluation.to_dict()
    rows = "validation rows" if facts.evaluation is None else facts.dataset or "evaluation rows"
    names = " + ".join(model.parts.names.values())
    parts = [
        f"---\n{_head(model, facts, figures, rows, names)}\n---",
        f"# {escaped(names)}",
        f"A multi-label text classifier, saved by mlclf {escaped(__version__)}. This card holds what mlclf knows; "
        "intended use, limits and the origin of the training rows are for its owner to add.",
        _made(model),
        _use(),
        *([_measured(figures, rows)] if figures else []),
        _labels(model),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: object) -> str:
    r"""Return a text that Markdown and HTML take as text, in one line.

    Examples
    --------
    >>> print(escaped("a|b_*c*\n<b>"))
    a\|b\_\*c\*\\n\<b\>
    """
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", line)


def _head(model: Model, facts: CardFacts, figures: Mapping[str, Any], rows: str, names: str) -> str:
    """Return the YAML that the hub reads."""
    source = model.network.backbone.source()
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="Multi-label text classification",
            dataset_type=rows,
            dataset_name=rows,
            metric_type=kind,
            metric_name=name,
            metric_value=round(figures[key], 4),
        )
        for key, (kind, name) in _METRICS.items()
        if figures.get(key) is not None
    ]
    data = ModelCardData(
        language=list(facts.language) if isinstance(facts.language, tuple) else facts.language,
        license=facts.license,
        library_name="mlclf",
        pipeline_tag="text-classification",
        tags=["mlclf", "multi-label", *model.parts.names.values()],
        base_model=source.name if source.kind == "hub" else None,
        model_name=names,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _made(model: Model) -> str:
    history = model.history
    facts: dict[str, str] = {
        **{str(kind): f"`{name}`" for kind, name in model.parts.names.items()},
        "pretrained weights": _weights(model.network.backbone.source()),
        "labels": f"{model.labels.n_labels:,}",
        "parameters": f"{history.n_parameters:,}, of which {history.n_trainable:,} were trained",
        "arithmetic of training": history.precision,
        "thresholds": escaped(model.thresholds.rule),
        "calibration": _calibration(model),
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"## What it is\n\n| | |\n|---|---|\n{rows}\n\nEvery option stands in `manifest.json`."


def _calibration(model: Model) -> str:
    if model.calibrator is None:
        return "none"
    name = model.calibrator.options.component
    return "Platt scaling" if name == "platt" else f"`{name}`"


def _weights(source: BackboneSource) -> str:
    """Return where pretrained weights come from; a folder is not named, as paths tell of machines."""
    if source.kind == "folder":
        return "from a local folder"
    if source.kind == "none":
        return "those of this folder"
    revision = "" if source.revision is None else f", {escaped(source.revision)}"
    return f"{'hub' if source.kind == 'hub' else 'package'}: {escaped(source.name)}{revision}"


def _use() -> str:
    return (
        "## Use\n\n```python\nfrom mlclf import MultiLabelClassifier\n\n"
        'clf = MultiLabelClassifier.load("path/to/this/folder")\nclf.predict_labels(["a text"])\n```'
    )


def _measured(figures: Mapping[str, Any], rows: str) -> str:
    measured = [(name, figures[key]) for key, (_, name) in _METRICS.items() if figures.get(key) is not None]
    table = "\n".join(f"| {name} | {value:.4f} |" for name, value in measured)
    return (
        f"## Figures\n\nOn {figures['n_samples']:,} rows ({escaped(rows)}), at the model's own thresholds. "
        f"Policy: {escaped(figures['policy']['text'])}\n\n| figure | value |\n|---|---|\n{table}"
    )


def _labels(model: Model) -> str:
    names = model.labels.names[:_MOST_LABELS]
    thresholds = model.thresholds.for_labels(model.labels.n_labels).values
    rows = "\n".join(
        f"| {escaped(name)} | {model.statistics.positives[i]:,} | {thresholds[i]:.3f} |" for i, name in enumerate(names)
    )
    left = model.labels.n_labels - len(names)
    more = f"\n\n{left:,} more stand in `manifest.json`." if left else ""
    return f"## Labels\n\n| label | training rows | threshold |\n|---|---|---|\n{rows}{more}"
