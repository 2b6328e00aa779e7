"""What a run shows in TensorBoard: events below `<workdir>/train` and `<workdir>/val`."""

import json

import numpy as np
import tensorflow as tf

from tfmdl.model import slot_and_owner

IMAGES = 64
CONFUSION_SIDE = 480


class TensorBoard:
    """Writes scalars, the configuration, augmented images, confusion matrices and depthwise kernels.

    Args:
        workdir: Folder of the run.
        model: The `MultiDomainClassifier`.
        profile_steps: First and last step to profile, or None.
    """

    def __init__(self, workdir, model, profile_steps=None):
        self._model = model
        self._train = tf.summary.create_file_writer(str(workdir / "train"))
        self._val = tf.summary.create_file_writer(str(workdir / "val"))
        self._profile_dir = str(workdir / "train")
        self._profile_steps = profile_steps
        self._profiling = False

    def configuration(self, described: dict) -> None:
        """Writes the configuration as text and the numbers of parameters, once."""
        counts = {}
        for variable in self._model.variables:
            owner = slot_and_owner(variable)[1]
            if variable.trainable:
                counts[owner] = counts.get(owner, 0) + int(np.prod(variable.shape))
        with self._train.as_default(step=0):
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
        with self._train.as_default(step=0):
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
        """Writes the numbers of an epoch; at the first, at powers of two and at the last epoch, the pictures."""
        with self._train.as_default(step=line["step"]):
            for name in ("train/loss", "train/accuracy", "learning_rate", "images_per_second"):
                tf.summary.scalar(name.removeprefix("train/"), line[name])
            if last or line["epoch"] & (line["epoch"] - 1) == 0:
                self._kernels()
        with self._val.as_default(step=line["step"]):
            if evaluations:
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
        self._train.flush()
        self._val.flush()

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
        """Writes the depthwise kernels of the first layer of each stage, a tile a channel."""
        for variable in self._model.variables:
            slot, owner = slot_and_owner(variable)
            layer = slot.removeprefix("backbone/").removesuffix("/depthwise/kernel")
            if slot.endswith("depthwise/kernel") and layer.endswith(("stem_conv", "block1/conv1", "block4/conv2")):
                kernels = np.moveaxis(np.asarray(variable)[..., 0], -1, 0)[..., None]
                largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True) + 1e-12
                pixels = 0.5 + 0.5 * kernels / largest
                enlarged = np.kron(pixels, np.ones((1, 6, 6, 1)))
                tf.summary.image(f"depthwise/{layer}/{owner}", tile(enlarged)[None])


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


def confusion_picture(confusion: np.ndarray) -> np.ndarray:
    """Returns a confusion matrix as a grey picture, each row by its share, dark where many images are."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    zoom = max(1, CONFUSION_SIDE // len(confusion))
    return np.kron(1.0 - share, np.ones((zoom, zoom)))[..., None].astype("float32")
