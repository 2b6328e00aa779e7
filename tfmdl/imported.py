"""Trunks that were trained elsewhere: a pretrained network as the folder that `--init_from` takes."""

import os
import pathlib

import keras

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
    network: keras.Model, num_classes: dict[str, int], method: str, dtype: str = "float32", **options
) -> MultiDomainClassifier:
    """Returns a classifier of several domains that begins with the weights of a Keras network.

    Args:
        network: The network, up to its features.
        num_classes: As in `MultiDomainClassifier`; also `dtype`.
        method: A key of `tfmdl.sharing.METHODS`.
        **options: The method's options.

    Raises:
        ValueError: if the network cannot be taken apart, or the method does not work on it.
    """
    wiring = Network.of(network)
    fields = {"method": method, "backbone": "keras", "network": wiring.to_json(), **options}
    model = MultiDomainClassifier(num_classes, Architecture.from_json(fields), dtype)
    model.backbone.take_weights(network)
    return model


def write_packs(
    model: MultiDomainClassifier,
    workdir: str | os.PathLike,
    domains: dict[str, list[str]],
    preprocessing: Preprocessing,
) -> None:
    """Writes a model as a folder of a trunk and a pack per domain, which eval.py, exports and `tfmdl.load` take.

    The trunk is what the domains share, and of the rest what the first domain of the model has.

    Args:
        model: The model.
        workdir: The folder.
        domains: Names of the classes by name of the domain: of those that are written.
        preprocessing: How images become inputs.

    Raises:
        ValueError: if there is no such domain, a number of classes is another, or a weight is not finite.
    """
    base = model.domains[0]
    for domain in domains:
        model.domain_id(domain)
    with locked(workdir, "import"):
        fingerprint = write_trunk(pathlib.Path(workdir, TRUNK_FILE), model, base, preprocessing)
        for domain, label_names in domains.items():
            write_pack(
                pack_path(workdir, domain),
                model,
                domain,
                label_names=label_names,
                category_ids=list(range(1, len(label_names) + 1)),
                preprocessing=preprocessing,
                trunk_fingerprint=fingerprint,
                accuracy=None,
                base=domain == base,
            )


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
    model = classifier_of(network.network, {IMAGENET: classes}, "classifier_only")
    side, whole = network.image_size, round(network.image_size * 8 / 7)  # 224 of 256, as ImageNet is evaluated
    preprocessing = Preprocessing(side, side, side, side, tuple(network.mean), tuple(network.std), whole, whole)
    answers = {}
    if network.kernel is not None:
        model.head.kernels[IMAGENET].variable(IMAGENET).assign(network.kernel)
        model.head.biases[IMAGENET].variable(IMAGENET).assign(network.bias)
        answers[IMAGENET] = network.label_names or [str(number) for number in range(classes)]
    write_packs(model, workdir, answers, preprocessing)
    write_json(workdir / IMPORTED_FILE, {"source": source, "tfmdl": tfmdl.__version__})  # last: what has it is whole


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
