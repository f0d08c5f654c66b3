"""``mlclf train``: from a data file and options to a saved model."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlclf.bundle.manifest import check_target
from mlclf.cli.build import make_classifier
from mlclf.cli.config import TrainConfig, check_replay
from mlclf.cli.given import configured, one_or_more, read_rows, without_none
from mlclf.cli.options import Device, IndicatorColumns, Json, LabelColumn, LabelSeparator, TextColumn
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.exceptions import OptionsError

if TYPE_CHECKING:
    from mlclf.classifier import MultiLabelClassifier


def train(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="Training rows: JSONL, CSV, TSV, Parquet.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to save the model in.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or JSON file; options given here go before it.")] = None,
    backbone: Annotated[str | None, typer.Option(help="What reads the text, such as bert or minilm:l6.")] = None,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Which weights learn, such as lora or full; give it twice to combine two.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="How labels come out, such as bce.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the configuration, such as training.epochs=2."),
    ] = None,
    validation_data: Annotated[Path | None, typer.Option(help="Validation rows, instead of a share of DATA.")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    indicator_columns: IndicatorColumns = None,
    checkpoint_dir: Annotated[Path | None, typer.Option(help="Folder for checkpoints.")] = None,
    resume_from: Annotated[Path | None, typer.Option(help="Checkpoint of an interrupted run to continue.")] = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Neither progress nor messages, except errors.")] = False,
) -> None:
    """Train a model on a file of texts and labels, and save it.

    --set goes before the other options, and those go before the configuration file. Paths are relative to the current
    folder.
    """
    given = {
        "data": without_none(
            train=data,
            validation=validation_data,
            text_column=text_column,
            label_column=label_column,
            label_separator=label_separator,
            indicator_columns=indicator_columns or None,
        ),
        "training": without_none(checkpoint_dir=checkpoint_dir, resume_from=resume_from),
        **without_none(out=out, backbone=backbone, strategy=one_or_more(strategy), head=head, device=device),
    }
    with results_only() as results, messages_to_stderr(logging.ERROR if quiet else logging.INFO):
        summary = run(configured(config, settings or [], given), verbose=0 if quiet else 1)
        if as_json:
            write_json(summary, results)
        else:
            results.write(in_words(summary))


def run(config: TrainConfig, verbose: int) -> dict[str, Any]:
    """Train and save by a configuration.

    Parameters
    ----------
    config : TrainConfig
    verbose : int
        0 for no progress bar.

    Returns
    -------
    dict
        What happened, JSON-ready.

    Raises
    ------
    MlclfError, TrainingInterrupted
    """
    out, source = _paths(config)
    if "replay" in config.model_fields_set:
        check_replay(config.include_replay, config.replay)
    rows = read_rows(source, config.data)
    validation = None if config.data.validation is None else read_rows(config.data.validation, config.data)
    classes = None if config.data.indicator_columns is None else rows.classes
    classifier = make_classifier(config, classes=classes, verbose=verbose)
    started = time.perf_counter()
    classifier.fit(
        rows.texts, rows.labels, validation_data=None if validation is None else (validation.texts, validation.labels)
    )
    seconds = time.perf_counter() - started
    classifier.save(out, include_backbone=config.include_backbone, include_replay=config.include_replay)
    return summary_of(classifier, out, len(rows), seconds)


def summary_of(classifier: MultiLabelClassifier, out: Path, n_samples: int, seconds: float) -> dict[str, Any]:
    """Return what happened in training, JSON-ready."""
    return {
        "model": str(out),
        "n_samples": n_samples,
        "classes": classifier.classes_.tolist(),
        "seconds": round(seconds, 3),
        "strategy_choice": None if classifier.strategy_choice_ is None else classifier.strategy_choice_.to_dict(),
        "history": classifier.history_.to_dict(),
        "validation_report": classifier.validation_report_,
    }


def _paths(config: TrainConfig) -> tuple[Path, str]:
    """Return where the model goes and where the rows come from, before either costs time."""
    if config.data.train is None:
        raise OptionsError("Name a file of training rows: mlclf train DATA, or data.train in the configuration.")
    if Path(config.data.train).suffix.lower() in (".yaml", ".yml"):
        raise OptionsError(
            f"{config.data.train} is a configuration, not data. Use: mlclf train --config {config.data.train}"
        )
    if config.out is None:
        raise OptionsError("Name a folder for the model: --out MODEL, or out in the configuration.")
    out = Path(config.out)
    check_target(out)
    return out, config.data.train


def in_words(summary: dict[str, Any]) -> str:
    """Return what training did as sentences."""
    history = summary["history"]
    lines = [
        f"Trained on {summary['n_samples']} texts with {len(summary['classes'])} labels in {summary['seconds']:.0f} s "
        f"({history['precision']}, {history['n_trainable']:,} of {history['n_parameters']:,} parameters)."
    ]
    if summary["strategy_choice"] is not None:
        choice = summary["strategy_choice"]
        lines.append(f"Strategy 'auto' was {choice['strategy']!r}: {choice['reason']}")
    if history["best"] is not None:
        best = history["evaluations"][history["best"]]
        figures = ", ".join(f"{name} {value:.3f}" for name, value in best["metrics"].items())
        lines.append(f"Best on validation rows after epoch {best['epoch']:g}: {figures}.")
    return "\n".join([*lines, f"Saved in {summary['model']}."]) + "\n"
