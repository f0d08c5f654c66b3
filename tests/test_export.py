"""export_onnx: the same answers without torch, in every precision, and a model that stays as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_kit import EXAMPLES, fitted
from numpy.typing import NDArray
from toy import toy_rows

from mlclf import LoraOptions, MultiLabelClassifier, Thresholds
from mlclf.calibration import PlattScaling
from mlclf.calibrators import PlattCalibrator, PlattOptions
from mlclf.exceptions import ExportError, ParityError
from mlclf.interfaces import BackboneOutput
from mlclf.onnx import OnnxClassifier, export, graph, precision
from mlclf.onnx.export_report import ExportReport
from mlclf.testing import tiny_encoder

TEXTS, LABELS = toy_rows(40, seed=7)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of one layer: an export takes seconds a layer."""
    return tiny_encoder("bert", tmp_path_factory.mktemp("models") / "bert", layers=1)


@pytest.fixture(scope="module")
def clf(encoder: Path) -> MultiLabelClassifier:
    """A classifier with low-rank updates, windows, calibration and tuned thresholds; never change it."""
    return fitted(encoder, LoraOptions(r=4), backbone={"window_stride": 4}, validation=0.3, calibration="platt")


@pytest.fixture(scope="module")
def exported(clf: MultiLabelClassifier, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    """Its folder in float32, with the output ``labels``, and the report; never change it."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    return folder, clf.export_onnx(folder, labels_output=True, example_texts=EXAMPLES)


@pytest.fixture(scope="module")
def small(clf: MultiLabelClassifier, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    """Its folder in 8 bits, with thresholds tuned again."""
    folder = tmp_path_factory.mktemp("small") / "bundle"
    return folder, clf.export_onnx(folder, precision="int8", labels_output=True, validation_data=(TEXTS, LABELS))


@dataclass(frozen=True)
class Half:
    """An export in half precision, and what the model was before it."""

    folder: Path
    report: ExportReport
    before: dict[str, torch.Tensor]
    modules: list[type]
    answers: NDArray[np.float32]


@pytest.fixture(scope="module")
def half(clf: MultiLabelClassifier, tmp_path_factory: pytest.TempPathFactory) -> Half:
    """Its folder in half precision."""
    folder = tmp_path_factory.mktemp("half") / "bundle"
    before, answers = state(clf), clf.predict_proba(TEXTS)
    modules = [type(module) for module in clf.model_.network.modules()]
    report = clf.export_onnx(folder, precision="fp16", example_texts=EXAMPLES)
    return Half(folder, report, before, modules, answers)


def state(clf: MultiLabelClassifier) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in clf.model_.network.state_dict().items()}


def run_graph(folder: Path, texts: list[str]) -> dict[str, NDArray[Any]]:
    """All outputs of a graph for the first window of some texts, as a server computes them."""
    import onnxruntime

    model = OnnxClassifier(folder, "cpu")
    rule = model.manifest_.text
    encoded = model._encoder.encode(texts)
    ids, mask = encoded.padded(encoded.sample_offsets[:-1], rule.pad_id, rule.padding_side)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_exported_model_answers_as_the_fitted_one(
    clf: MultiLabelClassifier, exported: tuple[Path, ExportReport]
) -> None:
    model = OnnxClassifier(exported[0], "cpu", selftest=True)
    np.testing.assert_allclose(model.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=1e-5)
    assert model.predict_labels(TEXTS) == clf.predict_labels(TEXTS)
    assert (model.predict(TEXTS) == clf.predict(TEXTS)).all()
    assert model.classes_.tolist() == clf.classes_.tolist()


def test_probabilities_spread_so_that_agreement_means_something(clf: MultiLabelClassifier) -> None:
    p = clf.predict_proba(TEXTS)
    assert p.min() < 0.2
    assert p.max() > 0.7
    assert 0.1 < clf.predict(TEXTS).mean() < 0.9


def test_manifest_holds_what_a_program_needs(clf: MultiLabelClassifier, exported: tuple[Path, ExportReport]) -> None:
    manifest = json.loads((exported[0] / "manifest.json").read_text())
    assert manifest["labels"] == clf.classes_.tolist()
    assert manifest["thresholds"] == clf.thresholds_.to_json()
    assert manifest["text"]["window_stride"] == 4
    assert manifest["graph"]["outputs"] == ["logits", "probabilities", "labels"]
    assert manifest["graph"]["min_onnxruntime"] == "1.20"
    assert manifest["parity"]["max_change"] < 1e-5
    assert {"torch", "onnx", "onnxruntime", "tokenizers"} <= set(manifest["versions"])
    assert "/" not in manifest["model"]["backbone_source"]


def test_golden_texts_are_the_difficult_ones(exported: tuple[Path, ExportReport]) -> None:
    texts = json.loads((exported[0] / "manifest.json").read_text())["golden"]["texts"]
    assert "" in texts
    assert any("[CLS]" in text and "</s>" in text for text in texts)
    assert any("é" in text for text in texts)
    assert any("服务" in text for text in texts)
    assert any("👍" in text for text in texts)
    assert max(len(text.split()) for text in texts) > 32


def test_graph_holds_nothing_of_the_machine(exported: tuple[Path, ExportReport]) -> None:
    content = (exported[0] / "model.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert str(Path(__file__).parent).encode() not in content
    assert not onnx.load(exported[0] / "model.onnx").graph.value_info


def test_axes_are_open_and_named(exported: tuple[Path, ExportReport]) -> None:
    model = onnx.load(exported[0] / "model.onnx")
    axes = [[axis.dim_param for axis in entry.type.tensor_type.shape.dim] for entry in model.graph.input]
    assert axes == [["batch", "length"], ["batch", "length"]]


def test_labels_of_the_graph_follow_its_thresholds(
    clf: MultiLabelClassifier, exported: tuple[Path, ExportReport]
) -> None:
    outputs = run_graph(exported[0], TEXTS)
    assert outputs["labels"].dtype == np.int8
    assert (outputs["labels"] == clf.thresholds_.apply(outputs["probabilities"])).all()
    np.testing.assert_allclose(outputs["probabilities"], clf.predict_proba(TEXTS), atol=1e-4)


def test_export_leaves_the_model_as_it_was(clf: MultiLabelClassifier, half: Half) -> None:
    after = state(clf)
    assert list(half.before) == list(after)
    assert all(torch.equal(tensor, after[name]) for name, tensor in half.before.items())
    assert [type(module) for module in clf.model_.network.modules()] == half.modules
    assert (clf.predict_proba(TEXTS) == half.answers).all()


def test_failed_proof_leaves_model_and_older_folder_as_they_were(
    clf: MultiLabelClassifier,
    exported: tuple[Path, ExportReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "bundle"
    shutil.copytree(exported[0], target)
    older = {path.name: path.read_bytes() for path in target.iterdir()}
    merged_copy = export.merged_copy

    def damaged(network: Any, strategy: Any) -> Any:
        twin = merged_copy(network, strategy)
        with torch.no_grad():
            twin.head.output.bias[1] += 0.5
        return twin

    monkeypatch.setattr(export, "merged_copy", damaged)
    before = state(clf)
    with pytest.raises(ParityError, match=r"\d+ of \d+ texts \(probabilities\): row 0 \('the cat") as caught:
        clf.export_onnx(target, example_texts=EXAMPLES)
    assert repr(clf.classes_.tolist()[1]) in str(caught.value)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == older
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(clf).items())


def test_export_says_nothing(clf: MultiLabelClassifier, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clf.export_onnx(tmp_path / "bundle", precision="int8", example_texts=EXAMPLES)
    assert capfd.readouterr() == ("", "")


def test_report_says_what_was_measured(exported: tuple[Path, ExportReport]) -> None:
    folder, report = exported
    assert str(report).startswith(f"Exported to {folder}: fp32, opset 20, 0.")
    assert "labels differ. Alone or in a batch" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["parity"]["allowed"]["largest"] == 1e-4
    assert report.parity.n_rows == len(EXAMPLES) + 9


def test_eight_bits_answer_alone_as_in_a_batch(small: tuple[Path, ExportReport]) -> None:
    model = OnnxClassifier(small[0], "cpu")
    together = model.predict_proba(TEXTS)
    alone = np.concatenate([model.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    assert small[1].parity.batch_change < 1e-6


def test_eight_bits_are_really_stored(exported: tuple[Path, ExportReport], small: tuple[Path, ExportReport]) -> None:
    nodes = onnx.load(small[0] / "model.onnx").graph.node
    assert sum(node.op_type == "MatMulNBits" for node in nodes) == 6
    assert small[1].size < exported[1].size
    assert 0 < small[1].parity.max_change < 0.1
    assert json.loads((small[0] / "manifest.json").read_text())["graph"]["min_onnxruntime"] == "1.22"


def test_thresholds_of_eight_bits_are_tuned_again(clf: MultiLabelClassifier, small: tuple[Path, ExportReport]) -> None:
    folder, report = small
    assert report.validation is not None
    assert report.validation.n_samples == len(TEXTS)
    assert report.validation.tuned_again is not None
    assert report.validation.tuned_again.micro_f1 >= report.validation.exported.micro_f1 - 0.05
    assert "thresholds tuned again" in str(report)
    model = OnnxClassifier(folder, "cpu")
    assert model.thresholds_ != clf.thresholds_
    outputs = run_graph(folder, TEXTS)
    assert (outputs["labels"] == model.thresholds_.apply(outputs["probabilities"])).all()


def test_thresholds_of_float32_stay(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    report = clf.export_onnx(tmp_path / "bundle", validation_data=(TEXTS, LABELS))
    assert report.validation is not None
    assert report.validation.tuned_again is None
    assert report.validation.exported == report.validation.fitted
    assert OnnxClassifier(tmp_path / "bundle", "cpu").thresholds_ == clf.thresholds_


def test_half_precision_ends_before_the_head(half: Half) -> None:
    model = onnx.load(half.folder / "model.onnx")
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert kinds["network.head.output.weight"] == onnx.TensorProto.FLOAT
    assert kinds["network.backbone.model.embeddings.word_embeddings.weight"] == onnx.TensorProto.FLOAT16
    assert {entry.type.tensor_type.elem_type for entry in model.graph.output} == {onnx.TensorProto.FLOAT}
    assert 0 < half.report.parity.max_change < 0.02


def test_half_precision_refuses_weights_that_it_cannot_hold(clf: MultiLabelClassifier) -> None:
    network = graph.merged_copy(clf.model_.network, clf.model_.strategy)
    next(network.backbone.model.parameters()).data[0, 0] = 1e5
    with pytest.raises(ExportError, match=r"values beyond 65,504\. Use precision='fp32' or 'int8'"):
        precision.to_half(network)


@pytest.mark.parametrize("kind", ["fp32", pytest.param("int8", marks=pytest.mark.slow)])
def test_large_weights_stand_in_a_file_of_their_own(
    clf: MultiLabelClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setattr(graph, "_ONE_FILE", 1000)
    report = clf.export_onnx(tmp_path / "bundle", precision=kind, example_texts=EXAMPLES)
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert names == {"model.onnx", "model.onnx.data", "tokenizer.json", "manifest.json", "README.md"}
    assert report.size > (tmp_path / "bundle" / "model.onnx.data").stat().st_size > 10_000


def test_at_most_k_labels_in_the_graph_too(encoder: Path, tmp_path: Path) -> None:
    clf = fitted(encoder, "head-only", thresholds=Thresholds.fixed(4, 0.3).limited(2))
    clf.export_onnx(tmp_path / "bundle", labels_output=True)
    outputs = run_graph(tmp_path / "bundle", TEXTS)
    assert outputs["labels"].sum(axis=1).max() == 2
    assert (outputs["labels"] == clf.predict(TEXTS)).all()


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 19, 21, 22, 23])
def test_every_opset_agrees(clf: MultiLabelClassifier, tmp_path: Path, opset: int) -> None:
    clf.export_onnx(tmp_path / "bundle", opset=opset, example_texts=EXAMPLES, labels_output=True)
    (found,) = [entry.version for entry in onnx.load(tmp_path / "bundle" / "model.onnx").opset_import]
    assert found == opset


def test_exporter_that_fails_is_explained(
    clf: MultiLabelClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sorts(self: Any, output: BackboneOutput) -> torch.Tensor:
        return torch.linalg.eigvals(output.tokens[:, :4, :4]).real

    monkeypatch.setattr(type(clf.model_.network.head), "features_to_logits", sorts)
    with pytest.raises(
        ExportError, match=r"torch.onnx could not express this model at opset 20: .*No ONNX function found"
    ):
        clf.export_onnx(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_very_sure_model_with_calibration_is_exported(encoder: Path, tmp_path: Path) -> None:
    # At log-odds of 13 and more, float32 has few digits left, and a calibration of small scale shows it.
    clf = fitted(encoder, "head-only", calibration="platt", validation=0.3)
    model = clf.model_
    scaling = PlattScaling([0.05, 0.3, 0.3, 0.5], [0.0] * 4)
    model.calibrator = PlattCalibrator.restored(PlattOptions(), {"scale": scaling.scale, "offset": scaling.offset}, 4)
    with torch.no_grad():
        model.network.head.output.weight *= 5
    assert (clf.model_.probabilities(TEXTS) > 0.98).any()
    clf.export_onnx(tmp_path / "bundle", labels_output=True)


@pytest.mark.slow
def test_loaded_model_is_exported_with_its_own_thresholds(clf: MultiLabelClassifier, tmp_path: Path) -> None:
    clf.save(tmp_path / "saved")
    loaded = MultiLabelClassifier.load(tmp_path / "saved", device="cpu").set_thresholds(0.25)
    loaded.export_onnx(tmp_path / "bundle", example_texts=EXAMPLES)
    model = OnnxClassifier(tmp_path / "bundle", "cpu")
    assert model.thresholds_.values.tolist() == [0.25] * 4
    assert model.predict_labels(TEXTS) == clf.predict_labels(TEXTS, thresholds=0.25)
