"""train.py --check: the report on a data set, printed and written."""

import argparse
import json
import re
from collections.abc import Iterable

from utils.images.decoding import DECODE_PATH
from utils.runtime.files import check_output_file, check_output_folder, whole_file

from .check import format_report, survey
from .data_page import write_data_page


def check_data(args: argparse.Namespace, decode: str = DECODE_PATH) -> int:
    """Print the report on the data that train.py's options name; return 2 for problems, else 0.

    decode: of the recipe.
    """
    if args.json:
        check_output_file(args.json)
    if args.report:
        check_output_folder(args.report)
    report, contents = survey(args, decode)
    print(format_report(report))
    if args.report:
        print(write_data_page(args.report, report, contents))
    if args.json:
        texts = [*report.get('notes', []), *(problem['text'] for problem in report['problems'])]
        report['proposals'] += options_in(texts)
        with whole_file(args.json) as part:
            part.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return 2 if report['problems'] else 0


def options_in(texts: Iterable[str]) -> list[str]:
    """Return the options that notes and problems propose: those that end a line after a colon."""
    found = [re.search(r': (--\S.*)$', line) for text in texts for line in text.splitlines()]
    return list(dict.fromkeys(match[1] for match in found if match))
