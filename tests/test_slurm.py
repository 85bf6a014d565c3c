"""The study on a real Slurm of two nodes with two stand-in GPUs each: from a login node, in an
allocation, and beyond its time limit.
"""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from compare import values
from conftest import PAPERS, ROOT
from safetensors.numpy import load_file

from tests import slurm

pytestmark = pytest.mark.skipif(
    bool(slurm.missing()), reason=f"no {slurm.missing()} here: Debian's package is slurm-wlm"
)
STUDY = [
    "make",
    "-j4",
    "all",
    "PROFILE=smoke",
    "METHODS=adam",
    "CONTROLS=",
    "MEASUREMENTS=clean fgsm",
    "RUNS=1",
    f"PYTHON={sys.executable}",
    "V=1",
]


def in_the_papers(pattern, **changes):
    """What the papers tell people to type, at the size of this cluster: an option's new value."""
    text = re.search(pattern, PAPERS, re.M)[1].replace('"', "")
    for option, value in changes.items():
        text = re.sub(rf"\b{option}=\S+", f"{option}={value}", text)
    return text


# From the login node a job takes all CPUs of one of our nodes.
LOGIN = in_the_papers('(LAUNCH="srun --quit-on-interrupt[^"]*")', task=2)
INSIDE = in_the_papers('(LAUNCH="srun --exact[^"]*")', task=1)
BATCH = in_the_papers("^#SBATCH (.*)", task=1, node=2, time=1).split()


def go(words, environment, timeout=600):
    done = subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs(environment):
    """{number: {field: value}} of all jobs of the last minutes."""
    shown = go(["scontrol", "-o", "show", "jobs"], environment)
    lines = [line for line in shown.splitlines() if line.startswith("JobId=")]
    fields = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]
    return {job["JobId"]: job for job in fields}


def wait(condition, seconds=120):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "not in time"
        time.sleep(0.1)


def goes_on(job):
    return job["JobState"] in ("RUNNING", "COMPLETING", "PENDING")


def contents(folder):
    """{file: its arrays} of a study."""
    return {
        str(path.relative_to(folder)): load_file(path)
        if path.suffix == ".safetensors"
        else values(path)
        for path in folder.rglob("*")
        if path.suffix in (".h5", ".safetensors")
    }


def identical(one, other):
    one, other = contents(one), contents(other)
    assert one.keys() == other.keys() and len(one) == 6
    for path in one:
        assert one[path].keys() == other[path].keys(), path
        for name, array in one[path].items():
            np.testing.assert_array_equal(array, other[path][name], err_msg=f"{path} {name}")


@pytest.fixture(scope="module")
def environment():
    with slurm.cluster() as environment:
        yield environment


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The study's folder, made by make alone."""
    folder = tmp_path_factory.mktemp("alone") / "study"
    go([*STUDY, f"A={folder}"], os.environ)
    return folder


def test_from_a_login_node_each_recipe_is_a_job(environment, alone, tmp_path):
    before = jobs(environment)
    said = go([*STUDY, f"A={tmp_path / 'study'}", LOGIN], environment)
    made = [job for number, job in jobs(environment).items() if number not in before]
    assert len(made) == len(re.findall(r" srun .* -m ", said)) == 7
    assert {job["JobState"] for job in made} == {"COMPLETED"}
    assert {job["NodeList"] for job in made} == set(slurm.NODES)
    identical(alone, tmp_path / "study")
    assert (tmp_path / "study" / "report" / "index.html").exists()


def test_a_recipe_that_fails_in_a_job_fails_make(environment, tmp_path):
    done = subprocess.run(
        [*STUDY, f"A={tmp_path / 'study'}", LOGIN, "TRAIN=--batch-size 9999"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2 and "--batch-size 9999" in done.stderr
    assert not list(tmp_path.rglob("weights.safetensors"))


def test_an_interrupt_at_the_login_node_ends_its_jobs(environment, tmp_path):
    with subprocess.Popen(
        [*STUDY, f"A={tmp_path / 'study'}", LOGIN, "EPOCHS=500"],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as made:
        wait((tmp_path / "study" / "adam-0" / "resume.h5").exists)
        os.killpg(made.pid, signal.SIGINT)  # as Ctrl-C does
        assert made.wait(120) == 2 or made.returncode == -signal.SIGINT
    wait(lambda: not any(map(goes_on, jobs(environment).values())))


@pytest.mark.full  # Slurm's shortest time limit is a minute
def test_an_allocation_that_ran_out_of_time_goes_on_when_it_is_submitted_again(
    environment, alone, tmp_path
):
    folder, log = tmp_path / "study", tmp_path / "log"
    make = " ".join(f"'{word}'" for word in [*STUDY, f"A={folder}", INSIDE])

    def submit():
        said = go(
            ["sbatch", *BATCH, f"--output={log}", "--open-mode=append", f"--wrap={make}"],
            environment,
        )
        return said.split()[-1]

    first = submit()
    wait((folder / "adam-0" / "resume.h5").exists)
    command = f"train.adam --data {folder}"

    def processes():
        asked = subprocess.run(["pgrep", "-f", command], capture_output=True, text=True)
        return [int(number) for number in asked.stdout.split()]

    for number in processes():  # so that it needs more than its minute, on any machine
        os.kill(number, signal.SIGSTOP)
    assert not (folder / "adam-0" / "weights.safetensors").exists()
    wait(lambda: not goes_on(jobs(environment)[first]), 180)
    assert jobs(environment)[first]["JobState"] == "TIMEOUT" and not processes()
    second = submit()
    wait(lambda: not goes_on(jobs(environment)[second]), 100)
    assert jobs(environment)[second]["JobState"] == "COMPLETED", log.read_text()
    assert "adam-0: continues after epoch" in log.read_text()
    identical(alone, folder)
