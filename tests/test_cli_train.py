"""``mlclf train`` translates: configuration and options to the Python API, results to stdout, errors to one message."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from chain_kit import register
from typer.testing import CliRunner

import mlclf
from mlclf.bundle.manifest import MANIFEST_NAME
from mlclf.cli.app import app
from mlclf.datasets import make_feedback, save_jsonl
from mlclf.exceptions import NonFiniteLossError, TrainingInterrupted
from mlclf.options import TrainingOptions
from mlclf.strategies.lora import LoraOptions

NAMES = ["joy", "fear", "anger"]


class FakeClassifier:
    """Stands in for the classifier: remembers what it was given."""

    made: list[FakeClassifier]
    error: BaseException | None = None

    backbone, strategy, head = "bert", "lora", "bce"
    classes_ = np.array(NAMES)
    strategy_choice_ = None
    history_ = type("H", (), {"to_dict": lambda self: HISTORY})()

    def __init__(self, **given: Any) -> None:
        self.given, self.fitted_on = given, None
        self.validation_report_: dict[str, float] = {}
        self.made.append(self)

    def fit(self, X: Any, Y: Any, validation_data: Any = None) -> Self:
        sys.stdout.write("a library prints")
        if self.error is not None:
            raise self.error
        self.fitted_on = (X, Y, validation_data)
        return self

    def save(self, folder: Path, include_backbone: bool, include_replay: bool) -> None:
        folder.mkdir(parents=True)
        (folder / MANIFEST_NAME).write_text(json.dumps({"include_backbone": include_backbone}))


HISTORY = {
    "evaluations": [{"epoch": 1.0, "metrics": {"micro_f1": 0.5}}],
    "best": 0,
    "precision": "bf16",
    "n_trainable": 10,
    "n_parameters": 1000,
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeClassifier]:
    monkeypatch.setattr(FakeClassifier, "made", [], raising=False)
    monkeypatch.setattr(FakeClassifier, "error", None)
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


def run_train(fake: type[FakeClassifier], *arguments: Any) -> FakeClassifier:
    run("train", *arguments)
    return fake.made[-1]


def test_train_fits_on_the_file_and_saves(fake: type[FakeClassifier], data: Path, tmp_path: Path) -> None:
    result = run("train", data, "--out", tmp_path / "model")
    classifier = fake.made[-1]
    corpus = make_feedback(20)
    assert classifier.fitted_on == (corpus.texts, corpus.labels, None)
    assert classifier.given == {
        "backbone": "bert",
        "strategy": "lora",
        "head": "bce",
        "training": TrainingOptions(),
        "verbose": 1,
    }
    assert (tmp_path / "model" / MANIFEST_NAME).exists()
    assert result.stdout.splitlines() == [
        "Trained on 20 texts with 3 labels in 0 s (bf16, 10 of 1,000 parameters).",
        "Best on validation rows after epoch 1: micro_f1 0.500.",
        f"Saved in {tmp_path / 'model'}.",
    ]


def test_json_is_all_that_stands_on_stdout(fake: type[FakeClassifier], data: Path, tmp_path: Path) -> None:
    result = run("train", data, "--out", tmp_path / "model", "--json", "--quiet")
    summary = json.loads(result.stdout)
    assert summary["classes"] == NAMES
    assert summary["n_samples"] == 20
    assert summary["history"] == HISTORY
    assert fake.made[-1].given["verbose"] == 0
    assert "a library prints" in result.stderr


def test_options_reach_the_classifier(fake: type[FakeClassifier], data: Path, tmp_path: Path) -> None:
    classifier = run_train(
        fake,
        *(data, "--out", tmp_path / "model", "--backbone", "minilm:l6"),
        *(
            "--strategy",
            "full",
            "--head",
            "other",
            "--device",
            "cpu",
            "--resume-from",
            "ckpt",
            "--checkpoint-dir",
            "runs",
        ),
        *("--set", "training.epochs=2", "--set", "training.learning_rate=1e-3", "--set", "random_state=7"),
        *("--set", "validation=null", "--set", "thresholds=0.4", "--set", "classes=[a, b]"),
    )
    assert classifier.given == {
        "backbone": "minilm:l6",
        "strategy": "full",
        "head": "other",
        "training": TrainingOptions(epochs=2, learning_rate=1e-3, checkpoint_dir="runs", resume_from="ckpt"),
        "device": "cpu",
        "random_state": 7,
        "validation": None,
        "thresholds": 0.4,
        "classes": ["a", "b"],
        "verbose": 1,
    }


def test_configuration_file_says_everything(
    fake: type[FakeClassifier], data: Path, tmp_path: Path, write: Callable[[str, str], Path]
) -> None:
    config = write(
        "config.yaml",
        f"""
        data: {{train: {data}, validation: {data}}}
        out: {tmp_path / "model"}
        include_backbone: true
        strategy: full
        training: {{epochs: 4, learning_rate: 1e-4}}
        thresholds: global
        calibration: platt
        """,
    )
    classifier = run_train(fake, "--config", config)
    assert classifier.given["training"] == TrainingOptions(epochs=4, learning_rate=1e-4)
    assert classifier.given["strategy"] == "full"
    assert classifier.given["thresholds"] == "global"
    assert classifier.given["calibration"] == "platt"
    assert classifier.fitted_on is not None
    assert classifier.fitted_on[2] == (classifier.fitted_on[0], classifier.fitted_on[1])
    assert json.loads((tmp_path / "model" / MANIFEST_NAME).read_text()) == {"include_backbone": True}


def test_set_goes_before_options_go_before_file(
    fake: type[FakeClassifier], data: Path, tmp_path: Path, write: Callable[[str, str], Path]
) -> None:
    config = write(
        "config.json",
        json.dumps({"out": "elsewhere", "strategy": "features", "training": {"epochs": 4, "batch_size": 8}}),
    )
    classifier = run_train(
        fake,
        *(data, "--config", config, "--out", tmp_path / "model", "--set", "training.epochs=5"),
        *("--set", "head=other", "--strategy", "full", "--head", "none", "--resume-from", "b"),
    )
    assert (classifier.given["strategy"], classifier.given["head"]) == ("full", "other")
    assert classifier.given["training"] == TrainingOptions(epochs=5, batch_size=8, resume_from="b")


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("a.csv", "t,y\nhi,a|b\n", ["--text-column", "t", "--label-column", "y", "--label-separator", "|"], ("a", "b")),
        ("a.csv", "text,b,a\nhi,1,0\n", ["--indicator-column", "b", "--indicator-column", "a"], ("b",)),
    ],
)
def test_columns_can_be_named(
    fake: type[FakeClassifier],
    tmp_path: Path,
    write: Callable[[str, str], Path],
    name: str,
    content: str,
    options: list[str],
    expected: tuple[str, ...],
) -> None:
    classifier = run_train(fake, write(name, content), "--out", tmp_path / "model", *options)
    assert classifier.fitted_on == (["hi"], [expected], None)
    assert classifier.given.get("classes") == (["b", "a"] if "--indicator-column" in options else None)


TRAIN_ERRORS = [
    ([], "Name a file of training rows: mlclf train DATA"),
    (["DATA"], "Name a folder for the model: --out MODEL"),
    (["c.yaml", "--out", "m"], "c.yaml is a configuration, not data. Use: mlclf train --config c.yaml"),
    (["none.jsonl", "--out", "m"], "There is no file none.jsonl"),
    (["DATA", "--out", "FOLDER"], "exists and is not a saved model: it would be replaced whole"),
    (["DATA", "--out", "m", "--set", "epochs"], "--set epochs: write KEY=VALUE, such as strategy.r=16"),
    (
        ["DATA", "--out", "m", "--set", "training.epoch=2"],
        "no key 'training.epoch'. Did you mean 'epochs'? Keys of training",
    ),
    (
        ["DATA", "--out", "m", "--set", "stratgy.r=2"],
        "there is no key 'stratgy'. Did you mean 'strategy'? Keys: data, out",
    ),
    (["DATA", "--out", "m", "--set", "training.epochs=0"], "TrainingOptions(epochs=0): input should be greater"),
    (["DATA", "--out", "m", "--set", "random_state=x"], "random_state: input should be a valid integer"),
    (["DATA", "--out", "m", "--set", "training=3"], "training: input should be a valid dictionary, got 3"),
    (
        ["DATA", "--out", "m", "--set", "strategy.rr=3"],
        "strategy 'lora' has no option 'rr'. Did you mean 'r'? It has: ",
    ),
    (["DATA", "--out", "m", "--set", "strategy.r=-3"], "LoraOptions(r=-3): input should be greater"),
    (["DATA", "--out", "m", "--strategy", "lorra", "--set", "strategy.r=3"], "lorra"),
    (["DATA", "--out", "m", "--config", "none.yaml"], "none.yaml cannot be read: No such file"),
    (["DATA", "--out", "m", "--config", "none.toml"], "must end with .yaml, .yml or .json"),
    (["DATA", "--out", "m", "--label-column", "tags"], "there is no column 'tags'. It has: 'text', 'labels'"),
]


@pytest.mark.parametrize(("arguments", "message"), TRAIN_ERRORS)
def test_wrong_arguments_get_one_message(
    fake: type[FakeClassifier],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    replaced = [{"DATA": str(data), "FOLDER": str(tmp_path)}.get(argument, argument) for argument in arguments]
    result = run("train", *replaced, status=2)
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not any(made.fitted_on for made in fake.made)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.yaml", "a: [", "c.yaml cannot be read: while parsing"),
        ("c.json", '{"a": }', "c.json cannot be read: Expecting value: line 1 column 7"),
        ("c.yaml", "- a", "expected keys and values, got list"),
        ("c.yaml", "trainign: {}", "c.yaml: there is no key 'trainign'. Did you mean 'training'?"),
        ("c.yaml", "training: {epoch: 1}", "there is no key 'training.epoch'. Did you mean 'epochs'?"),
        ("c.yaml", "data: {txt_column: a}", "there is no key 'data.txt_column'. Did you mean 'text_column'?"),
        ("c.yaml", "data: {text_column: 3}", "data.text_column: input should be a valid string, got 3"),
        ("c.yaml", "strategy: 3", "strategy: input should be a valid dictionary"),
        ("c.yaml", "training: {epochs: many}", "TrainingOptions(epochs='many')"),
    ],
)
def test_wrong_configuration_file_gets_one_message(
    fake: type[FakeClassifier],
    data: Path,
    tmp_path: Path,
    write: Callable[[str, str], Path],
    name: str,
    content: str,
    message: str,
) -> None:
    result = run("train", data, "--out", tmp_path / "model", "--config", write(name, content), status=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_empty_configuration_file_changes_nothing(
    fake: type[FakeClassifier], data: Path, tmp_path: Path, write: Callable[[str, str], Path]
) -> None:
    run("train", data, "--out", tmp_path / "model", "--config", write("c.yaml", "# later\n"))


@pytest.mark.parametrize("signal_number", [2, 15])
def test_interruption_says_how_to_go_on(
    fake: type[FakeClassifier],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signal_number: int,
) -> None:
    monkeypatch.setattr(fake, "error", TrainingInterrupted("Stopped at step 3.", Path("runs/step-3"), signal_number))
    result = run("train", data, "--out", tmp_path / "model", status=128 + signal_number)
    assert "To go on, give the same command with: --resume-from runs/step-3" in result.stderr
    assert not (tmp_path / "model").exists()


def test_interruption_without_checkpoint_names_the_option(
    fake: type[FakeClassifier], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "error", TrainingInterrupted("Stopped.", None, 2))
    assert "With --checkpoint-dir FOLDER" in run("train", data, "--out", tmp_path / "model", status=130).stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt()])
def test_ctrl_c_elsewhere_ends_quietly(
    fake: type[FakeClassifier], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(fake, "error", error)
    assert run("train", data, "--out", tmp_path / "model", status=130).stderr.endswith("Interrupted.\n")


@pytest.mark.parametrize("error", [NonFiniteLossError("The loss became NaN."), OSError(28, "No space left on device")])
def test_failed_run_gets_one_message_and_with_debug_a_traceback(
    fake: type[FakeClassifier], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(fake, "error", error)
    arguments = ["train", str(data), "--out", str(tmp_path / "model")]
    assert f"Error: {error}" in run(*arguments, status=2).stderr
    assert CliRunner().invoke(app, ["--debug", *arguments]).exception is error


def test_a_strategy_given_twice_is_a_chain(fake: type[FakeClassifier], data: Path, tmp_path: Path) -> None:
    register()
    classifier = run_train(fake, data, "--out", tmp_path / "m", "--strategy", "lora", "--strategy", "local:shift")
    assert classifier.given["strategy"] == ["lora", "local:shift"]
    alone = run_train(fake, data, "--out", tmp_path / "m2", "--strategy", "lora")
    assert alone.given["strategy"] == "lora"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [LoraOptions(r=8), "local:shift"]),
        (["--set", "strategy.lora.r=4"], [LoraOptions(r=4), "local:shift"]),
        (["--strategy", "lora", "--strategy", "local:scale"], [LoraOptions(r=8), "local:scale"]),
        (["--strategy", "full"], "full"),
        (["--set", "strategy=[lora]"], [LoraOptions(r=8)]),
    ],
)
def test_a_chain_in_a_file_gives_way_to_options(
    fake: type[FakeClassifier],
    data: Path,
    tmp_path: Path,
    write: Callable[[str, str], Path],
    arguments: list[str],
    expected: Any,
) -> None:
    register()
    file = write("c.yaml", "strategy: [{name: lora, r: 8}, local:shift]")
    classifier = run_train(fake, data, "--out", tmp_path / "model", "--config", file, *arguments)
    assert classifier.given["strategy"] == expected


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("strategy: [lora, local:shift]", ["--set", "strategy.r=4"], "say of which one 'r' is an option, such as"),
        ("strategy: [lora, {r: 8}]", [], "strategy: a list must hold at least one strategy, each with its name"),
        ("strategy: []", [], "strategy: a list must hold at least one strategy"),
        ("strategy: [lora, 3]", [], "strategy: a list must hold at least one strategy"),
        ("strategy: [{name: lora, rank: 8}, local:shift]", [], "strategy 'lora' has no option 'rank'."),
        ("head: [bce, bce]", [], "head: input should be a valid dictionary"),
    ],
)
def test_a_wrong_chain_gets_one_message(
    fake: type[FakeClassifier],
    data: Path,
    tmp_path: Path,
    write: Callable[[str, str], Path],
    content: str,
    arguments: list[str],
    message: str,
) -> None:
    register()
    file = write("c.yaml", content)
    result = run("train", data, "--out", tmp_path / "model", "--config", file, *arguments, status=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
