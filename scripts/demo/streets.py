"""Streets seen from a car: large surfaces, and thin and small things of under 1 % of the pixels.

Axes: X to the right, Y up, Z ahead, in metres; the origin is on the road under the camera. Things
are painted from far to near on a canvas of twice the size, each with its class; nothing but shape
and place tells a pole from a window frame, or a pedestrian from a tree's shadow.
"""

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw

# The classes of CamVid's masks in their order and colours.
CLASSES = {
    'sky': '808080', 'building': '800000', 'pole': 'c0c080', 'road': '804080',
    'pavement': '3c28de', 'tree': '808000', 'sign': 'c08080', 'fence': '404080', 'car': '400080',
    'pedestrian': '404000', 'cyclist': '0080c0', 'unlabelled': '000000',
}  # fmt: skip
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PERSON, CYCLIST, OTHER = range(12)

WALLS = '8a5a48 a08468 b8ac98 8c8c8a 6c6862 c8c4ba 70584a 989080'
CLOTHES = '202226 2a3040 34302c 4a4c50 6a5c50 1c2c48 8c8478 701c20 a8a49c 2c4034'
PAINTS = '1c1c20 2a2c30 585c60 8c9094 b4b8ba d8d8d6 6c1820 1e2c54 204038 8a8068'
PLATES = 'c8c8c4 b02024 1c4890 d8b830 e0e0dc 206040'
GREYS = '3c4044 54585a 707472 8c8e8a 2c302e a0a29e'

Array = np.ndarray
Draw = Callable[[], None]


def class_table() -> str:
    """Return the text of the table of mask values and their names."""
    rows = (f'{value},{name}' for value, name in enumerate(CLASSES))
    return '\n'.join(['value,name', *rows, ''])


