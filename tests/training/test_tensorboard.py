"""What a run shows in TensorBoard, read back from its event files."""

import numpy as np
import pytest
from small_network import small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from tfmdl.config import RunConfig
from tfmdl.training.loop import train
from tfmdl.training.tensorboard import confusion_picture, tile


@pytest.fixture(scope="module")
def events(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train(
        RunConfig(
            domains=("base", "tiny"),
            data_dir=str(data_dir),
            workdir=str(workdir),
            architecture=small(),
            recipe="quick",
            epochs=3,
            batch_size=16,
            image_size=16,
            profile_steps=(2, 3),
        )
    )
    assert list((workdir / "train" / "plugins" / "profile").glob("*/*.xplane.pb"))
    read = {}
    for part in ("train", "val"):
        read[part] = EventAccumulator(str(workdir / part), {"tensors": 0}).Reload()
    return read


def test_numbers_are_written_every_epoch(events):
    for part, tags in (
        ("train", ("loss", "accuracy", "learning_rate", "images_per_second")),
        ("val", ("loss", "accuracy", "accuracy/base", "accuracy/tiny", "loss/base", "loss/tiny")),
    ):
        for tag in tags:
            assert [event.step for event in events[part].Tensors(tag)] == [5, 10, 15], tag


def test_parameters_and_configuration_are_written_once(events):
    (text,) = events["train"].Tensors("configuration")
    assert b'"recipe": "quick"' in text.tensor_proto.string_val[0]
    for owner in ("shared", "base", "tiny"):
        (count,) = events["train"].Tensors(f"trained_parameters/{owner}")
        assert make_ndarray(count.tensor_proto) > 0


def test_pictures_are_written_at_the_first_at_doubling_and_at_the_last_epochs(events):
    assert len(events["train"].Tensors("augmented_images")) == 1
    kernels = [tag for tag in events["train"].Tags()["tensors"] if tag.startswith("depthwise/")]
    ends = [f"stage{stage}_block1/conv{number}" for stage in (1, 2, 3) for number in (1, 2)]
    layers = ["stem_conv", *ends]
    assert sorted(kernels) == sorted(f"depthwise/{layer}/{owner}" for layer in layers for owner in ("base", "tiny"))
    for part, tag in (("train", kernels[0]), ("val", "confusion/base"), ("val", "confusion/tiny")):
        assert [event.step for event in events[part].Tensors(tag)] == [5, 10, 15]


def test_tile_puts_every_image_somewhere(rng):
    images = rng.uniform(0.1, 0.9, (5, 4, 6, 3)).astype("float32")
    picture = tile(images, border=1)
    assert picture.shape == (10, 21, 3)
    np.testing.assert_array_equal(picture[5:9, 7:13], images[4])
    assert (picture[5:, 14:] == 1).all()


def test_a_confusion_is_dark_where_the_images_are():
    picture = confusion_picture(np.array([[3, 1], [0, 0]]))
    side = len(picture) // 2
    np.testing.assert_allclose(picture[0, [0, side], 0], [0.25, 0.75])
    assert (picture[side:] == 1).all()
