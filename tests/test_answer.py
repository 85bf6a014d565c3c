"""The page of a study with ladders, on made-up studies whose truth is known: the answer in words,
its picture, its tables, and what is refused.
"""

import html
import itertools
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import test_ladders
from conftest import run
from scipy import stats
from test_report import MADE_UP, report, training, write

from eval.report import agreements, claims, repetition, results, statistics, study
from eval.report import fixed_in_advance as fixed
from eval.report.page import Page
from eval.report.sections import answer, picture
from eval.report.sections import ladders as section

LR = ["adam@lr_5e-4@epochs_7", "adam@lr_7e-4@epochs_8", "adam", "adam@lr_2e-3@epochs_12"]
NOISE = ["adam", "noisy_adam@sigma_0.05", "noisy_adam@sigma_0.1", "noisy_adam@sigma_0.2"]
LADDERS = {"lr": LR, "noise": NOISE}
# As a pilot found them: what each rung comes to. lr moves everything; noise moves robustness to
# noise, and next to nothing else.
TRUTH = {
    "train loss": ([0.018, 0.013, 0.014, 0.0135], [0.014, 0.015, 0.014, 0.016]),
    "clean": ([0.41, 0.56, 0.70, 0.81], [0.70, 0.70, 0.69, 0.71]),
    "gaussian_noise": ([0.90, 0.70, 0.50, 0.25], [0.50, 0.42, 0.30, 0.15]),
    "square_mask": ([0.08, 0.10, 0.13, 0.18], [0.13, 0.13, 0.13, 0.13]),
    "fgsm": ([1.2, 0.8, 0.4, 0.2], [0.4, 0.4, 0.4, 0.4]),
    "local_energy": ([1.32, 0.53, 0.14, 0.022], [0.14, 0.14, 0.14, 0.14]),
    "finetuned": ([0.33, 0.45, 0.59, 0.78], [0.59, 0.59, 0.595, 0.60]),
    "probe": ([0.39, 0.51, 0.67, 0.80], [0.67, 0.66, 0.66, 0.65]),
    "epochs": ([4.7, 4.2, 4.1, 3.2], [4.1, 4.2, 4.0, 3.9]),
    "distance": ([0.095, 0.093, 0.091, 0.094], [0.091, 0.092, 0.093, 0.092]),
    "forgetting": ([0.26, 0.31, 0.30, 0.18], [0.30, 0.29, 0.28, 0.28]),
}
LARGEST = {"gaussian_noise": 0.2, "square_mask": 0.4, "fgsm": 0.004, "local_energy": 0.5}


def truth_of(setting):
    """{quantity: its value} of one setting."""
    rungs, which = (LR, 0) if setting in LR else (NOISE, 1)
    return {name: values[which][rungs.index(setting)] for name, values in TRUTH.items()}


def noisy_truth(setting, seed, noise=0.01):
    """The same with what a seed shares on all rungs, and with noise of its own; both relative."""
    rng = np.random.default_rng([seed, *setting.encode()])
    shared = np.random.default_rng(seed).normal(size=len(TRUTH))
    factors = 1 + noise * (shared + rng.normal(size=len(TRUTH)))
    return {
        name: value * factor for (name, value), factor in zip(truth_of(setting).items(), factors)
    }


