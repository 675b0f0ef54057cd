"""`python -m pipelines.packs check`: what is here, what is missing, how big, which licence."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_hub import safetensors, write

from pipelines import hub, packs_check
from pipelines.packs import PACKS

CLIP = "timm/resnet50_clip.openai"
FREE_CLIP = "timm/resnet50x4_clip.openai"  # of which no commit or sum is known


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """An empty hub cache and an empty folder of the visitor's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(hub.VARIABLE, str(tmp_path / "own"))
    return tmp_path


def line_of(lines, role):
    return next((a, b) for a, b in zip(lines, lines[1:], strict=False) if a.split()[0] == role)


def test_the_toybox_is_here():
    lines, is_whole = packs_check.report(PACKS["toybox"])
    assert is_whole
    assert "present" in line_of(lines, "latent_diffusion")[0]
    assert "Apache-2.0" in lines[0]


def test_what_is_missing_has_size_licence_and_command(machine, capsys):
    assert packs_check.main(["check", "sdxl"]) == 1
    lines = capsys.readouterr().out.splitlines()
    first, second = line_of(lines, "latent_diffusion")
    assert "missing" in first and "about 6774 MB" in first and "Open RAIL++-M" in first
    assert second.split()[:4] == [
        "hf", "download", "stabilityai/stable-diffusion-xl-base-1.0", "model_index.json",
    ]  # fmt: skip
    assert "MIT" in line_of(lines, "latent_diffusion/vae")[0]
    assert "MB to fetch" in lines[-2] or "MB to fetch" in lines[-1]


def test_what_a_component_is_held_to_is_said_and_checked(machine):
    lines, _ = packs_check.report(PACKS["sd15"])
    pinned = lines[lines.index(line_of(lines, "latent_diffusion")[0]) + 2]
    assert pinned.strip() == "commit 451f4fe16113; sha256 of 3 of 3 weights files known"
    free = lines[lines.index(line_of(lines, "clip_rn50x4")[0]) + 2]
    assert (
        free.strip() == "no commit is known: takes the newest; sha256 of 0 of 1 weights files known"
    )
    content = safetensors(100)
    write(machine / "own" / CLIP, {"open_clip_model.safetensors": content})
    assert "present" in line_of(packs_check.report(PACKS["sd15"])[0], "clip_rn50")[0]
    lines, is_whole = packs_check.report(PACKS["sd15"], read_all=True)
    assert not is_whole and "not the file that was published" in line_of(lines, "clip_rn50")[1]


def test_present_and_damaged_files_are_told_apart(machine):
    whole = safetensors(3_000_000)
    folder = write(machine / "own" / CLIP, {"open_clip_model.safetensors": whole})
    first, second = line_of(packs_check.report(PACKS["sd15"])[0], "clip_rn50")
    assert "present" in first and " 3 MB" in first and str(folder) in second
    (folder / "open_clip_model.safetensors").write_bytes(whole[:-1])
    lines, is_whole = packs_check.report(PACKS["sd15"])
    first, second = line_of(lines, "clip_rn50")
    assert "damaged" in first and "cut off" in second and not is_whole


def test_hashes_of_the_cache_are_checked_on_demand(machine):
    content = safetensors(100)
    repository = machine / "cache" / f"models--{FREE_CLIP.replace('/', '--')}"
    blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
    link = repository / "snapshots" / ("a" * 40) / "open_clip_model.safetensors"
    write(repository, {"refs/main": b"a" * 40, f"blobs/{blob.name}": content})
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    clips = replace(PACKS["sd15"], components={"clip": PACKS["sd15"].components["clip_rn50x4"]})
    assert packs_check.report(clips, read_all=True)[1]
    blob.write_bytes(content[:-1] + b"\x01")
    assert packs_check.report(clips)[1]
    lines, is_whole = packs_check.report(clips, read_all=True)
    assert not is_whole and "sha256" in line_of(lines, "clip")[1]


def test_the_command_of_the_readme_runs_without_torch():
    code = "import sys; from pipelines import packs_check; packs_check.main(['check', 'toybox'])"
    code += "; assert 'torch' not in sys.modules"
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True)
    command = [sys.executable, "-m", "pipelines.packs", "check", "nope"]
    refused = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "toybox" in refused.stderr and "Traceback" not in refused.stderr
