"""Chains: several strategies on one backbone, each with its own parameters, rates and saved tensors."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from chain_kit import Scale, ScaleOptions, Shift, ShiftOptions, chained, register
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from strategy_kit import N_LAYERS, batch_of, disturb, load, same, states, weights
from toy import toy_classifier, toy_rows

from mlclf import LoraOptions, MultiLabelClassifier, TrainingOptions, register_strategy, to_indicator
from mlclf.chaining.options import ChainOptions
from mlclf.chaining.rules import chaining_strategies, combined
from mlclf.chaining.strategy import ChainStrategy, resolve_strategy
from mlclf.exceptions import (
    BundleDamagedError,
    IncompatibleComponentsError,
    MissingPluginError,
    NotMergeableError,
    OptionsError,
    UnknownComponentError,
)
from mlclf.inference import dense_probabilities
from mlclf.interfaces import LoadRequest, Strategy, StrategyCapabilities
from mlclf.onnx.graph import merged_copy
from mlclf.plugins import use_manager
from mlclf.testing.plugin_env import plugin_env

LORA = LoraOptions(r=4)
WEIGHTS = (LORA, "local:scale")
MIXED = (LORA, "local:shift")
PISSA = (LoraOptions(r=4, init="pissa", layers=1), "local:scale", "local:shift")
every_chain = pytest.mark.parametrize("parts", [WEIGHTS, MIXED, PISSA], ids=["weights", "mixed", "three"])


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


# What a chain promises as a strategy.


@every_chain
def test_all_that_the_parts_train_learns_and_nothing_else(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    learning = {name for name, p in backbone.model.named_parameters() if p.requires_grad}
    assert learning == set().union(*strategy.owned)
    assert all(strategy.owned)
    assert sum(map(len, strategy.owned)) == len(learning)
    alone = [chained_alone(part) for part in parts]
    assert [len(own) for own in strategy.owned] == alone


def chained_alone(part: Any) -> int:
    """Return how many tensors a strategy trains where it is alone."""
    kind, options = resolve_strategy(part)
    backbone = load()
    kind(options).adapt(backbone)
    return sum(p.requires_grad for p in backbone.model.parameters())


@every_chain
def test_everything_that_learns_gets_a_gradient_and_changes_the_output(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    torch.testing.assert_close(states(backbone), states(load()), rtol=1e-5, atol=1e-5)
    before = states(backbone)
    disturb(backbone)
    assert (states(backbone) - before).abs().max() > 1e-3
    strategy.set_train_mode(backbone)
    output = backbone(batch_of(backbone)).pooled
    (output * torch.randn_like(output)).sum().backward()
    assert not [n for n, p in backbone.model.named_parameters() if p.requires_grad and not p.grad.any()]


@every_chain
def test_saved_tensors_make_a_fresh_backbone_equal_bit_for_bit(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    disturb(backbone)
    saved = {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    fresh, again = chained(*parts, seed=7)
    again.load_state(fresh, saved)
    assert torch.equal(states(fresh), states(backbone))
    assert same(weights(fresh), weights(backbone))


def test_saved_tensors_of_another_model_are_refused() -> None:
    backbone, strategy = chained(*MIXED)
    saved = strategy.state(backbone)
    name = next(iter(saved))
    with pytest.raises(BundleDamagedError, match=r"'lora' do not fit: 1 missing"):
        strategy.load_state(backbone, {n: t for n, t in saved.items() if n != name})
    with pytest.raises(BundleDamagedError, match=r"\('lora', 'local:shift'\) do not fit: 1 unknown \['extra'\]"):
        strategy.load_state(backbone, {**saved, "extra": torch.zeros(1)})


def test_a_chain_of_methods_on_weights_merges_into_plain_weights() -> None:
    backbone, strategy = chained(*WEIGHTS)
    disturb(backbone)
    before = states(backbone)
    strategy.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    assert list(weights(backbone)) == list(weights(load()))


@pytest.mark.parametrize("parts", [MIXED, PISSA], ids=["mixed", "three"])
def test_a_partial_merge_keeps_what_no_weights_express(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    disturb(backbone)
    before, random_state = states(backbone), torch.get_rng_state()
    with pytest.raises(NotMergeableError, match="'chain' cannot be merged"):
        strategy.merge(backbone)
    strategy.merge_partially(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    assert not [name for name in weights(backbone) if "lora" in name]
    assert len([name for name in weights(backbone) if name.endswith(".shift")]) == N_LAYERS
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_can_neither_merge_nor_be_taken_out_keeps_the_rest_from_merging() -> None:
    class Fixed(Shift):
        capabilities: ClassVar[StrategyCapabilities] = replace(Shift.capabilities, detachable=False)

    register_strategy(Fixed, name="local:shift")
    backbone, strategy = chained(*MIXED)
    disturb(backbone)
    before = weights(backbone)
    strategy.merge_partially(backbone)
    assert same(weights(backbone), before)


def test_detaching_gives_back_what_was_loaded_bit_for_bit() -> None:
    backbone, strategy = chained(LoraOptions(r=4, init="pissa"), "local:shift")
    disturb(backbone)
    strategy.detach(backbone)
    assert same(weights(backbone), weights(load()))
    assert torch.equal(states(backbone), states(load()))
    backbone, strategy = chained(*WEIGHTS)  # one part trains the loaded weights themselves
    with pytest.raises(IncompatibleComponentsError, match="trains the loaded weights themselves"):
        strategy.detach(backbone)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copied_chain_knows_its_parameters(copied: Any) -> None:
    backbone, strategy = chained(*PISSA)
    disturb(backbone)
    twin, again = copied((backbone, strategy))
    assert same(again.state(twin), strategy.state(backbone))
    disturb(twin)
    assert torch.equal(states(backbone), states(copied((backbone, strategy))[0]))


def test_the_least_number_of_constant_layers_counts_and_dropout_is_on_where_a_part_wants_it() -> None:
    backbone, strategy = chained(LoraOptions(r=4, layers=1, backbone_dropout=False), "local:scale")
    assert strategy.constant_layers(backbone) == 0
    strategy.set_train_mode(backbone)
    assert all(module.training for module in backbone.model.modules())
    backbone, strategy = chained(LoraOptions(r=4, layers=1), "local:upper")
    assert strategy.constant_layers(backbone) == N_LAYERS - 2
    strategy.set_train_mode(backbone)
    on = {n for n, m in backbone.model.named_modules() if m.training and n.endswith("output.dropout")}
    assert {name.split(".")[2] for name in on} == {"1", "2"}


class UpperOptions(ScaleOptions):
    """Options of :class:`Upper`."""

    component = "local:upper"


class Upper(Strategy):
    """Trains the norms of the last two layers."""

    Options = UpperOptions
    capabilities: ClassVar[StrategyCapabilities] = StrategyCapabilities(chains=True, needs_layers=True)
    learning_rates = Scale.learning_rates

    def adapt(self, backbone: Any) -> None:
        self.freeze(backbone)
        for layer in backbone.layers()[-2:]:
            layer.output.LayerNorm.weight.requires_grad = True

    def constant_layers(self, backbone: Any) -> int:
        return int(backbone.n_layers - 2)


register_strategy(Upper, name="local:upper")


def test_recomputing_activations_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone, strategy = chained(*MIXED)
        disturb(backbone)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        strategy.set_train_mode(backbone)
        for module in backbone.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        backbone(batch_of(backbone)).pooled.square().sum().backward()
        gradients.append([p.grad for p in backbone.model.parameters() if p.grad is not None])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


# Learning rates, penalties, loading.


def rates(strategy: ChainStrategy, backbone: Any, rate: float) -> list[set[float]]:
    """Return the rates of each part's parameters."""
    names = {id(p): name for name, p in backbone.model.named_parameters()}
    found: list[set[float]] = [set() for _ in strategy.parts]
    for group in strategy.parameter_groups(backbone, rate, 0.1):
        for parameter in group["params"]:
            (part,) = [i for i, own in enumerate(strategy.owned) if names[id(parameter)] in own]
            found[part].add(group["lr"])
    return found


