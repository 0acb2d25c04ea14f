"""Run-length encoding of masks: by hand, there and back, and as a submission file."""

import csv

import numpy as np
import pytest
from drawing import decode_rle

from utils.masks.rle import encode_rle, join_submissions, write_submission


@pytest.mark.parametrize(
    ('mask', 'runs'),
    [
        ([[0, 1, 1], [0, 0, 0]], '2 2'),
        ([[1, 0, 0], [0, 0, 1]], '1 1 6 1'),
        ([[0, 0, 1], [1, 0, 0]], '3 2'),  # a run goes on in the next row
        ([[1, 1, 1], [1, 1, 1]], '1 6'),
        ([[0, 0, 0], [0, 0, 0]], ''),
        ([[1]], '1 1'),
        ([[0, 1, 0, 1, 0, 1]], '2 1 4 1 6 1'),
        ([[1, 0, 1, 0, 1, 0]], '1 1 3 1 5 1'),
    ],
)
def test_runs_count_pixels_from_one_row_by_row(mask, runs):
    mask = np.array(mask)
    assert encode_rle(mask) == runs
    assert encode_rle(mask.astype(bool)) == runs
    assert np.array_equal(decode_rle(runs, mask.shape[::-1]), mask.astype(bool))


@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.99, 1])
def test_decoding_gives_back_what_was_encoded(share):
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = rng.integers(1, 70, 2)
        mask = rng.random((height, width)) < share
        assert np.array_equal(decode_rle(encode_rle(mask), (width, height)), mask)


def test_a_submission_is_a_csv_file_and_parts_make_one(tmp_path):
    rows = [('a.jpg', '1 2'), ('b, c.jpg', ''), ('d.jpg', '3 4 9 1')]
    write_submission(rows, tmp_path / 's.csv')
    text = (tmp_path / 's.csv').read_bytes()
    assert text == b'img,rle_mask\na.jpg,1 2\n"b, c.jpg",\nd.jpg,3 4 9 1\n'
    with (tmp_path / 's.csv').open(newline='') as file:
        assert [tuple(row) for row in csv.reader(file)][1:] == rows
    parts = [tmp_path / name for name in ('0.csv', '1.csv', '2.csv')]
    for part, some in zip(parts, (rows[:2], [], rows[2:]), strict=True):
        write_submission(some, part)
    join_submissions(parts, tmp_path / 'joined.csv')
    assert (tmp_path / 'joined.csv').read_bytes() == text
    assert not any(part.exists() for part in parts)
