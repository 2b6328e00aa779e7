"""Whatever a server sends, the client says on one plain line which server it was and what was expected."""

import concurrent.futures
import json
import socketserver
import threading

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tfmdl.cli import report_errors, table_console
from tfmdl.client import ask, table_of
from tfmdl.serving import remote
from tfmdl.serving.remote import GrpcClient, RestClient, embed_files

LIMIT = 200_000  # bytes of a reply
ESCAPES = "\x1b]0;owned\x07\x1b[2Jrow\r\n1"
PLAIN = r"\x1b]0;owned\x07\x1b[2Jrow\r\n1"


def http(body, status="200 OK", length=None, headers=""):
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n".encode() + body


def answers(**changed):
    answer = {"label": ["a", "b"], "probability": [0.9, 0.1], "class_id": [0, 1], **changed}
    return http(json.dumps({"predictions": [answer]}).encode())


def refusal(error):
    return http(json.dumps({"error": error}).encode(), "400 Bad Request")


def tensors(**changed):
    response = predict_pb2.PredictResponse()
    for name, value in {"label": [["a"]], "probability": [[0.9]], "class_id": [[1]], **changed}.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def edited(name, **fields):
    response = tensors()
    for field, value in fields.items():
        setattr(response.outputs[name], field, value)
    return response


def of_shape(*shape):
    response = tensors()
    response.outputs["probability"].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return response


SERVING = "expected an answer of TensorFlow Serving"
LABELS = "expected lists of labels, probabilities and class ids"
DOMAINS = {
    "metadata": {"signature_def": {"signature_def": {"domains": {}}}},
    "predictions": [{"domain": 5, "domain_id": 5}] * 256,
}
REST = {
    "domains of numbers": (http(json.dumps(DOMAINS).encode()), "expected 1 answers, one per image; received 256"),
    "a page": (http(b"<html>"), f"{SERVING}; received b'<html>'"),
    "nothing": (http(b""), f"{SERVING}; received b''"),
    "closed": (b"", "cannot connect"),
    "no HTTP": (f"SSH-2.0 {ESCAPES}".encode(), "cannot connect"),
    "cut off": (http(b"{", length=500), f"{SERVING}, whole; received"),
    "no gzip": (http(b"{}", headers="Content-Encoding: gzip\r\n"), f"{SERVING}, whole; received"),
    "huge": (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(LIMIT + 1), f"expected at most {LIMIT} bytes; received more"),
    "deep": (http(b"[" * LIMIT), f"nests too deep: {SERVING}"),
    "deep refusal": (http(b"[" * LIMIT, "400 Bad Request"), "[[["),
    "not UTF-8": (http(b'{"predictions": ["\xff"]}'), SERVING),
    "a list": (http(b"[1]"), f"{SERVING}, a list of predictions; received b'[1]'"),
    "other keys": (http(b'{"outputs": 1}'), f"{SERVING}, a list of predictions"),
    "a number": (http(b'{"predictions": 5}'), f"{SERVING}, a list of predictions"),
    "two rows": (http(b'{"predictions": [{}, {}]}'), "expected 1 answers, one per image; received 2"),
    "no labels": (http(b'{"predictions": [{}]}'), LABELS),
    "no names": (http(b'{"predictions": [[1, 2]]}'), LABELS),
    "an empty list": (http(b'{"predictions": [[]]}'), LABELS),
    "a list of text": (http(b'{"predictions": [["x"]]}'), LABELS),
    "a list of lists": (http(b'{"predictions": [[[1]]]}'), LABELS),
    "an infinite list": (http(b'{"predictions": [[9e999]]}'), LABELS),
    "no classes": (answers(label=[], probability=[], class_id=[]), LABELS),
    "fewer labels": (answers(label=["a"]), LABELS),
    "a label": (answers(label="ab"), LABELS),
    "labels of numbers": (answers(label=[1, 2]), LABELS),
    "probabilities of text": (answers(probability=["x", "y"]), LABELS),
    "probabilities above one": (answers(probability=[2, 0]), LABELS),
    "ids of fractions": (answers(class_id=[0.5, 1]), LABELS),
    "escapes in a label": (answers(label=[ESCAPES, 1]), LABELS),
    "NaN": (answers(probability=[float("nan"), 0.5]), "received NaN"),
    "infinity": (http(b'{"predictions": [{"label": ["a"], "probability": [9e999], "class_id": [0]}]}'), LABELS),
    "status 502": (http(f"<b>{ESCAPES}".encode(), "502 Bad"), f"{SERVING}; received HTTP status 502: <b>{PLAIN}"),
    "moved": (http(b"", "302 Found", headers="Location: /\r\n"), f"{SERVING}; received HTTP status 302"),
    "no such model": (http(ESCAPES.encode(), "404 Not Found"), f"no such model or version on this server: {PLAIN}"),
    "a refusal": (refusal(f"no {ESCAPES}"), f"no {PLAIN}"),
    "a refusal of numbers": (refusal(5), '{"error": 5}'),
    "a row that was not sent": (refusal("row 7: no"), "row 7: no"),
    "a row beyond numbers": (refusal(f"row {'7' * 5000}: no"), "row 777"),
}
GRPC = {
    "no message": (b"\xff\xff\xff", f"{SERVING}; received b'"),
    "nothing": (b"", LABELS),
    "huge": (tensors(label=[["a" * LIMIT]]), f"{SERVING}; received RESOURCE_EXHAUSTED"),
    "two rows": (tensors(label=[["a"], ["b"]]), "expected 'label' with 1 rows; received shape [2, 1]"),
    "no rows": (tensors(label="a"), "expected 'label' with 1 rows; received shape []"),
    "a huge shape": (of_shape(1, 2**40), "received shape [1, 1099511627776]"),
    "an unknown shape": (of_shape(1, None), "received shape [1, -1]"),
    "fewer than there are": (of_shape(1, 0), "expected 'probability' to be a tensor"),
    "no lists": (tensors(class_id=[1]), LABELS),
    "fewer labels": (tensors(probability=[[0.5, 0.5]]), LABELS),
    "labels of numbers": (tensors(label=[[1]]), LABELS),
    "labels that are not UTF-8": (tensors(label=[[b"\xff"]]), "expected 'label' to be a tensor"),
    "NaN": (tensors(probability=[[float("nan")]]), LABELS),
    "no type": (edited("class_id", dtype=0), "expected 'class_id' to be a tensor"),
    "half a number": (edited("class_id", tensor_content=b"abc"), "expected 'class_id' to be a tensor"),
    "an error": (None, f"{SERVING}; received INTERNAL: {PLAIN}"),
}


