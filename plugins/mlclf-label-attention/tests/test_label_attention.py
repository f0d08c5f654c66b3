"""The heads of the plugin label-attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mlclf_label_attention import reading
from mlclf_label_attention.heads import LaatHead, LwanHead
from mlclf_label_attention.options import LaatOptions, LwanOptions
from mlclf_label_attention.reading import read_labels

from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions
from mlclf.exceptions import OptionsError, UnknownLabelError
from mlclf.interfaces import BackboneOutput, LabelStatistics
from mlclf.losses import FocalOptions
from mlclf.onnx import OnnxClassifier
from mlclf.plugins import resolve
from mlclf.testing import tiny_encoder, tiny_labels, tiny_texts

HEADS = {"label-attention:laat": (LaatHead, LaatOptions), "label-attention:lwan": (LwanHead, LwanOptions)}
each_head = pytest.mark.parametrize("name", HEADS)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return tiny_encoder("bert", tmp_path_factory.mktemp("models") / "bert")


def bound(name, n_labels=5, hidden=8, **options):
    """Return a bound head whose labels differ visibly."""
    head_class, options_class = HEADS[name]
    head = head_class(options_class(**options))
    names = tuple(f"label {number}" for number in range(n_labels))
    counts = np.full(n_labels, 10)
    head.bind(type("Backbone", (), {"hidden_size": hidden})(), LabelStatistics(names, counts, 4 * counts))
    with torch.no_grad():
        for number, parameter in enumerate(head.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(number))
    return head.eval()


def random_output(rows=3, length=6, hidden=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.tensor([[length], [length - 2], [1]])[:rows]
    return BackboneOutput(torch.randn(rows, length, hidden, generator=generator), mask, torch.zeros(rows, hidden))


def classifier(encoder, head, *, training=None, **changes):
    settings = {"strategy": "full", "validation": None, "thresholds": 0.5, "random_state": 0, "verbose": 0, **changes}
    options = {"epochs": 2, "batch_size": 16, "precision": "fp32", **(training or {})}
    backbone = settings.pop("backbone", BertOptions(model=str(encoder), max_length=32))
    return MultiLabelClassifier(backbone, head=head, training=TrainingOptions(**options), **settings)


def test_package_follows_the_rules_for_plugins(project):
    assert project["name"] == "mlclf-label-attention"
    assert list(project["entry-points"]["mlclf"]) == ["label-attention"]
    assert "mlclf>=0.1,<1" in project["dependencies"]


@each_head
def test_declaration_is_found_and_resolves(name):
    spec, component, options = resolve("head", name)
    assert (component, options) == (HEADS[name][0], HEADS[name][1]())
    assert set(spec.families) == component.capabilities.families
    assert spec.exportable == component.capabilities.export


@each_head
def test_logits_are_those_of_the_papers_formula(name):
    head, output = bound(name), random_output()
    keys = torch.tanh(output.tokens @ head.hidden.weight.T) if name.endswith("laat") else output.tokens
    scores = (keys @ head.queries.T).masked_fill(~output.mask[..., None], -torch.inf)
    averages = torch.einsum("rtl,rth->rlh", scores.softmax(dim=1), output.tokens)
    expected = (averages * head.weights).sum(dim=-1) + head.bias
    torch.testing.assert_close(head.features_to_logits(output), expected, atol=1e-5, rtol=1e-5)


@each_head
@pytest.mark.parametrize("n_labels", [1, 3, 16, 40])
def test_many_labels_in_blocks_give_the_same_logits_and_gradients(name, n_labels, monkeypatch):
    head, output = bound(name, n_labels), random_output()
    whole = head.features_to_logits(output)
    gradients = torch.autograd.grad(whole.square().sum(), list(head.parameters()))
    monkeypatch.setattr(reading, "MOST_CELLS", 1)
    parts = head.features_to_logits(output)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)
    again = torch.autograd.grad(parts.square().sum(), list(head.parameters()))
    torch.testing.assert_close(again, gradients, atol=1e-3, rtol=1e-3)


def test_memory_of_training_does_not_hold_every_labels_table(monkeypatch):
    monkeypatch.setattr(reading, "MOST_CELLS", 1 << 10)
    states, mask = torch.randn(2, 8, 4), torch.ones(2, 8, dtype=torch.bool)
    queries, weights = torch.randn(2, 640, 4, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        read_labels(states, states, mask, queries, weights)
    assert max(kept, default=0) < 2 * 8 * 640


@each_head
def test_padding_on_either_side_changes_nothing(name):
    head, output = bound(name), random_output(rows=1)
    states = output.tokens
    nonsense = torch.full((1, 4, 8), 1e3)
    for tokens, mask in (
        (torch.cat([states, nonsense], dim=1), torch.arange(10)[None] < 6),
        (torch.cat([nonsense, states], dim=1), torch.arange(10)[None] >= 4),
    ):
        padded = BackboneOutput(tokens, mask, output.pooled)
        torch.testing.assert_close(head.features_to_logits(padded), head.features_to_logits(output))


@each_head
def test_a_row_without_tokens_has_finite_logits(name):
    output = random_output()
    empty = BackboneOutput(output.tokens, torch.zeros_like(output.mask), output.pooled)
    assert bound(name).features_to_logits(empty).isfinite().all()


@each_head
def test_attention_sums_to_one_over_the_tokens_and_is_nothing_at_padding(name):
    output = random_output()
    attended = bound(name).attention(output)
    assert attended.shape == (3, 5, 6)
    torch.testing.assert_close(attended.sum(dim=-1), torch.ones(3, 5))
    assert attended.masked_select(~output.mask[:, None]).abs().max() == 0


@each_head
def test_first_probabilities_are_the_frequencies(name, encoder):
    texts = tiny_texts(40)
    clf = classifier(encoder, name, training={"epochs": 1, "learning_rate": 1e-9, "head_learning_rate": 1e-9})
    clf.fit(texts, tiny_labels(texts))
    frequencies = np.array([[label in row for label in clf.classes_] for row in tiny_labels(texts)]).mean(axis=0)
    np.testing.assert_allclose(clf.predict_proba(texts), np.tile(frequencies, (40, 1)), atol=0.05)


@each_head
@pytest.mark.parametrize(("strategy", "f1"), [("head-only", 0.25), ("lora", 0.25), ("full", 0.5)])
def test_classifier_learns_and_a_saved_model_answers_the_same(name, strategy, f1, encoder, tmp_path):
    texts = tiny_texts(96)
    rates = {"learning_rate": 2e-3} if strategy != "head-only" else {}
    clf = classifier(encoder, name, strategy=strategy, training={"epochs": 12, "head_learning_rate": 3e-2, **rates})
    clf.fit(texts, tiny_labels(texts))
    unseen = tiny_texts(40, seed=1)
    assert clf.evaluate(unseen, tiny_labels(unseen)).micro_f1 > f1
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(unseen), clf.predict_proba(unseen), atol=1e-6)


@each_head
def test_windows_of_long_documents_are_read(name, encoder):
    backbone = BertOptions(model=str(encoder), max_length=8, window_stride=2)
    texts = [" ".join([text, *tiny_texts(3, seed=number)]) for number, text in enumerate(tiny_texts(12))]
    clf = classifier(encoder, name, backbone=backbone).fit(texts, tiny_labels(texts))
    together = clf.predict_proba(texts)
    np.testing.assert_allclose(np.concatenate([clf.predict_proba([text]) for text in texts]), together, atol=1e-5)


@each_head
def test_labels_added_later_leave_the_other_answers_as_they_are(name, encoder):
    texts = tiny_texts(32)
    clf = classifier(encoder, name, replay=0.2).fit(texts, tiny_labels(texts))
    before = clf.predict_proba(texts)
    clf.add_labels(["music", "sports"])
    np.testing.assert_array_equal(clf.predict_proba(texts)[:, :4], before)
    clf.partial_fit([*texts, "the music plays"], [*tiny_labels(texts), ["music"]])
    assert clf.predict_proba(texts).shape == (32, 6)


def test_exported_model_of_many_labels_answers_the_same(encoder, tmp_path):
    texts = [*tiny_texts(16), "", "cat", " ".join(tiny_texts(3))]
    clf = classifier(
        encoder, "label-attention:laat", classes=["animals", "food", "weather", "travel", *(f"l{i}" for i in range(20))]
    )
    clf.fit(tiny_texts(16), tiny_labels(tiny_texts(16)))
    clf.export_onnx(tmp_path / "onnx")
    exported = OnnxClassifier(tmp_path / "onnx", "cpu")
    np.testing.assert_allclose(exported.predict_proba(texts), clf.predict_proba(texts), atol=1e-5)


@pytest.mark.parametrize("loss", ["focal", "zlpr", "distribution-balanced", FocalOptions(gamma=1)])
def test_every_loss_can_be_used(loss, encoder):
    texts = tiny_texts(32)
    clf = classifier(encoder, LaatOptions(loss=loss, width=8), training={"epochs": 1})
    assert clf.fit(texts, tiny_labels(texts)).predict_proba(texts).shape == (32, 4)


def test_wrong_options_are_refused(encoder):
    with pytest.raises(OptionsError, match="no loss is named 'bces'"):
        LwanOptions(loss="bces")
    with pytest.raises(OptionsError, match="width"):
        LaatOptions(width=0)
    clf = classifier(encoder, LwanOptions(label_weights={"anmals": 2.0}))
    with pytest.raises(UnknownLabelError, match="anmals"):
        clf.fit(tiny_texts(16), tiny_labels(tiny_texts(16)))
