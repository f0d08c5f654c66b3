"""Ask a serving engine for the labels of texts, with what `merge_and_save` wrote: Python's standard library suffices.

    vllm serve merged/ --served-model-name labels
    python examples/serve_engine_prompt.py merged/prompt.json --url http://localhost:8000 "My parcel is late."

merged/ was written by clf.merge_and_save("merged/") for a classifier with the head "prompt-generation". The engine is
any that answers POST /tokenize and POST /v1/completions as vLLM does. Without --url the request is printed, with the
text as it is instead of its tokens, which only the engine knows.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tokenize = Callable[[str], list[int]]


def main() -> None:
    """Print the labels of each text, or the request that asks for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", type=Path, help="prompt.json, beside the merged weights")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--url", help="of the engine, such as http://localhost:8000")
    parser.add_argument("--model", default="labels", help="the name that the engine serves it under")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an answer")
    options = parser.parse_args()
    prompt = json.loads(options.prompt.read_text(encoding="utf-8"))
    for text in options.texts:
        if options.url is None:
            print(json.dumps(dry_request(prompt, options.model, text), ensure_ascii=False, indent=1))
        else:
            print(json.dumps({"text": text, "labels": ask(prompt, options, text)}, ensure_ascii=False))


def ask(prompt: dict[str, Any], options: argparse.Namespace, text: str) -> list[str]:
    """Return the labels that the engine gives a text."""

    def tokenize(part: str) -> list[int]:
        body = {"model": options.model, "prompt": part, "add_special_tokens": False}
        ids: list[int] = post(f"{options.url}/tokenize", body, options.timeout)["tokens"]
        return ids

    ids = text_ids(prompt, text, tokenize)
    whole = [*prompt["head_ids"], *ids[: prompt["text_tokens"]], *prompt["tail_ids"]]
    answer = post(f"{options.url}/v1/completions", request(prompt, options.model, whole), options.timeout)
    return labels_of(prompt, answer["choices"][0]["text"])


def text_ids(prompt: dict[str, Any], text: str, tokenize: Tokenize) -> list[int]:
    """Return the ids of a text in which nothing is a special token, whatever stands in it.

    An engine would read "</s>" in a text as the end of it. Each such marker is tokenised in two parts, neither of which
    is one.
    """
    inside = [f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in prompt["special_tokens"]]
    parts = re.split("|".join(inside), text) if inside else [text]
    return [index for part in parts if part for index in tokenize(part)]


def request(prompt: dict[str, Any], model: str, whole: Any) -> dict[str, Any]:
    """Return the body of a request: the prompt, and what may be answered."""
    answer = prompt["answer"]
    return {
        "model": model,
        "prompt": whole,
        "temperature": 0,
        "max_tokens": answer["max_tokens"],
        "stop_token_ids": answer["stop_ids"],
        "structured_outputs": {"regex": pattern(prompt)},
    }


def pattern(prompt: dict[str, Any]) -> str:
    """Return a regular expression of all answers.

    Where the model was trained to name labels in one order, each may come once, in that order; otherwise any may come
    at any place, also again, and `labels_of` takes it once.
    """
    answer = prompt["answer"]
    names = [re.escape(answer["prefix"] + name + answer["separator"]) for name in prompt["labels"]]
    if answer["ordered"]:
        return "".join(f"({name})?" for name in names)
    return f"({'|'.join(names)})*"


def labels_of(prompt: dict[str, Any], text: str) -> list[str]:
    """Return the labels that an answer names; whatever is no label is left out."""
    answer = prompt["answer"]
    known = {answer["prefix"] + name: name for name in prompt["labels"]}
    return list(dict.fromkeys(known[part] for part in text.split(answer["separator"]) if part in known))


def dry_request(prompt: dict[str, Any], model: str, text: str) -> dict[str, Any]:
    """Return the request with the prompt in words."""
    return request(prompt, model, prompt["head_text"] + text + prompt["tail_text"])


def post(url: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Send JSON and return the JSON that comes back."""
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=timeout) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


if __name__ == "__main__":
    main()
