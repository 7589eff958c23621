"""The gateway's page in a browser: looked at, pressed, typed into and downloaded from, as people do."""

from __future__ import annotations

import csv
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import pytest
from device import PATIENCE_S, eventually
from page_device import BEGIN, FAULTS, HOSTILE, NAME, SAMPLES, PageGateway, hostile_model, lines

if TYPE_CHECKING:
    from browser import Browser

SPAN = {"from": BEGIN, "to": BEGIN + SAMPLES}
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
PIXELS = """
return [...document.querySelectorAll('canvas')].map(canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return data.reduce((sum, value, i) => sum + (i % 4 === 3 && value > 0), 0) / (canvas.width * canvas.height);
})"""
"""How much of each chart is drawn on."""


class Page:
    """What a person does with it."""

    def __init__(self, browser: Browser, gateway: PageGateway) -> None:
        self.browser = browser
        self.driver = browser.driver
        self.gateway = gateway

    def open(self, width: int = 1280, dark: bool = False, stream: str | None = NAME) -> None:
        self.driver.get("about:blank")  # else only the fragment may change
        fragment = "" if stream is None else f"#{urlencode({'stream': stream})}"
        self.browser.open(f"{self.gateway.url}/{fragment}", width, 900, dark)
        if stream is not None:
            self.press("#spans button", "Hour")
            script = "return view.curves && view.seconds === 3600 && charts.length"
            eventually(lambda: self.driver.execute_script(script) == 4, "that the last hour is drawn")
            assert len(self.texts("#alarms strong")) == len(FAULTS)

    def press(self, css: str, words: str = "") -> None:
        eventually(lambda: self._pressed(css, words), f"that {words or css} can be pressed")

    def _pressed(self, css: str, words: str) -> bool:
        from selenium.common.exceptions import WebDriverException

        for each in self.driver.find_elements("css selector", css):
            try:
                if words in each.text and each.is_displayed():
                    each.click()
                    return True
            except WebDriverException:  # it was drawn anew just now
                return False
        return False

    def texts(self, css: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
        return self.driver.execute_script(script, css)

    def type(self, css: str, *keys: str) -> None:
        self.driver.find_element("css selector", css).send_keys(*keys)

    def says(self, words: str) -> None:
        eventually(lambda: words in self.texts("#said")[0], f"that it says {words}")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageGateway]:
    folder = tmp_path_factory.mktemp("page")
    arguments = ("--state", folder / "state", "--record", folder / "record.csv")
    with PageGateway(hostile_model(folder / "m.onnx"), *arguments) as gateway:
        gateway.feed(lines())
        gateway.seen(SAMPLES - 10)
        eventually(lambda: len(gateway.api("alarms", **SPAN)) == len(FAULTS), "that all is on disk")
        yield gateway


@pytest.fixture
def page(browser: Browser, gateway: PageGateway) -> Iterator[Page]:
    """Whatever was done with it, it has told no error and asked nobody else, and no name became HTML."""
    page = Page(browser, gateway)
    yield page
    assert not browser.console()
    assert {urlsplit(url).netloc for url in browser.requests()} <= {urlsplit(gateway.url).netloc, ""}
    assert not page.driver.find_elements("css selector", "img, main script, main b")


@pytest.mark.parametrize(("width", "dark"), [(400, False), (1280, True), (2560, False)])
def test_it_fits_and_draws_every_curve(page: Page, width: int, dark: bool) -> None:
    page.open(width, dark, stream=None)
    eventually(lambda: page.texts("#cards a") == [NAME], "that the stream is listed")
    assert page.driver.execute_script(OVERFLOW) <= 0
    page.press("#cards a")
    page.press("#spans button", "Hour")
    eventually(lambda: len(page.texts("canvas")) == 4, "that score and three sensors are drawn")
    eventually(lambda: all(0.001 < part < 0.9 for part in page.driver.execute_script(PIXELS)), "that they are drawn")
    assert page.driver.execute_script(OVERFLOW) <= 0
    assert set(page.texts("#curves h3")) == {f"{name} [u]" for name in HOSTILE}
    back = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 200) == dark


