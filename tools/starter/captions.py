"""Scenes put into words: a small grammar with synonyms, free clause order, dropped clauses and words that mean nothing here."""

import numpy as np

from scenes import Scene

# Words for each factor value. The evaluator's prompts and the model card draw on the same words.
WORDS = {
    "dawn": ["at dawn", "at sunrise", "in the early morning", "at daybreak", "in the morning", "under a pink sky"],
    "day": ["by day", "at noon", "in daylight", "at midday", "in the daytime", "under a blue sky"],
    "sunset": ["at sunset", "at dusk", "in the evening", "in the golden hour", "under an orange sky"],
    "night": ["at night", "by night", "at midnight", "in the dark", "under a night sky"],
    "sun": ["sun", "sun", "bright sun"],
    "moon": ["full moon", "full moon", "round moon", "moon"],
    "crescent": ["crescent moon", "crescent moon", "thin moon", "crescent"],
    "stars": ["starry sky", "many stars", "under the stars", "with bright stars", "stars"],
    "mountains": ["mountains", "rocky mountains", "a mountain range", "the mountains", "mountain peaks"],
    "snowy": ["snowy mountains", "snow-capped mountains", "snowy peaks", "snow-covered mountains", "white mountains"],
    "hills": ["rolling hills", "green hills", "grassy hills", "hills", "meadows"],
    "desert": ["the desert", "sand dunes", "desert dunes", "a desert", "dunes"],
    "sea": ["the sea", "the ocean", "a calm sea", "open water", "the coast"],
    "city": ["a city skyline", "a city", "the city", "skyscrapers", "a skyline"],
    "forest": ["a forest", "a pine forest", "the woods", "a dark forest", "the forest"],
    "clear": ["clear sky", "with a clear sky", "in clear weather", "cloudless"],
    "clouds": ["with clouds", "cloudy", "white clouds", "with puffy clouds", "clouds"],
    "rain": ["in the rain", "rainy", "rain", "with rain", "on a rainy day"],
    "snow": ["in the snow", "snowing", "with falling snow", "snowfall", "snowflakes"],
    "house": ["house", "house", "cottage", "cabin", "home"],
    "boat": ["sailing boat", "sailboat", "boat", "yacht", "sailing ship"],
    "tree": ["tree", "pine tree", "fir tree", "pine", "christmas tree"],
    "balloon": ["hot-air balloon", "hot air balloon", "balloon"],
    "cactus": ["cactus", "cactus", "saguaro cactus"],
    "lighthouse": ["lighthouse", "lighthouse", "striped lighthouse"],
}

STYLES = [
    "",
    "",
    "",
    "a picture of",
    "an illustration of",
    "flat illustration of",
    "a landscape with",
    "a landscape,",
    "a poster of",
    "a painting of",
    "minimal vector art,",
]

# Words that a user may well write and that change nothing in the picture.
IDLE = [
    "beautiful",
    "lovely",
    "quiet",
    "calm",
    "cozy",
    "little",
    "small",
    "big",
    "old",
    "tiny",
    "lonely",
    "lone",
    "tall",
    "pretty",
    "peaceful",
    "scenic",
    "nice",
    "large",
    "single",
]

# Words of other worlds: now and then one is put into a caption, so that the text encoders learn to pass over what they do not know.
FOREIGN = """river valley island beach shore field village tower bird grass water light winter summer spring autumn style art drawing
wallpaper photo without below behind into from its this that two three many few orange pink black brown grey gold silver teal cat dog
horse person people car train bridge road street boatman castle dragon robot space planet flower garden music book detailed realistic
digital trending masterpiece quality high resolution 4k render cinematic soft warm cool pastel neon vivid colours colors palette mood
dreamy magical fantasy modern retro vintage simple clean bold graphic design print low far close wide view panorama""".split()


def _pick(rng, values):
    return values[int(rng.integers(len(values)))]


