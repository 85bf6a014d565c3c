"""Networks other than ResNet18: remainders of a division, layers that draw, heads that are no
linear layer, and those that cannot do the job.
"""

import shutil

import h5py
import numpy as np
import pytest
import torch
import torchvision
from compare import values
from conftest import SHORT, make_pack, run
from safetensors.torch import load_file

from common.networks import batchnorm, folding, models, second_derivatives, weights
from common.training import checkpoint, finetuning
from eval import clean, hessian

TINY = [*SHORT, "--batch-size", "8", "--train-images", "8"]
LAYERS_THAT_DRAW = "mobilenet_v3_small", "efficientnet_b0"  # dropout; stochastic depth as well


@pytest.fixture(scope="module")
def tiny_pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return make_pack(folder / "pack.h5", train=17, val=6, test=9)


@pytest.mark.parametrize("count", [2, 3, 19, 20, 21, 41, 70])
def test_batchnorm_is_recomputed_over_any_number_of_images(count, pack):
    """At 32 px ResNet18's last maps are of one pixel, where one image has no variance."""
    net = models.build("resnet18", 5, seed=0)
    index = pack.indices("train")[:count]
    batchnorm.recompute(net, pack, index, batch_size=20)
    assert all(value.isfinite().all() for value in net.state_dict().values())
    with torch.no_grad():
        mean = net.conv1(pack.batch(index)[0]).mean((0, 2, 3))
    torch.testing.assert_close(net.bn1.running_mean, mean, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "count, expected",
    [(1, [1]), (2, [2]), (20, [20]), (21, [21]), (22, [20, 2]), (40, [20, 20]), (41, [20, 21])],
)
def test_a_last_batch_of_one_joins_the_one_before_it_and_no_other_changes(count, expected):
    index = torch.arange(count)
    batches = batchnorm.without_a_batch_of_one(index.split(20))
    assert [len(batch) for batch in batches] == expected
    assert torch.equal(torch.cat(batches), index)


def test_recomputing_over_one_image_is_refused_at_the_start(
    pack_file, minimum, tmp_path, monkeypatch, capsys
):
    flags = ["--data", pack_file, "--minimum", minimum, "--out", tmp_path / "p.h5", "clean"]
    with pytest.raises(SystemExit):
        run(monkeypatch, "eval.battery", *flags, "--batchnorm-images", 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "--batchnorm-images: '1' is not a whole number of 2 or more" in line


def test_a_batch_of_one_image_is_refused_at_the_start_where_it_cannot_be_normalised(
    pack_file, minimum, tmp_path, monkeypatch
):
    flags = ["--data", pack_file, *SHORT, "--batch-size", 1]
    message = "^--batch-size 1: one image at a time is too little .* give 2 or more$"
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, "train.adam", *flags, "--out", tmp_path)
    with pytest.raises(SystemExit, match=message):
        run(
            monkeypatch,
            "finetune.full",
            *flags,
            "--minimum",
            minimum,
            "--out",
            tmp_path / "full.h5",
        )


def test_a_batch_of_one_image_trains_a_network_without_batchnorm(tmp_path, monkeypatch):
    pack = make_pack(tmp_path / "pack.h5", train=3, val=1, test=1)
    flags = ["--data", pack, "--out", tmp_path, *TINY, "--batch-size", 1]
    run(monkeypatch, "train.adam", *flags, "--arch", "squeezenet1_1", "--epochs", 1)
    with h5py.File(tmp_path / "training.h5") as file:
        assert np.isfinite(file["running/loss"][()]).all()


