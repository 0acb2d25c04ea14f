"""docs/tutorial.ipynb: runs from its first cell to its last, has no output in git, knows Colab."""

import base64
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image
from test_docs import accepted, parsers  # noqa: F401  # a fixture

NOTEBOOK = ROOT / 'docs' / 'tutorial.ipynb'
# Two cars, and a network that learns next to nothing.
TINY = """
IMAGES, SIZE, SCALE, EPOCHS, WIDTH, FOLDER = 32, '96x64', 1, 1, 4, Path({folder!r})
"""


@pytest.fixture
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding='utf-8'))


def code(notebook):
    return [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']


def source(cell):
    return ''.join(cell['source'])


def test_ten_cells_of_code_without_output_each_below_its_heading(notebook):
    assert len(code(notebook)) == 10
    assert not [cell for cell in code(notebook) if cell['outputs'] or cell['execution_count']]
    texts = [source(c) for c in notebook['cells'] if c['cell_type'] == 'markdown']
    headings = re.findall(r'^## (\d+)\. ', '\n'.join(texts), re.MULTILINE)
    assert headings == [str(k) for k in range(1, 11)]
    for target in re.findall(r'\]\(([^)#]+)', '\n'.join(texts)):
        assert (ROOT / 'docs' / target).exists(), target


def test_its_commands_have_options_that_exist(notebook, parsers):  # noqa: F811
    text = '\n'.join(map(source, code(notebook)))
    names = {'Path': Path}
    exec('\n'.join(re.findall(r'^[A-Z]+ = .*', text, re.MULTILINE)), names)
    exec(
        '\n'.join(re.findall(r'^(?:train|unseen|tinted|run|best) = .*', text, re.MULTILINE)), names
    )
    commands = re.findall(r'^!\{python\} (.*)$', text, re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        program, *arguments = shlex.split(command.format_map(names))
        accepted(parsers[program], arguments, program)


def test_outside_a_checkout_the_first_cell_clones_and_installs(
    notebook, folder, monkeypatch, capsys
):
    origin, calls = folder / 'origin', []
    origin.mkdir()
    (origin / 'train.py').touch()
    (origin / 'requirements.txt').touch()
    git = ['git', '-C', str(origin), '-c', 'user.name=a', '-c', 'user.email=a@example.org']
    for words in (['init', '-q'], ['add', '.'], ['commit', '-q', '-m', 'a']):
        subprocess.run([*git, *words], check=True)
    run = subprocess.run

    def without_pip(words, **how):
        calls.append(words[3:] if 'pip' in words else words[0])
        return None if 'pip' in words else run(words, **how)

    monkeypatch.setattr(subprocess, 'run', without_pip)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    first = source(code(notebook)[0])
    (folder / 'empty' / 'deeper').mkdir(parents=True)
    monkeypatch.chdir(folder / 'empty' / 'deeper')
    with pytest.raises(ValueError, match='set REPOSITORY to its address'):
        exec(first, {})
    named = first.replace("REPOSITORY = ''", f'REPOSITORY = {origin.as_uri()!r}')
    for _ in range(2):  # the second time it is there
        exec(named, {})
        clone = folder / 'empty' / 'deeper' / 'unet-checkout'
        assert Path.cwd() == clone
        assert sys.path[0] == str(clone)
        os.chdir('..')
    assert calls == ['git', ['install', '-q', '-r', 'unet-checkout/requirements.txt']]


@pytest.mark.slow
def test_it_runs_and_shows_a_picture_of_each_step(tmp_path):
    nbformat, nbclient = pytest.importorskip('nbformat'), pytest.importorskip('nbclient')
    pytest.importorskip('ipykernel')
    book = nbformat.read(NOTEBOOK, as_version=4)
    (place,) = [
        k for k, cell in enumerate(book.cells) if 'parameters' in cell.metadata.get('tags', [])
    ]
    tiny = nbformat.v4.new_code_cell(TINY.format(folder=str(tmp_path / 'run')))
    book.cells.insert(place + 1, tiny)
    client = nbclient.NotebookClient(
        book, timeout=300, kernel_name='python3', resources={'metadata': {'path': ROOT / 'docs'}}
    )
    before = {*ROOT.iterdir(), *(ROOT / 'data').iterdir()}
    client.execute()
    assert {*ROOT.iterdir(), *(ROOT / 'data').iterdir()} == before
    outputs = [cell.outputs for cell in book.cells if cell.cell_type == 'code']
    text = ''.join(out.text for cell in outputs for out in cell if out.output_type == 'stream')
    assert 'error' not in text.lower(), text
    for shown in map(picture, outputs[3:]):  # after project, settings, and those of the test
        assert shown.width >= 800
        assert len(shown.convert('L').getcolors()) > 20


def picture(outputs):
    """The last picture that a cell shows."""
    shown = [out.data['image/png'] for out in outputs if 'image/png' in out.get('data', {})]
    return Image.open(io.BytesIO(base64.b64decode(shown[-1])))
