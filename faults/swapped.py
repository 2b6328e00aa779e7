"""What is served under load: versions of an export that take one another's place, and what they answer.

A version adds a domain to the one before, the next removes it, the next adds it with other values, so that what is left
of an old version would be seen, and the next removes it. Later versions are these four again, under new numbers: an
export takes its time. What each must answer is the live model's.
"""

import dataclasses
import functools
import io
import pathlib

import numpy as np

# Domains with more classes than are named, and with fewer; the first is the base domain, the last comes and goes.
CLASSES = {"base": 4, "birds": 3, "coins": 6}
BASE, *_, GUEST = CLASSES
EXPORTS = 4
NOWHERE = "nowhere"
TOP = 5  # classes that an answer names
IMAGES = 32
TOLERANCE = 1e-5  # of probabilities, as for the export itself
_APART = 1e-4  # by which probabilities of one class differ at least, or answers are alike
_ALIKE = 0.01  # of pairs of answers of a domain, at most


@dataclasses.dataclass(frozen=True)
class Version:
    """A version that is served.

    Attributes:
        number: Its number.
        path: Its folder; it is copied from there to where it is served.
        labels: Names of classes, by domain.
        probabilities: What each domain answers, by domain: float32 (images, classes).
    """

    number: int
    path: pathlib.Path
    labels: dict[str, list[str]]
    probabilities: dict[str, np.ndarray]

    @functools.cached_property
    def _tables(self):
        """Probabilities, with a 0 at -1, and the best, by domain and image; names and how many, by domain."""
        classes = max(map(len, self.labels.values()))
        top = min(TOP, classes)
        pad = [(0, 0), (0, 1)]
        wide = [np.pad(p, [(0, 0), (0, classes - p.shape[1])]) for p in self.probabilities.values()]
        probabilities = np.pad(np.concatenate(wide), pad)
        best = np.sort(probabilities[:, :-1], axis=1)[:, ::-1][:, :top]
        names = [[*names, *[""] * (classes + 1 - len(names))] for names in self.labels.values()]
        counts = np.array([len(names) for names in self.labels.values()])
        return probabilities, best, np.array(names, object), counts

    def fault(self, images: list[int], domains: list[str], answers: list[dict]) -> str | None:
        """Returns what is wrong with answers, as a client has them, to images by number; None if nothing is."""
        if not set(domains) <= set(self.labels):
            return f"version {self.number} has not all of these domains"
        probabilities, best, names, counts = self._tables
        order = list(self.labels)
        domain = np.array([order.index(each) for each in domains])
        at = domain * IMAGES + images
        try:
            ids = np.array([answer["class_id"] for answer in answers], int)
            found = np.array([answer["probability"] for answer in answers], float)
            labels = [answer["label"] for answer in answers]
            if ids.shape != best[at].shape or found.shape != ids.shape:
                return f"version {self.number}: {ids.shape} class ids, {found.shape} probabilities"
            own = np.where(np.arange(ids.shape[1]) < counts[domain, None], ids >= 0, ids == -1)
            own &= names[domain[:, None], ids] == np.array(labels, object)
            own &= np.abs(found - best[at]) <= TOLERANCE
            own &= np.abs(found - probabilities[at[:, None], ids]) <= TOLERANCE
        except (KeyError, IndexError, TypeError, ValueError) as error:
            return f"version {self.number}: no answers ({error}): {str(answers)[:200]}"
        if own.all():
            return None
        row = int(np.argmin(own.all(axis=1)))
        told = f"{ids[row]}, {labels[row]}, {found[row]}; expected {best[at[row]]}"
        return f"version {self.number}, row {row}, {domains[row]}, image {images[row]}: {told}"

    def write_expected(self, path: pathlib.Path) -> None:
        """Writes what it must answer for load.c."""
        absent = [NOWHERE, *(domain for domain in CLASSES if domain not in self.labels)]
        lines = [f"{len(self.labels)} {IMAGES} {len(absent)}", *absent]
        for domain, names in self.labels.items():
            lines += [f"{domain} {len(names)}", *names]
            lines += [" ".join(f"{value:.9g}" for value in row) for row in self.probabilities[domain]]
        path.write_text("\n".join(lines) + "\n")


@dataclasses.dataclass(frozen=True)
class Swapped:
    """Versions that take one another's place, and the images that all are asked about.

    Attributes:
        images: Image files.
        versions: In their order.
    """

    images: list[bytes]
    versions: list[Version]


