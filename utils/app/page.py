"""The page of app.py: components of Gradio, and what happens when they are used."""

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from utils.images.pages import Source
from utils.runtime.errors import UserError, explain

from . import views
from .pictures import check_limits, shown_name, take_pictures, thumbnails, without_folder
from .results import Request, Results, View

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
        names = self.models.names
        first = self.models.load(names[0])
        titles, offered = first.predictor.masks.titles, thumbnails(self.examples, first.predictor)
        self.files = gr.File(label='Pictures', file_count='multiple', height=150)
        self.gallery = gr.Gallery(
            offered, label='Choose a picture', columns=3, height='auto', object_fit='cover',
            show_label=False, allow_preview=False, interactive=False, buttons=[],
            visible=bool(offered),
        )  # fmt: skip
        self.model = gr.Dropdown(names, value=names[0], label='Model', visible=len(names) > 1)
        self.threshold = gr.Slider(
            0, 1, 0.5, step=0.01, label='Threshold', buttons=[],
            info='A pixel is foreground if its probability is higher.', visible=len(titles) <= 2,
        )  # fmt: skip
        self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label='Opacity of the overlay', buttons=[])
        self.shown = gr.Dropdown(
            _choices(titles), value=1, label='Class of the probability map',
            visible=len(titles) > 2,
        )  # fmt: skip
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
        self.status = gr.HTML(
            '<div class="unet">Drop a picture, or several, or choose one.</div>', min_height=40
        )
        options: dict = {'interactive': False, 'buttons': ['fullscreen'], 'min_width': 220}
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
            [self.files, self.model], [self.shelf, self.gallery, self.truth, self.change],
            trigger_mode='always_last', **private,
        )  # fmt: skip
        self.gallery.select(
            self.choose, self.shelf, [self.shelf, self.truth, self.change],
            trigger_mode='multiple', **private,
        )  # fmt: skip
        self.model.change(
            self.describe, self.model, [self.threshold, self.shown, self.facts, self.change],
            trigger_mode='always_last', **private,
        )  # fmt: skip
        inputs = [
            self.shelf, self.model, self.tile, self.tta, self.threshold, self.opacity, self.shown,
            self.truth,
        ]  # fmt: skip
        self.again.click(self.forget, inputs[:4], self.change, **private)
        # One event for all: while one is drawn, only the last change waits, in each browser.
        changes = [component.change for component in (self.change, *inputs[2:])]
        outputs = [
            self.status, self.overlay, self.mask, self.probability, self.classes, self.links,
            self.errors_column, self.errors,
        ]  # fmt: skip
        gr.on(
            changes, self.draw, inputs, outputs, trigger_mode='always_last', queue=False,
            api_visibility='private', show_progress='minimal', show_progress_on=self.status,
        )  # fmt: skip

    def take(self, files: list[str] | None, model: str) -> tuple:
        """Put uploaded files on the shelf, or the examples if there are none."""
        with self._places:
            try:
                predictor = self.models.load(model).predictor
            except UserError as error:
                gallery = gr.update(value=[], visible=False)
                return Shelf((), None, (str(error),)), gallery, None, next(self._numbers)
            pictures, notes = take_pictures(map(Path, files or ()), predictor.model.n_channels)
            chosen = 0 if pictures else None
            shelf = Shelf(tuple(pictures) if files else self.examples, chosen, tuple(notes))
            offered = thumbnails(shelf.pictures, predictor) if len(pictures) != 1 else []
        gallery = gr.update(value=offered, visible=bool(offered), selected_index=chosen)
        return shelf, gallery, None, next(self._numbers)

    def choose(self, shelf: Shelf, event: gr.SelectData) -> tuple:
        """Choose a picture of the shelf; the true mask was another one's."""
        return shelf._replace(chosen=event.index), None, next(self._numbers)

    def describe(self, model: str) -> tuple:
        """Show what depends on the model, nothing of one that cannot be read; draw anew."""
        try:
            loaded = self.models.load(model)
        except UserError:  # said by draw
            return gr.skip(), gr.skip(), '', next(self._numbers)
        titles = loaded.predictor.masks.titles
        several = len(titles) > 2
        shown = gr.update(choices=_choices(titles), value=1, visible=several)
        threshold = gr.update(visible=not several)
        return threshold, shown, views.facts(loaded.facts), next(self._numbers)

    def forget(self, shelf: Shelf, model: str, tile: str, tta: bool) -> int:
        """Let the chosen picture be predicted again."""
        if shelf.source is not None:
            self.results.forget(self._request(shelf.source, model, tile, tta))
        return next(self._numbers)

    def _request(self, source: Source, model: str, tile: str, tta: bool) -> Request:
        return self.results.request(model, source, TILES[tile], tta)

    def draw(
        self, shelf: Shelf, model: str, tile: str, tta: bool, threshold: float, opacity: float,
        shown: int, truth: str | None,
    ) -> tuple:  # fmt: skip
        """Show the chosen picture, or the message of an error."""
        nothing = (None, None, None, '', '', gr.update(visible=False), None)
        source = shelf.source
        if source is None:
            return views.message(shelf.notes), *nothing
        try:
            request = self._request(source, model, tile, tta)
            view = View(threshold, opacity, shown or 0)
            if truth:
                check_limits(Path(truth))
            with self._places:
                drawing = self.results.draw(request, view, Path(truth) if truth else None)
        except (UserError, OSError, RuntimeError, MemoryError) as error:
            text = explain(error)
            if text is None:
                raise
            for file in (source, *([Path(truth)] if truth else [])):
                text = without_folder(text, file)
            return views.message([*shelf.notes, text]), *nothing
        return self._shown(shelf, request, view, drawing)

    def _shown(self, shelf: Shelf, request: Request, view: View, drawing: Any) -> tuple:
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
        )  # fmt: skip


def _choices(titles: Sequence[str]) -> list[tuple[str, int]]:
    """Return the classes as choices of a dropdown."""
    return [(title, k) for k, title in enumerate(titles)]
