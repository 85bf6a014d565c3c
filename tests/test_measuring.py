"""Measurements: level 0 is clean to the last bit, sums are over images, draws are shared, attacks and masks stay in bounds."""

import json
import shutil
from importlib import import_module
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import torchvision
from conftest import MEASUREMENTS, run
from torch.nn.functional import cross_entropy

from common import seeds
from common.images import packs
from common.measuring import bench as measure
from common.networks import batchnorm, folding, models, weights

MODULES = {name: import_module(f"eval.{name}") for name in MEASUREMENTS}
INPUTS = [name for name, module in MODULES.items() if hasattr(module, "perturb")]
PERTURBING = [name for name, module in MODULES.items() if hasattr(module, "LEVEL")]
ONE_LEVEL = {
    "pgd": "0,0.02",
    "corruptions": "0,2",
    "local_energy_layers": "0,0.1",
    "local_energy_all": "0,0.1",
}
SMALL = [
    flag
    for name in PERTURBING
    for flag in (
        f"--{name.replace('_', '-')}-levels",
        ONE_LEVEL.get(name, "0,0.02,0.1"),
        *([] if name == "corruptions" else [f"--{name.replace('_', '-')}-repeats", "2"]),
    )
] + [
    "--hessian-images",
    "10",
    "--hessian-iterations",
    "2",
    "--hessian-vectors",
    "2",
    "--adaptive-sharpness-images",
    "20",
    "--adaptive-sharpness-draws",
    "2",
    "--adaptive-sharpness-steps",
    "3",
]


@pytest.fixture(scope="module")
def passport(pack_file, minimum, tmp_path_factory):
    out = tmp_path_factory.mktemp("passport") / "passport.h5"
    with pytest.MonkeyPatch.context() as patch:
        run(
            patch,
            "eval.battery",
            "--data",
            pack_file,
            "--minimum",
            minimum,
            "--out",
            out,
            "--images",
            60,
            "--batchnorm-images",
            70,
            *SMALL,
            *MEASUREMENTS,
        )
    return out


@pytest.fixture
def bench(pack, minimum):
    return make_bench(pack, minimum)


def make_bench(pack, minimum, batch_size=500, images=60, precision="auto"):
    net = models.load(minimum / "weights.safetensors")[0]
    return measure.Bench(
        net,
        pack,
        SimpleNamespace(
            seed=0,
            images=images,
            batchnorm_images=70,
            batch_size=batch_size,
            precision=precision,
            no_compile=False,
        ),
    )


def both(file, group):
    """A group's datasets by split, for the splits that it has."""
    return [(split, file[group][split]) for split in ("train", "test") if split in file[group]]


@pytest.mark.parametrize("name", PERTURBING)
def test_level_0_is_clean_to_the_last_bit(name, passport):
    with h5py.File(passport) as file:
        for group in (group for group in file if file[group].attrs["measurement"] == name):
            clean = (
                "clean_recomputed" if file[group].attrs["batchnorm"] == "recomputed" else "clean"
            )
            for split, found in both(file, group):
                np.testing.assert_array_equal(
                    found["loss_by_image"][0], file[f"{clean}/{split}/loss_by_image"][0]
                )
                for value in "loss", "accuracy":
                    np.testing.assert_array_equal(
                        found[value][0], file[f"{clean}/{split}/{value}"][0, 0]
                    )
                summary = file[f"{group}/summary/{split}"]
                np.testing.assert_allclose(summary["loss_change"][0], 0, atol=1e-12)
                np.testing.assert_allclose(summary["accuracy_relative"][0], 1, rtol=1e-12)


def keywords(name):
    """What `perturb` of a measurement is called with beside the five."""
    return {"pgd": {"steps": 2}, "corruptions": {"repeat": "shot_noise"}}.get(name, {})


