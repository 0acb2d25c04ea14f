"""Tables of benchmark_learning.py: mean and spread of the runs with one setting."""

import statistics

FIGURES = {'dice': 4, 'lowest': 4, 'rand': 4, 'cpu_seconds': 0, 'seconds': 0}  # digits shown
TITLES = (
    '| set | recipe | options | seeds | Dice | Dice of the lowest class | adapted Rand F, thinned '
    '| CPU seconds | seconds | Dice of each class | steps | images seen |'
)


def spread(values: list[float], digits: int) -> str:
    """Return mean, standard deviation, and range."""
    if len(values) < 2:
        return f'{values[0]:.{digits}f}' if values else '-'
    functions = (statistics.fmean, statistics.stdev, min, max)
    mean, deviation, low, high = (f'{function(values):.{digits}f}' for function in functions)
    return f'{mean} ± {deviation} ({low} to {high})'


def table(rows: list[dict]) -> str:
    """Return the rows as Markdown tables, one for each commit and machine, a line a setting."""
    groups: dict[tuple, dict[tuple, list[dict]]] = {}
    for row in rows:
        group = groups.setdefault((row['commit'], row['machine'], row['torch']), {})
        group.setdefault((row['set'], row['recipe'], row['options']), []).append(row)
    lines = []
    for (version, where, torch), settings in reversed(groups.items()):
        lines += [f'## Commit {version}, {where}, torch {torch}', '', TITLES]
        lines += ['|'.join([' --- ' if part else '' for part in TITLES.split('|')])]
        for setting, runs in settings.items():
            cells = [*setting, ' '.join(run['seed'] for run in runs)]
            for name, digits in FIGURES.items():
                cells.append(spread([float(run[name]) for run in runs if run[name]], digits))
            each = zip(*(map(float, run['classes'].split()) for run in runs), strict=True)
            cells += [' '.join(f'{statistics.fmean(values):.3f}' for values in each)]
            lines.append(f'| {" | ".join([*cells, runs[0]["steps"], runs[0]["images"]])} |')
        lines.append('')
    return '\n'.join(lines)
