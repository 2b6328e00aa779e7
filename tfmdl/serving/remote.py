"""Asking a served model, over TensorFlow Serving's REST and gRPC interfaces.

What a server sends may be anything: its size is bounded, its form checked, and what is shown of it made plain.
"""

import base64
import io
import json
import math
import re
from collections.abc import Iterator

import numpy as np
import requests
from PIL import Image, UnidentifiedImageError

from tfmdl.outside import parse_json, printable

MAX_REPLY = 100_000_000  # bytes; the features of a thousand images are a tenth
MAX_PIXELS = 25_000_000  # of an image that is decoded here: exports take no larger ones
_URL = re.compile(r"https?://[^/]+/v1/models/[^/:]+(/(versions|labels)/[^/:]+)?")
_GRPC = re.compile(r"[^/\s]+:\d+")
_ROW = re.compile(r"row (\d{1,9}): (.*)", re.DOTALL)
_TOLD = 2000  # characters of what a server says

_EXPECTED = "expected an answer of TensorFlow Serving"
_DOMAINS = "domains"  # the signature that lists them
_LISTED = 256  # in one request
_MOST_DOMAINS = 100_000  # however many more a server may tell of
_CLASSIFY = "classify_"  # and the name of a domain: the signatures for its pixels

Answers = list[dict]  # one per image: lists label, probability and class_id, the most probable class first


