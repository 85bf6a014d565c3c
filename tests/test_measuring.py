"""Measurements: level 0 is clean to the last bit, sums are over images, draws are shared, attacks
and masks stay in bounds; comparisons; the battery.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from conftest import MEASUREMENTS, ROOT, run
from torch.nn.functional import cross_entropy

from common import files, provenance, seeds
from common.images import packs
from common.measuring import comparison, sweep
from common.measuring import passport as passport_file
from common.measuring.bench import Bench
from common.measuring.measurement import CODE, groups, resolve
from common.networks import batchnorm, models, weights
from eval import rounded_weights
from eval.report import results as report_results
from eval.report import study

MODULES = {name: import_module(f"eval.{name}") for name in MEASUREMENTS}
RESOLVED = {name: resolve(module) for name, module in MODULES.items()}
INPUTS = [name for name, measurement in RESOLVED.items() if measurement.perturb]
PERTURBING = [name for name, measurement in RESOLVED.items() if measurement.level]
IMAGES = 50  # of each split, in the passport
SIZES = ["--images", IMAGES, "--batchnorm-images", 70]
LEVELS = {
    "pgd": "0,0.02",
    "corruptions": "0,2",
    "local_energy_layers": "0,0.1",
    "local_energy_all": "0,0.1",
}
SMALL = [
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
for name in PERTURBING:
    flag = "--" + name.replace("_", "-")
    SMALL += [f"{flag}-levels", LEVELS.get(name, "0,0.02,0.1")]
    if name != "corruptions":
        SMALL += [f"{flag}-repeats", "1" if name == "pgd" else "2"]


@pytest.fixture(scope="module")
def battery(pack_file, minimum):
    """The flags of a battery of all measurements, as small as they can be."""
    return ["--data", pack_file, "--minimum", minimum, *SIZES, *SMALL, *MEASUREMENTS]


@pytest.fixture(scope="module")
def passport(battery, tmp_path_factory):
    out = tmp_path_factory.mktemp("passport") / "passport.h5"
    few_steps = {"10": {"steps": 2}, "20": {"steps": 3}}  # test_parity.py takes them all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULES["pgd"], "variants", lambda model: few_steps)
        run(patch, "eval.battery", "--out", out, *battery)
    return out


@pytest.fixture
def bench(pack, minimum):
    return make_bench(pack, minimum)


def make_bench(pack, minimum, net=None, **settings):
    """The Bench of a minimum, or of the network `net`, with `settings` for flags."""
    net = net or models.load(minimum / "weights.safetensors")[0]
    defaults = {
        "seed": 0,
        "images": 60,
        "batchnorm_images": 70,
        "batch_size": 500,
        "precision": "auto",
        "no_compile": False,
    }
    return Bench(net, pack, SimpleNamespace(**defaults | settings))


def measure(bench, name, batchnorm="stored", **changes):
    """The datasets of the first group of a measurement under `batchnorm`, `changes` made to it."""
    measurement = replace(RESOLVED[name], **changes)
    found = [group for group in groups(measurement, bench.model) if group.batchnorm == batchnorm]
    return sweep.measure_group(bench, measurement, found[0])


def by_split(file, group):
    """A group's datasets by split, for the splits that it has."""
    return [(split, file[group][split]) for split in ("train", "test") if split in file[group]]


@pytest.mark.parametrize("name", PERTURBING)
def test_level_0_is_clean_to_the_last_bit(name, passport):
    with h5py.File(passport) as file:
        for group in [group for group in file if file[group].attrs["measurement"] == name]:
            recomputed = file[group].attrs["batchnorm"] == "recomputed"
            clean = file["clean_recomputed" if recomputed else "clean"]
            for split, results in by_split(file, group):
                np.testing.assert_array_equal(
                    results["loss_by_image"][0], clean[f"{split}/loss_by_image"][0]
                )
                for value in "loss", "accuracy":
                    np.testing.assert_array_equal(
                        results[value][0], clean[f"{split}/{value}"][0, 0]
                    )
                summary = file[f"{group}/summary/{split}"]
                np.testing.assert_allclose(summary["loss_change"][0], 0, atol=1e-12)
                np.testing.assert_allclose(summary["accuracy_relative"][0], 1, rtol=1e-12)


def keywords(name):
    """What `perturb` of a measurement is called with beside the five."""
    return {"pgd": {"steps": 2}, "corruptions": {"repeat": "shot_noise"}}.get(name, {})


