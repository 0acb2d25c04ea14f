"""3D model of a car, painted by studio.py.

    surfaces = list(wheel(make_car(seed=0, index=3), 0, 1))    # the left front wheel

x points forwards, y to the car's left, z up, in metres; the origin is on the floor under the car's
middle. Body and cabin are lofts of superellipses (Hull). A surface is a tuple: a grid of points
(rows, columns, 3), a point or points that it faces away from, its colour (3,), its Part, its gloss.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise, product
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

Part = IntEnum('Part', 'BODY WINDOW WHEEL OTHER')  # 0 is the studio
Car = SimpleNamespace  # the columns of SHAPES in metres, and what make_car adds
Array = np.ndarray
DARK = np.array([22.0, 22, 24])

# length to tail: metres. lean: narrowing of the cabin per metre of height. doors: on one side.
# screen (foot of the windscreen) to pane: fractions of the length, from the car's middle.
SHAPES = """
kind      length width height clearance wheel hood belt tail lean doors screen front roof rear pane
sedan     4.75 1.84 1.45 0.19 0.330 0.78 0.96 0.98 0.40 2 0.20  0.03 -0.20 -0.41  -0.310
hatchback 4.05 1.76 1.50 0.18 0.310 0.82 0.97 0.95 0.34 2 0.25  0.08 -0.36 -0.48  -0.400
suv       4.65 1.90 1.73 0.25 0.375 0.96 1.10 1.08 0.24 2 0.21  0.07 -0.40 -0.48  -0.425
van       4.95 1.94 1.95 0.22 0.340 0.92 1.10 1.10 0.13 2 0.33  0.17 -0.46 -0.49  -0.440
pickup    5.40 1.94 1.82 0.29 0.390 1.03 1.16 1.13 0.24 2 0.19  0.08 -0.12 -0.16  -0.125
coupe     4.45 1.84 1.31 0.15 0.315 0.78 0.91 0.94 0.48 1 0.15 -0.02 -0.15 -0.41  -0.250
"""
PAINTS = """ecedec ecedec ecedec e4e2da b2b5b9 b2b5b9 b2b5b9 96999c 96999c 606368 606368 1a1b1e
1a1b1e 1a1b1e 282a30 96161a 96161a 1c3a78 1c3a78 1a4e3e 765c3c ce7818"""  # mostly white to black
# Details of front (f) and rear (r): y from, to in % of half the width (from 0: on both sides),
# height from, to in % of the way from the bumper's foot to the hood's edge, colour.
DETAILS = """f 0 86 2 10 1e1e20 | f 0 62 13 33 18181a | f 66 86 15 28 222225 | f 70 80 18 26 cdcdc8
f 0 50 52 86 96989b | f 0 47 55 83 161618 | f 0 47 62 64 696a6e | f 0 47 72 74 696a6e
f 0 7 60 80 bebfc2 | f 54 93 62 88 3a3c40 | f 57 91 65 86 cdd3d8 | f 62 74 67 83 788088
f 77 86 68 82 f4f6f6 | f 0 28 36 50 1e1e1e | f 0 26 37 49 e2e2da | r 0 86 2 16 202022
r 0 80 39 40 28282a | r 56 93 62 86 46080a | r 58 91 65 83 b01216 | r 66 80 71 77 ec7868
r 82 88 70 78 e8ded6 | r 0 28 60 75 1e1e1e | r 0 26 61 74 e2e2da | r 0 30 80 83 aaacaf
r 52 54 40 95 28282a | r 48 66 3 8 8c8c90 | r 70 84 22 27 96141a"""


class Hull(NamedTuple):
    """A loft along x: a superellipse section at each station; arrays (stations,) in metres."""

    x: Array
    width: Array  # half the width, at z = middle
    middle: Array
    up: Array
    down: Array
    power: float
    lean: float
    crease: float = 0.0

    def at(self, x: Array, name: str) -> Array:
        """Return the named array, interpolated at x."""
        return np.interp(x, self.x, getattr(self, name))

    def roof(self, x: Array) -> Array:
        """Return the height of the section's highest point at x."""
        return self.at(x, 'middle') + self.at(x, 'up')

    def _shrink(self, z: Array, middle: Array) -> Array:
        dent = self.crease * np.exp(-(((z - middle + 0.12) / 0.09) ** 2))
        return (1 - dent) * (1 - self.lean * np.maximum(z - middle, 0))

    def half_width(self, x: Array, z: Array) -> Array:
        """Return half the width at x and height z, 0 outside the section."""
        middle = self.at(x, 'middle')
        tall = np.where(z > middle, self.at(x, 'up'), self.at(x, 'down'))
        share = np.abs(z - middle) / np.maximum(tall, 1e-6)
        flat = np.clip(1 - share**self.power, 0, 1) ** (1 / self.power)
        return self.at(x, 'width') * flat * self._shrink(z, middle)

    def point(self, x: Array, angle: Array) -> Array:
        """Return points (..., 3) at angles of the section: 0 left, pi / 2 top, pi right."""
        c, s, middle = np.cos(angle), np.sin(angle), self.at(x, 'middle')
        reach = (np.abs(c) ** self.power + np.abs(s) ** self.power) ** (-1 / self.power)
        z = middle + reach * s * np.where(s > 0, self.at(x, 'up'), self.at(x, 'down'))
        y = self.at(x, 'width') * reach * c * self._shrink(z, middle)
        return np.stack(np.broadcast_arrays(x, y, z), axis=-1)

    def side(self, x: Array, z: Array, sign: float) -> Array:
        """Return points (..., 3) of the left (sign 1) or right side (-1)."""
        return np.stack(np.broadcast_arrays(x, sign * self.half_width(x, z), z), axis=-1)

    def end(self, y: Array, z: Array, sign: float) -> Array:
        """Return points (..., 3) of the front (sign 1) or rear (-1), by bisection along x."""
        low, high = np.full_like(y, 0.82 * self.x[-1]), np.full_like(y, self.x[-1])
        for _ in range(20):
            x = (low + high) / 2
            inside = self.half_width(sign * x, z) > np.abs(y)
            low, high = np.where(inside, x, low), np.where(inside, high, x)
        wide = np.minimum(np.abs(y), self.half_width(sign * low, z))
        return np.stack([sign * low, np.sign(y) * wide, z], axis=-1)


