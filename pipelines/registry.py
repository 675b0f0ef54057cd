"""Every method the app, the command line and the benchmarks offer: one entry each.

Entries name their function and parameter class as "module:attribute", so that reading this table
imports neither torch nor any method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pipelines.costs import Cost

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: key in METHODS, in the API and in benchmark records.
        title: what the visitor reads.
        tab: "text_edit", "layouts" or "retrieval".
        params: "module:Class" of its frozen parameter dataclass (see `params`).
        function: "module:function".
        paper: citation with its address.
        summary: one sentence.
        takes: keyword arguments beyond those of every method of its tab: "initial" (a picture to
            start from), "segmenter" (the pack's segmentation network), "clips" (all its dual
            encoders by role), "perceptual" (its perceptual distance for losses).
        reads_source: whether the text of what the picture shows plays a part.
        cost: "module:function" that knows what it will cost (see `costs`); "" for next to nothing.
    """

    name: str
    title: str
    tab: str
    params: str
    function: str
    paper: str
    summary: str
    takes: tuple[str, ...] = ()
    cost: str = ""
    reads_source: bool = True

    def load(self) -> Callable[..., Any]:
        """Return the function; imports its module."""
        function: Callable[..., Any] = resolve_name(self.function)
        return function

    def load_params(self) -> type[DataclassInstance]:
        """Return the parameter class; imports its module."""
        params_class: type[DataclassInstance] = resolve_name(self.params)
        return params_class

    def cost_of(self, params: DataclassInstance, is_masked: bool, regions: int) -> Cost:
        """Return what a result with these parameters will cost at the most."""
        if not self.cost:
            return Cost()
        cost: Cost = resolve_name(self.cost)(params, is_masked, regions)
        return cost


def methods(tab: str) -> tuple[Method, ...]:
    """Return the methods of a tab in the order of METHODS."""
    return tuple(method for method in METHODS.values() if method.tab == tab)


