"""A script that calls fit runs unchanged in several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, os, sys
sys.path.insert(0, sys.argv[3])
from toy import toy_classifier, toy_rows
from mlclf import register_back_translation
register_back_translation("upper", lambda texts: [text.upper() for text in texts])
register_back_translation("rank", lambda texts: [text + os.environ["RANK"] for text in texts])
training = {"augmentation": json.loads(sys.argv[4])}
clf = toy_classifier(sys.argv[1], epochs=2, training=training).fit(*toy_rows(64), validation_data=toy_rows(16, seed=1))
result = {"p": clf.predict_proba(toy_rows(8)[0]).tolist(), "steps": clf.history_.evaluations[-1].step}
open(f"{sys.argv[2]}/{os.environ['RANK']}.json", "w").write(json.dumps(result))
"""


def run_two(tiny_bert: Path, folder: Path, augmentation: Any) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    # accelerate launch starts several processes on a processor through MPI only; torchrun, which it uses for GPUs, sets
    # the same variables.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(script), str(tiny_bert), str(folder), str(Path(__file__).parent), json.dumps(augmentation)]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation", [None, {"deletion": 0.1, "masking": 0.1, "mixing": 0.2, "back_translation": "upper"}]
)
def test_two_processes_train_one_model(tiny_bert: Path, tmp_path: Path, augmentation: Any) -> None:
    done = run_two(tiny_bert, tmp_path, augmentation)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["p"] == second["p"]
    assert first["steps"] == 4  # 64 rows, 2 processes x batches of 16, 2 epochs


@pytest.mark.slow
def test_processes_whose_translations_differ_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    done = run_two(tiny_bert, tmp_path, {"back_translation": "rank"})
    assert done.returncode != 0
    assert "The processes of this run have different back-translations" in done.stderr
