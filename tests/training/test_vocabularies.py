"""Teacher and student meet token by token: padding is cut, another id is refused, whatever is known about the tokenizers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from limbeck import DistillationArguments, DistillationTrainer, distillation_loss
from limbeck.data import Examples
from limbeck.errors import ArgumentError
from limbeck.store import Dense, Hidden, Sampled, StoredTeacher, TopK, build_store
from limbeck.teachers import Ensemble, LiveTeacher
from limbeck.training.vocabularies import SharedVocabulary
from support.texts import word_tokenizer

WORDS = [f"w{i}" for i in range(20)]
TOKENS = len(WORDS) + 2
IDS = torch.arange(32).reshape(4, 8) % TOKENS


def texts(rows):
    return {"input_ids": IDS[rows], "attention_mask": torch.ones_like(IDS[rows])}


def gpt2(columns, seed=0, cls=GPT2LMHeadModel, **options):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=columns, n_embd=8, n_layer=1, n_head=1, n_positions=8, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        initializer_range=1.0, **options,
    )  # fmt: skip
    return cls(config).eval()


def saved(folder, model, tokenizer):
    """Return the model as a user loads it, from a folder that has its tokenizer too."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return type(model).from_pretrained(folder)


def trainer_of(folder, student, teacher, **options):
    args = DistillationArguments(
        str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no", max_steps=1,
        per_device_train_batch_size=4, alpha=0.5, temperature=2.0, learning_rate=0.0,
    )  # fmt: skip
    data = [texts([i]) | {"labels": row[None], "example_id": torch.tensor([i])} for i, row in enumerate(IDS)]
    data = [{name: value[0] for name, value in row.items()} for row in data]
    return DistillationTrainer(student, teacher, args, train_dataset=data, eval_dataset=data, **options)


def loss_of(trainer):
    rows = [trainer.train_dataset[i] for i in range(4)]
    batch = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}
    return trainer.compute_loss(trainer.model, batch)


def expected_loss(student, teacher, columns):
    with torch.no_grad():
        ours, theirs = (model(input_ids=IDS).logits[:, :-1, :columns].double() for model in (student, teacher))
    return distillation_loss(ours, theirs, IDS[:, 1:], temperature=2.0, alpha=0.5).item()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vocabularies")


@pytest.mark.parametrize(("teacher_columns", "student_columns"), [(32, 24), (24, 32), (24, 24)])
def test_padding_alone_is_cut_in_training_and_evaluation(folder, teacher_columns, student_columns):
    teacher = saved(folder / f"teacher{teacher_columns}", gpt2(teacher_columns, 1), word_tokenizer(WORDS))
    student = gpt2(student_columns)
    trainer = trainer_of(folder, student, teacher, processing_class=word_tokenizer(WORDS))
    assert loss_of(trainer).item() == pytest.approx(expected_loss(student, teacher, 24), rel=1e-5)
    assert trainer.train().global_step == 1
    assert 0 < trainer.evaluate()["eval_loss"] < 100


@settings(max_examples=10, deadline=None)
@given(st.permutations(WORDS))
def test_the_same_words_in_another_order_are_refused(folder, words):
    given = dict(processing_class=word_tokenizer(WORDS), teacher_tokenizer=word_tokenizer(words))
    if words == WORDS:
        trainer_of(folder, gpt2(24), gpt2(24, 1), **given)
        return
    with pytest.raises(
        ArgumentError, match=r"^teacher: \d+ ids do not stand for the same token in both tokenizers: \d+ is 'w"
    ):
        trainer_of(folder, gpt2(24), gpt2(24, 1), **given)


def test_tokenizers_that_are_found_are_compared(folder):
    """Each side's own folder, the argument, and the data's tokenizer: all lead to the same comparison."""
    other = word_tokenizer(WORDS[::-1])
    teacher = saved(folder / "teacher", gpt2(24, 1), word_tokenizer(WORDS))
    student = saved(folder / "student", gpt2(24), other)
    for teacher_of_any_kind in (
        teacher,
        LiveTeacher(teacher),
        Ensemble([teacher], temperature=2.0),
        str(folder / "teacher"),
    ):
        with pytest.raises(ArgumentError, match="teacher: 20 ids do not stand"):
            trainer_of(folder, student, teacher_of_any_kind)
        trainer_of(folder, student, teacher_of_any_kind, processing_class=word_tokenizer(WORDS))
    trainer_of(folder, student, teacher, teacher_tokenizer=other)
    with pytest.raises(ArgumentError, match="teacher: 20 ids do not stand"):
        trainer_of(folder, gpt2(24), lambda batch: teacher(batch["input_ids"]), processing_class=word_tokenizer(WORDS),
                   teacher_tokenizer=other).train()  # fmt: skip

    class Texts:
        tokenizer = word_tokenizer(WORDS)

    examples = Examples(Texts(), torch.zeros(3))  # pyright: ignore[reportArgumentType]
    args = DistillationArguments(str(folder), use_cpu=True)
    DistillationTrainer(student, teacher, args, train_dataset=examples)
    Texts.tokenizer = other
    with pytest.raises(ArgumentError, match="teacher: 20 ids do not stand"):
        DistillationTrainer(gpt2(24), teacher, args, train_dataset=examples)


def test_other_widths_without_a_tokenizer_are_refused_and_the_argument_is_named(folder):
    with pytest.raises(ArgumentError, match="processing_class: the teacher has 32 output columns and the student 24"):
        loss_of(trainer_of(folder, gpt2(24), gpt2(32, 1)))
    with pytest.raises(ArgumentError, match="teacher_tokenizer: the teacher has 24 output columns and the student 32"):
        loss_of(trainer_of(folder, gpt2(32), gpt2(24, 1), processing_class=word_tokenizer(WORDS)))
    loss_of(trainer_of(folder, gpt2(24), gpt2(24, 1)))  # nothing is known, and nothing differs


