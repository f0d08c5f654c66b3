"""What export_onnx refuses, before any work and with the way out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_kit import Bottleneck, BottleneckOptions
from toy import toy_classifier, toy_rows

from mlclf import MultiLabelClassifier
from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.exceptions import (
    IncompatibleComponentsError,
    InvalidInputError,
    MissingExtraError,
    NotFittedError,
    OptionsError,
    UnknownLabelError,
)
from mlclf.heads.bce import BceHead, BceOptions
from mlclf.interfaces import Head, HeadCapabilities, StrategyCapabilities
from mlclf.onnx import checks, export
from mlclf.parts import Parts
from mlclf.strategies.full import FullOptions, FullStrategy


@pytest.fixture(scope="module")
def clf(tmp_path_factory: pytest.TempPathFactory) -> MultiLabelClassifier:
    """A fitted classifier."""
    from mlclf.testing import tiny_encoder

    folder = tiny_encoder("bert", tmp_path_factory.mktemp("models") / "bert", layers=1)
    return toy_classifier(folder, "head-only", epochs=1).fit(*toy_rows(16))


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where an export gets as far as copying the model."""

    def copied(*_: Any) -> None:
        raise AssertionError("work was done before the refusal")

    monkeypatch.setattr(export, "merged_copy", copied)


def parts_with(**changes: Any) -> Parts:
    given = {
        "backbone": BertOptions(),
        "strategy": FullOptions(),
        "head": BceOptions(),
        "backbone_class": BertBackbone,
        "strategy_class": FullStrategy,
        "head_class": BceHead,
    }
    return Parts(**{**given, **changes})


def test_not_fitted(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        MultiLabelClassifier().export_onnx(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "bf16"}, "precision must be 'fp32', 'fp16', 'int8', got 'bf16'"),
        ({"opset": 17}, "opset must be a whole number from 18 to 23, got 17"),
        ({"opset": "20"}, "got '20'"),
        ({"opset": True}, "got True"),
    ],
)
def test_options_out_of_range(
    clf: MultiLabelClassifier, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionsError, match=message):
        clf.export_onnx(tmp_path / "bundle", **settings)
    assert not (tmp_path / "bundle").exists()


def test_texts_and_labels_of_a_wrong_form(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="got a single str"):
        clf.export_onnx(tmp_path / "bundle", example_texts="a text")
    with pytest.raises(InvalidInputError, match="must be a pair"):
        clf.export_onnx(tmp_path / "bundle", validation_data=["a text"])
    with pytest.raises(UnknownLabelError):
        clf.export_onnx(tmp_path / "bundle", validation_data=(["a"], [["no such label"]]))


def test_folder_with_something_else(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OptionsError, match="exists and is not an exported model: it would be replaced whole"):
        clf.export_onnx(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_folder_with_a_saved_model(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    clf.save(tmp_path / "model")
    with pytest.raises(OptionsError, match="is not an exported model"):
        clf.export_onnx(tmp_path / "model")
    assert MultiLabelClassifier.load(tmp_path / "model", device="cpu").n_labels_ == clf.n_labels_


def test_file_in_the_place_of_the_folder(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("")
    with pytest.raises(OptionsError, match="is not an exported model"):
        clf.export_onnx(tmp_path / "bundle")


@pytest.mark.parametrize(("package", "extra"), [("onnx", "train"), ("onnxscript", "train"), ("onnxruntime", "onnx")])
def test_missing_package(
    clf: MultiLabelClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtraError, match=rf"needs '{package}', .* pip install 'mlclf\[{extra}\]'"):
        clf.export_onnx(tmp_path / "bundle")


class NotExportable(BertBackbone):
    """A backbone that says no."""

    exportable = False


class OwnCollate(BertBackbone):
    """A backbone that builds batches in its own way."""

    def collate(self, encoded: Any, rows: Any) -> Any:
        """Do as the base does, as far as the check can tell."""
        return super().collate(encoded, rows)


class Sealed(FullStrategy):
    """A strategy that says no."""

    capabilities = StrategyCapabilities(export=False)


class SilentHead(BceHead):
    """A head that says no."""

    capabilities = HeadCapabilities(export=False)


class PromptHead(BceHead):
    """A head that changes the text."""

    def encode(self, backbone: Any, texts: Any) -> Any:
        """Put a prompt before each text."""
        return backbone.encode([f"labels: {text}" for text in texts])


class GeneratingHead(Head):
    """A head without logits."""

    def bind(self, backbone: Any, labels: Any) -> None:
        """Do nothing."""

    def losses(self, backbone: Any, batch: Any) -> Any:
        """Return nothing."""

    def probabilities(self, backbone: Any, batch: Any) -> Any:
        """Return nothing."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_class": NotExportable}, "Backbone 'bert' declares that it cannot .* Use one that can: 'bert'"),
        ({"strategy_class": Sealed}, "Strategy 'full' declares that it cannot be exported .*'head-only'"),
        ({"head_class": SilentHead}, "Head 'bce' declares that it cannot be exported to ONNX"),
        ({"head_class": GeneratingHead}, "Head 'bce' gives no logits"),
        ({"backbone_class": OwnCollate}, "Backbone 'bert' has a method 'collate' of its own"),
        ({"head_class": PromptHead}, "Head 'bce' has a method 'encode' of its own"),
    ],
)
def test_components_that_cannot_be_repeated(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=message):
        checks.check_parts(parts_with(**changes))


def test_components_without_a_reason_pass() -> None:
    checks.check_parts(parts_with())
    checks.check_parts(parts_with(strategy=BottleneckOptions(), strategy_class=Bottleneck))


def test_component_of_the_model_is_what_is_checked(
    clf: MultiLabelClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BertBackbone, "exportable", False)
    with pytest.raises(IncompatibleComponentsError, match="Backbone 'bert' declares"):
        clf.export_onnx(tmp_path / "bundle")
    assert np.isfinite(clf.predict_proba(["a"])).all()
