"""Stores of sequences: each token has a position, padding has none, and tokens return to their places in a batch."""

import copy

import pytest
import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.data import Examples, identity_collate
from limbeck.errors import StoreError
from limbeck.models import heads
from limbeck.models.heads import Head
from limbeck.store import Dense, Hidden, Sampled, StoredTeacher, TopK, build_store, verify
from limbeck.teachers import LiveTeacher

ROWS, V = 20, 64


def language_model(seed, width):
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=V, hidden_size=width, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    ).eval()  # fmt: skip


class Sequences:
    """Sequences of several lengths, padded on the right or on the left to the longest one in the batch."""

    def __init__(self, side="right"):
        generator = torch.Generator().manual_seed(0)
        self.side = side
        lengths = torch.randint(2, 13, (ROWS,), generator=generator).tolist()
        self.texts = [torch.randint(3, V, (n,), generator=generator) for n in lengths]

    def __call__(self, rows):
        longest = max(len(self.texts[row]) for row in rows)
        ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            n = len(self.texts[row])
            at = slice(0, n) if self.side == "right" else slice(longest - n, longest)
            ids[i, at], mask[i, at] = self.texts[row], 1
        return {"input_ids": ids, "attention_mask": mask}


def examples(side="right"):
    return Examples(Sequences(side), torch.zeros(ROWS))


def build(folder, codec, **options):
    return build_store(language_model(0, 16), examples(), folder, codec, **dict(batch_size=3, shard_rows=7) | options)


def batch_of(rows, side="right"):
    return {**Sequences(side)(rows), "example_id": torch.tensor(rows)}


ORDER = [19, 0, 7, 6, 13, 2]


@pytest.mark.parametrize("side", ["right", "left"])
def test_every_token_has_the_teachers_logits(tmp_path, side):
    build(tmp_path, Dense("float32"))
    batch = batch_of(ORDER, side)
    got = StoredTeacher(tmp_path)(batch).logits
    truth = LiveTeacher(language_model(0, 16))(batch_of(ORDER)).logits
    mask, right = batch["attention_mask"].bool(), batch_of(ORDER)["attention_mask"].bool()
    assert got.shape == truth.shape
    torch.testing.assert_close(got[mask], truth[right], rtol=1e-4, atol=1e-5)
    assert (got[~mask] == 0).all()
    assert verify(tmp_path) == []


@pytest.mark.parametrize("codec", [Dense(), TopK(4), Hidden(dtype="float32")], ids=lambda codec: type(codec).__name__)
def test_a_store_is_built_without_whole_logits(tmp_path, codec, monkeypatch):
    rows = []
    monkeypatch.setattr(
        Head,
        "logits",
        lambda self, hidden, own=Head.logits: (rows.append(hidden[..., 0].numel()), own(self, hidden))[1],
    )
    monkeypatch.setattr(heads, "rows_in_chunk", lambda *_: 8)
    build(tmp_path / "parts", codec)
    assert max(rows) == 8
    monkeypatch.setattr(LiveTeacher, "find_head", lambda *_: None)
    build(tmp_path / "whole", codec)
    parts, whole = (StoredTeacher(tmp_path / name)(batch_of(ORDER)) for name in ("parts", "whole"))
    if parts.logits is None:
        assert torch.equal(parts.targets.ids, whole.targets.ids)
        parts, whole = parts.targets.log_probs, whole.targets.log_probs
    else:
        parts, whole = parts.logits, whole.logits
    torch.testing.assert_close(parts, whole)


