"""Memory of a large call is given back; small calls do not pay for that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from onnx_kit import TEXTS, write_folder

from mlclf.onnx import OnnxClassifier
from mlclf.onnx.memory import _malloc_trim, give_back_memory

# In a process of its own: one that has freed much before may serve new blocks from what it kept.
MEASURE = """
from pathlib import Path
from mlclf.onnx.memory import give_back_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)

start = resident()
# Below the size at which glibc takes memory from the system block by block; the last one keeps the rest in place.
blocks = [b"x" * 100_000 for _ in range(3_000)]
full = resident()
del blocks[:-1]
give_back_memory()
print(full - start, resident() - start)
"""


@pytest.mark.skipif(sys.platform != "linux" or _malloc_trim() is None, reason="needs glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    full, after = map(float, done.stdout.split())
    assert full > 200
    assert after < 100


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