def test_each_part_learns_at_its_own_rate_and_keeps_its_ratio_to_the_first() -> None:
    backbone, strategy = chained(*MIXED)
    assert (strategy.learning_rates.backbone, strategy.learning_rates.head) == (1e-3, 5e-3)
    assert rates(strategy, backbone, 1e-3) == [{1e-3}, {1e-2}]
    assert rates(strategy, backbone, 5e-4) == [{5e-4}, {5e-3}]
    backbone, strategy = chained(LoraOptions(r=4, learning_rate=2e-3), ShiftOptions(learning_rate=4e-3))
    assert strategy.learning_rates.backbone == 2e-3
    assert rates(strategy, backbone, 2e-3) == [{2e-3}, {4e-3}]


def test_groups_hold_what_learns_once() -> None:
    backbone, strategy = chained(*PISSA)
    grouped = [id(p) for group in strategy.parameter_groups(backbone, 1e-3, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in backbone.model.parameters() if p.requires_grad)


def test_the_heads_rate_is_that_of_the_part_that_gives_one() -> None:
    assert chained(LORA, ShiftOptions(head_learning_rate=1e-2))[1].learning_rates.head == 1e-2
    with pytest.raises(OptionsError, match=r"different rates of the head: head_learning_rate is \[0.001, 0.01\]"):
        chained(LoraOptions(head_learning_rate=1e-3), ShiftOptions(head_learning_rate=1e-2))


def test_penalties_add_up_and_see_their_own_parameters_only() -> None:
    backbone, strategy = chained(LORA, ScaleOptions(penalty=0.5), "local:shift")
    expected = sum(float(weights(backbone)[name].sum()) for name in strategy.owned[1])
    penalty = strategy.penalty(backbone)
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(0.5 * expected)
    assert penalty.requires_grad
    assert chained(*MIXED)[1].penalty(backbone) is None


def test_positions_of_virtual_tokens_add_up_and_there_is_one_quantisation() -> None:
    class Quantised(Scale):
        capabilities: ClassVar[StrategyCapabilities] = replace(Scale.capabilities, quantised_base=True)

        def load_request(self) -> LoadRequest:
            return LoadRequest(quantization="nf4", reserved_length=3)

    register_strategy(Quantised, name="local:scale")
    _, strategy = chained("local:scale", ShiftOptions(reserved=4))
    assert strategy.load_request() == LoadRequest(quantization="nf4", reserved_length=7)
    with pytest.raises(IncompatibleComponentsError, match="'local:scale' quantises the backbone, and 'lora' cannot"):
        resolve_strategy(["local:scale", "lora"])


def test_every_declaration_of_a_part_counts() -> None:
    plain = StrategyCapabilities(chains=True, detachable=True, quantised_base=True)
    known = {field.name for field in fields(StrategyCapabilities)}
    changes: dict[str, Any] = {
        "families": frozenset({"encoder"}),
        "merge": "lossy",
        "padding": "right",
        "needs_layers": True,
        "gradient_checkpointing": False,
        "quantised_base": False,
        "export": False,
        "changes": "activations",
        "detachable": False,
    }
    assert known == {*changes, "chains", "shares"}, "say in chaining/rules.py what the new field means"
    for name, value in changes.items():
        for parts in ([plain, replace(plain, **{name: value})], [replace(plain, **{name: value}), plain]):
            assert getattr(combined(parts), name) == value


# What is refused.


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["lora", "full"], r"'full' cannot be combined with others. Use it alone, .* combine some of: .*'lora'"),
        (["lora", "lora"], r"'lora' stands twice"),
        (["local:shift", "lora"], r"'lora' cannot follow 'local:shift'.* strategy=\['lora', 'local:shift'\]"),
        (["lora", "local:half"], r"'local:scale' and 'local:half'|forms of one method"),
    ],
)
def test_strategies_that_do_not_go_together_are_refused(parts: list[Any], message: str) -> None:
    class HalfOptions(ScaleOptions):
        component = "local:half"

    class Half(Scale):
        Options = HalfOptions

    register_strategy(Half, name="local:half")
    if "local:half" in parts:
        parts = [*parts, "local:scale"]
    with pytest.raises(IncompatibleComponentsError, match=message):
        resolve_strategy(parts)


