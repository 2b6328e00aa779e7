"""The demo's domains: what their classes are, and one random image of a class."""

import dataclasses
import functools
import string
from collections.abc import Callable

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from data_prep.demo import drawing

_SYMBOLS = {"heart": "♥", "spade": "♠", "note": "♫", "phone": "☎", "plane": "✈", "scissors": "✂"}
_SYMBOL_FONT = "/DejaVuSans.ttf"


@dataclasses.dataclass(frozen=True)
class DemoDomain:
    """One drawn domain.

    Attributes:
        domain_id: Where its category and image ids begin, times 10**7.
        label_names: Its classes.
        sizes: Number of images in train, val and test.
        draw: Makes an image out of its label, its number within its class, and a generator.
    """

    domain_id: int
    label_names: tuple[str, ...]
    sizes: tuple[int, int, int]
    draw: Callable[[int, int, np.random.Generator], Image.Image]


@functools.cache
def _digits_of(label: int) -> np.ndarray:
    digits = load_digits()
    return digits.images[digits.target == label] / 16


def _draw_digit(label: int, number: int, random: np.random.Generator) -> Image.Image:
    """One of scikit-learn's handwritten digits, each used once, enlarged and tilted, in colours."""
    small = Image.fromarray((_digits_of(label)[number] * 255).astype(np.uint8))
    tilted = small.resize((drawing.SIZE, drawing.SIZE), Image.Resampling.BICUBIC).rotate(
        random.uniform(-15, 15),
        Image.Resampling.BILINEAR,
        translate=tuple(random.integers(-3, 4, size=2).tolist()),
    )
    ink, paper = drawing.two_colours(random, contrast=0.35)
    ground = drawing.background(random, paper, clouds=0.06)
    return drawing.to_image(drawing.mixed(np.asarray(tilted, np.float32) / 255, ink, ground), random, noise=0.05)


def _draw_letter(label: int, number: int, random: np.random.Generator) -> Image.Image:
    font = drawing.fonts()[random.integers(len(drawing.fonts()))]
    mask = drawing.glyph_mask(string.ascii_uppercase[label], font, random)
    ink, paper = drawing.two_colours(random, contrast=0.35)
    ground = drawing.background(random, paper, clouds=0.06)
    return drawing.to_image(drawing.mixed(mask, ink, ground), random, noise=0.05)


_SHAPES = tuple(drawing.OUTLINES)


def _draw_shape(label: int, number: int, random: np.random.Generator) -> Image.Image:
    """An outline, darker than what is behind it as often as lighter."""
    colours = drawing.two_colours(random, contrast=0.25)
    colour, behind = colours if random.random() < 0.5 else colours[::-1]
    mask = drawing.outline_mask(_SHAPES[label], random)
    ground = drawing.background(random, behind, clouds=0.08)
    return drawing.to_image(drawing.mixed(mask, colour, ground), random, noise=0.06)


_TEXTURES = tuple(drawing.TEXTURES)


def _draw_texture(label: int, number: int, random: np.random.Generator) -> Image.Image:
    mask = drawing.texture_mask(_TEXTURES[label], random)
    light, dark = drawing.two_colours(random, contrast=0.2)
    return drawing.to_image(drawing.mixed(mask, light, dark), random, noise=0.08)


_OBJECTS = tuple(
    (outline, fill)
    for outline in ("circle", "triangle", "star", "cross", "ring")
    for fill in ("plain", "stripes", "checks", "dots")
) + tuple((symbol, "plain") for symbol in _SYMBOLS)


def _draw_object(label: int, number: int, random: np.random.Generator) -> Image.Image:
    """An outline filled with a texture, or a symbol, before a background that may have a texture too."""
    kind, fill = _OBJECTS[label]
    if kind in _SYMBOLS:
        font = next(path for path in drawing.fonts() if path.endswith(_SYMBOL_FONT))
        mask = drawing.glyph_mask(_SYMBOLS[kind], font, random)
    else:
        mask = drawing.outline_mask(kind, random)
    colours = drawing.two_colours(random, contrast=0.3)
    colour, behind = colours if random.random() < 0.5 else colours[::-1]
    inside = colour
    if fill != "plain":
        inside = drawing.mixed(drawing.texture_mask(fill, random), colour, 0.3 * colour + 0.7 * behind)
    ground = drawing.background(random, behind, clouds=0.08)
    if random.random() < 0.3:
        pattern = drawing.texture_mask(_TEXTURES[random.integers(len(_TEXTURES))], random)
        ground = drawing.mixed(0.25 * pattern, colour, ground)
    return drawing.to_image(drawing.mixed(mask, inside, ground), random, noise=0.05)


DOMAINS: dict[str, DemoDomain] = {
    "digits": DemoDomain(1, tuple(string.digits), (600, 250, 250), _draw_digit),
    "letters": DemoDomain(2, tuple(string.ascii_uppercase), (780, 260, 260), _draw_letter),
    "objects": DemoDomain(3, tuple(f"{fill} {kind}" for kind, fill in _OBJECTS), (2860, 312, 312), _draw_object),
    "shapes": DemoDomain(4, _SHAPES, (585, 225, 225), _draw_shape),
    "textures": DemoDomain(5, _TEXTURES, (600, 250, 250), _draw_texture),
}