def make(folder: pathlib.Path, seed: int, swaps: int) -> Swapped:
    """Makes a trunk, packs and versions.

    Args:
        folder: Where; versions that are there already are used: those of another seed want another folder.
        seed: Of all values and images.
        swaps: How many versions follow the first.
    """
    import keras

    from tfmdl.architecture import Architecture
    from tfmdl.domains import SHARED
    from tfmdl.model import MultiDomainClassifier
    from tfmdl.packs import compose, read_pack, read_trunk, write_trunk
    from tfmdl.serving.samples import Sample, live_answers
    from tfmdl.serving.source import from_export, from_runs
    from tfmdl.serving.writer import Options, write_export

    rng = np.random.default_rng(seed)
    images = _draw_images(rng)
    paths = {(domain, 0): folder / "packs" / "0" / f"{domain}.safetensors" for domain in CLASSES}
    paths[GUEST, 1] = folder / "packs" / "1" / f"{GUEST}.safetensors"
    if not paths[GUEST, 1].exists():
        keras.utils.set_random_seed(seed)
        model = MultiDomainClassifier(CLASSES, Architecture(width=4, blocks_per_stage=1))
        fingerprint = None
        for (domain, time), path in paths.items():
            if fingerprint is None or time:
                _draw(model, [domain] if time else [*CLASSES, SHARED], rng)
            fingerprint = fingerprint or write_trunk(folder / "trunk.safetensors", model, BASE)
            _write_pack(path, model, domain, fingerprint)
    trunk, packs = read_trunk(folder), {key: read_pack(path) for key, path in paths.items()}
    answers = {domain: [] for domain in CLASSES}
    for (domain, _), pack in packs.items():
        windows = [Sample.of(image, pack.preprocessing).window for image in images]
        answers[domain].append(live_answers(compose(trunk, [pack]), pack, windows)[1])
    _check_apart(answers)

    exports, versions = folder / "versions", []
    for number in range(1, min(swaps + 1, EXPORTS) + 1):
        path = exports / str(number)
        if not path.exists():
            if number == 1:
                stay = [packs[domain, 0].path for domain in CLASSES if domain != GUEST]
                source = from_runs(trunk=str(folder), pack_paths=stay)
            elif number % 2:
                source = from_export(exports, removed=[GUEST])
            else:
                source = from_export(exports, added=[packs[GUEST, number // 4].path])
            write_export(source, exports, Options(keep=EXPORTS))
        served = [domain for domain in CLASSES if domain != GUEST or number % 2 == 0]
        now = [(domain, number // 4 if domain == GUEST else 0) for domain in served]
        labels = {domain: packs[domain, time].label_names for domain, time in now}
        versions.append(Version(number, path, labels, {domain: answers[domain][time] for domain, time in now}))
        print(f"version {number}: {', '.join(labels)}", flush=True)
    later = range(EXPORTS, swaps + 1)
    versions += [dataclasses.replace(versions[number % EXPORTS], number=number + 1) for number in later]
    return Swapped(images, versions)


def _draw(model, owners, rng):
    """Gives values of their own to some domains, or to what they share."""
    for bank in model.banks():
        for owner, variable in bank.variable_of.items():
            if owner in owners:
                value = np.asarray(variable) * rng.uniform(0.8, 1.25, variable.shape)
                # With small heads all classes would be about as probable.
                variable.assign(2 * rng.normal(size=value.shape) if variable.path.startswith("head/kernel") else value)


def _write_pack(path, model, domain, fingerprint):
    from tfmdl.data.preprocessing import Preprocessing
    from tfmdl.packs import write_pack

    place = list(CLASSES).index(domain)
    write_pack(
        path, model, domain,
        label_names=[f"{domain}-{index}é" for index in range(CLASSES[domain])],
        category_ids=list(range(CLASSES[domain])),
        preprocessing=Preprocessing(16, 16, 16, 16, (0.4 + 0.05 * place, 0.5, 0.5), (0.2,) * 3, 16 + place, 16),
        trunk_fingerprint=fingerprint, accuracy=None, base=place == 0,
    )  # fmt: skip


def _draw_images(rng):
    from PIL import Image

    files = []
    for number in range(IMAGES):
        coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize(((16, 16), (24, 20), (13, 30))[number % 3], Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if number % 2 else "JPEG")
        files.append(buffer.getvalue())
    return files


def _check_apart(answers):
    """Raises a ValueError if answers of a domain, to two images or with other values, could be mistaken for others."""
    for domain, made in answers.items():
        rows = np.concatenate(made)
        alike = np.mean(np.abs(rows[:, None] - rows[None]).max(axis=2) < _APART) - 1 / len(rows)
        if alike > _ALIKE:
            raise ValueError(f"{domain}: {alike:.1%} of answers to two images are alike; take another --seed")
