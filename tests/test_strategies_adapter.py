"""Strategy ``adapter``: where adapters stand, what they compute, and that they live with everything around them."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_kit import disturb as disturb_classifier
from sklearn.model_selection import GridSearchCV
from strategy_kit import DECODERS, N_LAYERS, adapted, batch_of, disturb, folder_of, load, same, states, weights
from torch import nn
from toy import toy_classifier, toy_rows

from mlclf import AdapterOptions, LlmOptions, LoraOptions, MultiLabelClassifier, to_indicator
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.strategies.adapter import AdapterStrategy
from mlclf.strategies.adapter_layers import (
    AdaptedLayer,
    Bottleneck,
    ParallelLayer,
    TappedLayer,
    adapted_layers,
    insert_parallel,
)
from mlclf.strategies.adapter_sites import find_adapter_sites
from mlclf.strategies.linear_runs import layer_runs
from mlclf.strategies.lora import LoraStrategy

TOPICS = ["animals", "food", "travel", "weather"]
KINDS = ["houlsby", "pfeiffer", "parallel"]
OUTPUTS = {
    "bert": ("attention.output.dense", "intermediate.dense", "output.dense"),
    "distilbert": ("attention.out_lin", "ffn.lin1", "ffn.lin2"),
    "deberta-v2": ("attention.output.dense", "intermediate.dense", "output.dense"),
    "modernbert": ("attn.Wo", "mlp.Wi", "mlp.Wo"),
    "mpnet": ("attention.attn.o", "intermediate.dense", "output.dense"),
    "electra": ("attention.output.dense", "intermediate.dense", "output.dense"),
    "albert": ("attention.dense", "ffn", "ffn_output"),
    "llama": ("self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"),
    "gpt2": ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    "phi3": ("self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
}


@pytest.mark.parametrize("architecture", OUTPUTS)
def test_sites_are_found_by_what_a_layer_runs(architecture: str) -> None:
    backbone = load(architecture)
    attention, ffn_in, ffn_out = OUTPUTS[architecture]
    n_layers = 1 if architecture == "albert" else N_LAYERS  # ALBERT's layers are one and the same
    found = {kind: find_adapter_sites(backbone, kind) for kind in KINDS}  # type: ignore[arg-type]
    assert [site.writes.inner for site in found["houlsby"]] == [attention, ffn_out] * n_layers
    assert [site.writes.inner for site in found["pfeiffer"]] == [ffn_out] * n_layers
    pairs = [(site.reads and site.reads.inner, site.writes.inner) for site in found["parallel"]]
    assert pairs == [(ffn_in, ffn_out)] * n_layers
    assert {(site.n_in, site.n_out) for sites in found.values() for site in sites} == {(32, 32)}


def test_finding_sites_leaves_the_backbone_as_it_was() -> None:
    backbone = load()
    before = torch.random.get_rng_state()
    layer_runs(backbone)
    assert not any(module._forward_hooks for module in backbone.model.modules())
    assert torch.equal(torch.random.get_rng_state(), before)


def expected_by_hand(backbone: PretrainedBackbone, kind: str, states_in: torch.Tensor) -> torch.Tensor:
    """Return what the feed-forward half of BERT's first layer gives with an adapter, written out."""
    layer: Any = backbone.model.get_submodule("encoder.layer.0")
    tap, behind = layer.intermediate.dense, layer.output.dense
    adapter = behind.adapter
    first = tap.base_layer if isinstance(tap, TappedLayer) else tap
    out = behind.base_layer(torch.nn.functional.gelu(first(states_in)))
    read = states_in if kind == "parallel" else out
    out = out + adapter.scale * adapter.up(torch.relu(adapter.down(read)))
    return layer.output.LayerNorm(out + states_in)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_adapter_is_added_before_the_residual_connection(kind: Any) -> None:
    backbone, _ = adapted(AdapterOptions(kind=kind, bottleneck=3))
    disturb(backbone)
    states_in = torch.randn(2, 5, 32)
    layer: Any = backbone.model.get_submodule("encoder.layer.0")
    computed = layer.feed_forward_chunk(states_in)
    torch.testing.assert_close(computed, expected_by_hand(backbone, kind, states_in))


