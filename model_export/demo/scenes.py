"""Drawn scenes with known boxes: icons on backgrounds, heaps in baskets, and things that are nobody's fruit.

A scene is a pure function of (seed, art, recipe). Boxes are amodal: an object that another one covers in
part keeps its whole box, as a person would draw it. Boxes are float32 [N, 4], xyxy, pixels of the returned
image; labels are class ids of `names.names()` (held-out names come after them); objects lie in drawing
order, the topmost last.

The file is long because it is a catalogue: scenes, backgrounds, heaps and what disturbs them.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from model_export.demo.art import ALPHA_FLOOR, Icon, load_icons
from model_export.demo.names import HELD_OUT, distractors, index_of, names

Generator = np.random.Generator
Bilinear = Image.Resampling.BILINEAR
Bicubic = Image.Resampling.BICUBIC

BASKET = index_of("basket")
FRUITS = tuple(index for index, name in enumerate(names()) if name.group == "fruit")
_FAVOURITES = tuple(index_of(text) for text in ("pineapple", "banana", "apple"))

TRAINING_PHOTOS = (
    "skimage/coffee.png",
    "skimage/chelsea.png",
    "skimage/rocket.jpg",
    "skimage/motorcycle_left.png",
    "skimage/gravel.png",
    "skimage/brick.png",
    "skimage/grass.png",
    "skimage/ihc.png",
    "skimage/coins.png",
    "skimage/clock_motion.png",
    "skimage/page.png",
    "skimage/camera.png",
    "skimage/cell.png",
    "skimage/moon.png",
    "skimage/text.png",
    "sklearn/flower.jpg",
)
EVALUATION_PHOTOS = (
    "skimage/astronaut.png",
    "sklearn/china.jpg",
    "skimage/retina.jpg",
    "skimage/hubble_deep_field.jpg",
)
"""Photographs that come with scikit-image and scikit-learn; the second tuple is never under a training
scene.
"""


@dataclass(frozen=True)
class Scene:
    """A drawn image and what is on it."""

    image: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""
    boxes: NDArray[np.float32]
    """float32 [N, 4], xyxy, pixels."""
    labels: NDArray[np.int64]
    """int64 [N], class ids."""


@dataclass(frozen=True)
class Basket:
    """A woven basket in two layers, so that fruit can lie inside: uint8 [H, W, 4] each."""

    back: Icon
    front: Icon
    rim: float
    """Height of the rim's front edge, as a share of the basket's height from the top."""


@dataclass(frozen=True)
class Art:
    """All that scenes are drawn from."""

    icons: dict[str, dict[str, Icon]]
    """By style, then code point."""
    photos: list[NDArray[np.uint8]]
    baskets: list[Basket]

    def styles_of(self, codepoint: str) -> list[str]:
        """The styles that have an icon for a code point, in order."""
        return [style for style, icons in self.icons.items() if codepoint in icons]


@dataclass(frozen=True)
class Recipe:
    """What a kind of scene looks like. Sizes are shares of the square root of the image's area."""

    objects: tuple[int, int] = (1, 8)
    size: tuple[float, float] = (0.11, 0.62)
    overlap: float = 0.35
    """An object may cover at most this share of a smaller neighbour's box."""
    heaps: float = 0.15
    fruit_only: float = 0.15
    empty: float = 0.06
    distractors: float = 0.55
    """Share of scenes with unlabelled company."""
    crowds: float = 0.0
    """Share of scenes with seven objects and more, smaller ones: more to learn from for the same pixels."""
    wear: float = 1.0
    """How much blur, noise, JPEG and colour shift; 0 draws clean."""
    redrawn: float = 0.0
    """Share of icons that `redraw_icon` changes, as if by another hand: training only."""
    held_out: bool = False
    """Draw the held-out names and nothing else."""


