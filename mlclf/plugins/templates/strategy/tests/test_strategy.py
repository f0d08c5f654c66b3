"""What this strategy does; the rules that all strategies keep are in test_conformance.py."""

from pathlib import Path

import pytest
from mlclf_acme.strategy import AcmeStrategy, AcmeStrategyOptions

from mlclf import BertOptions
from mlclf.backbones.bert import BertBackbone
from mlclf.interfaces import Backbone, LoadRequest
from mlclf.testing import tiny_encoder


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    loaded = BertBackbone(BertOptions(model=str(tiny_encoder("bert", tmp_path))))
    loaded.load(LoadRequest())
    return loaded


def test_vectors_learn_and_matrices_do_not(backbone: Backbone) -> None:
    AcmeStrategy(AcmeStrategyOptions()).adapt(backbone)
    learning = [parameter for parameter in backbone.model.parameters() if parameter.requires_grad]
    assert learning
    assert all(parameter.ndim == 1 for parameter in learning)


def test_biases_can_be_left_alone(backbone: Backbone) -> None:
    AcmeStrategy(AcmeStrategyOptions(biases=False)).adapt(backbone)
    learning = [name for name, parameter in backbone.model.named_parameters() if parameter.requires_grad]
    assert learning
    assert not any(name.endswith("bias") for name in learning)