def test_virtual_tokens_come_last_and_what_merges_before_what_does_not() -> None:
    def declared(**changes: Any) -> list[str]:
        kind = type("Declared", (Shift,), {"capabilities": replace(Shift.capabilities, **changes)})
        register_strategy(kind, name="local:shift")
        return ["local:shift", "local:flow"]

    class FlowOptions(ShiftOptions):
        component = "local:flow"

    class Flow(Scale):
        Options = FlowOptions
        capabilities: ClassVar[StrategyCapabilities] = StrategyCapabilities(chains=True, changes="activations")

    register_strategy(Flow, name="local:flow")
    for names in (declared(changes="tokens"), declared()):
        with pytest.raises(IncompatibleComponentsError, match=r"strategy=\['local:flow', 'local:shift'\]"):
            resolve_strategy(names)
        assert resolve_strategy(names[::-1])[0] is ChainStrategy


def test_backbone_families_must_meet() -> None:
    class Narrow(Shift):
        capabilities: ClassVar[StrategyCapabilities] = replace(Shift.capabilities, families=frozenset({"encoder"}))

    class Other(Scale):
        capabilities: ClassVar[StrategyCapabilities] = replace(Scale.capabilities, families=frozenset({"causal-lm"}))

    register_strategy(Narrow, name="local:shift")
    register_strategy(Other, name="local:scale")
    with pytest.raises(IncompatibleComponentsError, match=r"No backbone works with all.*'local:scale': causal-lm;"):
        resolve_strategy(["local:scale", "local:shift"])
    with pytest.raises(IncompatibleComponentsError, match=r"'lora \+ local:shift' works with .* encoder; .*'llm'"):
        MultiLabelClassifier("llm", ["lora", "local:shift"]).fit(*toy_rows(32))