def test_a_split_and_a_batchnorm_may_be_asked_for(pack_file, minimum, tmp_path, monkeypatch):
    where = ["--data", pack_file, "--minimum", minimum, *SIZES]
    flags = ["--fgsm-levels", "0,0.1", "clean", "fgsm"]
    wholes, parts = tmp_path / "wholes.h5", tmp_path / "parts.h5"
    run(monkeypatch, "eval.battery", *where, "--out", wholes, "--batchnorm", "both", *flags)
    asked = ["--batchnorm", "recomputed", "--fgsm-split", "test"]
    run(monkeypatch, "eval.battery", *where, "--out", parts, *asked, *flags)
    with files.read(wholes) as whole, files.read(parts) as part:
        assert set(whole) == {"clean", "clean_recomputed", "fgsm", "fgsm_recomputed"}
        assert set(part) == {"clean", "clean_recomputed", "fgsm_recomputed"}
        assert set(part["fgsm_recomputed"]) == {"levels", "test", "summary"}
        ours, theirs = (file["fgsm_recomputed/test/loss"][()] for file in (part, whole))
        assert np.array_equal(ours, theirs)
        assert not np.array_equal(ours, whole["fgsm/test/loss"][()])


@pytest.mark.parametrize("name", [name for name in INPUTS if name != "corruptions"])
def test_what_is_skipped_at_level_0_would_change_nothing(name, pack, bench):
    images, labels = pack.batch(pack.indices("test"))
    (unperturbed,) = MODULES[name].perturb(
        images.clone(), labels, [0.0], seeds.generator("cpu", 0), bench.folded, **keywords(name)
    )
    assert torch.equal(unperturbed, images)
    weight = bench.model.conv1.weight
    noisy = weights.multiplicative_noise(weight, [0.0], seeds.generator("cpu", 0))
    assert torch.equal(next(noisy), weight)


def test_a_passport_says_what_it_holds_and_where_it_comes_from(passport):
    parts = ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")
    expected = {name: [name] for name in MEASUREMENTS} | {
        "clean": ["clean", "clean_recomputed"],
        "local_energy": ["local_energy", "local_energy_recomputed"],
        "rounded_weights": ["rounded_weights", "rounded_weights_recomputed"],
        "pgd": ["pgd_10", "pgd_20"],
        "local_energy_layers": [f"local_energy_layers_{part}" for part in parts],
    }
    with h5py.File(passport) as file:
        assert file.attrs["kind"] == "passport" and file.attrs["minimum"] == "adam-0"
        assert file.attrs["method"] == file.attrs["setting"] == "adam" and file.attrs["seed"] == 0
        assert set(file) == {group for name in MEASUREMENTS for group in expected[name]}
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
            if "levels" in group:
                levels_agree_with_images(file, group)
        assert file["hessian/train/trace_se"][0] > 0
        assert file["adaptive_sharpness/test/average_se"][0] > 0


def levels_agree_with_images(file, group):
    """A group's curves, its results by image and its summaries are the same numbers."""
    repeats = json.loads(group.attrs["settings"])["repeats"]
    for split, results in by_split(file, group.name):
        count = results["correct_by_image"].shape[1]
        loss, accuracy = results["loss"][()], results["accuracy"][()]
        assert results["loss"].dims[0][0] == group["levels"] and group["levels"].attrs["units"]
        assert loss.shape == (len(group["levels"]), repeats)
        correct = results["correct_by_image"][()].sum(1)
        np.testing.assert_allclose(accuracy.mean(1), correct / (count * repeats), rtol=1e-12)
        by_image = results["loss_by_image"][()].astype(float)
        np.testing.assert_allclose(loss.mean(1), by_image.mean(1), rtol=1e-6)
        summary = group[f"summary/{split}"]
        np.testing.assert_allclose(summary["accuracy"][:, 0], accuracy.mean(1), rtol=1e-9)
        np.testing.assert_allclose(summary["loss"][:, 0], loss.mean(1), rtol=1e-6)
        assert all((values[..., 1] <= values[..., 2]).all() for values in summary.values())


def test_clean_is_the_mean_over_images(passport, pack, minimum):
    net, index = models.load(minimum / "weights.safetensors")[0], pack.subset("test", IMAGES)
    with torch.no_grad():
        logits = net(pack.batch(index)[0])
    labels = pack.labels[index]
    loss, accuracy = cross_entropy(logits, labels), (logits.argmax(1) == labels).double().mean()
    with h5py.File(passport) as file:
        assert file["clean/test/loss"][0, 0] == pytest.approx(loss.item(), rel=1e-5)
        assert file["clean/test/accuracy"][0, 0] == accuracy.item()


@pytest.mark.parametrize("name", INPUTS)
def test_results_do_not_depend_on_batch_size_or_on_the_other_levels(
    name, pack, minimum, monkeypatch
):
    # 60 images are two whole blocks and a part: the last batch counts as what it is.
    monkeypatch.setattr("common.measuring.bench.BLOCK", 25)
    perturb = MODULES[name].perturb
    loss, correct = make_bench(pack, minimum, batch_size=100).evaluate(
        "test", perturb, [0.01, 0.02, 0.2], ("x", 1), **keywords(name)
    )
    alone, _ = make_bench(pack, minimum, batch_size=25).evaluate(
        "test", perturb, [0.02], ("x", 1), **keywords(name)
    )
    assert loss.shape == correct.shape == (3, 60)
    torch.testing.assert_close(alone[0], loss[1], rtol=2e-3, atol=2e-3)


DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
DRAWS_NOTHING = ("gaussian_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg")


@pytest.mark.parametrize("device_name", DEVICES)
@pytest.mark.parametrize(
    "name, extra",
    [
        ("gaussian_noise", {}),
        ("square_mask", {}),
        ("pgd", {"steps": 0}),
        *(
            pytest.param("corruptions", {"repeat": corruption}, marks=pytest.mark.slow)
            for corruption in MODULES["corruptions"].REPEATS
        ),
    ],
)
def test_draws_depend_on_measurement_split_block_and_repeat_alone(
    name, extra, device_name, pack_file, minimum, monkeypatch
):
    """The perturbed images themselves, bit by bit: whatever the batch size, the other levels, the
    minimum, the device.
    """
    monkeypatch.setattr("common.measuring.bench.BLOCK", 25)

    def seen_by(where, batch_size, levels, repeat=0, net=None):
        pack = packs.load(pack_file, torch.device(where))
        bench = make_bench(pack, minimum, net, batch_size=batch_size)
        images = {level: [] for level in levels}

        def record(batch, labels, levels, generator, model, **keywords):
            assert generator.device.type == "cpu" and model is bench.folded
            perturb = MODULES[name].perturb
            for level, perturbed in zip(
                levels, perturb(batch, labels, levels, generator, model, **keywords)
            ):
                images[level].append(perturbed.cpu())
                yield perturbed

        bench.evaluate("test", record, levels, (name, repeat), **extra)
        return torch.cat(images[levels[-1]])

    level = 2.0 if name == "corruptions" else 0.3
    seen = seen_by("cpu", 100, [0.1, 0.2, level])
    torch.manual_seed(1)  # the global generator plays no part
    other = seen_by(device_name, 25, [level], net=models.build("resnet18", 5, seed=5))
    if device_name == "cpu":
        assert torch.equal(seen, other)
    torch.testing.assert_close(other, seen, rtol=0, atol=1e-6)
    draws_nothing = extra.get("repeat") in DRAWS_NOTHING
    assert torch.equal(seen, seen_by("cpu", 100, [level], repeat=1)) == draws_nothing


@pytest.mark.parametrize("device_name", DEVICES)
def test_weight_draws_are_shared_by_levels_minima_and_devices(device_name):
    weight = torch.full((4, 3), 2.0)

    def noisy(weight, levels):
        generator = seeds.generator("cpu", 0, "local_energy", 1)
        return [value.cpu() for value in weights.multiplicative_noise(weight, levels, generator)]

    a = noisy(weight, [0, 0.1, 0.5])
    (b,) = noisy(3 * weight.to(device_name), [0.5])
    assert torch.equal(a[0], weight)
    torch.testing.assert_close(b / 3, a[2])
    torch.testing.assert_close((a[1] / 2 - 1) * 5, a[2] / 2 - 1)


@torch.no_grad()
def scale(block, filters, s, statistics):
    """Scales some filters by s and, if asked, the statistics of what they give: the same function,
    but for BatchNorm's eps.
    """
    block.conv1.weight[filters] *= s
    if statistics:
        block.bn1.running_mean[filters] *= s
        block.bn1.running_var[filters] *= s * s


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["stored", "recomputed"])
@pytest.mark.parametrize("s", [2, 1 / 8])
def test_multiplicative_noise_is_blind_to_a_rescaling_that_batchnorm_undoes(
    s, statistics, pack, minimum
):
    results = []
    for factor in 1, s:
        bench = make_bench(pack, minimum, images=30)
        for block in bench.model.layer1[0], bench.model.layer3[1]:
            # Filters whose output varies enough for eps (1e-5) to be small beside it.
            filters = (block.bn1.running_var > 0.1).nonzero().flatten()[:8]
            assert len(filters) == 8
            scale(block, filters, factor, statistics == "stored")
        bench.settle(statistics == "recomputed")
        arrays = measure(bench, "local_energy", statistics, levels=[0.0, 0.1, 0.3], repeats=2)
        results.append(arrays["test/loss"])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3)
    assert results[0][1, 0] != results[0][1, 1]


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_the_share_of_images_without_a_gradient_stands_beside_an_attack(name, pack, minimum):
    """Logits so far apart that the loss of some images is below float32's smallest number."""
    net = models.load(minimum / "weights.safetensors")[0]
    usual = measure(make_bench(pack, minimum), name, levels=[0.0, 0.01])
    assert usual["test/without_gradient"] == [0] and not list(passport_file.cautions(usual))
    for value in net.fc.parameters():
        value.data.mul_(1e5)
    bench = make_bench(pack, minimum, net)
    sure = measure(bench, name, levels=[0.0, 0.01])
    images, labels = pack.batch(bench.splits["test"])
    losses = cross_entropy(net.double()(images.double()), labels, reduction="none")
    (share,) = sure["test/without_gradient"]
    # Below exp(-104) nothing is left in float32; above 1e-30 something always is.
    assert (losses < 1e-50).double().mean() <= share <= (losses < 1e-30).double().mean()
    assert 0.1 < share < 0.9
    *_, line = passport_file.cautions(sure)
    assert line.startswith(
        f"at {share:.0%} of the test images the gradient is exactly 0 in float32"
    )


