"""The command line translates: right arguments to the Python API, results to stdout, errors to one message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mlclf
from mlclf.cli.app import app
from mlclf.datasets import make_feedback, save_jsonl

NAMES = ["joy", "fear", "anger"]


class FakeClassifier:
    """Stands in for a saved classifier: predicts by the words of a text."""

    made: list[FakeClassifier]
    classes_ = np.array(NAMES)

    def __init__(self, **given: Any) -> None:
        self.given, self.used_thresholds = given, None
        self.made.append(self)

    @classmethod
    def load(cls, folder: Path, device: str | None) -> FakeClassifier:
        return cls(folder=folder, device=device)

    def predict_proba(self, X: list[str]) -> Any:
        return np.array([[0.9 if name in text else 0.1 for name in NAMES] for text in X], dtype=np.float32)

    def predict_labels(self, X: list[str], top_k: int | None = None, thresholds: Any = None) -> list[tuple[str, ...]]:
        self.used_thresholds = thresholds
        return [tuple(name for name in NAMES if name in text)[:top_k] for text in X]

    def predict_topk(self, X: list[str], k: int) -> Any:
        p = self.predict_proba(X)
        order = np.argsort(-p, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(p, order, axis=1)

    def set_thresholds(self, thresholds: Any) -> None:
        self.used_thresholds = thresholds

    def evaluate(self, X: Any, Y: Any, *, error_texts: int = 0) -> Any:
        self.evaluated_on = (X, Y)
        return type("R", (), {"to_dict": lambda self: {"micro_f1": 0.5}, "__str__": lambda self: "micro-F1 .500"})()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeClassifier]:
    monkeypatch.setattr(FakeClassifier, "made", [], raising=False)
    monkeypatch.setitem(mlclf.__dict__, "MultiLabelClassifier", FakeClassifier)
    return FakeClassifier


@pytest.fixture
def data(tmp_path: Path) -> Path:
    save_jsonl(make_feedback(20), tmp_path / "train.jsonl")
    return tmp_path / "train.jsonl"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, content: str) -> Path:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path / name

    return write


def run(*arguments: Any, stdin: str | bytes | None = None, status: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == status, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


# --- evaluate


def test_evaluate_prints_the_report(fake: type[FakeClassifier], data: Path) -> None:
    assert run("evaluate", "model", data).stdout == "micro-F1 .500\n"
    corpus = make_feedback(20)
    assert fake.made[-1].evaluated_on == (corpus.texts, corpus.labels)
    assert fake.made[-1].given == {"folder": Path("model"), "device": None}


def test_evaluate_as_json_with_other_thresholds(fake: type[FakeClassifier], data: Path) -> None:
    assert json.loads(run("evaluate", "model", data, "--json", "--thresholds", "0.4").stdout) == {"micro_f1": 0.5}
    assert fake.made[-1].used_thresholds == 0.4
    run("evaluate", "model", data, "--thresholds", "joy=0.3, fear=0.6", "--device", "cpu")
    assert fake.made[-1].used_thresholds == {"joy": 0.3, "fear": 0.6}
    assert fake.made[-1].given["device"] == "cpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joy", "--thresholds joy: write a number, label=number pairs"),
        ("joy=high", "'high' is not a number"),
        ('{"joy": }', "not JSON"),
        ('{"joy": null}', "None is not a number"),
    ],
)
def test_wrong_thresholds_get_one_message(fake: type[FakeClassifier], data: Path, text: str, message: str) -> None:
    assert message in run("evaluate", "model", data, "--thresholds", text, status=2).stderr


# --- predict


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_predict_reads_texts_from_standard_input(fake: type[FakeClassifier]) -> None:
    result = run("predict", "model", "-", stdin="no joy, no fear\n\nanger - très\r\n".encode())
    assert lines_of(result.stdout) == [
        {"text": "no joy, no fear", "labels": ["joy", "fear"]},
        {"text": "", "labels": []},
        {"text": "anger - très", "labels": ["anger"]},
    ]
    assert "très" in result.stdout


def test_predict_gives_probabilities(fake: type[FakeClassifier]) -> None:
    result = run("predict", "model", "-", "--format", "proba", "--no-text", stdin="joy")
    assert lines_of(result.stdout) == [{"probabilities": {"joy": 0.9, "fear": 0.1, "anger": 0.1}}]


def test_predict_gives_the_most_probable_labels(fake: type[FakeClassifier]) -> None:
    result = run("predict", "model", "-", "--format", "topk", "--top-k", "2", stdin="anger")
    top = [{"label": "anger", "probability": 0.9}, {"label": "joy", "probability": 0.1}]
    assert lines_of(result.stdout) == [{"text": "anger", "top": top}]
    assert len(lines_of(run("predict", "model", "-", "--format", "topk", stdin="anger").stdout)[0]["top"]) == 3


def test_top_k_is_a_limit_for_labels_and_of_no_use_for_probabilities(fake: type[FakeClassifier]) -> None:
    limited = run("predict", "model", "-", "--top-k", "1", "--no-text", stdin="joy and fear").stdout
    assert lines_of(limited) == [{"labels": ["joy"]}]
    refused = run("predict", "model", "-", "--top-k", "1", "--format", "proba", stdin="joy", status=2)
    assert "--top-k 1 has no effect with --format proba" in refused.stderr
    assert len(fake.made) == 1


def test_predict_passes_thresholds_on(fake: type[FakeClassifier]) -> None:
    run("predict", "model", "-", "--thresholds", "0.9", stdin="anger")
    assert fake.made[-1].used_thresholds == 0.9


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_predict_reads_files_without_labels_and_writes_files(
    fake: type[FakeClassifier], tmp_path: Path, write: Callable[[str, str], Path], name: str
) -> None:
    source = write(name, '{"text": "joy"}\n{"text": "x"}\n' if name == "a.jsonl" else "text\njoy\nx\n")
    out = tmp_path / "out.jsonl"
    assert run("predict", "model", source, "--out", out).stdout == f"Wrote 2 rows to {out}.\n"
    assert lines_of(out.read_text()) == [{"text": "joy", "labels": ["joy"]}, {"text": "x", "labels": []}]
    assert json.loads(run("predict", "model", source, "--out", out, "--json").stdout) == {
        "out": str(out),
        "n_samples": 2,
    }


def test_predict_works_through_many_texts_in_order(fake: type[FakeClassifier], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlclf.cli.predicting._CHUNK", 2)
    result = run("predict", "model", "-", stdin="".join(f"{number}\n" for number in range(7)))
    assert [row["text"] for row in lines_of(result.stdout)] == list("0123456")


@pytest.mark.parametrize(
    ("stdin", "message"), [(b"", "Standard input is empty"), (b"ok\n\xff\xff\n", "standard input, line 2: byte 1")]
)
def test_wrong_standard_input_gets_one_message(fake: type[FakeClassifier], stdin: bytes, message: str) -> None:
    assert message in run("predict", "model", "-", stdin=stdin, status=2).stderr


# --- the program


def test_version() -> None:
    assert run("--version").stdout == f"mlclf {mlclf.__version__}\n"


def test_help_names_all_commands() -> None:
    output = run("--help").stdout
    assert all(command in output for command in ("train", "evaluate", "predict", "zero-shot", "plugins"))


def test_no_arguments_show_help() -> None:
    assert "Usage" in CliRunner().invoke(app, []).output


def test_plugins_are_mounted_and_their_errors_are_messages() -> None:
    assert "plugins" in json.loads(run("plugins", "list", "--json").stdout)
    assert "Error: " in run("plugins", "show", "no-such-plugin", status=2).stderr


def test_unknown_command_is_a_usage_error() -> None:
    assert "No such command" in run("trian", status=2).stderr
