"""What is killed, failed and met by another: commands at work in a folder, each on images of a few pixels.

A scene says what its folder holds at the beginning, which command works there, what of the result must be the same
however it came about, and how what lies there is read while it is at work.
"""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from faults.commands import run_command

ROOT = pathlib.Path(__file__).parents[1]
# Imported once for all commands. What starts a command is not: it defines its flags where it is run.
MODULES = (
    "tfmdl.training.loop",
    "tfmdl.training.settings",
    "tfmdl.evaluation.save",
    "tfmdl.serving.writer",
    "tfmdl.serving.litert",
    "tfmdl.campaign.report",
    "data_prep.build",
    "data_prep.verification",
)
CLASSES = {"base": 3, "tiny": 2}
NETWORK = ("--width=2", "--blocks_per_stage=1", "--image_size=16")
_RUN = ("--recipe=quick", "--batch_size=4", "--epochs=2", "--checkpoint_every=2")
_LEFT = (".partial", ".old-", ".deleted-", ".spool")  # what is only there while something is written


class World:
    """What all scenes start from: two domains, and trunks of each network that a method needs.

    Args:
        folder: Where it lies; what is there already is used.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.images = folder / "images"
        self.data = folder / "data"
        if not self.images.exists():
            random = np.random.default_rng(0)
            for domain, classes in CLASSES.items():
                draw(self.images / domain, {"train": (4,) * classes, "val": (2,) * classes}, noise, random)

    def converted(self) -> pathlib.Path:
        """Returns the folder of the converted domains."""
        if not self.data.exists():
            self._run(convert_command(self.images, self.folder / "data.new"))
            (self.folder / "data.new").rename(self.data)
        return self.data

    def trunk(self, method: str) -> pathlib.Path:
        """Returns a run whose trunk the method adds a domain to."""
        from tfmdl.sharing import METHODS

        trained_by = method if METHODS[method].base_has_additions else "individual"
        backbone = METHODS[method].default_backbone
        flags = (f"--method={trained_by}", f"--backbone={backbone}", *NETWORK)
        return self._trained(f"trunk-{backbone}-{trained_by}", "base", *flags)

    def added(self, method: str) -> pathlib.Path:
        """Returns a run of the method that added the domain `tiny`."""
        return self._trained(f"added-{method}", "tiny", f"--method={method}", f"--init_from={self.trunk(method)}")

    def _trained(self, name, domain, *flags):
        folder = self.folder / name
        if not (folder / "packs" / f"{domain}.safetensors").exists():
            self._run(train_command(self.converted(), folder, domain, *flags, "--max_steps=2"))
        return folder

    def _run(self, arguments):
        done = run_command(*arguments, cwd=ROOT)
        if done.returncode:
            raise ValueError(f"{' '.join(map(str, arguments))}: {done.stderr.strip() or done.stdout.strip()}")


def convert_command(images, output_dir, *flags):
    """Returns the arguments of a conversion."""
    given = (f"--input_dir={images}", f"--output_dir={output_dir}", "--splits=train,val", "--workers=1")
    return ["-m", "data_prep.convert", "--source=folder", *given, *flags]


def train_command(data, workdir, domain, *flags):
    """Returns the arguments of a short run."""
    return ["-m", "tfmdl.training", f"--domain={domain}", f"--data_dir={data}", f"--workdir={workdir}", *_RUN, *flags]


def draw(folder: pathlib.Path, splits: dict[str, tuple[int, ...]], picture: Callable, random=None) -> None:
    """Draws a domain.

    Args:
        folder: Of the domain.
        splits: How many images of each class a split has; the folder of a class is there, too, where it has none.
        picture: Returns the pixels of an image, uint8 (height, width, 3), by split, label, number and `random`.
        random: NumPy's generator.
    """
    from PIL import Image

    random = random or np.random.default_rng(0)
    for split, counts in splits.items():
        for label, count in enumerate(counts):
            of_class = folder / split / f"class{label}"
            of_class.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(picture(split, label, number, random)).save(of_class / f"{number}.png")


def noise(split, label, number, random):
    """Returns the pixels of an image whose brightness tells its class, as `draw` asks for them."""
    return random.normal(60 + 60 * label, 30, (16, 16, 3)).clip(0, 255).astype("uint8")


class HalfError(Exception):
    """Something is read that is not whole, or not what was to be written."""


class Scene:
    """A command at work in a folder.

    Args:
        world: What it starts from.

    Attributes:
        name: What `--kind` calls it.
        weight: Its share of the cases.
        kills: How many kills a case has, one after the other.
        of_started: What the command's last line ends with where the signal came to a process that it had started.
    """

    name = ""
    weight = 1
    kills = 3
    of_started = ""

    def __init__(self, world: World):
        self.world = world

    def begin(self, place: pathlib.Path) -> None:
        """Writes what is there at the beginning, in a folder that is empty."""

    def command(self, place: pathlib.Path) -> list[str]:
        """Returns the arguments of the command."""
        raise NotImplementedError

    def reader(self, place: pathlib.Path) -> list[str]:
        """Returns the arguments of a command that reads what is there."""
        raise NotImplementedError

    def look(self, place: pathlib.Path) -> None:
        """Reads all that says that it is whole; HalfError, or the reader's own error, where it is not."""
        raise NotImplementedError

    def result(self, place: pathlib.Path) -> dict:
        """Returns what must be the same, however often the command was stopped."""
        raise NotImplementedError


