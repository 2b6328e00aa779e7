"""Network dissection of one domain's network, beside the same network with random weights, as plain data."""

import dataclasses
import pathlib
import resource
import time
from collections.abc import Callable

import numpy as np

from tfmdl.data.preprocessing import Preprocessing
from tfmdl.dissection import scoring
from tfmdl.dissection.broden import ConceptSet
from tfmdl.dissection.kernels import SAMPLES, Distances, depthwise_distances, similarities
from tfmdl.dissection.units import CALIBRATED_BY, COMPARED, KINDS, Units, prepared, with_random_weights
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import Pack, Trunk

RESULT_FILE = "dissection.json"
TOP_IMAGES = 4  # of a unit that is shown
SHOWN_UNITS = 12  # of a kind
MOST_MEMORY = 1 << 30  # bytes, for overlaps: where all layers need more, they are taken in several rounds
TRAINED, RANDOM = "trained", "random weights"

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class DissectConfig:
    """What is asked for.

    Attributes:
        concepts: Folder of labelled images.
        domain: Whose network is dissected.
        image_size: Side of the images; None: what the domain is evaluated at.
        layers: Names of layers; None: all.
        control: Whether the same network with random weights stands beside.
        batch_size: Images at a time.
        seed: Of random weights, groups of images and resamples.
    """

    concepts: str
    domain: str
    image_size: int | None = None
    layers: list[str] | None = None
    control: bool = True
    batch_size: int = 32
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ShownUnit:
    """A unit to look at.

    Attributes:
        layer, kind, unit: Which.
        concept, category, iou: What it detects, and how well.
        images: Each with where the unit is above its threshold: pixels uint8 (height, width, 3), bool (height, width).
    """

    layer: str
    kind: str
    unit: int
    concept: str
    category: str
    iou: float
    images: list[tuple[np.ndarray, np.ndarray]]


class _Data:
    """The labelled images, which are read again for each pass."""

    def __init__(self, concepts: ConceptSet, preprocessing: Preprocessing, size, batch_size, rng):
        self.concepts, self.size, self.batch_size = concepts, size, batch_size
        self._preprocessing = preprocessing
        self.group = rng.permutation(np.arange(len(concepts.images)) % scoring.GROUPS)
        self._category = {name: number for number, name in enumerate(concepts.categories)}
        self.category_of = np.array([self._category[concept.category] for concept in concepts.concepts])
        self.area = np.zeros((scoring.GROUPS, len(concepts.concepts)), "float32")
        self.pixels = 0
        for number in range(len(concepts.images)):
            labels = self.labels(number)
            self.area[self.group[number], labels.ids] += labels.planes.sum(axis=0)
            self.pixels += labels.size[0] * labels.size[1]

    def __len__(self):
        return len(self.concepts.images)

    def images(self, numbers) -> np.ndarray:
        images = (self.concepts.pixels(self.concepts.images[number]) for number in numbers)
        return np.stack([prepared(pixels, self._preprocessing, self.size) for pixels in images])

    def labels(self, number) -> scoring.Labels:
        image = self.concepts.images[number]
        categories = [self._category[name] for name in image.labels]
        return scoring.Labels.of(self.concepts.masks(image), categories, image.mask_size)

    def batches(self):
        """Yields the number of the first image of each batch, and the batch."""
        for first in range(0, len(self), self.batch_size):
            yield first, self.images(range(first, min(first + self.batch_size, len(self))))


