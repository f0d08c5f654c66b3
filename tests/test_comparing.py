"""``mlclf compare``: rows, combinations, and what is run again; the command."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparing_kit import ROWS, fits, result, run_twice
from typer.testing import CliRunner

from mlclf import LoraOptions, TrainingOptions
from mlclf.cli.app import app
from mlclf.comparing import ComparedRows, compare, read_rows
from mlclf.comparing.matrix import Refusal, make_matrix
from mlclf.comparing.processes import Task
from mlclf.datasets import Dataset, make_feedback, save_jsonl
from mlclf.exceptions import DataFileError, OptionsError, UnknownComponentError


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """In place of processes: every check and fit succeeds at once; the list holds what was asked for."""
    asked: list[dict[str, Any]] = []

    def results(tasks: Iterable[Task], **_: Any) -> Iterator[tuple[Task, dict[str, Any]]]:
        for task in tasks:
            asked.append(task.content)
            found = result() if task.content["kind"] == "fit" else {"status": "finished", "refusals": []}
            if task.content["kind"] == "check":
                found["refusals"] = [None] * len(task.content["pairs"])
            task.stem.parent.mkdir(parents=True, exist_ok=True)
            task.result_file.write_text(json.dumps(found))
            yield task, found

    monkeypatch.setattr("mlclf.comparing.runner.results", results)
    return asked


class TestRows:
    def test_folder_gives_train_validation_and_test(self, tmp_path: Path) -> None:
        for name, n in (("train", 40), ("dev", 10), ("test", 12)):
            save_jsonl(make_feedback(n), tmp_path / f"{name}.jsonl.gz")
        assert read_rows(tmp_path).described == "40 training, 10 validation and 12 test rows"

    def test_without_test_rows_a_fifth_is_held_out_and_always_the_same(self, tmp_path: Path) -> None:
        save_jsonl(make_feedback(100), tmp_path / "all.jsonl")
        rows = read_rows(tmp_path / "all.jsonl")
        assert (len(rows.train), len(rows.test), rows.validation) == (80, 20, None)
        assert not set(rows.train.texts) & set(rows.test.texts)
        assert rows.checksums() == read_rows(tmp_path / "all.jsonl").checksums()

    def test_given_test_file_wins(self, tmp_path: Path) -> None:
        save_jsonl(make_feedback(40), tmp_path / "train.jsonl")
        save_jsonl(make_feedback(12), tmp_path / "test.jsonl")
        save_jsonl(make_feedback(9, random_state=3), tmp_path / "other.jsonl")
        assert len(read_rows(tmp_path, test=tmp_path / "other.jsonl").test) == 9

    def test_number_of_rows_limits_every_file(self, tmp_path: Path) -> None:
        save_jsonl(make_feedback(80), tmp_path / "train.jsonl")
        save_jsonl(make_feedback(12), tmp_path / "test.jsonl")
        assert read_rows(tmp_path, rows=30).described == "30 training and 12 test rows"

    def test_folder_without_training_rows_says_what_is_missing(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(DataFileError, match=r"no training rows: a file train\.jsonl.* It holds: notes\.txt"):
            read_rows(tmp_path)

    def test_two_files_for_one_part_are_refused(self, tmp_path: Path) -> None:
        save_jsonl(make_feedback(40), tmp_path / "train.jsonl")
        save_jsonl(make_feedback(12), tmp_path / "dev.jsonl")
        save_jsonl(make_feedback(12), tmp_path / "validation.jsonl")
        with pytest.raises(DataFileError, match="several files of validation rows"):
            read_rows(tmp_path)

    def test_rows_without_labels_are_refused(self) -> None:
        with pytest.raises(DataFileError, match="test rows of a comparison need labels"):
            ComparedRows(train=make_feedback(20), test=Dataset(["text"], None, ()))


class TestMatrix:
    def test_all_combinations_are_cells(self) -> None:
        cells, refused = make_matrix(["bert"], ["lora", LoraOptions(r=4), "full"], ["bce"])
        assert [found.strategy for found in cells] == ["lora", "lora (r=4)", "full"]
        assert refused == []

    def test_unknown_name_is_an_error_before_anything_runs(self) -> None:
        with pytest.raises(UnknownComponentError, match="Did you mean 'lora'"):
            make_matrix(["bert"], ["lorra"], ["bce"])

    @pytest.mark.parametrize("choices", [[], "lora"])
    def test_what_is_no_list_of_components_is_refused(self, choices: Any) -> None:
        with pytest.raises(OptionsError, match="must be given as a list"):
            make_matrix(["bert"], choices, ["bce"])

    def test_component_named_twice_is_refused(self) -> None:
        with pytest.raises(OptionsError, match="'lora' is named twice"):
            make_matrix(["bert"], ["lora", LoraOptions()], ["bce"])


class TestResumption:
    def test_finished_runs_are_not_repeated(self, fake: list[dict[str, Any]], tmp_path: Path) -> None:
        assert run_twice(fake, tmp_path / "out", {}, {}) == 0

    def test_new_cells_and_seeds_alone_are_run(self, fake: list[dict[str, Any]], tmp_path: Path) -> None:
        run_twice(fake, tmp_path / "out", {}, {"strategies": ["lora", "full"], "seeds": 2})
        assert fits(fake) == [("full", 0), ("lora", 1), ("full", 1)]

    @pytest.mark.parametrize(
        "change",
        [
            {"training": TrainingOptions(epochs=2)},
            {"strategies": [LoraOptions(r=4)]},
            {"validation": 0.2},
            {"thresholds": "global"},
            {"data": replace(ROWS, train=make_feedback(61))},
        ],
        ids=["training", "strategy", "validation", "thresholds", "data"],
    )
    def test_whatever_changes_the_result_is_run_anew(
        self, fake: list[dict[str, Any]], tmp_path: Path, change: dict[str, Any]
    ) -> None:
        assert run_twice(fake, tmp_path / "out", {}, dict(change)) == 1

    def test_damaged_result_is_run_anew(self, fake: list[dict[str, Any]], tmp_path: Path) -> None:
        compare(ROWS, out=tmp_path / "out", seeds=1, verbose=0)
        (kept,) = (tmp_path / "out" / "runs").glob("*.json")
        kept.write_text(kept.read_text()[:50])
        fake.clear()
        compare(ROWS, out=tmp_path / "out", seeds=1, verbose=0)
        assert len(fits(fake)) == 1

    def test_failed_run_stops_no_other_and_is_tried_again(
        self, fake: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlclf.comparing import runner

        succeed = runner.results

        def failing(tasks: Iterable[Task], **given: Any) -> Iterator[tuple[Task, dict[str, Any]]]:
            for task, found in succeed(tasks, **given):
                full = "full" in task.stem.name
                yield task, {"status": "failed", "reason": "no memory"} if full else found
                if full:
                    task.result_file.unlink()

        monkeypatch.setattr("mlclf.comparing.runner.results", failing)
        found = compare(ROWS, out=tmp_path / "out", strategies=["full", "lora"], seeds=1, verbose=0)
        assert [run.cell.strategy for run in found.runs] == ["lora"]
        assert found.failed == (Refusal("bert / full / bce, seed 0", "no memory"),)
        monkeypatch.setattr("mlclf.comparing.runner.results", succeed)
        assert compare(ROWS, out=tmp_path / "out", strategies=["full", "lora"], seeds=1, verbose=0).failed == ()

    def test_cell_that_the_loaded_backbone_refuses_is_listed_and_not_fitted(
        self, fake: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        from mlclf.comparing import runner

        succeed = runner.results

        def refusing(tasks: Iterable[Task], **given: Any) -> Iterator[tuple[Task, dict[str, Any]]]:
            for task, found in succeed(tasks, **given):
                answer = {"status": "finished", "refusals": ["shares layers", None]}
                yield task, answer if task.content["kind"] == "check" else found

        monkeypatch.setattr("mlclf.comparing.runner.results", refusing)
        found = compare(ROWS, out=tmp_path / "out", strategies=["partial", "lora"], seeds=2)
        assert found.refused == (Refusal("bert / partial / bce", "shares layers"),)
        assert fits(fake) == [("lora", 0), ("lora", 1)]
        printed = capsys.readouterr().err
        assert "refused: bert / partial / bce: shares layers" in printed
        assert "[2/2] bert / lora / bce, seed 1: micro-F1 0.500" in printed

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"seeds": 0}, "seeds must be a whole number from 1 on, got 0"),
            ({"seeds": [1, 1]}, "different whole numbers"),
            ({"parallel": 0}, "parallel must be"),
            ({"training": TrainingOptions(checkpoint_dir="x")}, "one folder for all runs"),
        ],
    )
    def test_wrong_numbers_are_refused_first(
        self, fake: list[dict[str, Any]], tmp_path: Path, given: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(OptionsError, match=words):
            compare(ROWS, out=tmp_path / "out", **given)
        assert not fake

    def test_folder_of_something_else_is_left_alone(self, fake: list[dict[str, Any]], tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(OptionsError, match="holds something else than a comparison"):
            compare(ROWS, out=tmp_path, seeds=1)


def run_cli(*arguments: Any, status: int = 0) -> Any:
    found = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert found.exit_code == status, (found.exit_code, found.stdout, found.stderr, found.exception)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    save_jsonl(make_feedback(60), tmp_path / "rows.jsonl")
    return tmp_path / "rows.jsonl"


class TestCommand:
    def test_names_with_commas_and_settings_reach_the_runs(
        self, fake: list[dict[str, Any]], data: Path, tmp_path: Path
    ) -> None:
        arguments = ("--data", data, "--strategies", "lora,full", "--set", "strategy.r=4", "--set", "training.epochs=2")
        printed = run_cli(*arguments, "--seeds", 1, "--out", tmp_path / "out").stdout
        assert fits(fake) == [("lora", 0), ("full", 0)]
        (lora, full) = [content["job"] for content in fake if content["kind"] == "fit"]
        assert lora["components"]["strategy"][0]["options"]["r"] == 4
        assert "r" not in full["components"]["strategy"][0]["options"]
        assert lora["training"]["epochs"] == 2
        assert "lora (r=4)" in printed
        assert "comparison.html" in printed
        assert (tmp_path / "out" / "comparison.html").is_file()

    def test_json_is_what_the_file_holds(self, fake: list[dict[str, Any]], data: Path, tmp_path: Path) -> None:
        printed = run_cli("--data", data, "--seeds", 2, "--out", tmp_path / "out", "--json", "--quiet").stdout
        found = json.loads(printed)
        assert found == json.loads((tmp_path / "out" / "comparison.json").read_text())
        assert found["cells"][0]["seeds"] == [0, 1]
        assert found["rows"] == {"train": 48, "test": 12}
        assert "mlclf" in found["facts"]["versions"]

    def test_interruption_says_how_to_go_on(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any, **__: Any) -> Iterator[Any]:
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr("mlclf.comparing.runner.results", interrupted)
        error = run_cli("--data", data, "--out", tmp_path / "out", status=130).stderr
        assert "the same command goes on" in error

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--strategies", "lorra"], "Did you mean 'lora'?"),
            (["--heads", "lora"], "'lora' is a strategy"),
            (["--strategies", "full,head-only", "--set", "strategy.r=4"], "has no option 'r'"),
            (["--set", "random_state=3"], "a comparison has an option of its own for this, or none"),
            (["--set", "strategy.name=full"], "a comparison has an option of its own for this, or none"),
            (["--set", "training.epochs=0"], "TrainingOptions(epochs=0)"),
            (["--data", "/absent.jsonl"], "There is no file /absent.jsonl"),
        ],
    )
    def test_wrong_input_is_one_message_before_any_fit(
        self, fake: list[dict[str, Any]], data: Path, tmp_path: Path, arguments: list[str], words: str
    ) -> None:
        error = run_cli("--data", data, "--out", tmp_path / "out", *arguments, status=2).stderr
        assert words in error
        assert not fake
