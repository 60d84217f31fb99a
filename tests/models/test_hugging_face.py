import pytest
import torch

from limbeck.errors import ModelError
from limbeck.models import DataShape, ModelConfig, build_model, forward_logits, load_model, save_model

SHAPE = DataShape(3, (1, 8, 8))


def test_a_hugging_face_image_model(tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=5
    )
    ResNetForImageClassification(config).save_pretrained(tmp_path / "hub")
    model = build_model(ModelConfig(str(tmp_path / "hub")), SHAPE, labels=["a", "b", "c"])
    logits = forward_logits(model, {"pixel_values": torch.randn(2, 1, 8, 8), "labels": torch.tensor([0, 1])})
    assert logits.shape == (2, 3)  # a new head, for other classes
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    save_model(model, tmp_path / "saved")
    save_model(model, tmp_path / "saved")  # again: the folder is replaced whole
    again = ResNetForImageClassification.from_pretrained(tmp_path / "saved")  # loadable without Limbeck
    assert torch.equal(again.classifier[1].weight, model.classifier[1].weight)
    assert type(load_model(tmp_path / "saved")) is ResNetForImageClassification
    fresh = build_model(ModelConfig(str(tmp_path / "hub"), from_scratch=True), SHAPE)
    assert not torch.equal(next(fresh.parameters()), next(model.parameters()))


def test_a_hugging_face_text_model(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertForSequenceClassification(BertConfig(vocab_size=20, **sizes, num_labels=2)).save_pretrained(tmp_path)
    model = build_model(ModelConfig(str(tmp_path), {"hidden_dropout_prob": 0.25}), DataShape(4))
    assert type(model) is BertForSequenceClassification
    assert forward_logits(model, {"input_ids": torch.ones(2, 5, dtype=torch.long)}).shape == (2, 4)
    assert model.config.hidden_dropout_prob == 0.25
    assert load_model(tmp_path).config.num_labels == 2  # as it was saved


def test_a_folder_that_names_no_architecture(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="names no architecture that Transformers knows"):
        load_model(tmp_path)


def test_a_folder_is_read_without_a_progress_bar_and_a_download_is_not(tmp_path):
    from transformers.utils import logging

    from limbeck.models.hugging_face import _without_bar

    shown = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    try:
        with _without_bar(str(tmp_path)):
            assert not logging.is_progress_bar_enabled()
        with _without_bar("owner/model"):
            assert logging.is_progress_bar_enabled()
        assert logging.is_progress_bar_enabled()
    finally:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