def patch(corners: list, columns: int, rows: int) -> tuple[Array, Array]:
    """Return u and v (rows + 1, columns + 1) over a quadrilateral of 4 corners, or 2 opposite."""
    if len(corners) == 2:
        (u0, v0), (u1, v1) = corners
        corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
    a, b, c, d = np.asarray(corners, float)
    s, t = np.linspace(0, 1, columns + 1)[:, None], np.linspace(0, 1, rows + 1)[:, None, None]
    return np.moveaxis((1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * d + s * c), -1, 0)


def egg(at: Array | tuple, radii: tuple, power: float, colour: Array, gloss: float = 0.0) -> tuple:
    """Return the surface of a superellipsoid: power 2 is an ellipsoid, 8 nearly a box."""
    u, v = np.linspace(-np.pi, np.pi, 21), np.linspace(-np.pi / 2, np.pi / 2, 11)[:, None]
    unit = np.stack([np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v) + 0 * u], axis=-1)
    unit /= np.linalg.norm(unit, power, axis=-1, keepdims=True)
    return unit * radii + at, at, colour, Part.OTHER, gloss


def smooth(x: Array, knots: list, radius: float) -> Array:
    """Return heights at x of the line through knots (x, z), its corners rounded over `radius`."""
    xs, zs = np.array(sorted(knots)).T
    weights = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    return weights @ [np.interp(x + o, xs, zs) for o in np.linspace(-radius, radius, 9)]


