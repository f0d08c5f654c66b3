"""The HTTP service of the examples, over real HTTP: every client gets its own answer, and faults are named."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx_kit import TEXTS, write_folder

from mlclf.onnx import OnnxClassifier

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

SCRIPT = Path(__file__).parent.parent / "examples" / "serve_fastapi.py"
WORDS = " ".join(TEXTS[:40]).split()


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    """The example, imported."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("serve_fastapi", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve_fastapi"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("onnx") / "model")


@pytest.fixture(scope="module")
def clf(folder: Path) -> OnnxClassifier:
    return OnnxClassifier(folder, "cpu", threads=1)


class Recorder:
    """A classifier that notes the sizes of its batches, and may be slow or fail."""

    def __init__(self, clf: OnnxClassifier, seconds: float = 0.0) -> None:
        self.clf, self.seconds, self.sizes = clf, seconds, []

    def predict_proba(self, texts: list[str]) -> Any:
        self.sizes.append(len(texts))
        time.sleep(self.seconds)
        if "boom" in texts:
            raise RuntimeError("the model failed")
        return self.clf.predict_proba(texts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.clf, name)


@contextmanager
def running(app: Any) -> Iterator[Any]:
    """Run a service in a thread; gives the server, whose ``port`` is the one to call."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=20))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        server.port = server.servers[0].sockets[0].getsockname()[1]
        yield server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the service did not stop"


def wait_until(happened: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def call(port: int, body: Any = None, path: str = "/predict", **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Ask once on a connection of its own: status, content and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            data = body if isinstance(body, bytes | Iterator) else json.dumps(body).encode()
            sent = {"content-type": "application/json", **headers}
            connection.request("POST", path, data, sent, encode_chunked=isinstance(body, Iterator))
        response = connection.getresponse()
        return response.status, json.loads(response.read()), {k.lower(): v for k, v in response.getheaders()}
    finally:
        connection.close()


def right(clf: OnnxClassifier, texts: list[str]) -> list[dict[Any, float]]:
    """What the service should answer: label and probability of the labels that apply."""
    names, p, applies = clf.classes_.tolist(), clf.predict_proba(texts), clf.predict(texts)
    return [
        {names[column]: pytest.approx(float(row[column]), abs=1e-6) for column in np.flatnonzero(chosen)}
        for row, chosen in zip(p, applies, strict=True)
    ]


def given(answer: Any) -> list[dict[Any, float]]:
    return [{found["label"]: found["probability"] for found in results} for results in answer["results"]]


def test_each_of_many_clients_gets_its_own_answers(serve: ModuleType, clf: OnnxClassifier) -> None:
    recorder = Recorder(clf)

    def client(seed: int) -> int:
        rng = np.random.default_rng(seed)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for _ in range(15):
            texts = [" ".join(rng.choice(WORDS, size=rng.integers(0, 30))) for _ in range(rng.integers(1, 6))]
            connection.request("POST", "/predict", json.dumps({"texts": texts}), {"content-type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            assert given(json.loads(content)) == right(clf, texts)
        connection.close()
        return 15

    with running(serve.create_app(recorder)) as server, ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(client, range(32))) == 32 * 15
    assert len(recorder.sizes) < 32 * 15, "requests were not joined"
    assert max(recorder.sizes) <= serve.Limits.max_batch


def test_requests_beyond_a_batch_are_spread_over_several(serve: ModuleType, clf: OnnxClassifier) -> None:
    recorder = Recorder(clf, seconds=0.05)
    limits = serve.Limits(max_batch=4)
    with running(serve.create_app(recorder, limits)) as server, ThreadPoolExecutor(12) as pool:
        asked = [TEXTS[i : i + 1 + i % 3] for i in range(12)]
        answers = list(pool.map(lambda texts: call(server.port, {"texts": texts}), asked))
        large = call(server.port, {"texts": TEXTS})
    for texts, (status, answer, _) in zip([*asked, TEXTS], [*answers, large], strict=True):
        assert status == 200
        assert given(answer) == right(clf, texts)
    assert sorted(recorder.sizes)[-2] <= 4
    assert max(recorder.sizes) == len(TEXTS), "a request is never split"


def test_best_labels_and_threshold(serve: ModuleType, clf: OnnxClassifier) -> None:
    with running(serve.create_app(clf)) as server:
        _, answer, _ = call(server.port, {"texts": TEXTS[:8], "top_k": 2, "threshold": 0})
        _, none, _ = call(server.port, {"texts": TEXTS[:2], "threshold": 1})
    indices, p = clf.predict_topk(TEXTS[:8], 2)
    for results, columns, values in zip(answer["results"], indices, p, strict=True):
        assert [found["label"] for found in results] == [clf.classes_[column] for column in columns]
        assert [found["probability"] for found in results] == pytest.approx(values.tolist(), abs=1e-6)
    assert none == {"results": [[], []]}


WRONG: list[tuple[Any, int, str]] = [
    ({"texts": []}, 422, "texts: List should have at least 1 item"),
    ({"texts": "one text"}, 422, "texts: Input should be a valid list"),
    ({"texts": ["fine", 3]}, 422, r"texts\.1: Input should be a valid string"),
    ({"texts": [None]}, 422, r"texts\.0: Input should be a valid string"),
    ({}, 422, "texts: Field required"),
    ([], 422, "Input should be a valid dictionary"),
    ({"texts": ["a"], "topk": 3}, 422, "topk: Extra inputs are not permitted"),
    ({"texts": ["a"], "top_k": 0}, 422, "top_k: Input should be greater than or equal to 1"),
    ({"texts": ["a"], "top_k": "3"}, 422, "top_k: Input should be a valid integer"),
    ({"texts": ["a"], "threshold": 1.5}, 422, "threshold: Input should be less than or equal to 1"),
    (b'{"texts": ["a"', 422, "JSON decode error"),
    (b'{"texts": ["a"], "threshold": NaN}', 422, "threshold"),
    (b'{"texts": ["\\ud800 half"]}', 422, "half a surrogate pair in row 0"),
    (b'{"texts": ["\xff"]}', 400, "error parsing the body"),
    (b"", 422, "Field required"),
    ({"texts": ["a"] * 11}, 422, "texts has 11 entries; at most 10 are allowed"),
    ({"texts": ["a", "b" * 101]}, 422, r"texts\.1 has 101 characters; at most 100 are allowed"),
    ({"texts": ["a" * 200_000]}, 413, r"larger than 4096 bytes\. Send fewer texts"),
]


@pytest.fixture(scope="module")
def small(serve: ModuleType, clf: OnnxClassifier) -> Iterator[int]:
    """The port of a service with small limits."""
    with running(serve.create_app(clf, serve.Limits(max_texts=10, max_characters=100, max_body=4096))) as server:
        yield server.port


@pytest.mark.parametrize(("body", "status", "message"), WRONG)
def test_fault_of_the_client_is_named(small: int, body: Any, status: int, message: str) -> None:
    found, answer, _ = call(small, body)
    assert found == status
    assert re.search(message, answer["detail"])
    assert len(answer["detail"]) < 300
    assert call(small, {"texts": ["a cat"]})[0] == 200


def test_body_of_unknown_length_is_bounded(small: int) -> None:
    pieces = iter([b'{"texts": ["', *[b"a" * 1000] * 10, b'"]}'])
    assert call(small, pieces)[0] == 413


def test_other_paths_methods_and_content(small: int) -> None:
    assert call(small, path="/nothing")[0] == 404
    assert call(small, path="/predict")[0] == 405
    assert call(small, {"texts": ["a"]}, **{"content-type": "text/plain"})[0] == 422


def test_health_and_readiness(small: int) -> None:
    assert call(small, path="/health")[:2] == (200, {"status": "ok"})
    assert call(small, path="/ready")[:2] == (
        200,
        {"status": "ready", "labels": 4, "provider": "CPUExecutionProvider"},
    )


def test_too_many_waiting_texts_are_turned_away(serve: ModuleType, clf: OnnxClassifier) -> None:
    limits = serve.Limits(max_waiting=4, max_batch=1)
    with running(serve.create_app(Recorder(clf, seconds=0.3), limits)) as server, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: call(server.port, {"texts": [text]}), TEXTS[:16]))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 503}
        assert all(headers["retry-after"] == "1" for status, _, headers in answers if status == 503)
        assert call(server.port, {"texts": TEXTS[:1]})[0] == 200
    for text, (status, answer, _) in zip(TEXTS, answers, strict=False):
        if status == 200:
            assert given(answer) == right(clf, [text])


def test_failure_of_one_request_leaves_the_others_alone(serve: ModuleType, clf: OnnxClassifier) -> None:
    recorder = Recorder(clf, seconds=0.05)
    asked = [[text] for text in [*TEXTS[:5], "boom", *TEXTS[5:10]]]
    with running(serve.create_app(recorder)) as server, ThreadPoolExecutor(11) as pool:
        answers = list(pool.map(lambda texts: call(server.port, {"texts": texts}), asked))
    for texts, (status, answer, _) in zip(asked, answers, strict=True):
        if texts == ["boom"]:
            assert (status, answer) == (500, {"detail": "The model failed on this request; the log says why."})
        else:
            assert given(answer) == right(clf, texts)


def test_client_that_goes_away_harms_nobody(serve: ModuleType, clf: OnnxClassifier) -> None:
    with running(serve.create_app(Recorder(clf, seconds=0.1))) as server:
        for _ in range(5):
            gone = http.client.HTTPConnection("127.0.0.1", server.port)
            gone.request("POST", "/predict", json.dumps({"texts": TEXTS[:3]}), {"content-type": "application/json"})
            gone.close()
        status, answer, _ = call(server.port, {"texts": TEXTS[3:5]})
    assert status == 200
    assert given(answer) == right(clf, TEXTS[3:5])


def test_requests_in_hand_are_answered_before_the_end(serve: ModuleType, clf: OnnxClassifier) -> None:
    recorder = Recorder(clf, seconds=0.3)
    limits = serve.Limits(max_batch=2)
    with running(serve.create_app(recorder, limits)) as server, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(call, server.port, {"texts": [text]}) for text in TEXTS[:8]]
        wait_until(lambda: len(recorder.sizes) >= 1 and len(server.server_state.connections) == 8)
        server.should_exit = True
        for text, answer in zip(TEXTS, asked, strict=False):
            status, content, _ = answer.result()
            assert status == 200
            assert given(content) == right(clf, [text])
    with pytest.raises(ConnectionError):
        call(server.port, {"texts": ["late"]})


def test_script_serves_and_stops_when_told(folder: Path, clf: OnnxClassifier) -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), "--port", "0", "--providers", "cpu", "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stderr is not None
        port = next(int(m[1]) for line in process.stderr if (m := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
        wait_until(lambda: call(port, path="/ready")[0] == 200)
        assert given(call(port, {"texts": TEXTS[:3]})[1]) == right(clf, TEXTS[:3])
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(30) in (0, -signal.SIGTERM)
    assert "Traceback" not in rest


def test_script_does_not_start_with_a_damaged_folder(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is not an exported model" in done.stderr
