"""The pages in a real browser: what they show, what can be done with them, and that they ask for
nothing."""

import base64
import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest

from tests.report.examples import RECORDS, face, scores
from tests.studies.examples import finished
from vlfau_jax.evaluation.evaluate import evaluate
from vlfau_jax.inference.explained import WordMaps
from vlfau_jax.report import render
from vlfau_jax.report.ablation_page import render_ablation
from vlfau_jax.report.crossval_page import render_crossval
from vlfau_jax.report.training_data import inspect_data
from vlfau_jax.report.transfer_page import render_transfer
from vlfau_jax.studies import ablation_result, crossval
from vlfau_jax.studies.transfer import transfer
from vlfau_jax.train.workdir import read_config

pytest.importorskip("selenium", reason="no selenium: pip install -r requirements-test.txt")

from selenium.webdriver.common.keys import Keys

from tests.report.browser import CHROMIUM, DRIVER, NEEDED, PHONE, WIDE, started

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=NEEDED)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture(scope="module")
def report(workdir, tmp_path_factory):
    """The page of an evaluated run, of an untrained network."""
    folder = shutil.copytree(workdir, tmp_path_factory.mktemp("report") / "run")
    evaluate(folder, batch_size=20, render=render)
    return folder / "report.html"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A page of three faces of eight units, and the faces."""
    labels = [1, 0, 0, 1, 0, -1, 0, 0]
    faces = [
        face(labels, title="one, task 1, frame 1"),
        face([0, 1, 0, 0, 0, 0, 0, 0], title="two, task 1, frame 1"),
        face(labels, stated=np.ones(8, bool), title="three, task 1, frame 1"),
    ]
    faces[1] = dataclasses.replace(faces[1], chosen_by=("worst", "best"))
    page = tmp_path_factory.mktemp("small") / "report.html"
    page.write_text(render(scores(), RECORDS, faces))
    return page, faces


@pytest.fixture(scope="module")
def pages(report, workdir, model_folder, prepared, tmp_path_factory):
    """A page of every kind, by name."""
    folder = tmp_path_factory.mktemp("pages")
    folds = (1, 2, 3)
    result = crossval.summarise({fold: finished(fold) for fold in folds}, folds)
    for fold in folds:
        result["folds"][fold]["report"] = f"fold{fold}/report.html"
        (folder / f"fold{fold}").mkdir()
        shutil.copy(report, folder / f"fold{fold}")
    (folder / "crossval.html").write_text(render_crossval(result))
    rows = {"full": {}, "no local": {"model.local_captions": False}}
    cells = {
        (row, seed, fold): finished(fold, seed, wrong, name=row)
        for row, wrong in zip(rows, (0.1, 0.4), strict=True)
        for seed in (0, 1)
        for fold in (1, 2)
    }
    study = ablation_result.summarise(cells, rows, (0, 1), (1, 2))
    (folder / "ablation.html").write_text(render_ablation(study))
    from vlfau_jax.cli.settings import resolve

    inspect_data(resolve(read_config(workdir)), folder / "data", faces=3)
    transfer(model_folder, prepared, out=folder / "transfer", render=render_transfer)
    return {
        "report": report,
        "crossval": folder / "crossval.html",
        "ablation": folder / "ablation.html",
        "data": folder / "data" / "index.html",
        "transfer": folder / "transfer" / "transfer.html",
    }


def test_the_browser_sees_what_a_page_asks_for_and_complains_about(browser, tmp_path):
    """The tests below would pass of any page if it did not."""
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><title>x</title><img src='http://example.com/a.png'>"
        "<div style='width:3000px'>wide</div><script>nothing()</script>"
    )
    browser.open(page)
    assert browser.overflow() > 1000
    asked = browser.requests()
    assert asked == [page.as_uri(), "http://example.com/a.png"]
    told = " ".join(browser.messages())
    assert "nothing is not defined" in told
    guarded = tmp_path / "guarded.html"
    guarded.write_text(
        "<!doctype html><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
        "<img src='http://example.com/a.png'>"
    )
    browser.open(guarded)
    assert "Content Security Policy" in " ".join(browser.messages())


@pytest.mark.parametrize("name", ["report", "crossval", "ablation", "data", "transfer"])
def test_a_page_asks_for_nothing_and_fits_every_window(browser, pages, name):
    for size in (WIDE, PHONE):
        for dark in (False, True):
            browser.look(*size, dark=dark)
            browser.open(pages[name])
            assert browser.requests() == [pages[name].as_uri()]
            assert browser.messages() == []
            assert browser.overflow() == 0
            background = browser.run("return getComputedStyle(document.body).backgroundColor")
            assert (int(background.strip("rgb()").split(",")[0]) < 128) == dark
    browser.look(*WIDE)


@pytest.mark.parametrize("name", ["report", "crossval", "ablation", "data", "transfer"])
def test_tables_sort_by_any_column_and_undefined_values_stay_last(browser, pages, name):
    browser.open(pages[name])
    heads = browser.all("table.sortable thead [data-sort=number] button")
    assert len(heads) > 4
    script = """
        const head = arguments[0].closest("th"), table = head.closest("table");
        const column = [...table.querySelectorAll("thead tr:last-child > *")].indexOf(head);
        return [head.ariaSort, [...table.tBodies[0].rows].map((row) => row.cells[column])
            .map((cell) => cell.dataset.value ?? cell.textContent)]"""
    for head in (heads[0], heads[2], heads[-1]):
        orders = set()
        for _ in range(2):
            browser.run("arguments[0].click()", head)
            order, values = browser.run(script, head)
            orders.add(order)
            known = [float(value) for value in values if value]
            assert values[len(known) :] == [""] * (len(values) - len(known))
            assert known == sorted(known, reverse=order == "descending")
        assert orders == {"ascending", "descending"}


def shown(browser):
    script = (
        "return [...document.querySelectorAll('.face')].filter((f) => !f.hidden).map((f) => f.id)"
    )
    return browser.run(script)


def select(browser, name, value):
    browser.run(
        "const field = document.querySelector(`[data-filter=${arguments[0]}]`);"
        "field.value = arguments[1]; field.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def test_faces_are_filtered_by_unit_state_and_rule(browser, small):
    page, faces = small
    browser.open(page)
    assert shown(browser) == ["face-1", "face-2", "face-3"]
    first, second = faces[0].prediction.aus[:2]
    select(browser, "unit", str(first))
    assert shown(browser) == ["face-1", "face-3"]
    select(browser, "state", "wrong")
    assert shown(browser) == []
    select(browser, "unit", str(second))
    assert shown(browser) == ["face-3"]
    assert browser.texts(".filters output") == ["1 of 3"]
    select(browser, "unit", "")
    select(browser, "rule", "best")
    assert shown(browser) == ["face-2"]


def title(browser):
    """Of the face in the viewer; None while it is closed."""
    return browser.run(
        "return document.querySelector('dialog[open] .face h3')?.textContent ?? null"
    )


def place(browser):
    return browser.run("return location.hash")


def test_the_viewer_opens_steps_and_closes(browser, small):
    page, _ = small
    browser.open(page)
    assert title(browser) is None
    browser.click(browser.one("#face-2 .open"))
    browser.wait(lambda: title(browser) == "two, task 1, frame 1")
    browser.keys(Keys.ARROW_LEFT)
    assert (title(browser), place(browser)) == ("one, task 1, frame 1", "#face-1")
    assert browser.one("[data-step='-1']").get_attribute("disabled")
    browser.keys(Keys.ARROW_LEFT)
    assert title(browser) == "one, task 1, frame 1"
    browser.click(browser.one("[data-step='1']"))
    browser.keys(Keys.ARROW_RIGHT)
    assert title(browser) == "three, task 1, frame 1"
    assert browser.texts("#viewer output") == ["3 of 3"]
    browser.keys(Keys.ARROW_RIGHT)
    assert title(browser) == "three, task 1, frame 1"
    browser.keys(Keys.ESCAPE)
    browser.wait(lambda: title(browser) is None)
    assert shown(browser) == ["face-1", "face-2", "face-3"], "each is back in its place"
    assert place(browser) == "#faces"
    focused = browser.run("return document.activeElement.getAttribute('href')")
    assert focused == "#face-3", "the keyboard goes on at the face that was shown"
    browser.keys(Keys.ENTER)
    browser.wait(lambda: title(browser) == "three, task 1, frame 1")
    browser.click(browser.one("[data-close]"))
    browser.wait(lambda: title(browser) is None)
    assert browser.messages() == []


def test_a_link_leads_to_a_face_in_the_viewer(browser, small):
    page, _ = small
    browser.open(page, "#face-3")
    assert title(browser) == "three, task 1, frame 1"
    browser.run("location.hash = '#face-1'")
    browser.wait(lambda: title(browser) == "one, task 1, frame 1")
    browser.run("location.hash = '#units'")
    browser.wait(lambda: title(browser) is None)
    assert place(browser) == "#units"
    browser.open(page, "#face-9")
    assert title(browser) is None and browser.messages() == []


def test_the_viewer_steps_through_the_faces_that_the_filter_shows(browser, small):
    page, faces = small
    browser.open(page)
    select(browser, "unit", str(faces[0].prediction.aus[0]))
    browser.click(browser.one("#face-1 .open"))
    browser.wait(lambda: title(browser))
    browser.keys(Keys.ARROW_RIGHT)
    assert title(browser) == "three, task 1, frame 1"
    browser.run("location.hash = '#face-2'")
    browser.wait(lambda: title(browser) == "two, task 1, frame 1")
    assert browser.run("return document.querySelector('#face-2').checkVisibility()")
    browser.keys(Keys.ESCAPE)
    browser.wait(lambda: title(browser) is None)
    assert shown(browser) == ["face-1", "face-3"]


def picture(browser, layer="words"):
    """What lies over the face in a figure of the viewer: an image's address, or "canvas"."""
    script = """
        const figure = document.querySelector(`dialog .stage [data-layer=${arguments[0]}]`);
        if (figure.hidden || !figure.checkVisibility()) return null;
        const layer = figure.querySelector(".picture").lastElementChild;
        return layer.tagName === "CANVAS" ? "canvas" : layer.src;"""
    return browser.run(script, layer)


