"""``mlclf compare``: runs in processes of their own, kept, and shown on one page that needs nothing else."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mlclf import BertOptions, LoraOptions, TrainingOptions
from mlclf.charts.axis import Axis
from mlclf.cli.app import app
from mlclf.comparing import ComparedRows, Comparison, compare, processes, read_rows
from mlclf.comparing.comparison import Run
from mlclf.comparing.jobs import Settings, make_jobs
from mlclf.comparing.matrix import Cell, Refusal, make_matrix
from mlclf.comparing.page import page
from mlclf.comparing.plots import PLOTS, svg
from mlclf.comparing.processes import Task
from mlclf.comparing.table import columns, summarise
from mlclf.comparing.worker import check, fit
from mlclf.datasets import Dataset, make_feedback, save_jsonl
from mlclf.exceptions import DataFileError, OptionsError, UnknownComponentError

HOSTILE = """<script>alert("x")</script>'&<img src=x onerror=y>"""
ROWS = ComparedRows(train=make_feedback(60), test=make_feedback(20, random_state=1))


def result(micro: float = 0.5, **given: Any) -> dict[str, Any]:
    """What the process of a run writes."""
    names = ("macro_f1", "samples_f1", "mean_average_precision", "micro_f1_at_half", "macro_f1_at_half")
    return {
        "status": "finished",
        "figures": {"micro_f1": micro, **dict.fromkeys(names, 0.25)},
        "seconds": 12.0,
        "rows_per_second": 300.0,
        "precision": "fp32",
        "best_epoch": 1.0,
        "n_trainable": 10,
        "n_parameters": 1000,
        "share": 0.01,
        "choice": None,
        "peak_memory": 500 << 20,
        "peak_gpu_memory": None,
        **given,
    }


def cell(strategy: str = "lora", backbone: str = "bert", head: str = "bce") -> Cell:
    entries: Any = {kind: [{"name": kind, "options": {}}] for kind in ("backbone", "strategy", "head")}
    return Cell(backbone, strategy, head, entries)


def comparison(*runs: Run, **given: Any) -> Comparison:
    return Comparison(ROWS, (0, 1), Settings(), runs=runs, **given)


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


