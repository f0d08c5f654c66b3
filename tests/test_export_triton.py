"""Triton repositories and ``mlclf export``."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import onnx
import pytest
from export_kit import EXAMPLES, fitted
from typer.testing import CliRunner

from mlclf import MultiLabelClassifier
from mlclf.cli.app import app
from mlclf.exceptions import BundleDamagedError, OptionsError, ParityError
from mlclf.onnx import OnnxClassifier, graph
from mlclf.onnx.triton import write_triton
from mlclf.testing import tiny_encoder


@pytest.fixture(scope="module")
def clf(tmp_path_factory: pytest.TempPathFactory) -> MultiLabelClassifier:
    """A fitted classifier of one layer."""
    return fitted(tiny_encoder("bert", tmp_path_factory.mktemp("models") / "bert", layers=1), "head-only")


@pytest.fixture(scope="module")
def bundle(clf: MultiLabelClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its exported folder; never change it."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    clf.export_onnx(folder, labels_output=True, example_texts=EXAMPLES)
    return folder


def test_model_stands_where_the_server_looks_for_it(bundle: Path, tmp_path: Path) -> None:
    target = write_triton(bundle, tmp_path, "feedback")
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    beside = {"config.pbtxt", "labels.txt", "manifest.json", "tokenizer.json", "README.md"}
    assert found == {f"feedback/{name}" for name in {*beside, "1/model.onnx"}}
    assert (target / "1" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()


def test_configuration_describes_the_graph(bundle: Path, tmp_path: Path) -> None:
    config = (write_triton(bundle, tmp_path, "feedback", max_batch_size=16) / "config.pbtxt").read_text()
    assert 'name: "feedback"\nbackend: "onnxruntime"\nmax_batch_size: 16\n' in config
    described = re.findall(r'name: "(\w+)" data_type: (TYPE_\w+) dims: \[ (-?\d+) \]', config)
    kinds = {
        "TYPE_INT64": onnx.TensorProto.INT64,
        "TYPE_FP32": onnx.TensorProto.FLOAT,
        "TYPE_INT8": onnx.TensorProto.INT8,
    }
    model = onnx.load(bundle / "model.onnx").graph
    # The batch axis is the server's.
    real = [
        (entry.name, entry.type.tensor_type.elem_type, entry.type.tensor_type.shape.dim[1].dim_value or -1)
        for entry in [*model.input, *model.output]
    ]
    assert [(name, kinds[kind], int(size)) for name, kind, size in described] == real
    assert "dynamic_batching { max_queue_delay_microseconds: 2000 }" in config


def test_labels_stand_one_a_line(clf: MultiLabelClassifier, bundle: Path, tmp_path: Path) -> None:
    lines = (write_triton(bundle, tmp_path) / "labels.txt").read_text().splitlines()
    assert lines == clf.classes_.tolist()


def test_large_weights_make_a_folder_of_the_graph(
    clf: MultiLabelClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_ONE_FILE", 1000)
    clf.export_onnx(tmp_path / "bundle", example_texts=EXAMPLES)
    target = write_triton(tmp_path / "bundle", tmp_path / "models")
    assert {path.name for path in (target / "1" / "model.onnx").iterdir()} == {"model.onnx", "model.onnx.data"}


def test_other_models_stay_and_the_same_one_is_replaced(bundle: Path, tmp_path: Path) -> None:
    write_triton(bundle, tmp_path, "one")
    write_triton(bundle, tmp_path, "two")
    (tmp_path / "one" / "1" / "left_over").write_text("")
    write_triton(bundle, tmp_path, "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert not (tmp_path / "one" / "1" / "left_over").exists()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "sp ace", ".hidden"])
def test_names_that_lead_elsewhere_are_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionsError, match="name must consist of letters"):
        write_triton(bundle, tmp_path, name)


def test_foreign_folder_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "thesis.txt").write_text("years of work")
    with pytest.raises(OptionsError, match="is not a model of a Triton repository"):
        write_triton(bundle, tmp_path)


def test_numbers_out_of_range_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="max_batch_size must be at least 1"):
        write_triton(bundle, tmp_path, max_batch_size=0)


def test_damaged_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleDamagedError):
        write_triton(tmp_path / "bundle", tmp_path / "models")
    assert list((tmp_path / "models").glob("*")) == []


def test_graph_whose_outputs_contradict_each_other_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    changed = OnnxClassifier(bundle, "cpu").thresholds_.with_values({0: 0.01, 1: 0.99}, 4)
    graph.set_thresholds(tmp_path / "bundle" / "model.onnx", changed)
    OnnxClassifier(bundle, "cpu").manifest_.write(tmp_path / "bundle")
    with pytest.raises(ParityError, match="output 'labels' is not what follows from its logits"):
        write_triton(tmp_path / "bundle", tmp_path / "models")


def test_command_writes_a_folder(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    clf.save(tmp_path / "model", include_backbone=True)
    rows = [{"text": text, "labels": ["food"]} for text in EXAMPLES if text]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["export", str(tmp_path / "model"), str(tmp_path / "bundle"), "--precision", "int8", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--validation-data", str(tmp_path / "dev.jsonl")])
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["folder"] == str(tmp_path / "bundle")
    assert report["precision"] == "int8"
    assert report["validation"]["n_samples"] == len(rows)
    assert OnnxClassifier(tmp_path / "bundle", "cpu").n_labels_ == 4


def test_command_writes_a_triton_repository(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    clf.save(tmp_path / "model", include_backbone=True)
    arguments = ["export", str(tmp_path / "model"), str(tmp_path / "models"), "--layout", "triton", "--name", "mine"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"Exported to {tmp_path / 'models' / 'mine'}: fp32")
    assert (tmp_path / "models" / "mine" / "1" / "model.onnx").is_file()


def test_command_refuses_before_it_reads_the_model(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", "no-such-model", str(tmp_path), "--layout", "triton", "--name", "../up"])
    assert done.exit_code == 2
    assert "Error: name must consist of letters" in done.stderr
