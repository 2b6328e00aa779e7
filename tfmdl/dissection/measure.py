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
from tfmdl.dissection.units import CALIBRATED_BY, COMPARED, KINDS, UnitLayer, Units, prepared, with_random_weights
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import Pack, Trunk

RESULT_FILE = "dissection.json"
TOP_IMAGES = 4  # of a unit that is shown
SHOWN_UNITS = 12  # of a kind
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
        seed: Of random weights and resamples.
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
    """The labelled images, which are read again for each pass, and the concepts that are in enough of them."""

    def __init__(self, concepts: ConceptSet, preprocessing: Preprocessing, size, batch_size):
        self.concepts, self.size, self.batch_size = concepts, size, batch_size
        self._preprocessing = preprocessing
        self._category = {name: number for number, name in enumerate(concepts.categories)}
        self.category_of = np.array([self._category[concept.category] for concept in concepts.concepts])
        self.area, images_of = np.zeros(len(concepts.concepts)), np.zeros(len(concepts.concepts), int)
        self.pixels = 0
        for image in concepts.images:
            for id, mask in concepts.masks(image).items():
                self.area[id] += mask.sum()
                images_of[id] += 1
            self.pixels += image.mask_size[0] * image.mask_size[1]
        self.counted = images_of >= scoring.LEAST_IMAGES
        if not self.counted.any():
            raise ValueError(
                f"{concepts.directory}: no concept is in {scoring.LEAST_IMAGES} images; the most of one are "
                f"{images_of.max(initial=0)}"
            )

    def __len__(self):
        return len(self.concepts.images)

    def images(self, numbers) -> np.ndarray:
        images = (self.concepts.pixels(self.concepts.images[number]) for number in numbers)
        return np.stack([prepared(pixels, self._preprocessing, self.size) for pixels in images])

    def labels(self, number) -> scoring.Labels:
        image = self.concepts.images[number]
        categories = [self._category[name] for name in image.labels]
        masks = {id: mask for id, mask in self.concepts.masks(image).items() if self.counted[id]}
        return scoring.Labels.of(masks, categories, image.mask_size)

    def batches(self):
        """Yields the number of the first image of each batch, and the batch."""
        for first in range(0, len(self), self.batch_size):
            yield first, self.images(range(first, min(first + self.batch_size, len(self))))


def dissect(
    model: MultiDomainClassifier, packs: list[Pack], config: DissectConfig, report: Report = lambda line: None
) -> tuple[dict, list[ShownUnit]]:
    """Dissects the network of one domain.

    Every image is read twice for each network: once for the thresholds, once for the overlaps. Memory holds the maps of
    one batch, the activations above the thresholds (0.5% of all, 4 bytes each), and the overlaps: 8 bytes for each unit
    and concept.

    Args:
        model: The model.
        packs: Of its domains.
        config: What is asked for.
        report: Is told what was done.

    Returns:
        What `RESULT_FILE` holds of it, and the units to show.

    Raises:
        FileNotFoundError, ValueError: as `ConceptSet` and `Units`.
        ValueError: if no concept is in enough images.
    """
    started = time.perf_counter()
    model.domain_id(config.domain)
    preprocessing = next(pack.preprocessing for pack in packs if pack.domain == config.domain)
    size = (config.image_size,) * 2 if config.image_size else preprocessing.size
    concepts = ConceptSet(config.concepts)
    weights, resamples = (np.random.default_rng([config.seed, purpose]) for purpose in range(2))
    data = _Data(concepts, preprocessing, size, config.batch_size)
    too_few = int((~data.counted).sum())
    report(
        f"{len(data):,} images, {data.counted.sum()} concepts of {len(concepts.categories)} categories; {too_few} that "
        f"are in fewer than {scoring.LEAST_IMAGES} images are not counted"
    )
    networks = {TRAINED: model}
    if config.control:
        spread = np.unique(np.linspace(0, len(data) - 1, CALIBRATED_BY).astype(int))
        networks[RANDOM] = with_random_weights(model, config.domain, data.images(spread), weights)
    results, shown = {}, []
    for name, network in networks.items():
        units = Units(network, config.domain, size, config.layers)
        found = _dissect_network(units, data)
        results[name] = _result(found, concepts, resamples)
        report(f"{name}: {len(units.layers)} layers, {sum(layer.units for layer in units.layers):,} units")
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
        "least_images": scoring.LEAST_IMAGES,
        "concepts": {name: int(data.counted[concepts.ids_of(name)].sum()) for name in concepts.categories},
        "concepts_too_rare": too_few,
        "beyond_reach": [
            concept.name
            for concept, area, counted in zip(concepts.concepts, data.area, data.counted, strict=True)
            if counted and scoring.reach(float(area), top) <= scoring.MIN_IOU
        ],
        "networks": results,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return content, shown


@dataclasses.dataclass(frozen=True)
class _Found:
    """What the units of a layer detect, in the order of the units.

    Attributes:
        layer: The layer.
        best: int (units,): the id of the concept that each overlaps with best.
        score: float (units,): how well.
        thresholds: float (units,).
        tops: int (units, images): the images that move each most.
    """

    layer: UnitLayer
    best: np.ndarray
    score: np.ndarray
    thresholds: np.ndarray
    tops: np.ndarray

    @property
    def detectors(self) -> np.ndarray:
        return np.flatnonzero(self.score > scoring.MIN_IOU)

    @property
    def detected(self) -> np.ndarray:
        """Of each detector, the id of its concept."""
        return self.best[self.detectors]


