"""The linear probe: its head against another implementation, how its strength is chosen, its file,
and what it refuses.
"""

import copy

import h5py
import numpy as np
import pytest
import torch
from compare import values
from conftest import SHORT, make_pack, run
from torch.nn.functional import cross_entropy

from common import files
from common.images import packs
from common.networks import models
from common.training import finetuning, loop
from finetune import probe


def probed(monkeypatch, pack_file, minimum, out, *flags):
    """Runs the probe; returns the arrays of its file."""
    places = ["--data", pack_file, "--minimum", minimum, "--out", out]
    run(monkeypatch, "finetune.probe", *places, *SHORT, *flags)
    return values(out)


def run_of(pack_file, minimum, *flags):
    """The Run that the probe gets."""
    places = ["--data", pack_file, "--minimum", minimum, "--out", "unwritten.h5", *SHORT, *flags]
    args = finetuning.parser("").parse_args([str(word) for word in places])
    args.runs = 1
    return next(finetuning.runs(args, probe.__file__))


def lbfgs(features, labels, classes, strength):
    """(weight, bias) at the minimum of cross-entropy + |weight|² / (2·strength·N), by PyTorch's
    L-BFGS in float64.
    """
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=5000,
        tolerance_grad=1e-9,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def objective():
        optimizer.zero_grad()
        loss = cross_entropy(features @ weight.t() + bias, labels)
        loss = loss + weight.square().sum() / (2 * strength * len(labels))
        loss.backward()
        return loss

    optimizer.step(objective)
    return weight.detach(), bias.detach()