def test_scores_of_a_long_hop_are_one_curve(page: Page) -> None:
    page.open()
    script = """
facts.model.hop = 100;
view.curves.score = view.curves.score.map((score, i) => i % 10 ? null : score);
draw();
return charts[0].data[1]"""
    score = page.driver.execute_script(script)
    assert len(score) > 5 and None not in score


def test_it_says_what_runs(page: Page) -> None:
    def facts() -> dict[str, str]:
        return dict(zip(page.texts("#facts dt"), page.texts("#facts dd")))

    page.open()
    eventually(lambda: "the model was made for 1" in facts()["Rate"], "that a rate is known")
    told = facts()
    assert told["Input"] == "standard input" and told["Engine"].startswith("onnxruntime")
    assert told["Gateway"].startswith("EdgeKD ")
    assert told["Alarms in 24 h"] == str(len(FAULTS)) and page.texts("#title") == [NAME]
    assert f"Behind it: {HOSTILE[0]}" in page.texts("#score-words")[0]


def test_an_alarm_is_marked_with_a_note_and_the_mark_comes_with_the_download(page: Page, tmp_path: Path) -> None:
    page.open()
    page.press("#alarms li:first-child button", "False alarm")
    page.says("Kept.")
    page.type("#alarms li:first-child input", "valve <i>tested</i>\t")
    eventually(lambda: page.gateway.api("alarms", **SPAN)[0]["note"] == "valve <i>tested</i>", "that the note is kept")
    page.open()  # anew
    pressed = "#alarms li:first-child button[aria-pressed=true]"
    assert page.texts(pressed) == ["False alarm"]
    assert page.driver.find_element("css selector", "#alarms input").get_attribute("value") == "valve <i>tested</i>"
    to = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", to)
    page.press("#download")
    page.says("Downloaded")
    eventually(lambda: any(map(zipfile.is_zipfile, tmp_path.glob("*.zip"))), "that the file is there")
    with zipfile.ZipFile(*tmp_path.glob("*.zip")) as archive:
        rows = list(csv.reader(archive.read("marks.csv").decode().splitlines()))
        assert len(archive.read("record.csv").splitlines()) > SAMPLES * 0.9
    assert [row[3:] for row in rows] == [["mark", "note"], ["false", "valve <i>tested</i>"]]
    page.press(pressed)
    page.says("taken back")
    assert page.gateway.api("alarms", **SPAN)[0]["mark"] is None


def test_a_span_that_is_dragged_is_shown_and_marked_by_hand(page: Page) -> None:
    from selenium.webdriver import ActionChains

    page.open()
    over = page.driver.find_element("css selector", "#score .u-over")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", over)
    width = over.size["width"]
    drag = ActionChains(page.driver).move_to_element_with_offset(over, int(-0.45 * width), 0).click_and_hold()
    drag.move_by_offset(int(0.2 * width), 0).move_by_offset(int(0.05 * width), 0).release().perform()
    eventually(lambda: not page.texts("#spans button[aria-pressed=true]"), "that the span is another")
    page.type("#hand-note", "nobody saw it")
    page.press("#by-hand button", "A fault was here")
    page.says("Kept.")
    (mark,) = [alarm for alarm in page.gateway.api("alarms", **SPAN) if alarm["kind"] == "marked"]
    assert mark["mark"] is True and mark["note"] == "nobody saw it"
    assert mark["end"] - mark["start"] == pytest.approx(SAMPLES / 4, rel=0.2)
    page.press("#alarms button[aria-pressed=true]", "Fault")
    eventually(lambda: "marked by hand" not in "".join(page.texts("#alarms li")), "that it is taken back")


def test_all_of_it_can_be_done_by_keyboard(page: Page) -> None:
    from selenium.webdriver import Keys

    page.open()
    focused, order = page.driver.switch_to, []
    for _ in range(40):
        focused.active_element.send_keys(Keys.TAB)
        now = focused.active_element
        order.append(now.text if now.tag_name in ("button", "a") else now.get_attribute("id") or now.tag_name)
        outline = page.driver.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px", order[-1]
        if now.text == "True alarm":
            break
    assert order[-1] == "True alarm" and {"Day", "Show", "sensor", "alarms", "Look"} <= set(order)
    focused.active_element.send_keys(Keys.SPACE)
    page.says("Kept.")
    assert focused.active_element.text == "True alarm"  # where it was
    focused.active_element.send_keys(Keys.SPACE)
    page.says("taken back")
    assert page.gateway.api("alarms", **SPAN)[0]["mark"] is None


