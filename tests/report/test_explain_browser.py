"""The page of `explain` in a real browser: the slider, the strips, the words, without a network."""

import numpy as np
import pytest

pytest.importorskip("selenium", reason="no selenium: pip install -r requirements-test.txt")

from selenium.webdriver.common.keys import Keys

from tests.report.browser import CHROMIUM, DRIVER, NEEDED, PHONE, WIDE, started
from tests.report.test_explain import look_of, shots_of
from tests.serve.known import KnownModel
from vlfau_jax.report.explain import explain_clip

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=NEEDED)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A clip of 20 frames, 5 a second; the sixth to the tenth show no face."""
    model = KnownModel()
    bright, dark = (np.full((40, 40, 3), level, np.uint8) for level in (180, 0))
    frames = [(k / 5, dark if 5 <= k < 10 else bright) for k in range(20)]
    path = tmp_path_factory.mktemp("clip") / "clip.html"
    title = "a <b>clip</b>.mp4"
    path.write_text(explain_clip(model, shots_of(frames), title, look_of(model)))
    return path


def now(browser):
    """The time, the sentence, the first unit's score, and where the cursor is."""
    cursor = browser.run("return document.querySelector('.cursor').style.left")
    values = browser.texts(".clip .value")
    return browser.texts(".when")[0], browser.texts(".said")[0], values[0], cursor


def test_it_asks_for_nothing_and_fits_every_window(browser, page):
    for size in (WIDE, PHONE):
        for dark in (False, True):
            browser.look(*size, dark=dark)
            browser.open(page)
            assert browser.requests() == [page.as_uri()]
            assert browser.messages() == []
            assert browser.overflow() == 0
    browser.look(*WIDE)
    assert browser.texts("h1") == ["What happens in a <b>clip</b>.mp4"]


def test_the_slider_moves_along_the_clip(browser, page):
    sentence = KnownModel().explanation.prediction.sentence
    browser.open(page)
    assert now(browser) == ("0:00.0", sentence, "0.90", "2.5%")
    browser.one(".scrub input").send_keys(Keys.ARROW_RIGHT * 3)
    assert now(browser) == ("0:00.6", sentence, "0.90", "17.5%")
    assert browser.run("return document.querySelector('.still').naturalWidth") == 224
    browser.one(".scrub input").send_keys(Keys.ARROW_RIGHT * 4)
    assert now(browser) == ("0:01.4", "no face", "-", "37.5%")
    assert not browser.one(".still").is_displayed()
    assert browser.one(".scrub input").get_attribute("aria-valuetext") == "0:01.4"


def test_a_click_on_a_strip_goes_there(browser, page):
    browser.open(page)
    browser.click(browser.all(".strip svg")[2])  # its middle
    assert now(browser)[0] in ("0:01.8", "0:02.0")


def test_the_clip_plays_to_its_end(browser, page):
    browser.open(page)
    browser.one(".scrub input").send_keys(Keys.END, Keys.ARROW_LEFT)
    browser.click(browser.one(".play"))
    browser.wait(lambda: browser.texts(".play") == ["Play"])
    assert now(browser)[0] == "0:03.8"


def test_the_face_at_a_peak_is_told_word_by_word(browser, page):
    browser.open(page)
    assert browser.texts(".face h3") == ["0:00.0, AU01 at its highest"]
    browser.click(browser.all(".unit .word")[2])
    assert browser.all("[data-layer=words] canvas")
    assert browser.texts(".units thead th") == ["unit", "score", "maps", "sentence"]


def test_without_scripts_the_strips_and_faces_are_there(browser, page):
    browser.scripts(False)
    try:
        browser.open(page)
        assert len([svg for svg in browser.all(".strip svg") if svg.is_displayed()]) == 8
        assert not browser.one(".scrub input").is_displayed()
    finally:
        browser.scripts(True)
