"""The loop and the methods: golden losses, resume, seeds, what a method must and must not do."""

import copy
import io
import shutil

import h5py
import numpy as np
import pytest
import torch
import torchvision
from compare import values
from conftest import METHODS, MODES, SHORT, make_pack, run
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common import devices, files, provenance, replay, seeds
from common.images import packs
from common.networks import models, weights
from common.training import checkpoint, finetuning, loop, pretraining
from train import noisy_weights, sam

EXTRA = {
    "swa": ["--snapshots", "5", "--epochs", "5", "--target", "0.01", "--batch-size", "14"]
}  # branches after epoch 1, averages from epoch 3
# Running loss of the first epoch (4 steps of 16 images, SWA 5 of 14, float32) for --seed 3:
# {method: (lr, loss, tolerance)}. A new method has none until its first loss is written down here.
# Rounding differs between AVX-512, AVX2, no vectors, and one or two threads. At lr 1e-3 it moves
# these losses by 0.1 % at most, but by up to 1.5 % where weights move before a gradient is taken,
# and SWA's; at 1e-4 by 0.18 % (sam), 0.15 % (swa) and 0.05 % (noisy_weights).
GOLDEN = {
    "adam": ("1e-3", 0.85153, 5e-3),
    "noisy_adam": ("1e-3", 0.79800, 5e-3),
    "swa": ("1e-4", 1.45141, 4e-3),
    "sam": ("1e-4", 1.52157, 4e-3),
    "noisy_weights": ("1e-4", 1.50886, 1e-3),
}


def train(monkeypatch, method, pack_file, out, *flags):
    """Runs a method; returns its curves and its weights."""
    flags = ["--data", pack_file, "--out", out, *SHORT, *EXTRA.get(method, []), *flags]
    run(monkeypatch, f"train.{method}", *flags)
    return values(out / "training.h5"), load_file(out / "weights.safetensors")


# `make quick` tries the first of all methods; the others are slow together.
FIRST, *OTHERS = METHODS


@pytest.mark.parametrize(
    "method", [FIRST, *(pytest.param(method, marks=pytest.mark.slow) for method in OTHERS)]
)
def test_resume_is_bit_identical_and_first_losses_are_golden(
    method, pack_file, tmp_path, monkeypatch
):
    lr, loss, tolerance = GOLDEN.get(method, ("1e-3", None, None))
    flags = "--seed", 3, "--lr", lr
    whole_curves, whole = train(monkeypatch, method, pack_file, tmp_path / "whole", *flags)
    if loss:
        assert whole_curves["running/loss"][0] == pytest.approx(loss, rel=tolerance)

    class Killed(Exception):
        pass

    save, count = checkpoint.save, []

    def kill_after(*args):
        save(*args)
        count.append(1)
        if len(count) == (4 if method == "swa" else 1):  # in the middle of averaging
            raise Killed

    monkeypatch.setattr(checkpoint, "save", kill_after)
    with pytest.raises(Killed):
        train(monkeypatch, method, pack_file, tmp_path / "killed", *flags)
    monkeypatch.setattr(checkpoint, "save", save)
    curves, resumed = train(monkeypatch, method, pack_file, tmp_path / "killed", *flags)
    assert curves.keys() == whole_curves.keys() and resumed.keys() == whole.keys()
    for name in curves:
        np.testing.assert_array_equal(curves[name], whole_curves[name], name)
    for name in resumed:
        assert torch.equal(resumed[name], whole[name]), name
    assert not (tmp_path / "killed" / "resume.h5").exists()


@pytest.mark.slow
def test_deterministic_algorithms_give_what_a_cpu_gives_anyway(pack_file, tmp_path, monkeypatch):
    asked, plain = [], train(monkeypatch, "swa", pack_file, tmp_path / "plain")[1]
    forward = loop.Run.forward
    monkeypatch.setattr(
        loop.Run,
        "forward",
        lambda *words: (
            asked.append(torch.are_deterministic_algorithms_enabled()) or forward(*words)
        ),
    )
    found = train(monkeypatch, "swa", pack_file, tmp_path / "deterministic", "--deterministic")[1]
    assert all(asked) and all(torch.equal(found[name], plain[name]) for name in plain)
    devices.choose("cpu")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train.adam", "finetune.full"])