def without_slope(forward):
    """`forward` of a network, with the same logits and no gradient: sqrt has none at 0."""

    def give(self, images):
        logits = forward(self, images)
        return logits + (0 * logits).square().sqrt()

    return give


def test_an_attack_whose_gradient_is_no_number_says_that_it_could_not_attack(
    pack, minimum, monkeypatch
):
    """The sign of what is no number is 0: each image is left as it is."""
    monkeypatch.setattr(models.ResNet18, "forward", without_slope(models.ResNet18.forward))
    arrays = measure(make_bench(pack, minimum), "fgsm", levels=[0.0, 0.1])
    (first, second) = passport_file.cautions(arrays)
    for line, split in (first, "train"), (second, "test"):
        assert line.startswith(
            f"at 100% of the {split} images the gradient is exactly 0 in float32"
        )


NO_NUMBERS = {  # of networks whose gradient is not a number
    "hessian": ["eigenvalue", "eigenvalue_residual", "trace"],
    "adaptive_sharpness": ["worst"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_came_to_no_number_is_one_line(
    name, pack_file, minimum, tmp_path, monkeypatch, capsys
):
    """The passport is whole, and the report says what it lacks."""
    monkeypatch.setattr(models.ResNet18, "forward", without_slope(models.ResNet18.forward))
    flags = ["--data", pack_file, "--minimum", minimum, "--images", 20, "--batchnorm-images", 20]
    options = {"hessian": ["--hessian-vectors", 2]}
    out = tmp_path / "passport.h5"
    run(monkeypatch, "eval.battery", *flags, *options.get(name, []), "--out", out, name)
    both = [f"{split}/{word}" for split in ("train", "test") for word in NO_NUMBERS[name]]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"adam-0 {name}: caution: {', '.join(both)} came to no finite number: the network, its "
        "gradient or its second derivative overflows there, or has no value; the report leaves a "
        "dash"
    )
    kept, _, problems = report_results.read([out], [], partial=False)
    (note,) = [note for note in study.Study(kept, [], []).notes if "no finite number" in note]
    assert all(f"{name}/{path} of adam-0" in note for path in both) and not problems


@pytest.mark.slow
def test_an_attack_that_cannot_attack_is_said_when_it_is_measured(
    pack_file, minimum, tmp_path, monkeypatch, capsys
):
    net, metadata = models.load(minimum / "weights.safetensors")
    for value in net.fc.parameters():
        value.data.mul_(1e5)
    models.save(tmp_path / "weights.safetensors", net.state_dict(), **metadata)
    flags = ["--data", pack_file, "--minimum", tmp_path, "--out", tmp_path / "p.h5", *SIZES]
    run(monkeypatch, "eval.battery", *flags, "--fgsm-levels", "0,0.01", "fgsm", "gaussian_noise")
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(" fgsm: caution: at " in line for line in lines)
    kept, tuned, problems = report_results.read({tmp_path / "p.h5": None}, {}, False)
    notes = study.Study(kept, tuned, problems).notes
    assert any("gradient of the loss is exactly 0" in note for note in notes)
    assert any("fgsm of adam-0 " in note for note in notes)


def test_fgsm_stays_within_epsilon_and_range_and_raises_the_loss(pack, bench):
    images, labels = pack.batch(pack.indices("test"))
    levels = [0, 0.004, 0.03]
    attacked = list(MODULES["fgsm"].perturb(images.clone(), labels, levels, None, bench.model))
    for epsilon, image in zip(levels, attacked):
        assert image.min() >= 0 and image.max() <= 1
        assert (image - images).abs().max() <= epsilon + 1e-7
        assert not image.requires_grad
    losses = [cross_entropy(bench.model(image), labels).item() for image in attacked]
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.slow
def test_31_epsilons_cost_one_gradient_and_31_forward_passes(pack, minimum, monkeypatch):
    bench = make_bench(pack, minimum, images=10)
    bench.clean("stored")  # once, for all measurements
    for split in bench.splits:
        bench.without_gradient("stored", split)
    gradients, forwards, grad = [], [], torch.autograd.grad

    def counted(*args, **keywords):
        gradients.append(1)
        return grad(*args, **keywords)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    bench.folded.register_forward_hook(lambda *args: forwards.append(torch.is_grad_enabled()))
    arrays = measure(bench, "fgsm")
    assert arrays["test/loss"].shape == (31, 1)
    # A batch a split: 1 forward pass for the gradient, 30 for the levels above 0; level 0 is the
    # clean pass.
    assert len(gradients) == 2
    assert forwards.count(True) == 2 and forwards.count(False) == 60


@pytest.mark.slow
def test_statistics_of_the_minimum_are_recomputed_once(pack, minimum, monkeypatch):
    """The same bits for all measurements of images, and the stored ones are back after each."""
    bench = make_bench(pack, minimum, images=10)
    stored = {name: value.clone() for name, value in bench.model.named_buffers()}
    passes, recompute = [], batchnorm.recompute
    monkeypatch.setattr(
        batchnorm, "recompute", lambda *args, **how: passes.append(1) or recompute(*args, **how)
    )
    seen = []
    for _ in range(2):
        with bench.under("recomputed"):
            loss, _ = bench.evaluate("test")
            seen.append(loss.clone())
        assert all(value.equal(stored[name]) for name, value in bench.model.named_buffers())
    with bench.under("stored"):
        assert not bench.evaluate("test")[0].equal(seen[0])
    assert seen[0].equal(seen[1]) and len(passes) == 1
    attack = replace(RESOLVED["fgsm"], batchnorm=["recomputed"], levels=[0, 0.004])
    (group,) = groups(attack, bench.model)
    sweep.measure_group(bench, attack, group)
    assert len(passes) == 1


@pytest.mark.slow
def test_an_attack_on_test_takes_no_gradient_at_training_images(pack, minimum, monkeypatch):
    bench = make_bench(pack, minimum, images=10)
    asked, batches = [], bench.batches
    monkeypatch.setattr(bench, "batches", lambda split: asked.append(split) or batches(split))
    measure(bench, "fgsm", splits=("test",), levels=[0, 0.004])
    assert asked == ["test"]


@pytest.mark.slow
def test_float16_is_float32_up_to_rounding_and_gives_way_where_it_overflows(pack, minimum):
    """A GPU's way of measuring, on this CPU: forward passes in float16 on folded weights that
    follow every move; gradients stay float32.
    """
    exact = make_bench(pack, minimum, images=30, precision="float32")
    low = make_bench(pack, minimum, images=30, precision="float16")
    assert exact.fast is exact.folded
    assert next(low.fast.parameters()).dtype == torch.float16
    assert next(low.folded.parameters()).dtype == torch.float32
    for name in "gaussian_noise", "fgsm", "local_energy":
        for statistics in RESOLVED[name].batchnorm:
            ours, theirs = (
                measure(bench, name, statistics, levels=[0, 0.01, 0.02], repeats=1)
                for bench in (low, exact)
            )
            for loss in "train/loss", "test/loss":
                np.testing.assert_allclose(ours[loss], theirs[loss], rtol=5e-3, atol=5e-3)
                assert (ours[loss] != theirs[loss]).any()
    with low.restored_after():
        low.model.bn1.weight.mul_(1e6)
        low.model.layer1[0].bn1.running_var.mul_(1e4)
        low.settle()
        assert low.evaluate("test")[0].isfinite().all()
        assert not low.fast(pack.batch(low.splits["test"])[0].half()).isfinite().all()
    assert low.evaluate("test")[0].max() < 100


def test_a_network_that_cannot_be_folded_is_measured_in_float32(pack, minimum):
    class Branching(models.ResNet18):
        def forward(self, images):
            # What depends on a value cannot be traced.
            return super().forward(images) if images.sum() > 0 else None

    net = models.load(minimum / "weights.safetensors")[0]
    net.__class__ = Branching
    bench = make_bench(pack, minimum, net, precision="float16")
    assert bench.fast is bench.folded is bench.model and bench.dtype == torch.float32
    loss, expected = bench.evaluate("test")[0], make_bench(pack, minimum).evaluate("test")[0]
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-3)


