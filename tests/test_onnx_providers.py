"""Devices: what is asked for is in use, or there is an error; what is hoped for gives one warning."""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime
import pytest
from onnx_kit import TEXTS, expected, write_folder

from mlclf.exceptions import MissingExtraError, OptionsError, ProviderError
from mlclf.onnx import OnnxClassifier, packages, providers
from mlclf.onnx.providers import CPU, CUDA, TENSORRT, choose, has_driver

CPU_BUILD, GPU_BUILD = ["AzureExecutionProvider", CPU], [TENSORRT, CUDA, CPU]


class FakeSession:
    """A session on the processor that says it runs elsewhere."""

    def __init__(self, real: Any, in_use: str) -> None:
        self.real, self.in_use, self.bound = real, in_use, 0

    def get_providers(self) -> list[str]:
        return [self.in_use, CPU] if self.in_use != CPU else [CPU]

    def io_binding(self) -> Any:
        self.bound += 1
        return self.real.io_binding()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("onnx") / "model")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Make a machine up: what its onnxruntime was built with, whether it has a driver, and what is really in use."""

    def make(build: Sequence[str], *, driver: bool, in_use: str = CPU, error: str = "") -> list[Any]:
        asked: list[Any] = []
        load = onnxruntime.InferenceSession

        def session(path: Any, options: Any, providers: Any, **rest: Any) -> Any:
            asked.append(providers)
            if error and providers != [CPU]:
                raise RuntimeError(error)
            given = in_use if providers != [CPU] else CPU
            return FakeSession(load(path, options, providers=[CPU]), given)

        runtime = ModuleType("onnxruntime")
        for name in ("SessionOptions", "__version__"):
            setattr(runtime, name, getattr(onnxruntime, name))
        runtime.InferenceSession = session  # type: ignore[attr-defined]
        runtime.get_available_providers = lambda: list(build)  # type: ignore[attr-defined]
        runtime.preload_dlls = lambda: (asked.append("preload"), print("noise"))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        monkeypatch.setattr(providers, "has_driver", lambda: driver)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return asked

    return make


def names(asked: Any) -> list[str]:
    return [name if isinstance(name, str) else name[0] for name in asked]


def test_gpu_is_taken_where_it_is(folder: Path, machine: Any, capfd: pytest.CaptureFixture[str]) -> None:
    asked = machine(GPU_BUILD, driver=True, in_use=CUDA)
    clf = OnnxClassifier(folder)
    assert clf.provider_ == CUDA
    assert asked[0] == "preload"
    assert names(asked[1]) == [CUDA, CPU]
    assert asked[1][0][1]["use_tf32"] == "0"
    assert capfd.readouterr().out == ""


def test_gpu_gets_its_inputs_bound(folder: Path, machine: Any) -> None:
    machine(GPU_BUILD, driver=True, in_use=CUDA)
    clf = OnnxClassifier(folder, "cuda")
    assert abs(clf.predict_proba(TEXTS) - expected(TEXTS)).max() < 1e-6
    assert clf._runner._session.bound == 1


def test_build_for_processors_runs_there_without_a_word(folder: Path, machine: Any) -> None:
    asked = machine(CPU_BUILD, driver=True)
    assert OnnxClassifier(folder).provider_ == CPU
    assert asked == [[CPU]]


def test_missing_driver_gives_one_warning(folder: Path, machine: Any) -> None:
    asked = machine(GPU_BUILD, driver=False)
    with pytest.warns(RuntimeWarning, match="this machine has no driver for one .*runs on the processor") as caught:
        assert OnnxClassifier(folder).provider_ == CPU
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert asked == [[CPU]]


def test_hidden_gpu_is_no_surprise(folder: Path, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(GPU_BUILD, driver=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert OnnxClassifier(folder).provider_ == CPU


def test_silent_fall_back_of_onnxruntime_is_noticed(folder: Path, machine: Any) -> None:
    machine(GPU_BUILD, driver=True, in_use=CPU)
    with pytest.warns(RuntimeWarning, match="CUDAExecutionProvider was asked for, but onnxruntime runs .* with CPU"):
        assert OnnxClassifier(folder).provider_ == CPU


def test_gpu_that_fails_to_start_is_given_up_with_the_reason(folder: Path, machine: Any) -> None:
    asked = machine(GPU_BUILD, driver=True, error="CUDA failure 100: no CUDA-capable device is detected")
    with pytest.warns(RuntimeWarning, match=r"cannot be used \(CUDA failure 100.*runs on the processor"):
        assert OnnxClassifier(folder).provider_ == CPU
    assert [names(each) for each in asked if each != "preload"] == [[CUDA, CPU], [CPU]]


@pytest.mark.parametrize("requested", ["cuda", "tensorrt", [CUDA], [(CUDA, {"device_id": 1})]])
def test_device_that_was_asked_for_is_used_or_refused(folder: Path, machine: Any, requested: Any) -> None:
    machine(GPU_BUILD, driver=True, in_use=CPU)
    with pytest.raises(ProviderError, match="was asked for, but onnxruntime runs the model with CPUExecutionProvider"):
        OnnxClassifier(folder, requested)
    machine(GPU_BUILD, driver=False)
    with pytest.raises(ProviderError, match="cannot be used: this machine has no NVIDIA driver"):
        OnnxClassifier(folder, requested)
    machine(CPU_BUILD, driver=True)
    with pytest.raises(ProviderError, match=r"is not part of the onnxruntime .*mlclf\[onnx-gpu\]"):
        OnnxClassifier(folder, requested)


def test_list_that_ends_with_the_processor_may_end_there(folder: Path, machine: Any) -> None:
    machine(GPU_BUILD, driver=True, in_use=CPU)
    with pytest.warns(RuntimeWarning, match="runs the model with CPUExecutionProvider"):
        assert OnnxClassifier(folder, [CUDA, CPU]).provider_ == CPU


def test_tensorrt_comes_on_request_only() -> None:
    assert names(choose(None, GPU_BUILD, driver=True).providers) == [CUDA, CPU]
    assert names(choose("tensorrt", GPU_BUILD, driver=True).providers) == [TENSORRT, CUDA, CPU]
    assert names(choose("tensorrt", [TENSORRT, CPU], driver=True).providers) == [TENSORRT, CPU]


def test_options_of_a_provider_are_handed_on() -> None:
    request = choose([(CUDA, {"device_id": 1, "use_tf32": "1"}), CPU], GPU_BUILD, driver=True)
    assert request.providers == ((CUDA, {"device_id": 1, "use_tf32": "1"}), CPU)
    assert not request.required


def test_processor_on_request_asks_nothing_else(folder: Path, machine: Any) -> None:
    asked = machine(GPU_BUILD, driver=True, in_use=CUDA)
    assert OnnxClassifier(folder, "cpu").provider_ == CPU
    assert asked == [[CPU]]


@pytest.mark.parametrize("requested", ["gpu", "CUDA", [], [3], [(1, {})]])
def test_wrong_providers_are_refused(requested: Any) -> None:
    with pytest.raises(OptionsError, match="providers must be"):
        choose(requested, GPU_BUILD, driver=True)


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Make up which packages are installed."""

    def version(package: str) -> str:
        if package.replace("-", "_") not in versions:
            raise importlib.metadata.PackageNotFoundError(package)
        return versions[package.replace("-", "_")]

    monkeypatch.setattr(packages.importlib.metadata, "version", version)


