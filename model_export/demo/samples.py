"""The scenes that ship with boxdrop: fruit in baskets and on tables, drawn to be looked at, with their
ground truth.

They are composed, not scattered: one style of art a scene, a light from above left, shadows on the ground, a
heap with the tall fruit behind. Only art under MIT or Apache-2.0 is in them, and no photograph.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from model_export.demo.art import ALPHA_FLOOR, SHIPPED_STYLES, Icon, icon_set, load_icons
from model_export.demo.names import index_of, names
from model_export.demo.scenes import weave_basket

Generator = np.random.Generator

SAMPLE_SEED = 9_000_000
SHIPPED_NUMBERS = tuple(range(20))
"""Which of the endless scenes ship."""
_ICON_SIZE = 320
_SIZES = ((640, 480), (640, 480), (480, 640), (720, 480), (560, 560), (800, 600), (480, 600))

# Longer side as a share of the basket's width.
_FRUIT_SIZES = {
    "pineapple": 0.56, "banana": 0.40, "apple": 0.29, "orange": 0.28, "grapes": 0.34, "pear": 0.31, "lemon":
    0.24, "peach": 0.27, "strawberry": 0.19, "kiwi": 0.21, "cherries": 0.23, "watermelon": 0.38, "mango":
    0.29, "coconut": 0.31,
}  # fmt: skip
_COMPANY = {"coffee": 0.30, "glass of milk": 0.30, "bread": 0.36, "cheese": 0.30, "honey pot": 0.33,
"sunflower": 0.36,
            "croissant": 0.30, "tulip": 0.38}  # fmt: skip
_STYLE_SHARES = {"fluent-3d": 0.6, "noto": 0.2, "fluent-colour": 0.1, "fluent-flat": 0.1}


@dataclass
class Sticker:
    """One cut-out to be pasted; `name` is None for what has no label."""

    image: Image.Image
    x: int
    y: int
    name: str | None

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Visible extent, xyxy, pixels of the scene; may reach beyond it."""
        visible = self.image.getchannel("A").point(lambda alpha: 255 * (alpha > ALPHA_FLOOR)).getbbox()
        assert visible is not None
        return (self.x + visible[0], self.y + visible[1], self.x + visible[2], self.y + visible[3])


def _colour(image: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def _smooth(rng: Generator, width: int, height: int, across: int, down: int) -> NDArray[np.float32]:
    cells = rng.standard_normal((max(2, down), max(2, across))).astype(np.float32)
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))


_WALLS = (
    (236, 224, 204),
    (205, 222, 226),
    (222, 230, 208),
    (240, 214, 196),
    (214, 208, 226),
    (246, 232, 196),
    (190, 210, 200),
)
_WOODS = ((176, 124, 78), (200, 154, 104), (142, 96, 62), (214, 178, 132), (120, 84, 60))
_CLOTHS = ((196, 62, 58), (70, 110, 160), (92, 140, 96), (214, 160, 62), (130, 96, 150))


def paint_wall(rng: Generator, width: int, height: int) -> Image.Image:
    """A plain wall in soft light, with a few blurred lights or leaves before it now and then."""
    tone = np.array(_WALLS[rng.integers(len(_WALLS))], float)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    light = 1.06 - 0.22 * np.hypot(x - 0.3, (y - 0.15) * 0.9) + 0.012 * _smooth(rng, width, height, 6, 4)
    image = _colour(tone * light[..., None])
    if rng.random() < 0.7:
        lights = Image.new("RGB", image.size)
        drawing = ImageDraw.Draw(lights)
        for _ in range(int(rng.integers(6, 14))):
            radius = rng.uniform(0.03, 0.09) * width
            centre_x, centre_y = rng.uniform(0, width), rng.uniform(-0.05, 0.55) * height
            glow = tuple(
                int(v) for v in np.clip(tone * rng.uniform(0.1, 0.32) * rng.uniform(0.8, 1.2, 3), 0, 255)
            )
            drawing.ellipse(
                (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), fill=glow
            )
        blurred = np.asarray(lights.filter(ImageFilter.GaussianBlur(width * 0.012)), float)
        image = _colour(255 - (255 - np.asarray(image, float)) * (255 - blurred * 0.8) / 255)
    return image


