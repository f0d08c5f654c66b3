"""Many label sets from one set of backbone weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multitask_kit import ENDS, FAST, LENGTHS, NEW, TEXTS, TOPICS, UPPER, filled, make, storages
from toy import toy_classifier

from mlclf import (
    BertOptions,
    LlmOptions,
    LoraOptions,
    MultiLabelClassifier,
    MultiTaskClassifier,
)
from mlclf.exceptions import (
    IncompatibleComponentsError,
    InvalidInputError,
    NotFittedError,
    OptionsError,
)
from mlclf.testing import tiny_decoder, tiny_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder("bert", tmp_path_factory.mktemp("multitask") / "bert")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> BertOptions:
    return BertOptions(model=str(folder), max_length=24, window_stride=4)


@pytest.fixture(scope="module")
def mt(encoder: BertOptions) -> MultiTaskClassifier:
    return filled(encoder)


@pytest.fixture(scope="module", params=["bert", "modernbert", "deberta-v2", "albert", "llama-left", "qwen3-right"])
def any_mt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MultiTaskClassifier:
    name, place = request.param, tmp_path_factory.mktemp("any")
    if "-left" in name or "-right" in name:
        architecture, side = name.split("-")
        model = tiny_decoder(architecture, place)
        options: Any = LlmOptions(model=str(model), padding_side=side, max_length=24, window_stride=4)
    else:
        options = BertOptions(model=str(tiny_encoder(name, place)), max_length=24, window_stride=4)
    mt = make(options)
    mt.add_task("topics", TEXTS, TOPICS, strategy=LoraOptions(r=4))
    mt.add_task("length", TEXTS, LENGTHS, strategy=LoraOptions(r=2, use_dora=True, targets="attention"))
    return mt.add_task("again", TEXTS, TOPICS, strategy="head-only", pooling="max")


# --- fitting --------------------------------------------------------------------------------------------------------


def test_a_task_answers_as_a_classifier_fitted_alone(mt: MultiTaskClassifier, encoder: BertOptions) -> None:
    alone = MultiLabelClassifier(
        encoder, LoraOptions(r=4), training=FAST, validation=None, device="cpu", random_state=0, verbose=0
    ).fit(TEXTS, TOPICS)
    np.testing.assert_array_equal(mt.predict_proba(NEW, task="topics"), alone.predict_proba(NEW))


def test_a_new_task_changes_no_bit_of_what_others_answer(encoder: BertOptions) -> None:
    mt = make(encoder).add_task("topics", TEXTS, TOPICS, strategy=LoraOptions(r=4))
    before = mt.predict_proba(NEW, task="topics")
    mt.add_task("length", TEXTS, LENGTHS).add_task("ends", TEXTS, ENDS, strategy="features")
    np.testing.assert_array_equal(mt.predict_proba(NEW, task="topics"), before)
    np.testing.assert_array_equal(mt.remove_task("length").predict_proba(NEW, task="topics"), before)


def test_backbone_weights_are_there_once(mt: MultiTaskClassifier) -> None:
    assert len(mt.tasks) == 4
    assert len(storages(mt, "word_embeddings.weight")) == 1
    shared = {p.data_ptr() for p in mt._shared.model.parameters()}
    for model in mt._models.values():
        own = model.strategy.state(model.network.backbone)
        others = [p for n, p in model.network.backbone.model.named_parameters() if n not in own]
        assert {p.data_ptr() for p in others} == shared
    every = {
        p.data_ptr(): p.numel() for model in mt._models.values() for p in model.network.backbone.model.parameters()
    }
    trained = sum(t.numel() for m in mt._models.values() for t in m.strategy.state(m.network.backbone).values())
    assert sum(every.values()) == sum(p.numel() for p in mt._shared.model.parameters()) + trained


def test_each_task_has_its_own_labels_pooling_and_rank(mt: MultiTaskClassifier) -> None:
    topics, length = mt.task("topics"), mt.task("length")
    assert list(topics.classes_) == ["animals", "food", "travel", "weather"]
    assert list(length.classes_) == ["long", "short"]
    assert (topics.strategy.r, length.strategy.r) == (4, 2)
    assert (topics.backbone.pooling, length.backbone.pooling) == ("mean", "max")


@pytest.mark.parametrize("strategy", ["full", "partial", LoraOptions(init="pissa"), LoraOptions(init="olora")])
def test_strategies_that_change_shared_weights_are_refused(encoder: BertOptions, strategy: Any) -> None:
    mt = make(encoder)
    with pytest.raises(IncompatibleComponentsError, match="changes the weights that tasks share"):
        mt.add_task("topics", TEXTS, TOPICS, strategy=strategy)
    assert mt.tasks == ()
    assert mt._shared is None  # nothing was loaded for it


@pytest.mark.parametrize("name", ["", "  ", "topics", "a\nb", "x" * 101, 3, None])
def test_a_task_needs_a_new_printable_name(mt: MultiTaskClassifier, name: Any) -> None:
    with pytest.raises(OptionsError, match="task"):
        mt.add_task(name, TEXTS, TOPICS)


# --- rows of several tasks ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_assignment_of_tasks_to_rows_gives_the_answers_of_each_task(
    any_mt: MultiTaskClassifier, data: st.DataObject
) -> None:
    tasks = data.draw(st.lists(st.sampled_from(any_mt.tasks), min_size=1, max_size=len(NEW)))
    texts = NEW[-len(tasks) :]
    alone = {name: any_mt.predict_proba(texts, task=name) for name in set(tasks)}
    mixed = any_mt.predict_proba(texts, task=tasks)
    for row, name in enumerate(tasks):
        np.testing.assert_allclose(mixed[row], alone[name][row], atol=1e-5, rtol=0)


def test_labels_and_indicators_of_mixed_rows_are_those_of_their_tasks(any_mt: MultiTaskClassifier) -> None:
    tasks = [any_mt.tasks[i % 3] for i in range(len(NEW))]
    labels, indicators = any_mt.predict_labels(NEW, task=tasks), any_mt.predict(NEW, task=tasks)
    best = any_mt.predict_labels(NEW, task=tasks, top_k=1)
    for row, name in enumerate(tasks):
        clf = any_mt.task(name)
        assert labels[row] == clf.predict_labels(NEW)[row]
        assert best[row] == clf.predict_labels(NEW, top_k=1)[row]
        np.testing.assert_array_equal(indicators[row], clf.predict(NEW)[row])


def test_all_tasks_answer_for_each_text(any_mt: MultiTaskClassifier) -> None:
    answers = any_mt.predict_all(NEW)
    assert list(answers) == list(any_mt.tasks)
    for name in any_mt.tasks:
        assert answers[name] == any_mt.predict_labels(NEW, task=name)


def test_rows_of_several_tasks_go_through_one_forward_pass(mt: MultiTaskClassifier) -> None:
    mt.predict_labels(NEW[:2], task=["topics", "length"])
    shapes: list[Any] = []
    embeddings = mt._mixed().routed.backbone.model.get_submodule("embeddings")
    handle = embeddings.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[0]))
    mt.predict_proba(NEW[:3], task=["topics", "length", "again"])
    assert shapes == [3]
    mt.predict_all(NEW[:1])
    assert shapes == [3, 4]
    handle.remove()


def test_tasks_that_change_nothing_share_one_reading_of_a_text(encoder: BertOptions) -> None:
    mt = make(encoder).add_task("a", TEXTS, TOPICS, strategy="head-only")
    mt.add_task("b", TEXTS, LENGTHS, strategy="features", pooling="cls").add_task("c", TEXTS, ENDS, strategy=UPPER)
    shapes: list[Any] = []
    embeddings = mt._mixed().routed.backbone.model.get_submodule("embeddings")
    embeddings.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[0]))
    assert mt.predict_all(NEW[:2]) == {name: mt.predict_labels(NEW[:2], task=name) for name in "abc"}
    assert shapes == [4]


def test_layers_that_see_what_all_rows_share_are_run_task_by_task(tmp_path: Path) -> None:
    mt = make(BertOptions(model=str(tiny_encoder("deberta-v2", tmp_path)))).add_task("a", TEXTS, TOPICS)
    assert not mt._mixed().routed.joins


@pytest.mark.parametrize("task", [["topics"], ["topics"] * 9, []])
def test_there_must_be_one_task_a_text(mt: MultiTaskClassifier, task: list[str]) -> None:
    with pytest.raises(InvalidInputError, match=f"one task for each of the 8 texts, got {len(task)}"):
        mt.predict_labels(NEW, task=task)


@pytest.mark.parametrize("task", ["topic", ["topics"] * 7 + ["topic"]])
def test_an_unknown_task_is_named_with_the_one_that_was_meant(mt: MultiTaskClassifier, task: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"no task 'topic'\. Did you mean 'topics'"):
        mt.predict_labels(NEW, task=task)


def test_without_tasks_nothing_can_be_asked(encoder: BertOptions, tmp_path: Path) -> None:
    mt = make(encoder)
    with pytest.raises(InvalidInputError, match="none yet"):
        mt.predict_labels(NEW, task="topics")
    with pytest.raises(OptionsError, match="no task yet"):
        mt.predict_all(NEW)
    with pytest.raises(OptionsError, match="no task yet"):
        mt.save(tmp_path / "mt")


def test_thresholds_set_on_a_task_are_those_of_the_task(encoder: BertOptions) -> None:
    mt = make(encoder).add_task("topics", TEXTS, TOPICS)
    mt.task("topics").set_thresholds(0.0)
    assert mt.predict_labels(NEW[:1], task=["topics"]) == [("animals", "food", "travel", "weather")]


def test_evaluation_is_that_of_the_task(mt: MultiTaskClassifier) -> None:
    report = mt.evaluate(TEXTS, TOPICS, task="topics")
    assert report.to_dict() == mt.task("topics").evaluate(TEXTS, TOPICS).to_dict()


# --- models fitted elsewhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("include_backbone", [False, True])
def test_a_saved_model_becomes_a_task(folder: Path, tmp_path: Path, include_backbone: bool) -> None:
    clf = toy_classifier(folder, LoraOptions(r=4), epochs=1).fit(TEXTS, TOPICS)
    clf.save(tmp_path / "clf", include_backbone=include_backbone)
    loaded = MultiLabelClassifier.load(tmp_path / "clf", device="cpu")
    mt = make(BertOptions(model=str(folder))).add_task("length", TEXTS, LENGTHS).add_task("topics", loaded)
    np.testing.assert_array_equal(mt.predict_proba(NEW, task="topics"), clf.predict_proba(NEW))
    assert len(storages(mt, "word_embeddings.weight")) == 1
    assert loaded.model_ is not mt._models["topics"]


def test_a_task_that_was_taken_in_is_a_copy(folder: Path) -> None:
    clf = toy_classifier(folder, LoraOptions(r=4), epochs=1).fit(TEXTS, TOPICS)
    mt = make(BertOptions(model=str(folder))).add_task("topics", clf)
    before = mt.predict_proba(NEW, task="topics")
    with torch.no_grad():
        for parameter in clf.model_.network.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(mt.predict_proba(NEW, task="topics"), before)


def test_a_model_over_other_weights_is_refused(mt: MultiTaskClassifier, tmp_path: Path) -> None:
    other = tiny_encoder("bert", tmp_path / "other", seed=1)
    clf = toy_classifier(other, LoraOptions(r=4), epochs=1).fit(TEXTS, TOPICS)
    with pytest.raises(IncompatibleComponentsError, match="trained on other pretrained weights"):
        mt.add_task("other", clf)


def test_a_model_of_another_backbone_or_shape_is_refused(mt: MultiTaskClassifier, tmp_path: Path) -> None:
    decoder = LlmOptions(model=str(tiny_decoder("llama", tmp_path / "llama")))
    clf = toy_classifier(tmp_path, LoraOptions(r=2), epochs=1, backbone=decoder).fit(TEXTS, TOPICS)
    with pytest.raises(IncompatibleComponentsError, match="reads with backbone 'llm'"):
        mt.add_task("other", clf)
    larger = tiny_encoder("bert", tmp_path / "larger", hidden=48)
    clf = toy_classifier(larger, "head-only", epochs=1).fit(TEXTS, TOPICS)
    with pytest.raises(IncompatibleComponentsError, match="trained on other pretrained weights"):
        mt.add_task("other", clf)


def test_a_decoder_padded_on_the_other_side_is_refused(tmp_path: Path) -> None:
    folder = str(tiny_decoder("llama", tmp_path))
    left = LlmOptions(model=folder, padding_side="left")
    clf = toy_classifier(tmp_path, "head-only", epochs=1, backbone=left).fit(TEXTS, TOPICS)
    with pytest.raises(IncompatibleComponentsError, match="padding_side"):
        make(LlmOptions(model=folder)).add_task("topics", clf)


def test_a_fully_tuned_or_unfitted_model_is_refused(mt: MultiTaskClassifier, folder: Path) -> None:
    with pytest.raises(IncompatibleComponentsError, match="changes the weights that tasks share"):
        mt.add_task("full", toy_classifier(folder, "full", epochs=1).fit(TEXTS, TOPICS))
    with pytest.raises(NotFittedError):
        mt.add_task("unfitted", toy_classifier(folder))
    with pytest.raises(InvalidInputError, match="leave Y out"):
        mt.add_task("both", toy_classifier(folder), TOPICS)


def test_what_a_task_is_taught_further_is_the_tasks_and_no_other_one_changes(encoder: BertOptions) -> None:
    mt = make(encoder).add_task("topics", TEXTS, TOPICS).add_task("length", TEXTS, LENGTHS)
    before, clf = mt.predict_proba(NEW, task="length"), mt.task("topics")
    old = clf.predict_proba(NEW)
    clf.partial_fit(TEXTS[:16], TOPICS[:16])
    assert not np.array_equal(mt.predict_proba(NEW, task="topics"), old)
    np.testing.assert_array_equal(mt.predict_proba(NEW, task="topics"), clf.predict_proba(NEW))
    np.testing.assert_array_equal(mt.predict_proba(NEW, task="length"), before)
    clf.add_labels(["sports"])
    mixed = mt.predict_proba(NEW[:2], task=["topics", "length"])
    np.testing.assert_allclose(mixed[0], clf.predict_proba(NEW[:2])[0], atol=1e-5)
    assert len(mixed[0]) == 5
    assert len(storages(mt, "word_embeddings.weight")) == 1


def test_a_task_that_is_fitted_anew_goes_on_sharing_or_is_refused(encoder: BertOptions) -> None:
    mt = make(encoder).add_task("topics", TEXTS, TOPICS)
    mt.task("topics").fit(TEXTS, LENGTHS)
    assert mt.predict_labels(NEW[:1], task=["topics"]) == mt.task("topics").predict_labels(NEW[:1])
    assert len(storages(mt, "word_embeddings.weight")) == 1
    mt.task("topics").set_params(strategy="full").fit(TEXTS, LENGTHS)
    with pytest.raises(IncompatibleComponentsError, match="changes the weights that tasks share"):
        mt.predict_labels(NEW[:1], task="topics")
