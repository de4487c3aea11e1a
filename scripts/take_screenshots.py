"""Take the pictures of docs/images: Label Studio with boxes, and the page that `annotate` writes.

    make demo
    .venv/bin/boxdrop annotate boxdrop/demo/scenes --out boxdrop-out/fruit-baskets
    .venv/bin/python -m scripts.take_screenshots --index boxdrop-out/fruit-baskets/index.html

Looks at the Label Studio of this machine and at its newest project. Needs Chromium:
scripts/install_chromium.sh.
"""

import argparse
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from boxdrop.domain.errors import BoxdropError
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.local.label_studio import LabelStudio, Server
from tests.chromium import FLAGS, find_chromium

SIZE = {"width": 1400, "height": 900}
PATIENCE_MS = 120_000
# Thumbnails and the task's image, not people's avatars.
IMAGES_SHOWN = """(() => {
    const images = [...document.images].filter(image => /upload|resolve/.test(image.src));
    return images.length > 0 && images.every(image => image.complete && image.naturalWidth > 0);
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--index", type=Path, help="the index.html of a run")
    parser.add_argument(
        "--project", type=int, help="number of the project in Label Studio; default: the newest"
    )
    parser.add_argument("--file", help="file name of the task to open; default: the one with the most boxes")
    parser.add_argument("--scale", type=float, default=1, help="2 for twice as many pixels")
    arguments = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("there is no Chromium; run scripts/install_chromium.sh")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport=SIZE, device_scale_factor=arguments.scale)
        page.set_default_timeout(PATIENCE_MS)
        if arguments.index:
            page.goto(arguments.index.resolve().as_uri())
            page.wait_for_load_state("networkidle")
            save(page, arguments.out / "index.png")
        server = LabelStudio().running()
        if server is None:
            sys.exit("Label Studio is not running; start it with: boxdrop local up")
        take_label_studio(page, server, arguments)
        browser.close()


def take_label_studio(page: Page, server: Server, arguments: argparse.Namespace) -> None:
    connection = connect(server.url, server.token)
    project = arguments.project or max(each.id for each in connection.sdk.projects.list(include="id"))
    log_in(page, server)
    for name, kind in (("label-studio-list", "list"), ("label-studio-grid", "grid")):
        show_as(connection, project, kind)
        page.goto(f"{server.url}/projects/{project}/data")
        page.wait_for_function(IMAGES_SHOWN)
        save(page, arguments.out / f"{name}.png")
    show_as(connection, project, "list")
    page.goto(f"{server.url}/projects/{project}/data?task={choose(connection, project, arguments.file)}")
    page.wait_for_function("window.Htx?.annotationStore?.selected?.regionStore?.regions?.length > 0")
    page.wait_for_function(IMAGES_SHOWN)
    save(page, arguments.out / "label-studio-task.png")


def log_in(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/user/login/")
    page.fill("input[name=email]", server.email)
    page.fill("input[name=password]", server.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url)


def show_as(connection: Connection, project: int, kind: str) -> None:
    """Switch the project's first tab between list and grid."""
    view = connection.sdk.views.list(project=project)[0]
    data = {**view.data, "type": kind}
    connection.sdk.views.update(view.id, project=project, data=data)


def choose(connection: Connection, project: int, file_name: str | None) -> int:
    """The task to open."""
    tasks = list(connection.sdk.tasks.list(project=project, fields="task_only"))
    if file_name:
        return next(int(task.id) for task in tasks if task.data.get("file_name") == file_name)
    return int(max(tasks, key=lambda task: task.data.get("boxes", 0)).id)


def save(page: Page, path: Path) -> None:
    """Take a picture once two in a row are the same."""
    before, after = b"", page.screenshot()
    while after != before:
        page.wait_for_timeout(500)
        before, after = after, page.screenshot()
    path.write_bytes(after)
    print(path, flush=True)


if __name__ == "__main__":
    try:
        main()
    except BoxdropError as error:
        sys.exit(f"{error}")
