"""add_labels: further labels without a change in what is known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_classifier, toy_rows

from mlclf import BceOptions, LlmOptions, MultiLabelClassifier, Thresholds, register_head
from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError, NotFittedError
from mlclf.heads.bce import BceHead, _in_blocks
from mlclf.interfaces import BackboneOutput, LabelStatistics
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing import tiny_decoder

OLD, NEW, TEST = toy_rows(64), toy_rows(64, seed=4), toy_rows(30, seed=7)
TOPICS = ["animals", "food", "travel", "weather"]
STRATEGIES = [spec.name for spec in BUILTINS["strategy"]]


@pytest.fixture(scope="module")
def base(tiny_bert: Path) -> MultiLabelClassifier:
    clf = toy_classifier(tiny_bert, "lora", epochs=2, validation=0.25, calibration="platt", classes=TOPICS)
    return clf.fit(*OLD)


@pytest.fixture
def fitted(base: MultiLabelClassifier) -> MultiLabelClassifier:
    return copy.deepcopy(base)


def test_answers_for_known_labels_stay_the_same_bit_for_bit(fitted: MultiLabelClassifier) -> None:
    probabilities, decisions = fitted.predict_proba(TEST[0]), fitted.predict(TEST[0])
    for number in range(1, 20):
        fitted.add_labels([f"new {number}"])
        np.testing.assert_array_equal(fitted.predict_proba(TEST[0])[:, :4], probabilities)
        np.testing.assert_array_equal(fitted.predict(TEST[0])[:, :4], decisions)
    assert fitted.classes_.tolist() == [*TOPICS, *(f"new {number}" for number in range(1, 20))]


@pytest.mark.parametrize("hidden", [16, 128, 384])
@pytest.mark.parametrize("rows", [1, 3, 8, 33])
def test_a_column_does_not_depend_on_how_many_stand_beside_it(hidden: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(70, hidden, generator=generator), torch.randn(70, generator=generator)
    inputs = torch.randn(rows, hidden, generator=generator)

    def logits(n_labels: int) -> torch.Tensor:
        layer = torch.nn.Linear(hidden, n_labels)
        layer.weight.data, layer.bias.data = weight[:n_labels].clone(), bias[:n_labels].clone()
        return _in_blocks(layer, inputs)

    whole = logits(70)
    torch.testing.assert_close(whole, torch.nn.functional.linear(inputs, weight, bias))
    assert all(torch.equal(logits(n), whole[:, :n]) for n in range(1, 70))


def test_everything_that_has_a_place_a_label_is_extended(fitted: MultiLabelClassifier) -> None:
    before, counts = fitted.thresholds_, fitted.label_counts_
    fitted.add_labels(["sports", "politics"])
    model = fitted.model_
    assert fitted.n_labels_ == model.labels.n_labels == 6
    assert fitted.label_counts_.tolist() == [*counts.tolist(), 0, 0]
    assert model.statistics.known.tolist() == [48, 48, 48, 48, 0, 0]
    np.testing.assert_array_equal(fitted.thresholds_.values[:4], before.values)
    assert model.calibrator is not None
    assert model.calibrator.n_labels < model.labels.n_labels == 6
    assert fitted.predict(TEST[0]).shape == (30, 6)


def test_labels_of_which_nothing_is_known_are_not_predicted(fitted: MultiLabelClassifier) -> None:
    fitted.add_labels(["sports"])
    assert not fitted.predict(TEST[0])[:, 4].any()


def test_kept_rows_say_nothing_about_new_labels(fitted: MultiLabelClassifier) -> None:
    kept = fitted.model_.replay
    fitted.add_labels(["sports"])
    replay = fitted.model_.replay
    assert replay is not None
    assert kept is not None
    for wide, narrow in ((replay.training, kept.training), (replay.validation, kept.validation)):
        assert wide.rows.targets.known_counts.tolist() == [*narrow.rows.targets.known_counts.tolist(), 0]
        assert list(wide.rows.texts) == list(narrow.rows.texts)


def test_replayed_rows_are_no_negatives_of_new_labels(tiny_bert: Path) -> None:
    training = {"learning_rate": 1e-2, "head_learning_rate": 1e-2}
    clf = toy_classifier(tiny_bert, epochs=12, training=training, classes=TOPICS[:3], replay=1.0)
    clf.fit(OLD[0], [[name for name in row if name != "weather"] for row in OLD[1]])
    before = clf.evaluate(TEST[0], [[name for name in row if name != "weather"] for row in TEST[1]])
    clf.add_labels(["weather"])
    known = [dict.fromkeys(TOPICS[:3]) | {"weather": "weather" in row} for row in NEW[1]]
    clf.partial_fit(NEW[0], known)
    assert clf.label_counts_[3] == sum("weather" in row for row in NEW[1])
    assert clf.model_.statistics.known.tolist() == [64, 64, 64, 64]
    kept = clf.model_.replay
    assert kept is not None
    assert kept.training.rows.targets.known_counts.tolist() == [64, 64, 64, 64]
    assert clf.evaluate(*TEST).mean_average_precision > before.mean_average_precision - 0.1


def test_a_new_label_starts_at_its_frequency_once_rows_tell(fitted: MultiLabelClassifier) -> None:
    fitted.add_labels(["sports"]).set_params(training__learning_rate=1e-9, training__head_learning_rate=1e-9)
    fitted.set_params(calibration=None).partial_fit(NEW[0], [[*row, "sports"] for row in NEW[1]])
    assert fitted.predict_proba(TEST[0])[:, 4].min() > 0.9


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("family", ["encoder", "causal-lm"])
def test_every_strategy_takes_labels_is_saved_and_goes_on(
    tiny_bert: Path, tmp_path: Path, strategy: str, family: str
) -> None:
    backbone: dict[str, Any] = {}
    if family == "causal-lm":
        backbone = {"backbone": LlmOptions(model=str(tiny_decoder("llama", tmp_path / "llama")), max_length=32)}
    clf = toy_classifier(tiny_bert, strategy, epochs=1, **backbone)
    if strategy == "partial":
        clf.set_params(strategy__last_layers=1)
    try:
        clf.fit(*OLD)
    except (IncompatibleComponentsError, ImportError) as error:
        pytest.skip(str(error))
    before = clf.predict_proba(TEST[0])
    clf.add_labels(["sports"]).save(tmp_path / "m", include_replay=True)
    loaded = MultiLabelClassifier.load(tmp_path / "m", device="cpu").set_params(verbose=0, validation=None)
    np.testing.assert_array_equal(loaded.predict_proba(TEST[0])[:, :4], before)
    loaded.partial_fit(NEW[0], [[*row, "sports"] for row in NEW[1]])
    assert loaded.predict_proba(TEST[0]).shape == (30, 5)
    assert loaded.label_counts_[4] == 64


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_a_grown_model_is_exported(tiny_bert: Path, tmp_path: Path, hidden: tuple[int, ...]) -> None:
    from mlclf.onnx import OnnxClassifier

    clf = toy_classifier(tiny_bert, "lora", epochs=1, head=BceOptions(hidden=hidden)).fit(*OLD)
    before = clf.predict_proba(TEST[0])
    clf.add_labels(["sports"]).export_onnx(tmp_path / "onnx")
    exported = OnnxClassifier(tmp_path / "onnx")
    np.testing.assert_allclose(exported.predict_proba(TEST[0])[:, :4], before, atol=1e-4)


def test_weights_of_the_loss_follow_the_counts(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, head=BceOptions(loss="balanced")).fit(*OLD)
    first = clf.model_.network.head.loss.label_weights
    clf.add_labels(["sports"]).partial_fit(NEW[0], [["sports"] for _ in NEW[0]])
    second = clf.model_.network.head.loss.label_weights
    assert len(second) == 5
    assert (second[:4] > first).all()  # rarer by the share of new rows without them
    assert second[4] < 1


def test_labels_can_be_whole_numbers(tiny_bert: Path) -> None:
    Y = np.random.default_rng(0).integers(0, 2, (64, 3))
    clf = toy_classifier(tiny_bert, "lora", epochs=1).fit(OLD[0], Y).add_labels([7])
    assert clf.classes_.tolist() == [0, 1, 2, 7]
    clf.partial_fit(NEW[0], np.random.default_rng(1).integers(0, 2, (64, 4)))
    with pytest.raises(InvalidInputError, match=r"whole numbers, got 'x' \(str\)"):
        clf.add_labels(["x"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("sports", r"list of new labels, got 'sports'\. Wrap it: \['sports'\]"),
        (7, "list of new labels"),
        ([], "at least one"),
        (["food"], "'food' is known to the model already"),
        (["sports", "sports"], "'sports' occurs twice"),
        ([""], "not empty"),
        ([None], "int or a str"),
        ([3], r"are text, got 3 \(int\)"),
    ],
)
def test_names_that_cannot_be_new_labels_are_refused(fitted: MultiLabelClassifier, labels: Any, message: str) -> None:
    model = fitted.model_
    with pytest.raises(InvalidInputError, match=message):
        fitted.add_labels(labels)
    assert fitted.model_ is model


def test_an_unfitted_estimator_has_no_labels_to_add_to() -> None:
    with pytest.raises(NotFittedError):
        MultiLabelClassifier().add_labels(["x"])


def test_thresholds_given_by_hand_are_extended(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, thresholds=Thresholds.per_label([0.1, 0.2, 0.3, 0.4])).fit(*OLD)
    clf.add_labels(["sports"]).partial_fit(NEW[0], [[*row, "sports"] for row in NEW[1]])
    np.testing.assert_array_equal(clf.thresholds_.values, np.float32([0.1, 0.2, 0.3, 0.4, 0.5]))


def test_a_head_whose_labels_depend_on_each_other_is_refused(tiny_bert: Path) -> None:
    class MixingOptions(BceOptions):
        component = "local:mixing"

    class MixingHead(BceHead):
        Options = MixingOptions

        def features_to_logits(self, output: BackboneOutput) -> torch.Tensor:
            logits = super().features_to_logits(output)
            return logits + logits.sum(dim=1, keepdim=True)

    register_head(MixingHead, name="local:mixing")
    clf = toy_classifier(tiny_bert, "lora", epochs=1, head="local:mixing").fit(*OLD)
    with pytest.raises(IncompatibleComponentsError, match=r"'local:mixing' answers otherwise for known labels"):
        clf.add_labels(["sports"])
    clf.partial_fit(*NEW)  # with the labels that it has


def test_a_head_of_a_fixed_size_is_refused(tiny_bert: Path) -> None:
    class FixedOptions(BceOptions):
        component = "local:fixed"

    class FixedHead(BceHead):
        Options = FixedOptions

        def bind(self, backbone: Any, labels: LabelStatistics) -> None:
            super().bind(backbone, labels)
            self.table = torch.nn.Parameter(torch.zeros(3 * labels.n_labels))

    register_head(FixedHead, name="local:fixed")
    clf = toy_classifier(tiny_bert, "lora", epochs=1, head="local:fixed").fit(*OLD)
    with pytest.raises(IncompatibleComponentsError, match=r"'local:fixed' cannot take further labels.*'table'"):
        clf.add_labels(["sports"])
