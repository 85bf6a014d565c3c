"""The original report's claims, tested on these files: each is a set of numbers with the region in which the claim wants them.

A claim holds where every 95 % interval lies inside its region (an intersection-union test: no correction is needed), does not hold where one
lies wholly outside, and cannot be told otherwise. Intervals are Student's over seeds, of differences paired by seed.
"""

import itertools

import numpy as np

from eval.report import statistics, study

INF = float("inf")
POINT = 0.01  # accuracy: "about one point", "not different"
EPOCHS_ALIKE = 0.5  # "the time does not differ"
ORDER_OF_NORM = (0.5, 2)
BARRIER, ALIKE = 0.1, 1.5  # nats above the chord; largest barrier / smallest

METHOD = (
    "Published: one run a method, from its curves (- where it gave no number, † where its own number is not what it says). Ours: differences are paired by "
    "seed; [Student's 95 % interval over n seeds], uncorrected; (least to most) of pairs of minima, which share members. A claim holds where all its "
    "intervals lie inside what it wants, does not hold where one lies outside or one of the pairs does, and cannot be told otherwise. Margins (half a point, "
    "a point, half an epoch, 0.1 nats, alike) are constants of common/claims.py. detectable: the smallest difference that these seeds find with 80 % "
    "power. What does not hold here does not hold on these images, at these sizes."
)


def published_rows(published):
    """The original report's own numbers as rows like ours, from its curves: {method: {column: value}}."""
    rows = {
        method: {"test_accuracy": value}
        for method, value in published["headline"]["test_accuracy"].items()
    }
    for name, split in itertools.product(
        ("gaussian_noise", "square_mask", "fgsm", "local_energy"), study.SPLITS
    ):
        for method, curve in published[name].items():
            levels, accuracy, loss = (
                np.array(curve[key]) for key in ("levels", f"{split}_accuracy", f"{split}_loss")
            )
            curves = {
                "accuracy": accuracy,
                "loss": loss,
                "loss_change": loss - loss[0],
                "relative": accuracy / accuracy[0],
            }
            row = rows[method]
            row |= {
                f"{name}_{split}_{key}": float(values.mean()) for key, values in curves.items()
            } | {f"{split}_accuracy": float(accuracy[0])}
            if name in study.PARTS:
                key, most, above, _ = study.PARTS[name]
                row[f"{name}_{split}_{key}_to_{most:g}"] = float(
                    curves[key][above(levels, 0) & (levels <= most + 1e-9)].mean()
                )
    return rows


def part(
    words,
    region,
    published=np.nan,
    ours=np.nan,
    low=np.nan,
    high=np.nan,
    n=0,
    digits=3,
    detectable=np.nan,
    every=False,
):
    """One number of a claim: what it is, the open interval in which the claim wants it, the published value, ours with its ends. `every`: these
    are the least and the most of numbers that must all lie inside."""
    return {
        "part": words,
        "region": region,
        "published": published,
        "ours": ours,
        "low": low,
        "high": high,
        "n": n,
        "digits": digits,
        "detectable": detectable,
        "every": every,
    }


def decide(parts):
    """holds, does not hold, cannot tell."""
    told = [_inside(part) for part in parts]
    return (
        "does not hold"
        if "no" in told
        else "holds"
        if told and set(told) == {"yes"}
        else "cannot tell"
    )


def _inside(part):
    """yes, no, open: does the number lie where the claim wants it?"""
    least, most = part["region"]
    if least < part["low"] and part["high"] < most:
        return "yes"
    return (
        "no"
        if part["high"] <= least
        or most <= part["low"]
        or part["every"]
        and (part["low"] <= least or most <= part["high"])
        else "open"
    )


