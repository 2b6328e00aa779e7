"""Work on several cores: a map over threads that keeps the order and never reads far ahead."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def map_ordered(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """Yields `function(item)` for each item, in order, worked out by `workers` threads."""
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        waiting = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            # Enough to keep the workers busy, and no more: the images that wait here are all that are in
            # memory.
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # What nobody will ask for need not be done: an interrupted command ends soon.
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