class Convert(Scene):
    """A conversion of two domains."""

    name, weight, kills = "convert", 30, 1

    def command(self, place):
        return convert_command(self.world.images, place)

    def reader(self, place):
        return ["-m", "data_prep.verify", f"--data_dir={place}"]

    def look(self, place):
        from tfmdl.data.records import DatasetInfo, converted_domains

        for domain in converted_domains(place):
            try:
                info = DatasetInfo.load(place, domain)
                for split in info.splits.values():
                    for shard in split.shards:
                        if _hash(place / domain / shard.file) != shard.sha256:
                            raise HalfError(f"{domain}/{shard.file} is not what was written")
            except FileNotFoundError:
                if (place / domain).exists() and not self.replaces:  # not between one and the other
                    raise

    replaces = False

    def result(self, place):
        return {"files": _hashes(place), **_leftovers(place)}


class Replace(Convert):
    """A conversion that takes the place of another."""

    name, weight, replaces = "replace", 10, True

    def begin(self, place):
        shutil.copytree(self.world.converted(), place, dirs_exist_ok=True)

    def command(self, place):
        return [*super().command(place), "--overwrite", "--seed=1"]


class Train(Scene):
    """A run that adds a domain to a trunk by a method."""

    method = ""
    weight, kills = 10, 4

    @property
    def flags(self):
        return ("tiny", f"--method={self.method}", f"--init_from={self.world.trunk(self.method)}")

    def command(self, place):
        return train_command(self.world.converted(), place, *self.flags)

    def reader(self, place):
        return ["-m", "tfmdl.evaluation", f"--workdir={place}", f"--data_dir={self.world.data}", "--mistakes=0"]

    def look(self, place):
        from tfmdl.files import read_json, read_tensors
        from tfmdl.training.metrics import read_metrics

        for name, read in {"*.safetensors": read_tensors, "config.json": read_json, "*.jsonl": read_metrics}.items():
            for path in sorted(place.rglob(name)):
                try:
                    read(path)
                except FileNotFoundError:
                    if path.exists():
                        raise
        self._look_at_trunks(place)

    def _look_at_trunks(self, place):
        """Looks whether runs that have their packs, which are written last, have a trunk if they train one."""
        from tfmdl.config import load_config
        from tfmdl.packs import read_pack, read_trunk

        for pack in sorted(place.rglob("packs/*.safetensors")):
            run = pack.parents[1]
            if not load_config(run).init_from and read_pack(pack).trunk_fingerprint != read_trunk(run).fingerprint:
                raise HalfError(f"{pack} is of another trunk")

    def result(self, place):
        from tfmdl.files import fingerprint, read_tensors
        from tfmdl.training.metrics import read_metrics

        files = [*place.glob("*.safetensors"), *place.glob("packs/*.safetensors")]
        last = sorted(place.glob("checkpoints/*.safetensors"))[-1]
        tensors, header = read_tensors(last)
        header.pop("epoch_seconds")
        lines = read_metrics(place / "metrics.jsonl")
        for line in lines:
            line.pop("images_per_second")
        return {
            "files": {str(path.relative_to(place)): _hash(path) for path in [*files, place / "config.json"]},
            "checkpoint": {"name": last.name, "tensors": fingerprint(tensors), **header},
            "metrics": lines,
            **_leftovers(place),
        }


def _adding(name):
    return type(f"Train_{name}", (Train,), {"name": f"train-{name}", "method": name, "__doc__": Train.__doc__})


class TrainTrunk(Train):
    """A run that trains a trunk."""

    name = "train-trunk"
    flags = ("base", "--method=pointwise_sharing", *NETWORK)


class TrainJoint(Train):
    """A run that trains two domains at once."""

    name = "train-joint"
    flags = ("base,tiny", "--method=pointwise_sharing", *NETWORK)