def claims(rows, results, tried, published, mode="full"):
    """Every claim as {"claim", "parts", "verdict"}; `tried`: the results of tuning."""
    theirs = published_rows(published)
    by_method = study.grouped(rows, lambda row: row["method"])
    methods = [method for method in theirs if method in by_method]
    pairs = list(itertools.combinations(methods, 2))

    def difference(column, a, b, region=(0, INF), digits=3):
        """a - b, paired by seed."""
        values = [
            {row["seed"]: row[column] for row in by_method.get(method, []) if column in row}
            for method in (a, b)
        ]
        with np.errstate(invalid="ignore"):
            found = np.array(
                [values[0][seed] - values[1][seed] for seed in values[0] if seed in values[1]]
            )
        was = theirs[a].get(column, np.nan) - theirs[b].get(column, np.nan)
        if not len(found) or not np.isfinite(found).all():
            why = "some never got there" if len(found) else "not in these files"
            return part(f"{a} - {b} ({why})", region, was, n=len(found), digits=digits)
        return part(
            f"{a} - {b}",
            region,
            was,
            *statistics.t_interval(found),
            digits,
            statistics.detectable_difference(found),
        )

    def level(column, method, region, digits=3):
        """The mean over seeds."""
        found = [row[column] for row in by_method[method] if column in row]
        return part(
            method,
            region,
            theirs[method].get(column, np.nan),
            *(statistics.t_interval(found) if found else ()),
            digits=digits,
        )

    def spread(words, values, region, was=np.nan, digits=2):
        """Smallest to largest of values that are few or share minima: all of them must lie inside."""
        return part(
            words,
            region,
            was,
            *((np.mean(values), min(values), max(values), len(values)) if len(values) else ()),
            digits=digits,
            every=True,
        )

    def order(column, *names, digits=3):
        return [difference(column, a, b, digits=digits) for a, b in zip(names, names[1:])]

    found = []

    def claim(text, parts, verdict=None):
        found.append({"claim": text, "parts": parts, "verdict": verdict or decide(parts)})

    claim(
        "SWA generalizes best, then adam, then noisy_adam (test accuracy)",
        order("test_accuracy", "swa", "adam", "noisy_adam"),
    )
    claim(
        f"Train accuracy ends at {published['headline']['train_accuracy_target']:.0%} or above",
        [
            level("train_accuracy", method, (published["headline"]["train_accuracy_target"], INF))
            for method in methods
        ],
    )
    accuracies = published["headline"]["test_accuracy"].values()
    claim(
        f"Test accuracy is {min(accuracies):.1%} to {max(accuracies):.1%}",
        [
            level(
                "test_accuracy", method, (min(accuracies) - POINT / 2, max(accuracies) + POINT / 2)
            )
            for method in methods
        ],
    )
    rises, falls = [], []
    for method, own in study.grouped(
        (result for result in results if result.kind == "training"), lambda result: result.label
    ).items():
        rise, change = zip(*_after_the_minimum(own)) if len(own) > 1 else ((np.nan,), (np.nan,))
        rises.append(
            part(
                f"{method}: rise of val loss (nats)", (0, INF), np.nan, *statistics.t_interval(rise)
            )
        )
        falls.append(
            part(
                f"{method}: change of val accuracy",
                (-POINT, INF),
                np.nan,
                *statistics.t_interval(change),
            )
        )
    claim(
        "The loss on unseen images has an early minimum and rises (last epoch against the minimum)",
        rises,
    )
    claim("… while accuracy stays flat or better (from that epoch to the last)", falls)
    claim(
        "noisy_adam leads under Gaussian noise up to sigma 0.4 (mean accuracy)",
        [
            difference("gaussian_noise_test_accuracy_to_0.4", "noisy_adam", other)
            for other in ("adam", "swa")
        ],
    )
    claim(
        "SWA leads on masks, then adam, then noisy_adam (mean accuracy)",
        order("square_mask_test_accuracy", "swa", "adam", "noisy_adam"),
    )
    claim(
        "SWA leads on FGSM (mean accuracy)",
        [difference("fgsm_test_accuracy", "swa", other) for other in ("adam", "noisy_adam")],
    )
    claim(
        "SWA is flattest (train loss gained under weight noise, sigma <= 0.5, nats)",
        [
            difference("local_energy_train_loss_change_to_0.5", "swa", other, (-INF, 0))
            for other in ("adam", "noisy_adam")
        ],
    )
    agree = [
        _same_sign(
            difference(f"{name}_train_{kind}", a, b), difference(f"{name}_test_{kind}", a, b)
        )
        for name, kind in (
            ("gaussian_noise", "accuracy"),
            ("square_mask", "accuracy"),
            ("fgsm", "accuracy"),
            ("local_energy", "accuracy"),
        )
        for a, b in pairs
    ]
    counts = [sum(sign == of for sign, _ in agree) for of in (1, -1, 0)]
    was = [sign for _, sign in agree]
    claim(
        "Results on train and test images agree (sign of the difference; 4 perturbations, pairs of its methods)",
        [
            part(
                f"agree {counts[0]}, contradict {counts[1]}, undecided {counts[2]}; published: agree {was.count(1)} of {len(was)}",
                (0, INF),
                n=len(agree),
            )
        ],
        "does not hold" if counts[1] else "holds" if counts[0] and not counts[2] else "cannot tell",
    )
    lines = [
        result for result in results if result.kind == "pair" and not result.attrs["shared_start"]
    ]
    claim(
        "Minima of independent runs are as far apart as their norms (distance / mean norm, range over pairs)",
        [
            spread(name, [line.data[f"distance/{key}/relative"] for line in lines], ORDER_OF_NORM)
            for key, name in (("weights", "convolutions, linear"), ("batchnorm", "BatchNorm"))
        ],
    )
    barriers = {
        path: [_barrier(line.data[f"{path}/t"], line.data[f"{path}/train/loss"]) for line in lines]
        for path in ("path", "path_recomputed")
    }
    chords = [
        _barrier(np.array(curve["t"]), np.array(curve["train_loss"]))
        for curve in published["path"].values()
    ]
    claim(
        "Every straight line crosses a barrier (train loss above the chord, nats, range over pairs)",
        [
            spread("BatchNorm interpolated", barriers["path"], (BARRIER, INF), np.mean(chords)),
            spread("BatchNorm recomputed", barriers["path_recomputed"], (BARRIER, INF)),
        ],
    )
    ratios = {
        path: [max(values) / min(values)] if values and min(values) > 0 else []
        for path, values in barriers.items()
    }
    claim(
        "… and these lines look alike (largest barrier / smallest)",
        [
            spread("BatchNorm interpolated", ratios["path"], (0, ALIKE), max(chords) / min(chords)),
            spread("BatchNorm recomputed", ratios["path_recomputed"], (0, ALIKE)),
        ],
    )
    claim(
        "All finetuning runs learn the training set (train accuracy at the last epoch, to the percent)",
        [level(f"{mode}_train_accuracy", method, (0.995, INF)) for method in methods],
    )
    claim(
        "The time to 95 % train accuracy does not differ (epochs)",
        [
            difference(f"{mode}_epochs_to_target", a, b, (-EPOCHS_ALIKE, EPOCHS_ALIKE), 2)
            for a, b in pairs
        ],
    )
    claim(
        "After finetuning SWA and noisy_adam are about one point above adam (test accuracy)",
        [
            difference(f"{mode}_test_accuracy", a, "adam", (0, 2 * POINT))
            for a in ("swa", "noisy_adam")
        ],
    )
    claim(
        "… and not different from each other",
        [difference(f"{mode}_test_accuracy", "swa", "noisy_adam", (-POINT, POINT))],
    )
    claim(
        "noisy_adam generalizes worse than adam, yet finetunes better (test accuracy before, after)",
        [
            difference("test_accuracy", "noisy_adam", "adam", (-INF, 0)),
            difference(f"{mode}_test_accuracy", "noisy_adam", "adam"),
        ],
    )
    claim(
        "SWA moves least in finetuning (distance / start's norm)",
        [
            difference(f"{mode}_distance_relative_all", "swa", other, (-INF, 0), 4)
            for other in ("adam", "noisy_adam")
        ],
    )
    claim(
        "The smallest lr is best in finetuning (val accuracy, against the best of the larger ones; paired by run)",
        [_small_lr(tried)],
    )
    return found


