"""Execution providers: on which device a graph runs, and whether it really does.

onnxruntime itself is silent where a device cannot be used: it lists what its build knows, not what the machine has, and
goes on with the processor. Here a device that was asked for is an error if it is not in use, and a device that was
merely hoped for gives one warning.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mlclf.exceptions import OptionsError, ProviderError
from mlclf.onnx.packages import conflict, import_runtime

logger = logging.getLogger(__name__)

Options: TypeAlias = dict[str, Any]
Provider: TypeAlias = str | tuple[str, Options]
Requested: TypeAlias = str | Sequence[Provider] | None

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

# TF32 keeps ten bits of a factor, and would move probabilities by more than an exported model may. The arena grows by
# what is asked for instead of by doubling, so that a large batch does not take the memory of other processes.
_CUDA: Provider = (CUDA, {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"})

_BY_NAME: dict[str, tuple[Provider, ...]] = {
    "cpu": (CPU,),
    "cuda": (_CUDA, CPU),
    "tensorrt": (TENSORRT, _CUDA, CPU),
}


@dataclass(frozen=True)
class Request:
    """Which providers to ask for.

    Parameters
    ----------
    providers : tuple of str or (str, dict)
        In order of preference.
    required : bool
        Whether the first one must be in use in the end.
    problem : str
        Why a device that was hoped for is not among them; empty where none is missing.
    """

    providers: tuple[Provider, ...]
    required: bool = False
    problem: str = ""

    @property
    def first(self) -> str:
        """Name of the provider that should do the work."""
        return _name(self.providers[0])


def choose(requested: Requested, available: Sequence[str], *, driver: bool) -> Request:
    """Decide which providers to ask onnxruntime for.

    Parameters
    ----------
    requested : {"cpu", "cuda", "tensorrt"}, sequence of providers, or None
        None takes a GPU where there is one. A name is binding. A sequence is onnxruntime's own form, names or
        ``(name, options)`` in order of preference; it is binding unless it ends with the processor's provider.
    available : sequence of str
        Providers that onnxruntime was built with.
    driver : bool
        Whether the machine has an NVIDIA driver.

    Returns
    -------
    Request

    Raises
    ------
    OptionsError
        If there is no such name.
    ProviderError
        If the build lacks a provider, or the machine the driver, that was asked for.

    Examples
    --------
    >>> choose(None, ["CPUExecutionProvider"], driver=True).first
    'CPUExecutionProvider'
    >>> choose("cuda", ["CPUExecutionProvider"], driver=True)
    Traceback (most recent call last):
    ...
    mlclf.exceptions.ProviderError: CUDAExecutionProvider is not part of the onnxruntime that is installed, which ...
    """
    if requested is None:
        return _automatic(available, driver=driver)
    request = _explicit(requested)
    lacking = [name for name in map(_name, request.providers) if name not in available]
    # The providers behind the first one of "tensorrt" merely help out.
    if isinstance(requested, str):
        lacking = [name for name in lacking if name == request.first]
    if lacking:
        raise ProviderError(
            f"{lacking[0]} is not part of the onnxruntime that is installed, which has {', '.join(available)}. For "
            f"NVIDIA GPUs: pip install 'mlclf[onnx-gpu]' in place of 'mlclf[onnx]'. {conflict()}".rstrip()
        )
    if request.required and request.first in (CUDA, TENSORRT) and not driver:
        raise ProviderError(
            f"{request.first} cannot be used: this machine has no NVIDIA driver (libcuda). Pass providers='cpu', or "
            "None to take a GPU where there is one."
        )
    return Request(tuple(p for p in request.providers if _name(p) in available), request.required)


def open_session(path: Path, options: Any, requested: Requested) -> tuple[Any, str]:
    """Load a graph on the device that was asked for, and make sure that it is there.

    Parameters
    ----------
    path : Path
        The graph.
    options : onnxruntime.SessionOptions
    requested : {"cpu", "cuda", "tensorrt"}, sequence of providers, or None
        See :func:`choose`.

    Returns
    -------
    session : onnxruntime.InferenceSession
    warning : str
        What the user should know about the device; empty where all is as asked for.

    Raises
    ------
    ProviderError
        If a provider that was asked for is not in use.
    """
    runtime = import_runtime()
    request = choose(requested, runtime.get_available_providers(), driver=has_driver())
    if request.first in (CUDA, TENSORRT):
        _preload(runtime)
    session, problem = _open(runtime, path, options, request)
    if not problem and _in_use(session) != request.first:
        problem = f"{request.first} was asked for, but onnxruntime runs the model with {_in_use(session)}. {_HINT}"
    if problem and request.required:
        raise ProviderError(problem)
    return session, " ".join(text for text in (problem or request.problem, _conflict_on(requested)) if text)


def has_driver() -> bool:
    """Return whether this process may use an NVIDIA GPU, as far as its driver's library tells."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


_HINT = (
    "Look for a line of onnxruntime above that names the library it could not load; pip install 'mlclf[onnx-gpu]' "
    "brings CUDA and cuDNN along."
)


def _automatic(available: Sequence[str], *, driver: bool) -> Request:
    if CUDA not in available:
        return Request((CPU,))
    if driver:
        return Request((_CUDA, CPU))
    hidden = "CUDA_VISIBLE_DEVICES" in os.environ
    problem = (
        "" if hidden else "onnxruntime was built for NVIDIA GPUs, but this machine has no driver for one (libcuda)"
    )
    return Request((CPU,), problem=problem and f"{problem}: the model runs on the processor.")


def _explicit(requested: str | Sequence[Provider]) -> Request:
    if isinstance(requested, str):
        if requested not in _BY_NAME:
            raise OptionsError(
                f"providers must be {', '.join(map(repr, _BY_NAME))}, None, or a list of onnxruntime's providers, got "
                f"{requested!r}."
            )
        return Request(_BY_NAME[requested], required=True)
    providers = tuple(requested)
    if not providers or not all(isinstance(_name(provider), str) for provider in providers):
        raise OptionsError(f"providers must be names or (name, options) of onnxruntime's providers, got {requested!r}.")
    return Request(providers, required=_name(providers[-1]) != CPU or len(providers) == 1)


def _open(runtime: Any, path: Path, options: Any, request: Request) -> tuple[Any, str]:
    """Load the graph; on the processor where the device that was hoped for fails, with the reason."""
    try:
        # enable_fallback: onnxruntime would print to standard output and change devices by itself.
        session = runtime.InferenceSession(path, options, providers=list(request.providers), enable_fallback=0)
    except Exception as error:
        if request.required or request.first == CPU:
            raise
        session = runtime.InferenceSession(path, options, providers=[CPU], enable_fallback=0)
        return session, f"{request.first} cannot be used ({error}): the model runs on the processor. {_HINT}"
    return session, ""


def _in_use(session: Any) -> str:
    return str(session.get_providers()[0])


def _preload(runtime: Any) -> None:
    """Load CUDA and cuDNN out of the nvidia wheels, where the dynamic linker would not look for them."""
    if hasattr(runtime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            runtime.preload_dlls()
        if printed.getvalue():
            logger.info("While loading CUDA: %s", printed.getvalue().strip())


def _conflict_on(requested: Requested) -> str:
    """Explain two packages of onnxruntime to those who did not say which device they want."""
    return conflict() if requested is None else ""


def _name(provider: Provider) -> str:
    return provider[0] if isinstance(provider, tuple) else provider
