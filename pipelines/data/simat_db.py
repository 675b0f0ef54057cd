"""The published SIMAT (github.com/facebookresearch/SIMAT): the folder simat_db, as it is shared.

`transfos.csv` has two counts beside every query. `norm2` is the number of queries, of both halves,
that replace the same word, and the score weighs a query by 1 / sqrt(norm2); `norm` is the number of
changes that were possible for the picture before the oracle filtered them, and is not used.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.data.simat_scenes import SimatSet, Transformation, Triplet
from pipelines.errors import InputError


@dataclass(frozen=True, eq=False)
class Published:
    """The published set with what only it has.

    Attributes:
        region_ids: of every picture, which name its file.
        caption_rows: row in captions.txt of what every query wants: the oracle's column.
        norm, norm2: of every query, as published.
        dataset_ids: row of every picture in the published embeddings and oracle scores.
    """

    simat: SimatSet
    region_ids: tuple[int, ...]
    caption_rows: tuple[int, ...]
    norm: tuple[int, ...]
    norm2: tuple[int, ...]
    dataset_ids: tuple[int, ...]

    def image_path(self, folder: Path, row: int) -> Path:
        """Return the file of a picture where the release's prepare_dataset.py puts it."""
        shown = self.simat.triplets[row]
        name = f"A {shown.subj} {shown.rel} {shown.obj}"
        return folder / "images" / name / f"{self.region_ids[row]}.jpg"


def read(folder: Path) -> Published:
    """Read transfos.csv, triplets.csv and captions.txt.

    Raises:
        InputError: a file is missing or has other columns.
    """
    try:
        shown = _rows(folder / "triplets.csv")
        asked = _rows(folder / "transfos.csv")
        texts = (folder / "captions.txt").read_text().splitlines()
        return _published(shown, asked, texts)
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise InputError(
            f"There is no {name} in {folder}. Please give the folder simat_db."
        ) from error
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"The files in {folder} are not those that SIMAT published. Please fetch them again."
        ) from error


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _published(
    shown: list[dict[str, str]], asked: list[dict[str, str]], texts: list[str]
) -> Published:
    row_of = {int(entry["region_id"]): row for row, entry in enumerate(shown)}
    triplets = [Triplet(entry["subj"], entry["rel"], entry["obj"]) for entry in shown]
    lines: dict[Triplet, int] = {}
    queries = []
    for entry in asked:
        image = row_of[int(entry["region_id"])]
        wanted = replace(triplets[image], **{entry["field"]: entry["target"]})
        lines[triplets[image]] = int(entry["query_ids"])
        lines[wanted] = int(entry["target_ids"])
        is_test = {"True": True, "False": False}[entry["is_test"]]
        queries.append(
            Transformation(image, entry["field"], entry["value"], entry["target"], wanted, is_test)
        )
    captions = {one: texts[line] for one, line in sorted(lines.items(), key=lambda kv: kv[1])}
    return Published(
        SimatSet(triplets, captions, queries),
        region_ids=tuple(row_of),
        caption_rows=tuple(int(entry["target_ids"]) for entry in asked),
        norm=tuple(int(entry["norm"]) for entry in asked),
        norm2=tuple(int(entry["norm2"]) for entry in asked),
        dataset_ids=tuple(int(entry["dataset_id"]) for entry in shown),
    )
