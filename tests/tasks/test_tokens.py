"""Tags of words, masked tokens, and decoders: a training against the same loop by hand, in float64."""

import copy

import pytest
import torch
import transformers
from torch import nn
from transformers import DataCollatorForTokenClassification

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.errors import ArgumentError
from limbeck.models import forward_logits
from limbeck.tasks import MaskedLM, TokenClassification, recognise
from support.workbench import VOCABULARY

SMALL = dict(
    vocab_size=VOCABULARY, hidden_size=16, d_model=16, dim=16, num_hidden_layers=1, num_layers=1, encoder_layers=1, n_layers=1,
    decoder_layers=1, num_attention_heads=2, encoder_attention_heads=2, decoder_attention_heads=2, n_heads=2, num_heads=2,
    intermediate_size=16, hidden_dim=16, d_ff=16, d_kv=8, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
TASK_OF = {
    "BertForTokenClassification": "token_classification",
    "DistilBertForMaskedLM": "masked_lm",
    "T5ForConditionalGeneration": "encoder_decoder",
    "BartForConditionalGeneration": "encoder_decoder",
    "MarianMTModel": "encoder_decoder",
    "M2M100ForConditionalGeneration": "encoder_decoder",
}


def of_transformers(name, seed, **settings):
    cls = getattr(transformers, name)
    starts = {"decoder_start_token_id": 0 if name.startswith(("T5", "Marian")) else 2}
    config = cls.config_class(**(SMALL | starts | settings))
    torch.manual_seed(seed)
    return cls(config).double().eval()


def rows(name, count=8, length=7):
    """Rows of one length, some padded, in which a good half of the tokens have a label."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, VOCABULARY, (count, length), generator=generator)
    attended = torch.arange(length) < torch.randint(3, length + 1, (count, 1), generator=generator)
    labels = torch.randint(0, 2, ids.shape, generator=generator) if "Token" in name else ids.clone()
    labelled = attended & (torch.rand(ids.shape, generator=generator) < 0.7)
    ids = torch.where(labelled & (TASK_OF[name] == "masked_lm"), 1, ids).masked_fill(~attended, 0)
    names, columns = ("input_ids", "attention_mask", "labels"), (ids, attended.long(), labels.where(labelled, -100))
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def by_hand(model, batch):
    """The logits as the model's own code computes them when it is given the labels."""
    return model(**batch).logits


def trainer_of(name, folder, student, teacher, data, **settings):
    args = DistillationArguments(
        str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no", temperature=2.0, alpha=0.7,
        max_steps=2, per_device_train_batch_size=4, gradient_accumulation_steps=2, optim="sgd", learning_rate=0.1,
        lr_scheduler_type="constant", max_grad_norm=0.0, **settings,
    )  # fmt: skip
    return DistillationTrainer(student, teacher, args, train_dataset=data, eval_dataset=data)


@pytest.mark.parametrize("name", TASK_OF)
def test_a_training_is_the_loop_by_hand(name, tmp_path):
    data = rows(name)
    quiet = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "dropout_rate"), 0.0)
    quiet |= {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
    }
    teacher, student = of_transformers(name, 1, **quiet), of_transformers(name, 2, **quiet)
    theirs, batch = copy.deepcopy(student), {key: torch.stack([row[key] for row in data]) for key in data[0]}
    trainer = trainer_of(name, tmp_path, student, teacher, data)
    assert trainer.task.name == recognise(student) == TASK_OF[name]
    trainer.train()

    counted = batch["labels"] != -100
    labels = batch["labels"][counted]
    with torch.no_grad():
        soft_targets = (by_hand(teacher, batch)[counted] / 2).softmax(-1)
    for _ in range(2):
        theirs.zero_grad()
        logits = by_hand(theirs, batch)[counted]
        soft = nn.functional.kl_div((logits / 2).log_softmax(-1), soft_targets, reduction="batchmean") * 4
        (0.7 * soft + 0.3 * nn.functional.cross_entropy(logits, labels)).backward()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
    for ours, expected in zip(student.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)

    with torch.no_grad():
        logits = by_hand(theirs, batch)[counted]
    evaluation = trainer.evaluate()
    assert evaluation["eval_loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert evaluation["eval_accuracy"] == pytest.approx((logits.argmax(-1) == labels).double().mean().item())


class TestTokenClassification:
    def test_metrics_count_words(self):
        """Two words, of which the second has three tokens: one right word of two is 50 %, whatever its other tokens are."""
        logits = nn.functional.one_hot(torch.tensor([[0, 1, 0, 0, 0]]), 2).double()
        labels = torch.tensor([[-100, 1, 1, -100, -100]])
        assert TokenClassification().metrics(logits, labels)["accuracy"] == 0.5

    def test_rows_of_unequal_length(self, tmp_path):
        class Tokenizer:
            padding_side, pad_token_type_id, model_input_names = "right", 0, ["input_ids"]

            def pad(self, features, **_):
                longest = max(len(row["input_ids"]) for row in features)
                padded = [list(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in features]
                return {"input_ids": torch.tensor(padded)}

        data = [{"input_ids": [5] * length, "labels": [1] + [-100] * (length - 1)} for length in (2, 3, 4, 5)]
        batch = DataCollatorForTokenClassification(Tokenizer())(data)  # pyright: ignore[reportArgumentType]
        assert TokenClassification().targets(batch).mask.sum(-1).tolist() == [1, 1, 1, 1]

    def test_without_labels_the_attended_tokens_count(self):
        ids, attended = torch.ones(1, 3), torch.tensor([[1, 1, 0]])
        mask = TokenClassification().targets({"input_ids": ids, "attention_mask": attended}).mask
        assert mask.tolist() == [[True, True, False]]
        assert TokenClassification().targets({"input_ids": ids}).mask.all()

    def test_a_label_for_each_text_is_refused(self):
        with pytest.raises(
            ArgumentError, match=r"labels: shape \(3,\): task='token_classification' expects one for each"
        ):
            TokenClassification().targets({"input_ids": torch.ones(3, 2), "labels": torch.tensor([0, 1, 1])})


class TestMaskedLM:
    def test_tokens_that_are_not_masked_are_refused(self):
        ids, attended = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
        labels = ids.masked_fill(attended == 0, -100)
        with pytest.raises(
            ArgumentError, match=r"labels: each token is its own label.*DataCollatorForLanguageModeling"
        ):
            MaskedLM().targets({"input_ids": ids, "attention_mask": attended, "labels": labels})

    def test_a_mask_puts_the_soft_term_on_all_tokens(self, tmp_path):
        name = "DistilBertForMaskedLM"
        data = [row | {"mask": row["attention_mask"].bool()} for row in rows(name)]
        teacher, student = of_transformers(name, 1), of_transformers(name, 2)
        batch = {key: torch.stack([row[key] for row in data]) for key in data[0]}
        trainer = trainer_of(name, tmp_path, student, teacher, data)
        loss = trainer.compute_loss(student, dict(batch)).item()
        every = batch["mask"]
        with torch.no_grad():
            logits, theirs = (forward_logits(model, batch)[every] for model in (student, teacher))
        soft = nn.functional.kl_div((logits / 2).log_softmax(-1), (theirs / 2).softmax(-1), reduction="batchmean") * 4
        hard = nn.functional.cross_entropy(logits, batch["labels"][every], reduction="sum") / every.sum()
        assert loss == pytest.approx((0.7 * soft + 0.3 * hard).item())
