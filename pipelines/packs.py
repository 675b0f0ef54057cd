"""Model packs: where every component comes from, under which licence, and what it knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pipelines.errors import InputError

if TYPE_CHECKING:
    from pipelines.devices import Device

ASSETS = Path(__file__).resolve().parents[1] / "assets"
Loader = Callable[[Path, "Device"], Any]  # the model it returns has `nbytes`


@dataclass(frozen=True)
class Component:
    """One model of a pack.

    Attributes:
        kind: key of LOADERS.
        source: a folder under assets/ that ships with the app, or, with a revision, a hub id.
        revision: commit on the hub; None for what ships.
        size_bytes: download size; None for what ships, whose files tell.
    """

    kind: str
    source: str
    revision: str | None = None
    size_bytes: int | None = None

    def locate(self) -> Path:
        """Return the folder with the files; downloads a hub component that is not here yet.

        Raises:
            InputError: the folder is missing, or the hub cannot be reached.
        """
        if self.revision is not None:
            return _download(self.source, self.revision)
        folder = ASSETS / self.source
        if not folder.is_dir():
            raise InputError(
                f"The model folder assets/{self.source} is missing from this copy of the app. "
                "Please clone the repository again."
            )
        return folder

    def total_bytes(self) -> int:
        """Return the size on disk or of the download, in bytes."""
        if self.size_bytes is not None:
            return self.size_bytes
        return sum(file.stat().st_size for file in self.locate().rglob("*") if file.is_file())


@dataclass(frozen=True)
class Pack:
    """Models that belong together.

    Attributes:
        resolution_px: side of the square pictures its models work on.
        components: by role; methods ask for roles, so packs use the same role names.
        vocabulary: "module:attribute" of the words it knows, None for open vocabulary.
        defaults: {method: {parameter: value}} where it departs from a method's own defaults.
        presets: {preset: {parameter: value}} for every method that has the parameter, or
            {"method.parameter": value} for one; the first is what the page starts with.
        notes: what a visitor should know, in a sentence or two.
    """

    name: str
    title: str
    licence: str
    resolution_px: int
    components: Mapping[str, Component]
    vocabulary: str | None = None
    defaults: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    notes: str = ""

    def words(self) -> frozenset[str] | None:
        """Return the words this pack knows, None if it knows more than a list can hold."""
        return None if self.vocabulary is None else frozenset(resolve_name(self.vocabulary))

    def component(self, role: str) -> Component:
        """Return the component with that role.

        Raises:
            InputError: this pack has none.
        """
        if role not in self.components:
            raise InputError(f"The pack “{self.title}” has no model for this. Choose another pack.")
        return self.components[role]


def find(name: str, packs: Mapping[str, Pack] | None = None) -> Pack:
    """Return a pack by name.

    Raises:
        InputError: there is none; the sentence lists those that exist.
    """
    packs = PACKS if packs is None else packs
    if name not in packs:
        raise InputError(f"Please choose one of the model packs: {', '.join(packs)}.")
    return packs[name]


def _load_with(target: str) -> Loader:
    """Return a loader that imports `target` ("module:attribute") when it is first called."""

    def load(folder: Path, device: Device) -> Any:
        return resolve_name(target)(folder, device)

    return load


def _download(hub_id: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = snapshot_download(
            hub_id, revision=revision, allow_patterns=["*.json", "*.txt", "*.safetensors"]
        )
    except (OSError, HfHubHTTPError) as error:
        raise InputError(
            f"The model {hub_id} is not on this machine and could not be downloaded. Connect the "
            "machine to the internet and try again, or choose the toybox pack, which ships with "
            "the app."
        ) from error
    return Path(folder)


LOADERS: dict[str, Loader] = {
    "latent_diffusion": _load_with("pipelines.models.latent_diffusion:LatentDiffusion.from_folder"),
    "perceptual": _load_with("pipelines.models.perceptual:Perceptual.from_folder"),
    "retrieval_set": _load_with("pipelines.models.retrieval_set:RetrievalSet.from_folder"),
    "scene_judge": _load_with("pipelines.models.judge:SceneJudge.from_folder"),
    "dual_encoder": _load_with("pipelines.models.dual_encoder:DualEncoder.from_folder"),
    "latent_mapper": _load_with("pipelines.models.latent_mapper:LatentMapper.from_folder"),
    "face_inversion": _load_with("pipelines.models.inversion:InversionEncoder.from_folder"),
    "face_identity": _load_with("pipelines.models.face_identity:FaceIdentity.from_folder"),
    "face_judge": _load_with("pipelines.models.face_judge:FaceJudge.from_folder"),
    "scene_segmenter": _load_with("pipelines.models.segmenter:SceneSegmenter.from_folder"),
}

PACKS: dict[str, Pack] = {
    pack.name: pack
    for pack in (
        Pack(
            name="toybox",
            title="Toybox",
            licence="Apache-2.0",
            resolution_px=128,
            components={
                "clip_vit": Component("dual_encoder", "toybox/clip_vit"),
                "clip_resnet": Component("dual_encoder", "toybox/clip_resnet"),
                "clip_resnet_large": Component("dual_encoder", "toybox/clip_resnet_large"),
                "latent_diffusion": Component("latent_diffusion", "toybox/scenes"),
                "lpips_eval": Component("perceptual", "toybox/lpips_eval"),
                "lpips_loss": Component("perceptual", "toybox/lpips_loss"),
                "retrieval": Component("retrieval_set", "toybox/retrieval"),
                "scene_judge": Component("scene_judge", "toybox/scene_judge"),
                "scene_segmenter": Component("scene_segmenter", "toybox/scene_segmenter"),
            },
            vocabulary="pipelines.data.captions:VOCABULARY",
            # the thesis's learning rate of 1 distorts this model's things
            defaults={
                "zestguide": {"eta": 0.3},
                "zestguide_pww": {"eta": 0.3},
                # these CLIPs are small: the published pull towards the input outweighs them
                "flexit": {"perceptual_weight": 0.05, "latent_weight": 0.0, "image_weight": 0.1},
            },
            presets={
                "fast": {
                    "solver": "dpm2m",
                    "num_steps": 14,
                    "flexit.num_steps": 32,
                    "flexit.snapshot_every": 8,
                },
                "faithful": {"solver": "ddim", "num_steps": 50, "flexit.num_steps": 160},
            },
            notes="Small models trained for this app. They know rendered toy scenes and nothing "
            "else: a photo comes back as toys.",
        ),
    )
}