def test_a_parallel_adapter_has_a_scale_of_four_and_others_none() -> None:
    def scales(options: AdapterOptions) -> set[float]:
        return {layer.adapter.scale for layer in adapted_layers(adapted(options)[0].model).values()}

    assert scales(AdapterOptions(kind="parallel")) == {4.0}
    assert scales(AdapterOptions(kind="houlsby")) == {1.0}
    assert scales(AdapterOptions(scale=0.3)) == {0.3}


def test_width_is_a_share_of_the_hidden_size_or_given() -> None:
    for options, width in (
        (AdapterOptions(), 2),
        (AdapterOptions(reduction=64), 1),
        (AdapterOptions(reduction=4, bottleneck=5), 5),
    ):
        layers = adapted_layers(adapted(options)[0].model).values()
        assert {layer.adapter.down.out_features for layer in layers} == {width}


@pytest.mark.parametrize(
    ("layers", "numbers", "constant"), [("all", {0, 1, 2}, 0), (1, {2}, 2), ((2, 1), {1, 2}, 1), ((0,), {0}, 0)]
)
def test_layers_to_adapt(layers: Any, numbers: set[int], constant: int) -> None:
    backbone, strategy = adapted(AdapterOptions(layers=layers))
    assert {int(name.split(".")[2]) for name in adapted_layers(backbone.model)} == numbers
    assert strategy.constant_layers(backbone) == constant


def test_sites_by_the_ends_of_names() -> None:
    backbone, _ = adapted(AdapterOptions(sites=("query", "output.dense"), layers=1))
    assert list(adapted_layers(backbone.model)) == [
        "encoder.layer.2.attention.self.query",
        "encoder.layer.2.output.dense",
    ]
    backbone, _ = adapted(AdapterOptions(kind="parallel", sites=("query", "attention.output.dense"), layers=(0,)))
    assert isinstance(backbone.model.get_submodule("encoder.layer.0.attention.self.query"), TappedLayer)
    assert isinstance(backbone.model.get_submodule("encoder.layer.0.attention.output.dense"), ParallelLayer)


def test_an_adapter_fits_the_width_of_a_site_that_was_named() -> None:
    backbone, _ = adapted(AdapterOptions(sites=("intermediate.dense",), layers=1))
    (layer,) = adapted_layers(backbone.model).values()
    assert (layer.adapter.down.in_features, layer.adapter.up.out_features) == (64, 64)


def test_sites_that_no_layer_has_are_refused_with_a_proposal() -> None:
    with pytest.raises(
        IncompatibleComponentsError, match=r"AdapterOptions\(sites=\('qurey',\)\): no.*ends in 'qurey'.*query"
    ):
        adapted(AdapterOptions(sites=("qurey",)))
    with pytest.raises(IncompatibleComponentsError, match=r"no linear layer's name alone ends in 'dense' \(attention"):
        adapted(AdapterOptions(sites=("dense",)))