def test_two_packages_are_explained(folder: Path, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(CPU_BUILD, driver=True)
    install(monkeypatch, onnxruntime="1.30.0", onnxruntime_gpu="1.31.1")
    match = r"onnxruntime 1\.30\.0 and onnxruntime-gpu 1\.31\.1 are installed together\. .*pip uninstall -y"
    with pytest.warns(RuntimeWarning, match=match) as caught:
        OnnxClassifier(folder)
    assert len(caught) == 1
    with pytest.raises(ProviderError, match=match):
        OnnxClassifier(folder, "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OnnxClassifier(folder, "cpu")


def test_one_package_is_no_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, onnxruntime_gpu="1.31.1")
    assert packages.conflict() == ""


def test_missing_runtime_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mlclf\[onnx\]' for processors"):
        OnnxClassifier(folder)


def test_half_removed_runtime_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the removal of one of two packages leaves behind: a folder without its content."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(MissingExtraError, match=r"installed in part.*Remove all, then install one"):
        OnnxClassifier(folder)


@pytest.mark.parametrize("value", ["", "-1", " "])
def test_hidden_devices_are_no_driver(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr(providers.ctypes, "CDLL", lambda name: object())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert not has_driver()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert has_driver()


def test_driver_is_looked_for_by_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(providers.ctypes, "CDLL", absent)
    assert not has_driver()
