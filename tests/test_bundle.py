"""Saved models: round trips, damage, a full disk, absent plugins and hostile manifests."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy import toy_classifier, toy_rows

from mlclf import BceOptions, BertOptions, LoraOptions, MultiLabelClassifier, register_backbone
from mlclf.exceptions import (
    BackboneLoadError,
    BundleDamagedError,
    BundleError,
    BundleVersionError,
    OptionsError,
    PluginError,
)
from mlclf.interfaces import BackboneSource
from mlclf.testing import TinyBackbone, TinyOptions


@pytest.fixture(scope="module")
def fitted(tiny_bert: Path) -> MultiLabelClassifier:
    return toy_classifier(tiny_bert, "lora", epochs=1, validation=0.2, calibration="platt").fit(*toy_rows(64))


@pytest.fixture
def saved(fitted: MultiLabelClassifier, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


SUMS = {"model.safetensors": "0" * 64}


@pytest.mark.parametrize(
    ("trained_on", "found", "same"),
    [
        ({"sha256": SUMS}, {"sha256": SUMS}, True),
        ({"sha256": SUMS, "revision": "1"}, {"sha256": SUMS, "revision": "2"}, True),
        ({"sha256": SUMS}, {"sha256": {"model.safetensors": "1" * 64}}, False),
        ({"sha256": SUMS}, {}, False),
        ({"revision": "1"}, {"revision": "1"}, True),
        ({"revision": "1"}, {"revision": "2"}, False),
        ({"revision": "1"}, {}, False),
        ({}, {"revision": "1"}, None),
        ({}, {}, None),
    ],
)
def test_checksums_say_which_weights_are_the_same_and_else_the_revision(
    trained_on: dict[str, Any], found: dict[str, Any], same: bool | None
) -> None:
    source = BackboneSource("hub", "org/model", **trained_on)
    assert source.same_weights(BackboneSource("hub", "org/copy", **found)) is same


STRATEGIES: list[Any] = [
    "full",
    "head-only",
    "partial",
    "features",
    "lora",
    "adapter",
    "bitfit",
    "ia3",
    LoraOptions(use_dora=True),
    LoraOptions(init="pissa"),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("include_backbone", [False, True])
def test_a_loaded_model_predicts_the_same_bit_for_bit(
    tiny_bert: Path, tmp_path: Path, strategy: Any, include_backbone: bool
) -> None:
    pooling = "mean" if strategy == "features" else "attention"
    backbone = BertOptions(model=str(tiny_bert), pooling=pooling, max_length=16, window_stride=4)
    clf = toy_classifier(tiny_bert, strategy, epochs=1, backbone=backbone, head=BceOptions(hidden=(8,)))
    if strategy == "partial":
        clf.set_params(strategy__last_layers=1)
    texts, labels = toy_rows(48)
    clf.fit(texts, labels).save(tmp_path / "model", include_backbone=include_backbone)
    loaded = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(clf.predict_proba(texts), loaded.predict_proba(texts))
    np.testing.assert_array_equal(clf.predict(texts), loaded.predict(texts))
    assert clf.predict_labels(texts) == loaded.predict_labels(texts)
    assert loaded.get_params()["strategy"] == clf.model_.parts.strategy


def test_everything_fitted_comes_back(fitted: MultiLabelClassifier, saved: Path) -> None:
    loaded = MultiLabelClassifier.load(saved)
    assert list(loaded.classes_) == list(fitted.classes_)
    assert loaded.history_ == fitted.history_
    assert loaded.validation_report_ == json.loads(json.dumps(fitted.validation_report_))
    np.testing.assert_array_equal(loaded.label_counts_, fitted.label_counts_)
    np.testing.assert_array_equal(loaded.thresholds_.values, fitted.thresholds_.values)


def test_a_lora_model_is_small_and_holds_no_code(saved: Path) -> None:
    names = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert names <= {".json", ".safetensors", ".md"}
    assert not (saved / "backbone" / "weights.safetensors").exists()


def test_a_model_saved_whole_needs_no_backbone_elsewhere(tiny_bert: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_bert, base)
    clf = toy_classifier(base, "lora", epochs=1).fit(*toy_rows(32))
    clf.save(tmp_path / "whole", include_backbone=True)
    clf.save(tmp_path / "small")
    shutil.rmtree(base)
    texts, _ = toy_rows(8)
    loaded = MultiLabelClassifier.load(tmp_path / "whole")
    np.testing.assert_array_equal(loaded.predict_proba(texts), clf.predict_proba(texts))
    with pytest.raises(BackboneLoadError, match="base"):
        MultiLabelClassifier.load(tmp_path / "small")


def test_another_backbone_under_the_same_name_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    from mlclf.testing import tiny_encoder

    base = tmp_path / "base"
    shutil.copytree(tiny_bert, base)
    toy_classifier(base, "lora", epochs=1).fit(*toy_rows(32)).save(tmp_path / "model")
    shutil.rmtree(base)
    tiny_encoder("bert", base, seed=1)
    with pytest.raises(BackboneLoadError, match="not those that this model was trained on"):
        MultiLabelClassifier.load(tmp_path / "model")


def test_a_loaded_model_can_be_saved_and_fitted_again(saved: Path, tmp_path: Path) -> None:
    loaded = MultiLabelClassifier.load(saved)
    loaded.save(tmp_path / "copy")
    texts, labels = toy_rows(32)
    np.testing.assert_array_equal(
        MultiLabelClassifier.load(tmp_path / "copy").predict_proba(texts), loaded.predict_proba(texts)
    )
    loaded.set_params(verbose=0).fit(texts, labels)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_altered_byte_is_noticed(saved: Path, data: st.DataObject) -> None:
    files = sorted(
        path for path in saved.rglob("*") if path.is_file() and path.name not in ("manifest.json", "README.md")
    )
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    bit = data.draw(st.integers(0, 7))
    altered = bytearray(original)
    altered[position] ^= 1 << bit
    path.write_bytes(altered)
    try:
        with pytest.raises(BundleDamagedError, match="SHA-256"):
            MultiLabelClassifier.load(saved)
    finally:
        path.write_bytes(original)


def test_missing_and_truncated_files_are_noticed(saved: Path) -> None:
    head = saved / "head.safetensors"
    content = head.read_bytes()
    head.write_bytes(content[:-5])
    with pytest.raises(BundleDamagedError, match="truncated"):
        MultiLabelClassifier.load(saved)
    head.unlink()
    with pytest.raises(BundleDamagedError, match="missing"):
        MultiLabelClassifier.load(saved)


def _edit(saved: Path, change: Any) -> None:
    path = saved / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: m.update(format_version=99), BundleVersionError, "format_version 99"),
        (lambda m: m.update(labels=[]), BundleDamagedError, "labels"),
        (lambda m: m.update(surprise=1), BundleDamagedError, "surprise"),
        (
            lambda m: m["files"].update({"../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}}),
            BundleDamagedError,
            "no file of",
        ),
        (lambda m: m["components"]["strategy"].update(name="os:system"), BundleDamagedError, "os:system"),
        (lambda m: m["components"]["strategy"].update(name="builtins.eval"), PluginError, "builtins.eval"),
        (lambda m: m["components"]["strategy"]["options"].update(r="many"), BundleDamagedError, "strategy"),
        (lambda m: m["components"]["head"]["options"].update(hidden=[5]), BundleDamagedError, "do not fit"),
        (lambda m: m["labels"].append("extra"), BundleDamagedError, "positives"),
    ],
)
def test_an_edited_manifest_is_refused(saved: Path, change: Any, error: type, message: str) -> None:
    _edit(saved, change)
    with pytest.raises(error, match=message):
        MultiLabelClassifier.load(saved)


def test_tensors_that_the_manifest_does_not_list_are_refused(saved: Path) -> None:
    shutil.copy(saved / "head.safetensors", saved / "backbone" / "weights.safetensors")
    with pytest.raises(BundleDamagedError, match="not listed"):
        MultiLabelClassifier.load(saved)
    (saved / "backbone" / "weights.safetensors").unlink()
    _edit(saved, lambda m: m["files"].pop("head.safetensors"))
    with pytest.raises(BundleDamagedError, match="head"):
        MultiLabelClassifier.load(saved)


def test_a_manifest_that_is_not_json_is_refused(saved: Path) -> None:
    (saved / "manifest.json").write_text("{")
    with pytest.raises(BundleDamagedError, match="not valid JSON"):
        MultiLabelClassifier.load(saved)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        MultiLabelClassifier.load(tmp_path)


def test_saving_never_replaces_a_folder_of_other_things(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(OptionsError, match="not a saved model"):
        fitted.save(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_full_disk_leaves_the_old_model_intact(
    fitted: MultiLabelClassifier, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlclf.bundle.store as store

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(saved)
    assert {path.name: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    MultiLabelClassifier.load(saved)


def test_saving_again_replaces_the_model(fitted: MultiLabelClassifier, saved: Path) -> None:
    (saved / "strategy.safetensors").unlink()
    fitted.save(saved)
    MultiLabelClassifier.load(saved)


def test_integer_labels_stay_integers(tiny_bert: Path, tmp_path: Path) -> None:
    texts, labels = toy_rows(32)
    numbers = {name: i * 10 for i, name in enumerate(sorted({name for row in labels for name in row}))}
    clf = toy_classifier(tiny_bert, epochs=1).fit(texts, [[numbers[name] for name in row] for row in labels])
    clf.save(tmp_path / "m")
    assert MultiLabelClassifier.load(tmp_path / "m").predict_labels(texts) == clf.predict_labels(texts)
    assert clf.classes_.tolist() == sorted(numbers.values())


def test_a_pickled_classifier_predicts_the_same(fitted: MultiLabelClassifier) -> None:
    texts, _ = toy_rows(8)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(texts), fitted.predict_proba(texts))


def test_weights_that_no_source_has_are_always_saved(tmp_path: Path) -> None:
    texts, labels = toy_rows(32)
    register_backbone(TinyBackbone, "local:tiny")
    clf = toy_classifier(tmp_path, "head-only", backbone=TinyOptions()).fit(texts, labels)
    clf.save(tmp_path / "m")
    again = MultiLabelClassifier.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_proba(texts), clf.predict_proba(texts))


def test_a_model_loaded_from_a_whole_folder_is_saved_whole_again(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    texts, _ = toy_rows(8)
    fitted.save(tmp_path / "first", include_backbone=True)
    MultiLabelClassifier.load(tmp_path / "first").save(tmp_path / "second")
    again = MultiLabelClassifier.load(tmp_path / "second")
    np.testing.assert_array_equal(again.predict_proba(texts), fitted.predict_proba(texts))
