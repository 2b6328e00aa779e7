"""What is spoiled, what reads it, and what it means: one class per kind of input.

A kind writes sound files once (`make`), spoils a copy of them (`spoil`), reads it with the function that a command
reads it with (`read`), and says what is wrong with what was read (`fault`): it must be what was there before, where a
hash or a checksum vouches for that (`strict`); else what an independent reader finds in the spoiled file.
"""

import dataclasses
import io
import json
import os
import pathlib
import tarfile

import numpy as np

from faults import formats, mutations
from faults.kind import MIB, JsonKind, Kind, difference, plainly
from faults.served import Manifest, Reply, Request, Version

_READ_TO_THE_END = 64 * MIB  # zeros behind a file that is read to its end, whatever its length


class Info(JsonKind):
    """dataset_info.json; most structural cases have the hash of what they hold, or none, as earlier versions."""

    name, file, weight = "info", "pets/dataset_info.json", 20

    def make(self, folder):
        write_domain(folder)

    def read(self, folder):
        from tfmdl.data.records import DatasetInfo

        return json.loads(json.dumps(dataclasses.asdict(DatasetInfo.load(folder, "pets"))))

    def spoil(self, folder, rng):
        path = folder / self.file
        if rng.random() < 0.4:
            told, _ = super().spoil(folder, rng)
            # The hash is over what the file says: white space and order of numbers' digits are no part of it.
            return told, True
        content = self.content(path)
        del content["sha256"]
        text, told = mutations.spoil_json(content, rng)
        if rng.random() < 0.7:
            from tfmdl.data import records

            try:
                spoiled = plainly(text)
                text = json.dumps(spoiled | {"sha256": records._content_hash(spoiled)}).encode()
            except Exception:
                pass
        path.write_bytes(text)
        return f"{told}, hash right or none", False

    def fault(self, folder, found, strict):
        if strict and found != self.sound:
            text = (folder / self.file).read_bytes()
            if b'"sha256": "' in text and "sha256" in plainly(text):
                return "is accepted with a hash, and is not what was written"
        return super().fault(folder, found, False)

    def said(self, folder):
        return {key: value for key, value in plainly((folder / self.file).read_bytes()).items() if key != "sha256"}


class Config(JsonKind):
    """config.json of a run."""

    name, file = "config", "config.json"

    def make(self, folder):
        from tfmdl.config import RunConfig
        from tfmdl.files import write_json

        write_json(folder / self.file, {"run": RunConfig(("pets",), "data", "run").to_json(), "tool_version": "0"})

    def read(self, folder):
        from tfmdl.config import load_config

        return load_config(folder).to_json()

    def said(self, folder):
        return plainly((folder / self.file).read_bytes())["run"]


class Campaign(JsonKind):
    """campaign.json: accepted only where it is of the same campaign."""

    name, file, lines = "campaign", "campaign.json", True

    @property
    def named(self):
        return (self.file, "holds a campaign with other settings")

    def _config(self, folder):
        from tfmdl.campaign.plan import CampaignConfig

        return CampaignConfig("data", str(folder), "base", ("pets",), ("individual",), epochs=3)

    def make(self, folder):
        from tfmdl.campaign.plan import claim

        claim(self._config(folder))

    def read(self, folder):
        from tfmdl.campaign.plan import claim

        path = folder / self.file
        self._text = path.read_bytes() if path.is_file() and path.stat().st_size < MIB else b"{}"
        claim(self._config(folder))
        return json.loads(path.read_bytes())

    def said(self, folder):
        said = plainly(self._text)
        return {key: said[key] for key in said if key in self.sound}