def paint_wood(rng: Generator, width: int, height: int, upright: bool = False) -> Image.Image:
    """Planks seen from above (`upright`: running towards the viewer)."""
    if upright:
        return paint_wood(rng, height, width).transpose(Image.Transpose.ROTATE_90)
    tone = np.array(_WOODS[rng.integers(len(_WOODS))], float)
    planks = int(rng.integers(4, 7))
    position = np.arange(height) * planks / height
    plank = np.minimum(position.astype(int), planks - 1)
    shade = rng.uniform(0.9, 1.08, planks)[plank][:, None] * np.ones(width)
    for index in range(planks):
        rows = plank == index
        count = int(rows.sum())
        drift = _smooth(rng, width, count, 5, 2) * 7
        rings = np.sin((np.arange(count)[:, None] + drift) * rng.uniform(0.25, 0.5))
        fine = _smooth(rng, width, count, 8, count)
        shade[rows] *= 1 + 0.035 * rings + 0.03 * fine
    seam = np.abs(position - np.round(position)) * height / planks
    seam[(position < 0.5) | (position > planks - 0.5)] = 9
    shade *= (1 - 0.45 * np.exp(-((seam / 1.3) ** 2)))[:, None]
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return _colour(tone * (shade * (1.1 - 0.28 * np.hypot(x - 0.35, y - 0.3)))[..., None])


def paint_cloth(rng: Generator, width: int, height: int) -> Image.Image:
    """A gingham or plain cloth with soft folds."""
    tone, white = np.array(_CLOTHS[rng.integers(len(_CLOTHS))], float), np.array((248, 243, 234), float)
    period = rng.uniform(0.06, 0.11) * max(width, height)
    bend = _smooth(rng, width, height, 4, 3) * period * 0.12
    x, y = np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))
    if rng.random() < 0.7:
        across = np.clip(np.sin((x + bend) * 2 * np.pi / period) * 6, -1, 1) / 2 + 0.5
        down = np.clip(np.sin((y + bend) * 2 * np.pi / period) * 6, -1, 1) / 2 + 0.5
        share = (across + down) / 2 * 0.8
    else:
        share = np.full_like(x, rng.uniform(0.15, 0.55))
    weave = 1 + 0.02 * rng.standard_normal((height, width))
    folds = (
        1 + 0.035 * _smooth(rng, width, height, 5, 4) - 0.18 * np.hypot(x / width - 0.35, y / height - 0.3)
    )
    return _colour((white + (tone - white) * share[..., None]) * (weave * (folds + 0.05))[..., None])


def paint_room(rng: Generator, width: int, height: int) -> tuple[Image.Image, int]:
    """A table before a wall; returns the picture and the row where the table begins."""
    edge = int(height * rng.uniform(0.5, 0.62))
    image = paint_wall(rng, width, height)
    depth = height - edge
    table = (paint_wood if rng.random() < 0.65 else paint_cloth)(rng, width, int(depth * 1.6))
    # Seen at a slant: what is far is squeezed more.
    source = np.asarray(table)
    rows = ((np.linspace(0, 1, depth) ** 0.75) * (len(source) - 1)).astype(int)
    slanted = Image.fromarray(source[rows])
    image.paste(slanted, (0, edge))
    dusk = Image.new("L", (width, height))
    ImageDraw.Draw(dusk).rectangle((0, edge - 3, width, edge + 2), fill=150)
    dusk = dusk.filter(ImageFilter.GaussianBlur(7))
    image.paste((58, 42, 30), (0, 0), dusk)
    return image, edge


def _fitted(rng: Generator, icon: Icon, size: float, turn: float) -> Image.Image:
    image = Image.fromarray(icon, "RGBA")
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(rng.uniform(-turn, turn), Image.Resampling.BICUBIC, expand=True)
    scale = size / max(image.size)
    return image.resize(
        (max(8, int(image.width * scale)), max(8, int(image.height * scale))), Image.Resampling.LANCZOS
    )


