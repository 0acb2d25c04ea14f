"""Try a model in the browser: drop a picture, move the threshold, download the mask.

    python app.py                                 # with checkpoints/best.pth
    python app.py -m checkpoints --images test/   # choose among checkpoints, and among pictures
    python app.py -m model.pth --host 0.0.0.0     # for other machines, too: anyone may use the page

The page is served by this machine, needs no network and loads nothing from elsewhere. Uploads are
deleted when the program ends. Needs  pip install -r requirements-app.txt
"""

import argparse
import sys
from contextlib import closing

from utils.app import options
from utils.runtime.cli import ProgramParser, add_debug_option, run_program


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = ProgramParser('Try a model in the browser')
    options.add_model_options(parser.add_argument_group('Model'))
    options.add_page_options(parser.add_argument_group('Page'))
    add_debug_option(parser)
    return parser


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args(argv)


def serve(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C or SIGTERM. The first model is loaded before it begins."""
    options.check_packages()
    from utils.app.examples import find_examples
    from utils.app.hosting import bound_socket, uploads_folder
    from utils.app.models import Models, find_models

    models = Models(find_models(args.model), (args.scale, args.device, args.amp))
    examples = find_examples(args.images)
    first = models.first_readable()
    print(f'Using device {models.load(first).predictor.precision.device}. Model loaded! {first}')
    host = args.host or options.default_host()
    with uploads_folder() as folder, closing(bound_socket(host, args.port)) as server:
        from utils.app.server import serve_page  # Gradio reads what uploads_folder sets

        serve_page(models, examples, folder, server)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_program(serve, get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
