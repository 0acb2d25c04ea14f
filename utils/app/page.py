"""The page of app.py: components of Gradio, and what happens when they are used."""

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr

from utils.images.pages import Source
from utils.runtime.errors import UserError, explain

from . import views
from .inputs import any_choice, any_number
from .pictures import check_limits, shown_name, take_pictures, thumbnails, without_folder
from .results import Drawing, Request, Results, View

if TYPE_CHECKING:
    from .models import Models

TILES = {'automatic': 0, '256': 256, '512': 512, '1024': 1024, '2048': 2048}
# No stylesheet of a font is fetched for the names of fonts that are there.
THEME = gr.themes.Default(
    primary_hue='blue', font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']
)
SIDE_BY_SIDE = 4  # visitors whose pictures are read and drawn at the same time
UPLOADS_AGE = 3600  # seconds for which uploads and drawn pictures are kept at least


class Shelf(NamedTuple):
    """The pictures that a visitor can choose from, the chosen one, and what to say about them."""

    pictures: tuple[Source, ...] = ()
    chosen: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> Source | None:
        """The chosen picture."""
        return None if self.chosen is None else self.pictures[self.chosen]


class Page:
    """The page for some models and examples. All that it knows of a visitor is in its components.

    results: also serve the files to download.
    """

    def __init__(self, models: 'Models', results: Results, examples: Sequence[Source]):
        self.models, self.results, self.examples = models, results, tuple(examples)
        self._numbers = itertools.count(1)  # of changes, see build
        self._places = threading.BoundedSemaphore(SIDE_BY_SIDE)

    def build(self) -> gr.Blocks:
        """Return the page.

        Nothing goes through Gradio's queue: its stream of answers is closed at times when the next
        event has just been sent, and the page then waited for good, once in 60 to 90 pictures that
        were dropped one after another (Gradio 6.31, dev/LOG.md). A change of State draws nothing
        without the queue, hence a hidden number that is another one after each event.
        """
        blocks = gr.Blocks(
            title='U-Net', analytics_enabled=False, delete_cache=(UPLOADS_AGE // 4, UPLOADS_AGE)
        )
        with blocks:
            gr.HTML('<h1 style="font-size: 1.5em; margin: 0">Try a U-Net</h1>', padding=False)
            self.shelf = gr.State(Shelf(self.examples))
            self.change = gr.Number(0, visible='hidden')
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    self._add_controls()
                with gr.Column(scale=5, min_width=300):
                    self._add_results()
            self._connect()
        return blocks

    def _add_controls(self) -> None:
        names, chosen = self.models.names, self.models.first_readable()
        first = self.models.load(chosen)
        titles, offered = first.predictor.masks.titles, thumbnails(self.examples, first.predictor)
        self.files = gr.File(label='Pictures', file_count='multiple', height=150)
        self.gallery = gr.Gallery(
            offered, label='Choose a picture', columns=3, height='auto', object_fit='cover',
            show_label=False, allow_preview=False, interactive=False, buttons=[],
            visible=bool(offered),
        )  # fmt: skip
        self.model = gr.Dropdown(names, value=chosen, label='Model', visible=len(names) > 1)
        self.threshold = any_number(gr.Slider(
            0, 1, 0.5, step=0.01, label='Threshold', buttons=[],
            info='A pixel is foreground if its probability is higher.', visible=len(titles) <= 2,
        ))  # fmt: skip
        self.opacity = any_number(
            gr.Slider(0, 1, 0.5, step=0.05, label='Opacity of the overlay', buttons=[])
        )
        self.shown = any_choice(gr.Dropdown(
            _choices(titles), value=1, label='Class of the probability map',
            visible=len(titles) > 2,
        ))  # fmt: skip
        self.truth = gr.File(label='True mask, for Dice and the error map', height=150)
        with gr.Accordion('More', open=False):
            self.tta = gr.Checkbox(label='Average with the mirror image (--tta flip)')
            self.tile = gr.Dropdown(
                [*TILES], value='automatic', label='Tiles (--tile)',
                info='Side in pixels at the network\'s scale; automatic only if memory needs them.',
            )  # fmt: skip
            self.again = gr.Button('Predict again, to time it', size='sm')
            self.facts = gr.HTML(views.facts(first.facts))

    def _add_results(self) -> None:
        self.status = gr.HTML(views.HINT, min_height=40)
        options: dict = {
            'interactive': False,
            'buttons': ['fullscreen'],
            'min_width': 220,
            'elem_classes': 'picture',
        }
        with gr.Row():
            # A slider has to be followed: JPEG takes 2 ms of 1200 x 801 pixels, WebP 60.
            self.overlay = gr.Image(label='Overlay', format='jpeg', **options)
            self.mask = gr.Image(label='Mask', format='png', **options)
            self.probability = gr.Image(label='Probability, black 0 to white 1', format='jpeg',
                                        **options)  # fmt: skip
        self.links = gr.HTML()
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                self.classes = gr.HTML()
            with gr.Column(scale=1, min_width=280, visible=False) as self.errors_column:
                self.errors = gr.Image(label='Errors', format='png', **options)
                gr.HTML(views.error_legend())

    def _connect(self) -> None:
        private: dict = {'api_visibility': 'private', 'show_progress': 'hidden', 'queue': False}
        gr.on(
            [self.files.upload, self.files.clear, self.files.delete], self.take,
            [self.files, self.model, self.shelf],
            [self.shelf, self.gallery, self.truth, self.status, self.change],
            trigger_mode='always_last', **private,
        )  # fmt: skip
        self.gallery.select(
            self.choose, [self.shelf, self.model],
            [self.shelf, self.truth, self.status, self.change],
            trigger_mode='multiple', **private,
        )  # fmt: skip
        self.model.change(
            self.describe, [self.files, self.model, self.shelf],
            [self.shelf, self.gallery, self.status, self.change], trigger_mode='always_last',
            **private,
        )  # fmt: skip
        inputs = [
            self.shelf, self.model, self.tile, self.tta, self.threshold, self.opacity, self.shown,
            self.truth,
        ]  # fmt: skip
        self.again.click(self.forget, inputs[:4], [self.status, self.change], **private)
        # One event for all: while one is drawn, only the last change waits, in each browser.
        changes = [component.change for component in (self.change, *inputs[2:])]
        outputs = [
            self.status, self.overlay, self.mask, self.probability, self.classes, self.links,
            self.errors_column, self.errors, self.threshold, self.shown, self.facts,
        ]  # fmt: skip
        gr.on(
            changes, self.draw, inputs, outputs, trigger_mode='always_last', queue=False,
            api_visibility='private', show_progress='minimal', show_progress_on=self.status,
        )  # fmt: skip

    def take(self, files: list[str] | None, model: str, shelf: Shelf) -> tuple:
        """Put uploaded files on the shelf, or the examples if there are none.

        The chosen picture stays chosen, with its true mask, if it is still there.
        """
        with self._places:
            try:
                predictor = self.models.load(model).predictor
            except UserError as error:
                gallery = gr.update(value=[], visible=False)
                new = Shelf((), None, (str(error),))
                return new, gallery, gr.skip(), '', next(self._numbers)
            found, notes = take_pictures(map(Path, files or ()), predictor.model.n_channels)
            pictures = tuple(found) if files else self.examples
            stays = shelf.source is not None and shelf.source in pictures
            chosen = pictures.index(shelf.source) if stays else 0 if found else None
            offered = thumbnails(pictures, predictor) if not files or len(pictures) != 1 else []
        new = Shelf(pictures, chosen, tuple(notes))
        gallery = gr.update(value=offered, visible=bool(offered), selected_index=chosen)
        # A mask that was dropped before its picture waits for it.
        truth = gr.skip() if stays or shelf.source is None else None
        return new, gallery, truth, self._working(new, model), next(self._numbers)

    def choose(self, shelf: Shelf, model: str, event: gr.SelectData) -> tuple:
        """Choose a picture of the shelf; the true mask was another one's."""
        new = shelf._replace(chosen=event.index)
        return new, None, self._working(new, model), next(self._numbers)

    def describe(self, files: list[str] | None, model: str, shelf: Shelf) -> tuple:
        """Draw anew with another model; files that the one before could not use are taken again."""
        gallery = gr.skip()
        if shelf.notes or not shelf.pictures:
            shelf, gallery, *_ = self.take(files, model, shelf)
        return shelf, gallery, self._working(shelf, model), next(self._numbers)

    def forget(self, shelf: Shelf, model: str, tile: str, tta: bool) -> tuple:
        """Let the chosen picture be predicted again."""
        if shelf.source is not None:
            self.results.forget(self._request(shelf.source, model, tile, tta))
        return self._working(shelf, model), next(self._numbers)

    def _working(self, shelf: Shelf, model: str) -> str:
        """Return what stands there until `draw` has its result."""
        return '' if shelf.source is None else views.working(shown_name(shelf.source), model)

    def _request(self, source: Source, model: str, tile: str, tta: bool) -> Request:
        return self.results.request(model, source, TILES[tile], tta)

    def draw(
        self, shelf: Shelf, model: str, tile: str, tta: bool, threshold: float, opacity: float,
        shown: int, truth: str | None,
    ) -> tuple:  # fmt: skip
        """Show the chosen picture, or the message of an error."""
        source, notes = shelf.source, list(shelf.notes)
        if source is None:
            return self._nothing(views.message(notes) or views.HINT, model, shown)
        view, drawing = View(threshold, opacity, shown), None
        for mask in dict.fromkeys((truth, None)):  # without the true mask if it is of no use
            try:
                request = self._request(source, model, tile, tta)
                drawing = self._drawing(request, view, mask)
                break
            except (UserError, OSError, RuntimeError, MemoryError) as error:
                text = explain(error)
                if text is None:
                    raise
                for file in (source, *([Path(mask)] if mask else [])):
                    text = without_folder(text, file)
                notes += [text] if text not in notes else []
        if drawing is None:
            return self._nothing(views.message(notes), model, shown)
        return self._shown(shelf._replace(notes=tuple(notes)), request, view, drawing)

    def _nothing(self, status: str, model: str, shown: int) -> tuple:
        """Return what stands there without a result: a text, and what the model has."""
        return (
            status, None, None, None, '', '', gr.update(visible=False), None,
            *self._about(model, shown),
        )  # fmt: skip

    def _drawing(self, request: Request, view: View, truth: str | None) -> Drawing:
        with self._places:
            if truth:
                check_limits(Path(truth))
            return self.results.draw(request, view, Path(truth) if truth else None)

    def _shown(self, shelf: Shelf, request: Request, view: View, drawing: Drawing) -> tuple:
        loaded = self.models.load(request.model, request.version)
        masks, score = loaded.predictor.masks, drawing.score
        name = self.results.link(request)
        status = views.message(shelf.notes) + views.status(
            shown_name(request.source), drawing, loaded
        )
        return (
            status, drawing.overlay, drawing.mask, drawing.probability,
            views.class_table(drawing, masks),
            views.links(name, f'?threshold={view.threshold}', len(masks.values) == 2),
            gr.update(visible=bool(score)), score.errors if score else None,
            *self._about(request.model, view.shown),
        )  # fmt: skip

    def _about(self, model: str, shown: int) -> tuple:
        """Return what depends on the model alone: slider, choice of a class, table of facts."""
        try:
            loaded = self.models.load(model)
        except UserError:  # said by draw
            return gr.skip(), gr.skip(), ''
        titles = loaded.predictor.masks.titles
        several = len(titles) > 2
        value = {} if shown in range(len(titles)) else {'value': 1}
        choice = gr.update(choices=_choices(titles), visible=several, **value)
        return gr.update(visible=not several), choice, views.facts(loaded.facts)


def _choices(titles: Sequence[str]) -> list[tuple[str, int]]:
    """Return the classes as choices of a dropdown."""
    return [(title, k) for k, title in enumerate(titles)]
