"""The client speaks as TensorFlow Serving's REST and gRPC interfaces want it, end to end and when things go wrong."""

import concurrent.futures
import http.server
import json
import pathlib
import threading

import numpy as np
import pytest
import tensorflow as tf
from made import ALL, ENCODERS, MIXED, PAIR, label_names, picture
from tensorflow_serving.apis import predict_pb2

from faults.commands import run_command
from faults.model_server import Server, arrays_of, send
from tfmdl.serving.assets import predict_request, read_warmup
from tfmdl.serving.remote import GrpcClient, RefusedError, RestClient, classify_files, rest_body

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(exported):
    with Server(exported.parent) as running:
        yield running


@pytest.fixture(scope="module", params=["rest", "grpc"])
def client(request, server):
    return RestClient(server.url) if request.param == "rest" else GrpcClient(server.address, "tfmdl")


def inputs(files, domains):
    return [{"image_bytes": file[3], "domain": domain} for file, domain in zip(files, domains, strict=True)]


def test_both_ways_answer_as_the_model_does(client, serve, files):
    domains = [MIXED[index % 2] for index in range(len(files))]
    answers = client.predict("serving_default", inputs(files, domains))
    wanted = serve([file[3] for file in files], domains)
    for row, answer in enumerate(answers):
        assert answer["label"] == [label.decode() for label in wanted["label"][row]]
        assert answer["class_id"] == wanted["class_id"][row].tolist()
        np.testing.assert_allclose(answer["probability"], wanted["probability"][row], rtol=1e-6)


def test_pixels_and_ids_can_be_sent(client, source, rng):
    # Of one colour: the first signature resizes and crops what it is sent, the second does not.
    image = np.full((16, 16, 3), rng.integers(0, 256, 3), "uint8")
    (of_domain,) = client.predict(f"classify_{PAIR}_uint8", [{"image": image}])
    (by_id,) = client.predict("serve_images_uint8", [{"image": image, "domain_id": np.int32(source.ids[PAIR])}])
    assert of_domain["class_id"] == by_id["class_id"][:2] and by_id["class_id"][2:] == [-1] * 3
    (features,) = client.predict("features", [{"image_bytes": ENCODERS["png"](image), "domain": PAIR}])
    assert len(features["features"] if isinstance(features, dict) else features) == 32


def test_files_go_in_batches_and_rows_count_over_all(client, files):
    good = [file[3] for file in files[:3]]
    assert [len(batch) for batch in classify_files(client, "base", good, 2)] == [2, 1]
    with pytest.raises(RefusedError, match="is no JPEG") as caught:
        list(classify_files(client, "base", [*good, good[0], b"text"], 2))
    assert caught.value.row == 4


def test_refusals_come_with_row_and_reason_alone(client, files):
    rows = inputs(files[:3], ["base", "nowhere", "base"])
    with pytest.raises(RefusedError) as caught:
        client.predict("serving_default", rows)
    assert caught.value.row == 1
    assert str(caught.value) == f"unknown domain [nowhere]; expected {ALL}"
    image = np.zeros((2, 16, 16, 3), "uint8")
    with pytest.raises(RefusedError, match="^row 1 has no domain_id of 0 base, .*; received 7$"):
        client.predict("serve_images_uint8", [{"image": image[0], "domain_id": np.int32(id)} for id in (0, 7)])
    with pytest.raises(RefusedError, match="nothing.* not found"):
        client.predict("nothing", rows)


def test_many_clients_at_once_get_their_own_answers(server, serve, files):
    wanted = serve([file[3] for file in files], ["base"] * len(files))

    def ask(number):
        client = RestClient(server.url) if number % 2 else GrpcClient(server.address, "tfmdl")
        for turn in range(25):
            row = (number + turn) % len(files)
            sent = inputs([files[row]], ["base"])
            if turn % 5 == 4:
                with pytest.raises(RefusedError, match="is damaged"):
                    client.predict("serving_default", [*sent, {"image_bytes": files[row][3][:20], "domain": PAIR}])
                continue
            (answer,) = client.predict("serving_default", sent)
            assert answer["class_id"] == wanted["class_id"][row].tolist()
        return number

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [0, 1, 2, 3]


# The form of requests


def test_a_rest_body_is_read_by_the_rules_of_the_real_server(server, files):
    """Bytes as {"b64"}, rows that share the first dimension, numbers of the signature's types."""
    signatures = server.model.served.signatures
    body = rest_body("serving_default", inputs(files, ["base"] * len(files)))
    assert json.loads(body)["instances"][0].keys() == {"image_bytes", "domain"}
    _, arrays = arrays_of(body, signatures.get)
    assert arrays["image_bytes"].tolist() == [file[3] for file in files]
    assert arrays["domain"].tolist() == [b"base"] * len(files)
    pixels = np.arange(2 * 16 * 16 * 3, dtype="uint8").reshape(2, 16, 16, 3)
    _, arrays = arrays_of(rest_body("classify_base_uint8", [{"image": image} for image in pixels]), signatures.get)
    np.testing.assert_array_equal(arrays["image"], pixels)


