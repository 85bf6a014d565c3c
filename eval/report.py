"""The report: from the files of a study index.html (one page, opens anywhere), figures/*.png and summary.csv (a row a minimum).

Every number comes from the files named. Their kind is read from their contents; those in a folder tune/ are the tuning.
"""
import json
from collections import Counter
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from common import cli, figures, files, page, stats

QUESTION = "Do more robust minima make better starting points for finetuning?"
SPLITS, PARTS = ("train", "test"), ("all", "weights", "batchnorm")


def load(path):
    """One file: kind, minimum, label (method, or pair of methods), attrs, settings, groups {group: attrs}, data {path: array}."""
    data = {}
    with files.read(path) as file:
        attrs = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
        if attrs.get("kind") not in ("training", "passport", "finetune", "pair"):
            raise SystemExit(f"{path}: not a result of the study; the report takes training, passport, finetune and pair files")
        file.visititems(lambda at, item: data.update({at: item[()]} if hasattr(item, "shape") and "_by_image" not in at else {}))
        groups = {name: dict(group.attrs) for name, group in file.items() if "measurement" in group.attrs}
    for name, split in ((name, split) for name in groups for split in SPLITS if f"{name}/summary/{split}/accuracy_relative" in data):
        data[f"{name}/{split}/accuracy_relative"] = data[f"{name}/summary/{split}/accuracy_relative"][:, 0]
    settings = json.loads(attrs["settings"])
    order = settings.get("names", []) + [own["measurement"] for own in groups.values()]  # as measured: HDF5 lists by alphabet
    groups = dict(sorted(groups.items(), key=lambda group: order.index(group[1]["measurement"])))
    minima = json.loads(attrs["minima"]) if attrs["kind"] == "pair" else [attrs["minimum"]]
    return SimpleNamespace(path=path, kind=attrs["kind"], attrs=attrs, settings=settings, groups=groups, data=data,
                           minimum="--".join(minima), label="--".join(minimum.rpartition("-")[0] for minimum in minima))


def grouped(items, key):
    """{key: its items}, in order of appearance."""
    found = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def over(results):
    """What a line and its band, or a number and its ±, mean."""
    counts = Counter(label for _, label in sorted({(result.minimum, result.label) for result in results}))
    return f"mean ± standard deviation over seeds, n = {', '.join(f'{n} {label}' for label, n in counts.items())}"


def cautions(results, rows):
    """What to know before trusting the page."""
    codes = {}
    for result in results:
        for stage, attrs in (result.groups or {f"{result.kind} {result.attrs.get('mode', '')}": result.attrs}).items():
            codes.setdefault(stage.strip(), set()).add(attrs["code"])
    if mixed := [stage for stage, found in codes.items() if len(found) > 1]:
        yield f"Files of different code versions are compared here: {', '.join(mixed)}."
    if short := [row["minimum"] for row in rows if row.get("pretraining_epoch_at_target") == np.inf]:
        yield f"Pretraining never reached its target of train accuracy: {', '.join(short)}."