class Metrics(JsonKind):
    """metrics.jsonl of a run, a line of which is spoiled."""

    name, file = "metrics", "metrics.jsonl"

    def make(self, folder):
        from tfmdl.training.metrics import append_metrics

        for epoch in (1, 2, 3):
            line = {"epoch": epoch, "step": 5 * epoch, "train/loss": 1.5, "images_per_second": 9.5}
            append_metrics(folder / self.file, line)

    def read(self, folder):
        from tfmdl.training.metrics import read_metrics

        return read_metrics(folder / self.file)

    def spoil(self, folder, rng):
        path = folder / self.file
        if rng.random() < 0.4:
            odd = rng.random() < 0.2
            return super().spoil(folder, rng) if odd else (mutations.rewrite(path, mutations.spoil_bytes, rng), False)
        lines = path.read_bytes().splitlines()
        number = rng.randrange(3)
        lines[number], told = mutations.spoil_json(json.loads(lines[number]), rng)
        path.write_bytes(b"\n".join(lines) + b"\n")
        return told, False

    def content(self, path):
        return json.loads(path.read_bytes().splitlines()[0])

    def said(self, folder):
        path = folder / self.file
        return [plainly(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    def fault(self, folder, found, strict):
        path = folder / self.file
        if strict and not os.path.lexists(path):
            return None if found == [] else "is not there, and is read"
        return super().fault(folder, found, strict and mutations.is_odd(path))


class Percentages(JsonKind):
    """Accuracies by domain, as tfmdl.score takes them, from a pipe too."""

    name, file, pipes = "accuracies", "accuracies.json", False

    def make(self, folder):
        (folder / self.file).write_text(json.dumps({"aircraft": 40.5, "dtd": 30, "svhn": 95.25, "pets": 7.0}))

    def read(self, folder):
        from tfmdl.evaluation.decathlon import read_percentages

        return read_percentages(str(folder / self.file))

    def said(self, folder):
        return {name: float(value) / 100 for name, value in plainly((folder / self.file).read_bytes()).items()}


class Labels(JsonKind):
    """Labels of a test split."""

    name, file = "labels", "pets_test.json"

    def make(self, folder):
        entries = [{"image_id": 100 + i, "category_id": 70 + 10 * (i % 2)} for i in range(6)]
        (folder / self.file).write_text(json.dumps({"annotations": entries, "images": []}))

    def read(self, folder):
        from tfmdl.evaluation.submission import read_labels

        return {str(image): label for image, label in read_labels(folder, "pets", [70, 80]).items()}

    def said(self, folder):
        entries = plainly((folder / self.file).read_bytes())["annotations"]
        said = {str(entry["image_id"]): [70, 80].index(entry["category_id"]) for entry in entries}
        assert len(said) == len(entries), "an image twice"
        return said


class Image(Kind):
    """An image file: bytes, and fields of its format; half of the cases are resized."""

    name, weight, mib = "image", 30, 2048
    named = ("",)  # the converter puts the file's name before the reason: the kind `folder` looks at that

    def make(self, folder):
        for name, content in formats.sound_images().items():
            (folder / name).write_bytes(content)

    def read(self, folder):
        from data_prep.images import prepare_images

        path = next(iter(sorted(folder.iterdir())))
        (found,) = prepare_images([path.read_bytes()], getattr(self, "_shorter", None))
        if isinstance(found, str):
            if not found.isprintable():
                raise AssertionError(f"a reason that cannot be printed: {found!r}")
            raise ValueError(found)
        return found

    def spoil(self, folder, rng):
        self._shorter = rng.choice((None, None, 10, 300))
        path = rng.choice(sorted(folder.iterdir()))
        for other in folder.iterdir():
            if other != path:
                other.unlink()
        how = formats.spoil_image if rng.random() < 0.6 else mutations.spoil_bytes
        return f"{path.name}: {mutations.rewrite(path, how, rng)}", False

    def fault(self, folder, found, strict):
        from data_prep.headers import MAX_PIXELS
        from data_prep.images import check_images

        if not 1 <= found.height * found.width <= MAX_PIXELS:
            return f"is accepted with {found.width}x{found.height} pixels"
        (again,) = check_images([found.encoded])
        if isinstance(again, str) or any(not np.array_equal(a, b) for a, b in zip(found, again, strict=True)):
            return f"is accepted, and what was made of it is not: {again!r:.200}"
        return _other_decoder(found)


def _other_decoder(found):
    """Returns how Pillow's pixels differ from what was found, of formats without loss; None where it reads none."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(found.encoded)) as image:
            image.load()
            size, mode, plain = image.size, image.mode, "transparency" not in image.info
            pixels = np.asarray(image.convert("RGB"), np.int64)
    except Exception:
        return None
    if found.format in ("png", "bmp", "jpeg") and size != (found.width, found.height):
        return f"is accepted as {found.width}x{found.height}; Pillow sees {size[0]}x{size[1]}"
    if found.format in ("png", "bmp") and mode in ("RGB", "L", "P") and plain:
        sums = pixels.sum((0, 1))
        if np.abs(sums - found.pixel_sum).max() > pixels[..., 0].size:
            return f"is accepted with pixels {found.pixel_sum.tolist()}; Pillow sees {sums.tolist()}"
    return None


class Folder(Kind):
    """A folder of classes with an image that is spoiled, converted whole."""

    name, weight, mib = "folder", 3, 2048
    named = ("pets/",)

    def make(self, folder):
        images = formats.sound_images()
        for number in range(4):
            for label in ("cat", "dog"):
                path = folder / "in" / "pets" / "train" / label / f"{number}.img"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(list(images.values())[number * 4 + (label == "dog")])

    def read(self, folder):
        _convert(folder / "in", folder / "out", "folder", ("train",))
        from data_prep.verification import verify

        if not verify(folder / "out", ["pets"], 1):
            raise AssertionError("what was written does not verify")
        from tfmdl.data.records import DatasetInfo

        return DatasetInfo.load(folder / "out", "pets").splits["train"].per_class

    def ready(self, folder):
        import shutil

        super().ready(folder)
        shutil.rmtree(folder / "out")

    def spoil(self, folder, rng):
        path = rng.choice(sorted((folder / "in").rglob("*.img")))
        draw = rng.random()
        if draw < 0.15:
            return f"{path.name}: {mutations.spoil_file(path, rng)}", False
        how = formats.spoil_image if draw < 0.6 else mutations.spoil_bytes
        return f"{path.name}: {mutations.rewrite(path, how, rng)}", False

    def fault(self, folder, found, strict):
        whole = len(list((folder / "in").rglob("*.img"))) == 8  # one may be there no longer, which nothing can tell
        return f"{found} images are written, not {self.sound}" if whole and found != self.sound else None


class Annotations(JsonKind):
    """Annotations of a release."""

    name, weight = "annotations", 20
    file = "annotations/left_train.json"

    @property
    def named(self):
        # The last where the file is gone: then the folder is named, and what it lacks.
        return ("left_train.json", "left: left/", "left: image_id", "left: data/", "annotations/<domain>_train.json")

    def make(self, folder):
        write_release(folder)

    def read(self, folder):
        from data_prep.sources.decathlon import DecathlonSource

        plan = DecathlonSource(folder, ("left",), ("train", "val")).plan("left")
        plan.check(allow_absent=False)
        return {
            "labels": plan.label_names,
            "ids": plan.category_ids,
            "images": {
                f"{split}/{reference.image_id}": [reference.label, reference.name]
                for split, references in plan.splits.items()
                for reference in references
            },
        }

    def spoil(self, folder, rng):
        path = folder / self.file
        if rng.random() < 0.3:
            return super().spoil(folder, rng)
        return self.spoil_structure(path, rng), False

    def said(self, folder):
        said = {"labels": [], "ids": [], "images": {}}
        for split in ("train", "val"):
            content = plainly((folder / f"annotations/left_{split}.json").read_bytes())
            classes = sorted((category["id"], category["name"]) for category in content["categories"])
            said["ids"], said["labels"] = [one[0] for one in classes], [one[1] for one in classes]
            label = {one["image_id"]: said["ids"].index(one["category_id"]) for one in content["annotations"]}
            for image in content["images"]:
                parts = [part for part in image["file_name"].split("/") if part not in ("", ".")]
                said["images"][f"{split}/{image['id']}"] = [label[image["id"]], "/".join(parts[1:])]
        return said

    def fault(self, folder, found, strict):
        said = self.said(folder) if not mutations.is_odd(folder / self.file) else self.sound
        fault = difference(said, found)
        return fault or (None if len(said["images"]) == len(found["images"]) else "images come from nowhere")


class Tar(Kind):
    """A tar of a domain's images, read where it is."""

    name, weight = "tar", 20
    file = "data/left.tar"
    named = ("left.tar", "left: left/", "left: no images")

    def make(self, folder):
        write_release(folder)
        _tar(folder / "data" / "left", folder / "data" / "left.tar", "left")
        (folder / "data" / "left").rename(folder / "data" / "unpacked")

    def read(self, folder):
        from data_prep.sources import stores
        from data_prep.sources.decathlon import DecathlonSource

        stores._index.cache_clear()
        stores._archive_sha256.cache_clear()
        plan = DecathlonSource(folder, ("left",), ("train", "val")).plan("left")
        plan.check(allow_absent=False)
        return {plan.splits[raw.split][raw.index].name: raw.encoded for raw in plan.read()}

    def spoil(self, folder, rng):
        path = folder / self.file
        draw = rng.random()
        if draw < 0.05:
            return mutations.spoil_file(path, rng, hole=_READ_TO_THE_END), True
        how = mutations.spoil_bytes if draw < 0.4 else formats.spoil_tar
        return mutations.rewrite(path, how, rng), False

    def fault(self, folder, found, strict):
        if strict:
            return super().fault(folder, found, strict)
        if found.keys() != self.sound.keys():
            return f"{len(found)} images are read, {len(self.sound)} are annotated"
        with tarfile.open(folder / self.file) as tar:
            files = [member for member in tar.getmembers() if member.isfile()]
            there = {"/".join(p for p in m.name.split("/") if p not in ("", ".", "data")): m for m in files}
            for name, encoded in found.items():
                if name not in there or tar.extractfile(there[name]).read() != encoded:
                    return f"{name} is not read as tarfile reads it"
        return None


class Release(Tar):
    """The release's gzipped archive of tars, and the devkit's."""

    name, weight = "release", 10
    archives = ("decathlon-1.0-data.tar.gz", "decathlon-1.0-devkit.tar.gz")
    named = (*archives, "left: left/", "left: no images", "annotations")

    def make(self, folder):
        super().make(folder)
        import gzip

        inner = (folder / "data" / "left.tar").read_bytes()
        (folder / "inner.tar").write_bytes(inner)
        (folder / "decathlon-1.0-data.tar.gz").write_bytes(gzip.compress(_tar_of("left.tar", inner), mtime=0))
        devkit = io.BytesIO()
        with tarfile.open(fileobj=devkit, mode="w") as tar:
            tar.add(folder / "annotations", "decathlon-1.0/annotations", filter=_plain_member)
        (folder / "decathlon-1.0-devkit.tar.gz").write_bytes(gzip.compress(devkit.getvalue(), mtime=0))
        import shutil

        shutil.rmtree(folder / "annotations")
        shutil.rmtree(folder / "data")

    def spoil(self, folder, rng):
        import gzip

        path = folder / rng.choice(self.archives)
        draw = rng.random()
        if draw < 0.05:
            return mutations.spoil_file(path, rng, hole=_READ_TO_THE_END), True
        if draw < 0.5:
            return f"{path.name}: {mutations.rewrite(path, mutations.spoil_bytes, rng)}", True
        if draw < 0.75:
            content, told = formats.spoil_tar(gzip.decompress(path.read_bytes()), rng)
        else:
            path = folder / "decathlon-1.0-data.tar.gz"
            content, told = formats.spoil_tar((folder / "inner.tar").read_bytes(), rng)
            content = _tar_of("left.tar", content)
        path.write_bytes(gzip.compress(content, mtime=0))
        return f"{path.name}: {told}", True


class RecordsVerified(Kind):
    """A shard, as verify.py reads it: its hash must tell any change."""

    name, weight, mib = "records-verified", 5, 2048
    named = ("pets-train-00000-of-00001.tfrecord", "split train")

    def make(self, folder):
        write_domain(folder)

    def read(self, folder):
        from data_prep.verification import _faults
        from tfmdl.data.records import DatasetInfo

        info = DatasetInfo.load(folder, "pets")
        faults = _faults(folder / "pets", info, 1)
        if faults:
            for fault in faults:
                if "\n" in fault:
                    raise AssertionError(f"a fault of several lines: {fault!r}")
            raise ValueError(faults[0])
        return formats.records_of((folder / "pets" / self.named[0]).read_bytes())

    def spoil(self, folder, rng):
        path = folder / "pets" / self.named[0]
        draw = rng.random()
        if draw < 0.05:
            return mutations.spoil_file(path, rng, hole=_READ_TO_THE_END), True
        how = mutations.spoil_bytes if draw < 0.5 else formats.spoil_records
        return mutations.rewrite(path, how, rng), True


class RecordsRead(RecordsVerified):
    """A shard, as training and evaluation read it; where a record is spoiled, info and checksums vouch for it."""

    name, weight = "records-read", 1
    named = ("pets-train-00000-of-00001.tfrecord", "domain 'pets'")

    def read(self, folder):
        from tfmdl.data.pipeline import Source, TrainPipeline, evaluation_batches, naming_bad_records
        from tfmdl.data.preprocessing import Preprocessing
        from tfmdl.data.records import DatasetInfo

        info = DatasetInfo.load(folder, "pets")
        source = Source.of(folder, info, ("train",), Preprocessing(16, 16, 16, 16, (0.5,) * 3, (0.2,) * 3))
        found = []
        with naming_bad_records([source]):
            for batches in (TrainPipeline([source], 4, 0).epoch(0), evaluation_batches([source], 4)):
                batches = list(batches.as_numpy_iterator())
                ids, labels = (np.concatenate([b[key] for b in batches]).tolist() for key in ("image_id", "label"))
                assert all(np.isfinite(batch["image"]).all() for batch in batches)
                found.append(sorted(zip(ids, labels, strict=True)))
        if found[0] != found[1]:
            raise AssertionError("training and evaluation do not see the same records")
        return found[0]

    def spoil(self, folder, rng):
        path = folder / "pets" / self.named[0]
        if rng.random() < 0.4:  # with records that are sound, if other ones, only verify.py finds them changed
            return mutations.rewrite(path, mutations.spoil_bytes, rng), True
        from tfmdl.data.records import DatasetInfo

        told = mutations.rewrite(path, formats.spoil_records, rng)
        info = DatasetInfo.load(folder, "pets")
        split = info.splits["train"]
        shard = dataclasses.replace(split.shards[0], num_bytes=path.stat().st_size)
        splits = {**info.splits, "train": dataclasses.replace(split, shards=[shard])}
        dataclasses.replace(info, splits=splits).save(folder / "pets")
        return told, False

    def fault(self, folder, found, strict):
        if strict:
            return super().fault(folder, found, strict)
        bad = [label for _, label in found if not 0 <= label < 2]
        if bad:
            return f"label {bad[0]} of 2 classes is accepted"
        said = []
        import tensorflow as tf

        for record in formats.records_of((folder / "pets" / self.named[0]).read_bytes()):
            feature = tf.train.Example.FromString(record).features.feature
            said.append(tuple(feature[f"image/{key}"].int64_list.value[0] for key in ("source_id", "class/label")))
        return None if sorted(said) == found else f"says {sorted(said)}, is read as {found}"


class Tensors(Kind):
    """A file of tensors: bytes; fields of the format and of our header, for which the hash vouches then."""

    file = ""

    @property
    def named(self):
        return (self.file,)

    def spoil(self, folder, rng):
        path = folder / self.file
        draw = rng.random()
        content = path.read_bytes()
        if draw < 0.04:
            return mutations.spoil_file(path, rng), True
        if draw < 0.4:
            content, told = mutations.spoil_bytes(content, rng)
        elif draw < 0.6:
            content, told = formats.spoil_tensors(content, rng)
        else:
            header = json.loads(formats.split_tensors(content)[0]["__metadata__"]["tfmdl"])
            text, told = mutations.spoil_json(header, rng)
            content = formats.with_header(content, text.decode(errors="replace"))
        path.write_bytes(content)
        return told, draw < 0.4

    def said(self, folder):
        from safetensors.numpy import load

        content = (folder / self.file).read_bytes()
        outer, _ = formats.split_tensors(content)
        header = plainly(outer["__metadata__"]["tfmdl"])
        return {
            "header": {key: value for key, value in header.items() if key in self.sound["header"]},
            "tensors": _digests(load(content)),
        }


class Trunk(Tensors):
    """A trunk."""

    name, file, weight = "trunk", "trunk.safetensors", 10

    def make(self, folder):
        _write_network(folder)

    def read(self, folder):
        from tfmdl.packs.format import read_trunk

        trunk = read_trunk(folder / self.file)
        header = {"base_domain": trunk.base_domain, "architecture": trunk.architecture.to_json(), "preprocessing": None}
        if trunk.preprocessing:
            header["preprocessing"] = dataclasses.asdict(trunk.preprocessing)
        return {"header": header, "tensors": _digests(trunk.tensors)}


class Pack(Tensors):
    """A pack."""

    name, file, weight = "pack", "packs/pets.safetensors", 20
    named = (file, "has no packs/*.safetensors")  # the only one, so that the folder is named where it is gone

    def make(self, folder):
        _write_network(folder)

    def read(self, folder):
        from tfmdl.packs.format import read_packs

        (pack,) = read_packs(folder)
        header = dataclasses.asdict(dataclasses.replace(pack, tensors={}))
        header["architecture"] = pack.architecture.to_json()
        return {
            "header": {key: value for key, value in header.items() if key not in ("path", "tensors")},
            "tensors": _digests(pack.tensors),
        }


class Checkpoint(Tensors):
    """The checkpoint of a run, the only one."""

    name, file, weight = "checkpoint", "checkpoints/step-000000007.safetensors", 10

    @property
    def named(self):
        return (self.file,)

    def make(self, folder):
        from tfmdl.training.checkpoints import Checkpoint, Checkpoints

        tensors = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.array(7), "c": np.zeros(0, "uint8")}
        Checkpoints(folder / "checkpoints").save(Checkpoint(7, True, 1.5, tensors))

    def read(self, folder):
        from tfmdl.training.checkpoints import Checkpoints

        found, _ = Checkpoints(folder / "checkpoints").newest()
        if found is None:
            return None
        header = {name: getattr(found, name) for name in ("step", "mid_epoch", "epoch_seconds")}
        return {"header": header, "tensors": _digests(found.tensors)}

    def fault(self, folder, found, strict):
        if not os.path.lexists(folder / self.file):
            return None if found is None else "is not there, and is read"
        return super().fault(folder, found, strict)


class Start(Tensors):
    """The weights that a run's steps begin with."""

    name, file, weight = "start", "start.safetensors", 5

    def _folder(self, folder):
        import keras

        from tfmdl.training.run_folder import RunFolder

        if not hasattr(self, "_network"):
            self._network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="head")])
        return RunFolder(folder)

    def make(self, folder):
        self._folder(folder).save_start(self._network)

    def read(self, folder):
        run = self._folder(folder)
        return {"header": {}, "tensors": _digests(run.read_start(self._network))}