def test_a_grpc_request_survives_the_wire(files):
    request = predict_request("serving_default", {"image_bytes": np.array([files[0][3]], object)}, "tfmdl")
    read = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert (read.model_spec.name, read.model_spec.signature_name) == ("tfmdl", "serving_default")
    assert tf.make_ndarray(read.inputs["image_bytes"]).tolist() == [files[0][3]]


def test_warmup_requests_are_real_and_reach_every_signature(exported, signatures):
    requests = read_warmup(exported)
    assert {request.model_spec.signature_name for request in requests} == set(signatures) - {"domains"}
    assert len(requests) <= 1000
    for request in requests:
        sent = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        answer = signatures[request.model_spec.signature_name](**sent)
        (rows,) = {len(value) for value in answer.values()}
        assert rows == len(next(iter(sent.values()))) > 0


# The command


def command(*arguments):
    done = run_command("-m", "tfmdl.client", *arguments, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "sign.png"
    path.write_bytes(ENCODERS["png"](picture(np.random.default_rng(3), 40, 30)))
    return path


def test_the_command_prints_a_table(server, image):
    for where in ([f"--url={server.url}"], [f"--grpc={server.address}"]):
        code, out, err = command(*where, "--domain=base", "--batch_size=1", image, image)
        assert (code, err) == (0, "")
        header, first, second = out.rstrip().splitlines()
        assert "label" in header and "probability" in header
        assert first == second and str(image) in first
        assert any(label in first for label in label_names("base"))


def test_the_command_sends_pixels_where_a_domain_wants_them(server, image):
    code, out, err = command(f"--url={server.url}", "--domain=upright", image)
    assert code == 1 and "classify_upright" in err
    code, out, err = command(f"--url={server.url}", "--domain=upright", "--pixels", image)
    assert (code, err) == (0, "") and any(label in out for label in label_names("upright"))


def test_the_command_names_what_is_wrong(server, image, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    closed = "http://127.0.0.1:9/v1/models/tfmdl"
    for arguments, parts in (
        ([f"--url={closed}", "--domain=base", image], (closed, "cannot connect")),
        ([f"--url={server.url}x", "--domain=base", image], ("no such model", "Servable not found")),
        (["--url=localhost:8501", "--domain=base", image], ("--url must be http://HOST:PORT/v1/models/NAME",)),
        ([f"--url={server.url}", "--domain=base", image, text], (str(text), "is no JPEG, PNG, GIF or BMP file")),
        ([f"--url={server.url}", "--domain=nothing", image], (str(image), "unknown domain [nothing]")),
        ([f"--url={server.url}", "--domain=base", tmp_path / "none.jpg"], ("none.jpg: no such file",)),
        (["--domain=base", image], ("either --url or --grpc",)),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (1, ""), err
        assert err.startswith("error: ") and err.count("\n") == 1
        assert all(part in err for part in parts), err


def test_grpc_errors_name_server_and_model(server, files):
    rows = inputs(files[:1], ["base"])
    with pytest.raises(ConnectionError, match="127.0.0.1:9: cannot connect"):
        GrpcClient("127.0.0.1:9", "tfmdl").predict("serving_default", rows)
    with pytest.raises(RefusedError, match="no model 'other' on this server"):
        GrpcClient(server.address, "other").predict("serving_default", rows)
    with pytest.raises(ValueError, match="--grpc must be HOST:PORT"):
        GrpcClient("http://host", "tfmdl")


def test_answers_that_are_no_answers_are_told():
    """A slow server, one that is something else, and messages with escapes that JSON does not know, or of nothing."""
    said = {
        "/v1/models/web:predict": (200, b"<html>"),
        "/v1/models/odd:predict": (400, b'{ "error": "can\\\'t" }'),
        "/v1/models/mute:predict": (400, b""),
    }

    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path not in said:
                return pause.wait(10)
            send(self, *said[self.path])

        def log_message(self, *_):
            pass

    pause = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{running.server_address[1]}/v1/models"
        rows = [{"image_bytes": b"x", "domain": "base"}]
        with pytest.raises(RefusedError, match="is no JSON .*an answer of TensorFlow Serving; received b'<html>'"):
            RestClient(f"{base}/web").predict("serving_default", rows)
        with pytest.raises(RefusedError, match="can.*t"):
            RestClient(f"{base}/odd").predict("serving_default", rows)
        with pytest.raises(RefusedError, match=f"^{base}/mute.*: refused, with no reason given"):
            RestClient(f"{base}/mute").predict("serving_default", rows)
        with pytest.raises(ConnectionError, match="within 0.2 seconds"):
            RestClient(f"{base}/slow", timeout=0.2).predict("serving_default", rows)
        pause.set()
        running.shutdown()
