"""Model packs: where every component comes from, under which licence, and what it knows.

python -m pipelines.packs check sd15
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pipelines import hub, repositories
from pipelines.errors import InputError
from pipelines.hub import Repository
from pipelines.results import OnStep

if TYPE_CHECKING:
    from pipelines.devices import Device

ASSETS = Path(__file__).resolve().parents[1] / "assets"
Loader = Callable[..., Any]
"""(folder, device) -> a model with `nbytes`; of components with parts also {part: its folder}."""


@dataclass(frozen=True)
class Component:
    """One model of a pack.

    Attributes:
        kind: key of LOADERS; "part" for what is loaded with another.
        source: a folder under assets/ that ships with the app; with `repository`, the name that
            its folder under SEMEDIT_MODELS may have.
        repository: where it comes from; None for what ships.
        parts: sub-folders of the model that come from elsewhere.
    """

    kind: str
    source: str
    repository: Repository | None = None
    parts: Mapping[str, Component] = field(default_factory=dict)

    def locate(self, on_step: OnStep | None = None) -> Path:
        """Return the folder with the files; downloads what is not here yet (see `hub`).

        Raises:
            InputError: the folder is missing, or the hub cannot help.
        """
        if self.repository is not None:
            return hub.locate(self.repository, self.source, on_step)
        folder = ASSETS / self.source
        if not folder.is_dir():
            raise InputError(
                f"The model folder assets/{self.source} is missing from this copy of the app. "
                "Please clone the repository again."
            )
        return folder

    def is_here(self) -> bool:
        """Tell whether it can be loaded without a download, its parts included.

        Raises:
            InputError: the visitor's own folder for it is not complete.
        """
        if self.repository is None:
            return (ASSETS / self.source).is_dir()
        found = hub.here(self.repository, self.source) is not None
        return found and all(part.is_here() for part in self.parts.values())

    def load(self, loader: Loader, device: Device, on_step: OnStep | None = None) -> Any:
        """Return the loaded model, fetched first where it is not here."""
        folder = self.locate(on_step)
        if not self.parts:
            return loader(folder, device)
        parts = {name: part.locate(on_step) for name, part in self.parts.items()}
        return loader(folder, device, parts)

    def total_bytes(self) -> int:
        """Return the size on disk, or about that of the download, in bytes; parts included."""
        parts_bytes = sum(part.total_bytes() for part in self.parts.values())
        if self.repository is not None:
            return self.repository.size_bytes + parts_bytes
        return sum(file.stat().st_size for file in self.locate().rglob("*") if file.is_file())


@dataclass(frozen=True)
class Pack:
    """Models that belong together.

    Attributes:
        resolution_px: side of the square pictures its models work on.
        cell_px: side of the pixels that one cell of the latents stands for.
        components: by role; methods ask for roles, so packs use the same role names.
        vocabulary: "module:attribute" of the words it knows, None for open vocabulary.
        defaults: {method: {parameter: value}} where it departs from a method's own defaults.
        presets: {preset: {parameter: value}} for every method that has the parameter, or
            {"method.parameter": value} for one; the first is what the page starts with.
        side_by_side: methods that the page starts with beside the first of their tab.
        notes: what a visitor should know, in a sentence or two.
        rulers: roles of the networks behind two numbers of an edit: "lpips", a `Perceptual`, and
            "clip", a dual encoder.
        aligns: faces of visitors' pictures are cut out as FFHQ's were (`face_alignment`).
    """

    name: str
    title: str
    licence: str
    resolution_px: int
    components: Mapping[str, Component]
    vocabulary: str | None = None
    defaults: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    side_by_side: frozenset[str] = frozenset()
    notes: str = ""
    cell_px: int = 8
    rulers: Mapping[str, str] = field(default_factory=dict)
    aligns: bool = False

    def words(self) -> frozenset[str] | None:
        """Return the words this pack knows, None if it knows more than a list can hold."""
        return None if self.vocabulary is None else frozenset(resolve_name(self.vocabulary))

    def ticked(self, offered: Sequence[str]) -> list[str]:
        """Return which of a tab's methods it starts with: the first, and those beside it."""
        return [name for name in offered if name == offered[0] or name in self.side_by_side]

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


