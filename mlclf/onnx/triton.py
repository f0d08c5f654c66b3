"""Triton: an exported folder as a model of a repository of NVIDIA's Triton Inference Server."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from mlclf.exceptions import OptionsError
from mlclf.files import check_replaceable, replace_folder
from mlclf.onnx.folder import GRAPH_NAME, MANIFEST_NAME, README_NAME, TOKENIZER_NAME, WEIGHTS_NAME
from mlclf.onnx.manifest import INPUTS, LABELS_OUTPUT, OnnxManifest
from mlclf.onnx.outputs import check_outputs
from mlclf.onnx.session import OnnxClassifier

_VERSION, _CONFIG, _LABELS = "1", "config.pbtxt", "labels.txt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

_TYPES = {"logits": "TYPE_FP32", "probabilities": "TYPE_FP32", LABELS_OUTPUT: "TYPE_INT8"}

_TEXT = """\
# Written by mlclf {mlclf}. Clients tokenise with tokenizer.json; manifest.json says how texts are cut and padded.
name: "{name}"
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [
{inputs}
]
output [
{outputs}
]
# Only requests of one length are put into a batch: pad to a few lengths, such as 32, 64, 128.
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
"""


def write_triton(
    bundle: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    name: str = "classifier",
    *,
    max_batch_size: int = 64,
    max_queue_delay: int = 2000,
) -> Path:
    """Write an exported folder as a model of a Triton model repository.

    The outputs of the written graph are compared with those of the runtime. Torch is not needed.

    Parameters
    ----------
    bundle : path
        Written by ``MultiLabelClassifier.export_onnx``.
    repository : path
        Folder of models; made where it is absent. The model ``name`` in it is replaced, other models stay.
    name : str
        Name under which the server offers the model.
    max_batch_size : int
        Most rows that the server puts together.
    max_queue_delay : int
        Microseconds that a request waits for others.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    OptionsError
        If the name or a number is out of range, or the folder of that name holds something else.
    BundleError
        If the exported folder is damaged.
    ParityError
        If the outputs of the written graph are not the runtime's.

    Examples
    --------
    >>> write_triton("bundle", "models", name="../elsewhere")
    Traceback (most recent call last):
    ...
    mlclf.exceptions.OptionsError: name must consist of letters, digits, '_', '.' and '-', got '../elsewhere'.
    """
    if max_batch_size < 1 or max_queue_delay < 0:
        raise OptionsError(
            f"max_batch_size must be at least 1 and max_queue_delay at least 0, got {max_batch_size} and "
            f"{max_queue_delay}."
        )
    target = triton_folder(repository, name)
    source = Path(bundle)
    runtime = OnnxClassifier(source, "cpu")
    manifest = runtime.manifest_
    with replace_folder(target) as work:
        graph = _copy(source, work, has_weights=WEIGHTS_NAME in manifest.files)
        (work / _LABELS).write_text("".join(f"{_line(name)}\n" for name in manifest.labels), encoding="utf-8")
        (work / _CONFIG).write_text(_config(manifest, name, max_batch_size, max_queue_delay), encoding="utf-8")
        texts = manifest.golden.texts
        check_outputs(graph, work / TOKENIZER_NAME, manifest, texts, runtime.predict_proba(texts))
    return target


def triton_folder(repository: str | os.PathLike[str], name: str) -> Path:
    """Return the folder of a model in a repository, or say why it cannot be written.

    Parameters
    ----------
    repository : path
    name : str

    Returns
    -------
    Path

    Raises
    ------
    OptionsError
        If the name is none, or the folder of that name holds something else.
    """
    if not _NAME.fullmatch(name):
        raise OptionsError(f"name must consist of letters, digits, '_', '.' and '-', got {name!r}.")
    target = Path(repository) / name
    check_replaceable(target, ours=(target / _CONFIG).is_file(), what="a model of a Triton repository")
    return target


def _copy(bundle: Path, work: Path, *, has_weights: bool) -> Path:
    """Copy the files to where the server looks for them, and return the graph's place."""
    for name in (MANIFEST_NAME, TOKENIZER_NAME, README_NAME):
        if (bundle / name).is_file():
            shutil.copyfile(bundle / name, work / name)
    graph = work / _VERSION / GRAPH_NAME
    graph.parent.mkdir()
    if not has_weights:
        shutil.copyfile(bundle / GRAPH_NAME, graph)
        return graph
    # With weights in a file of their own, the server wants a folder in the place of the graph.
    graph.mkdir()
    for name in (GRAPH_NAME, WEIGHTS_NAME):
        shutil.copyfile(bundle / name, graph / name)
    return graph / GRAPH_NAME


def _config(manifest: OnnxManifest, name: str, max_batch_size: int, delay: int) -> str:
    inputs = [f'  {{ name: "{name}" data_type: TYPE_INT64 dims: [ -1 ] }}' for name in INPUTS]
    outputs = [_output(name, len(manifest.labels)) for name in manifest.graph.outputs]
    return _TEXT.format(
        mlclf=manifest.mlclf,
        name=name,
        max_batch_size=max_batch_size,
        inputs=",\n".join(inputs),
        outputs=",\n".join(outputs),
        delay=delay,
    )


def _output(name: str, n_labels: int) -> str:
    # The server's classification extension answers with the names of the most probable labels.
    names = f' label_filename: "{_LABELS}"' if name == "probabilities" else ""
    return f'  {{ name: "{name}" data_type: {_TYPES[name]} dims: [ {n_labels} ]{names} }}'


def _line(label: str | int) -> str:
    """Return a label as one line: the server numbers labels by lines."""
    return " ".join(str(label).split())
