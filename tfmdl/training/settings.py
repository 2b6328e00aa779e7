"""From settings by the names of train.py's flags to the configuration of a run."""

import os
from collections.abc import Sequence

from tfmdl.architecture import Architecture
from tfmdl.config import RunConfig
from tfmdl.sharing import OPTIONS
from tfmdl.training import devices

_OF_ARCHITECTURE = ("method", "backbone", "width", "blocks_per_stage", *OPTIONS)


def configure(
    domains: Sequence[str],
    *,
    data_dir: str | os.PathLike,
    workdir: str | os.PathLike,
    init_from: str | os.PathLike | None = None,
    packs: Sequence[str | os.PathLike] = (),
    train_splits: Sequence[str] = ("train",),
    profile_steps: Sequence[str | int] | None = None,
    precision: str = "auto",
    jit_compile: str = "auto",
    **settings,
) -> RunConfig:
    """Returns the configuration of the run that is asked for; a setting that is not given has its default.

    Args:
        domains: Domains to train.
        data_dir, workdir, init_from, packs, train_splits, profile_steps: As in `RunConfig`.
        precision: A Keras dtype policy, or "auto".
        jit_compile: "on", "off" or "auto".
        **settings: The other fields of `RunConfig`, and instead of its architecture those of `Architecture` and of the
            method's options.

    Raises:
        TypeError: if there is no such setting.
        ValueError: if one has a value that it cannot have.
    """
    architecture = {name: settings.pop(name) for name in _OF_ARCHITECTURE if name in settings}
    return RunConfig(
        domains=tuple(domains),
        data_dir=os.fspath(data_dir),
        workdir=os.fspath(workdir),
        architecture=Architecture.from_json(architecture),
        init_from=init_from and os.path.abspath(init_from),  # what reads config.json may run elsewhere
        packs=tuple(map(os.path.abspath, packs)),
        train_splits=tuple(train_splits),
        profile_steps=profile_steps and tuple(map(int, profile_steps)),
        precision=devices.precision_policy(precision),
        jit_compile=devices.use_xla(jit_compile),
        **settings,
    )
