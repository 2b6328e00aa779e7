"""What the drawn domains are drawn from: outlines, textures, glyphs and colours, random but for their kind.

Masks are float arrays (SIZE, SIZE) in 0..1; an image is two colours mixed by a mask.
"""

import functools
import pathlib
from collections.abc import Callable

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 36
# Outlines and glyphs are drawn larger by this factor and reduced, for smooth edges.
_SCALE = 3
_CANVAS = SIZE * _SCALE


def _regular(corners: int, phase: float = 0.0) -> list[tuple[float, float]]:
    angles = np.arange(corners) * 2 * np.pi / corners + phase
    return list(zip(np.sin(angles), -np.cos(angles), strict=True))


def _star(points: int) -> list[tuple[float, float]]:
    angles = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, 0.42, 1.0)
    return list(zip(radius * np.sin(angles), -radius * np.cos(angles), strict=True))


_BAR = 0.32
_CROSS = [
    (-_BAR, -1), (_BAR, -1), (_BAR, -_BAR), (1, -_BAR), (1, _BAR), (_BAR, _BAR),
    (_BAR, 1), (-_BAR, 1), (-_BAR, _BAR), (-1, _BAR), (-1, -_BAR), (-_BAR, -_BAR),
]  # fmt: skip
_ARROW = [(0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1)]
_CIRCLE = _regular(48)

# Corners in -1..1, y downwards; the second polygon, where there is one, is a hole.
OUTLINES: dict[str, tuple[list[tuple[float, float]], ...]] = {
    "circle": (_CIRCLE,),
    "ring": (_CIRCLE, [(0.55 * x, 0.55 * y) for x, y in _CIRCLE]),
    "moon": (_CIRCLE, [(0.8 * x + 0.45, 0.8 * y) for x, y in _CIRCLE]),
    "triangle": (_regular(3),),
    "square": (_regular(4, np.pi / 4),),
    "hexagon": (_regular(6),),
    "star": (_star(5),),
    "cross": (_CROSS,),
    "arrow": (_ARROW,),
}


def outline_mask(kind: str, random: np.random.Generator) -> np.ndarray:
    """Returns the outline at a random place, size and angle, stretched a little."""
    radius = random.uniform(0.24, 0.42) * _CANVAS
    stretch = np.exp(random.uniform(-0.15, 0.15, size=2))
    angle = random.uniform(-0.6, 0.6)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = _CANVAS / 2 + random.uniform(-0.5, 0.5, size=2) * (_CANVAS - 2 * radius)
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    draw = ImageDraw.Draw(canvas)
    for polygon, value in zip(OUTLINES[kind], (255, 0), strict=False):
        corners = (np.asarray(polygon) * stretch) @ turn.T * radius + centre
        draw.polygon([tuple(corner) for corner in corners], fill=value)
    return _reduced(canvas)


@functools.cache
def fonts() -> list[str]:
    """Returns the text fonts that matplotlib ships: DejaVu, STIX and Computer Modern, in several styles."""
    folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    prefixes = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr", "cmss", "cmtt", "cmb")
    paths = (path for path in folder.glob("*.ttf") if path.stem.startswith(prefixes) and "Display" not in path.stem)
    return sorted(map(str, paths))


def glyph_mask(character: str, font: str, random: np.random.Generator) -> np.ndarray:
    """Returns a character of a font at a random place, size and angle."""
    face = ImageFont.truetype(font, int(random.uniform(0.6, 0.9) * _CANVAS))
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    place = _CANVAS / 2 + random.uniform(-0.1, 0.1, size=2) * _CANVAS
    ImageDraw.Draw(canvas).text(tuple(place), character, fill=255, font=face, anchor="mm")
    return _reduced(canvas.rotate(random.uniform(-20, 20), Image.Resampling.BILINEAR))


def _reduced(canvas: Image.Image) -> np.ndarray:
    return np.asarray(canvas.reduce(_SCALE), np.float32) / 255


def _waves(x, y, random):
    return np.sin(x + random.uniform(2, 4) * np.sin(y * random.uniform(0.4, 0.7)))


def _dots(x, y, random):
    return np.cos(x) + np.cos(y) - 0.6


def _bricks(x, y, random):
    row = np.floor(y / np.pi)
    return np.minimum(np.abs(np.sin(y)), np.abs(np.sin(x / 2 + row * np.pi / 2))) - 0.25


def _rings(x, y, random):
    return np.sin(np.hypot(x, y))


def _zigzag(x, y, random):
    return np.sin(x + 2 * np.abs((y / np.pi) % 2 - 1))


def _blobs(x, y, random):
    small = random.uniform(size=(6, 6)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) - 0.5


def _grain(x, y, random):
    return random.normal(size=(SIZE, SIZE)) * random.uniform(0.5, 1.5)


# Functions of the two coordinates (turned, shifted and scaled already, one period every 2 pi) and a generator.
TEXTURES: dict[str, Callable] = {
    "stripes": lambda x, y, random: np.sin(x),
    "checks": lambda x, y, random: np.sin(x) * np.sin(y),
    "dots": _dots,
    "waves": _waves,
    "bricks": _bricks,
    "rings": _rings,
    "zigzag": _zigzag,
    "plaid": lambda x, y, random: np.maximum(np.sin(x), np.sin(y)) - 0.4,
    "blobs": _blobs,
    "grain": _grain,
}


def texture_mask(kind: str, random: np.random.Generator) -> np.ndarray:
    """Returns the texture at a random angle, frequency, phase and hardness of its edges."""
    angle, period = random.uniform(0, np.pi), random.uniform(5, 11)
    row, column = np.mgrid[:SIZE, :SIZE] - random.uniform(0.3, 0.7) * SIZE
    x = (np.cos(angle) * column + np.sin(angle) * row) * 2 * np.pi / period
    y = (np.cos(angle) * row - np.sin(angle) * column) * 2 * np.pi / period
    value = TEXTURES[kind](x, y, random) * random.uniform(1.0, 4.0)
    return (1 / (1 + np.exp(-2 * value))).astype(np.float32)


def two_colours(random: np.random.Generator, contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns a lighter and a darker colour, (3,) in 0..1, whose means differ by at least `contrast`."""
    while True:
        first, second = random.random(size=(2, 3), dtype=np.float32)
        difference = (first.sum() - second.sum()) / 3
        if abs(difference) >= contrast:
            return (first, second) if difference > 0 else (second, first)


def mixed(mask: np.ndarray, one: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Returns `one` where the mask is 1 and `zero` where it is 0; each is a colour or an image."""
    mask = mask[..., None]
    return zero + mask * (one - zero)


def background(random: np.random.Generator, colour: np.ndarray, clouds: float) -> np.ndarray:
    """Returns an image near `colour`, with soft patches that differ from it by `clouds` or so."""
    coarse = random.standard_normal(size=(3, 4, 4), dtype=np.float32) * clouds
    channels = [np.asarray(Image.fromarray(c).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for c in coarse]
    return colour + np.stack(channels, axis=-1)


def to_image(pixels: np.ndarray, random: np.random.Generator, noise: float) -> Image.Image:
    """Returns the picture of an array (SIZE, SIZE, 3) in 0..1 with sensor-like noise on it."""
    noisy = pixels + random.standard_normal(size=pixels.shape, dtype=np.float32) * noise
    return Image.fromarray((np.clip(noisy, 0, 1) * 255).astype(np.uint8))
