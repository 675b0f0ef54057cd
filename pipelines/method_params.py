"""Parameters of the methods, declared without torch so that a page is built without loading it."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.params import choice, flag, ranged, text

_NEGATIVE = "what the picture should not show; guidance leads away from it, not at 1"


@dataclass(frozen=True)
class SamplingParams:
    """What every diffusion method takes, with the defaults of DiffEdit but for the guidance."""

    strength: float = ranged(0.8, 0.1, 1.0, 0.05, "how far back the picture goes: the ratio r")
    guidance_scale: float = ranged(3.0, 1.0, 12.0, 0.5, "pull towards the target text")
    num_steps: int = ranged(50, 5, 100, 1, "steps of the whole schedule")
    solver: str = choice("ddim", "ddim", "dpm2m", help="ddim: as published; dpm2m: second order")
    negative_prompt: str = text(_NEGATIVE)


@dataclass(frozen=True)
class EncodeDecodeParams(SamplingParams):
    """Encode-Decode: DiffEdit without a mask (sec. 5.4.2)."""


@dataclass(frozen=True)
class SDEditParams(SamplingParams):
    """SDEdit: `strength` is how much noise is added."""

    strength: float = ranged(0.6, 0.1, 1.0, 0.05, "how much noise, as a fraction of the schedule")


@dataclass(frozen=True)
class MaskParams:
    """How DiffEdit infers where to edit (sec. 5.3.2, step 1)."""

    mask_strength: float = ranged(
        0.5,
        0.1,
        0.9,
        0.05,
        "noise added before comparing, as a fraction of the schedule",
        "Noise level",
    )
    num_maps: int = ranged(
        10, 1, 20, 1, "noise draws averaged into the difference map", "Noise draws"
    )
    reference: str = choice(
        "source",
        "source",
        "empty",
        help="compare the target text with the source text or with none",
        label="Reference text",
    )
    recipe: str = choice(
        "refined",
        "refined",
        "thesis",
        help="how the difference map becomes a mask",
        label="Mask recipe",
    )
    threshold: float = ranged(
        0.5, 0.05, 0.95, 0.05, "part of the map's range where the mask starts"
    )
    feather_px: int = ranged(0, 0, 16, 1, "soft border inside the mask, in pixels", "Soft border")


@dataclass(frozen=True)
class DiffEditParams(MaskParams, SamplingParams):
    """DiffEdit: the parameters of sampling, then those of the mask."""

    compositing: str = choice(
        "latents", "latents", "x0", help="keep the background in x_t (DiffEdit) or in x_0 (GLIDE)"
    )


@dataclass(frozen=True)
class PromptToPromptParams(SamplingParams):
    """Prompt-to-Prompt, with the fractions and the threshold of the authors' release."""

    kind: str = choice(
        "replace",
        "replace",
        "refine",
        help="replace: a new word takes the map of the word it stands for; refine: its own",
    )
    cross_steps: float = ranged(
        0.8, 0.0, 1.0, 0.05, "part of the steps that use the source's cross-attention"
    )
    self_steps: float = ranged(
        0.4, 0.0, 1.0, 0.05, "part of the steps that use the source's self-attention"
    )
    reweight: float = ranged(1.0, -2.0, 5.0, 0.25, "factor on the attention of the words below")
    reweighted: str = text(
        "words of the target text, new ones or not; empty: those that are new",
        label="Words to reweight",
    )
    local_blend: float = ranged(
        0.3, 0.0, 0.9, 0.05, "attention above which a region may change; 0 lets all change"
    )


