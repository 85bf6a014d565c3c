"""Ladders: contrasts by hand, verdicts on made-up minima whose truth is known, what is refused and
said, and how often simulated studies are judged wrong.
"""

import itertools
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import simulate_ladders
from scipy import stats

from eval.report import (
    agreements,
    claims,
    contrasts,
    evidence,
    halves,
    ladders,
    reading,
    reliability,
    statistics,
    study,
    verdicts,
)
from eval.report import fixed_in_advance as fixed
from eval.report.table import Value, Values

FULL = reading.Finetuning("digits", "full", "full", [])
LR = ["adam@lr_5e-4", "adam@lr_7e-4", "adam", "adam@lr_2e-3"]
NOISE = ["adam", "noisy@sigma_0.05", "noisy@sigma_0.1", "noisy@sigma_0.2"]
BOTH = {"lr": LR, "noise": NOISE}
KEYS = [outcome.key for outcome in fixed.OUTCOMES]


def climbed(moves, seeds=range(4), noise=0.02, changes=(0.0,) * 4):
    """Values of minima, {setting: height}: every measure rises from 1 by the height, and each
    outcome from its own start by the height times its entry of `changes`; with noise.
    """
    rng, rows = np.random.default_rng(0), []
    starts = {"test_accuracy": 0.5, "epochs_to_target": 4, "distance_at_equal_loss": 0.1}
    for (setting, height), seed in itertools.product(moves.items(), seeds):
        whose = {"method": "adam", "setting": setting, "seed": seed}
        whose["minimum"] = f"{setting}-{seed}"

        def add(fields, number, whose=whose, **more):
            number = float(number + noise * rng.normal())
            rows.append(Value(**whose, **fields, value=number, **more))

        for measure in fixed.MEASURES:
            add(measure.fields | {"batchnorm": "recomputed"}, 1 + height)
        for outcome, change in zip(fixed.OUTCOMES, changes):
            fields = {"source": "finetuning"} | FULL.fields | outcome.fields
            add(fields, starts.get(outcome.key, 0.3) + change * height, limit=8)
        for covariate in fixed.TRAIN_LOSS, fixed.CLEAN_ACCURACY:
            add(covariate.fields | {"batchnorm": "recomputed"}, 0.7)
    return Values(rows)


def heights(*steps):
    """{setting: height} of LR and NOISE, whose rungs lie `steps` apart; they share adam, at 0."""
    lr, noise = steps
    return {setting: lr * (k - 2) for k, setting in enumerate(LR)} | {
        setting: noise * k for k, setting in enumerate(NOISE)
    }


def told(found, outcome="test_accuracy"):
    """{ladder: its row of one outcome}."""
    return {ladder.name: ladder.outcomes[KEYS.index(outcome)] for ladder in found.ladders}


# The arithmetic.


def test_a_change_is_the_least_squares_line_from_first_to_last_rung():
    assert contrasts.change(np.array([[0, 1, 2, 3.0]])) == pytest.approx([3])
    # By hand: ranks -1.5 -0.5 0.5 1.5, whose squares add up to 5: 3 (0.5 x 4 + 1.5 x 9 - 0.5) / 5.
    assert contrasts.change(np.array([[0, 1, 4, 9.0]])) == pytest.approx([9])
    values = np.random.default_rng(0).normal(size=(3, 6))
    lines = [5 * np.polyfit(range(6), row, 1)[0] for row in values]
    assert contrasts.change(values) == pytest.approx(lines)


def test_a_bend_is_the_parabola_s_middle_above_the_chord_of_its_ends():
    straight, bent = np.arange(5.0), np.array([0, 3, 4, 3, 0.0])
    assert contrasts.bend(np.stack([straight, bent, 2 * straight + bent])) == pytest.approx(
        [0, 4, 4]
    )
    assert np.isnan(contrasts.bend(np.zeros((2, 2)))).all()  # two rungs cannot bend


