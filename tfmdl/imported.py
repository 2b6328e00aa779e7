"""Trunks that were trained elsewhere: a pretrained network as the folder that `--init_from` takes."""

import os
import pathlib

import tfmdl
from tfmdl import pretrained
from tfmdl.architecture import Architecture
from tfmdl.backbones import Network
from tfmdl.config import CONFIG_FILE
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.files import locked, write_json
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import TRUNK_FILE, pack_path, write_pack, write_trunk

IMAGENET = "imagenet"  # for --init_from: the default source, in the cache; also the base domain of what is imported
DEFAULT_SOURCE = "efficientnet_lite0"
IMPORTED_FILE = "imported.json"


def classifier_of(
    network: pretrained.PretrainedNetwork, num_classes: dict[str, int], method: str, dtype: str = "float32", **options
) -> MultiDomainClassifier:
    """Returns a classifier of several domains that begins with the weights of a pretrained network.

    Args:
        network: The network.
        num_classes: As in `MultiDomainClassifier`; also `dtype`.
        method: A key of `tfmdl.sharing.METHODS`.
        **options: The method's options.

    Raises:
        ValueError: if the network cannot be taken apart, or the method does not work on it.
    """
    wiring = Network.of(network.network)
    fields = {"method": method, "backbone": "keras", "network": wiring.to_json(), **options}
    model = MultiDomainClassifier(num_classes, Architecture.from_json(fields), dtype)
    model.backbone.take_weights(network.network)
    return model


def write_imported(network: pretrained.PretrainedNetwork, source: str, workdir: str | os.PathLike) -> None:
    """Writes a pretrained network as a trunk and, if it has a classifier, the pack of its base domain.

    Args:
        network: The network.
        source: Where it is from, for people to read.
        workdir: The folder; what was imported to it before is written again.

    Raises:
        ValueError: if the folder is that of a run, or the network cannot be taken apart.
    """
    workdir = pathlib.Path(workdir)
    if (workdir / CONFIG_FILE).exists():
        raise ValueError(f"--workdir={workdir} holds a run of train.py; a trunk that is imported wants another folder")
    classes = 1 if network.kernel is None else network.kernel.shape[1]
    model = classifier_of(network, {IMAGENET: classes}, "classifier_only")
    side, whole = network.image_size, round(network.image_size * 8 / 7)  # 224 of 256, as ImageNet is evaluated
    preprocessing = Preprocessing(side, side, side, side, tuple(network.mean), tuple(network.std), whole, whole)
    with locked(workdir, "import"):
        fingerprint = write_trunk(workdir / TRUNK_FILE, model, IMAGENET, preprocessing)
        if network.kernel is not None:
            model.head.kernels[IMAGENET].variable(IMAGENET).assign(network.kernel)
            model.head.biases[IMAGENET].variable(IMAGENET).assign(network.bias)
            path = pack_path(workdir, IMAGENET)
            path.parent.mkdir(exist_ok=True)
            write_pack(
                path,
                model,
                IMAGENET,
                label_names=network.label_names or [str(number) for number in range(classes)],
                category_ids=list(range(1, classes + 1)),
                preprocessing=preprocessing,
                trunk_fingerprint=fingerprint,
                accuracy=None,
                base=True,
            )
        # Last: what has it is whole.
        write_json(workdir / IMPORTED_FILE, {"source": source, "tfmdl": tfmdl.__version__, "trunk": fingerprint})


def imagenet() -> pathlib.Path:
    """Returns the folder of the default trunk, which is imported to the user's cache if it is not there.

    Raises:
        FileNotFoundError, ValueError: as `tfmdl.pretrained.load`.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = pathlib.Path(cache, "tfmdl", f"{DEFAULT_SOURCE}-{tfmdl.__version__}")
    if not (folder / IMPORTED_FILE).is_file():
        write_imported(pretrained.load(DEFAULT_SOURCE), DEFAULT_SOURCE, folder)
    return folder
