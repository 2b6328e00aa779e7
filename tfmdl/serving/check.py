"""An export's answers, compared with the live model's and with those of the version before it."""

import numpy as np
import tensorflow as tf

from tfmdl.data.records import UNKNOWN_LABEL, serialize_example
from tfmdl.serving.remote import reason_of
from tfmdl.serving.samples import Sample, SampleRequest, check_finite, live_answers
from tfmdl.serving.signatures import FEATURES, SERVE_IMAGES, SERVING_DEFAULT, TF_EXAMPLE, Served, pixel_names

_MOST_ROWS = 256  # of a request that mixes domains
_TINY = float(np.finfo("float32").tiny)  # what differences are taken relative to where all features are zero


def requests_for(served: Served, live, samples: dict[str, list[Sample]]) -> list[SampleRequest]:
    """Returns requests for every signature, which together send it all samples that it takes.

    Args:
        served: What is exported.
        live: The live model, float32, which says what the answers should be.
        samples: By domain.
    """
    requests, mixed = [], []
    asked_alone = {pack.domain for pack in served.asked_alone}
    for pack in served.packs:
        own = samples[pack.domain]
        if pack.domain in asked_alone:
            _, of_pixels = live_answers(live, pack, [sample.centre for sample in own])
            for name, dtype in zip(pixel_names(pack.domain), ("float32", "uint8"), strict=True):
                # Images differ in size: a batch is of one.
                for sample, wanted in zip(own, of_pixels, strict=True):
                    requests.append(SampleRequest(name, {"image": sample.whole[None].astype(dtype)}, [pack], [wanted]))
        if pack.preprocessing.size == served.size:
            answers = live_answers(live, pack, [sample.window for sample in own])
            mixed += zip([pack] * len(own), own, *answers, strict=True)
    # In an order as clients may have it.
    mixed = [mixed[index] for index in np.random.default_rng(0).permutation(len(mixed))]
    for first in range(0, len(mixed), _MOST_ROWS):
        requests += _mixed_requests(served, mixed[first : first + _MOST_ROWS])
    return requests


def _mixed_requests(served, rows):
    """Returns requests for the signatures that mix domains, of rows (pack, sample, features, probabilities)."""
    requests = []
    packs, sent, features, probabilities = map(list, zip(*rows, strict=True))
    domain = np.array([pack.domain.encode() for pack in packs], object)
    domain_id = np.array([served.ids[pack.domain] for pack in packs], "int32")
    files = {"image_bytes": np.array([sample.encoded for sample in sent], object), "domain": domain}
    examples = {"examples": np.array([_example(sample) for sample in sent], object), "domain": domain}
    requests.append(SampleRequest(SERVING_DEFAULT, files, packs, probabilities))
    requests.append(SampleRequest(TF_EXAMPLE, examples, packs, probabilities))
    requests.append(SampleRequest(FEATURES, files, packs, features))
    for name, dtype in zip(SERVE_IMAGES, ("float32", "uint8"), strict=True):
        pixels = np.stack([sample.window for sample in sent]).astype(dtype)
        requests.append(SampleRequest(name, {"image": pixels, "domain_id": domain_id}, packs, probabilities))
    return requests


def ask(signatures, request: SampleRequest) -> dict[str, np.ndarray]:
    """Returns what the signature of a loaded export answers.

    Raises:
        ValueError: if it refuses the request.
    """
    inputs = {name: tf.constant(value) for name, value in request.inputs.items()}
    try:
        return {name: value.numpy() for name, value in signatures[request.signature](**inputs).items()}
    except tf.errors.OpError as error:
        raise ValueError(f"signature {request.signature!r} refuses a sample: {reason_of(error.message)}") from error


def largest_difference(signatures, requests: list[SampleRequest]) -> float:
    """Returns by how much probabilities of a loaded export differ from those that are wanted, at most.

    Raises:
        ValueError: if an answer is not of the form that it has to have: labels that do not fit, say, or a probability
            that is not a finite number.
    """
    return max(_difference(request, ask(signatures, request)) for request in requests if request.signature != FEATURES)


def features_difference(signatures, requests: list[SampleRequest]) -> float:
    """Returns by how much features differ from those that are wanted, at most, relative to the largest of the domain's.

    Raises:
        ValueError: if a feature is not a finite number.
    """
    # Not by row: where hardly any feature is active, rounding alone is a large part of the largest.
    apart, scale = {}, {}
    for request in requests:
        if request.signature == FEATURES:
            for pack, wanted, features in zip(
                request.packs, request.wanted, ask(signatures, request)["features"], strict=True
            ):
                check_finite(features, f"features that the export has of domain {pack.domain!r}")
                apart[pack.domain] = max(apart.get(pack.domain, 0.0), np.abs(features - wanted).max())
                scale[pack.domain] = max(scale.get(pack.domain, _TINY), np.abs(wanted).max())
    return max((float(apart[domain] / scale[domain]) for domain in apart), default=0.0)


def check_unchanged(before, after, requests: list[SampleRequest], allowed: float = 0.0) -> float:
    """Compares the answers of two loaded exports to requests for domains that both serve.

    Args:
        before, after: Their signatures.
        requests: The requests.
        allowed: By how much numbers may differ, relative to the largest where that is above one. If they may, labels
            and class ids are not compared: of classes that are as probable, either may be the first.

    Returns:
        By how much they differ.

    Raises:
        ValueError: if they differ by more; where nothing is allowed, if a single bit differs.
    """
    largest = 0.0
    for request in requests:
        old, new = ask(before, request), ask(after, request)
        for name in new:
            was, now = _same_columns(old[name], new[name])
            if np.array_equal(was, now) or (allowed and was.dtype.kind != "f"):
                continue
            difference = np.inf
            if allowed:
                difference = float(np.abs(was - now).max() / max(1.0, np.abs(was).max()))
            if not difference <= allowed:
                raise ValueError(f"signature {request.signature!r} does not answer as it did: {name} differs")
            largest = max(largest, difference)
    return largest


def _same_columns(old, new):
    """Returns both without columns that only one has: rows are filled up to the domain with the most classes."""
    width = min(old.shape[1], new.shape[1])
    return old[:, :width], new[:, :width]


def _difference(request, answer):
    largest = 0.0
    labelled = "label" in answer
    for row, (pack, wanted) in enumerate(zip(request.packs, request.wanted, strict=True)):
        probability, class_id = answer["probability"][row], answer["class_id"][row]
        check_finite(probability, f"probabilities that {request.signature!r} answers for domain {pack.domain!r}")
        own = class_id >= 0
        best = np.sort(wanted)[::-1][: len(class_id)]
        if own.sum() != len(best):
            raise ValueError(
                f"signature {request.signature!r}: {own.sum()} of {len(best)} classes of domain {pack.domain!r}"
            )
        if labelled:
            labels = [label.decode() for label in answer["label"][row][own]]
            if labels != [pack.label_names[index] for index in class_id[own]]:
                raise ValueError(
                    f"signature {request.signature!r}: labels of domain {pack.domain!r} do not fit the class ids"
                )
        for values in (wanted[class_id[own]], best):
            largest = max(largest, float(np.abs(probability[own] - values).max()))
    return largest


def _example(sample):
    height, width, _ = sample.whole.shape
    return serialize_example(
        encoded=sample.encoded,
        image_format="jpeg",
        height=height,
        width=width,
        label=UNKNOWN_LABEL,
        text="",
        image_id=0,
    )