def _light_clause(scene: Scene, rng, is_full: bool, said: set) -> str:
    """Words for sun, moon or stars, with the side."""
    said.add("light")
    if scene.light == "stars":
        return _pick(rng, WORDS["stars"])
    name = _pick(rng, WORDS[scene.light])
    article = _pick(rng, ["", "", "a ", "the ", "with a ", "with the "])
    if not is_full and rng.random() < 0.15:
        return f"{article}{name}"
    said.add("side")
    if rng.random() < 0.1:
        return f"{name} {scene.side}"
    place = _pick(rng, ["on the", "on the", "at the", "to the", "in the"])
    return f"{article}{name} {place} {scene.side}"


def _head(scene: Scene, rng, is_full: bool, said: set) -> str:
    """The thing and the terrain, joined in one of several ways; notes in `said` what was mentioned."""
    terrain = _pick(rng, WORDS[scene.terrain]) if is_full or rng.random() < 0.95 else ""
    said.update({"terrain"} if terrain else ())
    if scene.thing == "none" or not (is_full or rng.random() < 0.96):
        return terrain
    said.add("thing")
    noun = _pick(rng, WORDS[scene.thing])
    colour = scene.colour if is_full or rng.random() < 0.94 else ""
    said.update({"colour"} if colour else ())
    idle = _pick(rng, IDLE) if rng.random() < 0.2 else ""
    words = [w for w in (idle, colour, noun) if w]
    if colour and rng.random() < 0.1:
        words = [w for w in (idle, noun, "in", colour) if w]
    article = _pick(rng, ["a", "a", "a", "one", "the", ""])
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    thing = " ".join([article] * bool(article) + words)
    if not terrain:
        return thing
    joins = ["in front of", "near", "and", "with", "by", "before"]
    if scene.thing == "boat":
        joins = ["on", "at", "near", "in front of"] if scene.terrain == "sea" else ["in front of", "near", "by"]
    elif scene.thing == "balloon":
        joins = ["over", "above", "floating over", "flying over"]
    elif scene.terrain in ("desert", "forest", "city", "hills", "mountains", "snowy"):
        joins += ["in", "in"]
    form = int(rng.integers(6))
    if form < 4:
        return f"{thing} {_pick(rng, joins)} {terrain}"
    return f"{terrain} with {thing}" if form == 4 else f"{terrain}, {thing}"


def caption(scene: Scene, rng: np.random.Generator, is_full: bool = False) -> str:
    """One line for a scene. Clauses may be dropped, except when `is_full`; then every factor that applies is spelled out."""
    return caption_and_factors(scene, rng, is_full)[0]


def caption_and_factors(scene: Scene, rng: np.random.Generator, is_full: bool = False) -> tuple[str, set]:
    """A caption as of `caption`, and the names of the factors that it mentions."""

    def keep(p):
        return is_full or rng.random() < p

    said, clauses = set(), []
    if keep(0.94):
        said.add("time")
        clauses.append(_pick(rng, WORDS[scene.time]))
    if scene.light != "none" and keep(0.9):
        clauses.append(_light_clause(scene, rng, is_full, said))
    if keep(0.95) if scene.weather != "clear" else rng.random() < 0.35:
        said.add("weather")
        clauses.append(_pick(rng, WORDS[scene.weather]))
    rng.shuffle(clauses)
    head = _head(scene, rng, is_full, said)
    if rng.random() < 0.12:  # foreign words, to be ignored
        clauses.insert(
            int(rng.integers(len(clauses) + 1)), " ".join(_pick(rng, FOREIGN) for _ in range(int(rng.integers(1, 4))))
        )
    style = _pick(rng, STYLES)
    if head and style:
        head = f"{style} {head}"
    first = int(rng.integers(len(clauses) + 1)) if rng.random() < 0.3 else 0
    line = ", ".join(clauses[:first])
    if head:
        line = f"{line}, {head}" if line else head
    for clause in clauses[first:]:
        is_prepositional = clause.split()[0] in ("at", "in", "under", "by", "on", "with")
        separator = " " if is_prepositional and rng.random() < 0.7 else ", "
        line = line + separator + clause if line else clause
    if rng.random() < 0.12:
        line = line.replace(",", "")
    if rng.random() < 0.2:
        line += "."
    if rng.random() < 0.25:
        line = line[:1].upper() + line[1:]
    return line or "a landscape", said