@pytest.mark.parametrize("name", [name for name in INPUTS if name != "corruptions"])
def test_what_is_skipped_at_level_0_would_change_nothing(name, pack, bench):
    images, labels = pack.batch(pack.indices("test"))
    (unperturbed,) = MODULES[name].perturb(
        images.clone(), labels, [0.0], seeds.generator("cpu", 0), bench.net, **keywords(name)
    )
    assert torch.equal(unperturbed, images)
    weight = bench.model.conv1.weight
    assert torch.equal(
        next(weights.multiplicative_noise(weight, [0.0], seeds.generator("cpu", 0))), weight
    )


def test_a_passport_says_what_it_holds_and_where_it_comes_from(passport):
    with h5py.File(passport) as file:
        assert file.attrs["kind"] == "passport" and file.attrs["minimum"] == "adam-0"
        assert set(file) == {
            "clean",
            "clean_recomputed",
            "gaussian_noise",
            "square_mask",
            "fgsm",
            "local_energy",
            "local_energy_recomputed",
            "pgd_10",
            "pgd_20",
            "corruptions",
            "local_energy_all",
            "adaptive_sharpness",
            "hessian",
            *(
                f"local_energy_layers_{part}"
                for part in ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")
            ),
        }
        for group in file.values():
            assert {
                "command",
                "settings",
                "seed",
                "code",
                "commit",
                "versions",
                "device",
                "fingerprint",
                "title",
                "source",
            } <= set(group.attrs)
            repeats = json.loads(group.attrs["settings"])["repeats"]
            for split, found in both(file, group.name) if "levels" in group else ():
                count = found["correct_by_image"].shape[1]
                assert (
                    found["loss"].dims[0][0] == group["levels"] and group["levels"].attrs["units"]
                )
                assert found["loss"].shape == (len(group["levels"]), repeats)
                np.testing.assert_allclose(
                    found["accuracy"][()].mean(1),
                    found["correct_by_image"][()].sum(1) / (count * repeats),
                    rtol=1e-12,
                )
                np.testing.assert_allclose(
                    found["loss"][()].mean(1),
                    found["loss_by_image"][()].astype(float).mean(1),
                    rtol=1e-6,
                )
                summary = group[f"summary/{split}"]
                np.testing.assert_allclose(
                    summary["accuracy"][:, 0], found["accuracy"][()].mean(1), rtol=1e-9
                )
                np.testing.assert_allclose(
                    summary["loss"][:, 0], found["loss"][()].mean(1), rtol=1e-6
                )
                assert all((values[..., 1] <= values[..., 2]).all() for values in summary.values())
        assert (
            file["hessian/train/trace_se"][0] > 0
            and file["adaptive_sharpness/test/average_se"][0] > 0
        )


def test_clean_is_the_mean_over_images(passport, pack, minimum):
    net, index = models.load(minimum / "weights.safetensors")[0], pack.indices("test")
    with torch.no_grad():
        logits = net(pack.batch(index)[0])
    with h5py.File(passport) as file:
        assert file["clean/test/loss"][0, 0] == pytest.approx(
            cross_entropy(logits, pack.labels[index]).item(), rel=1e-5
        )
        assert (
            file["clean/test/accuracy"][0, 0]
            == (logits.argmax(1) == pack.labels[index]).double().mean().item()
        )


@pytest.mark.parametrize("name", INPUTS)
def test_results_do_not_depend_on_batch_size_or_on_the_other_levels(
    name, pack, minimum, monkeypatch
):
    monkeypatch.setattr(
        measure, "BLOCK", 25
    )  # 60 images are two whole blocks and a part: the last batch counts as what it is
    perturb = MODULES[name].perturb
    whole = make_bench(pack, minimum, 100).sweep(
        "test", perturb, [0.01, 0.02, 0.2], ("x", 1), **keywords(name)
    )
    small = make_bench(pack, minimum, 25).sweep("test", perturb, [0.02], ("x", 1), **keywords(name))
    assert whole[0].shape == whole[1].shape == (3, 60)
    torch.testing.assert_close(small[0][0], whole[0][1], rtol=2e-3, atol=2e-3)


DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.mark.parametrize("device_name", DEVICES)
@pytest.mark.parametrize(
    "name, extra",
    [
        ("gaussian_noise", {}),
        ("square_mask", {}),
        ("pgd", {"steps": 0}),
        *(("corruptions", {"repeat": corruption}) for corruption in MODULES["corruptions"].REPEATS),
    ],
)
def test_draws_depend_on_measurement_split_block_and_repeat_alone(
    name, extra, device_name, pack_file, minimum, monkeypatch
):
    """The perturbed images themselves, bit by bit: whatever the batch size, the other levels, the minimum, the device."""
    monkeypatch.setattr(measure, "BLOCK", 25)
    seen = {}

    def seen_by(where, batch_size, levels, repeat=0, net=None):
        own = make_bench(packs.load(pack_file, torch.device(where)), minimum, batch_size)
        if net is not None:
            own.model.load_state_dict(net.state_dict())
            own.settle()
        images = {level: [] for level in levels}

        def record(batch, labels, levels, generator, model, **keywords):
            assert generator.device.type == "cpu" and model is own.net
            for level, perturbed in zip(
                levels, MODULES[name].perturb(batch, labels, levels, generator, model, **keywords)
            ):
                images[level].append(perturbed.cpu())
                yield perturbed

        own.sweep("test", record, levels, (name, repeat), **extra)
        return torch.cat(images[levels[-1]])

    level = 2.0 if name == "corruptions" else 0.3
    seen = seen_by("cpu", 100, [0.1, 0.2, level])
    torch.manual_seed(1)  # the global generator plays no part
    other = seen_by(device_name, 25, [level], net=models.build("resnet18", 5, seed=5))
    if device_name == "cpu":
        assert torch.equal(seen, other)
    torch.testing.assert_close(other, seen, rtol=0, atol=1e-6)
    draws_nothing = extra.get("repeat") in (
        "gaussian_blur",
        "zoom_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg",
    )
    assert torch.equal(seen, seen_by("cpu", 100, [level], repeat=1)) == draws_nothing


@pytest.mark.parametrize("device_name", DEVICES)
def test_weight_draws_are_shared_by_levels_minima_and_devices(device_name):
    weight = torch.full((4, 3), 2.0)
    a = list(
        weights.multiplicative_noise(
            weight, [0, 0.1, 0.5], seeds.generator("cpu", 0, "local_energy", 1)
        )
    )
    b = [
        value.cpu()
        for value in weights.multiplicative_noise(
            3 * weight.to(device_name), [0.5], seeds.generator("cpu", 0, "local_energy", 1)
        )
    ]
    assert torch.equal(a[0], weight)
    torch.testing.assert_close(b[0] / 3, a[2])
    torch.testing.assert_close((a[1] / 2 - 1) * 5, a[2] / 2 - 1)


def scaled(module, norm, filters, s, statistics):
    """Scales some filters by s and, if asked, the statistics of what they give: the same function, but for BatchNorm's eps."""
    with torch.no_grad():
        module.weight[filters] *= s
        if statistics:
            norm.running_mean[filters] *= s
            norm.running_var[filters] *= s * s


@pytest.mark.parametrize("batchnorm", ["stored", "recomputed"])
@pytest.mark.parametrize("s", [2, 1 / 8])
def test_multiplicative_noise_is_blind_to_a_rescaling_that_batchnorm_undoes(
    s, batchnorm, pack, minimum
):
    results = []
    for factor in 1, s:
        own = make_bench(pack, minimum)
        for block in own.model.layer1[0], own.model.layer3[1]:
            # Filters whose output varies enough for eps (1e-5) to be small beside it.
            filters = (block.bn1.running_var > 0.1).nonzero().flatten()[:8]
            assert len(filters) == 8
            scaled(block.conv1, block.bn1, filters, factor, batchnorm == "stored")
        own.settle(batchnorm == "recomputed")
        found = measure.group(
            own,
            MODULES["local_energy"],
            [0.0, 0.1, 0.3],
            2,
            batchnorm,
            weights.conv_linear(own.model),
        )
        results.append(found["test/loss"])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3)
    assert results[0][1, 0] != results[0][1, 1]