@dataclass(frozen=True)
class FlexITParams:
    """FlexIT, with the settings of the paper's experiments (the release's final.yaml)."""

    num_steps: int = ranged(160, 1, 400, 1, "steps down the gradient")
    learning_rate: float = ranged(
        0.05, 0.005, 0.2, 0.005, "how far one step goes, as a part of the latents' length"
    )
    source_weight: float = ranged(0.4, 0.0, 1.0, 0.05, "how much of the source text is taken away")
    image_weight: float = ranged(0.2, 0.0, 1.0, 0.05, "pull towards what CLIP sees in the input")
    perceptual_weight: float = ranged(0.15, 0.0, 1.0, 0.05, "pull towards how the input looks")
    latent_weight: float = ranged(0.05, 0.0, 1.0, 0.05, "pull towards the input's latents")
    networks: str = choice(
        "all",
        "all",
        among="clips",
        help="the CLIP networks that are followed: the ensemble or one",
        label="CLIP networks",
    )
    augmentations: int = ranged(
        1, 0, 32, 1, "turned and cropped views for each network and step; 0 is the picture itself"
    )
    space: str = choice(
        "latent",
        "latent",
        "pixels",
        "faces",
        help="what is changed: the autoencoder's latents, raw pixels, or the face generator's code",
    )
    latent_norm: str = choice(
        "l21", "l21", "l1", "l2", help="how the latents' change is measured; l21: sparse in places"
    )
    loss: str = choice(
        "dot",
        "dot",
        "squared",
        help="scalar product (as released) or squared distance (as written)",
    )
    normalise_gradient: bool = flag(True, "steps of one length; off: as long as the gradient")
    snapshot_every: int = ranged(32, 0, 64, 8, "steps between pictures kept on the way; 0 is none")


@dataclass(frozen=True)
class CopyParams:
    """Copy has no parameters."""


@dataclass(frozen=True)
class EncodeParams:
    """Encode has no parameters."""


@dataclass(frozen=True)
class PaintingParams:
    """What every segmentation-to-image method takes (thesis, section 6.4.1)."""

    guidance_scale: float = ranged(3.0, 1.0, 12.0, 0.5, "pull towards the text")
    num_steps: int = ranged(50, 5, 100, 1, "DDIM steps")
    negative_prompt: str = text(_NEGATIVE)


@dataclass(frozen=True)
class ClassifierGuidanceParams(PaintingParams):
    """Classifier guidance, with the defaults of the thesis."""

    eta: float = ranged(1.0, 0.0, 3.0, 0.1, "learning rate of the guidance; 0 is plain sampling")
    tau: float = ranged(0.5, 0.0, 1.0, 0.05, "part of the steps that is guided")
    normalise_gradient: bool = flag(True, "divide the gradient by its largest magnitude")


@dataclass(frozen=True)
class ZestGuideParams(ClassifierGuidanceParams):
    """ZestGuide, with the defaults of the thesis."""

    loss: str = choice(
        "both",
        "both",
        "plain",
        "normalised",
        help="cross-entropy of the maps, of the maps divided by their maximum, or the sum",
    )
    averaging: str = choice(
        "global", "global", "layers", "heads", help="one loss for the mean map, or for each"
    )
    layers: str = choice(
        "16 and 32",
        "16 and 32",
        "16",
        "32",
        "all",
        "encoder",
        "decoder",
        help="which attention maps are read: of which size, or all of one half of the network",
    )
    paint_with_words: float = ranged(
        0.0, 0.0, 1.0, 0.05, "weight of paint-with-words beside the guidance"
    )


@dataclass(frozen=True)
class ZestGuideWithWordsParams(ZestGuideParams):
    """ZestGuide together with paint-with-words, the default of the thesis."""

    paint_with_words: float = ranged(
        0.4, 0.0, 1.0, 0.05, "weight of paint-with-words beside the guidance"
    )


@dataclass(frozen=True)
class PaintWithWordsParams(PaintingParams):
    """Paint-with-words."""

    weight: float = ranged(0.4, 0.0, 1.0, 0.05, "how much attention is raised; 0 is plain sampling")


@dataclass(frozen=True)
class MultiDiffusionParams(PaintingParams):
    """MultiDiffusion, with the release's 20 of 50 steps of bootstrapping."""

    bootstrapping: float = ranged(
        0.4, 0.0, 1.0, 0.05, "part of the steps in which segments stand before a plain colour"
    )