_ONE_AT_A_TIME = threading.Lock()  # loading libraries redirect torch's constructors for all threads


def _load_with(target: str, *arguments: str) -> Loader:
    """Return a loader that imports `target` ("module:attribute") when it is first called."""

    def load(folder: Path, device: Device, *parts: Mapping[str, Path]) -> Any:
        with _ONE_AT_A_TIME:
            return resolve_name(target)(folder, device, *arguments, *parts)

    return load


LOADERS: dict[str, Loader] = {
    "latent_diffusion": _load_with("pipelines.models.latent_diffusion:LatentDiffusion.from_folder"),
    "perceptual": _load_with("pipelines.models.perceptual:Perceptual.from_folder"),
    "retrieval_set": _load_with("pipelines.models.retrieval_set:RetrievalSet.from_folder"),
    "scene_judge": _load_with("pipelines.models.judge:SceneJudge.from_folder"),
    "dual_encoder": _load_with("pipelines.models.dual_encoder:DualEncoder.from_folder"),
    "latent_mapper": _load_with("pipelines.models.latent_mapper:LatentMapper.from_folder"),
    "caption_mapper": _load_with("pipelines.models.caption_mapper:CaptionMapper.from_folder"),
    "face_inversion": _load_with("pipelines.models.inversion:InversionEncoder.from_folder"),
    "face_identity": _load_with("pipelines.models.face_identity:FaceIdentity.from_folder"),
    "face_judge": _load_with("pipelines.models.face_judge:FaceJudge.from_folder"),
    "face_parser": _load_with("pipelines.models.face_parser:FaceParser.from_folder"),
    "face_clip": _load_with("pipelines.models.dual_encoder:DualEncoder.from_folder"),
    "stylegan2": _load_with("pipelines.models.stylegan2:StyleGAN2.from_folder"),
    "directions": _load_with("pipelines.models.direction_set:DirectionSet.from_folder"),
    "scene_segmenter": _load_with("pipelines.models.segmenter:SceneSegmenter.from_folder"),
    "perceptual_published": _load_with("pipelines.models.perceptual:Perceptual.from_published"),
    "published_generator": _load_with("pipelines.models.published_faces:open_generator"),
    "published_face_parser": _load_with(
        "pipelines.models.published_faces:PublishedFaceParser.from_published"
    ),
    "published_face_inversion": _load_with("pipelines.models.e4e:E4E.from_published"),
    "simat_heads": _load_with("pipelines.models.adaptation_heads:PublishedHeads.from_folder"),
    "vqgan": _load_with("pipelines.models.vqgan:VQGAN.from_folder"),
    **{
        f"openai_clip/{name}": _load_with(
            "pipelines.models.dual_encoder:DualEncoder.from_pretrained", name
        )
        for name in repositories.OPENAI_CLIPS
    },
}

FACES = {
    "face_stylegan2": Component("stylegan2", "toybox/face_stylegan2"),
    "face_parser": Component("face_parser", "toybox/face_parser"),
    "face_inversion": Component("face_inversion", "toybox/face_inversion"),
    "face_identity": Component("face_identity", "toybox/face_identity"),
    "face_judge": Component("face_judge", "toybox/face_judge"),
    "latent_mapper": Component("latent_mapper", "toybox/latent_mapper"),
    "caption_mapper": Component("caption_mapper", "toybox/caption_mapper"),
    "clip_faces": Component("face_clip", "toybox/clip_faces"),
    "lelsd": Component("directions", "toybox/lelsd"),
}
"""The second world of the toybox, which Face sliders shows; none of the other tabs reads it."""

