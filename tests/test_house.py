"""Rules of the code: small modules, short functions, short import chains, light start."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT

PROGRAMS = ['train.py', 'predict.py', 'evaluate.py', 'prune.py', 'app.py']
SOURCES = sorted(
    path
    for path in [*ROOT.glob('*.py'), *(ROOT / 'unet').glob('*.py'), *(ROOT / 'utils').rglob('*.py'),
                 *(ROOT / 'scripts').glob('*.py')]
)  # fmt: skip
TESTS = sorted((ROOT / 'tests').rglob('*.py'))
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try)


def functions(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def nesting(node, depth=0):
    """How deep blocks stand in blocks; an elif is no block of its own."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child, depth + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_functions_and_nesting_stay_small(path):
    assert path.read_text(encoding='utf-8').count('\n') <= 300
    for function in functions(path):
        assert function.end_lineno - function.lineno + 1 <= 60, function.name
        assert nesting(function) <= 4, function.name


def test_modules_of_tests_stay_small():
    lines = {path: path.read_text(encoding='utf-8').count('\n') for path in TESTS}
    assert len(lines) > 100
    assert [str(path.relative_to(ROOT)) for path in TESTS if lines[path] > 300] == []


def public_functions(path):
    """Functions and methods; those within functions are their own affair."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    nodes = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]
    return [node for node in nodes if not node.name.startswith('_')]


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_are_documented_and_typed(path):
    for function in public_functions(path):
        arguments = [a for a in function.args.args if a.arg not in ('self', 'cls')]
        assert all(a.annotation for a in arguments), function.name
        assert ast.get_docstring(function), function.name


def imported_modules(path, modules):
    """Names in `modules` that a file imports, late imports included, types for checking not."""
    package = '.'.join(path.relative_to(ROOT).with_suffix('').parts[:-1])
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = package.split('.')[: len(package.split('.')) - node.level + 1]
            base = '.'.join(
                [*(home if node.level else []), *([node.module] if node.module else [])]
            )
            found |= {base, *(f'{base}.{alias.name}' for alias in node.names)}
    return found & set(modules)


@pytest.mark.slow
def test_no_chain_of_imports_is_longer_than_twelve_files_and_none_is_a_circle():
    modules = {}
    for path in SOURCES:
        name = '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
        modules[name] = path
    graph = {name: imported_modules(path, modules) for name, path in modules.items()}

    def longest(name, above=()):
        """The longest chain of imports that begins with a module."""
        assert name not in above, f'circle: {" -> ".join([*above, name])}'
        return [name, *max((longest(n, (*above, name)) for n in graph[name]), key=len, default=[])]

    for program in ('train', 'predict', 'evaluate', 'prune', 'app', 'hubconf'):
        most = 12 + (program == 'prune')  # it stands on train.py, a program
        assert len(longest(program)) <= most, ' -> '.join(longest(program))


def test_folders_have_at_most_twelve_files():
    folders = Counter(path.parent for path in SOURCES if path.name != '__init__.py')
    assert folders[ROOT / 'utils/training'] > 5  # the folders are really seen
    assert {
        str(folder.relative_to(ROOT)): count
        for folder, count in folders.items()
        if count > 12 and folder != ROOT
    } == {}


def run(*command):
    environment = os.environ | {'COLUMNS': '80'}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


WITHOUT_TORCH = 'import sys, runpy; sys.modules["torch"] = sys.modules["numpy"] = None; '


@pytest.mark.parametrize('program', PROGRAMS)
@pytest.mark.parametrize('arguments', [['-h'], ['--no-such-option'], ['--device', 'abacus']])
def test_help_and_wrong_arguments_answer_before_torch_is_imported(program, arguments):
    code = f'sys.argv = {[program, *arguments]!r}; runpy.run_path({program!r}, run_name="__main__")'
    result = run('-c', WITHOUT_TORCH + code)
    assert result.returncode == (0 if arguments == ['-h'] else 2)
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
    ('program', 'description', 'flags'),
    [
        (
            'train.py',
            'Train the UNet on images and target masks',
            '--epochs, -e E|--batch-size, -b B|--learning-rate, -l LR|--load, -f LOAD|'
            '--scale, -s SCALE|--validation, -v VAL|--amp|--bilinear|--classes, -c C',
        ),
        (
            'predict.py',
            'Predict masks from input images',
            '--model, -m FILE|--input, -i INPUT [INPUT ...]|--output, -o OUTPUT [OUTPUT ...]|'
            '--viz, -v|--no-save, -n|--mask-threshold, -t T|--scale, -s SCALE|--bilinear|'
            '--classes, -c C',
        ),
    ],
)
def test_help_shows_the_contracts_flags_and_description(program, description, flags):
    text = run(program, '-h').stdout
    assert f'\n{description}\n' in text
    known = as_any_python_prints_it(text)
    for flag in flags.split('|'):
        assert flag.replace(' ', '') in known, flag


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['train.py', '-s', '0'], 'argument --scale/-s: 0: expected a number over 0 to 1'),
        (['train.py', '-s', '2'], 'argument --scale/-s: 2: expected a number over 0 to 1'),
        (['train.py', '-e', '1.5'], "argument --epochs/-e: '1.5': expected a whole number from 1"),
        (['train.py', '-v', '101'], '--validation/-v: 101: expected a number from 0 to 100'),
        (['train.py', '-l', '-1'], 'expected'),
        (['predict.py'], 'the following arguments are required: --input/-i'),
        (
            ['predict.py', '-i', 'a', '-t', '7'],
            '--mask-threshold/-t: 7: expected a number from 0 to',
        ),
    ],
)
def test_numbers_out_of_range_are_refused_with_what_is_expected(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr


def as_any_python_prints_it(help_text):
    """Without spaces, and with '-s, --scale S' for the '-s S, --scale S' of before Python 3.13.

    Versions of Python differ in this, and therefore in where they break lines.
    """
    joined = ' '.join(help_text.split())
    return re.sub(r'(-[\w-]+) ([^,]+?), (-[\w-]+) \2(?= )', r'\1, \3 \2', joined).replace(' ', '')
