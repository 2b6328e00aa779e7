"""What a report consists of: sections with a table, pictures or rows of thumbnails."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TableCell:
    """A cell: its text, what stands behind it where there is room, a link relative to the report, its rank in 0..1."""

    text: str
    note: str = ""
    link: str | None = None
    rank: float | None = None


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small image, as a data URI; the name of its class, and what it was taken for if that was another."""

    uri: str
    label: str
    mistake: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, what is to be said of it, and a table, pictures or rows of thumbnails.

    Attributes:
        title, text: The heading, and what is said below it.
        header, rows: The table.
        picture: SVG text.
        panels: SVG texts of one size by name, side by side.
        thumbnails: Rows of them by name.
    """

    title: str
    text: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[TableCell, ...], ...] = ()
    picture: str | None = None
    panels: dict[str, str] = dataclasses.field(default_factory=dict)
    thumbnails: dict[str, tuple[Thumbnail, ...]] = dataclasses.field(default_factory=dict)


def plain_rows(rows) -> tuple[tuple[TableCell, ...], ...]:
    """Returns rows of texts as rows of cells."""
    return tuple(tuple(TableCell(text) for text in row) for row in rows)