@pytest.mark.parametrize("classes", [5, 2])
def test_the_head_is_that_of_another_implementation(classes, minimum, tmp_path, monkeypatch):
    """PyTorch's L-BFGS on features of a network without its head, at each of three strengths: the
    same answers, the same choice. Every third label is drawn: the task is hard.
    """
    monkeypatch.setattr(probe, "STRENGTHS", [1e-4, 1e-2, 1.0])
    tuned = run_of(make_pack(tmp_path / "task.h5", classes=classes), minimum)
    pack = tuned.pack
    pack.labels[::3] = torch.randint(classes, (50,))
    chosen = probe.fit_head(tuned)
    body = copy.deepcopy(tuned.model).eval()
    body.fc = torch.nn.Identity()
    with torch.no_grad():
        features = {
            split: body(pack.batch(pack.indices(split))[0]).double() for split in packs.SPLITS
        }
    labels = {split: pack.labels[pack.indices(split)] for split in packs.SPLITS}
    scale = features["train"].std(correction=0)
    mean = features["train"].mean(0)  # the bias takes it up: it changes no answer, and saves steps
    features = {split: values - mean for split, values in features.items()}
    losses, logits = {}, {}
    for strength in probe.STRENGTHS:
        # Two classes have one logit there: the penalty of two logits is half as large.
        equal = strength / 2 if classes == 2 else strength
        weight, bias = lbfgs(features["train"] / scale, labels["train"], classes, equal)
        logits[strength] = {
            split: features[split] / scale @ weight.t() + bias for split in packs.SPLITS
        }
        losses[strength] = cross_entropy(logits[strength]["val"], labels["val"]).item()
    assert chosen == min(losses, key=losses.get)
    for split in packs.SPLITS:
        with torch.no_grad():
            ours = tuned.model.eval()(pack.batch(pack.indices(split))[0])
        theirs = logits[chosen][split]
        # Where all logits of an image are larger by one number, its probabilities are the same.
        ours, theirs = ours.double().log_softmax(1), theirs.log_softmax(1)
        found, expected = (
            (answer.argmax(1) == labels[split]).double().mean() for answer in (ours, theirs)
        )
        print(
            f"{classes} classes, {split}: accuracy {found:.4f} and {expected:.4f}, log "
            f"probabilities differ by {(ours - theirs).abs().max():.1e}"
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert found == expected


def test_a_probe_is_one_run_of_no_epochs_and_moves_nothing(
    pack, pack_file, minimum, tmp_path, monkeypatch, capsys
):
    flags = ["--runs", 3, "--lr", 0.1, "--source", pack_file, "--test-at-end"]
    first = probed(monkeypatch, pack_file, minimum, tmp_path / "first.h5", *flags)
    again = probed(monkeypatch, pack_file, minimum, tmp_path / "again.h5")
    for name, array in again.items():
        np.testing.assert_array_equal(array, first[name], name)
    assert first["epoch"].tolist() == [0]
    assert first["train/accuracy"].shape == first["test/loss"].shape == (1, 1)
    assert first["train/accuracy"][0, 0] >= 0.95 and first["epochs_to_target"].tolist() == [0]
    assert first["probe/strength"].item() in probe.STRENGTHS
    # On the images that the minimum was trained on it does what the minimum does.
    untouched, _ = models.load(minimum / "weights.safetensors")
    source = [first["source/loss"].item(), first["source/accuracy"].item()]
    assert source == loop.evaluate(untouched, pack, pack.indices("test"))
    for name, array in first.items():
        if name.startswith(("distance", "path")):
            assert (array == 0).all(), name
    with files.read(tmp_path / "first.h5") as file:
        assert (file.attrs["mode"], file.attrs["mode_setting"]) == ("probe", "probe")
        assert file["seconds"][0, 0] > 0
    capsys.readouterr()
    probed(monkeypatch, pack_file, minimum, tmp_path / "first.h5", *flags)
    assert "probe run" not in capsys.readouterr().out  # the file holds it


def without_val(path, **sizes):
    """A pack without val images."""
    make_pack(path, val=0, **sizes)
    return path


def test_without_val_images_the_training_images_choose(pack_file, minimum, tmp_path):
    """By a cross-validation, in which each image is judged once by a head that has not seen it;
    so do they where val is what is measured.
    """
    for tuned in (
        run_of(without_val(tmp_path / "task.h5"), minimum),
        run_of(pack_file, minimum, "--measure-on", "val"),
    ):
        train, val = probe.features(tuned, "train"), probe.features(tuned, "val")
        # A number of its own in each row says which image it is.
        rows = np.arange(70.0)[:, None], train[1]
        trials = probe.held_out(tuned, rows, val)
        assert len(trials) == 5
        for shown, hidden in trials:
            assert not set(shown[0].flatten()) & set(hidden[0].flatten())
            assert sorted(np.vstack([shown[0], hidden[0]]).flatten()) == list(range(70))
            assert set(shown[1]) == set(hidden[1]) == set(range(5))
        judged = np.concatenate([hidden[0] for _, hidden in trials])
        assert sorted(judged.flatten()) == list(range(70))
        assert probe.fit_head(tuned) in probe.STRENGTHS


def test_two_images_a_class_without_val_are_enough_and_one_is_not(minimum, tmp_path):
    tuned = run_of(without_val(tmp_path / "two.h5", train=16, classes=8), minimum)
    assert probe.fit_head(tuned) in probe.STRENGTHS
    tuned = run_of(without_val(tmp_path / "one.h5", train=16, classes=16), minimum)
    with pytest.raises(SystemExit, match="its smallest class has 1 of the 2 training images"):
        probe.fit_head(tuned)


def test_a_probe_has_no_settings(pack_file, minimum, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="^probe@lr_1e-3: a probe has no settings; write probe$"):
        probed(monkeypatch, pack_file, minimum, tmp_path / "probe.h5", "--setting", "probe@lr_1e-3")


def test_a_head_that_is_a_convolution_is_refused(pack_file, tmp_path, monkeypatch):
    folder = tmp_path / "adam-0"
    flags = ["--data", pack_file, "--out", folder, *SHORT, "--arch", "squeezenet1_1"]
    run(monkeypatch, "train.adam", *flags, "--epochs", 1)
    with pytest.raises(SystemExit, match="adam-0: its head, classifier.1, is a convolution"):
        probed(monkeypatch, pack_file, folder, tmp_path / "probe.h5")
    assert not (tmp_path / "probe.h5").exists()


@pytest.mark.slow
def test_a_probe_of_another_network(pack_file, tmp_path, monkeypatch):
    """One whose layers draw: features are those of eval mode."""
    folder = tmp_path / "adam-0"
    flags = ["--data", pack_file, "--out", folder, *SHORT, "--arch", "convnext_tiny"]
    run(monkeypatch, "train.adam", *flags, "--epochs", 1)
    arrays = probed(monkeypatch, pack_file, folder, tmp_path / "probe.h5")
    assert arrays["train/accuracy"].item() >= 0.9
    with h5py.File(tmp_path / "probe.h5") as file:
        assert file.attrs["minimum"] == "adam-0"
    torch.manual_seed(1)
    again = probed(monkeypatch, pack_file, folder, tmp_path / "again.h5")
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, again[name], name)
