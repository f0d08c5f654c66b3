"""Adapters of saved models, stacked upon and fused, and as tasks of one backbone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_classifier, toy_rows

from mlclf import (
    AdapterOptions,
    BertOptions,
    LlmOptions,
    LoraOptions,
    MultiLabelClassifier,
    MultiTaskClassifier,
    TrainingOptions,
    fuse_adapters,
    stack_adapters,
)
from mlclf.exceptions import BundleDamagedError, IncompatibleComponentsError, OptionsError
from mlclf.onnx import OnnxClassifier
from mlclf.strategies.adapter_composed import FusedAdapter, StackedAdapter
from mlclf.strategies.adapter_layers import Bottleneck, adapted_layers
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_texts

TEXTS, TOPICS = toy_rows(48)
LENGTHS = [["long"] if len(text.split()) > 7 else ["short"] for text in TEXTS]
NEW = tiny_texts(8, seed=5)
RATE = {"learning_rate": 2e-2}
COMPOSERS = [pytest.param(stack_adapters, id="stack"), pytest.param(fuse_adapters, id="fusion")]


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("composed")
    if request.param == "encoder":
        return BertOptions(model=str(tiny_encoder("bert", place)), max_length=32)
    return LlmOptions(model=str(tiny_decoder("qwen3", place)), padding_side="left", max_length=32)


@pytest.fixture(scope="module")
def sources(backbone: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two saved models of different widths."""
    place = tmp_path_factory.mktemp("sources")
    for name, width, labels in (("topics", 8, TOPICS), ("length", 4, LENGTHS)):
        clf = toy_classifier(place, AdapterOptions(bottleneck=width), backbone=backbone, epochs=1, training=RATE)
        clf.fit(TEXTS, labels).save(place / name)
    return [place / "topics", place / "length"]


def fitted(backbone: Any, strategy: Any, **training: Any) -> MultiLabelClassifier:
    training = {**RATE, **training}
    return toy_classifier(Path(), strategy, backbone=backbone, epochs=1, training=training).fit(TEXTS, TOPICS)


def adapters(clf: MultiLabelClassifier) -> dict[str, Any]:
    return {name: layer.adapter for name, layer in adapted_layers(clf.model_.network.backbone.model).items()}


def test_a_stack_adds_what_each_adapter_makes_of_the_states_below() -> None:
    torch.manual_seed(0)
    below, top = Bottleneck(8, 8, 2, scale=2.0), Bottleneck(8, 8, 3)
    for parameter in (*below.parameters(), *top.parameters()):
        torch.nn.init.normal_(parameter)
    stacked = StackedAdapter(top, activation="relu", scale=2.0)
    stacked.take_sources([below.state_dict()])
    states = torch.randn(2, 3, 8)
    middle = states + below(states)
    torch.testing.assert_close(states + stacked(states), middle + top(middle))


def test_fusion_of_one_adapter_starts_at_that_adapter() -> None:
    torch.manual_seed(0)
    source = Bottleneck(8, 8, 2)
    torch.nn.init.normal_(source.up.weight)
    fused = FusedAdapter(8, activation="relu", scale=1.0)
    fused.take_sources([source.state_dict()])
    states = torch.randn(2, 3, 8)
    torch.testing.assert_close(fused(states), source(states), atol=1e-5, rtol=1e-4)


def test_fusion_weighs_sources_by_the_softmax_of_query_and_key() -> None:
    torch.manual_seed(0)
    pair = [Bottleneck(8, 8, 2), Bottleneck(8, 8, 3)]
    fused = FusedAdapter(8, activation="relu", scale=1.0)
    for parameter in (*pair[0].parameters(), *pair[1].parameters(), *fused.parameters()):
        torch.nn.init.normal_(parameter)
    fused.take_sources([source.state_dict() for source in pair])
    state = torch.randn(8)
    outputs = [state + source(state) for source in pair]
    scores = torch.stack([fused.query(state) @ fused.key(output) for output in outputs]).softmax(0)
    expected = sum(weight * fused.value(output) for weight, output in zip(scores, outputs, strict=True))
    torch.testing.assert_close(state + fused(state), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("compose", COMPOSERS)
def test_sources_stay_frozen_and_what_is_new_learns(backbone: Any, sources: list[Path], compose: Any) -> None:
    from safetensors.torch import load_file

    options = compose(sources).replace(reduction=2)  # narrower ones may have only units that a ReLU keeps silent
    clf = fitted(backbone, options)
    for number, folder in enumerate(sources):
        saved = load_file(folder / "strategy.safetensors")
        for name, adapter in adapters(clf).items():
            for inner, tensor in adapter.sources[number].named_parameters():
                assert torch.equal(tensor, saved[f"{name}.adapter.{inner}"])
                assert not tensor.requires_grad
    fresh = fitted(backbone, options, learning_rate=1e-12)
    for name, adapter in adapters(clf).items():
        for inner, parameter in adapter.named_parameters():
            other = adapters(fresh)[name].get_parameter(inner)
            if parameter.requires_grad and inner.endswith("weight"):
                assert not torch.equal(parameter, other), inner


@pytest.mark.parametrize("compose", COMPOSERS)
def test_a_saved_model_needs_none_of_its_sources(
    backbone: Any, sources: list[Path], tmp_path: Path, compose: Any
) -> None:
    copies = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in sources]
    clf = fitted(backbone, compose(copies))
    for folder in copies:
        shutil.rmtree(folder)
    clf.save(tmp_path / "composed")
    loaded = MultiLabelClassifier.load(tmp_path / "composed", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(NEW), clf.predict_proba(NEW))


