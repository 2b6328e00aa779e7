"""The page to try a served model, as a browser asks its server: answers, nearest training images, and refusals."""

import contextlib
import functools
import http.client
import io
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from made import ALL, ENCODERS, MIXED, NUM_CLASSES, label_names, picture
from PIL import Image
from small_domains import write_domain

from faults.commands import run_command
from faults.model_server import Server
from tfmdl.data.image_files import some_image_files
from tfmdl.demo_page.answers import NearestImages
from tfmdl.demo_page.server import MAX_UPLOAD, PageServer
from tfmdl.serving.remote import RestClient, classify_pixels

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 300  # seconds: other tests run beside
CLOSED = "http://127.0.0.1:9/v1/models/tfmdl"


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported.parent) as running:
        yield running


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Training images of one of the domains that are served."""
    folder = tmp_path_factory.mktemp("records")
    write_domain(folder, "base", sizes={"train": 40}, classes=NUM_CLASSES["base"])
    return folder


@contextlib.contextmanager
def page_of(url, read=None):
    client_for = functools.partial(RestClient, url, TIMEOUT)
    nearest = NearestImages(client_for, read) if read else None
    with PageServer(0, client_for, nearest) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
    if nearest:
        nearest.close()


@pytest.fixture(scope="module")
def page(server, records):
    with page_of(server.url, lambda domain: some_image_files(records, domain, "train", 30)) as running:
        yield running


def ask(page, path, body=None, **headers):
    """Returns status and JSON of the page's server; `body` is posted."""
    connection = http.client.HTTPConnection("127.0.0.1", page.server_address[1], timeout=TIMEOUT)
    connection.request("GET" if body is None else "POST", path, body, headers)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def found_near(page, domain, file):
    """Returns what is nearest once it is known."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        status, answer = ask(page, f"/nearest?domain={domain}", file)
        if "total" not in answer:
            return status, answer
        time.sleep(0.05)
    pytest.fail(f"no training images within {TIMEOUT} seconds")


def test_it_lists_the_domains_that_are_served(page, server):
    assert ask(page, "/state") == (
        200,
        {"url": server.url, "domains": sorted(NUM_CLASSES), "nearest": True, "max_upload": MAX_UPLOAD},
    )


def test_it_answers_as_the_served_model_does(page, serve, files):
    for file, domain in zip(files, MIXED * len(files), strict=False):
        wanted = serve([file[3]], [domain])
        status, answer = ask(page, f"/classify?domain={domain}", file[3])
        assert status == 200
        assert answer["label"] == [label.decode() for label in wanted["label"][0]]
        np.testing.assert_allclose(answer["probability"], wanted["probability"][0], rtol=1e-6)


def test_a_domain_with_a_size_of_its_own_is_asked_by_pixels(page, server, rng):
    pixels = picture(rng, 40, 20)
    ((wanted,),) = classify_pixels(RestClient(server.url), "upright", [pixels])
    assert ask(page, "/classify?domain=upright", ENCODERS["png"](pixels)) == (200, wanted)
    assert set(wanted["label"]) == set(label_names("upright"))


def large_png(side):
    target = io.BytesIO()
    Image.new("1", (side, side)).save(target, "PNG")
    return target.getvalue()


def test_what_it_cannot_answer_is_told_and_it_goes_on(page, files):
    good = files[0][3]
    for path, body, status, told in (
        ("/classify?domain=base", b"text", 400, "is no JPEG, PNG, GIF or BMP file"),
        ("/classify?domain=base", b"", 400, "is no JPEG, PNG, GIF or BMP file"),
        ("/classify?domain=base", good[:60], 400, "is damaged"),
        ("/classify?domain=base", bytes(16_000_001), 400, "16000001 bytes"),
        ("/classify?domain=base", bytes(MAX_UPLOAD + 1), 413, "the file is too long: at most 32,000,000 bytes"),
        ("/classify?domain=base", large_png(5001), 400, "at most 25000000 pixels are taken"),
        ("/classify?domain=upright", b"text", 400, "is no image that can be read"),
        ("/classify?domain=upright", good[:60], 400, ""),
        ("/classify?domain=upright", large_png(2001), 400, "at most 4,000,000 pixels are taken; received 2,001x2,001"),
        ("/classify?domain=gone", good, 400, f"unknown domain [gone]; expected {ALL}"),
        ("/classify", good, 400, f"unknown domain []; expected {ALL}"),
        ("/nearest?domain=fourth", good, 400, "no converted domain 'fourth' here; there are: base"),
        ("/nearest?domain=../base", good, 400, "a domain's name must be"),
        ("/elsewhere", good, 404, "there is nothing here"),
        ("/elsewhere", None, 404, "there is nothing here"),
    ):
        answer = found_near(page, path[16:], body) if path.startswith("/nearest") else ask(page, path, body)
        assert answer[0] == status and list(answer[1]) == ["error"] and told in answer[1]["error"], (path, answer)
    assert ask(page, "/classify?domain=base", good)[0] == 200


def test_a_model_that_is_down_is_told_and_asked_again(exported, files):
    with page_of(CLOSED) as page:
        for path, body in (("/state", None), ("/classify?domain=base", files[0][3])):
            status, answer = ask(page, path, body)
            assert status == 502 and answer["error"].startswith(f"{CLOSED}: cannot connect")
        with Server(exported.parent) as running:
            page.client_for = functools.partial(RestClient, running.url, TIMEOUT)
            assert ask(page, "/state")[1]["domains"] == sorted(NUM_CLASSES)


def test_other_sites_are_refused(page, files):
    host = f"127.0.0.1:{page.server_address[1]}"
    path, file = "/classify?domain=base", files[0][3]
    assert ask(page, path, file, Origin=f"http://{host}")[0] == 200
    for headers in ({"Origin": "http://example.org"}, {"Origin": "null"}, {"Host": "example.org"}, {"Host": "["}):
        assert ask(page, path, file, **headers) == (403, {"error": "this page is for this machine only"})
    assert ask(page, "/state", Host="example.org")[0] == 403


def test_nearest_are_the_training_images_of_the_highest_cosine(page, records, signatures):
    images = some_image_files(records, "base", "train", 30)
    assert len(images.encoded) == 30 and set(images.labels) <= {f"base {index}" for index in range(7)}
    features = signatures["features"](
        image_bytes=tf.constant(images.encoded), domain=tf.constant(["base"] * len(images.encoded))
    )["features"]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    asked = 4
    wanted = np.sort(features @ features[asked])[::-1][:6]
    status, answer = found_near(page, "base", images.encoded[asked])
    assert status == 200
    np.testing.assert_allclose([one["similarity"] for one in answer["nearest"]], wanted, atol=1e-5)
    assert answer["nearest"][0]["label"] == images.labels[asked]
    assert all(one["uri"].startswith("data:image/jpeg;base64,") for one in answer["nearest"])


def test_images_that_could_not_be_read_are_read_again(server, records, files):
    failures = [OSError("the disk is away")]

    def read(domain):
        if failures:
            raise failures.pop()
        return some_image_files(records, domain, "train", 7)

    with page_of(server.url, read) as page:
        assert found_near(page, "base", files[0][3]) == (400, {"error": "the disk is away"})
        status, answer = found_near(page, "base", files[0][3])
        assert (status, len(answer["nearest"])) == (200, 6)


def test_the_command_says_where_the_page_is(server):
    process = subprocess.Popen(
        [sys.executable, "-m", "tfmdl.demo_page", f"--url={server.url}", "--port=0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    told = process.stdout.readline()
    assert told.startswith("the page is at http://127.0.0.1:"), process.communicate()
    host = told.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
    connection.request("GET", "/")
    assert connection.getresponse().read() == (ROOT / "tfmdl/demo_page/page.html").read_bytes()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--url=localhost:8501"], "--url must be http://HOST:PORT/v1/models/NAME"),
        ([f"--url={CLOSED}", "--data_dir=nowhere"], "--data_dir=nowhere: no converted domain here"),
    ],
)
def test_the_command_names_what_is_wrong(flags, told):
    done = run_command("-m", "tfmdl.demo_page", *flags, cwd=ROOT)
    assert done.returncode == 1 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_port_that_is_taken_is_named(page):
    with pytest.raises(OSError, match=f"--port={page.server_address[1]}: Address already in use"):
        PageServer(page.server_address[1], None)
