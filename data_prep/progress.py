"""One line that says how far a conversion is; nothing where the output is not a terminal."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class _RateColumn(TextColumn):
    def __init__(self):
        super().__init__("")

    def render(self, task):
        return Text(f"{task.speed or 0:,.0f} images/s")


@contextlib.contextmanager
def progress_line(name: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Shows a line while the body runs.

    Args:
        name: What the line begins with.
        total: Number of images to come.

    Yields:
        A function of the number of images done since the last call and of what is at work now.
    """
    console = Console()
    columns = (
        # A folder of records may be called "x[red]".
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done, what: progress.update(task, advance=done, description=f"{name}  {what}")
