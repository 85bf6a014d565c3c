"""The report's statistics on simulated studies whose truth is known, its claims on made-up minima,
its tables, its figures and its page.
"""

import csv
import html
import io
import itertools
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import run
from simulate import found as verdict_of
from simulate import simulated

from common import files
from eval.report import (
    cells,
    claims,
    curves,
    drawing,
    evidence,
    reading,
    results,
    statistics,
    study,
    styles,
    verdicts,
)
from eval.report.page import Page, Table
from eval.report.panels import Panel
from eval.report.results import Result
from eval.report.sections import head
from eval.report.sections.picture import sized
from eval.report.table import FINETUNED, MEASURED, Value, Values, column_name, summary_csv

FULL = reading.Finetuning("digits", "full", "full", [])


def value(minimum, setting, seed, number, fields, **more):
    """One value of a minimum: what it is stands in `fields`."""
    whose = {"minimum": minimum, "method": setting, "setting": setting, "seed": seed}
    source = {"source": "finetuning"} if fields["kind"] == "finetune" else {}
    return Value(**whose, **source | fields, value=number, **more)


@pytest.mark.parametrize("setting_effect", [0, 1, 3])
@pytest.mark.parametrize(
    "settings, seeds, seed_effect, alike",
    [(3, 5, 1, ""), (3, 10, 3, ""), (4, 5, 1, "twins"), (12, 5, 1, "ladder")],
)
def test_at_most_7_of_100_null_studies_have_any_verdict(
    setting_effect, settings, seeds, seed_effect, alike
):
    rng, false = np.random.default_rng(0), 0
    for _ in range(100):
        values, *labels = simulated(rng, settings, seeds, setting_effect, seed_effect, alike=alike)
        p = [
            statistics.correlation(values[:, x], values[:, y], *labels)["p"]
            for x in range(5)
            for y in range(5, 8)
        ]
        false += (statistics.holm(p) < verdicts.ALPHA).any()
    assert false <= 7


@pytest.mark.parametrize("setting_effect", [0, 1, 3])
@pytest.mark.parametrize("seed_effect", [0, 1])
def test_intervals_of_correlations_cover_what_they_claim(setting_effect, seed_effect):
    """Truth 0 and 0.6, with and without a covariate, 5 and 10 seeds: 92 to 98 of 100."""
    rng, covered = np.random.default_rng(1), []
    for k in range(1200):
        r = 0.6 * (k % 2)
        values, *labels = simulated(rng, 3, 5 + 5 * (k % 4 > 1), setting_effect, seed_effect, r)
        found = statistics.correlation(
            values[:, 0], values[:, 5], *labels, covariate=values[:, 1] if k % 8 > 3 else None
        )
        covered.append(found["low"] <= r <= found["high"])
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.slow
def test_a_real_effect_is_found():
    """r = 0.8 within settings, 3 settings: 10 seeds find it in most studies, 5 in some."""
    rng, found = np.random.default_rng(2), {5: [], 10: []}
    for seeds in found:
        for _ in range(200):
            values, *labels = simulated(rng, 3, seeds, 1, seed_effect=0, r=0.8)
            columns = values[:, 0], values[:, 5], *labels
            found[seeds].append(verdict_of(statistics.correlation(*columns), columns))
    assert np.mean(found[10]) > 0.9 and 0.1 < np.mean(found[5]) < 0.8


@pytest.mark.parametrize("seeds", [3, 5])
def test_paired_t_intervals_cover(seeds):
    rng = np.random.default_rng(4)
    shared = rng.normal(size=(4000, seeds))
    a, b = (shared + 0.5 * rng.normal(size=(4000, seeds)) for _ in range(2))
    low, high = np.array([statistics.t_interval(values)[1:3] for values in a - b]).T
    assert 0.94 <= np.mean((low <= 0) & (0 <= high)) <= 0.96


def test_detectable_difference_has_80_percent_power():
    rng, std = np.random.default_rng(5), 0.7
    effect = statistics.detectable_difference(
        std * np.array([-1, 0, 1, 0, -1, 1]) / np.std([-1, 0, 1, 0, -1, 1], ddof=1)
    )
    values = rng.normal(effect, std, size=(4000, 6))
    assert np.mean([statistics.t_interval(row)[1] > 0 for row in values]) == pytest.approx(
        0.8, abs=0.03
    )
    assert np.isnan(statistics.detectable_difference([1.0])) and np.isnan(
        statistics.detectable_difference([1.0, 1.0])
    )


def test_correlation_by_hand():
    rng = np.random.default_rng(6)
    x, y, z = rng.normal(size=(3, 12))
    one = statistics.correlation(x, y, ["a"] * 12, range(12))
    assert (
        one["r"] == pytest.approx(np.corrcoef(x, y)[0, 1]) and one["df"] == one["df_most"] == 10
    )  # the textbook's n - 2
    shifted = np.repeat([0, 100, -7], 4)
    settings, seeds = np.repeat(list("abc"), 4), np.tile(range(4), 3)
    found = statistics.correlation(x + shifted, y - 3 * shifted, settings, seeds)
    assert (
        found["r"] == pytest.approx(statistics.correlation(x, y, settings, seeds)["r"])
        and found["df_most"] == 8 >= found["df"]
    )
    given = statistics.correlation(x + 50 * z, y - 50 * z, ["a"] * 12, range(12), z)
    residual = [np.polyval(np.polyfit(z, values, 1), z) - values for values in (x, y)]
    assert given["r"] == pytest.approx(np.corrcoef(*residual)[0, 1]) and given["df_most"] == 9


def test_what_a_correlation_cannot_tell():
    x, y = np.arange(6.0), np.array([1, 0, 2, 3, 5, 4.0])
    demo = statistics.correlation(x, y, list("aabbcc"), [0, 1] * 3)
    assert (
        demo["df_most"] == 2
        and np.isnan([demo["low"], demo["high"], demo["p"]]).all()
        and np.isfinite(demo["r"])
    )
    for bad in np.full(6, 1.0), np.append(y[:5], np.inf), np.full(6, np.nan):
        assert np.isnan(statistics.correlation(x, bad, list("aabbcc"), [0, 1] * 3)["r"])
    assert (
        statistics.correlation(x, np.append(y[:5], np.nan), list("aabbcc"), [0, 1] * 3)["n"] == 5
    )  # not measured: left out


def test_infinity_is_the_last_rank():
    np.testing.assert_array_equal(
        statistics.ranks([3, np.inf, 1, np.nan, np.inf]), [2, 3.5, 1, np.nan, 3.5]
    )