@pytest.mark.parametrize(
    "arch", ["resnet18", "vgg11_bn", "densenet121", "mobilenet_v2", "vit_b_16"]
)
def test_folding_batchnorm_changes_nothing(arch):
    net = torchvision.models.get_model(arch, weights=None, num_classes=5).double().eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for values in layer.running_mean, layer.weight, layer.bias:
                torch.nn.init.normal_(values)
            layer.running_var.uniform_(0.5, 2)
    folded, _, refold = folding.fold(net)
    images = torch.rand(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(folded(images), net(images), rtol=1e-9, atol=1e-9)
            for value in net.parameters():
                value.mul_(1.01)
            refold()
    if arch == "resnet18":
        assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())


def test_fgsm_stays_within_epsilon_and_range_and_raises_the_loss(pack, bench):
    images, labels = pack.batch(pack.indices("test"))
    levels = [0, 0.004, 0.03]
    attacked = list(MODULES["fgsm"].perturb(images.clone(), labels, levels, None, bench.model))
    for epsilon, image in zip(levels, attacked):
        assert (
            image.min() >= 0 and image.max() <= 1 and (image - images).abs().max() <= epsilon + 1e-7
        )
        assert not image.requires_grad
    losses = [cross_entropy(bench.model(image), labels).item() for image in attacked]
    assert losses[0] < losses[1] < losses[2]


def test_31_epsilons_cost_one_gradient_and_31_forward_passes(bench, monkeypatch):
    gradients, forwards, grad = [], [], torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda *args, **keywords: gradients.append(1) or grad(*args, **keywords),
    )
    bench.clean("stored")
    bench.net.register_forward_hook(lambda *args: forwards.append(torch.is_grad_enabled()))
    found = measure.group(bench, MODULES["fgsm"], MODULES["fgsm"].LEVELS, 1, "stored")
    assert found["test/loss"].shape == (31, 1)
    # A batch a split: 1 forward pass for the gradient, 30 for the levels above 0; level 0 is the clean pass, made once for all measurements.
    assert len(gradients) == 2 and forwards.count(True) == 2 and forwards.count(False) == 60


def test_float16_is_float32_up_to_rounding_and_gives_way_where_it_overflows(pack, minimum):
    """A GPU's way of measuring, on this CPU: forward passes in float16 on folded weights that follow every move; gradients stay float32."""
    exact, low = (
        make_bench(pack, minimum, precision=precision) for precision in ("float32", "float16")
    )
    assert (
        exact.fast is exact.net
        and next(low.fast.parameters()).dtype == torch.float16
        and next(low.net.parameters()).dtype == torch.float32
    )
    for name in "gaussian_noise", "fgsm", "local_energy":
        module = MODULES[name]
        for batchnorm in getattr(module, "BATCHNORM", ["stored"]):
            variant = measure.groups(module, low.model)[measure.name_of(module)][1]
            ours, theirs = (
                measure.group(
                    bench,
                    module,
                    [0, 0.01, 0.02],
                    1,
                    batchnorm,
                    weights.conv_linear(bench.model) if variant else {},
                )
                for bench in (low, exact)
            )
            for split in "train", "test":
                np.testing.assert_allclose(
                    ours[f"{split}/loss"], theirs[f"{split}/loss"], rtol=5e-3, atol=5e-3
                )
                assert (ours[f"{split}/loss"] != theirs[f"{split}/loss"]).any()
    with low.moved():
        low.model.bn1.weight.mul_(1e6)
        low.model.layer1[0].bn1.running_var.mul_(1e4)
        low.settle()
        loss = low.sweep("test")[0]
        assert (
            loss.isfinite().all()
            and not low.fast(pack.batch(low.splits["test"])[0].half()).isfinite().all()
        )
    assert low.sweep("test")[0].max() < 100


