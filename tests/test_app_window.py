"""Which square of a picture is edited, over HTTP."""

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image
from test_app import edit, refused


@pytest.fixture(scope="module")
def client(served):
    return Client(served[1], verbose=False)


def test_a_window_says_which_square_is_edited(client, tmp_path):
    photo = tmp_path / "photo.png"
    Image.effect_noise((300, 200), 60).convert("RGB").save(photo)
    window = {"across": 1.0, "size": 0.64}
    picture, _, report = edit(
        client, photo, method="sdedit", parameters={"num_steps": 5}, window=window
    )
    assert report["recipe"]["picture"]["window"] == {"across": 1.0, "down": 0.5, "size": 0.64}
    with Image.open(photo) as before, Image.open(picture) as after:
        changed = (np.array(before) != np.array(after.convert("RGB"))).any(-1)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (36, 163, 172, 299)
    assert "from 0 to 1" in refused(client, window={"down": 2})
    assert "across, down and size" in refused(client, window=[1])
    assert "not known" in refused(client, window={"left": 0})
