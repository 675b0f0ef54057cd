"""The page in a real browser, with the shipped models: what a visitor does and sees."""

import re

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from visitor import Visitor, driver, shipped  # noqa: F401

import app
from pipelines import easel
from pipelines.examples import FOLDER
from pipelines.layout_files import read_layout


@pytest.fixture
def visitor(driver, shipped):  # noqa: F811
    return Visitor(driver, shipped[0])


def test_the_page_opens_without_a_complaint_or_a_request_to_anybody_else(visitor):
    visitor.open()
    assert visitor.all("h1")[0].text == app.TITLE
    assert [tab.text for tab in visitor.all("button[role=tab]")] == [
        title for _, title, _ in app.TABS
    ]
    ours = (visitor.address, "data:", "blob:", "chrome:")
    assert not [url for url in visitor.requested() if not url.startswith(ours)]
    assert not visitor.complaints()


def test_one_click_on_the_first_example_edits_a_horse_into_a_zebra(visitor):
    visitor.open(source="something else", target="anything")
    visitor.click("#examples .thumbnail-item")
    visitor.see("#status", "Done")
    assert [box.get_attribute("value") for box in visitor.inputs()] == [
        "a horse on the grass",
        "a zebra on the grass",
    ]
    after, before = visitor.until(lambda: len(p := visitor.pictures("#result")) == 2 and p)
    changed = np.abs(after - before).max(-1) > 0
    assert 0 < changed.mean() < 1
    titles = ["DiffEdit", "FlexIT", "Encode-Decode", "Prompt-to-Prompt", "SDEdit"]
    rows = [row.text for row in visitor.all("#numbers tbody tr")]
    assert all(row.startswith(title) for row, title in zip(rows, titles, strict=True))
    assert visitor.see("#history img")
    assert not visitor.complaints()


def test_several_methods_stand_side_by_side(visitor):
    visitor.open()
    visitor.choose("DiffEdit", "Copy")
    visitor.click("#run")
    visitor.see("#compare .caption-label", "Copy")
    visitor.see("#status", "Done")
    rows = [row.text.split() for row in visitor.all("#numbers tbody tr")]
    assert [row[0] for row in rows] == ["DiffEdit", "Copy"]
    visitor.click("#compare button", "Copy")
    visitor.until(lambda: not np.ptp(np.subtract(*visitor.pictures("#result"))))


def test_flexit_shows_its_way_and_its_loss(visitor):
    visitor.open()
    visitor.choose("FlexIT")
    visitor.click("#run")
    assert visitor.see("#status progress")
    visitor.see("#status", "Done")
    steps = [one.text for one in visitor.all("#snapshots .caption-label")]
    assert len(steps) == 5
    assert visitor.see("#curves svg, #curves canvas")
    after, before = visitor.until(lambda: len(p := visitor.pictures("#result")) == 2 and p)
    assert np.abs(after - before).mean() > 1
    assert not visitor.complaints()


def test_every_sweep_of_a_picture_draws_its_curve(visitor):
    visitor.open()
    curves = "#trade_off .role-legend-label text"
    for titles in (["SDEdit"], ["SDEdit", "Encode-Decode"]):
        visitor.choose(titles[-1])
        visitor.click("#sweep")
        visitor.until(lambda wanted=titles: [one.text for one in visitor.all(curves)] == wanted)
        lines = visitor.all("#trade_off .mark-line path[stroke]")
        assert len({line.get_attribute("stroke") for line in lines}) == len(titles)
    assert not visitor.complaints()


