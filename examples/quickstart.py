"""Quickstart: fine-tune a small language model on labelled texts, look at it, use it, save it and load it.

    python examples/quickstart.py                        on messages to an online shop that mlclf makes itself
    python examples/quickstart.py --data FOLDER          on train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz of a folder
    python examples/quickstart.py "Where is my parcel?"  with labels for your own sentences

The model is MiniLM (22 million parameters), the strategy LoRA: two cores need two or three minutes.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np

from mlclf import LoraOptions, MultiLabelClassifier, TrainingOptions
from mlclf.datasets import Dataset, load_jsonl, make_feedback

SHOP_SENTENCES = [
    "The parcel came two weeks late and the lid of the teapot is cracked.",
    "Your advisor was so patient with my mother, thank you!",
    "Please delete my account, and tell me who has seen my data.",
    "I would be lying if I said that the website was a pleasure to use.",
    "We had just moved to York.",
]
MOOD_SENTENCES = [
    "Thank you so much, this made my day!",
    "How could they do this to her? It makes me sick.",
    "I wonder what happens next, but I am a bit scared.",
]


def main() -> None:
    arguments = parse_arguments()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    train, validation, test = read(arguments)
    print(f"{len(train)} texts to learn from, {len(test)} to test on, {len(train.classes)} labels. The first one:")
    print(f"  {train.texts[0]!r} -> {', '.join(map(str, train.labels[0])) or '(none)'}\n")

    started = time.perf_counter()
    clf = MultiLabelClassifier(
        backbone="minilm:l6",
        strategy=LoraOptions(r=16),
        head="bce",
        training=TrainingOptions(epochs=arguments.epochs),
        classes=train.classes,
        random_state=0,
    )
    clf.fit(train.texts, train.labels, validation_data=(validation.texts, validation.labels))
    learned, total = clf.history_.n_trainable, clf.history_.n_parameters
    print(f"Trained in {time.perf_counter() - started:.0f} s: {learned:,} of {total:,} parameters learned.\n")

    print(clf.evaluate(test.texts, test.labels))

    print("\nLabels of new sentences, and the most probable label of each:")
    columns, probabilities = clf.predict_topk(arguments.sentences, k=1)
    for sentence, labels, column, p in zip(
        arguments.sentences, clf.predict_labels(arguments.sentences), columns, probabilities, strict=True
    ):
        print(f"  {sentence}\n    -> {', '.join(labels) or '(none)'}   [{clf.classes_[column[0]]} {p[0]:.2f}]")

    show_that_it_survives_saving(clf, test.texts[:200], arguments.out)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune MiniLM with LoRA, evaluate, predict, save and load.")
    parser.add_argument("sentences", nargs="*", help="sentences to label")
    parser.add_argument("--data", type=Path, help="folder with train, dev and test.jsonl.gz (texts and label lists)")
    parser.add_argument("--rows", type=int, help="training rows at most (default: 1600, with --data 6000; 0 for all)")
    parser.add_argument("--epochs", type=int, help="passes over the rows (default: 4, with --data 2)")
    parser.add_argument("--out", type=Path, help="folder to save the model in (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.rows is None:
        arguments.rows = 6000 if arguments.data else 1600
    arguments.epochs = arguments.epochs or (2 if arguments.data else 4)
    arguments.sentences = arguments.sentences or (MOOD_SENTENCES if arguments.data else SHOP_SENTENCES)
    return arguments


def read(arguments: argparse.Namespace) -> tuple[Dataset, Dataset, Dataset]:
    """Return training, validation and test rows."""
    if arguments.data is None:
        rows = arguments.rows or 10_000
        held_out = max(20, min(400, rows // 4))
        return make_feedback(rows), make_feedback(held_out, random_state=1), make_feedback(held_out, random_state=2)
    train, validation, test = (load_jsonl(arguments.data / f"{name}.jsonl.gz") for name in ("train", "dev", "test"))
    if not arguments.rows or arguments.rows >= len(train):
        return train, validation, test
    rows = np.random.default_rng(0).permutation(len(train))[: arguments.rows]
    share = max(1, len(train) // arguments.rows)
    few = [data.take(range(0, len(data), share)) for data in (validation, test)]
    return train.take(rows), few[0], few[1]


def show_that_it_survives_saving(clf: MultiLabelClassifier, texts: list[str], out: Path | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary, "model")
        clf.save(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        loaded = MultiLabelClassifier.load(folder)
        same = np.array_equal(loaded.predict_proba(texts), clf.predict_proba(texts))
        assert loaded.predict_labels(texts) == clf.predict_labels(texts)
        print(f"\nSaved ({size / 1e6:.1f} MB) and loaded: the same labels for {len(texts)} texts", end="")
        print(", and bit for bit the same probabilities." if same else ".")
        if out is not None:
            print(f"The model is in {out}: mlclf predict {out} FILE")


if __name__ == "__main__":
    main()
