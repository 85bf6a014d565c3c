"""Files whose seal fits and whose values are odd, as a measurement of your own may write them: the
report names the file and what is wrong with it in one line, or shows it as it is.
"""

import csv
import html
import io
import re
import warnings
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from test_report import made_up_study, read_csv, report, value

from common import files
from eval.report import results
from eval.report.cells import cell
from eval.report.table import MEASURED, Values, summary_csv

PLACES = {
    "training": "adam-0/training.h5",
    "passport": "adam-0/passport.h5",
    "finetune": "adam-0/digits/full.h5",
    "line": "adam-0--swa-1/line.h5",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A made-up study: its folder, its files."""
    folder = tmp_path_factory.mktemp("odd")
    return SimpleNamespace(
        folder=folder, paths=made_up_study(folder, ["adam", "swa"], [("digits", "full")])
    )


@pytest.fixture
def change(study):
    """change(kind, {name: value}) rewrites a file of the study, and its seal; None: without it.

    A name is that of a dataset, or GROUP@ATTRIBUTE. The files are put back.
    """
    before = {}

    def rewrite(kind, changes):
        path = study.folder / PLACES[kind]
        before.setdefault(path, path.read_bytes())
        with h5py.File(path) as old, files.write(path) as new:
            new.attrs.update(old.attrs)
            for name in old:
                old.copy(name, new)
            for name, odd in changes.items():
                group, at, attribute = name.rpartition("@")
                place = (new[group] if group else new).attrs if at else new
                key = attribute if at else name
                if key in place:
                    del place[key]
                if odd is not None:
                    place[key] = odd
        return path

    yield rewrite
    for path, content in before.items():
        path.write_bytes(content)


def refused(study):
    """The line that the report ends with, on all files of the study."""
    with pytest.raises(SystemExit) as stopped:
        results.read(study.paths, [], partial=False)
    line, hint = str(stopped.value).split("\n")
    assert hint.startswith("--partial")
    return line


FALL = [[0.9, 0.8, 1.0]] * 11
ODD = [  # kind of file, what is in it, what is said of it
    (
        "training",
        {"train/accuracy": [0.1, 17.0]},
        "its train/accuracy holds 17, and an accuracy is",
    ),
    ("training", {"val/accuracy": [-0.5, 0.5]}, "its val/accuracy holds -0.5, and an accuracy is"),
    ("training", {"epoch": None}, "has no dataset epoch"),
    ("training", {"epoch": [3, 2]}, "its epoch does not ascend"),
    ("training", {"train/loss": [1.0]}, "its train/loss has shape (1,), not (2,)"),
    ("training", {"train/loss": np.zeros(0)}, "its train/loss is empty"),
    ("training", {"train/loss": ["a", "b"]}, "its train/loss holds no numbers"),
    ("training", {"final/train_accuracy": [[1.0]]}, "its final/train_accuracy has shape (1, 1)"),
    ("training", {"@minimum": 3}, "its minimum is 3, not text"),
    ("training", {"@seed": "first"}, "its seed is 'first', not a whole number"),
    ("training", {"@target": np.nan}, "its target is nan, not a number from 0 to 1"),
    ("training", {"@target": None}, "has no target"),
    ("training", {"@versions": None}, "has no versions"),
    ("training", {"@kind": np.arange(3)}, "not a result of the study"),
    ("training", {"@settings": "{"}, "its settings is '{', not JSON of a command's flags"),
    ("training", {"@settings": '{"names": 1}'}, "its settings is"),
    ("passport", {"fgsm/summary/test/accuracy": [[17.0] * 3] * 11}, "holds 17"),
    ("passport", {"fgsm/levels": np.zeros(0)}, "its fgsm/levels is empty"),
    ("passport", {"fgsm/levels": np.zeros(11)}, "its fgsm/levels does not ascend"),
    ("passport", {"fgsm/levels": None}, "has shape"),
    ("passport", {"fgsm/levels": np.arange(3.0)}, "has shape"),
    ("passport", {"fgsm/test/loss": np.zeros(1)}, "its fgsm/test/loss has shape (1,)"),
    ("passport", {"fgsm/test/x": np.zeros((0,))}, "its fgsm/test/x is empty"),
    ("passport", {"fgsm/summary/test/accuracy_relative": np.ones(11)}, "has shape (11,)"),
    ("passport", {"fgsm@title": 3}, "the title of fgsm is 3, not text"),
    ("passport", {"fgsm@level_units": None}, "has no level_units of fgsm"),
    (
        "passport",
        {"fgsm@level_units": ["a", "b"]},
        "the level_units of fgsm is ['a', 'b'], not text",
    ),
    ("finetune", {"epochs_to_target": np.zeros(0)}, "its epochs_to_target is empty"),
    ("finetune", {"distance_relative/all": None}, "has no dataset distance_relative/all"),
    ("finetune", {"test/accuracy": np.full((2, 4), 1.5)}, "its test/accuracy holds 1.5"),
    ("finetune", {"test/accuracy": np.ones((1, 4))}, "has shape (1, 4), not (2, 4)"),
    ("line", {"path/t": None}, "has no dataset path/t"),
    ("line", {"path/t": 1.0}, "its path/t has shape ()"),
    ("line", {"@minima": '["adam-0"]'}, "its minima is '[\"adam-0\"]', not JSON of two names"),
    ("line", {"@seeds": '["0", "1"]'}, "not JSON of two whole numbers"),
    ("line", {"@weights": "x"}, "its weights are not JSON of two sha256"),
    ("line", {"@classes": 0}, "its classes is 0, not the number of classes"),
]


@pytest.mark.parametrize("kind, changes, words", ODD)
def test_what_a_file_of_results_cannot_hold_is_one_line_that_names_it(
    kind, changes, words, study, change
):
    path = change(kind, changes)
    line = refused(study)
    assert str(path) in line and words in line, line


@pytest.mark.parametrize("changes", [{"@setting": "swa"}, {"@seed": 7}, {"@setting": ""}])
def test_files_of_a_minimum_that_name_two_settings_are_named(changes, study, change):
    path = change("finetune", changes)
    line = refused(study)
    assert line.startswith(f"{path}: says that adam-0 is of ") and "training.h5 says other" in line


def shapes_of(file):
    """{path: shape} of the datasets of an HDF5 file that are not an axis."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset) and name.split("/")[-1] not in ("epoch", "levels", "t"):
            found[name] = item.shape

    file.visititems(keep)
    return found


@pytest.mark.slow
def test_every_number_may_be_nan_and_is_a_dash(study, change, tmp_path, capfd):
    """Also those of one minimum among others, which the page shows."""
    for kind in PLACES:
        with h5py.File(study.folder / PLACES[kind]) as file:
            shapes = shapes_of(file)
        change(kind, {name: np.full(shape, np.nan) for name, shape in shapes.items()})
    made = report(tmp_path / "report", *study.paths)
    assert not capfd.readouterr().err
    (row,) = [row for row in made.rows if row["minimum"] == "adam-0"]
    assert row["fgsm_test_accuracy"] == "nan" and "–" in made.page


@pytest.mark.slow
def test_words_of_a_file_are_text_wherever_they_stand(study, change, tmp_path, capfd):
    """$ begins no formula, < no element; letters that no font has are no warning."""
    units, title = "$\\frac{", "<b>$x_0$ 中\x1b"
    for path in study.paths:
        if path.name == "passport.h5":
            PLACES[str(path)] = path.relative_to(study.folder)
            change(str(path), {"fgsm@level_units": units, "fgsm@title": title})
    made = report(tmp_path / "report", *study.paths)
    assert not capfd.readouterr().err
    svg = (tmp_path / "report" / "figures" / "robustness_loss.svg").read_text()
    assert (
        title[:9] in html.unescape(svg)
        and units in made.page
        and "\x1b" not in svg
        and "\x1b" not in made.page
    )
    assert title.replace("\x1b", "\N{REPLACEMENT CHARACTER}") in made.page
    assert "<b>$" not in (tmp_path / "report" / "index.html").read_text()


def test_large_numbers_are_written_with_an_exponent():
    fields = MEASURED | {"source": "hessian", "split": "test", "name": "trace"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (value(f"a-{seed}", "a", seed, 1e300, fields) for seed in range(2))
        assert cell([one]) == "1e+300"
        assert cell([one, other]).startswith("1e+300 ± ")
    assert cell([value("a-0", "a", 0, 1234.5, fields)]) == "1234.5"


def test_descriptions_of_columns_hold_no_cell_that_is_a_formula():
    fields = MEASURED | {"source": "x", "group": "x", "split": "test", "name": "accuracy"}
    words = 'T,=cmd|x; a;+1 b,"=2" c,""@SUM(A1) d,-1, e, -2'
    text = summary_csv(Values([value("a-0", "a", 0, -0.5, fields, words=words)]))
    for delimiter in ",", ";":
        for line in csv.reader(io.StringIO(text), delimiter=delimiter):
            for word in line:
                is_number = re.fullmatch(r"-?\d+(\.\d+)?", word)
                assert is_number or not word.startswith(("=", "+", "-", "@", "\t", "\r")), line
    (row,), _ = read_csv(text)
    assert row["x_test_accuracy"] == "-0.5"


def test_two_quantities_of_one_column_are_named():
    """As where a measurement's group ends in a word that another's quantity begins with."""
    fields = MEASURED | {"source": "x", "split": "", "variant": ""}
    one = value("a-0", "a", 0, 0.5, fields | {"group": "x_y", "name": "z"})
    other = value("a-0", "a", 0, 0.6, fields | {"group": "x", "name": "y_z"})
    with pytest.raises(SystemExit, match="two quantities would be its column x_y_z; name one of"):
        summary_csv(Values([one, other]))
