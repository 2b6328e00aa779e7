"""Asking a served model, over TensorFlow Serving's REST and gRPC interfaces."""

import base64
import json
import re
from collections.abc import Iterator

import numpy as np
import requests

_URL = re.compile(r"https?://[^/]+/v1/models/[^/:]+(/(versions|labels)/[^/:]+)?")
_GRPC = re.compile(r"[^/\s]+:\d+")
_ROW = re.compile(r"row (\d+): (.*)", re.DOTALL)

Answers = list[dict]  # a row an image: label, probability and class_id, lists, the most probable class first


class RefusedError(ValueError):
    """What the server said to a request that it did not answer.

    Attributes:
        row: Which row of the request it is about, or None.
    """

    def __init__(self, message: str):
        found = _ROW.fullmatch(message)
        self.row = int(found[1]) if found else None
        super().__init__(found[2] if found else message)


class RestClient:
    """Sends requests as JSON.

    Args:
        url: Of the model: http://host:port/v1/models/NAME, perhaps with /versions/NUMBER.
        timeout: In seconds, for each request.

    Raises:
        ValueError: if `url` is not of this form.
    """

    def __init__(self, url: str, timeout: float = 60.0):
        if not _URL.fullmatch(url):
            raise ValueError(f"--url must be http://HOST:PORT/v1/models/NAME; received {url!r}")
        self.url, self.timeout = url, timeout
        self._session = requests.Session()

    def predict(self, signature: str, rows: list[dict]) -> Answers:
        """Returns the answers to `rows`, each the inputs of one image by name: bytes, str, int or an array.

        Raises:
            ConnectionError: if no server answers.
            RefusedError: if it answers with an error.
        """
        try:
            response = self._session.post(f"{self.url}:predict", data=rest_body(signature, rows), timeout=self.timeout)
        except requests.Timeout:
            raise ConnectionError(f"{self.url}: no answer within {self.timeout:g} seconds (--timeout)") from None
        except requests.ConnectionError as error:
            raise ConnectionError(
                f"{self.url}: cannot connect; is the server running there? ({_root(error)})"
            ) from None
        if response.status_code == 404:
            raise RefusedError(f"{self.url}: no such model or version on this server: {_rest_error(response.text)}")
        if response.status_code != 200:
            raise RefusedError(_reason(_rest_error(response.text)))
        try:
            answers = response.json()["predictions"]
        except (ValueError, KeyError, TypeError):
            raise RefusedError(f"{self.url}: this is no TensorFlow Serving; it says {response.text[:200]!r}") from None
        if len(answers) != len(rows):
            raise RefusedError(f"{self.url}: {len(answers)} answers to {len(rows)} images")
        return answers


class GrpcClient:
    """Sends requests as protocol buffers.

    Args:
        address: host:port.
        model: Name of the model.
        timeout: In seconds, for each request.

    Raises:
        ValueError: if `address` is not of this form.
    """

    def __init__(self, address: str, model: str, timeout: float = 60.0):
        if not _GRPC.fullmatch(address):
            raise ValueError(f"--grpc must be HOST:PORT; received {address!r}")
        # TensorFlow comes with them, and takes seconds: who asks by REST does without.
        import tfmdl.quiet  # isort: skip  # noqa: F401

        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self.address, self.model, self.timeout = address, model, timeout
        self._code = grpc.StatusCode
        self._error = grpc.RpcError
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, signature: str, rows: list[dict]) -> Answers:
        """As `RestClient.predict`."""
        from tensorflow import make_ndarray

        from tfmdl.serving.assets import predict_request

        inputs = {name: _stacked([row[name] for row in rows]) for name in rows[0]}
        try:
            response = self._stub.Predict(predict_request(signature, inputs, self.model), timeout=self.timeout)
        except self._error as error:
            raise self._translated(error) from None
        outputs = {name: make_ndarray(value) for name, value in response.outputs.items()}
        outputs = {
            name: np.char.decode(value.astype("S"), "utf-8") if value.dtype == object else value
            for name, value in outputs.items()
        }
        return [{name: value[row].tolist() for name, value in outputs.items()} for row in range(len(rows))]

    def _translated(self, error):
        code, details = error.code(), error.details()
        if code == self._code.UNAVAILABLE:
            return ConnectionError(f"{self.address}: cannot connect; is the server running there? ({details})")
        if code == self._code.DEADLINE_EXCEEDED:
            return ConnectionError(f"{self.address}: no answer within {self.timeout:g} seconds (--timeout)")
        if code == self._code.NOT_FOUND:
            return RefusedError(f"{self.address}: no model {self.model!r} on this server (--model): {details}")
        return RefusedError(_reason(details))


def rest_body(signature: str, rows: list[dict]) -> bytes:
    """Returns the body of a request in TensorFlow Serving's row format: bytes as {"b64": ...}, arrays nested."""
    instances = [{name: _json(value) for name, value in row.items()} for row in rows]
    if rows and len(rows[0]) == 1:
        # The one input of a signature goes without its name.
        instances = [value for instance in instances for value in instance.values()]
    return json.dumps({"signature_name": signature, "instances": instances}).encode()


def classify_files(client, domain: str, files: list[bytes], batch_size: int) -> Iterator[Answers]:
    """Yields the answers to image files of one domain, batch by batch; errors as `predict`, rows of all files."""
    for start in range(0, len(files), batch_size):
        rows = [{"image_bytes": file, "domain": domain} for file in files[start : start + batch_size]]
        try:
            yield client.predict("serving_default", rows)
        except RefusedError as error:
            if error.row is not None:
                error.row += start
            raise


def classify_pixels(client, domain: str, images: list[np.ndarray]) -> Iterator[Answers]:
    """Yields the answers to uint8 images (height, width, 3) of one domain, one by one: they may differ in size."""
    for index, image in enumerate(images):
        try:
            yield client.predict(f"classify_{domain}_uint8", [{"image": image}])
        except RefusedError as error:
            error.row = index
            raise


def _json(value):
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _stacked(values):
    return np.array(values, object) if isinstance(values[0], (bytes, str)) else np.stack(values)


def _rest_error(body):
    """The server's message: of its JSON, or where it escaped that in ways that JSON has not, all it said."""
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.strip()


def _reason(message):
    """Returns the text of an assertion in the graph without what TensorFlow puts around it."""
    _, found, text = message.partition("assertion failed: [")
    if not found:
        return message.strip()
    text = re.split(r"\]\s*(?:\n|\\n|\[\[\{\{|$)", text, maxsplit=1)[0]
    return text.replace("] [", " ")


def _root(error):
    while error.__context__ is not None:
        error = error.__context__
    return error