def _drop_shadow(
    canvas: Image.Image, sticker: Sticker, shift: tuple[float, float], blur: float, strength: float
) -> None:
    pad = int(4 * blur) + 2
    alpha = Image.new("L", (sticker.image.width + 2 * pad, sticker.image.height + 2 * pad))
    alpha.paste(sticker.image.getchannel("A").point(lambda value: int(value * strength)), (pad, pad))
    alpha = alpha.filter(ImageFilter.GaussianBlur(blur))
    canvas.paste((28, 16, 10), (int(sticker.x - pad + shift[0]), int(sticker.y - pad + shift[1])), alpha)


def _ground_shadow(canvas: Image.Image, box: tuple[int, int, int, int], strength: float = 0.55) -> None:
    left, _, right, bottom = box
    width = right - left
    mask = Image.new("L", canvas.size)
    drawing = ImageDraw.Draw(mask)
    flat = 0.1 * width
    drawing.ellipse(
        (left + 0.06 * width, bottom - flat, right + 0.1 * width, bottom + flat * 0.8),
        fill=int(255 * strength),
    )
    canvas.paste((28, 16, 10), (0, 0), mask.filter(ImageFilter.GaussianBlur(max(3.0, 0.045 * width))))


def _visible_shares(stickers: Sequence[Sticker], size: tuple[int, int]) -> list[float]:
    """How much of each sticker is neither covered by later ones nor outside the scene."""
    owner = np.full((size[1], size[0]), -1)
    whole = []
    for index, sticker in enumerate(stickers):
        solid = np.asarray(sticker.image.getchannel("A")) > 127
        whole.append(max(1, int(solid.sum())))
        left, top = max(0, sticker.x), max(0, sticker.y)
        right = min(size[0], sticker.x + sticker.image.width)
        bottom = min(size[1], sticker.y + sticker.image.height)
        part = solid[top - sticker.y : bottom - sticker.y, left - sticker.x : right - sticker.x]
        owner[top:bottom, left:right][part] = index
    counts = np.bincount(owner[owner >= 0], minlength=len(stickers))
    return [float(count / area) for count, area in zip(counts, whole, strict=True)]