class Network(Tensors):
    """A trunk that says how it is wired, layer by layer: the model is made of it, and gives features of an image."""

    name, file, weight = "network", "trunk.safetensors", 5
    named = ("trunk.safetensors", "step ", "`network`")

    def make(self, folder):
        from tfmdl.architecture import Architecture
        from tfmdl.backbones import Network
        from tfmdl.model import MultiDomainClassifier
        from tfmdl.packs import write_trunk

        architecture = Architecture(backbone="keras", network=Network.of(formats.keras_network()))
        write_trunk(folder / self.file, MultiDomainClassifier({"pets": 2}, architecture), "pets")

    def read(self, folder):
        from tfmdl.model import MultiDomainClassifier
        from tfmdl.packs import initialize, read_trunk

        trunk = read_trunk(folder / self.file)
        model = MultiDomainClassifier({"cars": 3}, trunk.architecture)
        initialize(model, trunk)
        features = np.asarray(model.extractor("cars")(np.zeros((1, 16, 16, 3), "float32")))
        assert features.shape == (1, model.num_features), "the features are not as many as the network says"
        header = {"base_domain": trunk.base_domain, "architecture": trunk.architecture.to_json()}
        return {"header": header, "tensors": _digests(trunk.tensors)}

    def spoil(self, folder, rng):
        if rng.random() < 0.2:
            return super().spoil(folder, rng)
        path = folder / self.file
        content = path.read_bytes()
        header = json.loads(formats.split_tensors(content)[0]["__metadata__"]["tfmdl"])
        text, told = mutations.spoil_json(header["architecture"]["network"], rng)
        header["architecture"]["network"] = "spoiled"
        text = json.dumps(header).replace('"spoiled"', text.decode(errors="replace"))
        path.write_bytes(formats.with_header(content, text))
        return f"network: {told}", False


