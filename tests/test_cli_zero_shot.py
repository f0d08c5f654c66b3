"""``mlclf zero-shot``: what it says is what ``MultiLabelClassifier.zero_shot`` says, and its errors are one message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prompt_kit import CHATML, write_model
from typer.testing import CliRunner

from mlclf import LlmOptions, MultiLabelClassifier
from mlclf.cli.app import app
from mlclf.cli.given_labels import read_labels
from mlclf.datasets import Dataset, save_jsonl
from mlclf.exceptions import DataFileError
from mlclf.heads.label_query import LabelQueryOptions
from mlclf.testing import random_llama

NAMES = ["food, drinks", "rain=wet", "travel"]
TOLD = {"food, drinks": "what is eaten", "rain=wet": "it rains"}
TEXTS = ["the cat eats bread", "", "très bien, a train"]
ROWS = [("food, drinks",), (), ("travel", "rain=wet")]


def run(*arguments: Any, stdin: str | None = None, status: int = 0) -> Any:
    result = CliRunner().invoke(app, ["zero-shot", *map(str, arguments)], input=stdin)
    assert result.exit_code == status, (result.exit_code, result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    return result


def rows_of(result: Any) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    return random_llama(folder, hidden=32, feed_forward=64, layers=1, heads=4, kv_heads=2)


@pytest.fixture(scope="module")
def model(llama: Path) -> list[str]:
    """Arguments that name backbone and head."""
    backbone = ["--backbone", "llm", "--set", f"backbone.model={llama}", "--set", "backbone.max_length=64"]
    return [*backbone, "--head", "label-query", "--set", "head.scorer=verbalizer", "--device", "cpu"]


@pytest.fixture(scope="module")
def labels() -> list[str]:
    """Arguments that name labels and what they mean."""
    named = [word for name in NAMES for word in ("--label", name)]
    return [*named, *(word for name, text in TOLD.items() for word in ("--description", f"{name}={text}"))]


@pytest.fixture(scope="module")
def expected(llama: Path) -> MultiLabelClassifier:
    backbone = LlmOptions(model=str(llama), max_length=64)
    clf = MultiLabelClassifier(backbone, head=LabelQueryOptions(scorer="verbalizer"), device="cpu", verbose=0)
    return clf.zero_shot(NAMES, descriptions=TOLD)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    save_jsonl(Dataset(TEXTS, list(ROWS), tuple(NAMES)), tmp_path / "rows.jsonl")
    return tmp_path / "rows.jsonl"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


def test_it_gives_the_probabilities_of_the_python_api(
    data: Path, model: list[str], labels: list[str], expected: MultiLabelClassifier
) -> None:
    rows = rows_of(run(data, *labels, *model, "--format", "proba"))
    assert [row["text"] for row in rows] == TEXTS
    found = [[row["probabilities"][name] for name in NAMES] for row in rows]
    np.testing.assert_allclose(found, expected.predict_proba(TEXTS), atol=1e-6)


def test_labels_obey_thresholds_and_a_limit(
    data: Path, model: list[str], labels: list[str], expected: MultiLabelClassifier
) -> None:
    plain = rows_of(run(data, *labels, *model, "--no-text"))
    assert plain == [{"labels": list(row)} for row in expected.predict_labels(TEXTS)]
    every = rows_of(run(data, *labels, *model, "--thresholds", "0"))
    assert [row["labels"] for row in every] == [NAMES] * 3
    one = rows_of(run(data, *labels, *model, "--thresholds", "0", "--top-k", "1"))
    assert [row["labels"] for row in one] == [list(row) for row in expected.predict_labels(TEXTS, 1, thresholds=0)]
    some = rows_of(run(data, *labels, *model, "--thresholds", '{"food, drinks": 0, "travel": 1, "rain=wet": 1}'))
    assert [row["labels"] for row in some] == [["food, drinks"]] * 3


def test_texts_come_from_standard_input_and_tables(
    model: list[str], labels: list[str], expected: MultiLabelClassifier, write: Callable[..., Path]
) -> None:
    top = rows_of(run("-", *labels, *model, "--format", "topk", "--top-k", "2", stdin=f"{TEXTS[0]}\n\n"))
    assert [row["text"] for row in top] == TEXTS[:2]
    assert [NAMES.index(entry["label"]) for entry in top[0]["top"]] == expected.predict_topk(TEXTS, 2)[0][0].tolist()
    table = write("a.csv", f"body\n{TEXTS[0]}\n")
    assert rows_of(run(table, "--text-column", "body", *labels, *model, "--format", "topk", "--top-k", "2")) == top[:1]


def test_report_is_that_of_the_python_api(
    data: Path, model: list[str], labels: list[str], expected: MultiLabelClassifier
) -> None:
    report = expected.evaluate(TEXTS, ROWS)
    assert run("--test-data", data, *labels, *model).stdout == f"{report}\n"
    done = json.loads(run("--test-data", data, *labels, *model, "--json").stdout)
    assert done == {"classes": NAMES, "model": None, "out": None, "n_samples": None, "report": report.to_dict()}
    limited = json.loads(
        run("--test-data", data, *labels, *model, "--thresholds", "0", "--top-k", "2", "--json").stdout
    )
    assert limited["report"]["top_k"] == 2


def test_rows_model_and_report_come_of_one_command(
    data: Path, model: list[str], labels: list[str], expected: MultiLabelClassifier, tmp_path: Path
) -> None:
    out, saved = tmp_path / "new" / "rows.jsonl.gz", tmp_path / "model"
    files = ["--out", out, "--save", saved, "--test-data", data]
    done = json.loads(run(data, *labels, *model, *files, "--thresholds", "0.4", "--json").stdout)
    assert (done["model"], done["out"], done["n_samples"]) == (str(saved), str(out), 3)
    assert done["report"]["n_samples"] == 3
    loaded = MultiLabelClassifier.load(saved, device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), expected.predict_proba(TEXTS), atol=1e-6)
    np.testing.assert_allclose(loaded.thresholds_.values, 0.4, atol=1e-6)
    said = run(data, *labels, *model, *files).stdout
    assert said.startswith(f"Wrote 3 rows to {out}.\nSaved in {saved}.\n3 rows, 3 labels")


def test_configuration_file_of_train_serves(
    data: Path, llama: Path, expected: MultiLabelClassifier, write: Callable[..., Path]
) -> None:
    config = {
        "data": {"train": "later.jsonl", "label_column": "labels"},
        "out": "later",
        "backbone": {"name": "llm", "model": str(llama), "max_length": 64},
        "head": {"name": "label-query", "scorer": "verbalizer", "descriptions": TOLD},
        "classes": NAMES,
        "thresholds": 0.0,
        "device": "cpu",
    }
    file = write("config.json", json.dumps(config))
    rows = rows_of(run(data, "--config", file, "--top-k", "1"))
    assert [row["labels"] for row in rows] == [list(row) for row in expected.predict_labels(TEXTS, 1, thresholds=0)]
    fewer = rows_of(run(data, "--config", file, "--label", NAMES[1], "--label", NAMES[0]))
    assert [row["labels"] for row in fewer] == [NAMES[1::-1]] * 3


def test_labels_and_descriptions_come_from_a_file(
    data: Path, model: list[str], expected: MultiLabelClassifier, write: Callable[..., Path]
) -> None:
    file = write("l.json", json.dumps({NAMES[0]: TOLD[NAMES[0]], NAMES[1]: "said otherwise below", NAMES[2]: None}))
    given = ["--labels", file, "--description", f"rain=wet={TOLD['rain=wet']}"]
    rows = rows_of(run(data, *given, *model, "--format", "proba"))
    found = [[row["probabilities"][name] for name in NAMES] for row in rows]
    np.testing.assert_allclose(found, expected.predict_proba(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("l.txt", "food, drinks\r\n\n  rain \n", [("food, drinks", None), ("rain", None)]),
        ("l.txt", "\ufeffété\n", [("été", None)]),
        ("l.json", '["a, b", 7]', [("a, b", None), (7, None)]),
        ("l.json", '{"a": "first", "b": null, "c": " "}', [("a", "first"), ("b", None), ("c", None)]),
        ("l.csv", 'description,label\n"x, ""y""",a\n,b\n', [("a", 'x, "y"'), ("b", None)]),
        ("l.tsv", "label\na, b\n", [("a, b", None)]),
    ],
)
def test_label_files(name: str, content: str, found: Any, write: Callable[..., Path]) -> None:
    assert read_labels(write(name, content)) == found


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.yaml", "- a", "labels are read from .txt"),
        ("l.txt", " \n\n", "holds no label"),
        ("l.txt", b"ok\n\xff\n", "l.txt, line 2: byte 1"),
        ("l.json", '["a", ', "is not JSON"),
        ("l.json", "3", "expected a list of labels"),
        ("l.json", "[true]", "a label must be a str or an int, got True"),
        ("l.json", '[["a"]]', r"got \['a'\]"),
        ("l.json", '{"a": {"b": "c"}}', "label 'a': a description must be a str"),
        ("l.csv", "food\nrain\n", "the first line must name the columns"),
        ("l.csv", "label,description\na,b,c\n", "line 2: the row has 3 cells, the header has 2"),
        ("l.csv", 'label\n"a\n', "cannot be read"),
    ],
)
def test_label_files_of_another_form_are_refused(
    name: str, content: str | bytes, words: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(DataFileError, match=words):
        read_labels(write(name, content))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "Name the labels"),
        (["--label", "a", "--labels", "l.txt"], "not from both"),
        (["--labels", "absent.txt"], "There is no file absent.txt"),
        (["--label", "a", "--label", "a"], "'a' occurs twice"),
        (["--label", ""], "not empty"),
        (["--label", "food", "--description", "fod=x"], "Did you mean 'food'?"),
        (["--label", "a", "--description", "a"], "write LABEL=TEXT"),
        (["--label", "a", "--description", "a= "], "is empty"),
        (["--label", "a", "--description", "a=1", "--description", "a=2"], "given twice"),
        (["--label", "food", "--thresholds", "fod=0.3"], "Did you mean 'food'?"),
        (["--label", "a", "--thresholds", "2"], "between 0 and 1"),
        (["--label", "a", "--top-k", "1", "--format", "proba"], "--top-k 1 has no effect"),
        (["--label", "a", "--json"], "Write the rows to --out FILE"),
        (["--label", "a", "--test-data", "t.jsonl"], "Write the rows to --out FILE"),
        (["--label", "a", "--set", "data.train=t.jsonl"], "--set reaches: backbone"),
        (["--label", "a", "--set", "head.scorre=linear"], "Did you mean 'scorer'?"),
        (["--label", "a", "--text-column", "body"], "there is no column 'body'"),
        (["--label", "a", "--set", "head.scorer=linear"], "answers only once it is trained"),
        (["--label", "a", "--strategy", "prefix"], "Use strategy="),
    ],
)
def test_wrong_input_is_one_message(
    given: list[str], words: str, data: Path, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = run(data, *model, *given, status=2).stderr
    assert words in error
    assert error.count("Error: ") == 1


def test_commands_without_input_or_place_are_refused(
    data: Path, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = ["--label", "a", *model]
    assert "nothing to do" in run(*one, status=2).stderr
    assert "there is no DATA" in run(*one, "--save", tmp_path / "m", "--out", tmp_path / "o", status=2).stderr
    assert "not a saved model" in run(*one, "--save", tmp_path, status=2).stderr
    assert "is a directory" in run(data, *one, "--out", ".", status=2).stderr
    assert not (tmp_path / "m").exists()


def test_without_a_head_that_asks_in_words_the_message_names_those(data: Path) -> None:
    assert "'label-query' with scorer='verbalizer'" in run(data, "--label", "a", status=2).stderr


def test_a_chat_model_is_asked_by_its_own_template(tmp_path: Path) -> None:
    asked = ["--label", "food", "--label", "rain", "--head", "prompt-generation", "--format", "proba"]
    chat, plain = (
        write_model(tmp_path / name, chat=form, max_position_embeddings=2048)
        for name, form in (("chat", CHATML), ("plain", None))
    )
    found = [
        rows_of(run("-", *asked, "--backbone", "llm", "--set", f"backbone.model={folder}", *settings, stdin="a map"))
        for folder, settings in ((chat, []), (chat, ["--set", "head.prompt.template=plain"]), (plain, []))
    ]
    assert found[1] == found[2] != found[0]
    refused = ["--backbone", "llm", "--set", f"backbone.model={plain}", "--set", "head.prompt.template=chat"]
    assert "has no chat template" in run("-", *asked, *refused, stdin="a map", status=2).stderr
