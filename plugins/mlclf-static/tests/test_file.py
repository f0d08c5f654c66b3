"""The backbone static:file."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from mlclf_static.file import StaticBackbone, StaticOptions
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from mlclf import MultiLabelClassifier, TrainingOptions
from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import LoadRequest
from mlclf.testing import tiny_labels, tiny_texts, tiny_tokenizer

TEXTS = ["the cat likes bread", "rain", "xylophone cat", "", "xylophone"]


@pytest.fixture
def folder(tmp_path):
    """A folder as model2vec writes it: a table in float16, a tokenizer that knows words only, a configuration."""
    path = tmp_path / "static"
    path.mkdir()
    words = ["[PAD]", "[UNK]", *sorted({word for text in tiny_texts(200) for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path / "tokenizer.json"))
    vectors = torch.randn(len(words), 16, generator=torch.Generator().manual_seed(0))
    save_file({"embeddings": vectors.half()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    return path


def tensors(path, **content):
    save_file(content, path / "model.safetensors")


def pooled(path, texts=TEXTS):
    backbone = StaticBackbone(StaticOptions(model=str(path)))
    backbone.load(LoadRequest())
    with torch.no_grad():
        return backbone.eval()(backbone.collate(backbone.encode(texts), np.arange(len(texts)))).pooled


def expected(path, vectors, *, normalize, weights=None):
    """Return what model2vec computes: the mean of the vectors of the known tokens, of unit length on request."""
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    rows = []
    for text in TEXTS:
        ids = [i for i in tokenizer.encode(text, add_special_tokens=False).ids if i != 1]
        own = vectors[ids] if weights is None else vectors[ids] * weights[ids, None]
        rows.append(own.mean(dim=0) if ids else torch.zeros(vectors.shape[1]))
    found = torch.stack(rows)
    return torch.nn.functional.normalize(found, dim=1) if normalize else found


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ["embeddings", "embedding.weight"])
def test_a_text_is_the_mean_of_its_known_tokens(folder, normalize, name):
    vectors = torch.randn(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size(), 8)
    tensors(folder, **{name: vectors})
    (folder / "config.json").write_text(json.dumps({"normalize": normalize}))
    torch.testing.assert_close(pooled(folder), expected(folder, vectors, normalize=normalize))


def test_tokens_may_share_vectors_and_have_weights(folder):
    n_tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    table, mapping, weights = torch.randn(5, 8), torch.arange(n_tokens) % 5, torch.rand(n_tokens)
    tensors(folder, embeddings=table, mapping=mapping, weights=weights)
    torch.testing.assert_close(pooled(folder), expected(folder, table[mapping], normalize=True, weights=weights))


def test_special_tokens_of_a_transformer_are_not_put_around_a_text(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors(folder, embeddings=torch.randn(tokenizer.get_vocab_size(), 8))
    backbone = StaticBackbone(StaticOptions(model=str(folder)))
    backbone.load(LoadRequest())
    assert backbone.encode(["the cat"]).window_lengths.tolist() == [2]


@pytest.mark.parametrize("strategy", ["features", "full"])
def test_classifier_learns_and_a_saved_model_answers_the_same(folder, strategy, tmp_path):
    texts, unseen = tiny_texts(96), tiny_texts(40, seed=1)
    training = TrainingOptions(epochs=30, batch_size=16, precision="fp32", head_learning_rate=5e-2)
    clf = MultiLabelClassifier(
        StaticOptions(model=str(folder)), strategy, training=training, validation=None, thresholds=0.5,
        random_state=0, verbose=0,
    )  # fmt: skip
    clf.fit(texts, tiny_labels(texts))
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < 0.9 * losses[0]
    clf.save(tmp_path / "model")
    if strategy == "full":
        shutil.rmtree(folder)
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(unseen), clf.predict_proba(unseen), atol=1e-6)


def test_other_vectors_than_those_trained_with_are_refused(folder, tmp_path):
    texts = tiny_texts(32)
    clf = MultiLabelClassifier(
        StaticOptions(model=str(folder)), "features", training=TrainingOptions(epochs=1), validation=None, verbose=0
    )
    clf.fit(texts, tiny_labels(texts)).save(tmp_path / "model")
    n_tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    tensors(folder, embeddings=torch.randn(n_tokens, 16))
    with pytest.raises(BackboneLoadError, match="not those that this model was trained on"):
        MultiLabelClassifier.load(tmp_path / "model")


def break_table(folder):
    tensors(folder, other=torch.randn(3, 3))


def break_size(folder):
    tensors(folder, embeddings=torch.randn(3, 3))


def break_mapping(folder):
    n_tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    tensors(folder, embeddings=torch.randn(3, 3), mapping=torch.full((n_tokens,), 7))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_table, r"no table of vectors: looked for 'embeddings' and 'embedding.weight', found \['other'\]"),
        (break_size, "has 3 vectors and tokenizer.json has .* tokens"),
        (break_mapping, "'mapping' names vectors that the table does not have"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"cannot read .*model\.safetensors"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), r"cannot read .*tokenizer\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"cannot read .*config\.json"),
        (shutil.rmtree, r"It needs a local folder with model\.safetensors and tokenizer\.json"),
    ],
)
def test_unusable_folders_are_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(BackboneLoadError, match=message):
        pooled(folder)


@pytest.mark.parametrize(("n_rows", "strategy"), [(96, "head-only"), (400, "full")])
def test_auto_chooses_a_strategy_that_the_table_can_take(folder, n_rows, strategy):
    texts = tiny_texts(n_rows)
    clf = MultiLabelClassifier(
        StaticOptions(model=str(folder)), "auto", training=TrainingOptions(epochs=1), random_state=0, verbose=0
    )
    clf.fit(texts, tiny_labels(texts))
    choice = clf.strategy_choice_
    assert (choice.strategy, choice.situation.pretrained) == (strategy, True)
    assert ("'lora' cannot be used" in choice.reason) == (strategy == "full")
