"""The HTML parts of the page: state, classes, legend, links. All texts are escaped."""

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

from utils.evaluation.metrics import number
from utils.masks.encoding import CLASS_COLOURS, MaskEncoding
from utils.masks.visualize import ERROR_COLOURS

from .downloads import FILES

if TYPE_CHECKING:
    from .models import LoadedModel
    from .results import Drawing

STYLE = """
.gradio-container { max-width: 1280px !important; width: 100%; margin: 0 auto }
.gradio-container .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important }
.gradio-container .picture .image-container, .gradio-container .picture .empty { padding-top: 2em }
.gradio-container .grid-wrap.fixed-height { min-height: 0; max-height: 240px }
.gradio-container .caption-label { font-size: .65rem !important; padding: .1em .4em !important;
  max-width: 100% !important; left: auto }
.unet { font-size: .95em; overflow-wrap: anywhere }
.unet table { width: 100%; margin: 0 }
.unet table, .unet tr { border: 0 }
.unet th, .unet td { padding: .25em .5em; border: 0; text-align: right; overflow-wrap: normal;
  border-bottom: 1px solid var(--border-color-primary) }
.unet td:nth-child(n+3) { white-space: nowrap }
.unet th:nth-child(-n+2), .unet td:nth-child(-n+2) { text-align: left }
.unet.facts td { vertical-align: top }
.unet.facts td + td { overflow-wrap: anywhere }
.unet .key { display: inline-block; width: 1em; height: 1em; border: 1px solid #888;
  vertical-align: -.15em; margin: 0 .15em 0 .5em }
.unet.error { border-left: .4em solid #b3261e; padding: .4em .8em;
  background: var(--background-fill-secondary); white-space: pre-wrap }
.unet a.file { display: inline-block; margin: 0 .5em .4em 0; padding: .35em .9em;
  border: 1px solid var(--border-color-primary); border-radius: var(--radius-md);
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color);
  text-decoration: none }
""".strip()


HINT = '<div class="unet">Drop a picture, or several, or choose one.</div>'


def message(texts: Iterable[str]) -> str:
    """Return messages of errors, '' for none."""
    shown = '\n'.join(filter(None, texts))
    return f'<div class="unet error" role="alert">{escape(shown)}</div>' if shown else ''


def working(name: str, model: str) -> str:
    """Return the line that stands there until a picture is predicted."""
    return f'<div class="unet">Predicting <b>{escape(name)}</b> with {escape(model)} ...</div>'


def status(name: str, drawing: 'Drawing', model: 'LoadedModel') -> str:
    """Return the line about a picture: its size, what was predicted, and how long it took."""
    width, height = drawing.size
    taken, predictor = drawing.prediction, model.predictor
    how = f'{predictor.precision.device.type}, {predictor.precision.name}, {taken.backend}'
    text = (
        f'{width} x {height} pixels at scale {predictor.scale:g}, predicted in '
        f'{taken.reading + taken.computing:.2f} s: reading {taken.reading:.2f} s, network '
        f'{taken.computing:.2f} s ({how})'
    )
    return f'<div class="unet"><b>{escape(name)}</b>: {escape(text)}</div>'


def class_table(drawing: 'Drawing', masks: MaskEncoding) -> str:
    """Return the table of classes: colour, name, share of pixels and, with a true mask, Dice."""
    score = drawing.score
    head = '<th></th><th>class</th><th>share of pixels</th>' + '<th>Dice</th>' * bool(score)
    rows = []
    for k, (title, share) in enumerate(zip(masks.titles, drawing.shares, strict=True)):
        cells = [_key(tuple(CLASS_COLOURS[k].tolist())), escape(title), f'{100 * share:.2f} %']
        cells += [_dice(score.of_classes[k])] if score else []
        rows.append(''.join(f'<td>{cell}</td>' for cell in cells))
    if score:
        kind = 'without the background' if masks.background is not None else 'of all classes'
        rows.append(f'<td></td><td><b>mean, {kind}</b></td><td></td><td><b>{_dice(score.dice)}</b>')
    lines = ''.join(f'<tr>{row}</tr>' for row in [head, *rows])
    return f'<div class="unet"><table>{lines}</table></div>'


def _dice(value: float) -> str:
    return number(None if math.isnan(value) else value)


def _key(colour: tuple[int, ...]) -> str:
    return f'<span class="key" style="background: rgb{colour}"></span>'


def error_legend() -> str:
    """Return the key to the colours of an error map."""
    colours = {'right background': (0, 0, 0)} | ERROR_COLOURS
    keys = ' '.join(
        f'<span style="white-space: nowrap">{_key(colour)} {escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<div class="unet">{keys}</div>'


def links(name: str, view: str, one_class: bool) -> str:
    """Return links to the files of a result. view: the query that says how it is drawn."""
    parts = [
        f'<a class="file" href="results/{name}/{kind}{view}" download>{escape(title)}</a>'
        for kind, title in FILES.items()
        if one_class or '16-bit' not in title
    ]
    return f'<div class="unet"><b>Download</b> &nbsp;{"".join(parts)}</div>'


def facts(known: Mapping[str, str]) -> str:
    """Return the table of what a model's file says of itself."""
    rows = ''.join(f'<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>' for k, v in known.items())
    return f'<div class="unet facts"><table>{rows}</table></div>'
