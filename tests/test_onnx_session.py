"""OnnxClassifier: the same answers as the model, alone or in a batch, from one thread or many."""

from __future__ import annotations

import inspect
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx_kit import CALIBRATOR, LABELS, PLAIN, TEXTS, expected, make_manifest, to_int8, with_labels, write_folder
from scipy.sparse import csr_array, csr_matrix

from mlclf.exceptions import (
    BundleDamagedError,
    BundleVersionError,
    InvalidInputError,
    OptionsError,
    SelfTestError,
    UnknownLabelError,
)
from mlclf.label_forms import YFormat
from mlclf.onnx import OnnxClassifier
from mlclf.onnx.manifest import OUTPUTS, GraphRule, TextRule
from mlclf.onnx.selftest import check_golden
from mlclf.predictions import PredictionMixin
from mlclf.testing.exported import tiny_graph
from mlclf.thresholds import Thresholds

WINDOWS = {
    "max": TextRule(16, 4, "max", 0, "right"),
    "mean": TextRule(16, 0, "mean", 0, "right"),
    "left": TextRule(16, 4, "max", 0, "left"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder that no test changes."""
    return write_folder(tmp_path_factory.mktemp("onnx") / "model")


@pytest.fixture(scope="module")
def clf(folder: Path) -> OnnxClassifier:
    """The classifier of that folder."""
    return OnnxClassifier(folder, "cpu", threads=2)


@pytest.mark.parametrize("method", ["predict", "predict_labels", "predict_proba", "predict_topk"])
def test_signatures_are_those_of_the_classifier(method: str) -> None:
    assert inspect.signature(getattr(OnnxClassifier, method)) == inspect.signature(getattr(PredictionMixin, method))


def test_probabilities_are_those_of_the_graph(clf: OnnxClassifier) -> None:
    found = clf.predict_proba(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(TEXTS), atol=1e-6)


def test_what_is_known_without_predicting(clf: OnnxClassifier) -> None:
    assert clf.classes_.tolist() == list(LABELS)
    assert clf.n_labels_ == 4
    assert clf.thresholds_ == Thresholds.per_label([0.5, 0.25, 0.75, 0.5])
    assert clf.provider_ == "CPUExecutionProvider"
    assert repr(clf) == "OnnxClassifier(4 labels, fp32, CPUExecutionProvider)"


def test_labels_follow_thresholds(clf: OnnxClassifier) -> None:
    p = expected(TEXTS)
    applies = p >= np.array([0.5, 0.25, 0.75, 0.5])
    indicator = clf.predict(TEXTS)
    assert indicator.dtype == np.int8
    np.testing.assert_array_equal(indicator, applies)
    assert clf.predict_labels(TEXTS) == [tuple(np.array(LABELS, dtype=object)[row]) for row in applies]
    np.testing.assert_array_equal(clf.predict(TEXTS, thresholds=0.9), p >= 0.9)
    np.testing.assert_array_equal(clf.predict(TEXTS, thresholds={7: 0.1})[:, 3], p[:, 3] >= 0.1)
    assert max(map(len, clf.predict_labels(TEXTS, top_k=1, thresholds=0.0))) == 1


def test_top_labels_are_the_most_probable(clf: OnnxClassifier) -> None:
    indices, probabilities = clf.predict_topk(TEXTS, 2)
    p = clf.predict_proba(TEXTS)
    np.testing.assert_array_equal(indices, np.argsort(-p, axis=1, kind="stable")[:, :2])
    np.testing.assert_array_equal(probabilities, np.take_along_axis(p, indices, axis=1))


def test_calibration_is_applied(tmp_path: Path) -> None:
    clf = OnnxClassifier(write_folder(tmp_path / "model", calibrator=CALIBRATOR), "cpu")
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected(TEXTS, calibrator=CALIBRATOR), atol=1e-6)


@pytest.mark.parametrize("rule", WINDOWS.values(), ids=WINDOWS)
def test_long_texts_are_read_in_windows(tmp_path: Path, rule: TextRule) -> None:
    clf = OnnxClassifier(write_folder(tmp_path / "model", text=rule), "cpu", selftest=True)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected(TEXTS, rule), atol=1e-6)


@pytest.mark.parametrize("rule", [PLAIN, *WINDOWS.values()], ids=["cut", *WINDOWS])
def test_text_alone_and_in_a_batch_get_the_same_answer(tmp_path: Path, rule: TextRule) -> None:
    clf = OnnxClassifier(write_folder(tmp_path / "model", text=rule), "cpu")
    alone = np.concatenate([clf.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(clf.predict_proba(TEXTS), alone, atol=1e-6)
    np.testing.assert_array_equal(clf.predict(TEXTS), np.concatenate([clf.predict([text]) for text in TEXTS]))


def test_eight_bit_weights_answer_alone_as_in_a_batch(tmp_path: Path) -> None:
    rule = GraphRule(20, "int8", OUTPUTS, "1.22")
    folder = write_folder(tmp_path / "model", to_int8(tiny_graph()), graph_rule=rule)
    clf = OnnxClassifier(folder, "cpu")
    together = clf.predict_proba(TEXTS)
    np.testing.assert_allclose(together, expected(TEXTS), atol=0.05)
    assert np.abs(together - expected(TEXTS)).max() > 1e-5, "the weights are not rounded"
    np.testing.assert_allclose(np.concatenate([clf.predict_proba([text]) for text in TEXTS]), together, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([clf.predict([text]) for text in TEXTS]), clf.predict(TEXTS))


def test_order_and_number_of_texts_leave_no_trace(clf: OnnxClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    once = clf.predict_proba(TEXTS)
    order = np.random.default_rng(1).permutation(len(TEXTS))
    np.testing.assert_allclose(clf.predict_proba([TEXTS[i] for i in order]), once[order], atol=1e-6)
    monkeypatch.setattr("mlclf.onnx.session._MOST_TEXTS", 7)
    monkeypatch.setattr("mlclf.onnx.session._LEAST_TEXTS", 7)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), once, atol=1e-6)
    np.testing.assert_array_equal(clf.predict(TEXTS), once >= clf.thresholds_.values)
    assert len(clf.predict_labels(TEXTS)) == len(TEXTS)
    np.testing.assert_allclose(clf.predict_topk(TEXTS, 1)[1][:, 0], once.max(axis=1), atol=1e-6)


def test_batches_are_bounded_in_rows_and_tokens(clf: OnnxClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    run = clf._runner._run
    monkeypatch.setattr(clf._runner, "_run", lambda ids, mask: (shapes.append(ids.shape), run(ids, mask))[1])
    monkeypatch.setattr(clf._runner, "_rows", 5)
    monkeypatch.setattr(clf._runner, "_tokens", 64)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected(TEXTS), atol=1e-6)
    assert max(rows for rows, _ in shapes) == 5
    assert max(rows * length for rows, length in shapes) <= 64
    assert [length for _, length in shapes] == sorted((length for _, length in shapes), reverse=True)


def test_batch_too_large_for_memory_is_halved(
    clf: OnnxClassifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = clf._runner._run

    def small_machine(ids: Any, mask: Any) -> Any:
        if len(ids) > 3:
            raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 123")
        return run(ids, mask)

    monkeypatch.setattr(clf._runner, "_run", small_machine)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected(TEXTS), atol=1e-6)
    assert "predicting in halves" in caplog.text


def test_other_errors_are_not_hidden(clf: OnnxClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ids: Any, mask: Any) -> Any:
        raise RuntimeError("the kernel failed")

    monkeypatch.setattr(clf._runner, "_run", broken)
    with pytest.raises(RuntimeError, match="the kernel failed"):
        clf.predict_proba(TEXTS)


def test_thirty_two_threads_at_once(clf: OnnxClassifier) -> None:
    p = clf.predict_proba(TEXTS)

    def work(seed: int) -> float:
        rng = np.random.default_rng(seed)
        worst = 0.0
        for _ in range(12):
            rows = rng.integers(len(TEXTS), size=rng.integers(1, 9))
            found = clf.predict_proba([TEXTS[row] for row in rows])
            worst = max(worst, float(np.abs(found - p[rows]).max()))
        return worst

    with ThreadPoolExecutor(32) as pool:
        assert max(pool.map(work, range(32))) < 1e-6


@pytest.mark.parametrize(
    ("form", "kind", "dtype"),
    [
        (YFormat("rows", "int8"), np.ndarray, np.int8),
        (YFormat("array", "bool"), np.ndarray, np.bool_),
        (YFormat("frame", "int64"), np.ndarray, np.int64),
        (YFormat("array", "float32"), np.ndarray, np.float32),
        (YFormat("sparse-array", "int8"), csr_array, np.int8),
        (YFormat("sparse-matrix", "float64"), csr_matrix, np.float64),
    ],
)
def test_predict_answers_in_the_form_of_training(
    tmp_path: Path, form: YFormat, kind: type, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf = OnnxClassifier(write_folder(tmp_path / "model", y_format=form), "cpu")
    truth = expected(TEXTS) >= clf.thresholds_.values
    for most in (4096, 5):
        monkeypatch.setattr("mlclf.onnx.session._MOST_TEXTS", most)
        monkeypatch.setattr("mlclf.onnx.session._LEAST_TEXTS", 5)
        found = clf.predict(TEXTS)
        assert type(found) is kind
        assert found.dtype == dtype
        np.testing.assert_array_equal(found if kind is np.ndarray else found.toarray(), truth)


FORMS = [tuple(TEXTS), np.array(TEXTS), np.array(TEXTS)[:, None], pd.Series(TEXTS), pd.DataFrame({"text": TEXTS})]


@pytest.mark.parametrize("X", [*FORMS, iter(TEXTS)], ids=lambda X: type(X).__name__)
def test_every_form_of_texts_is_read(clf: OnnxClassifier, X: Any) -> None:
    np.testing.assert_allclose(clf.predict_proba(X), expected(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", r"X must be a sequence of str, got a single str\. Wrap it: \[text\]\."),
        ([], "X is empty"),
        (["fine", None], "X must hold str only, got None of type NoneType in row 1"),
        (["fine", b"bytes"], "Decode it"),
        (["\ud800"], "half a surrogate pair in row 0"),
        ([["nested"]], "Each row is one text"),
        (3, "X must be a sequence of str, got int"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_labels", "predict_proba"])
def test_wrong_texts_are_refused_as_by_the_classifier(clf: OnnxClassifier, method: str, X: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        getattr(clf, method)(X)


@pytest.mark.parametrize("k", [0, 5, 1.5, "2", True, None])
def test_wrong_k_is_refused(clf: OnnxClassifier, k: Any) -> None:
    with pytest.raises(OptionsError, match="k must be between 1 and the 4 labels"):
        clf.predict_topk(TEXTS, k)


def test_wrong_thresholds_are_refused(clf: OnnxClassifier) -> None:
    with pytest.raises(UnknownLabelError, match="Did you mean 'animals'"):
        clf.predict(TEXTS, thresholds={"animal": 0.5})
    with pytest.raises(OptionsError, match="top_k must be a whole number"):
        clf.predict_labels(TEXTS, top_k=0)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_wrong_number_of_threads_is_refused(folder: Path, threads: Any) -> None:
    with pytest.raises(OptionsError, match="threads must be a whole number of at least 1, or None"):
        OnnxClassifier(folder, "cpu", threads=threads)


def test_selftest_passes_where_nothing_changed(folder: Path) -> None:
    clf = OnnxClassifier(folder, "cpu", selftest=True)
    assert check_golden(clf.manifest_.golden, clf.predict_proba) < 1e-6


def test_selftest_finds_another_tokenizer(tmp_path: Path) -> None:
    """The checksums are right: what changed is what the folder means here."""
    folder = write_folder(tmp_path / "model")
    saved = json.loads((folder / "tokenizer.json").read_text())
    saved["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(saved))
    make_manifest().write(folder)
    OnnxClassifier(folder, "cpu")
    with pytest.raises(SelfTestError, match=r"golden text \d \('na.ve caf.*asked in one batch, a probability differs"):
        OnnxClassifier(folder, "cpu", selftest=True)


def test_selftest_finds_answers_that_depend_on_the_batch() -> None:
    golden = make_manifest().golden

    def alone_is_different(texts: Any) -> Any:
        rows = [golden.texts.index(text) for text in texts]
        return golden.probabilities[rows] + (0.2 if len(texts) == 1 else 0)

    with pytest.raises(SelfTestError, match=r"asked alone, a probability differs by 0\.2; 0\.0001 is allowed"):
        check_golden(golden, alone_is_different)


def test_selftest_finds_numbers_that_are_none() -> None:
    golden = make_manifest().golden
    with pytest.raises(SelfTestError, match="differs by nan"):
        check_golden(golden, lambda texts: np.full((len(texts), 4), np.nan, dtype=np.float32))


def test_graph_with_another_number_of_labels_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", with_labels(tiny_graph(), 3))
    with pytest.raises(BundleDamagedError, match=r"shape \['batch', 3\]; the manifest has 4 labels"):
        OnnxClassifier(folder, "cpu")


def test_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    graph = tiny_graph()
    graph.graph.input[0].name = graph.graph.node[0].input[1] = "ids"
    with pytest.raises(BundleDamagedError, match="the manifest says input_ids, attention_mask of int64"):
        OnnxClassifier(write_folder(tmp_path / "model", graph), "cpu")


def test_graph_without_the_labels_of_the_manifest_is_refused(tmp_path: Path) -> None:
    rule = GraphRule(20, "fp32", (*OUTPUTS, "labels"), "1.20")
    with pytest.raises(BundleDamagedError, match=r"gives \['logits', 'probabilities'\]; the manifest says"):
        OnnxClassifier(write_folder(tmp_path / "model", graph_rule=rule), "cpu")


def test_newer_runtime_is_asked_for(tmp_path: Path) -> None:
    rule = GraphRule(20, "fp32", OUTPUTS, "99.1")
    with pytest.raises(BundleVersionError, match=r"needs onnxruntime 99\.1 or later, \d+\.\d+.* is installed"):
        OnnxClassifier(write_folder(tmp_path / "model", graph_rule=rule), "cpu")


def test_tokenizer_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    make_manifest().write(folder)
    with pytest.raises(BundleDamagedError, match="cannot be read by the installed version of tokenizers"):
        OnnxClassifier(folder, "cpu")


def test_rule_for_texts_that_cannot_be_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    make_manifest(text=TextRule(8, 7, "max", 0, "right"), golden=make_manifest().golden).write(folder)
    with pytest.raises(BundleDamagedError, match=r"rule for texts does not fit .*window_stride=7 must be between"):
        OnnxClassifier(folder, "cpu")


def test_nothing_is_printed_or_warned(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OnnxClassifier(folder, selftest=True).predict(TEXTS)
    assert capfd.readouterr() == ("", "")
