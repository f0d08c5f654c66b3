"""Augmentation in training: the loop, resumption, saved models, components, the command line."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import WordBackbone, toy_classifier, toy_rows

from mlclf import (
    AugmentationOptions,
    MultiLabelClassifier,
    TrainingOptions,
    register_back_translation,
    register_backbone,
    register_head,
)
from mlclf.augmentation import back_translation
from mlclf.augmentation.base import Corpus
from mlclf.augmentation.techniques import StandardAugmentation
from mlclf.cli.build import make_classifier
from mlclf.cli.config import assignment, make_config
from mlclf.cli.merging import merged
from mlclf.exceptions import IncompatibleComponentsError, OptionsError, TrainingInterrupted
from mlclf.heads.bce import BceHead, BceOptions
from mlclf.testing import tiny_tokenizer
from mlclf.training import loop
from mlclf.training.epochs import AugmentedRows
from mlclf.training.step import Stepper

EVERYTHING = {
    **{"replacement": 0.1, "swap": 0.1, "deletion": 0.1, "masking": 0.15, "mixing": 0.2},
    **{"back_translation": "test-reversed"},
}


@pytest.fixture(autouse=True)
def _reversed_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_translation, "_REGISTERED", {})
    register_back_translation("test-reversed", lambda texts: [" ".join(text.split()[::-1]) for text in texts])


def classifier(folder: Path, strategy: Any = "full", *, epochs: int = 2, training: Any = (), **options: Any) -> Any:
    augmentation = AugmentationOptions(**options)
    return toy_classifier(
        folder, strategy, epochs=epochs, training={"augmentation": augmentation, **dict(training)}, validation=None
    )


def epochs_of(clf: MultiLabelClassifier, rows: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Fit, and return the data set of each epoch."""
    seen, original = [], AugmentedRows.epoch

    def epoch(augmented: AugmentedRows, number: int) -> Any:
        seen.append(original(augmented, number))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(AugmentedRows, "epoch", epoch)
        clf.fit(*rows)
    return seen


