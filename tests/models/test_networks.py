import torch
from torch import nn

from limbeck.models import BUILT_IN, CNN, MLP, DataShape, ResNet, count_parameters
from limbeck.models.networks import FCN, UNet


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


def test_the_parameters_are_as_many_as_counted_by_hand():
    assert count_parameters(MLP(64, 10, hidden=[64])) == 64 * 64 + 64 + 64 * 10 + 10
    convolutions = 9 * (1 * 4 + 4 * 4 + 4 * 8 + 8 * 8) + 2 * (
        4 + 4 + 8 + 8
    )  # weights, and two for each normalised filter
    assert count_parameters(CNN(1, 8, 3, width=4, hidden=5)) == convolutions + 8 * 2 * 2 * 5 + 5 + 5 * 3 + 3
    assert isinstance(MLP(4, 2, hidden=[]), nn.Sequential)
    assert count_parameters(MLP(4, 2, hidden=[])) == 4 * 2 + 2


def test_every_network_fits_the_shape_that_it_asks_for():
    shape = DataShape(5, (3, 12, 12))
    for name, network in BUILT_IN.items():
        expected = (2, 5, 12, 12) if name in ("unet", "fcn") else (2, 5)
        assert network(**shape.network_settings(name))(torch.randn(2, 3, 12, 12)).shape == expected


def test_networks_of_pixels():
    """A U-Net takes any size; what each pixel sees is what the layers let it see."""
    assert UNet(1, 3, width=2, depth=3)(torch.randn(2, 1, 7, 13)).shape == (2, 3, 7, 13)
    assert count_parameters(FCN(2, 5, width=4)) == 9 * (2 * 4 + 4 * 4) + 2 * (4 + 4) + 9 * 4 * 5 + 5
    image = torch.randn(1, 1, 16, 16, requires_grad=True)
    FCN(1, 3).eval()(image)[0, 0, 8, 8].backward()
    assert image.grad is not None
    assert image.grad[0, 0].nonzero().aminmax() == (torch.tensor(5), torch.tensor(11))
