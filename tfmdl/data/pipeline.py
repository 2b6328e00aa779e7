"""TFRecords to batches: {"image": (B, H, W, 3) float32, "label": (B,) int32, "domain": (B,) int32, "image_id"}.

Training batches are a function of (seed, epoch, step) alone: a run that stops in the middle of an epoch goes on with
the batches that it would have seen. Images of several domains mix in every batch.
"""

import contextlib
import dataclasses
import functools
import itertools
import os

import numpy as np
import tensorflow as tf

from tfmdl.data import records
from tfmdl.data.decode import cut_windows, decode_windows, normalize
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.data.record_files import RecordFiles, check_written

_UNUSED = ("image/format", "image/class/text")
_LABEL = "image/class/label"
_FIELDS = {key: field for key, field in records.FIELDS.items() if key not in _UNUSED}


@dataclasses.dataclass(frozen=True)
class Source:
    """The records of one domain that a pipeline reads.

    Attributes:
        domain: Name of the domain.
        paths: TFRecord files.
        num_examples: How many records they hold.
        preprocessing: How the domain's images become inputs.
        flips: Whether training mirrors every other image, left to right.
        labels: What a label may be: a class, and below 0 where it is unknown.
        written: When each file was last written, in ns, so that one that is replaced meanwhile is found; or nothing.
    """

    domain: str
    paths: tuple[str, ...]
    num_examples: int
    preprocessing: Preprocessing
    flips: bool = False
    labels: range = range(records.UNKNOWN_LABEL, 1 << 31)
    written: tuple[int, ...] = ()

    @classmethod
    def of(cls, data_dir, info: records.DatasetInfo, splits, preprocessing, flips=False) -> "Source":
        """Returns the records of `splits` of a converted domain.

        Raises:
            FileNotFoundError, ValueError: as `DatasetInfo.shard_paths`, and if a file is not as long as it was.
        """
        paths = tuple(path for split in splits for path in info.shard_paths(data_dir, split))
        shards = [shard for split in splits for shard in info.splits[split].shards]
        stats = [os.stat(path) for path in paths]
        for path, shard, stat in zip(paths, shards, stats, strict=True):
            if stat.st_size != shard.num_bytes:
                raise ValueError(f"{path}: has {stat.st_size:,} bytes, {records.INFO_FILE} says {shard.num_bytes:,}")
        labelled = all(info.splits[split].labelled for split in splits)
        labels = range(0 if labelled else records.UNKNOWN_LABEL, info.num_classes)
        number = sum(info.splits[split].num_examples for split in splits)
        written = tuple(stat.st_mtime_ns for stat in stats)
        return cls(info.name, paths, number, preprocessing, flips, labels, written)

    def check_unchanged(self) -> None:
        """Checks that the files are those that there were.

        Raises:
            ValueError: if one has been written anew.
            OSError: if one is gone.
        """
        for path, then in zip(self.paths, self.written, strict=False):  # of some sources nothing is known
            check_written(path, then, os.stat(path))


