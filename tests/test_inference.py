"""Prediction: order, sparse results for very many labels, and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array, issparse
from toy import toy_classifier, toy_rows

from mlclf import inference
from mlclf.inference import bounded_probabilities, dense_probabilities, top_columns
from mlclf.interfaces import Batch
from mlclf.network import MultiLabelNetwork


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.sampled_from([0, 0.25, 0.5, 1])
    ),
    st.data(),
)
def test_top_columns_are_those_of_a_stable_sort(values: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, values.shape[1]))
    np.testing.assert_array_equal(top_columns(values, k), np.argsort(-values, axis=1, kind="stable")[:, :k])


@pytest.fixture(scope="module")
def wide(tiny_bert: Path) -> Any:
    """A model of 300 labels fitted on sparse targets."""
    texts, _ = toy_rows(64)
    generator = np.random.default_rng(0)
    Y = csr_array((generator.random((64, 300)) < 0.02).astype(np.int8))
    return toy_classifier(tiny_bert, epochs=1, validation=0.3).fit(texts, Y), texts, Y


def test_sparse_labels_come_back_sparse(wide: Any) -> None:
    clf, texts, Y = wide
    predicted = clf.predict(texts, thresholds=0.02)
    assert issparse(predicted)
    assert predicted.dtype == Y.dtype
    np.testing.assert_array_equal(predicted.toarray(), clf.predict_proba(texts) >= np.float32(0.02))


def test_bounded_probabilities_keep_the_best_cells_whatever_is_true(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, texts, Y = wide
    model = clf.model_
    dataset = model.dataset(texts, model.labels.encode(Y))
    dense = dense_probabilities(model.network, dataset, 300, model.device)
    monkeypatch.setattr(inference, "_DENSE_CELLS", 10)
    monkeypatch.setattr(inference, "_KEPT_PER_ROW", 5)
    sparse = bounded_probabilities(model.network, dataset, 300, model.device)
    assert issparse(sparse)
    kept = sparse.toarray() > 0
    np.testing.assert_allclose(sparse.toarray()[kept], dense[kept], atol=1e-6)
    assert np.take_along_axis(kept, top_columns(dense, 5), 1).all()
    assert kept.sum() == 5 * len(texts)


def test_a_report_on_sparse_probabilities_is_that_on_dense_ones(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, texts, Y = wide
    clf.set_thresholds(0.02)
    dense = clf.evaluate(texts, Y)
    monkeypatch.setattr(inference, "_DENSE_CELLS", 10)
    monkeypatch.setattr(inference, "_KEPT_PER_ROW", 300)
    assert clf.evaluate(texts, Y).micro_f1 == pytest.approx(dense.micro_f1)


def test_prediction_halves_batches_that_do_not_fit(
    wide: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clf, texts, _ = wide
    expected = clf.predict_proba(texts)
    original = MultiLabelNetwork.probabilities

    def probabilities(network: MultiLabelNetwork, batch: Batch) -> Any:
        if batch.n_samples > 10:
            raise MemoryError
        return original(network, batch)

    monkeypatch.setattr(MultiLabelNetwork, "probabilities", probabilities)
    np.testing.assert_allclose(clf.predict_proba(texts), expected, atol=1e-6)
    assert "predicting in halves" in caplog.text
