"""``mlclf update``: a saved model learns from more rows, and is saved anew."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlclf.bundle.manifest import check_target
from mlclf.cli.config import assignment, check_replay
from mlclf.cli.merging import merged
from mlclf.cli.options import Device, IndicatorColumns, Json, LabelColumn, LabelSeparator, ModelArgument, TextColumn
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.cli.train import in_words, summary_of
from mlclf.datasets import Dataset, load
from mlclf.exceptions import OptionsError
from mlclf.hints import did_you_mean
from mlclf.options import TrainingOptions

if TYPE_CHECKING:
    from mlclf.classifier import MultiLabelClassifier

# Keys of --set beside those of training.
_KEYS = ("validation", "thresholds", "calibration", "random_state", "replay")


def update(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="New labelled rows: JSONL, CSV, TSV or Parquet.")],
    out: Annotated[Path, typer.Option(help="Folder to save the updated model in; MODEL itself is allowed.")],
    new_labels: Annotated[
        list[str] | None, typer.Option("--new-label", help="Label that the model does not have yet; may be repeated.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="training.epochs=2, replay=0.5, validation=0.2 and others."),
    ] = None,
    validation_data: Annotated[Path | None, typer.Option(help="Validation rows, instead of a share of DATA.")] = None,
    include_replay: Annotated[
        bool, typer.Option("--include-replay", help="Save the training texts that are kept for the next update.")
    ] = False,
    include_backbone: Annotated[
        bool, typer.Option("--include-backbone", help="Save pretrained weights that the strategy left alone.")
    ] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    indicator_columns: IndicatorColumns = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Neither progress nor messages, except errors.")] = False,
) -> None:
    """Let a saved model learn from more rows, beside rows kept from before where it was saved with them."""

    def read(path: Path) -> Dataset:
        return load(
            path,
            text_column=text_column or "text",
            label_column=label_column or "labels",
            indicator_columns=indicator_columns or None,
            label_separator=label_separator or ";",
        )

    with results_only() as results, messages_to_stderr(logging.ERROR if quiet else logging.INFO):
        check_target(out)
        parameters = _parameters(settings or [])
        if "replay" in parameters:
            check_replay(include_replay, parameters["replay"])
        rows, held_out = read(data), None if validation_data is None else read(validation_data)
        classifier = _loaded(model, device, parameters, verbose=0 if quiet else 1)
        if include_replay and "replay" not in parameters and classifier.replay is None:
            check_replay(include_replay, None)
        if new_labels:
            classifier.add_labels(_of_the_same_type(new_labels, classifier))
        started = time.perf_counter()
        classifier.partial_fit(
            rows.texts, rows.labels, validation_data=None if held_out is None else (held_out.texts, held_out.labels)
        )
        seconds = time.perf_counter() - started
        classifier.save(out, include_backbone=include_backbone, include_replay=include_replay)
        summary = summary_of(classifier, out, len(rows), seconds)
        if as_json:
            write_json(summary, results)
        else:
            results.write(in_words(summary))


def _parameters(settings: list[str]) -> dict[str, Any]:
    """Return what ``--set`` sets, by the names of the estimator's parameters."""
    values: dict[str, Any] = {}
    for setting in settings:
        values = merged(values, assignment(setting))
    foreign = [key for key in values if key not in (*_KEYS, "training")]
    if foreign:
        raise OptionsError(
            f"--set {foreign[0]}=... has no effect on a model that is there already.{did_you_mean(foreign[0], _KEYS)} "
            f"Keys: training, {', '.join(_KEYS)}."
        )
    training = TrainingOptions(**values.pop("training", {}))
    given = {f"training__{name}": getattr(training, name) for name in training.model_fields_set}
    return {**values, **given}


def _loaded(folder: Path, device: str | None, parameters: dict[str, Any], verbose: int) -> MultiLabelClassifier:
    from mlclf import MultiLabelClassifier

    return MultiLabelClassifier.load(folder, device=device).set_params(verbose=verbose, **parameters)


def _of_the_same_type(names: list[str], classifier: MultiLabelClassifier) -> list[str] | list[int]:
    """Return names as whole numbers where those of the model are."""
    numbers = not any(isinstance(name, str) for name in classifier.classes_.tolist())
    return [int(name) for name in names] if numbers and all(name.isdecimal() for name in names) else names
