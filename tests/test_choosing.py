"""Strategy "auto": rules that are few, deterministic, and told with their reason."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import WordBackbone, WordOptions

from mlclf import AutoOptions, BertOptions, LlmOptions, MultiLabelClassifier, TrainingOptions, register_backbone
from mlclf.assembly import resolve_parts
from mlclf.choosing import FEW_ROWS, AutoChoice, Situation, choose, settle
from mlclf.exceptions import BackboneLoadError, IncompatibleComponentsError, OptionsError
from mlclf.interfaces import Backbone, LoadRequest
from mlclf.plugins import resolve
from mlclf.testing import tiny_decoder, tiny_encoder
from mlclf.training.memory import GIB, machine_memory, total_memory

MANY = 10_000
MINILM, LLAMA_3B, LLAMA_8B = 22_565_376, 3_000_000_000, 8_000_000_000


def situation(n_rows: int = MANY, n_weights: int | None = MINILM, gib: float | None = 16, **given: Any) -> Situation:
    return Situation(n_rows=n_rows, n_weights=n_weights, memory=None if gib is None else int(gib * GIB), **given)


@pytest.mark.parametrize(
    ("given", "strategy", "rule"),
    [
        ({}, "lora", "usual"),
        ({"n_rows": FEW_ROWS - 1}, "head-only", "few-rows"),
        ({"n_rows": FEW_ROWS}, "lora", "usual"),
        ({"n_weights": LLAMA_3B, "gib": 80}, "lora", "usual"),
        ({"n_weights": LLAMA_3B, "gib": 24}, "qlora", "memory"),
        ({"n_weights": LLAMA_3B, "gib": 24, "n_rows": 10}, "qlora", "memory"),
        ({"n_weights": None, "gib": 1}, "lora", "usual"),
        ({"n_weights": LLAMA_8B, "gib": None}, "lora", "usual"),
        ({"pretrained": False}, "full", "untrained"),
    ],
)
def test_first_rule_that_applies_decides(given: dict[str, Any], strategy: str, rule: str) -> None:
    choice = choose(situation(**given), {})
    assert (choice.strategy, choice.rule, choice.warning) == (strategy, rule, None)


def test_same_situation_gives_the_same_choice() -> None:
    assert choose(situation(), {}) == choose(situation(), {})


def test_reason_names_the_numbers() -> None:
    reason = choose(situation(n_weights=LLAMA_3B, gib=24), {}).reason
    assert "3,000 million weights" in reason
    assert "14.0 GiB" in reason
    assert "50% of the 24.0 GiB" in reason
    assert "250 training rows" in choose(situation(n_rows=250), {}).reason


@pytest.mark.parametrize(
    ("given", "words"),
    [({"n_weights": None}, "does not tell its size"), ({"gib": None}, "memory is not known")],
)
def test_what_is_not_known_is_said(given: dict[str, Any], words: str) -> None:
    assert words in choose(situation(**given), {}).reason


def test_few_rows_for_a_backbone_without_pretraining_are_a_warning() -> None:
    choice = choose(situation(n_rows=96, pretrained=False), {})
    assert (choice.strategy, choice.rule) == ("full", "untrained")
    assert "96 training rows are few" in str(choice.warning)
    assert "TrainingOptions(epochs=30)" in str(choice.warning)


def test_backbone_that_stays_random_is_a_warning() -> None:
    choice = choose(situation(n_rows=96, pretrained=False), {"full": "Models share it."})
    assert choice.strategy == "head-only"
    assert "leaves its weights at random" in str(choice.warning)
    assert "Models share it." in str(choice.warning)


def test_backbone_that_does_not_fit_even_quantised_is_a_warning() -> None:
    choice = choose(situation(n_weights=LLAMA_8B, gib=8), {})
    assert choice.strategy == "qlora"
    assert "likely to run out of memory" in str(choice.warning)
    assert "smaller backbone" in str(choice.warning)


def test_warning_says_why_the_quantised_strategy_is_not_taken() -> None:
    choice = choose(situation(n_weights=LLAMA_3B, gib=16), {"qlora": "bitsandbytes is not installed."})
    assert choice.strategy == "lora"
    assert "cannot be used: bitsandbytes is not installed." in str(choice.warning)


def test_next_candidate_is_taken_where_one_cannot_be_used() -> None:
    assert choose(situation(), {"lora": "It has no linear layers."}).strategy == "full"
    assert "It has no linear layers." in choose(situation(), {"lora": "It has no linear layers."}).reason
    assert choose(situation(n_rows=5), {"head-only": "no"}).strategy == "lora"


def test_nothing_to_choose_from_is_an_error_with_all_reasons() -> None:
    refused = {name: f"no {name}." for name in ("head-only", "lora", "full", "qlora")}
    with pytest.raises(IncompatibleComponentsError, match=r"(?s)head-only: no head-only\..*qlora: no qlora\."):
        choose(situation(), refused)


def test_given_strategy_stays(tiny_bert: Path) -> None:
    parts = resolve_parts(BertOptions(model=str(tiny_bert)), "full", "bce")
    assert settle(parts, 5, torch.device("cpu")) == (parts, None)


def settled(backbone: Any, n_rows: int, **options: Any) -> tuple[str, AutoChoice]:
    parts, choice = settle(resolve_parts(backbone, AutoOptions(**options), "bce"), n_rows, torch.device("cpu"))
    assert choice is not None
    return parts.strategy.component, choice


def test_options_can_name_other_memory_than_the_machine_has(tiny_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = BertOptions(model=str(tiny_bert))
    with caplog.at_level(logging.INFO, logger="mlclf"):
        _, choice = settled(backbone, MANY, memory=1e-5)
    assert choice.situation.memory == int(1e-5 * GIB)
    assert choice.warning is not None
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "strategy 'auto' is" in caplog.text


def test_models_that_share_a_backbone_leave_its_weights_alone(tiny_bert: Path) -> None:
    for deployment in ("any", "onnx", "many-models"):
        name, choice = settled(BertOptions(model=str(tiny_bert)), MANY, deployment=deployment)
        assert name == "lora"
        assert choice.situation.deployment == deployment


def test_wrong_deployment_is_an_error() -> None:
    with pytest.raises(OptionsError, match="'any', 'onnx' or 'many-models'"):
        AutoOptions(deployment="cloud")  # type: ignore[arg-type]


def test_missing_backbone_is_found_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(BackboneLoadError, match="There is no folder"):
        settled(BertOptions(model=str(tmp_path / "absent")), MANY)


def fitted(tiny_bert: Path, n_rows: int, strategy: Any = "auto") -> MultiLabelClassifier:
    clf = MultiLabelClassifier(
        BertOptions(model=str(tiny_bert)), strategy, training=TrainingOptions(epochs=1), random_state=0, verbose=0
    )
    return clf.fit(["good food", "bad staff"] * (n_rows // 2), [["a"], ["b"]] * (n_rows // 2))


def test_fitted_model_is_that_of_the_chosen_strategy(tiny_bert: Path, tmp_path: Path) -> None:
    clf = fitted(tiny_bert, 40)
    assert clf.strategy == "auto"
    assert clf.strategy_choice_ is not None
    assert clf.strategy_choice_.situation.n_rows == 40  # too few to hold out any
    assert clf.model_.parts.strategy.component == clf.strategy_choice_.strategy == "head-only"
    clf.save(tmp_path / "model")
    loaded = MultiLabelClassifier.load(tmp_path / "model")
    assert loaded.model_.parts.strategy.component == "head-only"
    assert loaded.strategy_choice_ is None
    assert (loaded.predict(["good food"]) == clf.predict(["good food"])).all()


def test_options_of_auto_can_be_searched(tiny_bert: Path) -> None:
    clf = MultiLabelClassifier(BertOptions(model=str(tiny_bert)), "auto")
    assert clf.set_params(strategy__deployment="onnx").strategy == AutoOptions(deployment="onnx")


@pytest.mark.parametrize("n_rows", [96, 400])
def test_backbone_that_starts_from_nothing_is_trained_as_a_whole(n_rows: int, caplog: pytest.LogCaptureFixture) -> None:
    register_backbone(WordBackbone, name="local:words")
    training = TrainingOptions(epochs=1, batch_size=64)
    clf = MultiLabelClassifier("local:words", "auto", training=training, validation=None, random_state=0, verbose=0)
    clf.fit(["f0v1 f1v2", "f0v3 f1v4"] * (n_rows // 2), [["a"], ["b"]] * (n_rows // 2))
    assert clf.strategy_choice_ is not None
    assert (clf.strategy_choice_.strategy, clf.strategy_choice_.rule) == ("full", "untrained")
    assert ("training rows are few" in caplog.text) == (n_rows < FEW_ROWS)
    assert clf.model_.parts.strategy.component == "full"


def test_backbone_that_cannot_be_made_without_weights_is_chosen_for_as_it_declares() -> None:
    class StubbornOptions(WordOptions):
        component = "local:stubborn"

    class Stubborn(WordBackbone):
        Options = StubbornOptions

        def load(self, request: LoadRequest, folder: Path | None = None) -> None:
            raise BackboneLoadError("It needs its weights.")

    register_backbone(Stubborn, name="local:stubborn")
    name, choice = settled("local:stubborn", MANY)
    assert (name, choice.rule, choice.situation.pretrained) == ("lora", "usual", True)


def test_given_strategy_has_no_choice(tiny_bert: Path) -> None:
    assert fitted(tiny_bert, 10, "head-only").strategy_choice_ is None


def test_auto_is_not_among_the_strategies_that_models_consist_of() -> None:
    from mlclf.plugins import component_names

    assert "auto" not in component_names("strategy")
    _, kind, options = resolve("strategy", "auto")
    with pytest.raises(IncompatibleComponentsError, match="replaced by another one in fit"):
        kind(options).adapt(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["bert", "albert", "deberta-v2", "modernbert"])
def test_encoder_knows_its_size_before_it_is_loaded(architecture: Any, tmp_path: Path) -> None:
    folder = tiny_encoder(architecture, tmp_path / architecture)
    for file in folder.glob("*.safetensors"):
        file.rename(tmp_path / file.name)
    backbone = backbone_of(BertOptions(model=str(folder)))
    counted = backbone.count_weights()
    for file in tmp_path.glob("*.safetensors"):
        file.rename(folder / file.name)
    backbone.load(LoadRequest())
    assert counted == sum(parameter.numel() for parameter in backbone.model.parameters())


def test_language_model_knows_its_size_before_it_is_loaded(tmp_path: Path) -> None:
    backbone = backbone_of(LlmOptions(model=str(tiny_decoder("qwen3", tmp_path / "qwen3"))))
    counted = backbone.count_weights()
    backbone.load(LoadRequest())
    assert counted == sum(parameter.numel() for parameter in backbone.model.parameters())


def backbone_of(options: Any) -> Backbone:
    _, kind, checked = resolve("backbone", options)
    return kind(checked)


def test_limit_of_a_container_is_the_memory(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod\n")
    assert machine_memory(tmp_path) == machine_memory(tmp_path / "absent")
    (tmp_path / "sys/fs/cgroup/pod").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/pod/memory.max").write_text("max\n")
    assert machine_memory(tmp_path) == machine_memory(tmp_path / "absent")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{GIB // 4}\n")
    assert machine_memory(tmp_path) == GIB // 4


def test_device_that_nobody_knows_has_no_memory() -> None:
    assert total_memory(torch.device("meta")) is None