def _after_the_minimum(results):
    """Of each seed: rise of val loss, change of val accuracy, from the epoch of the minimum to the last. That epoch is read from the other
    seeds' mean curve: the lowest of one's own noisy values would always lie below the last."""
    epochs = min(len(result.data["epoch"]) for result in results)
    losses, accuracies = (
        np.array([result.data[f"val/{name}"][:epochs] for result in results])
        for name in ("loss", "accuracy")
    )
    for k in range(len(results)):
        at = np.delete(losses, k, 0).mean(0).argmin()
        yield losses[k, -1] - losses[k, at], accuracies[k, -1] - accuracies[k, at]


def _same_sign(*parts):
    """(ours, published): 1 where two differences have one sign, -1 where they have two, 0 where an interval holds 0."""
    sure = all(part["low"] > 0 or part["high"] < 0 for part in parts)
    return tuple(
        int(np.sign(np.prod([part[key] for part in parts]))) if key == "published" or sure else 0
        for key in ("ours", "published")
    )


def _barrier(t, losses):
    """The most by which `losses` (T,) lie above the straight line between their ends."""
    return float(np.max(losses - (1 - t) * losses[0] - t * losses[-1]))


def _small_lr(tried):
    """Val accuracy at the last epoch with the smallest lr minus that of the best larger lr, paired by run."""
    runs = study.grouped(
        (result for result in tried if result.kind == "finetune"),
        lambda result: result.settings["lr"],
    )
    best = {
        lr: max((result.data["val/accuracy"][:, -1] for result in own), key=np.mean)
        for lr, own in runs.items()
    }
    if len(best) < 2:
        return part("no setting was tried; make tune tries them", (0, INF))
    least = min(best)
    other = max((lr for lr in best if lr != least), key=lambda lr: best[lr].mean())
    count = min(len(best[least]), len(best[other]))
    return part(
        f"lr {least:g} - lr {other:g}",
        (0, INF),
        np.nan,
        *statistics.t_interval(best[least][:count] - best[other][:count]),
    )


def lines(claim):
    """A claim as lines of a table: its verdict and what it says, then of each part: ours, published, wanted, whether it is, n, detectable."""

    def number(part, key):
        return "–" if np.isnan(part[key]) else f"{part[key]:.{part['digits']}f}".replace("-", "−")

    yield (f"{claim['verdict'].capitalize()}: {claim['claim']}",)
    for part in claim["parts"]:
        low, high = part["region"]
        wanted = (
            f"> {low:g}"
            if high == INF
            else f"< {high:g}"
            if low == -INF
            else f"{low:g} to {high:g}"
        )
        ends = (" ({} to {})" if part["every"] else " [{},\N{NO-BREAK SPACE}{}]").format(
            number(part, "low"), number(part, "high")
        )
        ends = (
            ends
            if np.isfinite([part["low"], part["high"]]).all()
            and not (part["every"] and part["low"] == part["high"])
            else ""
        )
        mark = " †" if part["published"] <= low or high <= part["published"] else ""
        yield (
            part["part"],
            number(part, "ours") + ends,
            number(part, "published") + mark,
            wanted.replace("-", "−"),
            _inside(part),
            part["n"] or "–",
            number(part, "detectable"),
        )
