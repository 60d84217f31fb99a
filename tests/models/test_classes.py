"""Names in a model's config, and columns in another order."""

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from limbeck.models import SelectedColumns, class_names_in_config, forward_logits


def bert(**options):
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, **options
        )
    )


def test_names_are_read_in_the_order_of_the_columns():
    names = class_names_in_config(bert(id2label={1: "b", 0: "a", 2: "c"}))
    assert names is not None
    assert names.names == ("a", "b", "c")
    assert class_names_in_config(nn.Linear(2, 2)) is None
    assert class_names_in_config(bert(num_labels=2)).are_known is False


def test_columns_are_selected_whatever_the_model_takes_and_returns():
    torch.manual_seed(0)
    model = bert(num_labels=4).eval()
    batch = {
        "input_ids": torch.randint(9, (2, 5)),
        "attention_mask": torch.ones(2, 5, dtype=torch.long),
        "labels": torch.zeros(2),
    }
    expected = forward_logits(model, batch)[:, [3, 1]]
    chosen = SelectedColumns(model, [3, 1])
    assert not chosen.training
    torch.testing.assert_close(forward_logits(chosen, batch), expected)
    assert chosen.state_dict().keys() == {f"model.{name}" for name in model.state_dict()}
