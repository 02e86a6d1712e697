"""A headless Chromium in which tests open pages, and what a page asked for and complained about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.processes import TIMEOUT

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
NEEDED = (
    "no Chromium: apt-get install chromium chromium-driver, or bash launch/test.sh --with-chromium"
)
# As root in a container it has no sandbox of its own, and a small /dev/shm. Nothing is looked up.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
WIDE, PHONE = (1280, 900), (390, 844)


class Browser:
    """A window of Chromium without a network, or `local`, with this machine's own."""

    def __init__(self, driver: webdriver.Chrome, local: bool = False) -> None:
        self.driver = driver
        self.look(*WIDE)
        # file: and data: are read all the same.
        offline = {
            "offline": not local,
            "latency": 0,
            "downloadThroughput": 0,
            "uploadThroughput": 0,
        }
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """The window's size in pixels, and the surroundings."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # no scrolling to wait for
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def scripts(self, allowed: bool) -> None:
        """Whether pages opened from now on run scripts."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def open(self, page: Path | str, place: str = "") -> None:
        """Opens a file or an address afresh; what was asked for and said before is forgotten."""
        self.driver.get("about:blank")
        self.requests()
        self.messages()
        self.driver.get((page if isinstance(page, str) else page.as_uri()) + place)

    def events(self) -> list[dict[str, Any]]:
        """What DevTools logged of the network since the last call; the log comes a little late."""
        return [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call, without data: URIs."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events()
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("data:", "about:"))]

    def messages(self) -> list[str]:
        """What the console was told since the last call: errors, and what the policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def all(self, selector: str) -> list[WebElement]:
        """The elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The only such element."""
        (found,) = self.all(selector)
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The texts of elements, shown or not."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return self.run(script, selector)

    def wait(self, until: Callable[[], Any]) -> Any:
        """Waits until something is true, and gives it."""
        return WebDriverWait(self.driver, TIMEOUT, poll_frequency=0.02).until(lambda _: until())

    def keys(self, *keys: str) -> None:
        """Types into what has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def point(self, element: WebElement) -> None:
        """Moves the mouse onto an element, which is scrolled into view."""
        self.run("arguments[0].scrollIntoView({ block: 'center' })", element)
        ActionChains(self.driver).move_to_element(element).perform()

    def click(self, element: WebElement) -> None:
        """Clicks an element, which is scrolled into view."""
        self.point(element)
        element.click()

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        page = "document.documentElement"
        return self.run(f"return {page}.scrollWidth - {page}.clientWidth")


@contextmanager
def started(folder: Path, *flags: str, local: bool = False) -> Iterator[Browser]:
    """A browser with a new profile in `folder`, with more flags; see `Browser` for `local`."""
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, *flags, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver, local)
    finally:
        driver.quit()
