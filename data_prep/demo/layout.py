"""Writing drawn domains in the layout of the Visual Decathlon."""

import concurrent.futures
import io
import json
import pathlib
from collections.abc import Mapping

import numpy as np

from data_prep.demo.domains import DOMAINS, DemoDomain
from data_prep.plan import SPLITS, DataError, seeded
from data_prep.sources.decathlon import ANNOTATIONS_DIR

LABELS_DIR = "labels"  # not where the converter looks
_FIRST_IMAGE = 200_000
_JPEG_QUALITY = 90


def make_demo(output_dir: pathlib.Path, seed: int, domains: Mapping[str, DemoDomain] = DOMAINS) -> None:
    """Writes domains as annotations, images and labels, and prints a line for each.

    Args:
        output_dir: Folder to write annotations/, data/ and labels/ into.
        seed: Seed of every drawing.
        domains: What to draw.

    Raises:
        DataError: if `output_dir` holds something already.
    """
    if output_dir.exists() and any(output_dir.iterdir()):
        raise DataError(f"--output_dir: {output_dir} is not empty")
    for folder in (ANNOTATIONS_DIR, LABELS_DIR):
        (output_dir / folder).mkdir(parents=True)
    with concurrent.futures.ProcessPoolExecutor() as pool:
        written = [pool.submit(_write_domain, output_dir, name, domain, seed) for name, domain in domains.items()]
        for (name, domain), future in zip(domains.items(), written, strict=True):
            future.result()
            train, val, test = domain.sizes
            print(f"{name}: train {train:,}  val {val}  test {test}  {len(domain.label_names)} classes")


def _write_domain(output_dir: pathlib.Path, name: str, domain: DemoDomain, seed: int) -> None:
    random = seeded(seed, name)
    categories = [
        {"id": domain.domain_id * 10**7 + label + 1, "name": text, "supercategory": name}
        for label, text in enumerate(domain.label_names)
    ]
    drawn = [0] * len(categories)
    image_id = domain.domain_id * 10**7 + _FIRST_IMAGE
    for split, size in zip(SPLITS, domain.sizes, strict=True):
        # As many of every class; test images in random order, since their names must not tell the label.
        labels = np.arange(size) % len(categories)
        labels = random.permutation(labels) if split == "test" else np.sort(labels)
        images, annotations = [], []
        for number, label in enumerate(labels.tolist(), start=1):
            image_id += 1
            image = domain.draw(label, drawn[label], random)
            drawn[label] += 1
            place = f"data/{name}/{split}" + ("" if split == "test" else f"/{label + 1:04d}")
            path = output_dir / place / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            target = io.BytesIO()
            image.save(target, "JPEG", quality=_JPEG_QUALITY)
            path.write_bytes(target.getvalue())
            images.append(
                {
                    "id": image_id,
                    "width": image.width,
                    "height": image.height,
                    "file_name": f"{place}/{path.name}",
                }
            )
            annotations.append({"id": image_id, "image_id": image_id, "category_id": categories[label]["id"]})
        contents = {"images": images, "annotations": annotations, "categories": categories}
        if split == "test":
            _write_json(output_dir / LABELS_DIR / f"{name}_test.json", contents)
            contents = {"images": images, "categories": categories}
        suffix = "test_stripped" if split == "test" else split
        _write_json(output_dir / ANNOTATIONS_DIR / f"{name}_{suffix}.json", contents)


def _write_json(path: pathlib.Path, contents: dict) -> None:
    path.write_text(json.dumps(contents) + "\n")
