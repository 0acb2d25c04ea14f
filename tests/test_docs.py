"""The documents are true: links, commands, options, paths, snippets and the generated tables."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

README = ROOT / 'README.md'
DOCS = [README, *sorted((ROOT / 'docs').glob('*.md'))]
PARSED = ('train.py', 'predict.py', 'evaluate.py', 'prune.py', 'app.py',
          'scripts/make_demo_data.py')  # fmt: skip
# Options of torchrun, docker and OpenVINO's opt_in_out.
FOREIGN = {
    '--nproc-per-node', '--signals-to-handle', '--build-arg', '--rm', '--shm-size', '--ulimit',
    '--gpus', '--opt_out',
}  # fmt: skip
every_document = pytest.mark.parametrize('path', DOCS, ids=lambda path: path.name)


def fenced(path, language=None):
    """The fenced blocks of a document, those of one language where it is named."""
    blocks = re.findall(r'^```(\w*)\n(.*?)^```', path.read_text('utf-8'), re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if language is None or name == language]


def prose(path):
    """A document without its fenced blocks."""
    return re.sub(r'^```.*?^```', '', path.read_text('utf-8'), flags=re.DOTALL | re.MULTILINE)


def inline_code(path):
    return re.findall(r'`([^`\n]+)`', prose(path))


def commands(path):
    """Every command of bash blocks, and every `python …`, `bash …` or `torchrun …` in prose."""
    lines = []
    for block in fenced(path, 'bash'):
        lines += block.replace('\\\n', ' ').splitlines()
    lines += [code for code in inline_code(path) if re.match(r'(python|bash|torchrun) ', code)]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words]


def slug(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-')


def anchors(path):
    return {slug(heading) for heading in re.findall(r'^#+ (.*)$', prose(path), re.MULTILINE)}


@pytest.fixture(scope='module')
def parsers():
    sys.path.insert(0, str(ROOT / 'scripts'))  # make_demo_data's own modules
    names = {program: program.removesuffix('.py').replace('/', '.') for program in PARSED}
    found = {program: importlib.import_module(name) for program, name in names.items()}
    sys.path.remove(str(ROOT / 'scripts'))
    return {program: module.make_parser() for program, module in found.items()}


def test_the_readme_is_short():
    assert README.read_text('utf-8').count('\n') <= 250


@every_document
def test_links_pictures_and_anchors_exist(path):
    for target in re.findall(r'\]\(([^)\s]+)\)', prose(path)):
        if '://' in target:
            continue
        name, _, anchor = target.partition('#')
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_readme_links_every_document():
    text = README.read_text('utf-8')
    assert not [path.name for path in DOCS[1:] if f'(docs/{path.name})' not in text]


def split_program(words):
    """The program that a command runs and its arguments; None where it is none of ours."""
    for k, word in enumerate(words):
        if word.endswith(('.py', '.sh')):
            return word, words[k + 1 :]
    return None, []


@every_document
def test_commands_name_programs_and_options_that_exist(path, parsers):
    for words in commands(path):
        if words[:2] == ['python', '-m']:
            assert (ROOT / f'{words[2].replace(".", "/")}.py').is_file(), words
        if words[:3] == ['pip', 'install', '-r']:
            assert (ROOT / words[3]).is_file(), words
        program, arguments = split_program(words)
        if program is None or words[0] not in ('python', 'bash', 'torchrun'):
            continue
        assert (ROOT / program).is_file(), words
        if program in parsers:
            accepted(parsers[program], arguments, program)
        else:
            options = [word for word in arguments if word.startswith('--')]
            text = (ROOT / program).read_text('utf-8')
            known = {option for parser in parsers.values() for option in options_of(parser)}
            assert all(option in text or option in known for option in options), words


def accepted(parser, arguments, program):
    """Whether a parser takes the arguments; prose may name a command by its first options."""
    needed = [action for action in parser._actions if action.required]
    for action in needed:
        action.required = False
    try:
        parser.parse_args(arguments)
    except SystemExit:
        pytest.fail(f'{program} refuses {shlex.join(arguments)}')
    finally:
        for action in needed:
            action.required = True


def options_of(parser):
    return {name for action in parser._actions for name in action.option_strings}


@every_document
def test_options_named_in_the_text_exist(path, parsers):
    known = {option for parser in parsers.values() for option in options_of(parser)} | FOREIGN
    for script in (ROOT / 'scripts').iterdir():
        if script.suffix in ('.sh', '.py'):
            known |= set(re.findall(r'--[a-z][a-z-]+', script.read_text('utf-8')))
    named = {o for code in inline_code(path) for o in re.findall(r'(?<!\S)--[a-z][\w-]*', code)}
    assert not sorted(named - known)


@every_document
def test_paths_named_in_the_documents_exist(path):
    folders = '(?:utils|unet|scripts|tests|dev|docs)'
    named = set(re.findall(rf'(?<![\w/~.]){folders}/[\w/]*(?:\.\w+)?', path.read_text('utf-8')))
    assert not sorted(name for name in named if not (ROOT / name).exists())


def test_the_readmes_tree_names_real_folders_and_all_of_them():
    (tree,) = [block for block in fenced(README, '') if block.startswith('train.py')]
    named = {line.split()[0] for line in tree.splitlines()}
    assert not sorted(name for name in named if not (ROOT / name).exists())
    rooms = {f'utils/{path.parent.name}/' for path in (ROOT / 'utils').glob('*/__init__.py')}
    programs = {path.name for path in ROOT.glob('*.py')}
    assert not sorted((rooms | programs | {'unet/'}) - named)


def test_the_table_of_modules_names_real_modules_and_all_of_them():
    table = re.findall(r'^\| `([\w/]+/)` \| (.*) \|$', prose(ROOT / 'docs/architecture.md'), re.M)
    named = set()
    for folder, cell in table:
        for part in re.split(r' · ', cell):
            names = re.match(r'(?:(?:, | with )?`[\w/.]+`)+', part)
            named |= {folder + name for name in re.findall(r'`([\w/.]+)`', names[0])}
    named = {name if Path(name).suffix else f'{name}.py' for name in named}
    assert not sorted(name for name in named if not (ROOT / name).is_file())
    rooms = [path.parent for path in (ROOT / 'utils').rglob('*/__init__.py')]
    modules = [path for folder in (*rooms, ROOT / 'unet') for path in folder.glob('*.py')]
    modules += [path for path in (ROOT / 'scripts').iterdir() if path.suffix in ('.py', '.sh')]
    there = {path.relative_to(ROOT).as_posix() for path in modules if path.name != '__init__.py'}
    assert not sorted(there - named)


@every_document
def test_imports_of_python_snippets_resolve(path):
    for block in fenced(path, 'python'):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f'{node.module}.{alias.name}'


def write_options(*arguments, **environment):
    return subprocess.run(
        [sys.executable, ROOT / 'scripts/write_options.py', *arguments],
        env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip


def test_the_tables_of_options_are_up_to_date():
    result = write_options('--check', COLUMNS='40')
    assert result.returncode == 0, result.stderr