def fits(asked: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [
        (content["job"]["components"]["strategy"][0]["name"], content["job"]["seed"])
        for content in asked
        if content["kind"] == "fit"
    ]


def run_twice(fake: list[dict[str, Any]], out: Path, first: dict[str, Any], second: dict[str, Any]) -> int:
    """Return how many fits a second comparison makes."""
    same = {"backbones": ["bert"], "strategies": ["lora"], "seeds": 1, "verbose": 0, "out": out}
    compare(first.pop("data", ROWS), **{**same, **first})
    fake.clear()
    compare(second.pop("data", ROWS), **{**same, **second})
    return len(fits(fake))


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


class TestTable:
    def test_seeds_become_mean_and_sample_standard_deviation_best_first(self) -> None:
        rows = summarise([(cell("a"), 0, result(0.4)), (cell("b"), 0, result(0.5)), (cell("b"), 1, result(0.6))])
        assert [(row.number, row.cell.strategy, row.seeds) for row in rows] == [(1, "b", (0, 1)), (2, "a", (0,))]
        table = dict(columns(rows))
        assert table["micro-F1"] == ["0.550 ± 0.071", "0.400"]
        assert table["peak MiB"] == ["500", "500"]
        assert table["trainable"] == ["1 %", "1 %"]
        assert "backbone" not in table
        assert "GPU MiB" not in table

    def test_what_auto_stood_for_is_shown(self) -> None:
        rows = summarise([(cell("auto"), 0, result(choice={"strategy": "lora"}))])
        assert dict(columns(rows))["strategy"] == ["auto → lora"]


class Elements(HTMLParser):
    """Collects elements and their attributes, and sees that each is closed."""

    EMPTY = frozenset({"meta", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


class TestPage:
    def test_hostile_names_are_text(self) -> None:
        hostile = cell(HOSTILE, backbone=HOSTILE, head=HOSTILE)
        found = comparison(
            Run(hostile, 0, result()),
            Run(cell(), 0, result(0.2)),
            refused=(Refusal(HOSTILE, HOSTILE),),
            failed=(Refusal(HOSTILE, HOSTILE),),
        )
        elements = Elements(page(replace(found, rows=replace(ROWS, source=HOSTILE))))
        assert not {"script", "img"} & {tag for tag, _ in elements.found}
        assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
        assert HOSTILE in elements.text

    def test_page_loads_nothing(self) -> None:
        elements = Elements(page(comparison(Run(cell(), 0, result()))))
        assert not {"link", "script", "img", "iframe", "a"} & {tag for tag, _ in elements.found}
        assert not any({"src", "href", "xlink:href"} & set(attributes) for _, attributes in elements.found)
        policy = next(attributes for _, attributes in elements.found if "http-equiv" in attributes)
        assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
        assert "url(" not in elements.text
        assert "@import" not in elements.text

    def test_page_says_how_it_was_measured(self) -> None:
        text = Elements(page(comparison(Run(cell(), 0, result()), Run(cell(), 1, result(0.7))))).text
        assert "0.600 ± 0.141" in text
        assert "nothing was tuned on them" in text
        assert "60 training and 20 test rows" in text
        assert "torch" in text

    def test_page_without_a_finished_run_is_a_page(self) -> None:
        assert "No run has finished." in Elements(page(comparison(failed=(Refusal("x", "y"),)))).text

    @pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
    def test_plot_is_xml_with_a_title_a_description_and_a_point_for_each_cell(self, plot: Any) -> None:
        runs = [(cell(HOSTILE), 0, result(0.4, share=0.0)), (cell("b"), 0, result(0.5)), (cell("b"), 1, result(0.6))]
        root = ElementTree.fromstring(svg(plot, summarise(runs)))
        ids = root.attrib["aria-labelledby"].split()
        assert [next(e for e in root if e.get("id") == name).tag for name in ids] == ["title", "desc"]
        points = [element for element in root if element.get("class", "").startswith("point")]
        assert sorted(str(point.findall("text")[-1].text) for point in points) == ["1", "2"]
        assert len([line for point in points for line in point.findall("line")]) == 1  # spread of two seeds


@given(st.lists(st.floats(0, 1e7, allow_subnormal=False), min_size=1, max_size=9), st.sampled_from([None, False]))
def test_axis_has_room_for_all_values_and_ascending_ticks(values: list[float], logarithmic: bool | None) -> None:
    values = [0.0 if value < 1e-6 else value for value in values]
    axis = Axis.over(values, logarithmic=logarithmic)
    places = [axis.place(value) for value in values]
    assert all(0 <= place <= 1 for place in places)
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert [p for _, p in sorted(zip(values, places, strict=True))] == sorted(places)
    assert axis.place(axis.ticks[0]) == pytest.approx(0)
    assert axis.place(axis.ticks[-1]) == pytest.approx(1)


class TestWorker:
    def test_run_is_fitted_and_scored(self, tiny_bert: Path, tmp_path: Path) -> None:
        cells, _ = make_matrix([BertOptions(model=str(tiny_bert))], [LoraOptions(r=2)], ["bce"])
        settings = Settings(training=TrainingOptions(epochs=1))
        (job,) = make_jobs(cells, [7], ROWS, settings)
        files = {name: str(tmp_path / f"{name}.jsonl") for name in ROWS.parts}
        for name, data in ROWS.parts.items():
            save_jsonl(data, files[name])
        found = json.loads(json.dumps(fit({"job": job.content, "rows": files})))
        assert 0 <= found["figures"]["micro_f1"] <= 1
        assert found["peak_memory"] > 50 << 20
        assert found["share"] == found["n_trainable"] / found["n_parameters"]
        assert 0 < found["share"] < 0.5
        assert found["seconds"] > 0

    def test_check_says_what_a_loaded_backbone_cannot_take(self, tmp_path: Path) -> None:
        from mlclf.testing import tiny_encoder

        backbone = BertOptions(model=str(tiny_encoder("albert", tmp_path / "albert")))
        cells, _ = make_matrix([backbone], ["partial", "full", "auto"], ["bce"])
        pairs = [(found.entries["strategy"], found.entries["head"]) for found in cells]
        reasons = check({"backbone": cells[0].entries["backbone"], "pairs": pairs})["refusals"]
        assert "layers share weights" in reasons[0]
        assert reasons[1:] == [None, None]


class TestProcesses:
    """With a program in place of Python, which starts at once."""

    @pytest.fixture
    def program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        def write(script: str) -> Task:
            file = tmp_path / "program"
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
            monkeypatch.setattr(processes.sys, "executable", str(file))
            return Task({"kind": "fit"}, tmp_path / "runs" / "one")

        return write

    def test_result_is_read_and_nothing_else_stays(self, program: Any, tmp_path: Path) -> None:
        task = program(f"""echo '{{"status": "finished"}}' > {tmp_path}/runs/one.json""")
        assert list(processes.results([task], parallel=2, threads=1)) == [(task, {"status": "finished"})]
        assert [path.name for path in task.stem.parent.iterdir()] == ["one.json"]

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("kill -9 $$", "ended by signal SIGKILL, most likely for lack of memory"),
            ("echo no such library; exit 3", "ended with status 3 and no result: no such library"),
        ],
    )
    def test_process_without_a_result_has_a_reason(self, program: Any, script: str, words: str) -> None:
        ((_, found),) = processes.results([program(script)], parallel=1, threads=1)
        assert found["status"] == "failed"
        assert words in found["reason"]

    @pytest.mark.parametrize("script", ["exec sleep 60", "trap '' TERM; while true; do sleep 1; done"])
    def test_interruption_ends_processes(self, program: Any, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "_PATIENCE", 0.3)
        task = program(script)
        started: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen

        def remember(*arguments: Any, **given: Any) -> subprocess.Popen[bytes]:
            started.append(popen(*arguments, **given))
            return started[-1]

        def interrupt(seconds: float) -> None:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(processes.subprocess, "Popen", remember)
        monkeypatch.setattr(processes, "time", type("T", (), {"sleep": interrupt, "monotonic": time.monotonic}))
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            list(processes.results([task], parallel=1, threads=1))
        assert started[0].poll() is not None
        assert signal.getsignal(signal.SIGTERM) == before
        assert list(task.stem.parent.iterdir()) == []


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


@pytest.mark.slow
def test_whole_comparison_in_processes_interrupted_and_continued(tiny_bert: Path, tmp_path: Path) -> None:
    save_jsonl(make_feedback(60), tmp_path / "rows.jsonl")
    command = [sys.executable, "-c", "from mlclf.cli.app import main; main()", "compare", "--data", "rows.jsonl"]
    command += ["--set", f"backbone.model={tiny_bert}", "--strategies", "head-only,auto", "--seeds", "2"]
    command += ["--set", "training.epochs=1", "--out", "out"]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out" / "runs").glob("*.json") if (tmp_path / "out").is_dir() else []):
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert "goes on" in first.communicate(timeout=60)[1]
    assert first.returncode == 130
    kept = {path.name for path in (tmp_path / "out" / "runs").iterdir()}
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"4 runs, {len(kept)} of them finished before." in second.stderr
    assert "auto → head-only" in second.stdout
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["seeds"] for row in found["cells"]] == [[0, 1], [0, 1]]
    assert kept <= {path.name for path in (tmp_path / "out" / "runs").iterdir()}
