"""Serving: throughput and waiting times of examples/serve_fastapi.py under concurrent clients, over HTTP.

    python benchmarks/serving.py --data GOEMOTIONS --out docs/benchmarks
    python benchmarks/serving.py --data GOEMOTIONS --bundle MODEL --requests 200    # a dry run on an exported folder

Each client sends one text at a time over its own connection and waits for the answer, which is compared with the
runtime's own. "joined" is the service as it is; "one by one" is the same service with batches of one request. Clients
and service share the cores of one machine, as far as it has any to share.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, read_split, write_report

SCRIPT = Path(__file__).parent.parent / "examples" / "serve_fastapi.py"
MODES = {"joined": [], "one by one": ["--max-batch", "1"]}
CLIENTS = (1, 8, 32)


def main() -> None:
    """Export a model, load the service with clients, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="an exported folder; one is made where none is given")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--requests", type=int, default=2000, help="of all clients together")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    texts = read_split(options.data, "test", 1000)[0]
    with tempfile.TemporaryDirectory() as folder:
        bundles = {"given": options.bundle} if options.bundle else export(options, Path(folder))
        runs = [
            {"precision": precision, "mode": mode, "clients": clients,
             **measure(bundle, texts, clients, options.requests, arguments)}
            for precision, bundle in bundles.items()
            for mode, arguments in MODES.items()
            for clients in CLIENTS
        ]  # fmt: skip
    header = ["model", "requests", "clients", "requests a second", "p50 ms", "p99 ms", "wrong answers"]
    rows = [
        [run["precision"], run["mode"], str(run["clients"]), f"{run['throughput']:.0f}", f"{run['p50']:.1f}",
         f"{run['p99']:.1f}", str(run["wrong"])]
        for run in runs
    ]  # fmt: skip
    write_report(options.out, "Serving", "serving.py", markdown_table(header, rows), {"runs": runs})


def export(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Fit a model for a moment, and export it; what it learned does not change how long it takes."""
    from mlclf import MultiLabelClassifier, TrainingOptions

    clf = MultiLabelClassifier("minilm:l6", training=TrainingOptions(epochs=1), verbose=0, random_state=0)
    clf.fit(*read_split(options.data, "train", 500))
    for precision in options.precisions:
        clf.export_onnx(folder / precision, precision=precision)
    return {precision: folder / precision for precision in options.precisions}


def measure(bundle: Path, texts: list[str], clients: int, requests: int, arguments: list[str]) -> dict[str, float]:
    """Start the service, let the clients ask, and compare every answer."""
    from mlclf.onnx import OnnxClassifier

    expected = [set(labels) for labels in OnnxClassifier(bundle, "cpu").predict_labels(texts)]
    waits: list[float] = []
    wrong: list[int] = []
    with service(bundle, arguments) as port:
        ask(port, texts, expected, range(64), [], [])  # until everything is warm
        shares = [range(start, requests, clients) for start in range(clients)]
        threads = [threading.Thread(target=ask, args=(port, texts, expected, share, waits, wrong)) for share in shares]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
    if len(waits) != requests:
        sys.exit(f"{requests - len(waits)} requests got no answer.")
    p50, p99 = np.quantile(waits, [0.5, 0.99]) * 1000
    return {"throughput": requests / seconds, "p50": float(p50), "p99": float(p99), "wrong": len(wrong)}


def ask(
    port: int, texts: list[str], expected: list[set[Any]], numbers: Any, waits: list[float], wrong: list[int]
) -> None:
    """Send some texts one after the other over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number in numbers:
        row = number % len(texts)
        start = time.perf_counter()
        body = json.dumps({"texts": [texts[row]]})
        connection.request("POST", "/predict", body, {"content-type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        waits.append(time.perf_counter() - start)
        if {found["label"] for found in answer["results"][0]} != expected[row]:
            wrong.append(row)
    connection.close()


@contextmanager
def service(bundle: Path, arguments: list[str]) -> Iterator[int]:
    """Run the example as a user starts it; gives its port."""
    command = [sys.executable, str(SCRIPT), str(bundle), "--port", "0", "--providers", "cpu", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _port(process)
        finally:
            process.terminate()


def _port(process: subprocess.Popen[str]) -> int:
    """Return the port that the service says it listens at, and go on reading what it says."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"running on http://[^:]+:(\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return int(found[1])
    sys.exit("The service did not start.")


if __name__ == "__main__":
    main()
