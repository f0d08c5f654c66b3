"""``mlclf plugins``: which plugins are installed, what they offer, what is wrong with them, and how to begin one.

No command but ``check`` imports a plugin into its own process, so that the others work with every plugin broken.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlclf.cli.output import results_only, write_json
from mlclf.exceptions import MissingPluginError, OptionsError
from mlclf.plugins.builtins import BUILTINS
from mlclf.plugins.doctor import Diagnosis, diagnose
from mlclf.plugins.records import PluginRecord
from mlclf.plugins.registry import get_manager
from mlclf.plugins.scaffold import new_plugin
from mlclf.plugins.spec import Kind

plugins_app = typer.Typer(no_args_is_help=True, help="List, show and examine plugins.")

_PluginId = Annotated[str, typer.Argument(metavar="ID", help="Plugin id, as `mlclf plugins list` prints it.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that a plugin may take to load.")]


@plugins_app.command("list")
def list_plugins(
    as_json: _Json = False,
    everything: Annotated[bool, typer.Option("--all", help="List the built-in components too.")] = False,
) -> None:
    """List the installed plugins, from package metadata alone."""
    records = get_manager().records()
    if as_json:
        found = {"plugins": [record.to_json() for record in records]}
        typer.echo(json.dumps(found | ({"builtins": _builtins_json()} if everything else {}), indent=2))
        return
    console = Console(soft_wrap=True)
    if everything:
        console.print(_builtins_table())
    if records:
        console.print(_plugins_table(records))
    else:
        console.print("No plugins are installed.")
    for record in records:
        if record.message:
            console.print(escape(f"{record.title} {record.message}"))


@plugins_app.command("show")
def show_plugin(plugin_id: _PluginId, as_json: _Json = False, timeout: _Timeout = 30.0) -> None:
    """Show one plugin and its components; exit status 1 where it cannot be used."""
    record = _record(plugin_id)
    found = diagnose(record, depth="declaration", timeout=timeout)
    if as_json:
        typer.echo(json.dumps(_merged(record, found), indent=2))
    else:
        _print_plugin(record, found)
    if found.status != "ok":
        raise typer.Exit(1)


@plugins_app.command("doctor")
def examine_plugins(
    plugin_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Plugin id; all plugins without it.")] = None,
    as_json: _Json = False,
    timeout: _Timeout = 60.0,
) -> None:
    """Load plugins, each in a process of its own, and print tracebacks; exit status 1 where one is broken."""
    records = get_manager().records() if plugin_id is None else (_record(plugin_id),)
    found = [(record, diagnose(record, timeout=timeout)) for record in records]
    if as_json:
        typer.echo(json.dumps([_merged(record, diagnosis) for record, diagnosis in found], indent=2))
    elif not found:
        typer.echo("No plugins are installed.")
    else:
        for record, diagnosis in found:
            _print_diagnosis(record, diagnosis)
    if not all(diagnosis.healthy for _, diagnosis in found):
        raise typer.Exit(1)


@plugins_app.command("check")
def check_plugin(
    plugin_id: Annotated[str, typer.Argument(metavar="ID", help="Plugin id; `mlclf` for the built-in components.")],
    as_json: _Json = False,
    only: Annotated[
        str, typer.Option(metavar="TEXT", help="Run only checks with this in their id, as `check_fit[acme:head]`.")
    ] = "",
    expected: Annotated[
        list[str] | None, typer.Option("--expect", metavar="CHECK=REASON", help="A failure that is known; repeatable.")
    ] = None,
    schemas: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Snapshot of the last release's options to compare with.")
    ] = None,
    write_schemas: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write that snapshot, and check nothing.")
    ] = None,
) -> None:
    """Check that a plugin keeps the rules of the interfaces; exit status 1 where it does not."""
    from mlclf.testing.conformance.running import BUILT_IN, plugin_checks, plugin_components, run_checks
    from mlclf.testing.conformance.schemas import write_snapshot

    if plugin_id != BUILT_IN:
        _record(plugin_id)
    if write_schemas is not None:
        write_snapshot(write_schemas, plugin_components(plugin_id, get_manager()), get_manager())
        return
    with results_only() as results:
        checks = [check for check in plugin_checks(plugin_id, schemas=schemas) if only in check.id]
        if not checks:
            raise OptionsError(f"--only {only!r} stands in the id of no check.")
        report = run_checks(checks, expected_failed_checks=_reasons(expected or []), subject=f"plugin {plugin_id!r}")
        if as_json:
            write_json(report.to_json(), results)
        else:
            results.write(f"{report}\n")
    if not report.passed:
        raise typer.Exit(1)


@plugins_app.command("new")
def begin_plugin(
    plugin_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the new plugin; its package is mlclf-ID.")],
    kind: Annotated[Kind, typer.Option(help="What it offers.")],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder to make; mlclf-ID without it.")] = None,
) -> None:
    """Write a new plugin: a distribution with a working component, its tests and a CI file."""
    folder = new_plugin(plugin_id, kind, out)
    typer.echo(f"{folder} holds a working {kind}. To go on:")
    typer.echo(f"  pip install --editable {folder} && pytest {folder}")


def _reasons(expected: list[str]) -> dict[str, str]:
    """Return reasons by check."""
    if wrong := [text for text in expected if "=" not in text]:
        raise OptionsError(f"--expect {wrong[0]!r} must be CHECK=REASON.")
    return {name: reason for name, _, reason in (text.partition("=") for text in expected)}


def _record(plugin_id: str) -> PluginRecord:
    try:
        return get_manager().record(plugin_id)
    except MissingPluginError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from None


def _builtins_json() -> list[dict[str, object]]:
    return [
        {"name": spec.name, "kind": kind, "summary": spec.summary, "exportable": spec.exportable}
        for kind, specs in BUILTINS.items()
        for spec in specs
    ]


def _builtins_table() -> Table:
    table = Table("built in", "kind", "summary", box=None, pad_edge=False)
    for kind, specs in BUILTINS.items():
        for spec in specs:
            table.add_row(spec.name, kind, spec.summary)
    return table


def _plugins_table(records: tuple[PluginRecord, ...]) -> Table:
    table = Table("plugin", "package", "version", "status", box=None, pad_edge=False)
    for record in records:
        # Loaded when it is needed: to the reader of a list that is simply an installed plugin.
        status = "installed" if record.status == "unloaded" else record.status
        table.add_row(*map(escape, (record.id, record.package, record.version, status)))
    return table


def _merged(record: PluginRecord, found: Diagnosis) -> dict[str, object]:
    """Return what metadata and examination say, as JSON values."""
    return {
        "id": record.id,
        "package": record.package,
        "version": record.version,
        "status": found.status,
        "message": found.message,
        "api": None if found.api is None else list(found.api),
        "components": list(found.components),
        "details": found.details,
    }


def _print_plugin(record: PluginRecord, found: Diagnosis) -> None:
    typer.echo(f"{record.title}: {found.status}")
    if found.message:
        typer.echo(f"  {found.message}")
    if found.api is not None:
        typer.echo(f"plugin API {found.api[0]}.{found.api[1]}")
    for component in found.components:
        typer.echo(f"{component['kind']} {component['name']}: {component['summary']} ({component['target']})")


def _print_diagnosis(record: PluginRecord, found: Diagnosis) -> None:
    if found.status == "ok":
        names = ", ".join(str(component["name"]) for component in found.components)
        typer.echo(f"{record.title}: ok ({names})")
        return
    typer.echo(f"{record.title}: {found.status}")
    typer.echo(f"  {found.message}")
    if found.details:
        typer.echo(found.details.rstrip())