def test_an_example_takes_the_place_of_a_run_and_what_is_typed_meanwhile_stays(visitor):
    visitor.open()
    visitor.click("#preset label", "Faithful")
    visitor.choose("DiffEdit")
    visitor.click("#run")
    visitor.see("#status progress")
    visitor.click("#examples .thumbnail-item", "cat")
    visitor.until(lambda: visitor.inputs()[1].get_attribute("value") == "a dog on the grass")
    visitor.type(visitor.inputs()[0], "my own words")
    visitor.see("#status", "Done")
    visitor.until(lambda: visitor.see("#run").is_enabled())
    assert not visitor.see("#stop_run").is_enabled()
    assert visitor.inputs()[0].get_attribute("value") == "my own words"
    shown = visitor.until(lambda: len(p := visitor.pictures("#result")) == 2 and p)
    with Image.open(FOLDER / "cat-to-dog.png") as cat:
        assert any((one == np.asarray(cat.convert("RGB"), int)).all() for one in shown)
    assert len(visitor.all("#history img")) == 1
    assert not visitor.complaints()


def test_stop_ends_a_run_and_gives_the_controls_back(visitor):
    visitor.open()
    visitor.click("#preset label", "Faithful")
    visitor.click("#sweep")
    visitor.see("#status progress")
    visitor.until(lambda: visitor.see("#stop_run").is_enabled())  # a click before that is lost
    visitor.click("#stop_run")
    visitor.see("#status", "Stopped.")
    visitor.until(lambda: visitor.see("#run").is_enabled())


def test_the_threshold_acts_without_the_network(visitor, shipped):  # noqa: F811
    visitor.open(tab="mask")
    visitor.click("#inspect")
    visitor.see("#mask_status", "Done")
    first = visitor.see("#facts", "IoU").text
    jobs = shipped[1].jobs
    slider = visitor.all("input[type=range][aria-label*=Threshold]")[0]
    visitor.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    slider.send_keys(Keys.END)
    visitor.until(lambda: visitor.see("#facts").text != first)
    assert shipped[1].jobs == jobs
    assert visitor.see("#words .caption-label", "zebra")


def test_a_mask_painted_by_hand_is_used_to_edit(visitor):
    visitor.open(tab="mask")
    visitor.click("#inspect")
    visitor.see("#mask_status", "Done")
    visitor.click("#repaint button")
    canvas = visitor.see("#painter canvas")
    visitor.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    visitor.see("#painter button[aria-label*=rush]")
    brush = ActionChains(visitor.driver, duration=50)
    corner = brush.move_to_element_with_offset(canvas, -230, -200).click_and_hold()
    corner.move_by_offset(40, 0).move_by_offset(0, 40).release().perform()
    visitor.click("#repaint button", "Take this painting")
    share = visitor.see("#facts", "repainted by hand").text
    border = visitor.all("input[type=range][aria-label*=border]")[0]
    visitor.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", border)
    hard = visitor.pictures("#mask")[0]
    border.send_keys(Keys.ARROW_RIGHT)
    visitor.until(lambda: (visitor.pictures("#mask")[0] != hard).any())
    now = visitor.see("#facts", "repainted by hand").text
    assert now.split("·")[0] == share.split("·")[0]
    visitor.click("#use_mask")
    visitor.see("#run")
    visitor.see("label", "Your mask is used")
    visitor.click("button", "Remove mask")
    visitor.until(lambda: not visitor.all("#drop_mask"))


def test_one_click_on_a_layout_paints_it(visitor):
    visitor.open()
    visitor.click("button[role=tab]", "Segmentation to image")
    visitor.choose("Plain sampling")
    visitor.click("#layouts .thumbnail-item")
    visitor.see("#painted", "Done")
    assert visitor.all(".segment textarea")[0].get_attribute("value") == "a red car"
    assert visitor.see("#painting_numbers td", "Plain sampling")


