"""TFRecords to batches: {"image": (B, H, W, 3) float32, "label": (B,) int32, "domain": (B,) int32, "image_id"}.

Training batches are a function of (seed, epoch, step) alone: a run that stops in the middle of an epoch goes on with
the batches that it would have seen. Images of several domains mix in every batch.
"""

import contextlib
import dataclasses
import os

import numpy as np
import tensorflow as tf

from tfmdl.config import Preprocessing
from tfmdl.data import records
from tfmdl.data.decode import cut_windows, decode_windows, normalize

# Records, encoded, of all sources together: some 25 MB of 72-pixel JPEGs. convert.py has shuffled each domain once.
SHUFFLE_BUFFER = 8192
_UNUSED = ("image/format", "image/class/text")
_FEATURES = {key: feature for key, feature in records.FEATURES.items() if key not in _UNUSED}


@dataclasses.dataclass(frozen=True)
class Source:
    """The records of one domain that a pipeline reads.

    Attributes:
        domain: Name of the domain.
        paths: TFRecord files.
        num_examples: How many records they hold.
        preprocessing: How the domain's images become inputs.
    """

    domain: str
    paths: tuple[str, ...]
    num_examples: int
    preprocessing: Preprocessing

    @classmethod
    def of(cls, data_dir, info: records.DatasetInfo, splits, preprocessing) -> "Source":
        """Returns the records of `splits` of a converted domain.

        Raises:
            FileNotFoundError, ValueError: as `DatasetInfo.shard_paths`, and if a file is not as long as it was.
        """
        paths = tuple(path for split in splits for path in info.shard_paths(data_dir, split))
        shards = [shard for split in splits for shard in info.splits[split].shards]
        for path, shard in zip(paths, shards, strict=True):
            found = os.path.getsize(path)
            if found != shard.num_bytes:
                raise ValueError(f"{path}: has {found:,} bytes, {records.INFO_FILE} says {shard.num_bytes:,}")
        return cls(info.name, paths, sum(info.splits[split].num_examples for split in splits), preprocessing)


