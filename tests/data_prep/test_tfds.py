"""Sets of tensorflow-datasets: a tiny one, written to disk by TFDS itself."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from reading import read_split, shard_bytes

from data_prep.plan import DataError
from tfmdl.data.records import DatasetInfo


def _store(data_dir, splits, label_of=lambda i: i % 3):
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
        }
    )
    random = np.random.default_rng(0)

    def dataset(count):
        images = random.integers(0, 256, (count, 7, 5, 3), np.uint8)
        labels = [label_of(i) for i in range(count)]
        return tf.data.Dataset.from_tensor_slices({"image": images, "label": np.array(labels, np.int64)})

    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_set",
        version="1.0.0",
        features=features,
        split_datasets={split: dataset(count) for split, count in splits.items()},
        config="small",
        data_dir=data_dir,
        disable_shuffling=True,
    )


@pytest.mark.slow
def test_a_set_keeps_its_images_labels_and_splits(tmp_path, convert_here):
    _store(tmp_path / "tfds", {"train": 30, "validation": 6, "test": 9})
    records = convert_here(tmp_path / "tfds", source="tfds", domains=("tiny_set/small",))
    info = DatasetInfo.load(records, "tiny_set-small")
    assert info.label_names == ["ant", "bee", "cow"]
    assert {s: i.num_examples for s, i in info.splits.items()} == {"train": 30, "val": 6, "test": 9}
    assert info.source["name"] == "tiny_set/small/1.0.0"
    builder = tfds.builder("tiny_set/small", data_dir=tmp_path / "tfds")
    expected = {(e["image"].tobytes(), int(e["label"])) for e in builder.as_dataset(split="train").as_numpy_iterator()}
    found = {
        (tf.io.decode_image(r["encoded"]).numpy().tobytes(), int(r["class/label"]))
        for r in read_split(records, "tiny_set-small", "train")
    }
    assert found == expected
    again = convert_here(tmp_path / "tfds", "again", source="tfds", domains=("tiny_set/small",))
    assert shard_bytes(again) == shard_bytes(records)


def test_what_a_set_lacks_is_cut_from_train(tmp_path, convert_here):
    _store(tmp_path / "tfds", {"train": 60})
    records = convert_here(tmp_path / "tfds", source="tfds", domains=("tiny_set/small",))
    info = DatasetInfo.load(records, "tiny_set-small")
    assert {s: i.per_class for s, i in info.splits.items()} == {
        "train": [14] * 3,
        "val": [3] * 3,
        "test": [3] * 3,
    }
    assert set(info.source["cut"]) == {"val", "test"}


def test_an_unknown_set_is_told_with_those_on_disk(tmp_path, convert_here):
    _store(tmp_path / "tfds", {"train": 3})
    with pytest.raises(DataError, match="unknown domain 'tiny_sett'.*tiny_set"):
        convert_here(tmp_path / "tfds", source="tfds", domains=("tiny_sett",))
    with pytest.raises(DataError, match="--domains: name the TFDS sets"):
        convert_here(tmp_path / "tfds", source="tfds")


def test_a_damaged_set_is_named(tmp_path, convert_here):
    _store(tmp_path / "tfds", {"train": 30})
    (shard,) = (tmp_path / "tfds").rglob("*.tfrecord*")
    spoiled = bytearray(shard.read_bytes())
    spoiled[len(spoiled) // 2] ^= 1
    shard.write_bytes(spoiled)
    with pytest.raises(DataError, match="tiny_set/small/1.0.0: split 'train' in .* is damaged"):
        convert_here(tmp_path / "tfds", source="tfds", domains=("tiny_set/small",))