def cell(rows, column):
    """Of one minimum its value and interval, else mean ± std over the minima in `rows`; of what some never reached, how many of them."""
    values = [row[column] for row in rows if column in row and not np.isnan(row[column])]
    if not values:
        return "–"
    limit = rows[0].get(column.split("_test_")[0].split("_train_")[0] + "_largest_level") if column.endswith("_level") else None
    never = f"> {limit:g}" if limit else "never"
    if len(values) > 1 and np.isinf(values).any():
        return f"{never} in {np.isinf(values).sum()} of {len(values)}"
    mean, std, count = stats.mean_std(values)
    digits = 1 if 10 <= abs(mean) < np.inf else 3 if abs(mean) >= 0.1 else 4
    if count == 1:
        value, *ends = (f"{number:.{digits}f}" if np.isfinite(number) else never
                        for number in (mean, *(rows[0][f"{column}_{end}"] for end in ("low", "high") if f"{column}_{end}" in rows[0])))
        return f"{value} [{', '.join(ends)}]" if ends and set(ends) != {value} else value
    return f"{mean:.{digits}f} ± {std:.{digits}f}"


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--out", required=True, metavar="FOLDER", type=Path)
    parser.add_argument("--profile", default="unnamed", metavar="NAME", help="for the heading")
    parser.add_argument("--reference", metavar="FILE", type=Path, help="JSON of the original report's curves, drawn behind ours")
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="training.h5, passport.h5, finetune-*.h5, pair.h5")
    args = parser.parse_args()
    if args.reference and not args.reference.is_file():
        raise SystemExit(f"{args.reference}: no such file; --reference takes a copy of paper_curves.json")
    reference = json.loads(args.reference.read_text()) if args.reference else {}
    for curve in reference.get("square_mask", {}).values():
        curve["levels"] = [side / 112 for side in curve["levels"]]  # published in pixels of 112; ours is a fraction of the side
    swept = [curve for group in reference.values() if isinstance(group, dict) for curve in group.values()
             if isinstance(curve, dict) and "levels" in curve]
    for curve, split in ((curve, split) for curve in swept for split in SPLITS):
        curve[f"{split}_accuracy_relative"] = np.divide(curve[f"{split}_accuracy"], curve[f"{split}_accuracy"][0])

    loaded = [load(path) for path in args.files]
    tried = [result for result in loaded if "tune" in result.path.parts[-3:]]
    results = [result for result in loaded if result not in tried]
    training, passports, pairs, finetuned = (
        [result for result in results if result.kind == kind] for kind in ("training", "passport", "pair", "finetune"))
    modes = grouped(finetuned, lambda result: result.attrs["mode"])
    groups = {name: attrs for result in passports for name, attrs in result.groups.items() if attrs["measurement"] != "clean"}
    classes = next((pair.attrs["classes"] for pair in pairs), None)
    rows = stats.rows(results)
    measures = list(dict.fromkeys(chain(*rows)))
    methods = grouped(rows, lambda row: row["method"])
    minima = methods | {row["minimum"]: [row] for row in rows}
    style, pair_style = figures.styles(methods), figures.styles(pair.label for pair in pairs)
    parts = [page.element("h1", QUESTION)]

    def show(name, png, caption):
        page.write(args.out / "figures" / f"{name}.png", png)
        parts.append(page.figure(png, caption))

    def table(columns, members, caption, turn=False):
        """A line for `members` {name: rows}, a column for each of `columns` {key: label} (or turned). Returns the lines."""
        lines = [["", *columns.values()], *([name, *(cell(own, key) for key in columns)] for name, own in members.items())]
        lines = list(zip(*lines)) if turn else lines
        parts.append(page.table(lines, caption, minor=len(rows) if members is minima else 0))
        return lines

    sizes = {f"{result.kind} {key} {result.settings[key]}" for result in results
             for key in ("epochs", "images") if key in result.settings}
    made = [", ".join(sorted({result.attrs[key] for result in results})) for key in ("device", "code")]
    parts.append(page.element("p", f"Profile {args.profile}: {'; '.join(sorted(sizes))}. {made[0]}; code {made[1]}.", "soft"))
    parts += [page.element("p", caution, "warning") for caution in cautions(results, rows)]
    stored = {name: attrs["title"] for name, attrs in groups.items() if attrs["batchnorm"] == "stored" and not attrs["variant"]
              and f"{name}_test_relative" in measures}
    kept = {"test_accuracy": "clean test accuracy"} | {f"{name}_test_relative": f"{title}: accuracy kept" for name, title in stored.items()}
    absolute = {f"{name}_test_accuracy": f"{title}: accuracy" for name, title in stored.items()}
    outcomes = {mode: {f"{mode}_test_accuracy": f"test accuracy ({mode} finetuning)",
                       f"{mode}_epochs_to_target": f"epochs (to {own[0].attrs['target']:.0%} on train)",
                       f"{mode}_distance_relative_all": "distance (/ start's norm)"} for mode, own in modes.items()}
    for mode in modes if passports else ():
        show(f"question_{mode}", figures.scatter(rows, kept, outcomes[mode], style),
             f"Finetuning against robustness: a point a minimum, n = {len(rows)}; bars: std over its runs. Accuracy "
             "kept: averaged over the levels / clean. Better is up in the first row, down in the others. Arrow: not reached.")
    summary = table(dict(chain(kept.items(), absolute.items(), *(own.items() for own in outcomes.values()))), methods, turn=True,
                    caption=f"The {over(passports + finetuned)}; a minimum counts once, with the mean of its runs (of epochs: their median). "
                    "Accuracy: averaged over the levels; kept: that, divided by clean accuracy.")

    parts.append(page.element("h2", "Pretraining and generalization"))
    if training:
        show("pretraining", figures.curves(training, ["train", "val"], style),
             f"training.h5, eval mode: {over(training)}. Rings: the weights that were saved.")
    clean = {f"{split}_{name}": f"{split} {name}" for split in SPLITS for name in ("accuracy", "loss", "brier", "ece")}
    interval = next((f"Brackets: {attrs['interval']}" for attrs in groups.values()), "")
    count = min((result.settings["images"] for result in passports), default=1)
    table(clean | {"pretraining_epoch_at_target": "epoch at target (running)"}, minima,
          f"passport.h5, clean: {over(passports)}. {interval}: on {count} images an accuracy near one half has a binomial standard error of "
          f"{50 / count ** 0.5:.1f} points. Loss in nats per image; brier: squared distance of probabilities from the label, 0 to 2; ece: expected "
          "calibration error, 15 bins.")

    parts.append(page.element("h2", "Robustness"))
    for measurement, own in grouped(groups, lambda name: groups[name]["measurement"]).items():
        attrs, prefixes = groups[own[0]], [f"{name}/{split}" for name in own for split in SPLITS]
        prefixes = [prefix for prefix in prefixes if any(f"{prefix}/accuracy_relative" in result.data for result in passports)]
        if prefixes:
            show(measurement, figures.curves(passports, prefixes, style, ("accuracy", "accuracy_relative", "loss"), reference=reference),
                 f"{attrs['title']} ({attrs['source']}). passport.h5: {over(passports)}. Relative: divided by clean accuracy.")
        keys = [key for name in own for split in SPLITS for key in measures if key.startswith(f"{name}_{split}_")]
        table({key: key.replace("_", " ") for key in keys if not key.endswith(("_low", "_high"))}, methods | minima, turn=True, caption=(
            f"{attrs['title']}. Accuracy, relative (to clean accuracy), loss and its change from clean (nats per image): averaged over the levels. "
            f"Levels at which accuracy is half of clean, and loss one nat above: linear between levels, > beyond the largest. {interval}."
            if prefixes else f"{attrs['title']} ({attrs['source']}). se: standard error."))

    parts.append(page.element("h2", "Pairs of minima"))
    for shared, own in grouped(pairs, lambda pair: pair.attrs["shared_start"]).items():
        kind, name = ("sharing seed and start", "shared_start") if shared else ("of independent runs", "independent")
        prefixes = [f"{path}/{split}" for path in ("path", "path_recomputed") for split in SPLITS]
        show(f"paths_{name}", figures.curves(own, prefixes, pair_style, classes=classes, reference=None if shared else reference),
             f"pair.h5, the straight line between the minima of {len(own)} pairs {kind}, from the first (t = 0) to the second; "
             "BatchNorm's statistics interpolated, or recomputed at every point.")
        table({f"distance/{part}/{key}": f"{part} {key}" for part in PARTS for key in ("raw", "relative", "cosine")},
              {pair.minimum: [pair.data] for pair in own},
              f"pair.h5, pairs {kind}. Raw: Euclidean norm of the difference; relative: divided by the mean of the two norms.")

    parts.append(page.element("h2", "Finetuning"))
    for mode, own in modes.items():
        runs = "/".join(sorted({str(len(result.data["epochs_to_target"])) for result in own}))
        made = f"finetune-{mode}.h5, {runs} runs a minimum, averaged: {over(own)}."
        show(f"finetune_{mode}", figures.curves(own, SPLITS, style), made)
        show(f"distance_{mode}", figures.curves(own, ["distance", "distance_relative"], style, rows=PARTS),
             f"Euclidean distance travelled, without the head; relative: divided by the start's norm. {made}")
        table(outcomes[mode] | {f"{mode}_test_accuracy_std": "std of test accuracy over runs",
                                f"{mode}_train_accuracy": "train accuracy"}, minima, f"At the last epoch. {made}")

    for thing, own in grouped(tried, lambda result: f"{result.kind}-{result.attrs.get('mode', result.attrs['method'])}").items():
        keys = [key for key in own[0].settings if len({str(other.settings.get(key)) for other in own}) > 1]
        for result in own:
            result.accuracy = result.data.get("final/val_accuracy", result.data["val/accuracy"][..., -1].mean())
        own.sort(key=lambda result: -result.accuracy)
        for place, result in enumerate(own):
            result.label = f"setting {place + 1}" if place else "best on val"
        parts.append(page.element("h2", f"Tuning: {thing}"))
        show(f"tuning_{thing}", figures.curves(own, ["train", "val"], figures.styles(result.label for result in own)),
             "A run a setting, by accuracy on val at the last epoch (rings; of an average: its own).")
        lines = [[result.label, f"{result.accuracy:.3f}", *map(result.settings.get, keys)] for result in own]
        parts.append(page.table([["", "val accuracy", *keys], *lines], "Test images play no part."))

    parts.append(page.element("h2", "Where the numbers come from"))
    keys = "seed", "commit", "command"
    parts.append(page.table([["file", *keys], *([result.path, *map(result.attrs.get, keys)] for result in loaded)],
                            f"Versions: {' '.join(sorted({result.attrs['versions'] for result in loaded}))}"))
    lines = [measures, *([str(row.get(key, "")) for key in measures] for row in rows)]
    page.write(args.out / "summary.csv", "".join(f"{','.join(line)}\n" for line in lines))
    page.write(args.out / "index.html", page.document(QUESTION, parts))
    for line in summary:
        print(f"{line[0]:42}", *(f"{word:16}" for word in line[1:]))
    print(args.out / "index.html")


if __name__ == "__main__":
    main()