def test_holm_by_hand():
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, np.nan]), [0.04, 0.09, 0.09, 1.0])
    assert (
        statistics.median([1, np.nan, np.nan]) == np.inf and statistics.median([1, 2, np.nan]) == 2
    )


def test_pooled_leaves_one_setting_out():
    x, y, settings = (
        np.array([0, 1, 0, 1, 10, 11.0]),
        np.array([1, 0, 1, 0, 11, 10.0]),
        np.array(list("aabbcc")),
    )
    r, without = statistics.pooled(x, y, settings)
    assert (
        r > 0.9 and without[2] == pytest.approx(-1) and len(without) == 3
    )  # one setting makes the whole of it


def made_up(effects, seeds=range(5), noise=0.002):
    """Minima like those of `effects`, which has one a setting, with a little noise on each value,
    the same for all settings of a seed.
    """
    rng = np.random.default_rng(7)
    shifts = {seed: rng.normal() for seed in seeds}
    rows = []
    for mean in effects:
        for seed in seeds:
            factor = 1 + noise * (shifts[seed] + 0.1 * rng.normal())
            changed = {"minimum": f"{mean.setting}-{seed}", "seed": seed}
            rows.append(replace(mean, **changed, value=mean.value * factor))
    return Values(rows)


PUBLISHED = json.loads(study.PUBLISHED.read_text())


def verdicts_of_claims(values, **more):
    """{claim, up to its first bracket: its verdict}."""
    found = claims.claims(values, [], [], PUBLISHED, FULL, **more)
    return {claim["claim"].split(" (")[0]: claim["verdict"] for claim in found}


def test_claims_on_the_published_numbers_themselves():
    """Minima that have the report's own numbers: what it says of them must hold, and what its
    numbers do not bear out must not.
    """
    found = verdicts_of_claims(made_up(evidence.published_values(PUBLISHED)))
    for claim in (
        "SWA generalizes best, then adam, then noisy_adam",
        "Train accuracy ends at 95% or above",
        "Test accuracy is 40.0% to 47.5%",
        "noisy_adam leads under Gaussian noise up to sigma 0.4",
        "SWA leads on masks, then adam, then noisy_adam",
        "SWA leads on FGSM",
    ):
        assert found[claim] == "holds", claim
    # Its curve lies above noisy_adam's from sigma 0.4 on.
    assert found["SWA is flattest"] == "does not hold"
    assert found["SWA moves least in finetuning"] == "cannot tell"  # it published no number
    assert len(found) >= 19


def test_a_setting_stands_for_a_published_method():
    bare = made_up(evidence.published_values(PUBLISHED))
    word = "noisy_adam@sigma_0.1"
    ours = Values(bare.frame.assign(setting=bare.frame["setting"].replace("noisy_adam", word)))
    assert verdicts_of_claims(ours, stands_for={word: "noisy_adam"}) == verdicts_of_claims(bare)
    assert verdicts_of_claims(ours) != verdicts_of_claims(bare)
    # A part of the study may lack it: the method is then one that the study does not have.
    assert verdicts_of_claims(ours, stands_for={"x": "noisy_adam"}) == verdicts_of_claims(ours)
    with pytest.raises(SystemExit, match=f"--stands-for swa={word}: swa is a setting of this"):
        verdicts_of_claims(ours, stands_for={word: "swa"})


def test_claims_change_with_the_numbers():
    swapped = {"swa": "noisy_adam", "noisy_adam": "swa", "adam": "adam"}
    theirs = [
        replace(mean, setting=swapped[mean.setting])
        for mean in evidence.published_values(PUBLISHED)
    ]
    found = verdicts_of_claims(made_up(theirs))
    assert found["SWA generalizes best, then adam, then noisy_adam"] == "does not hold"
    one = verdicts_of_claims(made_up(theirs, [0]))
    assert set(one.values()) == {"cannot tell"}  # one seed tells nothing
    assert "cannot tell" in verdicts_of_claims(made_up(theirs, noise=3)).values()


def test_equality_needs_an_interval_within_its_margin():
    alike = evidence.part("", (-0.01, 0.01), ours=0, low=-0.005, high=0.005)
    assert evidence.decide([alike]) == "holds"
    assert evidence.decide([alike, alike | {"high": 0.02}]) == "cannot tell"
    assert evidence.decide([alike, alike | {"low": 0.02, "high": 0.03}]) == "does not hold"
    assert evidence.decide([alike, alike | {"low": np.nan, "high": np.nan}]) == "cannot tell"


def test_one_counterexample_refutes_every():
    spread = evidence.part("", (0.1, evidence.INF), ours=2, low=0.0, high=4, n=9)
    assert (
        evidence.decide([spread]) == "cannot tell"
        and evidence.decide([spread | {"every": True}]) == "does not hold"
    )
    assert evidence.decide([spread | {"every": True, "low": 0.2}]) == "holds"


def test_a_cell_of_a_table_shows_one_minimum_s_own_interval():
    level = MEASURED | {"source": "x", "split": "test", "name": "half_accuracy_level"}
    lacking = value("a-0", "a", 0, np.nan, level, has_interval=0.9)
    own = value("a-1", "a", 1, 0.5, level, low=0.25, high=np.inf, has_interval=0.9)
    assert cells.cell([lacking, own]) == "0.500 [0.250, never]"
    assert cells.cell([lacking]) == "–"
    assert cells.cell([lacking, replace(own, low=np.nan)]) == "0.500"
    assert cells.cell([replace(own, limit=0.9)]) == "0.500 [0.250, > 0.9]"
    late = [
        value(f"a-{epochs}", "a", 0, epochs, FULL.fields | {"name": "epochs_to_target"}, limit=15)
        for epochs in (np.nan, 3.0, np.inf)
    ]
    assert cells.cell(late) == "> 15 in 1 of 2" and cells.cell(late[2:]) == "> 15"
    distances = [replace(late[0], value=number) for number in (0.1351, 0.1353, 0.1355)]
    assert cells.cell(distances) == "0.13530 ± 0.00020"


def test_differences_between_settings_are_paired_by_seed():
    values = Values(
        value(
            f"{setting}-{seed}",
            setting,
            seed,
            0.5 + seed / 10 + shift + 0.001 * (seed == 1),
            verdicts.PREDICTORS["test_accuracy"][1],
        )
        for setting, shift in (("a", 0), ("b", 0.02))
        for seed in range(3)
    )
    for finetuning in FULL, None:
        found = verdicts.differences(values, finetuning)
        assert len(found) == len(verdicts.PREDICTORS) + bool(finetuning) * len(verdicts.OUTCOMES)
        assert all(list(of_pairs) == [("a", "b")] for of_pairs in found.values())
        clean, noise, *_ = (of_pairs["a", "b"] for of_pairs in found.values())
        assert sized(clean) == "−0.0200 (equal in all seeds: no interval)"
        assert clean.n == 3 and np.isnan(noise.mean) and sized(noise) == "–"


