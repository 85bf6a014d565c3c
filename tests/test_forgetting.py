"""What finetuning forgets: the minimum's own head on the finetuned rest, on its own images."""

import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from conftest import SHORT, make_pack, run

from common.networks import batchnorm, models
from common.training import forgetting, loop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A pack of fewer classes than the minimum's."""
    return make_pack(tmp_path_factory.mktemp("task") / "task.h5", classes=3)


@pytest.fixture(scope="module")
def source(minimum, pack_file):
    return forgetting.Source(minimum, str(pack_file), torch.device("cpu"))


def finetuned(minimum, by=0.0):
    """The minimum with another head, and its other weights moved."""
    model, _ = models.load(minimum / "weights.safetensors")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(1 if name.startswith("fc.") else 1 + by)
    models.replace_head(model, 3, seed=0)
    return model


def test_before_finetuning_it_is_the_minimum_itself(source, minimum, pack):
    model, _ = models.load(minimum / "weights.safetensors")
    expected = loop.evaluate(model, pack, pack.indices("test"))
    batchnorm.recompute(model, pack, pack.indices("train"))
    expected += loop.evaluate(model, pack, pack.indices("test"))
    numbers = source.measure(finetuned(minimum))
    names = ["loss", "accuracy", "loss_recomputed", "accuracy_recomputed"]
    assert [numbers[name] for name in names] == expected


def test_afterwards_it_is_the_old_head_on_the_new_rest(source, minimum, pack):
    model = finetuned(minimum, by=0.3)
    before = [value.clone() for value in model.state_dict().values()]
    moved, _ = models.load(minimum / "weights.safetensors")
    head = moved.fc
    rest = {name: value for name, value in model.state_dict().items() if "fc." not in name}
    moved.load_state_dict(rest, strict=False)
    assert moved.fc is head
    numbers = source.measure(model)
    assert [numbers["loss"], numbers["accuracy"]] == loop.evaluate(
        moved, pack, pack.indices("test")
    )
    assert numbers != source.measure(finetuned(minimum))
    assert all(map(torch.equal, before, model.state_dict().values()))  # left as it was


@pytest.mark.parametrize("every_epoch, epochs", [(False, [0, 4]), (True, [0, 1, 2, 3, 4])])
def test_it_is_measured_first_and_last_or_every_epoch(every_epoch, epochs, source, minimum):
    own = SimpleNamespace(
        args=SimpleNamespace(epochs=4), model=finetuned(minimum), curves={"source/epoch": []}
    )
    own.curves |= {f"source/{name}": [] for name in source.measure(own.model)}
    positions = [loop.Position(k, last=True) for k in range(5)]
    positions.insert(2, loop.Position(2))  # in the middle of an epoch
    assert list(source.follow(own, iter(positions), every_epoch)) == positions
    assert own.curves["source/epoch"] == epochs
    assert {len(curve) for curve in own.curves.values()} == {len(epochs)}


def finetune(monkeypatch, minimum, task, out, *flags):
    where = ["--data", task, "--minimum", minimum, "--out", out, "--runs", 2]
    run(monkeypatch, "finetune.full", *where, *SHORT, *flags)
    with h5py.File(out, locking=False) as file:
        return {name: values[()] for name, values in file.get("source", {}).items()}


def test_a_finetuning_says_what_it_forgot(monkeypatch, minimum, task, pack_file, tmp_path, source):
    own = ["--source", pack_file]
    found = finetune(monkeypatch, minimum, task, tmp_path / "full.h5", *own)
    assert set(found) == {"epoch", *source.measure(finetuned(minimum))}
    assert all(values.shape == (2, 2) for values in found.values())
    assert (found["loss"][:, 0] == found["loss"][0, 0]).all()  # both runs start from the minimum
    assert (found["loss"][:, 1] != found["loss"][:, 0]).all()
    by_epoch = finetune(monkeypatch, minimum, task, tmp_path / "2.h5", *own, "--source-every-epoch")
    for name, values in found.items():  # to look more often changes nothing
        assert np.array_equal(values, by_epoch[name][:, [0, 2]])
    assert finetune(monkeypatch, minimum, task, tmp_path / "without.h5") == {}


def test_a_source_of_other_images_is_one_line(monkeypatch, minimum, task, tmp_path):
    with pytest.raises(SystemExit, match="was trained on other images; give its own pack"):
        finetune(monkeypatch, minimum, task, tmp_path / "full.h5", "--source", task)
    assert not (tmp_path / "full.h5").exists()


def test_the_numbers_of_finetuning_are_those_without_a_source(
    monkeypatch, minimum, task, pack_file, tmp_path
):
    copied = shutil.copytree(minimum, tmp_path / "adam-0")
    finetune(monkeypatch, copied, task, tmp_path / "with.h5", "--source", pack_file)
    finetune(monkeypatch, copied, task, tmp_path / "without.h5")
    with h5py.File(tmp_path / "with.h5") as one, h5py.File(tmp_path / "without.h5") as other:
        for name in "train/loss", "test/loss", "distance/all":
            assert np.array_equal(one[name], other[name])