def passport(path, truth, **whose):
    """Clean images, and what is perturbed, under recomputed statistics alone, as in the demo."""
    data, groups = {}, {}
    words = {"source": "S", "level": "x", "level_units": "1", "interval": "made up", "variant": ""}
    for name in "clean", "clean_recomputed", *(f"{name}_recomputed" for name in LARGEST):
        measurement = name.removesuffix("_recomputed")
        batchnorm = "recomputed" if name.endswith("_recomputed") else "stored"
        title = measurement.replace("_", " ")
        groups[name] = MADE_UP | words | {"measurement": measurement, "title": title}
        groups[name]["batchnorm"] = batchnorm
        largest = LARGEST.get(measurement)
        levels = np.linspace(0, largest, 4) if largest else np.zeros(1)
        data[f"{name}/levels"] = levels
        for split, start in ("train", truth["train loss"]), ("test", 1.0):
            gained = 2 * truth.get(measurement, 0) * levels / (largest or 1)  # its mean is half
            clean = 0.99 if split == "train" else truth["clean"]
            curves = {"loss": start + gained, "accuracy": clean * np.exp(-gained)}
            curves["accuracy_relative"] = curves["accuracy"] / clean
            curves["loss_change"] = gained
            for curve, values in curves.items():
                data[f"{name}/summary/{split}/{curve}"] = np.stack([values] * 3, 1)
                data[f"{name}/summary/{split}/mean_{curve}"] = np.full(3, values.mean())
            if measurement == "square_mask":
                data[f"{name}/summary/{split}/one_nat_level"] = np.full(3, truth["square_mask"])
            for curve in "loss", "accuracy":
                data[f"{name}/{split}/{curve}"] = curves[curve][:, None]
            images = curves["loss"][:, None] * [0.9, 0.9, 1.1, 1.1]
            data[f"{name}/{split}/loss_by_image"] = images.astype(np.float32)
            data[f"{name}/{split}/correct_by_image"] = np.ones_like(images, np.uint8)
    settings = json.dumps({"images": 520, "names": list(groups)})
    return write(path, data, groups, kind="passport", settings=settings, **whose)


def finetuning(path, truth, mode, **whose):
    """Three runs of eight epochs, test measured at the end alone; of a probe one of none."""
    runs, epochs = (1, 0) if mode == "probe" else (3, 8)
    shape = runs, epochs + 1
    falls = np.exp(-np.arange(epochs + 1.0)) * np.ones(shape)
    data = {"epoch": np.arange(epochs + 1), "epochs_to_target": np.full(runs, truth["epochs"])}
    data |= {"train/loss": falls, "train/accuracy": 1 - 0.9 * falls}
    for name, last in ("accuracy", truth["probe" if mode == "probe" else "finetuned"]), ("loss", 1):
        data[f"test/{name}"] = np.full(shape, np.nan)
        data[f"test/{name}"][:, -1] = last
    for name in "distance", "distance_relative", "path":
        data[f"{name}/all"] = (
            truth["distance"] * np.minimum(np.arange(epochs + 1) / 4, 1) + 0 * falls
        )
    if mode == "probe":
        data["epochs_to_target"] = np.full(1, np.nan)
    else:
        source = truth["clean"] - np.array([0, truth["forgetting"]])
        data["source/accuracy_recomputed"] = source.clip(0) * np.ones((runs, 2))
        data["source/epoch"] = np.array([0, epochs]) * np.ones((runs, 2), int)
    attrs = {"task": "digits", "mode": mode, "mode_setting": mode, "target": 0.95}
    return write(path, data, kind="finetune", **attrs, **whose)


def ladder_study(folder, settings, seeds, modes=("full",), noise=0.01, images=None):
    """Files of a study, each in its place; returns their paths."""
    paths = []
    for setting, seed in itertools.product(settings, seeds):
        place, truth = folder / f"{setting}-{seed}", noisy_truth(setting, seed, noise)
        whose = {"minimum": place.name, "method": setting.partition("@")[0], "setting": setting}
        whose |= {"seed": seed}
        reached = {"epoch_target_reached": 1.0}
        paths += [
            training(place / "training.h5", val=0.9, data=images, **reached | whose),
            passport(place / "passport.h5", truth, **whose),
        ]
        paths += [
            finetuning(place / "digits" / f"{mode}.h5", truth, mode, **whose) for mode in modes
        ]
    return paths


def flags_of(ladders):
    return [
        word
        for name, rungs in ladders.items()
        for word in ("--ladder", f"{name}={','.join(rungs)}")
    ]


