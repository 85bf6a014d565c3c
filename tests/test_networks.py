"""Networks: what moves weights, BatchNorm folded and recomputed, convolutions on small maps."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from common.networks import batchnorm, folding, models, weights


def vgg_with_batchnorm():
    """VGG11's convolutions, which have biases, under a small head."""
    vgg = torchvision.models.vgg
    features = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5))


def small_transformer():
    return torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=5)


def named(arch):
    return lambda: torchvision.models.get_model(arch, weights=None, num_classes=5)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(named("resnet18"), id="resnet18"),
        pytest.param(vgg_with_batchnorm, id="vgg11_bn"),
        pytest.param(named("densenet121"), id="densenet121"),
        pytest.param(named("mobilenet_v2"), id="mobilenet_v2"),
        pytest.param(small_transformer, id="vit"),
    ],
)
def test_folding_batchnorm_changes_nothing(make):
    net = make().double().eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in layer.running_mean, layer.weight, layer.bias:
                nn.init.normal_(values)
            layer.running_var.uniform_(0.5, 2)
    folded, fast, refold = folding.fold(net)
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(folded(images), net(images), rtol=1e-9, atol=1e-9)
            for value in net.parameters():
                value.mul_(1.01)
            refold()
    assert fast is folded
    if isinstance(net, torchvision.models.ResNet):
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())


def test_conv_linear_is_20_convolutions_and_1_linear_layer():
    net = torchvision.models.resnet18()
    selected = weights.conv_linear(net)
    assert len(selected) == 21
    assert sum(value.ndim == 4 for value in selected.values()) == 20
    shortcuts = {f"layer{stage}.0.downsample.0.weight" for stage in (2, 3, 4)}
    assert shortcuts | {"fc.weight"} <= set(selected)
    assert len(weights.batchnorm_parameters(net)) == 40


def test_attention_s_projections_are_weights_and_a_network_without_batchnorm_has_a_distance():
    nets = [small_transformer().eval() for _ in range(2)]
    selected = weights.conv_linear(nets[0])
    projection = "encoder.layers.encoder_layer_1.self_attention.in_proj_weight"
    assert len(selected) == 1 + 2 * 4 + 1
    assert tuple(selected[projection].shape) == (192, 64)
    for name, value in nets[0].named_parameters():
        if name not in selected:
            assert value.ndim == 1 or name in ("class_token", "encoder.pos_embedding")
    a, b = (weights.groups(net) for net in nets)
    assert weights.distance(a["weights"], b["weights"])["raw"] > 1
    nothing = weights.distance(a["batchnorm"], b["batchnorm"])
    assert nothing["raw"] == 0
    assert np.isnan(nothing["relative"]) and np.isnan(nothing["cosine"])
    nn.init.normal_(nets[0].heads.head.weight)
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(folding.fold(nets[0])[0](images), nets[0](images))


def test_distance_to_itself_after_extra_forward_passes_is_0(pack):
    net = models.build("resnet18", 5, seed=0)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    net.train()
    for _ in range(3):
        net(pack.batch(torch.arange(8))[0])
    assert net.bn1.num_batches_tracked == 3
    for members in weights.groups(net).values():
        assert weights.distance(members, before)["raw"] == 0


def test_distance_is_the_euclidean_norm():
    a = {"x": torch.tensor([3.0, 0.0]), "y": torch.tensor([[4.0]])}
    b = {"x": torch.tensor([0.0, 0.0]), "y": torch.tensor([[4.0]])}
    result = weights.distance(a, b)
    assert result["raw"] == 3
    assert result["relative"] == pytest.approx(3 / 4.5)
    assert result["cosine"] == pytest.approx(0.8)


def test_interpolation_s_ends_are_exact():
    a, b, net = (models.build("resnet18", 5, seed=seed) for seed in (1, 2, 3))
    for t, end in (0, a), (1, b):
        weights.interpolate(net, a.state_dict(), b.state_dict(), t)
        for name, value in net.state_dict().items():
            assert torch.equal(value, end.state_dict()[name])


