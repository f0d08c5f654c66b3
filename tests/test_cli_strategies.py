"""``mlclf strategies`` and its table: every registered strategy, as it is on a given backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlclf import BertOptions
from mlclf.cli.app import app
from mlclf.interfaces import LearningRates, LoadRequest, Strategy, StrategyCapabilities
from mlclf.options import Options
from mlclf.plugins import PluginManager, component_names, register_strategy, use_manager
from mlclf.strategy_table import StrategyRow, declared_table, refusals, strategy_table
from mlclf.testing import tiny_encoder


class OneOptions(Options):
    component = "local:one"


class One(Strategy):
    """Trains one tensor, and cannot be merged or exported."""

    Options = OneOptions
    capabilities = StrategyCapabilities(merge="no", export=False)
    learning_rates = LearningRates(backbone=0.25, head=0.5)
    typical_use = "[bold]never[/bold]"
    latency = "a lot"

    def adapt(self, backbone: Any) -> None:
        self.freeze(backbone)
        next(backbone.model.parameters()).requires_grad = True


class BrokenOptions(Options):
    component = "local:broken"


class Broken(One):
    """Fails with an error of its own."""

    Options = BrokenOptions

    def adapt(self, backbone: Any) -> None:
        raise ZeroDivisionError("no layers")


class OtherOptions(Options):
    component = "local:other"


class Other(One):
    """Wants the backbone loaded in its own way."""

    Options = OtherOptions

    def load_request(self) -> LoadRequest:
        return LoadRequest(reserved_length=3)


@pytest.fixture
def local() -> Any:
    with use_manager(PluginManager(entry_points=[])) as manager:
        for kind in (One, Broken, Other):
            register_strategy(kind, name=kind.Options.component)
        yield manager


def rows_of(table: Any) -> dict[str, StrategyRow]:
    return {row.name: row for row in table.rows}


def run(*arguments: Any, status: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def test_table_holds_every_registered_strategy(local: Any) -> None:
    assert tuple(rows_of(declared_table())) == component_names("strategy")
    assert "local:one" in rows_of(declared_table())


def test_every_built_in_strategy_says_when_to_take_it_and_what_it_costs() -> None:
    for row in declared_table().rows:
        if ":" not in row.name and row.problem is None:
            assert row.typical_use, row.name
            assert row.latency, row.name


def test_trainable_share_is_counted_on_the_adapted_backbone(local: Any, tiny_bert: Path) -> None:
    table = strategy_table(BertOptions(model=str(tiny_bert)))
    rows = rows_of(table)
    assert rows["full"].share == 1.0
    assert rows["head-only"].n_trainable == 0
    assert 0 < (rows["lora"].share or 0) < 1
    one = rows["local:one"].n_trainable
    assert one is not None
    assert rows["local:one"].share == one / (table.n_parameters or 0)


def test_what_a_strategy_changes_is_a_copy(local: Any, tiny_bert: Path) -> None:
    options = BertOptions(model=str(tiny_bert))
    assert strategy_table(options) == strategy_table(options)
    assert rows_of(strategy_table(options))["full"].n_trainable == strategy_table(options).n_parameters


def test_backbone_is_loaded_once_for_all_that_ask_for_the_same(
    local: Any, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlclf.backbones.bert import BertBackbone

    requests: list[LoadRequest] = []
    load = BertBackbone.load

    def counted(self: Any, request: LoadRequest, folder: Path | None = None) -> None:
        requests.append(request)
        load(self, request, folder)

    monkeypatch.setattr(BertBackbone, "load", counted)
    strategy_table(BertOptions(model=str(tiny_bert)))
    assert requests.count(LoadRequest()) == 1
    assert LoadRequest(reserved_length=3) in requests


def test_strategy_that_fails_gives_a_reason_and_spoils_no_other(local: Any, tiny_bert: Path) -> None:
    rows = rows_of(strategy_table(BertOptions(model=str(tiny_bert))))
    assert rows["local:broken"].problem == "ZeroDivisionError: no layers"
    assert rows["local:one"].problem is None


def test_strategy_that_the_backbone_cannot_take_says_why(tmp_path: Path) -> None:
    shared = BertOptions(model=str(tiny_encoder("albert", tmp_path / "albert")))
    assert "layers share weights" in str(rows_of(strategy_table(shared))["partial"].problem)
    assert refusals(shared, [("full", "bce"), ("partial", "bce")]) == [
        None,
        rows_of(strategy_table(shared))["partial"].problem,
    ]


def test_printed_table_shows_names_as_they_are(local: Any, tiny_bert: Path) -> None:
    printed = run("strategies", "--backbone", "bert", "--set", f"backbone.model={tiny_bert}").stdout
    line = next(line for line in printed.splitlines() if "local:one" in line)
    cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
    assert cells[0] == "local:one"
    assert cells[2:] == ["no", "no", "a lot", "0.25", "0.5", "[bold]never[/bold]"]
    assert "local:broken cannot be used: ZeroDivisionError: no layers" in printed
    assert "pooling and head are not counted" in printed


def test_without_a_backbone_only_what_is_declared_is_printed() -> None:
    printed = run("strategies").stdout
    assert "lora" in printed
    assert "trainable" not in printed


def test_json_has_numbers(tiny_bert: Path) -> None:
    table = json.loads(run("strategies", "--set", f"backbone.model={tiny_bert}", "--json").stdout)
    assert table["backbone"] == "bert"
    (lora,) = [row for row in table["strategies"] if row["name"] == "lora"]
    assert lora["share"] == lora["n_trainable"] / table["n_parameters"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backbone", "berd"], "Did you mean 'bert'?"),
        (["--set", "training.epochs=1"], "only options of the backbone"),
        (["--backbone", "bert", "--set", "backbone.modell=x"], "Did you mean 'model'?"),
        (["--backbone", "bert", "--set", "backbone.model=/absent"], "There is no folder '/absent'"),
    ],
)
def test_wrong_input_is_one_message(arguments: list[str], words: str) -> None:
    error = run("strategies", *arguments, status=2).stderr
    assert words in error
    assert "Traceback" not in error
