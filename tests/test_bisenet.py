"""The BiSeNet parser of faces in its published layout: opened, or refused by name."""

import pytest
import torch
from test_weights import Attack
from tiny_pack import CPU
from torch.nn import functional as F

from pipelines import hub, repositories
from pipelines.data.faces import PARTS
from pipelines.errors import InputError
from pipelines.models.bisenet import FILE, LABELS
from pipelines.models.published_faces import MEAN, PARSED_PX, STD, PublishedFaceParser

STAGES = {"layer1": (64, 64), "layer2": (64, 128), "layer3": (128, 256), "layer4": (256, 512)}


def checkpoint():
    """Random weights under the keys of zllrunning/face-parsing.PyTorch's BiSeNet(19)."""
    generator, state = torch.Generator().manual_seed(0), {}

    def conv(name, inputs, outputs, size):
        weight = torch.randn(outputs, inputs, size, size, generator=generator)
        state[f"{name}.weight"] = weight * (2 / (inputs * size**2)) ** 0.5

    def norm(name, width):
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.running_var"] = 1 + torch.rand(width, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(80_000)

    def block(name, inputs, outputs, size):
        conv(f"{name}.conv", inputs, outputs, size)
        norm(f"{name}.bn", outputs)

    conv("cp.resnet.conv1", 3, 64, 7)
    norm("cp.resnet.bn1", 64)
    for stage, (inputs, outputs) in STAGES.items():
        for i in range(2):
            name = f"cp.resnet.{stage}.{i}"
            conv(f"{name}.conv1", outputs if i else inputs, outputs, 3)
            norm(f"{name}.bn1", outputs)
            conv(f"{name}.conv2", outputs, outputs, 3)
            norm(f"{name}.bn2", outputs)
            if not i and inputs != outputs:
                conv(f"{name}.downsample.0", inputs, outputs, 1)
                norm(f"{name}.downsample.1", outputs)
    for name, inputs in {"arm16": 256, "arm32": 512}.items():
        block(f"cp.{name}.conv", inputs, 128, 3)
        conv(f"cp.{name}.conv_atten", 128, 128, 1)
        norm(f"cp.{name}.bn_atten", 128)
    block("cp.conv_head32", 128, 128, 3)
    block("cp.conv_head16", 128, 128, 3)
    block("cp.conv_avg", 512, 128, 1)
    block("ffm.convblk", 256, 256, 1)
    conv("ffm.conv1", 256, 64, 1)
    conv("ffm.conv2", 64, 256, 1)
    for name, inputs, middle in (("", 256, 256), ("16", 128, 64), ("32", 128, 64)):
        block(f"conv_out{name}.conv", inputs, middle, 3)
        conv(f"conv_out{name}.conv_out", middle, 19, 1)
    return state


def reference(state, x):
    """The published forward pass, written with functions over the checkpoint's own tensors."""

    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], **options)

    def norm(name, x):
        told = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *told)

    def block(name, x):
        padding = state[f"{name}.conv.weight"].shape[-1] // 2
        return F.relu(norm(f"{name}.bn", conv(f"{name}.conv", x, padding=padding)))

    def pooled(x):
        return F.adaptive_avg_pool2d(x, 1)

    def refined(name, x):
        x = block(f"{name}.conv", x)
        return x * norm(f"{name}.bn_atten", conv(f"{name}.conv_atten", pooled(x))).sigmoid()

    def upsampled(x, like):
        return F.interpolate(x, like.shape[2:], mode="nearest")

    size, seen = x.shape[2:], []
    x = F.relu(norm("cp.resnet.bn1", conv("cp.resnet.conv1", x, stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in STAGES:
        for i in range(2):
            name = f"cp.resnet.{stage}.{i}"
            stride = 2 if not i and stage != "layer1" else 1
            y = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, stride=stride, padding=1)))
            y = norm(f"{name}.bn2", conv(f"{name}.conv2", y, padding=1))
            if f"{name}.downsample.0.weight" in state:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride=stride))
            x = F.relu(x + y)
        seen.append(x)
    _, feat8, feat16, feat32 = seen
    average = upsampled(block("cp.conv_avg", pooled(feat32)), feat32)
    up32 = block("cp.conv_head32", upsampled(refined("cp.arm32", feat32) + average, feat16))
    up16 = block("cp.conv_head16", upsampled(refined("cp.arm16", feat16) + up32, feat8))
    fused = block("ffm.convblk", torch.cat([feat8, up16], 1))
    weight = conv("ffm.conv2", F.relu(conv("ffm.conv1", pooled(fused)))).sigmoid()
    logits = conv("conv_out.conv_out", block("conv_out.conv", fused * weight + fused))
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)


@pytest.fixture
def file(tmp_path):
    torch.save(checkpoint(), tmp_path / FILE)
    return tmp_path / FILE


def test_it_sees_what_the_published_arithmetic_sees(file):
    parser = PublishedFaceParser.from_published(file.parent, CPU)
    images = torch.rand(1, 3, PARSED_PX, PARSED_PX, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (MEAN, STD))
    with torch.no_grad():
        expected = reference(checkpoint(), (images - mean) / std)
        found = parser(images * 2 - 1)
    assert expected.argmax(1).unique().numel() > 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_its_labels_are_found_by_name_in_its_own_order(file):
    parser = PublishedFaceParser.from_published(file.parent, CPU)
    assert parser.labels["eyes"] == [4, 5] and parser.labels["nose"] == [10]
    assert parser.labels["lips"] == [12, 13] and parser.labels["hair"] == [17]
    assert len(LABELS) == 19 and {"skin", "glasses", "brows", "hat"} <= set(parser.parts) & set(
        PARTS
    )


def change(state, name, tensor=None):
    state.pop(name)
    return state if tensor is None else {**state, name: tensor}


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda s: change(s, "ffm.conv1.weight"), r"not complete.*ffm\.conv1\.weight"),
        (lambda s: change(s, "ffm.conv1.weight", torch.ones(2)), "another architecture"),
        (lambda s: {**s, "sp.conv1.weight": torch.ones(1)}, "has no place for.*sp.conv1"),
    ],
)
def test_other_networks_are_refused(file, damage, sentence):
    torch.save(damage(checkpoint()), file)
    with pytest.raises(InputError, match=sentence):
        PublishedFaceParser.from_published(file.parent, CPU)


def test_code_and_cuts_are_refused(file, tmp_path):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut off half-way"):
        PublishedFaceParser.from_published(file.parent, CPU)
    torch.save({**checkpoint(), "args": Attack(tmp_path / "ran")}, file)
    with pytest.raises(InputError, match="pickle that would run code"):
        PublishedFaceParser.from_published(file.parent, CPU)
    assert not (tmp_path / "ran").exists()


def test_only_the_published_file_passes_for_it(file, monkeypatch, tmp_path):
    own = tmp_path / "own" / "face-parsing"
    own.mkdir(parents=True)
    file.rename(own / FILE)
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path / "own"))
    assert hub.here(repositories.FACE_PARSER, "face-parsing") == own
    with pytest.raises(InputError, match="not the file that was published"):
        hub.locate(repositories.FACE_PARSER, "face-parsing")
