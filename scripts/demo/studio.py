"""A photo studio: renders a car and the map of its parts, for scripts/make_demo_data.py.

    image, mask = photograph(seed=0, index=0, view=5, size=(480, 320))

Lengths are in metres, angles in radians; the axes are those of car.py.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo import car as model

Array = np.ndarray
SOLID = [0] + [255] * 255  # for Image.point: any part becomes 255
VIEWS = 16  # angles from which a car is seen
PALETTE = [0, 0, 0, 255, 255, 255, 31, 119, 180, 255, 127, 14]  # RGB of each class
# Classes of studio, body, window, wheel and other parts (lamps, plates), by --classes.
CLASS_OF_PART = {2: [0, 1, 1, 1, 1], 4: [0, 1, 2, 3, 1]}
ROOM = [(-0.8, 0.2), (-0.1, 0.7), (0.1, 0.44), (0.45, 0.58), (0.57, 1.15), (0.83, 1.2), (0.93, 0.7)]


class Canvas:
    """A picture and its map of parts, seen by a camera at this angle around the car.

    box (left, top, right, bottom): the canvas is this part of the picture only.
    """

    def __init__(self, picture: Image.Image, angle: float, box: tuple | None = None) -> None:
        self.angle = angle
        self.eye = np.array([9.5 * np.cos(angle), 9.5 * np.sin(angle), 1.9])
        ahead = np.array([0, 0, 0.66]) - self.eye
        ahead /= np.linalg.norm(ahead)
        right = np.array([-np.sin(angle), np.cos(angle), 0])
        self.axes = np.stack([right, np.cross(ahead, right), ahead])
        width, height = picture.size
        self.focal = min(1.36 * width, 2.3 * height)
        self.shift = np.array([width / 2, height * 0.53])
        if box:
            self.shift -= box[:2]
            picture = picture.crop(box)
        self.backdrop, self.picture = picture, picture.copy()
        self.parts = Image.new('L', picture.size)
        self._pens = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.parts)

    def project(self, points: Array) -> Array:
        """Return the pixels (..., 2) of points (..., 3)."""
        seen = (points - self.eye) @ self.axes.T
        return seen[..., :2] * (self.focal / seen[..., 2:]) + self.shift

    def polygon(self, points: Array, colour: Iterable[float], part: int) -> None:
        """Fill a polygon of points (n, 3) with one colour."""
        flat = self.project(points).ravel().tolist()
        self._pens[0].polygon(flat, tuple(int(v) for v in colour))
        self._pens[1].polygon(flat, int(part))

    def paint(self, surfaces: Iterable[tuple]) -> None:
        """Paint the quads that face the camera, surface by surface."""
        for surface in surfaces:
            self.mesh(surface)

    def mesh(self, surface: tuple, inner: bool = False) -> None:
        """Paint the quads of a surface that face the camera (inner: the others), far ones first."""
        grid, centre, colour, part, gloss = surface
        corners = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
        quads = np.stack(corners, axis=2).reshape(-1, 4, 3)
        normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        middle = quads.mean(axis=1)
        normal *= np.sign(np.sum(normal * (middle - centre), axis=1, keepdims=True))
        far = np.linalg.norm(self.eye - middle, axis=1)
        view = (self.eye - middle) / far[:, None]
        facing = np.sum(normal * view, axis=1)
        order = np.argsort(-far, kind='stable')
        # 1e-4 leaves out quads without area.
        order = order[facing[order] * (-1 if inner else 1) > 1e-4]
        fills = self.shade(normal[order], view[order], middle[order, 2], gloss, np.asarray(colour))
        flats = self.project(quads[order]).reshape(-1, 8).tolist()
        for flat, fill in zip(flats, fills.astype(int).tolist(), strict=True):
            self._pens[0].polygon(flat, tuple(fill))
            self._pens[1].polygon(flat, int(part))

    def shade(self, normal: Array, view: Array, z: Array, gloss: float, colour: Array) -> Array:
        """Return colours (n, 3), 0 to 255: soft light from above and the mirrored room."""
        facing = np.sum(normal * view, axis=1)
        light = 0.42 + 0.55 * (0.5 + 0.5 * normal[:, 2]) ** 1.3 + 0.10 * facing
        light = (light - 0.07 * normal @ self.axes[0]) * np.clip(0.72 + 0.5 * z, 0.6, 1)
        # By the height of the mirrored ray: dark below the car, floor, wall, lamps, ceiling.
        room = np.interp(2 * facing * normal[:, 2] - view[:, 2], *np.array(ROOM).T)
        fresnel = 0.11 + 0.55 * (1 - np.clip(facing, 0, 1)) ** 4
        shine = 255 * gloss * fresnel * room
        return np.clip(colour * light[:, None] + shine[:, None], 0, 255)


def studio(car: model.Car, angle: float, size: tuple[int, int]) -> Image.Image:
    """Return wall, floor, the car's shadow and the turntable's rim, twice as large as `size`."""
    w, h = (max(8, v // 4) for v in size)  # enough for all but the rim, which has sharp edges
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
    """Paint the cabin and what is seen through its glass: far frame, seats and studio."""
    cabin, body = car.cabin, model.Part.BODY
    centre = ((car.rear + car.screen) / 2, 0, car.belt + 0.1)
    shell = cabin.point(cabin.x[:, None], np.linspace(0, np.pi, 40))
    canvas.mesh((shell, centre, car.paint, body, 0.8))
    canvas.paint((grid, centre, model.DARK, body, 0.0) for grid in model.panes(car, 0.02))
    glass = [(g, centre, model.DARK, model.Part.WINDOW, 0.9) for g in model.panes(car, 0.0)]
    pixels = np.concatenate([canvas.project(g[0]).reshape(-1, 2) for g in glass]).astype(int)
    box = (*(pixels.min(axis=0) - 2).tolist(), *(pixels.max(axis=0) + 3).tolist())
    inside, far = (Canvas(canvas.backdrop, canvas.angle, box) for _ in range(2))
    near = Canvas(canvas.picture, canvas.angle, box)
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
    behind: list[tuple] = []  # extras whose line of sight crosses the cabin, seen from above
    before: list[tuple] = []
    path = np.linspace(0, 1, 200)[:, None]
    for at, surface in model.extras(car):
        x, y, _ = (at + path * (canvas.eye - at)).T
        crossed = (np.abs(y) < 0.4 * car.width) & (x > car.rear) & (x < car.screen - 0.25)
        (behind if crossed[1:].any() and at[2] < car.height else before).append(surface)
    canvas.paint(behind)
    rows = int(np.clip(canvas.picture.width / 64, 18, 60))
    sides = [model.body_side(car, rows, sign) for sign in (-near, near)]
    for grid, centre, *_ in sides:  # the inside shows in the wheel arches
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
    """Return the picture (RGB, without noise) of a view, 1 to 16, and its parts (H, W) uint8.

    Painted twice as large: a pixel is the car's if half of it is, and belongs to its largest part.
    """
    angle = 2 * np.pi * (view - 1) / VIEWS
    canvas = Canvas(studio(car, angle, size), angle)
    paint_car(canvas, car)
    covered = canvas.parts.point(SOLID).reduce(2).point([0] * 128 + [1] * 128)
    covers = [canvas.parts.point(lambda v, p=p: 255 * (v == p)).reduce(2) for p in model.Part]
    largest = np.array(model.Part, np.uint8)[np.argmax(list(map(np.asarray, covers)), axis=0)]
    return canvas.picture.reduce(2), largest * np.asarray(covered)


def photograph(
    seed: int, index: int, view: int, size: tuple[int, int], classes: int
) -> tuple[Image.Image, Image.Image]:
    """Return a view of car `index` with sensor noise, and its palette mask of 2 or 4 classes."""
    picture, parts = render_view(model.make_car(seed, index), view, size)
    rng = np.random.default_rng([seed, index, view])
    pixels = np.asarray(picture, np.float32) * np.float32(rng.uniform(0.95, 1.04))
    pixels += 1.8 * rng.standard_normal(pixels.shape[:2], np.float32)[..., None]
    mask = Image.fromarray(np.array(CLASS_OF_PART[classes], np.uint8)[parts])
    mask.putpalette(PALETTE[: 3 * classes])
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)), mask
