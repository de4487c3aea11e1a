"""End to end: a browser in front of the real server."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

from boxdrop.local.label_studio import Server
from tests.chromium import FLAGS, find_chromium
from tests.label_studio_server import connection, server

__all__ = ["connection", "server"]

PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    """A browser that is logged in. Not longer than a module: playwright allows one at a time."""
    with logged_in(server) as page:
        yield page


@contextmanager
def logged_in(server: Server) -> Iterator[Page]:
    """Open a browser and log in."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("needs Chromium: scripts/install_chromium.sh")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{server.url}/user/login/")
        page.fill("input[name=email]", server.email)
        page.fill("input[name=password]", server.password)
        page.click("button[type=submit]")
        page.wait_for_url(f"{server.url}/**")
        yield page
        browser.close()