class TrainSoftSharing(Train):
    """A run that mixes experts."""

    name, method = "train-soft_sharing", "soft_sharing"

    @property
    def flags(self):
        return (*super().flags, f"--packs={self.world.added('pointwise_sharing')}")


class TrainKept(Train):
    """A run on kept features: the network stays as it is, and training sees what evaluation sees."""

    name, method = "train-kept_features", "classifier_only"

    @property
    def flags(self):
        return (*super().flags, "--recipe=finetune")


class TrainFinetune(TrainKept):
    """A run whose head is trained first, and whose weights go back at the end."""

    name, method = "train-finetune", "pointwise_sharing"


class Export(Scene):
    """An export of a trunk and its pack."""

    name, weight, kills = "export", 8, 2

    def command(self, place):
        run, data = self.world.trunk("pointwise_sharing"), self.world.converted()
        return ["-m", "tfmdl.export", f"--workdir={run}", f"--export_dir={place}", f"--data_dir={data}"]

    def reader(self, place):
        return ["-m", "tfmdl.export", f"--from_export={place}", f"--export_dir={place.with_name('again')}"]

    def look(self, place):
        from tfmdl.serving.versions import versions_of

        for version in versions_of(place).values():
            self._read(version)

    def _read(self, version):
        import tensorflow as tf
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        from tfmdl.serving.assets import GRAPH, check_files
        from tfmdl.serving.versions import read_domain, read_manifest

        manifest = read_manifest(version)
        check_files(version, manifest.files)
        for domain in manifest.domains:
            read_domain(version, domain)
        graph = SavedModel.FromString((version / GRAPH).read_bytes())
        weights = tf.train.load_checkpoint(str(version / "variables" / "variables"))
        digest = hashlib.sha256()
        for name in sorted(weights.get_variable_to_shape_map()):
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
                digest.update(name.encode() + np.asarray(weights.get_tensor(name)).tobytes())
        beside = _hashes(version / "assets")
        card = beside.pop("MODEL_CARD.md")
        return {
            "signatures": sorted(graph.meta_graphs[0].signature_def),
            "weights": digest.hexdigest(),
            "assets": beside,
            "card": bool(card),
            "files": sorted(str(path.relative_to(version)) for path in version.rglob("*")),
        }

    def result(self, place):
        from tfmdl.serving.versions import newest, versions_of

        versions = versions_of(place)
        # A kill between the rename and the end leaves a whole version, and the command makes the next.
        read = [self._read(version) for version in versions.values()]
        if any(one != read[-1] for one in read) or versions[max(versions)] != newest(place):
            raise HalfError(f"versions differ: {read}")
        return {"version": read[-1], **_leftovers(place)}


class Campaign(Train):
    """A campaign of a trunk and a domain."""

    name, weight, kills = "campaign", 4, 2
    of_started = " of 2 runs failed, see above\n"

    def command(self, place):
        flags = ("--base=base", "--domains=tiny", "--methods=classifier_only", "--recipe=quick", "--epochs=1")
        data = f"--data_dir={self.world.converted()}"
        more = ("--base_epochs=1", *NETWORK, "--batch_size=4", "--checkpoint_every=2")
        return ["-m", "tfmdl.campaign", data, f"--workdir={place}", *flags, *more]

    def reader(self, place):
        return [*self.command(place), "--report_only"]

    def look(self, place):
        super().look(place)
        if (place / "campaign.json").exists():
            json.loads((place / "campaign.json").read_text())

    def result(self, place):
        runs = sorted(path.parent for path in place.rglob("config.json"))
        found = {str(run.relative_to(place)): super(Campaign, self).result(run) for run in runs}
        reports = {name: (place / name).stat().st_size > 0 for name in ("report.md", "report.html")}
        return {"runs": found, "campaign": _hash(place / "campaign.json"), **reports, **_leftovers(place)}


def scenes() -> dict[str, type[Scene]]:
    """Returns all scenes by name."""
    from tfmdl.sharing import METHODS

    adding = [_adding(name) for name, method in METHODS.items() if not method.experts_by]
    training = (*adding, TrainSoftSharing, TrainTrunk, TrainJoint, TrainKept, TrainFinetune)
    listed = (Convert, Replace, *training, Export, Campaign)
    return {scene.name: scene for scene in listed}


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): _hash(path) for path in files}


def _leftovers(place):
    """Returns what should not be there any more."""
    left = [path for path in place.rglob("*") if any(part in path.name for part in _LEFT)]
    return {"left": sorted(path.name for path in left)}
