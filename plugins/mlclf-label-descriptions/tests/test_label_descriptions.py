"""The head of the plugin label-descriptions."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from mlclf_label_descriptions.embedding import embed, embed_constant
from mlclf_label_descriptions.head import BiEncoderHead
from mlclf_label_descriptions.options import BiEncoderOptions

from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions
from mlclf.exceptions import OptionsError, UnknownLabelError
from mlclf.interfaces import LabelStatistics, LoadRequest
from mlclf.plugins import resolve
from mlclf.testing import tiny_encoder, tiny_labels, tiny_texts

NAME = "label-descriptions:bi-encoder"
CLASSES = ["animals", "food", "travel", "weather"]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return tiny_encoder("bert", tmp_path_factory.mktemp("models") / "bert")


def loaded(encoder, **options):
    """Return a loaded backbone."""
    _, backbone_class, options = resolve("backbone", BertOptions(model=str(encoder), **options))
    backbone = backbone_class(options)
    backbone.load(LoadRequest())
    return backbone.eval()


def bound(backbone, names=CLASSES, **options):
    """Return a head that has seen nothing but the names of labels."""
    head = BiEncoderHead(BiEncoderOptions(**options))
    nothing = np.zeros(len(names), dtype=np.int64)
    head.bind(backbone, LabelStatistics(tuple(names), nothing, nothing))
    return head.eval()


def classifier(encoder, head=NAME, *, training=None, **changes):
    settings = {"strategy": "full", "validation": None, "thresholds": 0.5, "random_state": 0, "verbose": 0, **changes}
    options = {"epochs": 2, "batch_size": 16, "precision": "fp32", **(training or {})}
    backbone = settings.pop("backbone", BertOptions(model=str(encoder), max_length=32))
    return MultiLabelClassifier(backbone, head=head, training=TrainingOptions(**options), **settings)


def test_package_follows_the_rules_for_plugins(project):
    assert (project["name"], list(project["entry-points"]["mlclf"])) == (
        "mlclf-label-descriptions",
        ["label-descriptions"],
    )
    assert "mlclf>=0.1,<1" in project["dependencies"]


def test_declaration_is_found_and_resolves():
    spec, component, options = resolve("head", NAME)
    assert (component, options) == (BiEncoderHead, BiEncoderOptions())
    assert set(spec.families) == component.capabilities.families
    assert component.capabilities.zero_shot


def test_logits_are_scaled_similarities_above_the_offset(encoder):
    backbone = loaded(encoder)
    batch = backbone.collate(backbone.encode(["the cat likes bread"]), np.arange(1))
    text, labels = embed_constant(backbone, ["the cat likes bread"]), embed_constant(backbone, CLASSES)
    cosine = torch.nn.functional.cosine_similarity(text, labels)
    found = bound(backbone, scale=5.0, offset=0.2).logits(backbone, batch)[0]
    torch.testing.assert_close(found, 5 * (cosine - 0.2))
    product = (text @ labels.T)[0] / labels.square().sum(dim=1).mean()
    found = bound(backbone, scale=5.0, offset=0.2, similarity="dot").logits(backbone, batch)[0]
    torch.testing.assert_close(found, 5 * (product - 0.2))


def test_descriptions_are_read_in_place_of_names_and_stand_in_the_template(encoder):
    backbone = loaded(encoder)
    head = bound(backbone, descriptions={"food": "bread and soup"}, template="my {} today")
    expected = embed_constant(backbone, ["my animals today", "my bread and soup today"])
    torch.testing.assert_close(head.vectors[:2], expected, atol=1e-5, rtol=1e-5)


def test_a_long_description_is_the_mean_of_its_windows(encoder):
    text = " ".join(tiny_texts(2))
    backbone = loaded(encoder, max_length=8, window_stride=0)
    encoded = backbone.encode([text])
    assert encoded.n_windows > 1
    with torch.no_grad():
        expected = backbone(backbone.collate(encoded, np.arange(1))).pooled.mean(dim=0, keepdim=True)
    torch.testing.assert_close(embed_constant(backbone, [text]), expected)


def test_embedding_leaves_the_mode_of_every_module_as_it_was(encoder):
    backbone = loaded(encoder)
    backbone.model.encoder.layer[1].train()
    before = {name: module.training for name, module in backbone.named_modules()}
    embed_constant(backbone, CLASSES)
    assert {name: module.training for name, module in backbone.named_modules()} == before
    assert embed(backbone.train(), CLASSES).requires_grad


@pytest.mark.parametrize("label_vectors", ["encoded", "learned"])
@pytest.mark.parametrize("strategy", ["head-only", "lora", "full"])
def test_classifier_learns_and_a_saved_model_answers_the_same(strategy, label_vectors, encoder, tmp_path):
    texts = tiny_texts(64)
    rates = {"learning_rate": 2e-3} if strategy != "head-only" else {}
    options = BiEncoderOptions(label_vectors=label_vectors, offset=0.8)
    clf = classifier(encoder, options, strategy=strategy, training={"epochs": 8, **rates})
    clf.fit(texts, tiny_labels(texts))
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(texts), clf.predict_proba(texts), atol=1e-5)


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_labels_are_read_by_the_backbone_as_it_has_become(strategy, encoder):
    texts = tiny_texts(32)
    clf = classifier(encoder, strategy=strategy, training={"learning_rate": 1e-2}).fit(texts, tiny_labels(texts))
    network = clf.model_.network
    vectors = embed_constant(network.backbone, network.head.texts)
    torch.testing.assert_close(network.head.vectors, vectors, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(vectors, embed_constant(loaded(encoder), network.head.texts), atol=1e-2)


@pytest.mark.parametrize("label_vectors", ["encoded", "learned"])
def test_labels_added_later_are_read_and_leave_the_other_answers_as_they_are(label_vectors, encoder):
    texts = tiny_texts(32)
    options = BiEncoderOptions(label_vectors=label_vectors, descriptions={"music": "the quiet wind"})
    clf = classifier(encoder, options, replay=0.2).fit(texts, tiny_labels(texts))
    before = clf.predict_proba(texts)
    clf.add_labels(["music"])
    after = clf.predict_proba(texts)
    np.testing.assert_array_equal(after[:, :4], before)
    network = clf.model_.network
    expected = embed_constant(network.backbone, ["the quiet wind"])[0]
    torch.testing.assert_close(network.head.vectors[4].detach(), expected, atol=1e-5, rtol=1e-4)


def test_wrong_options_are_refused(encoder):
    with pytest.raises(OptionsError, match=r"must contain \{\} exactly once"):
        BiEncoderOptions(template="about")
    with pytest.raises(OptionsError, match="no loss is named 'bces'"):
        BiEncoderOptions(loss="bces")
    with pytest.raises(OptionsError, match="descriptions"):
        BiEncoderOptions(descriptions={"food": " "})
    with pytest.raises(UnknownLabelError, match="fod"):
        classifier(encoder, BiEncoderOptions(label_weights={"fod": 2.0})).fit(
            tiny_texts(16), tiny_labels(tiny_texts(16))
        )


def test_a_description_of_no_label_is_told(encoder, caplog):
    with caplog.at_level(logging.WARNING):
        head = BiEncoderHead(BiEncoderOptions(descriptions={"fod": "bread"}))
        head.check(LabelStatistics(tuple(CLASSES), np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.int64)))
    assert "'fod', which is no label yet. Did you mean 'food'?" in caplog.text
