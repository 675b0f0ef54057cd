import io
import struct
import zipfile

import pytest
import torch
from PIL import Image
from tiny_pack import CPU, write_clip

from pipelines import image_collections
from pipelines.errors import Cancelled, InputError
from pipelines.image_collections import collect, members, open_member
from pipelines.models.dual_encoder import DualEncoder


def picture(colour, size=(40, 30), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def archive(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return DualEncoder.from_folder(write_clip("resnet", tmp_path_factory.mktemp("clip")), CPU)


def test_zip_folder_and_single_files_are_read_alike(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(picture("red"))
    (folder / "sub" / "b.JPG").write_bytes(picture("blue", kind="JPEG"))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(picture("red"))
    (folder / "link.png").symlink_to(folder / "a.png")
    single = tmp_path / "c.webp"
    single.write_bytes(picture("green", kind="WEBP"))
    packed = archive(
        tmp_path / "d.zip",
        {
            "deep/er/d.png": picture("white"),
            "__MACOSX/._d.png": b"resource fork",
            "empty/": b"",
            "read.me": b"text",
        },
    )
    found = members([folder, single, packed])
    assert [member.name for member in found] == ["a.png", "b.JPG", "c.webp", "d.png"]
    colours = [open_member(member).getpixel((3, 3)) for member in found]
    assert colours[0] == (255, 0, 0)
    assert colours[3] == (255, 255, 255)


def test_a_name_that_climbs_out_is_only_a_name(tmp_path):
    path = archive(
        tmp_path / "evil.zip",
        {"../../outside.png": picture("red"), "/etc/cron.png": picture("red"), "..\\up.png": b""},
    )
    found = members([path])
    assert [member.name for member in found] == ["outside.png", "cron.png", "up.png"]
    open_member(found[0])
    assert [file.name for file in tmp_path.iterdir()] == ["evil.zip"]
    assert not (tmp_path.parent.parent / "outside.png").exists()


def test_collections_are_embedded_in_batches_and_bad_files_named(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(image_collections, "BATCH", 2)
    files = {f"{colour}.png": picture(colour) for colour in ("red", "green", "blue")}
    path = archive(tmp_path / "mine.zip", {**files, "broken.png": picture("red")[:40]})
    steps = []
    made = collect(encoder, members([path]), ("tiny", "clip_resnet"), steps.append)
    assert [(step.index, step.total) for step in steps] == [(2, 4), (4, 4)]
    assert made.names == ["red.png", "green.png", "blue.png"]
    assert made.left_out == ["broken.png"]
    assert made.thumbnail(1).getpixel((5, 5))[1] > 100
    assert made.embeds.shape == (3, encoder.dim)
    torch.testing.assert_close(made.embeds.norm(dim=1), torch.ones(3))
    alone = collect(encoder, members([path])[2:3], ("tiny", "clip_resnet"), steps.append)
    torch.testing.assert_close(alone.embeds[0], made.embeds[2], rtol=0, atol=1e-4)


def test_indexing_stops_where_it_is_asked_to(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(image_collections, "BATCH", 1)
    path = archive(tmp_path / "mine.zip", {f"{i}.png": picture("red") for i in range(5)})
    seen = []

    def on_step(step):
        seen.append(step.index)
        if step.index == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        collect(encoder, members([path]), ("tiny", "clip_resnet"), on_step)
    assert seen == [1, 2]


def lying(path):
    """Make the zip file's directory claim one byte for a member that has many more."""
    archive(path, {"a.png": picture("red", (300, 300))})
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 1)
    path.write_bytes(content)
    return path


def test_a_member_is_read_no_further_than_promised(tmp_path):
    (member,) = members([lying(tmp_path / "bomb.zip")])
    with pytest.raises(InputError, match=r"a\.png is"):
        open_member(member)


def test_bad_collections_get_a_sentence(tmp_path, encoder, monkeypatch):
    text = archive(tmp_path / "text.zip", {"a.txt": b"x"})
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"PK\x03\x04 no zip")
    locked = archive(tmp_path / "locked.zip", {"a.png": picture("red")})
    content = bytearray(locked.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    many = archive(tmp_path / "many.zip", {f"{i}.png": b"" for i in range(3)})
    for path, phrase in (
        (text, "no pictures in it"),
        (damaged, "zip file is damaged"),
        (locked, "password"),
        (tmp_path / "absent.zip", "did not arrive"),
    ):
        with pytest.raises(InputError, match=phrase):
            members([path])
    with pytest.raises(InputError, match="None of the files"):
        collect(encoder, members([many]), ("tiny", "clip_resnet"), lambda step: None)
    monkeypatch.setattr(image_collections, "MAX_PICTURES", 2)
    with pytest.raises(InputError, match="at most 2"):
        members([many])
    monkeypatch.setattr(image_collections, "MAX_TOTAL_BYTES", 2**20)
    monkeypatch.setattr(image_collections, "MAX_FILE_BYTES", 2**20)
    big = archive(tmp_path / "big.zip", {"big.png": bytes(2**21)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="more than 1 MB together"):
        members([big])
    monkeypatch.setattr(image_collections, "MAX_TOTAL_BYTES", 2**30)
    with pytest.raises(InputError, match="larger than 1 MB"):
        open_member(members([big])[0])
