"""The report: reads the files of a study and writes index.html (one page, opens anywhere), figures/*.png and summary.csv (a row a minimum).

Every number comes from the files named: their kind is read from their contents; those in a folder tune/ are the tuning.
"""
import csv
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from common import cli, figures, files, page, stats

QUESTION = "Do more robust minima make better starting points for finetuning?"
SPLITS = "train", "test"
APART = "command", "data", "device", "minimum", "names", "out", "seed"  # settings that are shown as something else


def load(path):
    """One file's numbers: kind, minimum, label (method, or pair of methods), attrs, groups {measurement: attrs}, data {path: array}."""
    data = {}
    with files.read(path) as file:
        attrs = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
        if attrs.get("kind") not in ("training", "passport", "finetune", "pair"):
            raise SystemExit(f"{path}: not a result of the study; the report takes training, passport, finetune and pair files")
        file.visititems(lambda at, item: data.update({at: item[()]}) if hasattr(item, "shape") and not at.endswith("_by_image") else None)
        groups = {name: dict(group.attrs) for name, group in file.items() if "measurement" in group.attrs}
    settings = json.loads(attrs["settings"])
    order = {name: place for place, name in enumerate(settings.get("names", []))}
    groups = dict(sorted(groups.items(), key=lambda item: order.get(item[1]["measurement"], len(order))))
    minima = json.loads(attrs["minima"]) if attrs["kind"] == "pair" else [attrs["minimum"]]
    return SimpleNamespace(path=path, kind=attrs["kind"], minimum="--".join(minima), label="--".join(name.rpartition("-")[0] for name in minima),
                           attrs=attrs, settings=settings, groups=groups, data=data)


def grouped(items, key):
    """{key: its items}, in order of appearance."""
    found = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def words(settings):
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())


def about(kind, results):
    """One line on the files of one kind: how many, the settings that they share, where they were made."""
    shared = {name: value for name, value in results[0].settings.items() if name not in APART and not isinstance(value, list)
              and all(result.settings.get(name) == value for result in results)}
    made = {name: " / ".join(sorted({result.attrs[name] for result in results})) for name in ("device", "code", "commit")}
    return f"{len(results)} {kind} files: {words(shared)}; {made['device']}; code {made['code']}, commit {made['commit']}."


def cautions(results, rows):
    """What to know before trusting the page."""
    codes = {}
    for result in results:
        for stage, attrs in (result.groups or {" ".join((result.kind, result.attrs.get("mode", ""))).strip(): result.attrs}).items():
            codes.setdefault(stage, set()).add(attrs["code"])
    if mixed := [stage for stage, found in codes.items() if len(found) > 1]:
        yield f"Files made by different versions of the code are compared here: {', '.join(mixed)}. Make them again to be sure of a difference."
    if short := [row["minimum"] for row in rows if math.isnan(row.get("pretraining_epoch_at_target", 0))]:
        yield f"Pretraining ended below its target of train accuracy: {', '.join(short)}."


