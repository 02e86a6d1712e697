"""The page in a real browser: pictures and the camera in, cards out, nothing asked elsewhere."""

import numpy as np
import pytest

pytest.importorskip("selenium", reason="no selenium: pip install -r requirements-test.txt")

from selenium.webdriver.common.keys import Keys

from tests.report.browser import CHROMIUM, DRIVER, NEEDED, PHONE, WIDE, started
from tests.serve.conftest import served
from tests.serve.known import KnownModel
from tests.serve.pictures import CROWD, FACE, NO_FACE

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=NEEDED)

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, by names of every kind, and what a camera shows."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "face.jpg").write_bytes(FACE)
    (folder / "crowd.jpg").write_bytes(CROWD)
    (folder / "dark.jpg").write_bytes(NO_FACE)
    (folder / "text.jpg").write_text("no picture")
    (folder / HOSTILE).write_bytes(FACE)
    rows = np.full((48, 64), 180, np.uint8).tobytes() + bytes([128]) * (48 * 64 // 2)
    frames = b"".join(b"FRAME\n" + rows for _ in range(10))
    (folder / "camera.y4m").write_bytes(b"YUV4MPEG2 W64 H48 F10:1 Ip A1:1 C420jpeg\n" + frames)
    return folder


@pytest.fixture(scope="module")
def browser(folder, tmp_path_factory):
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={folder / 'camera.y4m'}",
    )
    with started(tmp_path_factory.mktemp("chromium"), *flags, local=True) as one:
        yield one


@pytest.fixture(scope="module")
def client():
    with served(KnownModel(), most_megabytes=1) as one:
        yield one


def choose(browser, *paths):
    browser.one("#files").send_keys("\n".join(map(str, paths)))
    browser.wait(lambda: browser.texts("#status")[0] == f"{len(paths)} of {len(paths)} done.")


def enlarge(browser, k, place):
    """Opens the viewer at a card, by its link: what follows the address comes later."""
    browser.click(browser.all(".open")[k])
    browser.wait(lambda: browser.texts("dialog output") == [place])


def test_a_picture_becomes_a_card(browser, client, folder):
    browser.open(f"{client.origin}/")
    choose(browser, folder / "face.jpg")
    assert browser.texts(".face h3") == ["face.jpg"]
    units = browser.texts(".unit th")
    assert [text[:4] for text in units] == [f"AU{au:02d}" for au in KnownModel.aus]
    assert browser.texts(".chosen b")[0].startswith("AU01")
    word = browser.all(".unit .word")[3]
    browser.click(word)
    assert browser.all("[data-layer=words] canvas"), "where the model looked at this word"
    assert word.text in browser.one("[data-layer=words] figcaption").text
    enlarge(browser, 0, "1 of 1")
    browser.keys(Keys.ESCAPE)
    assert set(browser.requests()) == {f"{client.origin}/", f"{client.origin}/card"}
    assert browser.messages() == []


def test_every_face_has_a_card_that_can_be_enlarged(browser, client, folder):
    browser.open(f"{client.origin}/")
    choose(browser, folder / "face.jpg", folder / "crowd.jpg")
    names = [f"crowd.jpg, face {k}" for k in range(1, 6)]
    assert browser.texts(".face h3") == [*names, "face.jpg"]
    ids = browser.run("return [...document.querySelectorAll('.face')].map((one) => one.id)")
    assert len(set(ids)) == 6
    enlarge(browser, 1, "2 of 6")
    assert browser.texts("dialog h3") == [names[1]]
    browser.keys(Keys.ARROW_RIGHT)
    browser.wait(lambda: browser.texts("dialog h3") == [names[2]])
    browser.keys(Keys.ESCAPE)
    assert browser.messages() == []


