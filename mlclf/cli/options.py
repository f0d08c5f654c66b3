"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlclf.cli.predicting import Format

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `mlclf train`.")]
TextColumn = Annotated[str | None, typer.Option(help="Column of the texts (default: text).")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the label sets (default: labels).")]
LabelSeparator = Annotated[str | None, typer.Option(help="Between two labels in a cell of CSV or TSV (default: ;).")]
IndicatorColumns = Annotated[
    list[str] | None,
    typer.Option("--indicator-column", help="Column of 0 and 1 named after its label, instead of --label-column."),
]
Thresholds = Annotated[
    str | None,
    typer.Option(help="Instead of the fitted ones: 0.4 for all labels, or joy=0.3,anger=0.5 for some."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; a GPU is taken where there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, to standard output.")]
RowsFile = Annotated[
    Path | None,
    typer.Option("--out", dir_okay=False, help="File to write (.jsonl, .jsonl.gz), instead of standard output."),
]
RowFormat = Annotated[Format, typer.Option("--format", help="What is written for a text.")]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k", min=1, help="Most labels of a text: of those that apply, or with --format topk of all (default: 5)."
    ),
]
WithText = Annotated[bool, typer.Option("--text/--no-text", help="Whether each row repeats its text.")]
