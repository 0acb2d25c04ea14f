"""The files of a result that can be downloaded."""

PROBABILITIES = '_probabilities'
# Ends of their names, and what they hold.
FILES = {
    '_OUT.png': 'mask',
    f'{PROBABILITIES}.npy': 'probabilities (.npy)',
    f'{PROBABILITIES}.png': 'probabilities (16-bit PNG)',
}