def test_looking_at_an_alarm_brings_its_sensors_near(page: Page) -> None:
    page.open()
    page.press("#alarms li:last-child button", "Look")
    eventually(lambda: len(page.texts("#alarms strong")) == 1, "that only this one is shown")
    begin, end = (page.driver.execute_script(f"return view.{name}") for name in ("from", "to"))
    assert begin < BEGIN + FAULTS[0][0] < BEGIN + FAULTS[0][1] < end < begin + 600
    assert page.texts("#curves h3")[0] == f"{HOSTILE[0]} [u]"


def test_alarms_are_held_back_and_told_again(page: Page) -> None:
    page.open()
    page.press("#mute button", "Mute")
    eventually(lambda: any("for 60 min" in fact for fact in page.texts("#facts dd")), "that it shows")
    page.press("#unmute")
    eventually(lambda: page.gateway.api("stream")["muted_s"] == 0, "that it ends")


def test_new_samples_show_by_themselves(browser: Browser, tmp_path: Path) -> None:
    model = hostile_model(tmp_path / "m.onnx")
    with PageGateway(model, "--history", tmp_path / "history") as gateway:
        page = Page(browser, gateway)
        browser.open(f"{gateway.url}/#{urlencode({'stream': NAME})}")
        eventually(lambda: page.texts("#now") == ["○ waiting for samples no score yet"], "that it waits")
        begin = time.time() - SAMPLES
        gateway.feed(lines(0, 600, begin))
        eventually(lambda: "● normal" in page.texts("#now")[0], "that it runs")
        gateway.feed(lines(600, FAULTS[0][0] + 20, begin))
        eventually(lambda: "▲ alarm" in page.texts("#now")[0], "that it shows the alarm")
        eventually(lambda: len(page.texts("#alarms strong")) == 1, "that the alarm is listed")
        page.press("#spans button", "Hour")
        newest = "return view.curves?.time.at(-1) ?? 0"
        eventually(lambda: page.driver.execute_script(newest) >= begin + FAULTS[0][0], "that curves grow")
        assert not browser.console()


def test_the_user_s_token_is_asked_for_once(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("correct horse battery staple\n")
    model = hostile_model(tmp_path / "m.onnx")
    arguments = ("--page-token-file", tmp_path / "token", "--history", tmp_path / "history")
    with PageGateway(model, *arguments) as gateway:
        page = Page(browser, gateway)
        page.open(stream=None)
        page.type("#token", "correct horse\n")
        eventually(lambda: "not the token" in page.texts("#wrong")[0], "that it is refused")
        page.type("#token", "correct horse battery staple\n")
        eventually(lambda: page.texts("#cards a") == [NAME], "that the page opens")
        page.open(stream=None)
        eventually(lambda: page.texts("#cards a") == [NAME], "that it opens by itself")
        assert all("401" in told for told in browser.console())


def test_a_gateway_that_is_gone_is_said_and_found_again(browser: Browser, tmp_path: Path) -> None:
    model = hostile_model(tmp_path / "m.onnx")
    arguments = ("--history", tmp_path / "history")
    with PageGateway(model, *arguments) as gateway:
        address = gateway.url.removeprefix("http://")
        page = Page(browser, gateway)
        page.open(stream=None)
        eventually(lambda: page.texts("#cards a") == [NAME], "that the page opens")
        gateway.process.kill()
        gateway.process.wait(PATIENCE_S)
    eventually(lambda: "does not answer" in page.texts("#problem")[0], "that it is said")
    with PageGateway(model, *arguments, page=address):
        hidden = "return document.getElementById('problem').hidden"
        eventually(lambda: bool(page.driver.execute_script(hidden)), "that it is found again")
    browser.console()