def make_car(seed: int, index: int) -> Car:
    """Return car number `index` of a seed: SHAPES take turns, the rest is random."""
    rng = np.random.default_rng([seed, index])
    (_, *names), *rows = (line.split() for line in SHAPES.strip().splitlines())
    kind, *numbers = rows[index % len(rows)]
    sizes = np.array(numbers, float)
    sizes[:9] *= rng.uniform(0.965, 1.035, 9)  # length to lean
    sizes[10:] = (sizes[10:] + rng.uniform(-0.01, 0.01, 5)) * sizes[0]  # screen to pane
    car = Car(**dict(zip(names, sizes.tolist(), strict=True)))
    car.axles = np.array([rng.uniform(0.29, 0.315), -rng.uniform(0.28, 0.31)]) * car.length
    car.arch = car.wheel * rng.uniform(1.12, 1.18)
    car.body, tall = make_body(car, rng.uniform(4, 5.5)), kind in ('suv', 'van', 'pickup')
    car.cabin = make_cabin(car, 0.07 if tall else 0.16)
    paint = np.array(list(bytes.fromhex(rng.choice(PAINTS.split()))))
    car.paint = np.clip(paint + rng.uniform(-8, 8) + rng.uniform(-3, 3, 3), 12, 212)
    car.rim, car.tint = np.full(3, rng.choice([70.0, 150, 190, 205])), rng.uniform(0.4, 0.7)
    car.spokes = int(rng.choice([5, 6, 7, 10]))
    car.cladding = tall and rng.random() < 0.6
    car.rails = kind in ('suv', 'van') and rng.random() < 0.75
    car.antenna = rng.choice([0.06, 0.2, 0.45])
    return car


def make_body(car: Car, nose: float) -> Hull:
    """Return the lower body; nose: power of its plan, 2 is an ellipse, 6 nearly a rectangle."""
    half = car.length / 2
    # Stations are denser near the ends, where the superellipse closes.
    close = (1 - np.linspace(0, 1, 26) ** nose) ** (1 / nose)
    u = np.unique(np.concatenate([close, -close, np.linspace(-0.96, 0.96, 59)]).round(10))
    x, wide, tall = half * u, (1 - np.abs(u) ** nose) ** (1 / nose), (1 - np.abs(u) ** 9) ** (1 / 9)
    boot = [(-half, car.tail - 0.03), (-0.88 * half, car.tail), (car.rear, car.tail)]
    hood = [(car.screen, car.belt), (0.8 * half, car.hood + 0.04), (half, car.hood - 0.1)]
    top, foot = smooth(x, boot + hood, 0.25), car.clearance + 0.07 * np.maximum(-u - 0.75, 0) / 0.25
    middle, reach = (top + foot) / 2, (top - foot) / 2 * tall
    return Hull(x, car.width / 2 * wide, middle, reach, reach, 4.4, 0.10, 0.022)


def make_cabin(car: Car, rounding: float) -> Hull:
    """Return the cabin on car.body, at its foot as wide as the body."""
    x = np.linspace(car.rear, car.screen, 60)
    foot = car.body.roof(x) - 0.05
    edge, crown = car.height - 0.04, 0.55 * car.front + 0.45 * car.roof
    knots = [(car.roof, edge), (crown, car.height), (car.front, edge)]
    roof = smooth(x, [(x[0], foot[0]), *knots, (x[-1], foot[-1])], rounding)
    width = 0.985 * car.body.half_width(x, foot)
    return Hull(x, width, foot, np.maximum(roof - foot, 0), 0 * x + 0.02, 4.2, car.lean)


def body_side(car: Car, rows: int, sign: int) -> tuple:
    """Return the surface of the body's left (sign 1) or right half, cut out around the wheels."""
    hull, turn = car.body, car.arch * np.cos(np.linspace(np.pi, 0, 17))
    inner = hull.x[:: 2 if rows < 30 else 1]
    cuts = np.sort(np.concatenate([car.axles - car.arch, car.axles + car.arch]))
    grids, void = [], np.full((1, rows, 3), np.nan)  # a row of NaN separates the pieces
    for k, (low, high) in enumerate(pairwise([hull.x[0], *cuts, hull.x[-1]])):
        x = np.r_[low, inner[(inner > low) & (inner < high)], high]
        angle = np.linspace(-np.pi / 2, np.pi / 2, rows)
        if k % 2:  # above a wheel: rows below the arch are folded onto it
            x = (low + high) / 2 + turn
            rim = car.wheel + np.sqrt(np.maximum(car.arch**2 - turn**2, 0)) - hull.at(x, 'middle')
            share = np.clip(rim / hull.at(x, 'up'), -1, 0.85)
            start = np.arctan2(share, (1 - np.abs(share) ** hull.power) ** (1 / hull.power))
            angle = np.maximum(angle, start[:, None])
        grids += [hull.point(x[:, None], angle) * [1, sign, 1], void]
    return np.concatenate(grids), (0, 0, 0.55), car.paint, Part.BODY, 0.8