class Composer:
    """Draws one sample scene in one style."""

    def __init__(self, rng: Generator, icons: dict[str, Icon], size: tuple[int, int]) -> None:
        self.rng, self.icons, self.size = rng, icons, size

    def sticker(self, name: str, size: float, turn: float, x: float, bottom: float) -> Sticker:
        """A posed icon whose middle is at x and whose lower edge is at `bottom`."""
        image = _fitted(self.rng, self.icons[names()[index_of(name)].codepoint], size, turn)
        visible = image.getchannel("A").point(lambda alpha: 255 * (alpha > ALPHA_FLOOR)).getbbox()
        assert visible is not None
        return Sticker(image, int(x - (visible[0] + visible[2]) / 2), int(bottom - visible[3]), name)

    def choose_fruit(self, count: int) -> list[str]:
        """Fruit for a heap: the three of the demo come often, at most two of a kind but apples."""
        others = [name for name in _FRUIT_SIZES if name not in ("pineapple", "banana", "apple")]
        chosen = ["pineapple", "banana", "apple"]
        while len(chosen) < count:
            if self.rng.random() < 0.5:
                chosen.append(("apple", "apple", "banana", "pineapple")[self.rng.integers(4)])
            else:
                chosen.append(others[self.rng.integers(len(others))])
        if self.rng.random() < 0.35:
            chosen.pop(int(self.rng.integers(3)))
        return chosen

    def basket_scene(self) -> tuple[Image.Image, list[Sticker]]:
        """A heap in a basket on a table, with fruit and company beside it."""
        rng, (width, height) = self.rng, self.size
        canvas, edge = paint_room(rng, width, height)
        span = min(width * rng.uniform(0.5, 0.62), height * 0.74)
        woven = weave_basket(rng, int(span * 2))
        layers = [
            Image.fromarray(layer, "RGBA").resize(
                (int(span), int(span * layer.shape[0] / layer.shape[1])), Image.Resampling.LANCZOS
            )
            for layer in (woven.back, woven.front)
        ]
        basket_height = layers[0].height
        room = basket_height + 0.42 * span + 12  # the heap's top stays in the picture
        middle = width * rng.uniform(0.42, 0.58)
        ground = max(edge + (height - edge) * rng.uniform(0.45, 0.6), min(room, height * 0.93))
        left, top = int(middle - span / 2), int(ground - basket_height)
        rim = top + woven.rim * basket_height
        back = Sticker(layers[0], left, top, None)
        front = Sticker(layers[1], left, top, None)
        heap: list[Sticker] = []
        fruit = self.choose_fruit(int(rng.integers(6, 10)))
        fruit.sort(key=lambda name: -_FRUIT_SIZES[name] + 0.03 * rng.standard_normal())
        tall = [name for name in fruit if _FRUIT_SIZES[name] >= 0.36]
        small = [name for name in fruit if _FRUIT_SIZES[name] < 0.36]
        for row, (group, lift) in enumerate(((tall, 0.13), (small, 0.0))):
            order = list(rng.permutation(len(group)))
            for place, index in zip(order, range(len(group)), strict=True):
                name = group[index]
                share = (place + 0.5) / len(group)
                x = left + span * (0.14 + 0.72 * share) + rng.normal(0, 0.02 * span)
                size = span * _FRUIT_SIZES[name] * rng.uniform(0.92, 1.08)
                sunk = size * rng.uniform(0.1, 0.22)
                turn = 16 if name == "pineapple" else 24
                heap.append(self.sticker(name, size, turn, x, rim + sunk - lift * span - row * 0.01 * span))
        beside: list[Sticker] = []
        spots = [left - span * 0.16, left + span * 1.15, left + span * 0.3, left + span * 0.75]
        names_beside = [
            ("apple", "banana", "orange", "pear", "lemon", "strawberry", "cherries")[rng.integers(7)]
            for _ in range(int(rng.integers(1, 3)))
        ]
        names_beside.append(list(_COMPANY)[rng.integers(len(_COMPANY))])
        for index, (x, name) in enumerate(zip(spots, names_beside, strict=False)):
            size = span * (_FRUIT_SIZES | _COMPANY)[name]
            bottom = ground + (height - ground) * rng.uniform(0.25, 0.7) * (1 if index < 2 else 1.2)
            x = float(np.clip(x, size * 0.55, width - size * 0.55))
            beside.append(self.sticker(name, size, 8 if name in _COMPANY else 15, x, min(bottom, height - 6)))
        beside.sort(key=lambda sticker: sticker.box[3])
        stickers = self.keep_visible([back, *heap, front, *beside], always=(back, front))
        _ground_shadow(canvas, (left + int(span * 0.08), top, left + int(span * 0.92), int(ground)), 0.6)
        for sticker in stickers:
            if sticker in heap:
                _drop_shadow(canvas, sticker, (0.012 * span, 0.015 * span), 0.022 * span, 0.45)
            elif sticker in beside:
                _ground_shadow(canvas, sticker.box)
            canvas.paste(sticker.image, (sticker.x, sticker.y), sticker.image)
        whole = Sticker(Image.alpha_composite(*layers), left, top, "basket")
        return canvas, [whole, *(sticker for sticker in stickers if sticker.name)]

    def table_scene(self) -> tuple[Image.Image, list[Sticker]]:
        """Fruit on a table or a cloth, seen from above."""
        rng, (width, height) = self.rng, self.size
        canvas = (paint_cloth if rng.random() < 0.5 else paint_wood)(rng, width, height)
        span = min(width, height) * rng.uniform(0.72, 0.9)
        chosen = [*self.choose_fruit(int(rng.integers(7, 11))), list(_COMPANY)[rng.integers(len(_COMPANY))]]
        chosen.sort(key=lambda name: -(_FRUIT_SIZES | _COMPANY)[name])
        stickers: list[Sticker] = []
        for name in chosen:
            size = span * (_FRUIT_SIZES | _COMPANY)[name] * rng.uniform(0.9, 1.1)
            for _ in range(60):
                x = rng.uniform(size * 0.55, width - size * 0.55)
                bottom = rng.uniform(size * 1.05, height - 8)
                candidate = self.sticker(name, size, 30, x, bottom)
                left, top, right, low = candidate.box
                gap = -0.12 * size
                if left < 4 or top < 4 or right > width - 4 or low > height - 4:
                    continue
                if all(
                    right < other.box[0] - gap
                    or left > other.box[2] + gap
                    or low < other.box[1] - gap
                    or top > other.box[3] + gap
                    for other in stickers
                ):
                    stickers.append(candidate)
                    break
        stickers = self.keep_visible(stickers)
        for sticker in stickers:
            _drop_shadow(canvas, sticker, (0.016 * span, 0.022 * span), 0.02 * span, 0.5)
            canvas.paste(sticker.image, (sticker.x, sticker.y), sticker.image)
        return canvas, stickers

    def keep_visible(
        self, stickers: list[Sticker], always: Sequence[Sticker] = (), least: float = 0.55
    ) -> list[Sticker]:
        """Take out, one by one, what the others hide too much of."""
        stickers = list(stickers)
        while True:
            shares = _visible_shares(stickers, self.size)
            hidden = [(share, index) for index, share in enumerate(shares) if stickers[index] not in always]
            if not hidden or min(hidden)[0] >= least:
                return stickers
            stickers.pop(min(hidden)[1])


