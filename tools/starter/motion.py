#!/usr/bin/env python3
"""The world of the video starter: what moves in a scene, how a clip is drawn, and how it is put into words.

    python motion.py sheet sheet.jpg --count 8

Given the first picture and the words, a clip is fully determined: speeds are constant, and a direction that is not said
follows from the picture. So the mean over all clips that fit is one clip and not a blur of many, and a model needs few steps.
"""

import argparse
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from captions import FOREIGN, IDLE, caption
from render import Moment, Painter
from scenes import Scene, sample_scene

FRAMES = 33
FPS = 16
SIZES = ((256, 256), (256, 256), (320, 192))  # of the training clips, in turn

MOTIONS = {
    "light": ("still", "sets", "rises"),
    "clouds": ("still", "left", "right", "along"),
    "boat": ("still", "left", "right", "along"),
    "balloon": ("still", "up", "down"),
    "fall": ("none", "snow", "rain"),
}

# Pixels a frame at any size.
SINKING, CLIMBING, DRIFTING, SAILING, FLOATING = 4.0, 1.0, 2.0, 2.0, 2.0
FADE = 12  # frames until falling snow or rain is there
FULL = 32  # frames until a sunset is over


@dataclass(frozen=True)
class Motion:
    """What is asked to move. `along` is a movement whose direction is not said."""

    light: str = "still"
    clouds: str = "still"
    boat: str = "still"
    balloon: str = "still"
    fall: str = "none"

    def mirrored(self) -> "Motion":
        """The same seen in a mirror; `along` is right for clouds and cannot be mirrored there."""
        swap = {"left": "right", "right": "left"}
        clouds = "left" if self.clouds == "along" else swap.get(self.clouds, self.clouds)
        return replace(self, clouds=clouds, boat=swap.get(self.boat, self.boat))


def has_light(scene: Scene) -> bool:
    """Whether sun or moon is in the sky."""
    return scene.applies("side")


def can(scene: Scene, kind: str, value: str) -> bool:
    """Whether a movement can be seen in a scene."""
    if kind == "light":
        return has_light(scene) or (scene.time != "night")
    if kind == "clouds":
        return scene.weather in ("clouds", "rain")
    if kind == "fall":
        return scene.weather in ("clear", "clouds")
    return scene.thing == kind


def _shares(scene: Scene, motion: Motion, frame: int) -> dict:
    """The times of day that a moment of a sunset or sunrise is mixed of."""
    if motion.light == "still" or scene.time == "night":
        return {}
    p = min(1.0, frame / FULL)
    if motion.light == "sets":
        if scene.time == "sunset":
            return {"sunset": 1 - 0.55 * p, "night": 0.55 * p}
        if p < 0.6:
            return {scene.time: 1 - p / 0.6, "sunset": p / 0.6}
        dark = 0.55 * (p - 0.6) / 0.4
        return {"sunset": 1 - dark, "night": dark}
    p *= 0.8
    return {} if scene.time == "day" else {scene.time: 1 - p, "day": p}


def moment(scene: Scene, motion: Motion, frame: int) -> Moment:
    """What a clip has come to after so many frames."""
    sign = {"left": -1.0, "right": 1.0, "still": 0.0, "up": -1.0, "down": 1.0}
    facing = 1.0 if scene.side == "left" else -1.0  # boats look away from the light
    light_y = 0.0
    if motion.light == "sets":
        light_y = SINKING * frame
    elif motion.light == "rises":
        light_y = -CLIMBING * frame
    return Moment(
        frame=frame,
        palette=_shares(scene, motion, frame),
        light_y=light_y,
        light_sinks=motion.light == "sets",
        clouds_x=DRIFTING * frame * sign.get(motion.clouds, 1.0),
        thing_x=SAILING * frame * sign.get(motion.boat, facing) if scene.thing == "boat" else 0.0,
        thing_y=FLOATING * frame * sign[motion.balloon] if scene.thing == "balloon" else 0.0,
        fall=motion.fall,
        fall_strength=min(1.0, frame / FADE),
    )


class _Sunrise(Painter):
    """A sun that comes up where there was none: it ends where it stands in other pictures, and things stand across from it."""

    def _choose_thing_position(self):
        return self.width * ((0.71 if self.lit_left else 0.29) + self.rng.uniform(-0.045, 0.045))


