"""``mlclf zero-shot``: labels for texts before any training, by a head that asks the model in words."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mlclf.bundle.manifest import check_target
from mlclf.cli.build import make_classifier
from mlclf.cli.config import TrainConfig, assignment
from mlclf.cli.given import configured, one_or_more, read_rows, without_none
from mlclf.cli.given_labels import given_labels
from mlclf.cli.merging import COMPONENTS
from mlclf.cli.options import (
    Device,
    IndicatorColumns,
    LabelColumn,
    LabelSeparator,
    RowFormat,
    RowsFile,
    TextColumn,
    Thresholds,
    TopK,
    WithText,
)
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.cli.predicting import Format, check_top_k, make_predictor, predicted_rows, read_texts, stream
from mlclf.cli.thresholds import parse_thresholds
from mlclf.datasets import write_jsonl
from mlclf.exceptions import OptionsError
from mlclf.label_names import Label
from mlclf.thresholds import Thresholds as ThresholdRule
from mlclf.thresholds import as_thresholds

# What --set may reach; the rest is said by options of its own, or is about training rows.
_SETTABLE = (*COMPONENTS, "training", "random_state")


def zero_shot(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA|-", help="Texts: JSONL, CSV, TSV or Parquet; - reads a text a line.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="A label, as it stands; repeat it.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="File of labels: .txt with one a line, .json, or .csv with their descriptions."),
    ] = None,
    description: Annotated[
        list[str] | None, typer.Option("--description", metavar="LABEL=TEXT", help="What a label means; repeat it.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="What reads the text, such as bert or llm.")] = None,
    head: Annotated[str | None, typer.Option(help="What asks it: verbalizer, label-query, prompt-generation.")] = None,
    strategy: Annotated[list[str] | None, typer.Option(help="Which weights learn once there are rows.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML or JSON file as for `mlclf train`; what is about training rows is left.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Such as backbone.model=FOLDER or head.scorer=verbalizer."),
    ] = None,
    out: RowsFile = None,
    form: RowFormat = Format.labels,
    top_k: TopK = None,
    thresholds: Thresholds = None,
    with_text: WithText = True,
    test_data: Annotated[Path | None, typer.Option(help="Labelled rows to evaluate on.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder to save the model in, for the other commands and to learn more.")
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    indicator_columns: IndicatorColumns = None,
    device: Device = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary and the report as JSON; rows need --out then.")
    ] = False,
) -> None:
    """Label texts without any training, and compare with true labels where there are some."""
    given = {
        "data": without_none(
            text_column=text_column,
            label_column=label_column,
            label_separator=label_separator,
            indicator_columns=indicator_columns or None,
        ),
        **without_none(backbone=backbone, strategy=one_or_more(strategy), head=head, device=device),
    }
    with results_only() as results, messages_to_stderr(logging.WARNING):
        check_top_k(form, top_k)
        _check_outputs(data, out, test_data, save, as_json=as_json)
        _check_settings(settings or [])
        chosen = configured(config, settings or [], given)
        names, told = given_labels(label or [], labels, chosen.classes, description or [])
        rule = _threshold_rule(thresholds, chosen, names, top_k if form is Format.labels else None)
        texts = [] if data is None else read_texts(data, chosen.data.text_column)
        rows = None if test_data is None else read_rows(test_data, chosen.data)
        classifier = make_classifier(chosen, classes=None, verbose=0).set_params(thresholds=rule)
        classifier.zero_shot(names, told or None)
        if save is not None:
            classifier.save(save)
        predicted = predicted_rows(texts, make_predictor(classifier, form, top_k, None), with_text=with_text)
        if data is not None and out is None:
            stream(predicted, results)
            return
        summary = {
            "classes": list(names),
            "model": None if save is None else str(save),
            "out": None if out is None else str(out),
            "n_samples": None if out is None else write_jsonl(predicted, out),
        }
        report = None if rows is None else classifier.evaluate(rows.texts, rows.labels)
        if as_json:
            write_json({**summary, "report": None if report is None else report.to_dict()}, results)
        else:
            results.write("\n".join([*_in_words(summary), *([] if report is None else [str(report)])]) + "\n")


def _check_outputs(
    data: str | None, out: Path | None, test_data: Path | None, save: Path | None, as_json: bool
) -> None:
    """Refuse a command without anything to do, and results that would run into each other."""
    if data is None and test_data is None and save is None:
        raise OptionsError("There is nothing to do: name a file of texts, --test-data FILE, or --save MODEL.")
    if data is None and out is not None:
        raise OptionsError(f"--out {out} is for the rows of DATA, and there is no DATA. Name a file of texts.")
    if data is not None and out is None and (test_data is not None or as_json):
        other = "--json" if as_json else "--test-data"
        raise OptionsError(f"Rows and what {other} prints would mix on standard output. Write the rows to --out FILE.")
    if save is not None:
        check_target(save)


def _check_settings(settings: list[str]) -> None:
    """Refuse keys of a configuration that nothing reads before there are training rows."""
    for setting in settings:
        (key,) = assignment(setting)
        if key not in _SETTABLE:
            raise OptionsError(
                f"--set {setting}: zero-shot has an option of its own for this, or does not use it. "
                f"--set reaches: {', '.join(_SETTABLE)}."
            )


def _threshold_rule(
    given: str | None, config: TrainConfig, names: Sequence[Label], top_k: int | None
) -> str | float | ThresholdRule:
    """Return what the classifier is given as thresholds; values for labels that do not exist are refused."""
    if given is None and top_k is None:
        return config.thresholds
    fixed = config.thresholds if isinstance(config.thresholds, float) else 0.5
    start = ThresholdRule.fixed(len(names), fixed)
    rule = start if given is None else as_thresholds(parse_thresholds(given, names), names, start)
    return rule.limited(top_k)


def _in_words(summary: dict[str, Any]) -> list[str]:
    """Return what was written as sentences."""
    rows = [] if summary["out"] is None else [f"Wrote {summary['n_samples']} rows to {summary['out']}."]
    return rows if summary["model"] is None else [*rows, f"Saved in {summary['model']}."]