@dataclass(frozen=True)
class RetrievalParams:
    """SIMAT retrieval, with the temperature and the factor that the thesis found best."""

    scale: float = ranged(
        1.0, 0.0, 5.0, 0.05, "how far the picture moves along the change", "Strength λ"
    )
    heads: str = choice(
        "0.1",
        "off",
        "0.01",
        "0.03",
        "0.1",
        "0.3",
        "1",
        help="linear layers behind the CLIP, by the temperature τ of their training",
        label="Adaptation heads",
    )
    delta: str = choice(
        "words",
        "words",
        "sentences",
        help="the change of the two words alone, or its mean over captions that contain them",
        label="Change as",
    )
    k: int = ranged(5, 1, 10, 1, "pictures shown", "Results")


@dataclass(frozen=True)
class LELSDParams:
    """LELSD, with the defaults of the paper (sec. 4) and, where it gives none, of its release."""

    space: str = choice(
        "w+", "z", "w", "w+", "s", help="where the direction lives; s: style channels"
    )
    mask: str = choice(
        "average",
        "average",
        "union",
        "intersection",
        help="how the part's masks before and after the edit become one",
    )
    num_directions: int = ranged(1, 1, 4, 1, "different directions for the same part")
    correlation_weight: float = ranged(
        5.0, 0.0, 20.0, 0.5, "how strongly several directions are kept apart"
    )
    max_strength: float = ranged(
        1.0, 0.5, 20.0, 0.5, "the longest edit seen while learning, in units of the first direction"
    )
    learning_rate: float = ranged(0.001, 0.001, 0.05, 0.001, "of Adam; halves after each quarter")
    unit_norm: bool = flag(False, "keep the vector of every layer at length 1")


@dataclass(frozen=True)
class Clip2GanParams:
    """CLIP2GAN from text to face (sec. 3.1)."""

    mapper: str = choice(
        "pictures",
        "pictures",
        "captions",
        help="pictures: trained on pictures alone, as published; captions: another network, which "
        "read captions in training, moves a random face to where the text is true",
        label="Texts are read by",
    )
    noise: str = choice(
        "published",
        "published",
        "training",
        "none",
        help="added to the text's features: mean 1 and variance 0.36 as published, the standard "
        "normal of training, or nothing; with captions, nothing is the average face",
    )
    amount: float = ranged(
        1.0, 0.0, 2.0, 0.05, "factor on that noise, or on how far random faces are from the average"
    )


@dataclass(frozen=True)
class Clip2GanEditParams:
    """CLIP2GAN from face to face (sec. 3.3)."""

    beta: float = ranged(0.5, -2.0, 2.0, 0.05, "how far the edit goes; the paper uses 0 to 1")
    direction: str = choice(
        "published",
        "published",
        "difference",
        "clip",
        "captions",
        help="published: the text's own code is added; difference: what sets it apart from a text "
        "that says nothing; clip: texts and pictures are added before the mapping; captions: not "
        "of the paper, a network that read captions says where this face has to move",
    )
    base: str = choice(
        "mapped",
        "mapped",
        "inverted",
        help="start from CLIP's impression of the face, as published, or from its inversion",
    )


@dataclass(frozen=True)
class FaceParams(Clip2GanParams):
    """Where Face sliders gets a face from: mapper and noise for texts, the rest for pictures."""

    mapper: str = choice(
        "captions",
        "captions",
        "pictures",
        help="captions: a network that read captions in training moves a random face to where the "
        "text is true, where the pack has one; pictures: CLIP2GAN as published, trained on "
        "pictures alone",
        label="Texts are read by",
    )
    base: str = choice(
        "inverted",
        "inverted",
        "mapped",
        help="a picture is read by the inversion encoder, or by CLIP and the mapper, as published",
        label="A picture is read by",
    )
    refine_steps: int = ranged(
        40, 5, 100, 5, "steps that bring the code closer to the picture", "Refinement"
    )
