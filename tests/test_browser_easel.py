"""The easel in a real browser: pens, pictures behind, layouts, words nobody knows."""

import io

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from visitor import Visitor, driver, shipped  # noqa: F401

from pipelines import easel
from pipelines.examples import FOLDER


@pytest.fixture
def visitor(driver, shipped):  # noqa: F811
    """A visitor in front of the easel."""
    visitor = Visitor(driver, shipped[0]).open()
    visitor.click("button[role=tab]", "Segmentation to image")
    visitor.see("#easel button[aria-label*=rush]")
    return visitor


def put_picture_behind(visitor):
    visitor.click("#backdrop button")
    file = By.CSS_SELECTOR, "#backdrop input[type=file]"
    given = visitor.until(lambda: visitor.driver.find_element(*file))
    given.send_keys(str(FOLDER / "horse-to-zebra.png"))
    visitor.until(lambda: green(visitor) > 0.2)


def green(visitor):
    """The part of the canvas that shows the example's grass."""
    canvas = visitor.see("#easel canvas")
    visitor.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    shot = Image.open(io.BytesIO(canvas.screenshot_as_png))
    red, grass, blue = np.moveaxis(np.asarray(shot.convert("RGB"), int), -1, 0)
    return ((grass > red + 20) & (grass > blue + 60)).mean()


def test_the_pen_stays_in_hand_when_a_picture_comes_behind(visitor):
    visitor.click("#pen label", "5")
    visitor.until(lambda: visitor.pen_in_hand() == easel.PALETTE[4])
    put_picture_behind(visitor)
    visitor.until(lambda: visitor.pen_in_hand() == easel.PALETTE[4])


def test_a_layout_that_loads_takes_the_picture_away(visitor):
    visitor.choose("Plain sampling")
    put_picture_behind(visitor)
    visitor.click("#layouts .thumbnail-item", "castle")
    visitor.see("#painted", "Done")
    visitor.until(lambda: green(visitor) < 0.05)


def test_words_nobody_knows_are_named_where_they_are_typed(visitor):
    visitor.type(visitor.all(".segment textarea")[0], "a flamingo")
    assert visitor.see("#paint_notice", "flamingo")