@pytest.mark.parametrize(
    "values, words",
    [
        ({"a": 0.2, "b": 0.5, "c": 0.3}, "last 0.200 (a) to 0.500 (b)"),
        ({"a": 1.0, "b": 1.0}, "last 1.00 in all"),
        ({"a": 0.2, "b": np.nan}, ""),
    ],
)
def test_the_ends_of_a_range_are_named_by_their_settings(values, words):
    assert curves.extremes(values, "last") == words


def test_of_many_settings_each_is_held_beside_the_first():
    assert verdicts.pairs(list("abc")) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert verdicts.pairs(list("abcdef")) == [(letter, "a") for letter in "bcdef"]


def test_no_interval_is_narrower_than_one_image():
    """Four seeds that agree to a hair, of accuracies on 250 images: a hair is not known."""
    values = [0.2, 0.2001, 0.2, 0.2001]
    assert statistics.estimate(values).high - 0.20005 < 0.0002
    found = statistics.estimate(values, step=1 / 250)
    assert (found.low, found.high) == pytest.approx((0.20005 - 0.004, 0.20005 + 0.004))
    wide = [0.1, 0.3, 0.2, 0.25]
    assert statistics.estimate(wide, step=1 / 250) == statistics.estimate(wide)


@pytest.mark.parametrize(
    "numbers, words",
    [
        ((41.6, 36.2, 47.0), "41.6 [36.2, 47.0]"),
        ((0.0354, 0.0264, 0.0444), "0.0354 [0.0264, 0.0444]"),
        ((12.0, -88.0, 112.0), "12 [−88, 112]"),
        ((-0.0001, -0.4, 0.4), "0.00 [−0.40, 0.40]"),
        ((0.5,), "0.500"),
        ((0.0,), "0"),
        ((np.nan, 1, 2), "–"),
        ((1e9, 0.9e9, 1.1e9), "1e+09 [9e+08, 1.1e+09]"),
    ],
)
def test_a_number_and_its_ends_have_one_number_of_digits(numbers, words):
    assert cells.with_ends(*numbers) == words


def test_the_barrier_is_what_lies_above_the_chord():
    t = np.linspace(0, 1, 5)
    assert claims.barrier(t, 1 + 2 * t) == pytest.approx(0) and claims.barrier(
        t, np.array([1, 1, 4, 2, 3.0])
    ) == pytest.approx(2)


def test_a_rise_is_measured_where_other_seeds_have_their_minimum():
    losses = [[3, 1, 2], [3, 1.2, 2.5], [3, 2, 1.0]]
    results = [
        SimpleNamespace(
            data={
                "epoch": np.arange(3),
                "val/loss": np.array(loss),
                "val/accuracy": np.array([0, 0.5, 0.6]),
            }
        )
        for loss in losses
    ]
    assert [rise for rise, _ in claims.after_the_minimum(results)] == pytest.approx([1, 1.3, -1])


def test_the_smallest_lr_is_held_against_the_best_of_the_larger():
    def tried(lr, *accuracies):
        return SimpleNamespace(
            kind="finetune",
            settings={"lr": lr},
            data={"val/accuracy": np.array(accuracies)[:, None]},
        )

    found = claims.smallest_lr(
        [tried(1e-4, 0.5, 0.52, 0.51), tried(1e-3, 0.4, 0.42), tried(1e-2, 0.1, 0.1, 0.1)]
    )
    assert (
        found["part"] == "lr 0.0001 - lr 0.001"
        and found["ours"] == pytest.approx(0.1)
        and found["n"] == 2
    )
    assert evidence.inside(claims.smallest_lr([tried(1e-4, 0.5)])) == "open"


@pytest.mark.parametrize(
    "changes, alike",
    [
        ({}, True),
        ({"task": "letters"}, False),
        ({"mode": "linear_probe"}, False),
        ({"kind": "training"}, False),
    ],
)
def test_only_lrs_of_one_task_and_mode_are_held_against_each_other(changes, alike):
    def file(kind="finetune", task="digits", mode="full"):
        return SimpleNamespace(kind=kind, task=task, attrs={"mode": mode})

    finetuning = replace(FULL, results=[file()])
    assert claims.is_like(finetuning, file(**changes)) == alike


PROBE = reading.Finetuning("digits", "linear_probe", "linear_probe", [])


def measured(names, values, settings, seeds):
    """Values of minima: `values` (n, 8) are those of all predictors, then of all outcomes."""
    fields = [fields for _, fields in verdicts.PREDICTORS.values()]
    fields += [verdicts.outcome_fields(PROBE, outcome) for outcome in verdicts.OUTCOMES]
    return [
        value(name, f"s{setting}", int(seed), number, what)
        for name, row, setting, seed in zip(names, values, settings, seeds)
        for what, number in zip(fields, row)
    ]


def test_sentences_say_what_is_known():
    values, settings, seeds = simulated(np.random.default_rng(8), 3, 10, 1, 0, 0.97)
    names = [f"s{setting}-{seed}" for setting, seed in zip(settings, seeds)]
    rows = measured(names, values, settings, seeds)
    tests = verdicts.family(Values(rows), PROBE)
    assert len(tests) == 15 and tests[0]["verdict"] == "rises"
    assert sum(test["verdict"] != "cannot tell" for test in tests) == 1
    text = verdicts.sentence(tests[:5])
    assert text.startswith("higher with more clean test accuracy (r = +0.9")
    assert "cannot tell for" in text and "n = 30 minima" in text
    assert verdicts.answer(tests, 3).startswith("1 of the 15 pairs")

    epochs = [k for k, row in enumerate(rows) if row.name == "epochs_to_target"]
    rows[epochs[0]] = replace(rows[epochs[0]], value=np.inf)
    late = verdicts.family(Values(rows), PROBE)[5:10]
    assert all(np.isfinite(test["r"]) for test in late)
    assert "1 of which never got there in half of their runs: r of ranks" in verdicts.sentence(late)
    for k in epochs:
        rows[k] = replace(rows[k], value=np.inf)
    late = verdicts.family(Values(rows), PROBE)[5:10]
    assert all(np.isnan(test["r"]) and test["verdict"] == "cannot tell" for test in late)

    small = verdicts.family(Values(row for row in rows if row.seed < 2), PROBE)
    assert {test["verdict"] for test in small} == {"cannot tell"}
    assert "r = " in verdicts.sentence(small[:5])
    needed = (
        "leave 0 degrees of freedom and a verdict needs 5, which with 3 settings takes 4 seeds or "
        "more (SEEDS=0-3)"
    )
    assert needed in verdicts.answer(small, 3)


