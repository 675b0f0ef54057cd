"""StyleGAN2 and the face parser in their published layouts: opened, or refused by name."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_stylegan2 import reference, rosinality_checkpoint
from test_weights import Attack
from tiny_pack import CPU
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pipelines import hub, packs_check, sentences
from pipelines.data.faces import PARTS
from pipelines.errors import InputError
from pipelines.models.published_faces import PARSED_PX, PublishedFaceParser, open_generator
from pipelines.packs import PACKS

LABELS = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip


@pytest.fixture
def generator_file(tmp_path):
    torch.save(rosinality_checkpoint(), tmp_path / "stylegan2-ffhq-config-f.pt")
    return tmp_path / "stylegan2-ffhq-config-f.pt"


def test_the_generator_gives_the_pictures_of_the_published_arithmetic(generator_file):
    model = open_generator(generator_file.parent, CPU)
    w_plus = torch.randn(2, model.config.w_layers, 9)
    expected = reference(rosinality_checkpoint()["g_ema"], w_plus)
    torch.testing.assert_close(model.synthesis(w_plus), expected, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in model.parameters())


def without(name):
    def change(checkpoint):
        del checkpoint["g_ema"][name]

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.pop("g_ema"), "has no “g_ema”: it is no generator in the layout"),
        (lambda c: c.pop("latent_avg"), "has no “latent_avg”"),
        (without("convs.0.conv.weight"), r"not complete: 1 tensors are missing.*convs\.1\.weight"),
        (without("style.1.weight"), "has no whole generator.*mapping_net.0.weight"),
        (lambda c: c.update(g_ema={"synthesis.b4.const": torch.ones(1)}), "synthesis.b4.const"),
        (lambda c: c["g_ema"].update({"input.input": torch.ones(1, 3, 4, 4)}), "“constant” is"),
        (lambda c: c.update(g_ema=[torch.ones(1)]), "has no whole generator"),
    ],
)
def test_other_generators_are_refused(generator_file, change, sentence):
    checkpoint = rosinality_checkpoint()
    change(checkpoint)
    torch.save(checkpoint, generator_file)
    with pytest.raises(InputError, match=sentence):
        open_generator(generator_file.parent, CPU)


def test_code_and_cuts_are_refused(generator_file, tmp_path):
    content = generator_file.read_bytes()
    generator_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut off half-way"):
        open_generator(generator_file.parent, CPU)
    mark = tmp_path / "ran"
    torch.save({**rosinality_checkpoint(), "args": Attack(mark)}, generator_file)
    with pytest.raises(InputError, match="pickle that would run code"):
        open_generator(generator_file.parent, CPU)
    assert not mark.exists()
    generator_file.unlink()
    with pytest.raises(InputError, match="no checkpoint of StyleGAN2"):
        open_generator(tmp_path, CPU)


def test_a_pickle_of_nvidia_gets_advice(tmp_path, monkeypatch):
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path))
    (tmp_path / "stylegan2-ffhq").mkdir()
    (tmp_path / "stylegan2-ffhq" / "stylegan2-ffhq-1024x1024.pkl").write_bytes(b"\x80\x02.")
    with pytest.raises(InputError, match=r"never opened.*rosinality.*convert_weight\.py"):
        PACKS["ffhq"].component("face_stylegan2").locate()


def write_segformer(folder):
    config = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
        id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


@pytest.fixture
def parser_folder(tmp_path):
    return write_segformer(tmp_path)


def test_the_parser_finds_our_parts_by_their_names(parser_folder):
    parser = PublishedFaceParser.from_published(parser_folder, CPU)
    assert parser.labels["eyes"] == [4, 5] and parser.labels["nose"] == [2]
    assert parser.labels["lips"] == [11, 12] and parser.labels["earrings"] == [15]
    known = {"glasses", "brows", "ears", "hair", "hat", "skin", "neck", "cloth"}
    assert known <= set(parser.parts) & set(PARTS)
    images = torch.rand(1, 3, 96, 96) * 2 - 1
    masks = [parser.part_masks(images, part) for part in parser.parts]
    assert masks[0].shape == (1, 96, 96) and torch.stack(masks).sum(0).max() <= 1


def test_the_parser_sees_the_pixels_and_range_of_its_training(parser_folder):
    parser, seen = PublishedFaceParser.from_published(parser_folder, CPU), []
    parser.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert parser(torch.ones(1, 3, 64, 64)).shape == (1, len(LABELS), 64, 64)
    assert seen[0].shape[-1] == PARSED_PX
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), white)


def test_other_parsers_are_refused(parser_folder):
    weights, config = parser_folder / "model.safetensors", parser_folder / "config.json"
    text, content = config.read_text(), weights.read_bytes()
    config.write_text(text.replace('"skin"', '"LABEL_1"'))
    with pytest.raises(InputError, match="names no “skin” among its labels"):
        PublishedFaceParser.from_published(parser_folder, CPU)
    config.write_text(text)
    tensors = load_file(weights)
    removed = tensors.pop("decode_head.classifier.bias")
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(InputError, match="not complete"):
        PublishedFaceParser.from_published(parser_folder, CPU)
    tensors["decode_head.classifier.bias"] = torch.cat([removed, removed])
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(InputError, match="architecture"):
        PublishedFaceParser.from_published(parser_folder, CPU)
    weights.write_bytes(content[:-9])
    with pytest.raises(InputError, match="cut off half-way"):
        PublishedFaceParser.from_published(parser_folder, CPU)


def test_the_pack_says_what_it_has(generator_file, parser_folder, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path / "own"))
    pack = PACKS["ffhq"]
    assert {"face_stylegan2", "face_parser", "lpips_loss", "clip_vit_b_16"} <= set(pack.components)
    assert "fetches about 381 MB" in sentences.pack(pack)
    own = tmp_path / "own" / "stylegan2-ffhq"
    own.mkdir(parents=True)
    generator_file.rename(own / generator_file.name)
    found = {part["role"]: part for part in packs_check.listing(pack)["components"]}
    assert found["face_stylegan2"]["state"] == "present"
    assert found["face_stylegan2"]["size_bytes"] == (own / generator_file.name).stat().st_size
    assert found["face_parser"]["state"] == "missing"
    assert "non-commercial" in found["face_parser"]["licence"]
