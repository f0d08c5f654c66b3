"""LoRA's starts that look at texts (EVA), its two rates (LoRA+), and decoders with other kinds of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import toy_classifier, toy_rows

from mlclf import LlmOptions, LoraOptions, MultiLabelClassifier
from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.backbones.llm import LlmBackbone
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Batch
from mlclf.strategies.lora import LoraStrategy
from mlclf.strategies.lora_layers import adapted as layers_of
from mlclf.strategies.lora_targets import find_targets
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_texts

DECODERS = ("llama", "qwen3", "gemma", "phi3", "gpt2")
STARTS: list[dict[str, Any]] = [
    {},
    {"init": "pissa"},
    {"init": "olora"},
    {"use_dora": True, "use_rslora": True},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("eva")
    found = {name: tiny_decoder(name, root / name, layers=2) for name in (*DECODERS, "glm")}  # type: ignore[arg-type]
    return {**found, "bert": tiny_encoder("bert", root / "bert", layers=2)}


def adapted(folder: Path, **options: Any) -> tuple[PretrainedBackbone, LoraStrategy]:
    """Return an adapted backbone and its strategy."""
    backbone: PretrainedBackbone = (
        BertBackbone(BertOptions(model=str(folder), max_length=32))
        if folder.name == "bert"
        else LlmBackbone(LlmOptions(model=str(folder), max_length=32))
    )
    strategy = LoraStrategy(LoraOptions(**{"r": 4, **options}))
    backbone.load(strategy.load_request())
    torch.manual_seed(0)
    strategy.check(backbone)
    strategy.adapt(backbone)
    return backbone, strategy


def batches(backbone: PretrainedBackbone, n: int = 6) -> list[Batch]:
    encoded = backbone.encode(tiny_texts(8 * n))
    return [backbone.collate(encoded, np.arange(8 * i, 8 * i + 8)) for i in range(n)]


@torch.no_grad()
def states(backbone: PretrainedBackbone) -> Tensor:
    backbone.model.eval()
    batch = batches(backbone, 1)[0]
    return backbone.token_states(batch)[batch.attention_mask.bool()]


def inputs_of(backbone: PretrainedBackbone, name: str) -> Tensor:
    """Return what goes into a layer, real tokens only."""
    rows: list[Tensor] = []
    layer = backbone.model.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda module, args: rows.append(args[0]))
    found = []
    with torch.no_grad():
        for batch in batches(backbone):
            backbone.token_states(batch)
            found.append(rows.pop()[batch.attention_mask.bool()])
    handle.remove()
    return torch.cat(found)


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_eva_starts_in_the_directions_of_largest_variance(folders: dict[str, Path], name: str) -> None:
    backbone, strategy = adapted(folders[name], init="eva")
    before = states(backbone)
    strategy.initialise(backbone, batches(backbone))
    assert torch.equal(states(backbone), before)  # the second matrix is zero
    for layer_name, layer in layers_of(backbone.model).items():
        down = layer.lora_A["default"].weight
        torch.testing.assert_close(down @ down.t(), torch.eye(4), rtol=1e-4, atol=1e-4)
        centred = inputs_of(backbone, layer_name)
        centred = centred - centred.mean(dim=0)
        best = torch.linalg.svdvals(centred)[:4].square().sum()
        assert (centred @ down.t()).square().sum() > 0.95 * best


def test_eva_gives_layers_with_one_input_the_same_directions(folders: dict[str, Path]) -> None:
    backbone, strategy = adapted(folders["llama"], init="eva")
    strategy.initialise(backbone, batches(backbone))
    layers = layers_of(backbone.model)
    q, k, o = (layers[f"layers.1.self_attn.{name}_proj"].lora_A["default"].weight for name in "qko")
    assert torch.equal(q, k)
    assert not torch.equal(q, o)


def test_eva_does_not_look_at_padding(folders: dict[str, Path]) -> None:
    directions = []
    for pad in (0, 5):
        backbone, strategy = adapted(folders["bert"], init="eva")
        padded = [
            Batch(
                torch.nn.functional.pad(batch.input_ids, (0, pad), value=backbone.pad_id),
                torch.nn.functional.pad(batch.attention_mask, (0, pad)),
                n_samples=batch.n_samples,
            )
            for batch in batches(backbone)
        ]
        strategy.initialise(backbone, padded)
        directions.append(layers_of(backbone.model)["encoder.layer.0.attention.self.query"].lora_A["default"].weight)
    torch.testing.assert_close(directions[0], directions[1], rtol=1e-3, atol=1e-4)


def test_eva_needs_enough_tokens_and_a_rank_that_the_layers_have(folders: dict[str, Path]) -> None:
    backbone, strategy = adapted(folders["bert"], init="eva", r=16)
    encoded = backbone.encode(["cat"])
    with pytest.raises(IncompatibleComponentsError, match=r"init='eva' with r=16 needs at least 32 tokens"):
        strategy.initialise(backbone, [backbone.collate(encoded, np.array([0]))])
    with pytest.raises(IncompatibleComponentsError, match="has only 32 singular directions"):
        adapted(folders["bert"], init="eva", r=33)


def test_eva_of_a_rank_beyond_half_of_the_inputs_is_computed_exactly(folders: dict[str, Path]) -> None:
    backbone, strategy = adapted(folders["bert"], init="eva", r=20)
    strategy.initialise(backbone, batches(backbone))
    down = layers_of(backbone.model)["encoder.layer.1.output.dense"].lora_A["default"].weight
    torch.testing.assert_close(down @ down.t(), torch.eye(20), rtol=1e-4, atol=1e-4)


def test_a_model_started_by_eva_is_saved_and_loaded_without_texts(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = toy_rows()
    clf = toy_classifier(folders["bert"], LoraOptions(r=4, init="eva", lora_plus_ratio=4.0)).fit(*rows)
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    assert np.array_equal(again.predict_proba(rows[0]), clf.predict_proba(rows[0]))


def test_lora_plus_trains_the_second_matrix_faster(folders: dict[str, Path]) -> None:
    backbone, strategy = adapted(folders["bert"], lora_plus_ratio=16.0, use_dora=True)
    names = {id(p): name for name, p in backbone.model.named_parameters()}
    rates = {
        names[id(p)]: group["lr"] for group in strategy.parameter_groups(backbone, 1e-4, 0.1) for p in group["params"]
    }
    assert set(rates) == {name for name, p in backbone.model.named_parameters() if p.requires_grad}
    assert all(rate == pytest.approx(1.6e-3) for name, rate in rates.items() if ".lora_B." in name)
    assert {rate for name, rate in rates.items() if ".lora_B." not in name} == {1e-4}


def test_the_two_default_rates_of_lora_plus_lie_around_the_tuned_one() -> None:
    assert LoraStrategy(LoraOptions(lora_plus_ratio=16.0)).learning_rates.backbone == pytest.approx(2.5e-4)
    assert LoraStrategy(LoraOptions()).learning_rates.backbone == 1e-3


@pytest.mark.parametrize("start", STARTS, ids=str)
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_start_unchanged_merge_exactly_and_are_given_back(
    folders: dict[str, Path], name: str, start: dict[str, Any]
) -> None:
    plain, _ = adapted(folders[name])
    LoraStrategy.detach(LoraStrategy(LoraOptions()), plain)
    pristine, expected = {n: t.clone() for n, t in plain.model.state_dict().items()}, states(plain)
    backbone, strategy = adapted(folders[name], **start)
    torch.testing.assert_close(states(backbone), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape)
    before = states(backbone)
    other, again = adapted(folders[name], **start)
    again.load_state(other, strategy.state(backbone))
    assert torch.equal(states(other), before)
    again.detach(other)
    assert all(torch.equal(tensor, pristine[n]) for n, tensor in other.model.state_dict().items())
    strategy.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=2e-5)
    assert {n: t.shape for n, t in backbone.model.state_dict().items()} == {n: t.shape for n, t in pristine.items()}
    assert [type(module) for module in backbone.model.modules()] == [type(module) for module in plain.model.modules()]


@pytest.mark.parametrize(
    ("name", "attention", "qv"),
    [
        ("llama", {"q_proj", "k_proj", "v_proj", "o_proj"}, {"q_proj", "v_proj"}),
        ("qwen3", {"q_proj", "k_proj", "v_proj", "o_proj"}, {"q_proj", "v_proj"}),
        ("gemma", {"q_proj", "k_proj", "v_proj", "o_proj"}, {"q_proj", "v_proj"}),
        ("glm", {"q_proj", "k_proj", "v_proj", "o_proj"}, {"q_proj", "v_proj"}),
        ("phi3", {"qkv_proj", "o_proj"}, {"qkv_proj"}),
        ("gpt2", {"c_attn", "c_proj"}, {"c_attn"}),
    ],
)
def test_targets_of_decoders(folders: dict[str, Path], name: str, attention: set[str], qv: set[str]) -> None:
    backbone = LlmBackbone(LlmOptions(model=str(folders[name]), max_length=32))
    backbone.load(LoraStrategy(LoraOptions()).load_request())

    def ends(targets: Any) -> set[str]:
        return {found.rsplit(".", 1)[1] for found in find_targets(backbone, targets, "all")}

    assert ends("attention") == attention
    assert ends("qv") == qv
    assert ends("all-linear") > attention
