"""The page to try a served model, in a real browser: skipped where there is no Chromium or no playwright."""

import contextlib
import functools
import http.server
import json
import threading

import pytest
from made import ENCODERS, picture

from faults.model_server import send
from tfmdl.data.image_files import ImageFiles
from tfmdl.demo_page.answers import NearestImages
from tfmdl.demo_page.server import PageServer
from tfmdl.serving.remote import RestClient

playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=30_000)  # milliseconds: other tests run beside

HOSTILE = '<img src=x onerror="window.owned=1">'
LABELS = ["cat", HOSTILE, "<b>dog</b>", "d", "e"]
ANSWER = {"label": LABELS, "probability": [0.5, 0.25, 0.125, 0.0625, 0.03125], "class_id": [4, 3, 2, 1, 0]}
NO_IMAGE = {"error": "assertion failed: [row 0: the image of 4 bytes for domain [cats] is no JPEG file]"}


class Model(http.server.BaseHTTPRequestHandler):
    """Answers as a served model would, whatever the image shows; a file that begins with "text" is none."""

    domains = ("cats", "<i>dogs</i>")

    def do_GET(self):
        names = [f"classify_{domain}{dtype}" for domain in self.domains for dtype in ("", "_uint8")]
        self._send(200, {"metadata": {"signature_def": {"signature_def": dict.fromkeys(names, {})}}})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows = request["instances"]
        if any(row["image_bytes"]["b64"].startswith("dGV4") for row in rows):
            self._send(400, NO_IMAGE)
        elif request["signature_name"] == "features":
            self._send(200, {"predictions": [[1.0, 0.5]] * len(rows)})
        else:
            self._send(200, {"predictions": [ANSWER] * len(rows)})

    def _send(self, status, answer):
        send(self, status, json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def model():
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)) as running:
        yield running


@pytest.fixture
def page(browser, model, image):
    """The page, opened."""
    url = f"http://127.0.0.1:{model.server_address[1]}/v1/models/tfmdl"
    client_for = functools.partial(RestClient, url)
    nearest = NearestImages(client_for, lambda domain: ImageFiles([image] * 7, [HOSTILE] * 7))
    with serving(PageServer(0, client_for, nearest)) as running:
        opened = browser.new_page()
        opened.told = []
        opened.on("console", lambda message: opened.told.append(message.text))
        opened.on("pageerror", lambda error: opened.told.append(str(error)))
        opened.goto(running.url)
        playwright.expect(opened.locator("#domain option")).to_have_count(2)
        yield opened
        opened.close()
    nearest.close()


@pytest.fixture
def image(rng):
    return ENCODERS["png"](picture(rng, 24, 30))


def choose(page, content, name="image.png"):
    page.set_input_files("#chosen", {"name": name, "mimeType": "image/png", "buffer": content})


def test_an_image_gets_five_answers_and_its_nearest(page, image):
    page.select_option("#domain", "cats")
    choose(page, image)
    playwright.expect(page.locator("#answers .label")).to_have_text(LABELS)
    playwright.expect(page.locator("#answers .share")).to_have_text(["50.0 %", "25.0 %", "12.5 %", "6.3 %", "3.1 %"])
    playwright.expect(page.locator("#nearest .label")).to_have_text([HOSTILE] * 6)
    playwright.expect(page.locator("#nearest .share").first).to_have_text("similarity 1.00")
    assert page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth === 30)")
    whole, half = page.locator(".track").first.bounding_box(), page.locator(".track div").first.bounding_box()
    assert half["width"] == pytest.approx(whole["width"] / 2, abs=1)
    assert page.told == []


def test_what_the_server_sends_is_text_and_no_markup(page, image):
    page.select_option("#domain", "<i>dogs</i>")
    choose(page, image, "<b>name</b>.png")
    playwright.expect(page.locator("#answers .label")).to_have_text(LABELS)
    assert page.locator("#file").inner_text() == "<b>name</b>.png"
    assert page.locator("#domain option").all_inner_texts() == ["<i>dogs</i>", "cats"]
    assert page.locator("b, i, img[src=x]").count() == 0 and page.evaluate("window.owned") is None


def test_an_image_can_be_dropped_anywhere(page, image):
    data = page.evaluate_handle(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
          return data;
        }""",
        list(image),
    )
    page.dispatch_event("#url", "drop", {"dataTransfer": data})
    playwright.expect(page.locator("#answers li")).to_have_count(5)
    assert page.locator("#file").inner_text() == "dropped.png" and page.url.endswith("/")


def test_after_a_bad_file_comes_a_good_one(page, image, tmp_path):
    choose(page, b"text", "notes.txt")
    playwright.expect(page.locator("#told")).to_have_text("the image of 4 bytes for domain [cats] is no JPEG file")
    assert page.locator("#answers li").count() == 0 and not page.locator("#shown").is_visible()
    with open(tmp_path / "long.png", "wb") as long:
        long.truncate(32_000_001)
    page.set_input_files("#chosen", tmp_path / "long.png")
    playwright.expect(page.locator("#told")).to_contain_text("The file is too long: at most 32000000 bytes")
    choose(page, image)
    playwright.expect(page.locator("#answers li")).to_have_count(5)
    playwright.expect(page.locator("#told")).to_have_text("")


def test_a_model_that_is_down_is_asked_again(page, model, image):
    address = model.server_address
    model.shutdown()
    model.server_close()
    choose(page, image)
    playwright.expect(page.locator("#told")).to_contain_text("cannot connect; is the server running there?")
    with serving(http.server.ThreadingHTTPServer(address, type("Changed", (Model,), {"domains": ("birds",)}))):
        page.click("#again")
        playwright.expect(page.locator("#answers li")).to_have_count(5)
        assert page.locator("#domain option").all_inner_texts() == ["birds"]