def test_a_pack_that_is_replaced_while_a_run_trains_stops_it_once(
    script, pack_file, minimum, tmp_path, monkeypatch, capsys
):
    """Nothing of the old images is left for the new ones; the same command goes on with them."""
    path = shutil.copy(pack_file, tmp_path / "pack.h5")
    out = tmp_path / ("adam-0" if script == "train.adam" else "full.h5")
    flags = ["--data", path, "--out", out, *SHORT, "--checkpoint-every", 0]
    flags += ["--minimum", minimum, "--runs", 1] if script == "finetune.full" else []
    record, other = loop.record, make_pack(tmp_path / "other.h5", train=80)

    def record_and_replace(run, epoch, began):
        record(run, epoch, began)
        if epoch == 1 and other.exists():
            other.replace(path)

    monkeypatch.setattr(loop, "record", record_and_replace)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, script, *flags)
    assert stopped.value.code == (
        f"{path}: other images lie there now than this run began with; run make again (or this "
        "command): it starts over with them"
    )
    left = {file.name for file in tmp_path.rglob("*.*") if not file.name.startswith(".")}
    assert "resume.h5" in "".join(left) and not {"weights.safetensors", "full.h5"} & left
    run(monkeypatch, script, *flags)
    said = capsys.readouterr().out
    assert said.count("starts over: ") == 1 and "data or code changed since" in said
    fingerprint = packs.load(path, torch.device("cpu")).fingerprint
    made = out / "training.h5" if script == "train.adam" else out
    with files.read(made) as file:
        assert file.attrs["data"] == fingerprint


def test_changed_settings_start_over_and_say_so(pack_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretraining, "finish", lambda run, **attributes: None)
    for flags in ["--lr", "1e-3"], ["--lr", "2e-3"]:
        run(
            monkeypatch,
            "train.adam",
            "--data",
            pack_file,
            "--out",
            tmp_path / "adam-0",
            *SHORT,
            *flags,
        )
    assert "adam-0 starts over: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["data", "code", "a flipped bit", "nothing"])
