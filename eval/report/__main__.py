"""The report: from the files of a study index.html (one page, opens anywhere), figures/, summary.csv (a row a minimum) and results.json.

Every number comes from the files named. Their kind is read from their contents; those in a folder tune/ are the tuning.
"""

import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path

from common import cli
from eval.report import claims, figures, page, statistics, study, verdicts

QUESTION = "Do more robust minima make better starting points for finetuning?"
PUBLISHED = Path(__file__).with_name("paper_curves.json")
PARTS = "all", "weights", "batchnorm"


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--out", required=True, metavar="FOLDER", type=Path)
    parser.add_argument("--profile", default="unnamed", metavar="NAME", help="for the heading")
    parser.add_argument(
        "--pack",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="a pack of images, to say what it is",
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        type=Path,
        help="JSON of the original report's curves, drawn behind ours",
    )
    parser.add_argument(
        "--partial", action="store_true", help="report what can be read, and name what cannot"
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="training.h5, passport.h5, finetune-*.h5, pair.h5",
    )
    args = parser.parse_args()
    if args.reference and not args.reference.is_file():
        raise SystemExit(
            f"{args.reference}: no such file; --reference takes a copy of paper_curves.json"
        )
    published = json.loads(PUBLISHED.read_text())
    reference = figures.published(args.reference)

    loaded, problems = study.read(dict.fromkeys(args.files), args.partial)
    tried = [result for result in loaded if "tune" in result.path.parts[-3:]]
    results = [result for result in loaded if result not in tried]
    training, passports, pairs, finetuned = (
        [result for result in results if result.kind == kind]
        for kind in ("training", "passport", "pair", "finetune")
    )
    modes = study.grouped(finetuned, lambda result: result.attrs["mode"])
    groups = {
        name: attrs
        for result in passports
        for name, attrs in result.groups.items()
        if attrs["measurement"] != "clean"
    }
    classes = next((pair.attrs["classes"] for pair in pairs), None)
    rows, words = study.rows(results)
    methods = study.grouped(rows, lambda row: row["method"])
    minima = {row["minimum"]: [row] for row in rows}
    style, pair_style = figures.styles(methods), figures.styles(pair.label for pair in pairs)
    head, parts, pdfs, aside = (
        [page.element("h1", QUESTION)],
        [],
        {},
        ProcessPoolExecutor(1),
    )  # draws PDFs, for which the page does not wait

    def show(name, figure, caption, sources, groups=("",)):
        """A figure into figures/ and the page; `sources`: its files, `groups`: where in them."""
        svg = figures.svg(figure)
        page.write(
            args.out / "figures" / f"{name}.svg",
            svg.replace("<svg", '<svg style="background:#fff"', 1),
        )
        pdfs[args.out / "figures" / f"{name}.pdf"] = aside.submit(figures.pdf, figure)
        lines = [
            (
                os.path.relpath(result.path, args.out),
                f"/{group}",
                result.groups.get(group, result.attrs)["command"],
            )
            for result in sources
            for group in groups
            if not group
            or group in result.groups
            or any(at.startswith(f"{group}/") for at in result.data)
        ]
        parts.append(page.figure(svg, caption, lines))

    def table(columns, members, caption, turn=False, fold=None):
        """A line for `members` {name: rows}, a column for each of `columns` {key: label} (or turned). Returns the lines. Of the methods and every
        minimum, the methods; the minima are folded away below."""
        if members is minima:
            table(columns, methods, caption)
            caption, fold = "", "every minimum"
        lines = [
            ["", *columns.values()],
            *([name, *(study.cell(own, key) for key in columns)] for name, own in members.items()),
        ]
        lines = list(zip(*lines)) if turn else lines
        parts.append(page.table(lines, caption, open_=fold))
        return lines

    sizes = {
        f"{result.kind} {key} {result.settings[key]}"
        for result in results
        for key in ("epochs", "images")
        if key in result.settings
    }
    made = {
        key: ", ".join(sorted({result.attrs[key] for result in results}))
        for key in ("code", "commit")
    }
    devices = study.grouped(
        dict.fromkeys((result.attrs["device"], result.kind) for result in results),
        lambda pair: pair[0],
    )
    device = "; ".join(
        f"{', '.join(kind for _, kind in own)} on {name}" for name, own in devices.items()
    )
    data = (
        " and ".join(study.pack(path) for path in args.pack if path.exists() or not args.partial)
        or "data not named"
    )
    head.append(
        page.element(
            "p",
            f"Profile {args.profile}: {data}; {'; '.join(sorted(sizes))}. {device}; commit {made['commit']}; "
            f"code {made['code']}.",
            "soft",
        )
    )
    notes = [f"Left out: {problem}." for problem in problems] + list(study.cautions(results, rows))
    head += [page.element("p", note, "warning") for note in notes]

    # The answer: the report's mode, or the first there is.
    asked = "full" if "full" in modes else next(iter(modes), None)
    tests = verdicts.family(rows, asked) if asked and passports else []
    if tests:
        head.append(page.element("p", verdicts.answer(tests, rows), "answer"))
        sentences = {
            outcome: verdicts.sentence(own)
            for outcome, own in study.grouped(tests, lambda test: test["outcome"]).items()
        }
        head += [
            page.finding(verdicts.OUTCOMES[outcome][0].capitalize(), text)
            for outcome, text in sentences.items()
        ]
        parts.append(page.element("h2", "The answer"))
        outcomes = {name: kinds[0] for name, kinds in verdicts.OUTCOMES.items()}
        show(
            "question",
            figures.scatter(rows, tests, verdicts.PREDICTORS, outcomes, asked, style),
            f"Finetuning ({asked}) against robustness: a point a minimum, n = {len(rows)}; bars: from the least to the most of its runs; hollow with an arrow: "
            "the target was never reached in half of the runs. r: correlation within methods, with its verdict after Holm's correction over all "
            f"{len(tests)} pairs. Test images (train loss under weight noise: train images), BatchNorm stored; outcomes at the last epoch.",
            [*passports, *finetuned],
        )
        parts.append(page.table(verdicts.lines(tests), verdicts.METHOD))
        for other in (other for other in modes if other != asked):
            parts.append(
                page.table(
                    verdicts.lines(verdicts.family(rows, other)),
                    "Exploratory: no part of the family that was fixed in advance; "
                    "corrected for its own 15.",
                    open_=f"Exploratory: the same for {other} finetuning",
                )
            )
        others = verdicts.exploratory(
            rows,
            asked,
            [
                name
                for name in words
                if name not in ("minimum", "method", "seed")
                and not name.startswith(tuple(f"{other}_" for other in modes))
                and not name.endswith((*study.ENDS, "largest_level", "_se", "_residual"))
            ],
        )
        parts.append(
            page.table(
                [
                    ["", *outcomes.values()],
                    *(
                        [
                            words[name],
                            *(
                                verdicts.interval(test["r"], test["low"], test["high"])
                                for test in own
                            ),
                        ]
                        for name, own in others
                    ),
                ],
                f"r within methods [95 %, from {statistics.LEAST_DF} degrees of freedom], not corrected for their number: none of them is a "
                "finding, some will look like one.",
                open_=f"Exploratory: the other {len(others)} measures against finetuning",
            )
        )

    tested = claims.claims(rows, results, tried, published, asked or "full")
    parts.append(page.element("h2", "The original report's claims"))
    counts = Counter(claim["verdict"] for claim in tested)
    parts.append(
        page.element(
            "p",
            f"Of {len(tested)} claims {counts['holds']} hold on these data and {counts['does not hold']} do not; of the other "
            f"{counts['cannot tell']} these data cannot tell.",
        )
    )
    parts.append(
        page.table(
            [
                ["", "ours [95 %]", "published", "wanted", "is it", "n", "detectable"],
                *chain.from_iterable(claims.lines(claim) for claim in tested),
            ],
            claims.METHOD,
        )
    )

    stored = {
        name: attrs["title"]
        for name, attrs in groups.items()
        if attrs["batchnorm"] == "stored"
        and not attrs["variant"]
        and f"{name}_test_relative" in words
    }
    kept = {"test_accuracy": "clean test accuracy"} | {
        f"{name}_test_relative": f"{title}: accuracy kept" for name, title in stored.items()
    }
    absolute = {f"{name}_test_accuracy": f"{title}: accuracy" for name, title in stored.items()}
    outcomes = {
        mode: {
            f"{mode}_test_accuracy": f"test accuracy ({mode} finetuning)",
            f"{mode}_epochs_to_target": f"epochs (to {own[0].attrs['target']:.0%} on train)",
            f"{mode}_distance_relative_all": "distance (/ start's norm)",
        }
        for mode, own in modes.items()
    }
    parts.append(page.element("h2", "Methods side by side"))
    summary = table(
        dict(chain(kept.items(), absolute.items(), *(own.items() for own in outcomes.values()))),
        methods,
        turn=True,
        caption=f"The {study.over(passports + finetuned)}; a minimum counts once, with the mean of its runs (of epochs: their median). "
        "Accuracy: averaged over the levels; kept: that, divided by clean accuracy.",
    )
    parts.append(
        page.table(
            verdicts.differences(rows, asked),
            "Differences between methods, paired by seed [95 %, Student's t over n seeds, not "
            "corrected for their number]: where an interval holds 0, these seeds cannot tell the two apart.",
        )
    )

    parts.append(page.element("h2", "Pretraining and generalization"))
    if training:
        show(
            "pretraining",
            figures.curves(training, ["train", "val"], style),
            f"Eval mode, train (part of the training images) and val: {study.over(training)}. Rings: the weights that were saved.",
            training,
            ["train", "val"],
        )
    clean = {
        f"{split}_{name}": f"{split} {name}"
        for split, names in (
            ("train", ("accuracy", "loss")),
            ("test", ("accuracy", "loss", "brier", "ece")),
        )
        for name in names
    }
    interval = next((f"Brackets: {attrs['interval']}" for attrs in groups.values()), "")
    count = min((result.settings["images"] for result in passports), default=1)
    table(
        {"pretraining_epoch_at_target": "epoch at target (running)"} | clean,
        minima,
        f"passport.h5, clean: {study.over(passports)}. {interval}: on {count} images an accuracy near one half has a binomial standard error of "
        f"{50 / count**0.5:.1f} points. Loss in nats per image; brier: squared distance of probabilities from the label, 0 to 2; ece: expected "
        "calibration error, 15 bins.",
    )

    parts.append(page.element("h2", "Robustness"))
    measured = study.grouped(groups, lambda name: groups[name]["measurement"])
    swept = {
        measurement: prefixes
        for measurement, own in measured.items()
        if (
            prefixes := [
                f"{name}/{split}"
                for name in own
                for split in study.SPLITS
                if any(f"{name}/{split}/accuracy_relative" in result.data for result in passports)
            ]
        )
    }
    for measurement, prefixes in swept.items():
        attrs = groups[measured[measurement][0]]
        show(
            measurement,
            figures.curves(
                passports,
                prefixes,
                style,
                ("accuracy", "accuracy_relative", "loss"),
                reference=reference,
            ),
            f"{attrs['title']} ({attrs['source']}): {study.over(passports)}. Relative: divided by clean accuracy.",
            passports,
            measured[measurement],
        )
    for measurement, own in measured.items():
        attrs = groups[own[0]]
        keys = [
            key
            for name in own
            for split in study.SPLITS
            for key in words
            if key.startswith(f"{name}_{split}_")
        ]
        table(
            {key: key.replace("_", " ") for key in keys if not key.endswith(("_low", "_high"))},
            methods | minima,
            turn=True,
            fold=f"{attrs['title']}: every summary of every minimum",
            caption=(
                f"{attrs['title']}. Accuracy, relative (to clean accuracy), loss and its change from clean (nats per image): averaged over the levels. "
                f"Levels at which accuracy is half of clean, and loss one nat above: linear between levels, > beyond the largest. {interval}."
                if measurement in swept
                else f"{attrs['title']} ({attrs['source']}). se: standard error."
            ),
        )

    parts.append(page.element("h2", "Pairs of minima"))
    for shared, own in study.grouped(pairs, lambda pair: pair.attrs["shared_start"]).items():
        kind, name = (
            ("sharing seed and start", "shared_start")
            if shared
            else ("of independent runs", "independent")
        )
        prefixes = [
            f"{path}/{split}" for path in ("path", "path_recomputed") for split in study.SPLITS
        ]
        show(
            f"paths_{name}",
            figures.curves(
                own, prefixes, pair_style, classes=classes, reference=None if shared else reference
            ),
            f"The straight line between the minima of {len(own)} pairs {kind} (a pair each: no interval), from the first (t = 0) to the second; "
            "BatchNorm's statistics interpolated, or recomputed at every point.",
            own,
            ["path", "path_recomputed"],
        )
        table(
            {
                f"distance/{part}/{key}": f"{part} {key}"
                for part in PARTS
                for key in ("raw", "relative", "cosine")
            },
            {pair.minimum: [pair.data] for pair in own},
            f"pair.h5, pairs {kind}. Raw: Euclidean norm of the difference; relative: divided by the mean of the two norms.",
        )

    parts.append(page.element("h2", "Finetuning"))
    for mode, own in modes.items():
        runs = "/".join(sorted({str(len(result.data["epochs_to_target"])) for result in own}))
        made = f"finetune-{mode}.h5, {runs} runs a minimum, averaged: {study.over(own)}."
        show(
            f"finetune_{mode}",
            figures.curves(own, study.SPLITS, style),
            f"Eval mode. {made}",
            own,
            study.SPLITS,
        )
        table(
            outcomes[mode]
            | {
                f"{mode}_test_accuracy_std": "std of test accuracy over runs",
                f"{mode}_train_accuracy": "train accuracy",
            },
            minima,
            f"At the last epoch. {made}",
        )
        kinds, members = (
            [
                name
                for name in names
                if any(
                    at in result.data
                    for result in own
                    for at in (f"{name}/all", f"distance/{name}")
                )
            ]
            for names in (("distance", "distance_relative", "path"), (*PARTS, "with_head"))
        )
        show(
            f"distance_{mode}",
            figures.curves(own, kinds, style, rows=members),
            "How far finetuning went: the straight distance from the start; that, divided by the norm at the start; the length of the path, every "
            f"step added up. {made}",
            own,
            kinds,
        )
        show(
            f"distance_at_loss_{mode}",
            figures.against_loss(own, style),
            f"Distance at equal train loss: a point an epoch, read along a vertical line. {made}",
            own,
            ["distance_relative", "train"],
        )
        start, ends = f"{mode}_distance_relative_", ("", "_at_equal_loss")
        table(
            {
                f"{start}{group}{end}": f"{group.replace('_', ' ')}{', equal loss' * bool(end)}"
                for group in dict.fromkeys(
                    key[len(start) :].removesuffix("_at_equal_loss")
                    for key in words
                    if key.startswith(start) and not key.endswith(("_std", "_least", "_most"))
                )
                for end in ends
            }
            | {f"{mode}_path_all": "path, all", f"{mode}_straightness": "distance / path, all"},
            methods,
            turn=True,
            caption="Distance / norm at the start, at the last epoch and where train loss first reaches the lowest value that all runs reach; by group of "
            f"parameters: all, weights, batchnorm and the network's top-level modules, each without the head; the head; with head: everything. {made}",
        )

    for thing, own in study.grouped(
        tried, lambda result: f"{result.kind}-{result.attrs.get('mode', result.attrs['method'])}"
    ).items():
        keys = [
            key
            for key in own[0].settings
            if len({str(other.settings.get(key)) for other in own}) > 1
        ]
        for result in own:
            result.accuracy = result.data.get(
                "final/val_accuracy", result.data["val/accuracy"][..., -1].mean()
            )
        own.sort(key=lambda result: -result.accuracy)
        for place, result in enumerate(own):
            result.label = f"setting {place + 1}" if place else "best on val"
        parts.append(page.element("h2", f"Tuning: {thing}"))
        show(
            f"tuning_{thing}",
            figures.curves(own, ["train", "val"], figures.styles(result.label for result in own)),
            "A line a setting, the mean of its runs (no interval), by accuracy on val at the last epoch (rings; of an average: its own).",
            own,
            ["train", "val"],
        )
        lines = [
            [result.label, f"{result.accuracy:.3f}", *map(result.settings.get, keys)]
            for result in own
        ]
        parts.append(page.table([["", "val accuracy", *keys], *lines], "Test images play no part."))

    parts.append(page.element("h2", "Where the numbers come from"))
    keys = "seed", "commit", "command"
    parts.append(
        page.table(
            [["file", *keys], *([result.path, *map(result.attrs.get, keys)] for result in loaded)],
            f"Versions: {' '.join(sorted({result.attrs['versions'] for result in loaded}))}",
        )
    )
    page.write(args.out / "summary.csv", study.csv(rows, words))
    page.write(
        args.out / "results.json",
        study.as_json(
            {
                "question": QUESTION,
                "profile": args.profile,
                "data": data,
                "notes": notes,
                "null": "not a number, or no bound",
                "alpha": verdicts.ALPHA,
                "verdicts": tests,
                "how verdicts are reached": verdicts.METHOD,
                "claims": tested,
                "how claims are decided": claims.METHOD,
                "files": [
                    {"path": str(result.path)}
                    | {
                        key: result.attrs[key]
                        for key in ("kind", "seed", "commit", "code", "device", "command")
                    }
                    for result in loaded
                ],
            }
        ),
    )
    for path, drawn in pdfs.items():
        page.write(path, drawn.result())
    page.write(
        args.out / "index.html", page.document(QUESTION, [*head, page.contents(parts), *parts])
    )
    if tests:
        print(
            "\n".join(
                [
                    verdicts.answer(tests, rows),
                    *(f"  {outcome}: {text}" for outcome, text in sentences.items()),
                ]
            )
        )
    for line in summary:
        print(f"{line[0]:42}", *(f"{word:16}" for word in line[1:]))
    print(args.out / "index.html")


if __name__ == "__main__":
    main()