def test_tokens_after_the_shared_columns_are_cut_and_others_are_not(folder):
    """A padding token that was added to one model alone, with its column or without."""
    more = word_tokenizer(WORDS)
    more.add_tokens(["<think>"])
    words = word_tokenizer(WORDS)
    student, teacher = gpt2(TOKENS + 1), gpt2(TOKENS, 1)
    for tokenizers in ((more, words), (words, more)):
        trainer = trainer_of(folder, student, teacher, processing_class=tokenizers[0], teacher_tokenizer=tokenizers[1])
        assert loss_of(trainer).item() == pytest.approx(expected_loss(student, teacher, TOKENS), rel=1e-5)
    with pytest.raises(ArgumentError, match=r"1 id does not stand .* 22 is no token for the teacher and '<think>' for"):
        trainer_of(folder, student, gpt2(TOKENS + 1), processing_class=more, teacher_tokenizer=words)


class TestClassifiers:
    """Their columns are classes, but both read the same token ids."""

    def models(self):
        return [gpt2(TOKENS, seed, GPT2ForSequenceClassification, num_labels=3) for seed in (0, 1)]

    def test_a_teacher_that_reads_other_ids_is_refused(self, folder):
        student, teacher = self.models()
        teacher = saved(folder / "classifier", teacher, word_tokenizer(WORDS[::-1]))
        with pytest.raises(ArgumentError, match="The same ids would be read as other texts"):
            trainer_of(folder, student, teacher, processing_class=word_tokenizer(WORDS))
        trainer_of(folder, student, teacher, processing_class=word_tokenizer(WORDS[::-1]))

    def test_a_teacher_may_know_more_tokens_than_the_data(self, folder):
        student, teacher = self.models()
        more = word_tokenizer([*WORDS, "more"])
        trainer_of(folder, student, teacher, processing_class=word_tokenizer(WORDS), teacher_tokenizer=more)
        with pytest.raises(
            ArgumentError, match=r"1 id does not stand .* 22 is no token for the teacher and 'more' for"
        ):
            trainer_of(folder, student, teacher, processing_class=more, teacher_tokenizer=word_tokenizer(WORDS))


class TestStores:
    def build(self, folder, codec, columns=32, **options):
        teacher = gpt2(columns, 1)
        build_store(teacher, Examples(texts, torch.zeros(4)), folder, codec, **options)
        return teacher

    @pytest.mark.parametrize("codec", [Dense("float32"), Hidden("float32")], ids=repr)
    def test_a_store_of_all_logits_is_cut_like_the_teacher(self, tmp_path, codec):
        teacher, student = self.build(tmp_path, codec, tokenizer=word_tokenizer(WORDS)), gpt2(24)
        trainer = trainer_of(tmp_path, student, str(tmp_path), processing_class=word_tokenizer(WORDS))
        assert loss_of(trainer).item() == pytest.approx(expected_loss(student, teacher, 24), rel=1e-4)

    def test_classes_of_a_sparse_store_that_are_cut_become_a_part_of_the_rest(self, tmp_path):
        self.build(tmp_path, TopK(32, (2.0,), "float32"), tokenizer=word_tokenizer(WORDS))
        targets = StoredTeacher(tmp_path)({"example_id": torch.arange(4), **texts(list(range(4)))}).targets
        shared = SharedVocabulary(gpt2(24), StoredTeacher(tmp_path), word_tokenizer(WORDS))
        logits, cut = shared.cut(torch.zeros(4, 8, 24), targets)
        assert logits.shape == (4, 8, 24)
        assert ((cut.ids == -1) == (targets.ids >= 24)).all()
        cut_away = targets.at(2.0).exp().masked_fill(targets.ids < 24, 0.0).sum(-1)
        torch.testing.assert_close(cut.log_rest_at(2.0).exp().float(), cut_away, rtol=1e-4, atol=1e-6)
        student = gpt2(24)
        trainer = trainer_of(tmp_path, student, str(tmp_path), processing_class=word_tokenizer(WORDS))
        assert loss_of(trainer).isfinite()

    def test_drawn_classes_fit_a_wider_student(self, tmp_path):
        self.build(tmp_path, Sampled(5, 2.0), 24, tokenizer=word_tokenizer(WORDS))
        assert loss_of(trainer_of(tmp_path, gpt2(32), str(tmp_path), processing_class=word_tokenizer(WORDS))).isfinite()

    def test_a_store_knows_its_tokens_and_refuses_others(self, tmp_path):
        teacher = saved(tmp_path / "teacher", gpt2(24, 1), word_tokenizer(WORDS))
        build_store(teacher, Examples(texts, torch.zeros(4)), tmp_path / "store", TopK(4, (2.0,)))
        store = str(tmp_path / "store")
        trainer_of(tmp_path, gpt2(24), store, processing_class=word_tokenizer(WORDS))
        with pytest.raises(
            ArgumentError, match=r"store was made with another tokenizer than the student: 22 tokens, \w+"
        ):
            trainer_of(tmp_path, gpt2(24), store, processing_class=word_tokenizer(WORDS[::-1]))
        with pytest.raises(ArgumentError, match="teacher: 20 ids do not stand"):  # what the user says counts
            trainer_of(tmp_path, gpt2(24), store, processing_class=word_tokenizer(WORDS),
                       teacher_tokenizer=word_tokenizer(WORDS[::-1]))  # fmt: skip