class RefusedError(ValueError):
    """What the server said to a request that it did not answer, on one line and without what terminals obey.

    Attributes:
        row: Which row of the request it is about, or None.
    """

    def __init__(self, message: str, rows: int = 0):
        """Takes the message, and how many rows were sent: of these it may name one."""
        found = _ROW.fullmatch(message)
        self.row = int(found[1]) if found and int(found[1]) < rows else None
        super().__init__(printable((message if self.row is None else found[2])[:_TOLD]))


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
        self.name = self.url = url
        self.timeout = timeout
        self._session = requests.Session()

    def predict(self, signature: str, rows: list[dict]) -> Answers:
        """Returns the answers to `rows`, each the inputs of one image by name: bytes, str, int or an array.

        Raises:
            ConnectionError: if no server answers, or not to the end.
            RefusedError: if it answers with an error, or with what is no answer.
        """
        content, body = self._asked("POST", ":predict", rest_body(signature, rows), len(rows))
        answers = content.get("predictions") if isinstance(content, dict) else None
        if not isinstance(answers, list):
            raise RefusedError(f"{self.url}: {_EXPECTED}, a list of predictions; received {body[:200]!r}")
        if len(answers) != len(rows):
            raise RefusedError(f"{self.url}: expected {len(rows)} answers, one per image; received {len(answers)}")
        return answers

    def domains(self) -> list[str]:
        """Returns the domains that the model serves, sorted; errors as `predict`."""
        content, body = self._asked("GET", "/metadata")
        try:
            signatures = set(content["metadata"]["signature_def"]["signature_def"])
        except (KeyError, TypeError):
            raise RefusedError(f"{self.url}: {_EXPECTED}, its signatures; received {body[:200]!r}") from None
        if _DOMAINS in signatures:
            return sorted(self._listed())
        # As 0.1.0 wrote them, each domain has two signatures for pixels.
        named = [name.removeprefix(_CLASSIFY) for name in signatures if name.startswith(_CLASSIFY)]
        return sorted(name for name in named if _pixel_signature(name) in signatures)

    def _listed(self):
        for first in range(0, _MOST_DOMAINS, _LISTED):
            answers = self.predict(_DOMAINS, [{"index": index} for index in range(first, first + _LISTED)])
            names = [answer.get("domain") if isinstance(answer, dict) else None for answer in answers]
            if not all(isinstance(name, str) for name in names):
                raise RefusedError(f"{self.url}: {_EXPECTED}, its domains; received {str(answers)[:200]}")
            yield from filter(None, names)
            if not all(names):
                return

    def _asked(self, how, where, body=None, rows=0):
        """Returns what the JSON of the server's reply holds, and the reply itself."""
        status, body = self._reply(how, where, body)
        if status == 404:
            raise RefusedError(f"{self.url}: no such model or version on this server: {_rest_error(body)}")
        if status == 400:
            raise RefusedError(reason_of(_rest_error(body)) or f"{self.url}: refused, with no reason given", rows)
        if status != 200:
            raise RefusedError(f"{self.url}: {_EXPECTED}; received HTTP status {status}: {_rest_error(body)}")
        try:
            return parse_json(body, self.url), body
        except ValueError as error:
            raise RefusedError(f"{error}: {_EXPECTED}; received {body[:200]!r}") from None

    def _reply(self, how, where, body):
        """Returns status and body of the server's reply."""
        reply = None
        try:
            with self._session.request(
                how, self.url + where, data=body, timeout=self.timeout, stream=True, allow_redirects=False
            ) as response:
                reply = bytearray()
                for part in response.iter_content(1 << 16):
                    reply += part
                    if len(reply) > MAX_REPLY:
                        raise RefusedError(f"{self.url}: expected at most {MAX_REPLY} bytes; received more")
                return response.status_code, bytes(reply)
        except requests.Timeout:
            raise ConnectionError(f"{self.url}: no answer within {self.timeout:g} seconds (--timeout)") from None
        except requests.RequestException as error:
            if reply is None and isinstance(error, requests.ConnectionError):
                fault = f"cannot connect; is the server running there? ({_root(error)})"
            else:
                fault = f"{_EXPECTED}, whole; received {_root(error)}"
            raise ConnectionError(f"{self.url}: {fault}") from None


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
        from google.protobuf.message import DecodeError
        from tensorflow_serving.apis import predict_pb2

        self.name = self.address = address
        self.model, self.timeout = model, timeout
        self._code = grpc.StatusCode
        self._error, self._damaged = grpc.RpcError, DecodeError
        self._read = predict_pb2.PredictResponse.FromString
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", MAX_REPLY)])
        # Not the stub, which prints a traceback where a reply is no message.
        self._predict = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=predict_pb2.PredictRequest.SerializeToString,
        )

    def predict(self, signature: str, rows: list[dict]) -> Answers:
        """As `RestClient.predict`."""
        from tfmdl.serving.assets import predict_request

        inputs = {name: _stacked([row[name] for row in rows]) for name in rows[0]}
        try:
            reply = self._predict(predict_request(signature, inputs, self.model), timeout=self.timeout)
        except self._error as error:
            raise self._translated(error, len(rows)) from None
        try:
            tensors = self._read(reply).outputs
        except self._damaged as error:
            raise RefusedError(f"{self.address}: {_EXPECTED}; received {reply[:200]!r} ({error})") from None
        outputs = {name: self._array(name, tensor, len(rows)) for name, tensor in tensors.items()}
        return [{name: value[row] for name, value in outputs.items()} for row in range(len(rows))]

    def _array(self, name, tensor, rows):
        """Returns an output as nested lists."""
        from tensorflow import make_ndarray

        # A few bytes may claim any shape.
        shape = [side.size for side in tensor.tensor_shape.dim]
        if not shape or shape[0] != rows or min(shape) < 0 or math.prod(shape) > MAX_REPLY // 10:
            raise RefusedError(f"{self.address}: expected {name!r} with {rows} rows; received shape {shape}")
        try:
            values = make_ndarray(tensor).tolist()
            return _decoded(values)
        except (TypeError, ValueError) as error:
            raise RefusedError(f"{self.address}: expected {name!r} to be a tensor; received none ({error})") from None

    def _translated(self, error, rows):
        code, details = error.code(), error.details() or ""
        if code == self._code.UNAVAILABLE:
            told = printable(details)
            return ConnectionError(f"{self.address}: cannot connect; is the server running there? ({told})")
        if code == self._code.DEADLINE_EXCEEDED:
            return ConnectionError(f"{self.address}: no answer within {self.timeout:g} seconds (--timeout)")
        if code == self._code.NOT_FOUND:
            return RefusedError(f"{self.address}: no model {self.model!r} on this server (--model): {details}")
        if code == self._code.INVALID_ARGUMENT:
            return RefusedError(reason_of(details) or f"{self.address}: refused, with no reason given", rows)
        return RefusedError(f"{self.address}: {_EXPECTED}; received {code.name}: {details}")


def rest_body(signature: str, rows: list[dict]) -> bytes:
    """Returns the body of a request in TensorFlow Serving's row format: bytes as {"b64": ...}, arrays nested."""
    instances = [{name: _json(value) for name, value in row.items()} for row in rows]
    if rows and len(rows[0]) == 1:
        # The one input of a signature goes without its name.
        instances = [value for instance in instances for value in instance.values()]
    return json.dumps({"signature_name": signature, "instances": instances}).encode()


