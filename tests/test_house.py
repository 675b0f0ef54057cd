"""The layout, the commands and the sizes that README and DESIGN promise."""

import ast
import os
import re
import subprocess
from pathlib import Path

import gradio
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
RUN_APP = (
    "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python app.py"
)
RUN_TESTS = "bash tests/run"
TOP_LEVEL = {"app.py", "requirements.txt", "packages.txt", "README.md", "LICENSE"}
TOP_LEVEL |= {"pipelines", "assets", "tests"}
MIB = 2**20
MAX_LINES = 400
DUPLICATE_LINES = 8


def repository_files() -> list[Path]:
    """Return what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = {ROOT / name for name in listed.stdout.split("\0") if name}
    return sorted(path for path in paths if path.is_file())


FILES = repository_files()
PYTHON = [file for file in FILES if file.suffix == ".py"]
README = (ROOT / "README.md").read_text()


def requirements(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in parsed}


def test_visible_top_level_is_fixed():
    top = {file.relative_to(ROOT).parts[0] for file in FILES}
    assert {name for name in top if not name.startswith(".")} == TOP_LEVEL


def test_readme_has_each_command_on_a_fenced_line():
    fenced = re.findall(r"```bash\n(.*?)\n```", README, re.S)
    assert fenced == [RUN_APP, RUN_TESTS]


def test_ci_runs_the_second_command_in_a_fresh_environment():
    script = (ROOT / ".ci" / "run").read_text()
    assert RUN_TESTS in script.splitlines()
    assert 'VENV="$(mktemp -d)"' in script


@pytest.mark.parametrize("name", [".ci/run", "tests/run"])
def test_scripts_stop_at_the_first_failure(name):
    assert os.access(ROOT / name, os.X_OK)
    assert "set -euo pipefail" in (ROOT / name).read_text().splitlines()
    subprocess.run(["bash", "-n", ROOT / name], check=True)


def test_the_test_command_runs_every_check():
    script = (ROOT / "tests" / "run").read_text()
    for step in ('ruff" check', 'ruff" format --check', 'mypy"', "-m pytest"):
        assert step in script
    for name in ("requirements.txt", "tests/requirements.txt", "chromium-driver"):
        assert name in script


def test_space_front_matter():
    _, front, _ = README.split("---\n", 2)
    values = dict(line.split(": ", 1) for line in front.splitlines() if ": " in line)
    assert values["sdk"] == "gradio"
    assert values["license"] == "apache-2.0"
    assert (ROOT / values["app_file"]).is_file()
    assert values["sdk_version"] in requirements("requirements.txt")["gradio"].specifier
    assert len(values["short_description"]) <= 60
    assert {"title", "emoji", "colorFrom", "colorTo", "python_version", "models"} <= set(values)
    assert "tags:" in front


def test_results_have_their_place():
    assert README.count("<!-- results:begin -->") == README.count("<!-- results:end -->") == 1


def test_installed_gradio_is_the_one_required():
    specifier = requirements("requirements.txt")["gradio"].specifier
    assert gradio.__version__ in specifier
    assert "6.30" not in specifier
    assert "7.0" not in specifier


def test_requirements_can_be_met_by_any_torch_but_the_unusable_one():
    specifier = requirements("requirements.txt")["torch"].specifier
    assert "2.13.0+cpu" not in specifier
    assert "2.15.0" in specifier
    assert {"pytest", "selenium", "ruff", "mypy"} <= set(requirements("tests/requirements.txt"))


def test_packages_for_a_space_are_one_a_line():
    lines = (ROOT / "packages.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", line) for line in lines)


def test_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_file_sizes():
    assert not [file for file in FILES if file.stat().st_size > 15 * MIB]
    pack = [file for file in FILES if file.is_relative_to(ROOT / "assets" / "toybox")]
    assert sum(file.stat().st_size for file in pack) <= 100 * MIB
    pickles = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
    assert not [file for file in FILES if file.suffix in pickles]


def test_file_lengths():
    long = {
        str(file.relative_to(ROOT)): lines
        for file in PYTHON
        if file != ROOT / "app.py" and (lines := len(file.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def idle_lines(source: str) -> set[int]:
    """Return the lines of imports and of signatures, which say the same in many places."""
    idle: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            idle |= set(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.FunctionDef):
            idle |= set(range(node.lineno, node.body[0].lineno))
    return idle


def code_lines(file: Path) -> list[tuple[int, str]]:
    """Return (line number, text) without blank lines, comments, imports and signatures."""
    source = file.read_text()
    idle = idle_lines(source)
    numbered = enumerate(map(str.strip, source.splitlines()), 1)
    return [(n, text) for n, text in numbered if text and text[0] != "#" and n not in idle]


def duplicates(files: list[Path]) -> list[str]:
    """Return where a run of DUPLICATE_LINES code lines stands a second time."""
    first, found = {}, []
    for file in files:
        lines = code_lines(file)
        for i in range(len(lines) - DUPLICATE_LINES + 1):
            block = tuple(text for _, text in lines[i : i + DUPLICATE_LINES])
            here = f"{file.name}:{lines[i][0]}"
            if first.setdefault(block, here) != here:
                found.append(f"{here} repeats {first[block]}")
    return found


def test_no_code_stands_twice():
    assert not duplicates(PYTHON)


def test_the_duplicate_gate_sees_a_pasted_block(tmp_path):
    block = "".join(f"value_{i} = {i}\n" for i in range(DUPLICATE_LINES))
    once, twice = tmp_path / "once.py", tmp_path / "twice.py"
    once.write_text(block)
    twice.write_text(
        f"# moved and spaced out\n\nif True:\n{block}".replace("\nvalue", "\n\n    value")
    )
    assert duplicates([once]) == []
    assert duplicates([once, twice]) == ["twice.py:5 repeats once.py:1"]