@pytest.mark.parametrize("nested", [[["lora"], "local:shift"], ["lora", ChainOptions(parts=(LORA, ShiftOptions()))]])
def test_a_chain_holds_no_chain(nested: Any) -> None:
    with pytest.raises(OptionsError, match="holds no other chain"):
        resolve_strategy(nested)


def test_an_empty_list_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(OptionsError, match=r"empty list. Name one strategy"):
        MultiLabelClassifier(strategy=[]).fit(*toy_rows(32))
    with pytest.raises(UnknownComponentError, match="Did you mean 'lora'"):
        resolve_strategy(["lorra", "local:shift"])
    with pytest.raises(OptionsError, match="strategy must be a name or options, got int"):
        resolve_strategy(["lora", 3])  # type: ignore[list-item]


def test_one_element_is_that_strategy() -> None:
    assert resolve_strategy(["lora"]) == resolve_strategy("lora")
    assert resolve_strategy([LORA])[1] == resolve_strategy(ChainOptions(parts=(LORA,)))[1] == LORA


def test_two_strategies_that_train_one_tensor_are_refused() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"'local:scale' and 'local:upper' both train"):
        chained("local:scale", "local:upper")


def test_the_strategies_that_chain_are_known() -> None:
    assert "'lora'" in chaining_strategies()
    assert "'full'" not in chaining_strategies()


# The estimator.


@pytest.fixture(scope="module")
def fitted(tiny_bert: Path) -> MultiLabelClassifier:
    register()
    return toy_classifier(tiny_bert, [LORA, "local:scale", "local:shift"], epochs=2).fit(*toy_rows(64))


def test_training_moves_every_part(fitted: MultiLabelClassifier) -> None:
    losses = [evaluation.train_loss for evaluation in fitted.history_.evaluations]
    assert losses[1] < losses[0]
    backbone, strategy = fitted.model_.network.backbone, fitted.model_.strategy
    parameters = dict(backbone.model.named_parameters())
    for names, start in zip(strategy.owned, (0.0, 1.0, 0.0), strict=True):
        moved = [name for name in names if "lora_A" not in name]
        assert all((parameters[name] - start).any() for name in moved)
    assert {module.started for module in backbone.model.modules() if hasattr(module, "started")} == {64}