_ZESTGUIDE_PAPER = (
    "Couairon, Careil, Cord, Lathuiliere, Verbeek. Zero-shot spatial layout conditioning for "
    "text-to-image diffusion models. ICCV 2023. https://arxiv.org/abs/2306.13754"
)
_FLEXIT_PAPER = (
    "Couairon, Grechka, Verbeek, Schwenk, Cord. FlexIT: Towards flexible semantic image "
    "translation. CVPR 2022. https://arxiv.org/abs/2203.04705"
)
_SIMAT_PAPER = (
    "Couairon, Douze, Cord, Schwenk. Embedding arithmetic of multimodal queries for image "
    "retrieval. CVPR workshops 2022. https://arxiv.org/abs/2112.03162"
)
_DIFFEDIT_PAPER = (
    "Couairon, Verbeek, Schwenk, Cord. DiffEdit: Diffusion-based semantic image editing with mask "
    "guidance. ICLR 2023. https://arxiv.org/abs/2210.11427"
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="diffedit",
            title="DiffEdit",
            tab="text_edit",
            params="pipelines.method_params:DiffEditParams",
            function="pipelines.diffedit:diffedit",
            cost="pipelines.costs:diffedit",
            paper=_DIFFEDIT_PAPER,
            summary="Finds the region that the two texts disagree about, encodes the picture with "
            "DDIM and decodes it with the target text inside that region only.",
        ),
        Method(
            name="flexit",
            title="FlexIT",
            tab="text_edit",
            params="pipelines.method_params:FlexITParams",
            function="pipelines.flexit:flexit",
            cost="pipelines.costs:flexit",
            paper=_FLEXIT_PAPER,
            summary="Moves the picture's latents step by step until an ensemble of CLIPs sees the "
            "target text in it and the source text no more.",
            takes=("clips", "perceptual"),
        ),
        Method(
            name="diffedit_no_encode",
            title="DiffEdit without encoding",
            tab="text_edit",
            params="pipelines.method_params:DiffEditParams",
            function="pipelines.diffedit:diffedit_without_encoding",
            cost="pipelines.costs:diffedit_no_encode",
            paper=_DIFFEDIT_PAPER,
            summary="DiffEdit's mask, but starting from the picture with random noise added "
            "instead of its DDIM encoding.",
        ),
        Method(
            name="encode_decode",
            title="Encode-Decode",
            tab="text_edit",
            params="pipelines.method_params:EncodeDecodeParams",
            function="pipelines.diffedit:encode_decode",
            cost="pipelines.costs:encode_decode",
            reads_source=False,
            paper=_DIFFEDIT_PAPER,
            summary="Encodes the picture with DDIM and decodes all of it with the target text, "
            "without a mask.",
        ),
        Method(
            name="prompt_to_prompt",
            title="Prompt-to-Prompt",
            tab="text_edit",
            params="pipelines.method_params:PromptToPromptParams",
            function="pipelines.prompt_to_prompt:prompt_to_prompt",
            cost="pipelines.costs:prompt_to_prompt",
            paper="Hertz, Mokady, Tenenbaum, Aberman, Pritch, Cohen-Or. Prompt-to-Prompt image "
            "editing with cross-attention control. ICLR 2023. https://arxiv.org/abs/2208.01626",
            summary="Decodes the encoded picture with the target text, but with the attention maps "
            "that the source text has, so that the composition stays.",
        ),
        Method(
            name="sdedit",
            title="SDEdit",
            tab="text_edit",
            params="pipelines.method_params:SDEditParams",
            function="pipelines.sdedit:sdedit",
            cost="pipelines.costs:sdedit",
            reads_source=False,
            paper="Meng, He, Song, Song, Wu, Zhu, Ermon. SDEdit: Guided image synthesis and "
            "editing with stochastic differential equations. ICLR 2022. "
            "https://arxiv.org/abs/2108.01073",
            summary="Adds random noise to the whole picture and removes it with the target text.",
        ),
        Method(
            name="copy",
            title="Copy",
            tab="text_edit",
            params="pipelines.method_params:CopyParams",
            function="pipelines.baselines:copy",
            reads_source=False,
            paper=_DIFFEDIT_PAPER,
            summary="Returns the picture unchanged: what a method must beat to have edited.",
        ),
        Method(
            name="encode",
            title="Encode",
            tab="text_edit",
            params="pipelines.method_params:EncodeParams",
            function="pipelines.baselines:encode",
            reads_source=False,
            paper=_DIFFEDIT_PAPER,
            summary="Passes the picture through the autoencoder alone: the change that every "
            "latent method makes at the least.",
        ),
        Method(
            name="zestguide",
            title="ZestGuide",
            tab="layouts",
            params="pipelines.method_params:ZestGuideParams",
            function="pipelines.zestguide:zestguide",
            cost="pipelines.costs:zestguide",
            paper=_ZESTGUIDE_PAPER,
            summary="Reads a segmentation from the model's own attention and follows the gradient "
            "that brings it to the painted one.",
            takes=("initial",),
        ),
        Method(
            name="zestguide_pww",
            title="ZestGuide with paint-with-words",
            tab="layouts",
            params="pipelines.method_params:ZestGuideWithWordsParams",
            function="pipelines.zestguide:zestguide",
            cost="pipelines.costs:zestguide",
            paper=_ZESTGUIDE_PAPER,
            summary="ZestGuide's gradient and paint-with-words' attention together, the default of "
            "the thesis.",
            takes=("initial",),
        ),
        Method(
            name="external_classifier",
            title="External classifier",
            tab="layouts",
            params="pipelines.method_params:ClassifierGuidanceParams",
            function="pipelines.external_classifier:external_classifier",
            cost="pipelines.costs:external_classifier",
            paper="Bansal et al. Universal guidance for diffusion models. CVPR workshops 2023. "
            "https://arxiv.org/abs/2302.07121",
            summary="Follows the gradient of a segmentation network that looks at the picture so "
            "far; segments whose words name none of its classes are left to chance.",
            takes=("initial", "segmenter"),
        ),
        Method(
            name="paint_with_words",
            title="Paint-with-words",
            tab="layouts",
            params="pipelines.method_params:PaintWithWordsParams",
            function="pipelines.paint_with_words:paint_with_words",
            cost="pipelines.costs:plain_sampling",
            paper="Balaji et al. eDiff-I: Text-to-image diffusion models with an ensemble of "
            "expert denoisers. 2022. https://arxiv.org/abs/2211.01324",
            summary="Raises the attention between each painted region and its words.",
        ),
        Method(
            name="multidiffusion",
            title="MultiDiffusion",
            tab="layouts",
            params="pipelines.method_params:MultiDiffusionParams",
            function="pipelines.multidiffusion:multidiffusion",
            cost="pipelines.costs:multidiffusion",
            paper="Bar-Tal, Yariv, Lipman, Dekel. MultiDiffusion: Fusing diffusion paths for "
            "controlled image generation. ICML 2023. https://arxiv.org/abs/2302.08113",
            summary="Denoises every region with its own words and averages the results.",
        ),
        Method(
            name="plain_sampling",
            title="Plain sampling",
            tab="layouts",
            params="pipelines.method_params:PaintingParams",
            function="pipelines.plain_sampling:plain_sampling",
            cost="pipelines.costs:plain_sampling",
            paper="Song, Meng, Ermon. Denoising diffusion implicit models. ICLR 2021. "
            "https://arxiv.org/abs/2010.02502",
            summary="Reads the words and ignores where they were painted: what a method must beat.",
        ),
        Method(
            name="simat",
            title="SIMAT",
            tab="retrieval",
            params="pipelines.method_params:RetrievalParams",
            function="pipelines.simat:simat",
            paper=_SIMAT_PAPER,
            summary="Adds the difference of two words' embeddings to a picture's and finds the "
            "pictures that lie there.",
        ),
    )
}
