"""python -m pipelines.packs check [NAME ...]: what is on this machine of each model pack.

For every component: whether it is present, its size, its licence, where it is or how to get it, and
what it is held to (a commit, sums of its files). --hash reads every byte of what has a sum;
without it only lengths, and names in the hub's cache, are looked at. Leaves with 1 if anything is
missing or damaged.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import hub, packs, weights
from pipelines.errors import InputError
from pipelines.hub import Repository
from pipelines.packs import Component, Pack


@dataclass(frozen=True)
class Looked:
    """One component as it was found.

    Attributes:
        role: of a part of a component "role/part".
        state: "present", "missing" or "damaged".
        size_bytes: on disk where it is present, else about that of the download.
        detail: where it is, the command that fetches it, or what is wrong with it.
        held_to: the commit and the sums that are known of it; "" of what ships.
    """

    role: str
    state: str
    size_bytes: int
    licence: str
    detail: str
    held_to: str = ""

    @property
    def is_present(self) -> bool:
        """Whether it is here and whole."""
        return self.state == "present"


def report(pack: Pack, *, read_all: bool = False) -> tuple[list[str], bool]:
    """Return the lines about a pack, and whether all of it is here and whole."""
    lines = [f"{pack.name}: {pack.title}, {pack.resolution_px} px, {pack.licence}"]
    looked_at = [look(pack, *part, read_all=read_all) for part in flat(pack)]
    for one in looked_at:
        size = f"{'' if one.is_present else 'about '}{hub.megabytes(one.size_bytes)} MB"
        lines.append(f"  {one.role:24} {one.state:8} {size:>14}  {one.licence}")
        lines += [f"    {text}" for text in (one.detail, one.held_to) if text]
    once = {one.detail: one for one in looked_at}.values()  # what serves two roles is there once
    here_bytes = sum(one.size_bytes for one in once if one.is_present)
    absent_bytes = sum(one.size_bytes for one in once if not one.is_present)
    lines.append(f"  {hub.megabytes(here_bytes)} MB here" if here_bytes else "  nothing here")
    if absent_bytes:
        lines[-1] += f", about {hub.megabytes(absent_bytes)} MB to fetch"
    return lines, all(one.is_present for one in looked_at)


def listing(pack: Pack) -> dict[str, Any]:
    """Return what a pack is and what of it is here, as plain JSON types."""
    facts = {name: getattr(pack, name) for name in ("title", "licence", "resolution_px", "notes")}
    parts = [vars(look(pack, *part, read_all=False)) for part in flat(pack)]
    return {**facts, "components": parts}


def look(pack: Pack, role: str, component: Component, *, read_all: bool) -> Looked:
    """Return what is on this machine of one component."""
    repository = component.repository
    licence = repository.licence if repository else pack.licence
    size_bytes = repository.size_bytes if repository else 0
    held_to = held(repository) if repository else ""
    try:
        folder = found(component, read_all=read_all)
    except InputError as error:
        return Looked(role, "damaged", size_bytes, licence, str(error), held_to)
    if folder is None:
        return Looked(role, "missing", size_bytes, licence, advice(component, None), held_to)
    size_bytes = on_disk(component, folder)
    return Looked(role, "present", size_bytes, licence, advice(component, folder), held_to)


def held(repository: Repository) -> str:
    """Return which commit, and which sums of weights, are known of a repository."""
    if repository.made_by:
        return "trained on this machine, not published"
    commit = repository.commits.get(repository.ids[0]) if repository.ids else None
    names = [name for name in repository.files if hub.is_weights(name)]
    known = sum(name in repository.sha256 for name in names)
    pinned = f"commit {commit[:12]}" if commit else "no commit is known: takes the newest"
    pinned = "a file of a fixed commit" if repository.fetched_by else pinned
    return f"{pinned}; sha256 of {known} of {len(names)} weights files known"


def flat(pack: Pack) -> Iterator[tuple[str, Component]]:
    """Yield (role, component) with the parts of components, as "role/part"."""
    for role, component in pack.components.items():
        yield role, component
        for name, part in component.parts.items():
            yield f"{role}/{name}", part


def found(component: Component, *, read_all: bool) -> Path | None:
    """Return the folder of a component that is here and whole, None if it is not here.

    Raises:
        InputError: it is damaged, or does not ship as it should.
    """
    if component.repository is None:
        return component.locate()
    folder = hub.here(component.repository, component.source)
    if folder is not None:
        hub.check(folder, component.repository, reads_all=read_all)
        for path in present(component, folder) if read_all else ():
            if named := weights.blob_sha256(path):
                weights.check_sha256(path, named, reads=True)
    return folder


def present(component: Component, folder: Path) -> list[Path]:
    """Return the files of a component that lie in its folder."""
    if component.repository is None:
        return [file for file in folder.rglob("*") if file.is_file()]
    sets = (component.repository.files, *component.repository.instead)
    names = dict.fromkeys(one for files in sets for name in files for one in hub.twins(name))
    return [folder / name for name in names if (folder / name).is_file()]


def on_disk(component: Component, folder: Path) -> int:
    """Return the bytes of a component's files."""
    return sum(path.stat().st_size for path in present(component, folder))


def advice(component: Component, folder: Path | None) -> str:
    """Return where a component lies, or the command that fetches it."""
    if folder is None:
        return hub.command(component.repository) if component.repository else component.source
    if component.repository is None:
        return f"assets/{component.source}"
    return f"{hub.origin(folder)} in {folder}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the reports; return 1 if anything is missing or damaged."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.packs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["check"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(packs.PACKS))
    parser.add_argument("--hash", action="store_true", help="read and hash whole files")
    options = parser.parse_args(argv)
    all_whole = True
    for name in options.names or packs.PACKS:
        try:
            lines, is_whole = report(packs.find(name), read_all=options.hash)
        except InputError as error:
            parser.error(str(error))
        print("\n".join(lines), end="\n\n")
        all_whole = all_whole and is_whole
    return 0 if all_whole else 1
