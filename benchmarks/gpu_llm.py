"""Training large models: mlclf against transformers.Trainer with peft, and trl's SFTTrainer for generation.

    python benchmarks/gpu_llm.py --out docs/benchmarks                               # needs CUDA
    python benchmarks/gpu_llm.py --device cpu --shapes tiny --steps 8 --length 128   # the same steps on the processor

The models have the shapes of Llama and Qwen and random weights, as cost does not depend on them; nothing is said of
quality. All contenders train updates of rank 16 on all linear layers in bf16 with gradient checkpointing. Every text is
longer than ``--length`` tokens, so that batches have one shape and no padding; ``prompt-generation`` sets tokens aside
for the longest answer, so that its rows are shorter, and only what stands in a batch is counted. Contenders run
in turn, each in a process of its own; the first steps, in which kernels are chosen, are not timed. A contender that
fails, for want of memory for instance, has a row that says so, and its error stands above the table. With ``--keep``
and ``--models`` finished ones are not run again. The share of the
peak counts the products of the linear layers forward and backward, without what checkpointing computes again, against
the fastest product of bf16 matrices in the same process. trl is used where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import kept, markdown_table, matmul_peak, peak_memory, write_report
from forked import run_forked
from gpu_claims import check_device
from gpu_export import device_name, mixed_texts

# Architecture, hidden size, width of the feed-forward layer, layers, heads, heads of keys and values, vocabulary.
SHAPES = {
    "tiny": ("llama", 64, 128, 2, 4, 2, 2_000),
    "llama-1b": ("llama", 2048, 8192, 16, 32, 8, 128_256),
    "qwen-1.5b": ("qwen2", 1536, 8960, 28, 12, 2, 151_936),
    "qwen-7b": ("qwen2", 3584, 18944, 28, 28, 4, 152_064),
    "llama-8b": ("llama", 4096, 14336, 32, 32, 8, 128_256),
}
CONTENDERS: dict[str, dict[str, str]] = {
    "mlclf LoRA, bce": {"loop": "mlclf", "strategy": "lora", "head": "bce"},
    "Trainer + peft LoRA, classification": {"loop": "trainer", "strategy": "lora"},
    "mlclf QLoRA, bce": {"loop": "mlclf", "strategy": "qlora", "head": "bce"},
    "Trainer + peft QLoRA, classification": {"loop": "trainer", "strategy": "qlora"},
    "mlclf LoRA, prompt-generation": {"loop": "mlclf", "strategy": "lora", "head": "prompt-generation"},
    "SFTTrainer LoRA": {"loop": "sft", "strategy": "lora"},
    "mlclf QLoRA, prompt-generation": {"loop": "mlclf", "strategy": "qlora", "head": "prompt-generation"},
    "SFTTrainer QLoRA": {"loop": "sft", "strategy": "qlora"},
}
WARM_UP, ANSWER = 3, 12
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


def main() -> None:
    """Write each model, run the contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=["llama-1b", "qwen-7b"])
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="folder for the results of finished runs")
    parser.add_argument("--models", type=Path, help="folder for the models, which stay there; give it with --keep")
    parser.add_argument("--title", default=None, help="name of the table and of its files")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    check_device(options.device)
    runs = []
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.models or Path(temporary)) / shape
            write_model(shape, folder, options.device)
            runs += [run_contender(options, {"shape": shape, "name": name, "folder": str(folder)})
                     for name in options.only]  # fmt: skip
    report(options, runs)


