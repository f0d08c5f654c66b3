"""Memory of a large call is given back; small calls do not pay for that."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from onnx_kit import TEXTS, write_folder

from mlclf.onnx import OnnxClassifier
from mlclf.onnx.memory import _malloc_trim, give_back_memory

MEGABYTE = 1 << 20


def resident() -> float:
    """Memory of this process in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MEGABYTE


@pytest.mark.skipif(sys.platform != "linux" or _malloc_trim() is None, reason="needs glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    start = resident()
    # Below the size at which glibc takes memory from the system block by block; the last one keeps the rest in place.
    blocks = [b"x" * 100_000 for _ in range(3_000)]
    assert resident() > start + 150
    del blocks[:-1]
    give_back_memory()
    assert resident() < start + 100


def test_only_large_calls_give_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("mlclf.onnx.graph_runner.give_back_memory", lambda: calls.append(1))
    clf = OnnxClassifier(write_folder(tmp_path / "model"), "cpu")
    clf.predict_proba(TEXTS)
    assert calls == []
    clf.predict_proba(["cat " * 60] * 200)
    assert calls == [1]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _malloc_trim.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    give_back_memory()
    assert _malloc_trim() is None
    _malloc_trim.cache_clear()
