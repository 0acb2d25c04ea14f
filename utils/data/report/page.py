"""Style and parts of the HTML pages of train.py --check --report and evaluate.py --report.

A page is one file without scripts that loads nothing else, so that it can be sent as it is.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from utils.runtime.files import whole_file

QUALITIES = (82, 65, 45, 25)  # of JPEG, tried in turn until a picture is small enough

# Nothing but what is in the file: no scripts, no addresses.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --text: #222; --soft: #5a5a5a; --line: #ddd; --ground: #fff;
  --card: #f6f6f6; --bad: #b3261e; --doubt: #8a5a00; --good: #1b6e3c; --bar: #0072b2 }
@media (prefers-color-scheme: dark) { :root { --text: #e4e4e4; --soft: #a8a8a8; --line: #444;
  --ground: #191919; --card: #242424; --bad: #ff8a80; --doubt: #f2bd5c; --good: #7fd6a0;
  --bar: #56b4e9 } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1200px; margin: 1.2em auto 3em;
  padding: 0 1em; color: var(--text); background: var(--ground); overflow-wrap: anywhere }
h1 { font-size: 1.5em; margin: 0 0 .4em } h2 { font-size: 1.2em; margin: 1.6em 0 .3em }
h3 { margin: 1.2em 0 .3em; font-size: 1em }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: .5em 0 1.5em }
th, td { padding: .2em .8em; border-bottom: 1px solid var(--line); text-align: left;
  overflow-wrap: normal }
.text td:last-child, .bars td:nth-child(2) { overflow-wrap: anywhere }
.numbers th, .numbers td { text-align: right }
.numbers td { white-space: nowrap }
.numbers th:first-child, .numbers td:first-child { text-align: left }
.text td:first-child { white-space: nowrap }
.pictures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; margin-bottom: 1.5em }
figure { margin: 0 } img { width: 100%; height: auto } figcaption, .note { color: var(--soft) }
.note { margin: .2em 0 .6em }
.key { display: inline-block; width: 1em; height: 1em;
  vertical-align: -.15em; border: 1px solid #888 }
svg text { fill: currentColor } svg rect { fill: var(--bar) }
.verdict { border-left: .5em solid; padding: .5em 1em; background: var(--card); margin: .5em 0 }
.verdict strong { display: block; font-size: 1.2em } .verdict p { margin: .2em 0 }
.verdict div { color: var(--text) }
.bad { color: var(--bad) } .doubt { color: var(--doubt) } .good { color: var(--good) }
.bars { display: table; width: 100% } .bars td { vertical-align: middle }
.bars td:nth-child(3) { width: 45% } .bars td:nth-child(4) { white-space: nowrap }
.bar { height: .9em; min-width: 2px; background: var(--soft); border: 1px solid #8888 }
.gallery { display: grid; gap: 10px; margin-bottom: 1em;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)) }
.gallery figure { background: var(--card); padding: 6px; border-radius: 4px }
.gallery figure:has(input:checked) { grid-column: 1 / -1 }
.gallery label { display: flex; gap: 4px; cursor: zoom-in }
.gallery input { position: absolute; opacity: 0; width: 1px }
.gallery label:focus-within { outline: 2px solid var(--bar) }
.gallery img { flex: 1; min-width: 0; max-height: 240px; object-fit: contain }
.gallery figure:has(input:checked) img { max-height: none }
.gallery figcaption { font-size: .87em; line-height: 1.35; padding-top: 4px }
.gallery b { color: var(--text) }
li { white-space: pre-wrap } ul { padding-left: 1.3em; margin: .3em 0 }
@media (max-width: 600px) { .pictures { grid-template-columns: repeat(2, 1fr) }
  th, td { padding: .2em .35em } .bars td:nth-child(3) { width: 20% } body { padding: 0 .6em } }
""".strip()


def document(title: str, body: str) -> str:
    """Return a page; `body` is HTML, `title` text."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n'
        '</body></html>\n'
    )


def write_page(folder: Path, html: str) -> Path:
    """Write index.html in a folder, which is made if it is missing; return its path."""
    folder.mkdir(exist_ok=True)
    page = folder / 'index.html'
    with whole_file(page) as part:  # names that are no text in any encoding keep their bytes
        part.write_text(html, encoding='utf-8', errors='backslashreplace')
    return page


def table(head: list[str], rows: Sequence[Sequence[object]], text: bool = False) -> str:
    """Return an HTML table of texts and whole numbers; `text` aligns as words."""
    lines = [''.join(f'<th>{escape(cell)}</th>' for cell in head)] if head else []
    lines += [''.join(f'<td>{escape(str(cell))}</td>' for cell in row) for row in rows]
    body = '\n'.join(f'<tr>{line}</tr>' for line in lines)
    return f'<table class="{"text" if text else "numbers"}">\n{body}\n</table>'


def embedded(image: Image.Image, text: str, most_bytes: int | None = None) -> str:
    """Return an <img> that holds an RGB picture; text: its alternative.

    most_bytes: of the file, which then is JPEG and loses quality and size until it fits; else PNG.
    """
    file, kind = io.BytesIO(), 'jpeg' if most_bytes else 'png'
    if not most_bytes:
        image.save(file, 'PNG')
    else:
        file = _small_jpeg(image, most_bytes)
    data = base64.b64encode(file.getvalue()).decode('ascii')
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{data}">'


def _small_jpeg(image: Image.Image, most_bytes: int) -> io.BytesIO:
    while True:
        for quality in QUALITIES:
            file = io.BytesIO()
            image.save(file, 'JPEG', quality=quality, subsampling=0)  # thin outlines stay yellow
            if file.tell() <= most_bytes or max(image.size) < 64:
                return file
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def picture(image: Image.Image, caption: str, text: str) -> str:
    """Return an image embedded as PNG, with its caption and its alternative text."""
    return f'<figure>{embedded(image, text)}<figcaption>{escape(caption)}</figcaption></figure>'


def figure(pictures: Sequence[str], caption: str) -> str:
    """Return pictures side by side that a click enlarges; both arguments are HTML."""
    box = '<input type="checkbox" aria-label="enlarge">'
    shown = f'<label>{box}{"".join(pictures)}</label>' if pictures else ''
    return f'<figure>{shown}<figcaption>{caption}</figcaption></figure>'


def gallery(figures: Sequence[str]) -> str:
    """Return figures in a grid."""
    return '<div class="gallery">\n{}\n</div>'.format('\n'.join(figures))
