"""The smoke study through make: everything is made once, nothing twice, and a changed script
remakes what follows from it alone.
"""

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from conftest import ROOT

from common.files import write as written


def make(*arguments, folder):
    return subprocess.run(
        [
            "make",
            "PROFILE=smoke",
            "MORE=yes",
            f"PYTHON={sys.executable}",
            f"A={folder}",
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "smoke"
    made = make("all", folder=folder)
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    assert made.stdout.rstrip().endswith(f"report: {folder}/report/index.html")
    return folder


MINIMA = ["adam-0", "noisy_adam-0", "swa-0", "swa-0/last"]


def test_the_report_has_one_row_a_minimum(study):
    with open(study / "report" / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["minimum"] for row in rows] == MINIMA
    page = (study / "report" / "index.html").read_text()
    assert all(name in page for name in MINIMA) and len(page) < 5e6
    assert not any(
        word in page for word in ("<script", "<link ", "src=", "@import", "url(http")
    )  # it opens anywhere by itself
    figures = {path.name for path in (study / "report" / "figures").iterdir()}
    assert (
        page.count("<figure")
        == page.count("Files and commands of this picture")
        == len(figures) / 2
        >= 9
    )
    assert {Path(name).suffix for name in figures} == {".svg", ".pdf"} and "#01" not in page.split(
        "</style>"
    )[1]


def test_methods_are_read_from_the_fields_of_files(study):
    with open(study / "report" / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["method"] for row in rows] == ["adam", "noisy_adam", "swa", "swa"]
    assert [row["setting"] for row in rows] == ["adam", "noisy_adam", "swa", "swa/last"]
    assert {row["seed"] for row in rows} == {"0"}


def test_every_figure_names_its_group_its_command_and_its_n(study):
    page = (study / "report" / "index.html").read_text()
    for figure in re.findall(r"<figure.*?</figure>", page, re.S):
        sources = re.findall(r'<br><a href="(.*?)">.*?</a> (.*?) ← (python -m [^<]*)', figure)
        assert sources
        for link, groups, command in sources:
            with h5py.File(study / "report" / html.unescape(link)) as file:
                for name in groups.split():
                    attrs = file[name].attrs
                    assert attrs.get("command", file.attrs["command"]) == html.unescape(command)
        caption = re.search(r"<figcaption[^>]*>(.*?)</figcaption>", figure, re.S)[1]
        assert re.search(r"n = \d|\d+ pairs", caption), caption
        assert re.search(
            r"standard deviation|no interval|interval over|A point is a minimum|bars: ", caption
        )


def test_the_answer_is_on_top_and_for_machines_beside(study):
    page = (study / "report" / "index.html").read_text()
    top = page[: page.index("<nav>")]
    assert (
        "These data cannot tell" in top
        and "degrees of freedom" in top
        and "As saved, these minima have less than 95%" in top
        and "Profile smoke: glyphs:letters (50 classes at 32 px" in top
        and "halves/" not in top  # which lack draws where there is one, and that is no fault
    )
    contents = page[page.index("<nav>") : page.index("</nav>")]
    assert re.findall(r'<a href="#(.*?)">', contents) == re.findall(r'<h2 id="(.*?)"', page)
    results = json.loads((study / "report" / "results.json").read_text())
    assert len(results["verdicts"]) == 15 and {test["verdict"] for test in results["verdicts"]} == {
        "cannot tell"
    }
    assert results["claims"] == [] and "Not shown: its claims" in page  # these are letters
    assert [
        str(Path(file["path"]).parent.relative_to(study))
        for file in results["files"]
        if file["kind"] == "passport"
    ] == MINIMA + MINIMA
    assert all(
        file["command"].startswith("python -m ") and file["commit"] for file in results["files"]
    )


def report(study, out, *arguments, **changes):
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "error::RuntimeWarning",
            "-m",
            "eval.report",
            "--out",
            out,
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        **changes,
    )


def test_the_report_needs_no_torch_and_is_the_same_for_files_in_any_order(study, tmp_path):
    """make's own arguments, its files the other way round, with a torch that cannot be imported,
    into a folder beside the first.
    """
    (tmp_path / "torch.py").write_text("raise ImportError('the report took torch')")
    listed = (study / "flags/report").read_text().splitlines()
    arguments = [sys.executable, "-m", "eval.report", "--out", study / "again", *listed]
    first = next(k for k, word in enumerate(arguments) if str(word).endswith("/training.h5"))
    again = study / "again"
    made = subprocess.run(
        arguments[:first] + arguments[first:][::-1],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    assert made.returncode == 0, made.stderr
    for name in "index.html", "summary.csv", "results.json":
        assert (again / name).read_bytes() == (study / "report" / name).read_bytes(), name
    shutil.rmtree(again)


def test_a_missing_a_damaged_and_a_foreign_file_are_named_and_the_rest_is_reported_on_request(
    study, tmp_path
):
    files = sorted(study.glob("*/training.h5"))
    short, foreign, gone = tmp_path / "passport.h5", tmp_path / "foreign.h5", tmp_path / "gone.h5"
    short.write_bytes(files[0].read_bytes()[:-1])
    foreign.write_bytes(b"\x89HDF\r\n\x1a\n" * 200)
    bad = [short, foreign, gone]
    for path, reason in zip(
        bad, ("damaged (wrong size)", "not a file that basins made", "No such file")
    ):
        refused = report(study, tmp_path / "out", *files, path)
        assert (
            refused.returncode == 1
            and "Traceback" not in refused.stderr
            and not (tmp_path / "out").exists()
        )
        first, second = refused.stderr.strip().splitlines()
        assert first.startswith(f"{path}: ") and reason in first and "--partial" in second
    made = report(study, tmp_path / "out", "--partial", *files[1:], *bad)
    assert made.returncode == 0, made.stderr
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(str(path) in page and str(path) in made.stderr for path in bad)
    only = report(study, tmp_path / "none", "--partial", *bad)
    assert only.returncode == 1 and len(only.stderr.strip().splitlines()) == 3


def test_a_result_that_lies_in_another_minimum_s_folder_is_named(study, tmp_path):
    own, other = study / "swa-0" / "passport.h5", tmp_path / "adam-0" / "passport.h5"
    other.parent.mkdir()
    shutil.copy(own, other)
    refused = report(study, tmp_path / "out", *sorted(study.glob("*/training.h5")), own, other)
    assert (
        refused.returncode == 1
        and f"{other}: is of swa-0, as {own} is; one of them lies in the wrong folder"
        in refused.stderr
    )


def test_an_unfinished_study_and_mixed_code_are_said_on_top(study, tmp_path):
    files = sorted([*study.glob("*/training.h5"), *study.glob("*/digits/full.h5")])
    other = tmp_path / "swa-0" / "digits" / "full.h5"
    other.parent.mkdir(parents=True)
    with h5py.File(study / "swa-0" / "digits" / "full.h5") as file, written(other) as copy:
        for name in file:
            file.copy(name, copy)
        copy.attrs.update(file.attrs)
        copy.attrs["code"] = "another"
    kept = [
        path
        for path in files
        if path.name != "full.h5" or path.parts[-3] not in ("swa-0", "noisy_adam-0")
    ]
    made = report(study, tmp_path / "out", *kept, other)
    assert made.returncode == 0, made.stderr
    top = (tmp_path / "out" / "index.html").read_text().split("<nav>")[0]
    assert (
        "different code versions are compared here: finetune full" in top
        and "not finished: " in top
        and "noisy_adam-0 has no finetune file" in top
    )


def test_a_tuned_setting_is_shown_apart_and_is_no_minimum(study, tmp_path):
    tuned = [study / "swa-0" / "training.h5", study / "noisy_adam-0" / "training.h5"]
    flags = [word for path in tuned for word in ("--tuned", path)]
    made = report(study, tmp_path, *flags, study / "adam-0" / "training.h5")
    assert made.returncode == 0, made.stderr
    page = (tmp_path / "index.html").read_text()
    assert "Tuning: training-swa" in page and "Tuning: training-noisy_adam" in page
    with open(tmp_path / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["minimum"] for row in rows] == ["adam-0"]


def test_make_report_names_what_is_missing_and_makes_nothing_else(study, tmp_path):
    assert remade(tmp_path / "empty", goal="report") == ["eval.report"]
    assert not (tmp_path / "empty").exists()
    assert make("report", folder=tmp_path / "empty").returncode != 0


def test_the_original_report_s_curves_are_drawn_behind_ours(study, tmp_path):
    results = [*study.glob("*/training.h5"), *study.glob("*/passport.h5"), *study.glob("*--*/*.h5")]
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "eval.report",
            "--out",
            tmp_path,
            "--reference",
            "eval/report/paper_curves.json",
            *results,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    with_reference, without = (
        folder / "figures/robustness_accuracy.svg" for folder in (tmp_path, study / "report")
    )
    assert with_reference.read_bytes() != without.read_bytes()
    claims = json.loads((tmp_path / "results.json").read_text())["claims"]
    assert len(claims) >= 19 and {claim["verdict"] for claim in claims} <= {
        "holds",
        "does not hold",
        "cannot tell",
        "not testable at this size",
    }


def test_a_second_make_does_nothing(study):
    assert make("-q", "all", folder=study).returncode == 0
    assert make("-n", "all", folder=study).stdout.strip().splitlines() == [
        f"echo 'report: {study}/report/index.html'"
    ]


def commands(study, *arguments, goal="all"):
    """The commands of Python that make would run, without the checks of flags before them."""
    lines = make("-n", goal, *arguments, folder=study).stdout.splitlines()
    found = [line.split(" -m ")[-1] for line in lines if " -m common.making.recipe " in line]
    return [command for command in found if not command.startswith("common.making.rehearse")]


def remade(study, *arguments, goal="all"):
    """The scripts that make would run."""
    return [command.split()[0] for command in commands(study, *arguments, goal=goal)]


def test_a_touched_method_remakes_its_minima_and_what_follows_alone(study):
    made = commands(study, "-W", "train/swa.py")
    assert [command.split()[0] for command in made if command.startswith("train")] == ["train.swa"]
    assert {
        command.split("--minimum ")[1].split()[0].removeprefix(f"{study}/")
        for command in made
        if "--minimum " in command
    } == {"swa-0", "swa-0/last"}
    compared = [command for command in made if "--minima " in command]
    assert compared and all("swa-0" in command for command in compared)
    assert made[-1].startswith("eval.report")


EVERYTHING = {
    "train.adam",
    "train.noisy_adam",
    "train.swa",
    "eval.battery",
    "eval.distance",
    "eval.line",
    "finetune.full",
}


@pytest.mark.parametrize(
    "change, scripts",
    [
        (["RUNS=3"], {"finetune.full"}),
        (["FINETUNE_full=--lr 1e-2"], {"finetune.full"}),
        (["FINETUNE_digits=--runs 3"], {"finetune.full"}),
        (["MEASURE_fgsm=--fgsm-levels 0,0.1"], {"eval.battery"}),
        (["COMPARE_line=--points 5"], {"eval.line"}),
        (["TRAIN_swa=--snapshots 6"], EVERYTHING - {"train.adam", "train.noisy_adam"}),
        (["EPOCHS=6"], EVERYTHING),
        (["SEEDS=0-1"], EVERYTHING),
        (["REPORT=--partial"], set()),
        (["-W", "eval/line.py"], {"eval.line"}),
        (["-W", "finetune/full.py"], {"finetune.full"}),
        (["-W", "eval/fgsm.py"], {"eval.battery"}),
        (["-W", "eval/report/verdicts.py"], set()),
    ],
)
def test_a_change_remakes_what_used_it(change, scripts, study):
    made = commands(study, *change)
    assert {command.split()[0] for command in made} == scripts | {"eval.report"}
    if change == ["SEEDS=0-1"]:
        own = [command for command in made if not command.startswith("eval.report")]
        assert own and all("-1" in command for command in own)
    assert remade(study) == []  # to look at what a change would do changes nothing


def test_another_setting_makes_its_own_minimum_and_what_follows(study):
    made = commands(study, "METHODS=adam noisy_adam swa adam@lr_2e-3", "PAIRED=adam noisy_adam swa")
    assert [command.split()[0] for command in made] == [
        "train.adam",
        "eval.battery",
        "eval.battery",
        "finetune.full",
        "eval.report",
    ]
    assert all("adam@lr_2e-3-0" in command for command in made[:-1])
    assert "--setting adam@lr_2e-3 " in made[0]


def test_every_result_says_where_it_comes_from(study):
    results = sorted(study.rglob("*.h5"))
    assert len(results) == 2 + 3 + 4 + 4 + 4 + 3 * 2
    for path in results:
        with h5py.File(path) as file:
            assert {
                "command",
                "settings",
                "seed",
                "code",
                "commit",
                "versions",
                "device",
                "fingerprint",
                "kind",
            } <= set(file.attrs), path
            assert file.attrs["command"].startswith("python -m ")


def test_nothing_is_left_beside_the_results(study):
    names = {path.name for path in study.rglob("*") if path.is_file()}
    assert not list((study / "flags/new").iterdir())
    assert not [
        name for name in names if name.startswith(".") or ".part" in name or "resume" in name
    ]
