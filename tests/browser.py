"""Chromium without a window, for tests that drive a page as a person would."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NEEDED = ("chromium", "chromedriver")


class Browser:
    """One window. `driver` is Selenium's."""

    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which(NEEDED[0]) or ""
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-device-scale-factor=1"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which(NEEDED[1])))
        self.driver.set_script_timeout(60)

    def open(self, page: str | Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a URL or a file, in a window of this size; what was told before is forgotten."""
        self.size(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.console(), self.requests()
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def size(self, width: int, height: int) -> None:
        """Of what is seen of the page, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def console(self) -> list[str]:
        """Warnings and errors of the page since the last call, those of its policy too."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """URLs that the page asked for since the last call, its own among them; data: and blob: are none."""
        told = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [each["params"]["request"]["url"] for each in told if each["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def screenshot(self, path: Path) -> None:
        """The whole page, not only what is in the window, as a PNG."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        how = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, **_of(size), "scale": 1}}
        path.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", how)["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        path.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", {})["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, ended afterwards; skips the test where there is none."""
    pytest.importorskip("selenium")
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        pytest.skip(f"there is no {' and no '.join(missing)}")
    browser = Browser()
    try:
        yield browser
    finally:
        browser.driver.quit()


def _of(size: dict[str, float]) -> dict[str, float]:
    return {"width": size["width"], "height": size["height"]}
