"""Draws docs/picture.svg: what domains share and what each owns, and accuracy against parameters.

    python docs/picture.py

The points are the rows of the table of real images in README.md. The same table makes the same file.
"""

import math
import pathlib
from typing import NamedTuple
from xml.sax.saxutils import escape

DOCS = pathlib.Path(__file__).parent
README = DOCS.parent / "README.md"
PICTURE = DOCS / "picture.svg"
PROPOSAL = "pointwise_sharing"

WIDTH, HEIGHT = 900, 330
DOMAINS = ("flowers", "signs", "letters")  # names on the left; each has a colour in STYLE
ROWS = (92, 150, 208)  # height of each domain's line
LAYERS = (128, 248, 368)  # where each layer begins
PLOT = (588, 62, 866, 264)  # left, top, right, bottom
STEP = 2  # between lines of accuracy, in %
CHARACTER = 6.2  # width of a character of a label, about

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 14px; }
.quiet { fill: #59636e; }
.page { fill: #ffffff; stroke: #d1d9e0; }
.shared { fill: #dfe5ec; stroke: #8b97a5; }
.line { stroke: #8b97a5; fill: none; }
.grid { stroke: #d1d9e0; }
.dot { fill: #8b97a5; }
.d0 { fill: #d1497a; } .d1 { fill: #2f7fd6; } .d2 { fill: #2f9e5b; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.quiet { fill: #9da7b3; }
.page { fill: #0d1117; stroke: #30363d; }
.shared { fill: #262d36; stroke: #6e7a88; }
.line { stroke: #6e7a88; }
.grid { stroke: #30363d; }
.dot { fill: #9da7b3; }
.d0 { fill: #e86a98; } .d1 { fill: #58a6ff; } .d2 { fill: #4cc47c; }
}
"""


class Point(NamedTuple):
    """One row of the table."""

    method: str
    accuracy: float
    parameters: int


def read_points(readme: str) -> list[Point]:
    """Returns the rows of the one table whose columns end with mean and parameters.

    Raises:
        ValueError: if there is no such table.
    """
    lines = iter(readme.splitlines())
    for line in lines:
        if _cells(line)[-2:] == ["mean", "parameters"]:
            next(lines)  # the rule below the header
            points = []
            for row in lines:
                if not row.startswith("|"):
                    return points
                method, *_, accuracy, parameters = _cells(row)
                points.append(Point(method.replace("`", ""), float(accuracy), int(parameters.replace(",", ""))))
            return points
    raise ValueError("README.md: has no table that ends with the columns mean and parameters")


def draw(points: list[Point]) -> str:
    """Returns the picture as SVG."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img">',
            "<title>Pointwise kernels are shared by all domains; each domain owns a small pack</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
            *_network(),
            *_plot(points),
            "</svg>\n",
        ]
    )


def _network():
    yield _text(24, 34, "One shared trunk, one small pack per domain", "title")
    top, bottom = ROWS[0] - 24, ROWS[-1] + 24
    for number, (name, y) in enumerate(zip(DOMAINS, ROWS, strict=True)):
        yield _text(24, y + 4, name, f"d{number}")
        yield f'<path class="line" d="M80 {y} H500"/>'
        for x in LAYERS:
            yield f'<rect class="d{number}" x="{x - 20}" y="{y - 15}" width="30" height="30" rx="4"/>'
            yield f'<rect class="d{number}" x="{x + 66}" y="{y - 15}" width="8" height="30" rx="3"/>'
        yield f'<circle class="d{number}" cx="506" cy="{y}" r="15"/>'
    for x in LAYERS:
        yield f'<rect class="shared" x="{x + 18}" y="{top}" width="40" height="{bottom - top}" rx="5"/>'
    for x in LAYERS:
        middle = (top + bottom) / 2
        yield _text(x + 42, middle, "pointwise, shared", "quiet", "middle", f"rotate(-90 {x + 42} {middle})")
    below = bottom + 22
    yield _text(LAYERS[0] - 5, below, "depthwise", "quiet", "middle")
    yield _text(LAYERS[0] + 70, below, "norm", "quiet", "middle")
    yield _text(506, below, "head", "quiet", "middle")
    yield _text(24, below + 30, "All of one colour is one domain's pack. Grey is frozen: nine tenths of the network.")
    yield _text(24, below + 49, "A batch may mix domains; each image takes the kernels of its own.")


def _plot(points):
    left, top, right, bottom = PLOT
    counts, accuracies = zip(*((point.parameters, point.accuracy) for point in points), strict=True)
    first, last = math.floor(math.log2(min(counts) / 1e6)), math.ceil(math.log2(max(counts) / 1e6))
    low, high = STEP * math.floor(min(accuracies) / STEP), STEP * math.ceil(max(accuracies) / STEP + 1)

    def x_of(parameters):
        return left + (right - left) * (math.log2(parameters / 1e6) - first) / (last - first)

    def y_of(accuracy):
        return bottom - (bottom - top) * (accuracy - low) / (high - low)

    yield _text(left - 32, 34, "Mean accuracy in % against parameters", "title")
    for tick in range(low, high + 1, STEP):
        yield f'<path class="grid" d="M{left} {y_of(tick):.1f} H{right}"/>'
        yield _text(left - 8, y_of(tick) + 4, str(tick), "quiet", "end")
    for power in range(first, last + 1):
        yield _text(x_of(1e6 * 2**power), bottom + 18, f"{2**power:g} M", "quiet", "middle")
    places = [(x_of(point.parameters), y_of(point.accuracy)) for point in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for point, (x, y) in zip(points, places, strict=True):
        proposal = point.method == PROPOSAL
        box = _free(x, y, len(point.method) * CHARACTER, taken)
        taken.append(box)
        near = min(max(x, box[0]), box[2]), min(max(y, box[1] + 3), box[3] - 3)
        if math.dist(near, (x, y)) > 15:
            yield f'<path class="line" d="M{x:.1f} {y:.1f} L{near[0]:.1f} {near[1]:.1f}"/>'
        yield f'<circle class="{"d1" if proposal else "dot"}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
        yield _text((box[0] + box[2]) / 2, box[3] - 4, point.method, "d1" if proposal else "", "middle")
    yield _text(left, bottom + 41, "real images, nine domains: 'On real images' below", "quiet")


def _free(x, y, width, taken):
    """Returns the first place beside, above or below a point where a label meets no other thing, or the last one."""
    left, top, right, bottom = PLOT
    for away in range(0, 60, 6):
        for dx, dy in ((12 + width / 2, -away), (12 + width / 2, away), (-12 - width / 2, -away),
                       (-12 - width / 2, away), (0, -16 - away), (0, 16 + away)):  # fmt: skip
            box = (x + dx - width / 2, y + dy - 8, x + dx + width / 2, y + dy + 8)
            inside = box[0] > left - 6 and box[2] < right + 12 and box[1] > top - 14 and box[3] < bottom
            if inside and not any(_meet(box, other) for other in taken):
                return box
    return box


def _meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _text(x, y, text, kind="", anchor="start", transform=None):
    turned = f' transform="{transform}"' if transform else ""
    shown = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{shown} text-anchor="{anchor}"{turned}>{escape(text)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(read_points(README.read_text(encoding="utf-8"))), encoding="utf-8")
