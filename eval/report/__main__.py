"""The report: from the files of a study one page that opens anywhere, and its numbers for machines.

index.html, figures/ (SVG and PDF), summary.csv (a row a minimum) and results.json. Every number
comes from the files named; their kind is read from their contents.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np

from common import cli
from eval.report import curves, results
from eval.report.fixed_in_advance import OUTCOMES, with_margins
from eval.report.page import Page, write
from eval.report.repetition import read as read_earlier
from eval.report.sections import (
    answer,
    claims,
    correlations,
    finetuning,
    head,
    ladders,
    pairs,
    picture,
    pretraining,
    repetition,
    robustness,
    settings,
    sources,
    tuning,
)
from eval.report.study import QUESTION, Study, classes_of, describe_pack, fingerprint
from eval.report.table import summary_csv

AT_A_TIME = 6  # settings beside each other on the terminal


class Parser(cli.Parser):
    """@LIST stands for the lines of the file LIST, an argument each: a study has many files."""

    def __init__(self):
        super().__init__(__doc__)
        self.fromfile_prefix_chars = "@"

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """A line is one argument, blanks and all; an empty line is none."""
        return [arg_line] if arg_line else []


def main():
    args = parse()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # What is not a number is a dash on the page; a letter that no font has, a box.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.filterwarnings("ignore", "Glyph")
        make(args)


def make(args):
    """Writes the report, and shows its answer on the terminal."""
    study = read(args)
    with Page(args.out, QUESTION, study.links) as page:
        for add in (
            answer.add,
            head.add_warnings,
            picture.add,
            answer.add_grounds,
            head.add,
            ladders.add,
            repetition.add,
            correlations.add,
            claims.add,
            settings.add,
            pretraining.add,
            robustness.add,
            pairs.add,
            finetuning.add,
            tuning.add,
            sources.add,
        ):
            add(study, page)
        write(args.out / "summary.csv", summary_csv(study.values))
        write(args.out / "results.json", study.as_json())
        page.write()
    show(study)
    print(args.out / "index.html")


def parse():
    """The command line."""
    parser = Parser()
    add = parser.add_argument
    add("--out", required=True, metavar="FOLDER", type=Path)
    add("--profile", default="unnamed", metavar="NAME", help="for the heading")
    add(
        "--pack",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="a pack of images, to say what it is",
    )
    add(
        "--tuned",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="a training or finetune file of a setting that was tried, shown apart",
    )
    add(
        "--reference",
        metavar="FILE",
        type=Path,
        help="JSON of the original report's curves, drawn behind ours",
    )
    add(
        "--ladder",
        action="append",
        default=[],
        metavar="NAME=SETTING,SETTING,…",
        type=ladder,
        help="settings along one knob, in its order, that the answer is about",
    )
    add(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="what a reader should know of this study, to stand below the answer",
    )
    add(
        "--stands-for",
        action="append",
        default=[],
        metavar="METHOD=SETTING",
        type=stands_for,
        help="the setting that the original report's claims about METHOD are held against, where it"
        " is not METHOD itself",
    )
    add(
        "--earlier",
        metavar="FILE",
        type=Path,
        help="results.json of the same study on other images: do its verdicts repeat?",
    )
    add(
        "--margin",
        action="append",
        default=[],
        metavar="OUTCOME=SIZE",
        type=margin,
        help="of an outcome's change, below which it makes no difference in practice; test_accuracy"
        "=0.03 is 3 points",
    )
    add("--partial", action="store_true", help="report what can be read, and name what cannot")
    add(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="training.h5, passport.h5, distance.h5, line.h5, TASK/MODE.h5; or @LIST, a file that "
        "holds arguments of this command, one a line",
    )
    args = parser.parse_args()
    if args.reference and not args.reference.is_file():
        raise SystemExit(
            f"{args.reference}: no such file; --reference takes a copy of paper_curves.json"
        )
    names = [name for name, _ in args.ladder]
    if twice := [name for name in names if names.count(name) > 1]:
        parser.error(f"argument --ladder: {twice[0]} is named twice")
    keys = [key for key, _ in args.margin]
    if twice := [key for key in keys if keys.count(key) > 1]:
        parser.error(f"argument --margin: {twice[0]} is named twice")
    return args


def ladder(text: str) -> tuple[str, list[str]]:
    """(name, the setting of each rung) of NAME=SETTING,SETTING,…"""
    name, equals, rungs = text.partition("=")
    settings = rungs.split(",")
    if not (name and equals and all(settings)) or len(set(settings)) < max(2, len(settings)):
        raise argparse.ArgumentTypeError(
            f"{text}: give NAME=SETTING,SETTING,…, two settings or more, each once"
        )
    return name, settings


def stands_for(text: str) -> tuple[str, str]:
    """(setting, method) of METHOD=SETTING"""
    method, equals, setting = text.partition("=")
    if not (method and setting):
        raise argparse.ArgumentTypeError(f"{text}: give METHOD=SETTING")
    return setting, method


def margin(text: str) -> tuple[str, float]:
    """(key of the outcome, its margin) of OUTCOME=SIZE"""
    key, equals, size = text.partition("=")
    keys = [outcome.key for outcome in OUTCOMES]
    if key not in keys:
        raise argparse.ArgumentTypeError(f"{text}: no such outcome; there are {', '.join(keys)}")
    try:
        return key, cli.rate(size)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text}: give {key}=SIZE, a number above 0") from None


def read(args) -> Study:
    """The study that the command line names."""
    packs = [path for path in args.pack if path.exists() or not args.partial]
    kept, tuned, problems = results.read(
        dict.fromkeys(args.files),
        dict.fromkeys(args.tuned),
        args.partial,
        {path.stem: fingerprint(path) for path in packs},
    )
    climbed, lacking = results.climbed(dict(args.ladder), kept, args.partial)
    return Study(
        kept,
        tuned,
        problems + lacking,
        profile=args.profile,
        packs=" and ".join(map(describe_pack, packs)) or "data not named",
        reference=curves.published(args.reference),
        rungs=climbed,
        said=args.note,
        classes=classes_of(packs[0]) if packs else [],
        stands_for=dict(args.stands_for),
        outcomes=with_margins(dict(args.margin)),
        earlier=read_earlier(args.earlier) if args.earlier else None,
    )


def show(study: Study):
    """The answer and the table of settings, on the terminal."""
    for files in study.of_other_weights:
        print(f"made from different weights: {files}; make the older again", file=sys.stderr)
    for line in answer.lines(study):
        print(line)
    titles, *columns = zip(*settings.lines(study))
    for first in range(0, len(columns), AT_A_TIME):
        some = columns[first : first + AT_A_TIME]
        widths = [max(16, *map(len, column)) for column in some]
        for title, *cells in zip(titles, *some):
            print(f"{title:42}", *(f"{cell:{width}}" for cell, width in zip(cells, widths)))


if __name__ == "__main__":
    main()