def test_a_network_that_cannot_be_folded_is_measured_in_float32(pack, minimum):
    class Branching(models.ResNet18):
        def forward(self, images):
            return (
                super().forward(images) if images.sum() > 0 else None
            )  # what depends on a value cannot be traced

    net = models.load(minimum / "weights.safetensors")[0]
    net.__class__ = Branching
    bench = measure.Bench(
        net,
        pack,
        SimpleNamespace(
            seed=0,
            images=60,
            batchnorm_images=70,
            batch_size=500,
            precision="float16",
            no_compile=False,
        ),
    )
    assert bench.fast is bench.net is bench.model and bench.dtype == torch.float32
    torch.testing.assert_close(
        bench.sweep("test")[0], make_bench(pack, minimum).sweep("test")[0], rtol=1e-3, atol=1e-3
    )


def test_the_battery_tells_names_from_the_values_of_flags():
    named = import_module("eval.battery").named
    assert list(
        named(
            ["--no-compile", "clean", "--seed", "1", "--precision=float32", "fgsm", "--out", "x.h5"]
        )
    ) == ["clean", "fgsm"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_measures_compiles_and_follows_moves(pack, minimum, precision):
    bench = make_bench(pack, minimum, precision=precision)
    plain = bench.sweep("test")[0]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    bench.fast.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(bench.sweep("test")[0], plain, rtol=1e-3, atol=1e-3)
    with bench.moved():
        bench.model.fc.bias.add_(torch.arange(5.0))
        bench.settle()
        assert (bench.sweep("test")[0] - plain).abs().max() > 0.5
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # once, for all moves
    torch.testing.assert_close(bench.sweep("test")[0], plain, rtol=1e-3, atol=1e-3)


def test_gaussian_noise_is_clamped_and_has_its_sigma(bench):
    images = torch.full((8, 3, 32, 32), 0.5)
    small, large = MODULES["gaussian_noise"].perturb(
        images, None, [0.1, 3], torch.Generator().manual_seed(0), None
    )
    assert small.std().item() == pytest.approx(0.1, rel=0.02)
    assert large.min() == 0 and large.max() == 1


def test_masks_lie_inside_at_a_place_of_their_own_and_have_their_side():
    images = torch.ones(16, 3, 32, 32)
    _, masked, all_black = MODULES["square_mask"].perturb(
        images, None, [0, 0.25, 1], torch.Generator().manual_seed(0), None
    )
    assert ((masked == 0).sum((1, 2, 3)) == 3 * 8 * 8).all() and (all_black == 0).all()
    assert len({tuple((image[0] == 0).nonzero()[0].tolist()) for image in masked}) > 10


def test_conv_linear_is_20_convolutions_and_1_linear_layer():
    found = weights.conv_linear(torchvision.models.resnet18())
    assert len(found) == 21 and sum(value.ndim == 4 for value in found.values()) == 20
    assert {
        "layer2.0.downsample.0.weight",
        "layer3.0.downsample.0.weight",
        "layer4.0.downsample.0.weight",
        "fc.weight",
    } <= set(found)
    assert len(weights.batchnorm_parameters(torchvision.models.resnet18())) == 40


def test_attention_s_projections_are_weights_and_a_network_without_batchnorm_has_a_distance():
    nets = [
        torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=5).eval()
        for _ in range(2)
    ]
    found = weights.conv_linear(nets[0])
    assert len(found) == 1 + 2 * 4 + 1 and tuple(
        found["encoder.layers.encoder_layer_1.self_attention.in_proj_weight"].shape
    ) == (192, 64)
    assert all(
        value.ndim == 1 or name in ("class_token", "encoder.pos_embedding")
        for name, value in nets[0].named_parameters()
        if name not in found
    )
    a, b = (weights.groups(net) for net in nets)
    assert weights.distance(a["weights"], b["weights"])["raw"] > 1
    nothing = weights.distance(a["batchnorm"], b["batchnorm"])
    assert nothing["raw"] == 0 and np.isnan(nothing["relative"]) and np.isnan(nothing["cosine"])
    torch.nn.init.normal_(nets[0].heads.head.weight)
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
        assert weights.distance(members, before | {})["raw"] == 0


def test_distance_is_the_euclidean_norm():
    a, b = (
        {"x": torch.tensor([3.0, 0.0]), "y": torch.tensor([[4.0]])},
        {"x": torch.tensor([0.0, 0.0]), "y": torch.tensor([[4.0]])},
    )
    found = weights.distance(a, b)
    assert (
        found["raw"] == 3
        and found["relative"] == pytest.approx(3 / 4.5)
        and found["cosine"] == pytest.approx(0.8)
    )


