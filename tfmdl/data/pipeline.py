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
from tfmdl.data.decode import decode_window, normalize

SHUFFLE_BUFFER = 8192  # records, encoded: some 25 MB of 72-pixel JPEGs. convert.py has shuffled them all once
_FEATURES = {key: records.FEATURES[key] for key in records.FEATURES if key != "image/class/text"}


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
        cache: Keep decoded images (of evaluation size) in memory.

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
        first = self.sources[0].preprocessing
        self.size = (first.train_height, first.train_width)
        for source in self.sources[1:]:
            size = (source.preprocessing.train_height, source.preprocessing.train_width)
            if size != self.size:
                raise ValueError(
                    f"images of a mixed batch have one size; {self.sources[0].domain!r} trains at {self.size}, "
                    f"{source.domain!r} at {size}"
                )
        self._cached = None
        if cache:
            self._cached = [
                _decoded(source.paths, source, index).cache() for index, source in enumerate(self.sources)
            ]

    def epoch(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """Returns the batches of one epoch from `first_step` on."""
        examples = [self._shuffled(index, epoch) for index in range(len(self.sources))]
        if len(examples) == 1:
            dataset = examples[0]
        else:
            dataset = tf.data.Dataset.choose_from_datasets(examples, self._turns(epoch))
        dataset = dataset.enumerate().take(self.steps_per_epoch * self.batch_size)
        dataset = dataset.skip(first_step * self.batch_size)
        dataset = map_in_order(dataset, lambda index, example: self._crop(example, (epoch, index)))
        dataset = dataset.batch(self.batch_size, drop_remainder=True)
        return _finish(dataset, self.sources)

    def _turns(self, epoch):
        """Returns whose turn it is, image by image: each source as often as it has images, shuffled."""
        turns = np.repeat(np.arange(len(self.sources)), [source.num_examples for source in self.sources])
        shuffled = np.random.default_rng(self._seed(epoch, len(self.sources))).permutation(turns)
        return tf.data.Dataset.from_tensor_slices(shuffled).repeat()

    def _seed(self, *parts):
        # A seed for each epoch and source, far apart for neighbouring numbers.
        return int(np.random.SeedSequence([self.seed, *parts]).generate_state(1)[0] >> 1)

    def _shuffled(self, index, epoch):
        source, seed = self.sources[index], self._seed(epoch, index)
        if self._cached:
            dataset = self._cached[index].shuffle(source.num_examples, seed, reshuffle_each_iteration=False)
        else:
            paths = np.random.default_rng(seed).permutation(np.array(source.paths, dtype=object)).tolist()
            dataset = tf.data.TFRecordDataset(paths, num_parallel_reads=min(4, len(paths)))
            buffer = min(SHUFFLE_BUFFER, source.num_examples)
            dataset = dataset.shuffle(buffer, seed, reshuffle_each_iteration=False)
            dataset = map_in_order(dataset, lambda record: {"record": record, "domain": index})
        return dataset.repeat()

    def _crop(self, example, position):
        seed = tf.stack([tf.constant(self._seed(position[0], 99)), tf.cast(position[1], tf.int32)])
        if "record" in example:
            sizes = tf.constant([(s.preprocessing.height, s.preprocessing.width) for s in self.sources])
            cover = sizes[example["domain"]] if len(self.sources) > 1 else sizes[0]
            slack = cover - tf.constant(self.size)
            offset = _random_offset(seed, slack)
            features = tf.io.parse_single_example(example["record"], _FEATURES)
            return _decode(features, cover, self.size, offset, example["domain"])
        image = example["image"]
        slack = tf.shape(image)[:2] - tf.constant(self.size)
        offset = _random_offset(seed, slack)
        image = tf.slice(image, [offset[0], offset[1], 0], [*self.size, 3])
        return {**example, "image": tf.ensure_shape(image, (*self.size, 3))}


def evaluation_batches(sources, batch_size: int) -> tf.data.Dataset:
    """Returns every image once, preprocessed for evaluation, in the records' order; the last batch may be smaller.

    With several sources the domains mix in every batch; all must then be evaluated at one size.

    Raises:
        ValueError: if several sources differ in size.
    """
    size_of = {source.domain: (source.preprocessing.height, source.preprocessing.width) for source in sources}
    if len(set(size_of.values())) > 1:
        raise ValueError(f"images of a mixed batch have one size; these domains differ: {size_of}")
    datasets = [_decoded(source.paths, source, index) for index, source in enumerate(sources)]
    if len(datasets) == 1:
        dataset = datasets[0]
    else:
        weights = np.array([source.num_examples for source in sources], "float64")
        dataset = tf.data.Dataset.sample_from_datasets(datasets, weights / weights.sum(), seed=0)
    return _finish(dataset.batch(batch_size), sources)


@contextlib.contextmanager
def naming_bad_records(sources):
    """Says which file and record it was when TensorFlow, in this context, cannot read or decode one of `sources`.

    Raises:
        ValueError: in place of TensorFlow's error.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        for index, source in enumerate(sources):
            for path in source.paths:
                _check_file(path, source, index)
        raise


def _check_file(path, source, index):
    whole = 0
    try:
        for _ in _decoded([path], source, index):
            whole += 1
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        reason = error.message.splitlines()[0]
        raise ValueError(f"{path}: record {whole} (counted from 0) cannot be read: {reason}") from error


def map_in_order(dataset: tf.data.Dataset, function) -> tf.data.Dataset:
    """Maps TensorFlow code over a dataset on all cores, keeping the order."""
    # There is no Python control flow in ours: reading the source for it would only cost time at every epoch.
    return dataset.map(tf.autograph.experimental.do_not_convert(function), tf.data.AUTOTUNE)


def _decoded(paths, source, index):
    """Returns the records of files of `source`, decoded for evaluation, in order."""
    dataset = tf.data.TFRecordDataset(list(paths))
    return map_in_order(dataset, lambda record: _decode_for_evaluation(record, source, index))


def _random_offset(seed, slack):
    """Returns an offset in 0..slack, int32 (2,)."""
    unit = tf.random.stateless_uniform((2,), seed)
    return tf.cast(tf.floor(unit * tf.cast(slack + 1, tf.float32)), tf.int32)


def _decode_for_evaluation(record, source, index):
    size = (source.preprocessing.height, source.preprocessing.width)
    features = tf.io.parse_single_example(record, _FEATURES)
    return _decode(features, size, size, tf.constant([0, 0]), index)


def _decode(features, cover, window, offset, domain):
    image = decode_window(
        features["image/encoded"],
        features["image/format"],
        tf.cast(features["image/height"], tf.int32),
        tf.cast(features["image/width"], tf.int32),
        cover,
        window,
        offset,
    )
    return {
        "image": image,
        "label": tf.cast(features["image/class/label"], tf.int32),
        "domain": tf.cast(domain, tf.int32),
        "image_id": features["image/source_id"],
    }


def _finish(dataset, sources):
    """Normalises whole batches, each image by its own domain's statistics, and runs ahead of the consumer."""
    mean = tf.constant([source.preprocessing.mean for source in sources], tf.float32)
    std = tf.constant([source.preprocessing.std for source in sources], tf.float32)

    def normalize_batch(batch):
        if len(sources) == 1:
            image = normalize(batch["image"], mean[0], std[0])
        else:
            own = [tf.gather(value, batch["domain"])[:, None, None, :] for value in (mean, std)]
            image = normalize(batch["image"], *own)
        return {**batch, "image": image}

    return map_in_order(dataset, normalize_batch).prefetch(2)
