"""A trunk that has been trained, and what the tests of runs do with it."""

import dataclasses
import pathlib

import pytest
from small_network import small

from tfmdl.config import RunConfig
from tfmdl.training import devices
from tfmdl.training.loop import train


@pytest.fixture(scope="session")
def config(data_dir, tmp_path_factory):
    """A trunk on a domain that the recipe gives dropout and random crops."""
    return RunConfig(
        domains=("ucf101",),
        data_dir=str(data_dir),
        workdir=str(tmp_path_factory.mktemp("runs") / "trunk"),
        architecture=small(),
        recipe="quick",
        epochs=5,
        batch_size=4,
        learning_rate=0.02,
        image_size=16,
        jit_compile=devices.use_xla("auto"),  # as the commands do it
        checkpoint_every=3,
        tensorboard=False,  # whose pictures take as long as all else: test_tensorboard.py has runs of its own
    )


@pytest.fixture(scope="session")
def trunk(config):
    """Folder of the finished run of `config`. Not to be changed."""
    train(config)
    return pathlib.Path(config.workdir)


@pytest.fixture(scope="session")
def plain_trunk(config, tmp_path_factory):
    """Folder of a run that trained a little of a plain network, by a method that adds to it."""
    workdir = tmp_path_factory.mktemp("runs") / "plain"
    train(
        dataclasses.replace(
            config, workdir=str(workdir), architecture=small("parallel_adapters"), max_steps=2
        )
    )
    return workdir


@pytest.fixture(scope="session")
def added_config(config, trunk):
    """Adds a domain to `trunk` with all that could make it forget."""
    return dataclasses.replace(
        config,
        domains=("tiny",),
        init_from=str(trunk),
        workdir="",
        batch_size=8,
        learning_rate=0.1,
        weight_decay=0.1,
        max_steps=3,
        train_splits=("train", "val"),
    )
