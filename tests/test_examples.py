"""Every example runs, on a few rows."""

from __future__ import annotations

import runpy
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mlclf.datasets import Dataset, make_feedback, save_jsonl

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = {
    "custom_config.py": ["--rows", "120", "--epochs", "1"],
    "grid_search.py": ["--rows", "48", "--epochs", "1"],
    "long_documents.py": ["--rows", "24", "--epochs", "1"],
    "missing_labels.py": ["--rows", "48", "--epochs", "1"],
}
QUICKSTART = ["--rows", "64", "--epochs", "1"]

with_minilm = pytest.mark.skipif(
    not [entry for entry in entry_points(group="mlclf") if entry.name == "minilm"],
    reason="the examples use the plugin mlclf-minilm, which is not installed",
)


def run(
    name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> str:
    """Run an example in this process and return what it printed."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_every_example_is_tested() -> None:
    elsewhere = {"quickstart.py", "serve_engine_prompt.py", "serve_fastapi.py"}  # below, and in test_serve*.py
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*TINY, *elsewhere}


@with_minilm
@pytest.mark.parametrize("name", TINY)
def test_example_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(name, TINY[name], monkeypatch, capsys, tmp_path)
    assert list(tmp_path.iterdir()) == []


@with_minilm
@pytest.mark.slow
def test_quickstart_learns_saves_and_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    printed = run("quickstart.py", [*QUICKSTART, "--out", "model", "My parcel is late."], monkeypatch, capsys, tmp_path)
    assert "My parcel is late." in printed
    assert "the same labels for" in printed
    assert (tmp_path / "model" / "manifest.json").is_file()


@with_minilm
@pytest.mark.slow
def test_quickstart_reads_a_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number, name in enumerate(("train", "dev", "test")):
        data = make_feedback(80, random_state=number)
        save_jsonl(Dataset(data.texts, data.labels, data.classes), tmp_path / "data" / f"{name}.jsonl.gz")
    printed = run("quickstart.py", ["--data", "data", *QUICKSTART], monkeypatch, capsys, tmp_path)
    assert "64 texts to learn from" in printed
