"""The page of a report: its pictures know their rows, tables can be sorted, and all of it stands by itself."""

import math
import re
import types
import xml.etree.ElementTree

import pytest

from tfmdl.campaign import figures
from tfmdl.campaign.page import LONG_TABLE, html_page
from tfmdl.campaign.plan import Row
from tfmdl.campaign.results import Cell, Cost, Results, RowResult
from tfmdl.campaign.sections import Section, plain_rows

DOMAINS = ("base", "third.domain")
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>window.owned = 1</script>'


def row(name, accuracy, multiple, seeds=2):
    """A row of runs that learn for five epochs."""

    def run(seed):
        lines = [{"val/accuracy": accuracy * epoch / 5 + 0.001 * seed} for epoch in range(1, 6)]
        return types.SimpleNamespace(metrics=lambda: [{"epoch": 0}, *lines])

    runs = tuple(map(run, range(seeds)))
    cells = {domain: Cell(runs, (accuracy,) * seeds, 400) for domain in DOMAINS}
    return RowResult(Row(name, name), cells, {}, None, Cost(multiple, 1000, 100, 10, 5000))


def results_of(*rows):
    return Results("val", DOMAINS, list(rows), "S", (), (), "one network")


@pytest.fixture(scope="module")
def results():
    """Twelve rows, half of them almost equally good."""
    return results_of(*(row(f"row {number}", 0.5 + 0.02 * max(number - 6, 0), 1 + number) for number in range(12)))


def ids_of(svg):
    return {element.get("id") for element in xml.etree.ElementTree.fromstring(svg).iter() if element.get("id")}


def test_the_margin_is_that_of_a_mean_of_proportions():
    # The same of two domains: the variance of their mean is half of each one's.
    assert row("one", 0.2, 1).margin(DOMAINS) == pytest.approx(1.96 * math.sqrt(0.2 * 0.8 / (400 * 2) / 2), rel=1e-3)


def test_every_row_has_its_line_and_range_in_each_panel(results):
    panels = figures.learning_curves(results)
    assert list(panels) == list(DOMAINS)
    for domain, svg in panels.items():
        wanted = {f"{domain}-{part}-row{number}" for part in ("line", "range") for number in range(12)}
        assert wanted <= ids_of(svg)
        assert svg.count("stroke: var(--s0)") == svg.count("stroke: var(--s1)") > 0


def test_colours_are_the_pages_and_no_id_is_there_twice(results):
    page = html_page("Campaign", "", sections_of(results), [result.row.name for result in results.rows])
    assert not re.search("#0[1-4]0", page.partition("<body>")[2])
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_names_of_points_do_not_lie_on_each_other(results):
    svg = xml.etree.ElementTree.fromstring(figures.accuracy_by_parameters(results))
    heights = {}
    for group in svg.iter(f"{SVG}g"):
        for text in group.findall(f"{SVG}text"):
            if text.text in {result.row.name for result in results.rows}:
                heights[text.text] = float(text.get("y"))
    assert len(heights) == 12
    placed = sorted(heights.values())
    assert min(b - a for a, b in zip(placed, placed[1:], strict=False)) > figures.LABEL_POINTS - 0.5
    assert heights["row 11"] == placed[0]  # the best is the uppermost
    assert placed[0] > 0 and placed[-1] < float(svg.get("height").removesuffix("pt"))


def test_rows_without_epochs_or_costs_have_no_pictures_of_them():
    bare = RowResult(Row("bare", "bare"), {}, {}, None, None)
    assert figures.learning_curves(results_of(bare)) == {}
    assert "bare" not in figures.accuracy_by_parameters(results_of(bare, row("one", 0.5, 1)))


def sections_of(results):
    table = (("one", "9.5 (9.0 to 10.0)", "1,100"), ("two", "not run", "900"), (HOSTILE, "10.1", "-20"))
    return [
        Section("The table", HOSTILE, ("method", "accuracy", "S"), plain_rows(table)),
        Section("Long", "", ("name",), plain_rows([(str(number),) for number in range(LONG_TABLE + 1)])),
        Section("Points", "", picture=figures.accuracy_by_parameters(results)),
        Section("Curves", "", panels=figures.learning_curves(results)),
    ]


@pytest.fixture(scope="module")
def opened(browser, results, tmp_path_factory):
    """The page in a browser; what it asked for, and errors, are in `told`."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_page(HOSTILE, HOSTILE, sections_of(results), [result.row.name for result in results.rows]))
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.told = []
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("request", lambda request: page.told.append(request.url))
    page.goto(path.as_uri())
    page.asked = path.as_uri()
    yield page
    page.close()


def test_it_fetches_nothing_and_runs_nothing_else(opened):
    assert opened.told == [opened.asked]
    assert opened.evaluate("window.owned") is None and opened.title() == HOSTILE


def test_tables_are_sorted_by_number_with_what_is_missing_last(opened):
    table = opened.locator("table").first

    def order_by(column):
        table.locator("th button", has_text=column).click()
        return table.locator("tbody td:first-child").all_inner_texts()

    assert order_by("accuracy") == [HOSTILE, "one", "two"] and order_by("accuracy") == ["one", HOSTILE, "two"]
    assert order_by("S") == ["one", "two", HOSTILE] and order_by("S") == [HOSTILE, "two", "one"]
    assert order_by("method") == [HOSTILE, "one", "two"]
    assert table.locator("th").nth(0).get_attribute("aria-sort") == "ascending"
    assert table.locator("th").nth(2).get_attribute("aria-sort") is None


def test_rows_and_domains_can_be_chosen_and_lit(opened):
    line = opened.locator('[id="base-line-row1"]')
    opened.hover('.keys [data-row="1"]')
    assert "pale" not in (line.get_attribute("class") or "")
    assert opened.locator('[id="base-line-row2"]').get_attribute("class") == "pale"
    opened.click('.keys [data-row="1"]')
    assert not line.is_visible() and opened.locator('[id="base-line-row2"]').is_visible()
    opened.click(".keys >> text=all")
    assert line.is_visible()
    opened.click('.domains [data-domain="base"]')
    assert opened.locator(".panels figure:visible figcaption").all_inner_texts() == ["third.domain"]
    opened.click('.domains [data-domain="base"]')


@pytest.mark.parametrize("width", [400, 1400])
def test_it_is_no_wider_than_the_window(opened, width):
    opened.set_viewport_size({"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") == width


def test_it_is_dark_where_that_is_wanted_and_never_on_paper(opened):
    def back():
        return opened.evaluate("getComputedStyle(document.body).backgroundColor")

    opened.emulate_media(color_scheme="dark")
    assert back() == "rgb(21, 25, 30)"
    opened.emulate_media(color_scheme="dark", media="print")
    assert back() == "rgb(255, 255, 255)"
