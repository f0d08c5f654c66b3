"""Many tasks as one folder, each of them a saved model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multitask_kit import NEW, TEXTS, TOPICS, filled, make, probabilities, storages

from mlclf import (
    BertOptions,
    MultiLabelClassifier,
    MultiTaskClassifier,
)
from mlclf.exceptions import (
    BundleDamagedError,
    BundleError,
    OptionsError,
)
from mlclf.onnx import OnnxClassifier
from mlclf.testing import tiny_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder("bert", tmp_path_factory.mktemp("multitask") / "bert")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> BertOptions:
    return BertOptions(model=str(folder), max_length=24, window_stride=4)


@pytest.fixture(scope="module")
def mt(encoder: BertOptions) -> MultiTaskClassifier:
    return filled(encoder)


@pytest.mark.parametrize("include_backbone", [False, True])
def test_a_saved_folder_gives_back_every_task(
    mt: MultiTaskClassifier, folder: Path, tmp_path: Path, include_backbone: bool
) -> None:
    mt.save(tmp_path / "mt", include_backbone=include_backbone)
    loaded = MultiTaskClassifier.load(tmp_path / "mt", device="cpu")
    assert loaded.tasks == mt.tasks
    for name, expected in probabilities(mt).items():
        np.testing.assert_array_equal(loaded.predict_proba(NEW, task=name), expected)
    assert loaded.predict_all(NEW) == mt.predict_all(NEW)
    assert len(storages(loaded, "word_embeddings.weight")) == 1
    written = [path for path in (tmp_path / "mt").rglob("weights.safetensors")]
    assert len(written) == include_backbone
    loaded.save(tmp_path / "again")
    again = MultiTaskClassifier.load(tmp_path / "again", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(NEW, task="ends"), mt.predict_proba(NEW, task="ends"))


def test_weights_in_the_folder_make_their_source_needless(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")
    mt = make(BertOptions(model=str(moved))).add_task("topics", TEXTS, TOPICS)
    mt.save(tmp_path / "mt", include_backbone=True)
    shutil.rmtree(moved)
    loaded = MultiTaskClassifier.load(tmp_path / "mt", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(NEW, task="topics"), mt.predict_proba(NEW, task="topics"))


def test_each_task_of_a_folder_is_a_saved_model(mt: MultiTaskClassifier, tmp_path: Path) -> None:
    mt.save(tmp_path / "mt")
    for number, name in enumerate(mt.tasks):
        clf = MultiLabelClassifier.load(tmp_path / "mt" / "tasks" / str(number), device="cpu")
        np.testing.assert_array_equal(clf.predict_proba(NEW), mt.predict_proba(NEW, task=name))


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "..", "a/b", "C:\\x", "Ärger & co"])
def test_a_name_is_never_a_path(encoder: BertOptions, tmp_path: Path, name: str) -> None:
    mt = make(encoder).add_task(name, TEXTS, TOPICS, strategy="features")
    mt.save(tmp_path / "in" / "mt")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["mt"]
    assert MultiTaskClassifier.load(tmp_path / "in" / "mt", device="cpu").tasks == (name,)


@pytest.mark.parametrize(
    "file", ["tasks/1/strategy.safetensors", "tasks/0/manifest.json", "tasks/2/backbone/config.json"]
)
def test_an_altered_file_is_refused(mt: MultiTaskClassifier, tmp_path: Path, file: str) -> None:
    mt.save(tmp_path / "mt")
    path = tmp_path / "mt" / file
    path.write_bytes(path.read_bytes().replace(b"e", b"f", 1))
    with pytest.raises(BundleDamagedError, match="altered"):
        MultiTaskClassifier.load(tmp_path / "mt", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["tasks"].append({"name": "x", "folder": "../elsewhere"}), "folder"),
        (lambda m: m["tasks"].append(m["tasks"][0]), "same name"),
        (lambda m: m["files"].update({"../x.json": m["files"]["tasks/0/manifest.json"]}), "no file of a saved model"),
        (lambda m: m.update(extra=1), "extra"),
        (lambda m: m["files"].pop("tasks/0/head.safetensors"), "not listed"),
        (lambda m: m["source"].update(name="elsewhere"), "not saved with the backbone"),
        (lambda m: m["backbone"]["options"].update(pooling="sum"), "not valid"),
    ],
)
def test_an_altered_manifest_is_refused(mt: MultiTaskClassifier, tmp_path: Path, change: Any, message: str) -> None:
    mt.save(tmp_path / "mt")
    path = tmp_path / "mt" / "multitask.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleDamagedError, match=message):
        MultiTaskClassifier.load(tmp_path / "mt", device="cpu")


def test_folders_of_one_model_and_of_many_tasks_are_told_apart(
    mt: MultiTaskClassifier, folder: Path, tmp_path: Path
) -> None:
    mt.save(tmp_path / "mt")
    mt.task("again").save(tmp_path / "one")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        MultiLabelClassifier.load(tmp_path / "mt")
    with pytest.raises(BundleError, match=r"no multitask\.json"):
        MultiTaskClassifier.load(tmp_path / "one")
    with pytest.raises(OptionsError, match="not a saved MultiTaskClassifier"):
        mt.save(tmp_path / "one")


@pytest.mark.slow
def test_a_task_is_exported_by_itself(mt: MultiTaskClassifier, tmp_path: Path) -> None:
    before = probabilities(mt)
    mt.task("topics").export_onnx(tmp_path / "onnx")
    exported = OnnxClassifier(tmp_path / "onnx")
    np.testing.assert_allclose(exported.predict_proba(NEW), before["topics"], atol=1e-4)
    for name, expected in probabilities(mt).items():
        np.testing.assert_array_equal(before[name], expected)
