"""A small Visual Decathlon on disk, in each of its layouts, and the converter as command and function."""

import dataclasses
import io
import json
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from data_prep.config import ConvertConfig
from data_prep.conversion import convert
from faults.commands import run_command

REPOSITORY = pathlib.Path(__file__).parents[2]
SPLIT_SIZES = {"train": 9, "val": 4, "test": 3}


def encode(pixels: np.ndarray, image_format: str = "JPEG") -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, image_format)
    return target.getvalue()


@dataclasses.dataclass
class FakeDecathlon:
    """The layout with annotation files and image folders; tests spoil it, or turn it into another layout."""

    root: pathlib.Path

    def add_domain(self, name: str, domain_id: int, sizes=SPLIT_SIZES) -> None:
        random = np.random.default_rng(domain_id)
        first = domain_id * 10**7
        # Names whose order is not that of the ids, and ids that are listed in no order.
        names = ["class 10", "class 9", "class 1"]
        categories = [{"id": first + i, "name": names[i - 1], "supercategory": name} for i in (2, 3, 1)]
        image_id = first + 200_000
        for split, size in sizes.items():
            images, annotations = [], []
            for number in range(1, size + 1):
                image_id += 1
                category = 1 + (number * 7) % 3
                folder = f"data/{name}/{split}" + ("" if split == "test" else f"/{category:04d}")
                shape = (24, 30, 3) if number % 4 else (20, 16)
                image_format = "PNG" if number % 5 == 0 else "JPEG"
                path = self.root / folder / f"{number:06d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(random.integers(0, 256, shape, np.uint8), image_format))
                images.append({"id": image_id, "file_name": f"{folder}/{path.name}"})
                annotations.append({"id": image_id, "image_id": image_id, "category_id": first + category})
            contents = {"images": images, "annotations": annotations, "categories": categories}
            if split == "test":
                del contents["annotations"]
            self.write_annotations(name, "test_stripped" if split == "test" else split, contents)

    def annotation_path(self, name: str, split: str) -> pathlib.Path:
        return self.root / "annotations" / f"{name}_{split}.json"

    def annotations(self, name: str, split: str) -> dict:
        return json.loads(self.annotation_path(name, split).read_text())

    def write_annotations(self, name: str, split: str, contents: dict) -> None:
        path = self.annotation_path(name, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(contents))

    def image(self, name: str, split: str, number: int) -> pathlib.Path:
        return self.root / self.annotations(name, split)["images"][number]["file_name"]

    def tar_of(self, name: str) -> bytes:
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as tar:
            tar.add(self.root / "data" / name, name)
        return target.getvalue()

    def to_tars(self, root: pathlib.Path) -> "FakeDecathlon":
        """Copies to the layout with one tar for each domain."""
        fake = FakeDecathlon(root)
        self._copy_annotations(fake)
        (root / "data").mkdir()
        for domain in (self.root / "data").iterdir():
            (root / "data" / f"{domain.name}.tar").write_bytes(self.tar_of(domain.name))
        return fake

    def to_release(self, root: pathlib.Path, nested: bool) -> "FakeDecathlon":
        """Copies to the release's archives, which hold tars of the domains if `nested`, else folders."""
        root.mkdir()
        with tarfile.open(root / "decathlon-1.0-devkit.tar.gz", "w:gz") as tar:
            tar.add(self.root / "annotations", "decathlon-1.0/annotations")
        with tarfile.open(root / "decathlon-1.0-data.tar.gz", "w:gz") as tar:
            for domain in sorted((self.root / "data").iterdir()):
                if domain.name == "imagenet12":
                    continue
                if nested:
                    contents = self.tar_of(domain.name)
                    member = tarfile.TarInfo(f"{domain.name}.tar")
                    member.size = len(contents)
                    tar.addfile(member, io.BytesIO(contents))
                else:
                    tar.add(domain, f"./data/{domain.name}")
        with tarfile.open(root / "decathlon-1.0-data-imagenet.tar", "w") as tar:
            tar.add(self.root / "data" / "imagenet12", "imagenet12")
        return FakeDecathlon(root)

    def _copy_annotations(self, fake: "FakeDecathlon") -> None:
        for path in (self.root / "annotations").iterdir():
            name, _, split = path.stem.partition("_")
            fake.write_annotations(name, split, json.loads(path.read_text()))


@pytest.fixture
def decathlon(tmp_path):
    """Two domains, `left` and `imagenet12`, with 9, 4 and 3 images."""
    fake = FakeDecathlon(tmp_path / "decathlon")
    fake.add_domain("left", 1)
    fake.add_domain("imagenet12", 6)
    return fake


def conversion(input_dir, output_dir, **options) -> ConvertConfig:
    """Returns a conversion with the command line's defaults."""
    defaults = {
        "source": "decathlon",
        "domains": (),
        "splits": ("train", "val", "test"),
        "workers": 2,
        "shard_mb": 64,
        "resize_shorter": None,
        "seed": 0,
        "on_error": "fail",
        "overwrite": False,
    }
    return ConvertConfig(input_dir=input_dir, output_dir=output_dir, **(defaults | options))


@pytest.fixture
def convert_here(tmp_path):
    """Converts in this process, with the command line's defaults."""

    def call(input_dir, output_dir="records", **options):
        convert(conversion(input_dir, tmp_path / output_dir, **options))
        return tmp_path / output_dir

    return call


@pytest.fixture
def run_tool(tmp_path):
    """Runs a tool of data_prep as a user would, from another folder; a limit on its files does for a full disk."""

    def call(tool, *arguments, max_file_bytes=None):
        return run_command(
            REPOSITORY / "data_prep" / tool, *arguments, cwd=tmp_path, timeout=120, max_file_bytes=max_file_bytes
        )

    return call
