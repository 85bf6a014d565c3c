"""Statistics of the report. Seeds are the sample: repeats of a level and runs of a minimum are averaged before all else."""
import numpy as np


def mean_std(values):
    """Mean, std (ddof 1; NaN where n is 1) and n over the first axis of `values` (n, …)."""
    values = np.sort(np.asarray(values, float), axis=0)  # one order of summing: last bits do not depend on the order of files
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan), len(values)


def median(values):
    """The median, where NaN ("never reached") counts as infinitely late."""
    return float(np.median(np.where(np.isnan(values), np.inf, values)))


def rows(results):
    """A dict a minimum, in order of appearance: minimum, method, seed, every scalar of its files; the columns of summary.csv."""
    found = {}
    for result in (result for result in results if result.kind != "pair"):
        row = found.setdefault(result.minimum, {"minimum": result.minimum, "method": result.label, "seed": result.attrs["seed"]})
        if result.kind == "training":
            row["pretraining_epoch_at_target"] = median(result.attrs["epoch_target_reached"])
        else:
            row |= (_measures if result.kind == "passport" else _outcomes)(result)
    return list(found.values())  # in a passport's second volume are more columns of the same row


SUMMARIES = {"mean_accuracy": "accuracy", "mean_accuracy_relative": "relative", "mean_loss": "loss", "mean_loss_change": "loss_change",
             "half_accuracy_level": "half_accuracy_level", "one_nat_level": "one_nat_level"}


def _measures(result):
    """Clean loss, accuracy and calibration; the summaries of each perturbation, each also _low and _high; scalars."""
    row = {}
    for (name, attrs), split in ((item, split) for item in result.groups.items() for split in ("train", "test")):
        if attrs["measurement"] == "clean":
            prefix, names = f"{split}_", {"loss": "loss", "accuracy": "accuracy"}
            suffix = "" if attrs["batchnorm"] == "stored" else f"_{attrs['batchnorm']}"
        else:
            prefix, suffix, names = f"{name}_{split}_", "", SUMMARIES
            row |= {f"{name}_largest_level": result.data[f"{name}/levels"][-1]} if f"{name}/levels" in result.data else {}
        for stored, column in names.items():
            if (found := result.data.get(f"{name}/summary/{split}/{stored}")) is not None:
                row |= {f"{prefix}{column}{suffix}{end}": value for end, value in zip(("", "_low", "_high"), found.reshape(-1, 3)[0])}
        row |= {f"{prefix}{at.split('/')[-1]}{suffix}": value[0] for at, value in result.data.items()
                if at.startswith(f"{name}/{split}/") and value.ndim == 1 and not at.endswith("accuracy_relative")}
    return row


def _outcomes(result):
    """What finetuning came to at its last epoch, over the runs of one minimum."""
    data, mode = result.data, result.attrs["mode"]
    row = {f"{mode}_runs": len(data["epochs_to_target"]), f"{mode}_epochs_to_target": median(data["epochs_to_target"])}
    for at in "train/accuracy", "test/accuracy", "distance_relative/all":
        name = f"{mode}_{at.replace('/', '_')}"
        row[name], row[f"{name}_std"], _ = mean_std(data[at][:, -1])
    return row
