"""Pictures that are put into the cache while others read them."""

import threading
from pathlib import Path

import numpy as np
from gradio import processing_utils
from PIL import Image

import app


def test_a_picture_that_is_written_again_is_whole_at_every_moment(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    picture, stop = Image.fromarray(pixels), threading.Event()
    assert processing_utils.save_pil_to_cache is app.save_whole
    path = Path(app.save_whole(picture, str(tmp_path), "face", "png"))
    size = path.stat().st_size

    def write():
        while not stop.is_set():
            assert app.save_whole(picture, str(tmp_path), "face", "png") == str(path)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    sizes = {len(path.read_bytes()) for _ in range(300)}
    stop.set()
    for writer in writers:
        writer.join()
    assert sizes == {size}
    assert [one.name for one in path.parent.iterdir()] == ["face.png"]
