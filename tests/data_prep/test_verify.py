"""Verification finds what no longer is as it was written."""

import dataclasses
import json

import pytest
import tensorflow as tf
from reading import read_split

from data_prep import verification
from data_prep.progress import progress_line
from data_prep.verification import verify
from tfmdl.data.records import DatasetInfo, serialize_example


@pytest.fixture
def records(decathlon, convert_here):
    return convert_here(decathlon.root, domains=("left",))


def _edit_info(records, change):
    path = records / "left" / "dataset_info.json"
    contents = json.loads(path.read_text())
    # As an earlier version wrote it: a hash would tell of any edit.
    del contents["sha256"]
    change(contents)
    path.write_text(json.dumps(contents))


def _fewer(contents):
    train = contents["splits"]["train"]
    train["num_examples"] = train["shards"][0]["num_examples"] = 8
    train["per_class"] = [3, 3, 2]


def test_the_command_tells_whole_from_damaged(decathlon, records, convert_here, run_tool):
    convert_here(decathlon.root, domains=("imagenet12",))
    shard = records / "left" / "left-val-00000-of-00001.tfrecord"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    done = run_tool("verify.py", f"--data_dir={records}")
    assert done.returncode == 1
    whole, spoiled = done.stdout.splitlines()
    assert whole.startswith("imagenet12  train 9  val 4  test 3  3 classes  ok") and "images/s" in whole
    assert spoiled.startswith("left  train 9  val 4  test 3  3 classes") and "fault" in spoiled
    assert "left-val-00000-of-00001.tfrecord: sha256" in done.stderr
    assert "left-val-00000-of-00001.tfrecord: damaged (CRC" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_fewer, "split train: records: expected 8, found 9"),
        (_fewer, "left-train-00000-of-00001.tfrecord: records: expected 8, found 9"),
        (
            lambda c: c["splits"]["train"]["per_class"].reverse() or c["label_names"].reverse(),
            "image/class/text",
        ),
        (
            lambda c: c["splits"]["val"].update(per_class=[0, 0, 4]),
            "split val: images of class 'class 1': expected 4",
        ),
        (
            lambda c: c["splits"]["test"].update(labelled=True, per_class=[1, 1, 1]),
            "image/class/label is -1; expected 0 to 2",
        ),
        (lambda c: c.update(pixel_mean=[0.5, 0.5, 0.5]), "mean and std of the training pixels"),
        (lambda c: c["splits"].pop("val"), "left-val-00000-of-00001.tfrecord: is not listed"),
    ],
)
def test_an_info_that_tells_otherwise_is_a_fault(records, change, message, capsys):
    assert verify(records, ["left"], 2)
    _edit_info(records, change)
    assert not verify(records, ["left"], 2)
    told = capsys.readouterr()
    assert message in told.err
    assert "dataset_info.json is of an earlier version, without a hash" in told.out


def test_an_edit_that_no_record_contradicts_is_a_fault(records, capsys):
    path = records / "left" / "dataset_info.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert not verify(records, ["left"], 1)
    assert "left/dataset_info.json: was edited or damaged" in capsys.readouterr().err


def test_a_missing_shard_is_a_fault(records, capsys):
    (records / "left" / "left-val-00000-of-00001.tfrecord").unlink()
    assert not verify(records, [], 1)
    assert "left-val-00000-of-00001.tfrecord: is not there" in capsys.readouterr().err


def test_an_image_id_in_two_records_and_an_undecodable_image_are_faults(records, capsys):
    good = read_split(records, "left", "val")
    shard = records / "left" / "left-val-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in (good[0], good[0], good[1] | {"encoded": good[1]["encoded"][:-100]}, good[2]):
            writer.write(
                serialize_example(
                    encoded=record["encoded"],
                    image_format=record["format"].decode(),
                    height=record["height"],
                    width=record["width"],
                    label=record["class/label"],
                    text=record["class/text"].decode(),
                    image_id=record["source_id"],
                )
            )
    assert not verify(records, ["left"], 2)
    told = capsys.readouterr().err
    assert f"image_id {good[0]['source_id']} occurs twice, first in {shard.name}: record 0" in told
    assert f"{shard.name}: record 2 does not decode" in told


def test_a_text_that_is_not_utf8_is_a_fault(records, capsys):
    shard = records / "left" / "left-val-00000-of-00001.tfrecord"
    examples = [tf.train.Example.FromString(e.numpy()) for e in tf.data.TFRecordDataset(str(shard))]
    examples[1].features.feature["image/class/text"].bytes_list.value[0] = b"\xff\n"
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())
    assert not verify(records, ["left"], 1)
    assert f"{shard.name}: record 1: image/class/text: expected class" in capsys.readouterr().err.replace("\\n", "")


def test_a_record_that_ends_too_soon_is_a_fault(records, capsys):
    """TensorFlow's message about it holds its bytes, which are no text."""
    shard = records / "left" / "left-train-00000-of-00001.tfrecord"
    contents = [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for number, record in enumerate(contents):
            writer.write(record[:-1] if number == 2 else record)
    assert not verify(records, ("left",), workers=1)
    assert f"{shard.name}: record 2 lacks a feature (is no tf.train.Example)" in capsys.readouterr().err


def test_progress_shows_names_as_they_are(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_line("w[/x]", 5) as report:
        report(2, "y[red]")
    told = capsys.readouterr().out
    assert "w[/x]" in told and "y[red]" in told


def test_an_info_that_is_none_is_a_fault(records, capsys):
    (records / "left" / "dataset_info.json").write_text("{}")
    assert not verify(records, ["left"], 1)
    assert "left/dataset_info.json: expected an object of name" in capsys.readouterr().err


def test_info_survives_a_round_trip(records):
    info = DatasetInfo.load(records, "left")
    info.save(records / "left")
    assert DatasetInfo.load(records, "left") == info
    assert dataclasses.replace(info, name="other").fingerprint != info.fingerprint


def test_a_domain_that_is_replaced_meanwhile_is_read_again(decathlon, records, convert_here, monkeypatch, capsys):
    other = convert_here(decathlon.root, "other", domains=("left",), seed=1)
    faults, swapped = verification._faults, []

    def meanwhile(folder, info, workers):
        if not swapped:
            swapped.append(folder.rename(records / ".old"))
            (other / "left").rename(folder)
        return faults(folder, info, workers)

    monkeypatch.setattr(verification, "_faults", meanwhile)
    assert verify(records, ["left"], 1), capsys.readouterr().err
