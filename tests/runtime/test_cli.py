"""Messages about command lines that argparse alone would leave without a remedy."""

import pytest

import evaluate
import train


@pytest.mark.parametrize('program', [train, evaluate])
def test_a_value_that_begins_with_a_minus_sign_is_explained(program, capsys):
    with pytest.raises(SystemExit):
        program.get_args(['--mask-suffix', '-labels'])
    assert 'is written --mask-suffix=-labels\n' in capsys.readouterr().err
    assert program.get_args(['--mask-suffix=-labels']).mask_suffix == '-labels'


@pytest.mark.parametrize('words', [['--mask-suffix'], ['--mask-suffix', '--resize-masks']])
def test_a_missing_value_is_no_value_with_a_minus_sign(words, capsys):
    with pytest.raises(SystemExit):
        train.get_args(words)
    err = capsys.readouterr().err
    assert err.endswith('argument --mask-suffix: expected one argument\n')