def test_a_unit_is_chosen_with_its_maps_and_its_sentence(browser, small):
    page, faces = small
    browser.open(page, "#face-1")
    buttons = browser.all("#face-1 .unit th button")
    browser.run("arguments[0].focus()", buttons[0])
    browser.keys(Keys.ARROW_DOWN)
    row = browser.all("#face-1 .unit")[1]
    assert "chosen-row" in row.get_attribute("class")
    script = "return arguments[0].querySelector(`[data-map=${arguments[1]}] img`).src"
    assert picture(browser, "branch") == browser.run(script, row, "branch")
    assert picture(browser, "words") is None, "one picture is in front"
    (words,) = [b for b in browser.all("#face-1 .layers button") if b.text == "words"]
    browser.click(words)
    assert picture(browser, "words") == browser.run(script, row, "words")
    assert picture(browser, "branch") is None
    told = browser.one("#face-1 .chosen").text
    assert faces[0].prediction.sentences[1] in told and "score 0.10" in told
    browser.keys(Keys.ESCAPE)


def pixels(browser):
    """RGBA of the word's map in the viewer, uint8 [h, w, 4]."""
    script = """
        const canvas = document.querySelector("dialog .stage canvas");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.width, [...data]]"""
    width, values = browser.run(script)
    return np.array(values, np.uint8).reshape(-1, width, 4)