def cells(rows, columns):
    """A table's cells: mean ± std over the minima in `rows`; of an outcome that some never reached, how many of them."""
    for column in columns:
        values = [row[column] for row in rows if column in row]
        never = sum(map(math.isinf, values))
        yield f"never in {never} of {len(values)}" if never else page.number(*stats.mean_std(values)[:2]) if values else "–"


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
    kinds = {kind: [result for result in results if result.kind == kind] for kind in ("training", "passport", "pair", "finetune")}
    training, passports, pairs, finetuned = kinds.values()
    rows = stats.rows(results)
    methods = {method: [row for row in rows if row["method"] == method] for method in dict.fromkeys(row["method"] for row in rows)}
    groups = {name: attrs for result in passports for name, attrs in result.groups.items() if attrs["measurement"] != "clean"}
    titles = {name: attrs["title"] + (", BatchNorm recomputed" if attrs["batchnorm"] != "stored" else "") for name, attrs in groups.items()}
    style, pair_style = figures.styles(methods), figures.styles(pair.label for pair in pairs)
    classes = next((pair.attrs["classes"] for pair in pairs if "classes" in pair.attrs), None)
    n = "n = " + ", ".join(f"{len(own)} {method}" for method, own in methods.items())
    over = f"mean ± standard deviation over seeds ({n})"
    band = f"Line and band: {over}. Dotted: chance."
    dashed = "Dashed: the curves that the original report published. " if reference else ""
    parts = [page.heading(QUESTION, 1), page.paragraph(f"Profile {args.profile or '(not named)'}. Minima: {n}, each with a seed of its own.")]
    parts += [page.paragraph(caution, "warning") for caution in cautions(results, rows)]

    def show(name, png, caption):
        page.write(args.out / "figures" / f"{name}.png", png)
        parts.append(page.figure(png, caption))

    def table(columns, caption):
        """A row a method and a row a minimum, of those columns {column: label} that have numbers; returns the former for the terminal."""
        columns = {column: label for column, label in columns.items() if any(column in row for row in rows)}
        lines = [[method, len(own), *cells(own, columns)] for method, own in methods.items()]
        header = ["", "minima", *(label.replace("\n", " ") for label in columns.values())]
        parts.append(page.table(header, lines + [[row["minimum"], "", *cells([row], columns)] for row in rows], caption, minor=len(rows)))
        return page.text(header, lines)

    # The question at a glance
    kept = {"test_accuracy": "clean\ntest accuracy"} | {
        f"{name}_test_relative": f"{title}:\naccuracy kept" for name, title in titles.items() if groups[name]["batchnorm"] == "stored"}
    kept = {column: label for column, label in kept.items() if any(column in row for row in rows)}
    outcomes = {mode: {f"{mode}_test_accuracy": f"finetuned ({mode})\ntest accuracy", f"{mode}_epochs_to_target": "epochs to 95 %\ntrain accuracy",
                       f"{mode}_distance_relative": "distance / norm\nof the start"} for mode in dict.fromkeys(r.attrs["mode"] for r in finetuned)}
    for mode in outcomes if kept else ():
        show(f"question_{mode}", figures.scatter(rows, kept, outcomes[mode], style),
             f"Finetuning against robustness: a point a minimum ({n}), bars: standard deviation over its finetuning runs. Accuracy kept: test "
             "accuracy averaged over the levels, divided by clean test accuracy. Better is up in the first row, down in the other two.")
    summary = table(kept | {column: label for columns in outcomes.values() for column, label in columns.items()},
                    f"Methods: {over}. Minima: mean over finetuning runs; of epochs to 95 %, linear between epochs, the median.")

    parts.append(page.heading("Pretraining and generalization"))
    if training:
        show("pretraining", figures.curves(training, [(split, "epoch", "epoch", split) for split in ("train", "val")], style, classes=classes),
             f"Pretraining, eval mode. {band} Rings: the weights that were saved. In training.h5: train/, val/, final/.")
    table({f"{split}_{name}": f"{split} {name}" for split in SPLITS for name in ("accuracy", "loss")} |
          {"pretraining_epoch_at_target": "epoch at target"}, f"Clean images, loss in nats per image: {over}. In passport.h5: clean/.")

    parts.append(page.heading("Robustness"))
    for measurement in dict.fromkeys(attrs["measurement"] for attrs in groups.values() if attrs["family"] != "scalar"):
        own = {name: attrs for name, attrs in groups.items() if attrs["measurement"] == measurement}
        columns = [(f"{split}, BatchNorm {attrs['batchnorm']}", f"{name}/levels", f"{attrs['level']}\n({attrs['level_units']})", f"{name}/{split}")
                   for name, attrs in own.items() for split in SPLITS]
        show(measurement, figures.curves(passports, columns, style, classes=classes, reference=reference),
             f"{groups[measurement]['title']} ({groups[measurement]['source']}). {band} {dashed}In passport.h5: {'/, '.join(own)}/.")
    measures = {column: f"{title}: {column[len(name) + 1:].replace('_', ' ')}" for name, title in titles.items()
                for column in dict.fromkeys(column for row in rows for column in row if column.startswith((f"{name}_train_", f"{name}_test_")))}
    parts.append(page.table(["", *methods], [[label, *(cell for own in methods.values() for cell in cells(own, [column]))]
                                             for column, label in measures.items()],
                            f"Accuracy: averaged over the levels; relative: divided by clean accuracy under the same BatchNorm statistics; {over}."))

    parts.append(page.heading("Pairs of minima"))
    for name, shared in ("independent", False), ("shared_start", True):
        own = [pair for pair in pairs if bool(pair.attrs["shared_start"]) == shared]
        columns = [(f"{split}, BatchNorm {kind}", f"{group}/t", "t", f"{group}/{split}")
                   for group, kind in (("path", "interpolated"), ("path_recomputed", "recomputed")) for split in SPLITS]
        if own:
            show(f"paths_{name}", figures.curves(own, columns, pair_style, classes=classes, reference=None if shared else reference),
                 f"The straight line between two minima, from the first named (t = 0) to the second: {len(own)} pairs "
                 f"{'that share seed and start' if shared else 'of independent runs'}. Dotted: chance. {'' if shared else dashed}In pair.h5: path/, path_recomputed/.")
    distances = [f"{part}/{name}" for part in ("all", "weights", "batchnorm") for name in ("raw", "relative", "cosine")]
    parts.append(page.table(["", "start", *(name.replace("/", " ") for name in distances)],
                            [[pair.minimum, "shared" if pair.attrs["shared_start"] else "independent",
                              *(page.number(pair.data[f"distance/{name}"]) for name in distances)] for pair in pairs],
                            "Raw: Euclidean norm of the difference; relative: divided by the mean of the two norms. In pair.h5: distance/."))

    parts.append(page.heading("Finetuning"))
    for mode in outcomes:
        own = [result for result in finetuned if result.attrs["mode"] == mode]
        runs = "/".join(sorted({str(len(result.data["epochs_to_target"])) for result in own}))
        show(f"finetune_{mode}", figures.curves(own, [(split, "epoch", "epoch", split) for split in SPLITS], style),
             f"Finetuning ({mode}), {runs} runs a minimum. Line and band: {over}. In finetune-{mode}.h5: train/, test/.")
        columns = [("Euclidean norm", "epoch", "epoch", "distance"), ("relative to the start's norm", "epoch", "epoch", "distance_relative")]
        show(f"distance_{mode}", figures.curves(own, columns, style, rows=("all", "weights", "batchnorm")),
             f"Distance travelled, head excluded. Line and band: {over}. In finetune-{mode}.h5: distance/, distance_relative/.")
        table(outcomes[mode] | {f"{mode}_train_accuracy": "train accuracy", f"{mode}_test_accuracy_std": "test accuracy, std over runs"},
              f"At the last epoch, {runs} runs a minimum. Methods: {over}; minima: mean over runs, median of epochs.")

    if tried:
        parts.append(page.heading("Tuning"))
    for (kind, thing), own in grouped(tried, lambda result: (result.kind, result.attrs.get("mode", result.attrs["method"]))).items():
        varied = [name for name in own[0].settings if len({str(result.settings.get(name)) for result in own}) > 1 and name not in APART]
        for result in own:
            result.label = words({name: result.settings[name] for name in varied}) or "one setting"
            result.accuracy = float(result.data.get("final/val_accuracy", np.mean(result.data["val/accuracy"][..., -1])))
        own.sort(key=lambda result: -result.accuracy)
        own[0].label += " (chosen)"
        show(f"tuning_{kind}_{thing}", figures.curves(own, [(split, "epoch", "epoch", split) for split in ("train", "val")],
                                                      figures.styles(result.label for result in own)), f"{kind} {thing}: settings tried")
        parts.append(page.table(["setting", "val accuracy"], [[result.label, page.number(result.accuracy)] for result in own], "…"))

    parts.append(page.heading("Where the numbers come from"))
    parts += [page.paragraph(about(kind, own), "soft") for kind, own in kinds.items() if own]
    parts.append(page.table(["file", "seed", "commit", "command"], [
        [result.path, result.attrs["seed"], result.attrs["commit"], result.attrs["command"]] for result in loaded], "."))
    columns = dict.fromkeys(column for row in rows for column in row)
    sheet = io.StringIO()
    csv.DictWriter(sheet, columns, lineterminator="\n").writeheader()
    csv.DictWriter(sheet, columns, lineterminator="\n").writerows(rows)
    page.write(args.out / "summary.csv", sheet.getvalue())
    page.write(args.out / "index.html", page.document(QUESTION, parts))
    print(f"{summary}\n{args.out / 'index.html'}")


if __name__ == "__main__":
    main()
