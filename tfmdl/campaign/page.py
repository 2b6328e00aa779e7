"""A report as one HTML file that fetches nothing: its style and script stand beside this module."""

import html
import pathlib

from tfmdl.campaign.figures import COLOURS, dashed
from tfmdl.campaign.sections import Section, TableCell, Thumbnail
from tfmdl.pages import document

LONG_TABLE = 40  # rows: what is longer is folded
_HERE = pathlib.Path(__file__).parent


def html_page(title: str, told: str, sections: list[Section], rows: list[str]) -> str:
    """Returns the text of the page.

    It can be read and printed as it is; where scripts run, tables can be sorted, and rows and domains chosen.

    Args:
        title: Of the page.
        told: What is said below it.
        sections: Of the report.
        rows: Names of the table's rows, by the numbers that the pictures know them by.
    """
    links = "".join(f'<a href="#{_anchor(section)}">{html.escape(section.title)}</a>' for section in sections)
    parts = [f'<h1>{html.escape(title)}</h1><p class="soft">{html.escape(told)}</p><nav>{links}</nav>']
    for section in sections:
        parts.append(f'<section id="{_anchor(section)}"><h2>{html.escape(section.title)}</h2>')
        parts.append(f"<p>{html.escape(section.text)}</p>")
        parts += _content(section, rows)
        parts.append("</section>")
    parts.append(f"<script>{(_HERE / 'page.js').read_text()}</script>")
    return document(title, (_HERE / "page.css").read_text(), "\n".join(parts))


def _content(section, rows):
    if section.rows:
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in section.header)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in section.rows)
        table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        long = len(section.rows) > LONG_TABLE
        yield f"<details><summary>{len(section.rows)} rows</summary>{table}</details>" if long else table
    if section.picture:
        yield f'<div class="scroll"><figure class="wide">{section.picture}</figure></div>'
    if section.panels:
        yield _legend(rows, section.panels)
        figures = (
            f'<figure data-domain="{html.escape(name)}"><figcaption>{html.escape(name)}</figcaption>{panel}</figure>'
            for name, panel in section.panels.items()
        )
        yield f'<div class="panels">{"".join(figures)}</div>'
    for name, thumbnails in section.thumbnails.items():
        items = "".join(map(_thumbnail, thumbnails))
        yield f'<h3>{html.escape(name)}</h3><ul class="samples">{items}</ul>'


def _anchor(section: Section) -> str:
    return "".join(c if c.isalnum() else "-" for c in section.title.lower())


def _legend(rows, panels):
    """Returns the keys of the curves; where scripts run they choose what is shown."""
    keys = "".join(
        f'<button type="button" data-row="{number}"><i class="{_line(number)}"></i>{html.escape(name)}</button>'
        for number, name in enumerate(rows)
    )
    domains = "".join(
        f'<button type="button" data-domain="{html.escape(name)}">{html.escape(name)}</button>' for name in panels
    )
    return f'<div class="legend"><div class="keys">{keys}</div><div class="keys domains">{domains}</div></div>'


def _line(number: int) -> str:
    """Returns the classes of what stands for the lines of a row."""
    return f"s{number % COLOURS}{' dashed' if dashed(number) else ''}"


def _thumbnail(thumbnail: Thumbnail) -> str:
    label, mistake = html.escape(thumbnail.label), html.escape(thumbnail.mistake)
    lines = f'<div class="right">✓&nbsp;{label}</div>'
    if mistake:
        lines += f'<div class="wrong">✗&nbsp;{mistake}</div>'
    return f'<li><img src="{thumbnail.uri}" alt="">{lines}</li>'


def _cell(cell: TableCell) -> str:
    text = html.escape(cell.text)
    if cell.link:
        link = html.escape(cell.link, quote=True)
        text = f'<a href="{link}/" title="{link}">{text}</a>'
    if cell.note:
        text += f'<span class="note">{html.escape(cell.note)}</span>'
    if cell.rank is None:
        return f"<td>{text}</td>"
    best = ' class="best"' if cell.rank == 1 else ""
    return f'<td{best} style="background: rgb(var(--good) / {0.4 * cell.rank:.2f})">{text}</td>'
