"""What the converter writes, whatever the layout of its input."""

import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from reading import read_split, shard_bytes

from data_prep.plan import DataError
from data_prep.verification import verify
from tfmdl.data.records import DatasetInfo


def test_records_hold_the_original_bytes_and_the_annotations(decathlon, convert_here):
    records = convert_here(decathlon.root, domains=("left",))
    info = DatasetInfo.load(records, "left")
    # Sorted by category_id: neither by name nor as they are listed.
    assert info.label_names == ["class 10", "class 9", "class 1"]
    assert info.category_ids == [10_000_001, 10_000_002, 10_000_003]
    for split in ("train", "val"):
        contents = decathlon.annotations("left", split)
        category_of = {a["image_id"]: a["category_id"] for a in contents["annotations"]}
        found = {record["source_id"]: record for record in read_split(records, "left", split)}
        assert len(found) == len(contents["images"]) == info.splits[split].num_examples
        for image in contents["images"]:
            record = found[image["id"]]
            original = (decathlon.root / image["file_name"]).read_bytes()
            assert record["encoded"] == original
            assert record["format"] == (b"png" if original.startswith(b"\x89PNG") else b"jpeg")
            shape = tf.io.decode_image(original).shape
            assert (record["height"], record["width"]) == (shape[0], shape[1])
            assert info.category_ids[record["class/label"]] == category_of[image["id"]]
            assert info.label_names[record["class/label"]].encode() == record["class/text"]
        assert np.bincount([r["class/label"] for r in found.values()], minlength=3).tolist() == (
            info.splits[split].per_class
        )


