"""The world of the starter model: which scenes there are, and which combinations are kept out of training.

A scene is a small set of factors (time of day, light in the sky, its side, terrain, weather, thing, colour). How a scene is
drawn is in `render.py`, how it is put into words in `captions.py`.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np

TIMES = ("dawn", "day", "sunset", "night")
LIGHTS = ("sun", "moon", "crescent", "stars", "none")
SIDES = ("left", "right")
TERRAINS = ("mountains", "snowy", "hills", "desert", "sea", "city", "forest")
WEATHERS = ("clear", "clouds", "rain", "snow")
THINGS = ("none", "house", "boat", "tree", "balloon", "cactus", "lighthouse")
COLOURS = ("red", "blue", "yellow", "green", "white", "purple")

FACTORS = {
    "time": TIMES,
    "light": LIGHTS,
    "side": SIDES,
    "terrain": TERRAINS,
    "weather": WEATHERS,
    "thing": THINGS,
    "colour": COLOURS,
}


@dataclass(frozen=True)
class Scene:
    """One landscape. `seed` fixes everything that words do not say (positions, shapes, shades)."""

    time: str
    light: str
    side: str
    terrain: str
    weather: str
    thing: str
    colour: str
    seed: int

    def applies(self, factor: str) -> bool:
        """Whether a factor can be seen in the picture at all: no side without sun or moon, no colour without a thing."""
        if factor == "side":
            return self.light in ("sun", "moon", "crescent")
        if factor == "colour":
            return self.thing != "none"
        return True

    def mirrored(self) -> "Scene":
        """The same scene seen in a mirror."""
        return replace(self, side="right" if self.side == "left" else "left")

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)


def is_held_out(scene: Scene) -> bool:
    """The held-out rule: one in nine triples of time, terrain and thing is never trained on, whatever the other factors.

    Every single factor value and nearly every pair still occurs in training, so that a held-out prompt asks for known words
    in a combination that no training picture shows. Scenes without a thing are held out by time, terrain and weather.
    """
    t, g = TIMES.index(scene.time), TERRAINS.index(scene.terrain)
    if scene.thing == "none":
        return (2 * t + 5 * g + 4 * WEATHERS.index(scene.weather)) % 9 == 1
    return (2 * t + 5 * g + 7 * THINGS.index(scene.thing)) % 9 == 4


def sample_scene(rng: np.random.Generator, held_out: bool = False) -> Scene:
    """Draw a random scene; from the held-out combinations, or (default) from those that training may see."""

    def pick(values, weights=None):
        return str(rng.choice(values, p=weights))

    while True:
        time = pick(TIMES)
        light = (
            pick(("moon", "crescent", "stars"), (0.36, 0.36, 0.28))
            if time == "night"
            else pick(("sun", "none"), (0.82, 0.18))
        )
        scene = Scene(
            time=time,
            light=light,
            side=pick(SIDES),
            terrain=pick(TERRAINS),
            weather=pick(WEATHERS, (0.4, 0.24, 0.18, 0.18)),
            thing=pick(THINGS, (0.13,) + (0.145,) * 6),
            colour=pick(COLOURS),
            seed=int(rng.integers(1 << 31)),
        )
        if is_held_out(scene) == held_out:
            return scene