def test_what_cannot_be_described_says_why(browser, client, folder, tmp_path):
    (tmp_path / "large.jpg").write_bytes(FACE + bytes(1 << 20))
    browser.open(f"{client.origin}/")
    choose(browser, folder / "dark.jpg", folder / "text.jpg", tmp_path / "large.jpg")
    large, text, dark = browser.texts("#cards .warn")
    assert dark.startswith("dark.jpg: no face: the crop rule finds no face")
    assert text.startswith("text.jpg: not read: no JPEG")
    assert large == "large.jpg: larger than this server takes"


def test_names_of_files_are_text(browser, client, folder):
    browser.open(f"{client.origin}/")
    choose(browser, folder / HOSTILE)
    assert browser.texts(".face h3") == [HOSTILE]
    assert not browser.all("h3 img")
    assert browser.messages() == []


def test_pictures_are_dropped(browser, client):
    browser.open(f"{client.origin}/")
    browser.run(
        """
        const bytes = Uint8Array.from(arguments[0]);
        const all = new DataTransfer();
        for (const name of ["one.jpg", "two.jpg"]) all.items.add(new File([bytes], name));
        const event = { bubbles: true, cancelable: true, dataTransfer: all };
        document.getElementById("drop").dispatchEvent(new DragEvent("dragover", event));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", event));
        """,
        list(FACE),
    )
    browser.wait(lambda: browser.texts("#status") == ["2 of 2 done."])
    assert browser.texts(".face h3") == ["two.jpg", "one.jpg"]
    enlarge(browser, 0, "1 of 2")
    browser.keys(Keys.ARROW_RIGHT)
    browser.wait(lambda: browser.texts("dialog output") == ["2 of 2"])
    assert browser.texts("dialog h3") == ["one.jpg"]


def test_the_camera_is_described_until_it_is_stopped(browser, client):
    browser.open(f"{client.origin}/")
    before = sum(client.describer.runs)
    browser.click(browser.one("#camera"))
    browser.wait(lambda: browser.texts(".face h3") == ["camera"])
    browser.run("document.querySelectorAll('.unit th button')[4].click()")
    chosen = "return document.querySelector('.face').dataset.chosen"
    picked = browser.run(chosen)
    browser.wait(lambda: browser.texts("#status")[0].startswith("4 frames"))
    assert len(browser.all(".face")) == 1, "one card, whose place every frame takes"
    assert browser.run(chosen) == picked == str(KnownModel.aus[4])
    assert sum(client.describer.runs) - before >= 4
    browser.click(browser.one("#camera"))
    browser.wait(lambda: browser.texts("#status") == ["The camera is off."])
    assert browser.messages() == []


def test_it_fits_every_window(browser, client, folder):
    for size in (WIDE, PHONE):
        for dark in (False, True):
            browser.look(*size, dark=dark)
            browser.open(f"{client.origin}/")
            choose(browser, folder / "face.jpg")
            assert browser.overflow() == 0
            assert browser.messages() == []
    browser.look(*WIDE)


def test_another_page_cannot_send_pictures(browser, client):
    """As a page on another port of this machine, which is another origin."""
    with served(KnownModel()) as other:
        browser.open(f"{other.origin}/api/model")
        browser.events()
        kind = browser.driver.execute_async_script(
            """
            const [address, done] = arguments;
            fetch(address, { method: "POST", mode: "no-cors", body: "x" })
                .then((answer) => done(answer.type), (error) => done(error.name));
            """,
            f"{client.origin}/card",
        )
        assert kind == "TypeError", "the browser keeps the answer from the page, too"
        address, events = f"{client.origin}/card", []
        assert browser.wait(lambda: statuses(events, browser.events(), address)) == [403]


def statuses(events, new, address):
    """Of the answers from an address, also those that no page gets; `events` get the new ones."""
    events += new
    params = {"requestWillBeSent": [], "responseReceivedExtraInfo": []}
    for event in events:
        params.get(event["method"].removeprefix("Network."), []).append(event["params"])
    sent, received = params.values()
    asked = {one["requestId"] for one in sent if one["request"]["url"] == address}
    return [one["statusCode"] for one in received if one["requestId"] in asked]