def test_a_word_shows_where_the_model_looked_as_it_wrote_it(browser, small):
    page, faces = small
    browser.open(page, "#face-1")
    data = json.loads(browser.texts("#data")[0])["faces"][0]
    levels = np.frombuffer(base64.b64decode(data["maps"]), np.uint8).reshape(-1, *data["grid"])
    sentence = faces[0].words[0]
    words = browser.all("#face-1 .unit:first-child .word")
    assert [word.text for word in words] == [text.strip() for text in sentence.words]
    browser.click(words[1])
    assert picture(browser) == "canvas"
    first = pixels(browser)
    enlarged = cv2.resize(
        levels[1].astype(np.float32), first.shape[1::-1], interpolation=cv2.INTER_CUBIC
    )
    np.testing.assert_allclose(first[..., 3], 0.65 * np.clip(enlarged, 0, 255), atol=1.5)
    even = sentence.maps[1].max() / sentence.maps[1].mean()
    caption = browser.one("dialog [data-layer=words] figcaption")
    assert f"“{words[1].text}”: at most {even:.1f} times even attention" in caption.text
    assert words[1].get_attribute("aria-pressed") == "true"

    browser.keys(Keys.ARROW_RIGHT)
    assert browser.run("return document.activeElement.textContent") == words[2].text
    assert (pixels(browser) != first).any() and words[2].text in caption.text
    assert title(browser) == "one, task 1, frame 1", "the arrows of a word are its sentence's"

    browser.point(words[3])
    browser.wait(lambda: words[3].text in caption.text)
    browser.point(browser.one("#viewer output"))
    browser.wait(lambda: words[2].text in caption.text)

    browser.keys(Keys.HOME, Keys.ARROW_LEFT)
    assert f"“{words[0].text}”" in caption.text
    stops = browser.run(
        "return [...document.querySelectorAll('#face-1 .word')].filter((w) => w.tabIndex === 0)"
        ".length"
    )
    assert stops == len(data["sentences"]), "one place for the Tab key in a sentence"
    browser.keys(Keys.ESCAPE)
    assert browser.messages() == []


