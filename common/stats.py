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
    return list(found.values())


def _measures(result):
    """Clean loss and accuracy; of each perturbation accuracy averaged over its levels, and that relative to clean; scalars."""
    row = {}
    for (name, attrs), split in ((item, split) for item in result.groups.items() for split in ("train", "test")):
        means = {at.split("/")[-1]: values.mean() for at, values in result.data.items() if at.startswith(f"{name}/{split}/")}
        suffix = "" if attrs["batchnorm"] == "stored" else f"_{attrs['batchnorm']}"
        if attrs["measurement"] == "clean":
            row |= {f"{split}_{at}{suffix}": value for at, value in means.items()}
        elif attrs["family"] == "scalar":
            row |= {f"{name}_{split}_{at}": value for at, value in means.items()}
        else:
            clean = result.data.get(f"clean{suffix}/{split}/accuracy", np.array(np.nan)).mean()
            row |= {f"{name}_{split}_accuracy": means["accuracy"], f"{name}_{split}_relative": means["accuracy"] / (clean or np.nan)}
    return row


def _outcomes(result):
    """What finetuning came to at its last epoch, over the runs of one minimum."""
    data, mode = result.data, result.attrs["mode"]
    row = {f"{mode}_runs": len(data["epochs_to_target"]), f"{mode}_epochs_to_target": median(data["epochs_to_target"])}
    for at in "train/accuracy", "test/accuracy", "distance_relative/all":
        name = f"{mode}_{at.replace('/', '_')}"
        row[name], row[f"{name}_std"], _ = mean_std(data[at][:, -1])
    return row
