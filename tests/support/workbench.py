"""Small models and data for the tests of the trainer; some of these tests start this file in several processes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.distributed import end_process_group

VOCABULARY, CLASSES = 50, 4


class Net(nn.Module):
    """A small network with one input that returns logits: alone, in a tuple, or in a dictionary."""

    def __init__(self, hidden: int = 8, dropout: float = 0.0, returns: str = "tensor") -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, CLASSES))
        self.returns = returns

    def forward(self, x):
        logits = self.body(x)
        if self.returns == "tuple":
            return logits, x
        return {"logits": logits, "hidden": x} if self.returns == "dict" else logits


def bert(hidden: int = 16) -> nn.Module:
    """Return a text classifier."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=32,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def llama(hidden: int = 16) -> nn.Module:
    """Return a causal language model whose output layer is tied to its embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=32,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def vectors(count: int = 64) -> list[dict[str, torch.Tensor]]:
    """Return examples for ``Net``, a third of them unlabelled."""
    generator = torch.Generator().manual_seed(3)
    labels = [i % CLASSES if i % 3 else -100 for i in range(count)]
    return [{"x": torch.randn(6, generator=generator), "labels": torch.tensor(label)} for label in labels]


def sentences(count: int = 64, *, causal: bool) -> list[dict[str, list[int]]]:
    """Return token sequences of unequal length, labelled by a class or, if ``causal``, by their own tokens."""
    generator = torch.Generator().manual_seed(4)
    data = []
    for i in range(count):
        length = int(torch.randint(2, 12, (), generator=generator))
        ids = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        data.append({"input_ids": ids, "labels": ids if causal else i % CLASSES})
    return data


def pad(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Return the batch of some sequences, padded on the right."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(ids: list[int], value: int) -> list[int]:
        return ids + [value] * (longest - len(ids))

    batch = {
        "input_ids": torch.tensor([padded(row["input_ids"], 0) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in rows]),
    }
    labels = [row["labels"] for row in rows]
    batch["labels"] = torch.tensor([padded(row, -100) for row in labels] if isinstance(labels[0], list) else labels)
    return batch


KINDS = {
    "module": (Net, vectors, None),
    "bert": (bert, lambda: sentences(causal=False), pad),
    "llama": (llama, lambda: sentences(causal=True), pad),
}
"""The kinds of models, each with its data and the function that makes a batch of them."""


def make_trainer(
    kind: str, folder: Path | str, *, dropout: float = 0.0, augment=None, **settings
) -> DistillationTrainer:
    """Return a trainer of a small teacher and student of one kind, which are the same in every call."""
    make, data, collate = KINDS[kind]
    torch.manual_seed(7)
    teacher = make(24)
    student = make(8, dropout=dropout) if kind == "module" else make(8)
    defaults = dict(
        output_dir=str(folder), temperature=2.0, alpha=0.7, max_steps=6, per_device_train_batch_size=16, learning_rate=0.05,
        optim="sgd", lr_scheduler_type="linear", save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
        max_grad_norm=0.0, seed=11,
    )  # fmt: skip
    args = DistillationArguments(**(defaults | settings))
    trainer = DistillationTrainer(
        student, teacher, args, collate, train_dataset=data(), eval_dataset=data()[:61], augment=augment
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def weights(trainer: DistillationTrainer) -> dict[str, torch.Tensor]:
    """Return a copy of the student's weights."""
    return {name: value.detach().clone() for name, value in trainer.student.state_dict().items()}


def main() -> None:
    """Train with batches of ROWS in each process, and save: ``accelerate launch workbench.py KIND FOLDER ROWS``."""
    kind, folder, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    trainer = make_trainer(kind, folder, per_device_train_batch_size=rows, logging_strategy="steps", logging_steps=2)
    trainer.train()
    evaluation = trainer.evaluate()
    trainer.save_model(folder)
    if trainer.is_world_process_zero():
        torch.save({"log": trainer.state.log_history, "eval": evaluation}, Path(folder) / "result.pt")
    end_process_group()


if __name__ == "__main__":
    main()
