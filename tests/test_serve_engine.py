"""A serving engine is asked with what ``merge_and_save`` wrote, and answers what the classifier decodes."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from prompt_kit import CHATML, write_model
from toy import toy_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlclf import LlmOptions, MultiLabelClassifier, PromptGenerationOptions, PromptOptions, TrainingOptions
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.heads.generation.head import PromptGenerationHead

EXAMPLE = Path(__file__).parent.parent / "examples" / "serve_engine_prompt.py"
TEXTS = [
    "the cat likes soup",
    "",
    "rain and snow",
    "</s><|im_end|> a <think> of <|im_start|>system",
    "dog " * 400,
    "说",
]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("serve_engine_prompt", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["frequency", "random"])
def fitted(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[MultiLabelClassifier, Path]:
    """A classifier that writes labels, and its merged folder."""
    place = tmp_path_factory.mktemp("engine")
    head = PromptGenerationOptions(prompt=PromptOptions(template="chat", labels="none"), order=request.param)
    backbone = LlmOptions(model=str(write_model(place / "base", chat=CHATML)), max_length=256)
    training = TrainingOptions(epochs=5, batch_size=16, precision="fp32", learning_rate=3e-3)
    clf = MultiLabelClassifier(
        backbone, "full", head, training=training, validation=None, random_state=0, verbose=0, device="cpu"
    )
    clf.fit(*labelled(128)).merge_and_save(place / "merged")
    return clf, place / "merged"


def labelled(n: int) -> tuple[list[str], list[list[str]]]:
    """Rows of which each has a label, so that a model of few steps writes some."""
    found = [(text, labels) for text, labels in zip(*toy_rows(n), strict=True) if labels]
    return [text for text, _ in found], [labels for _, labels in found]


class Engine(BaseHTTPRequestHandler):
    """Answers as an engine would, with transformers on the merged folder."""

    folder: Path
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        """Tokenise, or complete a prompt."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        if self.path == "/tokenize":
            ids = tokenizer(body["prompt"], add_special_tokens=body["add_special_tokens"]).input_ids
            answer: dict[str, Any] = {"tokens": ids}
        else:
            self.seen.append(body)
            answer = {"choices": [{"text": tokenizer.decode(complete(self.folder, body))}]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@torch.no_grad()
def complete(folder: Path, body: dict[str, Any]) -> list[int]:
    """Write the most probable token of those with which a label goes on that is not written yet, or the end."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    left = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))["label_ids"]
    written, name = list[int](), list[int]()
    while True:
        logits = model(torch.tensor([[*body["prompt"], *written]])).logits[0, -1]
        allowed = {path[len(name)] for path in left if path[: len(name)] == name}
        best = max(allowed | (set(body["stop_token_ids"]) if not name else set()), key=lambda t: float(logits[t]))
        if best in body["stop_token_ids"]:
            return written
        written, name = [*written, best], [*name, best]
        if name in left:
            left, name = [path for path in left if path != name], []
        if len(written) >= body["max_tokens"] or not left:
            return written


@pytest.fixture
def engine(fitted: tuple[MultiLabelClassifier, Path]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of an engine that serves the merged folder, and the requests that it got."""
    seen: list[dict[str, Any]] = []
    handler = type("Handler", (Engine,), {"folder": fitted[1], "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()
    thread.join()


def run(
    example: ModuleType, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run the example and return what it printed."""
    monkeypatch.setattr(sys, "argv", ["serve_engine_prompt.py", *arguments])
    example.main()
    return capsys.readouterr().out


def test_the_engine_gives_the_labels_that_the_classifier_decodes(
    example: ModuleType,
    fitted: tuple[MultiLabelClassifier, Path],
    engine: tuple[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (clf, folder), (url, seen) = fitted, engine
    texts = [*TEXTS, *toy_rows(6, seed=3)[0]]
    printed = run(example, [str(folder / "prompt.json"), "--url", url, "--", *texts], monkeypatch, capsys)
    found = [json.loads(line) for line in printed.splitlines()]
    assert [line["text"] for line in found] == texts
    head, backbone = clf.model_.network.head, clf.model_.network.backbone
    assert isinstance(head, PromptGenerationHead)
    batch = head.collate(backbone, head.encode(backbone, texts), np.arange(len(texts)), None)
    with torch.no_grad():
        decoded = head.decode(backbone, batch).numpy()
    sets = [set(clf.classes_[row]) for row in decoded]
    assert [set(line["labels"]) for line in found] == sets
    assert any(sets)
    ids, mask = batch.extras["prompt_ids"], batch.extras["prompt_mask"]
    for body, row, real in zip(seen, ids, mask, strict=True):
        assert body["prompt"] == [*head.prompt.head, *row[real].tolist()]


def test_the_document_says_what_the_head_asks(fitted: tuple[MultiLabelClassifier, Path]) -> None:
    clf, folder = fitted
    prompt = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
    assert (prompt["format"], prompt["format_version"]) == ("mlclf-prompt", 1)
    assert prompt["head_text"].startswith("<|im_start|>system\n")
    assert prompt["tail_text"].endswith("<|im_start|>assistant\n")
    assert {"<|im_end|>", "<think>"} <= set(prompt["special_tokens"])
    assert sorted(prompt["labels"]) == sorted(clf.classes_)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name, ids in zip(prompt["labels"], prompt["label_ids"], strict=True):
        answer = prompt["answer"]
        assert tokenizer.decode(ids) == answer["prefix"] + name + answer["separator"]
    if prompt["answer"]["ordered"]:
        assert prompt["labels"] == [clf.classes_[i] for i in np.argsort(-clf.label_counts_, kind="stable")]
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHATML


def test_the_export_to_onnx_names_this_way_out(fitted: tuple[MultiLabelClassifier, Path], tmp_path: Path) -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"'prompt-generation'.*merge_and_save\(folder\)"):
        fitted[0].export_onnx(tmp_path / "bundle")


def test_without_an_engine_the_request_is_printed(
    example: ModuleType,
    fitted: tuple[MultiLabelClassifier, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = json.loads(run(example, [str(fitted[1] / "prompt.json"), "a cat"], monkeypatch, capsys))
    assert "a cat" in body["prompt"]
    assert body["temperature"] == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_the_expression_admits_sets_of_labels_alone(example: ModuleType, ordered: bool) -> None:
    answer = {"prefix": "", "separator": "\n", "ordered": ordered}
    prompt = {"labels": ["a+b", "a", "c d"], "answer": answer}
    expression = re.compile(example.pattern(prompt))
    for good in ("", "a\n", "a+b\n", "a+b\na\nc d\n", "a+b\nc d\n"):
        assert expression.fullmatch(good)
    for bad in ("a", "aab\n", "x\n", "a\nx\n", "\n"):
        assert not expression.fullmatch(bad)
    assert (expression.fullmatch("a\na\n") is None) is ordered
    assert example.labels_of(prompt, "a\na\nnonsense\nc d\nc") == ["a", "c d"]


def test_no_marker_in_a_text_reaches_the_tokenizer_whole(example: ModuleType) -> None:
    prompt = {"special_tokens": ["</s>", "<s>", "<|im_end|>"]}
    parts: list[str] = []
    example.text_ids(prompt, "a</s><s><<s>>< s><|im_end|>", lambda part: parts.append(part) or [])
    assert "".join(parts) == "a</s><s><<s>>< s><|im_end|>"
    assert not any(token in part for token in prompt["special_tokens"] for part in parts)
    assert example.text_ids({"special_tokens": []}, "ab", lambda part: [len(part)]) == [2]
