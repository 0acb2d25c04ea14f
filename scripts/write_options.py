"""Write docs/options.md, the tables of all options, from the parsers of the programs.

    python scripts/write_options.py            # writes the file
    python scripts/write_options.py --check    # exit code 1 if the file is out of date

The tables come from the parsers' actions, not from their help texts: `-h` looks different in other
versions of Python and in terminals of another width.
"""

import argparse
import importlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TARGET = ROOT / 'docs' / 'options.md'
# Modules with make_parser.
PROGRAMS = ('train', 'predict', 'evaluate', 'prune', 'app', 'scripts.make_demo_data')
HEAD = """# Options

All options of the programs, one table for each group of `-h`. This file is generated: change the
help text in the program, then run `python scripts/write_options.py`. Other scripts have `-h`.
"""
DEFAULT = re.compile(r'\s*\(default: ((?:[^()]|\([^()]*\))*)\)|^default: (.*)')


def row(action: argparse.Action) -> str:
    """Return an option's line of the table: names, default, meaning.

    The default is what the help text calls '(default: ...)', or else the parser's own.
    """
    text = (action.help or '') % (vars(action) | {'prog': ''})
    if found := DEFAULT.search(text):
        default, text = found[1] or found[2], text.replace(found[0], '')
    elif action.required:
        default = 'required'
    elif action.nargs == 0:
        default = 'off'
    else:
        default = 'none' if action.default in (None, ()) else str(action.default)
    names = sorted(action.option_strings, key=lambda name: not name.startswith('--'))
    value = argparse.HelpFormatter('')._format_args(action, action.dest.upper())
    names[0] = f'{names[0]} {value}'.strip()
    cells = ', '.join(f'`{name}`' for name in names), default, text
    return f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in cells)} |'


def section(module: str) -> str:
    """Return the part of the file about one program."""
    parser = importlib.import_module(module).make_parser()
    lines = [f'\n## {module.replace(".", "/")}.py', '', f'{parser.description.rstrip(".")}.', '']
    _, ungrouped, *groups = parser._action_groups
    ungrouped.title = 'Other'
    for group in (*groups, ungrouped):
        rows = [row(action) for action in group._group_actions if action.dest != 'help']
        if rows:
            lines += [f'**{group.title}**', ''] if groups else []
            lines += ['| option | default | meaning |', '| --- | --- | --- |', *rows, '']
    return '\n'.join(lines)


def main() -> None:
    """Write or check the file."""
    parser = argparse.ArgumentParser(description='Write docs/options.md from the parsers')
    parser.add_argument('--check', action='store_true', help='exit with 1 if it is out of date')
    check = parser.parse_args().check
    text = HEAD + ''.join(map(section, PROGRAMS))
    if not check:
        TARGET.write_text(text, encoding='utf-8')
        print('docs/options.md written')
    elif not TARGET.is_file() or TARGET.read_text(encoding='utf-8') != text:
        sys.exit('error: docs/options.md is out of date. Run  python scripts/write_options.py')


if __name__ == '__main__':
    main()
