"""Parity with code that others trust, in float64: attacks, weight averages, curvature, noise and
masks.
"""

from importlib import import_module

import foolbox
import numpy as np
import pytest
import torch
import torchattacks
from pyhessian import hessian as pyhessian
from torch import nn
from torch.nn.functional import cross_entropy

from common import seeds
from common.networks import batchnorm, folding, models, weights

EPSILONS = [0.001, 0.004, 0.03]
fgsm, pgd, hessian, sharpness, clean = (
    import_module(f"eval.{name}")
    for name in ("fgsm", "pgd", "hessian", "adaptive_sharpness", "clean")
)


@pytest.fixture(scope="module")
def net(minimum):
    return models.load(minimum / "weights.safetensors")[0].double().requires_grad_(False)


@pytest.fixture(scope="module")
def batch(pack):
    """10 images, two of each class; an image's attack does not depend on the others."""
    images, labels = pack.batch(pack.indices("test")[:10])
    return images.double().contiguous(), labels


def attacked(perturb, net, batch, **keywords):
    images, labels = batch
    generator = seeds.generator("cpu", 0)
    return list(perturb(images.clone(), labels, EPSILONS, generator, net, **keywords))


def same(ours, other, net, batch):
    torch.testing.assert_close(ours, other, rtol=0, atol=1e-6)
    assert torch.equal(net(ours).argmax(1), net(other).argmax(1))
    assert (ours - batch[0]).abs().max() > 0


@pytest.mark.parametrize("folded", [False, True])
def test_fgsm_is_foolbox_s_and_torchattacks_s(folded, net, batch):
    ours = attacked(fgsm.perturb, folding.fold(net)[0] if folded else net, batch)
    trusted = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    for epsilon, image in zip(EPSILONS, ours):
        same(image, attack(trusted, *batch, epsilons=epsilon)[1], net, batch)
        same(image, torchattacks.FGSM(net, eps=epsilon)(*batch), net, batch)


