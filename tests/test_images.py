import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines import images
from pipelines.errors import InputError

RED, BLUE = (200, 30, 40), (20, 60, 210)


def two_halves(size=(64, 48), mode="RGB"):
    """Left red, right blue."""
    picture = Image.new("RGB", size, BLUE)
    ImageDraw.Draw(picture).rectangle((0, 0, size[0] // 2 - 1, size[1]), fill=RED)
    return picture.convert(mode)


def noise(size, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


@pytest.fixture
def write(tmp_path):
    """Save a picture, or bytes, under a name; return the path."""

    def save(content, name="upload.png", **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, **options)
        return path

    return save


def assert_two_halves(picture, tolerance=0):
    assert picture.mode == "RGB"
    assert picture.info == {}
    width, height = picture.size
    for x, colour in ((width // 4, RED), (3 * width // 4, BLUE)):
        got = np.array(picture.getpixel((x, height // 2)))
        assert np.abs(got - colour).max() <= tolerance, (got, colour)


class TestAccepted:
    @pytest.mark.parametrize(
        ("name", "options", "tolerance"),
        [
            ("a.png", {}, 0),
            ("a.bmp", {}, 0),
            ("a.tiff", {}, 0),
            ("a.webp", {"lossless": True}, 0),
            ("a.jpg", {"quality": 95}, 6),
            ("a.avif", {"quality": 95}, 12),
        ],
    )
    def test_formats(self, write, name, options, tolerance):
        assert_two_halves(images.decode(write(two_halves(), name, **options)), tolerance)

    def test_the_file_name_decides_nothing(self, write):
        path = write(two_halves(), "a.png")
        assert_two_halves(images.decode(path.rename(path.with_suffix(".gif"))))

    def test_path_as_string_and_pil_picture(self, write):
        assert_two_halves(images.decode(str(write(two_halves()))))
        given = two_halves()
        decoded = images.decode(given)
        assert_two_halves(decoded)
        decoded.putpixel((0, 0), (0, 0, 0))
        assert given.getpixel((0, 0)) == RED

    @pytest.mark.parametrize("mode", ["RGBA", "RGBX", "RGBa", "YCbCr", "HSV"])
    def test_modes_of_colour(self, mode):
        picture = two_halves(mode="RGBA") if mode == "RGBa" else two_halves()
        assert_two_halves(images.decode(picture.convert(mode)), tolerance=3)

    @pytest.mark.parametrize("mode", ["P", "PA"])
    def test_palettes(self, mode):
        assert_two_halves(images.decode(two_halves().quantize(4).convert(mode)), tolerance=2)

    @pytest.mark.parametrize("mode", ["L", "LA"])
    def test_grey(self, write, mode):
        grey = images.decode(write(Image.new("L", (20, 20), 77).convert(mode)))
        assert grey.getpixel((3, 3)) == (77, 77, 77)

    def test_black_and_white(self, write):
        assert images.decode(write(Image.new("1", (20, 20), 1))).getpixel((3, 3)) == (255,) * 3

    def test_palette_file(self, write):
        assert_two_halves(images.decode(write(two_halves().quantize(4))), tolerance=2)

    def test_cmyk_jpeg(self, write):
        path = write(two_halves(mode="CMYK"), "a.jpg", quality=95)
        assert_two_halves(images.decode(path), tolerance=10)

    def test_animated_gif_gives_its_first_frame(self, write):
        frames = [two_halves(), Image.new("RGB", (64, 48), "green"), Image.new("RGB", (64, 48))]
        path = write(frames[0], "a.gif", save_all=True, append_images=frames[1:])
        assert_two_halves(images.decode(path), tolerance=2)
        with Image.open(path) as opened:
            opened.seek(2)
            assert_two_halves(images.decode(opened), tolerance=2)

    def test_animated_webp_gives_its_first_frame(self, write):
        rest = [Image.new("RGB", (64, 48), "green")]
        path = write(two_halves(), "a.webp", save_all=True, append_images=rest, lossless=True)
        assert_two_halves(images.decode(path))

    @pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (128, 177)])
    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_transparency_is_laid_over_white(self, write, mode, alpha, expected):
        channels = (100, alpha) if mode == "LA" else (100, 100, 100, alpha)
        pixel = images.decode(write(Image.new(mode, (20, 20), channels))).getpixel((5, 5))
        assert np.abs(np.array(pixel) - expected).max() <= 1

    @pytest.mark.parametrize("mode", ["L", "RGB", "P"])
    def test_transparent_colour_of_a_png_is_white(self, write, mode):
        black = Image.new(mode, (20, 20), 0)
        key = (0, 0, 0) if mode == "RGB" else 0
        assert images.decode(write(black, transparency=key)).getpixel((5, 5)) == (255, 255, 255)

    def test_opaque_pixels_pass_exactly(self):
        picture = noise((40, 40))
        assert images.decode(picture.convert("RGBA")).tobytes() == picture.tobytes()

    def test_16_bit_grey_keeps_its_levels(self, write):
        ramp = np.linspace(0, 65535, 256 * 16).astype(np.uint16).reshape(64, 64)
        decoded = np.asarray(images.decode(write(Image.fromarray(ramp))))
        assert len(np.unique(decoded)) == 256
        assert decoded[0, 0, 0] == 0
        assert decoded[-1, -1, 0] == 255
        assert np.abs(decoded[..., 0] - ramp / 257).max() <= 0.5

    def test_32_bit_grey_with_16_bit_levels(self):
        levels = np.full((20, 20), 65535, np.int32)
        assert images.decode(Image.fromarray(levels)).getpixel((0, 0)) == (255, 255, 255)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, write, orientation):
        stored_as = {
            1: None,
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
        upright = noise((40, 24))
        stored = upright if stored_as is None else upright.transpose(stored_as)
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert images.decode(write(stored, exif=exif)).tobytes() == upright.tobytes()

    def test_unreadable_exif_is_ignored(self, write):
        path = write(two_halves(), "a.jpg", quality=95, exif=b"Exif\0\0this is no TIFF header")
        assert_two_halves(images.decode(path), tolerance=6)

    def test_metadata_does_not_travel_on(self, write):
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("parameters", "secret")
        decoded = images.decode(write(two_halves(), pnginfo=text, dpi=(72, 72)))
        buffer = io.BytesIO()
        decoded.save(buffer, "PNG")
        assert b"secret" not in buffer.getvalue()

    def test_limits_themselves_are_accepted(self):
        for size in ((16, 16), (128, 16), (16, 128)):
            assert images.decode(noise(size)).size == size
        assert images.decode(noise((100, 50)), max_pixels=5000).size == (100, 50)


def cut(data, keep):
    return data[: int(len(data) * keep)]


def encoded(picture, format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


SVG = b'<?xml version="1.0"?>\n<SVG xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
REFUSED = {
    "empty": (b"", "The file is empty"),
    "text": (b"hello, I am a picture", "no picture that can be read"),
    "html named png": (b"<!doctype html><html></html>", "no picture that can be read"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that can"),
    "svg": (SVG, "SVG drawings cannot be edited"),
    "truncated png": (cut(encoded(noise((64, 64)), "PNG"), 0.5), "damaged or incomplete"),
    "truncated jpeg": (cut(encoded(noise((64, 64)), "JPEG"), 0.5), "damaged or incomplete"),
    "truncated gif": (cut(encoded(noise((64, 64)), "GIF"), 0.6), "damaged or incomplete"),
    "truncated tiff": (cut(encoded(noise((64, 64)), "TIFF"), 0.6), "damaged or incomplete"),
    "1 x 1": (encoded(noise((1, 1)), "PNG"), "1 x 1 pixels; each side must have at least 16"),
    "15 px high": (encoded(noise((40, 15)), "PNG"), "each side must have at least 16"),
    "10000 x 1": (encoded(noise((10000, 1)), "PNG"), "each side must have at least 16"),
    "wide": (encoded(noise((129, 16)), "PNG"), "129 x 16 .* at most 8 times .* crop"),
    "tall": (encoded(noise((20, 161)), "PNG"), "20 x 161 .* at most 8 times .* crop"),
    "floats": (
        encoded(Image.fromarray(np.ones((20, 20), np.float32)), "TIFF"),
        "floating-point measurements",
    ),
    "32 bit": (
        encoded(Image.fromarray(np.full((20, 20), 70000, np.int32)), "TIFF"),
        "more than 16 bits",
    ),
}


class TestRefused:
    @pytest.mark.parametrize("case", REFUSED)
    def test_with_a_sentence(self, write, case):
        content, sentence = REFUSED[case]
        path = write(content, "upload.png")
        with pytest.raises(InputError, match=sentence) as caught:
            images.decode(path)
        self.assert_readable(caught.value, path)

    def assert_readable(self, error, path):
        assert str(error).endswith(".")
        assert "lease" in str(error)  # it says what to do: "Please ..."
        assert str(path) not in str(error)

    def test_nothing(self):
        with pytest.raises(InputError, match="choose a picture first"):
            images.decode(None)

    def test_expired_upload(self, tmp_path):
        with pytest.raises(InputError, match="has expired. Please upload it again"):
            images.decode(tmp_path / "gone.png")

    @pytest.mark.parametrize("side", [5000, 9000, 20000])
    def test_bombs_are_refused_before_a_pixel_is_decoded(self, write, side, monkeypatch):
        """25 MP passes Pillow's own check with a warning, 81 and 400 MP do not."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        path = write(Image.new("1", (side, side)))
        monkeypatch.undo()
        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: 1 / 0)
        with warnings.catch_warnings(), pytest.raises(InputError, match="more than 20 megapixels"):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            images.decode(path)

    def test_large_pil_picture(self):
        with pytest.raises(InputError, match="more than 0.002 megapixels"):
            images.decode(noise((50, 50)), max_pixels=2000)

    def test_pillow_limit_is_set_on_import(self):
        assert images.MAX_PIXELS == 20_000_000
        assert images.MAX_PIXELS == Image.MAX_IMAGE_PIXELS

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
    def test_random_damage_gives_a_picture_or_a_sentence(self, write, format):
        """Nothing but InputError escapes, whatever bytes arrive."""
        sound, rng = encoded(two_halves(), format), np.random.default_rng(0)
        for _ in range(60):
            damaged = bytearray(sound)
            for place in rng.integers(0, len(damaged), rng.integers(1, 8)):
                damaged[place] = rng.integers(256)
            path = write(bytes(damaged[: rng.integers(8, len(damaged) + 1)]))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert images.decode(path).mode == "RGB"
            except InputError:
                pass