def test_augmentation_is_off_by_default(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrainingOptions().augmentation is None
    rows = toy_rows(32)
    plain = toy_classifier(tiny_bert, epochs=1).fit(*rows).predict_proba(rows[0])
    nothing_on = classifier(tiny_bert, epochs=1)
    assert epochs_of(nothing_on, rows, monkeypatch) == []
    np.testing.assert_array_equal(nothing_on.predict_proba(rows[0]), plain)


def test_texts_are_changed_anew_in_each_epoch_and_alike_for_one_seed(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = toy_rows(48)
    first, second = (
        epochs_of(classifier(tiny_bert, epochs=2, **EVERYTHING), rows, monkeypatch) for _ in range(2)
    )  # fmt: skip
    assert len(first) == 2
    assert first[0].encoded.ids.tolist() != first[1].encoded.ids.tolist()
    assert first[0].targets.indicator.nnz != toy_nnz(rows)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.encoded.ids, other.encoded.ids)
        np.testing.assert_array_equal(one.targets.indicator.toarray(), other.targets.indicator.toarray())


def toy_nnz(rows: Any) -> int:
    return sum(map(len, rows[1]))


def test_an_epoch_does_not_depend_on_those_before(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[AugmentedRows] = []
    original = AugmentedRows.epoch
    monkeypatch.setattr(AugmentedRows, "epoch", lambda rows, n: kept.append(rows) or original(rows, n))
    classifier(tiny_bert, epochs=1, **EVERYTHING).fit(*toy_rows(32))
    last_first = [original(kept[0], number).encoded.ids.tolist() for number in (3, 0)]
    assert last_first == [original(kept[0], number).encoded.ids.tolist() for number in (0, 1, 2, 3)][::-3]


def test_the_number_of_steps_stays_as_it_is(tiny_bert: Path) -> None:
    rows = toy_rows(50)
    steps = {
        clf.fit(*rows).history_.evaluations[-1].step
        for clf in (toy_classifier(tiny_bert, epochs=2), classifier(tiny_bert, epochs=2, **EVERYTHING))
    }
    assert steps == {8}  # 50 rows in batches of 16, 2 epochs


def test_validation_rows_are_never_changed(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, held_out = toy_rows(48), toy_rows(24, seed=5)
    scored, original = [], loop.evaluate_run
    monkeypatch.setattr(
        loop,
        "evaluate_run",
        lambda network, dataset, *rest: scored.append(dataset) or original(network, dataset, *rest),
    )
    clf = classifier(tiny_bert, epochs=2, **EVERYTHING).fit(*rows, validation_data=held_out)
    assert len(scored) == 2
    for dataset in scored:
        np.testing.assert_array_equal(dataset.encoded.ids, clf.model_.dataset(held_out[0]).encoded.ids)
        assert dataset.targets.indicator.nnz == toy_nnz(held_out)


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_run_interrupted_within_an_epoch_resumes_to_the_same_weights(
    tiny_bert: Path, tmp_path: Path, strategy: str
) -> None:
    rows, held_out, folder = toy_rows(64), toy_rows(32, seed=9), str(tmp_path / "c")
    whole = classifier(tiny_bert, strategy, epochs=3, **EVERYTHING).fit(*rows, validation_data=held_out)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=6)  # of 4 steps an epoch
        with pytest.raises(TrainingInterrupted):
            classifier(tiny_bert, strategy, epochs=3, training={"checkpoint_dir": folder}, **EVERYTHING).fit(
                *rows, validation_data=held_out
            )
    resumed = classifier(tiny_bert, strategy, epochs=3, training={"resume_from": folder}, **EVERYTHING)
    resumed.fit(*rows, validation_data=held_out)
    np.testing.assert_array_equal(whole.predict_proba(held_out[0]), resumed.predict_proba(held_out[0]))


def interrupt(patch: pytest.MonkeyPatch, after: int) -> None:
    """Send a signal to this process in one of the next steps."""
    original, steps = Stepper.step, []

    def step(stepper: Stepper, batches: Any) -> float:
        steps.append(1)
        if len(steps) == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(stepper, batches)

    patch.setattr(Stepper, "step", step)


@pytest.mark.parametrize("change", ["options", "translations"])
def test_a_checkpoint_of_other_augmentation_is_refused(tiny_bert: Path, tmp_path: Path, change: str) -> None:
    rows, folder = toy_rows(32), str(tmp_path / "c")
    options = {"back_translation": "test-reversed", "deletion": 0.1}
    classifier(tiny_bert, epochs=1, training={"checkpoint_dir": folder}, **options).fit(*rows)
    if change == "options":
        options["deletion"] = 0.2
    else:
        register_back_translation("test-reversed", lambda texts: [text + " day" for text in texts])
    with pytest.raises(OptionsError, match=r"training differ|back-translations differ"):
        classifier(tiny_bert, epochs=1, training={"resume_from": folder}, **options).fit(*rows)


def test_constant_layers_are_computed_anew_and_the_reason_is_said(
    tiny_bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = toy_rows(32)
    with caplog.at_level(logging.WARNING):
        clf = classifier(tiny_bert, "head-only", deletion=0.1).fit(*rows, validation_data=toy_rows(16, seed=1))
    assert "2 constant layers are computed anew in every epoch, because the training texts change" in caplog.text
    assert clf.history_.cached_layers == 0
    assert np.isfinite(clf.predict_proba(rows[0])).all()


def test_accumulated_batches_windows_unknown_cells_and_weights_go_with_augmentation(tiny_bert: Path) -> None:
    texts, labels = toy_rows(48)
    names = sorted({name for row in labels for name in row})
    cells = np.array([[float(name in row) for name in names] for row in labels])
    cells[::3, 0] = np.nan
    clf = classifier(tiny_bert, training={"gradient_accumulation": 2}, **EVERYTHING)
    clf.set_params(backbone__max_length=8, backbone__window_stride=2)
    clf.fit(texts, cells, sample_weight=np.arange(48) % 3, validation_data=(texts[:12], cells[:12]))
    assert clf.history_.evaluations[-1].step == 4  # 3 batches of 16 make 2 steps in each of 2 epochs
    assert np.isfinite(clf.history_.evaluations[-1].train_loss)


def test_a_saved_model_loads_where_its_back_translation_is_not_registered(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = toy_rows(32)
    clf = classifier(tiny_bert, epochs=1, **EVERYTHING).fit(*rows)
    clf.save(tmp_path / "model")
    monkeypatch.setattr(back_translation, "_REGISTERED", {})
    loaded = MultiLabelClassifier.load(tmp_path / "model")
    assert loaded.training.augmentation == AugmentationOptions(**EVERYTHING)
    np.testing.assert_array_equal(loaded.predict_proba(rows[0]), clf.predict_proba(rows[0]))
    with pytest.raises(OptionsError, match="no function of that name is registered"):
        loaded.fit(*rows)


def test_an_unregistered_back_translation_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"'absent'.*: no function of that name"):
        classifier(tmp_path / "no backbone", back_translation="absent").fit(*toy_rows(32))


def test_masking_is_refused_where_the_tokenizer_has_no_mask_token() -> None:
    register_backbone(WordBackbone, name="local:words")
    training = TrainingOptions(epochs=1, augmentation=AugmentationOptions(masking=0.1))
    clf = MultiLabelClassifier("local:words", "full", training=training, verbose=0, device="cpu")
    with pytest.raises(IncompatibleComponentsError, match="this tokenizer has none"):
        clf.fit(*toy_rows(32))


def test_masking_is_refused_before_loading_where_a_head_puts_a_prompt_around_the_texts(tmp_path: Path) -> None:
    class PromptedOptions(BceOptions):
        component = "local:prompted"

    class Prompted(BceHead):
        Options = PromptedOptions

        def encode(self, backbone: Any, texts: Any) -> Any:
            return backbone.encode([f"What is this about? {text}" for text in texts])

    register_head(Prompted, name="local:prompted")
    clf = classifier(tmp_path / "no backbone", masking=0.1).set_params(head="local:prompted")
    with pytest.raises(IncompatibleComponentsError, match="Head 'local:prompted' turns texts into tokens"):
        clf.fit(*toy_rows(32))


def test_a_configuration_file_and_set_reach_into_augmentation() -> None:
    file = {"training": {"epochs": 2, "augmentation": {"deletion": 0.1, "synonyms": {"big": ["large"]}}}}
    values = merged(file, assignment("training.augmentation.replacement=0.2"))
    training = make_classifier(make_config(values), classes=None, verbose=0).training
    assert training.augmentation == AugmentationOptions(deletion=0.1, replacement=0.2, synonyms={"big": ["large"]})
    off = merged(values, assignment("training.augmentation=null"))
    assert make_classifier(make_config(off), classes=None, verbose=0).training.augmentation is None
    wrong = merged(values, assignment("training.augmentation.replace=0.2"))
    with pytest.raises(OptionsError, match=r"AugmentationOptions has no option 'replace'"):
        make_classifier(make_config(wrong), classes=None, verbose=0)


def test_a_search_compares_augmentation_with_none(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert)
    on = AugmentationOptions(deletion=0.1)
    assert clf.set_params(training__augmentation=on).get_params()["training__augmentation"] == on
    assert clf.set_params(training__augmentation=None).training.augmentation is None


@pytest.mark.parametrize(
    "wrong",
    [{"swap": 1.5}, {"deletion": 1}, {"masking_span": 0.5}, {"synonyms": {"two words": ["x"]}},
     {"synonyms": {"x": []}}, {"synonyms": {"x": [" "]}}, {"replace_words": 0.1}],
)  # fmt: skip
def test_options_outside_their_rule_are_refused_inside_training_options_too(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(OptionsError, match=name):
        AugmentationOptions(**wrong)
    with pytest.raises(OptionsError, match=name):
        TrainingOptions(augmentation=wrong)


def test_values_set_by_replace_are_checked_with_the_training_options() -> None:
    training = TrainingOptions().replace(augmentation=AugmentationOptions().replace(swap=2))
    with pytest.raises(OptionsError, match="swap"):
        training.validated()


def test_options_go_through_json_unchanged() -> None:
    options = TrainingOptions(
        augmentation=AugmentationOptions(replacement=0.1, synonyms={"big": ["large"]}, back_translation="anything")
    )
    assert TrainingOptions(**options.model_dump(mode="json")) == options


def test_options_that_change_nothing_are_not_active() -> None:
    corpus = Corpus(["a"], np.ones(1, np.float32), np.ones(1, np.int64), None, tiny_tokenizer())
    made = StandardAugmentation(AugmentationOptions())
    made.prepare(corpus)
    assert not made.active


def test_synonyms_without_replacement_are_said_to_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    corpus = Corpus(["a"], np.ones(1, np.float32), np.ones(1, np.int64), None, tiny_tokenizer())
    with caplog.at_level(logging.WARNING):
        StandardAugmentation(AugmentationOptions(synonyms={"a": ["b"]})).prepare(corpus)
    assert "no word is replaced" in caplog.text
