"""Progress of a run on the terminal: one line that moves, and one line per epoch."""

import time
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from tfmdl import backend
from tfmdl.cli import text_console


class Progress:
    """Shows step, loss, accuracy, images/s and time left; where there is no terminal, the lines of the epochs only.

    Args:
        total_steps: Steps of the whole run.
        epochs: Epochs of the whole run.
    """

    def __init__(self, total_steps: int, epochs: int):
        self.epochs = epochs
        self._console = _console()
        self._bar = RichProgress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.3f}"),
            TextColumn("{task.fields[rate]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("train", total=total_steps, loss=0.0, accuracy=0.0, rate=0.0)
        self._last = None
        self._rate = 0.0

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.stop()

    def step(self, step: int, images: int, logs: dict) -> None:
        """Moves to `step`, which took `images` images."""
        now = time.perf_counter()
        if self._last is not None:
            rate = images / (now - self._last)
            self._rate = 0.9 * self._rate + 0.1 * rate if self._rate else rate
        self._last = now
        self._bar.update(
            self._task,
            completed=step,
            loss=logs["cross_entropy"],
            accuracy=logs["accuracy"],
            rate=self._rate,
        )

    def epoch(self, line: dict) -> None:
        """Prints the line of an epoch; `line` is that of metrics.jsonl."""
        self._last = None  # what lies between two epochs is not training
        text = (
            f"epoch {line['epoch']:3d}/{self.epochs}  step {line['step']:6d}  "
            f"train loss {line['train/loss']:.3f} accuracy {line['train/accuracy']:.3f}"
        )
        if "val/accuracy" in line:
            text += f"  val loss {line['val/loss']:.3f} accuracy {line['val/accuracy']:.3f}"
        text += f"  learning rate {line['learning_rate']:.3g}  {line['images_per_second']:,.0f} images/s"
        self._console.print(text)

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        self._console.print(text)


def counted(batches, what: str, total: int) -> Iterator:
    """Yields batches, which have `labels`, and shows how many of `total` images they held; at the end, a line.

    Args:
        batches: What is made one by one.
        what: What the line calls it.
        total: Images that are to come.
    """
    console = _console()
    started = time.perf_counter()
    done, rate = 0, ""
    columns = (
        TextColumn("{task.description}", markup=False),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[rate]}"),
    )
    with RichProgress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(what, total=total, rate=rate)
        for batch in batches:
            yield batch
            done += len(batch.labels)
            rate = f"{done / (time.perf_counter() - started):,.0f} images/s"
            bar.update(task, completed=done, rate=rate)
    console.print(f"{what}: {done:,} images, {rate}")


def _console():
    # Of several processes that train together one is heard.
    return text_console(soft_wrap=True, quiet=not backend.writes())