_OPENAI_CLIPS = {
    repositories.role_of(name): Component(
        f"openai_clip/{name}", repository.ids[0].rpartition("/")[2], repository
    )
    for name, repository in repositories.OPENAI_CLIPS.items()
}
_FLEXIT = {
    "vqgan": Component("vqgan", "vqgan_imagenet_f16_1024", repositories.VQGAN),
    "lpips_loss": Component("perceptual_published", "vgg16", repositories.VGG16),
}
_HEADS = {"simat_heads": Component("simat_heads", "simat-heads", repositories.SIMAT_HEADS)}
_RAW: dict[str, dict[str, object]] = {"simat": {"heads": "off"}}  # they are there for one CLIP
_GUIDANCE = 7.5  # as the papers' releases on photographs; ImageNet's 5 and the toybox's 3 differ
_PHOTO_DEFAULTS: dict[str, dict[str, object]] = {
    "diffedit": {"guidance_scale": _GUIDANCE, "recipe": "thesis"},
    "diffedit_no_encode": {"guidance_scale": _GUIDANCE, "recipe": "thesis"},
    "encode_decode": {"guidance_scale": _GUIDANCE},
    "prompt_to_prompt": {"guidance_scale": _GUIDANCE},
    "sdedit": {"guidance_scale": _GUIDANCE},
    "zestguide": {"guidance_scale": _GUIDANCE, "eta": 0.3},
    "zestguide_pww": {"guidance_scale": _GUIDANCE, "eta": 0.3},
    "paint_with_words": {"guidance_scale": _GUIDANCE},
    "multidiffusion": {"guidance_scale": _GUIDANCE},
    "plain_sampling": {"guidance_scale": _GUIDANCE},
    **_RAW,
}
_PHOTO_PRESETS: dict[str, dict[str, object]] = {
    "fast": {"solver": "dpm2m", "num_steps": 20, "flexit.num_steps": 32},
    "faithful": {"solver": "ddim", "num_steps": 50, "flexit.num_steps": 160},
}


def _photo(
    name: str,
    title: str,
    resolution_px: int,
    repository: Repository,
    *,
    notes: str,
    parts: Mapping[str, Component] | None = None,
    defaults: Mapping[str, Mapping[str, object]] | None = None,
) -> Pack:
    """Return a pack around a published text-to-image model, with what all such packs share."""
    model = Component("latent_diffusion", name, repository, parts or {})
    return Pack(
        name=name,
        title=title,
        licence=repository.licence,
        resolution_px=resolution_px,
        components={"latent_diffusion": model, **_FLEXIT, **_OPENAI_CLIPS, **_HEADS},
        rulers={"lpips": "lpips_loss", "clip": repositories.HEADS_OF},
        defaults=_PHOTO_DEFAULTS | dict(defaults or {}),
        presets=_PHOTO_PRESETS,
        notes=f"{notes} Its files are fetched at the first edit, or found in the folder that "
        f"{hub.VARIABLE} names.",
    )


