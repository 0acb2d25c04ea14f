"""A photo studio that paints a car and the map of its parts, for scripts/make_demo_data.py.

    from demo_studio import render_view
    picture, parts = render_view(make_car(seed=0, index=0), view=5, size=(480, 320))

Lengths are in metres, angles in radians; axes are the car's, see demo_car.py.
"""

from collections.abc import Iterable
from copy import copy

import demo_car as model
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Array = np.ndarray
SOLID = [0] + [255] * 255  # as a table for Image.point: any part becomes 255
VIEWS = 16  # angles a car is photographed from
ROOM = [(-0.8, 0.2), (-0.1, 0.7), (0.1, 0.44), (0.45, 0.58), (0.57, 1.15), (0.83, 1.2), (0.93, 0.7)]


class Canvas:
    """A picture and its map of parts, seen by the camera at an angle (radians) around the car."""

    def __init__(self, picture: Image.Image, angle: float) -> None:
        self.backdrop = picture
        self.eye = np.array([9.5 * np.cos(angle), 9.5 * np.sin(angle), 1.9])
        ahead = np.array([0, 0, 0.66]) - self.eye
        ahead /= np.linalg.norm(ahead)
        right = np.array([-np.sin(angle), np.cos(angle), 0])
        self.axes = np.stack([right, np.cross(ahead, right), ahead])
        width, height = picture.size
        self.focal, self.shift = min(1.36 * width, 2.3 * height), [width / 2, height * 0.53]
        self._open(picture.copy())

    def _open(self, picture: Image.Image) -> None:
        self.picture, self.parts = picture, Image.new('L', picture.size)
        self._pens = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.parts)

    def crop(self, picture: Image.Image, box: tuple) -> 'Canvas':
        """A canvas on the box (left, top, right, bottom) of a picture as large as this one."""
        part = copy(self)
        part.shift = np.subtract(self.shift, box[:2])
        part._open(picture.crop(box))
        return part

    def project(self, points: Array) -> Array:
        """Pixels (..., 2) of points (..., 3)."""
        seen = (points - self.eye) @ self.axes.T
        return seen[..., :2] * (self.focal / seen[..., 2:]) + self.shift

    def polygon(self, points: Array, colour: Array, part: int) -> None:
        """Paint an outline (n, 3) in one colour."""
        flat = self.project(points).ravel().tolist()
        self._pens[0].polygon(flat, tuple(int(v) for v in colour))
        self._pens[1].polygon(flat, int(part))

    def paint(self, surfaces: Iterable[tuple]) -> None:
        """Paint the quads that face the eye of one surface after the other."""
        for surface in surfaces:
            self.mesh(surface)

    def mesh(self, surface: tuple, inner: bool = False) -> None:
        """Paint the quads of a surface that face the eye (inner: those that do not)."""
        grid, centre, colour, part, gloss = surface
        corners = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
        quads = np.stack(corners, axis=2).reshape(-1, 4, 3)
        normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        middle = quads.mean(axis=1)
        normal *= np.sign(np.sum(normal * (middle - centre), axis=1, keepdims=True))
        view = self.eye - middle
        far = np.linalg.norm(view, axis=1)
        facing = np.sum(normal * view, axis=1) / far
        order = np.argsort(-far, kind='stable')
        order = order[facing[order] * (-1 if inner else 1) > 1e-4]  # 1e-4: none without area
        view = view[order] / far[order, None]
        fills = self.shade(normal[order], view, middle[order, 2], gloss, np.asarray(colour))
        flats = self.project(quads[order]).reshape(-1, 8).tolist()
        for flat, fill in zip(flats, fills.astype(int).tolist(), strict=True):
            self._pens[0].polygon(flat, tuple(fill))
            self._pens[1].polygon(flat, int(part))

    def shade(self, normal: Array, view: Array, z: Array, gloss: float, colour: Array) -> Array:
        """Colours (n, 3), 0 to 255: soft light from above and the room mirrored in the paint."""
        facing = np.sum(normal * view, axis=1)
        light = 0.42 + 0.55 * (0.5 + 0.5 * normal[:, 2]) ** 1.3 + 0.10 * facing
        light = (light - 0.07 * normal @ self.axes[0]) * np.clip(0.72 + 0.5 * z, 0.6, 1)
        # by the height the mirrored ray goes to: dark below the car, floor, wall, lamps, ceiling
        room = np.interp(2 * facing * normal[:, 2] - view[:, 2], *np.array(ROOM).T)
        fresnel = 0.11 + 0.55 * (1 - np.clip(facing, 0, 1)) ** 4
        shine = 255 * gloss * fresnel * room
        return np.clip(colour * light[:, None] + shine[:, None], 0, 255)


