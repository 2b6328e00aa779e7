"""How far the depthwise kernels of domains are from the trunk's and from each other's; how alike their outputs are."""

import dataclasses
import itertools
from collections.abc import Collection

import numpy as np

from tfmdl.dissection.units import KINDS, Units, convolutions, kinds_of
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import Trunk

SAMPLES = 2048  # positions of images that outputs are compared at


@dataclasses.dataclass(frozen=True)
class Distances:
    """Distances between kernels, each by the norm of the trunk's kernel of its layer.

    Attributes:
        layers: Names, in the order of the network.
        domains: Names.
        moved: float (domains, layers): how far each domain's kernel is from the trunk's.
        apart: float (domains, domains): between domains, the root mean square over layers.
    """

    layers: tuple[str, ...]
    domains: tuple[str, ...]
    moved: np.ndarray
    apart: np.ndarray


def folded_kernels(
    model: MultiDomainClassifier, domain: str, kinds: Collection[str] = KINDS
) -> dict[str, dict[str, np.ndarray]]:
    """Returns what a domain's kernels come to in inference, masks and updates included: by kind, then by layer.

    One that is mixed anew for each image cannot be told, and is left out.

    Args:
        model: The model.
        domain: One of its domains.
        kinds: Those that are wanted, of `tfmdl.dissection.units.KINDS`.
    """
    found = {kind: {} for kind in kinds}
    for conv in convolutions(model.backbone):
        if not set(kinds).isdisjoint(kinds_of(conv)):
            for kind, kernel in zip(kinds_of(conv), conv.folded(domain)[0], strict=True):
                if kind in found and kernel is not None:
                    found[kind][model.backbone.name_of(conv)] = kernel
    return found


def distance(one: np.ndarray, other: np.ndarray, base: np.ndarray) -> float:
    """Returns how far two kernels are from each other, by the norm of a third one."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(base))


def depthwise_distances(model: MultiDomainClassifier, trunk: Trunk) -> Distances | None:
    """Returns the distances between depthwise kernels, or None where no layer has any that can be told.

    A kernel is what `folded_kernels` says.

    Args:
        model: Of the trunk and packs.
        trunk: The trunk.
    """
    names, moved, apart = [], [], []
    kernels = [folded_kernels(model, domain, ("depthwise",))["depthwise"] for domain in model.domains]
    slot_of = {model.backbone.name_of(conv): conv.kernels[0].path for conv in convolutions(model.backbone)}
    for name, slot in slot_of.items():
        own = [of_domain[name] for of_domain in kernels if name in of_domain]
        if len(own) < len(kernels) or slot not in trunk.tensors:
            continue
        base = trunk.tensors[slot].astype("float64")
        if not base.any():
            continue
        names.append(name)
        moved.append([distance(kernel, base, base) for kernel in own])
        apart.append([[distance(one, other, base) for other in own] for one in own])
    if not names:
        return None
    between = np.sqrt(np.mean(np.square(apart), axis=0))
    return Distances(tuple(names), model.domains, np.array(moved).T, between)


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the linear centred kernel alignment of two outputs, in 0..1; 0 where one does not vary.

    Args:
        one: (samples, units).
        other: (samples, other units), of the same samples.

    Raises:
        ValueError: if the samples differ in number.

    Reference: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, section 3.
    """
    if len(one) != len(other):
        raise ValueError(f"`one` and `other` must be of the same samples; received {len(one)} and {len(other)}")
    one, other = (np.asarray(x, "float64") - np.mean(x, axis=0, dtype="float64") for x in (one, other))
    norms = np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)
    return float(np.linalg.norm(one.T @ other) ** 2 / norms) if norms else 0.0


def similarities(networks: dict[str, tuple[Units, np.ndarray]], batch_size: int, rng: np.random.Generator) -> dict:
    """Returns the linear CKA between the outputs of domains' networks for the same images.

    Outputs are compared at `SAMPLES` positions, the same for all: as many of each image, drawn. Memory: 4 bytes for
    each of them and each unit of all networks.

    Args:
        networks: By domain, its units and the images as it takes them, (images, height, width, 3), in one order.
        batch_size: Images at a time.
        rng: Of the positions.

    Returns:
        By layer: {"kind": its kind, "cka": {(domain, domain): number}}, each pair of domains once.
    """
    first = next(iter(networks.values()))[0]
    count = len(next(iter(networks.values()))[1])
    each = max(1, SAMPLES // count)
    places = {}
    for layer in first.layers:
        positions = layer.size[0] * layer.size[1]
        order = np.argsort(rng.random((count, positions)), axis=1)
        places[layer.name] = order[:, : min(each, positions)]
    samples = {domain: _sampled(units, images, places, batch_size) for domain, (units, images) in networks.items()}
    return {
        layer.name: {
            "kind": layer.kind,
            "cka": {
                (one, other): linear_cka(samples[one][layer.name], samples[other][layer.name])
                for one, other in itertools.combinations(networks, 2)
            },
        }
        for layer in first.layers
    }


def _sampled(units, images, places, batch_size):
    parts = {name: [] for name in places}
    for start in range(0, len(images), batch_size):
        for name, maps in units.maps(images[start : start + batch_size]).items():
            rows = places[name][start : start + batch_size]
            flat = maps.reshape(len(maps), -1, maps.shape[-1])
            parts[name].append(np.take_along_axis(flat, rows[..., None], axis=1).reshape(-1, maps.shape[-1]))
    return {name: np.concatenate(part) for name, part in parts.items()}
