"""The exported folder: its manifest says everything, and nothing else is believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_kit import CALIBRATOR, LABELS, make_manifest, write_folder

from mlclf.exceptions import BundleDamagedError, BundleError, BundleVersionError
from mlclf.label_forms import YFormat
from mlclf.onnx.manifest import OnnxManifest, TextRule
from mlclf.thresholds import Thresholds


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no test changes."""
    return write_folder(tmp_path_factory.mktemp("onnx") / "model", calibrator=CALIBRATOR)


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the document."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_what_is_read_is_what_was_written(exported: Path) -> None:
    manifest = OnnxManifest.read(exported)
    again = make_manifest(calibrator=CALIBRATOR)
    assert {**manifest.to_json(), "files": {}} == {**again.to_json(), "files": {}}
    assert sorted(manifest.files) == ["README.md", "model.onnx", "tokenizer.json"]
    assert manifest.labels == LABELS
    assert manifest.calibrator == CALIBRATOR
    np.testing.assert_array_equal(manifest.golden.probabilities, again.golden.probabilities)


@given(
    labels=st.lists(st.text(min_size=1).filter(lambda name: name.isprintable()), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 1000),
)
def test_any_labels_and_numbers_survive(labels: list[str], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    values = np.random.default_rng(seed).random(len(labels)).astype(np.float32)
    golden = make_manifest().golden
    manifest = make_manifest(
        labels=tuple(labels),
        thresholds=Thresholds(values, top_k=seed + 1, rule="per-label"),
        y_format=YFormat("sparse-matrix", "float64"),
        golden=type(golden)(("a",), values[None, :], 0.5),
        text=TextRule(512, 64, "mean", seed, "left"),
    )
    target = tmp_path_factory.mktemp("any")
    for name in ("model.onnx", "tokenizer.json"):
        (target / name).write_text(name)
    written = manifest.write(target)
    read = OnnxManifest.read(target)
    assert read.to_json() == written.to_json()
    assert read.thresholds == manifest.thresholds


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "README.md"])
def test_altered_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleDamagedError, match=rf"{name} was altered or truncated"):
        OnnxManifest.read(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_truncated_file_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleDamagedError, match=rf"{name} was altered or truncated"):
        OnnxManifest.read(folder)


def test_missing_file_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BundleDamagedError, match=r"tokenizer\.json is missing: the exported model is incomplete"):
        OnnxManifest.read(folder)


@pytest.mark.parametrize("name", ["other.onnx", "model.onnx.data", "config.json"])
def test_unlisted_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"something")
    with pytest.raises(BundleDamagedError, match="is not listed in the manifest"):
        OnnxManifest.read(folder)


def test_files_of_other_tools_are_left_alone(folder: Path) -> None:
    (folder / ".gitattributes").write_text("*.onnx filter=lfs")
    (folder / "notes").mkdir()
    OnnxManifest.read(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "sub/model.onnx", "..\\model.onnx", "weights.bin"])
def test_name_outside_the_list_is_refused(folder: Path, name: str) -> None:
    edit(folder, lambda m: m["files"].update({name: m["files"]["model.onnx"]}))
    with pytest.raises(BundleDamagedError, match="which is no file of an exported model"):
        OnnxManifest.read(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_link_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    outside = folder.parent / "elsewhere"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(BundleDamagedError, match=r"is a link to .*elsewhere, outside the folder"):
        OnnxManifest.read(folder)


def test_links_of_a_mounted_volume_are_followed(folder: Path) -> None:
    (folder / "..2026_01").mkdir()
    (folder / "..data").symlink_to("..2026_01")
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / "..2026_01" / path.name)
        path.symlink_to(Path("..data") / path.name)
    assert OnnxManifest.read(folder).labels == LABELS


