"""Runs of tiny networks of every method, as folders: what the tests of packs share."""

import dataclasses
import itertools
import pathlib

import numpy as np
from small_network import small

from tfmdl.config import RunConfig
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.files import write_json
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.packs import (
    TRUNK_FILE,
    Expert,
    initialize,
    pack_path,
    read_pack,
    read_packs,
    read_trunk,
    write_pack,
    write_trunk,
)
from tfmdl.sharing import METHODS

PREPROCESSING = Preprocessing(18, 18, 16, 16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
CLASSES = {"base": 3, "added": 2, "other": 4}


def moved(model, owners, seed):
    """Moves all that `owners` own, as training would."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        slot, owner = slot_and_owner(variable)
        if owner in owners and not model.is_fixed(slot):
            variable.assign(np.asarray(variable) * random.uniform(0.7, 1.3, variable.shape) + 0.01)
    return model


def save_pack(path, model, domain, trunk_fingerprint, base=False, experts=()):
    write_pack(
        path,
        model,
        domain,
        label_names=[f"{domain} {index}" for index in range(CLASSES[domain])],
        category_ids=[10 + index for index in range(CLASSES[domain])],
        preprocessing=PREPROCESSING,
        trunk_fingerprint=trunk_fingerprint,
        accuracy=0.5,
        base=base,
        experts=[Expert(pack.domain, pack.fingerprint, pack.path) for pack in experts],
    )


BASES = {"resnet26_separable": "base", "resnet26": "plain"}  # runs of trunks by their backbone


def base_of(method):
    return BASES[METHODS[method].default_backbone]


@dataclasses.dataclass
class Fleet:
    """Runs of two trunks and runs that added domains by each method, as folders, and the models that wrote them."""

    folder: pathlib.Path
    models: dict

    def trunk(self, run="base"):
        return read_trunk(self.folder / run)

    def pack(self, run, domain):
        return read_pack(pack_path(self.folder / run, domain))


def read_packs_of(folder, run):
    """The packs of a run, none where there is no such run."""
    return read_packs(folder / run) if (folder / run).is_dir() else []


def save_trunk(folder, architecture):
    """Writes what a trunk's run leaves, and returns its model."""
    model = MultiDomainClassifier({"base": 3}, architecture)
    model.train_only(["base"], shared=True)
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.trainable or "moving_" in variable.path:
            variable.assign(np.asarray(variable) * random.uniform(0.7, 1.3, variable.shape) + 0.01)
    trunk_fingerprint = write_trunk(folder / TRUNK_FILE, model, "base")
    save_pack(pack_path(folder, "base"), model, "base", trunk_fingerprint, base=True)
    write_json(folder / "config.json", {"run": RunConfig(("base",), "data", "run").to_json()})
    return model


def make_fleet(folder):
    """Makes the runs of a `Fleet` in a folder."""
    models = {}
    for run, method, backbone in (
        ("base", "pointwise_sharing", "resnet26_separable"),
        ("plain", "individual", "resnet26"),
    ):
        architecture = small(method, backbone=backbone)
        models[run] = save_trunk(folder / run, architecture)
    for seed, (method, domain) in enumerate(itertools.product(METHODS, ("added", "other"))):
        run = f"{method}-{domain}"
        trunk = read_trunk(folder / base_of(method))
        trained_by = METHODS[method].experts_by
        experts = [pack for name in CLASSES if trained_by for pack in read_packs_of(folder, f"{trained_by}-{name}")]
        names = ("base", *(pack.domain for pack in experts)) if experts else ()
        model = MultiDomainClassifier({domain: CLASSES[domain]}, small(method), experts=names)
        initialize(model, trunk, experts)
        models[run] = moved(model, (domain,), seed)
        save_pack(pack_path(folder / run, domain), model, domain, trunk.fingerprint, experts=experts)
        config = RunConfig((domain,), "data", "run", init_from=str(folder / base_of(method)))
        write_json(folder / run / "config.json", {"run": config.to_json()})
    return Fleet(folder, models)


def logits(model, domain, images):
    return np.asarray(model.head(model.features(images, domain), domain=domain))
