"""The report: reads the files of a study and writes index.html (one page, opens anywhere), figures/*.png and summary.csv (a row a minimum).

Every number comes from the files named: their kind is read from their contents; those in a folder tune/ are the tuning.
"""
import csv
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

from common import cli, figures, files, page, stats

QUESTION = "Do more robust minima make better starting points for finetuning?"
TRAIN_TEST = "train", "test"


def load(path):
    """One file's numbers: kind, minimum, label (method, or pair of methods), attrs, groups {measurement: attrs}, data {path: array}."""
    data = {}
    with files.read(path) as file:
        attrs = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
        if attrs.get("kind") not in ("training", "passport", "finetune", "pair"):
            raise SystemExit(f"{path}: not a result of the study; the report takes training, passport, finetune and pair files")
        file.visititems(lambda at, item: data.update({at: item[()]}) if hasattr(item, "shape") and not at.endswith("_by_image") else None)
        groups = {name: dict(group.attrs) for name, group in file.items() if "measurement" in group.attrs}
    order = json.loads(attrs["settings"]).get("names", [])
    groups = dict(sorted(groups.items(), key=lambda group: order.index(group[1]["measurement"]) if group[1]["measurement"] in order else 99))
    minima = json.loads(attrs["minima"]) if attrs["kind"] == "pair" else [attrs["minimum"]]
    return SimpleNamespace(path=path, kind=attrs["kind"], minimum="--".join(minima), label="--".join(name.rpartition("-")[0] for name in minima),
                           attrs=attrs, groups=groups, data=data)


def cautions(results, rows):
    """What to know before trusting the page."""
    codes = {}
    for result in results:
        for stage, attrs in (result.groups or {f"{result.kind} {result.attrs.get('mode', '')}".strip(): result.attrs}).items():
            codes.setdefault(stage, set()).add(attrs["code"])
    mixed = [stage for stage, found in codes.items() if len(found) > 1]
    if mixed:
        yield f"Files made by different versions of the code are compared here: {', '.join(mixed)}. Make them again to be sure of a difference."
    short = [row["minimum"] for row in rows if math.isnan(row.get("pretraining_epoch_at_target", 0))]
    if short:
        yield f"Pretraining ended below its target of train accuracy: {', '.join(short)}."


