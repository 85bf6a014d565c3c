"""Summaries: values by hand, censoring, and intervals that cover what they claim to cover."""

import numpy as np
import pytest

from common.measuring import summary


def test_half_of_nothing_is_not_a_number():
    nothing = np.zeros((2, 1, 4), bool)
    result = summary.summarise([0, 1], np.zeros((2, 1, 4)), nothing, np.zeros(4), nothing[0, 0])
    assert np.isnan(result["half_accuracy_level"]).all()
    assert (result["one_nat_level"] == np.inf).all()


def test_values_by_hand():
    correct = np.array([[[1, 1, 1, 1]], [[1, 1, 1, 0]], [[1, 0, 0, 0]]], bool)
    loss = np.array([[[1.0, 1, 1, 1]], [[1.5, 1.5, 1.5, 1.5]], [[3, 3, 3, 3]]], np.float32)
    summaries = summary.summarise([0, 0.1, 0.2], loss, correct, loss[0, 0], correct[0, 0])
    value = {name: values[..., 0].tolist() for name, values in summaries.items()}
    assert value["accuracy"] == [1, 0.75, 0.25] == value["accuracy_relative"]
    assert value["loss_change"] == [0, 0.5, 2]
    assert value["mean_accuracy"] == pytest.approx(2 / 3)
    assert value["mean_loss_change"] == pytest.approx(2.5 / 3)
    assert value["half_accuracy_level"] == pytest.approx(0.15)
    assert value["one_nat_level"] == pytest.approx(0.1 + 0.1 / 3)


def test_without_a_level_0_the_curve_starts_at_clean():
    loss, correct = np.full((1, 1, 8), 3.0), np.zeros((1, 1, 8), bool)
    result = summary.summarise([0.4], loss, correct, np.full(8, 1.0), np.ones(8, bool))
    np.testing.assert_allclose([result["half_accuracy_level"], result["one_nat_level"]], 0.2)


def test_a_level_never_reached_is_infinite_and_no_clean_accuracy_has_no_relative():
    values = np.zeros((2, 3, 5))
    result = summary.summarise([0, 1], values, values == 0, values[0, 0], values[0, 0] == 0)
    assert result["half_accuracy_level"].tolist() == [np.inf] * 3
    assert result["one_nat_level"].tolist() == [np.inf] * 3
    result = summary.summarise([0, 1], values, values > 0, values[0, 0], values[0, 0] > 0)
    assert np.isnan(result["accuracy_relative"]).all()
    assert result["accuracy"].tolist() == [[0, 0, 0]] * 2


def test_an_interval_may_be_open_above():
    """Half of the resamples reach half accuracy, half do not: the level is known to lie above
    something only.
    """
    rng = np.random.default_rng(0)
    correct = np.ones((2, 1, 400), bool)
    correct[1] = rng.permutation(400) < 198
    loss = np.zeros((2, 1, 400))
    result = summary.summarise([0, 1], loss, correct, np.zeros(400), correct[0, 0])
    value, low, high = result["half_accuracy_level"]
    assert value == pytest.approx(1 / 1.01) and 0.8 < low < value and high == np.inf


def test_first_crossing_is_the_first():
    levels = np.array([0, 1, 3.0])
    curves = np.array([[0, 0, 2, 0], [0, 2, 2, 0], [2, 0, 2, 0.5]], float)
    assert summary.first_crossing(levels, curves, 1.0).tolist() == [2, 0.5, 0, np.inf]


def test_clean_accuracy_has_its_binomial_error():
    rng = np.random.default_rng(1)
    correct = rng.random((1, 1, 2500)) < 0.45
    loss = np.zeros(correct.shape)
    result = summary.summarise([0.0], loss, correct, np.zeros(2500), correct[0, 0])
    p, low, high = result["accuracy"][0]
    error = (p * (1 - p) / 2500) ** 0.5
    assert error == pytest.approx(0.01, abs=0.0005)
    assert p - low == pytest.approx(1.96 * error, rel=0.1)
    assert high - p == pytest.approx(1.96 * error, rel=0.1)


@pytest.mark.parametrize("repeat_std", [0.0, 0.5])
def test_intervals_cover_the_truth(repeat_std):
    """Loss = image + repeat + noise; a repeat's own effect is what weight noise has. The mean over
    the levels is 2 by construction.
    """
    rng, covered, trials = np.random.default_rng(2), 0, 200
    for _ in range(trials):
        clean = rng.exponential(1.0, 120)
        draw = repeat_std * rng.normal(size=(1, 10, 1)) + rng.normal(size=(1, 10, 120))
        loss = np.concatenate([np.broadcast_to(clean, (1, 10, 120)), clean + 2 + draw])
        result = summary.summarise([0, 1], loss, loss > 0, clean, clean > -1)
        value, low, high = result["mean_loss"]
        covered += low <= 2 <= high
    assert 0.88 * trials <= covered <= 0.995 * trials


def test_variance_of_few_repeats_is_not_too_small():
    """The bootstrap variance of a mean of n numbers, averaged over data, is sigma²/n: also for
    n = 2.
    """
    values = np.random.default_rng(3).normal(size=(4000, 2))
    variances = (values @ summary.bootstrap_weights(2, "repeats")[1:].T).var(1)
    assert variances.mean() == pytest.approx(1 / 2, rel=0.05)


@pytest.mark.filterwarnings("error")
def test_a_loss_may_be_infinite_and_its_other_resamples_are_not():
    """As of a network that overflows at one image; a resample without it has a finite mean."""
    loss = np.full((2, 1, 8), 0.5)
    loss[1, 0, 3] = np.inf
    result = summary.summarise([0, 1], loss, loss < 1, loss[0, 0], loss[0, 0] < 1)
    np.testing.assert_allclose(result["loss"], [[0.5] * 3, [np.inf, 0.5, np.inf]])
    np.testing.assert_allclose(result["mean_loss_change"], [np.inf, 0, np.inf])
    loss[1, 0, 3] = np.nan
    result = summary.summarise([0, 1], loss, loss < 1, loss[0, 0], loss[0, 0] < 1)
    assert np.isnan(result["loss"][1]).all() and np.isfinite(result["loss"][0]).all()


def test_two_way_standard_error():
    rng = np.random.default_rng(4)
    errors, means = [], []
    for _ in range(2000):
        table = rng.normal(size=(6, 1)) + rng.normal(size=(1, 4)) + rng.normal(size=(6, 4))
        mean, error = summary.two_way_mean(table, [50, 50, 50, 50])
        errors.append(error**2)
        means.append(mean)
    assert np.var(means) <= np.mean(errors) <= 1.3 * np.var(means)
