"""Tuning: a table of the settings that `make tune` tried, by accuracy on the val split at the last
epoch.

The choice is written into the profile by hand: with 1,000 val images, settings less than 0.012
apart (one standard error) are equal. The test split plays no part: pretraining never measures it,
and finetuning is run with --measure-on val.
"""

import json
from pathlib import Path
from typing import NamedTuple

from common import cli, files

SHOWN = "lr", "batch_size", "sigma", "swa_lr"


class Trial(NamedTuple):
    """A setting that was tried; accuracies are those at the end (for swa: of the average)."""

    what: str  # the method, or "finetune" and the mode
    settings: dict[str, float]
    val_accuracy: float
    train_accuracy: float


def read(path: Path) -> Trial:
    """The trial of a training.h5, or, as a mean over runs, of a file of finetuning."""
    with files.read(path) as file:
        settings = json.loads(file.attrs["settings"])
        shown = {name: settings[name] for name in SHOWN if name in settings}
        if file.attrs["kind"] == "training":
            val, train = (file[f"final/{split}_accuracy"][()] for split in ("val", "train"))
            return Trial(file.attrs["method"], shown, float(val), float(train))
        val, train = (file[f"{split}/accuracy"][:, -1].mean() for split in ("val", "train"))
        return Trial(f"finetune {file.attrs['mode']}", shown, val, train)


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="training.h5 and finetune files of the settings tried",
    )
    trials = [read(path) for path in parser.parse_args().files]
    for what in dict.fromkeys(trial.what for trial in trials):
        best_first = sorted(
            (trial for trial in trials if trial.what == what), key=lambda trial: -trial.val_accuracy
        )
        print(f"{what}: val accuracy of {len(best_first)} settings, the best first")
        for trial in best_first:
            settings = " ".join(f"{name}={value:g}" for name, value in trial.settings.items())
            mark = "   <- best on val" if trial is best_first[0] else ""
            print(
                f"  {trial.val_accuracy:.4f}  (train {trial.train_accuracy:.4f})  {settings}{mark}"
            )


if __name__ == "__main__":
    main()