@pytest.mark.parametrize("hidden_size", [32, 48])
def test_a_layer_whose_parts_cannot_be_told_is_refused_and_the_error_names_the_way_out(
    hidden_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load()
    if hidden_size == 32:
        for layer in backbone.layers():
            layer._modules["mixer"] = layer._modules.pop("attention")  # a name that says nothing of attention
            monkeypatch.setattr(type(layer), "attention", property(lambda self: self.mixer), raising=False)
    backbone.hidden_size = hidden_size
    with pytest.raises(
        IncompatibleComponentsError,
        match=r"cannot be told from.*intermediate\.dense \(32 to 64\).*AdapterOptions\(sites=",
    ):
        AdapterStrategy(AdapterOptions()).check(backbone)
    if hidden_size == 32:
        AdapterStrategy(AdapterOptions(sites=("intermediate.dense",))).check(backbone)


def test_layers_of_albert_share_their_adapters() -> None:
    for kind in KINDS:
        backbone, strategy = adapted(AdapterOptions(kind=kind, bottleneck=3), "albert")  # type: ignore[arg-type]
        disturb(backbone)
        strategy.set_train_mode(backbone)
        backbone(batch_of(backbone)).pooled.square().sum().backward()
        learning = [p.grad for p in backbone.model.parameters() if p.requires_grad]
        assert learning
        assert all(gradient is not None and gradient.any() for gradient in learning)
        strategy.detach(backbone)
        assert same(weights(backbone), weights(load("albert")))


def test_layers_of_albert_cannot_be_chosen() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"AdapterOptions\(layers=1\) needs a stack of layers"):
        adapted(AdapterOptions(layers=1), "albert")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "serial"}, "kind='serial'.*'houlsby'"),
        ({"reduction": 0}, "reduction=0.*greater than or equal to 1"),
        ({"bottleneck": 0}, "bottleneck=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"scale": 0.0}, "scale=0.0"),
        ({"activation": "swish"}, "activation='swish'.*'silu'"),
        ({"layers": 0}, "layers=0.*at least 1"),
        ({"sites": ()}, "must hold at least one end of a name"),
        ({"sites": ("a", "")}, "no empty one"),
        ({"kind": "parallel", "sites": ("a",)}, "names two linear layers"),
        ({"reduction_factor": 16}, r"has no option 'reduction_factor'\. Did you mean 'reduction'"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        AdapterOptions(**values)


def test_options_survive_json() -> None:
    options = AdapterOptions(kind="parallel", sites=("intermediate.dense", "output.dense"), layers=(1, 2), scale=2.0)
    assert AdapterOptions(**options.model_dump(mode="json")) == options


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "pickle"]
)
def test_copies_equal_their_original_and_are_independent_of_it(kind: Any, clone: Any) -> None:
    backbone, _ = adapted(AdapterOptions(kind=kind, bottleneck=3))
    disturb(backbone)
    before = states(backbone)
    twin = clone(backbone)
    assert torch.equal(states(twin), before)
    disturb(twin, seed=5)
    assert torch.equal(states(backbone), before)
    assert not torch.equal(states(twin), before)


def test_a_model_can_be_copied_after_a_run_that_ended_in_its_middle() -> None:
    backbone, _ = adapted(AdapterOptions(kind="parallel"))
    handle = backbone.model.get_submodule("encoder.layer.0.intermediate.intermediate_act_fn").register_forward_hook(
        lambda *_: 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        backbone(batch_of(backbone))
    handle.remove()
    assert torch.equal(states(copy.deepcopy(backbone)), states(backbone))


def test_threads_that_share_a_model_do_not_mix_their_texts() -> None:
    backbone, _ = adapted(AdapterOptions(kind="parallel", bottleneck=3))
    disturb(backbone)
    backbone.model.eval()
    batches = [backbone.collate(backbone.encode([text] * 4), np.arange(4)) for text in ("the cat", "a dog", "rain")]
    with torch.no_grad():
        expected = [backbone(batch).pooled for batch in batches]
        wrong: list[int] = []

        def work(number: int) -> None:
            for _ in range(30):
                with torch.no_grad():
                    if not torch.equal(backbone(batches[number]).pooled, expected[number]):
                        wrong.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_lower_precision_gives_about_the_same_output_in_its_own_type(kind: Any) -> None:
    backbone, _ = adapted(AdapterOptions(kind=kind, bottleneck=3))
    disturb(backbone)
    expected, batch = states(backbone), batch_of(backbone)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        low = backbone.token_states(batch)[batch.attention_mask.bool()]
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.1)


def test_adapters_stay_precise_over_a_model_of_half_precision() -> None:
    layer = AdaptedLayer(nn.Linear(8, 8).bfloat16(), Bottleneck(8, 8, 2))
    nn.init.ones_(layer.adapter.up.weight)
    out = layer(torch.ones(1, 8, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert layer.adapter.up.weight.grad.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler warns about torch itself
def test_a_parallel_adapter_compiles_into_one_graph() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    adapter = Bottleneck(8, 8, 2)
    nn.init.ones_(adapter.up.weight)
    insert_parallel(model, "0", "2", adapter)
    x = torch.randn(3, 8)
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))


