"""What the page is answered: the classes of an image, and the training images that are nearest to it."""

import concurrent.futures
import dataclasses
import io
import threading
from collections.abc import Callable

import numpy as np
from PIL import Image

from tfmdl.domains import check_name
from tfmdl.pages import thumbnail_uri
from tfmdl.serving.remote import RefusedError, classify_files, classify_pixels, decode_file, embed_files, wants_pixels

NEAREST = 6
BATCH = 32
# Of an image that is sent as lists of numbers: each pixel takes some hundred bytes.
MAX_PIXELS = 4_000_000


def classify(client, domain: str, file: bytes) -> dict:
    """Returns the answer to one image file: lists label, probability and class_id, the most probable class first.

    Domains that are seen at a size of their own are asked by pixels, which are decoded here.

    Raises:
        ConnectionError: if no server answers.
        ValueError: if the server refuses, or the file is no image.
    """
    try:
        ((answer,),) = classify_files(client, domain, [file], 1)
    except RefusedError as error:
        if not wants_pixels(error, domain):
            raise
        ((answer,),) = classify_pixels(client, domain, [decode_file(file, MAX_PIXELS)])
    return answer


@dataclasses.dataclass(frozen=True)
class Progress:
    """How many training images of how many have been embedded so far."""

    done: int
    total: int


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A training image as a data URI, the name of its class, and its cosine similarity."""

    uri: str
    label: str
    similarity: float


@dataclasses.dataclass(frozen=True)
class _Embedded:
    """Training images of a domain: features of length 1, (images, channels), and what is shown of each."""

    features: np.ndarray
    labels: list[str]
    uris: list[str]


class NearestImages:
    """Finds training images that are near to an image by the served model's own features.

    The features of a domain's training images are asked for once, in the background, when the domain is first asked
    for; then they are kept.

    Args:
        client_for: Returns a client of the served model.
        read: Returns the `ImageFiles` of a domain by its name.
    """

    def __init__(self, client_for: Callable, read: Callable):
        self._client_for, self._read = client_for, read
        self._embedded = {}  # a future by domain
        self._progress = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        # One domain at a time: the served model has other clients too.
        self._pool = concurrent.futures.ThreadPoolExecutor(1)

    def find(self, domain: str, file: bytes) -> Progress | list[Neighbour]:
        """Returns the images that are nearest to an image file, the nearest first; `Progress` until there are any.

        Raises:
            ConnectionError, ValueError: as `classify`, of this image or of the training images; then the next call
                begins anew.
            OSError: if the training images cannot be read.
        """
        check_name(domain)  # a browser may ask for anything
        with self._lock:
            if domain not in self._embedded:
                self._progress[domain] = Progress(0, 0)
                self._embedded[domain] = self._pool.submit(self._embed, domain)
            future = self._embedded[domain]
            if not future.done():
                return self._progress[domain]
        try:
            images = future.result()
        except Exception:
            self._forget(domain)
            raise
        ((query,),) = embed_files(self._client_for(), domain, [file], 1)
        if query.shape != images.features.shape[1:]:
            self._forget(domain)
            raise ValueError(f"domain {domain!r}: the served model has other features than before; ask again")
        similarity = images.features @ _unit(query)
        best = np.argsort(-similarity, kind="stable")[:NEAREST]
        return [Neighbour(images.uris[at], images.labels[at], float(similarity[at])) for at in best]

    def close(self) -> None:
        """Ends what goes on in the background."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)

    def _forget(self, domain):
        with self._lock:
            self._embedded.pop(domain, None)

    def _embed(self, domain):
        images = self._read(domain)
        total = len(images.encoded)
        if not total:
            raise ValueError(f"domain {domain!r} has no training images")
        client, parts, done = self._client_for(), [], 0
        for features in embed_files(client, domain, images.encoded, BATCH):
            if self._closed.is_set():
                raise concurrent.futures.CancelledError
            parts.append(features)
            done += len(features)
            self._progress[domain] = Progress(done, total)
        uris = [thumbnail_uri(Image.open(io.BytesIO(encoded))) for encoded in images.encoded]
        return _Embedded(_unit(np.concatenate(parts)), images.labels, uris)


def _unit(features):
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.maximum(length, np.finfo("float32").tiny)