def test_words_of_the_whole_face_have_their_maps_too(browser, small):
    page, faces = small
    browser.open(page, "#face-2")
    words = browser.all("#face-2 .pair .word")
    browser.click(words[-1])
    assert picture(browser) == "canvas" and picture(browser, "branch") is None
    assert not browser.all("#face-2 .chosen-row")
    assert faces[1].prediction.sentence in browser.one("#face-2 .chosen").text
    browser.click(browser.all("#face-2 .unit th button")[1])
    assert picture(browser, "branch").startswith("data:image/webp")
    browser.keys(Keys.ESCAPE)


def test_a_word_on_the_page_itself_changes_the_map_of_its_card(browser, report):
    browser.open(report)
    card = "article.face"
    words = browser.all(f"{card} .pair .word")
    assert words
    browser.click(words[0])
    layers = (
        "return [...document.querySelectorAll('article .stage [data-layer=words] canvas')].length"
    )
    assert browser.run(layers) == 1
    assert browser.all(f"{card} .stage [data-layer=words] figcaption")[0].text.startswith(
        f"attention at the word “{words[0].text}”"
    )


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_viewer_fits_the_window(browser, report, size):
    browser.look(*size, dark=size == PHONE)
    browser.open(report, "#face-2")
    box = browser.run("return document.querySelector('#viewer').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0 and box["right"] <= size[0] and box["bottom"] <= size[1]
    face = browser.run(
        "return document.querySelector('dialog .front .picture').getBoundingClientRect().toJSON()"
    )
    assert face["width"] > 250 and face["bottom"] < size[1]
    assert face["width"] == pytest.approx(face["height"], abs=1)
    wider = browser.run(
        "return [...document.querySelectorAll('#viewer, #viewer .slot, #viewer .told')]"
        ".filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.className)"
    )
    assert wider == [] and browser.overflow() == 0
    browser.point(browser.one("dialog .rule"))
    tip = browser.wait(
        lambda: browser.run(
            "const tip = document.getElementById('tip'); if (tip.hidden) return null;"
            "const box = tip.getBoundingClientRect();"
            "return [document.elementsFromPoint(box.x + 5, box.y + 5).length > 0,"
            " tip.closest('dialog') !== null, box.right]"
        )
    )
    assert tip[1] and tip[2] <= size[0], "in the dialog, below which all else lies"
    browser.keys(Keys.ESCAPE)
    browser.look(*WIDE)


def test_a_page_can_be_read_without_scripts(browser, small):
    page, faces = small
    browser.scripts(allowed=False)
    try:
        browser.open(page)
        cards = browser.all("article")
        assert len(cards) == 3
        for card, one in zip(cards, faces, strict=True):
            for sentence in (*one.prediction.sentences, one.prediction.sentence):
                assert sentence in card.text
        assert not browser.one("#viewer").is_displayed()
        assert not any(one.is_displayed() for one in browser.all(".filters, .stage figure[hidden]"))
        assert all(one.is_displayed() for one in browser.all(".thumb img"))
        assert browser.requests() == [page.as_uri()]
    finally:
        browser.scripts(allowed=True)


def test_words_from_data_stay_text_in_the_script(browser, tmp_path):
    hostile = " <img src=x onerror=window.evil=1> </script><b>"
    one = face([1, 0, 0, 0, 0, 0, 0, 0])
    words = WordMaps(("a", hostile), np.ones((2, 4, 4)))
    text = "".join(words.words)
    prediction = dataclasses.replace(one.prediction, sentences=(text,) * 8, sentence=text)
    one = dataclasses.replace(one, prediction=prediction, words=(words,) * 8, global_words=words)
    page = tmp_path / "page.html"
    page.write_text(render(scores(), [], [one]))
    browser.open(page, "#face-1")
    browser.click(browser.all("#face-1 .pair .word")[1])
    assert picture(browser) == "canvas"
    assert hostile.strip() in browser.texts("dialog [data-layer=words] figcaption")[0]
    assert browser.run("return window.evil ?? null") is None
    assert browser.messages() == [] and browser.requests() == [page.as_uri()]


def test_the_table_of_folds_leads_to_their_pages(browser, pages):
    browser.open(pages["crossval"])
    browser.click(browser.all("#folds + .card a")[1])
    browser.wait(lambda: "fold2/report.html" in browser.driver.current_url)
    assert browser.texts("h1") == ["Facial action units, explained"]
    assert browser.messages() == []
