"""The README's figure, from the committed results of the real-image study (small.csv, .json).

`.venv/bin/python docs/first.py` draws it anew.
"""

import json
from pathlib import Path

import matplotlib
import pandas
from matplotlib.figure import Figure

HERE = Path(__file__).parent
SETTINGS = {  # label, colour (Okabe and Ito 2008), marker
    "adam": ("Adam", "#0072B2", "o"),
    "noisy_adam": ("Adam on noisy images", "#D55E00", "s"),
    "swa": ("weight averaging (SWA)", "#009E73", "D"),
    "swa/last": ("SWA's last iterate", "#CC79A7", "^"),
}
ROBUSTNESS = {  # column of small.csv: title, label of the x axis
    "gaussian_noise_test_relative": ("robust to noise on the images", "accuracy kept"),
    "fgsm_test_relative": ("robust to an attack (FGSM)", "accuracy kept"),
    "local_energy_train_loss_change_to_0.5": (
        "robust to noise on the weights",
        "train loss gained, nats",
    ),
}
OUTCOME = "full_test_accuracy"


def main():
    matplotlib.rcParams.update({"svg.hashsalt": "basins", "svg.fonttype": "none", "font.size": 10})
    minima = pandas.read_csv(HERE / "small.csv", comment="#")
    # small.csv may be of before settings, when SWA's last iterate was a method of its own.
    settings = minima.get("setting", minima["method"].replace("swa_last", "swa/last"))
    verdicts = json.loads((HERE / "small.json").read_text())["verdicts"]
    figure = Figure(figsize=(9.2, 3.7), facecolor="white")
    panels = figure.subplots(1, len(ROBUSTNESS), sharey=True)
    for axes, (column, (title, label)) in zip(panels, ROBUSTNESS.items(), strict=True):
        for setting, (name, colour, marker) in SETTINGS.items():
            rows = minima[settings == setting]
            axes.plot(rows[column], rows[OUTCOME], marker, color=colour, label=name, ms=7, mec="w")
        (verdict,) = (
            row
            for row in verdicts
            if (row["predictor"], row["outcome"]) == (column, OUTCOME.removeprefix("full_"))
        )
        interval = f"[{verdict['low']:+.2f}, {verdict['high']:+.2f}]"
        text = f"r = {verdict['r']:+.2f} {interval}: {verdict['verdict']}"
        axes.set_title(f"{title}\n", fontweight="bold", fontsize=10.5)
        axes.text(0.5, 1.03, text.replace("-", "−"), transform=axes.transAxes, ha="center")
        more, less = "more robust →", "← more robust"
        axes.set_xlabel(f"{label}\n{less if 'loss' in label else more}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test accuracy after finetuning")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(SETTINGS), frameon=False)
    figure.subplots_adjust(left=0.085, right=0.985, top=0.84, bottom=0.285, wspace=0.1)
    figure.savefig(HERE / "first.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