def test_a_loaded_chain_predicts_the_same_bit_for_bit(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    texts, _ = toy_rows(16)
    for include_backbone in (False, True):
        fitted.save(tmp_path / "model", include_backbone=include_backbone)
        loaded = MultiLabelClassifier.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(texts), fitted.predict_proba(texts))
    assert loaded.strategy == fitted.model_.parts.strategy
    loaded.set_params(verbose=0, strategy__lora__r=2).fit(*toy_rows(32))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(texts), fitted.predict_proba(texts))


def test_merging_for_an_export_leaves_the_model_as_it_is(fitted: MultiLabelClassifier) -> None:
    texts, _ = toy_rows(16)
    before = fitted.predict_proba(texts)
    merged = merged_copy(fitted.model_.network, fitted.model_.strategy)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    probabilities = dense_probabilities(merged, fitted.model_.dataset(texts), 4, torch.device("cpu"))
    np.testing.assert_allclose(probabilities, before, atol=1e-5)
    np.testing.assert_array_equal(fitted.predict_proba(texts), before)


@pytest.mark.slow
def test_an_exported_chain_answers_as_the_fitted_one(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    report = fitted.export_onnx(tmp_path / "bundle")
    assert not report.merged
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["model"]["strategy"] == "lora + local:scale + local:shift"


def test_options_of_a_part_are_read_and_set_by_its_name() -> None:
    mine = ["lora", "local:shift"]
    clf = MultiLabelClassifier(strategy=mine)
    clf.set_params(strategy__lora__r=2, strategy__local_shift__learning_rate=1e-4)
    assert clf.strategy == ChainOptions(parts=(LoraOptions(r=2), ShiftOptions(learning_rate=1e-4)))
    assert mine == ["lora", "local:shift"]
    params = clf.get_params()
    assert (params["strategy__lora__r"], params["strategy__local_shift"]) == (2, ShiftOptions(learning_rate=1e-4))
    clf.set_params(strategy__lora__r=8, strategy__lora=LoraOptions(alpha=1))
    assert clf.strategy.parts[0] == LoraOptions(alpha=1, r=8)
    with pytest.raises(OptionsError, match=r"no part 'lara'\. Did you mean 'lora'\? It has: lora, local_shift"):
        clf.set_params(strategy__lara__r=2)
    with pytest.raises(OptionsError, match="LoraOptions has no option 'rank'"):
        clf.set_params(strategy__lora__rank=2)


def test_clone_and_notebooks_take_a_list() -> None:
    clf = MultiLabelClassifier(strategy=[LORA, "local:shift"])
    assert clone(clf).strategy == clf.strategy
    assert clone(clf.set_params(strategy__lora__r=2)).strategy == clf.strategy
    assert "LoraOptions(" in clf._repr_html_()
    assert "LoraOptions(" in repr(MultiLabelClassifier(strategy=[LORA]))


def test_a_search_goes_over_chains_and_over_options_of_their_parts(tiny_bert: Path) -> None:
    texts, labels = toy_rows(48)
    grid = [{"strategy": [["lora", "local:scale"]], "strategy__lora__r": [2, -1]}, {"strategy": ["head-only"]}]
    search = GridSearchCV(toy_classifier(tiny_bert, epochs=1), grid, scoring="f1_micro", cv=2, error_score=-1.0)
    with pytest.warns(FitFailedWarning):  # of the candidate with a negative rank
        search.fit(texts, to_indicator(labels).to_numpy())
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == -1
    assert scores[0] >= 0
    assert scores[2] >= 0


def test_a_checkpoint_of_another_chain_is_not_continued(tiny_bert: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "checkpoints")
    training = {"checkpoint_dir": folder}
    toy_classifier(tiny_bert, [LORA, "local:scale"], epochs=1, training=training).fit(*toy_rows(32))
    resumed = toy_classifier(tiny_bert, [LORA, "local:scale"], epochs=1, training={"resume_from": folder})
    resumed.fit(*toy_rows(32))
    for other in ([LORA, "local:shift"], [LoraOptions(r=2), "local:scale"], [LORA]):
        with pytest.raises(OptionsError, match="strategy differ"):
            toy_classifier(tiny_bert, other, epochs=1, training={"resume_from": folder}).fit(*toy_rows(32))


def test_what_a_part_cannot_do_is_refused_before_training() -> None:
    class Heavy(Shift):
        capabilities: ClassVar[StrategyCapabilities] = replace(
            Shift.capabilities, gradient_checkpointing=False, export=False
        )

    register_strategy(Heavy, name="local:shift")
    training = TrainingOptions(gradient_checkpointing=True)
    with pytest.raises(IncompatibleComponentsError, match=r"'lora \+ local:shift' cannot be trained with recomputed"):
        MultiLabelClassifier(strategy=["lora", "local:shift"], training=training).fit(*toy_rows(32))


# Saved models.


@pytest.fixture
def saved(fitted: MultiLabelClassifier, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, change: Any) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content["components"]["strategy"], content)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_the_manifest_names_the_parts_with_their_options(saved: Path) -> None:
    entry = json.loads((saved / "manifest.json").read_text())["components"]["strategy"]
    assert entry["name"] == "chain"
    assert [part["name"] for part in entry["options"]["parts"]] == ["lora", "local:scale", "local:shift"]
    assert entry["options"]["parts"][0]["options"]["r"] == 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda parts: parts.pop(), BundleDamagedError, "tensors.*do not fit|unknown"),
        (lambda parts: parts.clear(), BundleDamagedError, "'components' is wrong .*parts of the chain"),
        (lambda parts: parts.reverse(), IncompatibleComponentsError, "Weights come first"),
        (lambda parts: parts[0].update(name="os:system"), BundleDamagedError, "lists no plugin 'os'"),
        (lambda parts: parts[0].update(name="chain"), UnknownComponentError, "no strategy is named 'chain'"),
        (lambda parts: parts[0].update(name="../x"), BundleDamagedError, "must be named"),
        (lambda parts: parts[0].update(path="x.py"), BundleDamagedError, "'components' is wrong"),
        (lambda parts: parts[0]["options"].update(r="many"), BundleDamagedError, "options of strategy 'lora'"),
        (lambda parts: parts[0]["options"].update(r=2), BundleDamagedError, "has shape"),
    ],
)
def test_an_edited_chain_is_refused(saved: Path, change: Any, error: type, message: str) -> None:
    edit(saved, lambda strategy, _: change(strategy["options"]["parts"]))
    with pytest.raises(error, match=message):
        MultiLabelClassifier.load(saved)


