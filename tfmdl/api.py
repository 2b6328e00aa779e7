"""The program from Python, for notebooks: what the package's own docstring shows."""

import tfmdl.quiet  # isort: skip  # noqa: F401

import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfmdl import imported
from tfmdl import packs as pack_files
from tfmdl.data.decode import window_of_images
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.evaluation.accuracy import Evaluation
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.model import MultiDomainClassifier
from tfmdl.pretrained import split
from tfmdl.serving.samples import live_answers
from tfmdl.serving.source import data_dir_of, from_runs
from tfmdl.serving.writer import Options, write_export
from tfmdl.training import loop
from tfmdl.training.settings import configure

Image = str | os.PathLike | bytes | np.ndarray
BATCH_SIZE = 64


def train(
    domain: str | Sequence[str],
    *,
    data_dir: str | os.PathLike,
    workdir: str | os.PathLike,
    **settings,
) -> "Classifier":
    """Trains a trunk, or with `init_from` adds a domain to one, and returns what was trained.

    A run that was interrupted goes on when it is asked for again; one that is finished is returned as it is.

    Args:
        domain: The domain to train, or several that train a trunk jointly.
        data_dir: Folder that data_prep/convert.py wrote.
        workdir: Folder of the run.
        **settings: The other flags of train.py by their names, those of the method's options among them; a setting that
            is not given is as there.

    Raises:
        TypeError: if there is no such setting.
        FileNotFoundError, ValueError, FloatingPointError: as `tfmdl.training.loop.train`.
    """
    domains = (domain,) if isinstance(domain, str) else domain
    loop.train(configure(domains, data_dir=data_dir, workdir=workdir, **settings))
    return load(workdir)


def multi_domain(
    model: keras.Model,
    num_classes: dict[str, int],
    method: str = "pointwise_sharing",
    *,
    dtype: str = "float32",
    **options,
) -> MultiDomainClassifier:
    """Returns a classifier of several domains out of a Keras model, with its weights.

    `train_only` says what is trained; then `tower(domain)`, a Keras model of one domain, or the classifier itself, on
    {"image": ..., "domain": ids}, is compiled and fitted as any. `save_packs` writes what came of it.

    Args:
        model: A functional or sequential model, image (batch, height, width, 3) -> anything: a classifier at its end is
            taken off, and a map of features averaged.
        num_classes: Number of classes by name of the domain.
        method: A key of `tfmdl.sharing.METHODS`.
        dtype: Keras dtype policy of the layers.
        **options: The method's options.

    Raises:
        ValueError: if a layer with weights is not known, naming it, or the method does not work on the model.
    """
    features, _, _ = split(model)
    return imported.classifier_of(features, num_classes, method, dtype, **options)


def save_packs(
    model: MultiDomainClassifier,
    workdir: str | os.PathLike,
    label_names: dict[str, Sequence[str]],
    *,
    image_size: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1 / 255, 1 / 255, 1 / 255),
) -> "Classifier":
    """Writes a trunk and a pack per domain, for eval.py, export and `load`, and returns what these give.

    Args:
        model: What `multi_domain` returned.
        workdir: The folder.
        label_names: Names of the classes by name of the domain.
        image_size: Side of the images that the model was trained with.
        mean, std: Per channel, pixels in 0..1, by which its images are normalised; by default it takes 0..255.

    Raises:
        ValueError: if there is no such domain, or a number of classes is another.
    """
    preprocessing = Preprocessing(*(image_size,) * 4, tuple(mean), tuple(std))
    imported.write_packs(model, workdir, {name: list(names) for name, names in label_names.items()}, preprocessing)
    return load(workdir)


def load(
    *workdirs: str | os.PathLike,
    trunk: str | os.PathLike | None = None,
    packs: Sequence[str | os.PathLike] = (),
    expert_packs: Sequence[str | os.PathLike] = (),
) -> "Classifier":
    """Returns one model of finished runs on one trunk, or of a trunk and packs.

    Args:
        *workdirs: Folders of runs.
        trunk: Instead: a run or a file with the trunk.
        packs: With `trunk`: runs or files with the packs of domains.
        expert_packs: Runs or packs that soft sharing mixes, if they have moved.

    Raises:
        FileNotFoundError, ValueError: as `tfmdl.packs.load_model`.
    """
    return Classifier(list(map(str, workdirs)), trunk and str(trunk), [*map(str, packs)], [*map(str, expert_packs)])


