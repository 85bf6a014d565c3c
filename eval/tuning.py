"""Tuning: a table of the settings that `make tune` tried, by accuracy on the val split at the last epoch.

The choice is written into the profile by hand: with 1,000 val images, settings less than 0.012 apart (one standard error) are equal.
The test split plays no part: pretraining never measures it, and finetuning is run with --measure-on val.
"""

import json
from pathlib import Path

from common import cli, files

SHOWN = "lr", "batch_size", "sigma", "swa_lr"


def row(path):
    """(what was tuned, {setting: value}, val accuracy, train accuracy), accuracies at the last epoch (for swa: of the average)."""
    with files.read(path) as file:
        settings = json.loads(file.attrs["settings"])
        chosen = {name: settings[name] for name in SHOWN if name in settings}
        if file.attrs["kind"] == "training":
            return (
                file.attrs["method"],
                chosen,
                float(file["final/val_accuracy"][()]),
                float(file["final/train_accuracy"][()]),
            )
        return (
            f"finetune {file.attrs['mode']}",
            chosen,
            file["val/accuracy"][:, -1].mean(),
            file["train/accuracy"][:, -1].mean(),
        )


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="training.h5 and finetune files of the settings tried",
    )
    rows = [row(path) for path in parser.parse_args().files]
    for tuned in dict.fromkeys(name for name, *_ in rows):
        tried = sorted((found for found in rows if found[0] == tuned), key=lambda found: -found[2])
        print(f"{tuned}: val accuracy of {len(tried)} settings, the best first")
        for place, (_, settings, val, train) in enumerate(tried):
            words = " ".join(f"{name}={value:g}" for name, value in settings.items())
            print(
                f"  {val:.4f}  (train {train:.4f})  {words}{'   <- best on val' if place == 0 else ''}"
            )


if __name__ == "__main__":
    main()