def wheel(car: Car, axle: int, sign: int) -> Iterator[tuple]:
    """Yield the surfaces of a wheel: axle 0 is the front, sign 1 the left side."""
    r, x, wide = car.wheel, car.axles[axle], 0.8 / car.spokes
    y = sign * (car.body.half_width(x, r) - 0.025)
    inside, turn = (x, y - sign * 0.1, r), np.linspace(0, 2 * np.pi, 41)

    def lathe(colour: Array, *profile: tuple) -> tuple:
        """Return the surface of a profile (fraction of the radius, depth) turned about the axle."""
        share, depth = np.array(profile, float).T[..., None]
        dx, dz = share * r * np.cos(turn), share * r * np.sin(turn)
        grid = np.stack([x + dx, y - sign * depth + 0 * dx, r + dz], axis=-1)
        return grid, inside, colour, Part.WHEEL, 0.0

    yield lathe(DARK * 2, (0, 0.22), (0.93, 0.22), (1, 0.19), (1, 0.03), (0.94, 0), (0.7, 0))
    yield lathe(DARK * 1.5, (0.66, 0.02), (0, 0.02))
    for a in 2 * np.pi * np.arange(car.spokes) / car.spokes + x:
        b, q = np.array([(a - 1, a + 1), (a - wide, a + wide)]), r * np.array([[0.1], [0.68]])
        grid = np.stack([x + q * np.cos(b), np.full((2, 2), y), r + q * np.sin(b)], axis=-1)
        yield grid, inside, car.rim * (1.05 + 0.12 * np.sin(a)), Part.WHEEL, 0.1
    yield lathe(car.rim * 1.15, (0.715, 0), (0.65, 0))
    yield lathe(car.rim * 0.9, (0.16, -0.005), (0, -0.01))


def end_details(car: Car) -> Iterator[tuple]:
    """Yield the surfaces of lamps, grille, bumpers and plates."""
    for row in DETAILS.replace('\n', '|').split('|'):
        where, *numbers, digits = row.split()
        y0, y1, *heights = np.array(numbers, float) / 100
        sign = 1 if where == 'f' else -1
        x, y0, y1 = 0.475 * car.length * sign, y0 * car.width / 2, y1 * car.width / 2
        z0, z1 = car.body.roof(x) + (np.array(heights) - 1) * 1.93 * car.body.at(x, 'down')
        centre, colour = (0.7 * x, 0, (z0 + z1) / 2), list(bytes.fromhex(digits))
        for a, b in [(-y1, y1)] if y0 == 0 else [(y0, y1), (-y1, -y0)]:
            grid = car.body.end(*patch([(a, z0), (b, z1)], 8, 3), sign)
            yield grid, centre, colour, Part.OTHER, 0.25