def test_what_remains_given_a_covariate_is_the_analysis_of_covariance():
    rng = np.random.default_rng(1)
    y, z = rng.normal(size=(2, 3, 5))
    seeds, ranks = np.repeat(np.eye(3), 5, axis=0), np.tile(np.arange(5.0), 3)
    design = np.column_stack([seeds, seeds * ranks[:, None], z.ravel()])
    fitted = np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
    remains, share = contrasts.given(y, z)
    assert remains == pytest.approx(4 * fitted[3:6]) and 0 < share < 1
    # All of it is the covariate's: nothing remains; and along the line alone there is no slope.
    assert contrasts.given(3 * z, z)[0] == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.isnan(contrasts.given(y, np.tile(np.arange(5.0), (3, 1)))[0]).all()


def test_per_unit_is_the_ratio_of_mean_changes_with_the_errors_of_both():
    outcome, measure = np.array([2, 4, 3.0]), np.array([1, 3, 2.0])
    assert contrasts.per_unit(outcome, measure).mean() == pytest.approx(1.5)
    # Proportional seed by seed: the ratio is known, however much the seeds differ.
    assert contrasts.per_unit(3 * measure, measure) == pytest.approx([3, 3, 3])
    rng = np.random.default_rng(2)
    x, y = rng.normal(5, 1, size=(2000, 6)), rng.normal(5, 0.2, size=(2000, 6))
    errors = [contrasts.per_unit(a, b).std(ddof=1) / np.sqrt(6) for a, b in zip(y, x)]
    ratios = y.mean(1) / x.mean(1)
    assert np.mean(errors) == pytest.approx(ratios.std(), rel=0.1)


def test_slopes_within_seeds():
    x = np.array([[0, 1, 2], [5, 6, 9], [1, 1, 1.0]])
    assert contrasts.slopes(x, 7 + 2 * x)[:2] == pytest.approx([2, 2])
    assert np.isnan(contrasts.slopes(x, x)[2])  # the third seed did not move


def test_estimates_are_student_s():
    values = np.random.default_rng(3).normal(0.5, 1, 7)
    found, scipy_test = statistics.estimate(values), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(scipy_test.pvalue)
    assert (found.low, found.high) == pytest.approx(scipy_test.confidence_interval(0.95))
    assert (found.low_90, found.high_90) == pytest.approx(scipy_test.confidence_interval(0.9))


@pytest.mark.parametrize(
    "values, why",
    [
        ([], "n = 0: no interval"),
        ([1.0, 2.0], "n = 2: no interval"),
        ([0.3, 0.3, 0.3, 0.1 + 0.2], "equal in all seeds: no interval"),
        ([0.0, 0.0, 0.0], "equal in all seeds: no interval"),
        ([1.0, np.inf, 2.0], "not finite: no interval"),
    ],
)
def test_no_interval_shrinks_to_a_point(values, why):
    found = statistics.estimate(values)
    assert found.why == why and np.isnan([found.low, found.high, found.low_90, found.p]).all()
    assert np.isnan(statistics.t_interval(values)[1:3]).all()


