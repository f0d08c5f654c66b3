"""Peak memory and time of a training step of generation, by where output logits are computed.

    python benchmarks/generation_memory.py --out docs/benchmarks

A small causal model of random weights with a vocabulary of 152,000 tokens learns by LoRA from 8 texts of 512 tokens.
The step is the same but for the logits: of all places and tokens (what ``labels=`` of a transformers model computes),
of the answer's places, or of the answer's places and the tokens of the label trie (the head ``prompt-generation``).
Each is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, peak_memory, run_isolated, write_report

KINDS = {
    "none": "no output layer",
    "all": "all places, all tokens",
    "answer": "answer's places, all tokens",
    "trie": "answer's places, trie's tokens",
}
VOCABULARY, ROWS, LENGTH, LABELS, APPLYING = 152_000, 8, 512, 100, 4


def main() -> None:
    """Measure each kind and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        runs = {kind: run_isolated(__file__, {"kind": kind, "folder": folder}, threads=1) for kind in KINDS}
    table = [
        [name, *(f"{runs[kind][key]:,.{digits}f}" for key, digits in (("step", 0), ("seconds", 2), ("loss", 3)))]
        for kind, name in KINDS.items()
    ]
    header = ["output logits", "peak memory of a step, MiB", "processor seconds", "loss"]
    write_report(
        options.out, "Generation memory", "generation_memory.py", markdown_table(header, table), {"runs": runs}
    )


def write_model(folder: Path) -> None:
    """Write the model with its tokenizer, whose vocabulary is filled up with words that no text has."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from mlclf.testing import tiny_tokenizer

    tokenizer = tiny_tokenizer("bpe")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.token_to_id("<pad>"),
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def run_job(job: dict[str, Any]) -> dict[str, float]:
    """Run one step; its peak is what the process took at most beyond what it held before."""
    import torch

    from mlclf import LlmOptions, LoraOptions, PromptGenerationOptions
    from mlclf.assembly import build_network, resolve_parts
    from mlclf.interfaces import LabelStatistics
    from mlclf.labels import LabelSpace

    names = tuple(f"topic number {number}" for number in range(LABELS))
    counts = np.full(LABELS, 10)
    torch.manual_seed(0)
    parts = resolve_parts(LlmOptions(model=job["folder"]), LoraOptions(), PromptGenerationOptions())
    network, _ = build_network(parts, LabelStatistics(names, positives=counts, known=2 * counts))
    head, backbone = network.head.eval(), network.backbone
    texts = ["a quiet horse and a bird in the small garden " * 200] * ROWS
    targets = LabelSpace(names).encode([list(names[row : row + APPLYING]) for row in range(ROWS)])
    batch = head.collate(backbone, head.encode(backbone, texts), np.arange(ROWS), targets)
    before, start = resident(), time.process_time()
    loss = loss_of(job["kind"], network, batch)
    loss.backward()
    return {
        "step": peak_memory() - before,
        "seconds": time.process_time() - start,
        "loss": float(loss.detach()),
        "length": batch.input_ids.shape[1],
    }


def loss_of(kind: str, network: Any, batch: Any) -> Any:
    """Return the loss whose logits are computed in one of the ways."""
    import torch
    from torch.nn.functional import cross_entropy

    head, backbone = network.head, network.backbone
    if kind == "trie":
        return head.losses(backbone, batch).mean()
    states = backbone.token_states(batch)
    if kind == "none":
        return states.pow(2).mean()
    owner, place = batch.extras["answer_row"], batch.extras["answer_place"]
    token = head.trie.tokens[batch.extras["answer_token"]]
    if kind == "answer":
        return cross_entropy(backbone.vocabulary(states[owner, place]).float(), token)
    labels = torch.full(batch.input_ids.shape, -100)
    labels[owner, place] = token
    logits = backbone.vocabulary(states.flatten(0, 1)).float()
    return cross_entropy(logits, labels.flatten())


def resident() -> float:
    """Return this process's resident memory in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