def classify_files(client, domain: str, files: list[bytes], batch_size: int) -> Iterator[Answers]:
    """Yields the answers to image files of one domain, batch by batch; errors as `predict`, rows of all files."""
    for answers in _of_files(client, "serving_default", domain, files, batch_size):
        yield _checked(client, answers)


def embed_files(client, domain: str, files: list[bytes], batch_size: int) -> Iterator[np.ndarray]:
    """Yields the pooled features of image files, float32 (rows, channels), batch by batch; as `classify_files`."""
    for answers in _of_files(client, "features", domain, files, batch_size):
        # By REST the one output of a signature comes without its name.
        rows = [answer.get("features") if isinstance(answer, dict) else answer for answer in answers]
        try:
            features = np.array(rows, "float32")
        except (TypeError, ValueError, OverflowError):
            features = np.empty(0)
        if features.ndim != 2 or not features.size or not np.isfinite(features).all():
            raise RefusedError(
                f"{client.name}: expected features, equally many finite numbers for each image; "
                f"received {str(answers)[:200]}"
            )
        yield features


def _of_files(client, signature, domain, files, batch_size):
    for start in range(0, len(files), batch_size):
        rows = [{"image_bytes": file, "domain": domain} for file in files[start : start + batch_size]]
        try:
            yield client.predict(signature, rows)
        except RefusedError as error:
            if error.row is not None:
                error.row += start
            raise


def wants_pixels(error: RefusedError, domain: str) -> bool:
    """Returns whether files of `domain` are refused since it is seen at a size of its own, which takes pixels."""
    return f"ask signature {_CLASSIFY}{domain}" in str(error)


def decode_file(file: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the pixels of an image file, uint8 (height, width, 3).

    Raises:
        ValueError: if it is no image, is damaged, or has more than `max_pixels`, which are not decoded.
    """
    try:
        image = Image.open(io.BytesIO(file))
        if image.width * image.height > max_pixels:
            raise ValueError(f"at most {max_pixels:,} pixels are taken; received {image.width:,}x{image.height:,}")
        return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError("is no image that can be read") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error


def classify_pixels(client, domain: str, images: list[np.ndarray]) -> Iterator[Answers]:
    """Yields the answers to uint8 images (height, width, 3) of one domain, one by one: they may differ in size."""
    for index, image in enumerate(images):
        try:
            yield _checked(client, client.predict(_pixel_signature(domain), [{"image": image}]))
        except RefusedError as error:
            error.row = index
            raise


def _pixel_signature(domain):
    return f"{_CLASSIFY}{domain}_uint8"


def _json(value):
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _stacked(values):
    return np.array(values, object) if isinstance(values[0], (bytes, str)) else np.stack(values)


def _checked(client, answers):
    """Returns answers with labels, after a check of their form."""
    for answer in answers:
        columns = [answer.get(name) for name in _NAMES] if isinstance(answer, dict) else [None]
        fits = all(isinstance(column, list) and column and len(column) == len(columns[0]) for column in columns)
        if not fits or not all(map(_is_class, *columns)):
            raise RefusedError(
                f"{client.name}: expected lists of labels, probabilities and class ids, equally long; "
                f"received {str(answer)[:200]}"
            )
    return answers


_NAMES = ("label", "probability", "class_id")


def _is_class(label, probability, class_id):
    is_share = type(probability) in (int, float) and 0 <= probability <= 1
    return isinstance(label, str) and is_share and type(class_id) is int


def _decoded(values):
    """Returns nested lists with text in place of bytes."""
    if isinstance(values, list):
        return [_decoded(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values


def _rest_error(body):
    """Returns the server's message out of its JSON; all that it sent where that is no valid JSON."""
    text = body.decode(errors="backslashreplace")
    try:
        error = parse_json(text, "")["error"]
    except (ValueError, KeyError, TypeError):
        error = text
    return error.strip() if isinstance(error, str) else text.strip()


def reason_of(message: str) -> str:
    """Returns the text of an assertion in the graph without what TensorFlow puts around it."""
    _, found, text = message.partition("assertion failed: [")
    if not found:
        return message.strip()
    text = re.split(r"\]\s*(?:\n|\\n|\[\[\{\{|$)", text, maxsplit=1)[0]
    return text.replace("] [", " ")


def _root(error):
    while error.__context__ is not None:
        error = error.__context__
    return printable(str(error))
