"""A stand-in for TensorFlow Serving: its REST and gRPC interfaces, mapped onto a loaded SavedModel, and nothing else.

What it takes and how it answers follows the real server's documents ("RESTful API", prediction_service.proto) and the
rules of its JSON parser: inputs by the names and types of the signature, bytes as {"b64": ...}, rows of one shape.

    python -m faults.model_server BASE --name=tfmdl      # prints where it serves, until its input ends

As the real server does, the command follows its folder: a newer version is loaded and warmed up, takes the place of the
one before, and is printed; the one before is unloaded when it has answered what it was asked.
"""

import argparse
import base64
import binascii
import concurrent.futures
import dataclasses
import gc
import http.server
import json
import pathlib
import re
import sys
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

INTEGERS = {tf.int32: (-(2**31), 2**31 - 1), tf.uint8: (0, 255)}
POLL_SECONDS = 1.0  # as the real server's --file_system_poll_wait_seconds
DEFAULT = "serving_default"
INITIALISER = "__saved_model_init_op"  # which loading has run
WARMUP = "assets.extra/tf_serving_warmup_requests"


class NotFoundError(Exception):
    """There is no such model or version."""


class InvalidError(Exception):
    """A request that the model or the interface does not take."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature of a version.

    Attributes:
        inputs, outputs: What it takes and answers, by name.
        call: Called with arrays, in the order of `inputs`, it returns arrays, in that of `outputs`.
    """

    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, tf.TensorSpec]
    call: Callable[..., list[np.ndarray]]