def studio(car: model.Car, angle: float, size: tuple[int, int]) -> Image.Image:
    """Wall, floor, the car's shadow and the turntable's rim, twice as large as size."""
    w, h = (max(8, v // 4) for v in size)  # all is soft but the rim: a sixteenth of the pixels do
    camera = Canvas(Image.new('L', (w, h)), angle)
    horizon = camera.project(np.array([-60 * np.cos(angle), -60 * np.sin(angle), -5]))[1]
    v, side = (np.arange(h)[:, None] - horizon) / h, (np.arange(w) / w - 0.5) ** 2
    wall = 226 + 26 * np.exp(-(((v + 0.33) / 0.16) ** 2)) - 60 * side
    floor = 206 + 26 * np.sqrt(np.clip(v / 0.5, 0, 1)) - 70 * side
    light = floor + (wall - floor) / (1 + np.exp(60 * v))
    x, y = car.body.x, car.body.width
    plan = np.stack([np.r_[x, x[::-1]], np.r_[y, -y[::-1]], np.zeros(2 * len(x))], axis=-1)
    for grow, blur, depth in ((1.1, 0.03, 0.32), (0.98, 0.012, 0.45)):
        camera = Canvas(Image.new('L', (w, h)), angle)
        camera.polygon(plan * grow, (0,), 255)
        soft = camera.parts.filter(ImageFilter.GaussianBlur(blur * min(w, 1.5 * h)))
        light = light * (1 - depth / 255 * np.asarray(soft, np.float32))
    rgb = np.clip(light[..., None] * [0.985, 0.99, 1.0], 0, 255).astype(np.uint8)
    big = Image.fromarray(rgb).resize((2 * size[0], 2 * size[1]), Image.Resampling.BICUBIC)
    camera, pen = Canvas(big, angle), ImageDraw.Draw(big, 'RGBA')
    a = np.linspace(0, 2 * np.pi, 181)
    circle = np.stack([np.cos(a), np.sin(a), 0 * a], axis=-1)
    for inner, outer, fill in ((3.2, 3.26, (90, 92, 96, 90)), (3.26, 3.3, (250, 250, 250, 90))):
        rim = camera.project(np.concatenate([inner * circle, outer * circle[::-1]]))
        pen.polygon(rim.ravel().tolist(), fill)
    return big


def paint_cabin(canvas: Canvas, car: model.Car) -> None:
    """Paint the cabin and, through its glass, the far side's frame, the seats and the studio."""
    cabin, body = car.cabin, model.Part.BODY
    centre = ((car.rear + car.screen) / 2, 0, car.belt + 0.1)
    shell = cabin.point(cabin.x[:, None], np.linspace(0, np.pi, 40))
    canvas.mesh((shell, centre, car.paint, body, 0.8))
    canvas.paint((grid, centre, model.DARK, body, 0.0) for grid in model.panes(car, 0.02))
    glass = [(g, centre, model.DARK, model.Part.WINDOW, 0.9) for g in model.panes(car, 0.0)]
    pixels = np.concatenate([canvas.project(g[0]).reshape(-1, 2) for g in glass]).astype(int)
    box = (*(pixels.min(axis=0) - 2).tolist(), *(pixels.max(axis=0) + 3).tolist())
    inside, far = canvas.crop(canvas.backdrop, box), canvas.crop(canvas.backdrop, box)
    near = canvas.crop(canvas.picture, box)
    tub = cabin.point(cabin.x, np.zeros(len(cabin.x)))
    inside.polygon(np.concatenate([tub, tub[::-1] * [1, -1, 1]]), model.DARK, 0)
    inside.mesh((shell, centre, model.DARK * 1.6, 0, 0.0), inner=True)
    for surface in glass:
        far.mesh(surface, inner=True)
        near.mesh(surface)
    inside.picture.paste(canvas.backdrop.crop(box), mask=far.parts.point(SOLID))
    inside.paint(model.seats(car))
    clear, tinted = near.parts.point(SOLID), Image.blend(inside.picture, near.picture, car.tint)
    canvas.picture.paste(tinted, box, clear)
    canvas.parts.paste(int(model.Part.WINDOW), box, clear)


def paint_car(canvas: Canvas, car: model.Car) -> None:
    """Paint a car from its far side to its near one."""
    near = 1 if canvas.eye[1] >= 0 else -1
    axles = (1, 0) if canvas.eye[0] > 0 else (0, 1)
    # behind the cabin stands what a line of sight meets only after crossing the cabin in plan
    behind, before, path = [], [], np.linspace(0, 1, 200)[:, None]
    for at, surface in model.extras(car):
        x, y, _ = (at + path * (canvas.eye - at)).T
        crossed = (np.abs(y) < 0.4 * car.width) & (x > car.rear) & (x < car.screen - 0.25)
        (behind if crossed[1:].any() and at[2] < car.height else before).append(surface)
    canvas.paint(behind)
    rows = int(np.clip(canvas.picture.width / 64, 18, 60))
    sides = [model.body_side(car, rows, sign) for sign in (-near, near)]
    for grid, centre, *_ in sides:  # from inside, it is what shows in the wheel arches
        canvas.mesh((grid, centre, model.DARK * 0.8, model.Part.BODY, 0.0), inner=True)
    for axle in axles:
        canvas.paint(model.wheel(car, axle, -near))
    centre = (0, 0, car.clearance + 0.25)
    canvas.mesh(model.egg(centre, (0.42 * car.length, car.width / 2 - 0.26, 0.28), 8, model.DARK))
    for axle in axles:
        canvas.paint(model.wheel(car, axle, near))
    canvas.paint(sides)
    for sign in (-near, near):
        canvas.paint(model.side_details(car, sign))
    canvas.paint(model.end_details(car))
    paint_cabin(canvas, car)
    canvas.paint(before)


def render_view(car: model.Car, view: int, size: tuple[int, int]) -> tuple[Image.Image, Array]:
    """Picture (RGB) of a view, 1 to 16, before the sensor's noise, and its parts.

    parts: (height, width) uint8, model.Part of each pixel of the car and 0 elsewhere. It is
    painted twice as large: a pixel is the car's where half of it is, and of its largest part.
    """
    angle = 2 * np.pi * (view - 1) / VIEWS
    canvas = Canvas(studio(car, angle, size), angle)
    paint_car(canvas, car)
    covered = canvas.parts.point(SOLID).reduce(2).point([0] * 128 + [1] * 128)
    shares = [canvas.parts.point(lambda v, p=p: 255 * (v == p)).reduce(2) for p in model.Part]
    largest = np.array(model.Part, np.uint8)[np.argmax(shares, axis=0)]
    return canvas.picture.reduce(2), largest * np.asarray(covered)