KINDS: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (
        Annotations, Tar, Release, Percentages, Labels, Metrics, Checkpoint, Start, Reply, Trunk, Network, Pack, Config,
        Info, Campaign, Manifest, Version, Image, Folder, RecordsVerified, RecordsRead, Request,
    )
}  # fmt: skip


def write_domain(folder: pathlib.Path) -> None:
    """Writes a converted domain of eight small images and two classes."""
    Folder().make(folder)
    _convert(folder / "in", folder, "folder", ("train",))
    import shutil

    shutil.rmtree(folder / "in")


def write_release(folder: pathlib.Path) -> None:
    """Writes a release of one domain, with annotations of train and val."""
    images = list(formats.sound_images().values())
    image_id = 100
    for split in ("train", "val"):
        content = {"images": [], "annotations": [], "categories": [{"id": 12, "name": "b"}, {"id": 11, "name": "a"}]}
        for number in range(3):
            image_id += 1
            name = f"data/left/{split}/{11 + number % 2:04d}/{number}.jpg"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images[number])
            content["images"].append({"id": image_id, "file_name": name})
            content["annotations"].append({"id": image_id, "image_id": image_id, "category_id": 11 + number % 2})
        path = folder / "annotations" / f"left_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def _convert(input_dir, output_dir, source, splits):
    from data_prep.config import ConvertConfig
    from data_prep.conversion import convert

    convert(
        ConvertConfig(
            source=source, input_dir=input_dir, output_dir=output_dir, domains=(), splits=splits, workers=1,
            shard_mb=64, resize_shorter=None, seed=0, on_error="fail", overwrite=False,
        )
    )  # fmt: skip


