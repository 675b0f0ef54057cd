"""Where the published files lie that some tests read; they are no part of the repository."""

from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """Return shared/data/NAME beside the checkout or above it; skip the test where it is absent."""
    for parent in Path(__file__).resolve().parents[1:]:
        if (found := parent / "shared" / "data" / name).exists():
            return found
    pytest.skip(f"the published {name} is not on this machine (../shared/data)")
