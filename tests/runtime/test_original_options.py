"""The original's command lines mean the same here, also in the short forms that argparse allows."""

import pytest

import predict
import train

# The original's options with a value that differs from the default, None for flags.
TRAIN = {
    '--epochs': '7', '--batch-size': '3', '--learning-rate': '0.125', '--load': 'x.pth',
    '--scale': '0.25', '--validation': '20', '--amp': None, '--bilinear': None, '--classes': '4',
    '--help': None,
}  # fmt: skip
PREDICT = {
    '--model': 'x.pth', '--input': 'a.jpg', '--output': 'b.png', '--viz': None, '--no-save': None,
    '--mask-threshold': '0.25', '--scale': '0.25', '--bilinear': None, '--classes': '4',
    '--help': None,
}  # fmt: skip
SHORT = {
    '-e': '--epochs', '-b': '--batch-size', '-l': '--learning-rate', '-f': '--load',
    '-s': '--scale', '-v': '--validation', '-c': '--classes', '-h': '--help',
}  # fmt: skip
SHORT_PREDICT = {
    '-m': '--model', '-i': '--input', '-o': '--output', '-v': '--viz', '-n': '--no-save',
    '-t': '--mask-threshold', '-s': '--scale', '-c': '--classes', '-h': '--help',
}  # fmt: skip
PROGRAMS = [(train, TRAIN, SHORT, []), (predict, PREDICT, SHORT_PREDICT, ['--input', 'z.jpg'])]
every_program = pytest.mark.parametrize(
    ('program', 'options', 'short', 'needed'), PROGRAMS, ids=['train', 'predict']
)


def parsed(program, arguments, capsys):
    """What the program makes of the arguments; help is one of the results."""
    try:
        return vars(program.make_parser().parse_args(arguments))
    except SystemExit as stop:
        assert stop.code == 0, (arguments, capsys.readouterr().err)
        return capsys.readouterr().out


def prefixes(options):
    """Each proper prefix of one option of the original alone, and that option."""
    for option in options:
        for end in range(len('--x'), len(option)):
            prefix = option[:end]
            if [name for name in options if name.startswith(prefix)] == [option]:
                yield prefix, option


def test_the_enumeration_finds_what_the_original_took():
    assert {'--e', '--val', '--s', '--c', '--lo', '--le', '--h'} < dict(prefixes(TRAIN)).keys()
    assert not {'--l', '--b'} & dict(prefixes(TRAIN)).keys()
    assert {'--mo', '--ma', '--o', '--n', '--v', '--i'} < dict(prefixes(PREDICT)).keys()
    assert '--m' not in dict(prefixes(PREDICT))


@every_program
def test_every_prefix_that_the_original_took_means_the_same(
    program, options, short, needed, capsys
):
    for prefix, option in prefixes(options):
        value = options[option]
        given = [] if value is None else [value]
        expected = parsed(program, [*needed, option, *given], capsys)
        assert parsed(program, [*needed, prefix, *given], capsys) == expected, prefix
        if given:
            assert parsed(program, [*needed, f'{prefix}={value}'], capsys) == expected, prefix


@every_program
def test_every_short_form_means_the_same_with_and_without_a_space(
    program, options, short, needed, capsys
):
    for letter, option in short.items():
        value = options[option]
        given = [] if value is None else [value]
        expected = parsed(program, [*needed, option, *given], capsys)
        assert parsed(program, [*needed, letter, *given], capsys) == expected, letter
        if given:
            assert parsed(program, [*needed, letter + value], capsys) == expected, letter
            assert parsed(program, [*needed, f'{letter}={value}'], capsys) == expected, letter


@every_program
def test_help_names_no_abbreviation(program, options, short, needed):
    parser = program.make_parser()
    names = {name for action in parser._actions for name in action.option_strings}
    assert not names & dict(prefixes(options)).keys()


@pytest.mark.parametrize(('prefix', 'names'), [('--l', 'load'), ('--val-', 'val-images')])
def test_prefixes_of_several_of_the_originals_options_or_of_ours_alone_are_ambiguous(
    prefix, names, capsys
):
    with pytest.raises(SystemExit):
        train.make_parser().parse_args([prefix, '1'])
    error = capsys.readouterr().err
    assert f'ambiguous option: {prefix} could match' in error
    assert f'--{names}' in error


def test_our_own_options_can_be_abbreviated_as_argparse_has_it():
    assert train.make_parser().parse_args(['--rec', 'classic']).recipe == 'classic'
