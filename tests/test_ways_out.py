"""An error about components that do not go together names others, and those are accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from toy import WordBackbone, toy_classifier, toy_rows

from mlclf import (
    BertOptions,
    LlmOptions,
    MultiLabelClassifier,
    MultiTaskClassifier,
    PromptGenerationOptions,
    PromptOptions,
    register_backbone,
)
from mlclf.exceptions import IncompatibleComponentsError, UnsuitableComponentError
from mlclf.testing import tiny_decoder, tiny_encoder
from mlclf.ways_out import way_out

GENERATION = PromptGenerationOptions(prompt=PromptOptions(template="{{ text }}\n", labels="none"))
PROPOSAL = re.compile(r"Use (strategy|head)=((?:'[\w-]+'(?:, | or )?)+)")


def proposals(error: Exception) -> tuple[str, list[str]]:
    """Return kind and names of what a message says to use."""
    (found,) = PROPOSAL.findall(str(error))
    return found[0], re.findall(r"'([\w-]+)'", found[1])


def classifier(backbone: Any, strategy: Any, head: Any) -> MultiLabelClassifier:
    return toy_classifier(Path(), strategy, epochs=1, backbone=backbone, head=head)


def backbone_of(name: str, folder: Path) -> Any:
    if name == "words":
        register_backbone(WordBackbone, name="local:words")
        return "local:words"
    if name.startswith("llm"):
        changes: dict[str, Any] = {"llm-bf16": {"dtype": "bfloat16"}, "llm-left": {"padding_side": "left"}}.get(
            name, {}
        )
        return LlmOptions(model=str(tiny_decoder("llama", folder)), max_length=32, **changes)
    return BertOptions(model=str(tiny_encoder(name, folder)), max_length=32)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backbone", "strategy", "head", "expected"),
    [
        ("words", "ia3", "bce", ["full", "head-only", "features"]),
        ("words", "adapter", "bce", ["full", "head-only", "features"]),
        ("words", "bitfit", "bce", ["full", "head-only", "features"]),
        ("words", "partial", "bce", ["full", "head-only", "features"]),
        ("words", "prefix", "bce", ["full", "head-only", "features"]),
        ("words", "prompt-tuning", "bce", ["full", "head-only", "features"]),
        ("words", ["adapter", "prefix"], "bce", ["full", "head-only", "features"]),
        ("words", "full", "label-query", ["bce"]),
        ("albert", "partial", "bce", ["lora", "ia3", "adapter", "full", "head-only", "features"]),
        ("modernbert", "bitfit", "bce", ["lora", "ia3", "adapter", "full", "head-only", "features"]),
        ("mpnet", "prefix", "bce", ["lora", "ia3", "adapter", "full", "head-only", "features"]),
        ("bert", "prompt-tuning", "label-query", ["lora", "ia3", "adapter", "full", "head-only", "features"]),
        ("llm", "features", GENERATION, ["lora", "ia3", "adapter", "full"]),
        ("llm", "lora", "verbalizer", ["bce", "label-query"]),
        ("llm-bf16", "full", "bce", ["lora", "ia3", "adapter", "head-only", "features"]),
        ("llm-left", "prompt-tuning", "bce", ["lora", "ia3", "adapter", "full", "head-only", "features"]),
    ],
)
def test_what_an_error_names_is_accepted(
    backbone: str, strategy: Any, head: Any, expected: list[str], tmp_path: Path
) -> None:
    options, rows = backbone_of(backbone, tmp_path / "model"), toy_rows(16)
    with pytest.raises(IncompatibleComponentsError) as caught:
        classifier(options, strategy, head).fit(*rows)
    kind, names = proposals(caught.value)
    assert names == expected
    for name in names:
        other = (name, head) if kind == "strategy" else (strategy, name)
        classifier(options, *other).fit(*rows)


def test_another_refusal_does_not_hide_what_can_take_the_place_of_the_first(tmp_path: Path) -> None:
    options = backbone_of("llm-left", tmp_path / "model")
    with pytest.raises(
        IncompatibleComponentsError, match=r"Strategy 'prompt-tuning' needs padding.*Use strategy='lora'"
    ):
        classifier(options, "prompt-tuning", "label-query").fit(*toy_rows(16))


def test_a_way_out_that_does_not_exist_is_not_named() -> None:
    def refuse(name: str) -> None:
        raise UnsuitableComponentError(f"not {name}")

    assert "choose another strategy and backbone" in way_out("strategy", ["lora", "full"], refuse)
    assert way_out("head", ["bce"], refuse) == "Use head='bce'."


@pytest.mark.parametrize("strategy", ["full", "qlora"])
def test_a_task_on_a_table_of_vectors_is_offered_what_shares_it(strategy: str) -> None:
    tasks = MultiTaskClassifier(backbone_of("words", Path()), verbose=0)
    rows = toy_rows(16)
    with pytest.raises(IncompatibleComponentsError, match="Use strategy='head-only'"):
        tasks.add_task("refused", *rows, strategy=strategy)
    tasks.add_task("taken", *rows, strategy="head-only")
    assert tasks.tasks == ("taken",)
