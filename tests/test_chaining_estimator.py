"""Chains in the estimator, and in saved models."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from chain_kit import Shift, ShiftOptions, register
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from toy import toy_classifier, toy_rows

from mlclf import LoraOptions, MultiLabelClassifier, TrainingOptions, register_strategy, to_indicator
from mlclf.chaining.options import ChainOptions
from mlclf.exceptions import (
    BundleDamagedError,
    IncompatibleComponentsError,
    MissingPluginError,
    OptionsError,
    UnknownComponentError,
)
from mlclf.inference import dense_probabilities
from mlclf.interfaces import StrategyCapabilities
from mlclf.onnx.graph import merged_copy
from mlclf.plugins import use_manager
from mlclf.testing.plugin_env import plugin_env

LORA = LoraOptions(r=4)


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


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
