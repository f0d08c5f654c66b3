"""Graphs that lead out of their folder are refused before they are loaded."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_kit import TEXTS, expected, make_manifest, write_folder

from mlclf.exceptions import BundleDamagedError
from mlclf.onnx import OnnxClassifier
from mlclf.onnx.graph_file import check_references
from mlclf.testing.exported import tiny_graph


def outside(location: str) -> onnx.TensorProto:
    """A tensor that stands in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "secret")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def initializer(graph: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    graph.graph.initializer.append(tensor)


def constant(graph: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    graph.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def branch(graph: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    output = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    body = helper.make_graph([helper.make_node("Identity", ["secret"], ["x"])], "body", [], [output], [tensor])
    graph.graph.node.append(helper.make_node("If", ["when"], ["y"], then_branch=body, else_branch=body))


def sparse(graph: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    indices = numpy_helper.from_array(np.arange(4), "indices")
    graph.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [4]))


def function(graph: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    graph.functions.append(helper.make_function("d", "f", [], ["c"], [node], [helper.make_opsetid("", 20)]))


PLACES = [initializer, constant, branch, sparse, function]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["/etc/passwd", "../model.onnx.data", "./model.onnx.data", ""])
def test_weights_from_elsewhere_are_refused(tmp_path: Path, place: object, location: str) -> None:
    graph = tiny_graph()
    place(graph, outside(location))  # type: ignore[operator]
    folder = write_folder(tmp_path / "model", graph)
    with pytest.raises(BundleDamagedError, match=rf"takes weights from '{location}'; .* Do not use this folder"):
        OnnxClassifier(folder, "cpu")


@pytest.mark.parametrize("place", PLACES)
def test_weights_beside_the_graph_are_allowed(tmp_path: Path, place: object) -> None:
    graph = tiny_graph()
    place(graph, outside("model.onnx.data"))  # type: ignore[operator]
    onnx.save(graph, tmp_path / "model.onnx")
    check_references(tmp_path / "model.onnx")


def test_weights_in_a_second_file_are_used_and_checked(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    onnx.save(
        tiny_graph(), folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=64
    )
    manifest = make_manifest().write(folder)
    assert "model.onnx.data" in manifest.files
    clf = OnnxClassifier(folder, "cpu", selftest=True)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected(TEXTS), atol=1e-6)
    content = (folder / "model.onnx.data").read_bytes()
    (folder / "model.onnx.data").write_bytes(content[:-4])
    with pytest.raises(BundleDamagedError, match=r"model\.onnx\.data was altered or truncated"):
        OnnxClassifier(folder, "cpu")
    (folder / "model.onnx.data").unlink()
    with pytest.raises(BundleDamagedError, match=r"model\.onnx\.data is missing"):
        OnnxClassifier(folder, "cpu")


@pytest.mark.parametrize(
    "content", [b"", b"not a graph at all", b"\x3a\xff\xff\xff\xff\x0f", b"\x80" * 40, b"\x00\x0b"]
)
def test_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write_folder(tmp_path / "model")
    (folder / "model.onnx").write_bytes(content)
    make_manifest().write(folder)
    with pytest.raises(BundleDamagedError, match=r"model\.onnx"):
        OnnxClassifier(folder, "cpu")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """A message in a message, a thousand times over: a graph of a node of an attribute of a graph ..."""
    data = b""
    for number in [6, 5, 1] * 400:
        data = bytes([number << 3 | 2]) + varint(len(data)) + data
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes([7 << 3 | 2]) + varint(len(data)) + data)
    with pytest.raises(BundleDamagedError, match="is no ONNX graph"):
        check_references(path)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


@given(content=st.binary(max_size=200))
def test_no_content_breaks_the_check(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "model.onnx"
    path.write_bytes(content)
    with contextlib.suppress(BundleDamagedError):
        check_references(path)


@given(place=st.integers(0, 5000), value=st.integers(0, 255))
def test_no_damage_breaks_the_check(place: int, value: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(tiny_graph().SerializeToString())
    content[place % len(content)] = value
    path = tmp_path_factory.mktemp("any") / "model.onnx"
    path.write_bytes(content)
    with contextlib.suppress(BundleDamagedError):
        check_references(path)