def chained(kind: Any, architecture: str) -> tuple[PretrainedBackbone, LoraStrategy, AdapterStrategy]:
    """Return a backbone with low-rank updates and adapters in the same layers, all of which learn."""
    backbone = load(architecture)
    lora, adapter = LoraStrategy(LoraOptions(r=2)), AdapterStrategy(AdapterOptions(kind=kind, bottleneck=3))
    torch.manual_seed(0)
    lora.adapt(backbone)
    learning = {id(p) for p in backbone.model.parameters() if p.requires_grad}
    adapter.check(backbone)
    adapter.adapt(backbone)
    for parameter in backbone.model.parameters():
        parameter.requires_grad = parameter.requires_grad or id(parameter) in learning
    disturb(backbone)
    return backbone, lora, adapter


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama", "phi3"])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_stand_around_low_rank_updates(kind: Any, architecture: str) -> None:
    backbone, lora, adapter = chained(kind, architecture)
    expected = find_adapter_sites(load(architecture), kind)
    assert list(adapted_layers(backbone.model)) == [site.writes.name for site in expected]
    before = states(backbone)
    lora.merge(backbone)  # the adapters stay
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    alone = load(architecture)
    adapter.adapt(alone)
    assert list(weights(backbone)) == list(weights(alone))


def test_adapters_and_updates_can_be_taken_out_in_turn() -> None:
    for kind in KINDS:
        backbone, lora, adapter = chained(kind, "bert")
        adapter.detach(backbone)
        assert not any(isinstance(module, AdaptedLayer | TappedLayer) for module in backbone.model.modules())
        lora.detach(backbone)
        assert same(weights(backbone), weights(load()))


def classifier(architecture: str, **changes: Any) -> MultiLabelClassifier:
    """Return a small classifier over an encoder or a decoder."""
    folder = folder_of(architecture)
    if architecture in DECODERS:
        changes["backbone"] = LlmOptions(model=str(folder), max_length=32)
    return toy_classifier(folder, AdapterOptions(**changes.pop("strategy", {})), **changes)


@pytest.mark.parametrize(("architecture", "kind"), [("bert", "parallel"), ("llama", "houlsby"), ("gpt2", "parallel")])
def test_a_loaded_model_predicts_the_same_and_its_file_is_small(architecture: str, kind: str, tmp_path: Path) -> None:
    texts, labels = toy_rows(48)
    clf = classifier(architecture, epochs=1, strategy={"kind": kind}).fit(texts, labels)
    disturb_classifier(clf)
    clf.save(tmp_path)
    np.testing.assert_array_equal(MultiLabelClassifier.load(tmp_path).predict_proba(texts), clf.predict_proba(texts))
    saved = (tmp_path / "strategy.safetensors").stat().st_size
    assert saved < 0.3 * (folder_of(architecture) / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("bert", "parallel"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("gpt2", "parallel"), ("llama", "houlsby"))),
    ],
)
def test_adapters_become_part_of_an_exported_graph(architecture: str, kind: str, tmp_path: Path) -> None:
    texts, labels = toy_rows(48)
    clf = classifier(architecture, epochs=1, strategy={"kind": kind}).fit(texts, labels)
    disturb_classifier(clf)
    report = clf.export_onnx(tmp_path / "bundle", example_texts=texts)
    assert not report.merged
    assert report.parity.max_change < 1e-4


def test_upper_adapters_learn_from_states_that_were_computed_once() -> None:
    texts, labels = toy_rows()
    results = []
    for memory in (2.0, 0.0):
        clf = classifier(
            "bert", epochs=3, strategy={"layers": 1, "kind": "parallel"}, training={"cache_memory": memory}
        )
        clf.set_params(backbone__dropout=0.0, head__dropout=0.0)
        results.append(clf.fit(texts, labels))
    assert [clf.history_.cached_layers for clf in results] == [N_LAYERS - 1, 0]
    np.testing.assert_allclose(results[0].predict_proba(texts), results[1].predict_proba(texts), atol=1e-4)


def test_a_grid_search_runs_over_the_reduction() -> None:
    texts, labels = toy_rows(40)
    clf = classifier("bert", epochs=1, classes=TOPICS)
    search = GridSearchCV(clf, {"strategy__reduction": [2, 8]}, cv=2, error_score="raise")
    search.fit(texts, to_indicator(labels, classes=TOPICS))
    assert search.best_estimator_.get_params()["strategy__reduction"] in (2, 8)
    assert {p["strategy__reduction"] for p in search.cv_results_["params"]} == {2, 8}