def test_what_hangs_on_one_seed_is_no_verdict():
    """One bad minimum makes correlations where there are none; fewer outlive its seed."""
    rng, verdict_of_why = np.random.default_rng(9), {"": set(), "it hangs on one seed": set()}
    for _ in range(12):
        values, settings, seeds = simulated(rng, 5, 8, 0, 0, alike="one bad")
        names = [f"s{setting}-{seed}" for setting, seed in zip(settings, seeds)]
        tests = verdicts.family(Values(measured(names, values, settings, seeds)), PROBE)
        for test in tests:
            if test["holm"] < verdicts.ALPHA:
                verdict_of_why[test["why"]].add(test["verdict"])
    assert verdict_of_why == {"": {"rises"}, "it hangs on one seed": {"cannot tell"}}


def test_a_predictor_that_is_noise_carries_no_verdict():
    values, settings, seeds = simulated(np.random.default_rng(8), 3, 10, 1, 0, 0.97)
    names = [f"s{setting}-{seed}" for setting, seed in zip(settings, seeds)]
    rows = measured(names, values, settings, seeds)
    rng, first = np.random.default_rng(10), verdicts.PREDICTORS["test_accuracy"][1]
    clean = list(Values(rows).where(**first))
    for noise, verdict in (0.1, "rises"), (3, "cannot tell"):
        halves = Values(
            replace(row, statistic=half, value=row.value + noise * rng.normal())
            for row in clean
            for half in ("even images", "odd images")
        )
        test = verdicts.family(Values(rows), PROBE, halves)[0]
        assert test["verdict"] == verdict and (test["reliability"] < 0.5) == (noise == 3)
        assert test["why"].startswith("split-half reliability") == (noise == 3)


def passport(**changes):
    """A made-up passport of minimum a-0."""
    three = np.array([0.5, 0.4, 0.6])
    attrs = {"title": "T", "level_units": "1", "variant": "", "batchnorm": "stored"}
    groups = {
        name: attrs | {"measurement": name} for name in ("noise", "curve", "local_energy", "clean")
    }
    groups["clean_recomputed"] = groups["clean"] | {"batchnorm": "recomputed"}
    data = {
        "clean/summary/test/accuracy": three[None],
        "clean_recomputed/summary/test/accuracy": three[None] + 0.1,
        "clean/test/ece": np.array([0.3]),
        "clean/test/ece_se": np.array([0.01]),
        "noise/levels": np.array([0, 0.8]),
        "noise/summary/test/mean_accuracy": three,
        "noise/test/accuracy": np.array([[0.9], [0.1]]),
        "noise/summary/test/half_accuracy_level": three + [0, 0, np.inf],
        "curve/test/trace": np.array([7.0]),
        "local_energy/levels": np.array([0, 0.5, 0.9]),
        "local_energy/summary/train/loss_change": np.array([[0, 0, 0], [1, 0, 0], [50, 0, 0.0]]),
    }
    given = {
        "path": Path("a-0/passport.h5"),
        "kind": "passport",
        "attrs": {"minimum": "a-0", "method": "a", "setting": "a", "seed": 0},
        "settings": {},
        "groups": groups,
        "data": data,
        "minima": ["a-0"],
        "methods": ["a"],
        "settings_of_minima": ["a"],
        "seeds": [0],
    }
    return Result(**given | changes)


def test_values_of_a_study():
    values = reading.values([passport()])

    def number(**fields):
        (result,) = values.where(**fields)
        return result

    clean = number(**MEASURED, source="clean", split="test", name="accuracy")
    assert (clean.value, clean.low, clean.high) == (0.5, 0.4, 0.6)
    assert (clean.minimum, clean.method, clean.setting, clean.seed) == ("a-0", "a", "a", 0)
    assert number(source="clean", batchnorm="recomputed").value == 0.6
    assert number(source="clean", name="ece", statistic="").value == 0.3
    assert number(source="clean", name="ece", statistic="se").value == 0.01
    assert number(source="noise", split="test", name="accuracy").value == 0.5
    level = number(source="noise", split="test", name="half_accuracy_level")
    assert level.high == np.inf and level.limit == 0.8
    assert number(source="noise", name="largest_level").value == 0.8
    assert number(source="curve", split="test", name="trace").value == 7
    assert len(values.where(source="noise", name="relative")) == 0
    part = number(source="local_energy", split="train", name="loss_change", levels="to 0.5")
    assert part.value == 0.5
    assert all(value.words for value in values)


def test_values_are_filtered_by_fields():
    values = reading.values([passport()])
    both = values.where(source=["noise", "curve"])
    assert {value.source for value in both} == {"noise", "curve"}
    assert len(both.where(name="trace")) == 1 and not len(both.where(name="tra"))
    with pytest.raises(KeyError):
        values.where(sauce="noise")
    with pytest.raises(ValueError, match="more than one value of one minimum"):
        values.where(source="clean").by("minimum")  # of which quantity?
    np.testing.assert_array_equal(
        values.aligned(["b-0", "a-0"], source="curve", name="trace"), [np.nan, 7]
    )


def read_csv(text):
    """(rows of a summary.csv, its descriptions)."""
    lines = text.splitlines()
    described = [line for line in lines if line.startswith("#")]
    return list(csv.DictReader(line for line in lines if line not in described)), described


def test_summary_csv_is_the_pivot_of_the_values():
    values = reading.values([passport()])
    text = summary_csv(values)
    (row,), described = read_csv(text)
    assert text.startswith("minimum,method,setting,seed,")
    assert text.splitlines()[1].startswith("a-0,a,a,0,")
    assert row["test_accuracy"] == "0.5" and row["test_accuracy_low"] == "0.4"
    assert row["test_accuracy_recomputed"] == "0.6" and row["test_ece"] == "0.3"
    assert row["noise_test_accuracy"] == "0.5" and row["noise_largest_level"] == "0.8"
    assert row["noise_test_half_accuracy_level_high"] == "inf"
    assert row["curve_test_trace"] == "7" and "noise_test_relative" not in row
    assert row["local_energy_train_loss_change_to_0.5"] == "0.5"
    assert len(described) == len(row) and "# minimum: " in described[0]
    assert all(line.split(": ", 1)[1] for line in described)
    names = [column_name(quantity.fields) for quantity in values.quantities()]
    assert len(set(names)) == len(names)


