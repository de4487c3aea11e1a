"""`boxdrop delete` against a system on moto and a real Label Studio: what goes, and what must not."""

import pytest

from boxdrop.labelstudio.connection import Connection
from boxdrop.local.label_studio import Server
from boxdrop.pipeline.labels import part_event
from boxdrop.store.layout import annotation_key, display_key
from tests.integration.labelstudio.conftest import annotate

from .test_handlers import Functions, functions, live, tasks
from .test_labels import project
from .test_retry_and_apply import Call, call
from .world import World

__all__ = ["call", "functions", "live"]


@pytest.fixture
def worked(live: Functions, connection: Connection, server: Server, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project with a finished run and verified work, and a nested one."""
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    world = live.world
    live.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"), world.put("fruit/b.jpg"))
    (run_id,) = live.launch()
    ended = part_event(world.data.name, f"runs/{run_id}/summary.json")
    live.deliver("publish", *live.work(run_id), ended)
    annotate(connection, tasks(connection, world)["a.jpg"])  # and no webhook tells of it
    live.deliver("dispatch", world.labels("fruit/2026"), world.put("fruit/2026/c.jpg"))
    world.data.put(annotation_key("fruit/2026", "0" * 32), b"{}")
    for name in ("fruit", "fruit/2026"):
        world.data.put(display_key(name, "0" * 32, "v1"), b"a copy", "image/jpeg")
    return world


def keys(world: World, prefix: str = "") -> set[str]:
    return {each.key for each in world.data.list(prefix)}


def test_a_project_is_deleted_after_a_question_and_verified_work_stays(
    worked: World, connection: Connection, call: Call
) -> None:
    number = project(worked).label_studio_id
    row = worked.row("fruit/a.jpg")
    refused = call("delete", "fruit", input="n\n")
    assert refused.exit_code == 1
    assert f"its project in Label Studio, number {number}" in refused.output
    assert worked.ledger.project("fruit") is not None

    done = call("delete", "fruit", "--yes")
    assert done.exit_code == 0, done.output
    assert f"keeps the images in s3://{worked.images.name}/fruit/" in done.output
    assert number not in [each.id for each in connection.sdk.projects.list(include="id")]
    assert worked.ledger.project("fruit") is None
    assert worked.ledger.image(row.image_id) is None
    assert not any(worked.ledger.count_images("fruit").values())
    assert worked.ledger.list_runs("fruit") == []
    assert worked.images.get("fruit/a.jpg") is not None
    assert worked.images.get("fruit/labels.yaml") is None
    assert keys(worked, "display/") == {display_key("fruit/2026", "0" * 32, "v1")}
    assert keys(worked, "annotations/") == {
        annotation_key("fruit", row.image_id),
        annotation_key("fruit/2026", "0" * 32),
    }
    assert not keys(worked, "predictions/fruit/")
    assert not keys(worked, "runs/")
    assert worked.ledger.project("fruit/2026") is not None
    assert worked.row("fruit/2026/c.jpg").project == "fruit/2026"
    assert call("status", "fruit").exit_code == 1


@pytest.mark.usefixtures("connection")
def test_verified_work_is_deleted_only_on_request(worked: World, call: Call) -> None:
    done = call("delete", "fruit", "--verified-too", "--yes")
    assert done.exit_code == 0, done.output
    assert keys(worked, "annotations/") == {annotation_key("fruit/2026", "0" * 32)}


def test_a_project_whose_run_is_not_finished_is_not_deleted(functions: Functions, call: Call) -> None:
    world = functions.world
    functions.deliver("dispatch", world.labels("fruit"), world.put("fruit/a.jpg"))
    (run_id,) = functions.launch()
    refused = call("delete", "fruit", "--yes")
    assert refused.exit_code == 1
    assert f"the run {run_id} of fruit is not finished" in refused.output
    assert world.ledger.project("fruit") is not None