def run_contender(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """Return what a contender took, or that it failed."""
    job |= {name: getattr(options, name) for name in ("device", "steps", "batch_size", "length")}
    job |= CONTENDERS[job["name"]]
    label = re.sub(r"[^\w-]+", "_", f"gpu_llm-{job['shape']}-{job['name']}")
    try:
        return kept(partial(run_forked, run_job), job, label, options.keep)
    except SystemExit:
        return {**job, "missing": "it failed"}


def write_model(shape: str, folder: Path, device: str) -> None:
    """Write a causal language model with random weights of 16 bits, if it is not there."""
    if (folder / "tokenizer.json").is_file():
        return
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

    from mlclf.testing import tiny_tokenizer

    architecture, hidden, feed_forward, layers, heads, kv_heads, vocabulary = SHAPES[shape]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer("bpe"), pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    config = CONFIG_MAPPING[architecture](
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=feed_forward, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model  # the contenders need the card's memory
    if device != "cpu":
        torch.cuda.empty_cache()


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Train one contender; return its speed, or why it was not run."""
    import torch

    warnings.filterwarnings("ignore")
    if reason := missing(job):
        return {**job, "missing": reason}
    fit = {"mlclf": fit_mlclf, "trainer": fit_trainer, "sft": fit_sft}[job["loop"]]
    clock = Clock(job["device"])
    cells, per_step = fit(job, clock)
    on_gpu = job["device"] != "cpu"
    memory = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_memory()
    tokens = per_step / clock.seconds()
    peak = gpu_peak() if on_gpu else matmul_peak("bf16")
    # Forward and input gradient of frozen weights: two products of a multiplication and an addition each.
    return {**job, "seconds": clock.seconds(), "tokens_per_second": tokens, "memory": memory,
            "peak_share": 4 * cells * tokens / peak, "peak_tflops": peak / 1e12}  # fmt: skip


def missing(job: dict[str, Any]) -> str | None:
    """Return why a contender cannot be run here, or None."""
    from mlclf.plugins.builtins import BUILTINS

    if job["loop"] == "sft" and importlib.util.find_spec("trl") is None:
        return "trl is not installed"
    if job["loop"] == "mlclf" and job["head"] not in {spec.name for spec in BUILTINS["head"]}:
        return f"there is no head {job['head']!r}"
    return None


class Clock:
    """Notes when each step ended, once the device has done what was asked of it."""

    def __init__(self, device: str) -> None:
        self.on_gpu, self.times = device != "cpu", [time.perf_counter()]

    def tick(self) -> None:
        """Note the end of a step."""
        import torch

        if self.on_gpu:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def seconds(self) -> float:
        """Return the median seconds of a step, without the first ones."""
        return float(np.median(np.diff(self.times)[WARM_UP:]))


def rows(job: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return labelled texts, each longer than what is read of it."""
    from mlclf.datasets import make_feedback

    n = job["steps"] * job["batch_size"]
    pool = mixed_texts(n)
    # A text that is not spelled out has more tokens than a fifth of its characters.
    texts = [" ".join(pool[(row + step) % n] for step in range(40))[: 12 * job["length"]] for row in range(n)]
    return texts, make_feedback(n, random_state=0).labels


def linear_cells(model: Any) -> int:
    """Return the weights of the linear layers of a model's stack, counted on its configuration."""
    c = model.config
    head = c.hidden_size // c.num_attention_heads
    attention = 2 * c.hidden_size * head * (c.num_attention_heads + c.num_key_value_heads)
    return int(c.num_hidden_layers * (attention + 3 * c.hidden_size * c.intermediate_size))


def fit_mlclf(job: dict[str, Any], clock: Clock) -> tuple[int, float]:
    """Fit with mlclf; return the weights of the linear layers, and the tokens of a step."""
    from mlclf import LlmOptions, MultiLabelClassifier, TrainingOptions
    from mlclf.training.step import Stepper

    step, done = Stepper.step, list[tuple[Any, Any]]()

    def timed(self: Stepper, batches: Any) -> float:
        loss = step(self, batches)
        clock.tick()
        done.append((self.dataset, batches))
        return loss

    Stepper.step = timed  # type: ignore[method-assign]
    training = TrainingOptions(epochs=1, batch_size=job["batch_size"], precision="bf16", gradient_checkpointing=True)
    clf = MultiLabelClassifier(
        LlmOptions(model=job["folder"], max_length=job["length"], dtype="bfloat16"), job["strategy"], head(job),
        training=training, validation=None, random_state=0, verbose=0, device=job["device"], replay=None,
    )  # fmt: skip
    clf.fit(*rows(job))
    tokens = [int(dataset.batch(part).attention_mask.sum()) for dataset, parts in done for part in parts]
    return linear_cells(clf.model_.network.backbone.model), float(np.mean(tokens))


def head(job: dict[str, Any]) -> Any:
    """Return the head; the prompt is short, as that of the rival is part of the tokens counted."""
    if job["head"] != "prompt-generation":
        return job["head"]
    from mlclf import PromptGenerationOptions, PromptOptions

    return PromptGenerationOptions(prompt=PromptOptions(template="{{ text }}\n\n", labels="none"), max_labels=4)


def token_ids(job: dict[str, Any]) -> list[list[int]]:
    """Return the tokens of the texts, as many of each as are read."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    ids = tokenizer(rows(job)[0], truncation=True, max_length=job["length"])["input_ids"]
    assert all(len(row) == job["length"] for row in ids)
    return ids


def load_peft(job: dict[str, Any], auto_class: Any, task: str, **extra: Any) -> Any:
    """Load a model with transformers, and adapt it with peft as its documentation says."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    if job["strategy"] == "qlora":
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
    model = auto_class.from_pretrained(job["folder"], dtype=torch.bfloat16, device_map=job["device"], **extra)
    if job["strategy"] == "qlora":
        model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    return get_peft_model(model, LoraConfig(**LORA, task_type=task))


def arguments(job: dict[str, Any], kind: Any, out: str, **extra: Any) -> Any:
    """Return the training arguments that Trainer and SFTTrainer share."""
    return kind(
        output_dir=out, per_device_train_batch_size=job["batch_size"], num_train_epochs=1, learning_rate=1e-3,
        bf16=True, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True, use_cpu=job["device"] == "cpu",
        **extra,
    )  # fmt: skip


def ticking(clock: Clock) -> Any:
    """Return a callback that notes the end of each step."""
    from transformers import TrainerCallback

    class Ticking(TrainerCallback):
        """Ticks."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.tick()

    return Ticking()


def fit_trainer(job: dict[str, Any], clock: Clock) -> tuple[int, float]:
    """Fit a sequence classifier with transformers.Trainer and peft; return what :func:`fit_mlclf` returns."""
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments, default_data_collator

    from mlclf.labels import LabelSpace

    labels = rows(job)[1]
    space = LabelSpace.infer(labels)
    targets = space.encode(labels).indicator.toarray().astype(np.float32)
    data = [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": row.tolist()}
            for ids, row in zip(token_ids(job), targets, strict=True)]  # fmt: skip
    model = load_peft(job, AutoModelForSequenceClassification, "SEQ_CLS", num_labels=space.n_labels,
                      problem_type="multi_label_classification")  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        Trainer(
            model, arguments(job, TrainingArguments, out), train_dataset=data, data_collator=default_data_collator,
            callbacks=[ticking(clock)],
        ).train()  # fmt: skip
    return linear_cells(model), float(job["batch_size"] * job["length"])


def fit_sft(job: dict[str, Any], clock: Clock) -> tuple[int, float]:
    """Fit a causal model on the last tokens of each row with trl; return what :func:`fit_mlclf` returns."""
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    ids, start = token_ids(job), [-100] * (job["length"] - ANSWER)
    table = InMemoryTable.from_pydict({"input_ids": ids, "labels": [start + row[-ANSWER:] for row in ids]})
    # A fingerprint and rows that are tokens and labels already: making them fails where dill cannot pickle what
    # pyarrow defines (dill 0.4.1, pyarrow 26, Python 3.12).
    data = Dataset(table, fingerprint="rows")
    model = load_peft(job, AutoModelForCausalLM, "CAUSAL_LM")
    with tempfile.TemporaryDirectory() as out:
        settings = arguments(job, SFTConfig, out, max_length=job["length"], packing=False,
                             dataset_kwargs={"skip_prepare_dataset": True})  # fmt: skip
        SFTTrainer(
            model, settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(job["folder"]),
            callbacks=[ticking(clock)],
        ).train()  # fmt: skip
    return linear_cells(model), float(job["batch_size"] * job["length"])


def gpu_peak() -> float:
    """Return the fastest square product of bf16 matrices of the card in FLOP a second, best of many."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(15):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * 8192**3 / best


def report(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    """Print the table."""
    header = ["shape", "contender", "seconds a step", "tokens/s", "share of the bf16 peak", "peak MiB"]
    lines = [
        [run["shape"], run["name"], f"{run['seconds']:.3f}", f"{run['tokens_per_second']:,.0f}",
         f"{run['peak_share']:.1%} of {run['peak_tflops']:.1f} TFLOP/s", f"{run['memory']:,.0f}"]
        if "missing" not in run else [run["shape"], run["name"], f"not run: {run['missing']}", "", "", ""]
        for run in runs
    ]  # fmt: skip
    title = options.title or ("GPU LLM" if options.device != "cpu" else "GPU LLM dry run")
    table = f"On {device_name(options.device)}:\n\n{markdown_table(header, lines)}"
    write_report(options.out, title, "gpu_llm.py", table, {"runs": runs})


if __name__ == "__main__":
    main()
