"""Say everything with options, then once more as a configuration file for the command line.

Options are checked when they are made: a wrong name or value is an error that says what is allowed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from mlclf import BceOptions, MultiLabelClassifier, PartialOptions, TrainingOptions
from mlclf.datasets import make_feedback, save_jsonl
from mlclf.exceptions import OptionsError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=200)
parser.add_argument("--epochs", type=int, default=1)
arguments = parser.parse_args()

train, test = make_feedback(arguments.rows), make_feedback(100, random_state=1)

try:
    BceOptions(dropuot=0.2)
except OptionsError as error:
    print(f"A typing error is found at once: {error}\n")

clf = MultiLabelClassifier(
    backbone="minilm:l6",
    strategy=PartialOptions(last_layers=2),
    head=BceOptions(loss="asymmetric", hidden=(128,), dropout=0.2),
    training=TrainingOptions(epochs=arguments.epochs, batch_size=16, schedule="cosine"),
    thresholds="global",
    random_state=0,
    verbose=0,
)
clf.fit(train.texts, train.labels)
print(f"From Python:           micro-F1 {clf.evaluate(test.texts, test.labels).micro_f1:.3f}")

CONFIGURATION = f"""
data: {{train: train.jsonl}}
out: model
backbone: minilm:l6
strategy: {{name: partial, last_layers: 2}}
head: {{name: bce, loss: asymmetric, hidden: [128], dropout: 0.2}}
training: {{epochs: {arguments.epochs}, batch_size: 16, schedule: cosine}}
thresholds: global
random_state: 0
"""

with tempfile.TemporaryDirectory() as folder:
    save_jsonl(train, Path(folder, "train.jsonl"))
    save_jsonl(test, Path(folder, "test.jsonl"))
    Path(folder, "config.yaml").write_text(CONFIGURATION, encoding="utf-8")

    def mlclf(*words: str) -> str:
        """Run the command line and return what it prints."""
        command = [sys.executable, "-c", "from mlclf.cli.app import main; main()", *words]
        return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

    mlclf("train", "--config", "config.yaml", "--quiet")
    report = json.loads(mlclf("evaluate", "model", "test.jsonl", "--json"))
    print(f"From the command line: micro-F1 {report['micro_f1']:.3f}")
