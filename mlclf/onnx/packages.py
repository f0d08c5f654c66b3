"""The onnxruntime that is installed: present, whole, and only one of its packages."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from mlclf.exceptions import MissingExtraError

# Distributions that all unpack into one folder, onnxruntime/.
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


def import_runtime() -> Any:
    """Import onnxruntime.

    Returns
    -------
    module

    Raises
    ------
    MissingExtraError
        If it is absent, or was left in pieces by the removal of a second package; the message says what to install.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"onnxruntime cannot be imported: {error}. Install one of: pip install 'mlclf[onnx]' for processors, "
            f"pip install 'mlclf[onnx-gpu]' for NVIDIA GPUs. {conflict()}".rstrip()
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise MissingExtraError(
            "onnxruntime is installed in part: one of its packages was removed, and took files of another one along. "
            f"{_REMEDY}"
        )
    return onnxruntime


def conflict() -> str:
    """Explain why several packages of onnxruntime are one too many; empty where there is one, or none.

    Returns
    -------
    str
        Names and versions, what goes wrong, and the commands that mend it.
    """
    found = [f"{name} {version}" for name in _PACKAGES if (version := _version(name))]
    if len(found) < 2:
        return ""
    return (
        f"{' and '.join(found)} are installed together. They unpack into one folder, where the one installed last "
        f"overwrites the other. {_REMEDY}"
    )


_REMEDY = (
    "Remove all, then install one: pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'mlclf[onnx]' for "
    "processors or pip install 'mlclf[onnx-gpu]' for NVIDIA GPUs."
)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