def test_what_a_minimum_lacks_is_empty_and_what_is_undefined_is_nan():
    fields = MEASURED | {"source": "clean", "split": "test", "name": "accuracy"}
    values = Values(
        [
            value("a-0", "a", 0, np.nan, fields),
            value("a-1", "a", 1, 0.5, fields | {"name": "loss"}),
        ]
    )
    (first, second), _ = read_csv(summary_csv(values))
    assert (first["test_accuracy"], first["test_loss"]) == ("nan", "")
    assert (second["test_accuracy"], second["test_loss"]) == ("", "0.5")


def test_tasks_stand_in_names_where_there_are_several():
    fields = FINETUNED | {"mode": "full", "split": "test", "name": "accuracy"}
    one, other = (
        value("a-0", "a", 0, 0.5, fields | {"task": task}) for task in ("digits", "letters")
    )
    assert "full_test_accuracy" in read_csv(summary_csv(Values([one])))[0][0]
    (row,), _ = read_csv(summary_csv(Values([one, other])))
    assert {"digits_full_test_accuracy", "letters_full_test_accuracy"} <= set(row)


PRINTABLE = ["=cmd|x", "+1", "-1", "@SUM(A1)", "#comment", 'a,"b', "<script>alert(1)</script>"]
HOSTILE = [*PRINTABLE, "\t=1", "\r=1", "a\n=1"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_quoted_in_csv_and_never_a_formula(name):
    fields = MEASURED | {"source": "x", "group": name, "split": "test", "name": "accuracy"}
    row = value(f"{name}-0", name, 0, 0.5, fields, words=f"{name},\n=1")
    text = summary_csv(Values([row]))
    (read,), described = read_csv(text)
    shown = name.replace("\r", " ").replace("\n", " ")
    names = [read[field].lstrip("'") for field in ("minimum", "method", "setting")]
    assert names == [f"{shown}-0", shown, shown]
    assert len(read) == 5 and len(described) == 5
    for cell in csv.reader(io.StringIO(text)):
        assert not any(word.startswith(("=", "+", "-", "@", "\t", "\r")) for word in cell)


@pytest.mark.parametrize(
    "name", [*PRINTABLE, "$x_0", "a$\\frac$b", "&amp;", "{{ 7 * 7 }}", "%s {}"]
)
def test_names_are_text_in_html_and_in_figures(name, tmp_path):
    result = passport(
        data={"epoch": np.arange(3), "train/accuracy": np.array([0.1, 0.5, 0.9])},
        path=tmp_path / name.replace("/", "-"),
    )
    result.label, result.attrs["command"] = name, f"python {name}"
    style = styles.styles([name])
    panels = curves.panels([result], [curves.Column("train", name)], style, {}, ["accuracy"])
    page = Page(tmp_path, name)
    page.lead(name, "warning")
    page.finding(name, name)
    page.heading(name)
    page.paragraph(name)
    table = Table(name, [["", name], [name, 1], [name]], name)
    page.table(table)
    page.picture(name, panels, name, name, [result], legend=style, tables=[table])
    page.write()
    text = (tmp_path / "index.html").read_text()
    assert "<script" not in text and "49" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
    shown = html.unescape(text)
    assert shown.count(name) >= 20
    (svg,) = (tmp_path / "figures").glob("*.svg")
    words = [element.text for element in ElementTree.parse(svg).iter() if element.text]
    assert words.count(name) >= 1  # the legend
    assert any(word.startswith(f"{name}: ") for word in words)  # where one points at the line
    assert len(list((tmp_path / "figures").iterdir())) == 2


def test_distance_at_equal_loss():
    assert reading.value_at_loss(np.array([2, 1, 0.5]), np.array([0, 4, 6.0]), 0.75) == 5
    assert reading.value_at_loss(np.array([2, 1.0]), np.array([0, 4.0]), 3) == 0 and np.isnan(
        reading.value_at_loss(np.array([2, 1.0]), np.array([0, 4.0]), 0.5)
    )


@pytest.mark.filterwarnings("error")
def test_a_way_of_no_length_has_no_straightness():
    """As of a linear probe: nothing but the head moves."""
    still, moved = [[0.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 4.0]]
    for runs, expected in ([1], 0.75), ([0, 1], np.nan):
        data = {"distance/all": np.array(still)[runs], "path/all": np.array(moved)[runs]}
        (quantity,) = reading.straightness(SimpleNamespace(data=data))
        np.testing.assert_equal(quantity["value"], expected)


def test_figures_take_the_colour_of_the_text_around(tmp_path):
    panel = Panel("clean", "r = +0.50: rises", x_label="test accuracy")
    drawn = drawing.picture({"": [panel]}, {})
    for text in drawn.svg, "<svg" + drawn.panels[""][0]:
        assert text.startswith("<svg") and drawing.INK not in text and "currentColor" in text
    assert "r = +0.50: rises" in drawn.svg
    assert drawing.picture({"": [panel]}, {}) == drawn


def test_images_that_stand_both_in_train_and_test_are_said_in_the_report(tmp_path):
    said = []
    for twice in 0, 3:
        pack = made_up_pack(tmp_path / "pack.h5", [0, 0, 1, 2], '["a", "b"]', "/data/x", twice)
        said.append(study.describe_pack(pack))
    assert said == [
        f"x (2 classes at 8 px; 2 train, 1 val, 1 test images{more})"
        for more in ("", ", 3 of which are also in train or val")
    ]


MADE_UP = dict.fromkeys(("code", "commit", "device", "command", "versions"), "made up")
OF_ADAM = {"minimum": "adam-0", "method": "adam", "setting": "adam", "seed": 0}


def write(path, data, groups=None, /, **attrs):
    """A file of results: `data` {path: array}, `groups` {name: attributes}; None is left out."""
    with files.write(path) as file:
        for name, array in data.items():
            file[name] = np.asarray(array)
        for name, attributes in (groups or {}).items():
            file.require_group(name).attrs.update(attributes)
        attrs = {"settings": "{}"} | MADE_UP | attrs
        file.attrs.update({name: value for name, value in attrs.items() if value is not None})
    return path


def made_up_pack(path, split, classes, source, duplicates=0):
    """A pack without a pixel."""
    count = len(split)
    data = {"images": np.zeros((count, 0, 0, 3), np.uint8), "labels": np.zeros(count, np.int64)}
    attrs = {"classes": classes, "source": source, "image_size": 8, "duplicates": duplicates}
    data["split"] = np.array(split, np.uint8)
    return write(path, data, kind="pack", fingerprint="made up", **attrs)


def training(path, val=None, **changes):
    """A small file of pretraining, with accuracy `val` at its end where it was measured."""
    data = {"epoch": np.arange(2), "train/accuracy": [0.1, 0.9], "train/loss": [2.0, 0.1]}
    if val:
        data |= {"val/accuracy": [0.1, val], "val/loss": [2.0, 0.1]}
    attrs = OF_ADAM | {"kind": "training", "target": 0.95, "epoch_target_reached": np.nan}
    return write(path, data, **attrs | changes)


@pytest.mark.parametrize("moved, named", [(0.016, True), (0.051, False), (None, False)])
def test_an_average_beside_its_last_iterate_is_no_other_minimum(moved, named, tmp_path):
    words = {} if moved is None else {"distance_from_last": moved}
    reached = {"epoch_target_reached": 1.0}
    kept = [results.load(training(tmp_path / "training.h5", val=0.9, **reached | words))]
    notes = [note for note in study.Study(kept, [], []).notes if "not another minimum" in note]
    assert len(notes) == named
    assert not named or "adam-0 1.6%" in notes[0] and "5% of its norm" in notes[0]


@pytest.mark.parametrize("missing, said", [(2, 2), (6, 6), (7, 1), (90, 1)])
def test_of_many_missing_files_one_is_named_and_the_rest_counted(missing, said, tmp_path):
    there = training(tmp_path / "training.h5", val=0.9)
    gone = [tmp_path / f"{k}.h5" for k in range(missing)]
    kept, _, problems = results.read([there, *gone], [], partial=True)
    assert [result.path for result in kept] == [there]
    assert len(problems) == said and "0.h5" in problems[0]
    assert said > 1 or f"0.h5 and {missing - 1} other files are not there" in problems[0]
    with pytest.raises(SystemExit, match="PARTIAL=1"):
        results.read([there, *gone], [], partial=False)


# {setting: method} of a made-up study, in an order that is not the page's.
METHODS = {
    "swa/last": "swa",
    "noisy_adam@sigma_0.1": "noisy_adam",
    "adam": "adam",
    "noisy_adam@sigma_0.05": "noisy_adam",
    "swa": "swa",
    "noisy_adam": "noisy_adam",
}
SETTINGS = [
    "adam",
    "noisy_adam",
    "noisy_adam@sigma_0.05",
    "noisy_adam@sigma_0.1",
    "swa",
    "swa/last",
]
SEEDS = range(3)
FINETUNINGS = [("letters", "full"), ("digits", "full@lr_3e-4"), ("digits", "full")]  # task, mode


def minimum_of(setting, seed):
    """As scripts name it: swa-0, swa-0/last."""
    run, slash, last = setting.partition("/")
    return f"{run}-{seed}{slash}{last}"


def made_up_passport(path, rng, **whose):
    """Clean images, and the perturbations that verdicts and claims are about."""
    attrs = {"variant": "", "batchnorm": "stored", "interval": "made up", **MADE_UP}
    data, groups = {}, {}
    names = "clean", *evidence.PERTURBATIONS, "local_energy_recomputed"
    for name, largest in zip(names, (0, 1, 0.8, 0.03, 1, 1)):
        words = {"title": name.replace("_", " "), "source": "S", "level": "x", "level_units": "1"}
        groups[name] = attrs | words | {"measurement": name.removesuffix("_recomputed")}
        groups[name]["batchnorm"] = "recomputed" if "recomputed" in name else "stored"
        levels = np.linspace(0, largest, 11) if largest else np.zeros(1)
        data[f"{name}/levels"] = levels
        for split in "train", "test":
            clean, fall = 0.98 + 0.005 * rng.normal(), 2 + 0.1 * rng.normal()
            accuracy = clean * np.exp(-fall * levels / (largest or 1))
            curves = {
                "accuracy": accuracy,
                "loss": 1 - accuracy,
                "accuracy_relative": accuracy / accuracy[0],
                "loss_change": accuracy[0] - accuracy,
            }
            for curve, values in curves.items():
                summary = values[:, None] + [0, -0.01, 0.01]
                summary = summary.clip(0, 1) if curve == "accuracy" else summary
                data[f"{name}/summary/{split}/{curve}"] = summary
                data[f"{name}/summary/{split}/mean_{curve}"] = summary.mean(0)
            for curve in "accuracy", "loss":
                data[f"{name}/{split}/{curve}"] = curves[curve][:, None]
    settings = json.dumps({"images": 100, "names": list(groups)})
    return write(path, data, groups, kind="passport", settings=settings, **whose)


def made_up_finetuning(path, rng, **attrs):
    """Two runs of four epochs."""
    data = {"epoch": np.arange(4), "epochs_to_target": 2 + 0.1 * rng.normal(size=2)}
    for split in "train", "test":
        accuracy = np.array([0.1, 0.6, 0.96, 0.99]) + 0.002 * rng.normal(size=(2, 1))
        data |= {f"{split}/accuracy": accuracy, f"{split}/loss": 1.1 - accuracy}
    for name in "distance", "distance_relative", "path":
        data[f"{name}/all"] = np.arange(4) * (1 + 0.1 * rng.normal(size=(2, 1)))
    return write(path, data, kind="finetune", target=0.95, **attrs)


def made_up_line(path, minima, settings, shared_start, **more):
    """A comparison of two minima."""
    data = {}
    for place, split in itertools.product(("path", "path_recomputed"), ("train", "test")):
        data[f"{place}/t"] = np.linspace(0, 1, 3)
        data |= {f"{place}/{split}/loss": [1.0, 3, 1], f"{place}/{split}/accuracy": [0.9, 0.1, 0.9]}
    lists = {
        "minima": minima,
        "methods": [METHODS[setting] for setting in settings],
        "settings_of_minima": settings,
        "seeds": [0, 1],
    }
    attrs = {name: json.dumps(words) for name, words in lists.items()}
    attrs |= {"comparison": "line", "classes": 10, "shared_start": shared_start, "seed": 0}
    return write(path, data, kind="comparison", **attrs, **more)


def made_up_study(folder, settings, finetunings):
    """Files as the scripts write them, each in its place; returns their paths.

    Values are drawn from the words that they are of: they do not depend on what else there is.
    """
    paths = []
    for setting, seed in itertools.product(settings, SEEDS):
        minimum, method = minimum_of(setting, seed), METHODS[setting]
        rng = np.random.default_rng([seed, *setting.encode()])
        whose = {"minimum": minimum, "method": method, "setting": setting, "seed": seed}
        place, weights = folder / minimum, f"sha256 of {minimum}"
        if setting != "swa/last":
            reached = {"epoch_target_reached": 1.0}
            paths.append(training(place / "training.h5", val=0.9, **reached | whose))
        paths.append(made_up_passport(place / "passport.h5", rng, weights=weights, **whose))
        for task, mode in finetunings:
            attrs = {"task": task, "mode": "full", "mode_setting": mode} | whose
            given = json.dumps({"minimum": weights, "lr": len(mode)})
            path = place / task / f"{mode}.h5"
            paths.append(made_up_finetuning(path, rng, settings=given, weights=weights, **attrs))
    for pair in itertools.combinations(settings, 2):
        minima = [minimum_of(setting, seed) for seed, setting in enumerate(pair)]
        names = [name.replace("/", "-") for name in minima]
        path = folder / "--".join(names) / "line.h5"
        paths.append(made_up_line(path, minima, list(pair), shared_start=False))
    return paths


def report(out, *arguments):
    """The report in this process: its `page` as text, `rows` of its table, `found`: its JSON."""
    with pytest.MonkeyPatch.context() as patch:
        run(patch, "eval.report", "--out", out, *arguments)
    rows, _ = read_csv((out / "summary.csv").read_text())
    return SimpleNamespace(
        page=html.unescape((out / "index.html").read_text()),
        rows=rows,
        found=json.loads((out / "results.json").read_text()),
    )


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    """A made-up study of several settings of one method: its folder, its files, and what `report`
    gives.

    The files stand in a list, a line each, in a folder with a blank in its name.
    """
    folder = tmp_path_factory.mktemp("made up study")
    paths = made_up_study(folder, list(METHODS), FINETUNINGS)
    listed = folder / "files.txt"
    listed.write_text("\n".join(map(str, paths)) + "\n\n")
    return SimpleNamespace(
        paths=paths, folder=folder, **vars(report(folder / "report", f"@{listed}"))
    )


@pytest.mark.slow
def test_settings_of_one_method_stand_side_by_side(side_by_side):
    page, rows, found = side_by_side.page, side_by_side.rows, side_by_side.found
    table = page[page.index("Settings side by side</h2>") :]
    table = table[table.index("Every setting: robustness and finetuning") :]
    header = table[: table.index("</tr>")]
    assert re.findall(r"<th class=\"\w*\"><a[^>]*>([^<]+)</a></th>", header) == SETTINGS
    assert [(row["minimum"], row["method"], row["setting"]) for row in rows] == [
        (minimum_of(setting, seed), METHODS[setting], setting)
        for setting in SETTINGS
        for seed in SEEDS
    ]
    assert "noisy_adam@sigma_0.05 − adam" in page  # six settings: each beside the first
    assert "Not shown: its claims are shown where a study is on ImageNet's images" in page
    assert found["claims"] == []
    assert {test["df_most"] for test in found["verdicts"]} == {len(rows) - len(SETTINGS) - 1}
    assert "n = 3 adam, 3 noisy_adam, 3 noisy_adam@sigma_0.05" in page
    (control,) = {
        (*file["methods"], *file["settings_of_minima"])
        for file in found["files"]
        if file["minima"] == ["swa-0/last"]
    }
    assert control == ("swa", "swa/last")


def test_claims_are_about_the_original_report_s_settings_alone(tmp_path):
    """What else a study holds, the control and other settings of its methods, changes none."""
    found = []
    for name, settings in ("all", SETTINGS), ("own", ["adam", "noisy_adam", "swa"]):
        paths = made_up_study(tmp_path / name, settings, [("digits", "full")])
        kept, _, _ = results.read(paths, [], partial=False)
        found.append(study.Study(kept, [], []))
    everything, own = found
    assert json.dumps(everything.claims) == json.dumps(own.claims)
    assert everything.tests[0]["df_most"] == 11 and own.tests[0]["df_most"] == 5
    (crossed,) = [claim for claim in own.claims if claim["claim"].startswith("Every straight")]
    assert crossed["parts"][0]["n"] == 3  # pairs


@pytest.mark.slow
def test_tasks_and_mode_words_stand_apart(side_by_side):
    page, rows, found = side_by_side.page, side_by_side.rows, side_by_side.found
    for task, mode in FINETUNINGS:
        assert f"test accuracy ({mode} on {task} finetuning)" in page
        assert f"{task}/{mode}.h5, 2 runs a minimum" in page
    for row in rows:
        numbers = [row[f"{task}_{mode}_test_accuracy"] for task, mode in FINETUNINGS]
        assert all(numbers) and len(set(numbers)) == 3
    assert {(test["task"], test["mode"]) for test in found["verdicts"]} == {("digits", "full")}
    assert not found["notes"]  # modes and tasks differ by design


def test_a_minimum_that_was_not_finetuned_in_one_way_is_named(tmp_path):
    paths = made_up_study(tmp_path, ["adam", "swa"], FINETUNINGS)
    gone = tmp_path / "swa-1" / "letters" / "full.h5"
    kept, _, _ = results.read([path for path in paths if path != gone], [], partial=False)
    (note,) = study.Study(kept, [], []).notes
    assert note == "The study is not finished: swa-1 has no finetune file of full on letters."


def test_colours_are_of_a_setting_and_markers_of_its_method():
    methods = {setting: METHODS[setting] for setting in SETTINGS}
    style = styles.shades(methods)
    assert list(style) == SETTINGS
    assert len({look["color"] for look in style.values()}) == len(SETTINGS)
    assert len({(methods[setting], look["marker"]) for setting, look in style.items()}) == 3
    assert style["adam"] == styles.styles(["adam"])["adam"]  # alone: the colour itself


def test_numbers_in_names_are_sorted_as_numbers():
    words = ["adam@lr_1e-2", "adam@epochs_12", "adam", "adam@epochs_4", "adam@lr_5e-4", "adamw"]
    assert sorted(words, key=results.natural) == [
        "adam",
        "adam@epochs_4",
        "adam@epochs_12",
        "adam@lr_5e-4",
        "adam@lr_1e-2",
        "adamw",
    ]


def test_a_list_holds_flags_too_and_a_missing_one_is_one_line(tmp_path, monkeypatch, capsys):
    pack = made_up_pack(tmp_path / "a pack.h5", [0, 1, 2], '["a"]', "made up images")
    tuned = training(tmp_path / "tune" / "adam@lr_1e-2-0" / "training.h5", val=0.9)
    listed, words = tmp_path / "the list", ["--pack", pack, "--tuned", tuned]
    words += [training(tmp_path / "a folder" / "training.h5")]
    listed.write_text("\n".join(map(str, words)) + "\n\n")
    page = report(tmp_path / "listed", f"@{listed}").page
    assert "made up images (1 classes" in page and "Tuning: training-adam" in page
    assert report(tmp_path / "named", *words).page == page
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, "eval.report", "--out", tmp_path / "other", f"@{tmp_path}/none")
    assert refused.value.code == 2 and not (tmp_path / "other").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/none" in line and "No such file" in line