class Classifier:
    """A trunk and the packs of some domains, as one model.

    Attributes:
        model: The `tfmdl.model.MultiDomainClassifier`.
        packs: The domains' packs by name: labels, preprocessing, accuracy on val.
    """

    def __init__(self, workdirs, trunk, packs, expert_packs):
        self._parts = (workdirs or None, trunk, packs or None, expert_packs)
        self.model, loaded = pack_files.load_model(*self._parts[:3], expert_paths=expert_packs)
        self.packs = {pack.domain: pack for pack in loaded}

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains."""
        return self.model.domains

    def predict(self, images: Sequence[Image], domain: str) -> np.ndarray:
        """Returns probabilities, (images, classes) float32, in the order of `packs[domain].label_names`.

        Args:
            images: Each the path of a JPEG, PNG, GIF or BMP file, the bytes of one, or its pixels, uint8 (height,
                width, 3). They are resized and cut as in evaluation.
            domain: Which domain they are of.

        Raises:
            ValueError: if there is no such domain, an image is none, naming it by its path or number, or an answer is
                not a finite number.
            OSError: if a file cannot be read.
        """
        self.model.domain_id(domain)
        pack = self.packs[domain]
        probabilities = [np.zeros((0, self.model.num_classes[domain]), "float32")]
        for start in range(0, len(images), BATCH_SIZE):
            part = enumerate(images[start : start + BATCH_SIZE], start)
            windows = [_window(image, number, pack.preprocessing) for number, image in part]
            probabilities.append(live_answers(self.model, pack, windows)[1])
        return np.concatenate(probabilities)

    def evaluate(
        self, data_dir: str | os.PathLike, split: str = "val", labels_dir: str | os.PathLike | None = None
    ) -> dict[str, Evaluation]:
        """Returns accuracy, loss and confusion by domain on the converted images in `data_dir`.

        Args:
            data_dir: Folder that data_prep/convert.py wrote.
            split: "val" or "test".
            labels_dir: Folder of <domain>_test.json, for a test split without labels.

        Raises:
            FileNotFoundError, ValueError: if data or labels are missing or are of other classes.
        """
        workdirs, trunk, packs, expert_packs = self._parts
        config = EvaluationConfig(
            data_dir=str(data_dir),
            split=split,
            workdirs=tuple(workdirs or ()),
            trunk=trunk,
            pack_paths=tuple(packs or ()),
            expert_paths=tuple(expert_packs),
            labels_dir=labels_dir and str(labels_dir),
        )
        return evaluate(config).evaluations

    def export(self, export_dir: str | os.PathLike, **options) -> pathlib.Path:
        """Writes a SavedModel for TensorFlow Serving, compares it with this model, and returns its folder.

        Args:
            export_dir: Folder of all versions.
            **options: Fields of `tfmdl.serving.writer.Options`.

        Raises:
            TypeError: if there is no such option.
            OSError, ValueError: as `tfmdl.serving.writer.write_export`.
        """
        workdirs, _, packs, _ = self._parts
        options.setdefault("data_dir", data_dir_of([*(workdirs or ()), *(packs or ())]))
        return write_export(from_runs(*self._parts), export_dir, Options(**options)).path


def _window(image, number, preprocessing):
    """Decodes an image and cuts out what evaluation sees of it, uint8 (*size, 3)."""
    name = image if isinstance(image, str | os.PathLike) else f"image {number}"
    if isinstance(image, str | os.PathLike):
        image = pathlib.Path(image).read_bytes()
    if isinstance(image, bytes):
        try:
            image = tf.io.decode_image(image, channels=3, expand_animations=False)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"{name}: is no JPEG, PNG, GIF or BMP file that decodes") from error
    if np.ndim(image) != 3 or image.shape[-1] != 3 or image.dtype != "uint8":
        shape, dtype = np.shape(image), getattr(image, "dtype", type(image).__name__)
        raise ValueError(f"{name}: pixels must be uint8 (height, width, 3); received {dtype} {shape}")
    how = (preprocessing.cover_size, preprocessing.size, preprocessing.centre)
    return window_of_images(tf.convert_to_tensor(image)[None], *how)[0]
