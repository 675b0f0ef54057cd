"""Face sliders in a real browser, with the shipped models, or untrained ones while none ship."""

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Keys
from visitor import Visitor, driver, shipped  # noqa: F401

from pipelines import directions, lelsd
from pipelines.face_sources import FIRST

FACE = "#face"


@pytest.fixture
def visitor(driver, shipped):  # noqa: F811
    """A visitor who sees a face."""
    visitor = Visitor(driver, shipped[0])
    visitor.arrive(tab="faces")
    visitor.see("#face_facts", "identity kept")
    return visitor


def pull(visitor, place, key):
    """Move a slider with the keyboard, the picture beside it in sight."""
    slider = visitor.all(f"#face_slider_{place} input[type=range]")[0]
    slider.send_keys(key)


def test_a_dragged_slider_changes_the_face_beside_it(visitor):
    (before,) = visitor.pictures(FACE)
    pull(visitor, 0, Keys.END)
    (after,) = visitor.until(lambda: [p for p in visitor.pictures(FACE) if (p != before).any()])
    assert after.shape == before.shape
    assert visitor.see("#face_score_0 .score").text
    bottom = visitor.see(FACE).rect
    assert bottom["y"] + bottom["height"] < 800  # the face is in sight while a slider moves
    (heat,) = visitor.pictures("#face_heat")
    assert np.ptp(heat) > 0
    visitor.click("#to_rest")
    visitor.until(lambda: not np.subtract(visitor.pictures(FACE)[0], before).any())
    assert not visitor.complaints()


def test_a_text_becomes_a_slider_and_can_be_removed(visitor):
    count = len(FIRST)
    visitor.type(visitor.see("#wish textarea, #wish input"), "wearing a red hat")
    visitor.click("#add_wish")
    visitor.see(f"#face_slider_{count}", "wearing a red hat")
    visitor.click(".slot button", "✕")
    visitor.until(lambda: len(visitor.all(".slot")) == count)


def test_a_picture_is_uploaded_and_told_of(visitor, tmp_path):
    file = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    visitor.click("#face_upload button")
    field = visitor.until(
        lambda: visitor.driver.find_element("css selector", "#face_upload input[type=file]")
    )
    field.send_keys(str(file))
    visitor.see("#likeness", "LPIPS")
    assert not visitor.complaints()


def test_a_direction_is_trained_in_the_page(visitor, monkeypatch):
    monkeypatch.setattr(lelsd, "BATCHES", 3)
    monkeypatch.setattr(directions, "_CALIBRATION", 2)
    count = len(FIRST)
    visitor.click("#lesson button", "Train a direction")
    visitor.until(lambda: visitor.see("#learn_part input").get_attribute("value"))
    visitor.click("#learn")
    visitor.see("#learning", "localization score")
    visitor.see(f"#face_slider_{count}", "yours")
    assert visitor.see("#learnt", ".safetensors")
    assert not visitor.complaints()
