"""An annotator has a task open while its prediction is replaced: what they do is not lost."""

from playwright.sync_api import Page, Response

from boxdrop.domain.labels import LabelSet
from boxdrop.domain.predictions import Box, Prediction
from boxdrop.labelstudio.connection import Connection
from boxdrop.labelstudio.project import ensure_project
from boxdrop.labelstudio.publishing import PublishSummary, publish
from boxdrop.labelstudio.uploads import Uploads
from tests.e2e.test_regions import photo

FRUIT = LabelSet.from_short_form("apple, banana")
OLD = Prediction(
    "basket.jpg", "b" * 32, "v1", "demo@1", 1280, 960, (Box("apple", 0.9, (192, 96, 576, 336), "apple"),)
)
NEW = Prediction(
    "basket.jpg", "b" * 32, "v1", "demo@2", 1280, 960,
    (Box("apple", 0.9, (192, 96, 576, 336), "apple"), Box("banana", 0.8, (700, 500, 900, 800), "banana")),
)  # fmt: skip

_REGIONS = "window.Htx?.annotationStore?.selected?.regionStore?.regions?.length === {}"


def _is_a_new_annotation(answer: Response) -> bool:
    return "/annotations" in answer.url and answer.request.method == "POST"


def test_who_has_the_task_open_can_submit_and_others_see_the_newer_boxes(
    page: Page, connection: Connection
) -> None:
    project = ensure_project(connection, FRUIT, "open while replaced", key="open while replaced")
    urls = Uploads(connection, project, lambda _: photo(1)).urls
    assert publish(connection, project, [OLD], FRUIT, urls) == PublishSummary(created=1)
    (task,) = connection.sdk.tasks.list(project=project.id, fields="task_only")
    address = f"{project.url}?task={task.id}"

    page.goto(address)
    page.wait_for_function(_REGIONS.format(1))
    assert publish(connection, project, [NEW], FRUIT, urls) == PublishSummary(replaced=1)

    assert page.context.browser is not None
    others = page.context.browser.new_context(storage_state=page.context.storage_state())
    other = others.new_page()
    other.goto(f"{connection.url}/projects/{project.id}/data?labeling=1")
    other.wait_for_function(_REGIONS.format(2), timeout=120_000)
    others.close()

    submit = page.get_by_role("button", name="submit").first
    with page.expect_response(
        lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
    ) as sent:
        submit.click()
    assert sent.value.status == 201, sent.value.text()
    (annotated,) = connection.sdk.annotations.list(task.id)
    assert [region["value"]["rectanglelabels"] for region in annotated.result] == [["apple"]]
    assert publish(connection, project, [NEW], FRUIT, urls) == PublishSummary(unchanged=1)