def test_displaced_weights_and_statistics_come_back_to_the_bit(pack):
    net = models.build("resnet18", 5, seed=0)
    images, _ = pack.batch(torch.arange(8))
    net(images)  # statistics that are no round numbers
    before = {name: value.clone() for name, value in net.state_dict().items()}
    by = {name: torch.rand(value.shape) for name, value in weights.conv_linear(net).items()}
    with weights.displaced(net, by):
        for name, value in net.named_parameters():
            moved = before[name] + by[name] if name in by else before[name]
            assert torch.equal(value, moved), name
        net(images).sum().backward()
        assert net.bn1.num_batches_tracked == 2
    with pytest.raises(KeyboardInterrupt), weights.displaced(net, by):
        net(images)
        raise KeyboardInterrupt
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(value.requires_grad for value in net.parameters())


def test_recomputing_batchnorm_twice_changes_nothing_and_weights_images_equally(pack):
    net = models.build("resnet18", 5, seed=0).eval()
    index = pack.indices("train")
    batchnorm.recompute(net, pack, index, batch_size=64)  # 64 + 6 images
    once = {name: value.clone() for name, value in net.state_dict().items() if "running" in name}
    batchnorm.recompute(net, pack, index, batch_size=64)
    for name, value in once.items():
        assert torch.equal(value, net.state_dict()[name]), name
    with torch.no_grad():
        mean = net.conv1(pack.batch(index)[0]).mean((0, 2, 3))
    torch.testing.assert_close(net.bn1.running_mean, mean, rtol=1e-3, atol=1e-5)
    assert not net.training and net.bn1.momentum == 0.1


def test_recomputed_statistics_do_not_suffer_from_images_sorted_by_class(
    pack, minimum, monkeypatch
):
    """A pack is sorted by class. Batches of one class would lose the variance between classes, as
    they do where nobody mixes them.
    """
    net = models.load(minimum / "weights.safetensors")[0]
    index = pack.indices("train")
    by_class = index[pack.labels[index].argsort(stable=True)]

    def variances(batch_size):
        batchnorm.recompute(net, pack, by_class, batch_size)
        return torch.cat([layer.running_var.clone() for layer in batchnorm.layers(net.layer4)])

    in_one, in_batches = variances(70), variances(14)
    monkeypatch.setattr(batchnorm, "image_order", torch.arange)
    spoiled = variances(14)
    assert (spoiled / in_one).median() < 0.8
    assert (in_batches / in_one).median().item() == pytest.approx(1, abs=0.1)


def output_and_gradients(net, images):
    """{name: tensor}: the logits of `images` in train mode, and the gradient of each parameter."""
    net.zero_grad()
    logits = net(images)
    logits.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {"logits": logits.detach()} | gradients


def test_an_attack_copies_no_weight_for_each_image():
    """Batched products, for a weight that wants no gradient, were three quarters of its time."""
    network = models.build("resnet18", 7, seed=0).eval().requires_grad_(False)
    images = torch.rand(4, 3, 64, 64, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        network(images).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert "aten::mm" in names and "aten::bmm" not in names


@pytest.mark.parametrize(
    "size", [32, *(pytest.param(size, marks=pytest.mark.slow) for size in (64, 40))]
)
def test_convolutions_on_small_maps_are_those_of_pytorch(size):
    """Output and every gradient, in float64, of all 20 convolutions.

    Of 16 images: BatchNorm divides by the standard deviation over images and positions, which over
    3 images of one position is nearly 0 in one of 512 channels now and then; what differs by
    rounding is then multiplied without bound.
    """
    images = torch.rand(16, 3, size, size, dtype=torch.float64)
    ours = models.build("resnet18", 7, seed=0).double()
    plain = torchvision.models.resnet18(num_classes=7).double()
    plain.load_state_dict(ours.state_dict())
    assert any(type(module).__name__ == "SmallMapConv2d" for module in ours.modules())
    results, expected = output_and_gradients(ours, images), output_and_gradients(plain, images)
    assert len(results) == 1 + 62
    torch.testing.assert_close(results.pop("logits"), expected["logits"], rtol=1e-9, atol=1e-9)
    for name, gradient in results.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-7, atol=1e-9, msg=name)