TRAINING = Recipe(
    objects=(1, 6), size=(0.14, 0.58), heaps=0.25, fruit_only=0.32, distractors=0.45, crowds=0.5, empty=0.05,
    wear=0.8, redrawn=0.65,
)  # fmt: skip
_CROWD, _CROWD_SIZE = (7, 12), (0.17, 0.38)
EVALUATION = Recipe(
    objects=(1, 7), size=(0.15, 0.55), overlap=0.3, heaps=0.1, fruit_only=0.15, empty=0.05, wear=0.6
)
BASKETS = Recipe(size=(0.17, 0.4), overlap=0.35, heaps=1.0, empty=0.0, wear=0.5)
HELD_OUT_ONLY = Recipe(
    objects=(1, 5), size=(0.15, 0.55), overlap=0.3, heaps=0, fruit_only=0, empty=0, wear=0.6, held_out=True
)

EVALUATION_SIZES = ((448, 448), (640, 480), (480, 640), (800, 600))
"""Width and height of the images that figures are made on: what users drop is larger than 224 px and not
square.
"""


def class_codepoint(label: int) -> str:
    """Code point of a class id; held-out names follow the trained ones."""
    return (*names(), *HELD_OUT)[label].codepoint


@functools.cache
def _photo(reference: str) -> NDArray[np.uint8]:
    package, _, file = reference.partition("/")
    if package == "skimage":
        import skimage.data

        folder = Path(skimage.data.__file__).parent
    else:
        import sklearn.datasets

        folder = Path(sklearn.datasets.__file__).parent / "images"
    image = Image.open(folder / file).convert("RGB")
    image.thumbnail((900, 900), Image.Resampling.LANCZOS)
    return np.asarray(image)


def load_art(folder: Path, styles: Sequence[str], photos: Sequence[str], icon_size: int = 160) -> Art:
    """Icons of `styles`, photographs and 24 woven baskets, ready to draw with."""
    rng = np.random.default_rng(len(photos))
    return Art(
        icons={style: load_icons(folder, style, icon_size) for style in styles},
        photos=[_photo(photo) for photo in photos],
        baskets=[weave_basket(rng, icon_size * 2) for _ in range(24)],
    )


# -- backgrounds
# --------------------------------------------------------------------------------------------------


def _noise(rng: Generator, width: int, height: int, cells: int, channels: int = 1) -> NDArray[np.float32]:
    """Smooth noise in about [-2, 2], float32 [height, width, channels]."""
    columns = max(2, round(cells * width / max(width, height)))
    rows = max(2, round(cells * height / max(width, height)))
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Bicubic))
        for plane in rng.standard_normal((channels, rows, columns)).astype(np.float32)
    ]
    return np.stack(planes, -1)


def _clip(values: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def photo_background(rng: Generator, art: Art, width: int, height: int) -> Image.Image:
    """A random crop of a photograph, sometimes mirrored, blurred, or with its colours exchanged."""
    photo = art.photos[rng.integers(len(art.photos))]
    full_height, full_width = photo.shape[:2]
    scale = rng.uniform(0.35, 1.0) * min(full_width / width, full_height / height)
    crop_width, crop_height = max(8, int(width * scale)), max(8, int(height * scale))
    left, top = rng.integers(full_width - crop_width + 1), rng.integers(full_height - crop_height + 1)
    crop = np.ascontiguousarray(photo[top : top + crop_height, left : left + crop_width])
    image = Image.fromarray(crop).resize((width, height), Bilinear)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 5) * width / 224))
    if rng.random() < 0.4:
        bands = image.split()
        image = Image.merge("RGB", [bands[i] for i in rng.permutation(3)])
    return image


def noise_background(rng: Generator, _art: Art, width: int, height: int) -> Image.Image:
    """Soft coloured clouds."""
    amplitude = rng.uniform(10, 110)
    return _clip(rng.uniform(0, 255, 3) + amplitude * _noise(rng, width, height, int(rng.integers(2, 9)), 3))


