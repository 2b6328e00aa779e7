"""Training batches are a function of (seed, epoch, step); evaluation sees every image once, just as it is."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_domains import CLASSES, SIZES, encode, write_domain

from tfmdl.data import records
from tfmdl.data.pipeline import Source, TrainPipeline, evaluation_batches, naming_bad_records
from tfmdl.data.preprocessing import Preprocessing

STATISTICS = {"base": (0.5, 0.2), "ucf101": (0.3, 0.4), "tiny": (0.7, 0.1)}


def preprocessing(domain, size=(18, 18), train=(16, 16), cover=(None, None)):
    mean, std = STATISTICS[domain]
    return Preprocessing(*size, *train, (mean, mean + 0.1, mean - 0.1), (std, std + 0.05, std + 0.1), *cover)


def source(data_dir, domain, split="train", **sizes):
    info = records.DatasetInfo.load(data_dir, domain)
    return Source.of(data_dir, info, (split,), preprocessing(domain, **sizes))


def numpy(dataset):
    return [{key: value.numpy() for key, value in batch.items()} for batch in dataset]


def image_ids(batches):
    return np.concatenate([batch["image_id"] for batch in batches]).tolist()


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def stored(source):
    """The records of a source as (pixels, label), by image id."""
    found = {}
    for record in tf.data.TFRecordDataset(list(source.paths)):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        # Not by Pillow: TensorFlow's fast transform of a JPEG is some grey levels off.
        decoded = tf.io.decode_image(features["image/encoded"].bytes_list.value[0], channels=3)
        pixels = Image.fromarray(decoded.numpy())
        number = {key: features[key].int64_list.value for key in ("image/source_id", "image/class/label")}
        found[number["image/source_id"][0]] = pixels, number["image/class/label"][0]
    return found


def expected(pixels, preprocessing):
    """Evaluation in numpy and Pillow: resize to cover, centre crop, the centre of that, normalise."""
    (height, width), (crop_height, crop_width) = preprocessing.cover_size, preprocessing.size
    scale = max(height / pixels.height, width / pixels.width)
    if scale != 1:
        pixels = pixels.resize((round(pixels.width * scale), round(pixels.height * scale)), Image.Resampling.BILINEAR)
    top = (pixels.height - height) // 2 + (height - crop_height) // 2
    left = (pixels.width - width) // 2 + (width - crop_width) // 2
    crop = np.asarray(pixels)[top : top + crop_height, left : left + crop_width]
    return (crop / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)


# Training


EITHER = pytest.mark.parametrize(("domains", "cache"), [(("base",), False), (("base", "tiny"), True)])


@EITHER
def test_an_epoch_holds_every_image_once_but_for_what_fills_up_its_last_batch(domains, cache, data_dir):
    sources = [source(data_dir, domain) for domain in domains]
    pipeline = TrainPipeline(sources, 16, seed=0, cache=cache)
    total = 40 * len(domains)
    assert pipeline.steps_per_epoch == -(-total // 16)
    for epoch in range(2):
        batches = numpy(pipeline.epoch(epoch))
        assert [len(batch["label"]) for batch in batches] == [16] * pipeline.steps_per_epoch
        ids = image_ids(batches)
        assert sorted(ids[:total]) == sorted(image_id for one in sources for image_id in stored(one))
        filled = collections.Counter(ids[total:])
        assert set(filled) <= set(ids[:total]) and max(filled.values(), default=1) == 1


def test_a_domain_smaller_than_a_batch_fills_it(data_dir):
    batches = numpy(TrainPipeline([source(data_dir, "tiny", "val")], 32, seed=0).epoch(0))
    counts = collections.Counter(image_ids(batches))
    assert len(batches) == 1 and len(counts) == SIZES["val"] and set(counts.values()) == {2, 3}


@EITHER
def test_batches_are_a_function_of_seed_epoch_and_step(domains, cache, data_dir):
    sources = [source(data_dir, domain) for domain in domains]
    batches = numpy(TrainPipeline(sources, 8, seed=3, cache=cache).epoch(2))
    again = TrainPipeline(sources, 8, seed=3, cache=cache)
    numpy(again.epoch(0).take(1))  # whatever was read before
    for first_step in (0, 3):
        epoch = again.epoch(2, first_step)
        assert_same(numpy(epoch), batches[first_step:])
        assert_same(numpy(epoch), batches[first_step:])
    for seed, epoch in ((4, 2), (3, 1)):
        other = numpy(TrainPipeline(sources, 8, seed=seed, cache=cache).epoch(epoch))
        assert image_ids(other) != image_ids(batches)


@EITHER
def test_processes_that_share_a_batch_read_its_rows(domains, cache, data_dir):
    sources = [dataclasses.replace(source(data_dir, domain), flips=True) for domain in domains]
    whole, *parts = (
        numpy(TrainPipeline(sources, 8, seed=3, cache=cache, rows=rows).epoch(1))
        for rows in (slice(None), slice(0, 4), slice(4, 8))
    )
    halves = zip(*parts, strict=True)
    joined = [{name: np.concatenate([half[name], other[name]]) for name in half} for half, other in halves]
    assert_same(joined, whole)


@pytest.fixture(scope="module")
def many_records(tmp_path_factory):
    """Ten files of 2,000 records each, whose image ids are their places."""
    folder = tmp_path_factory.mktemp("many")
    pixel = encode(np.zeros((1, 1, 3), "uint8"))
    paths = [str(folder / f"{number}.tfrecord") for number in range(10)]
    ids = iter(range(20_000))
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            for image_id in itertools.islice(ids, 2000):
                writer.write(
                    records.serialize_example(
                        encoded=pixel, image_format="jpeg", height=1, width=1, label=0, text="", image_id=image_id
                    )
                )
    return tuple(paths)


@pytest.mark.parametrize("domains", [1, 10])
def test_where_an_image_comes_in_one_epoch_says_nothing_of_the_next(domains, many_records):
    one = preprocessing("base", (1, 1), (1, 1))
    sources = [Source("some", many_records[i::domains], 20_000 // domains, one) for i in range(domains)]
    pipeline = TrainPipeline(sources, 1000, seed=0)
    orders = [image_ids(pipeline.epoch(epoch).as_numpy_iterator()) for epoch in range(2)]
    places = [np.argsort(order) for order in orders]
    # Of 20,000 numbers in random order a coefficient has a standard deviation of 0.007.
    assert abs(np.corrcoef(*places)[0, 1]) < 0.03
    assert abs(np.corrcoef(places[0], range(20_000))[0, 1]) < 0.03
    # Nor do images that are neighbours in a file come near each other.
    assert np.mean(np.abs(np.diff(places[0])) < 1000) < 0.15


def test_the_same_image_is_cropped_anew_in_each_epoch(data_dir):
    pipeline = TrainPipeline([source(data_dir, "base")], 40, seed=0)
    crops = collections.defaultdict(set)
    for epoch in range(4):
        (batch,) = numpy(pipeline.epoch(epoch))
        for image_id, image in zip(batch["image_id"], batch["image"], strict=True):
            crops[image_id].add(image.tobytes())
    assert np.mean([len(seen) for seen in crops.values()]) > 2


@pytest.mark.parametrize("cache", [False, True])
def test_a_training_image_is_a_window_of_the_evaluation_image(cache, data_dir):
    one = source(data_dir, "base")
    whole = {
        image_id: (image, label)
        for batch in numpy(evaluation_batches([one], 16))
        for image_id, image, label in zip(batch["image_id"], batch["image"], batch["label"], strict=True)
    }
    corners = set()
    for batch in numpy(TrainPipeline([one], 8, seed=1, cache=cache).epoch(0)):
        assert batch["image"].shape == (8, 16, 16, 3) and batch["image"].dtype == np.float32
        for image_id, image, label in zip(batch["image_id"], batch["image"], batch["label"], strict=True):
            assert label == whole[image_id][1]
            found = {
                (top, left)
                for top in range(3)
                for left in range(3)
                if np.array_equal(whole[image_id][0][top : top + 16, left : left + 16], image)
            }
            assert found
            corners |= found
    assert len(corners) == 9


def test_domains_mix_in_proportion_each_with_its_own_statistics(tmp_path):
    write_domain(tmp_path, "base", {"train": 60})
    write_domain(tmp_path, "tiny", {"train": 20})
    sources = [source(tmp_path, domain, train=(18, 18)) for domain in ("base", "tiny")]
    batches = numpy(TrainPipeline(sources, 40, seed=0).epoch(0))
    assert sum((batch["domain"] == 1).sum() for batch in batches) == 20
    assert all(0 < (batch["domain"] == 1).sum() < 20 for batch in batches)
    known = [stored(one) for one in sources]
    for batch in batches:
        assert_as_stored(batch, known, sources)


@pytest.mark.parametrize("cache", [False, True])
def test_domains_of_different_evaluation_sizes_mix(cache, data_dir):
    sources = [source(data_dir, "base"), source(data_dir, "tiny", size=(36, 18))]
    wholes = []
    for one in sources:
        (batch,) = numpy(evaluation_batches([one], 40))
        wholes.append(dict(zip(batch["image_id"], batch["image"], strict=True)))
    tops = set()
    for batch in numpy(TrainPipeline(sources, 16, seed=0, cache=cache).epoch(0)):
        for domain, image_id, image in zip(batch["domain"], batch["image_id"], batch["image"], strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(wholes[domain][image_id], (16, 16, 3))[:, :, 0]
            found = np.argwhere((windows == image).all((2, 3, 4)))
            assert len(found)
            tops |= {(domain, top) for top, _ in found}
    assert {top for domain, top in tops if domain == 0} == set(range(3))
    assert max(top for domain, top in tops if domain == 1) > 10  # of 0..20


def assert_as_stored(batch, known, sources):
    """Each image of a batch is what its record says, in numpy: up to a grey level, by which resizing may differ."""
    for row, domain in enumerate(batch["domain"]):
        pixels, label = known[domain][batch["image_id"][row]]
        assert batch["label"][row] == label
        wanted, std = expected(pixels, sources[domain].preprocessing), sources[domain].preprocessing.std
        np.testing.assert_allclose(batch["image"][row] * std, wanted * std, atol=1.01 / 255)


def test_domains_of_different_training_sizes_are_refused_by_name(data_dir):
    sources = [source(data_dir, "base"), source(data_dir, "ucf101", train=(18, 18))]
    with pytest.raises(ValueError, match=r"'base' trains at \(16, 16\), 'ucf101' at \(18, 18\)"):
        TrainPipeline(sources, 8, seed=0)


# Evaluation


@pytest.mark.parametrize("sizes", [{}, {"size": (13, 16), "train": (13, 16), "cover": (18, 18)}], ids=["all", "centre"])
@pytest.mark.parametrize("domain", CLASSES)
def test_evaluation_is_plain_numpy_and_sees_every_image_once(domain, sizes, data_dir):
    one = source(data_dir, domain, "val", **sizes)
    known = stored(one)
    batches = numpy(evaluation_batches([one], 5))
    assert [len(batch["label"]) for batch in batches] == [5, 5, 3]
    assert sorted(image_ids(batches)) == sorted(known)
    for batch in batches:
        assert_as_stored(batch, [known], [one])


def test_mixed_evaluation_is_that_of_the_domains_alone(data_dir):
    # Two see a part of an image, and cut it out of different wholes; one sees all of it.
    covers = {"base": (18, 18), "tiny": (20, 16)}
    sources = [
        source(data_dir, domain, "val", size=(16, 16), cover=covers.get(domain, (16, 16))) for domain in CLASSES
    ]
    batches = numpy(evaluation_batches(sources, 16))
    assert [len(batch["label"]) for batch in batches] == [16, 16, 7]
    assert all(len(set(batch["domain"])) > 1 for batch in batches)
    for index, one in enumerate(sources):
        mixed = [
            (batch["image_id"][row], batch["label"][row], batch["image"][row])
            for batch in batches
            for row in np.flatnonzero(batch["domain"] == index)
        ]
        (alone,) = numpy(evaluation_batches([one], 16))
        assert [row[0] for row in mixed] == alone["image_id"].tolist()
        assert [row[1] for row in mixed] == alone["label"].tolist()
        np.testing.assert_allclose([row[2] for row in mixed], alone["image"], atol=1e-5)


def test_mixed_evaluation_refuses_another_size_by_name(data_dir):
    sources = [source(data_dir, "base", "val"), source(data_dir, "tiny", "val", size=(36, 18))]
    with pytest.raises(ValueError, match=r"'tiny': \(36, 18\)"):
        evaluation_batches(sources, 8)


# Bad input


@pytest.fixture
def spoiled(tmp_path):
    write_domain(tmp_path, "base")
    return tmp_path, tmp_path / "base" / "base-train-00001-of-00002.tfrecord"


def test_a_shard_that_is_too_short_is_named(spoiled):
    data_dir, shard = spoiled
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{shard}: has .* bytes, dataset_info.json says"):
        source(data_dir, "base")


def test_a_missing_shard_and_a_missing_split_are_named(spoiled):
    data_dir, shard = spoiled
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=str(shard)):
        source(data_dir, "base")
    with pytest.raises(ValueError, match="no split 'dev'; it has train, val, test"):
        source(data_dir, "base", "dev")


@pytest.mark.parametrize("change", ["flipped", "no image", "no example"])
def test_a_bad_record_is_named(change, spoiled):
    data_dir, shard = spoiled
    contents = [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]
    if change != "flipped":
        bad = contents[3].replace(b"\xff\xd8\xff", b"\x00\x00\x00").replace(b"\x89PNG", b"\x00PNG")
        # TensorFlow's message about what is no Example holds bytes of it, which are no text.
        contents[3] = bad if change == "no image" else contents[3][:-1] + b"\xff"
        with tf.io.TFRecordWriter(str(shard)) as writer:
            for record in contents:
                writer.write(record)
    else:
        flipped = bytearray(shard.read_bytes())
        before = sum(len(record) + 16 for record in contents[:3])
        flipped[before + 12 + len(contents[3]) // 2] ^= 1
        shard.write_bytes(flipped)
    one = source(data_dir, "base")
    with pytest.raises(ValueError, match=f"{shard}: record 3 ") as caught, naming_bad_records([one]):
        numpy(TrainPipeline([one], 8, seed=0).epoch(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [-1, 99, 1 << 32])
def test_a_record_of_no_class_is_named_whoever_reads_it(label, spoiled):
    data_dir, shard = spoiled
    examples = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(shard))]
    one = dataclasses.replace(source(data_dir, "base"), written=())
    examples[3].features.feature["image/class/label"].int64_list.value[:] = [label]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for example in examples:
            writer.write(example.SerializeToString())
    message = f"{shard}: record 3 .*image/class/label: expected a class of the domain.* .{label}.$"
    for read in (
        lambda: TrainPipeline([one], 8, seed=0).epoch(0),
        lambda: TrainPipeline([one], 8, seed=0, cache=True).epoch(0),
        lambda: evaluation_batches([one], 8),
    ):
        with pytest.raises(ValueError, match=message), naming_bad_records([one]):
            numpy(read())


def test_a_record_that_is_gone_since_the_files_were_read_through_is_named(spoiled):
    data_dir, shard = spoiled
    one = source(data_dir, "base")
    epoch = TrainPipeline([one], 8, seed=0).epoch(0)
    with open(shard, "r+b") as file:
        file.truncate(file.seek(0, 2) - 10)
    for known, message in ((one, "has changed since"), (dataclasses.replace(one, written=()), "record 19 ")):
        with pytest.raises(ValueError, match=f"{shard}: {message}"), naming_bad_records([known]):
            numpy(epoch)


@pytest.mark.parametrize("cache", [False, True])
def test_a_domain_of_more_or_fewer_records_than_it_says_is_named(cache, data_dir):
    sources = [source(data_dir, "base"), source(data_dir, "tiny")]
    for wrong in (39, 41):
        pipeline = TrainPipeline([sources[0], dataclasses.replace(sources[1], num_examples=wrong)], 8, 0, cache)
        with pytest.raises(ValueError, match=f"'tiny': dataset_info.json says {wrong} records .* hold 40"):
            pipeline.epoch(0)


def test_an_empty_domain_is_refused(data_dir):
    one = source(data_dir, "base")
    with pytest.raises(ValueError, match="'base' has no images"):
        TrainPipeline([Source(one.domain, one.paths, 0, one.preprocessing)], 8, seed=0)