def draw_clip(scene: Scene, motion: Motion, width: int = 256, height: int = 256, frames: int = FRAMES) -> np.ndarray:
    """A clip as uint8 [frames, height, width, 3]."""
    is_sunrise = motion.light == "rises" and not has_light(scene) and scene.time != "night"
    pictures = []
    for frame in range(frames):
        now = moment(scene, motion, frame)
        if is_sunrise:
            now = replace(now, light_y=max(0.0, SINKING * (FULL - frame)))
            painter = _Sunrise(replace(scene, light="sun"), width, height, now)
        else:
            painter = Painter(scene, width, height, now)
        pictures.append(np.asarray(painter.paint()))
    return np.stack(pictures)


# ------------------------------------------------------------------------ sampling

_KINDS, _WEIGHTS = ("light", "clouds", "boat", "balloon", "fall", "nothing"), (0.26, 0.18, 0.2, 0.12, 0.17, 0.07)


def _draw_value(rng, scene: Scene, kind: str) -> str:
    """A movement of one kind, fit for the scene."""
    if kind == "light":
        if not has_light(scene):
            return "rises" if rng.random() < 0.8 else "sets"
        return "sets" if rng.random() < 0.75 else "rises"
    if kind in ("clouds", "boat"):
        return str(rng.choice(("left", "right", "along"), p=(0.4, 0.4, 0.2)))
    return str(rng.choice(MOTIONS[kind][1:]))


def sample(rng: np.random.Generator, held_out: bool = False, only: str | None = None) -> tuple[Scene, Motion]:
    """A random scene and what moves in it; now and then something is asked that the scene does not have."""
    kind = only or str(rng.choice(_KINDS, p=_WEIGHTS))
    must_fit = only or rng.random() < 0.94
    while True:
        scene = sample_scene(rng, held_out)
        if kind == "light" and rng.random() < 0.2 and scene.time != "night":
            scene = replace(scene, light="none")  # more sunrises
        if kind == "nothing" or not must_fit or can(scene, kind, ""):
            break
    asked = {} if kind == "nothing" else {kind: _draw_value(rng, scene, kind)}
    for other in _KINDS[:5]:
        if other != kind and not only and can(scene, other, "") and rng.random() < 0.15:
            asked[other] = _draw_value(rng, scene, other)
    return scene, Motion(**asked)


# -------------------------------------------------------------------------- words

WORDS = {
    ("sun", "sets"): ["the sun sets", "the sun goes down", "sunset", "the sun sinks", "the sun is setting", "evening comes",
                      "the sun goes under", "it gets dark", "the sun sinks behind the horizon"],
    ("sun", "rises"): ["the sun rises", "the sun comes up", "sunrise", "the sun is rising", "the sun climbs", "morning comes",
                       "the day breaks", "the sun goes up"],
    ("moon", "sets"): ["the moon sets", "the moon goes down", "the moon sinks", "the moon is setting"],
    ("moon", "rises"): ["the moon rises", "the moon comes up", "the moon climbs", "the moon is rising", "the moon goes up"],
    ("clouds", "side"): ["the clouds drift to the {}", "clouds drift {}", "clouds moving {}", "the clouds move to the {}",
                         "the wind blows the clouds to the {}", "clouds float to the {}", "clouds pass to the {}"],
    ("clouds", "along"): ["the clouds drift", "clouds drifting by", "drifting clouds", "the clouds move", "moving clouds",
                          "clouds pass by", "wind in the clouds"],
    ("boat", "side"): ["the boat sails to the {}", "the boat sails {}", "the boat moves to the {}", "a boat sailing {}",
                       "the sailboat goes {}", "the ship sails to the {}", "the yacht glides to the {}"],
    ("boat", "along"): ["the boat sails", "the boat sails away", "a sailing boat moves", "the boat moves", "the yacht sails on",
                        "the ship sails by", "the sailboat glides over the water"],
    ("balloon", "up"): ["the balloon rises", "the balloon floats up", "the hot-air balloon takes off", "the balloon goes up",
                        "the hot air balloon flies up", "the balloon climbs into the sky"],
    ("balloon", "down"): ["the balloon sinks", "the balloon comes down", "the hot-air balloon lands", "the balloon goes down",
                          "the balloon descends", "the hot air balloon floats down"],
    ("fall", "snow"): ["snow falls", "it snows", "it starts to snow", "snow begins to fall", "falling snow", "snowflakes fall",
                       "snowfall"],
    ("fall", "rain"): ["rain falls", "it rains", "it starts to rain", "rain begins to fall", "falling rain", "raindrops fall",
                       "rainfall"],
}  # fmt: skip