def test_files_of_different_weights_of_one_minimum_are_named(tmp_path, capsys):
    """As where the weights of two seeds were swapped in a study that went on."""
    show = runpy.run_module("eval.report.__main__", run_name="imported")["show"]
    paths = made_up_study(tmp_path, ["adam"], [("digits", "full")])
    kept, _, _ = results.read(paths, [], partial=False)
    before = study.Study(kept, [], [])
    show(before)
    assert not before.notes and not capsys.readouterr().err

    passport = tmp_path / "adam-1" / "passport.h5"
    swapped = tmp_path / "adam-1" / "digits" / "full.h5"
    (made,) = [result for result in kept if result.path == swapped]
    made.attrs["weights"] = "sha256 of adam-2"
    after = study.Study(kept, [], [])
    (note,) = after.notes
    both = f"{passport} and {swapped} (both of adam-1)"
    assert note.startswith(f"Made from different weights of one minimum: {both}. Make the older")
    page = Page(tmp_path, "")
    head.add_warnings(after, page)
    assert page.top[-1] == {"template": "paragraph.html", "text": note, "kind": "warning"}
    show(after)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"made from different weights: {both}; make the older again"


@pytest.mark.parametrize(
    "attrs, expected",
    [
        ({"kind": "passport", "weights": "x"}, "x"),
        ({"kind": "training", "weights": "x"}, "x"),
        ({"kind": "finetune", "weights": "x"}, "x"),
        ({"kind": "finetune"}, ""),  # of an older version
    ],
)
def test_the_weights_that_a_file_was_made_from(attrs, expected, tmp_path):
    of_finetuning = {"task": "digits", "mode": "full", "mode_setting": "full"}
    path = write(tmp_path / "x.h5", {}, **OF_ADAM | of_finetuning | attrs)
    assert results.load(path).weights == expected