def _dissect_network(units, data):
    thresholds = {layer.name: scoring.Thresholds(len(data)) for layer in units.layers}
    tops = {layer.name: scoring.TopImages(TOP_IMAGES) for layer in units.layers}
    for first, images in data.batches():
        for name, maps in units.maps(images).items():
            thresholds[name].add(maps)
            tops[name].add(first, maps)
    overlaps = {
        name: scoring.Overlaps(threshold.values(), data.category_of, len(data.concepts.categories))
        for name, threshold in thresholds.items()
    }
    for first, images in data.batches():
        maps = units.maps(images)
        for place in range(len(images)):
            labels = data.labels(first + place)
            for name, overlap in overlaps.items():
                overlap.add(maps[name][place], labels)
    found = []
    for layer in units.layers:
        iou = overlaps[layer.name].iou(data.area)
        best = iou.argmax(axis=1)
        score = iou[np.arange(len(best)), best]
        found.append(_Found(layer, best, score, thresholds[layer.name].values(), tops[layer.name].images()))
    return found


def _result(found, concepts, rng):
    return {"layers": [_layer(own, concepts) for own in found], **_summary(found, concepts, rng)}


def _layer(found, concepts):
    layer = found.layer
    units = [
        {
            "unit": int(unit),
            "concept": concepts.concepts[id].name,
            "category": concepts.concepts[id].category,
            "iou": round(float(found.score[unit]), 4),
        }
        for unit, id in zip(found.detectors, found.detected, strict=True)
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


def _summary(found, concepts, rng):
    """Returns counts over all layers of each kind, and depthwise less pointwise, each with a 95% interval."""
    of_kind = {kind: own for kind in KINDS if (own := [one for one in found if one.layer.kind == kind])}
    units = {kind: np.array([one.layer.units for one in own]) for kind, own in of_kind.items()}
    compared = [kind for kind in COMPARED if kind in of_kind]
    fewest = min((int(units[kind].sum()) for kind in compared), default=None)

    def measured(kind, counts):
        detectors = counts.sum(axis=-1)
        values = {
            "detectors": detectors,
            "share": detectors / units[kind].sum(),
            "unique": (counts > 0).sum(axis=-1),
        }
        if kind in compared:
            values["unique_among"] = scoring.distinct_among(counts, units[kind].sum(), fewest)
        return values

    points, drawn, summary = {}, {}, {}
    for kind, own in of_kind.items():
        counts = np.stack([np.bincount(one.detected, minlength=len(concepts.concepts)) for one in own])
        points[kind] = measured(kind, counts.sum(axis=0))
        drawn[kind] = measured(kind, scoring.resampled(rng, counts, units[kind]))
        detectors = [
            {"concept": concepts.concepts[id].name, "category": concepts.concepts[id].category}
            for one in own
            for id in one.detected
        ]
        summary[kind] = {
            "layers": len(own),
            "units": int(units[kind].sum()),
            "by_category": _by_category(detectors, concepts.categories),
            **{name: _with_interval(value, drawn[kind][name]) for name, value in points[kind].items()},
        }
    difference = {}
    if len(compared) == len(COMPARED):
        one, other = COMPARED
        for name, value in points[one].items():
            difference[name] = _with_interval(value - points[other][name], drawn[one][name] - drawn[other][name])
    return {"kinds": summary, "units_compared": fewest, "depthwise_less_pointwise": difference}


def _with_interval(value, values):
    low, high = scoring.interval(value, values)
    return {"value": round(float(value), 5), "low": round(low, 5), "high": round(high, 5)}


def _shown(units, data, found):
    """Returns the best detectors of each kind, at most one of a concept and layer, with their images."""
    shown = []
    for kind in KINDS:
        ranked = sorted(
            (
                (float(own.score[unit]), number, int(unit))
                for number, own in enumerate(found)
                if own.layer.kind == kind
                for unit in own.detectors
            ),
            reverse=True,
        )
        concepts, chosen = set(), []
        for score, number, unit in ranked:
            concept = found[number].best[unit]
            if concept not in concepts and len(chosen) < SHOWN_UNITS:
                concepts.add(concept)
                chosen.append((score, number, unit))
        for score, number, unit in chosen:
            own = found[number]
            name, concept = own.layer.name, data.concepts.concepts[own.best[unit]]
            numbers = own.tops[unit].tolist()
            maps = units.maps(data.images(numbers))[name][..., unit]
            images = []
            for place, image in enumerate(numbers):
                pixels = data.concepts.pixels(data.concepts.images[image])
                above = scoring.upsampled(maps[place][None], pixels.shape[:2])[0] > own.thresholds[unit]
                images.append((pixels, above))
            shown.append(ShownUnit(name, kind, unit, concept.name, concept.category, score, images))
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
    rng = np.random.default_rng([seed, 2])
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
