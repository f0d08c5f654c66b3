"""Layers that know the signatures of their blocks are the same layers, for a time."""

from __future__ import annotations

import gc
import inspect
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_classifier, toy_rows

from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.backbones.feed_forward import known_signatures
from mlclf.interfaces import LoadRequest
from mlclf.testing import tiny_encoder


def loaded(architecture: Any, folder: Path) -> BertBackbone:
    backbone = BertBackbone(BertOptions(model=str(tiny_encoder(architecture, folder))))
    backbone.load(LoadRequest())
    return backbone


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "albert", "modernbert"])
def test_states_are_equal(architecture: str, tmp_path: Path) -> None:
    backbone = loaded(architecture, tmp_path)
    batch = backbone.collate(backbone.encode(["the cat sat", "a dog"]), np.arange(2))
    expected = backbone(batch).tokens
    with known_signatures(backbone):
        assert torch.equal(backbone(batch).tokens, expected)


@pytest.mark.parametrize(("architecture", "block"), [("bert", "feed_forward_chunk"), ("albert", "ff_chunk")])
def test_the_signature_is_worked_out_once_inside_and_nothing_stays(
    architecture: str, block: str, tmp_path: Path
) -> None:
    model = loaded(architecture, tmp_path).model
    layers = [module for module in model.modules() if hasattr(module, block)]
    assert layers
    with known_signatures(model):
        for layer in layers:
            assert inspect.signature(getattr(layer, block)) is inspect.signature(getattr(layer, block))
    assert not any(block in vars(layer) for layer in layers)


def test_nothing_stays_after_an_error(tmp_path: Path) -> None:
    model = loaded("bert", tmp_path).model
    with pytest.raises(KeyboardInterrupt), known_signatures(model):
        raise KeyboardInterrupt
    assert not any("feed_forward_chunk" in vars(module) for module in model.modules())


def test_the_weights_of_a_fitted_model_are_freed_with_it(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, epochs=1).fit(*toy_rows(32))
    layer = weakref.ref(clf.model_.network.backbone.layers()[0])
    gc.collect()
    gc.disable()
    try:
        del clf
        assert layer() is None
    finally:
        gc.enable()