def test_two_segments_painted_with_the_pointer_are_read_and_obeyed(visitor):
    visitor.open()
    visitor.click("button[role=tab]", "Segmentation to image")
    visitor.see("#easel button[aria-label*=rush]")
    browser, reach = visitor.driver, {}
    for pen, words, x in (("1", "a red car", -110), ("2", "a tree", 110)):
        visitor.type(visitor.all(".segment textarea")[int(pen) - 1], words)
        visitor.click("#pen label", pen)
        visitor.until(lambda pen=pen: visitor.pen_in_hand() == easel.PALETTE[int(pen) - 1])
        canvas = visitor.see("#easel canvas")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        stroke = ActionChains(browser, duration=50).move_to_element_with_offset(canvas, x, -60)
        stroke.click_and_hold().move_by_offset(0, 60).move_by_offset(0, 60).release().perform()
        zoom = int(re.search(r"(\d+)%", visitor.see("#easel").text)[1]) / 100
        reach[int(pen)] = 256 + x / zoom, 120 / zoom + 2 * app.BRUSH_RADIUS_PX
    visitor.click("button", "Save this layout")
    visitor.click("#saved")
    layout = read_layout(visitor.until(lambda: next(browser.downloads.glob("*.png"), None)))
    assert [segment.text for segment in layout.segments] == ["a red car", "a tree"]
    for i, (middle, height) in reach.items():
        rows, columns = np.nonzero(layout.labels == i)
        assert abs(columns.mean() - middle) < 6
        assert abs(rows.mean() - 256) < 6
        assert abs(np.ptp(columns) - 2 * app.BRUSH_RADIUS_PX) < 8
        assert abs(np.ptp(rows) - height) < 12
    visitor.choose("ZestGuide")
    visitor.click("#paint")
    visitor.see("#painted", "Done")
    (picture,) = visitor.pictures("#painting")
    assert picture.shape == (128, 128, 3)
    assert visitor.see("#understood", "a red car")
    assert len(visitor.pictures("#maps")) == 2


def test_an_unknown_word_is_named_with_what_is_known(visitor):
    visitor.open()
    visitor.type(visitor.inputs()[1], "a flamingo on the gras")
    notice = visitor.see(".notice", "flamingo")
    assert "does not know “flamingo”" in notice.text
    assert "“grass” for “gras”" in visitor.see(".notice", "gras").text
    visitor.click(".notice summary")
    visitor.see(".notice dd", "zebra")


def test_a_light_handler_refuses_with_a_toast_too(visitor):
    visitor.open(tab="mask")
    visitor.click("#repaint button")
    visitor.see(".toast-body", "Please press Inspect first")


def test_a_refusal_is_a_toast_with_a_sentence(visitor):
    visitor.open()
    box = visitor.inputs()[1]
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    visitor.click("#run")
    visitor.see(".toast-body", "target text")


def test_a_link_brings_everything_back(visitor):
    visitor.open(
        tab="mask", picture="cat-to-dog", source="my cat", target="my <b>dog</b>", seed="2147483646"
    )
    assert [box.get_attribute("value") for box in visitor.inputs()] == ["my cat", "my <b>dog</b>"]
    assert "2147483646" in [one.get_attribute("value") for one in visitor.all("input[type=number]")]
    visitor.open(tab="no such tab", seed="x" * 50, picture="../../etc/passwd")
    assert visitor.see("#run")


@pytest.mark.parametrize("tab", ["edit", "mask"])
def test_a_phone_needs_no_sideways_scrolling(visitor, tab):
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    visitor.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        visitor.open(tab=tab)
        width = "return document.documentElement.scrollWidth"
        assert visitor.driver.execute_script(width) <= phone["width"]
    finally:
        visitor.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_slider_moves_the_picture_and_other_pictures_come(visitor):
    visitor.open()
    visitor.click("button[role=tab]", "Retrieval")
    visitor.click("#queries .thumbnail-item")
    visitor.see("#retrieval_status", "Answered")
    captions = lambda: [one.text for one in visitor.all("#retrieved .caption-label")]  # noqa: E731
    first = visitor.until(lambda: len(captions()) == 5 and captions())
    slider = visitor.all("input[type=range][aria-label*=λ]")[0]
    visitor.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    slider.send_keys(Keys.END)
    visitor.until(lambda: len(captions()) == 5 and captions() != first)
    assert visitor.see("#retrieval_baselines .caption-label", "Text to image")
    assert visitor.see("#reasons td")
    assert visitor.see("#retrieval_status", "the scenes agree with")
    assert not visitor.complaints()
