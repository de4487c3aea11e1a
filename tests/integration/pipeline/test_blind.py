"""The blind control slice, from labels.yaml to the report, against moto and a real Label Studio."""

import json
from typing import Any

import pytest

from boxdrop.domain.identity import image_id
from boxdrop.domain.label import ReviewRule
from boxdrop.labelstudio.connection import Connection
from boxdrop.local.label_studio import Server

from .test_accept import detected
from .test_handlers import Functions, functions, live, tasks
from .test_retry_and_apply import Call, call

__all__ = ["call", "functions", "live"]

OF_EACH = 3


def region(place: int, label: str, identity: str) -> dict[str, Any]:
    """A box as `verified.candidate` places it, in an image of 640 × 100."""
    value = {"x": (10 + 100 * place) / 6.4, "y": 10.0, "width": 80 / 6.4, "height": 80.0, "rotation": 0}
    return {
        "id": identity,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 640,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**value, "rectanglelabels": [label]},
    }


def test_people_draw_the_slice_themselves_and_the_report_says_what_boxes_do(
    live: Functions, connection: Connection, call: Call, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    world, rule = live.world, ReviewRule(blind=0.5)
    some = {f"fruit/{number:03}.jpg" for number in range(100) if number % 12 > 1}
    drawn = {key: rule.is_blind(image_id(world.images.name, key)) for key in sorted(some)}
    names = [key for kind in (True, False) for key in [k for k, v in drawn.items() if v is kind][:OF_EACH]]
    labels = world.labels("fruit", "review: {blind: 50%}\nlabels: [banana, apple]")
    live.deliver("dispatch", labels, *(world.put(name) for name in names))
    (run_id,) = live.launch()
    _, events = detected(live, run_id)
    assert live.deliver("publish", *events) == []

    by_name = tasks(connection, world)
    for name in sorted(
        by_name, key=lambda each: not drawn[f"fruit/{each}"]
    ):  # the slice counts from its first
        task = by_name[name]
        offered = task.predictions[0].result or []
        assert bool(offered) is not drawn[f"fruit/{name}"]
        if offered:
            result, seconds = offered, 4.0
        else:  # two of the detector's three bananas, and an apple that it did not find
            result = [region(0, "banana", "a"), region(1, "banana", "b"), region(5, "apple", "c")]
            seconds = 8.0
        connection.sdk.annotations.create(task.id, result=result, lead_time=seconds)
    assert call("sync", "fruit").exit_code == 0

    told = json.loads(call("report", "fruit", "--json", "--quality", "0").output)
    assert (told["images"], told["blind"], told["unknown_start"]) == (2 * OF_EACH, OF_EACH, 0)
    assert told["whole"]["images"] == OF_EACH  # nothing was offered in the others
    assert (told["whole"]["kept"], told["whole"]["added"]) == (3 * OF_EACH, 0)
    control = told["control"]
    assert (control["shown"]["images"], control["blind"]["images"]) == (OF_EACH, OF_EACH)
    assert control["time_ratio"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    confirmed = [control[side]["confirmed"] for side in ("shown", "blind")]
    assert [(each["right"], each["of"]) for each in confirmed] == [
        (3 * OF_EACH, 3 * OF_EACH),
        (2 * OF_EACH, 3 * OF_EACH),
    ]
    assert [control[side]["beyond_per_image"] for side in ("shown", "blind")] == [0, 1]
    said = call("report", "fruit", "--quality", "0").output
    assert "3 images verified without seeing boxes" in said
    assert "boxes save 50 % of the time" in said
