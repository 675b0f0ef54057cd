"""Imports point one way: app -> registry -> methods -> shared parts; contracts know no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.registry import METHODS

ROOT = Path(__file__).parents[1]
CONTRACTS = {"errors", "results", "params", "registry", "packs"}
METHOD_FILES = {method.function.split(":")[0].split(".")[1] for method in METHODS.values()}
ORCHESTRATION = {"registry", "packs", "packs_check", "model_cache", "leases", "text_edit"}
ORCHESTRATION |= {"workbench", "inspection", "sentences", "easel", "gallery"}  # what the page calls
ORCHESTRATION |= {"retrieval_desk", "edit_numbers", "visits"}
ORCHESTRATION |= {"prompt_notes", "estimates", "zerogpu"}
ORCHESTRATION |= {"faces", "face_sources", "face_numbers", "face_orders", "direction_training"}
SCRIPTS = {"training", "benchmarks"}
HEAVY = ("torch", "diffusers", "transformers", "numba", "matplotlib")
FILES = sorted((ROOT / "pipelines").rglob("*.py"))


def part(module: str) -> str:
    """`pipelines.diffusion.ddim` -> `diffusion`."""
    return module.split(".")[1] if "." in module else ""


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(file: Path) -> set[str]:
    """Every module the file imports anywhere, as absolute dotted names."""
    names: set[str] = set()
    package = module_name(file) if file.name == "__init__.py" else module_name(file.parent)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(parents if node.level else []), node.module or ""]).strip(".")
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def forbidden_parts(of: str) -> set[str]:
    """Parts of `pipelines` that this part must not import."""
    if of in SCRIPTS:
        return set()
    if of in ORCHESTRATION - CONTRACTS:
        return SCRIPTS
    return SCRIPTS | ORCHESTRATION | METHOD_FILES - {of}  # methods share downwards, not sideways


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_imports_point_downwards(file):
    names = imported(file)
    assert not {name for name in names if name.split(".")[0] in ("gradio", "app", "tests")}
    ours = {part(name) for name in names if name.startswith("pipelines")}
    assert not ours & forbidden_parts(part(module_name(file))) - {part(module_name(file))}


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_contracts_never_import_torch(name):
    roots = {name.split(".")[0] for name in imported(ROOT / "pipelines" / f"{name}.py")}
    assert not roots & set(HEAVY)


def test_the_package_itself_imports_nothing():
    assert imported(ROOT / "pipelines" / "__init__.py") == set()


def heavy_modules_after(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter; return which heavy packages it brought in."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_contracts_and_services_load_without_torch():
    names = sorted(CONTRACTS | {"memo", "devices", "images", "model_cache", "hub", "packs_check"})
    assert heavy_modules_after(f"from pipelines import {', '.join(names)}") == set()


def test_declared_parameters_load_without_torch():
    """The page is built from them before any model is needed."""
    read_all = "[method.load_params() for method in registry.METHODS.values()]"
    assert heavy_modules_after(f"from pipelines import registry\n{read_all}") == set()


def test_app_loads_without_torch():
    assert heavy_modules_after("import app") == set()


def test_relative_and_nested_imports_are_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "pipelines" / "diffusion" / "ddim.py"
    file.parent.mkdir(parents=True)
    file.write_text("def f():\n    from ..registry import METHODS\n    from . import schedule\n")
    assert {"pipelines.registry", "pipelines.diffusion.schedule"} <= imported(file)