@pytest.fixture(scope="module")
def rest():
    """Where a server is that sends the replies of `REST`, each as a model."""

    class Sends(socketserver.StreamRequestHandler):
        def handle(self):
            name = self.rfile.readline().decode().split("/")[3].split(":")[0].replace("%20", " ")
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
            self.rfile.read(length)
            self.wfile.write(REST[name][0])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sends) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/models"
        server.shutdown()


@pytest.fixture(scope="module")
def grpc_address():
    """Where a server is that sends the replies of `GRPC`, each as a model."""

    def send(request, context):
        message = GRPC[predict_pb2.PredictRequest.FromString(request).model_spec.name][0]
        if message is None:
            context.abort(grpc.StatusCode.INTERNAL, ESCAPES)
        return message if isinstance(message, bytes) else message.SerializeToString()

    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService", {"Predict": grpc.unary_unary_rpc_method_handler(send)}
    )
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


CASES = [(way, name) for way, replies in (("rest", REST), ("grpc", GRPC)) for name in replies]


@pytest.mark.parametrize(("way", "name"), CASES, ids=[f"{way}, {name}" for way, name in CASES])
@pytest.mark.parametrize("pixels", [False, True], ids=["files", "pixels"])
def test_what_is_no_answer_is_one_line(way, name, pixels, rest, grpc_address, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(remote, "MAX_REPLY", LIMIT)
    image = tmp_path / "image.png"
    image.write_bytes(tf.io.encode_png(tf.zeros((2, 2, 3), tf.uint8)).numpy())
    replies, server = (REST, f"{rest}/{name}") if way == "rest" else (GRPC, grpc_address)
    client = RestClient(server) if way == "rest" else GrpcClient(server, name)
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught, report_errors():
        ask(client, "base", [str(image)], batch_size=1, pixels=pixels)
    out, err = capfd.readouterr()
    assert caught.value.code == 1 and out == ""
    assert err.startswith("error: ") and err.endswith("\n") and err[:-1].isprintable()
    assert len(err) < 3000 and replies[name][1] in err
    # A refusal is about the request.
    assert server in err or "refusal" in name or "row" in name


@pytest.mark.parametrize("name", REST)
def test_what_has_no_signatures_names_no_domains(name, rest, monkeypatch):
    monkeypatch.setattr(remote, "MAX_REPLY", LIMIT)
    with pytest.raises((ValueError, ConnectionError)) as caught:
        RestClient(f"{rest}/{name}").domains()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "name", ["no labels", "an empty list", "a list of text", "a list of lists", "an infinite list"]
)
def test_what_are_no_features_is_told(name, rest):
    with pytest.raises(ValueError, match="expected features, equally many finite numbers for each image; received"):
        list(embed_files(RestClient(f"{rest}/{name}"), "base", [b"x"], 1))


def test_a_table_shows_names_as_they_are(capsys):
    """Neither markup of the table's nor what a terminal obeys."""
    answer = {"label": ["[red]x[/red]", ESCAPES, "\ud800"], "probability": [0.5, 0.4, 0.1], "class_id": [0, 1, 2]}
    table_console().print(table_of(["[bold]a[/].png"], [answer], 3))
    out = capsys.readouterr().out
    assert all(part in out for part in ("[bold]a[/].png", "[red]x[/red]", PLAIN, r"\ud800"))
    assert "\x1b" not in out and len(out.splitlines()) == 2
