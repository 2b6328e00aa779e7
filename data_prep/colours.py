"""The basic colour name of a pixel.

English has eleven basic colour terms (Berlin and Kay, "Basic Color Terms", 1969). By CIELAB, a pixel that is very dark
is black, and one of little chroma is white or grey. All others get the term of the nearest colour of those that people
named with one of the eight other terms in the xkcd survey of colour names (Munroe, 2010; the 949 names that matplotlib
ships, by RGB): the name's last word is the term, as in "olive green" or "sky blue". The bounds of black, grey and white
are a choice of ours. Broden took its terms from van de Weijer et al. (2009), who learned them from photographs; their
table is not here.
"""

import functools

import numpy as np
from matplotlib.colors import XKCD_COLORS, to_rgb

TERMS = ("black", "blue", "brown", "grey", "green", "orange", "pink", "purple", "red", "white", "yellow")
_DARK, _LIGHT, _DULL = 18.0, 82.0, 10.0  # lightness up to which all is black, from which what is dull is white; chroma
_STEP = 8  # of the table that is looked up, in levels of a channel

# sRGB (IEC 61966-2-1) to XYZ, by the white of D65.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)


def colour_terms(pixels: np.ndarray) -> np.ndarray:
    """Returns the term of each pixel as its place in `TERMS`, uint8 (height, width), of uint8 (height, width, 3).

    Levels of a channel count in steps of eight.
    """
    return _table()[tuple(np.moveaxis(pixels // _STEP, -1, 0))]


@functools.cache
def _table():
    levels = (np.arange(0, 256, _STEP) + (_STEP - 1) / 2) / 255
    colours = _lab(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1))
    black, grey, white = map(TERMS.index, ("black", "grey", "white"))
    named = [
        (to_rgb(value), TERMS.index(term))
        for name, value in XKCD_COLORS.items()
        if (term := name.removeprefix("xkcd:").split()[-1]) in TERMS
    ]
    named = [(rgb, term) for rgb, term in named if term not in (black, grey, white)]
    anchors, terms = _lab(np.array([rgb for rgb, _ in named])), np.array([term for _, term in named], "uint8")
    # Slice by slice: all distances at once would be a hundred megabytes.
    nearest = [((part[..., None, :] - anchors) ** 2).sum(axis=-1).argmin(axis=-1) for part in colours]
    lightness, dull = colours[..., 0], np.hypot(colours[..., 1], colours[..., 2]) < _DULL
    found = np.where(dull, np.where(lightness > _LIGHT, white, grey), terms[np.stack(nearest)])
    return np.where(lightness < _DARK, black, found).astype("uint8")


def _lab(rgb):
    """Returns CIELAB of sRGB in 0..1, (..., 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
