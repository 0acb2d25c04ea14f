"""The options of app.py, and the check of its packages. Imports neither torch nor gradio."""

import argparse
import importlib.util
import os
from pathlib import Path

from utils.runtime.cli import add_device_options, number_in
from utils.runtime.errors import UserError

PACKAGES = ('gradio', 'fastapi', 'uvicorn')
EXAMPLES = Path('data/imgs')  # where train.py looks for images


# fmt: off
def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose the networks."""
    add = group.add_argument
    add('--model', '-m', metavar='FILE',
        help='the model file, or a folder of model files to choose from (default: '
        'checkpoints/best.pth, else best.pth or MODEL.pth)')
    add('--scale', '-s', type=number_in(float, 0, 1, above=True), metavar='SCALE',
        help="scale factor for the images (default: the checkpoint's, else 0.5)")
    add_device_options(group, workers=False)

def add_page_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the page."""
    add = group.add_argument
    add('--images', type=Path, metavar='DIR',
        help=f'folder of pictures to offer as examples (default: {EXAMPLES} if it has any)')
    add('--host', metavar='ADDRESS',
        help='address to serve; 0.0.0.0 lets other machines use the page (default: 127.0.0.1; on a '
        'Hugging Face Space 0.0.0.0)')
    add('--port', type=number_in(int, 0, 65535), metavar='N',
        help='port to serve; 0 is any free one (default: the first free one from 7860)')
# fmt: on


def default_host() -> str:
    """Return the address to serve: this machine's only, but on a Hugging Face Space any."""
    named = os.environ.get('GRADIO_SERVER_NAME')
    return named or ('0.0.0.0' if os.environ.get('SPACE_ID') else '127.0.0.1')


def check_packages() -> None:
    """Raise UserError if the packages of the page are missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f'app.py needs packages that are not installed: {", ".join(missing)}. Install them: '
            'pip install -r requirements-app.txt'
        )
