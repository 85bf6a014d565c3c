"""How much is enough: on simulated studies whose effect is known, the share that finds it is what
was promised; `make plan` prints it.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_graph import make
from test_ladders import FULL, LR, climbed, heights

from common.making import makefile
from eval.report import contrasts, ladders, power, statistics
from eval.report.power import Plan, Spread

SPREAD = Spread(minimum=0.03, run=0.02, runs=2)


def test_runs_average_out_what_differs_between_them():
    assert SPREAD.of(2) == pytest.approx(0.03)
    between = 0.03**2 - 0.02**2 / 2
    assert SPREAD.of(8) == pytest.approx(np.sqrt(between + 0.02**2 / 8))
    noise_alone = Spread(minimum=0.01, run=0.02, runs=2)  # by chance less than its runs allow
    assert noise_alone.of(4) == pytest.approx(0.01)


@pytest.mark.parametrize("rungs, seeds", [(4, 4), (5, 8)])
def test_80_of_100_ladders_find_the_smallest_effect(rungs, seeds):
    effect = Plan(rungs, 2, seeds, 2).detectable(SPREAD)
    rng, found = np.random.default_rng(0), []
    for _ in range(1500):
        noise = 0.03 * rng.normal(size=(seeds, rungs))
        changes = contrasts.change(noise + effect * np.arange(rungs) / (rungs - 1))
        p = min(1, 8 * statistics.estimate(changes).p)  # the first of 2 x 4 under Holm
        found.append(ladders.judge(changes, p, margin=1e-9)[0] == ladders.RISES)
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_80_of_100_pairs_of_settings_find_the_smallest_difference():
    effect = Plan(0, 0, 5, 2).detectable(SPREAD)
    a, b = 0.03 * np.random.default_rng(1).normal(size=(2, 3000, 5))
    found = [statistics.t_interval(row)[1] > 0 for row in a - b + effect]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_seeds_for_an_effect_are_the_fewest_that_find_it():
    plan = Plan(4, 2, 4, 2)
    seeds = plan.seeds_for(0.06, SPREAD)
    assert plan.detectable(SPREAD, seeds) <= 0.06 < plan.detectable(SPREAD, seeds - 1)
    assert plan.seeds_for(1e-6, SPREAD) == 0  # no number of seeds that one would train
    assert plan.seeds_for(10, SPREAD) == 4
    assert np.isnan(Plan(4, 2, 3, 2).detectable(SPREAD))
    assert np.isnan(Plan(3, 2, 9, 2).detectable(SPREAD))


def test_the_spread_is_read_from_the_ladders_of_a_study():
    """Minima with noise of a known size on them."""
    values = climbed(heights(0.3, 0.3), range(80), noise=0.02)
    runs = [SimpleNamespace(data={"epochs_to_target": np.zeros(3)})]
    finetuning = replace(FULL, results=runs)
    found = ladders.climbed(values, {"lr": LR}, finetuning)
    spread = power.measured(values, found, finetuning)["test_accuracy"]
    assert spread.minimum == pytest.approx(0.02, rel=0.15) and spread.runs == 3
    of_settings = power.measured(values, [], finetuning)["test_accuracy"]
    assert of_settings.minimum == pytest.approx(0.02, rel=0.15)


def test_what_is_no_result_of_ours_has_no_spread(tmp_path):
    path = tmp_path / "results.json"
    assert power.read(path) == {}
    for text in "", "[]", "{}", '{"spread": 3}', '{"spread": {"x": {"odd": 1}}}':
        path.write_text(text)
        assert power.read(path) == {}
    path.write_text(json.dumps({"spread": {"x": {"minimum": None, "run": 0, "runs": 2}}}))
    assert np.isnan(power.read(path)["x"].minimum)
    assert set(power.read(power.DEMO)) == {outcome.key for outcome in power.OUTCOMES}


def test_a_plan_says_how_small_an_effect_it_finds(tmp_path):
    said = make("plan", "EFFECT=3", "PROFILE=demo", folder=tmp_path / "study").stdout
    assert "smallest change along a ladder found in 80 of 100 such studies (4 rungs x 4" in said
    assert "spread as in the demo" in said and "3 points of test accuracy after" in said
    fewer, more = (
        float(
            make("plan", "PROFILE=demo", f"SEEDS=0-{n}", folder=tmp_path / "study")
            .stdout.split("test accuracy after finetuning: ")[1]
            .split()[0]
        )
        for n in (3, 11)
    )
    assert more < fewer / 2


@pytest.mark.parametrize("effect", ["0", "x", "-1", "1e3", "1 2", "0.0"])
def test_an_effect_that_is_none_is_one_line(effect, tmp_path):
    made = make("plan", f"EFFECT={effect}", folder=tmp_path / "study")
    assert made.returncode and f"EFFECT={effect}: not a number above 0, such as 2.5" in made.stderr


def test_a_plan_by_a_python_without_the_requirements_says_when_it_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(makefile, "find_spec", lambda name: None)
    words = SimpleNamespace(words={"RUNS": "2"}, ladders={}, seeds=[0], effect=0.0, at="".join)
    assert makefile.power(words) == "echo '  how small an effect it finds is said after make setup'"