def test_a_checkpoint_of_other_data_or_code_or_a_damaged_one_is_not_continued(
    changed, pack_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(pretraining, "finish", lambda run, **attributes: None)
    flags = ["--out", tmp_path / "adam-0", *SHORT]
    run(monkeypatch, "train.adam", "--data", pack_file, *flags)
    assert saved_epoch(tmp_path / "adam-0" / "resume.h5") == 1
    if changed == "data":
        pack_file = make_pack(tmp_path / "other.h5", train=80)
    elif changed == "code":
        monkeypatch.setattr(provenance, "code", lambda: "another")
    elif changed == "a flipped bit":
        content = bytearray((tmp_path / "adam-0" / "resume.h5").read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "adam-0" / "resume.h5").write_bytes(content)
    capsys.readouterr()
    run(monkeypatch, "train.adam", "--data", pack_file, *flags)
    printed = capsys.readouterr().out
    assert ("continues after epoch 1" in printed) == (changed == "nothing") and (
        "starts over" in printed
    ) == (changed != "nothing")


@pytest.mark.slow
def test_methods_of_one_seed_share_start_and_swa_leaves_adam_s_trajectory_at_the_branch(
    pack_file, tmp_path, monkeypatch
):
    flags = ["--epochs", "5", "--decay-from", "0.2", "--target", "1", "--batch-size", "14"]
    adam, _ = train(monkeypatch, "adam", pack_file, tmp_path / "adam-0", *flags)
    swa, _ = train(monkeypatch, "swa", pack_file, tmp_path / "swa-0", *flags)
    np.testing.assert_array_equal(adam["running/loss"][:3], swa["running/loss"][:3])
    assert adam["running/loss"][3] != swa["running/loss"][3]


def test_noisy_adam_runs_one_train_mode_forward_a_step(pack_file, tmp_path, monkeypatch):
    seen = []
    forward = loop.Run.forward
    monkeypatch.setattr(
        loop.Run,
        "forward",
        lambda self, images, labels: seen.append(images) or forward(self, images, labels),
    )
    trained = train(monkeypatch, "noisy_adam", pack_file, tmp_path / "noisy_adam-0")[1]
    steps = 2 * (70 // 16)
    assert len(seen) == steps
    # BatchNorm counts its forward passes in train mode: whatever ran beside the step shows here.
    assert trained["bn1.num_batches_tracked"] == steps
    assert all(images.min() >= 0 and images.max() <= 1 for images in seen)


@pytest.mark.slow
def test_without_a_move_the_methods_that_move_weights_are_adam(pack_file, tmp_path, monkeypatch):
    """Curves, weights and BatchNorm's statistics, to the last bit; and with one they are not."""
    adam = train(monkeypatch, "adam", pack_file, tmp_path / "adam-0")
    for number, (method, *flags) in enumerate(
        [
            ("sam", "--rho", 0),
            ("sam", "--rho", 0, "--adaptive"),
            ("noisy_weights", "--sigma", 0),
            ("sam",),
            ("sam", "--rho", 0.5, "--adaptive"),
            ("noisy_weights",),
        ]
    ):
        found = train(monkeypatch, method, pack_file, tmp_path / f"{number}-0", *flags)
        for ours, theirs in zip(found, adam):
            assert ours.keys() == theirs.keys()
            same = [name for name in ours if np.array_equal(ours[name], theirs[name])]
            assert len(same) == len(ours) if 0 in flags else len(same) < len(ours) / 2, method
        with files.read(tmp_path / f"{number}-0" / "training.h5") as file:
            assert file.attrs["gradients"] == (2 if method == "sam" else 1)


class Quadratic(torch.nn.Module):
    """The loss ½·wᵀHw of a linear layer's weight and bias, w, in float64."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1).double()
        rows = torch.tensor([[2, 1, 0, 0.5], [1, 3, 0.2, 0], [0, 0.2, 1, 0.3], [0.5, 0, 0.3, 4]])
        self.curvature = rows.double()

    def forward(self):
        values = torch.cat([self.layer.weight.flatten(), self.layer.bias])
        return values @ self.curvature @ values / 2


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_s_gradient_on_a_quadratic_by_hand(adaptive):
    """The gradient at w is Hw; at w + epsilon, H(w + epsilon), epsilon = rho·T²g / |T·g|."""
    net, rho = Quadratic(), 0.3
    start = np.array([0.5, -2.0, 0.0, 1.5])
    with torch.no_grad():
        net.layer.weight.copy_(torch.tensor(start[:3]))
        net.layer.bias.fill_(start[3])
    curvature = net.curvature.numpy()
    gradient = curvature @ start
    scale = np.array([0.51, 2.01, 0.01, 1]) if adaptive else np.ones(4)
    epsilon = rho * scale**2 * gradient / np.linalg.norm(scale * gradient)
    assert np.linalg.norm(epsilon / scale) == pytest.approx(rho)

    net().backward()
    with weights.displaced(net, sam.step_up(net, rho, adaptive)):
        net.zero_grad()
        net().backward()
    found = torch.cat([value.grad.flatten() for value in net.parameters()])
    np.testing.assert_allclose(found, curvature @ (start + epsilon), rtol=1e-14)
    kept = torch.cat([value.detach().flatten() for value in net.parameters()])
    np.testing.assert_array_equal(kept, start)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_scale_of_float16_s_gradients_cancels_in_sam_s_step_up(adaptive):
    net = Quadratic()
    net().backward()
    epsilon = sam.step_up(net, 0.05, adaptive)
    for scale in 2.0**16, 2.0**-30, 0:
        for value in net.parameters():
            value.grad *= scale
        scaled = sam.step_up(net, 0.05, adaptive)
        for name, value in epsilon.items():
            assert torch.equal(scaled[name], value if scale else torch.zeros_like(value)), name


@pytest.fixture
def captured(pack_file, tmp_path, monkeypatch):
    """The run, the step and the optimizer of a method, which has not begun to train."""

    class Captured(Exception):
        pass

    def capture(method, *flags):
        def stop(run, step, optimizer):
            raise Captured(run, step, optimizer)

        monkeypatch.setattr(loop, "fit", stop)
        with pytest.raises(Captured) as caught:
            train(monkeypatch, method, pack_file, tmp_path / method, *flags)
        captured_run, step, optimizer = caught.value.args
        captured_run.generator.manual_seed(0)
        captured_run.model.train()
        return captured_run, step, optimizer

    return capture


@pytest.mark.parametrize("method, flags", [("sam", ["--rho", 0.5]), ("noisy_weights", [])])
def test_a_step_moves_weights_for_its_gradient_alone(method, flags, captured):
    """BatchNorm's statistics, loss and logits are those of one pass with the weights where they
    were; the gradient is that of the images where the weights were moved to.
    """
    moving, step, _ = captured(method, *flags)
    plain = copy.deepcopy(moving.model)
    images, labels = moving.pack.batch(moving.train[:16])
    logits = plain(images)
    cross_entropy(logits, labels).backward()
    moved = copy.deepcopy(plain)
    if method == "sam":
        by = sam.step_up(plain, 0.5, adaptive=False)
    else:
        by = noisy_weights.noise(plain, 0.05, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, value in moved.named_parameters():
            value += by.get(name, 0)
    moved.zero_grad()
    cross_entropy(moved(images), labels).backward()

    loss, given = step(images, labels)
    assert torch.equal(given, logits) and torch.equal(loss, cross_entropy(logits, labels))
    for name, value in moving.model.named_buffers():
        assert torch.equal(value, plain.get_buffer(name)), name
    for name, value in moving.model.named_parameters():
        assert torch.equal(value.grad, moved.get_parameter(name).grad), name
        assert not torch.equal(value.grad, plain.get_parameter(name).grad), name


@pytest.mark.parametrize("method", ["sam", "noisy_weights"])
def test_a_gradient_that_overflows_float16_is_skipped(method, captured):
    """Infinite gradients, and what SAM makes of them, reach no weight; the scale is halved."""
    moving, step, _ = captured(method, "--precision", "float16")
    images, labels = moving.pack.batch(moving.train[:16])
    before = {name: value.clone() for name, value in moving.model.named_parameters()}
    scale = 2.0**60
    moving.scaler._init_scale = scale
    loss, _ = step(images, labels)
    assert loss.isfinite() and moving.scaler.get_scale() == scale / 2
    for name, value in moving.model.named_parameters():
        assert torch.equal(value, before[name]), name
    assert moving.model.bn1.running_var.isfinite().all()
    moving.scaler.update(new_scale=1024.0)
    step(images, labels)
    assert not torch.equal(moving.model.conv1.weight, before["conv1.weight"])
    assert all(value.isfinite().all() for value in moving.model.state_dict().values())


def test_weight_noise_is_relative_and_drawn_anew():
    net, generator = models.build("resnet18", 5, seed=0), torch.Generator().manual_seed(0)
    first, second = (noisy_weights.noise(net, 0.2, generator) for _ in range(2))
    assert first.keys() == weights.conv_linear(net).keys()
    for name, value in weights.conv_linear(net).items():
        assert value.shape == first[name].shape and not torch.equal(first[name], second[name])
    relative = torch.cat(
        [(first[name] / value).flatten() for name, value in weights.conv_linear(net).items()]
    )
    assert relative.std().item() == pytest.approx(0.2, rel=1e-3)
    assert abs(relative.mean().item()) < 1e-3


def test_noisy_weights_with_sgd_is_anti_pgd():
    """w' = w - lr·gradient(w) + noise' - noise, seen at v = w - noise: 20 steps of a quadratic."""
    plain, perturbed, lr, sigma = Quadratic(), Quadratic(), 0.1, 0.3
    perturbed.load_state_dict(plain.state_dict())
    ours, theirs = (torch.Generator().manual_seed(0) for _ in range(2))
    noise = noisy_weights.noise(perturbed, sigma, theirs)
    with torch.no_grad():
        perturbed.layer.weight += noise["layer.weight"]
    for _ in range(20):
        with weights.displaced(plain, noisy_weights.noise(plain, sigma, ours)):
            gradients = torch.autograd.grad(plain(), list(plain.parameters()))
        with torch.no_grad():
            for value, gradient in zip(plain.parameters(), gradients):
                value -= lr * gradient
        gradients = torch.autograd.grad(perturbed(), list(perturbed.parameters()))
        with torch.no_grad():
            for value, gradient in zip(perturbed.parameters(), gradients):
                value -= lr * gradient
            perturbed.layer.weight -= noise["layer.weight"]
            noise = noisy_weights.noise(perturbed, sigma, theirs)
            perturbed.layer.weight += noise["layer.weight"]
    centre = perturbed.layer.weight.detach() - noise["layer.weight"]
    torch.testing.assert_close(plain.layer.weight.detach(), centre, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(plain.layer.bias, perturbed.layer.bias, rtol=1e-12, atol=1e-12)


def test_swa_of_one_snapshot_is_that_snapshot():
    net, average = models.build("resnet18", 5, seed=1), weights.Average()
    average.update(net)
    other = models.build("resnet18", 5, seed=2)
    average.copy_to(other)
    for (name, value), copied in zip(net.named_parameters(), other.parameters()):
        assert torch.equal(value, copied), name


def test_swa_averages_equally():
    average, nets = weights.Average(), [models.build("resnet18", 5, seed=seed) for seed in range(3)]
    for net in nets:
        average.update(net)
    expected = torch.stack([net.conv1.weight for net in nets]).double().mean(0)
    torch.testing.assert_close(average.mean["conv1.weight"].double(), expected, rtol=0, atol=1e-7)


def test_swa_refuses_fewer_than_five_snapshots(pack_file, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="fewer than 5 snapshots"):
        run(monkeypatch, "train.swa", "--data", pack_file, "--out", tmp_path, *SHORT)


def test_swa_counts_the_snapshots_that_there_will_be_not_those_that_were_asked_for(
    pack_file, tmp_path, monkeypatch
):
    """70 images in batches of 64: one step an epoch, after which one snapshot can be taken."""
    flags = ["--data", pack_file, "--out", tmp_path, *SHORT, *EXTRA["swa"], "--batch-size", 64]
    with pytest.raises(SystemExit, match=r"^--snapshots 5: .* \(1\) that only 1 can be averaged"):
        run(monkeypatch, "train.swa", *flags)
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.parametrize("steps, parts", [(1, 5), (4, 5), (5, 5), (6, 4), (100, 7), (3, 1)])
def test_an_epoch_pauses_as_often_as_it_has_parts_or_steps(steps, parts):
    pauses = loop.pauses_in(steps, parts)
    assert len(pauses) + 1 == min(steps, parts) and all(0 < pause < steps for pause in pauses)


@pytest.mark.slow
def test_swa_says_how_many_snapshots_it_averaged(pack_file, tmp_path, monkeypatch):
    counted = []
    update = weights.Average.update
    monkeypatch.setattr(
        weights.Average, "update", lambda *words: counted.append(1) or update(*words)
    )
    train(monkeypatch, "swa", pack_file, tmp_path)  # 5 in each of the epochs 3 to 5
    with files.read(tmp_path / "training.h5") as file:
        assert file.attrs["averaged"] == len(counted) == 15
        average, last = (
            load_file(tmp_path / folder / "weights.safetensors") for folder in (".", "last")
        )
        parameters = [name for name in average if "running" not in name and "num_" not in name]
        moved = weights.distance(*({k: w[k] for k in parameters} for w in (average, last)))
        assert moved["relative"] > 0
        assert file.attrs["distance_from_last"] == pytest.approx(moved["relative"])


def saved_epoch(path):
    """The epoch of a checkpoint."""
    with files.read(path) as file:
        return torch.load(io.BytesIO(file["saved"][()]), weights_only=True)["epoch"]


@pytest.mark.parametrize(
    "where, message",
    [
        (6, r"loss is not finite at step 3 of epoch 2 \(lr 0.0005\)"),
        (8, "weights are not finite after the last step of epoch 2"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(
    where, message, pack_file, tmp_path, monkeypatch
):
    """4 steps an epoch; the loss of step 7, or the gradient of step 8, overflows."""
    forward, seen = loop.Run.forward, []

    def overflow(self, images, labels):
        loss, logits = forward(self, images, labels)
        seen.append(loss)
        if len(seen) - 1 == where:
            loss = loss * float("inf")
        if len(seen) == where == 8:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss, logits

    monkeypatch.setattr(loop.Run, "forward", overflow)
    with pytest.raises(SystemExit, match=message):
        run(
            monkeypatch,
            "train.adam",
            "--data",
            pack_file,
            "--out",
            tmp_path,
            *SHORT,
            "--decay-from",
            0.5,
        )
    assert (
        saved_epoch(tmp_path / "resume.h5") == 1 and not (tmp_path / "weights.safetensors").exists()
    )


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--batch-size", "1000"], "larger than the 70 training images"),
        (["--arch", "resnet0"], "no such network"),
    ],
)
def test_one_clear_line(flags, message, pack_file, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, "train.adam", "--data", pack_file, "--out", tmp_path, *SHORT, *flags)


@pytest.mark.parametrize(
    "flags", [["--lr", "-1"], ["--epochs", "0"], ["--lr", "nan"], ["--seed", "x"]]
)
def test_flags_are_checked(flags, pack_file, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "train.adam", "--data", pack_file, "--out", tmp_path, *flags)
    assert stopped.value.code == 2 and flags[0] in capsys.readouterr().err


@pytest.mark.slow
def test_finetuning_makes_only_missing_runs(pack_file, minimum, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new folder" / "full.h5"
    flags = ["--data", pack_file, "--minimum", minimum, "--out", out, *SHORT, "--epochs", "2"]
    run(monkeypatch, "finetune.full", *flags, "--runs", 1)
    with h5py.File(out) as file:
        first = file["test/loss"][0]
    capsys.readouterr()
    run(monkeypatch, "finetune.full", *flags, "--runs", 2)
    assert "run 1/2" not in capsys.readouterr().out
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["test/loss"][0], first)
        assert file["test/loss"].shape == (2, 3) and file["epoch"][()].tolist() == [0, 1, 2]
        assert (file["test/loss"][1] != first).all()
        assert (file["distance/all"][:, 0] == 0).all() and (file["distance/all"][:, 1] > 0).all()
        # The head is excluded; without it, `all` is the weights, BatchNorm and nothing else.
        total = np.hypot(file["distance/weights"][()], file["distance/batchnorm"][()])
        np.testing.assert_allclose(file["distance/all"][()], total, rtol=1e-9)
        np.testing.assert_allclose(
            file["distance/with_head"][()],
            np.hypot(file["distance/all"][()], file["distance/head"][()]),
            rtol=1e-9,
        )
        modules = [
            file[f"distance/{name}"][()]
            for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
        ]
        np.testing.assert_allclose(
            file["distance/all"][()], np.sqrt(np.square(modules).sum(0)), rtol=1e-9
        )
        assert (file["path/all"][:, 0] == 0).all() and (
            file["path/all"][:, 1] > file["distance/all"][:, 1]
        ).all()  # 4 steps an epoch


def test_distance_and_path_against_the_steps_themselves(pack_file, minimum, tmp_path, monkeypatch):
    """Four steps of known lengths: the path is their sum, the distance what lies between first and
    last; also when the run was resumed.
    """
    args = finetuning.parser("").parse_args(
        [
            "--data",
            str(pack_file),
            "--minimum",
            str(minimum),
            "--out",
            str(tmp_path / "f.h5"),
            "--runs",
            "1",
            *SHORT,
        ]
    )
    results = []
    for interrupted in False, True:
        tuned = next(finetuning.runs(args, __file__))
        optimizer = torch.optim.SGD(tuned.model.parameters(), lr=1.0)
        distances = finetuning.Distances(tuned.model)
        start = tuned.model.bn1
        length = torch.cat([start.weight, start.bias]).double().norm().item()

        def positions(first, last, model=tuned.model, optimizer=optimizer):
            """Moves the first BatchNorm's weight by way of an optimizer's steps: along an axis an
            epoch, 3 then 4 long.
            """
            if first == 0:
                yield loop.Position(epoch=0, last=True)
            for epoch in range(first, last):
                for _ in range(2):
                    optimizer.zero_grad()
                    gradient = torch.zeros(64)
                    gradient[epoch] = -(3 + epoch) / 2
                    model.bn1.weight.grad = gradient
                    optimizer.step()
                yield loop.Position(epoch=epoch + 1, last=True)

        distances.follow(positions(0, 1 if interrupted else 2), tuned.curves)
        if interrupted:
            distances.follow(positions(1, 2), tuned.curves)
        results.append({name: values for name, values in tuned.curves.items() if "/" in name})
    straight, resumed = results
    assert straight.keys() == resumed.keys()
    for name in straight:
        assert straight[name] == pytest.approx(resumed[name], rel=1e-6), name
    for group in "all", "batchnorm", "bn1", "with_head":
        assert straight[f"distance/{group}"] == pytest.approx([0, 3, 5], rel=1e-6)
        assert straight[f"path/{group}"] == pytest.approx([0, 3, 7], rel=1e-6)
    assert straight["distance/weights"] == [0, 0, 0]
    assert straight["distance_relative/bn1"] == pytest.approx([0, 3 / length, 5 / length])


@pytest.mark.parametrize(
    "curve, expected", [([0.96, 1], 0), ([0.5, 0.9, 1], 1.5), ([0.1, 0.2], np.nan)]
)
def test_epochs_to_target(curve, expected):
    np.testing.assert_allclose(finetuning.epochs_to(0.95, np.array(curve)), expected)


@pytest.mark.slow
def test_a_compiled_network_learns_and_saves_the_same_names(pack):
    net = models.build("resnet18", 5, seed=0)
    names = list(net.state_dict())
    net.compile(backend="eager")
    net(pack.batch(torch.arange(4))[0])
    assert list(net.state_dict()) == names
    assert seeds.derive("a", 1) == seeds.derive("a", 1) != seeds.derive("a", 2)


def interrupted(run, **attributes):
    raise KeyboardInterrupt


def test_an_unfinished_run_leaves_no_minimum(pack_file, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, "train.adam", "--data", pack_file, "--out", tmp_path / "adam-0", *SHORT)
    assert sorted(path.name for path in (tmp_path / "adam-0").iterdir()) == ["resume.h5"]
    shutil.rmtree(tmp_path / "adam-0")


def test_resnet18_is_torchvision_s():
    """The same names, initial weights and logits."""
    ours = models.build("resnet18", 50, seed=3)
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18(num_classes=50)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    images = torch.rand(2, 3, 112, 112)
    for net in ours, theirs:
        net.double()
    torch.testing.assert_close(ours(images.double()), theirs(images.double()), rtol=1e-9, atol=1e-9)


class Tape(TorchDispatchMode):
    """A CUDA graph's rules, on a CPU: the operations of one call are written down with their
    tensors, and a replay runs them again on these very tensors, without any Python of the step.

    Other than a graph's, a recording also runs: the replay right after it does nothing.
    """

    def __init__(self, step, inputs):
        super().__init__()
        self.calls, self.fresh = [], True
        with self:
            self.outputs = step(*inputs)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        asks_for_a_value = function is torch.ops.aten._local_scalar_dense.default
        assert not asks_for_a_value, "a step that asks for a value waits for the device"
        self.calls.append((function, args, kwargs or {}, out))
        return out

    def __call__(self):
        if self.fresh:
            self.fresh = False
            return
        with torch.no_grad():
            for function, args, kwargs, out in self.calls:
                for old, new in zip(*map(tree_leaves, (out, function(*args, **kwargs)))):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        # Its shape may have been changed in place since.
                        old.detach().view(new.shape).copy_(new)


WITHOUT_STEPS = ["probe"]  # modes of finetuning that do not train step by step


class Taped(replay.Replayed):
    """Replayed, as on a GPU, with a tape for the graph."""

    tapes = []

    def __init__(self, step, generator, enabled):
        super().__init__(step, generator, enabled=True)

    def warm_up(self, *inputs):
        return self.step(*inputs)

    def record(self):
        tape = Tape(self.step, self.inputs)
        self.tapes.append(tape)
        self.outputs = tape.outputs
        return tape


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [f"train.{name}" for name in METHODS]
    + [f"finetune.{name}" for name in MODES if name not in WITHOUT_STEPS],
)
def test_a_whole_step_replays_as_one_graph(script, pack_file, minimum, tmp_path, monkeypatch):
    """Forward, noise, backward, update and path, recorded once and replayed, give what they give
    step by step, to the last bit. So do images that are read from the file between the replays.
    """
    results = []
    for way in ["plain", "replayed", "read"][: 3 if script == "train.noisy_adam" else 2]:
        if way != "plain":
            monkeypatch.setattr(loop.replay, "Replayed", Taped)
            Taped.tapes.clear()
        if way == "read":
            monkeypatch.setattr(packs, "room", lambda device: 1)
        out = tmp_path / way
        places = ["--out", out]
        if "finetune" in script:
            places = ["--minimum", minimum, "--out", out / "runs.h5", "--runs", 1]
        flags = [*SHORT, *EXTRA.get(script.split(".")[1], []), "--decay-from", 0.1]
        run(monkeypatch, script, "--data", pack_file, *places, *flags)
        curves = values(next(out.glob("*.h5")))
        results.append(
            (curves, load_file(out / "weights.safetensors") if "train" in script else {})
        )
    (tape,) = Taped.tapes
    whole_network = script.startswith("train.") or script == "finetune.full"
    assert len(tape.calls) > (500 if whole_network else 100) and not tape.fresh
    for replayed in results[1:]:
        for expected, found in zip(results[0], replayed):
            assert expected.keys() == found.keys()
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["noisy_adam", "sam", "noisy_weights"])
def test_a_compiled_step_is_the_step(method, pack_file, tmp_path, monkeypatch):
    """Forward and backward through AOTAutograd, as on a GPU, with resume's own names."""
    plain, _ = train(monkeypatch, method, pack_file, tmp_path / "plain")
    fit = loop.fit

    def compiled(run, *args, **keywords):
        torch._dynamo.reset()
        run.model.compile(backend="aot_eager", fullgraph=True)
        fit(run, *args, **keywords)

    monkeypatch.setattr(loop, "fit", compiled)
    curves, saved = train(monkeypatch, method, pack_file, tmp_path / "compiled")
    np.testing.assert_allclose(curves["running/loss"], plain["running/loss"], rtol=1e-3)
    assert set(saved) == set(models.build("resnet18", 5, 0).state_dict())


@pytest.mark.parametrize(
    "amx, avx512, vendor, dtype",
    [
        (True, True, "GenuineIntel", torch.bfloat16),
        (False, True, "AuthenticAMD", torch.bfloat16),
        (False, True, "GenuineIntel", torch.float32),  # a machine that hides AMX
        (False, False, "AuthenticAMD", torch.float32),
        (False, False, "", torch.float32),
    ],
)
def test_a_cpu_trains_in_bfloat16_where_that_is_faster(amx, avx512, vendor, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(devices, "_cpuinfo", lambda key: vendor)
    monkeypatch.setattr(devices.platform, "processor", lambda: "")
    assert devices.training_dtype(torch.device("cpu")) == dtype
    assert devices.training_dtype(torch.device("cpu"), "bfloat16") == torch.bfloat16
