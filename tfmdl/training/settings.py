"""From settings by the names of train.py's flags to the configuration of a run."""

import dataclasses
import os
from collections.abc import Sequence

from tfmdl import imported
from tfmdl.architecture import Architecture
from tfmdl.cli import typed
from tfmdl.config import RunConfig
from tfmdl.packs import read_trunk
from tfmdl.sharing import OPTIONS
from tfmdl.training import devices

_OF_NETWORK = ("backbone", "width", "blocks_per_stage")
_ASKED_OTHERWISE = ("domains", "architecture", "precision", "jit_compile")
_OF_ARCHITECTURE = ("method", *_OF_NETWORK, *OPTIONS)


def configure(
    domains: Sequence[str],
    *,
    data_dir: str | os.PathLike,
    workdir: str | os.PathLike,
    init_from: str | os.PathLike | None = None,
    packs: Sequence[str | os.PathLike] = (),
    train_splits: Sequence[str] = ("train",),
    recipe: str | None = None,
    image_size: int | None = None,
    profile_steps: Sequence[str | int] | None = None,
    precision: str = "auto",
    jit_compile: str = "auto",
    **settings,
) -> RunConfig:
    """Returns the configuration of the run that is asked for; a setting that is not given, or None, has its default.

    A domain is added to a trunk by the network of the trunk. If that is a network of Keras, recipe and size of images
    are by default what suits it.

    Args:
        domains: Domains to train.
        data_dir, workdir, packs, train_splits, profile_steps: As in `RunConfig`.
        init_from: As there, or "imagenet", the trunk that `tfmdl.imported.imagenet` makes.
        recipe: A preset of `tfmdl.recipes`; by default "finetune" for a network of Keras, "paper" for others.
        image_size: As in `RunConfig`; by default what the trunk was trained with, for others 64.
        precision: A Keras dtype policy, or "auto".
        jit_compile: "on", "off" or "auto".
        **settings: The other fields of `RunConfig`, and instead of its architecture those of `Architecture` and of the
            method's options.

    Raises:
        TypeError: if there is no such setting.
        FileNotFoundError: if there is no trunk in `init_from`.
        ValueError: if one has a value that it cannot have.
    """
    asked = {name: settings.pop(name) for name in _OF_ARCHITECTURE if name in settings}
    architecture = {name: value for name, value in asked.items() if value is not None}
    trunk = None
    if init_from:
        init_from = imported.imagenet() if init_from == imported.IMAGENET else os.path.abspath(init_from)
        trunk = read_trunk(init_from)
        for name in _OF_NETWORK:
            architecture.setdefault(name, getattr(trunk.architecture, name))
        if architecture["backbone"] == trunk.architecture.backbone and trunk.architecture.network:
            architecture["network"] = trunk.architecture.network.to_json()
    of_keras = "network" in architecture
    wants = trunk and trunk.preprocessing
    return RunConfig(
        domains=tuple(domains),
        data_dir=os.fspath(data_dir),
        workdir=os.fspath(workdir),
        architecture=Architecture.from_json(architecture),
        init_from=init_from and str(init_from),  # what reads config.json may run elsewhere
        packs=tuple(map(os.path.abspath, packs)),
        train_splits=tuple(train_splits),
        recipe=recipe or ("finetune" if of_keras else RunConfig.recipe),
        image_size=image_size or (trunk.preprocessing.height if wants else RunConfig.image_size),
        profile_steps=profile_steps and tuple(map(int, profile_steps)),
        precision=devices.precision_policy(precision),
        jit_compile=devices.use_xla(jit_compile),
        **settings,
    )


def command(config: RunConfig) -> list[str]:
    """Returns the words of the command of train.py that asks, on this machine, for `config`."""
    architecture = config.architecture
    asked = {
        "domain": config.domains,
        "method": architecture.method,
        "recipe": config.recipe,
        "image_size": config.image_size,
        **{name: value for name, value in dataclasses.asdict(architecture.options).items() if value is not None},
    }
    if not architecture.network:  # one of Keras comes with the trunk
        asked |= {name: getattr(architecture, name) for name in _OF_NETWORK}
    if config.precision != devices.precision_policy("auto"):
        asked["precision"] = config.precision
    if config.jit_compile != devices.use_xla("auto"):
        asked["jit_compile"] = "on" if config.jit_compile else "off"
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in (*asked, *_ASKED_OTHERWISE) and value != field.default:
            asked[field.name] = value
    return [*typed("tfmdl.training").split(), *(f"--{name}={_told(value)}" for name, value in asked.items())]


def _told(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
