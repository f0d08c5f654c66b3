"""Which strategies go together in a chain, in which order, and what is said where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from chain_kit import Scale, ScaleOptions, Shift, ShiftOptions, chained, register
from toy import toy_rows

from mlclf import LoraOptions, MultiLabelClassifier, register_strategy
from mlclf.chaining.options import ChainOptions
from mlclf.chaining.rules import chaining_strategies
from mlclf.chaining.strategy import ChainStrategy, resolve_strategy
from mlclf.exceptions import (
    IncompatibleComponentsError,
    OptionsError,
    UnknownComponentError,
)
from mlclf.interfaces import StrategyCapabilities

LORA = LoraOptions(r=4)


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


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
