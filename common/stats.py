"""Statistics of the report. Seeds are the sample: repeats of a level and runs of a minimum are averaged before anything else is."""
import numpy as np


def mean_std(values):
    """Mean, std (ddof 1; NaN where n is 1) and n over the first axis of `values` (n, …)."""
    values = np.sort(np.asarray(values, float), axis=0)  # one order of summing: last bits do not depend on the order of the files
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan), len(values)


def median(values):
    """The median, NaN ("never reached") counted as infinitely late."""
    return float(np.median(np.where(np.isnan(values), np.inf, values)))


def rows(results):
    """One dict a minimum, in order of appearance: its name, method, seed, and every scalar measure and outcome that its files hold."""
    found = {}
    for result in results:
        if result.kind != "pair":
            row = found.setdefault(result.minimum, {"minimum": result.minimum, "method": result.method, "seed": result.seed})
            row |= {"training": _pretraining, "passport": _measures, "finetune": _outcomes}[result.kind](result)
    return list(found.values())


def _pretraining(result):
    return {"pretraining_epoch_at_target": float(result.attrs["epoch_target_reached"])}


def _measures(result):
    """Clean loss and accuracy; of each perturbation the accuracy averaged over its levels, and that relative to clean; scalars."""
    row, data = {}, result.data
    for group, attrs in result.groups.items():
        suffix = "" if attrs["batchnorm"] == "stored" else f"_{attrs['batchnorm']}"
        for split in "train", "test":
            if attrs["measurement"] == "clean":
                row |= {f"{split}_{name}{suffix}": data[f"{group}/{split}/{name}"].mean() for name in ("loss", "accuracy")}
            elif f"{group}/levels" in data:
                row[f"{group}_{split}_accuracy"] = accuracy = data[f"{group}/{split}/accuracy"].mean()
                if f"clean{suffix}/{split}/accuracy" in data:
                    row[f"{group}_{split}_relative"] = accuracy / data[f"clean{suffix}/{split}/accuracy"].mean()
            else:
                row |= {at.replace("/", "_"): values.mean() for at, values in data.items() if at.startswith(f"{group}/{split}/")}
    return row


def _outcomes(result):
    """What finetuning came to at its last epoch, over the runs of one minimum."""
    data, mode = result.data, result.attrs["mode"]
    row = {"runs": len(data["test/accuracy"]), "epochs_to_target": median(data["epochs_to_target"])}
    for name, at in {"test_accuracy": "test/accuracy", "train_accuracy": "train/accuracy", "distance": "distance_relative/all"}.items():
        row[name], row[f"{name}_std"], _ = mean_std(data[at][:, -1])
    return {f"{mode}_{name}": value for name, value in row.items()}