def test_what_was_tuned_is_shown_by_its_setting(tmp_path):
    tried = []
    for word, best in ("adam@lr_1e-3", 0.8), ("adam@lr_1e-2", 0.9), ("swa@swa-lr_1e-3", 0.7):
        whose = {"method": word.partition("@")[0], "setting": word, "minimum": f"{word}-0"}
        tried.append(training(tmp_path / "tune" / word / "training.h5", val=best, **whose))
    flags = [word for path in tried for word in ("--tuned", path)]
    made = report(tmp_path / "report", *flags, training(tmp_path / "training.h5"))
    page = made.page
    assert page.index("Tuning: training-adam</h2>") < page.index("Tuning: training-swa</h2>")
    table = page[page.index("Tuning: training-adam</h2>") :]
    assert table.index("adam@lr_1e-2</td>") < table.index("adam@lr_1e-3</td>")
    assert len(made.rows) == 1  # what was tried is no minimum


def test_a_report_of_hostile_names(tmp_path, monkeypatch):
    method, minimum, device = "=cmd|x", '<script>alert("1,2")</script>', "<b>$x_1$</b>"
    path = training(
        tmp_path / "x.h5",
        val=0.9,
        method=method,
        setting=method,
        minimum=minimum,
        device=device,
        command=minimum,
    )
    other = training(tmp_path / "y.h5", val=0.9, minimum=f"{minimum}2")
    out = tmp_path / "out"
    run(monkeypatch, "eval.report", "--out", out, "--profile", minimum, path, other)
    page = (out / "index.html").read_text()
    assert "<script" not in page and "<b>$" not in page
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    assert text.count(minimum) >= 4 and method in text and device in text
    svg = ElementTree.parse(out / "figures" / "pretraining.svg")
    assert method in [element.text for element in svg.iter()]
    rows, _ = read_csv((out / "summary.csv").read_text())
    assert {(row["minimum"], row["method"], row["setting"]) for row in rows} == {
        (minimum, "'=cmd|x", "'=cmd|x"),
        (f"{minimum}2", "adam", "adam"),
    }
    assert json.loads((out / "results.json").read_text())["profile"] == minimum


