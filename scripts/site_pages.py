"""Hooks of mkdocs: README and CONTRIBUTING become pages, and links into the repository point to GitHub.

A link to a missing file is a warning here as well, which `mkdocs build --strict` turns into an error.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY: Final = Path(__file__).parents[1]
GITHUB: Final = "https://github.com/boxdrop/boxdrop/blob/main/"
PAGES: Final = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
FOLDERS: Final = {"decisions/": "decisions/README.md"}
"""Links to folders, and the pages that replace them."""

log = logging.getLogger("mkdocs.hooks.site_pages")

_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages outside `docs/`, with their links made relative to `docs/`."""
    for source, page in PAGES.items():
        text = _LINK.sub(_into_docs, (REPOSITORY / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def _into_docs(link: re.Match[str]) -> str:
    target = link[2].removeprefix("docs/") if link[2].startswith("docs/") else f"../{link[2]}"
    return f"{link[1]}{FOLDERS.get(target, target)}{link[3]}"


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Point links that leave `docs/` at GitHub."""
    here = posixpath.dirname(page.file.src_uri)

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, link[2]))
        if target.startswith("docs/"):
            return link[0]
        if not (REPOSITORY / target).exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, target)
        if target in PAGES:
            return f"{link[1]}{posixpath.relpath(PAGES[target], here or '.')}{link[3]}"
        return f"{link[1]}{GITHUB}{target}{link[3]}"

    # "[1] [name](address)" is a footnote here; Markdown's reference links may hold a space.
    return _LINK.sub(lead, re.sub(r"\[(\d+)\](\s)\[", r"\\[\1\\]\2[", markdown))