def test_recomputing_batchnorm_twice_changes_nothing_and_weights_images_equally(pack, bench):
    index = pack.indices("train")
    batchnorm.recompute(bench.model, pack, index, batch_size=64)  # 64 + 6 images
    once = {
        name: value.clone() for name, value in bench.model.state_dict().items() if "running" in name
    }
    batchnorm.recompute(bench.model, pack, index, batch_size=64)
    for name, value in once.items():
        assert torch.equal(value, bench.model.state_dict()[name]), name
    with torch.no_grad():
        mean = bench.model.conv1(pack.batch(index)[0]).mean((0, 2, 3))
    torch.testing.assert_close(bench.model.bn1.running_mean, mean, rtol=1e-3, atol=1e-5)
    assert not bench.model.training and bench.model.bn1.momentum == 0.1


def test_recomputed_statistics_do_not_suffer_from_images_sorted_by_class(pack, bench):
    """A pack is sorted by class. Batches of one class would lose the variance between classes, as they do where nobody mixes them."""
    index = pack.indices("train")
    by_class = index[pack.labels[index].argsort(stable=True)]

    def variances(index, batch_size):
        batchnorm.recompute(bench.model, pack, index, batch_size)
        return torch.cat(
            [
                layer.running_var.clone()
                for layer in bench.model.layer4.modules()
                if isinstance(layer, torch.nn.BatchNorm2d)
            ]
        )

    whole, batches = variances(by_class, 70), variances(by_class, 14)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "mixed", torch.arange)
        spoiled = variances(by_class, 14)
    assert (spoiled / whole).median() < 0.8 and (batches / whole).median().item() == pytest.approx(
        1, abs=0.1
    )


def test_moved_weights_come_back(bench):
    before = {name: value.clone() for name, value in bench.model.state_dict().items()}
    folded = {name: value.clone() for name, value in bench.net.state_dict().items()}
    measure.group(
        bench, MODULES["local_energy"], [0.5], 1, "recomputed", weights.conv_linear(bench.model)
    )
    measure.group(
        bench,
        MODULES["adaptive_sharpness"],
        options={"images": 20, "average": 0.1, "draws": 1, "worst": 0.01, "steps": 2},
    )
    assert all(torch.equal(value, bench.net.state_dict()[name]) for name, value in folded.items())
    assert not any(value.requires_grad for value in bench.model.parameters())
    for name, value in bench.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_path_s_ends_are_its_endpoints_and_its_middle_needs_recomputed_statistics(
    pack_file, minimum, passport, pack, tmp_path, monkeypatch
):
    other = tmp_path / "adam-1"
    run(
        monkeypatch,
        "train.adam",
        "--data",
        pack_file,
        "--out",
        other,
        "--seed",
        1,
        "--epochs",
        1,
        "--batch-size",
        16,
        "--train-images",
        20,
    )
    out = tmp_path / "pair.h5"
    run(
        monkeypatch,
        "eval.pair",
        "--data",
        pack_file,
        "--minima",
        minimum,
        other,
        "--out",
        out,
        "--points",
        3,
        "--images",
        60,
        "--batchnorm-images",
        70,
    )
    with h5py.File(out) as pair, h5py.File(passport) as clean:
        assert not pair.attrs["shared_start"]
        for path, name in ("path", "clean"), ("path_recomputed", "clean_recomputed"):
            assert pair[f"{path}/test/loss"][0] == pytest.approx(
                clean[f"{name}/test/loss"][0, 0], rel=1e-12
            )
        assert pair["path/t"][()].tolist() == [0, 0.5, 1]
        assert pair["path/train/loss"][1] != pair["path_recomputed/train/loss"][1]
        assert 0.2 < pair["distance/all/relative"][()] < 2
    # The report's straight lines used interpolated statistics: they are not those of the network in the middle.
    a, b = (models.load(folder / "weights.safetensors")[0] for folder in (minimum, other))
    middle = models.build("resnet18", 5, seed=0)
    weights.interpolate(middle, a.state_dict(), b.state_dict(), 0.5)
    interpolated = middle.layer1[0].bn1.running_var.clone()
    batchnorm.recompute(middle, pack, pack.indices("train"))
    assert ((middle.layer1[0].bn1.running_var / interpolated - 1).abs() > 0.1).any()


