"""The web page as a person uses it: Debian's Chromium, a whole service, a clip that plays (`.ci/needs` installs it)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect, sync_playwright

from serving import Service, serving

CHROMIUM = "/usr/bin/chromium"
QUIET = [    # it talks to nobody but the page's host
    "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
CLIP_S = 300.0  # for a clip on a machine that does other things too
expect.set_options(timeout=60_000)  # ms; Playwright's own 5 s are for a machine that does nothing else

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed")


@dataclass
class Browser:
    """A tab, and what it said and asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), preset="draft") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def browser(service: Service, tmp_path: Path) -> Iterator[Browser]:
    """With the page open, and a profile that was never used."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, chromium_sandbox=False, args=QUIET
        )
        browser = Browser(context.new_page())
        browser.page.on("console", lambda said: browser.complaints.append(said.text) if said.type == "error" else None)
        browser.page.on("pageerror", lambda error: browser.complaints.append(str(error)))
        browser.page.on("request", lambda request: browser.requests.append(request.url))
        browser.page.goto(service.url)
        expect(browser.page.get_by_label("Preset")).to_have_value("draft")
        yield browser
        context.close()
    own = re.compile(rf"(blob:)?{re.escape(service.url)}/")
    assert [url for url in browser.requests if not own.match(url)] == []


def ask_for(page: Page, prompt: str, seconds: str) -> None:
    page.get_by_label("What should the clip show?").fill(prompt)
    page.get_by_label("Seconds").fill(seconds)
    page.get_by_role("button", name="Make it").click()


def expect_a_clip_that_plays(page: Page, seconds: float) -> None:
    expect(page.locator("#status")).to_contain_text("Done", timeout=CLIP_S * 1000)
    expect(page.locator("#receipt")).to_contain_text(re.compile(r"Charged[\d.]+ USD of [\d.]+ USD quoted"))
    player = page.locator("#player")
    duration = player.evaluate(
        """async (video) => {
            video.muted = true;  // no browser plays sound that nobody asked for
            const moved = new Promise((done) => video.addEventListener("timeupdate", done, { once: true }));
            await video.play();
            await moved;
            return video.duration;
        }"""
    )
    assert duration == pytest.approx(seconds, abs=0.2)


def test_a_prompt_becomes_a_clip_that_plays_and_a_receipt(browser: Browser) -> None:
    page = browser.page
    seen = page.evaluate_handle(
        """() => {
            const seen = [], bar = document.getElementById("progress");
            const look = () => seen.push({ shown: bar.checkVisibility(), value: bar.value });
            new MutationObserver(look).observe(bar, { attributes: true });
            return seen;
        }"""
    )
    ask_for(page, "a red balloon floats up over green hills", "2")
    expect_a_clip_that_plays(page, 2.0)
    bar = seen.json_value()
    assert bar[0] == {"shown": True, "value": 0} and bar[-1] == {"shown": False, "value": 100}
    values = [look["value"] for look in bar]
    assert values == sorted(values)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"
    assert browser.complaints == []


def test_what_is_wrong_is_said_in_a_line_and_can_be_mended(browser: Browser) -> None:
    page = browser.page
    ask_for(page, "a yellow star", "9000")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("seconds")
    assert "\n" not in alert.inner_text()
    page.get_by_label("Seconds").fill("1")
    with page.expect_response("**/v1/quotes") as quoted:
        page.get_by_role("button", name="What would it cost?").click()
    expect(page.locator("#price")).to_have_text(re.compile(r"At most [\d.]+ USD for 1 s at 64x64\."))
    expect(alert).to_be_hidden()
    for binds in (True, False):  # it was for one clip
        with page.expect_response("**/v1/videos") as made:
            page.get_by_role("button", name="Make it").click()
        assert (made.value.json()["quote"]["id"] == quoted.value.json()["id"]) is binds
        expect_a_clip_that_plays(page, 1.0)
        expect(alert).to_be_hidden()


def test_pressed_again_after_a_lost_answer_it_is_one_clip(browser: Browser) -> None:
    page = browser.page
    made: list[str] = []

    def lose(route: Route) -> None:
        made.append(route.fetch().json()["id"])
        route.abort()

    page.get_by_label("What should the clip show?").fill("a red ball")
    page.get_by_label("Seconds").fill("1")
    page.get_by_role("button", name="What would it cost?").click()
    expect(page.locator("#price")).to_contain_text("At most")
    page.route("**/v1/videos", lose, times=1)
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("alert")).to_contain_text("the service does not answer")
    with page.expect_response("**/v1/videos") as again:
        page.get_by_role("button", name="Make it").click()
    assert [again.value.json()["id"]] == made
    expect_a_clip_that_plays(page, 1.0)


def test_a_quote_is_for_what_was_asked(browser: Browser) -> None:
    page = browser.page
    page.get_by_label("What should the clip show?").fill("a red ball")
    with page.expect_response("**/v1/quotes") as quoted:
        page.get_by_role("button", name="What would it cost?").click()
    expect(page.locator("#price")).to_contain_text("At most")
    with page.expect_response("**/v1/videos") as made:
        ask_for(page, "a blue ball", "1")
    assert made.value.json()["quote"]["id"] != quoted.value.json()["id"]
    expect_a_clip_that_plays(page, 1.0)


def test_a_clip_starts_from_a_picture(browser: Browser, tmp_path: Path) -> None:
    page, picture = browser.page, tmp_path / "a.png"
    picture.write_bytes(b"no picture")
    page.get_by_label("Start from a picture").set_input_files(picture)
    ask_for(page, "a red ball", "1")
    expect(page.get_by_role("alert")).to_contain_text("input_reference: must be a whole PNG, JPEG, WEBP image")
    Image.new("RGB", (90, 60), "red").save(picture)
    page.get_by_label("Start from a picture").set_input_files(picture)
    page.get_by_role("button", name="Make it").click()
    expect_a_clip_that_plays(page, 1.0)
    colour = page.locator("#player").evaluate(
        """async (video) => {
            video.pause();
            const there = new Promise((done) => video.addEventListener("seeked", done, { once: true }));
            video.currentTime = 0;
            await there;
            const canvas = document.createElement("canvas");
            canvas.getContext("2d").drawImage(video, 0, 0);
            return [...canvas.getContext("2d").getImageData(32, 32, 1, 1).data];
        }"""
    )
    assert colour[0] > 150 and max(colour[1:3]) < 100, "the first frame is red"


def test_a_cancelled_clip_says_so_and_another_can_be_had(browser: Browser) -> None:
    page = browser.page
    page.get_by_label("Preset").select_option("reference")
    ask_for(page, "a blue car", "8")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_contain_text("Cancelled", timeout=CLIP_S * 1000)
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    page.get_by_label("Preset").select_option("draft")
    ask_for(page, "a blue car", "1")
    expect_a_clip_that_plays(page, 1.0)
    assert browser.complaints == []


def test_a_reload_loses_no_clip(browser: Browser) -> None:
    page = browser.page
    ask_for(page, "a green cube", "1")
    expect(page.locator("#job")).to_be_visible()
    page.reload()
    expect_a_clip_that_plays(page, 1.0)
    page.reload()
    expect_a_clip_that_plays(page, 1.0)
    ask_for(page, "a white cat", "1")
    expect_a_clip_that_plays(page, 1.0)
    assert browser.complaints == []


def test_a_service_that_was_away_is_found_again(browser: Browser) -> None:
    page = browser.page
    page.get_by_label("Preset").select_option("reference")
    ask_for(page, "a black dog", "8")
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text("the service does not answer", timeout=CLIP_S * 1000)
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_be_hidden(timeout=CLIP_S * 1000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_contain_text("Cancelled", timeout=CLIP_S * 1000)
