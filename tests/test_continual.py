"""partial_fit: a fitted model learns from more rows, and stays what it was where that fails."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import toy_classifier, toy_rows

from mlclf import LlmOptions, MultiLabelClassifier, ReplayOptions, Thresholds
from mlclf.exceptions import (
    IncompatibleComponentsError,
    InvalidInputError,
    NonFiniteLossError,
    OptionsError,
    TrainingInterrupted,
    UnknownLabelError,
)
from mlclf.labels import to_indicator
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing import tiny_decoder
from mlclf.training.step import Stepper

OLD, NEW, TEST = toy_rows(64), toy_rows(48, seed=4), toy_rows(30, seed=7)
TOPICS = ["animals", "food", "travel", "weather"]
STRATEGIES = [spec.name for spec in BUILTINS["strategy"]]


def on_tiny(strategy: str, folder: Path, **changes: Any) -> MultiLabelClassifier:
    """Return a classifier with a built-in strategy, in a form that fits two layers."""
    clf = toy_classifier(folder, strategy, epochs=1, **changes)
    return clf.set_params(strategy__last_layers=1) if strategy == "partial" else clf


@pytest.fixture(scope="module")
def base(tiny_bert: Path) -> MultiLabelClassifier:
    return toy_classifier(tiny_bert, "lora", epochs=2, validation=0.25, replay=0.2).fit(*OLD)


@pytest.fixture
def fitted(base: MultiLabelClassifier) -> MultiLabelClassifier:
    return copy.deepcopy(base)


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoder("llama", tmp_path_factory.mktemp("models") / "llama")


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    original, count = Stepper.step, 0

    def step(stepper: Stepper, batches: Any) -> float:
        nonlocal count
        loss = original(stepper, batches)
        count += 1
        if count == steps:
            act()
        return loss

    monkeypatch.setattr(Stepper, "step", step)


def fail() -> None:
    raise NonFiniteLossError("made up")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def weights(clf: MultiLabelClassifier) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in clf.model_.network.state_dict().items()}


# What it does ------------------------------------------------------------------------------------------------------


def test_on_an_unfitted_estimator_it_is_a_fit(tiny_bert: Path) -> None:
    first = toy_classifier(tiny_bert, "lora", epochs=1).fit(*OLD)
    second = toy_classifier(tiny_bert, "lora", epochs=1).partial_fit(*OLD)
    np.testing.assert_array_equal(first.predict_proba(TEST[0]), second.predict_proba(TEST[0]))


def test_the_first_call_can_name_the_classes(tiny_bert: Path) -> None:
    names = ["weather", "travel", "food", "animals", "sports"]
    clf = toy_classifier(tiny_bert, "lora", epochs=1).partial_fit(*OLD, classes=names)
    assert clf.classes_.tolist() == names
    assert clf.partial_fit(*NEW, classes=names).classes_.tolist() == names
    with pytest.raises(InvalidInputError, match="add_labels"):
        clf.partial_fit(*NEW, classes=[*names, "politics"])
    with pytest.raises(InvalidInputError, match="different labels"):
        toy_classifier(tiny_bert, classes=names).partial_fit(*OLD, classes=names[:4])


def test_training_goes_on_from_the_present_weights(fitted: MultiLabelClassifier) -> None:
    before = fitted.predict_proba(TEST[0])
    fitted.set_params(training__learning_rate=1e-9, training__head_learning_rate=1e-9)
    fitted.partial_fit(*NEW)
    np.testing.assert_allclose(fitted.predict_proba(TEST[0]), before, atol=1e-4)


def test_it_learns_what_new_rows_teach(tiny_bert: Path) -> None:
    training = {"learning_rate": 1e-2, "head_learning_rate": 1e-2}
    clf = toy_classifier(tiny_bert, epochs=6, training=training).fit(*toy_rows(100))
    before = clf.evaluate(*TEST).mean_average_precision
    assert clf.partial_fit(*toy_rows(100, seed=5)).evaluate(*TEST).mean_average_precision > before


def test_replay_keeps_what_new_rows_say_nothing_about(tiny_bert: Path) -> None:
    training = {"learning_rate": 1e-2, "head_learning_rate": 1e-2}
    base = toy_classifier(tiny_bert, epochs=12, training=training, replay=1.0).fit(*toy_rows(150))
    one_sided = (["today the people", "a quiet morning", "cat and horse", "dog"] * 12, [[], [], ["animals"]] * 16)
    scores = {
        share: copy.deepcopy(base).set_params(replay=share).partial_fit(*one_sided).evaluate(*TEST).micro_f1
        for share in (None, 1.0)
    }
    assert scores[1.0] > scores[None] + 0.2


def test_counts_add_up_and_the_buffer_stands_for_all_rows(fitted: MultiLabelClassifier) -> None:
    counts = fitted.label_counts_
    fitted.partial_fit(*NEW)
    both = fitted.model_.statistics.known[0]
    assert both == 48 + 36
    assert fitted.label_counts_.sum() > counts.sum()
    replay = fitted.model_.replay
    assert replay is not None
    assert (replay.training.seen, replay.validation.seen) == (84, 28)
    assert (len(replay.training.rows), len(replay.validation.rows)) == (17, 6)


def test_rows_kept_are_learned_from_and_validation_rows_never_are(
    fitted: MultiLabelClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlclf import continual

    original, seen = continual.train_model, []

    def spy(plan: Any, model: Any, train_set: Any, rows: Any, validation: Any, *rest: Any, **named: Any) -> None:
        seen.append((set(rows.texts), set(validation.texts)))
        original(plan, model, train_set, rows, validation, *rest, **named)

    kept = fitted.model_.replay
    assert kept is not None
    monkeypatch.setattr(continual, "train_model", spy)
    fitted.partial_fit(*NEW)
    ((learned, validated),) = seen
    assert set(kept.training.rows.texts) <= learned
    assert set(kept.validation.rows.texts) <= validated
    assert learned.isdisjoint(validated - set(OLD[0]) & set(NEW[0]))
    assert len(learned) == 36 + 10


@pytest.mark.parametrize("share", [None, 0.0])
def test_without_replay_new_rows_stand_alone_and_nothing_is_kept(fitted: MultiLabelClassifier, share: Any) -> None:
    fitted.set_params(replay=share).partial_fit(*NEW)
    assert fitted.model_.replay is None
    fitted.partial_fit(*NEW)


def test_a_smaller_share_replays_less_of_what_was_kept(fitted: MultiLabelClassifier) -> None:
    fitted.set_params(replay=ReplayOptions(share=0.05)).partial_fit(*NEW)
    assert fitted.model_.replay is not None
    assert len(fitted.model_.replay.training.rows) == 5


def test_thresholds_and_calibration_are_tuned_again(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, validation=0.25, calibration="platt", replay=0.2)
    before, calibrator = clf.fit(*OLD).thresholds_, clf.model_.calibrator
    clf.partial_fit(*NEW)
    assert clf.thresholds_.rule == "per-label"
    assert clf.thresholds_ != before
    assert clf.model_.calibrator not in (None, calibrator)
    assert clf.validation_report_["n_samples"] == 12 + 4


def test_too_few_rows_for_validation_leave_thresholds_as_they_are(
    tiny_bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, validation=0.25, calibration="platt", replay=0.05).fit(*OLD)
    before, calibrator = clf.thresholds_, clf.model_.calibrator
    clf.partial_fit(NEW[0][:8], NEW[1][:8])
    assert "stay as they were" in caplog.text
    assert clf.thresholds_ == before
    assert clf.model_.calibrator == calibrator


def test_validation_rows_from_before_serve_a_single_new_row(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, validation=0.25, replay=1.0).fit(*OLD)
    clf.partial_fit(NEW[0][:1], NEW[1][:1])
    assert clf.validation_report_["n_samples"] == 16


def test_given_validation_rows_are_the_only_ones(fitted: MultiLabelClassifier) -> None:
    fitted.partial_fit(*NEW, validation_data=TEST)
    assert fitted.validation_report_["n_samples"] == 30


def test_given_thresholds_stay(tiny_bert: Path) -> None:
    given = Thresholds.per_label([0.1, 0.2, 0.3, 0.4])
    for thresholds in (0.25, given):
        clf = toy_classifier(tiny_bert, "lora", epochs=1, validation=0.25, thresholds=thresholds).fit(*OLD)
        before = clf.thresholds_
        assert clf.partial_fit(*NEW).thresholds_ == before


@pytest.mark.parametrize("form", ["array", "frame", "dicts"])
def test_new_rows_may_come_in_any_form(fitted: MultiLabelClassifier, form: str) -> None:
    frame = to_indicator(NEW[1], fitted.classes_)
    Y: Any = {
        "array": frame.to_numpy(),
        "frame": frame[frame.columns[::-1]],
        "dicts": [{"food": None, "animals": "animals" in row} for row in NEW[1]],
    }[form]
    fitted.partial_fit(NEW[0], Y)
    assert fitted.model_.y_format.kind == "rows"
    known = fitted.model_.statistics.known
    assert (known == [84, 48, 84, 84] if form == "dicts" else known == 84).all()


# Every strategy, on encoders and causal models -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("family", ["encoder", "causal-lm"])
def test_every_strategy_goes_on_and_is_left_alone_by_a_failure(
    tiny_bert: Path, tiny_llama: Path, tmp_path: Path, strategy: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = {} if family == "encoder" else {"backbone": LlmOptions(model=str(tiny_llama), max_length=32)}
    clf = on_tiny(strategy, tiny_bert, **backbone)
    try:
        clf.fit(*OLD)
    except (IncompatibleComponentsError, ImportError) as error:
        pytest.skip(str(error))
    before, report = weights(clf), clf.predict_proba(TEST[0])
    with monkeypatch.context() as patch:
        stop_after(2, patch, fail)
        with pytest.raises(NonFiniteLossError):
            clf.partial_fit(*NEW)
    after = weights(clf)
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    np.testing.assert_array_equal(clf.predict_proba(TEST[0]), report)
    clf.partial_fit(*NEW).save(tmp_path / "m")
    assert not np.array_equal(clf.predict_proba(TEST[0]), report)
    loaded = MultiLabelClassifier.load(tmp_path / "m", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(TEST[0]), clf.predict_proba(TEST[0]))


# Failure, interruption, resumption -----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [fail, interrupt])
def test_a_failed_or_interrupted_call_leaves_the_model_as_it_was(
    fitted: MultiLabelClassifier, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    before, probabilities, model = weights(fitted), fitted.predict_proba(TEST[0]), fitted.model_
    state = (fitted.thresholds_, fitted.label_counts_, fitted.history_, model.replay)
    with monkeypatch.context() as patch:
        stop_after(2, patch, act)
        with pytest.raises((NonFiniteLossError, TrainingInterrupted)):
            fitted.partial_fit(*NEW)
    assert fitted.model_ is model
    assert (fitted.thresholds_, fitted.label_counts_, fitted.history_, model.replay) == state
    assert all(np.array_equal(weights(fitted)[name], value) for name, value in before.items())
    np.testing.assert_array_equal(fitted.predict_proba(TEST[0]), probabilities)
    fitted.partial_fit(*NEW)  # and can go on


def test_an_interrupted_call_resumes_to_the_same_weights(
    base: MultiLabelClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parted = copy.deepcopy(base).partial_fit(*NEW), copy.deepcopy(base)
    with monkeypatch.context() as patch:
        stop_after(4, patch, interrupt)
        with pytest.raises(TrainingInterrupted, match="resume_from"):
            parted.set_params(training__checkpoint_dir=str(tmp_path)).partial_fit(*NEW)
    parted.set_params(training__checkpoint_dir=None, training__resume_from=str(tmp_path)).partial_fit(*NEW)
    np.testing.assert_array_equal(whole.predict_proba(TEST[0]), parted.predict_proba(TEST[0]))
    assert whole.thresholds_ == parted.thresholds_


def test_a_checkpoint_of_another_start_or_other_kept_rows_is_refused(
    base: MultiLabelClassifier, tmp_path: Path
) -> None:
    copy.deepcopy(base).set_params(training__checkpoint_dir=str(tmp_path)).partial_fit(*NEW)
    other = copy.deepcopy(base).partial_fit(*TEST)
    with pytest.raises(OptionsError, match="start"):
        other.set_params(training__resume_from=str(tmp_path)).partial_fit(*NEW)
    fewer = copy.deepcopy(base).set_params(training__resume_from=str(tmp_path), replay=0.05)
    with pytest.raises(OptionsError, match="data"):
        fewer.partial_fit(*NEW)


# Saved and loaded ----------------------------------------------------------------------------------------------------


def test_a_loaded_model_goes_on_as_the_one_that_was_saved(base: MultiLabelClassifier, tmp_path: Path) -> None:
    base.save(tmp_path / "m", include_replay=True)
    loaded = MultiLabelClassifier.load(tmp_path / "m", device="cpu")
    loaded.set_params(verbose=0, validation=0.25, random_state=0, replay=0.2).partial_fit(*NEW)
    here = copy.deepcopy(base).partial_fit(*NEW)
    np.testing.assert_array_equal(loaded.predict_proba(TEST[0]), here.predict_proba(TEST[0]))
    assert loaded.thresholds_ == here.thresholds_


def test_a_model_loaded_without_kept_rows_says_so(base: MultiLabelClassifier, tmp_path: Path) -> None:
    base.save(tmp_path / "m")
    loaded = MultiLabelClassifier.load(tmp_path / "m").set_params(verbose=0)
    with pytest.warns(UserWarning, match=r"include_replay=True"):
        loaded.partial_fit(*NEW)
    assert loaded.model_.replay is not None
    MultiLabelClassifier.load(tmp_path / "m").set_params(verbose=0, replay=None).partial_fit(*NEW)


def test_a_loaded_model_is_tuned_as_it_was(tiny_bert: Path, tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [
        {"thresholds": "global", "calibration": "platt"},
        {"thresholds": 0.25},
        {"validation": None},
        {"thresholds": Thresholds.top(2)},
    ]
    for given in settings:
        clf = toy_classifier(tiny_bert, "lora", epochs=1, **{"validation": 0.25, **given}).fit(*OLD)
        clf.save(tmp_path / "m")
        loaded = MultiLabelClassifier.load(tmp_path / "m")
        expected = {"thresholds": "per-label", "calibration": None, **given}
        assert (loaded.thresholds, loaded.calibration) == (expected["thresholds"], expected["calibration"])


@pytest.mark.parametrize("replay", [None, 0.2, 1.0, ReplayOptions(share=0.5, max_rows=20)])
@pytest.mark.filterwarnings("error")
def test_a_loaded_model_keeps_as_many_rows_as_it_was_told(replay: Any, tiny_bert: Path, tmp_path: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, replay=replay).fit(*OLD)
    clf.save(tmp_path / "m", include_replay=replay is not None)
    loaded = MultiLabelClassifier.load(tmp_path / "m")
    assert loaded.replay == replay
    loaded.set_params(verbose=0, validation=None).partial_fit(*NEW)
    clf.partial_fit(*NEW)
    sizes = [None if m.replay is None else len(m.replay.training.rows) for m in (clf.model_, loaded.model_)]
    assert sizes[0] == sizes[1]
    assert loaded.add_labels(["further"]).save(tmp_path / "m") is None
    assert MultiLabelClassifier.load(tmp_path / "m").replay == replay


def test_a_folder_of_an_earlier_version_that_does_not_say_how_many_rows_are_kept_has_the_default(
    base: MultiLabelClassifier, tmp_path: Path
) -> None:
    base.save(tmp_path / "m")
    path = tmp_path / "m" / "manifest.json"
    values = json.loads(path.read_text())
    assert values.pop("replay") == {"share": 0.2, "max_rows": 10_000}
    path.write_text(json.dumps(values))
    assert MultiLabelClassifier.load(tmp_path / "m").replay == 0.5


def test_a_fitted_estimator_is_pickled_with_its_kept_rows(fitted: MultiLabelClassifier) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        again.partial_fit(*NEW).predict_proba(TEST[0]), fitted.partial_fit(*NEW).predict_proba(TEST[0])
    )


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("Y", "error"),
    [
        ([["politics"], ["food"]], UnknownLabelError),
        ([{"politics": True}, {"food": True}], UnknownLabelError),
        (np.zeros((2, 5), dtype=int), InvalidInputError),
        (
            to_indicator([["politics"], ["food"]], ["animals", "food", "travel", "weather", "politics"]),
            UnknownLabelError,
        ),
    ],
)
def test_a_label_that_is_not_known_names_add_labels(fitted: MultiLabelClassifier, Y: Any, error: type) -> None:
    with pytest.raises(error, match=r"add_labels\(\[\.\.\.\]\)"):
        fitted.partial_fit(["a", "b"], Y)


def test_other_components_than_the_fitted_ones_are_refused(fitted: MultiLabelClassifier) -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"strategy.*set the parameter back, or call fit"):
        fitted.set_params(strategy="full").partial_fit(*NEW)


def test_nothing_to_learn_from_is_refused(fitted: MultiLabelClassifier) -> None:
    fitted.set_params(replay=None)
    with pytest.raises(InvalidInputError, match="No label applies"):
        fitted.partial_fit(["a", "b"], [[], []])
