import torch

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