def gradient_background(rng: Generator, _art: Art, width: int, height: int) -> Image.Image:
    """One colour into another along a random direction; both the same now and then."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.meshgrid(
        np.linspace(-0.7, 0.7, width, dtype=np.float32), np.linspace(-0.7, 0.7, height, dtype=np.float32)
    )
    along = np.clip(x * np.cos(angle) + y * np.sin(angle) + 0.5, 0, 1)[..., None]
    first, second = rng.uniform(0, 255, (2, 3))
    if rng.random() < 0.25:
        second = first
    return _clip(first * along + second * (1 - along))


def stripes_background(rng: Generator, _art: Art, width: int, height: int) -> Image.Image:
    """Stripes or checks, hard or soft, such as a tablecloth has."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.04, 0.3) * width
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    if rng.random() < 0.5:
        wave = (wave + np.sin((y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period)) / 2
    wave = np.clip(wave * rng.uniform(0.8, 8), -1, 1)[..., None] / 2 + 0.5
    first, second = rng.uniform(0, 255, (2, 3))
    contrast = rng.uniform(0.2, 1)
    return _clip(first + (second - first) * wave * contrast)


def wood_background(rng: Generator, _art: Art, width: int, height: int) -> Image.Image:
    """Planks with grain."""
    tone = np.array([rng.uniform(110, 225), 0, 0])
    tone[1], tone[2] = tone[0] * rng.uniform(0.68, 0.85), tone[0] * rng.uniform(0.42, 0.66)
    planks = int(rng.integers(2, 7))
    row = (np.arange(height) * planks / height).astype(int)
    shade = rng.uniform(0.85, 1.1, planks)[row][:, None]
    grain = np.asarray(
        Image.fromarray(rng.standard_normal((height, max(2, width // 40))).astype(np.float32)).resize(
            (width, height), Bicubic
        )
    )
    waves = np.sin(_noise(rng, width, height, 5)[..., 0] * 4 + np.arange(height)[:, None] * planks * 0.35)
    values = tone * (shade * (1 + 0.05 * grain + 0.05 * waves))[..., None]
    edges = np.abs(np.arange(height) * planks / height % 1) < planks * max(1, height / 224) / height
    values[edges] *= rng.uniform(0.5, 0.8)
    image = _clip(values)
    if rng.random() < 0.4:
        image = image.transpose(Image.Transpose.ROTATE_90).resize((width, height), Bilinear)
    return image


def cloth_background(rng: Generator, _art: Art, width: int, height: int) -> Image.Image:
    """A cloth with folds and a fine weave."""
    tone = rng.uniform(40, 250, 3) * 0.5 + rng.uniform(60, 130)
    folds = _noise(rng, width, height, int(rng.integers(3, 7)))
    weave = rng.standard_normal((height, width, 1)).astype(np.float32)
    return _clip(tone * (1 + rng.uniform(0.03, 0.12) * folds + rng.uniform(0.01, 0.05) * weave))


_BACKGROUNDS: tuple[tuple[float, Callable[[Generator, Art, int, int], Image.Image]], ...] = (
    (0.46, photo_background), (0.16, noise_background), (0.12, gradient_background),
    (0.08, stripes_background), (0.10, wood_background), (0.08, cloth_background),
)  # fmt: skip


def draw_background(rng: Generator, art: Art, width: int, height: int) -> Image.Image:
    """One of the kinds above, RGB, of the given size."""
    kind = rng.choice(len(_BACKGROUNDS), p=[share for share, _ in _BACKGROUNDS])
    return _BACKGROUNDS[kind][1](rng, art, width, height)


# -- things
# -------------------------------------------------------------------------------------------------------


def weave_basket(rng: Generator, size: int) -> Basket:
    """A wicker basket about `size` px wide, seen from slightly above, with a handle now and then."""
    width, body = size, int(size * rng.uniform(0.38, 0.6))
    tilt = size * rng.uniform(0.07, 0.13)  # half the height of the rim's ellipse
    handle = int(size * rng.uniform(0.3, 0.5)) if rng.random() < 0.4 else 0
    top = handle + int(tilt) + 4
    height = top + body + int(tilt) + 4
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    half, centre = width / 2 - 3, (width - 1) / 2
    taper = rng.uniform(0.12, 0.35)
    tone = np.array([rng.uniform(120, 215), 0, 0])
    tone[1], tone[2] = tone[0] * rng.uniform(0.62, 0.78), tone[0] * rng.uniform(0.3, 0.5)

    def bow(reach: NDArray[np.float32] | float) -> NDArray[np.float32]:
        return np.sqrt(np.clip(1 - ((x - centre) / reach) ** 2, 0, 1)).astype(np.float32)

    rim_y = top + tilt * bow(half)
    depth = (y - rim_y) / body
    across = (x - centre) / (half * (1 - taper * np.clip(depth, 0, 1)))
    front = (np.abs(across) <= 1) & (depth >= 0) & (depth <= 1 - 0.35 * tilt / body * (1 - bow(half)))
    columns, rows = int(rng.integers(9, 20)), int(rng.integers(6, 12))
    row = np.floor(depth * rows)
    strand = np.abs(np.sin(np.pi * (np.arcsin(np.clip(across, -1, 1)) / np.pi * columns + 0.5 * (row % 2))))
    band = np.sin(np.pi * (depth * rows % 1))
    light = (0.5 + 0.35 * strand + 0.25 * band) * (1.05 - 0.35 * np.abs(across) ** 2)
    rim = (np.abs(depth) < 0.6 / rows) & (np.abs(x - centre) <= half)
    twist = 0.8 + 0.3 * np.sin((x - centre) * 2 * np.pi / (size * 0.05) + depth * rows * 2)
    light = np.where(rim, twist, light)

    def layer(mask: NDArray[np.bool_], lightness: NDArray[np.floating]) -> Icon:
        colour = np.clip(tone * lightness[..., None], 0, 255)
        return np.dstack([colour, 255 * mask]).astype(np.uint8)

    inside = (((x - centre) / half) ** 2 + ((y - top) / max(tilt, 1)) ** 2) <= 1
    back_light = 0.45 + 0.15 * np.sin(x * 2 * np.pi / (size * 0.06))
    back_rim = inside & ((((x - centre) / (half * 0.97)) ** 2 + ((y - top) / (tilt * 0.8)) ** 2) > 1)
    back_light = np.where(back_rim, 0.9, back_light)
    back = inside
    if handle:
        ring = ((x - centre) / (half * 0.93)) ** 2 + ((y - top) / (handle + tilt * 0.5)) ** 2
        arch = (np.abs(ring - 0.94) < 0.06) & (y < top)
        back_light = np.where(
            arch & ~inside, 0.75 + 0.25 * np.sin((x + y) * 2 * np.pi / (size * 0.07)), back_light
        )
        back = inside | arch
    return Basket(back=layer(back, back_light), front=layer(front | rim, light), rim=(top + tilt) / height)


def shift_colours(rng: Generator, icon: Image.Image, amount: float) -> Image.Image:
    """Brightness, saturation, tint and contrast of one icon, each with some chance."""
    pixels = np.asarray(icon).astype(np.float32)
    colour = pixels[..., :3]
    if rng.random() < 0.6:
        colour = colour * rng.uniform(1 - 0.3 * amount, 1 + 0.2 * amount)
    if rng.random() < 0.5:
        grey = colour.mean(-1, keepdims=True)
        colour = grey + (colour - grey) * rng.uniform(1 - 0.5 * amount, 1 + 0.4 * amount)
    if rng.random() < 0.4:
        colour = colour * rng.uniform(1 - 0.14 * amount, 1 + 0.14 * amount, 3).astype(np.float32)
    if rng.random() < 0.3:
        colour = (colour - 128) * rng.uniform(1 - 0.3 * amount, 1 + 0.2 * amount) + 128
    pixels[..., :3] = colour
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGBA")


def redraw_icon(rng: Generator, icon: Image.Image) -> Image.Image:
    """What another hand would do differently, each with some chance: lean, hue, flat areas, an outline."""
    if rng.random() < 0.4:  # leaning and tapering; Fluent's margin-free icons get a border to lean into
        width, height = icon.size
        border = round(0.15 * max(width, height))
        grown = Image.new("RGBA", (width + 2 * border, height + 2 * border), (128, 128, 128, 0))
        grown.paste(icon, (border, border))
        (a, b), (c, d) = rng.uniform(-0.18, 0.18, (2, 2))
        lean = (1, a, -a * grown.height / 2, b, 1, -b * grown.width / 2)
        taper = (c / grown.width * 0.5, d / grown.height * 0.5)
        icon = grown.transform(grown.size, Image.Transform.PERSPECTIVE, (*lean, *taper), Bilinear)
        icon = icon.crop(icon.getchannel("A").getbbox())
    alpha = icon.getchannel("A")
    if rng.random() < 0.35:  # hues: 256 for the circle
        hue, saturation, value = icon.convert("RGB").convert("HSV").split()
        turn = int(rng.integers(-14, 15))
        hue = hue.point([(level + turn) % 256 for level in range(256)])
        icon = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        icon.putalpha(alpha)
    if rng.random() < 0.4:  # flat areas, as flat styles have them
        flat = icon.convert("RGB").quantize(int(rng.integers(3, 9)), dither=Image.Dither.NONE).convert("RGB")
        icon = flat.filter(ImageFilter.ModeFilter(5)) if rng.random() < 0.5 else flat
        icon.putalpha(alpha)
    if rng.random() < 0.12:  # an outline, dark or white
        rim = alpha.filter(ImageFilter.MaxFilter(2 * max(1, max(icon.size) // 50) + 1))
        shade = 250 if rng.random() < 0.4 else int(rng.integers(10, 60))
        outlined = Image.new("RGBA", icon.size, (shade, shade, shade, 0))
        outlined.putalpha(rim)
        icon = Image.alpha_composite(outlined, icon)
    return icon


def pose_icon(
    rng: Generator, icon: Icon, size: float, wear: float, turn: float = 25.0, redrawn: float = 0.0
) -> Image.Image:
    """Mirror, stretch, rotate, scale to about `size` px (longer side), shift colours, blur: RGBA."""
    image = Image.fromarray(icon, "RGBA")
    if redrawn and rng.random() < redrawn:
        image = redraw_icon(rng, image)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = image.size
    scale = size / max(width, height)
    stretch = rng.uniform(0.82, 1.2) if rng.random() < 0.35 else 1.0
    goal = (max(5, round(width * scale * min(1, stretch))), max(5, round(height * scale / max(1, stretch))))
    # Scale before rotating: rotating few pixels is cheap. Half again as large first, so that the turn stays
    # sharp.
    image = image.resize(goal, Bilinear, reducing_gap=2.0)
    if rng.random() < 0.6:
        limit = 180.0 if rng.random() < 0.07 else turn
        image = image.rotate(rng.uniform(-limit, limit), resample=Bicubic, expand=True)
    if wear:
        image = shift_colours(rng, image, wear)
        if rng.random() < 0.15 * wear:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.02 * size + 0.4)))
    return image


class Canvas:
    """A background being filled; keeps what has been placed where."""

    def __init__(self, background: Image.Image) -> None:
        self.image = background
        self.boxes: list[tuple[float, float, float, float]] = []
        self.labels: list[int] = []
        self.taken: list[tuple[float, float, float, float]] = []
        """Boxes that count against overlap: objects and distractors, not the basket a heap lies in."""

    @property
    def scale(self) -> float:
        """Square root of the area, pixels: the unit of every size."""
        return float(np.sqrt(self.image.width * self.image.height))

    def fits(self, box: tuple[float, float, float, float], overlap: float) -> bool:
        """Inside the image, and no neighbour covered (or covering) by more than `overlap` of the smaller
        box.
        """
        left, top, right, bottom = box
        if left < 0 or top < 0 or right > self.image.width or bottom > self.image.height:
            return False
        area = (right - left) * (bottom - top)
        for other in self.taken:
            common_width = min(right, other[2]) - max(left, other[0])
            common_height = min(bottom, other[3]) - max(top, other[1])
            if common_width > 0 and common_height > 0:
                smaller = min(area, (other[2] - other[0]) * (other[3] - other[1]))
                if common_width * common_height > overlap * smaller:
                    return False
        return True

    def place(
        self,
        rng: Generator,
        icon: Image.Image,
        label: int | None,
        overlap: float,
        spot: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
        shadow: float = 0.0,
    ) -> bool:
        """Paste an icon where it fits (12 tries), with a soft shadow of the given strength; label None: a
        distractor.
        """
        visible = icon.getchannel("A").point(lambda alpha: 255 * (alpha > ALPHA_FLOOR)).getbbox()
        if visible is None:
            return False
        for _ in range(12):
            if spot is None:
                across, down = (
                    self.image.width - visible[2] + visible[0],
                    self.image.height - visible[3] + visible[1],
                )
                if across < 0 or down < 0:
                    return False
                x, y = int(rng.integers(across + 1)) - visible[0], int(rng.integers(down + 1)) - visible[1]
            else:
                x, y = spot(icon.size)
            box = (x + visible[0], y + visible[1], x + visible[2], y + visible[3])
            if self.fits(box, overlap):
                if shadow:
                    self.cast_shadow(icon, x, y, shadow)
                self.image.paste(icon, (x, y), icon)
                self.taken.append(box)
                if label is not None:
                    self.boxes.append(box)
                    self.labels.append(label)
                return True
        return False

    def cast_shadow(self, icon: Image.Image, x: int, y: int, strength: float) -> None:
        """Darken the ground below and beside an icon about to be pasted at (x, y)."""
        spread = max(2, int(0.07 * max(icon.size)))
        alpha = Image.new("L", (icon.width + 4 * spread, icon.height + 4 * spread))
        alpha.paste(icon.getchannel("A").point(lambda value: int(value * strength)), (2 * spread, 2 * spread))
        alpha = alpha.filter(ImageFilter.BoxBlur(spread))
        self.image.paste((12, 8, 6), (x - 2 * spread + spread // 3, y - 2 * spread + spread), alpha)


# -- scenes
# -------------------------------------------------------------------------------------------------------


def _pick_icon(rng: Generator, art: Art, codepoint: str) -> Icon | None:
    styles = art.styles_of(codepoint)
    return art.icons[styles[rng.integers(len(styles))]][codepoint] if styles else None


def _pick_fruit(rng: Generator) -> int:
    if rng.random() < 0.3:
        return int(rng.choice(_FAVOURITES))
    return int(rng.choice(FRUITS))


def _size(rng: Generator, canvas: Canvas, recipe: Recipe, share: float = 1.0) -> float:
    low, high = recipe.size
    return float(canvas.scale * np.exp(rng.uniform(np.log(low), np.log(max(low * 1.05, high * share)))))


def _shadow(rng: Generator) -> float:
    return float(rng.uniform(0.15, 0.55)) if rng.random() < 0.3 else 0.0


def add_distractor(rng: Generator, canvas: Canvas, art: Art, recipe: Recipe) -> None:
    """Something unlabelled: an icon that has no name here, a piece of a photograph, or a blob in a fruit's
    colours.
    """
    kind, size = rng.random(), _size(rng, canvas, recipe, 0.7)
    if kind < 0.72:
        candidates = distractors()
        icon = _pick_icon(rng, art, candidates[rng.integers(len(candidates))])
        if icon is not None:
            canvas.place(
                rng, pose_icon(rng, icon, size, recipe.wear), None, recipe.overlap, shadow=_shadow(rng)
            )
        return
    width, height = (max(6, int(size * rng.uniform(0.6, 1))) for _ in range(2))
    if kind < 0.86:
        patch = photo_background(rng, art, width, height)
    else:
        hue = np.array(
            [(205, 35, 40), (245, 205, 50), (240, 140, 35), (95, 160, 50), (130, 70, 160), (160, 95, 50)]
        )
        x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        light = 1.15 - rng.uniform(0, 0.45) * ((x + 0.35) ** 2 + (y + 0.35) ** 2)
        patch = _clip(hue[rng.integers(len(hue))] * light[..., None])
    mask = Image.new("L", (width, height))
    drawing = ImageDraw.Draw(mask)
    if rng.random() < 0.6:
        drawing.ellipse((0, 0, width - 1, height - 1), fill=255)
    else:
        drawing.rounded_rectangle(
            (0, 0, width - 1, height - 1), radius=rng.uniform(0, 0.4) * min(width, height), fill=255
        )
    patch.putalpha(mask)
    canvas.place(rng, patch, None, recipe.overlap, shadow=_shadow(rng))


def add_objects(rng: Generator, canvas: Canvas, art: Art, recipe: Recipe) -> None:
    """Scatter named things."""
    if recipe.crowds and rng.random() < recipe.crowds:
        recipe = replace(recipe, objects=_CROWD, size=_CROWD_SIZE)
    count = int(rng.integers(recipe.objects[0], recipe.objects[1] + 1))
    fruit_only = rng.random() < recipe.fruit_only
    share = 1.0 if count < 5 or recipe.objects == _CROWD else 0.7
    for _ in range(count):
        if recipe.held_out:
            label = len(names()) + int(rng.integers(len(HELD_OUT)))
        else:
            label = _pick_fruit(rng) if fruit_only else int(rng.integers(len(names())))
        icon = _pick_icon(rng, art, class_codepoint(label))
        if icon is not None:
            side = _size(rng, canvas, recipe, share)
            posed = pose_icon(rng, icon, side, recipe.wear, redrawn=recipe.redrawn)
            canvas.place(rng, posed, label, recipe.overlap, shadow=_shadow(rng))


def add_heap(rng: Generator, canvas: Canvas, art: Art, recipe: Recipe) -> None:
    """A basket with fruit in and before it. Woven baskets hide the lower part of what lies in them."""
    scale = canvas.scale
    size = scale * rng.uniform(0.5, 0.85)
    woven = rng.random() < 0.5
    basket = art.baskets[rng.integers(len(art.baskets))] if woven else None
    if basket is not None:
        height, width = basket.front.shape[:2]
        goal = (max(8, int(size)), max(8, int(height * size / width)))
        layers = [
            Image.fromarray(layer, "RGBA").resize(goal, Bilinear, reducing_gap=2.0)
            for layer in (basket.back, basket.front)
        ]
        rim = basket.rim
        whole = Image.alpha_composite(layers[0], layers[1])
    else:
        icon = _pick_icon(rng, art, class_codepoint(BASKET))
        if icon is None:
            return add_objects(rng, canvas, art, recipe)
        layers, rim = [], 0.42
        whole = pose_icon(rng, icon, size, recipe.wear, turn=5)
    low = max(0, int(canvas.image.height * 0.12))

    def basket_spot(extent: tuple[int, int]) -> tuple[int, int]:
        across, down = canvas.image.width - extent[0], canvas.image.height - extent[1]
        return int(rng.integers(max(1, across + 1))), int(
            rng.integers(min(low, max(0, down)), max(1, down + 1))
        )

    shadow = _shadow(rng)
    if not canvas.place(rng, whole, BASKET, 1.0, basket_spot, shadow):
        return add_objects(rng, canvas, art, recipe)
    canvas.taken.pop()
    left, top, right, bottom = canvas.boxes[-1]
    if basket is not None:
        # Where `whole` went: its box starts at the visible part, so the pasting point is found again from it.
        visible = whole.getchannel("A").point(lambda alpha: 255 * (alpha > ALPHA_FLOOR)).getbbox()
        assert visible is not None
        corner = (int(left) - visible[0], int(top) - visible[1])
        rim_y = corner[1] + rim * whole.height
    else:
        corner, rim_y = (int(left), int(top)), top + rim * (bottom - top)

    def inside_spot(extent: tuple[int, int]) -> tuple[int, int]:
        margin = 0.05 * (right - left)
        x = rng.uniform(left + margin, max(left + margin + 1, right - margin - extent[0]))
        hidden = rng.uniform(-0.4, 0.3) if basket is not None else rng.uniform(-0.3, 0.5)
        return int(x), int(rim_y - extent[1] * (1 - hidden))

    for _ in range(int(rng.integers(2, 8))):
        label = _pick_fruit(rng)
        fruit = _pick_icon(rng, art, class_codepoint(label))
        if fruit is not None:
            side = (right - left) * rng.uniform(0.22, 0.48)
            posed = pose_icon(rng, fruit, side, recipe.wear, turn=35, redrawn=recipe.redrawn)
            canvas.place(rng, posed, label, recipe.overlap + 0.1, inside_spot, shadow * 0.5)
    if basket is not None:
        canvas.image.paste(layers[1], corner, layers[1])
    if rng.random() < 0.5:
        canvas.taken.append((left, top, right, bottom))
        for _ in range(int(rng.integers(1, 4))):
            label = _pick_fruit(rng)
            fruit = _pick_icon(rng, art, class_codepoint(label))
            if fruit is not None:
                canvas.place(
                    rng,
                    pose_icon(
                        rng, fruit, _size(rng, canvas, recipe, 0.6), recipe.wear, redrawn=recipe.redrawn
                    ),
                    label,
                    0.2,
                    shadow=_shadow(rng),
                )
    return None


def wear_image(rng: Generator, image: Image.Image, wear: float) -> Image.Image:
    """What cameras and web pages do to a picture: blur, exposure, noise, JPEG."""
    if rng.random() < 0.18 * wear:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1) * image.width / 224))
    if rng.random() < 0.15 * wear:
        pixels = np.asarray(image).astype(np.float32)
        image = _clip(pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(2, 12))
    if rng.random() < 0.3 * wear:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(35, 95)))
        image = Image.open(buffer).convert("RGB")
    return image


def draw_scene(seed: int | Sequence[int], art: Art, recipe: Recipe, width: int, height: int) -> Scene:
    """The scene of a seed. The same seed, art and recipe give the same pixels and boxes."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(draw_background(rng, art, width, height))
    company = int(rng.integers(1, 5)) if rng.random() < recipe.distractors else 0
    for _ in range(company):
        add_distractor(rng, canvas, art, recipe)
    kind = rng.random()
    if kind < recipe.heaps:
        add_heap(rng, canvas, art, recipe)
    elif kind >= recipe.heaps + recipe.empty:
        add_objects(rng, canvas, art, recipe)
    image = wear_image(rng, canvas.image, recipe.wear)
    return Scene(
        image=np.array(image.convert("RGB")),
        boxes=np.array(canvas.boxes, np.float32).reshape(-1, 4),
        labels=np.array(canvas.labels, np.int64),
    )


_TRAINING_ASPECTS = (1.0, 1.0, 1.0, 4 / 3, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9)


def draw_training_scene(seed: Sequence[int], art: Art, recipe: Recipe, size: int) -> Scene:
    """A scene squashed to size x size, as the image processor will squash what users bring (aspect not
    kept).
    """
    rng = np.random.default_rng([*seed, 1])
    aspect = _TRAINING_ASPECTS[rng.integers(len(_TRAINING_ASPECTS))]
    scale = 1.0 if rng.random() < 0.6 else rng.uniform(0.8, 1.7)
    width, height = round(size * scale * np.sqrt(aspect)), round(size * scale / np.sqrt(aspect))
    scene = draw_scene(seed, art, recipe, width, height)
    if (width, height) == (size, size):
        return scene
    image = Image.fromarray(scene.image).resize((size, size), Bicubic)
    ratio = np.array([size / width, size / height] * 2, np.float32)
    return Scene(np.asarray(image), scene.boxes * ratio, scene.labels)