@pytest.mark.parametrize("margin", [0.3, 0.6, 1.0, 2.0])
def test_no_more_than_is_two_one_sided_tests(margin):
    rng, inside = np.random.default_rng(4), []
    for _ in range(200):
        values = rng.normal(0.1, 0.5, 6)
        p = [
            stats.ttest_1samp(values, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(values, margin, alternative="less").pvalue,
        ]
        found = contrasts.stays_within(statistics.estimate(values), [], margin)
        assert found == (max(p) < 0.05)
        inside.append(found)
    assert any(inside)


def test_permuting_rungs_takes_slopes_of_seeds_for_an_effect_and_a_line_for_one():
    line, rng = np.arange(6.0), np.random.default_rng(5)
    assert contrasts.permuted(line + rng.normal(size=(4, 6))) < 0.01
    flat = rng.normal(size=(4, 6))
    assert contrasts.permuted(flat) == contrasts.permuted(flat) > 0.05
    steep = np.outer([9, 8, -1, -2], line) + flat
    assert contrasts.permuted(steep) < 0.01 and statistics.estimate(contrasts.change(steep)).p > 0.1


# One verdict.


def test_an_effect_must_outlive_any_seed():
    one_seed_carries_it = [1.0, 1.1, 0.9, 0.3]
    assert statistics.estimate(one_seed_carries_it).p < 0.02
    assert ladders.judge(one_seed_carries_it, 0.02, 0.1) == (
        ladders.CANNOT_TELL,
        "it hangs on one seed",
    )
    sure = [1.0, 1.1, 0.9, 1.2]
    assert ladders.judge(sure, 0.01, 0.1) == (ladders.RISES, "")
    assert ladders.judge([-change for change in sure], 0.01, 0.1) == (ladders.FALLS, "")
    assert ladders.judge(sure, 0.06, 0.1)[0] == ladders.CANNOT_TELL  # Holm
    assert ladders.judge(sure, 0.01, 5)[0] == ladders.RISES  # small, and told all the same


def test_a_null_must_outlive_any_seed():
    tight = [0.01, -0.01, 0.02, -0.015]
    assert ladders.judge(tight, 1.0, 0.06) == (ladders.NO_MORE, "")
    assert ladders.judge(tight, 1.0, 0.02)[0] == ladders.CANNOT_TELL
    # Without the last seed the interval is wider than with it.
    loose = [0.01, 0.05, -0.03, 0.01]
    assert contrasts.stays_within(statistics.estimate(loose), [], 0.06)
    assert ladders.judge(loose, 1.0, 0.06)[0] == ladders.CANNOT_TELL


def test_the_simulated_rule_is_the_rule():
    changes = np.random.default_rng(6).normal(2, 1, size=(300, 5))
    fast = contrasts.found(changes, 0.05 / 8)
    slow = [
        ladders.judge(row, 8 * statistics.estimate(row).p, 1e-9)[0] == ladders.RISES
        for row in changes
    ]
    np.testing.assert_array_equal(fast, slow)
    assert 0.1 < fast.mean() < 0.9


# A whole ladder.


def test_a_ladder_that_moves_both_rises_and_one_that_moves_nothing_says_nothing():
    still = climbed(heights(0.3, 0.0), changes=(0.4, 0, 0, 0))
    found = agreements.findings(still, BOTH, FULL)
    lr, noise = found.ladders
    assert lr.moved == [measure.key for measure in fixed.MEASURES] and noise.moved == []
    rows = told(found)
    assert rows["lr"].verdict == ladders.RISES and rows["lr"].along.change.mean == pytest.approx(
        0.36, abs=0.05
    )
    assert rows["noise"].verdict == ladders.CANNOT_TELL
    assert rows["noise"].why == "the ladder moved no measure of robustness"
    assert rows["lr"].better == "better" and rows["noise"].better == ""
    becomes = {row.measure.key: row.words for row in lr.measures}
    assert becomes == {
        "gaussian_noise": "less robust",  # more loss is gained
        "square_mask": "more robust",  # a larger square is needed
        "fgsm": "less robust",
        "local_energy": "less robust",
    }
    assert "minima become more robust by side of the masked square" in ladders.robustness(lr)
    assert "says nothing about it" in ladders.robustness(noise)


def test_sizes_are_in_the_units_of_their_outcome():
    accuracy, epochs, *_ = fixed.OUTCOMES
    assert accuracy.size(0.06) == "6 points" and epochs.size(1) == "1 epoch"
    assert epochs.size(-1.5, -2, 1) == "−1.5 [−2.0, 1.0] epochs"


def test_a_null_is_an_answer_where_the_ladder_moved_robustness():
    found = agreements.findings(climbed(heights(0.3, 0.3), noise=0.01), BOTH, FULL)
    assert [row.words for row in told(found).values()] == ["no more than 6 points"] * 2
    assert all(row.bound < 0.06 for row in told(found).values())
    verdicts_of_pair = {row.verdict for row in found.agreements if row.outcome == "test_accuracy"}
    assert verdicts_of_pair == {agreements.NO_DIFFERENCE}


def test_holm_corrects_over_ladders_and_outcomes():
    found = agreements.findings(climbed(heights(0.3, 0.2), changes=(0.4, 1, 0, 0)), BOTH, FULL)
    rows = [row for ladder in found.ladders for row in ladder.outcomes]
    assert len(rows) == 8
    expected = statistics.holm([row.along.change.p for row in rows])
    assert [row.holm for row in rows] == pytest.approx(expected)


@pytest.mark.parametrize(
    "rungs, seeds, words", [(3, 5, "3 rungs x 5 seeds"), (4, 3, "4 rungs x 3 seeds")]
)
def test_too_few_are_shown_without_a_verdict(rungs, seeds, words):
    values = climbed(heights(0.3, 0.3), range(seeds), changes=(0.4, 0, 0, 0))
    (row,) = told(agreements.findings(values, {"lr": LR[-rungs:]}, FULL)).values()
    assert row.verdict == ladders.CANNOT_TELL
    assert row.why == f"{words}: a verdict takes 4 x 4 or more"
    assert row.along.change.mean > 0.1 and row.along.change.p < 0.05


def test_a_seed_that_lacks_a_rung_is_left_out_and_named():
    values = climbed(heights(0.3, 0.3), range(6), changes=(0.4, 0, 0, 0))
    frame = values.frame[values.frame["minimum"] != "adam@lr_7e-4-5"]
    (row,) = told(agreements.findings(Values(frame), {"lr": LR}, FULL)).values()
    assert row.along.seeds == [0, 1, 2, 3, 4] and row.along.left_out == {5: "adam@lr_7e-4"}
    assert list(row.along.without) == row.along.seeds and row.along.by_seed.shape == (5, 4)


def test_a_ladder_without_minima_is_shown_as_such():
    (ladder,) = agreements.findings(
        climbed(heights(0.3, 0.3)), {"x": ["a", "b", "c"]}, FULL
    ).ladders
    assert ladder.moved == [] and ladder.outcomes[0].why.startswith("3 rungs x 0 seeds")


def changed(values, change, **wanted):
    """`values` in which `change` was made to the rows that are as `wanted`."""
    rows = list(values)
    chosen = set(values.where(**wanted).frame.index)
    assert chosen
    return Values([change(row) if k in chosen else row for k, row in enumerate(rows)])


def test_never_is_late_for_an_effect_and_no_null():
    late = climbed(heights(0.3, 0.3), noise=0.05, changes=(0, -4, 0, 0))
    slowest = {"name": "epochs_to_target", "setting": LR[0]}
    late = changed(late, lambda row: replace(row, value=np.inf), **slowest)
    row = told(agreements.findings(late, {"lr": LR}, FULL), "epochs_to_target")["lr"]
    assert row.never == 4 and row.along.by_rung[0] == 9 and row.verdict == ladders.FALLS

    alike = climbed(heights(0.3, 0.3), noise=0.01)
    alike = changed(alike, lambda row: replace(row, value=row.value + 4.9), name="epochs_to_target")
    last = {"name": "epochs_to_target", "minimum": "adam-1"}
    alike = changed(alike, lambda row: replace(row, value=np.inf), **last)
    row = told(agreements.findings(alike, {"lr": LR}, FULL), "epochs_to_target")["lr"]
    assert row.verdict == ladders.CANNOT_TELL and row.why.startswith("1 minima never got there")


def test_a_measure_beyond_its_largest_level_is_not_said_to_move():
    values = climbed(heights(0.3, 0.3))
    beyond = changed(
        values, lambda row: replace(row, value=np.inf), source="square_mask", minimum="adam-2"
    )
    (ladder,) = agreements.findings(beyond, {"lr": LR}, FULL).ladders
    assert "square_mask" not in ladder.moved and len(ladder.moved) == 3
    (row,) = [row for row in ladder.measures if row.measure.key == "square_mask"]
    assert row.why == "beyond the largest level for some minima" and row.along.seeds == [0, 1, 2, 3]


def test_batchnorm_is_recomputed_where_the_study_has_it():
    values = climbed(heights(0.3, 0.3))
    stored = [
        replace(row, batchnorm="stored", value=-row.value)
        for row in values
        if row.source == "local_energy"
    ]
    either = Values([*values, *stored])
    kinds = {"both": either, "stored alone": Values(stored)}
    found = {
        name: agreements.findings(table, {"lr": LR}, None).ladders[0].measures[3]
        for name, table in kinds.items()
    }
    assert {name: row.batchnorm for name, row in found.items()} == {
        "both": "recomputed",
        "stored alone": "stored",
    }
    assert found["both"].along.change.mean == pytest.approx(
        -found["stored alone"].along.change.mean
    )


def test_train_losses_far_apart_are_a_caution():
    values = climbed(heights(0.3, 0.3), noise=0.001)
    (even,) = agreements.findings(values, {"lr": LR}, FULL).ladders
    assert not even.caution and even.train_loss == pytest.approx([0.7] * 4, abs=0.01)
    uneven = changed(
        values,
        lambda row: replace(row, value=0.3 * row.value),
        source="clean",
        name="loss",
        setting=LR[0],
    )
    (ladder,) = agreements.findings(uneven, {"lr": LR}, FULL).ladders
    assert "0.21 to 0.7" in ladder.caution and "factor of 3.3" in ladder.caution


def test_what_is_given_stands_beside_and_is_no_verdict():
    """Accuracy that follows clean accuracy alone: nothing remains of the change, and it rises."""
    clean = {"source": "clean", "name": "accuracy"}
    for step, told_apart in (0.1, True), (0.5, False):
        values = climbed(heights(step, step), range(6), changes=(0.4, 0, 0, 0))
        after = {row.minimum: row.value for row in values if row.name == "accuracy" and row.task}
        follows = changed(
            values, lambda row, after=after: replace(row, value=after[row.minimum] - 0.2), **clean
        )
        row = told(agreements.findings(follows, {"lr": LR}, FULL))["lr"]
        given = row.given["clean test accuracy"]
        assert row.verdict == ladders.RISES and (given.share < 0.9) == told_apart
        assert told_apart == (not given.change.why.endswith("along the rungs: not told apart"))
        expected = 0 if told_apart else np.nan
        assert given.change.mean == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_two_minima_of_one_setting_and_seed_are_one_line():
    values = climbed(heights(0.3, 0.3))
    twice = Values([*values, *(replace(row, minimum="copy") for row in values if row.seed == 1)])
    with pytest.raises(SystemExit, match=r"^adam.*-1 and copy: two minima of one setting") as line:
        agreements.findings(twice, {"lr": LR}, FULL)
    assert "\n" not in str(line.value)
    with pytest.raises(SystemExit, match="a ladder names a setting twice: adam adam"):
        agreements.findings(values, {"x": ["adam", "adam"]}, FULL)
    with pytest.raises(SystemExit, match="two minima of one setting and seed"):
        verdicts.family(twice, FULL)
    with pytest.raises(ValueError, match="two minima of one setting and one seed"):
        statistics.correlation([1, 2, 3], [1, 2, 4], list("aab"), [0, 0, 0])


def test_findings_are_written_as_json():
    found = agreements.findings(climbed(heights(0.3, 0.3)), BOTH, FULL)
    read = json.loads(json.dumps(asdict(found), default=lambda array: array.tolist()))
    assert read["ladders"][1]["outcomes"][0]["along"]["by_seed"][0][0] > 0
    assert len(read["slopes"]) == len(fixed.MEASURES) * len(fixed.OUTCOMES)


# Ladders together.


def test_one_ladder_says_that_it_cannot_tell_measures_apart():
    found = agreements.findings(climbed(heights(0.3, 0.3)), {"lr": LR}, FULL)
    assert found.words == [agreements.ONE_LADDER] and not found.slopes and not found.agreements


def test_one_slope_in_two_ladders_is_robustness_itself():
    values = climbed(heights(0.3, 0.2), range(6), changes=(0.4, 0, 0, 0))
    found = agreements.findings(values, BOTH, FULL)
    pairs = [row for row in found.agreements if row.outcome == "test_accuracy"]
    assert len(pairs) == 4 and {row.verdict for row in pairs} == {agreements.ITSELF}
    assert pairs[0].per_unit[0].mean == pytest.approx(0.4, abs=0.05)
    assert "robustness itself, as these ladders agree" in found.words[0]
    assert "which of them it is, these ladders cannot tell" in found.words[0]
    (slope, *_) = [row for row in found.slopes if row.outcome == "test_accuracy"]
    assert slope.slope.mean == pytest.approx(0.4, abs=0.03) and slope.seeds == list(range(6))


@pytest.mark.parametrize("seeds", [4, 6])
def test_a_wrong_instrument_is_the_knob(seeds):
    """Both ladders move robustness; the outcome moves by another way, in one of them."""
    values = climbed(heights(0.3, 0.3), range(seeds))
    for k, setting in enumerate(LR):
        values = changed(
            values,
            lambda row, k=k: replace(row, value=row.value + 0.15 * (k - 2)),
            **FULL.fields | fixed.OUTCOMES[0].fields,
            setting=setting,
        )
    found = agreements.findings(values, BOTH, FULL)
    assert told(found)["lr"].verdict == ladders.RISES and not told(found)["noise"].verdict == (
        ladders.RISES
    )
    pairs = [row for row in found.agreements if row.outcome == "test_accuracy"]
    assert len(pairs) == 4 and {row.verdict for row in pairs} == {agreements.KNOB}
    assert "the knob, not its robustness" in found.words[0]
    assert found.words[1].startswith("Epochs to the target on train: no difference beyond")


# Reliability, partial means, forgetting, claims.


def test_reliability_by_hand():
    one, other = np.array([0, 1, 2, 3.0]), np.array([0, 1, 2, 3.0])
    assert statistics.reliability(one, other, [0] * 4) == pytest.approx(1)
    assert statistics.reliability(one, -other, [0] * 4) == -1
    assert np.isnan(statistics.reliability(one, other, range(4)))  # nothing varies within blocks
    rng = np.random.default_rng(7)
    truth, blocks = rng.normal(size=4000), np.repeat(np.arange(1000), 4)
    halves_of_it = truth + rng.normal(size=(2, 4000))  # noise as large: r 0.5, reliability 2/3
    shifted = halves_of_it + 9 * blocks  # blocks differ, which is no part of it
    assert statistics.reliability(*shifted, blocks) == pytest.approx(2 / 3, abs=0.04)


def passport_of(images, repeats):
    """A Result of one passport: accuracies 1, 0.5 of an attack at levels 0, 0.004."""
    path = "fgsm/halves/test"
    data = {"fgsm/levels": np.array([0, 0.004])}
    for curve, values in ("loss", images), ("accuracy", 1 - images):
        data[f"{path}/{curve}"] = halves.halves(values, repeats)
    return SimpleNamespace(
        kind="passport",
        minimum="a-0",
        attrs={"method": "a", "setting": "a", "seed": 0},
        groups={"fgsm": {"measurement": "fgsm", "variant": "", "batchnorm": "stored"}},
        data=data,
    )


def test_halves_of_the_images_and_of_the_draws():
    images, one_draw = np.array([[0, 0, 0, 0], [0.2, 0.4, 0.2, 0.4]]), np.array([[0], [0.3]])
    values = reliability.values([passport_of(images, one_draw)])
    mean = {"name": "loss_change", "levels": "to 0.004"}
    assert values.where(**mean).frame[["statistic", "value"]].values.tolist() == [
        ["even images", pytest.approx(0.1)],
        ["odd images", pytest.approx(0.2)],
    ]
    draws = reliability.values([passport_of(images, np.array([[0, 0, 0], [1, 2, 3.0]]))])
    found = draws.where(**mean).by("statistic")
    assert found["even repeats"] == pytest.approx(1) and found["odd repeats"] == pytest.approx(1)


def test_halves_are_read_from_an_open_passport(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("fgsm").attrs["measurement"] = "fgsm"
        file["fgsm/test/loss_by_image"] = np.array([[1, 2, 3, 6.0]], np.float32)
        file["fgsm/test/correct_by_image"] = np.array([[2, 0, 2, 1]], np.uint8)  # of 2 draws
        file["fgsm/test/loss"] = np.array([[3, 4.0]])
        file["fgsm/test/accuracy"] = np.array([[0.5, 0.75]])
        file["other/test/loss_by_image"] = np.zeros((1, 4))
        found = halves.of(file)
    assert list(found) == ["fgsm/halves/test/loss", "fgsm/halves/test/accuracy"]
    assert found["fgsm/halves/test/loss"].tolist() == [[2, 4, 3, 4]]
    assert found["fgsm/halves/test/accuracy"].tolist() == [[1, 0.25, 0.5, 0.75]]


def test_a_measure_that_is_noise_is_not_said_to_move():
    values = climbed(heights(0.3, 0.3))
    rng, parts = np.random.default_rng(11), []
    for row, half in itertools.product(values.where(kind="passport"), halves.IMAGES):
        noise = 5 * rng.normal() if row.source == "fgsm" else 0
        parts.append(replace(row, statistic=half, value=row.value + noise))
    (ladder,) = agreements.findings(values, {"lr": LR}, FULL, Values(parts)).ladders
    by_key = {row.measure.key: row for row in ladder.measures}
    assert by_key["fgsm"].reliability < 0.5 and "fgsm" not in ladder.moved
    assert "too much of it is noise" in by_key["fgsm"].why
    assert by_key["local_energy"].reliability == pytest.approx(1) and len(ladder.moved) == 3


def test_a_partial_mean_is_by_trapezoids_and_refuses_a_missing_end():
    mean = reading.PartialMean("x", "loss_change", 0.4, "")
    levels = np.array([0, 0.1, 0.4, 0.8])
    assert mean.of(levels, np.array([0, 1, 3, 99.0])) == pytest.approx((0.05 + 0.6) / 0.4)
    assert mean.of(levels, 2 * levels) == pytest.approx(0.4)  # wherever levels lie close
    for short in [0, 0.1, 0.3, 0.5], [0.1, 0.4], [0, 0.3]:
        assert np.isnan(mean.of(np.array(short), np.ones(len(short))))
    pixels = replace(mean, largest=0.8, tolerance=0.5 / 112)
    assert pixels.of(np.array([0, 90 / 112]), np.array([0, 1])) == pytest.approx(0.5)
    assert np.isnan(pixels.of(np.array([0, 85 / 112]), np.array([0, 1])))


def test_the_published_curves_have_every_partial_mean():
    theirs = evidence.published_values(json.loads(study.PUBLISHED.read_text()))
    for mean in reading.PARTIAL_MEANS:
        fields = {"source": mean.source, "name": mean.name, "levels": mean.levels}
        found = theirs.where(**fields).frame["value"]
        assert len(found) == 6 and found.notna().all()


def test_forgetting_is_what_the_source_task_lost():
    data = {
        "source/accuracy": np.array([[0.8, 0.3], [0.8, 0.5]]),
        "source/accuracy_recomputed": np.array([[0.8, 0.6], [0.8, 0.6]]),
        "source/loss": np.array([[0.5, 1.5], [0.5, 2.5]]),
    }
    found = {
        (row["name"], row["batchnorm"]): row["value"]
        for row in reading.forgetting(SimpleNamespace(data=data, images={}))
    }
    assert found == {
        ("forgetting", "stored"): pytest.approx(0.4),
        ("forgetting", "recomputed"): pytest.approx(0.2),
        ("source_loss_gained", "stored"): pytest.approx(1.5),
    }


@pytest.mark.parametrize("epochs, verdict", [(9, claims.NOT_TESTABLE), (40, "cannot tell")])
def test_what_takes_the_report_s_epochs_is_not_testable_with_fewer(epochs, verdict):
    curves = {name: np.ones(epochs) for name in ("val/loss", "val/accuracy")}
    result = SimpleNamespace(
        kind="training",
        settings_of_minima=["adam"],
        attrs={"setting": "adam"},
        data=curves | {"epoch": np.arange(1, epochs + 1)},
    )
    published = json.loads(study.PUBLISHED.read_text())
    found = {
        claim["claim"]: claim["verdict"]
        for claim in claims.claims(Values([]), [result], [], published, None)
    }
    assert found["Test accuracy is 40.0% to 47.5%"] == verdict
    assert (
        found["SWA generalizes best, then adam, then noisy_adam (test accuracy)"] == "cannot tell"
    )


@pytest.mark.parametrize("height, words", [(2.2, True), (1.0, False)])
def test_lines_that_all_guess_are_not_said_to_be_alike(height, words):
    def line(more):
        losses = np.array([0.1, height + more, 0.1])
        data = {
            f"{path}/{name}": values
            for path in claims.PATHS
            for name, values in {"t": np.linspace(0, 1, 3), "train/loss": losses}.items()
        }
        attrs = {"comparison": "line", "classes": 10, "shared_start": False}
        return SimpleNamespace(kind="comparison", attrs=attrs, data=data)

    published = json.loads(study.PUBLISHED.read_text())
    lines = [line(more) for more in (0, 0.1)]
    (*_, alike) = claims.claims_on_lines(lines, published)
    assert ("reach the loss of guessing" in alike["claim"]) == words
    assert alike["verdict"] == ("cannot tell" if words else "holds")


# How often studies are judged wrong, and how often they find what there is.


@pytest.mark.slow
@pytest.mark.parametrize("kind", simulate_ladders.NOISES[:-1])
def test_false_verdicts_are_as_rare_as_the_page_says(kind):
    numbers = simulate_ladders.row(kind, 4, 4, studies=100, seed=1)
    assert numbers["false"] <= 12 and numbers["p"] <= 8
    assert numbers["covered"] >= 92 and max(numbers["too small 3"], numbers["too small 6"]) <= 6


@pytest.mark.slow
def test_what_rungs_do_for_themselves_is_taken_for_the_line():
    """What no number of seeds mends, and docs/statistics.md says."""
    numbers = simulate_ladders.row(simulate_ladders.NOISES[-1], 4, 4, studies=100, seed=1)
    assert 5 <= numbers["false"] <= 25 and numbers["covered"] < 94


@pytest.mark.slow
def test_power_is_what_docs_say():
    """docs/statistics.md, independent noise."""
    for size, three, six, small in ((4, 4), 30, 84, 46), ((4, 6), 75, 100, 98):
        numbers = simulate_ladders.row(simulate_ladders.NOISES[0], *size, studies=150, seed=2)
        assert numbers["found 3"] == pytest.approx(three, abs=12)
        assert numbers["found 6"] == pytest.approx(six, abs=10)
        assert numbers["small 3"] == pytest.approx(small, abs=13)


def test_a_detectable_change_is_found_in_80_of_100():
    effect = contrasts.detectable(6, 8)
    changes = np.random.default_rng(9).normal(effect, 1, size=(4000, 6))
    assert contrasts.found(changes, 0.05 / 8).mean() == pytest.approx(0.8, abs=0.02)
    assert np.isnan(contrasts.detectable(3, 8))
    assert contrasts.detectable(4, 8) > contrasts.detectable(8, 8) > contrasts.detectable(8, 1)


@pytest.mark.slow
def test_wrong_instruments_end_in_the_knob_and_one_slope_does_not():
    knob = simulate_ladders.agreement("the knob, in one ladder", 6, 6, studies=200)
    assert knob[agreements.KNOB] > 80 and knob[agreements.ITSELF] <= 2
    itself = simulate_ladders.agreement("robustness itself", 8, 12, studies=200)
    assert itself[agreements.ITSELF] > 80 and itself[agreements.KNOB] <= 6
    precise = {"outcome_noise": 0.25, "studies": 200}
    ours = simulate_ladders.agreement("robustness itself", 8, 6, **precise)
    plain = simulate_ladders.agreement("robustness itself", 8, 6, plain=True, **precise)
    assert (
        ours[agreements.KNOB] <= 6 < 15 < plain[agreements.KNOB]
    )  # a measure's noise is an error too