@functools.cache
def _icons(folder: Path, style: str) -> dict[str, Icon]:
    return load_icons(folder, style, _ICON_SIZE)


def draw_sample(folder: Path, number: int, seed: int = SAMPLE_SEED) -> tuple[Image.Image, list[Sticker], str]:
    """Sample scene `number`: picture, labelled stickers and the style of its art."""
    rng = np.random.default_rng([seed, number])
    style = str(rng.choice(list(_STYLE_SHARES), p=list(_STYLE_SHARES.values())))
    assert style in SHIPPED_STYLES
    composer = Composer(rng, _icons(folder, style), _SIZES[number % len(_SIZES)])
    image, stickers = composer.table_scene() if number % 5 in (2, 4) else composer.basket_scene()
    noise = rng.normal(0, 1.2, (*image.size[::-1], 1))
    return _colour(np.asarray(image, float) + noise), stickers, style


def write_samples(folder: Path, out: Path, numbers: Sequence[int]) -> list[Path]:
    """Draw the shipped scenes into `out` with `truth.json` (COCO) and `ATTRIBUTION.md`; returns the
    pictures' paths.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("fruit-basket-*.jpg"):
        old.unlink()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    styles: set[str] = set()
    files: list[Path] = []
    used = sorted({index_of(name) for name in ("basket", *_FRUIT_SIZES, *_COMPANY)})
    for image_id, number in enumerate(numbers, start=1):
        image, stickers, style = draw_sample(folder, number)
        file = out / f"fruit-basket-{image_id:02d}.jpg"
        image.save(file, quality=88, optimize=True)
        files.append(file)
        styles.add(style)
        images.append({"id": image_id, "file_name": file.name, "width": image.width, "height": image.height})
        for sticker in stickers:
            assert sticker.name is not None
            left, top, right, bottom = sticker.box
            left, top, right, bottom = (
                max(0, left),
                max(0, top),
                min(image.width, right),
                min(image.height, bottom),
            )
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": index_of(sticker.name) + 1,
                 "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                 "iscrowd": 0}
            )  # fmt: skip
    truth = {
        "info": {"description": "Every labelled thing in the drawn fruit-basket scenes; boxes are amodal."},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index + 1, "name": names()[index].text} for index in used],
    }
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    (out / "ATTRIBUTION.md").write_text(_attribution(sorted(styles)))
    return files


def _attribution(styles: Sequence[str]) -> str:
    rows = "\n".join(
        f"| {icons.title} | {icons.author} | {icons.licence} | {icons.homepage} "
        f"| `{icons.package}` {icons.version} |"
        for icons in map(icon_set, styles)
    )
    return f"""# Whose art is in these scenes

The scenes are drawn by `python -m model_export.demo samples`; backgrounds, baskets and shadows are computed,
and no photograph is in them. The fruit and the other things are icons, turned, scaled and shaded, of:

| art | author | licence | home | fetched as |
| --- | --- | --- | --- | --- |
{rows}

MIT and Apache-2.0 allow this with the notice above; the licences' texts are at the homes named. The scenes
themselves are under the licence of this repository. `truth.json` holds the boxes of everything labelled, in
COCO format; an object that another one covers in part keeps its whole box.
"""
