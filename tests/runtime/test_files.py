"""Files are written atomically, and output paths are checked before the work begins."""

import importlib
import pickle
import warnings
from pathlib import Path

import pytest
import torch

from utils.runtime import files
from utils.runtime.errors import UserError
from utils.runtime.files import (
    append_csv,
    check_output_file,
    check_output_folder,
    remove_parts,
    whole_file,
)


def test_a_file_is_replaced_whole_or_not_at_all(folder):
    path = folder / 'a.txt'
    path.write_text('old')
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text('half')
        raise RuntimeError
    assert {p.name: p.read_text() for p in folder.iterdir()} == {'a.txt': 'old'}
    with whole_file(path) as part:
        assert part.suffix == '.txt'
        part.write_text('new')
        assert path.read_text() == 'old'
    assert {p.name: p.read_text() for p in folder.iterdir()} == {'a.txt': 'new'}


def test_what_killed_processes_left_half_written_is_removed(folder):
    for name in ('.a.123.part.txt', 'a.txt', '.hidden'):
        (folder / name).touch()
    remove_parts(folder)
    assert {path.name for path in folder.iterdir()} == {'a.txt', '.hidden'}


@pytest.mark.parametrize(
    ('check', 'path', 'error'),
    [
        (check_output_file, 'new.txt', None),
        (check_output_file, 'a.txt', None),
        (check_output_file, 'no/new.txt', r'no/new\.txt .* no folder no '),
        (check_output_file, 'a.txt/new.txt', r'no folder a\.txt '),
        (check_output_file, 'there', r'there is a folder'),
        (check_output_folder, 'new', None),
        (check_output_folder, 'there', None),
        (check_output_folder, 'no/new', r'no/new .* no folder no '),
        (check_output_folder, 'a.txt', r'a\.txt is a file'),
    ],
)
def test_paths_that_cannot_be_written_are_errors(folder, check, path, error):
    Path('there').mkdir()
    Path('a.txt').touch()
    if error:
        with pytest.raises(UserError, match=error):
            check(Path(path))
    else:
        check(Path(path))


def test_csv_rows_are_appended_below_one_header(folder):
    path = folder / 'a.csv'
    append_csv(path, [])
    assert not path.exists()
    append_csv(path, [{'a': 1, 'b': None}])
    append_csv(path, [{'a': 2, 'b': 'x'}])
    assert path.read_text().splitlines() == ['a,b', '1,', '2,x']


def test_warnings_of_torch_load_do_not_reach_the_user(folder):
    torch.save(torch.eye(3).to_sparse(), 'sparse.pt')
    torch.save(torch.eye(3), 'protocol.pt', pickle_protocol=4)
    Path('plain.pt').write_bytes(pickle.dumps({'a': 1}, protocol=4))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        importlib.reload(files)  # pytest has removed the filter that the first import set
        assert files.read_torch_file(Path('sparse.pt')).is_sparse
        for name in ('protocol.pt', 'plain.pt'):
            with pytest.raises(ValueError, match=r'not a file of torch\.save'):
                files.read_torch_file(Path(name))
    assert [str(warning.message) for warning in found] == []