def test_the_battery_tells_names_from_the_values_of_flags():
    named = import_module("eval.battery").named
    line = "--no-compile clean --seed 1 --precision=float32 fgsm --out x.h5"
    assert list(named(line.split())) == ["clean", "fgsm"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_measures_compiles_and_follows_moves(pack, minimum, precision):
    bench = make_bench(pack, minimum, precision=precision)
    plain = bench.evaluate("test")[0]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    bench.fast.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(bench.evaluate("test")[0], plain, rtol=1e-3, atol=1e-3)
    with bench.restored_after():
        bench.model.fc.bias.add_(torch.arange(5.0))
        bench.settle()
        assert (bench.evaluate("test")[0] - plain).abs().max() > 0.5
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # once, for all moves
    torch.testing.assert_close(bench.evaluate("test")[0], plain, rtol=1e-3, atol=1e-3)


def test_gaussian_noise_is_clamped_and_has_its_sigma():
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
    corners = {tuple((image[0] == 0).nonzero()[0].tolist()) for image in masked}
    assert len(corners) > 10


@pytest.mark.parametrize("bits", [8, 6, 4, 3])
def test_rounded_weights_take_the_nearest_of_their_channel_s_values(bits):
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[1] *= 1e-4  # each channel has a scale of its own
    weight[2] = 0
    level = rounded_weights.LEVELS[1:][[8, 6, 4, 3].index(bits)]
    (rounded,) = rounded_weights.perturb_weight(weight.clone(), [level], None)
    most = 2 ** (bits - 1) - 1  # integers from -most to most are what `bits` bits hold
    for channel, found in zip(weight.double().numpy(), rounded.double().numpy()):
        largest = np.abs(channel).max()
        values = largest * np.arange(-most, most + 1) / most
        distance = np.abs(channel[..., None] - values)
        np.testing.assert_allclose(found, values[distance.argmin(-1)], rtol=1e-6)
        assert np.abs(found).max() == pytest.approx(largest, rel=1e-6)
    (vector,) = rounded_weights.perturb_weight(torch.tensor([[0.3, -1.0, 0.6]]), [1 / 3], None)
    torch.testing.assert_close(vector, torch.tensor([[1 / 3, -1, 2 / 3]]))


def test_rounded_weights_cost_more_the_fewer_the_bits(bench):
    stored, again, recomputed = (
        sweep.measure_group(bench, measurement, group)
        for measurement in [resolve(rounded_weights)]
        for group in [*groups(measurement, bench.model)[:1], *groups(measurement, bench.model)]
    )
    for name, values in stored.items():
        np.testing.assert_array_equal(values, again[name], name)
    for arrays, statistics in (stored, "stored"), (recomputed, "recomputed"):
        loss, correct = bench.clean(statistics)["test"]
        assert arrays["levels"].tolist() == [0, 1 / 127, 1 / 31, 1 / 7, 1 / 3]
        np.testing.assert_array_equal(arrays["test/loss_by_image"][0], loss)
        np.testing.assert_array_equal(arrays["test/correct_by_image"][0], correct)
        change = np.abs(arrays["test/loss_by_image"] - arrays["test/loss_by_image"][0]).mean(1)
        assert (np.diff(change) > 0).all()


@pytest.mark.slow
def test_moved_weights_come_back(bench):
    before = {name: value.clone() for name, value in bench.model.state_dict().items()}
    folded = {name: value.clone() for name, value in bench.folded.state_dict().items()}
    measure(bench, "local_energy", "recomputed", levels=[0.5], repeats=1)
    options = {"images": 20, "average": 0.1, "draws": 1, "worst": 0.01, "steps": 2}
    measure(bench, "adaptive_sharpness", options=options)
    for name, value in folded.items():
        assert torch.equal(value, bench.folded.state_dict()[name]), name
    assert not any(value.requires_grad for value in bench.model.parameters())
    for name, value in bench.model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.fixture(scope="module")
def other_minimum(pack_file, tmp_path_factory):
    """A minimum of another seed."""
    folder = tmp_path_factory.mktemp("other") / "adam-1"
    flags = ["--seed", 1, "--epochs", 1, "--batch-size", 16, "--train-images", 20]
    with pytest.MonkeyPatch.context() as patch:
        run(patch, "train.adam", "--data", pack_file, "--out", folder, *flags)
    return folder


@pytest.fixture
def compare(pack_file, minimum, other_minimum, tmp_path, monkeypatch):
    """Runs a comparison of the two minima; returns its file."""

    def compare(name, *flags):
        out = tmp_path / f"{name}.h5"
        two = ["--minima", minimum, other_minimum, "--out", out]
        run(monkeypatch, f"eval.{name}", "--data", pack_file, *two, *SIZES, *flags)
        return out

    return compare


def test_a_line_s_ends_are_its_endpoints(compare, passport):
    with h5py.File(compare("line", "--points", 3)) as line, h5py.File(passport) as clean:
        for path, name in ("path", "clean"), ("path_recomputed", "clean_recomputed"):
            expected = clean[f"{name}/test/loss"][0, 0]
            assert line[f"{path}/test/loss"][0] == pytest.approx(expected, rel=1e-12)
            assert line[f"{path}/test/loss"].dims[0][0] == line[f"{path}/t"]
            assert line[f"{path}/train/accuracy"].attrs["units"] == "fraction"
        assert line["path/t"][()].tolist() == [0, 0.5, 1]
        assert line["path/train/loss"][1] != line["path_recomputed/train/loss"][1]


def test_a_distance_says_of_what(compare, minimum, other_minimum):
    a, b = (models.load(folder / "weights.safetensors")[0] for folder in (minimum, other_minimum))
    with h5py.File(compare("distance")) as distance:
        assert 0.2 < distance["distance/all/relative"][()] < 2
        layers = distance["distance/layers"]
        names = json.loads(layers.attrs["names"])
        assert names == [name for name, _ in a.named_parameters()]
        length = (a.fc.weight - b.fc.weight).norm().item()
        assert layers[names.index("fc.weight")] == pytest.approx(length, rel=1e-6)
        squares = (layers[()] ** 2).sum()
        assert distance["distance/all/raw"][()] == pytest.approx(squares**0.5, rel=1e-12)


def test_a_comparison_says_what_it_holds_and_where_it_comes_from(compare):
    with h5py.File(compare("distance")) as file:
        attrs = dict(file.attrs)
    assert (attrs["kind"], attrs["comparison"]) == ("comparison", "distance")
    assert json.loads(attrs["minima"]) == ["adam-0", "adam-1"]
    assert json.loads(attrs["methods"]) == ["adam", "adam"]
    assert json.loads(attrs["seeds"]) == [0, 1]
    assert not attrs["shared_start"] and attrs["classes"] == 5
    expected = {"command", "settings", "seed", "code", "commit", "versions", "device"}
    assert expected | {"fingerprint", "title", "source"} <= set(attrs)


@pytest.mark.parametrize(
    "results, expected",
    [
        ({"path/t": [0.0, 1.0], "path/test/loss": [1.0, np.inf]}, []),  # beyond a large barrier
        ({"path/test/loss": [1.0, np.nan], "path/t": [0.0, 1.0]}, ["path/test/loss"]),
        ({"distance/layers": {"conv1": 1.0, "fc": np.nan}}, ["distance/layers"]),
        ({"distance/all/raw": 2}, []),
    ],
)
def test_a_comparison_without_a_number_is_said(results, expected):
    assert comparison.without_numbers(results) == expected


def test_only_minima_of_the_same_task_are_compared(pack_file, minimum, tmp_path, monkeypatch):
    net, metadata = models.load(minimum / "weights.safetensors")
    foreign = tmp_path / "foreign-0"
    words = {name: metadata[name] for name in models.METADATA} | {"data": "another pack"}
    models.save(foreign / "weights.safetensors", net.state_dict(), **words)
    for minima, message in (
        ([minimum, foreign], "their data differ; only minima of the same task can be compared"),
        ([foreign, foreign], "trained on other data than"),
    ):
        flags = ["--data", pack_file, "--out", tmp_path / "distance.h5", "--minima", *minima]
        with pytest.raises(SystemExit, match=message):
            run(monkeypatch, "eval.distance", *flags)
    assert not (tmp_path / "distance.h5").exists()


def test_the_middle_of_a_line_needs_recomputed_statistics(pack, minimum, other_minimum):
    """The report's straight lines used interpolated ones, which are those of no network."""
    a, b = (models.load(folder / "weights.safetensors")[0] for folder in (minimum, other_minimum))
    middle = models.build("resnet18", 5, seed=0)
    weights.interpolate(middle, a.state_dict(), b.state_dict(), 0.5)
    interpolated = middle.layer1[0].bn1.running_var.clone()
    batchnorm.recompute(middle, pack, pack.indices("train"))
    assert ((middle.layer1[0].bn1.running_var / interpolated - 1).abs() > 0.1).any()


def test_the_battery_takes_over_what_is_there(battery, passport, tmp_path, monkeypatch, capsys):
    out = tmp_path / "passport.h5"
    shutil.copy(passport, out)

    def measured(*changes):
        """The groups that are measured again where some flags differ."""
        run(monkeypatch, "eval.battery", "--out", out, *battery, *changes)
        return [line.split()[1] for line in capsys.readouterr().out.splitlines()]

    assert measured() == []
    fewer = ["--fgsm-levels", "0,0.01"]
    assert measured(*fewer) == ["fgsm:"]
    assert measured(*fewer, "--hessian-images", 12) == ["hessian:"]


def test_a_passport_is_made_again_where_code_changed(
    pack_file, minimum, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "passport.h5"
    source = provenance.source

    def measured(version):
        """How many groups are measured with code of this version."""
        monkeypatch.setattr(provenance, "source", lambda *paths: source(*paths) + version)
        flags = ["--data", pack_file, "--minimum", minimum, "--images", 5, "--out", out]
        run(monkeypatch, "eval.battery", *flags, "--batchnorm-images", 10, "clean")
        return len(capsys.readouterr().out.splitlines())

    assert [measured(version) for version in ("", "", " changed")] == [2, 0, 2]


@pytest.mark.slow
def test_fingerprints_depend_on_all_code_that_makes_numbers():
    """All modules of ours that measuring imports, but for those that name, parse and write."""
    script = "import sys, eval.clean, eval.line; print(*sorted(sys.modules))"
    imported = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    ours = {name.replace(".", "/") for name in imported if name.split(".")[0] == "common"}
    covered = tuple(path.removesuffix(".py") for path in CODE)
    left = {name for name in ours if not name.startswith(covered)}
    others = {"common/cli", "common/settings", "common/files", "common/parts", "common/provenance"}
    assert left == {"common", "common/images"} | others


@pytest.mark.parametrize(
    "flags, message",
    [
        (["no_such_thing"], "no_such_thing: no such measurement"),
        (["battery"], "battery: no such measurement"),
        (["distance"], "distance: no such measurement"),
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
    places = ["--data", pack_file, "--minimum", minimum, "--out", passport]
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "eval.battery", *places, *flags)
    assert message in f"{stopped.value} {capsys.readouterr().err}"
    assert passport.read_bytes() == before


def test_the_passport_of_another_minimum_is_refused_and_left(
    pack_file, minimum, passport, tmp_path, monkeypatch
):
    net, metadata = models.load(minimum / "weights.safetensors")
    words = {name: metadata[name] for name in models.METADATA}
    other = tmp_path / "copied"  # whatever its folder is called
    models.save(other / "weights.safetensors", net.state_dict(), **(words | {"minimum": "adam-7"}))
    flags = ["--data", pack_file, "--minimum", other, "clean", "--out"]
    before = passport.read_bytes()
    refusal = "is the passport of adam-0, not the passport of adam-7; name another --out"
    with pytest.raises(SystemExit, match=refusal):
        run(monkeypatch, "eval.battery", *flags, passport)
    assert passport.read_bytes() == before
    foreign = tmp_path / "notes.h5"
    foreign.write_text("not yours")
    with pytest.raises(SystemExit, match="not a file that basins made"):
        run(monkeypatch, "eval.battery", *flags, foreign)
    assert foreign.read_text() == "not yours"


def test_a_minimum_of_an_older_version_is_refused_in_one_line(pack_file, minimum, tmp_path):
    net, metadata = models.load(minimum / "weights.safetensors")
    old = {name: metadata[name] for name in ("arch", "classes", "image_size", "seed", "data")}
    models.save(tmp_path / "weights.safetensors", net.state_dict(), **old)
    with pytest.raises(
        SystemExit, match="its metadata lack method, setting, minimum, start.; move it away"
    ):
        models.load(tmp_path / "weights.safetensors")


def test_a_scalar_measurement_is_one_function(bench):
    def norm(net, batches, generator):
        count = sum(len(labels) for _, labels in batches())
        return {"norm": net.fc.weight.norm().item(), "images": count}

    module = SimpleNamespace(__file__="eval/norm.py", TITLE="Norm", SOURCE="", measure=norm)
    measurement = resolve(module)
    assert (measurement.name, measurement.family) == ("norm", "scalar")
    (group,) = groups(measurement, bench.model)
    arrays = sweep.measure_group(bench, measurement, group)
    assert set(arrays) == {"train/norm", "train/images", "test/norm", "test/images"}
    assert arrays["test/images"] == [60]


PERTURBS = {"TITLE": "X", "SOURCE": "here", "perturb": None}
PERTURBATION = PERTURBS | {"LEVEL": "sigma", "UNITS": "1", "LEVELS": [0.1]}


@pytest.mark.parametrize(
    "names, message",
    [
        ({"LEVELS": [0.1]}, "eval/x.py: gives none of perturb, perturb_weight and measure"),
        ({"LEVELS": [0.1]} | PERTURBS, "eval/x.py: lacks LEVEL, UNITS"),
        ({"measure": None}, "eval/x.py: lacks SOURCE, TITLE"),
        (PERTURBATION | {"LEVELS": [0.2, 0.1]}, "eval/x.py: LEVELS do not ascend"),
        (PERTURBATION | {"REPEATS": 0}, "eval/x.py: REPEATS is 0"),
        (PERTURBATION | {"LEVELS": []}, "eval/x.py: LEVELS is empty; give one or more"),
        (PERTURBATION | {"UNITS": 3}, "eval/x.py: UNITS is 3; give text"),
        (PERTURBATION | {"TITLE": None}, "eval/x.py: TITLE is None; give text"),
    ],
)
def test_what_is_wrong_with_a_measurement_is_one_line(names, message):
    with pytest.raises(SystemExit, match=message):
        resolve(SimpleNamespace(__file__="eval/x.py", **names))


def test_what_a_comparison_lacks_is_one_line():
    module = SimpleNamespace(__file__="eval/x.py", TITLE="X", UNITS={})
    with pytest.raises(SystemExit, match="eval/x.py: lacks SOURCE, compare"):
        comparison.main("", module)


def test_a_perturbation_that_skips_a_level_is_one_line(bench):
    def lazy(images, labels, levels, generator, model):
        yield images

    with pytest.raises(SystemExit, match="gaussian_noise: yielded 1 levels of 2"):
        measure(bench, "gaussian_noise", perturb=lazy, levels=[0.1, 0.2], repeats=1)


@pytest.mark.parametrize("given", ["a lot", None, [1, 2], 1j])
def test_a_measure_that_gives_no_number_is_named(given, bench):
    measurement = replace(RESOLVED["clean"], measure=lambda *_: {"x": given}, levels=())
    (group, *_) = groups(measurement, bench.model)
    with pytest.raises(SystemExit, match="clean.py: measure gives x as .*; give a number"):
        sweep.measure_group(bench, measurement, group)
