"""What a training step leaves out because it would cost time and change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from toy import toy_classifier, toy_rows

from mlclf import matrix_products
from mlclf.network import MultiLabelNetwork


def test_one_process_steps_its_optimizers_without_a_wrapper(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(AcceleratedOptimizer, "step")
    assert toy_classifier(tiny_bert, epochs=1).fit(*toy_rows(32)).history_.evaluations[-1].step == 2


def test_operations_are_looked_at_in_the_forward_pass_alone(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    active: list[bool] = []
    forward, backward = MultiLabelNetwork.forward, Accelerator.backward

    def looked_at() -> bool:
        return torch.overrides._get_current_function_mode() is not None

    monkeypatch.setattr(matrix_products, "_direct_pays", matrix_products._has_direct)
    monkeypatch.setattr(MultiLabelNetwork, "forward", lambda *args: (active.append(looked_at()), forward(*args))[1])
    monkeypatch.setattr(Accelerator, "backward", lambda *args: (active.append(looked_at()), backward(*args))[1])
    toy_classifier(tiny_bert, epochs=1, training={"precision": "fp32"}).fit(*toy_rows(16))
    assert active == [matrix_products._has_direct(), False]