def dissect(
    model: MultiDomainClassifier, packs: list[Pack], config: DissectConfig, report: Report = lambda line: None
) -> tuple[dict, list[ShownUnit]]:
    """Dissects the network of one domain.

    Every image is read twice for each network and round of layers: once for the thresholds, once for the overlaps.
    Memory holds the maps of one batch, the activations above the thresholds (0.5% of all, 4 bytes each), and the
    overlaps: 4 bytes for each unit, concept and group of images, at most `MOST_MEMORY`.

    Args:
        model: The model.
        packs: Of its domains.
        config: What is asked for.
        report: Is told what was done.

    Returns:
        What `RESULT_FILE` holds of it, and the units to show.

    Raises:
        FileNotFoundError, ValueError: as `ConceptSet` and `Units`.
    """
    started = time.perf_counter()
    model.domain_id(config.domain)
    preprocessing = next(pack.preprocessing for pack in packs if pack.domain == config.domain)
    size = (config.image_size,) * 2 if config.image_size else preprocessing.size
    concepts = ConceptSet(config.concepts)
    groups, weights, resamples = (np.random.default_rng([config.seed, purpose]) for purpose in range(3))
    data = _Data(concepts, preprocessing, size, config.batch_size, groups)
    report(f"{len(data):,} images, {len(concepts.concepts)} concepts of {len(concepts.categories)} categories")
    networks = {TRAINED: model}
    if config.control:
        spread = np.unique(np.linspace(0, len(data) - 1, CALIBRATED_BY).astype(int))
        networks[RANDOM] = with_random_weights(model, config.domain, data.images(spread), weights)
    drawn = scoring.draws(resamples)
    results, shown = {}, []
    for name, network in networks.items():
        units = Units(network, config.domain, size, config.layers)
        results[name], found = _dissect_network(units, data, drawn, lambda line, name=name: report(f"{name}: {line}"))
        if name == TRAINED:
            shown = _shown(units, data, found)
    top = scoring.SHARE_ABOVE * data.pixels
    content = {
        "domain": config.domain,
        "network": model.architecture.network.name if model.architecture.network else model.architecture.backbone,
        "method": model.architecture_of(config.domain).method_and_options,
        "image_size": list(size),
        "seed": config.seed,
        "share_above": scoring.SHARE_ABOVE,
        "min_iou": scoring.MIN_IOU,
        "images": len(data),
        "concepts": {name: len(concepts.ids_of(name)) for name in concepts.categories},
        "beyond_reach": [
            concept.name
            for concept, area in zip(concepts.concepts, data.area.sum(axis=0), strict=True)
            if area and scoring.reach(float(area), top) <= scoring.MIN_IOU
        ],
        "networks": results,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return content, shown


def _dissect_network(units, data, drawn, report):
    layers, found, resampled = [], [], []
    for number, chosen in enumerate(rounds := list(_rounds(units.layers, len(data.concepts.concepts)))):
        watched = (
            Units(units.model, units.domain, units.size, [layer.name for layer in chosen]) if rounds[1:] else units
        )
        thresholds = {layer.name: scoring.Thresholds(len(data)) for layer in chosen}
        tops = {layer.name: scoring.TopImages(TOP_IMAGES) for layer in chosen}
        for first, images in data.batches():
            for name, maps in watched.maps(images).items():
                thresholds[name].add(maps)
                tops[name].add(first, maps)
        overlaps = {
            name: scoring.Overlaps(threshold.values(), data.category_of, len(data.concepts.categories))
            for name, threshold in thresholds.items()
        }
        for first, images in data.batches():
            maps = watched.maps(images)
            for place in range(len(images)):
                labels = data.labels(first + place)
                for name, overlap in overlaps.items():
                    overlap.add(data.group[first + place], maps[name][place], labels)
        for layer in chosen:
            iou = overlaps[layer.name].iou(data.area)
            best = iou.argmax(axis=1)
            score = iou[np.arange(len(best)), best]
            layers.append(_layer(layer, best, score, data.concepts))
            found.append((layer, best, score, thresholds[layer.name].values(), tops[layer.name].images()))
            resampled.append(overlaps[layer.name].resampled(data.area, best, drawn))
        report(f"{len(layers)} of {len(units.layers)} layers" + (f", round {number + 1}" if rounds[1:] else ""))
    return {"layers": layers, **_summary(found, resampled, data.concepts)}, found


def _rounds(layers, concepts):
    """Yields layers whose overlaps fit into memory together."""
    chosen, needed = [], 0
    for layer in layers:
        own = 4 * layer.units * concepts * scoring.GROUPS
        if chosen and needed + own > MOST_MEMORY:
            yield chosen
            chosen, needed = [], 0
        chosen.append(layer)
        needed += own
    yield chosen


def _layer(layer, best, score, concepts):
    detectors = np.flatnonzero(score > scoring.MIN_IOU)
    units = [
        {
            "unit": int(unit),
            "concept": concepts.concepts[best[unit]].name,
            "category": concepts.concepts[best[unit]].category,
            "iou": round(float(score[unit]), 4),
        }
        for unit in detectors
    ]
    return {
        "name": layer.name,
        "kind": layer.kind,
        "units": layer.units,
        "size": list(layer.size),
        "detectors": len(units),
        "unique": len({(unit["category"], unit["concept"]) for unit in units}),
        "by_category": _by_category(units, concepts.categories),
        "of_units": units,
    }


def _by_category(units, categories):
    counts = {}
    for category in categories:
        own = [unit["concept"] for unit in units if unit["category"] == category]
        counts[category] = {"detectors": len(own), "unique": len(set(own))}
    return counts


def _summary(found, resampled, concepts):
    """Returns counts over all layers of each kind, and depthwise less pointwise, each with a 95% interval."""
    kinds = {}
    for kind in KINDS:
        own = [number for number, (layer, *_) in enumerate(found) if layer.kind == kind]
        if own:
            best, score = (np.concatenate([found[number][field] for number in own]) for field in (1, 2))
            kinds[kind] = (best, score, np.concatenate([resampled[number] for number in own], axis=1))
    compared = [kind for kind in COMPARED if kind in kinds]
    fewest = min((len(kinds[kind][0]) for kind in compared), default=None)

    def measured(kind, score):
        best = kinds[kind][0]
        detected = best[score > scoring.MIN_IOU]
        counts = [len(detected), len(detected) / len(best), len(np.unique(detected))]
        return [*counts, scoring.distinct_among(detected, len(best), fewest)] if kind in compared else counts

    names = ("detectors", "share", "unique", "unique_among")  # the last of kinds that are compared
    points = {kind: measured(kind, score) for kind, (_, score, _) in kinds.items()}
    drawn = {kind: np.array([measured(kind, score) for score in again]) for kind, (_, _, again) in kinds.items()}
    summary = {}
    for kind, (best, score, _) in kinds.items():
        detectors = [
            {"concept": concepts.concepts[id].name, "category": concepts.concepts[id].category}
            for id in best[score > scoring.MIN_IOU]
        ]
        summary[kind] = {
            "layers": sum(layer.kind == kind for layer, *_ in found),
            "units": len(best),
            "by_category": _by_category(detectors, concepts.categories),
            **{
                name: _with_interval(point, values)
                for name, point, values in zip(names, points[kind], drawn[kind].T, strict=False)
            },
        }
    difference = {}
    if len(compared) == len(COMPARED):
        for i, name in enumerate(names):
            values = drawn["depthwise"][:, i] - drawn["pointwise"][:, i]
            difference[name] = _with_interval(points["depthwise"][i] - points["pointwise"][i], values)
    return {"kinds": summary, "units_compared": fewest, "depthwise_less_pointwise": difference}


def _with_interval(value, values):
    low, high = scoring.interval(values)
    return {"value": round(float(value), 5), "low": round(low, 5), "high": round(high, 5)}


def _shown(units, data, found):
    """Returns the best detectors of each kind, at most one of a concept and layer, with their images."""
    shown = []
    for kind in KINDS:
        ranked = sorted(
            (
                (float(score[unit]), number, int(unit))
                for number, (layer, _, score, *_) in enumerate(found)
                if layer.kind == kind
                for unit in np.flatnonzero(score > scoring.MIN_IOU)
            ),
            reverse=True,
        )
        concepts, chosen = set(), []
        for score, number, unit in ranked:
            concept = found[number][1][unit]
            if concept not in concepts and len(chosen) < SHOWN_UNITS:
                concepts.add(concept)
                chosen.append((score, number, unit))
        for score, number, unit in chosen:
            layer, best, _, thresholds, tops = found[number]
            concept = data.concepts.concepts[best[unit]]
            numbers = tops[unit].tolist()
            maps = units.maps(data.images(numbers))[layer.name][..., unit]
            images = []
            for place, image in enumerate(numbers):
                pixels = data.concepts.pixels(data.concepts.images[image])
                above = scoring.upsampled(maps[place][None], pixels.shape[:2])[0] > thresholds[unit]
                images.append((pixels, above))
            shown.append(ShownUnit(layer.name, kind, unit, concept.name, concept.category, score, images))
    return shown


def compare(
    model: MultiDomainClassifier,
    trunk: Trunk,
    packs: list[Pack],
    concepts: str | pathlib.Path | None = None,
    image_size: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> dict:
    """Returns how far the kernels of domains have moved, and how alike their outputs are, where there are several.

    Args:
        model: Of trunk and packs.
        trunk: The trunk.
        packs: Of the domains.
        concepts: Folder of labelled images, whose images are used; None: outputs are not compared.
        image_size: As in `DissectConfig`; images have one size for all domains.
        batch_size, seed: As in `DissectConfig`.
    """
    distances = depthwise_distances(model, trunk)
    content = {"distances": distances and _distances(distances)}
    if concepts is None or len(model.domains) < 2:
        return content
    folder = ConceptSet(concepts)
    size = (image_size,) * 2 if image_size else packs[0].preprocessing.size
    rng = np.random.default_rng([seed, 3])
    count = min(len(folder.images), 256)
    chosen = [folder.images[number] for number in np.sort(rng.permutation(len(folder.images))[:count])]
    pixels = [folder.pixels(image) for image in chosen]
    networks = {
        pack.domain: (
            Units(model, pack.domain, size),
            np.stack([prepared(one, pack.preprocessing, size) for one in pixels]),
        )
        for pack in packs
    }
    found = similarities(networks, batch_size, rng)
    content["cka"] = {
        "images": count,
        "positions": count * max(1, SAMPLES // count),
        "layers": [
            {
                "name": name,
                "kind": layer["kind"],
                "pairs": [[*pair, round(value, 4)] for pair, value in layer["cka"].items()],
            }
            for name, layer in found.items()
        ],
    }
    return content


def _distances(distances: Distances) -> dict:
    return {
        "domains": list(distances.domains),
        "layers": list(distances.layers),
        "moved": {
            domain: [round(float(value), 5) for value in row]
            for domain, row in zip(distances.domains, distances.moved, strict=True)
        },
        "apart": [[round(float(value), 5) for value in row] for row in distances.apart],
    }
