"""``mlclf compare``: backbones, strategies and heads on the same rows, as a table and a page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlclf.cli.build import make_component
from mlclf.cli.config import ComponentConfig, TrainConfig, assignment, make_config
from mlclf.cli.merging import COMPONENTS, merged
from mlclf.cli.options import Device, IndicatorColumns, Json, LabelColumn, LabelSeparator, TextColumn
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.exceptions import OptionsError
from mlclf.options import Options

if TYPE_CHECKING:
    from mlclf.comparing import Comparison

_INTERRUPTED = 130
# What --set may reach; the rest is said by options of its own, or makes no sense for several fits.
_SETTABLE = ("backbone", "strategy", "head", "training", "validation", "thresholds", "calibration")
# A file and a pipe have no width; this one holds a row of all columns.
_WIDE = 200

_Names = list[str] | None


def compare(
    data: Annotated[Path, typer.Option(help="File of rows, or folder with train and, if any, dev and test files.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, the numbers, and finished runs.")],
    backbones: Annotated[_Names, typer.Option(metavar="NAMES", help="With commas between them, as bert,llm.")] = None,
    strategies: Annotated[_Names, typer.Option(metavar="NAMES", help="As lora,full; lora+adapter is a chain.")] = None,
    heads: Annotated[_Names, typer.Option(metavar="NAMES", help="As bce.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each combination, with other random numbers.")] = 3,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="For all runs, such as training.epochs=2 or strategy.r=8."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=2, help="Take at most so many rows of each file.")] = None,
    test: Annotated[Path | None, typer.Option(help="Test rows, instead of those of the folder or a share.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at once, each with its share of the cores.")] = 1,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    indicator_columns: IndicatorColumns = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Neither progress nor messages, except errors.")] = False,
) -> None:
    """Fit every combination with several seeds, each in a process of its own, and score it on test rows.

    Finished runs are kept in the folder: the same command goes on where it was interrupted.
    """
    with results_only() as results, messages_to_stderr(logging.ERROR if quiet else logging.WARNING):
        config = _configuration(settings or [])
        chosen = {
            kind: _components(kind, _split(names), getattr(config, kind))
            for kind, names in zip(COMPONENTS, (backbones, strategies, heads), strict=True)
        }
        from mlclf.comparing import compare as run
        from mlclf.comparing import read_rows
        from mlclf.options import TrainingOptions

        found = read_rows(
            data,
            test=test,
            rows=rows,
            text_column=text_column or "text",
            label_column=label_column or "labels",
            indicator_columns=indicator_columns or None,
            label_separator=label_separator or ";",
        )
        given = {name: getattr(config, name) for name in _SETTABLE[4:] if name in config.model_fields_set}
        try:
            comparison = run(
                found,
                out=out,
                backbones=cast("list[str | Options]", chosen["backbone"]),
                strategies=chosen["strategy"],
                heads=cast("list[str | Options]", chosen["head"]),
                seeds=seeds,
                training=TrainingOptions(**config.training),
                device=device,
                parallel=parallel,
                verbose=0 if quiet else 1,
                **given,
            )
        except KeyboardInterrupt:
            typer.echo(f"Interrupted. Finished runs are kept in {out}; the same command goes on.", err=True)
            raise typer.Exit(_INTERRUPTED) from None
        if as_json:
            write_json(comparison.to_dict(), results)
        else:
            _print(comparison, out, results)


def _configuration(settings: list[str]) -> TrainConfig:
    """Return what ``--set`` says, refusing what a comparison does not read."""
    values: dict[str, Any] = {}
    for setting in settings:
        given = assignment(setting)
        (key,) = given
        if key not in _SETTABLE or (key in COMPONENTS and (not isinstance(given[key], dict) or "name" in given[key])):
            raise OptionsError(
                f"--set {setting}: a comparison has an option of its own for this, or none. "
                f"--set reaches: {', '.join(_SETTABLE)}."
            )
        values = merged(values, given)
    return make_config(values)


def _split(names: Sequence[str] | None) -> list[list[str | None]]:
    """Return the names that stand between commas, those of a chain together; [None] stands for the default."""
    found = [name.strip() for text in names or [] for name in text.split(",") if name.strip()]
    return [[*name.split("+")] for name in found] or [[None]]


def _components(
    kind: str, names: Sequence[Sequence[str | None]], section: ComponentConfig
) -> list[str | Options | list[str | Options]]:
    """Return components with those of the options that they have; an option that none has is refused."""
    from mlclf import MultiLabelClassifier

    default = getattr(MultiLabelClassifier(), kind)
    known = {name: _options_of(kind, name or default) for chain in names for name in chain}
    for option in section.options:
        if not any(option in options for options in known.values()):
            # Lets make_component say which options there are, and which was meant.
            make_component(kind, ComponentConfig(name=names[0][0], **{option: section.options[option]}), default)
    made = [
        [
            make_component(
                kind,
                ComponentConfig(name=name, **{key: v for key, v in section.options.items() if key in known[name]}),
                default,
            )
            for name in chain
        ]
        for chain in names
    ]
    return [chain[0] if len(chain) == 1 else chain for chain in made]


def _options_of(kind: str, name: str) -> set[str]:
    """Return the names of a component's options."""
    from mlclf.plugins import resolve

    return set(type(resolve(kind, name)[2]).model_fields)  # type: ignore[call-overload]  # kind is one of three


def _print(comparison: Comparison, out: Path, results: IO[str]) -> None:
    """Print the table, what was refused or failed, and where the page is."""
    from mlclf.comparing.table import columns

    console = Console(file=results, highlight=False, width=None if results.isatty() else _WIDE)
    if comparison.cells:
        table = columns(comparison.cells)
        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name, _ in table:
            shown.add_column(name, justify="left" if name in COMPONENTS else "right")
        for row in zip(*(cells for _, cells in table), strict=True):
            shown.add_row(*map(escape, row))
        console.print(shown)
    for word, items in (("refused", comparison.refused), ("failed", comparison.failed)):
        for item in items:
            console.print(escape(f"{word}: {item.title}: {item.reason}"), soft_wrap=True)
    console.print(escape(comparison.in_words), soft_wrap=True)
    console.print(escape(f"Page: {out / 'comparison.html'}"), soft_wrap=True)
