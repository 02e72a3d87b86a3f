#!/usr/bin/env python3
"""Draws scenes as flat illustrations (numpy and Pillow), and writes data sets and contact sheets.

    python render.py sheet sheet.jpg --count 40
    python render.py dataset train.npz --count 12000 --sizes 256x256,256x256,256x256,320x192,192x320

The drawings are meant to be learnt by a tiny model: large flat shapes, few positions, and textures (rain, snow, stars,
windows) that sit on a lattice of one 32-pixel cell per latent token of the model, so that a texture is a local matter.
"""

import argparse
import json
import math
import multiprocessing
import time
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from captions import caption
from scenes import FACTORS, TERRAINS, THINGS, TIMES, Scene, sample_scene

SUPERSAMPLING = 2
CELL = 32  # pixels of one latent token

RGB = {
    "red": (226, 54, 48),
    "blue": (40, 108, 228),
    "yellow": (252, 206, 40),
    "green": (44, 168, 84),
    "white": (250, 248, 243),
    "purple": (146, 66, 196),
}

# top, middle, horizon
SKIES = {
    "dawn": ((128, 142, 212), (244, 184, 200), (255, 230, 196)),
    "day": ((56, 140, 224), (128, 196, 242), (220, 242, 252)),
    "sunset": ((70, 42, 106), (222, 84, 88), (255, 186, 80)),
    "night": ((8, 12, 42), (20, 32, 82), (54, 70, 130)),
}
STORM = (150, 160, 176)  # what rain and snow mix into the sky
LIGHT = {"dawn": (0.96, 0.86, 0.88), "day": (1, 1, 1), "sunset": (0.76, 0.5, 0.54), "night": (0.28, 0.34, 0.56)}
SUN = {"dawn": (255, 242, 206), "day": (255, 240, 150), "sunset": (255, 220, 104)}
GLOW = {"dawn": (255, 226, 186), "day": (255, 250, 214), "sunset": (255, 156, 64), "night": (150, 172, 228)}
CLOUD = {"dawn": (255, 224, 222), "day": (255, 255, 255), "sunset": (250, 148, 124), "night": (78, 92, 144)}
GROUND = {
    "mountains": (92, 150, 84),
    "snowy": (232, 240, 248),
    "hills": (84, 156, 72),
    "desert": (238, 188, 116),
    "sea": (230, 206, 150),
    "city": (78, 124, 92),
    "forest": (66, 120, 72),
}
SNOW_GROUND = (232, 239, 247)
WATER = (40, 116, 172)
FALL = {"rain": (-2.0, 8.0), "snow": (0.0, 4.0)}  # pixels a frame, in clips


def _mix(a, b, t):
    """Linear blend of two colours given as sequences of 0..255."""
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def _rgb(colour, gain=1.0):
    """Rounded and clipped to what Pillow wants."""
    return tuple(max(0, min(255, round(v * gain))) for v in colour)


@dataclass(frozen=True)
class Moment:
    """How far a clip has come: what is added to a scene at that moment. Lengths in pixels of the finished picture."""

    frame: int = 0
    palette: dict = field(default_factory=dict)  # times of day and their shares; empty: the scene's own
    light_y: float = 0.0  # of sun or moon, downwards
    light_sinks: bool = False  # leaves some of its glow behind when it is gone
    clouds_x: float = 0.0
    thing_x: float = 0.0
    thing_y: float = 0.0
    fall: str = "none"  # rain or snow that the scene does not have, and how thick it is by now
    fall_strength: float = 0.0


