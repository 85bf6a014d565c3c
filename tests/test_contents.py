"""What make makes again: what was made from other contents, whatever the dates say."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

import pytest
from test_graph import project

pytestmark = pytest.mark.slow

# Python, but for the project's scripts: they write what make looks at of the files that they name.
STUB = """#!{python}
import hashlib, json, os, pathlib, sys
words = sys.argv[1:]
if words[:1] != ["-m"] or words[1] in ("common.graph", "common.making.recipe"):
    os.execv({python!r}, [{python!r}, *words])
module, out = words[1], pathlib.Path(words[words.index("--out") + 1])
digest = hashlib.sha256(" ".join(words).encode()).hexdigest()

def weights(folder, minimum):
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({{"__metadata__": {{"minimum": minimum, "sha256": digest}}}}).encode()
    folder.joinpath("weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)

if module.startswith("train."):
    out.mkdir(parents=True, exist_ok=True)
    out.joinpath("training.h5").write_text("curves")
    if module == "train.swa":
        weights(out / "last", out.name + "/last")
    weights(out, out.name)
elif module == "eval.report":
    out.mkdir(exist_ok=True)
    out.joinpath("index.html").write_text("page")
else:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"basins 1 {{digest}}" + (" the-same-images" if "prepare" in module else ""))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A copy of the project, whose scripts may be changed, and a study that is made."""
    own = project(tmp_path_factory.mktemp("contents") / "project")
    stub = own / "python"
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)
    made = make(own, "all")
    assert made.returncode == 0, made.stdout + made.stderr
    return own


@pytest.fixture
def copied(own, tmp_path):
    """The project and its study, with their dates, for one test alone."""
    return shutil.copytree(own, tmp_path / "project", symlinks=True)


def make(own, *goals, environment=None):
    command = ["make", "PROFILE=smoke", f"PYTHON={own}/python", "JOBS=2", *goals]
    return subprocess.run(command, cwd=own, capture_output=True, text=True, env=environment)


def study(own):
    return own / "artifacts/smoke"


def made_by(own, *goals):
    """What `make all` says that it does, and what it says of what is there already."""
    planned = make(own, "-n", "all", *goals).stdout
    done = make(own, "all", *goals)
    assert done.returncode == 0, done.stderr
    made = re.findall(r"^\[\d+/\d+\] (.*?)(?:,.*)?$", done.stdout, re.M)
    assert planned.count(" -m common.making.recipe ") == len(made)  # as make -n foretold
    assert make(own, "-q", "all", *goals).returncode == 0
    return made, [line.partition(": ")[2] for line in done.stderr.splitlines() if "made" in line]


def kept_date(path, change):
    """Changes a file, and gives it the date that it had."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


NOTHING = [], []


def test_a_newer_date_alone_makes_nothing_again(copied):
    for path in [copied / "train/adam.py", copied / "eval/fgsm.py", study(copied) / "flags/line"]:
        path.touch()
    assert made_by(copied) == NOTHING
    assert "kept, although older by date: " in make(copied, "plan").stdout


def test_a_script_that_changed_makes_what_follows_from_it(copied):
    script = copied / "train/adam.py"
    kept_date(script, lambda path: path.write_text(path.read_text() + "# more\n"))
    made, said = made_by(copied)
    assert said == ["made again, although there: 8 files, because train/adam.py changed"]
    assert [what for what in made if what.startswith("pretrain")] == ["pretrain adam-0"]
    assert sorted(what.split()[0] for what in made) == [
        *["check", "compare", "compare", "compare", "compare"],
        *["finetune", "measure", "pretrain", "report"],
    ]


def test_a_pack_from_the_future_is_not_trained_on_for_ever(copied):
    ahead = time.time() + 86400
    os.utime(study(copied) / "data/pretrain.h5", (ahead, ahead))
    assert made_by(copied) == NOTHING


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_with_any_dates_is_kept(seed, copied):
    """As cp -r, a clone beside a copied study, or a clock that jumped leave them."""
    rng = random.Random(seed)
    paths = [path for path in sorted(copied.rglob("*")) if path.is_file()]
    for path in paths:
        when = time.time() - rng.uniform(-1e5, 1e6)
        os.utime(path, (when, when))
    made, said = made_by(copied)
    assert made in ([], ["report"]), made  # whose training.h5 may have been touched
    assert not [line for line in said if "report" not in line]


