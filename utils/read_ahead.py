"""Work done in threads while the results before it are used: reading ahead, writing behind."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')

# Pixels of pictures that may be under way in one place: 24 pictures of 4,000 x 2,700, or one of any
# size. Decoded that is 0.8 GB.
MOST_PIXELS = 2**28


def in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    pixels: Callable[[Item], int],
    threads: int | None = None,
) -> Iterator['Future[Result]']:
    """Finished futures of work(item), in the order of the items.

    Items are taken, and work begins, before their turn, as many as keep all threads busy, but of no
    more than MOST_PIXELS by pixels(item) together, unless it is one alone. threads: up to 8 unless
    given; Pillow lets others run while it decodes and encodes. An error is its future's, and the
    work goes on. When the iteration is given up, work that has not begun is not done.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    waiting: deque[tuple[Future, int]] = deque()
    total = 0
    pool = ThreadPoolExecutor(threads)

    def oldest() -> 'Future[Result]':
        """The first of those that wait, as soon as it is done."""
        nonlocal total
        future, size = waiting.popleft()
        total -= size
        wait([future])
        return future

    try:
        for item in items:
            size = pixels(item)
            while waiting and (len(waiting) >= 2 * threads or total + size > MOST_PIXELS):
                yield oldest()
            waiting.append((pool.submit(work, item), size))
            total += size
            while waiting and waiting[0][0].done():
                yield oldest()
        while waiting:
            yield oldest()
    finally:
        pool.shutdown(cancel_futures=True)