class Version:
    """A version of a served model.

    It is run by a session, as it is by the real server. What `tf.saved_model.load` returns would leave its functions
    behind when it goes.
    """

    def __init__(self, path, name):
        self.name, self.version = name, int(path.name)
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            graph = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        self.signatures = {
            name: self._signature(one) for name, one in graph.signature_def.items() if name != INITIALISER
        }

    def _signature(self, described):
        inputs, outputs = dict(sorted(described.inputs.items())), dict(sorted(described.outputs.items()))
        call = self._session.make_callable(
            [value.name for value in outputs.values()], [value.name for value in inputs.values()]
        )
        return Signature(_specs(inputs), _specs(outputs), call)

    def check(self, name, version):
        if name != self.name or version not in (None, self.version):
            raise NotFoundError(
                f"Servable not found for request: {f'Specific({name}, {version})' if version else f'Latest({name})'}"
            )

    def metadata(self, name, version):
        """Returns what the signatures take and answer, in the form of the real server's JSON."""
        self.check(name, version)

        def described(specs):
            return {name: {"dtype": f"DT_{spec.dtype.name.upper()}", "name": ""} for name, spec in specs.items()}

        signatures = {
            name: {"inputs": described(one.inputs), "outputs": described(one.outputs)}
            for name, one in self.signatures.items()
        }
        told = {
            "model_spec": {"name": self.name, "signature_name": "", "version": str(self.version)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }
        return json.dumps(told).encode()

    def signature(self, name, version, signature):
        self.check(name, version)
        signature = signature or DEFAULT
        if signature not in self.signatures:
            raise InvalidError(f'Serving signature name: "{signature}" not found in signature def')
        return self.signatures[signature]

    def predict(self, signature, inputs):
        specs = signature.inputs
        if set(inputs) != set(specs):
            raise InvalidError(f"input size does not match signature: {sorted(inputs)} != {sorted(specs)}")
        for name, value in inputs.items():
            dtype = tf.as_dtype(value.dtype)
            if dtype != specs[name].dtype or not specs[name].shape.is_compatible_with(value.shape):
                raise InvalidError(f"{name} is {dtype.name} {value.shape}; the signature wants {specs[name]}")
        try:
            return dict(zip(signature.outputs, signature.call(*(inputs[name] for name in specs)), strict=True))
        except tf.errors.InvalidArgumentError as error:
            raise InvalidError(error.message) from error

    def warm_up(self, path):
        """Asks the default signature what the version has been given to be warmed up with; the real server asks all."""
        if (path / WARMUP).exists():
            for log in tf.data.TFRecordDataset(str(path / WARMUP)).as_numpy_iterator():
                request = prediction_log_pb2.PredictionLog.FromString(log).predict_log.request
                if request.model_spec.signature_name == DEFAULT:
                    self.predict(self.signatures[DEFAULT], arrays_in(request))


class Model:
    """The newest version of a served model. A request takes `served` once, and is answered by it to the end."""

    def __init__(self, base, name):
        self._base, self._name = pathlib.Path(base), name
        self.served = Version(self._newest(), name)

    def follow(self, told):
        """Serves each newer version as it comes, and calls `told` with its number; without end."""
        while True:
            time.sleep(POLL_SECONDS)
            path = self._newest()
            if path and int(path.name) > self.served.version:
                version = Version(path, self._name)
                version.warm_up(path)
                self.served = version
                told(version.version)
                gc.collect()  # the graph of the version before is in circles

    def _newest(self):
        versions = [path for path in self._base.iterdir() if path.name.isdecimal()]
        return max(versions, key=lambda path: int(path.name), default=None)


def arrays_in(request):
    return {name: tf.make_ndarray(value) for name, value in request.inputs.items()}


def _specs(described):
    return {name: tf.TensorSpec(value.tensor_shape, tf.as_dtype(value.dtype)) for name, value in described.items()}


# REST


def arrays_of(body, signature_of):
    """Returns the signature that a body of row format asks for, and the arrays that it makes."""
    try:
        request = json.loads(body)
    except ValueError as error:
        raise InvalidError(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise InvalidError("JSON Value is not object")
    signature = signature_of(request.get("signature_name", ""))
    specs = signature.inputs
    instances = request.get("instances")
    if "inputs" in request or not isinstance(instances, list) or not instances:
        raise InvalidError("expecting 'instances' to be a list of at least one value")
    columns = {name: [] for name in specs}
    named = isinstance(instances[0], dict) and not is_base64(instances[0])
    if not named and len(specs) > 1:
        raise InvalidError("instances is a plain list, but expecting list of objects")
    for index, instance in enumerate(instances):
        instance = instance if named else {next(iter(specs)): instance}
        if not isinstance(instance, dict) or set(instance) != set(specs):
            raise InvalidError(f"Failed to process element: {index}: keys must be equal to: {','.join(sorted(specs))}")
        for name, value in instance.items():
            columns[name].append(values_of(value, specs[name].dtype, index))
    return signature, {name: array_of(values, specs[name].dtype) for name, values in columns.items()}


def is_base64(value):
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def values_of(value, dtype, index):
    if isinstance(value, list):
        return [values_of(each, dtype, index) for each in value]
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode()
        if is_base64(value):
            try:
                return base64.b64decode(value["b64"], validate=True)
            except binascii.Error as error:
                raise InvalidError("Unable to base64 decode") from error
    elif dtype in INTEGERS:
        lowest, highest = INTEGERS[dtype]
        if type(value) is int and lowest <= value <= highest:
            return value
    elif type(value) in (int, float):
        return value
    raise InvalidError(f"Failed to process element: {index}: {str(value)[:80]} is not of expected type: {dtype.name}")


def array_of(values, dtype):
    try:
        array = np.array(values, dtype.as_numpy_dtype)
    except ValueError as error:
        raise InvalidError(f"rows are not of one shape ({error})") from error
    if dtype == tf.string and any(isinstance(value, list) for value in array.flat):  # an array of objects takes them
        raise InvalidError("rows are not of one shape")
    return array


def rows_of(outputs):
    """Returns the body of an answer in row format."""
    sizes = {len(value) for value in outputs.values()}
    assert len(sizes) == 1, "outputs share their first dimension"

    def plain(name, value):
        if value.dtype != object:
            return value.tolist()
        assert not name.endswith("_bytes"), "would be base64"
        return value.item().decode() if value.ndim == 0 else [each.decode() for each in value]

    rows = [{name: plain(name, value[row, ...]) for name, value in outputs.items()} for row in range(sizes.pop())]
    if len(outputs) == 1:
        rows = [value for row in rows for value in row.values()]
    return json.dumps({"predictions": rows}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    path_form = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)?")

    def do_GET(self):
        found = self.path_form.fullmatch(self.path)
        if not found or found[3] != "/metadata":
            return self._answer(400, _error(f"Malformed request: GET {self.path}"))
        try:
            self._answer(200, self.server.model.served.metadata(found[1], int(found[2]) if found[2] else None))
        except NotFoundError as error:
            self._answer(404, _error(str(error)))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = self.path_form.fullmatch(self.path)
        if not found or found[3] != ":predict":
            return self._answer(400, _error(f"Malformed request: POST {self.path}"))
        name, version = found[1], int(found[2]) if found[2] else None
        model = self.server.model.served
        try:
            signature, inputs = arrays_of(body, lambda wanted: model.signature(name, version, wanted))
            self._answer(200, rows_of(model.predict(signature, inputs)))
        except NotFoundError as error:
            self._answer(404, _error(str(error)))
        except InvalidError as error:
            self._answer(400, _error(str(error)))

    def _answer(self, status, body):
        send(self, status, body)

    def log_message(self, *_):
        pass


def send(handler, status, body):
    """Answers a request, of which `handler` has read all, as the real server does."""
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _error(message):
    return json.dumps({"error": message}).encode()


# gRPC


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model):
        self.model = model

    def Predict(self, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        model = self.model.served
        try:
            signature = model.signature(spec.name, version, spec.signature_name)
            outputs = model.predict(signature, arrays_in(request))
        except NotFoundError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except InvalidError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def GetModelMetadata(self, request, context):
        return get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)


class Server:
    """Both interfaces, on ports of the system's choice on loopback; a context manager."""

    def __init__(self, base, name="tfmdl"):
        self.model = model = Model(base, name)
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.model = model
        self._grpc = grpc.server(
            concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)]
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(model), self._grpc)
        self.rest_port = self._http.server_address[1]
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{self.rest_port}/v1/models/{name}"
        self.address = f"127.0.0.1:{self.grpc_port}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._grpc.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("--name", default="tfmdl")
    arguments = parser.parse_args()
    with Server(arguments.base, arguments.name) as server:
        print(json.dumps({"url": server.url, "address": server.address}), flush=True)

        def tell(version):
            print(json.dumps({"version": version}), flush=True)

        threading.Thread(target=server.model.follow, args=(tell,), daemon=True).start()
        sys.stdin.read()