def test_what_a_minimum_is_stands_in_its_file_and_not_in_its_folder(tmp_path):
    path = training(tmp_path / "a-1--b" / "x.h5", method="swa", setting="swa/last", seed=7)
    result = results.load(path)
    assert (result.minimum, result.methods, result.label) == ("adam-0", ["swa"], "swa/last")
    assert result.seeds == [7]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"kind": "pack"}, "not a result of the study"),
        *(
            (
                {name: None, "kind": kind},
                f"has no attribute '{name}': made by an older version of basins; make the study "
                "anew in another folder: make all A=FOLDER",
            )
            for kind, name in [
                ("training", "method"),
                ("training", "setting"),
                ("passport", "minimum"),
                ("finetune", "mode_setting"),
                ("comparison", "settings_of_minima"),
            ]
        ),
    ],
)
def test_what_is_no_result_is_one_line(changes, words, tmp_path):
    others = {"task": "t", "mode": "full", "mode_setting": "full", "comparison": "line"}
    lists = {"minima": '["a", "b"]', "methods": '["a", "b"]', "seeds": "[0, 1]"}
    path = training(tmp_path / "training.h5", **others | lists | changes)
    with pytest.raises(SystemExit) as refused:
        results.load(path)
    assert str(refused.value).startswith(f"{path}: {words}") and "\n" not in str(refused.value)


def test_a_setting_that_was_not_measured_on_val_is_named(tmp_path, capsys):
    good, bad = (training(tmp_path / name) for name in ("good.h5", "bad.h5"))
    with pytest.raises(SystemExit, match="bad.h5: has no accuracy on val"):
        results.read([good], [bad], partial=False)
    kept, tuned, problems = results.read([good], [bad], partial=True)
    assert [result.path for result in kept] == [good] and not tuned and len(problems) == 1
    assert "left out: " in capsys.readouterr().err