def test_one_image_has_no_standard_error_and_no_warning():
    found = clean.calibration(torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
    assert found["brier"] == pytest.approx(2 * 0.75**2) and np.isnan(found["brier_se"])


class Killed(Exception):
    pass


def killed_and_resumed(monkeypatch, script, flags):
    """Runs a script that dies when it has saved its first checkpoint; runs it again."""
    save = checkpoint.save

    def save_and_die(*args):
        save(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_die)
        with pytest.raises(Killed):
            run(patch, script, *flags)
    torch.rand(100)  # another process has drawn other numbers by then
    run(monkeypatch, script, *flags)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("arch", LAYERS_THAT_DRAW)
def test_layers_that_draw_draw_the_same_twice_and_after_a_kill(
    arch, tiny_pack, tmp_path, monkeypatch
):
    def flags(out):
        return ["--data", tiny_pack, "--out", tmp_path / out, *TINY, "--arch", arch]

    run(monkeypatch, "train.adam", *flags("once"))
    run(monkeypatch, "train.adam", *flags("twice"))  # the global generator is elsewhere now
    killed_and_resumed(monkeypatch, "train.adam", flags("killed"))
    run(monkeypatch, "train.adam", *flags("other"), "--seed", 1)
    trained = [load_file(tmp_path / name / "weights.safetensors") for name in ("once", "twice")]
    assert_same(*trained)
    assert_same(trained[0], load_file(tmp_path / "killed" / "weights.safetensors"))
    assert_same(values(tmp_path / "once/training.h5"), values(tmp_path / "killed/training.h5"))


@pytest.mark.slow
@pytest.mark.parametrize("arch", LAYERS_THAT_DRAW)
def test_layers_that_draw_draw_the_same_in_finetuning(arch, tiny_pack, tmp_path, monkeypatch):
    train = ["--data", tiny_pack, "--out", tmp_path, *TINY, "--arch", arch, "--epochs", 1]
    run(monkeypatch, "train.adam", *train)

    def flags(out):
        places = ["--minimum", tmp_path, "--out", tmp_path / out]
        return ["--data", tiny_pack, *places, "--runs", 2, *TINY]

    run(monkeypatch, "finetune.full", *flags("once.h5"))
    run(monkeypatch, "finetune.full", *flags("twice.h5"))
    killed_and_resumed(monkeypatch, "finetune.full", flags("killed.h5"))
    for other in "twice.h5", "killed.h5":
        assert_same(values(tmp_path / "once.h5"), values(tmp_path / other))


def test_what_layers_draw_differs_by_epoch_and_by_seed(tiny_pack, tmp_path, monkeypatch):
    """Not one mask for ever: that would be another network."""
    drawn = []
    dropout = torch.nn.Dropout.forward

    def remember(self, values):
        result = dropout(self, values)
        if self.training:
            drawn.append(result == 0)
        return result

    for seed in 0, 1:
        flags = ["--data", tiny_pack, "--out", tmp_path / str(seed), *TINY, "--seed", seed]
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.Dropout, "forward", remember)
            run(patch, "train.adam", *flags, "--arch", "mobilenet_v3_small")
        shutil.rmtree(tmp_path / str(seed))
    masks = [mask for mask in drawn if len(mask) == 8]  # of the steps; the first try is of 2
    assert len(masks) == 2 * 2 * 2  # seeds, epochs, steps
    for place, mask in enumerate(masks):
        assert not any(torch.equal(mask, other) for other in masks[:place])


@pytest.mark.parametrize(
    "arch, message",
    [
        ("raft_small", "has it, but not as a classifier of images; give one of its classifiers"),
        ("resnet0", "torchvision.models has no such network"),
        ("alexnet", "does not take images of 32 px .*too small"),
        ("inception_v3", "does not take images of 32 px .*greater than actual input"),
        ("maxvit_t", "not for images of 32 px .*not divisible"),
        ("vit_h_14", "not for images of 32 px .*indivisible"),
    ],
)
def test_a_network_that_cannot_do_the_job_is_one_line_at_the_start(
    arch, message, tiny_pack, tmp_path, monkeypatch
):
    flags = ["--data", tiny_pack, "--out", tmp_path / "minimum", *TINY, "--arch", arch]
    with pytest.raises(SystemExit, match=f"^--arch {arch}: .*{message}") as stopped:
        run(monkeypatch, "train.adam", *flags)
    assert "\n" not in str(stopped.value) and not (tmp_path / "minimum").exists()


def test_trying_a_network_takes_no_draw_and_leaves_it_as_it_is():
    net = models.build("mobilenet_v3_small", 5, 0).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    assert models.why_not(net, 2, 32, 5) == ""
    assert torch.equal(torch.get_rng_state(), state) and not net.training
    assert_same(before, net.state_dict())
    assert "gives no 2 x 6 logits" in models.why_not(net, 2, 32, 6)


def test_squeezenet_s_head_is_a_convolution_and_is_replaced():
    net = models.build("squeezenet1_1", 7, 0)
    name, old = models.head(net)
    assert name == "classifier.1" and old.out_channels == 7
    body = {key: value for key, value in net.state_dict().items() if not key.startswith(name)}
    models.replace_head(net, 3, seed=1)
    first = models.head(net)[1].weight.clone()
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert_same(body, {key: net.state_dict()[key] for key in body})
    models.replace_head(net, 3, seed=1)
    assert torch.equal(models.head(net)[1].weight, first)
    models.replace_head(net, 3, seed=2)
    assert not torch.equal(models.head(net)[1].weight, first)


def test_the_hessian_of_attention_is_the_derivative_of_its_gradient():
    """A network of one attention, in float64: H·v against the difference of two gradients."""
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=3).double().eval()
    torch.nn.init.normal_(net.heads.head.weight)
    parameters = list(net.parameters())
    vector = [torch.randn_like(value) for value in parameters]
    images, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    found, _ = hessian.product(net, parameters, [(images, labels)], vector)

    def gradient(by):
        with torch.no_grad():
            for value, direction in zip(parameters, vector):
                value.add_(by * direction)
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        return torch.autograd.grad(loss, parameters)

    step = 1e-7
    after, before = gradient(step), gradient(-2 * step)
    for product, one, other in zip(found, after, before):
        torch.testing.assert_close(product, (one - other) / (2 * step), rtol=1e-4, atol=1e-5)