@pytest.fixture(scope="module")
def small_net():
    """A network of random weights: 180 steps of an attack cost little on it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU()
    )
    net.extend([nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 5)])
    return net.double().eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [10, 20])
def test_pgd_is_foolbox_s_and_torchattacks_s(steps, small_net, batch):
    net = small_net
    ours = attacked(pgd.perturb, net, batch, steps=steps, random_start=False)
    trusted = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        rel_stepsize=pgd.STEP, steps=steps, random_start=False
    )
    for epsilon, image in zip(EPSILONS, ours):
        same(image, attack(trusted, *batch, epsilons=epsilon)[1], net, batch)
        other = torchattacks.PGD(
            net, eps=epsilon, alpha=pgd.STEP * epsilon, steps=steps, random_start=False
        )
        same(image, other(*batch), net, batch)


@pytest.mark.slow
def test_pgd_starts_anywhere_within_epsilon_and_beats_fgsm(net, batch):
    images, labels = batch
    starts = attacked(pgd.perturb, net, batch, steps=0)
    one_step = attacked(fgsm.perturb, net, batch)
    ten_steps = attacked(pgd.perturb, net, batch, steps=10)
    for epsilon, start, one, ten in zip(EPSILONS, starts, one_step, ten_steps):
        change = (start - images).abs()
        assert 0.9 * epsilon < change.max() <= epsilon + 1e-12 and change.mean() < 0.6 * epsilon
        assert (ten - images).abs().max() <= epsilon + 1e-12 and ten.min() >= 0 and ten.max() <= 1
        assert cross_entropy(net(ten), labels) > 0.99 * cross_entropy(net(one), labels)


@pytest.mark.slow
def test_average_and_batchnorm_update_are_those_of_torch(pack):
    nets = [models.build("resnet18", 5, seed=seed).double() for seed in range(3)]
    ours, trusted = weights.Average(), torch.optim.swa_utils.AveragedModel(nets[0])
    for other in nets:
        ours.update(other)
        trusted.update_parameters(other)
    averaged = models.build("resnet18", 5, seed=9).double()
    ours.copy_to(averaged)
    for value, other in zip(averaged.parameters(), trusted.module.parameters()):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)

    class Double:  # batches of equal size: torch weights batches equally, ours weights images
        def batches(self, indices):
            return ((images.double(), labels) for images, labels in pack.batches(indices))

    index = pack.indices("train")[:60]
    in_order = index[batchnorm.image_order(60)].split(20)
    torch.optim.swa_utils.update_bn(
        (images for images, _ in Double().batches(in_order)), trusted.module
    )
    batchnorm.recompute(averaged, Double(), index, batch_size=20)
    for name, value in trusted.module.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(averaged.state_dict()[name], value, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def tiny():
    """A network small enough for its dense Hessian: convolution, BatchNorm, linear; 20 images of
    4x4.
    """
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Flatten(), nn.Linear(16, 3)
    )
    net = net.double().eval()
    nn.init.normal_(net[0].weight, std=0.5)
    images, labels = torch.rand(20, 3, 4, 4, dtype=torch.float64), torch.arange(20) % 3
    names, values = zip(*((name, value.detach()) for name, value in net.named_parameters()))

    def loss(flat):
        pieces = flat.split([value.numel() for value in values])
        state = {name: piece.view_as(value) for name, piece, value in zip(names, pieces, values)}
        return cross_entropy(torch.func.functional_call(net, state, images), labels)

    dense = torch.autograd.functional.hessian(loss, flat(values))
    return net.requires_grad_(False), images, labels, dense


def flat(tensors):
    return torch.cat([value.flatten() for value in tensors])


@pytest.mark.slow
def test_curvature_is_that_of_the_dense_hessian_and_pyhessian_s(tiny, monkeypatch):
    net, images, labels, dense = tiny
    monkeypatch.setattr(hessian, "CHUNK", 6)  # 6 + 6 + 6 + 2: the last counts as what it is
    result = hessian.measure(
        net,
        lambda: [(images[:9], labels[:9]), (images[9:], labels[9:])],
        seeds.generator("cpu", 0),
        images=20,
        iterations=200,
        vectors=400,
    )
    eigenvalue, trace, error = result["eigenvalue"], result["trace"], result["trace_se"]
    top = torch.linalg.eigvalsh(dense)
    assert eigenvalue == pytest.approx(top[top.abs().argmax()].item(), rel=5e-3)
    assert result["eigenvalue_residual"] < 0.1 * eigenvalue and result["eigenvalue_se"] > 0
    assert abs(trace - dense.trace().item()) < 4 * error and error < 0.2 * trace
    vector = [torch.randn(value.shape, dtype=torch.float64) for value in net.parameters()]
    net.requires_grad_(True)
    chunks = [(images[:12], labels[:12]), (images[12:], labels[12:])]
    product, _ = hessian.product(net, list(net.parameters()), chunks, vector)
    torch.testing.assert_close(flat(product), dense @ flat(vector))
    trusted = pyhessian(net, nn.CrossEntropyLoss(), data=(images, labels), cuda=False)
    theirs = trusted.eigenvalues(maxIter=200, tol=1e-5)[0][0]
    assert eigenvalue == pytest.approx(theirs, rel=5e-3)
    traces = np.array(trusted.trace(maxIter=400, tol=0))
    assert abs(trace - traces.mean()) < 4 * (error**2 + traces.var() / len(traces)) ** 0.5
    net.requires_grad_(False)


def test_worst_case_sharpness_of_a_linear_loss_is_at_the_corner():
    slope, start = torch.tensor([1.0, -2, 0.5, 0]), torch.tensor([3.0, 1, -2, 5])
    value = nn.Parameter(start.clone())
    rise = sharpness.auto_pgd(lambda: slope @ value, [value], 0.1, 20) - slope @ start
    assert rise.item() == pytest.approx(0.1 * (3 + 2 + 1))  # rho · sum |slope·w|


def test_worst_case_sharpness_exceeds_the_average_and_corners_that_random_signs_find(tiny):
    net, images, labels, _ = tiny
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = sharpness.measure(
        net,
        lambda: [(images, labels)],
        seeds.generator("cpu", 0),
        images=20,
        average=0.05,
        draws=20,
        worst=0.05,
        steps=20,
    )
    assert result["worst"] > 3 * abs(result["average"]) and result["worst"] > 0
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    corners = []
    with torch.no_grad():
        clean_loss = cross_entropy(net(images), labels)
        for _ in range(300):
            with weights.restored_after(net):
                for value in net.parameters():
                    value.mul_(1 + 0.05 * torch.randint(0, 2, value.shape).mul(2).sub(1))
                corners.append((cross_entropy(net(images), labels) - clean_loss).item())
    assert result["worst"] > max(corners)


def test_auto_pgd_s_checkpoints_are_those_of_its_paper():
    """0.22, then shorter by 0.03 each, at least 0.06, as fractions of 100 steps."""
    assert sorted(sharpness.checkpoints(100))[:5] == [22, 41, 57, 70, 80]


def test_noise_and_masks_are_those_of_ten_plain_lines(pack):
    images = pack.batch(torch.arange(6))[0].double()
    z = torch.randn(images.shape, generator=seeds.generator("cpu", 7)).double().numpy()
    (noisy,) = import_module("eval.gaussian_noise").perturb(
        images, None, [0.3], seeds.generator("cpu", 7), None
    )
    expected = np.clip(images.numpy() + 0.3 * z, 0, 1)
    np.testing.assert_allclose(noisy.numpy(), expected, rtol=0, atol=1e-7)
    place = torch.rand(2, len(images), 1, 1, 1, generator=seeds.generator("cpu", 7)).numpy()
    (masked,) = import_module("eval.square_mask").perturb(
        images, None, [0.3], seeds.generator("cpu", 7), None
    )
    expected, pixels = images.numpy().copy(), round(0.3 * 32)
    for image, top, left in zip(expected, *place.reshape(2, -1)):
        top, left = int(top * (33 - pixels)), int(left * (33 - pixels))
        image[:, top : top + pixels, left : left + pixels] = 0
    np.testing.assert_array_equal(masked.numpy(), expected)


def test_calibration_by_hand():
    probabilities = torch.tensor(
        [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], dtype=torch.float64
    )
    result = clean.calibration(probabilities, torch.tensor([0, 1, 1, 1]))
    assert result["brier"] == pytest.approx(2 * (0.1**2 + 0.9**2 + 0.4**2 + 0.2**2) / 4)
    # The bin of 0.9: accuracy 0.5; those of 0.6 and 0.8: one image each.
    assert result["ece"] == pytest.approx((2 * 0.4 + 0.4 + 0.2) / 4)
    assert result["brier_se"] > 0 and result["ece_se"] > 0