def side_details(car: Car, sign: int) -> Iterator[tuple]:
    """Yield the surfaces of arch lips, sill, door gaps and handles of one side."""
    plastic, line, belt = DARK * 1.7, car.paint * 0.42, car.belt - 0.035

    def decal(corners: list, colour: Array, columns: int = 3, rows: int = 1) -> tuple:
        grid = car.body.side(*patch(corners, columns, rows), sign)
        return grid, (0, 0, 0.5), colour, Part.BODY, 0.0

    lip, tone = (0.055, plastic) if car.cladding else (0.02, 0.8 * car.paint)
    a, r = patch([(-0.1, car.arch - 0.004), (3.24, car.arch + lip)], 24, 1)
    for axle in car.axles:
        grid = car.body.side(axle + r * np.cos(a), car.wheel + r * np.sin(a), sign)
        yield grid, (axle, 0, car.clearance), tone, Part.BODY, 0.0
    front, rear = car.axles[0] - car.arch, car.axles[1] + car.arch
    low = car.clearance + (0.13 if car.cladding else 0.05)
    yield decal([(rear, car.clearance), (front, low)], plastic, 10)
    front, knee, gap = front - 0.07, car.wheel + 0.8 * car.arch, 0.007
    last = max(rear + car.arch * (0.15 if car.doors == 1 else -0.45), car.rear + 0.03)
    for k, x in enumerate(np.linspace(front, last, int(car.doors) + 1)):
        foot = max(x, rear + 0.03)
        for (x0, z0), (x1, z1) in pairwise([(foot, low + 0.04), (foot, knee), (x, belt)]):
            edges = [(x0 - gap, z0), (x0 + gap, z0), (x1 + gap, z1), (x1 - gap, z1)]
            yield decal(edges, line, 1, 6)
        if k:
            yield decal([(x + 0.09, belt - 0.135), (x + 0.28, belt - 0.09)], line)
            yield decal([(x + 0.09, belt - 0.115), (x + 0.28, belt - 0.09)], car.paint * 0.95 + 20)
    yield decal([(foot, low + 0.034), (front, low + 0.046)], line, 12)


def panes(car: Car, grow: float) -> Iterator[Array]:
    """Yield the grids of the cabin's panes, larger by `grow` metres for their seals."""
    cabin, across = car.cabin, 0.93 - 0.25 * grow
    back = car.rear + (0.02 if car.roof - car.rear < 0.5 else 0.09)
    for low, high in ((car.front - 0.02, car.screen - 0.07), (back, car.roof - 0.01)):
        yield cabin.point(*patch([(low - grow, across), (high + grow, np.pi - across)], 8, 10))
    stops = [car.front - 0.36 - 0.85 * k for k in range(3)]
    stops = [x for x in stops if x > car.pane + 0.4 and car.doors > 1]
    for start, stop in pairwise([car.screen - 0.125, *stops, car.pane]):
        x, v = patch([(stop - grow, 0), (start - 0.075 + grow, 1)], 10, 5)
        foot, top = cabin.at(x, 'middle') + 0.085 - grow, cabin.roof(x) - 0.105 + grow
        for sign in (1, -1):
            yield cabin.side(x, foot + v * np.maximum(top - foot, 0), sign)


def seats(car: Car) -> Iterator[tuple]:
    """Yield the surfaces of seats and headrests."""
    rows = [car.front - 0.35, car.front - 1.2][: 1 + (car.front - car.roof > 0.8)]
    for x, y in product(rows, (0.36, -0.36)):
        yield egg((x, y, car.belt - 0.12), (0.09, 0.23, 0.26), 3.5, DARK * 1.6)
        yield egg((x - 0.05, y, car.belt + 0.21), (0.05, 0.13, 0.09), 3.5, DARK * 1.6)


def extras(car: Car) -> Iterator[tuple[Array, tuple]]:
    """Yield the surfaces of mirrors, roof rails and antenna, each after its position (3,)."""
    half, x = (car.front - car.roof) / 2 - 0.06, (car.front + car.roof) / 2
    wide = 0.62 * car.cabin.half_width(x, car.height - 0.25)
    for sign in (1, -1):
        at = np.array([car.screen - 0.42, sign * (car.width / 2 + 0.07), car.belt + 0.06])
        yield at, egg(at - [0, sign * 0.12, 0.05], (0.03, 0.1, 0.02), 3, DARK * 1.5)
        yield at, egg(at - [0.025, 0, 0], (0.06, 0.09, 0.06), 4, DARK * 5, 0.3)
        yield at, egg(at, (0.07, 0.105, 0.075), 3.2, car.paint, 0.7)
        at = np.array([x, sign * wide, car.height + 0.02])
        if car.rails:
            yield at, egg(at, (half, 0.018, 0.014), 8, DARK * 5, 0.3)
            for post in half * np.array([-0.93, -0.3, 0.3, 0.93]):
                yield at, egg(at - [post, 0, 0.035], (0.035, 0.014, 0.04), 6, DARK * 5)
    at = np.array([car.roof + 0.2, 0, car.height - 0.03 + car.antenna / 2])
    yield at, egg(at, (0.007, 0.007, car.antenna / 2), 6, DARK)