STILL = ["nothing moves", "a still picture", "everything is still", "no motion", "calm", "a quiet scene", "still", ""]
PREFIXES = ["", "", "", "a video of", "a clip,", "timelapse,", "animation:", "slowly", "in this clip"]


def _pick(rng, values):
    return values[int(rng.integers(len(values)))]


def _clause(rng, scene: Scene, kind: str, value: str) -> str:
    """Words for one movement."""
    if kind == "light":
        is_night = scene.time == "night" and (scene.light != "stars")
        line = _pick(rng, WORDS["moon" if is_night else "sun", value])
        if rng.random() < 0.1 and scene.time == "night":
            line = _pick(rng, WORDS["sun", value])
        return line
    if value in ("left", "right"):
        return _pick(rng, WORDS[kind, "side"]).format(value)
    line = _pick(rng, WORDS[kind, value])
    if kind in ("boat", "balloon") and rng.random() < 0.15:
        line = line.replace("the ", f"the {_pick(rng, (scene.colour, *IDLE))} ", 1)
    return line


def prompt(rng: np.random.Generator, scene: Scene, motion: Motion, is_plain: bool = False) -> str:
    """One line that asks for the motion; `is_plain` leaves out the picture's own description and stray words."""
    asked = [(kind, getattr(motion, kind)) for kind in MOTIONS if getattr(motion, kind) not in ("still", "none")]
    order = rng.permutation(len(asked))
    clauses = [_clause(rng, scene, *asked[i]) for i in order] or [_pick(rng, STILL)]
    line = _pick(rng, (", ", " and ", ", ", " while ", "; ")).join(clauses)
    if is_plain:
        return line or "nothing moves"
    prefix = _pick(rng, PREFIXES)
    line = f"{prefix} {line}" if prefix and line else line
    if rng.random() < 0.3:
        described = caption(scene, rng).rstrip(".")
        line = f"{described}, {line}" if rng.random() < 0.7 else f"{line}, {described}"
    if rng.random() < 0.12:
        stray = " ".join(_pick(rng, FOREIGN) for _ in range(int(rng.integers(1, 4))))
        line = f"{line}, {stray}" if rng.random() < 0.5 else f"{line} {stray}"
    if rng.random() < 0.2:
        line += "."
    if rng.random() < 0.3:
        line = line[:1].upper() + line[1:]
    return line.strip(" ,") or "still"


def labels(scene: Scene, motion: Motion) -> list[int]:
    """The value of each kind of movement as a text must tell it; -1 where words about the picture may say otherwise."""
    told = [MOTIONS[kind].index(getattr(motion, kind)) for kind in MOTIONS]
    if scene.weather in ("rain", "snow") and motion.fall == "none":
        told[-1] = -1
    return told


# -------------------------------------------------------------------------- sheet


def write_sheet(path, clips, size=(256, 256), columns=9):
    """Rows of clips, nine frames of each."""
    width, height = size
    page = Image.new("RGB", (columns * (width + 2), len(clips) * (height + 2)), "white")
    for row, clip in enumerate(clips):
        for column, frame in enumerate(np.linspace(0, len(clip) - 1, columns).round().astype(int)):
            page.paste(Image.fromarray(clip[frame]), (column * (width + 2), row * (height + 2)))
    page.save(path, quality=85)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet", help="draw some clips, nine frames of each")
    sheet.add_argument("path")
    sheet.add_argument("--count", type=int, default=8)
    sheet.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    clips = []
    for _ in range(args.count):
        scene, motion = sample(rng)
        print(prompt(rng, scene, motion))
        clips.append(draw_clip(scene, motion))
    write_sheet(args.path, clips)


if __name__ == "__main__":
    main()
