"""Images whose pixels are labelled, out of converted domains: a small Broden for `python -m tfmdl.dissect`."""

import dataclasses
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from data_prep.colours import TERMS, colour_terms
from data_prep.plan import DataError, check_known
from data_prep.progress import progress_line
from tfmdl.data.records import FIELDS, DatasetInfo, converted_domains
from tfmdl.dissection.broden import INDEX_FILE, ConceptWriter

CATEGORIES = ("color", "object", "part", "texture")  # as Broden spells them
LEAST_SHARE = 0.005  # of an image, that a colour covers where it is named
CLEAR_INK = 0.75  # share of the variance of brightness that ink and ground explain where they are told apart
INK = "ink"

Labels = dict[str, dict[str, np.ndarray | None]]


@dataclasses.dataclass(frozen=True)
class Labelling:
    """How the images of a domain are labelled.

    Attributes:
        name: Of the labelling, for people.
        labels: From pixels, uint8 (height, width, 3), and the name of the class, to the labels by category and name:
            where they are, or None for the whole image. None in place of all where it cannot be told.
    """

    name: str
    labels: Callable[[np.ndarray, str], Labels | None]


def _whole(category: str) -> Labelling:
    def labels(pixels, text):
        terms = colour_terms(pixels)
        colours = {name: terms == number for number, name in enumerate(TERMS)}
        named = {name: mask for name, mask in colours.items() if mask.mean() >= LEAST_SHARE}
        return {"color": named, category: {text: None}}

    return Labelling(f"{category} for the whole image, colours by pixel", labels)


def _ink(name_of: Callable[[str], str], light: bool | None) -> Labelling:
    """Labels strokes with what they write; their colours, ink and paper, say nothing.

    Args:
        name_of: From the name of a class to that of the object.
        light: Whether ink is lighter than its ground; None: it is what touches the border less.
    """

    def labels(pixels, text):
        mask = ink(pixels, light)
        return None if mask is None else {"object": {name_of(text): mask}, "part": {INK: mask}}

    return Labelling("objects and parts by pixel, ink", labels)


# By domain. A domain that is not here is labelled by whole images, as objects.
LABELLINGS = {
    "dtd": _whole("texture"),
    "omniglot": _ink(lambda text: text.partition(".")[0], light=True),
    "chars74k": _ink(lambda text: text, light=None),
}
OTHER = _whole("object")
DOMAINS = ("dtd", "flowers5", "caltech101", "omniglot", "chars74k")


def make_concepts(
    data_dir: pathlib.Path, output_dir: pathlib.Path, domains: Sequence[str] = (), split: str = "val", most: int = 800
) -> None:
    """Writes images of converted domains, their labels and masks, and prints a line for each domain.

    Args:
        data_dir: Folder of the converted domains.
        output_dir: Folder to write; has no index yet.
        domains: Which of them; those of `DOMAINS` that are there, if empty.
        split: Of their images: one that the networks were not trained on.
        most: Images of a domain, at most, spread evenly over the split.

    Raises:
        DataError: if there is no such domain or split, an image cannot be decoded, or `output_dir` has an index.
        FileNotFoundError, ValueError: as `DatasetInfo.load`.
    """
    if (output_dir / INDEX_FILE).exists():
        raise DataError(f"--output_dir: {output_dir} holds concepts already")
    known = converted_domains(data_dir)
    check_known(domains, known, data_dir)
    chosen = list(domains) or [domain for domain in DOMAINS if domain in known]
    if not chosen:
        raise DataError(f"--data_dir: {data_dir} holds none of {', '.join(DOMAINS)}; --domains names others")
    infos = {domain: DatasetInfo.load(data_dir, domain) for domain in chosen}
    for domain, info in infos.items():
        if split not in info.splits or not info.splits[split].labelled:
            raise DataError(
                f"--split: domain {domain!r} has no labelled split {split!r}; it has {', '.join(info.splits)}"
            )
    writer = ConceptWriter(output_dir, CATEGORIES)
    for domain, info in infos.items():
        labelling = LABELLINGS.get(domain, OTHER)
        total, left_out = min(most, info.splits[split].num_examples), 0
        with progress_line(domain, total) as report:
            for number, (pixels, text) in enumerate(_images(info, data_dir, split, most)):
                labels = labelling.labels(pixels, text)
                if labels is None:
                    left_out += 1
                else:
                    writer.add(f"{domain}/{number:05d}", split, pixels, labels)
                report(1, split)
        told = f", {left_out} left out whose ink cannot be told from the ground" if left_out else ""
        print(f"{domain}: {total - left_out} images, {labelling.name}{told}")
    writer.close()


def ink(pixels: np.ndarray, light: bool | None) -> np.ndarray | None:
    """Returns where an image of a character has ink, bool (height, width), or None where this cannot be told.

    Brightness is cut where that explains most of its variance (Otsu, 1979).

    Args:
        pixels: uint8 (height, width, 3).
        light: Whether ink is lighter than its ground; None: it is the side that less of the image's border is of.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    counts = np.bincount(grey.ravel(), minlength=256) / grey.size
    below = np.cumsum(counts)
    mean_below, mean = np.cumsum(counts * np.arange(256)), counts @ np.arange(256)
    variance = counts @ (np.arange(256) - mean) ** 2
    inside = (below > 0) & (below < 1)
    if not inside.any():
        return None
    between = np.zeros(256)
    between[inside] = (mean * below - mean_below)[inside] ** 2 / (below * (1 - below))[inside]
    if between.max() < CLEAR_INK * variance:
        return None
    lighter = grey > between.argmax()
    if light is None:
        border = np.concatenate([lighter[0], lighter[-1], lighter[1:-1, 0], lighter[1:-1, -1]])
        light = border.mean() < 0.5
    return lighter if light else ~lighter


def _images(info: DatasetInfo, data_dir, split, most) -> Iterator[tuple[np.ndarray, str]]:
    """Yields pixels and the name of the class of images of a split, spread evenly over it."""
    count = info.splits[split].num_examples
    wanted = set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist())
    number = 0
    for path in info.shard_paths(data_dir, split):
        try:
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                if number in wanted:
                    fields = tf.io.parse_single_example(record, FIELDS)
                    with Image.open(io.BytesIO(fields["image/encoded"].numpy())) as image:
                        yield np.asarray(image.convert("RGB")), fields["image/class/text"].numpy().decode()
                number += 1
        except (tf.errors.OpError, OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: a record of split {split!r} cannot be read ({error})") from error