def test_a_layer_without_a_second_derivative_takes_another_way_or_is_one_line():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 4), torch.nn.Hardsigmoid())
    parameters = list(net.parameters())
    images, labels = torch.rand(5, 3) * 8 - 4, torch.tensor([0, 1, 2, 3, 0])
    vector = [torch.ones_like(value) for value in parameters]
    before = net(images)
    product, _ = hessian.product(net, parameters, [(images, labels)], vector)
    assert all(value.isfinite().all() for value in product) and product[0].abs().sum() > 0
    assert type(net[2]) is torch.nn.Hardsigmoid
    with second_derivatives.available(net):
        torch.testing.assert_close(net(images), before)
    with pytest.raises(SystemExit, match="no second derivative .*; leave hessian out"):
        with second_derivatives.available(net):
            raise RuntimeError("derivative for aten::unheard_of_backward is not implemented")
    assert type(net[2]) is torch.nn.Hardsigmoid


def test_a_network_whose_part_is_called_head_has_the_distance_of_its_head():
    """Of Swin, the child `head` is the whole classifier: what is left of it is nothing."""
    net = torch.nn.Module()
    net.body, net.head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 5)
    distances = finetuning.Distances(net)
    assert set(distances.names) == {"all", "weights", "head", "with_head", "body"}


# One of each family of torchvision's classifiers, the smallest; all at 32 pixels.
CLASSIFIERS = (
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vgg11_bn",
    "vit_b_32",
)
SMALL_BATTERY = [
    *("--images", 6, "--batchnorm-images", 11, "--device", "cpu", "clean"),
    *("--fgsm-levels", "0,0.01", "fgsm", "--pgd-levels", "0,0.01", "pgd"),
    *("--local-energy-levels", "0,0.1", "--local-energy-repeats", 1, "local_energy"),
    *("--adaptive-sharpness-draws", 2, "--adaptive-sharpness-steps", 2, "adaptive_sharpness"),
    *("--hessian-images", 2, "--hessian-iterations", 2, "--hessian-vectors", 2, "hessian"),
]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["regnet_y_400mf", "mnasnet0_5", "vit_b_32", "googlenet"])
def test_what_is_saved_is_loaded_to_the_bit(arch, tmp_path):
    """Networks that compute their widths with tensors, ask for versions, or are made for a size."""
    net = models.build(arch, 3, 1, 64)
    fields = dict.fromkeys(models.METADATA, "") | {"arch": arch, "image_size": 64, "seed": 0}
    models.save(tmp_path / "w.safetensors", net.state_dict(), **fields | {"classes": list("abc")})
    loaded, _ = models.load(tmp_path / "w.safetensors")
    assert_same(net.state_dict(), loaded.state_dict())
    with weights.restored_after(loaded):
        for value in loaded.parameters():
            value.data.add_(1)
    assert_same(net.state_dict(), loaded.state_dict())


@pytest.mark.full
@pytest.mark.parametrize("arch", CLASSIFIERS)
def test_every_family_of_classifiers_does_the_whole_job(arch, tiny_pack, tmp_path, monkeypatch):
    """Pretrained, killed and resumed to the bit, folded, measured, finetuned."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = ["--data", tiny_pack, *TINY, "--arch", arch]
    run(monkeypatch, "train.adam", *flags, "--out", whole)
    killed_and_resumed(monkeypatch, "train.adam", [*flags, "--out", killed])
    one, other = (load_file(folder / "weights.safetensors") for folder in (whole, killed))
    assert_same(one, other)
    assert_same(values(whole / "training.h5"), values(killed / "training.h5"))

    net = models.load(whole / "weights.safetensors")[0]
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        folded = folding.fold(net)[0]
        torch.testing.assert_close(folded(images), net(images), rtol=1e-3, atol=1e-3)
    assert folded is not net

    measured = ["--data", tiny_pack, "--minimum", whole, "--out", whole / "passport.h5"]
    run(monkeypatch, "eval.battery", *measured, *SMALL_BATTERY)
    for name, array in values(whole / "passport.h5").items():
        # inf and NaN have a meaning there; of one batch there is no standard error.
        if not name.endswith(("_level", "relative", "_se")):
            assert np.isfinite(array).all(), name

    tuned = ["--data", tiny_pack, "--minimum", whole, "--out", whole / "full.h5", *TINY]
    run(monkeypatch, "finetune.full", *tuned, "--runs", 1)
    with h5py.File(whole / "full.h5") as file:
        assert (file["distance/all"][0, 1:] > 0).all() and (file["distance/head"][0, 1:] > 0).all()
