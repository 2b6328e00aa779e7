"""The page of a dissection: one file that needs nothing else, in the colours that the reader's system asks for."""

import html

import numpy as np
from PIL import Image

from tfmdl.dissection.measure import RANDOM, TRAINED, ShownUnit
from tfmdl.pages import document, thumbnail_uri

PAGE_FILE = "dissection.html"
_DIMMED = 0.3
_COLOURS = 6  # of categories, in the style sheet

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #666; --bar: #8883; --heat: 34 110 190;
  --c0: #c2571a; --c1: #2a6fb0; --c2: #7a4fa3; --c3: #2f8f5b; --c4: #a3822a; --c5: #b0417a; }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa; --heat: 90 160 235;
  --c0: #f0955a; --c1: #6cacea; --c2: #b591da; --c3: #6bc795; --c4: #d8b95e; --c5: #e584b4; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin: 2.2rem 0 0.3rem; } h3 { margin: 1.2rem 0 0.5rem; font-size: 1rem; }
p { max-width: 60rem; margin: 0.3rem 0 0.8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
td small, p small { color: var(--dim); } .heat { padding: 0.1rem 0.4rem; border-radius: 2px; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; margin: 0.4rem 0; font-size: 0.86rem; }
.legend span::before, .bar i { background: var(--own); }
.legend span::before { content: ""; display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px;
  margin-right: 0.35em; }
.layers { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr max-content; gap: 2px 0.7rem;
  font-size: 0.8rem; align-items: center; font-variant-numeric: tabular-nums; }
.layers div:first-child { overflow-wrap: anywhere; }
.bar { position: relative; display: flex; height: 0.95rem; background: var(--bar); border-radius: 2px;
  overflow: hidden; }
.bar i { height: 100%; } .bar b { position: absolute; top: 0; bottom: 0; width: 2px; background: currentColor; }
.units { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem;
  padding: 0; margin: 0; list-style: none; }
.units li { font-size: 0.8rem; line-height: 1.35; min-width: 0; overflow-wrap: anywhere; }
.units div { display: flex; gap: 3px; margin-top: 0.25rem; }
.units img { width: calc(25% - 3px); aspect-ratio: 1; object-fit: contain; border-radius: 3px; background: var(--bar); }
.tag { color: var(--own); font-weight: 600; }
@media print { body { max-width: none; } .units li { break-inside: avoid; } }
"""


def page(content: dict, shown: list[ShownUnit]) -> str:
    """Returns the page as HTML.

    Args:
        content: What `RESULT_FILE` holds: {"run": text, "dissection": of `dissect` or None, "kernels": of `compare`}.
        shown: The units to show.
    """
    parts = ["<h1>Dissection</h1>"]
    found = content["dissection"]
    if found:
        parts += _dissection(content["run"], found, shown)
    else:
        parts.append(f"<p>{html.escape(content['run'])}. No labelled images were given: kernels only.</p>")
    parts += _kernels(content["kernels"])
    return document("Dissection", _STYLE, "\n".join(parts))


def _dissection(run, found, shown):
    colour_of = {name: f"var(--c{number % _COLOURS})" for number, name in enumerate(found["concepts"])}
    height, width = found["image_size"]
    concepts = ", ".join(f"{number} of {name}" for name, number in found["concepts"].items())
    yield (
        f"<p>{html.escape(run)}: the network of {html.escape(found['domain'])}, {html.escape(found['network'])}, "
        f"{html.escape(found['method'])}, {height} x {width} pixels. {found['images']:,} images; concepts: "
        f"{html.escape(concepts)}; {found['concepts_too_rare']} that are in fewer than {found['least_images']} images "
        "are not counted.</p>"
    )
    yield (
        f"<p>A unit detects the concept with which its strongest {100 * found['share_above']:.1f}% of activations "
        f"overlap best, where intersection over union passes {found['min_iou']}. Intervals are of 95%, from units "
        "drawn anew.</p>"
    )
    if found["beyond_reach"]:
        yield (
            "<p>So large or so small that no unit can pass with so many activations: "
            f"{html.escape(', '.join(found['beyond_reach']))}.</p>"
        )
    yield "<h2>Detectors</h2>"
    yield _kinds_table(found)
    control = "; the line marks the same layer with random weights" if RANDOM in found["networks"] else ""
    yield "<h2>Layer by layer</h2>"
    yield f"<p>Share of the units that are detectors, by category of what they detect{control}.</p>"
    legend = "".join(f'<span style="--own: {colour_of[name]}">{html.escape(name)}</span>' for name in colour_of)
    yield f'<div class="legend">{legend}</div>'
    kinds = found["networks"][TRAINED]["kinds"]
    for kind in kinds:
        yield f"<h3>{kind}</h3>{_layers(found['networks'], kind, colour_of)}"
    yield "<h2>Units</h2><p>The best detectors, one for each concept, with the images that move them most; "
    yield "lit where the unit is above its threshold.</p>"
    for kind in kinds:
        items = "".join(_unit(unit, colour_of) for unit in shown if unit.kind == kind)
        yield f"<h3>{kind}</h3>" + (f'<ul class="units">{items}</ul>' if items else "<p>No unit detects a concept.</p>")


def _kinds_table(found):
    header = ("network", "layers", "units", "detectors", "share", "concepts", "concepts of as many", *found["concepts"])
    rows = []
    for name, network in found["networks"].items():
        for kind, of_kind in network["kinds"].items():
            rows.append(
                [
                    f"{kind}, {name}",
                    f"{of_kind['layers']}",
                    f"{of_kind['units']:,}",
                    _interval(of_kind["detectors"], "{:,.0f}"),
                    _interval(of_kind["share"], "{:.1%}"),
                    _interval(of_kind["unique"], "{:.0f}"),
                    _interval(of_kind["unique_among"], "{:.1f}") if "unique_among" in of_kind else "",
                    *(
                        f"{own['detectors']} <small>({own['unique']})</small>"
                        for own in of_kind["by_category"].values()
                    ),
                ]
            )
        less = network["depthwise_less_pointwise"]
        if less:
            forms = (
                ("detectors", "{:+,.0f}"),
                ("share", "{:+.1%}"),
                ("unique", "{:+.0f}"),
                ("unique_among", "{:+.1f}"),
            )
            differences = [_interval(less[name], form) for name, form in forms]
            rows.append([f"depthwise less pointwise, {name}", "", "", *differences, *[""] * len(found["concepts"])])
    compared = found["networks"][TRAINED]["units_compared"]
    note = "<p>Of a category: detectors, and in brackets concepts."
    if compared:
        note += f" Concepts of as many: how many {compared:,} units detect on average, drawn from all of a kind."
    note += "</p>"
    return _table(header, rows) + note


def _interval(value, form):
    low, high = (form.format(value[end]).lstrip("+") for end in ("low", "high"))
    return f"{form.format(value['value'])} <small>({low} to {high})</small>"


def _layers(networks, kind, colour_of):
    layers = [layer for layer in networks[TRAINED]["layers"] if layer["kind"] == kind]
    control = {layer["name"]: layer for layer in networks.get(RANDOM, {"layers": []})["layers"]}
    shares = [
        layer["detectors"] / layer["units"] for layer in [*layers, *(control.get(one["name"], one) for one in layers)]
    ]
    most = max([*shares, 0.01])
    rows = []
    for layer in layers:
        bars = "".join(
            f'<i style="--own: {colour_of[name]}; width: {100 * own["detectors"] / layer["units"] / most:.2f}%" '
            f'title="{html.escape(name, quote=True)}: {own["detectors"]}"></i>'
            for name, own in layer["by_category"].items()
            if own["detectors"]
        )
        if layer["name"] in control:
            share = control[layer["name"]]["detectors"] / layer["units"]
            bars += f'<b style="left: min({100 * share / most:.2f}%, 100% - 2px)"></b>'
        height, width = layer["size"]
        rows.append(
            f'<div>{html.escape(layer["name"])}</div><div class="bar">{bars}</div>'
            f"<div>{layer['detectors']} of {layer['units']:,}, {height} x {width}</div>"
        )
    return (
        f'<div class="layers">{"".join(rows)}</div><p><small>A full bar is {most:.1%} of a layer\'s units.</small></p>'
    )


def _unit(unit, colour_of):
    images = "".join(f'<img src="{_thumbnail(*image)}" alt="">' for image in unit.images)
    return (
        f'<li><span class="tag" style="--own: {colour_of[unit.category]}">{html.escape(unit.concept)}</span> '
        f"({html.escape(unit.category)}), {unit.iou:.3f}<br>{html.escape(unit.layer)}, unit {unit.unit}"
        f"<div>{images}</div></li>"
    )


def _thumbnail(pixels, above):
    lit = np.where(above[..., None], pixels, pixels * _DIMMED).astype("uint8")
    return thumbnail_uri(Image.fromarray(lit))


def _kernels(kernels):
    distances = kernels["distances"]
    if distances and any(value for row in distances["moved"].values() for value in row):
        domains = distances["domains"]
        yield "<h2>How far depthwise kernels have moved</h2>"
        yield "<p>Distance from the trunk's kernel, by the norm of that, layer by layer.</p>"
        most = max(max(row) for row in distances["moved"].values())
        rows = [
            [html.escape(layer), *(_heat(distances["moved"][domain][i], most, "{:.3f}") for domain in domains)]
            for i, layer in enumerate(distances["layers"])
        ]
        yield _table(("layer", *domains), rows)
        if len(domains) > 1:
            yield "<h2>Which domains are near each other</h2>"
            yield "<p>Distance between the depthwise kernels of two domains: root mean square over layers.</p>"
            most = max(map(max, distances["apart"])) or 1.0
            rows = [
                [html.escape(domain), *(_heat(value, most, "{:.3f}") for value in row)]
                for domain, row in zip(domains, distances["apart"], strict=True)
            ]
            yield _table(("", *domains), rows)
    cka = kernels.get("cka")
    if cka:
        pairs = [tuple(pair[:2]) for pair in cka["layers"][0]["pairs"]]
        yield "<h2>How alike their outputs are</h2>"
        yield (
            f"<p>Linear CKA between the outputs of two domains' networks for the same {cka['images']} images, at "
            f"{cka['positions']:,} positions (all, where there are fewer); 1 is alike but for rotation and scale.</p>"
        )
        rows = [
            [
                f"{html.escape(layer['name'])} <small>{layer['kind']}</small>",
                *(_heat(value, 1.0, "{:.2f}") for *_, value in layer["pairs"]),
            ]
            for layer in cka["layers"]
        ]
        yield _table(("layer", *(f"{one}, {other}" for one, other in pairs)), rows)


def _heat(value, most, form):
    shade = f"rgb(var(--heat) / {0.55 * value / most:.2f})"
    return f'<span class="heat" style="background: {shade}">{form.format(value)}</span>'


def _table(header, rows):
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