def test_an_image_that_exif_data_turn_becomes_an_upright_record(decathlon, convert_here):
    path = decathlon.image("left", "train", 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(path, "PNG", exif=exif)
    records = convert_here(decathlon.root, domains=("left",))
    sizes = [(r["height"], r["width"]) for r in read_split(records, "left", "train") if r["format"] == b"png"]
    assert sizes == [(30, 20)]
    assert verify(records, (), 1)


def test_a_stripped_test_split_has_unknown_labels_and_a_labelled_one_has_labels(decathlon, convert_here):
    records = convert_here(decathlon.root, domains=("left",))
    assert {r["class/label"] for r in read_split(records, "left", "test")} == {-1}
    assert not DatasetInfo.load(records, "left").splits["test"].labelled
    contents = decathlon.annotations("left", "test_stripped")
    contents["annotations"] = [{"image_id": i["id"], "category_id": 10_000_003} for i in contents["images"]]
    decathlon.write_annotations("left", "test", contents)
    records = convert_here(decathlon.root, "labelled", domains=("left",))
    assert {r["class/label"] for r in read_split(records, "left", "test")} == {2}
    assert DatasetInfo.load(records, "left").splits["test"].per_class == [0, 0, 3]


@pytest.mark.parametrize("layout", ["tars", "nested release", "plain release"])
def test_every_layout_gives_the_same_shards(decathlon, convert_here, tmp_path, layout):
    other = (
        decathlon.to_tars(tmp_path / "other")
        if layout == "tars"
        else decathlon.to_release(tmp_path / "other", nested=layout == "nested release")
    )
    expected = shard_bytes(convert_here(decathlon.root))
    assert shard_bytes(convert_here(other.root, "other-records")) == expected
    assert {name.split("/")[0] for name in expected} == {"left", "imagenet12"}


def test_shards_do_not_depend_on_workers_and_do_on_the_seed(decathlon, convert_here):
    one = shard_bytes(convert_here(decathlon.root, "one", workers=1))
    assert shard_bytes(convert_here(decathlon.root, "two", workers=2)) == one
    assert shard_bytes(convert_here(decathlon.root, "three", workers=3)) == one
    assert shard_bytes(convert_here(decathlon.root, "seeded", seed=1)) != one


def test_records_are_shuffled_over_all_shards(decathlon, convert_here, monkeypatch):
    decathlon.add_domain("many", 2, {"train": 300, "val": 2, "test": 2})
    monkeypatch.setattr("data_prep.build._BYTES_OF_MB", 40_000)
    records = convert_here(decathlon.root, domains=("many",), shard_mb=1)
    info = DatasetInfo.load(records, "many")
    shards = info.splits["train"].shards
    assert [s.file for s in shards] == [f"many-train-{i:05d}-of-{len(shards):05d}.tfrecord" for i in range(len(shards))]
    assert len(shards) > 5
    order = [int(record["source_id"]) for record in read_split(records, "many", "train")]
    assert len(set(order)) == 300
    # The mean distance between neighbours of a random order of n is n / 3.
    assert np.abs(np.diff(order)).mean() == pytest.approx(100, rel=0.2)
    assert verify(records, [], 2)


def test_mean_and_std_are_those_of_plain_numpy(decathlon, convert_here):
    records = convert_here(decathlon.root, domains=("left",))
    pixels = np.concatenate(
        [
            tf.io.decode_image(r["encoded"], channels=3).numpy().reshape(-1, 3)
            for r in read_split(records, "left", "train")
        ]
    )
    info = DatasetInfo.load(records, "left")
    np.testing.assert_allclose(info.pixel_mean, (pixels / 255).mean(0), rtol=1e-12)
    np.testing.assert_allclose(info.pixel_std, (pixels / 255).std(0), rtol=1e-12)


def test_resize_shorter_encodes_again_only_what_differs(decathlon, convert_here):
    records = convert_here(decathlon.root, domains=("left",), resize_shorter=24)
    contents = decathlon.annotations("left", "train")
    found = {record["source_id"]: record for record in read_split(records, "left", "train")}
    kept = 0
    for image in contents["images"]:
        original = (decathlon.root / image["file_name"]).read_bytes()
        record = found[image["id"]]
        assert min(record["height"], record["width"]) == 24
        if min(tf.io.decode_image(original).shape[:2]) == 24:
            assert record["encoded"] == original
            kept += 1
        else:
            # 20 high and 16 wide.
            assert (record["height"], record["width"], record["format"]) == (30, 24, b"jpeg")
    assert 0 < kept < len(found)


def test_what_is_whole_is_skipped(decathlon, convert_here, capsys):
    records = convert_here(decathlon.root)
    before = {path: path.stat().st_mtime_ns for path in records.rglob("*")}
    capsys.readouterr()
    convert_here(decathlon.root)
    assert capsys.readouterr().out.count("already whole") == 2
    assert {path: path.stat().st_mtime_ns for path in records.rglob("*")} == before


def test_other_options_or_inputs_are_refused_until_overwritten(decathlon, convert_here):
    records = convert_here(decathlon.root, domains=("left",))
    with pytest.raises(DataError, match="--seed=0 there, --seed=5 now.*--overwrite"):
        convert_here(decathlon.root, domains=("left",), seed=5)
    with pytest.raises(DataError, match="--resize_shorter=0 there, --resize_shorter=12 now"):
        convert_here(decathlon.root, domains=("left",), resize_shorter=12)
    old = shard_bytes(records)
    decathlon.image("left", "train", 0).write_bytes(decathlon.image("left", "train", 1).read_bytes())
    with pytest.raises(DataError, match="inputs that have changed: data/left/"):
        convert_here(decathlon.root, domains=("left",))
    assert shard_bytes(records) == old
    convert_here(decathlon.root, domains=("left",), overwrite=True)
    assert shard_bytes(records) != old
    assert sorted(os.listdir(records)) == ["left"]
    assert verify(records, [], 1)


def test_a_lost_shard_is_noticed_and_a_foreign_folder_is_left_alone(decathlon, convert_here):
    records = convert_here(decathlon.root, domains=("left",))
    (records / "left" / "left-val-00000-of-00001.tfrecord").unlink()
    with pytest.raises(DataError, match="left-val-00000-of-00001.tfrecord .* no file here"):
        convert_here(decathlon.root, domains=("left",))
    (records / "imagenet12").mkdir()
    with pytest.raises(DataError, match="imagenet12: is no converted domain"):
        convert_here(decathlon.root, domains=("imagenet12",), overwrite=True)


def test_splits_may_be_left_out_but_train(decathlon, convert_here):
    records = convert_here(decathlon.root, domains=("left",), splits=("train", "val"))
    assert list(DatasetInfo.load(records, "left").splits) == ["train", "val"]
    with pytest.raises(DataError, match="must have train"):
        convert_here(decathlon.root, splits=("val",))


def test_the_info_tells_source_options_and_hashes(decathlon, convert_here, tmp_path):
    release = decathlon.to_release(tmp_path / "release", nested=True)
    records = convert_here(release.root, domains=("left",), seed=3)
    info = json.loads((records / "left" / "dataset_info.json").read_text())
    assert info["source"]["kind"] == "decathlon"
    assert info["options"]["seed"] == 3
    assert "decathlon-1.0-data.tar.gz" in info["inputs"]
    assert "decathlon-1.0-devkit.tar.gz/left_train.json" in info["inputs"]
    assert info["skipped"] == []
    assert info["tool_version"]


@pytest.mark.skipif("TFMDL_REAL_DATA" not in os.environ, reason="TFMDL_REAL_DATA names no real decathlon")
def test_a_real_domain_converts_and_verifies(convert_here):
    records = convert_here(pathlib.Path(os.environ["TFMDL_REAL_DATA"]).resolve(), domains=("dtd",))
    info = DatasetInfo.load(records, "dtd")
    assert {split: body.num_examples for split, body in info.splits.items()} == {
        "train": 400,
        "val": 400,
        "test": 400,
    }
    assert verify(records, ["dtd"], 2)
