"""What a training starts from."""

from pathlib import Path

import pytest
import torch

from boxdrop.training.plan import DRAWN, SMALL, Plan
from model_export.source import resolve
from model_export.training.drawn import SIDE
from model_export.training.starts import DRAWN_FOLDER, small_model, start_model


def plan(start: str, seed: int = 0) -> Plan:
    return Plan("mine", "things", "v1", "d" * 16, start, ("kite", "gear", "arrow"), seed=seed)


def test_the_start_for_drawings_comes_with_boxdrop_and_may_be_used_freely() -> None:
    model, processor, origin = start_model(plan(DRAWN))
    assert origin is not None
    assert origin.licence == "apache-2.0"
    assert list(model.config.id2label.values()) == ["kite", "gear", "arrow"]
    assert (processor.size["width"], processor.size["height"]) == (SIDE, SIDE)
    assert sum(file.stat().st_size for file in DRAWN_FOLDER.iterdir()) < 2_000_000


def test_the_start_for_drawings_finds_objects_before_it_has_learned_any_new_name() -> None:
    """An orange disc is more of an object than the ground; a small model with random weights cannot know."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    disc = (rows - 50) ** 2 + (columns - 100) ** 2 < 26**2
    picture = torch.full((3, SIDE, SIDE), 0.55)
    picture[:, disc] = torch.tensor([[0.95], [0.5], [0.1]])
    model, _, _ = start_model(plan(DRAWN))
    with torch.inference_mode():
        found = model.eval()(pixel_values=picture[None])
    best = int(found.logits[0].amax(dim=1).argmax())
    across, down = (float(each) * SIDE for each in found.pred_boxes[0, best, :2])
    assert abs(across - 100) < 13
    assert abs(down - 50) < 13


def test_the_scores_of_new_classes_begin_with_what_the_earlier_ones_have_in_common(tmp_path: Path) -> None:
    torch.manual_seed(1)
    earlier, processor = small_model([str(number) for number in range(7)], 128)
    with torch.no_grad():
        earlier.model.enc_score_head.weight.add_(1.0)
        earlier.model.enc_score_head.bias.fill_(-3.0)
    earlier.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert resolve(str(tmp_path)).model_type == "rt_detr_v2"

    model, _, _ = start_model(plan(str(tmp_path)))
    head = model.model.enc_score_head
    common = earlier.model.enc_score_head.weight.detach().mean(dim=0)
    assert torch.allclose(head.weight, common.expand(3, -1), atol=0.1)
    assert head.weight.std(dim=0).min() > 0, "equal classes would learn the same"
    assert head.bias.tolist() == pytest.approx([-3.0] * 3)
    name = "model.encoder_input_proj.0.0.weight"
    assert torch.equal(model.state_dict()[name], earlier.state_dict()[name])


def test_a_small_detector_that_an_earlier_version_planned_begins_as_it_did_there() -> None:
    """Its checkpoints hold the state of this optimizer."""
    model, processor, origin = start_model(plan(SMALL, seed=3))
    again, _, _ = start_model(plan(SMALL, seed=3))
    assert origin is None
    assert processor.size["height"] == 128
    assert all(
        torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True)
    )