def cells(rows, columns, digits=3):
    """A table's cells, mean ± std over the minima in `rows`; of an outcome that some never reached: how many of them."""
    for column in columns:
        values = [row[column] for row in rows if column in row]
        never = sum(map(math.isinf, values))
        yield f"never in {never} of {len(values)}" if never else page.number(*stats.mean_std(values)[:2], digits) if values else "–"


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--out", required=True, metavar="FOLDER", type=Path)
    parser.add_argument("--profile", default="", metavar="NAME", help="for the heading")
    parser.add_argument("--reference", metavar="FILE", type=Path, help="JSON of the original report's curves, drawn behind ours")
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="training.h5, passport.h5, finetune-*.h5, pair.h5")
    args = parser.parse_args()
    if args.reference and not args.reference.is_file():
        raise SystemExit(f"{args.reference}: no such file; --reference takes a copy of paper_curves.json")
    reference = json.loads(args.reference.read_text()) if args.reference else {}
    for curve in reference.get("square_mask", {}).values():
        curve["levels"] = [side / 112 for side in curve["levels"]]  # published in pixels of 112; ours is a fraction of the side
    loaded = [load(path) for path in args.files]
    tried = [result for result in loaded if "tune" in result.path.parts[-3:]]
    results = [result for result in loaded if result not in tried]
    training, passports, finetuned, pairs = ([r for r in results if r.kind == kind] for kind in ("training", "passport", "finetune", "pair"))
    rows = stats.rows(results)
    by_method = {method: [row for row in rows if row["method"] == method] for method in dict.fromkeys(row["method"] for row in rows)}
    groups = {name: attrs for result in passports for name, attrs in result.groups.items() if attrs["measurement"] != "clean"}
    titles = {name: attrs["title"] + (", BatchNorm recomputed" if attrs["batchnorm"] != "stored" else "") for name, attrs in groups.items()}
    modes = {mode: [r for r in finetuned if r.attrs["mode"] == mode] for mode in dict.fromkeys(r.attrs["mode"] for r in finetuned)}
    style, pair_style = figures.styles(by_method), figures.styles(pair.label for pair in pairs)
    classes = next((pair.attrs["classes"] for pair in pairs if "classes" in pair.attrs), None)
    n = "n = " + ", ".join(f"{len(own)} {method}" for method, own in by_method.items()) + " minima, one a seed"
    band = f"Lines: mean over seeds, bands: standard deviation over seeds ({n}). Dotted: chance."
    dashed = " Dashed: the curves that the original report published." if reference else ""
    parts = []

    def show(name, png, caption):
        page.write(args.out / "figures" / f"{name}.png", png)
        parts.append(page.figure(png, caption))

    def table(columns, caption, minima=True):
        """A row a method, and one a minimum."""
        lines = [[method, len(own), *cells(own, columns)] for method, own in by_method.items()]
        single = [[row["minimum"], "", *cells([row], columns)] for row in rows] if minima else []
        parts.append(page.table(["", "minima", *columns.values()], lines + single, caption, minor=range(len(lines), len(lines + single))))
        return page.text(["", "n", *(label.replace("\n", " ") for label in columns.values())], lines)

    # The question at a glance
    parts += [page.heading(QUESTION, 1), page.paragraph(f"Profile {args.profile or 'unnamed'}. {sizes(results)}", "soft")]
    parts += [page.paragraph(words, "warning") for words in cautions(results, rows)]
    kept = {"test_accuracy": "clean test\naccuracy"} | {
        f"{name}_test_relative": f"{titles[name]}:\naccuracy kept" for name, attrs in groups.items() if attrs["batchnorm"] == "stored"}
    kept = {key: label for key, label in kept.items() if any(key in row for row in rows)}
    outcomes = {mode: {f"{mode}_test_accuracy": "finetuned\ntest accuracy", f"{mode}_epochs_to_target": "epochs to\n95 % train accuracy",
                       f"{mode}_distance": "distance / norm\nof the start"} for mode in modes}
    for mode in outcomes if kept else ():
        show(f"question_{mode}", figures.scatter(rows, kept, outcomes[mode], style),
             f"Finetuning ({mode}) against robustness: a point a minimum ({n}), bars: standard deviation over finetuning runs. Accuracy kept: mean "
             "over the levels of test accuracy, divided by clean test accuracy. Up: more accurate; down: faster; down: less movement.")
    print(table(kept | {key: label for columns in outcomes.values() for key, label in columns.items()},
                f"Mean ± standard deviation over seeds ({n}); each minimum is the mean of its finetuning runs (epochs: their median)."))

    parts.append(page.heading("Pretraining and generalization"))
    if training:
        splits = [split for split in ("train", "val") if all(f"{split}/loss" in result.data for result in training)]
        show("pretraining", figures.curves(training, [(split, "epoch", "epoch", split) for split in splits], style, classes=classes),
             f"Loss and accuracy by epoch, eval mode. {band} Rings: the weights that were saved. HDF5: training.h5, train/ and val/.")
    table({f"{split}_{name}": f"{split} {name}" for split in TRAIN_TEST for name in ("accuracy", "loss")} |
          {"pretraining_epoch_at_target": "epoch at target"},
          f"Clean images. Mean ± standard deviation over seeds ({n}). Loss in nats per image. HDF5: passport.h5, clean/.")

    parts.append(page.heading("Robustness"))
    for measurement in dict.fromkeys(attrs["measurement"] for attrs in groups.values() if attrs["level"]):
        members = {name: attrs for name, attrs in groups.items() if attrs["measurement"] == measurement}
        columns = [(f"{split}, BatchNorm {attrs['batchnorm']}", f"{name}/levels", f"{attrs['level']}\n({attrs['level_units']})", f"{name}/{split}")
                   for name, attrs in members.items() for split in TRAIN_TEST]
        show(measurement, figures.curves(passports, columns, style, average=1, classes=classes, reference=reference),
             f"{titles[measurement]} ({groups[measurement]['source']}). {band}{dashed} HDF5: passport.h5, {', '.join(members)}.")
    lines = []
    for name in groups:
        for key in dict.fromkeys(key for row in rows for key in row if key.startswith((f"{name}_train_", f"{name}_test_"))):
            lines.append([f"{titles[name]}: {key[len(name) + 1:].replace('_', ' ')}", *(next(cells(own, [key])) for own in by_method.values())])
    parts.append(page.table(["mean over levels", *by_method], lines, f"Accuracy averaged over the levels; relative: divided by clean accuracy under the "
                            f"same BatchNorm statistics. Mean ± standard deviation over seeds ({n})."))

    parts.append(page.heading("Pairs: paths and distances"))
    for kind, shared in ("independent runs", False), ("shared start", True):
        own = [pair for pair in pairs if pair.attrs["shared_start"] == shared]
        columns = [(f"{split}, BatchNorm {words}", f"{group}/t", "t", f"{group}/{split}")
                   for group, words in (("path", "interpolated"), ("path_recomputed", "recomputed")) for split in TRAIN_TEST]
        if own:
            show(f"paths_{kind.replace(' ', '_')}",
                 figures.curves(own, columns, pair_style, classes=classes, reference=None if shared else published),
                 f"Straight line between two minima, {kind} ({len(own)} pairs): t = 0 is the first named. "
                 f"{'' if shared else dashed} Dotted: chance. HDF5: pair.h5, path/ and path_recomputed/.")
    parts.append(page.table(
        ["", "start", *(f"{part} {name}" for part in PARTS for name in NUMBERS)],
        [[pair.minimum, "shared" if pair.attrs["shared_start"] else "independent",
          *(page.number(pair.data[f"distance/{part}/{name}"]) for part in PARTS for name in NUMBERS)] for pair in pairs],
        "Distance between the two minima of a pair: Euclidean norm, relative to their norms, and cosine. HDF5: pair.h5, distance/."))


if __name__ == "__main__":
    main()
