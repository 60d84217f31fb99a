import torch
from torch import nn

from limbeck.models import CNN, ResNet


def test_resnet_has_the_layers_that_its_paper_counts():
    model = ResNet(3, 10, width=16, blocks=3)
    in_path = [
        m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(in_path) == 6 * 3 + 2
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model.stages(model.stem(torch.randn(1, 3, 32, 32))).shape[-2:] == (8, 8)


def test_cnn_and_resnet_differ_in_training_and_evaluation():
    for model in (CNN(1, 8, 3, width=4), ResNet(1, 3, width=4)):
        images = torch.randn(8, 1, 8, 8)
        assert not torch.equal(model.train()(images), model.eval()(images))