def test_interpolation_s_ends_are_exact():
    a, b, net = (models.build("resnet18", 5, seed=seed) for seed in (1, 2, 3))
    for t, end in (0, a), (1, b):
        weights.interpolate(net, a.state_dict(), b.state_dict(), t)
        assert all(
            torch.equal(value, end.state_dict()[name]) for name, value in net.state_dict().items()
        )


def test_the_battery_takes_over_what_is_there(
    pack_file, minimum, passport, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "passport.h5"
    shutil.copy(passport, out)
    flags = [
        "--data",
        pack_file,
        "--minimum",
        minimum,
        "--out",
        out,
        "--images",
        60,
        "--batchnorm-images",
        70,
    ]
    run(monkeypatch, "eval.battery", *flags, *SMALL, *MEASUREMENTS)
    assert capsys.readouterr().out == ""
    run(monkeypatch, "eval.battery", *flags, *SMALL, "--fgsm-levels", "0,0.01", *MEASUREMENTS)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["fgsm:"]
    run(
        monkeypatch,
        "eval.battery",
        *flags,
        *SMALL,
        "--fgsm-levels",
        "0,0.01",
        "--hessian-images",
        12,
        *MEASUREMENTS,
    )
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["hessian:"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["no_such_thing"], "no_such_thing: no such measurement"),
        (["battery"], "battery: no such measurement"),
        (["--fgsm-levels", "0,2", "fgsm"], "not a number from 0 to 1"),
        (["--fgsm-levels", "0.1,0", "fgsm"], "does not ascend"),
        (["--gaussian-noise-levels", "0,-1", "gaussian_noise"], "not a finite number of 0 or more"),
        (["--square-mask-levels", "1.5", "square_mask"], "not a number from 0 to 1"),
    ],
)
def test_a_bad_request_is_one_line_and_leaves_the_passport(
    flags, message, pack_file, minimum, passport, monkeypatch, capsys
):
    before = passport.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        run(
            monkeypatch,
            "eval.battery",
            "--data",
            pack_file,
            "--minimum",
            minimum,
            "--out",
            passport,
            *flags,
        )
    assert (
        message in f"{stopped.value} {capsys.readouterr().err}" and passport.read_bytes() == before
    )


def test_the_passport_of_another_minimum_is_refused_and_left(
    pack_file, minimum, passport, tmp_path, monkeypatch
):
    other = tmp_path / "adam-7"
    shutil.copytree(minimum, other)
    before = passport.read_bytes()
    with pytest.raises(
        SystemExit,
        match="is the passport of adam-0, not the passport of adam-7; name another --out",
    ):
        run(
            monkeypatch,
            "eval.battery",
            "--data",
            pack_file,
            "--minimum",
            other,
            "--out",
            passport,
            "clean",
        )
    assert passport.read_bytes() == before
    foreign = tmp_path / "notes.h5"
    foreign.write_text("not yours")
    with pytest.raises(SystemExit, match="not a file that basins made"):
        run(
            monkeypatch,
            "eval.battery",
            "--data",
            pack_file,
            "--minimum",
            minimum,
            "--out",
            foreign,
            "clean",
        )
    assert foreign.read_text() == "not yours"


def test_a_scalar_measurement_is_one_function(pack, minimum, bench):
    module = SimpleNamespace(
        __file__="eval/norm.py",
        measure=lambda net, batches, generator: {
            "norm": net.fc.weight.norm().item(),
            "images": sum(len(labels) for _, labels in batches()),
        },
    )
    found = measure.group(bench, module)
    assert set(found) == {"train/norm", "train/images", "test/norm", "test/images"} and found[
        "test/images"
    ] == [60]
