"""The command line with a real, tiny model: what it says is what the Python API says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mlclf import MultiLabelClassifier
from mlclf.cli.app import app
from mlclf.datasets import load, make_feedback, save_jsonl


def run(*arguments: Any, stdin: str | None = None, status: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == status, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    save_jsonl(make_feedback(120), folder / "train.jsonl")
    save_jsonl(make_feedback(40, random_state=1), folder / "test.jsonl.gz")
    return folder


@pytest.fixture(scope="module")
def arguments(folder: Path, tiny_bert: Path) -> list[str]:
    """What every training of this module is given."""
    config = {
        "data": {"train": str(folder / "train.jsonl")},
        "backbone": {"name": "bert", "model": str(tiny_bert), "max_length": 32},
        "strategy": {"name": "lora", "r": 4},
        "training": {"epochs": 1, "precision": "fp32"},
        "device": "cpu",
        "random_state": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return ["train", "--config", str(folder / "config.json")]


@pytest.fixture(scope="module")
def model(folder: Path, arguments: list[str]) -> Path:
    run(*arguments, "--out", folder / "model", "--quiet")
    return folder / "model"


def test_training_gives_the_model_of_the_python_api(model: Path, folder: Path, tiny_bert: Path) -> None:
    from mlclf import BertOptions, LoraOptions, TrainingOptions

    data = load(folder / "train.jsonl")
    clf = MultiLabelClassifier(
        BertOptions(model=str(tiny_bert), max_length=32),
        LoraOptions(r=4),
        training=TrainingOptions(epochs=1, precision="fp32"),
        device="cpu",
        random_state=0,
        verbose=0,
    ).fit(data.texts, data.labels)
    np.testing.assert_array_equal(
        clf.predict_proba(data.texts[:20]), MultiLabelClassifier.load(model).predict_proba(data.texts[:20])
    )


def test_summary_of_training_is_json(folder: Path, arguments: list[str]) -> None:
    result = run(*arguments, "--out", folder / "other", "--json", "--set", "strategy.r=2", "--set", "head.hidden=[8]")
    summary = json.loads(result.stdout)
    assert summary["n_samples"] == 120
    assert len(summary["classes"]) == 16
    assert summary["history"]["evaluations"][0]["metrics"]["micro_f1"] >= 0
    assert summary["validation_report"]["n_samples"] == 12
    loaded = MultiLabelClassifier.load(folder / "other")
    assert (loaded.get_params()["strategy__r"], loaded.head.hidden) == (2, (8,))


def test_evaluate_gives_the_report_of_the_python_api(model: Path, folder: Path) -> None:
    data = load(folder / "test.jsonl.gz")
    expected = MultiLabelClassifier.load(model).evaluate(data.texts, data.labels)
    assert json.loads(run("evaluate", model, folder / "test.jsonl.gz", "--json").stdout) == expected.to_dict()
    assert run("evaluate", model, folder / "test.jsonl.gz").stdout == f"{expected}\n"


def test_predict_gives_the_labels_of_the_python_api(model: Path, folder: Path) -> None:
    texts = load(folder / "test.jsonl.gz").texts
    clf = MultiLabelClassifier.load(model)
    rows = [json.loads(line) for line in run("predict", model, folder / "test.jsonl.gz").stdout.splitlines()]
    assert [(row["text"], tuple(row["labels"])) for row in rows] == list(
        zip(texts, clf.predict_labels(texts), strict=True)
    )
    printed = run("predict", model, "-", "--format", "proba", stdin="\n".join(texts[:5]))
    rows = [json.loads(line) for line in printed.stdout.splitlines()]
    np.testing.assert_allclose(
        [[row["probabilities"][name] for name in clf.classes_] for row in rows], clf.predict_proba(texts[:5]), atol=1e-6
    )
    printed = run("predict", model, "-", "--format", "topk", "--top-k", "2", stdin=texts[0])
    top = json.loads(printed.stdout)["top"]
    assert [clf.classes_.tolist().index(row["label"]) for row in top] == clf.predict_topk(texts[:1], 2)[0][0].tolist()


def test_thresholds_are_changed_for_named_labels(model: Path) -> None:
    everything = run("predict", model, "-", "--thresholds", "0", stdin="hello")
    assert len(json.loads(everything.stdout)["labels"]) == 16
    one = run("predict", model, "-", "--thresholds", '{"price": 0, "staff": 1.0}', stdin="hello")
    assert "price" in json.loads(one.stdout)["labels"]
    assert "'prize'" in run("predict", model, "-", "--thresholds", "prize=0.2", stdin="hello", status=2).stderr


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--strategy", "lorra"], "'lora'"),
        (["--backbone", "nobody:nothing"], "nobody"),
        (["--set", "strategy.rank=3"], "strategy 'lora' has no option 'rank'"),
        (["--set", "thresholds=perlabel"], "per-label"),
        (["--set", "classes=[price, staff]"], "is not known"),
        (["--resume-from", "nowhere"], "nowhere"),
    ],
)
def test_errors_of_the_api_become_one_message(
    folder: Path, arguments: list[str], extra: list[str], message: str
) -> None:
    result = run(*arguments, "--out", folder / "none", *extra, status=2)
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert "Traceback" not in result.stderr
    assert not (folder / "none").exists()


def test_what_is_no_model_is_refused(folder: Path) -> None:
    assert "Error: " in run("evaluate", folder, folder / "test.jsonl.gz", status=2).stderr
    assert "Error: " in run("predict", folder / "nowhere", "-", stdin="hello", status=2).stderr


@pytest.mark.filterwarnings("default")
def test_labels_the_model_lacks_are_counted_with_a_warning(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "hi", "labels": ["novel", "price"]}\n')
    result = run("evaluate", model, tmp_path / "a.jsonl", "--json")
    assert json.loads(result.stdout)["n_dropped"] == 1
    assert result.stderr.startswith("WARNING: 1 labels of Y are not known to the model")


def test_update_does_what_partial_fit_does(arguments: list[str], folder: Path) -> None:
    kept, new = folder / "kept", folder / "test.jsonl.gz"
    run(*arguments, "--out", kept, "--set", "include_replay=true", "--quiet")
    common = ["--set", "training.epochs=1", "--set", "random_state=0", "--quiet", "--include-replay"]
    done = json.loads(run("update", kept, new, "--out", folder / "updated", *common, "--json").stdout)
    updated = MultiLabelClassifier.load(folder / "updated")
    rows = load(new)
    here = MultiLabelClassifier.load(kept).set_params(verbose=0, random_state=0).partial_fit(rows.texts, rows.labels)
    np.testing.assert_array_equal(updated.predict_proba(rows.texts), here.predict_proba(rows.texts))
    assert done["n_samples"] == len(rows)
    assert updated.model_.replay is not None
    run("update", folder / "updated", new, "--out", folder / "updated", "--new-label", "brand new", *common)
    assert MultiLabelClassifier.load(folder / "updated").classes_.tolist() == [*done["classes"], "brand new"]


def test_update_refuses_what_a_fitted_model_cannot_change(model: Path, folder: Path) -> None:
    given = ["update", model, folder / "test.jsonl.gz", "--out", folder / "never"]
    assert "no effect on a model" in run(*given, "--set", "strategy.r=4", status=2).stderr
    assert "no rows are kept" in run(*given, "--set", "replay=0", "--include-replay", status=2).stderr
    assert not (folder / "never").exists()
