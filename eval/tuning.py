"""Tuning: a table of the settings that `make tune` tried, by accuracy on val at the last epoch.

The choice is written into the profile by hand: with 1,000 val images, settings less than 0.012
apart (one standard error) are equal. The test split plays no part: pretraining never measures it,
and finetuning is run with --measure-on val.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py

from common import cli, files

SHOWN = ("lr", "batch_size", "sigma", "swa_lr")


@dataclass(frozen=True)
class Tried:
    """One setting, and what came of it."""

    what: str  # was tuned: a method, or "finetune" and a mode
    settings: dict[str, float]  # of SHOWN, those that it has
    val: float  # accuracy at the last epoch
    train: float


def read(path: Path) -> Tried:
    """The setting of one file; SystemExit with one line where it is missing or damaged, or was not
    measured on val.
    """
    with files.read(path) as file:
        if "val/accuracy" not in file:
            raise SystemExit(f"{path}: has no accuracy on val; make tune measures there")
        settings = json.loads(file.attrs["settings"])
        shown = {name: settings[name] for name in SHOWN if name in settings}
        if file.attrs["kind"] == "training":
            what = file.attrs["method"]
        else:
            what = f"finetune {file.attrs['mode']}"
        return Tried(what, shown, accuracy(file, "val"), accuracy(file, "train"))


def accuracy(file: h5py.File, split: str) -> float:
    """Accuracy at the last epoch: of pretraining that of the weights that were saved, which may be
    an average; of finetuning the mean over runs.
    """
    if file.attrs["kind"] == "training":
        return float(file[f"final/{split}_accuracy"][()])
    return float(file[f"{split}/accuracy"][:, -1].mean())


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="training.h5 and finetune files of the settings tried",
    )
    tried = [read(path) for path in parser.parse_args().files]
    for what in dict.fromkeys(setting.what for setting in tried):
        ranked = sorted(
            (setting for setting in tried if setting.what == what), key=lambda setting: -setting.val
        )
        print(f"{what}: val accuracy of {len(ranked)} settings, the best first")
        for place, setting in enumerate(ranked):
            words = " ".join(f"{name}={value:g}" for name, value in setting.settings.items())
            mark = "" if place else "   <- best on val"
            print(f"  {setting.val:.4f}  (train {setting.train:.4f})  {words}{mark}")


if __name__ == "__main__":
    main()
