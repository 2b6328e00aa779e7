"""What a run shows in TensorBoard."""

import contextlib
import errno
import json
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfmdl.data.records import naming
from tfmdl.model import slot_and_owner

IMAGES = 64
CONFUSION_SIDE = 480


class TensorBoard:
    """Writes scalars, the configuration, augmented images, confusion matrices and depthwise kernels.

    Args:
        train_dir, val_dir: Folders of the events of training and of evaluation.
        model: The `MultiDomainClassifier`.
        profile_steps: First and last step to profile, or None.
    """

    def __init__(self, train_dir, val_dir, model, profile_steps=None):
        self._model = model
        self._train = EventsFile(train_dir)
        self._val = EventsFile(val_dir)
        self._profile_dir = str(train_dir)
        self._profile_steps = profile_steps
        self._profiling = False

    def configuration(self, described: dict) -> None:
        """Writes the configuration as text and the numbers of parameters, once."""
        counts = {}
        for variable in self._model.variables:
            owner = slot_and_owner(variable)[1]
            if variable.trainable:
                counts[owner] = counts.get(owner, 0) + int(np.prod(variable.shape))
        with self._train.at(0):
            tf.summary.text("configuration", f"```\n{json.dumps(described, indent=1)}\n```")
            for owner, count in counts.items():
                tf.summary.scalar(f"trained_parameters/{owner}", count)

    def images(self, pipeline, preprocessing) -> None:
        """Writes a grid of augmented images of the first training batch, once."""
        batch = next(iter(pipeline.epoch(0)))
        domains = [preprocessing[source.domain] for source in pipeline.sources]
        mean, std = (
            np.array([getattr(domain, name) for domain in domains], "float32")[batch["domain"].numpy()][:, None, None]
            for name in ("mean", "std")
        )
        pixels = batch["image"].numpy() * std + mean
        with self._train.at(0):
            tf.summary.image("augmented_images", tile(np.clip(pixels[:IMAGES], 0, 1))[None])

    def before_step(self, step: int) -> None:
        """Starts the profile where it is to start."""
        if self._profile_steps and step == self._profile_steps[0]:
            tf.profiler.experimental.start(self._profile_dir)
            self._profiling = True

    def after_step(self, step: int) -> None:
        """Ends the profile where it is to end."""
        if self._profiling and step >= self._profile_steps[1]:
            self._end_profile()

    def epoch(self, line: dict, evaluations: dict, infos: dict, last: bool) -> None:
        """Writes the numbers of an epoch; at the first, at powers of two and at the last epoch, the pictures.

        Raises:
            OSError: as `EventsFile.at`.
        """
        with self._train.at(line["step"]):
            for name in ("train/loss", "train/accuracy", "learning_rate", "images_per_second"):
                tf.summary.scalar(name.removeprefix("train/"), line[name])
            if last or line["epoch"] & (line["epoch"] - 1) == 0:
                self._kernels()
        if not evaluations:
            return
        with self._val.at(line["step"]):
            tf.summary.scalar("loss", line["val/loss"])
            tf.summary.scalar("accuracy", line["val/accuracy"])
            for domain, evaluation in evaluations.items():
                tf.summary.scalar(f"accuracy/{domain}", evaluation.accuracy)
                tf.summary.scalar(f"loss/{domain}", evaluation.loss)
                for layer, mean_gates in self._model.named_gates(evaluation.gates).items():
                    for expert, gate in mean_gates.items():
                        tf.summary.scalar(f"gates/{domain}/{layer}/{expert}", gate)
                if last or line["epoch"] & (line["epoch"] - 1) == 0:
                    picture = confusion_picture(evaluation.confusion)
                    names = infos[domain].label_names
                    description = f"row: true class, column: predicted; {names[0]} first, {names[-1]} last"
                    tf.summary.image(f"confusion/{domain}", picture[None], description=description)

    def close(self) -> None:
        """Ends a profile that is under way and closes the files."""
        if self._profiling:
            self._end_profile()
        self._train.close()
        self._val.close()

    def _end_profile(self):
        tf.profiler.experimental.stop()
        self._profiling = False

    def _kernels(self):
        """Writes the depthwise kernels of the layers that the backbone has worth showing, one tile per channel."""
        backbone = self._model.backbone
        for conv in backbone.shown_convolutions():
            for bank in conv.kernels:
                for owner, variable in bank.variable_of.items():
                    if variable.shape[-1] == 1:  # depthwise
                        picture = kernels_picture(np.asarray(variable))
                        tf.summary.image(f"depthwise/{backbone.name_of(conv)}/{owner}", picture[None])


class EventsFile:
    """A file of events in a folder that is made if it is not there.

    Args:
        folder: The folder.

    Raises:
        OSError: if it cannot be made or written.
    """

    def __init__(self, folder):
        self._folder = folder
        self._others = set(self._files())
        self._written = 0  # bytes that are known to hold whole records
        with naming(self._folder):
            self._writer = tf.summary.create_file_writer(str(folder))

    @contextlib.contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Has `tf.summary` write here, as of `step`, while the context lasts; something must be written.

        Raises:
            OSError: if it could not be written. TensorFlow may drop what a full disk does not take, and say nothing.
        """
        with naming(self._folder), self._writer.as_default(step=step):
            yield
        (path,) = set(self._files()) - self._others
        end = _end_of_records(path, self._written)
        if end == self._written or end != path.stat().st_size:
            raise OSError(errno.EIO, "TensorBoard's events were not written whole; is the disk full?", str(path))
        self._written = end

    def close(self) -> None:
        """Closes the file."""
        with naming(self._folder):
            self._writer.close()

    def _files(self):
        return self._folder.glob("events.out.tfevents.*.v2")  # the profiler's have another end


def _end_of_records(path, start):
    """Returns where the last whole record of a TFRecord file ends; `start` is where one does."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        while True:
            file.seek(start)
            # A record is the length of its data in 8 bytes, a checksum of 4, the data, and a checksum of 4.
            end = start + 8 + 4 + int.from_bytes(file.read(8), "little") + 4
            if end > size:
                return start
            start = end


def tile(images: np.ndarray, border: int = 2) -> np.ndarray:
    """Returns (count, height, width, channels) as one picture, near square, with white borders."""
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    picture = np.ones((rows * (height + border), columns * (width + border), channels), "float32")
    for index, image in enumerate(images):
        top, left = index // columns * (height + border), index % columns * (width + border)
        picture[top : top + height, left : left + width] = image
    return picture


def kernels_picture(kernels: np.ndarray) -> np.ndarray:
    """Returns depthwise kernels, (height, width, channels, 1), as one picture of tiles: zero is grey."""
    channels = np.moveaxis(kernels, 2, 0)
    largest = np.abs(channels).max(axis=(1, 2, 3), keepdims=True) + 1e-12
    return tile(np.kron(0.5 + 0.5 * channels / largest, np.ones((1, 6, 6, 1))))


def confusion_picture(confusion: np.ndarray) -> np.ndarray:
    """Returns a confusion matrix as a grey picture, each row by its share, dark where many images are."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    zoom = max(1, CONFUSION_SIDE // len(confusion))
    return np.kron(1.0 - share, np.ones((zoom, zoom)))[..., None].astype("float32")