def _plain_member(member):
    member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode = 0, 0, 0, "", "", 0o644
    return member


def _tar(folder, path, name):
    with tarfile.open(path, "w") as tar:
        tar.add(folder, name, filter=_plain_member)


def _tar_of(name, content):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def _write_network(folder):
    """Writes the trunk and the pack of a network of a few variables: what is in it does not matter to its files."""
    from tfmdl.architecture import Architecture
    from tfmdl.data.preprocessing import Preprocessing
    from tfmdl.files import fingerprint, write_tensors

    rng = np.random.default_rng(0)
    shapes = {"a/kernel": (3, 3, 4), "b/bias": (4,)}
    tensors = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    architecture = Architecture(width=4, blocks_per_stage=1).to_json()
    preprocessing = dataclasses.asdict(Preprocessing(16, 16, 16, 16, (0.5,) * 3, (0.2,) * 3))
    version = {"tool_version": "0"}
    trunk = {"base_domain": "pets", "architecture": architecture, "preprocessing": preprocessing}
    write_tensors(folder / "trunk.safetensors", tensors, {"kind": "trunk", **trunk, **version})
    own = {**tensors, "head/kernel": np.ones((4, 2), "float32"), "head/bias": np.zeros(2, "float32")}
    pack = {
        "domain": "pets", "label_names": ["a", "b"], "category_ids": [70, 80], "architecture": architecture,
        "preprocessing": preprocessing, "trunk_fingerprint": fingerprint(tensors), "accuracy": 0.5, "experts": [],
    }  # fmt: skip
    write_tensors(folder / "packs" / "pets.safetensors", own, {"kind": "pack", **pack, **version})


def _digests(tensors):
    import hashlib

    return {
        name: f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
        for name, value in tensors.items()
    }
