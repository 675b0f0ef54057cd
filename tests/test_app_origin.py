"""Pages of other sites may not read what the app answers."""

import pytest
import requests


@pytest.mark.parametrize("path", ["/config", "/gradio_api/info"])
def test_a_foreign_origin_may_not_read_the_answers(served, path):
    answer = requests.get(
        f"{served[1]}{path}", headers={"Origin": "https://elsewhere.example"}, timeout=60
    )
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed not in ("*", "https://elsewhere.example")
    own = requests.get(f"{served[1]}{path}", timeout=60)
    assert own.status_code == 200