def test_a_study_that_was_moved_is_kept(copied):
    moved = study(copied).rename(copied / "artifacts/elsewhere")
    made, said = made_by(copied, f"A={moved}")
    assert made == ["report"]  # the paths of its files are others
    assert said == ["made again, although there: 1 file, because the flags of report changed"]


def test_a_pack_of_the_same_images_makes_nothing_again(copied):
    pack = study(copied) / "data/pretrain.h5"
    pack.write_text("basins 1 made-at-another-commit the-same-images")
    assert made_by(copied) == NOTHING


def test_a_pack_that_was_replaced_is_announced_before_anything_is_trained(copied):
    pack = study(copied) / "data/pretrain.h5"
    kept_date(pack, lambda path: path.write_text("basins 1 x other-images"))
    done = make(copied, "all")
    line = done.stderr.splitlines()[0]
    assert line.endswith(
        "made again, although there: 18 files, because artifacts/smoke/data/pretrain.h5 changed"
    )
    assert done.stdout.count("pretrain ") == 3


def test_weights_in_another_minimum_s_folder_are_one_line(copied):
    mine, other = (study(copied) / f"{name}/weights.safetensors" for name in ("adam-0", "swa-0"))
    aside = study(copied) / "aside"
    mine.rename(aside)
    other.rename(mine)
    aside.rename(other)
    for goal in "all", "report", "plan", "artifacts/smoke/adam-0/digits/full.h5":
        done = make(copied, goal)
        assert done.returncode and not done.stdout
        (line,) = done.stderr.splitlines()
        assert "smoke/adam-0/weights.safetensors: says that it is the weights of swa-0; " in line


def test_weights_that_were_replaced_make_what_follows_from_them(copied):
    weights = study(copied) / "noisy_adam-0/weights.safetensors"
    header = json.loads(weights.read_bytes()[8:])
    header["__metadata__"]["sha256"] = "another"
    new = json.dumps(header).encode()
    kept_date(weights, lambda path: path.write_bytes(len(new).to_bytes(8, "little") + new))
    made, said = made_by(copied)
    assert said == [
        "made again, although there: 7 files, because artifacts/smoke/noisy_adam-0/"
        "weights.safetensors changed"
    ]
    assert not any(what.startswith("pretrain") for what in made)


def test_flags_that_were_changed_back_make_nothing_again(copied):
    flags = "artifacts/smoke/flags/train-adam"
    assert make(copied, flags, "EPOCHS=9").returncode == 0
    assert "--epochs 9" in (copied / flags).read_text()
    assert make(copied, "all").stdout.count("] ") == 1  # all flags are checked once more
    assert made_by(copied) == NOTHING


def test_without_a_journal_dates_decide_and_that_is_said(copied):
    (study(copied) / "journal.jsonl").unlink()
    (copied / "train/adam.py").touch()
    made, said = made_by(copied)
    assert said == ["made again, although there: 8 files, because train/adam.py is newer"]
    assert "pretrain adam-0" in made


def test_a_file_that_somebody_else_wrote_is_compared_by_date(copied):
    passport = study(copied) / "adam-0/passport.h5"
    passport.write_text("basins 1 another")
    made, _ = made_by(copied)
    assert made == ["report"]
    (copied / "eval/fgsm.py").touch()
    made, said = made_by(copied)
    assert "measure adam-0" in made and "measure swa-0" not in made
    assert said == ["made again, although there: 2 files, because eval/fgsm.py is newer"]


def test_what_one_asks_make_to_leave_or_to_take_as_new_holds_when_it_runs(copied):
    script = copied / "train/adam.py"
    script.write_text(script.read_text() + "# more\n")
    made, _ = made_by(copied, "-o", "train/adam.py")
    assert not any(what.startswith("pretrain") for what in made)
    asked = ["all", "-o", "train/adam.py", "-W", "eval/line.py"]
    planned = make(copied, "-n", *asked).stdout.count(" -m eval.line ")
    done = make(copied, *asked)
    assert done.returncode == 0 and 0 < planned == done.stdout.count("compare")