def test_linked_folder_is_read(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(exported)
    assert OnnxManifest.read(tmp_path / "current").labels == LABELS


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
def test_unknown_version_is_refused(folder: Path, version: Any) -> None:
    edit(folder, lambda m: m.update(format_version=version))
    with pytest.raises(BundleVersionError, match=r"this version of mlclf reads 1\. Install the version of mlclf"):
        OnnxManifest.read(folder)


def test_version_is_looked_at_before_the_fields(folder: Path) -> None:
    edit(folder, lambda m: (m.clear(), m.update(format="mlclf-onnx", format_version=2, anything=1)))
    with pytest.raises(BundleVersionError, match="format_version 2"):
        OnnxManifest.read(folder)


def test_saved_model_is_no_exported_one(folder: Path) -> None:
    edit(folder, lambda m: (m.clear(), m.update(format_version=1, components={})))
    with pytest.raises(BundleError, match="export it with export_onnx"):
        OnnxManifest.read(folder)


def test_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not an exported model: it has no manifest\.json"):
        OnnxManifest.read(tmp_path)


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda m: m.update(extra=1), "field 'extra' is not known"),
    (lambda m: m.pop("labels"), "field 'labels' is missing"),
    (lambda m: m.update(labels="abcd"), "field 'labels' must be a list"),
    (lambda m: m.update(labels=["a", "a", "b", "c"]), "Label 'a' occurs twice"),
    (lambda m: m.update(labels=["a", True, "b", "c"]), "must be an int or a str that is not empty, got True"),
    (lambda m: m["labels"].pop(), r"field 'thresholds': field 'values' must be a list of 1 or 3 numbers"),
    (lambda m: m.update(mlclf=1), "field 'mlclf' must be text, got 1"),
    (lambda m: m["model"].update(code="x.py"), "field 'model': field 'code' is not known"),
    (lambda m: m["y_format"].update(dtype="object"), "field 'dtype' must be one of 'bool', 'float32'"),
    (lambda m: m["y_format"].update(kind="pickle"), "field 'kind' must be one of 'array'"),
    (lambda m: m["thresholds"].update(values=[0.5, 0.5, 0.5, 1.5]), "must be between 0 and 1, got 1.5"),
    (lambda m: m["thresholds"].update(values=["0.5"] * 4), "must be a list of 1 or 4 numbers"),
    (lambda m: m["thresholds"].update(top_k=0), "field 'top_k' must be a whole number of at least 1, got 0"),
    (lambda m: m["calibrator"].update(scale=[1, 1, 1, -1]), "scale positive"),
    (lambda m: m["calibrator"].update(offset=[0]), "field 'offset' must be a list of 4 numbers"),
    (lambda m: m["text"].update(max_length="32"), "field 'text': field 'max_length' must be a whole number"),
    (lambda m: m["text"].update(max_length=True), "field 'max_length' must be a whole number"),
    (lambda m: m["text"].update(window_stride=-1), "field 'window_stride' must be a whole number of at least 0"),
    (lambda m: m["text"].update(padding_side="top"), "field 'padding_side' must be one of 'left', 'right'"),
    (lambda m: m["graph"].update(inputs=["input_ids"]), r"field 'inputs' must be \['input_ids', 'attention_mask'\]"),
    (lambda m: m["graph"].update(outputs=["probabilities"]), "field 'outputs' must be"),
    (lambda m: m["graph"].update(input_type="int32"), "field 'input_type' must be one of 'int64'"),
    (lambda m: m["graph"].update(precision="bf16"), "field 'precision' must be one of"),
    (lambda m: m["graph"].update(min_onnxruntime="new"), "must be a version such as '1.20'"),
    (lambda m: m["golden"].update(tolerance=-1), "field 'tolerance' must be a number of at least 0"),
    (lambda m: m["golden"]["probabilities"].pop(), "must be 6 lists of 4 numbers, one list a text"),
    (lambda m: m["golden"]["probabilities"].__setitem__(0, [0.5]), "must be 6 lists of 4 numbers"),
    (lambda m: m.update(parity=[]), "field 'parity' must be an object"),
    (lambda m: m.update(versions={"torch": 2}), "field 'versions' must hold a text for each package"),
    (lambda m: m["files"].pop("model.onnx"), r"lists no 'model\.onnx', which every model has"),
    (lambda m: m["files"]["model.onnx"].update(sha256="abc"), "must be 64 hexadecimal digits"),
    (lambda m: m["files"]["model.onnx"].update(bytes=1), "was altered or truncated"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_field_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(folder, change)
    with pytest.raises(BundleDamagedError, match=message):
        OnnxManifest.read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ('{"format": "mlclf-onnx",', "is not valid JSON"),
        ('{"format": "mlclf-onnx", "format": "mlclf-onnx"}', "a field occurs twice"),
        ('{"tolerance": NaN}', "NaN is no number"),
        ("[" * 100_000, "is not valid JSON"),
    ],
)
def test_other_content_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleDamagedError, match=message):
        OnnxManifest.read(folder)


def test_infinite_number_is_refused(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"tolerance": 0.0001', '"tolerance": 1e999'))
    with pytest.raises(BundleDamagedError, match="'tolerance' must be a number of at least 0, got inf"):
        OnnxManifest.read(folder)


def test_huge_manifest_is_refused_unread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlclf.onnx.fields._MAX_BYTES", 100)
    with pytest.raises(BundleDamagedError, match="no manifest is larger than 100"):
        OnnxManifest.read(folder)
