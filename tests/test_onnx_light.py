"""What a server without torch pays: no training library is imported, and starting takes little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from onnx_kit import TEXTS, write_folder

from mlclf.label_forms import YFormat

HEAVY = ["torch", "transformers", "peft", "sklearn", "scipy", "pydantic", "pandas", "rich", "typer", "pluggy", "onnx"]
USE = """
from mlclf.onnx import OnnxClassifier
clf = OnnxClassifier(folder, selftest=True)
clf.predict(texts), clf.predict_labels(texts, top_k=2), clf.predict_proba(texts), clf.predict_topk(texts, 2)
"""


def fresh(statements: str, folder: Path) -> dict[str, Any]:
    """Run statements in a process of their own and say what they cost."""
    program = f"""
import json, sys, time
folder, texts = {str(folder)!r}, {TEXTS!r}
start = time.perf_counter()
{statements}
try:
    lines = open("/proc/self/status").read().splitlines()
except OSError:
    lines = ["VmHWM: 0"]
print(json.dumps({{
    "heavy": [name for name in {HEAVY} if name in sys.modules],
    "seconds": time.perf_counter() - start,
    "megabytes": next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024,
}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("onnx") / "model")


def test_prediction_imports_no_training_library(folder: Path) -> None:
    assert fresh(USE, folder)["heavy"] == []


def test_import_alone_brings_in_not_even_the_runtime(folder: Path) -> None:
    found = fresh("import mlclf.onnx\nassert 'onnxruntime' not in sys.modules", folder)
    assert found["heavy"] == []


def test_sparse_answers_bring_in_scipy_alone(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", y_format=YFormat("sparse-array", "int8"))
    assert fresh(USE, folder)["heavy"] == ["scipy"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the most memory of a process from /proc")
def test_start_takes_a_fraction_of_torch(folder: Path) -> None:
    """Measured: 0.4 s and 100 MB against 6 s and 440 MB; the bounds leave room for a busy machine."""
    light = min((fresh(USE, folder) for _ in range(3)), key=lambda found: found["seconds"])
    heavy = min(
        (fresh("import torch, transformers, mlclf.classifier", folder) for _ in range(2)),
        key=lambda found: found["seconds"],
    )
    assert light["seconds"] < heavy["seconds"] / 2
    assert light["megabytes"] < heavy["megabytes"] / 2
