"""Damages files of every kind and reads them: the reader must say so in one line, or find what was
there. No crash, no hang, no memory blow-up.

    python -m tests.fuzz [--cases N]      10,000 cases, a minute for each 1,000 or so
"""

import argparse
import resource
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from common import files, provenance
from common.images import packs
from common.measuring import passport
from common.networks import models
from common.training import checkpoint, finetuning
from eval.report.results import load as load_result
from tests.conftest import make_pack

SECONDS = 5  # beyond this a reader hangs
MEMORY = 1 << 30  # bytes that a reader may take beyond what the process has


def results(path, kind, **attrs):
    """A small file of results."""
    with files.write(path) as file:
        file.attrs.update(provenance.stamp({"epochs": 2, "names": ["clean"]}, 0, "f", "cpu"))
        file.attrs.update(
            kind=kind,
            minimum="adam-0",
            method="adam",
            setting="adam",
            mode="full",
            mode_setting="full",
            start="",
            task="digits",
            target=0.95,
            epoch_target_reached=1.0,
            **attrs,
        )
        if kind == "passport":
            group = file.create_group("clean")
            group.attrs.update(
                {
                    "measurement": "clean",
                    "fingerprint": "f",
                    "batchnorm": "stored",
                    "variant": "",
                    "title": "clean",
                    "level_units": "",
                }
            )
            group["levels"] = np.zeros(1)
            return path
        epoch = files.scale(file, "epoch", np.arange(3), "passes over the training images")
        for name in "train/loss", "train/accuracy", "test/loss", "test/accuracy":
            files.array(file, name, np.random.default_rng(0).random((2, 3)), "1", None, epoch)
        file["seconds"], file["epochs_to_target"] = np.zeros((2, 3)), np.ones(2)
    return path


def pictured(pack):
    """What a pack says, in numbers."""
    return files.sha256(
        pack.images.numpy().tobytes(),
        pack.labels.tolist(),
        pack.split.tolist(),
        pack.classes,
        pack.image_size,
        pack.fingerprint,
    )


def resumed(path):
    """Epochs that a checkpoint brings back."""
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters())
    run = SimpleNamespace(
        checkpoint=path,
        model=net,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        curves={},
        name="adam-0",
        device=torch.device("cpu"),
        args=SimpleNamespace(epochs=9),
    )
    return checkpoint.load(run, optimizer, None, "identity")


def saved(path):
    net = torch.nn.Linear(2, 2)
    run = SimpleNamespace(
        checkpoint=path,
        model=net,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        curves={"epoch": [1.0]},
    )
    checkpoint.save(run, torch.optim.SGD(net.parameters()), None, "identity", 3)
    return path


def minimum(path):
    net = models.build("squeezenet1_1", 3, seed=0)
    models.save(
        path,
        net.state_dict(),
        arch="squeezenet1_1",
        classes=["a", "b", "ü"],
        image_size=32,
        method="adam",
        setting="adam",
        minimum="adam-0",
        start="",
        seed=0,
        data="d",
        code="c",
        commit="c",
        command="c",
    )
    return path


def targets(folder):
    """{kind: (a good file, its reader, what the reader returns of a damaged one that it takes)}."""
    return {
        "pack": (
            make_pack(folder / "pack.h5", 7, 2, 6, 8),
            lambda path: pictured(packs.load(path, torch.device("cpu"))),
            (),
        ),
        "passport": (
            results(folder / "passport.h5", "passport"),
            lambda path: str(passport.read(path, "adam-0")),
            ("{}",),
        ),
        "finetune": (
            results(folder / "full.h5", "finetune"),
            lambda path: str(finetuning.read_runs(path, "f")),
            ("[]",),
        ),
        "report": (
            results(folder / "training.h5", "training"),
            lambda path: str(load_result(path)),
            (),
        ),
        "checkpoint": (saved(folder / "resume.h5"), resumed, (0,)),
        "weights": (
            minimum(folder / "weights.safetensors"),
            lambda path: str(sorted(models.load(path)[1].items())),
            (),
        ),
    }


# A fraction of the file, or a byte near its start.
place = some.one_of(some.floats(0, 1), some.integers(0, 2000))
damage = some.one_of(
    some.tuples(some.just("flip"), place, some.integers(0, 7)),
    some.tuples(some.just("cut"), place, some.just(0)),
    some.tuples(some.just("delete"), place, some.integers(1, 5000)),
    some.tuples(some.just("insert"), place, some.binary(min_size=1, max_size=64)),
    some.tuples(some.just("overwrite"), place, some.binary(min_size=1, max_size=64)),
    some.tuples(some.just("append"), place, some.binary(min_size=1, max_size=64)),
    some.tuples(some.just("replace"), place, some.binary(max_size=2000)),
)


def damaged(content, changes):
    """`content` after `changes`."""
    content = bytearray(content)
    for what, where, how in changes:
        byte = int(where * len(content)) if isinstance(where, float) else where
        byte = min(byte, max(len(content) - 1, 0))
        if what == "flip" and content:
            content[byte] ^= 1 << how
        elif what == "cut":
            del content[byte:]
        elif what == "delete":
            del content[byte : byte + how]
        elif what == "insert":
            content[byte:byte] = how
        elif what == "overwrite":
            content[byte : byte + len(how)] = how
        elif what == "append":
            content += how
        elif what == "replace":
            content = bytearray(how)
    return bytes(content)


def hang(*_):
    raise AssertionError(f"a reader took more than {SECONDS} s")


def trial(cases):
    """Reads `cases` damaged files, the same ones each time; returns Counter of (kind, outcome)."""
    outcomes, folder = Counter(), Path(tempfile.mkdtemp())
    kinds = targets(folder)
    undamaged = {kind: (path.read_bytes(), read(path)) for kind, (path, read, _) in kinds.items()}
    signal.signal(signal.SIGALRM, hang)
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(some.sampled_from(sorted(kinds)), some.lists(damage, min_size=1, max_size=4))
    def one(kind, changes):
        path, read, allowed = kinds[kind]
        content, good = undamaged[kind]
        changed = damaged(content, changes)
        path.write_bytes(changed)
        signal.alarm(SECONDS)
        try:
            result = read(path)
        except SystemExit as line:
            assert "\n" not in str(line) and str(line).startswith(str(path)), line
            outcomes[kind, str(line).split(": ", 1)[1].split(" (")[0].split(";")[0]] += 1
        else:
            if changed == content:
                assert result == good, (kind, result)
            else:
                assert result in allowed, (kind, result)
            outcomes[kind, "as it was" if changed == content else "read as none"] += 1
        finally:
            signal.alarm(0)

    try:
        one()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    cases, began = parser.parse_args().cases, time.monotonic()
    outcomes = trial(cases)
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"{kind:12} {count:6} {outcome}")
    print(f"{sum(outcomes.values())} cases in {time.monotonic() - began:.0f} s")
