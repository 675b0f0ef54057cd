"""The page loaded again: nothing is lost, and a run that goes on is taken up."""

import numpy as np
import pytest
from visitor import Visitor, driver, shipped  # noqa: F401


@pytest.fixture
def visitor(driver, shipped):  # noqa: F811
    return Visitor(driver, shipped[0])


def test_a_run_is_taken_up_again_with_its_picture_texts_and_settings(visitor):
    visitor.open()
    visitor.choose("SDEdit", "Encode-Decode")
    visitor.type(visitor.inputs()[1], "a cow on the grass")
    visitor.click("#run")
    visitor.see("#status", "SDEdit")
    visitor.driver.refresh()
    visitor.see("#status", "Done")
    texts = [box.get_attribute("value") for box in visitor.inputs()]
    assert texts == ["a horse on the grass", "a cow on the grass"]
    ticked = [box.text for box in visitor.all("fieldset label:has(input:checked)")]
    assert {"SDEdit", "Encode-Decode"} <= set(ticked) and "DiffEdit" not in ticked
    assert len(visitor.until(lambda: visitor.pictures("#compare"))) == 2
    after, first = visitor.until(lambda: len(p := visitor.pictures("#result")) == 2 and p)
    assert np.abs(after - first).max() > 60
    assert len(visitor.pictures("#history")) == 2


def test_a_painting_its_layout_and_the_tab_come_back(visitor):
    visitor.open()
    visitor.click("button[role=tab]", "Segmentation to image")
    visitor.choose("Plain sampling")
    visitor.click("#layouts .thumbnail-item", "castle")
    visitor.see("#painted", "Done")
    (painting,) = visitor.pictures("#painting")
    visitor.driver.refresh()
    visitor.see("#painted", "Done")
    (again,) = visitor.until(lambda: visitor.pictures("#painting"))
    assert (again == painting).all()
    assert visitor.all(".segment textarea")[0].get_attribute("value") == "a castle"
    visitor.click("button", "Save this layout")  # reads what is on the easel
    visitor.see("#saved")


def is_moved(visitor):
    (moved,), (at_rest,) = visitor.pictures("#face"), visitor.pictures("#face_before")
    return (moved != at_rest).any()


def test_face_sliders_stand_where_they_stood(visitor):
    visitor.open()
    visitor.click("button[role=tab]", "Face sliders")
    visitor.see("#face img")
    value = "#face_slider_0 input[type=number]"
    visitor.type(visitor.see(value), "1.5\n")
    visitor.until(
        lambda: (visitor.pictures("#face")[0] != visitor.pictures("#face_before")[0]).any()
    )
    visitor.driver.refresh()
    visitor.until(lambda: visitor.see(value).get_attribute("value") == "1.5")
    visitor.until(
        lambda: (visitor.pictures("#face")[0] != visitor.pictures("#face_before")[0]).any()
    )
