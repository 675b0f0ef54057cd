"""The directions that ship with a generator: LELSD's, and the baselines found for the same parts.

Files are called `<part>_<k>.safetensors` if LELSD found them, `<part>_<method>.safetensors` if not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.devices import Device
from pipelines.directions import Direction, load


class DirectionSet(Mapping[str, Direction]):
    """Directions by the names of their files, in the order of parts."""

    def __init__(self, directions: Mapping[str, Direction]) -> None:
        self._directions = dict(directions)

    def __getitem__(self, name: str) -> Direction:
        return self._directions[name]

    def __iter__(self):
        return iter(self._directions)

    def __len__(self) -> int:
        return len(self._directions)

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors."""
        return sum(v.nbytes for one in self._directions.values() for v in one.vectors)

    @classmethod
    def from_folder(cls, folder: Path, device: Device) -> DirectionSet:
        """Load every direction of a folder; vectors follow the codes that they are added to.

        Raises:
            InputError: a file holds no direction.
        """
        return cls({file.stem: load(file) for file in sorted(folder.glob("*.safetensors"))})