PACKS: dict[str, Pack] = {
    pack.name: pack
    for pack in (
        Pack(
            name="toybox",
            title="Toybox",
            licence="Apache-2.0",
            resolution_px=128,
            cell_px=4,
            components={
                "clip_resnet": Component("dual_encoder", "toybox/clip_resnet"),
                "clip_vit": Component("dual_encoder", "toybox/clip_vit"),
                "clip_resnet_large": Component("dual_encoder", "toybox/clip_resnet_large"),
                "latent_diffusion": Component("latent_diffusion", "toybox/scenes"),
                "lpips_eval": Component("perceptual", "toybox/lpips_eval"),
                "lpips_loss": Component("perceptual", "toybox/lpips_loss"),
                "retrieval": Component("retrieval_set", "toybox/retrieval"),
                "scene_judge": Component("scene_judge", "toybox/scene_judge"),
                "scene_segmenter": Component("scene_segmenter", "toybox/scene_segmenter"),
                **FACES,
            },
            rulers={"lpips": "lpips_eval", "clip": "clip_vit"},
            vocabulary="pipelines.data.captions:VOCABULARY",
            # The thesis's learning rate of 1 distorts this model's things; 0.3 obeys best of those
            # that leave them as they were. Plain sampling is as good with 25 steps as with 50: mIoU
            # 0.497 and 0.492, class and colour 0.823 and 0.790 (`benchmarks zestguide --seed 100`).
            defaults={
                "zestguide": {"eta": 0.3, "num_steps": 25},
                "zestguide_pww": {"eta": 0.3, "num_steps": 25},
                **{
                    name: {"num_steps": 25}
                    for name in (
                        "external_classifier",
                        "paint_with_words",
                        "multidiffusion",
                        "plain_sampling",
                    )
                },
                # these CLIPs are small: the published pull towards the input outweighs them
                "flexit": {"perceptual_weight": 0.05, "latent_weight": 0.0, "image_weight": 0.1},
                # the best of `benchmarks simat` on its development half
                "simat": {"heads": "0.01", "scale": 1.0},
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
            side_by_side=frozenset(
                ("flexit", "encode_decode", "prompt_to_prompt", "sdedit")  # Text edit
                + ("paint_with_words", "multidiffusion", "plain_sampling")  # Segmentation to image
            ),
            notes="Small models trained for this app. They know rendered toy scenes and clay "
            "faces, and nothing else: a photo comes back as toys.",
        ),
        _photo(
            "sd15",
            "Stable Diffusion 1.5",
            512,
            repositories.SD15,
            notes="Photographs and most of what people photograph.",
        ),
        _photo(
            "sd21-base",
            "Stable Diffusion 2.1 base",
            512,
            repositories.SD21_BASE,
            notes="Photographs; another text encoder than 1.5, which reads longer descriptions.",
        ),
        _photo(
            "sd21",
            "Stable Diffusion 2.1",
            768,
            repositories.SD21,
            notes="Photographs at 768 pixels; it predicts velocity instead of noise.",
        ),
        _photo(
            "sdxl",
            "Stable Diffusion XL",
            1024,
            repositories.SDXL,
            parts={"vae": Component("part", "sdxl-vae", repositories.SDXL_VAE)},
            defaults={
                name: {"guidance_scale": _GUIDANCE, "eta": 0.1}
                for name in ("zestguide", "zestguide_pww")
            },
            notes="Photographs at 1024 pixels; too slow without a GPU.",
        ),
        Pack(
            name="ffhq",
            title="FFHQ faces",
            licence=repositories.STYLEGAN2_FFHQ.licence,
            resolution_px=1024,
            components={
                "face_stylegan2": Component(
                    "published_generator", "stylegan2-ffhq", repositories.STYLEGAN2_FFHQ
                ),
                "face_parser": Component(
                    "published_face_parser", "face-parsing", repositories.FACE_PARSER
                ),
                "face_inversion": Component(
                    "published_face_inversion", "e4e-ffhq", repositories.E4E_FFHQ
                ),
                "latent_mapper": Component(
                    "latent_mapper", "ffhq-mapper", repositories.FFHQ_MAPPER
                ),
                "lelsd": Component("directions", "ffhq-directions", repositories.FFHQ_DIRECTIONS),
                "lpips_loss": _FLEXIT["lpips_loss"],
                "lpips_eval": _FLEXIT["lpips_loss"],
                **_OPENAI_CLIPS,
                **_HEADS,
            },
            defaults=_RAW,
            aligns=True,
            notes="Photographed faces for Face sliders, and nothing else. A face of your own is "
            "cut out by its eyes and mouth and taken in by e4e. Directions, and the mapper from "
            "texts, are nowhere published: train them by the commands that `packs check ffhq` has. "
            f"Files are found in the folder that {hub.VARIABLE} names, or fetched.",
        ),
    )
}

if __name__ == "__main__":
    raise SystemExit(resolve_name("pipelines.packs_check:main")())