def steps_per_epoch(sources, batch_size: int) -> int:
    """An epoch is as many whole batches as hold every image; the last is filled up with the first images again."""
    return -(-sum(source.num_examples for source in sources) // batch_size)


class TrainPipeline:
    """Shuffled, augmented training batches, epoch by epoch.

    Args:
        sources: One `Source`, or several whose images mix in proportion to their numbers.
        batch_size: Images in a batch.
        seed: Of the order and the crops.
        cache: Keep decoded images in memory, whole.

    Raises:
        ValueError: if there is nothing to read, or if several sources differ in the size of their training images.
    """

    def __init__(self, sources, batch_size: int, seed: int, cache: bool = False):
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
        self._cached = [_decoded(source, batch_size).unbatch().cache() for source in self.sources] if cache else None

    def epoch(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """Returns the batches of one epoch from `first_step` on."""
        domains = self._turns(epoch)
        examples = [self._shuffled(index, epoch) for index in range(len(self.sources))]
        mixed = examples[0]
        if len(examples) > 1:
            mixed = tf.data.Dataset.choose_from_datasets(examples, domains.unbatch())
        # Records are batched as they are, and what follows is done for whole batches: for every image by itself the
        # bookkeeping would take longer than the decoding. Images are padded: cached ones of two domains may differ in
        # size.
        mixed = (mixed.padded_batch if self._cached else mixed.batch)(self.batch_size, drop_remainder=True)
        batches = tf.data.Dataset.zip(tf.data.Dataset.range(self.steps_per_epoch), domains, mixed)
        seed = self._seed(epoch, 99)
        batches = map_in_order(batches.skip(first_step), lambda *batch: self._windows(seed, *batch))
        return batches.prefetch(2)

    def _turns(self, epoch):
        """Returns the domain of every image, batch by batch: each as often as it has images, shuffled."""
        if len(self.sources) == 1:
            return tf.data.Dataset.from_tensors(np.zeros(self.batch_size, "int64")).repeat()
        turns = np.repeat(np.arange(len(self.sources)), [source.num_examples for source in self.sources])
        shuffled = np.random.default_rng(self._seed(epoch, len(self.sources))).permutation(turns)
        return tf.data.Dataset.from_tensor_slices(np.resize(shuffled, (self.steps_per_epoch, self.batch_size)))

    def _seed(self, *parts):
        # A seed for each epoch and source, far apart for neighbouring numbers.
        return int(np.random.SeedSequence([self.seed, *parts]).generate_state(1)[0] >> 1)

    def _shuffled(self, index, epoch):
        source, seed = self.sources[index], self._seed(epoch, index)
        if self._cached:
            dataset = self._cached[index].shuffle(source.num_examples, seed, reshuffle_each_iteration=False)
        else:
            paths = np.random.default_rng(seed).permutation(np.array(source.paths, dtype=object)).tolist()
            buffer = min(SHUFFLE_BUFFER // len(self.sources), source.num_examples)
            dataset = tf.data.TFRecordDataset(paths).shuffle(buffer, seed, reshuffle_each_iteration=False)
        return dataset.repeat()

    def _windows(self, seed, step, domain, example):
        cover = tf.gather(tf.constant([source.preprocessing.cover_size for source in self.sources]), domain)
        offset = _random_offsets(tf.stack([seed, tf.cast(step, tf.int32)]), cover - tf.constant(self.size))
        if self._cached:
            example = {**example, "image": cut_windows(example["image"], self.size, offset)}
        else:
            example = _decode(example, cover, self.size, offset)
        return _normalize(example, domain, self.sources)


def evaluation_batches(sources, batch_size: int) -> tf.data.Dataset:
    """Returns every image once, preprocessed for evaluation, in the records' order; the last batch may be smaller.

    With several sources the domains mix in every batch; all must then be evaluated at one size.

    Raises:
        ValueError: if several sources differ in size.
    """
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
        return _normalize(_decode(record, cover, size, centre), domain, sources)

    return map_in_order(dataset, decode_and_normalize).prefetch(2)


@contextlib.contextmanager
def naming_bad_records(sources):
    """Says which file and record it was when TensorFlow, in this context, cannot read or decode one of `sources`.

    Raises:
        ValueError: in place of TensorFlow's error.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        for source in sources:
            for path in source.paths:
                _check_file(path, source)
        raise


def _check_file(path, source):
    whole = 0
    try:
        for _ in _decoded(dataclasses.replace(source, paths=(path,)), 1):
            whole += 1
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        reason = error.message.splitlines()[0]
        raise ValueError(f"{path}: record {whole} (counted from 0) cannot be read: {reason}") from error


def map_in_order(dataset: tf.data.Dataset, function) -> tf.data.Dataset:
    """Maps TensorFlow code over a dataset on all cores, keeping the order."""
    options = tf.data.Options()
    # TensorFlow's tuner would read the clock around every operation, a tenth of the time, to find that maps do best on
    # all cores; without it they begin there. And it sleeps 10, 20, 40 ms and so on: what reads a dataset to its end
    # would at times wait until it wakes, for as long as the reading took.
    options.autotune.enabled = False
    # There is no Python control flow in ours: reading the source for it would only cost time at every epoch.
    mapped = dataset.map(tf.autograph.experimental.do_not_convert(function), tf.data.AUTOTUNE)
    return mapped.with_options(options)


def _decoded(source, batch_size):
    """Returns batches of the records of one source, decoded whole, in order."""
    cover = source.preprocessing.cover_size
    dataset = tf.data.TFRecordDataset(list(source.paths)).batch(batch_size)
    return map_in_order(dataset, lambda record: _decode(record, cover, cover, tf.constant([0, 0])))


def _random_offsets(seed, slack):
    """Returns for each row of `slack`, int32 (batch, 2), an offset in 0..slack."""
    unit = tf.random.stateless_uniform(tf.shape(slack), seed)
    return tf.cast(tf.floor(unit * tf.cast(slack + 1, tf.float32)), tf.int32)


def _decode(record, cover, window, offset):
    """Decodes a batch of records, string (batch,), to the windows that `decode_windows` describes."""
    features = tf.io.parse_example(record, _FEATURES)
    height, width = (tf.cast(features[f"image/{side}"], tf.int32) for side in ("height", "width"))
    return {
        "image": decode_windows(features["image/encoded"], height, width, cover, window, offset),
        "label": tf.cast(features["image/class/label"], tf.int32),
        "image_id": features["image/source_id"],
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
