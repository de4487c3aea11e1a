"""The icon sets that scenes are drawn from: fetched as npm packages, rendered once, cached, and credited.

Nothing of theirs is in the repo; `fetch` runs `npm pack` with pinned versions (npm checks the sha512 of
each) into the cache folder. Seven of the sets draw the training scenes; Twemoji is kept for evaluation, so
that one figure says how the detector does on a hand it has never seen.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_export.demo.names import HELD_OUT, ICON_IDS, distractors, names

Icon = NDArray[np.uint8]
"""uint8 [H, W, 4], straight alpha, cropped to what is visible."""

ALPHA_FLOOR = 48
"""Below this alpha (of 255) a pixel belongs to no box: soft shadows and antialiasing are not the object."""


class ArtError(Exception):
    """An icon set is missing or unreadable; the message says what to run."""


@dataclass(frozen=True)
class IconSet:
    """One style of drawing, and on which terms it may be used."""

    style: str
    package: str
    version: str
    title: str
    author: str
    licence: str
    homepage: str
    use: Literal["training", "evaluation"] = "training"
    ships: bool = False
    """True: the sample scenes in the repo may show it (MIT or Apache-2.0)."""


ICON_SETS: tuple[IconSet, ...] = (
    IconSet(
        "fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0",
        "Fluent Emoji, 3D", "Microsoft Corporation", "MIT", "https://github.com/microsoft/fluentui-emoji",
        ships=True,
    ),
    IconSet(
        "fluent-colour", "@iconify-json/fluent-emoji", "1.2.7",
        "Fluent Emoji, colour", "Microsoft Corporation", "MIT",
        "https://github.com/microsoft/fluentui-emoji", ships=True,
    ),
    IconSet(
        "fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6",
        "Fluent Emoji, flat", "Microsoft Corporation", "MIT", "https://github.com/microsoft/fluentui-emoji",
        ships=True,
    ),
    IconSet(
        "noto", "@iconify-json/noto", "1.2.9",
        "Noto Emoji", "Google Inc", "Apache-2.0", "https://github.com/googlefonts/noto-emoji", ships=True,
    ),
    IconSet(
        "noto-v1", "@iconify-json/noto-v1", "1.2.5",
        "Noto Emoji v1", "Google Inc", "Apache-2.0", "https://github.com/googlefonts/noto-emoji",
    ),
    IconSet(
        "fxemoji", "@iconify-json/fxemoji", "1.2.2",
        "Firefox OS Emoji", "Mozilla", "Apache-2.0", "https://github.com/mozilla/fxemoji",
    ),
    IconSet(
        "emojione", "@iconify-json/emojione", "1.2.3",
        "EmojiOne 2", "EmojiOne", "CC-BY-4.0", "https://github.com/EmojiTwo/emojitwo",
    ),
    IconSet(
        "twemoji", "@iconify-json/twemoji", "1.2.5",
        "Twemoji", "Twitter", "CC-BY-4.0", "https://github.com/twitter/twemoji", use="evaluation",
    ),
)  # fmt: skip

TRAINED_STYLES = tuple(icons.style for icons in ICON_SETS if icons.use == "training")
SHIPPED_STYLES = tuple(icons.style for icons in ICON_SETS if icons.ships)
UNSEEN_STYLES = tuple(icons.style for icons in ICON_SETS if icons.use == "evaluation")


def cache_folder() -> Path:
    """Where everything lands: `$BOXDROP_HOME/demo-training`, or `.boxdrop/demo-training` here."""
    return Path(os.environ.get("BOXDROP_HOME", ".boxdrop")) / "demo-training"


def icon_set(style: str) -> IconSet:
    """The icon set of a style name; ArtError lists the styles there are."""
    for icons in ICON_SETS:
        if icons.style == style:
            return icons
    raise ArtError(f"no style {style!r}; there are {', '.join(icons.style for icons in ICON_SETS)}")


def fetch(folder: Path) -> list[Path]:
    """Unpack every icon set under `folder/npm/STYLE`, skipping those already there; needs `npm` on the path.

    Returns the folders of the unpacked packages.
    """
    npm = shutil.which("npm")
    unpacked = []
    for icons in ICON_SETS:
        home = folder / "npm" / icons.style
        marker = home / "package" / "package.json"
        if not marker.exists():
            if npm is None:
                raise ArtError(
                    "npm is not installed, and the icon sets come from npm: install Node.js, then try again"
                )
            home.mkdir(parents=True, exist_ok=True)
            spec = f"{icons.package}@{icons.version}"
            packed = subprocess.run(
                [npm, "pack", "--silent", "--json", spec],
                cwd=home,
                capture_output=True,
                text=True,
                check=False,
            )
            if packed.returncode:
                raise ArtError(f"npm pack {spec} failed: {packed.stderr.strip()[-400:]}")
            archive = next(home.glob("*.tgz"))
            with tarfile.open(archive) as tar:
                tar.extractall(home, filter="data")
            archive.unlink()
        unpacked.append(home)
    return unpacked


def wanted_codepoints() -> tuple[str, ...]:
    """Every code point that any scene may draw: names, held-out names, distractors."""
    return tuple(name.codepoint for name in (*names(), *HELD_OUT)) + distractors()


@cache
def _iconify(
    package: Path,
) -> tuple[dict[str, dict[str, object]], dict[str, str], dict[str, str], float, float]:
    icons = json.loads((package / "icons.json").read_text())
    chars_file = package / "chars.json"
    chars = json.loads(chars_file.read_text()) if chars_file.exists() else {}
    aliases = {name: alias["parent"] for name, alias in icons.get("aliases", {}).items()}
    return icons["icons"], chars, aliases, icons.get("width", 16), icons.get("height", 16)


def icon_id(folder: Path, style: str, codepoint: str) -> str | None:
    """What the iconify set calls an icon, or None where it has none.

    Sets with a `chars.json` say so themselves; the others use Noto's name (fxemoji without its hyphens) or
    the one in `names.ICON_IDS`.
    """
    icons, chars, aliases, _, _ = _iconify(folder / "npm" / style / "package")
    noto = _iconify(folder / "npm" / "noto" / "package")[1]
    guesses = [
        ICON_IDS.get(style, {}).get(codepoint),
        chars.get(codepoint),
        chars.get(f"{codepoint}-fe0f"),
        *([] if chars else _spellings(noto.get(codepoint) or noto.get(f"{codepoint}-fe0f"))),
    ]
    for guess in guesses:
        if guess is None:
            continue
        guess = aliases.get(guess, guess)
        if guess in icons:
            return guess
    return None


def _spellings(name: str | None) -> list[str]:
    return [] if name is None else [name, f"{name}-1", name.replace("-", "")]


_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def _render_svg(body: str, box: tuple[float, float, float, float], size: int) -> Image.Image:
    import resvg_py  # only rendering needs it

    left, top, width, height = box
    head = f'<svg xmlns="{_SVG}" xmlns:xlink="{_XLINK}" width="{size}" height="{size}"'
    svg = f'{head} viewBox="{left} {top} {width} {height}">{body}</svg>'
    drawn = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    return Image.open(io.BytesIO(drawn)).convert("RGBA")


def _crop(icon: Image.Image) -> Icon | None:
    visible = icon.getchannel("A").point(lambda alpha: 255 * (alpha > ALPHA_FLOOR)).getbbox()
    if visible is None:
        return None
    pixels = np.array(icon.crop(visible))
    pixels[..., :3][pixels[..., 3] == 0] = (
        128  # neutral under full transparency: resampling must not bleed black
    )
    return pixels


def render_icons(folder: Path, style: str, size: int, codepoints: Iterable[str]) -> dict[str, Icon]:
    """Draw the icons of one style at about `size` px; those the set lacks are left out."""
    package = folder / "npm" / style / "package"
    if not (package / "package.json").exists():
        raise ArtError(f"the icon set {style} is not in {folder}: run `python -m model_export.demo fetch`")
    drawn: dict[str, Icon] = {}
    for codepoint in codepoints:
        if (package / "assets").is_dir():
            spellings = (package / "assets" / f"{codepoint}{suffix}.webp" for suffix in ("", "-fe0f"))
            file = next((path for path in spellings if path.exists()), None)
            if file is None:
                continue
            image = Image.open(file).convert("RGBA")
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
        else:
            icons, _, _, width, height = _iconify(package)
            identity = icon_id(folder, style, codepoint)
            if identity is None:
                continue
            icon = icons[identity]
            box = tuple(
                float(str(icon.get(key, default)))
                for key, default in (("left", 0), ("top", 0), ("width", width), ("height", height))
            )
            image = _render_svg(str(icon["body"]), box, size)  # type: ignore[arg-type]
        cropped = _crop(image)
        if cropped is not None:
            drawn[codepoint] = cropped
    return drawn


def load_icons(folder: Path, style: str, size: int = 160) -> dict[str, Icon]:
    """Icons of a style by code point, rendered at about `size` px; the first call renders and caches them
    as npz.
    """
    file = folder / f"icons-{size}" / f"{style}.npz"
    if not file.exists():
        drawn = render_icons(folder, style, size, wanted_codepoints())
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(partial, **drawn)  # type: ignore[arg-type]
        partial.replace(file)
    with np.load(file) as stored:
        return {codepoint: stored[codepoint] for codepoint in stored.files}
