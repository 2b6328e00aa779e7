"""The fleet of runs that the tests of packs read, and what they ask it."""

import shutil

import pytest
from fleets import Fleet, make_fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """Not to be changed."""
    return make_fleet(tmp_path_factory.mktemp("fleet"))


@pytest.fixture
def copied(fleet, tmp_path):
    """The fleet, to be spoiled."""
    shutil.copytree(fleet.folder, tmp_path / "fleet")
    return Fleet(tmp_path / "fleet", fleet.models)


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, 8, 8, 3)).astype("float32")