PLUGIN = """
from mlclf.plugins import ComponentSpec, hookimpl
MLCLF_PLUGIN_API = (1, 0)
@hookimpl
def mlclf_strategies():
    names = dict(target="mlclf_acme.noise:Noise", options="mlclf_acme.noise:NoiseOptions")
    return [ComponentSpec(name="acme:noise", summary="", **names)]
"""
NOISE = """
from mlclf.interfaces import LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options
class NoiseOptions(Options):
    component = "acme:noise"
class Noise(Strategy):
    Options = NoiseOptions
    capabilities = StrategyCapabilities(chains=True)
    learning_rates = LearningRates(backbone=1e-3, head=1e-3)
    def adapt(self, backbone):
        self.freeze(backbone)
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad = name.endswith("LayerNorm.bias")
"""


def test_a_chain_whose_plugin_is_absent_says_so_by_name(tiny_bert: Path, tmp_path: Path) -> None:
    with plugin_env(tmp_path / "site") as env:
        env.install("acme", PLUGIN, version="1.4.2", modules={"noise": NOISE})
        with use_manager(env.manager()):
            toy_classifier(tiny_bert, ["lora", "acme:noise"], epochs=1).fit(*toy_rows(32)).save(tmp_path / "model")
        with use_manager(env.manager()):
            MultiLabelClassifier.load(tmp_path / "model")
            with pytest.raises(Exception, match="allow_plugins does not name"):
                MultiLabelClassifier.load(tmp_path / "model", allow_plugins="none")
    (entry,) = json.loads((tmp_path / "model" / "manifest.json").read_text())["plugins"]
    assert (entry["id"], entry["used_for"]) == ("acme", ["strategy"])
    with pytest.raises(MissingPluginError, match=r"plugin 'acme' \(strategy 'acme:noise'\), saved with mlclf-acme 1.4"):
        MultiLabelClassifier.load(tmp_path / "model")
