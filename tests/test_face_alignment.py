"""FFHQ's crop from what a parser sees: its formula, and clay faces that were moved and turned."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pack import CPU

from pipelines import packs
from pipelines.data.faces.sculptor import render_face
from pipelines.data.faces.spec import sample_face
from pipelines.errors import InputError
from pipelines.face_alignment import Landmarks, align, crop_of, cut_out, landmarks
from pipelines.models.face_parser import FaceParser


@pytest.fixture(scope="module")
def parser():
    return FaceParser.from_folder(packs.ASSETS / "toybox" / "face_parser", CPU)


@pytest.fixture(scope="module")
def face():
    plain = {"glasses": "none", "hat": "none", "hair": "short", "beard": "none", "yaw": 0.0}
    one = dataclasses.replace(sample_face(3), **plain, pitch=0.0)
    return Image.fromarray(render_face(one, 512).image)


def points(*, eyes=(60.0, 40.0), mouth=30.0, at=(100.0, 100.0), turn=0.0):
    """Landmarks of a head: widths of eyes and mouth, and how far apart these are."""
    (wide, narrow), (x, y) = eyes, at
    flat = np.array([[-wide / 2, 0], [wide / 2, 0], [-narrow / 2, mouth], [narrow / 2, mouth]])
    cos, sin = np.cos(turn), np.sin(turn)
    return Landmarks(*(flat @ [[cos, sin], [-sin, cos]] + [x, y]))


def test_the_crop_has_ffhqs_side_and_centre():
    quad = crop_of(points())  # 4 times the eyes' distance, a tenth of the way down
    np.testing.assert_allclose(quad, [[-20, -17], [-20, 223], [220, 223], [220, -17]], atol=1e-9)
    long = crop_of(points(mouth=100.0))  # 3.6 times the distance of eyes and mouth
    np.testing.assert_allclose(long[2] - long[0], [360, 360], atol=1e-9)


@pytest.mark.parametrize("turn", [0.4, -1.2, 3.0])
def test_the_crop_turns_with_the_head(turn):
    flat, turned = crop_of(points()), crop_of(points(turn=turn))
    cos, sin = np.cos(turn), np.sin(turn)
    expected = (flat - 100) @ [[cos, sin], [-sin, cos]] + 100
    np.testing.assert_allclose(turned, expected, atol=1e-9)


def test_a_square_of_the_picture_comes_out_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    quad = np.array([[10.0, 4], [10, 36], [42, 36], [42, 4]])
    found = np.asarray(cut_out(Image.fromarray(pixels), quad, 32)).astype(int)
    assert abs(found - pixels[4:36, 10:42])[2:-2, 2:-2].mean() < 40  # resampled half a pixel apart
    smooth = Image.fromarray(pixels).resize((600, 400), Image.Resampling.BICUBIC)
    found = np.asarray(cut_out(smooth, quad * 10, 320)).astype(int)
    assert abs(found - np.asarray(smooth)[40:360, 100:420]).mean() < 2


def test_what_lies_outside_is_mirrored():
    half = Image.new("RGB", (64, 64), "red")
    quad = np.array([[-32.0, 0], [-32, 64], [32, 64], [32, 0]])
    assert cut_out(half, quad, 16).getcolors() == [(256, (255, 0, 0))]


def test_eyes_and_mouth_are_found_where_they_are(parser, face):
    seen = landmarks(parser, face.resize((parser.size_px, parser.size_px), Image.Resampling.BOX))
    left, right = seen.left_eye, seen.right_eye
    assert left[0] < seen.left_mouth.mean() and abs(left[1] - right[1]) < 4
    assert left[0] < 64 < right[0] and seen.left_mouth[0] < 64 < seen.right_mouth[0]
    assert min(seen.left_mouth[1], seen.right_mouth[1]) > max(left[1], right[1]) + 10


@pytest.mark.parametrize(("turn", "at"), [(0, (90, 40)), (20, (30, 60)), (-15, (120, 110))])
def test_a_moved_and_turned_face_comes_out_the_same(parser, face, turn, at):
    wide = Image.new("RGB", (900, 700), face.getpixel((4, 4)))
    wide.paste(face, at)
    wide = wide.rotate(turn, Image.Resampling.BICUBIC, fillcolor=face.getpixel((4, 4)))
    crops = [align(parser, one, 96) for one in (face, wide)]
    middle = [np.asarray(one, np.float32)[16:80, 16:80] for one in crops]
    apart = np.abs(middle[0] - middle[1]).mean()
    other = np.abs(middle[0] - np.asarray(wide.resize((96, 96)), np.float32)[16:80, 16:80]).mean()
    assert apart < 12 and apart < other / 2


def test_without_a_face_it_says_so(parser):
    with pytest.raises(InputError, match="No face was found"):
        align(parser, Image.new("RGB", (300, 200), "grey"), 96)


def test_the_parser_is_left_as_it_was(parser, face):
    before = {name: one.clone() for name, one in parser.state_dict().items()}
    align(parser, face, 64)
    assert all(torch.equal(one, before[name]) for name, one in parser.state_dict().items())
