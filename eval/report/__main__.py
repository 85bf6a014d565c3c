"""The report: from the files of a study one page that opens anywhere, and its numbers for machines.

index.html, figures/ (SVG and PDF), summary.csv (a row a minimum) and results.json. Every number
comes from the files named; their kind is read from their contents.
"""

from pathlib import Path

from common import cli
from eval.report import figures, results
from eval.report.page import Page, write
from eval.report.sections import (
    answer,
    claims,
    finetuning,
    head,
    methods,
    pairs,
    pretraining,
    robustness,
    sources,
    tuning,
)
from eval.report.study import QUESTION, Study, describe_pack
from eval.report.table import summary_csv


def main():
    args = parse()
    study = read(args)
    page = Page(args.out, QUESTION)
    for section in (
        head,
        answer,
        claims,
        methods,
        pretraining,
        robustness,
        pairs,
        finetuning,
        tuning,
        sources,
    ):
        section.add(study, page)
    write(args.out / "summary.csv", summary_csv(study.values))
    write(args.out / "results.json", study.as_json())
    page.write()
    show(study)
    print(args.out / "index.html")


def parse():
    """The command line."""
    parser = cli.Parser(__doc__)
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
    add("--partial", action="store_true", help="report what can be read, and name what cannot")
    add(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="training.h5, passport.h5, finetune-*.h5, distance.h5, line.h5",
    )
    args = parser.parse_args()
    if args.reference and not args.reference.is_file():
        raise SystemExit(
            f"{args.reference}: no such file; --reference takes a copy of paper_curves.json"
        )
    return args


def read(args) -> Study:
    """The study that the command line names."""
    kept, tuned, problems = results.read(
        dict.fromkeys(args.files), dict.fromkeys(args.tuned), args.partial
    )
    packs = [describe_pack(path) for path in args.pack if path.exists() or not args.partial]
    return Study(
        kept,
        tuned,
        problems,
        profile=args.profile,
        packs=" and ".join(packs) or "data not named",
        reference=figures.published(args.reference),
    )


def show(study: Study):
    """The answer and the table of methods, on the terminal."""
    if study.tests:
        print(answer.answer(study))
        for outcome, text in answer.findings(study).items():
            print(f"  {outcome}: {text}")
    for title, *cells in methods.lines(study):
        print(f"{title:42}", *(f"{cell:16}" for cell in cells))


if __name__ == "__main__":
    main()