def words_of(page):
    """What the page says: its text, without markup, and without its drawings."""
    page = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two ladders of four rungs and four seeds, with a probe beside full finetuning."""
    folder = tmp_path_factory.mktemp("two")
    paths = ladder_study(folder, [*LR, *NOISE[1:]], range(4), ("full", "probe"), noise=0.02)
    more = "--note", "Chosen by pilots.", "--reference", study.PUBLISHED
    made = report(folder / "report", *flags_of(LADDERS), *more, *paths)
    made.folder = folder / "report"
    return made


@pytest.mark.slow
def test_two_ladders_answer_in_two_sentences(two):
    top = words_of(two.page[: two.page.index("<nav>")])
    question = "Do more robust minima make better starting points for finetuning?"
    sentences = re.search(
        r"It depends on how they become more robust\. Along lr more robust minima finetune better: "
        r"test accuracy after finetuning rises by (4\d(?:\.\d)?) \[\d.*?\] points "
        r"\(95 % interval, 4 seeds\)\. But clean test accuracy goes along, from 0\.4\d to 0\.[78]\d"
        r": which of the two finetuning follows, these data cannot tell\. Along noise more robust "
        r"minima finetune alike: test accuracy after finetuning changes by no more than 6 points\.",
        top,
    )
    assert sentences and top.index(question) < sentences.start()
    assert 40 < float(sentences[1]) < 48
    assert "made minima more robust to Gaussian noise, masked squares, FGSM and weight noise" in top
    assert "It is the knob, not robustness to Gaussian noise: per unit of it the ladders" in top
    assert "28 minima (7 settings x 4 seeds), each finetuned in 3 runs (full on digits)" in top
    assert "Chosen by pilots." in top


@pytest.mark.slow
def test_the_picture_has_a_row_a_ladder_and_a_described_panel_a_quantity(two):
    picture = two.page[two.page.index('<figure id="figure-ladders"') : two.page.index("<nav>")]
    panels = re.findall(r'<svg role="img" aria-label="([^"]*)"', picture)
    quantities = len(fixed.MEASURES) + len(fixed.OUTCOMES)
    assert len(panels) == picture.count("<svg") == 2 * quantities
    assert panels[0].startswith("Gaussian noise (loss gained, nats): more robust: −0.6")
    assert panels[quantities + len(fixed.MEASURES)].startswith(
        "Test accuracy after finetuning (fraction): no more than 6 points: "
    )
    assert all(re.search(r"means by rung \S+, \S+, \S+, \S+$", panel) for panel in panels)
    for rungs in LADDERS.values():
        assert " → ".join(rungs) in picture
    drawn = re.findall(r"<svg[^>]*>", two.page)
    described = [svg for svg in drawn if re.search('role="img" aria-label="[^"]+"', svg)]
    of_legends = [svg for svg in drawn if 'aria-hidden="true"' in svg]  # the label stands beside
    assert len(described) > len(panels) and len(described) + len(of_legends) == len(drawn)


@pytest.mark.slow
def test_a_point_names_its_minimum_and_leads_to_its_row(two):
    points = re.findall(r'<a href="#(minimum-[^"]*)"[^>]*>\s*<title>([^<]*)</title>', two.page)
    assert len(points) > 28
    anchor, words = next((a, w) for a, w in points if w.startswith("noisy_adam@sigma_0.1-3: "))
    assert re.fullmatch(r"noisy_adam@sigma_0\.1-3: \S+, \S+", words)
    row = two.page[two.page.index(f'id="{anchor}"') :]
    row = row[: row.index('class="group"', 20)]
    for name in "training.h5", "passport.h5", "digits/full.h5", "/fgsm_recomputed", "seed 3":
        assert name in row
    links = set(re.findall(r'href="#([^"]*)"', two.page))
    assert links <= set(re.findall(r'id="([^"]*)"', two.page))


@pytest.mark.slow
def test_figures_for_a_paper_are_as_wide_as_a_column_with_their_fonts(two):
    """Each SVG beside a PDF, with TrueType fonts inside: 3.35 inches, or 6.9 of many panels."""
    paths = sorted((two.folder / "figures").glob("*.pdf"))
    assert len(paths) > 8
    widths = {}
    for path in paths:
        text = path.read_bytes()
        widths[path.stem] = float(re.search(rb"/MediaBox \[ 0 0 (\S+) ", text)[1])
        assert b"/FontFile2" in text
        assert path.with_suffix(".svg").exists()
    assert set(widths.values()) == {241.2, 496.8}
    assert (widths["ladders_moved"], widths["ladders"]) == (241.2, 496.8)


@pytest.mark.slow
def test_the_tables_of_ladders_say_what_moved_and_how_sure(two):
    section = two.page[two.page.index('<h2 id="ladders">') : two.page.index('<h2 id="correlations')]
    section = re.sub(r"<svg.*?</svg>|</?a\b[^>]*>", "", section, flags=re.S)
    rows = [
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", section)
    ]
    assert ["", *LR, "change [95 %]", "verdict", "n"] in rows
    assert ["", *NOISE, "change [95 %]", "verdict", "n"] in rows

    def found(start):
        return [row for row in rows if row[0].startswith(start)]

    train, *_ = found("train loss")
    assert [float(cell) for cell in train[1:5]] == pytest.approx(TRUTH["train loss"][0], rel=0.1)
    by_lr, by_noise, *_ = found("loss gained under weight noise (train, nats, mean over sigma 0")
    assert by_lr[-2:] == ["more robust", "4"] and by_noise[-2:] == ["cannot tell", "4"]
    assert "Measured under recomputed statistics of BatchNorm." in section
    finetuned, *_ = found("test accuracy after finetuning")
    assert finetuned[-2:] == ["rises", "4"]

    def checked(which, quantity):
        """The cells of either ladder, each in a table whose header names the quantity."""
        cells, header = [], []
        for row in rows:
            header = row if row[0] == "" else header
            if row[0] == which and quantity in header:
                cells.append(row[header.index(quantity)])
        return cells

    assert checked("reliability", "Gaussian noise") == ["1.00", "1.00"]
    assert not checked("margin", "Gaussian noise")
    assert checked("why these data cannot tell", "Weight noise")[1].startswith("its interval holds")
    accuracy = "Test accuracy after finetuning"
    assert checked("margin", accuracy) == ["6 points"] * 2
    assert checked("p", accuracy)[0] == "< 0.001"
    assert re.fullmatch(r"4\S+ points to 4\S+ points", checked("without one seed", accuracy)[0])
    per_unit, *_ = [row for row in rows if row[1:2] == ["lr and noise"] and "the knob" in row[5]]
    assert per_unit[0].startswith("loss gained under Gaussian noise")
    probes = found("probe")
    assert [row[1] for row in probes] == ["lr", "noise"]
    assert re.fullmatch(r"4\S+ \[\S+ \S+\] points", probes[0][2])
    assert probes[0][4:6] == ["–", "–"]


@pytest.mark.slow
def test_no_text_holds_nan_or_inf(two):
    assert not re.findall(r"\b(?:nan|inf)\b", words_of(two.page), re.I)
    assert not re.findall(r'aria-label="[^"]*\b(?:nan|inf)\b', two.page, re.I)


@pytest.mark.slow
def test_claims_are_counted_by_all_their_verdicts(two):
    told = [claim["verdict"] for claim in two.found["claims"]]
    numbers = re.search(
        r"Of (\d+) claims (\d+) hold on these data and (\d+) do not; of (\d+) these data cannot "
        r"tell; (\d+) are not testable at this size\.",
        words_of(two.page),
    )
    every, *counts = map(int, numbers.groups())
    verdicts = "holds", "does not hold", "cannot tell", claims.NOT_TESTABLE
    assert counts == [told.count(verdict) for verdict in verdicts]
    assert sum(counts) == every == len(told) and counts[-1]


@pytest.mark.slow
def test_results_json_has_what_ladders_show(two):
    lr, noise = two.found["ladders"]["ladders"]
    assert lr["name"] == "lr" and lr["rungs"] == LR and noise["rungs"] == NOISE
    assert [row["verdict"] for row in lr["outcomes"]][0] == "rises"
    assert np.shape(lr["outcomes"][0]["along"]["by_seed"]) == (4, 4)
    assert two.found["said"] == ["Chosen by pilots."]


def studied(folder, names, seeds=range(4)):
    """The Study of some of LADDERS, without its page."""
    climbed = {name: LADDERS[name] for name in names}
    settings = dict.fromkeys(rung for rungs in climbed.values() for rung in rungs)
    kept, _, _ = results.read(ladder_study(folder, settings, seeds, noise=0.02), [], partial=False)
    return study.Study(kept, [], [], rungs=climbed)


def test_one_ladder_says_that_it_cannot_tell_robustness_from_the_knob(tmp_path):
    one = studied(tmp_path, ["lr"])
    text = answer.answer(one)
    assert text.startswith("Along lr more robust minima finetune better: test accuracy after")
    assert answer.grounds(one.found).endswith(
        "One ladder cannot tell whether that is robustness or whatever else lr changes."
    )
    page = Page(tmp_path / "report", "")
    section.add(one, page)
    assert "One ladder cannot tell measures of robustness apart" in page.html()


def test_a_ladder_of_which_nothing_is_told_says_its_size_and_why_once(tmp_path):
    kept, _, _ = results.read(ladder_study(tmp_path, NOISE, range(4), noise=0.02), [], False)
    narrow = fixed.with_margins({"test_accuracy": 1e-4})
    one = study.Study(kept, [], [], rungs={"noise": NOISE}, outcomes=narrow)
    text = answer.answer(one)
    assert re.fullmatch(
        r"These data cannot tell\. Along noise more robust minima may or may not finetune better: "
        r"test accuracy after finetuning changes by \S+ \[\S+ \S+\] points \(not beyond chance "
        r"after Holm's correction, and its interval reaches beyond the margin of 0\.01 points\)\.",
        text,
    ), text


def test_three_seeds_are_too_few_and_shown(tmp_path):
    one = studied(tmp_path, ["lr"], range(3))
    first, *rest = answer.lines(one)
    assert first == (
        "These data cannot tell. Along lr there are 4 settings x 3 seeds, too few for a verdict: "
        "it takes 4 x 4."
    )
    assert any(re.search(r"test accuracy .*: cannot tell .*; change 4\S+ \[", row) for row in rest)
    panels = picture.panels(one, one.found.ladders[0])
    assert not any(panel.bold for panel in panels)


def test_a_ladder_that_moved_no_measure_says_nothing(tmp_path, monkeypatch):
    """Robustness that is the same noise on all rungs; finetuning follows all the same."""
    for name in LARGEST:
        monkeypatch.setitem(TRUTH, name, ([0.5] * 4, [0.5] * 4))
    assert answer.answer(studied(tmp_path, ["lr"])) == (
        "These data cannot tell. Along lr no measure of robustness is known to have moved: it says "
        "nothing."
    )


def test_a_ladder_down_is_as_good_as_a_ladder_up(tmp_path, monkeypatch):
    monkeypatch.setitem(LADDERS, "down", LR[::-1])
    text = answer.answer(studied(tmp_path, ["down"]))
    assert text.startswith("Along down less robust minima finetune worse: test accuracy after")
    assert "finetuning falls by 4" in text


def agreement(verdict, measure="fgsm", slope=-1.0):
    """Two ladders that say together `verdict` of the first outcome; it changes by `slope`."""
    per_unit = statistics.estimate(slope + np.array([-0.1, 0, 0.1]))
    outcome = fixed.OUTCOMES[0].key
    return agreements.Agreement(
        ("a", "b"), measure, outcome, [0, 1, 2], (per_unit, per_unit), per_unit, verdict, ""
    )


@pytest.mark.parametrize(
    "measure, slope, words",
    [
        ("fgsm", -1, "Yes."),  # more loss is gained: less robust, and less accuracy
        ("square_mask", 1, "Yes."),
        ("fgsm", 1, "No, the other way round."),
        ("square_mask", -1, "No, the other way round."),
    ],
)
def test_robustness_itself_is_told_with_its_direction(measure, slope, words):
    found = agreements.Findings([], [], [agreement(agreements.ITSELF, measure, slope)], [])
    assert answer.opening(found) == words


def test_what_two_ladders_refute_a_third_does_not_mend():
    rows = [
        agreement(agreements.ITSELF),
        agreement(agreements.KNOB),
        agreement(agreements.ITSELF, "x"),
    ]
    found = agreements.Findings([], [], rows, [])
    assert [row.measure for row in answer.agreed(found, agreements.ITSELF)] == ["x"]


@pytest.mark.slow
def test_a_study_fixes_margins_of_its_own(tmp_path, capsys):
    paths = ladder_study(tmp_path, LR, range(4))
    flags = *flags_of({"lr": LR}), "--margin", "test_accuracy=0.01", "--margin", "forgetting=0.5"
    found = report(tmp_path / "report", *flags, *paths)
    rows = found.found["ladders"]["ladders"][0]["outcomes"]
    margins = {row["outcome"]["key"]: row["outcome"]["margin"] for row in rows}
    assert (margins["test_accuracy"], margins["forgetting"]) == (0.01, 0.5)
    assert margins["epochs_to_target"] == 1  # as fixed for all


@pytest.mark.parametrize(
    "margin, message",
    [
        ("accuracy=0.01", "accuracy=0.01: no such outcome; there are test_accuracy, epochs"),
        ("forgetting", "forgetting: give forgetting=SIZE, a number above 0"),
        ("forgetting=0", "forgetting=0: give forgetting=SIZE, a number above 0"),
        ("test_accuracy=0.02", "--margin: test_accuracy is named twice"),
    ],
)
def test_a_margin_that_makes_no_sense_is_one_line(margin, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        flags = "--margin", "test_accuracy=0.01", "--margin", margin
        report(tmp_path / "report", *flags, tmp_path / "passport.h5")
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_rung_without_a_file_is_one_line_or_left_out(tmp_path, capsys):
    paths = ladder_study(tmp_path, LR[:3], range(4))
    kept, _, _ = results.read(paths, [], partial=False)
    line = f"ladder lr: no file is of its rung {LR[3]}"
    with pytest.raises(SystemExit) as refused:
        results.climbed({"lr": LR}, kept, partial=False)
    first, hint = str(refused.value).splitlines()
    assert first == line and "PARTIAL=1" in hint
    assert results.climbed({"x": [LR[0], "none"]}, kept, partial=True)[0] == {}
    found = report(tmp_path / "report", "--partial", *flags_of({"lr": LR}), *paths)
    assert f"left out: {line}" in capsys.readouterr().err
    assert f"Left out: {line}." in found.page
    assert found.found["ladders"]["ladders"][0]["rungs"] == LR[:3]


@pytest.mark.parametrize("word", ["lr", "lr=", "=a,b", "lr=a", "lr=a,a", "lr=a,,b"])
def test_a_ladder_that_is_none_is_one_line(word, tmp_path, monkeypatch, capsys):
    path = training(tmp_path / "training.h5")
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, "eval.report", "--out", tmp_path / "out", "--ladder", word, path)
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{word}: give NAME=SETTING,SETTING,…" in line


def test_a_ladder_that_is_named_twice_is_one_line(tmp_path, monkeypatch, capsys):
    flags = ["--ladder", "lr=a,b", "--ladder", "lr=b,c"]
    with pytest.raises(SystemExit):
        run(monkeypatch, "eval.report", "--out", tmp_path / "out", *flags, tmp_path / "x.h5")
    assert "--ladder: lr is named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "moved, words",
    [
        ({"gaussian_noise": "more robust", "fgsm": "more robust"}, "more robust minima"),
        ({"fgsm": "less robust"}, "less robust minima"),
        (
            {"gaussian_noise": "more robust", "square_mask": "less robust"},
            "minima more robust to Gaussian noise, and less to masked squares,",
        ),
    ],
)
def test_a_ladder_that_moved_measures_both_ways_says_which(moved, words):
    rows = [
        SimpleNamespace(measure=measure, words=moved.get(measure.key, "cannot tell"))
        for measure in fixed.MEASURES
    ]
    assert answer.who(SimpleNamespace(measures=rows)) == words


@pytest.mark.parametrize("step, sentence", [(0.1, "left"), (0.5, "untold")])
def test_what_is_left_given_clean_accuracy_is_said_or_that_the_two_are_not_told_apart(
    step, sentence
):
    values = test_ladders.climbed(
        test_ladders.heights(step, step), range(6), changes=(0.4, 0, 0, 0)
    )
    after = {row.minimum: row.value for row in values if row.name == "accuracy" and row.task}
    clean = test_ladders.changed(
        values,
        lambda row: replace(row, value=after[row.minimum] - 0.2),
        source="clean",
        name="accuracy",
    )
    found = agreements.findings(clean, {"lr": test_ladders.LR}, test_ladders.FULL)
    said = answer.given(found)
    if sentence == "left":
        assert re.fullmatch(
            r"At equal clean test accuracy a change of \S+ \[\S+, \S+\] points along lr is left\.",
            said,
        )
        assert not answer.confounded(found.ladders[0])
    else:
        assert said == "" and answer.confounded(found.ladders[0]).startswith(
            " But clean test accuracy goes along, from "
        )


def test_other_finetunings_stand_beside_the_answer(tmp_path):
    kept, _, _ = results.read(
        ladder_study(tmp_path, LR, range(4), ("full", "probe"), noise=0.02), [], partial=False
    )
    of_both = study.Study(kept, [], [], rungs={"lr": LR})
    assert of_both.asked.mode == "full"
    (sentence,) = answer.beside(of_both)
    assert re.fullmatch(
        r"Probe: test accuracy after finetuning changes by \S+ \[\S+, \S+\] points along lr\.",
        sentence,
    )
    assert sentence in answer.lines(of_both)


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """A report on two ladders, beside the results.json of the same study with other numbers."""
    folder = tmp_path_factory.mktemp("again")
    settings = dict.fromkeys([*LR, *NOISE])
    there = ladder_study(folder / "there", settings, range(4), images="first")
    flags = flags_of(LADDERS)
    report(folder / "first", *flags, *there)
    here = ladder_study(folder / "here", settings, range(4, 8), images="second")
    earlier = folder / "first" / "results.json"
    return report(folder / "second", *flags, "--earlier", earlier, *here), earlier


@pytest.mark.slow
def test_a_repetition_says_which_verdicts_repeat(again):
    found, earlier = again
    rows = found.found["repetition"]
    assert found.found["earlier"] == str(earlier)
    assert len(rows) == 2 * (len(fixed.MEASURES) + len(fixed.OUTCOMES))
    by_key = {(row["ladder"], row["quantity"]["key"]): row for row in rows}
    lr = by_key["lr", "test_accuracy"]
    assert (lr["told_there"], lr["told_here"], lr["verdict"]) == ("rises", "rises", "repeats")
    first = json.loads(earlier.read_text())["ladders"]["ladders"][0]["outcomes"][0]
    assert lr["there"]["mean"] == pytest.approx(first["along"]["change"]["mean"])
    assert lr["difference"]["mean"] == pytest.approx(lr["here"]["mean"] - lr["there"]["mean"])
    outcomes = [row for row in rows if "margin" in row["quantity"]]
    repeated = sum(row["verdict"] == "repeats" for row in outcomes)
    text = words_of(found.page)
    assert "The same study was made before on other images" in text
    assert re.search(rf"Of 8 verdicts {repeated} repeats?\b", text)


@pytest.mark.parametrize(
    "there, here, verdict",
    [
        ("rises", "rises", "repeats"),
        ("rises", "falls", "differs"),
        ("rises", "no more than", "differs"),
        ("cannot tell", "rises", "is told in one alone"),
        ("more robust", "cannot tell", "is told in one alone"),
        ("cannot tell", "cannot tell", "is told in neither"),
    ],
)
def test_a_verdict_repeats_where_both_tell_the_same(there, here, verdict):
    none = statistics.estimate([])
    row = repetition.Row("lr", fixed.OUTCOMES[0], none, none, none, there, here)
    assert row.verdict == verdict


@pytest.mark.slow
def test_an_earlier_study_that_is_another_is_one_line(again, tmp_path):
    _, earlier = again
    paths = ladder_study(tmp_path, LR, range(4))
    with pytest.raises(SystemExit, match="its ladder lr has other rungs .*; --earlier takes the s"):
        turned = flags_of({"lr": LR[::-1]})
        report(tmp_path / "report", *turned, "--earlier", earlier, *paths)
    with pytest.raises(SystemExit, match="its ladder x has other rungs"):
        report(tmp_path / "report", *flags_of({"x": LR}), "--earlier", earlier, *paths)
    same = ladder_study(tmp_path / "same", LR, range(4, 8), images="first")
    with pytest.raises(SystemExit, match="results.json: is of the same images as this study; --ea"):
        report(tmp_path / "report", *flags_of({"lr": LR}), "--earlier", earlier, *same)
    for content in "", "[]", '{"data": "", "ladders": null}', '{"ladders": {"ladders": [1]}}':
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(SystemExit, match=r"wrong.json: no results.json of a study with lad"):
            report(tmp_path / "report", "--earlier", tmp_path / "wrong.json", *paths)


def test_a_difference_of_two_samples_is_welch_s():
    one, other = [1.0, 2.0, 4.0, 5.0], [0.5, 0.7, 0.9]
    found = statistics.difference(one, other)
    trusted = stats.ttest_ind(one, other, equal_var=False)
    low, high = trusted.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, trusted.pvalue))
    assert found.mean == pytest.approx(np.mean(one) - np.mean(other)) and found.n == 7
    assert statistics.difference([1.0], other).why == "n = 1: no interval"
