"""What the inputs of predict.py hold, and whether a network can take them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .arrays import channels_error
from .decoding import WITH_ALPHA, PictureFacts, examine_header, examine_picture
from .distributed import gather_shares, share
from .errors import UserError, first_few


def examine(inputs: list[Path]) -> list[PictureFacts | None]:
    """What the inputs hold, by their headers; None where one says nothing.

    A single input is read to its end, for its UserError to come before the model is loaded; of
    many that would cost as much as the work, which goes on without the broken ones.
    """
    if len(inputs) == 1:
        return [examine_picture(inputs[0])]

    def header(path: Path) -> PictureFacts | None:
        """None for a file that will be reported when it is read."""
        try:
            return examine_header(path)
        except UserError:
            return None

    with ThreadPoolExecutor(8) as pool:  # more than cores, since disks answer late
        return gather_shares(list(pool.map(header, share(inputs))))


def check_channels(inputs: list[tuple[Path, PictureFacts]], channels: int) -> None:
    """Raise UserError for a picture whose channels the network cannot take; say of conversions."""
    converted = []
    for path, fact in inputs:
        has = fact.channels_as(channels)
        if has != channels and {has, channels} != {1, 3}:
            raise channels_error(path, has, channels)
        if has != channels or (fact.mode in WITH_ALPHA and channels in (1, 3)):
            converted.append(f'{path.name} ({fact.mode})')
    if converted:
        into = 'grey' if channels == 1 else 'RGB'
        print(f'note: {len(converted)} inputs are taken as {into}: {first_few(converted)}')
