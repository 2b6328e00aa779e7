"""Packs of tiny networks on one trunk, by methods that go together: what the tests of packs and of serving share."""

import dataclasses

import numpy as np
from small_keras import small_keras
from small_network import small

from tfmdl.data.preprocessing import Preprocessing
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.packs import initialize, pack_path, read_pack, read_trunk, write_pack, write_trunk
from tfmdl.sharing import options_of

# By domain its method; the numbers of classes differ.
BUDGETS = {
    "near": ("classifier_only", {}),
    "usual": ("pointwise_sharing", {}),
    "thin": ("low_rank", {"rank": 1}),
    "far": ("low_rank", {"rank": 3}),
}
CLASSES = {"base": 3, "near": 2, "usual": 4, "thin": 3, "far": 5}
# By name, what makes the architecture of a trunk.
NETWORKS = {
    "resnet26_separable": lambda: small("pointwise_sharing"),
    "keras": lambda: small_keras("classifier_only"),
}


def make_budgets(folder, network):
    """Writes a trunk and the packs of its base domain and of all of `BUDGETS`, as files in a folder, and reads them.

    Returns:
        The trunk, and the packs by domain.
    """
    architecture = NETWORKS[network]()
    base = moved(MultiDomainClassifier({"base": CLASSES["base"]}, architecture), ("base", "shared"))
    write_trunk(folder / "trunk.safetensors", base, "base")
    trunk = read_trunk(folder)
    save(folder, base, trunk, "base")
    for domain, (method, options) in BUDGETS.items():
        of_domain = dataclasses.replace(architecture, method=method, options=options_of(method, options))
        model = MultiDomainClassifier({domain: CLASSES[domain]}, of_domain)
        initialize(model, trunk)
        save(folder, moved(model, (domain,)), trunk, domain)
    return trunk, {domain: read_pack(pack_path(folder, domain)) for domain in CLASSES}


def moved(model, owners):
    """Sets all that `owners` own to values of its own, as training would."""
    random = np.random.default_rng([*"".join(owners).encode()])
    for variable in model.variables:
        if slot_and_owner(variable)[1] in owners:
            value = np.asarray(variable) * random.uniform(0.7, 1.3, variable.shape)
            variable.assign(value + 0.1 * random.normal(size=variable.shape) * ("moving_var" not in variable.path))
    return model


def save(folder, model, trunk, domain):
    path = pack_path(folder, domain)
    path.parent.mkdir(exist_ok=True)
    write_pack(
        path,
        model,
        domain,
        label_names=[f"{domain} {index}" for index in range(CLASSES[domain])],
        category_ids=list(range(CLASSES[domain])),
        preprocessing=Preprocessing(16, 16, 16, 16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        trunk_fingerprint=trunk.fingerprint,
        accuracy=0.5,
        base=domain == trunk.base_domain,
    )
