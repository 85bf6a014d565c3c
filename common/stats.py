"""Statistics of the report. Seeds are the sample: repeats of a level and runs of a minimum are averaged before anything else is."""
import numpy as np


def mean_std(values):
    """Mean, std (ddof 1; NaN where n is 1) and n over the first axis of `values` (n, …)."""
    values = np.sort(np.asarray(values, float), axis=0)  # one order of summing: last bits do not depend on the order of the files
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan), len(values)


def median(values):
    """The median, where NaN ("never reached") counts as infinitely late."""
    return float(np.median(np.where(np.isnan(values), np.inf, values)))


def rows(results):
    """A dict a minimum, in order of appearance: minimum, method, seed, and every scalar that its files give (the columns of summary.csv)."""
    found = {}
    for result in results:
        if result.kind != "pair":
            row = found.setdefault(result.minimum, {"minimum": result.minimum, "method": result.label, "seed": result.attrs["seed"]})
            row |= {"training": _pretraining, "passport": _measures, "finetune": _outcomes}[result.kind](result)
    return list(found.values())


def _pretraining(result):
    return {"pretraining_epoch_at_target": float(result.attrs["epoch_target_reached"])}


def _measures(result):
    """Clean loss and accuracy; of each perturbation accuracy averaged over its levels, and relative to clean; scalars as they are."""
    row = {}
    for name, attrs in result.groups.items():
        suffix = "" if attrs["batchnorm"] == "stored" else f"_{attrs['batchnorm']}"
        means = {at.removeprefix(f"{name}/"): values.mean() for at, values in result.data.items() if at.startswith(f"{name}/t")}
        if attrs["measurement"] == "clean":
            row |= {at.replace("/", "_") + suffix: value for at, value in means.items()}
            continue
        row |= {f"{name}_{at}".replace("/", "_"): value for at, value in means.items() if f"{name}/levels" not in result.data or "loss" not in at}
        for split in "train", "test":
            if f"clean{suffix}/{split}/accuracy" in result.data and f"{split}/accuracy" in means:
                row[f"{name}_{split}_relative"] = means[f"{split}/accuracy"] / result.data[f"clean{suffix}/{split}/accuracy"].mean()
    return row


def _outcomes(result):
    """What finetuning came to at its last epoch, over the runs of one minimum."""
    data, mode = result.data, result.attrs["mode"]
    row = {f"{mode}_runs": len(data["epochs_to_target"]), f"{mode}_epochs_to_target": median(data["epochs_to_target"])}
    for name, at in ("test_accuracy", "test/accuracy"), ("train_accuracy", "train/accuracy"), ("distance_relative", "distance_relative/all"):
        row[f"{mode}_{name}"], row[f"{mode}_{name}_std"], _ = mean_std(data[at][:, -1])
    return row
