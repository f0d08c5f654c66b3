"""Strategy ``bitfit``: which biases learn, and where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from strategy_kit import adapted, disturb, load, states, weights
from toy import toy_classifier, toy_rows

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.strategies.bitfit import BitfitOptions, BitfitStrategy


def test_biases_of_linear_layers_and_norms_learn_and_nothing_else() -> None:
    backbone, _ = adapted(BitfitOptions())
    learning = {name for name, p in backbone.model.named_parameters() if p.requires_grad}
    assert {"embeddings.LayerNorm.bias", "encoder.layer.1.attention.self.query.bias"} <= learning
    assert learning == {name for name, p in backbone.model.named_parameters() if name.endswith(".bias")}


def test_a_bias_that_takes_no_part_in_the_output_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load()
    monkeypatch.setattr(backbone, "unused_parameters", lambda: {"encoder.layer.2.output.dense.bias"})
    BitfitStrategy(BitfitOptions()).adapt(backbone)
    assert not backbone.model.get_parameter("encoder.layer.2.output.dense.bias").requires_grad
    assert backbone.model.get_parameter("encoder.layer.1.output.dense.bias").requires_grad


@pytest.mark.parametrize("architecture", ["modernbert", "llama", "qwen3", "gemma", "phi3"])
def test_a_backbone_without_biases_is_refused_with_an_alternative(architecture: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"'bitfit' trains biases.*has none"):
        adapted(BitfitOptions(), architecture)


def test_merging_changes_nothing() -> None:
    backbone, strategy = adapted(BitfitOptions())
    disturb(backbone)
    before, names = states(backbone), list(weights(backbone))
    strategy.merge(backbone)
    assert (states(backbone) == before).all()
    assert list(weights(backbone)) == names


def test_a_saved_model_holds_the_biases_alone(tiny_bert: Path, tmp_path: Path) -> None:
    texts, labels = toy_rows(48)
    toy_classifier(tiny_bert, "bitfit", epochs=1).fit(texts, labels).save(tmp_path / "model")
    saved = (tmp_path / "model" / "strategy.safetensors").stat().st_size
    assert saved < 0.1 * (tiny_bert / "model.safetensors").stat().st_size
