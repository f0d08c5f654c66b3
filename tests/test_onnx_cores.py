"""Threads: as many as may run, whatever the host has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from onnx_kit import write_folder

from mlclf.onnx import OnnxClassifier
from mlclf.onnx.cores import usable_cores


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def files(root: Path, **contents: str) -> Path:
    """Write files of the system; __ stands for / and a name's end for the file."""
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_affinity_is_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(tmp_path) == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert usable_cores(tmp_path) == 1


def test_system_without_affinity_counts_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert usable_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("200000 100000", 2), ("max 100000", 16), ("350000 100000", 3), ("50000 100000", 1), ("9999999 100000", 16)],
)
def test_limit_of_a_container(tmp_path: Path, limit: str, cores: int) -> None:
    root = files(tmp_path, proc__self__cgroup="0::/\n", sys__fs__cgroup__cpu_dot_max=f"{limit}\n")
    assert usable_cores(root) == cores


def test_limit_of_a_group_around(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        proc__self__cgroup="0::/pod/box\n",
        sys__fs__cgroup__pod__cpu_dot_max="400000 100000\n",
        sys__fs__cgroup__pod__box__cpu_dot_max="max 100000\n",
    )
    assert usable_cores(root) == 4


def test_group_that_the_container_cannot_see(tmp_path: Path) -> None:
    root = files(tmp_path, proc__self__cgroup="0::/host/abc\n", sys__fs__cgroup__cpu_dot_max="300000 100000\n")
    assert usable_cores(root) == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2), ("-1", 16)])
def test_limit_of_an_older_system(tmp_path: Path, quota: str, cores: int) -> None:
    root = files(
        tmp_path,
        proc__self__cgroup="5:memory:/box\n3:cpu,cpuacct:/box\n0::/\n",
        sys__fs__cgroup__cpu__box__cpu_dot_cfs_quota_us=f"{quota}\n",
        sys__fs__cgroup__cpu__box__cpu_dot_cfs_period_us="100000\n",
    )
    assert usable_cores(root) == cores


@pytest.mark.parametrize("limit", ["", "a b", "100000", "100000 0", "-1 100000"])
def test_content_without_meaning_is_no_limit(tmp_path: Path, limit: str) -> None:
    root = files(tmp_path, proc__self__cgroup="0::/\n", sys__fs__cgroup__cpu_dot_max=limit)
    assert usable_cores(root) == 16


def test_session_gets_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "model")
    monkeypatch.setattr("mlclf.onnx.graph_runner.usable_cores", lambda: 3)
    for threads, expected in ((None, 3), (1, 1)):
        options = OnnxClassifier(folder, "cpu", threads=threads)._runner._session.get_session_options()
        assert options.intra_op_num_threads == expected
        assert options.inter_op_num_threads == 1
        assert not options.enable_cpu_mem_arena
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
