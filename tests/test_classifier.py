"""The estimator as a user meets it: fit, predict, evaluate, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, issparse
from toy import toy_classifier, toy_rows

from mlclf import BertOptions, MultiLabelClassifier, Thresholds, TrainingOptions
from mlclf.exceptions import (
    IncompatibleComponentsError,
    InvalidInputError,
    NotFittedError,
    OptionsError,
    UnknownComponentError,
    UnknownLabelError,
)
from mlclf.labels import LabelSpace, to_indicator


@pytest.fixture(scope="module")
def fitted(tiny_bert: Path) -> MultiLabelClassifier:
    training = {"learning_rate": 1e-2, "head_learning_rate": 1e-2}
    return toy_classifier(tiny_bert, epochs=15, training=training, validation=0.2).fit(*toy_rows(200))


def test_fit_learns_labels_that_words_give_away(fitted: MultiLabelClassifier) -> None:
    report = fitted.evaluate(*toy_rows(40, seed=1))
    assert report.micro_f1 > 0.8


def test_predictions_agree_with_each_other(fitted: MultiLabelClassifier) -> None:
    texts, _ = toy_rows(40, seed=1)
    probabilities, indicator = fitted.predict_proba(texts), fitted.predict(texts)
    assert probabilities.shape == indicator.shape == (40, fitted.n_labels_)
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(indicator, probabilities >= fitted.thresholds_.values)
    names = [tuple(fitted.classes_[np.flatnonzero(row)]) for row in indicator]
    assert fitted.predict_labels(texts) == names
    columns, values = fitted.predict_topk(texts, 2)
    np.testing.assert_array_equal(columns, np.argsort(-probabilities, axis=1, kind="stable")[:, :2])
    np.testing.assert_allclose(values, np.take_along_axis(probabilities, columns, 1), atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-fitted.decision_function(texts))), probabilities, atol=1e-5)


def test_a_text_alone_is_predicted_as_in_a_batch(fitted: MultiLabelClassifier) -> None:
    texts, _ = toy_rows(30, seed=2)
    together = fitted.predict_proba(texts)
    alone = np.concatenate([fitted.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_report_of_evaluate_is_that_of_predict(fitted: MultiLabelClassifier) -> None:
    from sklearn.metrics import f1_score

    texts, labels = toy_rows(40, seed=3)
    truth = to_indicator(labels, fitted.classes_)
    expected = f1_score(truth, fitted.predict(texts), average="micro")
    assert fitted.evaluate(texts, labels).micro_f1 == pytest.approx(expected, abs=1e-9)


def test_empty_and_unusual_texts_are_predicted(fitted: MultiLabelClassifier) -> None:
    texts = ["", " ", "🙂", "中文", "[CLS] [SEP]", "word " * 500]
    assert np.isfinite(fitted.predict_proba(texts)).all()


def test_the_same_seed_gives_the_same_model(tiny_bert: Path) -> None:
    rows = toy_rows(48)
    first, second = (toy_classifier(tiny_bert, epochs=1).fit(*rows).predict_proba(rows[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_fit_leaves_global_random_state_alone(tiny_bert: Path) -> None:
    import torch

    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002 - the global state is the point
    toy_classifier(tiny_bert, epochs=1).fit(*toy_rows(32))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("form", ["lists", "sets", "array", "bool", "frame", "csr", "dicts"])
def test_predict_answers_in_the_form_of_y(tiny_bert: Path, form: str) -> None:
    texts, labels = toy_rows(48)
    frame = to_indicator(labels)
    Y: Any = {
        "lists": labels,
        "sets": [set(row) for row in labels],
        "array": frame.to_numpy(),
        "bool": frame.to_numpy().astype(bool),
        "frame": frame,
        "csr": csr_array(frame.to_numpy()),
        "dicts": [dict.fromkeys(row, True) for row in labels],
    }[form]
    clf = toy_classifier(tiny_bert, epochs=1).fit(texts, Y)
    predicted = clf.predict(texts[:4])
    assert predicted.shape == (4, clf.n_labels_)
    assert issparse(predicted) == (form == "csr")
    assert predicted.dtype == {"bool": np.dtype(bool), "array": frame.to_numpy().dtype}.get(form, predicted.dtype)
    expected = [0, 1] if form in ("array", "bool", "csr") else list(frame.columns)[:2]
    assert list(clf.classes_)[:2] == expected


def test_unknown_cells_do_not_influence_training(tiny_bert: Path) -> None:
    texts, labels = toy_rows(48)
    Y = to_indicator(labels).to_numpy().astype(float)
    Y[::3, 0] = np.nan
    other = np.where(np.isnan(Y), -1, Y)
    first = toy_classifier(tiny_bert, epochs=1).fit(texts, Y).predict_proba(texts)
    second = toy_classifier(tiny_bert, epochs=1).fit(texts, other).predict_proba(texts)
    np.testing.assert_array_equal(first, second)


def test_rows_of_weight_zero_are_not_learned(tiny_bert: Path) -> None:
    texts, labels = toy_rows(32)
    kept = toy_classifier(tiny_bert, epochs=1, training={"batch_size": 64}).fit(
        texts, labels, sample_weight=[1] * 16 + [0] * 16
    )
    wrong = [*labels[:16], *[["a-label-of-its-own"] for _ in range(16)]]
    classes = sorted({*map(str, kept.classes_), "a-label-of-its-own"})
    clf = toy_classifier(tiny_bert, epochs=1, training={"batch_size": 64}, classes=classes)
    assert clf.fit(texts, wrong, sample_weight=[1] * 16 + [0] * 16).history_.evaluations[-1].train_loss > 0


def test_thresholds_can_be_changed_without_refitting(fitted: MultiLabelClassifier) -> None:
    texts, _ = toy_rows(10, seed=4)
    label = fitted.classes_[0]
    assert fitted.predict(texts, thresholds=0.0).all()
    assert not fitted.predict(texts, thresholds=1.0).any()
    only = fitted.predict(texts, thresholds={label: 0.0})
    assert only[:, 0].all()
    np.testing.assert_array_equal(only[:, 1:], fitted.predict(texts)[:, 1:])
    assert all(len(row) <= 1 for row in fitted.predict_labels(texts, top_k=1, thresholds=0.0))
    before = fitted.thresholds_
    try:
        assert fitted.set_thresholds(0.0).predict(texts).all()
    finally:
        fitted.set_thresholds(before)


def test_an_unknown_label_in_evaluate_counts_as_missed(fitted: MultiLabelClassifier) -> None:
    texts, labels = toy_rows(10, seed=1)
    with pytest.warns(UserWarning, match="nonsense"):
        fitted.evaluate(texts, [*labels[:-1], ["nonsense"]])


def test_validation_data_replace_the_held_out_share(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, epochs=1).fit(*toy_rows(32), validation_data=toy_rows(32, seed=5))
    assert clf.history_.best == 0
    assert clf.validation_report_


def test_calibration_is_part_of_the_probabilities(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, epochs=3, validation=0.3, calibration="platt").fit(*toy_rows())
    assert clf.model_.calibrator is not None
    texts, _ = toy_rows(20, seed=1)
    probabilities = clf.predict_proba(texts)
    np.testing.assert_array_equal(clf.predict(texts), probabilities >= clf.thresholds_.values)


def test_too_few_rows_for_validation_are_said_to_be(tiny_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    clf = toy_classifier(tiny_bert, epochs=1, validation=0.1).fit(*toy_rows(20))
    assert "fewer than 10 for validation" in caplog.text
    np.testing.assert_array_equal(clf.thresholds_.values, 0.5)


@pytest.mark.parametrize("strategy", ["full", "head-only", "partial", "features", "lora", "adapter", "bitfit", "ia3"])
def test_every_strategy_learns(tiny_bert: Path, strategy: str) -> None:
    options: dict[str, Any] = {"strategy": strategy}
    clf = toy_classifier(tiny_bert, epochs=6, **options)
    if strategy == "partial":
        clf.set_params(strategy__last_layers=1)
    clf.fit(*toy_rows(64))
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]


def test_caching_constant_layers_changes_nothing(tiny_bert: Path) -> None:
    texts, labels = toy_rows(48)
    results = []
    for memory in (2.0, 0.0):
        clf = toy_classifier(tiny_bert, "partial", epochs=2, training={"cache_memory": memory})
        clf.set_params(strategy__last_layers=1, backbone__dropout=0.0, head__dropout=0.0)
        results.append(clf.fit(texts, labels))
    assert [clf.history_.cached_layers for clf in results] == [1, 0]
    np.testing.assert_allclose(*(clf.predict_proba(texts) for clf in results), atol=1e-5)


def test_a_constant_backbone_is_run_once_and_kept_as_one_vector_a_text(tiny_bert: Path) -> None:
    texts, labels = toy_rows(48)
    results = []
    for memory in (2.0, 0.0):
        clf = toy_classifier(tiny_bert, "features", epochs=2, training={"cache_memory": memory})
        results.append(clf.set_params(head__dropout=0.0).fit(texts, labels))
    # Rows of one vector have one length, so that batches are drawn in another order than by length: only the size of
    # the loss can agree.
    losses = [clf.history_.evaluations[-1].train_loss for clf in results]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    # 48 texts of 32 numbers in float32 are 6 kB; the states of their tokens would not fit into 12 kB.
    small = toy_classifier(tiny_bert, "features", epochs=2, training={"cache_memory": 12e3 / 2**30}).fit(texts, labels)
    assert small.history_.cached_layers == 2


def test_weights_of_unknown_labels_are_refused_before_anything_is_loaded() -> None:
    from mlclf import BceOptions

    clf = MultiLabelClassifier(
        BertOptions(model="/no/such/folder"), head=BceOptions(label_weights={"joyy": 2.0}), verbose=0
    )
    with pytest.raises(UnknownLabelError, match="joyy"):
        clf.fit(["a", "b", "c", "d"], [["joy"], ["fear"], [], ["joy"]])


def test_long_documents_are_read_in_windows(tiny_bert: Path) -> None:
    texts, labels = toy_rows(96)
    filler = " ".join(["the"] * 40)
    long = [f"{filler} {text}" for text in texts]
    backbone = BertOptions(model=str(tiny_bert), max_length=32, window_stride=8)
    training = {"learning_rate": 1e-2, "head_learning_rate": 1e-2}
    clf = toy_classifier(tiny_bert, epochs=10, backbone=backbone, training=training).fit(long, labels)
    assert clf.model_.dataset(long).encoded.windows_per_sample.min() > 1
    # The informative words stand behind the first window: only a model that reads all windows can tell texts apart.
    assert clf.predict_proba(long).std(axis=0).max() > 0.15
    alone = np.concatenate([clf.predict_proba([text]) for text in long[:5]])
    np.testing.assert_allclose(clf.predict_proba(long)[:5], alone, atol=1e-5)


def test_fit_twice_starts_anew(tiny_bert: Path) -> None:
    rows = toy_rows(32)
    clf = toy_classifier(tiny_bert, epochs=1)
    first = clf.fit(*rows).predict_proba(rows[0])
    np.testing.assert_array_equal(clf.fit(*rows).predict_proba(rows[0]), first)


# What is refused, and in which words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", "got a single str"),
        (["a", None, "b", "c"], "row 1"),
        ([b"a", b"b", b"c", b"d"], "bytes"),
        ([], "at least one"),
        ([1, 2, 3, 4], "int"),
        (["a", "b", "c"], "3 texts and 4"),
    ],
)
def test_wrong_texts_are_refused_before_anything_is_loaded(X: Any, message: str) -> None:
    clf = MultiLabelClassifier(BertOptions(model="/no/such/folder"), verbose=0)
    with pytest.raises(InvalidInputError, match=message):
        clf.fit(X, [["a"], ["b"], ["a"], ["b"]])


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (["a", "b", "a", "b"], "list"),
        ([["a"], ["a"], ["a"], ["a"]], "one label|label"),
        ([[], [], [], []], "No label"),
        (np.zeros((4, 2), int), "label"),
        (np.full((4, 2), 2), "0"),
        (np.full((4, 2), np.nan), "known"),
    ],
)
def test_wrong_labels_are_refused_before_anything_is_loaded(Y: Any, message: str) -> None:
    clf = MultiLabelClassifier(BertOptions(model="/no/such/folder"), verbose=0)
    with pytest.raises(InvalidInputError, match=message):
        clf.fit(["a", "b", "c", "d"], Y)


def test_labels_outside_classes_are_refused() -> None:
    clf = MultiLabelClassifier(classes=["joy", "fear"], verbose=0)
    with pytest.raises(UnknownLabelError, match=r"jooy.*joy"):
        clf.fit(["a", "b"], [["joy"], ["jooy"]])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"strategy": "loraa"}, UnknownComponentError, "lora"),
        ({"backbone": "nope:x"}, Exception, "nope"),
        ({"thresholds": "per_label"}, OptionsError, "per-label"),
        ({"thresholds": 1.5}, OptionsError, "1.5"),
        ({"device": "gpu"}, OptionsError, "gpu"),
        ({"validation": 1.5}, OptionsError, "validation"),
        ({"calibration": "isotonic"}, UnknownComponentError, "platt"),
        ({"random_state": "x"}, OptionsError, "random_state"),
        ({"training": TrainingOptions(precision="fp16"), "device": "cpu"}, OptionsError, "fp16"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(
    changes: dict[str, Any], error: type, message: str
) -> None:
    clf = MultiLabelClassifier(**{"backbone": BertOptions(model="/no/such/folder"), "verbose": 0, **changes})
    with pytest.raises(error, match=message):
        clf.fit(["a", "b", "c", "d"], [["x"], ["y"], ["x", "y"], []])


def test_a_sparse_option_of_a_bad_value_is_named(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora").set_params(strategy__r=0)
    with pytest.raises(OptionsError, match="r=0"):
        clf.fit(*toy_rows(16))


def test_weights_of_wrong_length_are_refused(tiny_bert: Path) -> None:
    with pytest.raises(InvalidInputError, match="sample_weight must have one number for each of the 16 texts"):
        toy_classifier(tiny_bert).fit(*toy_rows(16), sample_weight=[1.0])
    with pytest.raises(InvalidInputError, match="0 for every text"):
        toy_classifier(tiny_bert).fit(*toy_rows(16), sample_weight=np.zeros(16))


def test_an_unfitted_model_says_so() -> None:
    import sklearn.exceptions

    with pytest.raises(NotFittedError, match="not fitted"):
        MultiLabelClassifier().predict(["a"])
    with pytest.raises(sklearn.exceptions.NotFittedError):
        MultiLabelClassifier().predict_proba(["a"])


def test_incompatible_components_are_named(tiny_bert: Path) -> None:
    from mlclf import register_head
    from mlclf.heads.bce import BceHead, BceOptions
    from mlclf.interfaces import HeadCapabilities

    class CausalOptions(BceOptions):
        component = "local:causal-only"

    class CausalHead(BceHead):
        Options = CausalOptions
        capabilities = HeadCapabilities(families=frozenset({"causal-lm"}))

    register_head(CausalHead, name="local:causal-only")
    with pytest.raises(IncompatibleComponentsError, match=r"local:causal-only.*family 'encoder'"):
        toy_classifier(tiny_bert, head="local:causal-only").fit(*toy_rows(16))


def test_topk_out_of_range_is_refused(fitted: MultiLabelClassifier) -> None:
    with pytest.raises(OptionsError, match="k must be between 1"):
        fitted.predict_topk(["a"], 0)


def test_one_column_frames_are_texts(fitted: MultiLabelClassifier) -> None:
    texts, _ = toy_rows(5)
    np.testing.assert_array_equal(fitted.predict(pd.DataFrame({"text": texts})), fitted.predict(texts))


def test_thresholds_given_as_an_object_are_kept(tiny_bert: Path) -> None:
    rows = toy_rows(32)
    n_labels = LabelSpace.infer(rows[1]).n_labels
    clf = toy_classifier(tiny_bert, epochs=1, thresholds=Thresholds.fixed(n_labels, 0.25)).fit(*rows)
    np.testing.assert_array_equal(clf.thresholds_.values, np.float32(0.25))