class Painter:
    """Draws one scene. Positions are fractions of the canvas; sizes are in `self.unit`, the root of its area, so that things
    have one size in pixels whatever the aspect ratio."""

    def __init__(self, scene: Scene, width: int, height: int, moment: Moment = Moment()):
        self.moment = moment
        self.scene, self.rng = scene, np.random.default_rng(scene.seed)
        self.scale = SUPERSAMPLING
        self.width, self.height = width * self.scale, height * self.scale
        self.unit = math.sqrt(self.width * self.height)
        self.shares = moment.palette or {scene.time: 1.0}
        self.light = self.shade(LIGHT)
        self.horizon = self.height * self.rng.uniform(0.55, 0.59)
        self.lit_left = scene.side == "left"
        self.thing_x = self._choose_thing_position() + moment.thing_x * self.scale

    def _choose_thing_position(self) -> float:
        """Things stand across from the sun or the moon."""
        left = not self.lit_left if self.scene.applies("side") else self.rng.random() < 0.5
        return self.width * ((0.29 if left else 0.71) + self.rng.uniform(-0.045, 0.045))

    def paint(self) -> Image.Image:
        """The finished picture, scaled down."""
        self._paint_sky()
        self.draw = ImageDraw.Draw(self.image)
        self._paint_light()
        self._paint_clouds()
        getattr(self, f"_paint_{self.scene.terrain}")()
        self._paint_foreground()
        if self.scene.thing != "none":
            getattr(self, f"_paint_{self.scene.thing}")()
        self._paint_weather()
        return self.image.reduce(self.scale)

    # ------------------------------------------------------------------ colours

    def shade(self, colours, otherwise=None):
        """A colour (or several) that depends on the time of day, at this moment, as an array; `colours` by time."""
        return sum(np.array(colours.get(time, otherwise), float) * share for time, share in self.shares.items())

    def lit(self, colour, amount=1.0):
        """A surface colour in the light of this time of day."""
        return tuple(c * (1 + (k - 1) * amount) for c, k in zip(colour, self.light))

    def far(self, colour, haze):
        """A lit colour seen through haze."""
        return _mix(self.lit(colour), self.horizon_colour, haze)

    def thing_colour(self, colour, gain=1.0):
        """Things keep more of their own colour than the land does."""
        return _rgb(self.lit(colour, 0.42), gain)

    # ---------------------------------------------------------------------- sky

    def _paint_sky(self):
        scene, rng = self.scene, self.rng
        top, middle, horizon = self.shade(SKIES)
        if scene.weather in ("rain", "snow"):
            storm = tuple(c * k for c, k in zip(STORM, self.light))
            top, middle, horizon = _mix(top, storm, 0.5), _mix(middle, storm, 0.4), _mix(horizon, storm, 0.3)
        gain = rng.uniform(0.97, 1.03)
        self.horizon_colour, self.top_colour = _rgb(horizon, gain), _rgb(top, gain)
        t = np.clip((np.arange(self.height) + 0.5) / self.horizon, 0, 1)
        column = np.stack([np.interp(t, (0, 0.55, 1), (a, b, c)) * gain for a, b, c in zip(top, middle, horizon)], 1)
        # the glow around sun or moon, at a quarter of the size
        w, h = self.width // 8, self.height // 8
        self.light_x = self.width * ((0.25 if self.lit_left else 0.75) + rng.uniform(-0.035, 0.035))
        self.light_y = self.height * ({"sunset": 0.29, "dawn": 0.27}.get(scene.time, 0.22) + rng.uniform(-0.03, 0.03))
        self.light_radius = (
            self.unit * {"sun": 0.086, "moon": 0.076, "crescent": 0.08}.get(scene.light, 0) * rng.uniform(0.95, 1.05)
        )
        self.light_y += self.moment.light_y * self.scale
        shown = (self.horizon - self.light_y + self.light_radius) / max(1, 2 * self.light_radius)
        self.light_shown = float(np.clip(shown, 0, 1))  # the share of sun or moon above the horizon
        sky = np.repeat(column[4::8][:h, None], w, 1)
        if scene.applies("side"):
            y, x = np.mgrid[:h, :w] * 8 + 4
            distance = np.hypot(x - self.light_x, y - self.light_y)
            strength = np.exp(-np.maximum(distance - self.light_radius, 0) / (0.15 * self.unit))
            strength *= 0.5 if scene.light == "sun" else 0.34
            strength *= 0.4 + 0.6 * self.light_shown if self.moment.light_sinks else self.light_shown
            sky += strength[..., None] * (np.array(self.shade(GLOW)) - sky)
        self.image = Image.fromarray(np.clip(sky + 0.5, 0, 255).astype(np.uint8)).resize(
            (self.width, self.height), Image.BILINEAR
        )

    def _paint_light(self):
        """Sun, full moon, crescent, and the stars of every night."""
        scene, x, y, r = self.scene, self.light_x, self.light_y, self.light_radius
        if scene.time == "night":
            self._paint_stars(dense=scene.light == "stars")
        if not scene.applies("side") or self.light_shown <= 0:
            return
        colour = _rgb(self.shade(SUN, (252, 247, 222)))
        behind_y = int(np.clip(y - r * 1.3, 0, self.height - 1))
        behind = self.image.getpixel((int(np.clip(x, 0, self.width - 1)), behind_y))
        if scene.light != "sun":  # the moon is wiped clean of stars
            self._ellipse(x, y, r * 1.25, r * 1.25, behind)
        if scene.light == "sun":
            self._ellipse(x, y, r * 1.32, r * 1.32, _rgb(_mix(behind, colour, 0.4)))
            self._ellipse(x, y, r, r, colour)
        elif scene.light == "moon":
            self._ellipse(x, y, r, r, colour)
            for dx, dy, size in ((-0.3, -0.25, 0.26), (0.32, 0.1, 0.2), (-0.15, 0.42, 0.16)):
                self._ellipse(x + dx * r, y + dy * r, size * r, size * r, _rgb(colour, 0.87))
        else:
            self._ellipse(x, y, r, r, colour)
            shift = 0.5 * r * (1 if self.lit_left else -1)
            self._ellipse(x + shift, y - 0.22 * r, r * 0.92, r * 0.92, behind)

    def _paint_stars(self, dense: bool):
        """At most one star a cell; a starry sky also has big four-pointed ones."""
        rng, cell = self.rng, CELL * self.scale
        for cy in range(int(self.horizon * 0.86 // cell) + 1):
            for cx in range(self.width // cell):
                if rng.random() > (0.95 if dense else 0.3):
                    continue
                x, y = (cx + rng.uniform(0.25, 0.75)) * cell, (cy + rng.uniform(0.25, 0.75)) * cell
                if dense and (cx * 2 + cy) % 3 == 0:
                    r = cell * rng.uniform(0.24, 0.3)
                    points = [
                        (0, -1),
                        (0.22, -0.22),
                        (1, 0),
                        (0.22, 0.22),
                        (0, 1),
                        (-0.22, 0.22),
                        (-1, 0),
                        (-0.22, -0.22),
                    ]
                    self.draw.polygon([(x + a * r, y + b * r) for a, b in points], fill=(255, 250, 226))
                else:
                    r = cell * rng.uniform(0.055, 0.075)
                    self._ellipse(x, y, r, r, (236, 236, 226))

    def _paint_clouds(self):
        scene, rng = self.scene, self.rng
        if scene.weather not in ("clouds", "rain"):
            return
        colour = self.shade(CLOUD)
        if scene.weather == "rain":
            colour = _mix(colour, tuple(c * k for c, k in zip((128, 138, 156), self.light)), 0.6)
        slots = [0.13, 0.4, 0.63, 0.88]
        if scene.applies("side"):
            slots.pop(1 if self.lit_left else 2)  # leaves sun and moon free
            slots[0 if self.lit_left else -1] += -0.1 if self.lit_left else 0.1
        for i, slot in enumerate(slots):
            size = self.unit * rng.uniform(0.115, 0.135)
            x = self.width * (slot + rng.uniform(-0.03, 0.03)) + self.moment.clouds_x * self.scale
            y = self.height * ((0.1 if i % 2 else 0.2) + rng.uniform(-0.02, 0.03))
            for dx, r in ((-0.62, 0.3), (-0.2, 0.46), (0.28, 0.38), (0.66, 0.24)):
                self.draw.pieslice(
                    [x + (dx - r) * size, y - r * size, x + (dx + r) * size, y + r * size], 180, 360, fill=_rgb(colour)
                )
            self.draw.rounded_rectangle(
                [x - 0.95 * size, y - 0.1 * size, x + 0.92 * size, y + 0.07 * size], 0.08 * size, fill=_rgb(colour)
            )

    # ------------------------------------------------------------------ terrain

    def _fill_below(self, heights, colour, mist=0.25, depth=0.2):
        """Fill below a ridge (one height a column of a coarse grid) with a colour that dissolves into the horizon's."""
        xs = np.linspace(0, self.width, len(heights))
        outline = [(x, y) for x, y in zip(xs, heights)] + [(self.width, self.height), (0, self.height)]
        top = min(heights)
        if mist <= 0:
            self.draw.polygon(outline, fill=_rgb(colour))
            return
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        self._paste_gradient(mask, colour, _mix(colour, self.horizon_colour, mist), top, top + depth * self.height)

    def _paste_gradient(self, mask, upper, lower, y0, y1):
        """Paste a vertical two-colour gradient through a mask."""
        t = np.clip((np.arange(self.height) - y0) / max(1, y1 - y0), 0, 1)[:, None]
        column = np.array(upper) + (np.array(lower) - np.array(upper)) * t
        gradient = Image.fromarray(np.clip(column + 0.5, 0, 255).astype(np.uint8)[:, None]).resize(
            self.image.size, Image.NEAREST
        )
        self.image.paste(gradient, (0, 0), mask)

    def _wave(self, base, amplitude, waves=1.2, count=33):
        """A gentle ridge line: two sines of random phase."""
        t = np.linspace(0, 1, count) * self.width / self.unit
        a, b = self.rng.uniform(0, 2 * math.pi, 2)
        return base + amplitude * self.unit * (
            np.sin(2 * math.pi * waves * t + a) + 0.35 * np.sin(2 * math.pi * 2.3 * waves * t + b)
        )

    def _paint_range(self, base, height, count, haze, colour, capped):
        """A row of peaks with a lit and a dark face, and snow caps where asked."""
        rng = self.rng
        bright, dark = self.far(colour, haze), self.far(_rgb(colour, 0.74), haze)
        cap_bright, cap_dark = self.far((250, 252, 255), haze * 0.6), self.far((198, 214, 238), haze * 0.6)
        if not self.lit_left:
            bright, dark, cap_bright, cap_dark = dark, bright, cap_dark, cap_bright
        step = self.width / (count - 1)
        for i in rng.permutation(count):
            x, h = (i + rng.uniform(-0.22, 0.22)) * step, height * rng.uniform(0.72, 1.08)
            left, right, foot = (
                x - h * rng.uniform(1.0, 1.2),
                x + h * rng.uniform(1.0, 1.2),
                x + h * rng.uniform(-0.12, 0.12),
            )
            y = base - h
            bend = (x + 0.1 * h * rng.choice((-1, 1)), y + 0.45 * h)
            self.draw.polygon([(x, y), bend, (foot, base), (left, base)], fill=_rgb(bright))
            self.draw.polygon([(x, y), bend, (foot, base), (right, base)], fill=_rgb(dark))
            if capped:
                t = 0.4

                def at(end, k):
                    return (x + (end - x) * k, y + h * k)

                low = (x + (bend[0] - x) * 0.75, y + 0.36 * h)
                for end, fill in ((left, cap_bright), (right, cap_dark)):
                    edge = at(end, t)
                    third = (edge[0] + (low[0] - edge[0]) * 0.35, edge[1] - 0.07 * h)
                    two = (edge[0] + (low[0] - edge[0]) * 0.68, edge[1] + 0.07 * h)
                    self.draw.polygon([(x, y), edge, third, two, low], fill=_rgb(fill))

    def _paint_mountains(self, capped=False):
        colour = (110, 132, 176) if capped else (118, 116, 146)
        count = max(3, round(3.4 * self.width / self.unit))
        self._paint_range(self.horizon + 0.04 * self.unit, 0.27 * self.unit, count, 0.5, colour, capped)
        self._paint_range(self.horizon + 0.12 * self.unit, 0.23 * self.unit, count + 1, 0.12, colour, capped)
        self._fill_below([self.horizon + 0.09 * self.unit] * 2, self.far(colour, 0.3), 0.2)

    def _paint_snowy(self):
        self._paint_mountains(capped=True)

    def _paint_hills(self):
        for i, (dy, haze) in enumerate(((-0.045, 0.55), (0.03, 0.32), (0.11, 0.1))):
            colour = _rgb((110, 184, 88), 1 - 0.1 * i)
            self._fill_below(self._wave(self.horizon + dy * self.unit, 0.03, 0.8), self.far(colour, haze), 0.3)

    def _paint_desert(self):
        """Dunes: a sharp crest with a lit and a shaded flank."""
        rng = self.rng
        for i, (dy, haze) in enumerate(((0.02, 0.48), (0.08, 0.25), (0.15, 0.06))):
            colour = self.far(_rgb((240, 190, 116), 1 - 0.05 * i), haze)
            base, height = self.horizon + dy * self.unit, (0.13 - 0.012 * i) * self.unit
            self._fill_below([base] * 2, colour, 0)
            crest = (i % 2) * 0.5 + rng.uniform(-0.1, 0.1) + (0.25 if i == 1 else 0)
            for k in range(-1, 3):
                x, h, w = (crest + k) * 0.8 * self.unit, height * rng.uniform(0.85, 1.1), 0.46 * self.unit
                lit_end, dark_end = (x - w, x + 0.75 * w) if self.lit_left else (x + w, x - 0.75 * w)
                self.draw.polygon([(x, base - h), (lit_end, base + 2), (x, base + 2)], fill=_rgb(colour))
                self.draw.polygon(
                    [(x, base - h), (dark_end, base + 2), (x + (lit_end - x) * 0.25, base + 2)], fill=_rgb(colour, 0.8)
                )

    def _paint_sea(self):
        rng = self.rng
        if rng.random() < 0.5:
            x, w = self.width * rng.uniform(0.15, 0.85), self.unit * rng.uniform(0.2, 0.3)
            self.draw.pieslice(
                [x - w, self.horizon - 0.075 * self.unit, x + w, self.horizon + 0.075 * self.unit],
                180,
                360,
                fill=_rgb(self.far((84, 116, 150), 0.5)),
            )
        self._paint_water(self.horizon)

    def _paint_water(self, top):
        """Water down to the bottom: the sky's colours, a few ripples, and the glitter below sun or moon."""
        rng, scene = self.rng, self.scene
        tint = self.lit(WATER)
        near, distant = _mix(tint, self.top_colour, 0.3), _mix(tint, self.horizon_colour, 0.6)
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).rectangle([0, top, self.width, self.height], fill=255)
        self._paste_gradient(mask, distant, near, top, self.height)
        cell = CELL * self.scale
        for row in range(1, int((self.height - top) // (cell / 2)) + 1):
            y = top + (row - 0.3) * cell / 2
            depth = (y - top) / (self.height - top)
            for k in range(-1, self.width // (2 * cell) + 1):
                x = (2 * k + (row % 2) + rng.uniform(-0.2, 0.2)) * cell
                length, thick = cell * (0.35 + 0.35 * depth), cell * (0.025 + 0.035 * depth)
                self._streak(x, y, length, thick, _rgb(_mix(_mix(distant, near, depth), (255, 255, 255), 0.2)))
        if scene.applies("side") and self.light_shown > 0:
            glint = self.shade(SUN, (232, 236, 240))
            y, i = top + 0.018 * self.unit, 0
            while y < self.height:
                depth = (y - top) / (self.height - top)
                length = self.light_radius * (0.95 if i % 2 else 0.6) * (0.8 + 0.5 * depth)
                self._streak(
                    self.light_x,
                    y,
                    length,
                    self.unit * (0.005 + 0.004 * depth),
                    _rgb(_mix(_mix(distant, near, depth), glint, 0.8 * self.light_shown)),
                )
                y += self.unit * (0.026 + 0.014 * depth)
                i += 1

    def _streak(self, x, y, length, thick, colour):
        self.draw.rounded_rectangle([x - length, y - thick, x + length, y + thick], thick, fill=colour)

    def _paint_city(self):
        """Two rows of houses; the front one has windows on a fixed lattice."""
        rng, unit, cell = self.rng, self.unit, CELL * self.scale
        night = self.scene.time in ("night", "sunset")
        for row, (base, tall, haze) in enumerate(((0.06, 0.25, 0.55), (0.14, 0.28, 0.08))):
            colour = self.far((92, 98, 134) if row == 0 else (60, 66, 100), haze)
            bottom = self.horizon + base * unit
            width = cell * (1.0 if row else 1.25)
            window = (255, 222, 130) if night else _mix(colour, (255, 255, 255), 0.42)
            x = -cell * 0.5 if row == 0 else 0.0
            while x < self.width:
                h = tall * unit * rng.choice((0.45, 0.62, 0.8, 1.0))
                top = bottom - h
                self.draw.rectangle([x, top, x + width * 0.94, self.height], fill=_rgb(colour))
                if rng.random() < 0.3:
                    self.draw.rectangle([x + width * 0.25, top - 0.03 * unit, x + width * 0.68, top], fill=_rgb(colour))
                if row:
                    pitch = cell / 4
                    for j in range(int(h / pitch)):
                        for i in range(3):
                            if (i + 2 * j + int(x)) % 5 < 3:
                                wx, wy = x + cell * (0.14 + 0.27 * i), top + pitch * (j + 0.55)
                                self.draw.rectangle([wx, wy, wx + cell * 0.13, wy + pitch * 0.5], fill=_rgb(window))
                x += width
            if row:
                self._fill_below([bottom] * 2, self.far((60, 66, 100), 0.2), 0)

    def _paint_forest(self):
        """Three rows of firs, darker towards the front."""
        rng, cell = self.rng, CELL * self.scale
        self._fill_below(self._wave(self.horizon - 0.03 * self.unit, 0.02), self.far((86, 132, 132), 0.6), 0.2)
        for dy, size, haze, gain in ((0.03, 0.2, 0.5, 1.2), (0.09, 0.25, 0.25, 1.0), (0.16, 0.3, 0.04, 0.8)):
            colour, base = _rgb(self.far(_rgb((38, 106, 84), gain), haze)), self.horizon + dy * self.unit
            step = cell * size * 3.4
            x = step * rng.uniform(0, 0.5) - step / 2
            while x < self.width + step:
                self._fir(
                    x,
                    base + 0.01 * self.unit,
                    size * self.unit * rng.choice((0.75, 0.9, 1.05)),
                    colour,
                    None,
                    trunk=None,
                )
                x += step * rng.uniform(0.85, 1.15)
            self.draw.rectangle([0, base, self.width, self.height], fill=colour)

    def _fir(self, x, y, height, colour, shade, trunk):
        """A fir of three tiers, with a shaded right or left half."""
        width = height * 0.5
        if trunk:
            self.draw.rectangle([x - height * 0.04, y - height * 0.14, x + height * 0.04, y], fill=trunk)
        for low, high, share in ((0.08, 0.5, 1.0), (0.3, 0.74, 0.78), (0.54, 1.0, 0.54)):
            half, y0, y1 = width * share / 2, y - height * low, y - height * high
            self.draw.polygon([(x - half, y0), (x + half, y0), (x, y1)], fill=colour)
            if shade:
                self.draw.polygon([(x, y0), (x + (half if self.lit_left else -half), y0), (x, y1)], fill=shade)

    # --------------------------------------------------------------- foreground

    def _paint_foreground(self):
        """The ground at the bottom; water for a boat, an islet for what stands in the sea."""
        scene, unit = self.scene, self.unit
        snowed = scene.weather == "snow"
        colour = SNOW_GROUND if snowed and scene.terrain != "sea" else GROUND[scene.terrain]
        self.ground = self.height - 0.13 * unit
        if scene.thing == "boat":
            if scene.terrain != "sea":
                self._paint_water(self.horizon + 0.17 * unit)
            return
        if scene.terrain == "sea":
            if scene.thing in ("none", "balloon"):
                return
            x, w, y = self.thing_x, 0.3 * unit, self.ground - 0.03 * unit
            self._ellipse(x, y + 0.3 * unit, w * 1.12, 0.3 * unit, _rgb(self.lit(GROUND["sea"])))
            self._ellipse(x, y + 0.33 * unit, w, 0.31 * unit, _rgb(self.lit(SNOW_GROUND if snowed else (100, 162, 88))))
            return
        pale = colour == SNOW_GROUND or scene.terrain == "snowy"
        self._fill_below(
            self._wave(self.height - 0.21 * unit, 0.012, 0.7), self.lit(_rgb(colour, 1.0 if pale else 0.94)), 0
        )
        self._fill_below(
            self._wave(self.height - 0.085 * unit, 0.012, 0.7), self.lit(_rgb(colour, 0.93 if pale else 0.78)), 0
        )

    # ------------------------------------------------------------------- things

    def _polygon(self, points, colour):
        self.draw.polygon(points, fill=colour)

    def _ellipse(self, x, y, rx, ry, colour):
        self.draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=colour)

    def _paint_house(self):
        x, y, colour = self.thing_x, self.ground + 0.03 * self.unit, RGB[self.scene.colour]
        w, h = 0.27 * self.unit, 0.16 * self.unit
        shade = w * (0.2 if self.lit_left else -0.2)
        paint, roof = self.thing_colour, self.thing_colour((70, 60, 80))
        self.draw.rectangle([x + w * 0.2, y - h * 1.75, x + w * 0.31, y - h * 1.1], fill=paint((112, 84, 82)))
        self.draw.rectangle([x - w / 2, y - h, x + w / 2, y], fill=paint(colour))
        edges = sorted((x + shade, x + math.copysign(w / 2, shade)))
        self.draw.rectangle([edges[0], y - h, edges[1], y], fill=paint(colour, 0.85))
        self._polygon([(x - w * 0.62, y - h * 0.97), (x, y - h * 1.8), (x + w * 0.62, y - h * 0.97)], roof)
        self.draw.rectangle([x - w * 0.1, y - h * 0.58, x + w * 0.1, y], fill=paint((96, 62, 46)))
        glass = (255, 226, 132) if self.scene.time in ("night", "sunset") else (212, 232, 246)
        for left in (-0.37, 0.19):
            self.draw.rectangle([x + w * left, y - h * 0.74, x + w * (left + 0.18), y - h * 0.38], fill=glass)

    def _paint_boat(self):
        x, y, colour = self.thing_x, self.ground, RGB[self.scene.colour]
        h, w = 0.33 * self.unit, 0.27 * self.unit
        paint, face = self.thing_colour, 1 if self.lit_left else -1
        for i in range(4):  # reflection
            below = y + (0.022 + 0.026 * i) * self.unit
            behind = self.image.getpixel((int(np.clip(x, 0, self.width - 1)), min(self.height - 1, int(below))))
            self._streak(
                x, below, w * (0.4 - 0.07 * i), 0.006 * self.unit, _rgb(_mix(behind, paint(colour), 0.6 - 0.1 * i))
            )
        self.draw.rectangle(
            [x - 0.006 * self.unit, y - h, x + 0.006 * self.unit, y - 0.03 * self.unit], fill=paint((96, 68, 54))
        )
        self._polygon(
            [
                (x + face * w * 0.05, y - h * 0.97),
                (x + face * w * 0.05, y - h * 0.22),
                (x + face * w * 0.6, y - h * 0.22),
            ],
            paint(colour),
        )
        self._polygon(
            [
                (x - face * w * 0.05, y - h * 0.88),
                (x - face * w * 0.05, y - h * 0.22),
                (x - face * w * 0.46, y - h * 0.22),
            ],
            paint(colour, 0.84),
        )
        self._polygon(
            [
                (x - w * 0.55, y - h * 0.16),
                (x + w * 0.55, y - h * 0.16),
                (x + w * 0.38, y + h * 0.03),
                (x - w * 0.38, y + h * 0.03),
            ],
            paint((124, 78, 56)),
        )
        self.draw.rectangle([x - w * 0.53, y - h * 0.165, x + w * 0.53, y - h * 0.12], fill=paint((246, 238, 222)))

    def _paint_tree(self):
        colour = RGB[self.scene.colour]
        paint = self.thing_colour
        self._fir(
            self.thing_x,
            self.ground + 0.035 * self.unit,
            0.4 * self.unit,
            paint(colour),
            paint(colour, 0.82),
            paint((96, 66, 50)),
        )

    def _paint_balloon(self):
        x, r, colour = self.thing_x, 0.125 * self.unit, RGB[self.scene.colour]
        y = self.height * 0.3 + self.rng.uniform(-0.03, 0.03) * self.unit + self.moment.thing_y * self.scale
        paint = self.thing_colour
        stripe = _mix(colour, (255, 246, 226), 0.6) if self.scene.colour != "white" else (204, 206, 214)
        for share, shade in ((1.0, colour), (0.64, stripe), (0.3, colour)):
            self._ellipse(x, y, r * share, r, paint(shade))
            self._polygon(
                [
                    (x - r * 0.93 * share, y + r * 0.34),
                    (x + r * 0.93 * share, y + r * 0.34),
                    (x + r * 0.24 * share, y + r * 1.32),
                    (x - r * 0.24 * share, y + r * 1.32),
                ],
                paint(shade),
            )
        for side in (-1, 1):
            self.draw.line(
                [(x + side * r * 0.2, y + r * 1.3), (x + side * r * 0.16, y + r * 1.66)],
                fill=paint((80, 62, 54)),
                width=max(1, int(0.006 * self.unit)),
            )
        self.draw.rectangle([x - r * 0.22, y + r * 1.6, x + r * 0.22, y + r * 1.92], fill=paint((138, 94, 60)))

    def _paint_cactus(self):
        x, y, colour = self.thing_x, self.ground + 0.04 * self.unit, RGB[self.scene.colour]
        h, paint = 0.34 * self.unit, self.thing_colour
        w, face = h * 0.22, 1 if self.lit_left else -1

        def pill(x0, y0, x1, y1, fill):
            x0, x1 = sorted((x0, x1))
            self.draw.rounded_rectangle([x0, y0, x1, y1], min(x1 - x0, y1 - y0) / 2, fill=fill)

        for side, low, high in ((face, 0.4, 0.74), (-face, 0.26, 0.58)):
            arm = x + side * h * 0.3
            pill(x, y - h * low - w * 0.32, arm + side * w * 0.32, y - h * low + w * 0.32, paint(colour))
            pill(arm - w * 0.32, y - h * high, arm + w * 0.32, y - h * low + w * 0.32, paint(colour))
        pill(x - w / 2, y - h, x + w / 2, y, paint(colour))
        self.draw.rectangle([x - w / 2, y - h * 0.3, x + w / 2, y], fill=paint(colour))
        for k in (-0.22, 0.18):
            self.draw.rectangle([x + k * w, y - h * 0.9, x + (k + 0.08) * w, y], fill=paint(colour, 0.78))

    def _paint_lighthouse(self):
        x, y, colour = self.thing_x, self.ground + 0.035 * self.unit, RGB[self.scene.colour]
        h, paint = 0.44 * self.unit, self.thing_colour
        low, high, body = h * 0.34, h * 0.22, h * 0.74
        pale = (248, 244, 236) if self.scene.colour != "white" else (150, 158, 172)
        shade = 1 if self.lit_left else -1
        for i in range(5):
            a, b = i / 5, (i + 1) / 5
            wa, wb = (low + (high - low) * a) / 2, (low + (high - low) * b) / 2
            fill = colour if i % 2 == 0 else pale
            ya, yb = y - body * a, y - body * b
            self._polygon([(x - wa, ya), (x + wa, ya), (x + wb, yb), (x - wb, yb)], paint(fill))
            self._polygon(
                [(x + shade * wa * 0.35, ya), (x + shade * wa, ya), (x + shade * wb, yb), (x + shade * wb * 0.35, yb)],
                paint(fill, 0.86),
            )
        self.draw.rectangle([x - high * 0.68, y - body - h * 0.03, x + high * 0.68, y - body], fill=paint((72, 70, 84)))
        self.draw.rectangle(
            [x - high * 0.36, y - body - h * 0.14, x + high * 0.36, y - body - h * 0.03], fill=(255, 236, 150)
        )
        self._polygon(
            [(x - high * 0.54, y - body - h * 0.13), (x + high * 0.54, y - body - h * 0.13), (x, y - h * 1.0)],
            paint(colour if self.scene.colour != "white" else (96, 98, 116)),
        )

    # ------------------------------------------------------------------ weather

    def _paint_weather(self):
        """Rain and snow: the same few drops or flakes in every cell, a little shaken. In a clip they fall, and others follow."""
        moment, cell = self.moment, CELL * self.scale
        rows, columns = range(-1, self.height // cell), range(-1, self.width // cell + 1)
        shaken = {}
        if self.scene.weather in ("rain", "snow"):
            for cy in rows:
                for cx in columns:
                    shaken[cy, cx] = self.rng.uniform(-0.06, 0.06, 2)
            self._paint_fall(self.scene.weather, shaken, 1.0)
        elif moment.fall != "none" and moment.fall_strength > 0:
            self._paint_fall(moment.fall, shaken, moment.fall_strength)

    def _paint_fall(self, weather, shaken, strength):
        """Drops or flakes of this moment. Those that were out of sight at first sit in the middle of their cells."""
        cell = CELL * self.scale
        fall_x, fall_y = (v * self.moment.frame * self.scale for v in FALL[weather])
        above, right = math.ceil(fall_y / cell), math.ceil(-fall_x / cell)
        mask = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(mask)
        for cy in range(-1 - above, self.height // cell):
            for cx in range(-1, self.width // cell + 1 + right):
                dx, dy = shaken.get((cy, cx), (0.0, 0.0))
                left, top = cx * cell + fall_x, cy * cell + fall_y
                if weather == "rain":
                    for ox, oy in ((0.3, 0.15), (0.8, 0.62)):
                        x, y = left + (ox + dx) * cell, top + (oy + dy) * cell
                        draw.line(
                            [(x, y), (x - 0.16 * cell, y + 0.52 * cell)],
                            fill=round(170 * strength),
                            width=max(1, int(0.065 * cell)),
                        )
                else:
                    for ox, oy, size in ((0.25, 0.3, 0.1), (0.75, 0.72, 0.075)):
                        x, y, r = left + (ox + dx) * cell, top + (oy + dy) * cell, size * cell
                        draw.ellipse([x - r, y - r, x + r, y + r], fill=round(235 * strength))
        self.image.paste((222, 234, 248) if weather == "rain" else (255, 255, 255), (0, 0, *self.image.size), mask)


def render(scene: Scene, width: int = 256, height: int = 256, moment: Moment = Moment()) -> Image.Image:
    """Draw a scene, at a moment of a clip. The same scene, size and moment give the same picture."""
    return Painter(scene, width, height, moment).paint()


def _render_array(job):
    scene, width, height = job
    return np.asarray(render(scene, width, height))


def write_dataset(path, count, sizes, seed, processes, held_out=False):
    """Render `count` random scenes, sizes in turn, into one .npz: `x_WxH` pictures, `s_WxH` their scenes and
    `c_WxH` captions that spell out every factor, as JSON."""
    rng = np.random.default_rng(seed)
    jobs = [(sample_scene(rng, held_out), *sizes[i % len(sizes)]) for i in range(count)]
    with multiprocessing.Pool(processes) as pool:
        pictures = list(pool.imap(_render_array, jobs, 16))
    arrays = {}
    for width, height in sorted(set(sizes)):
        index = [i for i, job in enumerate(jobs) if job[1:] == (width, height)]
        arrays[f"x_{width}x{height}"] = np.stack([pictures[i] for i in index])
        arrays[f"s_{width}x{height}"] = json.dumps([jobs[i][0].to_dict() for i in index])
        arrays[f"c_{width}x{height}"] = json.dumps([caption(jobs[i][0], rng, is_full=True) for i in index])
    np.savez(path, **arrays)


def write_sheet(path, count, seed, columns=8):
    """A contact sheet that walks through terrains, things and times."""
    rng = np.random.default_rng(seed)
    size, rows = 256, math.ceil(count / columns)
    page = Image.new("RGB", (columns * (size + 4), rows * (size + 4)), "white")
    for i in range(count):
        while True:
            scene = sample_scene(rng, held_out=rng.random() < 0.1)
            if (scene.terrain, scene.thing, scene.time) == (
                TERRAINS[i % 7],
                THINGS[(i // 7 + i) % 7],
                TIMES[(i + i // 5) % 4],
            ):
                break
        page.paste(render(scene), (i % columns * (size + 4) + 2, i // columns * (size + 4) + 2))
    page.save(path, quality=88)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    dataset = commands.add_parser("dataset", help="render a data set")
    dataset.add_argument("path")
    dataset.add_argument("--count", type=int, default=12000)
    dataset.add_argument("--sizes", default="256x256", help="comma-separated WIDTHxHEIGHT, taken in turn")
    dataset.add_argument("--seed", type=int, default=1)
    dataset.add_argument("--processes", type=int, default=2)
    dataset.add_argument("--held-out", action="store_true", help="only combinations that training never sees")
    sheet = commands.add_parser("sheet", help="draw a contact sheet")
    sheet.add_argument("path")
    sheet.add_argument("--count", type=int, default=40)
    sheet.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.time()
    if args.command == "dataset":
        sizes = [tuple(map(int, s.split("x"))) for s in args.sizes.split(",")]
        write_dataset(args.path, args.count, sizes, args.seed, args.processes, args.held_out)
    else:
        write_sheet(args.path, args.count, args.seed)
    print(f"{args.path}: {args.count} pictures in {time.time() - start:.1f} s; factors {', '.join(FACTORS)}")


if __name__ == "__main__":
    main()
