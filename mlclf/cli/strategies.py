"""``mlclf strategies``: what each strategy needs, costs and can do, in general or on one backbone."""

from __future__ import annotations

import logging
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlclf.cli.build import make_component
from mlclf.cli.config import TrainConfig, assignment, make_config
from mlclf.cli.merging import merged
from mlclf.cli.options import Json
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.exceptions import OptionsError

if TYPE_CHECKING:
    from mlclf.strategy_table import StrategyRow, StrategyTable

_ALWAYS = ("strategy", "merges", "exports", "latency", "rate", "head rate", "typical use")
# A file and a pipe have no width; this one holds a row of all columns.
_WIDE = 200


def strategies(
    backbone: Annotated[
        str | None, typer.Option(help="Try them on this backbone; without it they say what holds for all.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the backbone, such as backbone.model=FOLDER."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the strategies: what learns, whether it merges and exports, learning rates, and when to take which."""
    with results_only() as results, messages_to_stderr(logging.WARNING):
        config = _configuration(backbone, settings or [])
        from mlclf.strategy_table import declared_table, strategy_table

        if config is None:
            table = declared_table()
        else:
            table = strategy_table(make_component("backbone", config.backbone, default="bert"))
        if as_json:
            write_json(table.to_dict(), results)
        else:
            _print(table, results)


def _configuration(backbone: str | None, settings: list[str]) -> TrainConfig | None:
    """Return what is said about the backbone, None where nothing is."""
    values: dict[str, Any] = {} if backbone is None else {"backbone": backbone}
    for setting in settings:
        given = assignment(setting)
        if set(given) != {"backbone"}:
            raise OptionsError(f"--set {setting}: only options of the backbone matter here, such as backbone.model=...")
        values = merged(values, given)
    return make_config(values) if values else None


def _print(table: StrategyTable, results: IO[str]) -> None:
    """Print the table, and below it why some strategies cannot be used."""
    console = Console(file=results, highlight=False, width=None if results.isatty() else _WIDE)
    usable = [row for row in table.rows if row.problem is None]
    refused = [row for row in table.rows if row.problem is not None]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _columns(table):
        shown.add_column(name, justify="right" if name in ("trainable", "rate", "head rate") else "left")
    for row in usable:
        shown.add_row(*(escape(cell) for cell in _cells(row)))
    console.print(shown)
    if table.n_parameters is not None:
        console.print(
            f"trainable: share of the {table.n_parameters:,} parameters of backbone {escape(str(table.backbone))}; "
            "pooling and head are not counted."
        )
    for row in refused:
        console.print(f"{escape(row.name)} cannot be used: {escape(str(row.problem))}", soft_wrap=True)


def _columns(table: StrategyTable) -> tuple[str, ...]:
    return _ALWAYS if table.backbone is None else (_ALWAYS[0], "trainable", *_ALWAYS[1:])


def _cells(row: StrategyRow) -> list[str]:
    """Return the cells of a strategy that can be used."""
    from mlclf.strategy_table import percent

    share = [] if row.share is None else [percent(row.share)]
    return [
        row.name,
        *share,
        {"exact": "exactly", "lossy": "with loss", "no": "no"}.get(str(row.merge), str(row.merge)),
        "yes" if row.export else "no",
        row.latency,
        "-" if row.backbone_rate is None else f"{row.backbone_rate:g}",
        "-" if row.head_rate is None else f"{row.head_rate:g}",
        row.typical_use or row.summary,
    ]