def steps_per_epoch(sources, batch_size: int) -> int:
    """An epoch is as many whole batches as hold every image; the last is filled up with the first images again."""
    return -(-sum(source.num_examples for source in sources) // batch_size)


class TrainPipeline:
    """Shuffled, augmented training batches, epoch by epoch: each a random order of all images of all sources.

    Args:
        sources: One `Source`, or several whose images mix.
        batch_size: Images per batch.
        seed: Of the order and the crops.
        cache: Keep decoded images in memory, whole.
        rows: Which rows of each batch are read here: all, or those of one process of several that share it.

    Raises:
        ValueError: if there is nothing to read, or if several sources differ in the size of their training images.
    """

    def __init__(self, sources, batch_size: int, seed: int, cache: bool = False, rows: slice = slice(None)):
        for source in sources:
            if not source.num_examples:
                raise ValueError(f"domain {source.domain!r} has no images to train on")
        self.sources = tuple(sources)
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch(sources, batch_size)
        self.size = self.sources[0].preprocessing.train_size
        for source in self.sources[1:]:
            size = source.preprocessing.train_size
            if size != self.size:
                raise ValueError(
                    f"images of a mixed batch have one size; {self.sources[0].domain!r} trains at {self.size}, "
                    f"{source.domain!r} at {size}"
                )
        self._cache = cache
        self._rows = rows

    def epoch(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """Returns the batches of one epoch from `first_step` on. Nothing is read of what comes before.

        Raises:
            ValueError: if a source does not hold as many records as it says.
            tf.errors.DataLossError: if a record is damaged.
        """
        order = np.random.default_rng(self._seed(epoch, 0)).permutation(np.arange(self._ends[-1], dtype="int32"))
        rows = np.resize(order, (self.steps_per_epoch, self.batch_size))[first_step:, self._rows]
        batches = tf.data.Dataset.from_tensor_slices((np.arange(first_step, self.steps_per_epoch), rows))
        stored = self._decoded_images if self._cache else self._record_files

        def read(step, rows):
            return step, rows, self._read(stored, rows)

        # One reader: several would only wait for each other to leave Python.
        batches = batches.map(tf.autograph.experimental.do_not_convert(read))
        seed = tf.constant(self._seed(epoch, 1), tf.int32)
        return map_in_order(batches, lambda *batch: self._traced_windows(seed, *batch)).prefetch(2)

    @property
    def _ends(self):
        # Images are numbered through, source after source; each ends where the next one's begin.
        return np.cumsum([source.num_examples for source in self.sources])

    @functools.cached_property
    def _record_files(self):
        files = RecordFiles([path for source in self.sources for path in source.paths])
        numbers = iter(files.num_records.tolist())
        for source in self.sources:
            source.check_unchanged()
            _check_number(source, sum(itertools.islice(numbers, len(source.paths))))
        return files

    @functools.cached_property
    def _decoded_images(self):
        return _DecodedImages(self.sources, self.batch_size)

    def _read(self, stored, rows):
        """Returns the records of `rows`, int32 (batch,), or what was decoded of them."""
        if not self._cache:
            records = tf.numpy_function(stored.read, [rows], tf.string, stateful=False)
            return tf.ensure_shape(records, rows.shape)
        types = (tf.uint8, tf.int32, tf.int64)
        image, label, image_id = tf.numpy_function(stored.read, [rows], types, stateful=False)
        return {
            "image": tf.ensure_shape(image, (*rows.shape, None, None, 3)),
            "label": tf.ensure_shape(label, rows.shape),
            "image_id": tf.ensure_shape(image_id, rows.shape),
        }

    @functools.cached_property
    def _traced_windows(self):
        # Once for all epochs: tracing takes longer than a small domain's images.
        return tf.function(self._windows, autograph=False)

    def _seed(self, *parts):
        # A seed for each epoch and purpose, far apart for neighbouring numbers.
        return int(np.random.SeedSequence([self.seed, *parts]).generate_state(1)[0] >> 1)

    def _windows(self, seed, step, rows, example):
        domain = tf.searchsorted(tf.constant(self._ends, tf.int32), rows, "right")
        cover = tf.gather(tf.constant([source.preprocessing.cover_size for source in self.sources]), domain)
        seeds = tf.stack([seed, tf.cast(step, tf.int32)])
        offset = _random_offsets(self._random(seeds, 2), cover - tf.constant(self.size))
        if self._cache:
            example = {**example, "image": cut_windows(example["image"], self.size, offset)}
        else:
            example = _decode(example, cover, self.size, offset, _labels_of(self.sources, domain))
        if any(source.flips for source in self.sources):
            flips = tf.gather(tf.constant([source.flips for source in self.sources]), domain)
            mirrored = flips & (self._random(-1 - seeds, 1)[:, 0] < 0.5)
            image = example["image"]
            example = {**example, "image": tf.where(mirrored[:, None, None, None], image[:, :, ::-1], image)}
        return _normalize(example, domain, self.sources)

    def _random(self, seed, numbers):
        """Returns so many numbers in 0..1 for each row that is read: for the whole batch they are drawn alike."""
        return tf.random.stateless_uniform((self.batch_size, numbers), seed)[self._rows]


class _DecodedImages:
    """Images of several sources in memory, decoded for evaluation, numbered through."""

    def __init__(self, sources, batch_size):
        self._images, labels, image_ids = [], [], []
        for source in sources:
            before = len(self._images)
            for batch in _decoded(source, batch_size).as_numpy_iterator():
                self._images.extend(batch["image"])
                labels.append(batch["label"])
                image_ids.append(batch["image_id"])
            _check_number(source, len(self._images) - before)
        self._labels, self._image_ids = np.concatenate(labels), np.concatenate(image_ids)
        self._size = np.max([source.preprocessing.cover_size for source in sources], axis=0)

    def read(self, numbers):
        """Returns image, label and image id of each; images of sources that are smaller than others are padded."""
        images = np.zeros((len(numbers), *self._size, 3), "uint8")
        for padded, number in zip(images, numbers, strict=True):
            image = self._images[number]
            padded[: image.shape[0], : image.shape[1]] = image
        return images, self._labels[numbers], self._image_ids[numbers]


def _check_number(source, found):
    if found != source.num_examples:
        raise ValueError(
            f"domain {source.domain!r}: {records.INFO_FILE} says {source.num_examples:,} records to train on; "
            f"its files hold {found:,}"
        )


def evaluation_batches(sources, batch_size: int) -> tf.data.Dataset:
    """Returns every image once, preprocessed for evaluation, in the records' order; the last batch may be smaller.

    With several sources the domains mix in every batch; all must then be evaluated at one size.

    Raises:
        ValueError: if several sources differ in size.
    """
    return _evaluation_batches(tuple(sources), batch_size)


@functools.lru_cache(maxsize=32)  # val is evaluated after every epoch: as with `_traced_windows`
def _evaluation_batches(sources, batch_size):
    size_of = {source.domain: source.preprocessing.size for source in sources}
    if len(set(size_of.values())) > 1:
        raise ValueError(f"images of a mixed batch have one size; these domains differ: {size_of}")
    size = size_of[sources[0].domain]
    datasets = [
        tf.data.Dataset.zip(
            tf.data.Dataset.from_tensors(np.int64(index)).repeat(), tf.data.TFRecordDataset(list(source.paths))
        )
        for index, source in enumerate(sources)
    ]
    weights = [float(source.num_examples) for source in sources]
    dataset = tf.data.Dataset.sample_from_datasets(datasets, weights, seed=0).batch(batch_size)

    covers, centres = ([getattr(s.preprocessing, name) for s in sources] for name in ("cover_size", "centre"))

    def decode_and_normalize(domain, record):
        cover, centre = tf.gather(tf.constant(covers), domain), tf.gather(tf.constant(centres), domain)
        return _normalize(_decode(record, cover, size, centre, _labels_of(sources, domain)), domain, sources)

    return map_in_order(dataset, decode_and_normalize).prefetch(2)


def evaluation_images(source, image_ids) -> dict[int, np.ndarray]:
    """Returns what evaluation sees of images of one source, uint8 (height, width, 3), by image id."""
    if not len(image_ids):
        return {}
    how = source.preprocessing
    found = []
    for batch in tf.data.TFRecordDataset(list(source.paths)).batch(1024):
        ids = tf.io.parse_example(batch, {"image/source_id": _FIELDS["image/source_id"]})["image/source_id"]
        found.append(tf.boolean_mask(batch, np.isin(ids, image_ids)))
    # Op by op: for so few images, tracing a graph takes longer.
    images = _decode(tf.concat(found, 0), how.cover_size, how.size, tf.constant(how.centre), _labels_of([source], 0))
    return dict(zip(images["image_id"].numpy().tolist(), images["image"].numpy(), strict=True))


@contextlib.contextmanager
def naming_bad_records(sources):
    """Says which file and record it was when TensorFlow, in this context, cannot read or decode one of `sources`.

    Raises:
        ValueError: in place of TensorFlow's error.
    """
    try:
        yield
    except records.DAMAGED:
        for source in sources:
            source.check_unchanged()
            for path in source.paths:
                _check_file(path, source)
        raise


def _check_file(path, source):
    whole = 0
    try:
        for _ in _decoded(dataclasses.replace(source, paths=(path,)), 1):
            whole += 1
    except records.DAMAGED as error:
        reason = records.reason_of(error)
        raise ValueError(f"{path}: record {whole} (counted from 0) cannot be read: {reason}") from error


def map_in_order(dataset: tf.data.Dataset, function) -> tf.data.Dataset:
    """Maps TensorFlow code over a dataset on all cores, keeping the order."""
    options = tf.data.Options()
    # TensorFlow's tuner would read the clock around every operation, a tenth of the time, to find that maps do best on
    # all cores; without it they begin there. And it sleeps 10, 20, 40 ms and so on: what reads a dataset to its end
    # would at times wait until it wakes, for as long as the reading took.
    options.autotune.enabled = False
    # Its rewriting of the dataset's graph has nothing to improve either, and takes its time at every epoch.
    options.experimental_optimization.apply_default_optimizations = False
    # There is no Python control flow in ours: reading the source for it would only cost time at every epoch.
    mapped = dataset.map(tf.autograph.experimental.do_not_convert(function), tf.data.AUTOTUNE)
    return mapped.with_options(options)


def _decoded(source, batch_size):
    """Returns batches of the records of one source, decoded whole, in order."""
    cover = source.preprocessing.cover_size
    dataset = tf.data.TFRecordDataset(list(source.paths)).batch(batch_size)
    labels = _labels_of([source], 0)
    return map_in_order(dataset, lambda record: _decode(record, cover, cover, tf.constant([0, 0]), labels))


def _random_offsets(unit, slack):
    """Returns for each number in `unit`, in 0..1, one in 0..`slack`, int32."""
    return tf.cast(tf.floor(unit * tf.cast(slack + 1, tf.float32)), tf.int32)


def _labels_of(sources, domain):
    """Returns the least label of a domain, an index into `sources` (or several), and the one behind its last."""
    return tuple(
        tf.gather(tf.constant([getattr(source.labels, end) for source in sources], tf.int64), domain)
        for end in ("start", "stop")
    )


def _decode(record, cover, window, offset, labels):
    """Decodes a batch of records, string (batch,), to the windows that `decode_windows` describes.

    What is labelled with no class would train one that is not there, or another domain's.
    """
    fields = tf.io.parse_example(record, _FIELDS)
    label, (least, stop) = fields[_LABEL], labels
    known = (least <= label) & (label < stop)
    unknown = tf.boolean_mask(label, ~known)
    told = [f"{_LABEL}: expected a class of the domain, counted from 0; received", unknown]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), told)]):
        label = tf.cast(label, tf.int32)
    height, width = (tf.cast(fields[f"image/{side}"], tf.int32) for side in ("height", "width"))
    return {
        "image": decode_windows(fields["image/encoded"], height, width, cover, window, offset),
        "label": label,
        "image_id": fields["image/source_id"],
    }


def _normalize(batch, domain, sources):
    """Normalises each image of a batch by the statistics of its own domain, an index into `sources`."""
    statistics = [
        tf.constant([getattr(source.preprocessing, name) for source in sources], tf.float32)
        for name in ("mean", "std")
    ]
    if len(sources) == 1:
        mean, std = (value[0] for value in statistics)
    else:
        mean, std = (tf.gather(value, domain)[:, None, None, :] for value in statistics)
    image = normalize(batch["image"], mean, std)
    return {**batch, "image": image, "domain": tf.cast(domain, tf.int32)}
