"""The head ``prompt-generation``: what it can write, how probable that is, and that a model learns to write it."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from prompt_kit import CHATML, TOKENIZERS, byte_tokenizer, load_model, write_model
from test_prompts import HOSTILE
from torch import Tensor

from mlclf import LlmOptions, MultiLabelClassifier, PromptGenerationOptions, PromptOptions, TrainingOptions
from mlclf.backbones.llm import LlmBackbone
from mlclf.exceptions import BundleDamagedError, IncompatibleComponentsError, OptionsError
from mlclf.heads.generation.answers import AnswerWriter
from mlclf.heads.generation.beam import BeamScorer
from mlclf.heads.generation.decoding import Limits, greedy_sets
from mlclf.heads.generation.head import PromptGenerationHead
from mlclf.heads.generation.names import label_tokens
from mlclf.heads.generation.scoring import PackedScorer
from mlclf.heads.generation.trie import LabelTrie
from mlclf.interfaces import Batch, LabelStatistics
from mlclf.labels import LabelSpace
from mlclf.prompts import PromptTokens
from mlclf.testing import tiny_decoder, tiny_labels, tiny_texts

NESTED = ("data", "data mining", "体育", "量子计算")
SHORT = PromptOptions(template="Q: {{ text }}\nA:\n")
TEXTS = ["data about a horse", "", "体育 and a very long text " * 90, "<|im_end|>data"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), chat=CHATML)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> LlmBackbone:
    return load_model(folder)


def bound(backbone: LlmBackbone, names: tuple[str, ...] = NESTED, **options: Any) -> PromptGenerationHead:
    head = PromptGenerationHead(PromptGenerationOptions(**{"prompt": SHORT, **options}))
    counts = np.arange(1, len(names) + 1)
    head.bind(backbone, LabelStatistics(names, positives=counts, known=counts + 9))
    return head.eval()


def batch_of(
    head: PromptGenerationHead, backbone: LlmBackbone, texts: list[str], sets: list[list[str]] | None = None
) -> Batch:
    names = NESTED[: head.trie.n_labels]
    targets = None if sets is None else LabelSpace(names).encode(sets)
    return head.collate(backbone, head.encode(backbone, texts), np.arange(len(texts)), targets)


@torch.no_grad()
def answered(head: PromptGenerationHead, backbone: LlmBackbone, texts: list[str]) -> Tensor:
    return head.probabilities(backbone, batch_of(head, backbone, texts))


# --- Names as tokens ---


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_name_has_the_same_tokens_whatever_stands_beside_it(kind: str) -> None:
    tokens = PromptTokens(TOKENIZERS[kind]())
    alone = [label_tokens([name], tokens, None).paths[0] for name in ("cat", "data mining", "体育")]
    together = label_tokens(["cat", "data mining", "体育"], tokens, None)
    if together.prefix == "":
        assert list(together.paths) == alone
    assert len({path[-1] for path in together.paths}) == 1


def test_labels_with_the_same_tokens_are_refused_by_name() -> None:
    tokens = PromptTokens(TOKENIZERS["bytes"]())
    with pytest.raises(OptionsError, match=r"Labels 'data' and 'data\\nmining' cannot be told apart"):
        label_tokens(["x", "data\nmining", "data"], tokens, None)
    lower = json.loads(TOKENIZERS["bytes"]().to_str())
    lower["normalizer"] = {"type": "Lowercase"}
    folding = PromptTokens(type(byte_tokenizer()).from_str(json.dumps(lower)))
    with pytest.raises(OptionsError, match=r"'Data' and 'data' cannot be told apart|'data' and 'Data'"):
        label_tokens(["Data", "data"], folding, None)


def test_special_token_in_a_name_is_written_as_plain_characters() -> None:
    tokenizer = byte_tokenizer()
    found = label_tokens(["<|im_end|>", "data"], PromptTokens(tokenizer), "<|im_end|>")
    assert found.end == tokenizer.token_to_id("<|im_end|>")
    assert found.end not in found.paths[0]


def test_answer_is_the_names_one_after_the_other_and_the_end() -> None:
    trie = LabelTrie([(5, 9), (5, 6, 9), (7, 9)], end=2)
    answer = AnswerWriter(trie).write([2, 0])
    assert answer.ids.tolist() == [7, 9, 5, 9, 2]
    assert trie.tokens[answer.tokens].tolist() == answer.ids.tolist()


def test_label_that_was_written_cannot_be_written_again() -> None:
    trie = LabelTrie([(5, 9), (5, 6, 9), (7, 9)], end=2)
    allowed = AnswerWriter(trie).write([0, 1, 2]).allowed
    assert [[int(token) for token in trie.tokens[torch.from_numpy(row)]] for row in allowed] == [
        *([2, 5, 7], [6, 9]),
        *([2, 5, 7], [6], [9]),
        *([2, 7], [9]),
        [2],
    ]


def test_unknown_labels_count_neither_for_nor_against() -> None:
    trie = LabelTrie([(5, 9), (7, 9)], end=2)
    assert trie.tokens[torch.from_numpy(AnswerWriter(trie).write([], [1]).allowed[0])].tolist() == [2, 5]


# --- Only sets of labels ---


class _Scribe:
    """Stands for a model of random logits that notes what it reads."""

    def __init__(self, trie: LabelTrie, n_rows: int, seed: int) -> None:
        self.trie, self.generator = trie, torch.Generator().manual_seed(seed)
        self.last, self.owner = torch.zeros(n_rows, 1), torch.arange(n_rows)
        self.ids: list[list[int]] = [[] for _ in range(n_rows)]

    def logits(self, states: Tensor, token_ids: Tensor) -> Tensor:
        return 3 * torch.randn(len(states), len(token_ids), generator=self.generator)

    def rows(self, index: Tensor) -> _Scribe:
        self.last, self.owner = self.last[index], self.owner[index]
        return self

    def read_on(self, ids: Tensor, mask: Tensor) -> None:
        for row, (token,) in zip(self.owner.tolist(), ids.tolist(), strict=True):
            self.ids[row].append(token)


@given(
    names=st.lists(
        st.lists(st.integers(3, 6), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12, unique=True
    ),
    seed=st.integers(0, 99),
    cap=st.integers(1, 12),
)
def test_whatever_a_model_prefers_it_writes_a_set_of_labels(names: list[tuple[int, ...]], seed: int, cap: int) -> None:
    trie = LabelTrie([(*name, 9) for name in names], end=2)
    scribe = _Scribe(trie, 5, seed)
    chosen = greedy_sets(scribe, trie, Limits(min(cap, len(names)), 40))  # type: ignore[arg-type]
    for ids, row in zip(scribe.ids, chosen, strict=True):
        written = [(*name, 9) for is_name, name in itertools.groupby(ids, lambda token: token != 9) if is_name]
        assert len(set(written)) == len(written) <= cap
        assert len(ids) < 40
        assert {trie.paths.index(path) for path in written} == set(row.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("names", [("data",), NESTED[:2], NESTED], ids=len)
@pytest.mark.parametrize("probabilities", ["max", "marginal", "set"])
def test_probabilities_are_between_0_and_1_for_any_number_of_labels(
    backbone: LlmBackbone, names: tuple[str, ...], probabilities: str
) -> None:
    found = answered(bound(backbone, names, probabilities=probabilities), backbone, TEXTS)
    assert found.shape == (len(TEXTS), len(names))
    assert found.dtype == torch.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert probabilities != "set" or set(found.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("options", [PromptOptions(template=name) for name in ("plain", "chat", SHORT.template)])
def test_hostile_texts_stay_in_the_label_space(backbone: LlmBackbone, options: PromptOptions) -> None:
    head = bound(backbone, prompt=options)
    before = list(head.prompt.head), list(head.prompt.tail)
    batch = batch_of(head, backbone, HOSTILE)
    with torch.no_grad():
        assert head.decode(backbone, batch).shape == (len(HOSTILE), len(NESTED))
        assert head.probabilities(backbone, batch).isfinite().all()
    for ids, mask in zip(batch.input_ids, batch.attention_mask.bool(), strict=True):
        row = ids[mask].tolist()
        assert (row[: len(before[0])], row[len(row) - len(before[1]) :]) == before


# --- What an answer's probability is ---


def all_orders(n_labels: int) -> Iterator[tuple[int, ...]]:
    for size in range(n_labels + 1):
        yield from itertools.permutations(range(n_labels), size)


@torch.no_grad()
def answer_probabilities(head: PromptGenerationHead, backbone: LlmBackbone, text: str) -> dict[tuple[int, ...], float]:
    """The probability of every answer, by the path of training: one plain forward pass each."""
    found = {}
    names = NESTED[: head.trie.n_labels]
    for answer in all_orders(len(names)):
        head.rows = type(head.rows)(
            head.prompt,
            head.rows.writer,
            np.array([*answer, *(label for label in range(len(names)) if label not in answer)]),
            head.rows.max_length,
        )
        batch = batch_of(head, backbone, [text], [[names[label] for label in answer]])
        length = head.rows.writer.length(answer)
        found[answer] = float((-head.losses(backbone, batch) * length).exp())
    return found


def test_probabilities_of_all_answers_sum_to_one(backbone: LlmBackbone) -> None:
    answers = answer_probabilities(bound(backbone, NESTED[:3]), backbone, "data")
    assert sum(answers.values()) == pytest.approx(1, abs=1e-4)


def test_marginal_is_the_probability_of_all_answers_that_name_a_label(backbone: LlmBackbone) -> None:
    head = bound(backbone, NESTED[:3], probabilities="marginal", samples=3000)
    answers = answer_probabilities(head, backbone, "data")
    exact = [sum(p for answer, p in answers.items() if label in answer) for label in range(3)]
    assert answered(head, backbone, ["data"])[0].tolist() == pytest.approx(exact, abs=0.02)


def test_max_is_the_largest_probability_along_the_most_probable_labels(backbone: LlmBackbone) -> None:
    head = bound(backbone, NESTED[:3])
    answers = answer_probabilities(head, backbone, "data")

    def next_label(written: tuple[int, ...]) -> NDArray[Any]:
        starts = [(*written, label) for label in range(3)]
        total = sum(p for answer, p in answers.items() if answer[: len(written)] == written)
        return np.array([sum(p for a, p in answers.items() if a[: len(s)] == s) / total for s in starts])

    best, written = np.zeros(3), ()
    while len(written) < 3:
        step = next_label(written)
        best = np.maximum(best, step)
        if step.max() < 1 - step.sum():
            break
        written = (*written, int(step.argmax()))
    assert answered(head, backbone, ["data"])[0].tolist() == pytest.approx(best.tolist(), abs=1e-4)


def test_chunks_and_a_wide_beam_score_as_one_pass_does(backbone: LlmBackbone) -> None:
    names = (*NESTED, *(f"data {word}" for word in ("horse", "rain", "soup", "map", "train station")))
    head = bound(backbone, names)
    reading = head._read(backbone, batch_of(bound(backbone), backbone, TEXTS))
    left = torch.ones(len(TEXTS), len(names), dtype=torch.bool)
    left[0, 1] = left[1, :3] = False
    with torch.no_grad():
        whole = PackedScorer(head.trie)(reading, left)
        torch.testing.assert_close(PackedScorer(head.trie, chunk=1)(reading, left), whole, rtol=0, atol=1e-4)
        torch.testing.assert_close(BeamScorer(head.trie, 99)(reading, left), whole, rtol=0, atol=1e-4)
        narrow = BeamScorer(head.trie, 2)(reading, left)
    assert whole.exp().sum(dim=1).tolist() == pytest.approx([1] * len(TEXTS), abs=1e-5)
    found = narrow.isfinite()
    assert 0 < found[:, :-1].sum() < whole.isfinite()[:, :-1].sum()
    torch.testing.assert_close(narrow[found], whole[found], rtol=0, atol=1e-4)


@pytest.mark.parametrize("probabilities", ["max", "marginal", "set"])
def test_a_text_is_answered_alike_alone_and_beside_others(backbone: LlmBackbone, probabilities: str) -> None:
    head = bound(backbone, probabilities=probabilities)
    together = answered(head, backbone, TEXTS)
    alone = torch.cat([answered(head, backbone, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
    torch.testing.assert_close(answered(head, backbone, TEXTS), together, rtol=0, atol=0)


def test_both_padding_sides_give_the_same_losses_and_probabilities(folder: Path, backbone: LlmBackbone) -> None:
    left = load_model(folder, padding_side="left")
    sets = [["data"], [], list(NESTED), ["体育", "data mining"]]
    losses = []
    for side in (backbone, left):
        head = bound(side)
        with torch.no_grad():
            losses.append(head.losses(side, batch_of(head, side, TEXTS, sets)))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)
    head = bound(left)
    torch.testing.assert_close(
        answered(head, left, TEXTS), answered(bound(backbone), backbone, TEXTS), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("architecture", ["qwen3", "mistral", "gemma3_text", "gpt2"])
def test_architectures_write_what_they_were_scored_by(tmp_path: Path, architecture: Any) -> None:
    model = load_model(tiny_decoder(architecture, tmp_path))
    head = bound(model, NESTED[:2], prompt=PromptOptions(template="{{ text }}\n", labels="none"))
    answers = answer_probabilities(head, model, "a quiet horse and a bird in the small garden")
    assert sum(answers.values()) == pytest.approx(1, abs=1e-4)


# --- Training ---


def test_text_gives_way_to_instruction_and_answer(backbone: LlmBackbone) -> None:
    head = bound(backbone)
    batch = batch_of(head, backbone, TEXTS, [["data"], [], list(NESTED), []])
    assert batch.input_ids.shape[1] == 512 - (head.limits.tokens - head.rows.writer.length(range(4)))
    row = batch.input_ids[2][batch.attention_mask[2].bool()].tolist()
    answer = head.rows.writer.write([3, 2, 1, 0]).ids.tolist()
    assert row[: len(head.prompt.head)] == list(head.prompt.head)
    assert row[-len(answer) - len(head.prompt.tail) :] == [*head.prompt.tail, *answer]


def test_order_is_by_frequency_given_or_drawn_anew(backbone: LlmBackbone) -> None:
    targets = LabelSpace(NESTED).encode([list(NESTED)])
    rows = np.arange(1)
    assert bound(backbone).rows.labels_of(targets, rows, draw=True) == [[3, 2, 1, 0]]
    assert bound(backbone, order="given").rows.labels_of(targets, rows, draw=True) == [[0, 1, 2, 3]]
    drawn = bound(backbone, order="random").rows
    torch.manual_seed(0)
    first = [tuple(drawn.labels_of(targets, rows, draw=True)[0]) for _ in range(9)]
    torch.manual_seed(0)
    assert [tuple(drawn.labels_of(targets, rows, draw=True)[0]) for _ in range(9)] == first
    assert len(set(first)) > 3


def classifier(folder: Path, strategy: Any = "full", epochs: int = 1, **options: Any) -> MultiLabelClassifier:
    training = {"learning_rate": 3e-3, **options.pop("training", {})}
    backbone = {"max_length": options.pop("max_length", 64), **options.pop("backbone", {})}
    return MultiLabelClassifier(
        LlmOptions(model=str(folder), **backbone),
        strategy,
        PromptGenerationOptions(**{"prompt": SHORT, **options}),
        training=TrainingOptions(epochs=epochs, batch_size=16, precision="fp32", **training),
        random_state=0,
        verbose=0,
        device="cpu",
    )


def rows(n: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    texts = tiny_texts(n, seed=seed)
    return texts, tiny_labels(texts)


@pytest.mark.slow
def test_a_small_model_learns_to_write_labels(tmp_path: Path) -> None:
    folder = write_model(tmp_path, hidden_size=64, intermediate_size=128, initializer_range=0.02)
    clf = classifier(folder, epochs=14).fit(*rows(600))
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < 0.5 * losses[0]
    report = clf.evaluate(*rows(100, seed=1))
    assert report.micro_f1 > 0.85
    sets = clf.model_.network.head
    assert isinstance(sets, PromptGenerationHead)


@pytest.mark.parametrize("strategy", ["full", "lora", "qlora", "bitfit", "ia3", "adapter", "partial"])
def test_strategies_train_save_and_load(folder: Path, tmp_path: Path, strategy: str) -> None:
    if strategy == "bitfit":
        folder = write_model(tmp_path / "model", attention_bias=True)
    clf = classifier(folder, strategy).fit(*rows(32))
    texts = tiny_texts(5, seed=1)
    expected = clf.predict_proba(texts)
    clf.save(tmp_path / "saved")
    loaded = MultiLabelClassifier.load(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(texts), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("strategy", ["lora", "qlora", ["lora", "adapter"]], ids=str)
def test_weights_of_16_bits_and_recomputed_activations_are_learned_from(
    folder: Path, dtype: str, strategy: Any
) -> None:
    training = {"gradient_checkpointing": True}
    clf = classifier(folder, strategy, training=training, backbone={"dtype": dtype}).fit(*rows(32))
    assert np.isfinite(clf.history_.evaluations[-1].train_loss)
    assert np.isfinite(clf.predict_proba(TEXTS)).all()


def test_unknown_labels_of_a_row_are_left_out_of_its_loss(backbone: LlmBackbone) -> None:
    names = ("data", "体育")  # which begin with different tokens
    head, space = bound(backbone, names), LabelSpace(names)
    known, partly = (space.encode(np.array([row])) for row in ([0.0, 0.0], [0.0, np.nan]))
    encoded = head.encode(backbone, ["data"])
    with torch.no_grad():
        losses = [
            float(head.losses(backbone, head.collate(backbone, encoded, np.arange(1), targets)))
            for targets in (known, partly)
        ]
    assert losses[1] < losses[0]  # one label less could have been written instead of the end


@pytest.mark.parametrize(
    ("strategy", "message"), [("head-only", "nothing can be learned"), ("p-tuning", "adds tokens"), ("prefix", "adds")]
)
def test_strategies_that_cannot_go_with_it_are_refused(folder: Path, strategy: str, message: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=message):
        classifier(folder, strategy).fit(*rows(16))


def test_encoders_are_refused(tiny_bert: Path) -> None:
    from mlclf import BertOptions

    with pytest.raises(IncompatibleComponentsError, match="families causal-lm"):
        MultiLabelClassifier(BertOptions(model=str(tiny_bert)), head="prompt-generation").fit(*rows(16))


def test_changed_tokenizer_or_chat_template_is_refused_on_loading(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", chat=CHATML)
    prompt = PromptOptions(template="chat", instruction="Label.", labels="none", system="")
    classifier(folder, "lora", prompt=prompt, max_length=128).fit(*rows(16)).save(tmp_path / "saved")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = CHATML.replace("assistant", "model")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(BundleDamagedError, match="tokens of prompt and labels are not those"):
        MultiLabelClassifier.load(tmp_path / "saved", device="cpu")


def test_bundle_with_its_backbone_keeps_the_chat_template(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", chat=CHATML)
    prompt = PromptOptions(template="chat", instruction="Label.", labels="none", system="")
    clf = classifier(folder, "lora", prompt=prompt, max_length=128).fit(*rows(16))
    clf.save(tmp_path / "saved", include_backbone=True)
    for path in folder.iterdir():
        path.unlink()
    loaded = MultiLabelClassifier.load(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(loaded.predict_proba(["a cat"]), clf.predict_proba(["a cat"]), atol=1e-6)


def test_new_labels_can_be_written_at_once(folder: Path) -> None:
    clf = classifier(folder, "lora").fit(*rows(32))
    clf.add_labels(["music"])
    assert clf.predict_proba(["a cat"]).shape == (1, 5)
    clf.partial_fit(["a song", "a tune"], [["music"], ["music", "animals"]])


def test_export_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleComponentsError, match="prompt-generation"):
        classifier(folder, "lora").fit(*rows(16)).export_onnx(tmp_path / "onnx")


def test_beam_recall_stands_in_the_history(folder: Path) -> None:
    clf = classifier(folder, "lora", beam=1, epochs=1).fit(*rows(40), validation_data=rows(20, seed=1))
    recall = clf.history_.evaluations[0].metrics["beam_recall"]
    assert 0 <= recall < 1


def test_random_orders_are_the_same_under_a_seed(folder: Path) -> None:
    first, second = (classifier(folder, "lora", order="random").fit(*rows(32)) for _ in range(2))
    assert first.history_.evaluations[-1].train_loss == second.history_.evaluations[-1].train_loss


def test_answers_too_long_for_the_model_are_refused_before_training(folder: Path) -> None:
    names = [f"a long name of label number {number}" for number in range(30)]
    with pytest.raises(OptionsError, match=r"labels of one text take \d+ tokens"):
        classifier(folder, "lora").fit(["a", "b"] * 8, [names, names[:1]] * 8)


def test_long_answers_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlclf")
    names = [f"horse {number}" for number in range(9)]
    classifier(folder, "lora").fit(["a", "b"] * 8, [names, names[:1]] * 8)
    assert "texts are cut further in training" in caplog.text
