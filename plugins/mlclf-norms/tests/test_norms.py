"""The strategy of the plugin norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mlclf_norms.strategy import NormOptions, NormStrategy
from safetensors import safe_open

from mlclf import BertOptions, LlmOptions, MultiLabelClassifier, TrainingOptions
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone
from mlclf.plugins import resolve
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_labels, tiny_texts


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": BertOptions(model=str(tiny_encoder("bert", folder / "bert")), max_length=32),
        "llm": LlmOptions(model=str(tiny_decoder("qwen3", folder / "llm")), max_length=32),
    }


def classifier(backbone, epochs=8, **changes):
    training = TrainingOptions(epochs=epochs, batch_size=16, precision="fp32", learning_rate=2e-2)
    settings = {"strategy": "norms:ln-tuning", "validation": None, "thresholds": 0.5, "random_state": 0, "verbose": 0}
    return MultiLabelClassifier(backbone, training=training, **{**settings, **changes})


def test_package_follows_the_rules_for_plugins(project):
    assert (project["name"], list(project["entry-points"]["mlclf"])) == ("mlclf-norms", ["norms"])
    assert "mlclf>=0.1,<1" in project["dependencies"]


def test_declaration_is_found_and_resolves():
    spec, component, options = resolve("strategy", "norms:ln-tuning")
    assert (component, options) == (NormStrategy, NormOptions())
    assert set(spec.families) == component.capabilities.families


@pytest.mark.parametrize("name", ["bert", "llm"])
def test_only_norms_are_saved_and_a_loaded_model_answers_the_same(name, backbones, tmp_path):
    texts = tiny_texts(48)
    clf = classifier(backbones[name]).fit(texts, tiny_labels(texts))
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]
    clf.save(tmp_path / "model")
    with safe_open(tmp_path / "model" / "strategy.safetensors", "pt") as file:
        names = list(file.keys())
    assert names
    assert all("norm" in name.lower() for name in names)
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(texts), clf.predict_proba(texts), atol=1e-6)


def test_it_goes_into_a_chain(backbones):
    texts = tiny_texts(16)
    clf = classifier(backbones["bert"], epochs=1, strategy=["norms:ln-tuning", "adapter"])
    assert clf.fit(texts, tiny_labels(texts)).predict_proba(texts).shape[0] == 16


def test_a_backbone_without_norms_is_refused():
    class Plain(Backbone):
        load = source = token_states = None

    plain = Plain(BertOptions())
    plain.model = torch.nn.Linear(2, 2)
    with pytest.raises(IncompatibleComponentsError, match="'bert' has none"):
        NormStrategy(NormOptions()).check(plain)
