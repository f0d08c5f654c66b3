"""The processes of a comparison: what runs in them, and that none is left behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from comparing_kit import ROWS

from mlclf import BertOptions, LoraOptions, TrainingOptions
from mlclf.comparing import processes
from mlclf.comparing.jobs import Settings, make_jobs
from mlclf.comparing.matrix import make_matrix
from mlclf.comparing.processes import Task
from mlclf.comparing.worker import check, fit
from mlclf.datasets import make_feedback, save_jsonl


class TestWorker:
    def test_run_is_fitted_and_scored(self, tiny_bert: Path, tmp_path: Path) -> None:
        cells, _ = make_matrix([BertOptions(model=str(tiny_bert))], [LoraOptions(r=2)], ["bce"])
        settings = Settings(training=TrainingOptions(epochs=1))
        (job,) = make_jobs(cells, [7], ROWS, settings)
        files = {name: str(tmp_path / f"{name}.jsonl") for name in ROWS.parts}
        for name, data in ROWS.parts.items():
            save_jsonl(data, files[name])
        found = json.loads(json.dumps(fit({"job": job.content, "rows": files})))
        assert 0 <= found["figures"]["micro_f1"] <= 1
        assert found["peak_memory"] > 50 << 20
        assert found["share"] == found["n_trainable"] / found["n_parameters"]
        assert 0 < found["share"] < 0.5
        assert found["seconds"] > 0

    def test_check_says_what_a_loaded_backbone_cannot_take(self, tmp_path: Path) -> None:
        from mlclf.testing import tiny_encoder

        backbone = BertOptions(model=str(tiny_encoder("albert", tmp_path / "albert")))
        cells, _ = make_matrix([backbone], ["partial", "full", "auto"], ["bce"])
        pairs = [(found.entries["strategy"], found.entries["head"]) for found in cells]
        reasons = check({"backbone": cells[0].entries["backbone"], "pairs": pairs})["refusals"]
        assert "layers share weights" in reasons[0]
        assert reasons[1:] == [None, None]


class TestProcesses:
    """With a program in place of Python, which starts at once."""

    @pytest.fixture
    def program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        def write(script: str) -> Task:
            file = tmp_path / "program"
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
            monkeypatch.setattr(processes.sys, "executable", str(file))
            return Task({"kind": "fit"}, tmp_path / "runs" / "one")

        return write

    def test_result_is_read_and_nothing_else_stays(self, program: Any, tmp_path: Path) -> None:
        task = program(f"""echo '{{"status": "finished"}}' > {tmp_path}/runs/one.json""")
        assert list(processes.results([task], parallel=2, threads=1)) == [(task, {"status": "finished"})]
        assert [path.name for path in task.stem.parent.iterdir()] == ["one.json"]

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("kill -9 $$", "ended by signal SIGKILL, most likely for lack of memory"),
            ("echo no such library; exit 3", "ended with status 3 and no result: no such library"),
        ],
    )
    def test_process_without_a_result_has_a_reason(self, program: Any, script: str, words: str) -> None:
        ((_, found),) = processes.results([program(script)], parallel=1, threads=1)
        assert found["status"] == "failed"
        assert words in found["reason"]

    @pytest.mark.parametrize("script", ["exec sleep 60", "trap '' TERM; while true; do sleep 1; done"])
    def test_interruption_ends_processes(self, program: Any, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "_PATIENCE", 0.3)
        task = program(script)
        started: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen

        def remember(*arguments: Any, **given: Any) -> subprocess.Popen[bytes]:
            started.append(popen(*arguments, **given))
            return started[-1]

        def interrupt(seconds: float) -> None:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(processes.subprocess, "Popen", remember)
        monkeypatch.setattr(processes, "time", type("T", (), {"sleep": interrupt, "monotonic": time.monotonic}))
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            list(processes.results([task], parallel=1, threads=1))
        assert started[0].poll() is not None
        assert signal.getsignal(signal.SIGTERM) == before
        assert list(task.stem.parent.iterdir()) == []


@pytest.mark.slow
def test_whole_comparison_in_processes_interrupted_and_continued(tiny_bert: Path, tmp_path: Path) -> None:
    save_jsonl(make_feedback(60), tmp_path / "rows.jsonl")
    # A shell that starts the tests in the background has their children ignore the interruption.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; from mlclf.cli.app import main; main()", "compare"]
    command += ["--data", "rows.jsonl"]
    command += ["--set", f"backbone.model={tiny_bert}", "--strategies", "head-only,auto", "--seeds", "2"]
    command += ["--set", "training.epochs=1", "--out", "out"]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out" / "runs").glob("*.json") if (tmp_path / "out").is_dir() else []):
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert "goes on" in first.communicate(timeout=60)[1]
    assert first.returncode == 130
    kept = {path.name for path in (tmp_path / "out" / "runs").iterdir()}
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"4 runs, {len(kept)} of them finished before." in second.stderr
    assert "auto → head-only" in second.stdout
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["seeds"] for row in found["cells"]] == [[0, 1], [0, 1]]
    assert kept <= {path.name for path in (tmp_path / "out" / "runs").iterdir()}
