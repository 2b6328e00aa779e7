"""Images that an export is checked on and warmed up with: real ones, or drawn where there are none."""

import dataclasses
import os

import keras
import numpy as np
import tensorflow as tf

from tfmdl.data.decode import decode_window, format_of, normalize, size_of, window_of_images
from tfmdl.data.records import UNREADABLE, DatasetInfo, converted_domains, reason_of
from tfmdl.packs import Pack
from tfmdl.serving.images import ENCODED

COUNT = 8  # images per domain
_SPLITS = ("val", "test", "train")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image file, and what evaluation makes of it.

    Attributes:
        encoded: The file.
        whole: uint8 (height, width, 3), decoded.
        window: uint8 (*evaluation size, 3), as evaluation decodes it.
        centre: The same out of `whole`, as a signature for pixels makes it.
    """

    encoded: bytes
    whole: np.ndarray
    window: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, encoded: bytes, preprocessing) -> "Sample":
        image_format = format_of(tf.constant(encoded))
        height, width = tf.unstack(size_of(tf.constant(encoded), image_format))
        how = (preprocessing.cover_size, preprocessing.size, preprocessing.centre)
        window = decode_window(tf.constant(encoded), height, width, *how)
        whole = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return cls(encoded, whole.numpy(), window.numpy(), window_of_images(whole[None], *how)[0].numpy())


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """Samples as one request to a signature, and what it should be answered.

    Attributes:
        signature: Name of the signature.
        inputs: Arrays by name, one row per image.
        packs: The pack of each row's domain.
        wanted: By row, probabilities of the live model; for the signature of the features, its features.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    packs: list[Pack]
    wanted: list[np.ndarray]

    def rows(self, chosen) -> "SampleRequest":
        """Returns the request with some of its rows only."""
        inputs = {name: value[chosen] for name, value in self.inputs.items()}
        packs, wanted = ([values[row] for row in chosen] for values in (self.packs, self.wanted))
        return SampleRequest(self.signature, inputs, packs, wanted)


def samples_of(
    packs, data_dir: str | os.PathLike | None = None, count: int = COUNT
) -> tuple[dict[str, list[Sample]], list[str]]:
    """Returns samples of every domain, by name, and the domains for which they are drawn.

    Args:
        packs: The packs of the domains.
        data_dir: Folder that data_prep/convert.py wrote; images of val are taken, or of the split there is. For domains
            that are not there images are drawn.
        count: How many of each domain.

    Raises:
        ValueError: if a domain has other classes in `data_dir`, or no images, or they cannot be read.
    """
    converted = converted_domains(data_dir) if data_dir else ()
    random = np.random.default_rng(0)
    drawn = [pack.domain for pack in packs if pack.domain not in converted]
    samples = {}
    for pack in packs:
        try:
            files = _draw(random, count) if pack.domain in drawn else _read(pack, data_dir, count)
            samples[pack.domain] = [Sample.of(file, pack.preprocessing) for file in files]
        except UNREADABLE as error:
            told = reason_of(error)
            raise ValueError(f"images of domain {pack.domain!r} in {data_dir} cannot be read: {told}") from error
    return samples, drawn


def live_answers(model, pack: Pack, images) -> tuple[np.ndarray, np.ndarray]:
    """Returns features and probabilities of uint8 images (rows, *size, 3) of one domain, as evaluation has them.

    Raises:
        ValueError: if one of them is not a finite number.
    """
    images = np.asarray(normalize(np.stack(images), pack.preprocessing.mean, pack.preprocessing.std))
    features = model.features(images, pack.domain)
    probabilities = keras.ops.softmax(model.head(features, domain=pack.domain))
    answers = np.asarray(features), np.asarray(probabilities)
    for name, values in zip(("features", "probabilities"), answers, strict=True):
        check_finite(values, f"{name} of domain {pack.domain!r}")
    return answers


def check_finite(values: np.ndarray, what: str) -> None:
    """Raises a ValueError if one of the values, of which a message says `what` they are, is not a finite number."""
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: expected finite numbers; received {values[~np.isfinite(values)][0]}")


def _read(pack, data_dir, count):
    info = DatasetInfo.load(data_dir, pack.domain)
    if info.label_names != pack.label_names:
        raise ValueError(f"{pack.path} was trained on other classes than {data_dir} has for {pack.domain!r}")
    split = next((split for split in _SPLITS if split in info.splits and info.splits[split].num_examples), None)
    if split is None:
        raise ValueError(f"domain {pack.domain!r} has no images in {data_dir}")
    # Some at a distance from each other: the first ones may be of one class.
    every = max(1, info.splits[split].num_examples // count)
    records = tf.data.TFRecordDataset(info.shard_paths(data_dir, split)).shard(every, 0).take(count)
    fields = {ENCODED: tf.io.FixedLenFeature([], tf.string)}
    return [tf.io.parse_single_example(record, fields)[ENCODED].numpy() for record in records]


def _draw(random, count):
    files = []
    for number in range(count):
        height, width = random.integers(20, 150, 2)
        image = random.integers(0, 256, (height, width, 3), "uint8")
        encode = tf.io.encode_png if number % 2 else tf.io.encode_jpeg
        files.append(encode(image).numpy())
    return files