def test_sparse_formats_list_nothing_at_padding(tmp_path):
    batch = batch_of(ORDER)
    mask = batch["attention_mask"].bool()
    truth = LiveTeacher(language_model(0, 16))(batch).logits
    build(tmp_path / "topk", TopK(4, (2.0,), "float32"))
    targets = StoredTeacher(tmp_path / "topk")(batch).targets
    assert torch.equal(targets.ids[mask], truth.topk(4).indices[mask])
    assert (targets.ids[~mask] == -1).all()
    torch.testing.assert_close(
        targets.at(2.0)[mask], (truth / 2).log_softmax(-1).topk(4).values[mask], rtol=1e-4, atol=1e-5
    )
    build(tmp_path / "sampled", Sampled(5))
    assert StoredTeacher(tmp_path / "sampled")(batch).targets.ids.shape == (*mask.shape, 5)


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path):
    for codec in (TopK(4), Sampled(5)):
        build(tmp_path / codec.name / "one", codec)
        for rank in (1, 0):
            build(tmp_path / codec.name / "two", codec, rank=rank, world_size=2)
        one, two = (
            {path.name: path.read_bytes() for path in (tmp_path / codec.name / name).iterdir()}
            for name in ("one", "two")
        )
        assert one == two
        assert len(one) == 6


def test_hidden_states_of_every_token(tmp_path):
    build(tmp_path, Hidden("float32"))
    batch = batch_of(ORDER)
    mask = batch["attention_mask"].bool()
    truth = LiveTeacher(language_model(0, 16))(batch).logits
    torch.testing.assert_close(StoredTeacher(tmp_path)(batch).logits[mask], truth[mask], rtol=1e-4, atol=1e-5)


def test_another_tokenisation_is_refused(tmp_path):
    build(tmp_path, Dense("float32"))
    batch = batch_of(ORDER)
    cut = {name: value[:, :5] if value.dim() == 2 else value for name, value in batch.items()}
    with pytest.raises(StoreError, match=r"example \d+ has \d+ tokens in the store and 5 in the batch"):
        StoredTeacher(tmp_path)(cut)
    with pytest.raises(StoreError, match="attention_mask: missing"):
        StoredTeacher(tmp_path)({"example_id": batch["example_id"]})


class Batches(Dataset):
    """A data set that returns whole batches, as ``Examples`` does, with the tokens themselves as labels."""

    def __len__(self):
        return ROWS

    def __getitems__(self, indices):
        batch = batch_of(list(indices))
        return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


@pytest.mark.parametrize(
    ("codec", "fused_loss"),
    [(Dense("float32"), "auto"), (TopK(V, (2.0,), "float32"), True), (Hidden("float32"), True)],
    ids=["dense", "topk", "hidden"],
)
def test_a_student_of_the_store_equals_a_student_of_the_live_teacher(tmp_path, codec, fused_loss):
    build(tmp_path / "store", codec)
    students = []
    for teacher in (language_model(0, 16), StoredTeacher(tmp_path / "store")):
        student = copy.deepcopy(language_model(1, 8))
        args = DistillationArguments(
            output_dir=str(tmp_path / "run"), temperature=2.0, alpha=0.7, max_steps=8, per_device_train_batch_size=5,
            learning_rate=1e-2, save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
            logging_steps=4, use_cpu=True, fused_loss=fused_loss if isinstance(teacher, StoredTeacher) else False,
        )  # fmt: skip
        trainer = DistillationTrainer(student, teacher, args, identity_collate, Batches())
        trainer.train()
        students.append(student.state_dict())
    assert any(
        not torch.equal(x, y)
        for x, y in zip(students[0].values(), language_model(1, 8).state_dict().values(), strict=True)
    )
    for name, live in students[0].items():
        torch.testing.assert_close(students[1][name], live, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("codec", [Dense("float32"), TopK(4), Sampled(3), Hidden("float32")], ids=repr)
def test_a_token_without_probabilities_is_named_by_its_example(tmp_path, codec):
    """Whatever the padding and the batch, the ids are those of the texts with the token."""
    token, model = int(Sequences().texts[11][-1]), language_model(0, 16)
    model.get_input_embeddings().weight.data[token] = torch.nan
    wrong = [row for row, text in enumerate(Sequences().texts) if token in text.tolist()]
    others = [row for row in range(ROWS) if row not in wrong]
    some = examples().subset(torch.arange(others[0], ROWS))
    with pytest.raises(StoreError, match=r"^teacher: ") as caught:
        build_store(model, some, tmp_path, codec, batch_size=ROWS)
    expected = [row for row in wrong if row > others[0]]
    assert str(caught.value).endswith(f" Ids of the examples: {', '.join(map(str, expected))}.")
