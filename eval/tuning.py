"""Tuning: a table of the settings that `make tune` tried, by accuracy on val at the last epoch.

The choice is written into the profile by hand: with 1,000 val images, settings less than 0.012
apart (one standard error) are equal. The test split plays no part: pretraining never measures it,
and finetuning is run with --measure-on val.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import h5py

from common import cli, files


@dataclass(frozen=True)
class Tried:
    """One setting in one file, and what came of it."""

    what: str  # was tuned: a method, or a mode on a task
    setting: str  # its word
    val: float  # accuracy at the last epoch
    train: float


def read(path: Path) -> Tried:
    """The setting of one file; SystemExit with one line where it is missing or damaged, or was not
    measured on val.
    """
    with files.read(path) as file:
        if "val/accuracy" not in file:
            raise SystemExit(f"{path}: has no accuracy on val; make tune measures there")
        if "start" not in file.attrs:
            raise SystemExit(f"{path}: of an older version; move it away and run make tune again")
        what, setting = file.attrs["method"], file.attrs["setting"]
        if file.attrs["kind"] == "finetune":
            what = f"{file.attrs['mode']} finetuning on {file.attrs['task']}"
            setting = file.attrs["mode_setting"]
        return Tried(what, setting, accuracy(file, "val"), accuracy(file, "train"))


def accuracy(file: h5py.File, split: str) -> float:
    """Accuracy at the last epoch: of pretraining that of the weights that were saved, which may be
    an average; of finetuning the mean over runs.
    """
    if file.attrs["kind"] == "training":
        return float(file[f"final/{split}_accuracy"][()])
    return float(file[f"{split}/accuracy"][:, -1].mean())


def print_table(what: str, tried: list[Tried]):
    """A line a setting, the best first: means over its files, one a seed or a minimum."""
    by_setting = {}
    for each in tried:
        by_setting.setdefault(each.setting, []).append(each)
    lines = [
        (mean(each.val for each in members), mean(each.train for each in members), setting)
        for setting, members in by_setting.items()
    ]
    lines.sort(key=lambda line: -line[0])
    print(f"{what}: val accuracy of {len(lines)} settings, the best first")
    for place, (val, train, setting) in enumerate(lines):
        mark = "" if place else "   <- best on val"
        print(f"  {val:.4f}  (train {train:.4f})  {setting}{mark}")


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="training.h5 of pretraining and MODE.h5 of finetuning, of the settings tried",
    )
    tried = [read(path) for path in parser.parse_args().files]
    for what in dict.fromkeys(each.what for each in tried):
        print_table(what, [each for each in tried if each.what == what])


if __name__ == "__main__":
    main()
