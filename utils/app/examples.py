"""The pictures that the page offers as examples."""

from pathlib import Path

from utils.images.pages import Source
from utils.inference.work_list import find_images
from utils.runtime.errors import UserError

from .options import EXAMPLES

MOST_EXAMPLES = 8


def find_examples(folder: Path | None) -> list[Source]:
    """Return the first pictures of --images, by default of data/imgs, which may have none.

    Raises UserError if a folder that was named has none.
    """
    if folder is None and not EXAMPLES.is_dir():
        return []
    try:
        found, _ = find_images([str(folder or EXAMPLES)], [], False, None)
    except UserError:
        if folder is None:
            return []
        raise
    return [one.path for one in found[:MOST_EXAMPLES]]
