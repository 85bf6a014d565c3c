"""The page as people open it, in a real browser as wide as a phone, a laptop and a desk: studies of
one minimum, of sixty, of odd names and of missing values.
"""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import test_answer
from test_answer import LADDERS, LR, NOISE, flags_of, ladder_study, noisy_truth, words_of
from test_report import report

from eval.report import study

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = 390, 1280, 1920
LOOK = """
const say = [];
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, width = frame.clientWidth;
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  const wide = [...page.querySelectorAll("body *")].filter(part =>
    !part.closest(".scroll table") && !part.closest("svg > *") &&
    part.getBoundingClientRect().right > width + 1);
  const pictures = [...page.querySelectorAll("svg, img")];
  say.push({
    width: width,
    whole: page.documentElement.scrollWidth,
    wide: wide.slice(0, 3).map(part => part.outerHTML.slice(0, 200)),
    pictures: pictures.length,
    undescribed: pictures.filter(part => !part.getAttribute("aria-label") &&
      part.getAttribute("aria-hidden") != "true").length,
    text: Math.min(...[...page.querySelectorAll("svg[role] text")].map(part =>
      part.getBoundingClientRect().height)),
    used: Math.max(...[...page.querySelectorAll("svg[role]")].map(part =>
      part.getBoundingClientRect().right)),
  });
}
document.body.textContent = JSON.stringify(say);
"""


def browse(address, folder):
    """(what a browser makes of a page, what it says meanwhile); ("", …) where it does not run."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", f"--user-data-dir={folder / 'chromium'}"]
    command += ["--timeout=60000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    return done.stdout, done.stderr


@pytest.fixture(scope="module", autouse=True)
def browser(tmp_path_factory):
    """Skips where there is none, or one that reads no file of ours, as a snap's may not."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text("<body>seen")
    if not CHROMIUM or "seen" not in browse((folder / "page.html").as_uri(), folder)[0]:
        pytest.skip("no chromium here that opens a file")


def looked_at(page, folder):
    """What a browser says of the file `page` at each of WIDTHS, all that folds away unfolded."""
    text = html.escape(page.read_text())
    frames = "".join(
        f'<iframe style="border:0" width={width} height=900 srcdoc="{text}"></iframe>'
        for width in WIDTHS
    )
    around = folder / "around.html"
    around.write_text(f"<body>{frames}<script>onload = () => {{{LOOK}}}</script>")
    shown, complaints = browse(around.as_uri(), folder)
    assert "CONSOLE" not in complaints, complaints  # of a script, or of a style
    said = re.search(r"<body[^>]*>(\[.*\])</body>", shown, re.S)
    assert said, complaints[-2000:] + shown[:300]
    return json.loads(html.unescape(said[1]))


def check(page, folder):
    """That `page` reads well at each width."""
    assert page.stat().st_size < 5e6
    found = looked_at(page, folder)
    assert [each["width"] for each in found] == list(WIDTHS)
    assert not [fault for each in found for fault in faults(each)], found


def faults(each):
    """What is wrong with a page at one width, in words."""
    checks = {
        "wider than the window": each["whole"] > each["width"] or each["wide"],
        "a picture without words": not each["pictures"] or each["undescribed"],
        "letters too small to read": each["text"] <= 5,  # pixels
        "half of a desk is empty": each["width"] == WIDTHS[-1] and each["used"] < 0.6 * WIDTHS[-1],
    }
    return [words for words, wrong in checks.items() if wrong]


def test_two_ladders_at_three_widths(tmp_path):
    paths = ladder_study(tmp_path, [*LR, *NOISE[1:]], range(4), ("full", "probe"), noise=0.02)
    report(
        tmp_path / "report",
        *flags_of(LADDERS),
        "--reference",
        study.PUBLISHED,
        *paths,
    )
    check(tmp_path / "report" / "index.html", tmp_path)


def test_a_study_of_one_minimum(tmp_path):
    made = report(tmp_path / "report", *ladder_study(tmp_path, ["adam"], [0]))
    check(tmp_path / "report" / "index.html", tmp_path)
    assert "1 minimum (1 setting x 1 seed)" in made.page
    assert not re.findall(r"\bnan\b", words_of(made.page))


def test_a_study_of_sixty_minima(tmp_path):
    paths = ladder_study(tmp_path, [*LR, *NOISE[1:]], range(9))
    assert len({path.parent for path in paths if path.name == "passport.h5"}) >= 60
    report(tmp_path / "report", *flags_of(LADDERS), *paths)
    check(tmp_path / "report" / "index.html", tmp_path)


ODD = ["adam@<b>x<i>", "adam@&amp;=", "adam@$\\frac{", "adam@" + "long" * 20]


def test_odd_names_and_missing_values(tmp_path, monkeypatch):
    """Names are text wherever they stand; what is not a number is a dash."""

    def truth(setting, seed, noise):
        known = noisy_truth(LR[ODD.index(setting)], seed, noise)
        return dict.fromkeys(known, np.nan) if (setting, seed) == (ODD[0], 1) else known

    monkeypatch.setattr(test_answer, "noisy_truth", truth)
    made = report(tmp_path / "report", *ladder_study(tmp_path, ODD, range(2)))
    check(tmp_path / "report" / "index.html", tmp_path)
    assert "<b>x" not in (tmp_path / "report" / "index.html").read_text()
    assert all(f"{name}-1" in made.page for name in ODD) and "–" in made.page
    assert not re.findall(r"\bnan\b", words_of(made.page))


@pytest.mark.parametrize(
    "odd, words",
    [
        ('<div style="width: 2000px">x</div>', "wider than the window"),
        ("<svg><text>x</text></svg>", "a picture without words"),
        ("<script>nothing()</script>", "nothing is not defined"),
        ('<svg role="img" aria-label="x"><text font-size="3">x</text></svg>', "too small to read"),
        ("<style>svg { width: 300px !important }</style>", "half of a desk is empty"),
    ],
)
def test_what_is_wrong_with_a_page_is_seen(odd, words, tmp_path):
    good = '<svg role="img" aria-label="x" style="width: 100%"><text y="20">x</text></svg>'
    page = tmp_path / "page.html"
    page.write_text(f"<body>{good}")
    check(page, tmp_path)
    page.write_text(f"<body>{good}{odd}")
    with pytest.raises(AssertionError, match=words):
        check(page, tmp_path)