class Street:
    """A street under construction: camera, light, picture (2H, 2W, 3), classes (2H, 2W)."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng, (self.width, self.height) = rng, (2 * size[0], 2 * size[1])
        self.picture = np.zeros((self.height, self.width, 3), np.float32)
        self.classes = np.full((self.height, self.width), SKY, np.uint8)
        self.focal = self.width * rng.uniform(0.75, 1.1)
        self.centre = self.width * rng.uniform(0.32, 0.68), self.height * rng.uniform(0.4, 0.54)
        self.eye = rng.uniform(1.25, 1.8)  # height
        self.half = rng.uniform(3.2, 6.0)  # of the road's width
        self.path = rng.uniform(1.6, 3.6)  # width of a pavement
        self.lane = self.half * rng.uniform(0.2, 0.5) * rng.choice([-1, 1])  # the camera's X
        self.sun = rng.choice([-1, 1])  # the bright side
        self.glare = rng.uniform(0.0, 0.45)  # how much darker the other is
        self.haze = np.float32([190, 195, 200]) * rng.uniform(0.7, 1.1)
        self.clear = rng.uniform(90, 400)  # metres at which two thirds of a colour are haze
        self.noise = [self.waves(length) for length in (1.5, 5, 70)]
        self.things: list[tuple[float, Draw]] = []

    def waves(self, length: float) -> Array:
        """Return smooth noise (2H, 2W) of deviation 1 and this wave length in pixels."""
        shape = self.height, self.width
        frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
        spectrum = np.fft.rfft2(self.rng.standard_normal(shape))
        noise = np.fft.irfft2(spectrum * np.exp(-((frequency * length) ** 2)), shape)
        return (noise / noise.std()).astype(np.float32)

    def pick(self, colours: str, spread: float = 14) -> Array:
        """Return one of the colours (3,), changed a little."""
        colour = np.array(list(bytes.fromhex(self.rng.choice(colours.split()))), np.float32)
        return colour + self.rng.normal(0, spread) + self.rng.normal(0, spread / 3, 3)

    def at(self, points: Iterable) -> Array:
        """Return the pixels (N, 2) of points (N, 3), which are at least 1.2 m ahead."""
        x, y, z = np.asarray(list(points), float).T
        z = np.maximum(z, 1.2)
        scale = self.focal / z
        across = self.centre[0] + (x - self.lane) * scale
        return np.stack([across, self.centre[1] + (self.eye - y) * scale], axis=1)

    def paint(
        self, outline: Array, colour: Array, label: int | None, z: float = 0.0,
        grain: tuple = (0.04, 0.04, 0.06), alpha: float = 1.0, round_: bool = False,
    ) -> None:  # fmt: skip
        """Fill a polygon (N, 2) of pixels, or the ellipse in its bounds, at the distance z.

        label: its class, None leaves what is there. grain: noise of each wave length.
        """
        low = np.clip(np.floor(outline.min(0)), 0, None).astype(int)
        high = np.minimum(np.ceil(outline.max(0)) + 2, (self.width, self.height)).astype(int)
        if (high <= low).any():
            return
        stencil = Image.new('1', tuple((high - low).tolist()))
        pen, points = ImageDraw.Draw(stencil), np.clip(outline - low, -9999, 9999)
        if round_:
            pen.ellipse([*points.min(0), *points.max(0)], fill=1)
        else:
            pen.polygon([tuple(p) for p in points.tolist()], fill=1)
        part = slice(low[1], high[1]), slice(low[0], high[0])
        inside = np.asarray(stencil)
        shade = 1 + sum(g * noise[part][inside] for g, noise in zip(grain, self.noise, strict=True))
        seen = np.exp(-z / self.clear)
        new = np.asarray(colour)[None] * shade[:, None] * seen + self.haze * (1 - seen)
        self.picture[part][inside] = alpha * new + (1 - alpha) * self.picture[part][inside]
        if label is not None:
            self.classes[part][inside] = label

    def quad(self, a: tuple, b: tuple, colour: Array, label: int | None, **how: object) -> None:
        """Paint the upright rectangle between two opposite corners (X, Y, Z)."""
        corners = [a, (b[0], a[1], b[2]), b, (a[0], b[1], a[2])]
        self.paint(self.at(corners), colour, label, (a[2] + b[2]) / 2, **how)

    def ground(self, x: tuple, z: tuple, colour: Array, label: int | None, **how: object) -> None:
        """Paint the rectangle from x[0] to x[1] and z[0] to z[1] on the ground."""
        corners = [(x[k], 0, z[n]) for k, n in ((0, 0), (1, 0), (1, 1), (0, 1))]
        self.paint(self.at(corners), colour, label, z[0], **how)

    def board(
        self, x: float, z: float, outline: list, colour: Array, label: int, **how: object
    ) -> None:
        """Paint an outline [(across, up), …] in metres, seen from the front at (x, z)."""
        self.paint(self.at((x + u, v, z) for u, v in outline), colour, label, z, **how)

    def bar(
        self, x: float, z: float, a: tuple, b: tuple, wide: float, colour: Array, label: int
    ) -> None:
        """Paint a bar between two points (across, up) at (x, z), at least a pixel wide."""
        ends = self.at([(x + a[0], a[1], z), (x + b[0], b[1], z)])
        along = ends[1] - ends[0]
        normal = np.array([-along[1], along[0]]) / max(1e-6, np.hypot(*along))
        normal = normal * max(1.0, wide * self.focal / max(z, 1.2) / 2)
        outline = np.array([ends[0] - normal, ends[1] - normal, ends[1] + normal, ends[0] + normal])
        self.paint(outline, colour, label, z)

    def add(self, z: float, draw: Draw) -> None:
        """Have a thing at the distance z drawn in its turn."""
        self.things.append((z, draw))

    def side_light(self, side: int) -> float:
        """Return the brightness of what faces the street from a side, -1 or 1."""
        return 1.0 if side != self.sun else 1 - self.glare


def paint_sky_and_ground(street: Street) -> None:
    """Paint sky, clouds, road with its marks, and pavements."""
    rng, w, h = street.rng, street.width, street.height
    whole = np.array([[0, 0], [w, 0], [w, h], [0, h]], float)
    blue = rng.uniform(0, 1) * np.float32([-70, -30, 10]) + np.float32([205, 210, 215])
    street.paint(whole, blue * rng.uniform(0.75, 1.15), SKY, grain=(0, 0.01, 0.08))
    fade = np.linspace(0.85, 1.1, h)[:, None, None]
    street.picture *= fade.astype(np.float32)
    tone = rng.uniform(70, 125) + rng.normal(0, 4, 3)
    street.ground((-90, 90), (0, 300), tone * rng.uniform(0.8, 1.35), PAVEMENT)
    street.ground((-street.half, street.half), (0, 300), tone, ROAD, grain=(0.05, 0.03, 0.06))
    white = np.full(3, tone.mean() + rng.uniform(25, 90))
    for z in np.arange(rng.uniform(0, 4), 90, rng.uniform(5, 9)):
        street.ground((-0.08, 0.08), (z, z + 2.5), white, ROAD)
    for side in (-1, 1):
        edge = side * street.half
        kerb = tone * rng.uniform(0.8, 1.5)
        street.quad((edge, 0, 1.2), (edge, 0.13, 200), kerb, PAVEMENT)
        if rng.random() < 0.5:
            x = side * (street.half - 0.3)
            street.ground((x - 0.06, x + 0.06), (0, 150), white * 0.9, ROAD)
    for _ in range(rng.integers(0, 5)):  # shadows and patches
        z, x = rng.uniform(3, 40), rng.uniform(-street.half, street.half)
        size = rng.uniform(0.5, 6, 2)
        street.ground((x, x + size[0]), (z, z + size[1]), tone * 0.5, None, alpha=0.5)


def add_blocks(street: Street, side: int) -> None:
    """Add buildings, gaps with trees, and fences along a side of the street."""
    rng, z = street.rng, street.rng.uniform(-6, 4)
    front = street.half + street.path
    while z < 130:
        length, built = rng.uniform(7, 26), rng.random() < 0.66
        x = side * (front + rng.choice([0, 0, 1.5, 4]))
        if built:
            street.add(z + length, building(street, side, x, z, z + length))
        else:
            street.add(z + length + 2, building(street, side, x + side * 14, z - 9, z + length + 9))
            for _ in range(rng.integers(1, 5)):
                place = side * (abs(x) + rng.uniform(1.5, 8)), z + rng.uniform(0, length)
                street.add(place[1], tree(street, *place))
        if rng.random() < (0.22 if built else 0.6):
            street.add(z + length - 0.5, fence(street, side * (front - 0.15), z, z + length))
        z += length + rng.choice([0, 0, 3])


def building(street: Street, side: int, x: float, near: float, far: float) -> Draw:
    """Return what draws a building from `near` to `far`, its facade at x."""
    rng = street.rng
    height, wall = rng.uniform(4, 17), street.pick(WALLS)
    storey, bay = rng.uniform(2.8, 3.6), rng.uniform(1.6, 3.4)
    glass, frame = wall * rng.uniform(0.3, 0.75) + rng.uniform(0, 30), wall * rng.uniform(0.7, 1.4)
    light, shop = street.side_light(side), rng.random() < 0.4

    def draw() -> None:
        """Paint the walls, then windows and drain pipes."""
        start = max(near, 1.2)
        if far <= start:
            return
        street.quad((x, 0, near), (x + side * 14, height, near), wall * 0.8, BUILDING)
        street.quad((x, 0, start), (x, height, far), wall * light, BUILDING)
        for floor in np.arange(0.9, height - 1.4, storey):
            for z in np.arange(near + 0.6, far - 1, bay):
                if z < 1.2 or z > 60:
                    continue
                top = floor + (2.0 if shop and floor < 1 else 1.5)
                end = z + bay * (0.85 if shop and floor < 1 else 0.5)
                street.quad((x, floor, z), (x, top, end), glass * light, BUILDING)
                street.quad((x, floor, z), (x, top, z + 0.14), frame * light, BUILDING)
        for z in (start, far - 0.15)[rng.integers(0, 2) :]:  # drain pipes are no poles
            street.quad((x, 0, z), (x, height, z + 0.15), frame * light * 0.8, BUILDING)

    return draw


def fence(street: Street, x: float, near: float, far: float) -> Draw:
    """Return what draws a fence along the street at x: rails and pickets that one sees through."""
    rng = street.rng
    height, step = rng.uniform(0.8, 1.7), rng.uniform(0.12, 0.5)
    colour = street.pick(GREYS + ' 6c5844')
    body = rng.choice([0.15, 0.3, 0.5, 0.95], p=[0.35, 0.3, 0.2, 0.15])
    rails = rng.integers(2, 4)

    def draw() -> None:
        """Paint the fence, from its far end on."""
        for z in np.arange(far, max(near, 1.3), -1.0):
            low = max(z - 1.0, 1.2)
            street.quad((x, 0, low), (x, height, z), colour, FENCE, alpha=body)
            for rail in np.linspace(0.15, 1, rails) * height:
                street.quad((x, rail - 0.06, low), (x, rail, z), colour * 0.9, FENCE)
            for post in np.arange(low, z, step) if z < 25 else ():
                street.quad((x, 0, post), (x, height, post + 0.05), colour, FENCE)

    return draw


def tree(street: Street, x: float, z: float) -> Draw:
    """Return what draws a tree: a trunk, and a crown of many patches."""
    rng = street.rng
    height, radius = rng.uniform(3, 11), rng.uniform(1, 3.4)
    green = np.float32([62, 78, 44]) * rng.uniform(0.5, 1.4) + rng.normal(0, 8, 3)
    patches = rng.normal(0, 0.45, (int(rng.integers(25, 60)), 3))
    trunk = rng.uniform(0.12, 0.3), np.float32([70, 60, 50]) * rng.uniform(0.6, 1.3)

    def draw() -> None:
        """Paint trunk and patches."""
        if z < 3:
            return
        street.bar(x, z, (0, 0), (0, height - radius / 2), trunk[0], trunk[1], TREE)
        for u, v, size in patches:
            middle, r = (u * radius, height + v * radius), radius * (0.12 + 0.2 * abs(size))
            box = [(middle[0] - r, middle[1] - r), (middle[0] + r, middle[1] + r)]
            tone = green * (1 + 0.25 * v + 0.3 * size)
            street.board(x, z, box, tone, TREE, grain=(0.2, 0.15, 0.1), round_=True)

    return draw


def pole(street: Street, x: float, z: float) -> Draw:
    """Return what draws a lamp post, a mast, a bollard, or a post with a sign."""
    rng = street.rng
    kind = rng.choice(['lamp', 'mast', 'sign', 'light', 'bollard'], p=[0.3, 0.1, 0.35, 0.15, 0.1])
    height = {'lamp': 6.5, 'mast': 8.5, 'sign': 2.7, 'light': 3.2, 'bollard': 1.0}[kind]
    height *= rng.uniform(0.85, 1.15)
    wide, colour = rng.uniform(0.07, 0.2), street.pick(GREYS)
    size, plate, ink = rng.uniform(0.3, 0.5), street.pick(PLATES), street.pick(PLATES)
    disc, arm = rng.random() < 0.5, -np.sign(x) * rng.uniform(0.8, 2.2)

    def draw() -> None:
        """Paint the post and what it carries."""
        street.bar(x, z, (0, 0), (0, height), wide, colour, POLE)
        if kind == 'lamp':
            street.bar(x, z, (0, height), (arm, height + 0.3), wide * 0.7, colour, POLE)
        for part, tone in ((1.0, plate), (0.6, ink)) if kind == 'sign' else ():
            r, up = size * part, height - size
            box = [(-r, up - r), (r, up - r), (r, up + r), (-r, up + r)]
            street.board(x, z, box, tone, SIGN, round_=disc)
        if kind == 'light':
            box = [(-0.16, height - 0.9), (0.16, height - 0.9), (0.16, height), (-0.16, height)]
            street.board(x, z, box, np.float32([24, 26, 24]), POLE)

    return draw
