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
PROGRAMS = ('train', 'predict', 'evaluate', 'scripts.make_demo_data')  # modules with make_parser
HEAD = """# Options

All options of the programs, one table for each group of `-h`. This file is generated: change the
help text in the program, then run `python scripts/write_options.py`. Other scripts have `-h`.
"""
DEFAULT = re.compile(r'\s*\(default: ((?:[^()]|\([^()]*\))*)\)|^default: (.*)')


def metavar(action: argparse.Action) -> str:
    """Return the placeholder of an option's value, empty for a switch."""
    if action.nargs == 0:
        return ''
    if action.choices is not None:
        name = '{' + ','.join(map(str, action.choices)) + '}'
    else:
        name = str(action.metavar or action.dest.upper())
    return {'?': f'[{name}]', '+': f'{name} [{name} ...]'}.get(action.nargs, name)


def default_and_meaning(action: argparse.Action) -> tuple[str, str]:
    """Split an option's help text into its default and the rest.

    The default is what the text calls '(default: ...)'. Without such words it is 'off' for a
    switch, 'required', or the parser's own default.
    """
    text = (action.help or '') % (vars(action) | {'prog': ''})
    found = DEFAULT.search(text)
    if found:
        return found[1] or found[2], text.replace(found[0], '')
    if action.required:
        return 'required', text
    if action.nargs == 0:
        return 'off', text
    return ('none' if action.default in (None, ()) else str(action.default)), text


def row(action: argparse.Action) -> str:
    """Return an option's line of the table."""
    names = sorted(action.option_strings, key=lambda name: not name.startswith('--'))
    first = f'{names[0]} {metavar(action)}'.strip()
    shown = ', '.join(f'`{name}`' for name in (first, *names[1:]))
    cells = (shown, *default_and_meaning(action))
    return f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in cells)} |'


def options(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    """Return the actions of a group but for -h."""
    return [a for a in group._group_actions if not isinstance(a, argparse._HelpAction)]


def section(module: str) -> str:
    """Return the part of the file about one program; `module` has a make_parser()."""
    parser = importlib.import_module(module).make_parser()
    lines = [f'\n## {module.replace(".", "/")}.py', '', f'{parser.description.rstrip(".")}.', '']
    ungrouped, *named = [list(map(row, options(g))) for g in parser._action_groups[1:]]
    titles = [group.title for group in parser._action_groups[2:]]
    for title, rows in [*zip(titles, named, strict=True), ('Other', ungrouped)]:
        if rows:
            lines += [f'**{title}**', ''] if titles else []
            lines += ['| option | default | meaning |', '| --- | --- | --- |', *rows, '']
    return '\n'.join(lines)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Write docs/options.md from the parsers')
    parser.add_argument(
        '--check', action='store_true', help='write nothing; exit with 1 if the file is out of date'
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    args = make_parser().parse_args(argv)
    text = HEAD + ''.join(map(section, PROGRAMS))
    name = TARGET.relative_to(ROOT)
    if not args.check:
        TARGET.write_text(text, encoding='utf-8')
        print(f'{name} written')
    elif not TARGET.is_file() or TARGET.read_text(encoding='utf-8') != text:
        print(
            f'error: {name} is out of date. Run  python scripts/write_options.py', file=sys.stderr
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
