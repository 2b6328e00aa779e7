"""Image classification sets of tensorflow-datasets, by their TFDS names; `--input_dir` is TFDS's `data_dir`.

`visual_domain_decathlon/aircraft` becomes the domain `aircraft`; of other names, "/" and ":" become "-". A
set that is not prepared in `data_dir` is downloaded and prepared there by TFDS. `validation` is read as val;
what is missing is cut from train as `fill_splits` says. Image ids are running numbers in TFDS's own order:
TFDS keeps none.
"""

import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from data_prep.config import ConvertConfig
from data_prep.plan import DataError, Plan, RawImage, Reference, fill_splits
from data_prep.sources.stores import tree_sha256

_DECATHLON_PREFIX = "visual_domain_decathlon/"
_SPLIT_NAMES = {"train": ("train",), "val": ("validation", "val", "valid"), "test": ("test",)}


class TfdsSource:
    """Sets of tensorflow-datasets.

    Args:
        config: What to convert; its domains are TFDS names.

    Raises:
        DataError: if no domain is given.
    """

    def __init__(self, config: ConvertConfig):
        if not config.domains:
            raise DataError(
                "--domains: name the TFDS sets to convert, as in --domains=mnist,visual_domain_decathlon/dtd"
            )
        self.config = config
        self.domains = list(config.domains)

    def plan(self, domain: str) -> Plan:
        """Prepares a set if need be, and reads its labels."""
        builder = _prepared(domain, self.config.input_dir)
        image_key, label_key = _feature_keys(domain, builder.info.features)
        names = {
            split: next(name for name in options if name in builder.info.splits)
            for split, options in _SPLIT_NAMES.items()
            if any(name in builder.info.splits for name in options)
        }
        found, first_id = {}, 1
        for split, name in names.items():
            labels = [int(label) for label in _read(builder, name, label_key)]
            found[split] = [
                Reference(first_id + i, None if label < 0 else label, f"{name}[{i}]") for i, label in enumerate(labels)
            ]
            first_id += len(labels)
        splits, notes = fill_splits(domain, found, self.config.splits, self.config.seed)
        where = {r.image_id: (split, i) for split, references in splits.items() for i, r in enumerate(references)}

        def read() -> Iterator[RawImage]:
            image_ids = itertools.count(1)
            for name in names.values():
                for encoded, image_id in zip(_read(builder, name, image_key), image_ids, strict=False):
                    if image_id in where:
                        yield RawImage(*where[image_id], encoded)

        label_names = list(builder.info.features[label_key].names)
        folder = pathlib.Path(builder.data_dir)
        return Plan(
            domain=domain.removeprefix(_DECATHLON_PREFIX).replace("/", "-").replace(":", "-"),
            label_names=label_names,
            category_ids=list(range(len(label_names))),
            splits=splits,
            read=read,
            source={"kind": "tfds", "name": builder.info.full_name, "cut": notes},
            inputs={builder.info.full_name: tree_sha256(folder, os.listdir(folder))},
        )


def open_source(config: ConvertConfig) -> TfdsSource:
    """Returns the source that a conversion asks for."""
    return TfdsSource(config)


def _prepared(domain: str, data_dir: pathlib.Path) -> tfds.core.DatasetBuilder:
    try:
        builder = tfds.builder(domain, data_dir=data_dir)
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        known = ", ".join(sorted(path.name for path in data_dir.iterdir() if path.is_dir())) or "none"
        raise DataError(f"unknown domain {domain!r}: TFDS has no such set, and {data_dir} has: {known}") from error
    # Whatever a set's own code raises, it is this set that cannot be had.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{domain}: TFDS cannot prepare it in {data_dir} ({type(error).__name__}: {reason})") from error
    return builder


def _feature_keys(domain: str, features: Any) -> tuple[str, str]:
    """Returns the keys of the image and of the class."""
    keys = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        found = [key for key, feature in features.items() if isinstance(feature, kind)]
        if len(found) != 1:
            raise DataError(f"{domain}: has {len(found)} features of type {kind.__name__}; expected one")
        keys += found
    return keys[0], keys[1]


def _read(builder: tfds.core.DatasetBuilder, split: str, key: str) -> Iterator[Any]:
    """Yields one feature of every example, in an order that never changes; images as they are encoded."""
    is_image = isinstance(builder.info.features[key], tfds.features.Image)
    dataset = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(
            {key: True}, decoders={key: tfds.decode.SkipDecoding()} if is_image else None
        ),
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    examples = dataset.as_numpy_iterator()
    while True:
        try:
            example = next(examples)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise DataError(
                f"{builder.info.full_name}: split {split!r} in {builder.data_dir} is damaged "
                f"({error.message.partition(chr(10))[0]})"
            ) from error
        yield example[key]