def test_fusion_is_held_near_the_identity(backbone: Any, sources: list[Path]) -> None:
    free, held = (fitted(backbone, fuse_adapters(sources, regularisation=weight)) for weight in (0.0, 10.0))
    distances = [sum(a.distance().item() for a in adapters(clf).values()) for clf in (free, held)]
    assert distances[1] < distances[0]


@pytest.mark.parametrize("compose", COMPOSERS)
def test_sources_that_cannot_be_composed_are_refused(
    backbone: Any, sources: list[Path], tmp_path: Path, compose: Any
) -> None:
    with pytest.raises(OptionsError, match="at least one folder"):
        compose([])
    for name, strategy, message in (
        ("parallel", AdapterOptions(kind="parallel"), "parallel ones or composed"),
        ("composed", compose(sources), "parallel ones or composed"),
        ("gelu", AdapterOptions(activation="gelu"), "differ in kind, activation"),
        ("lora", LoraOptions(r=2), "trained with strategy 'lora'"),
    ):
        fitted(backbone, strategy).save(tmp_path / name)
        with pytest.raises(IncompatibleComponentsError, match=message):
            compose([sources[0], tmp_path / name])


def test_a_fit_over_other_weights_or_places_is_refused(sources: list[Path], tmp_path: Path, backbone: Any) -> None:
    options = stack_adapters(sources)
    if isinstance(backbone, BertOptions):
        other: Any = BertOptions(model=str(tiny_encoder("bert", tmp_path, seed=1)))
    else:
        other = LlmOptions(model=str(tiny_decoder("qwen3", tmp_path, seed=1)))
    with pytest.raises(IncompatibleComponentsError, match="other pretrained weights"):
        fitted(other, options)
    with pytest.raises(IncompatibleComponentsError, match="other places"):
        fitted(backbone, options.replace(layers=1))


def test_a_source_that_was_altered_is_refused_in_the_fit(backbone: Any, sources: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sources[0], tmp_path / "copy"))
    options = fuse_adapters([copy])
    path = copy / "strategy.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleDamagedError, match="altered"):
        fitted(backbone, options)


def test_adapters_of_every_kind_share_a_backbone_and_a_batch(
    backbone: Any, sources: list[Path], tmp_path: Path
) -> None:
    training = TrainingOptions(epochs=1, batch_size=16, precision="fp32", **RATE)
    mt = MultiTaskClassifier(backbone, training=training, validation=None, device="cpu", random_state=0, verbose=0)
    mt.add_task("a", TEXTS, TOPICS, strategy="adapter").add_task("b", TEXTS, LENGTHS, strategy=LoraOptions(r=2))
    mt.add_task("c", TEXTS, LENGTHS, strategy=AdapterOptions(kind="parallel"))
    mt.add_task("d", TEXTS, TOPICS, strategy=fuse_adapters(sources)).add_task(
        "e", fitted(backbone, stack_adapters(sources))
    )
    tasks = ["a", "b", "c", "d", "e", "a", "c", "c"]
    mixed = mt.predict_proba(NEW, task=tasks)
    for row, name in enumerate(tasks):
        np.testing.assert_allclose(mixed[row], mt.predict_proba(NEW, task=name)[row], atol=1e-5)
    mt.save(tmp_path / "mt")
    loaded = MultiTaskClassifier.load(tmp_path / "mt", device="cpu")
    assert loaded.predict_all(NEW) == mt.predict_all(NEW)


@pytest.mark.slow
@pytest.mark.parametrize("compose", COMPOSERS)
def test_a_composed_model_is_exported(backbone: Any, sources: list[Path], tmp_path: Path, compose: Any) -> None:
    clf = fitted(backbone, compose(sources))
    clf.export_onnx(tmp_path / "onnx")
    np.testing.assert_allclose(OnnxClassifier(tmp_path / "onnx").predict_proba(NEW), clf.predict_proba(NEW), atol=1e-4)
