import json
import math
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np
import pytest

from pipelines import params
from pipelines.errors import InputError
from pipelines.params import choice, flag, ranged


@dataclass(frozen=True)
class Example:
    strength: float = ranged(0.7, 0.1, 1.0, 0.05, "encoding ratio")
    num_maps: int = ranged(10, 1, 20, 1, "noise draws", label="Maps")
    even: int = ranged(4, 2, 10, 2, "only even numbers")
    solver: str = choice("ddim", "ddim", "dpm2m", help="how the ODE is followed")
    refine: bool = flag(True, "grow the mask to the object's border")


def test_specs_say_everything_that_was_declared():
    strength, num_maps, _, solver, refine = params.specs(Example)
    assert (strength.name, strength.label, strength.kind) == ("strength", "Strength", "float")
    assert (strength.low, strength.high, strength.step) == (0.1, 1.0, 0.05)
    assert strength.help == "encoding ratio"
    assert (num_maps.label, num_maps.kind, num_maps.default) == ("Maps", "int", 10)
    assert (solver.kind, solver.options, solver.default) == ("choice", ("ddim", "dpm2m"), "ddim")
    assert (refine.kind, refine.default, refine.low) == ("flag", True, None)


def test_defaults_without_values():
    assert params.build(Example, {}) == Example()


def test_round_trip_through_json():
    built = params.build(Example, {"strength": 0.3, "solver": "dpm2m", "refine": False})
    assert params.build(Example, json.loads(json.dumps(params.to_dict(built)))) == built


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("strength", 0.31, 0.3),
        ("strength", 0.33, 0.35),
        ("strength", 1, 1.0),
        ("strength", np.float32(0.7), 0.7),
        ("strength", Fraction(1, 2), 0.5),
        ("num_maps", 5.37, 5),
        ("num_maps", 7.0, 7),
        ("num_maps", np.int64(7), 7),
        ("even", 8.9, 8),
        ("even", 9.1, 10),
    ],
)
def test_numbers_move_to_the_grid(name, given, kept):
    value = getattr(params.build(Example, {name: given}), name)
    assert value == kept
    assert type(value) is type(kept)


def test_every_grid_point_survives_exactly():
    for k in range(19):
        value = round(0.1 + 0.05 * k, 2)
        assert params.build(Example, {"strength": 0.1 + 0.05 * k}).strength == value


BAD_NUMBERS = [
    math.nan,
    math.inf,
    -math.inf,
    None,
    True,
    False,
    "7",
    "",
    [7],
    (0.5,),
    {"value": 7},
    0.5j,
    10**400,
    -(10**400),
    21,
    -1,
    0.04,
    np.float64("nan"),
    np.array(7),
    np.bool_(True),
    object(),
]


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=repr)
@pytest.mark.parametrize(("name", "label"), [("strength", "Strength"), ("num_maps", "Maps")])
def test_bad_numbers_get_a_sentence_with_the_label(name, label, value):
    with pytest.raises(InputError, match=rf"^{label} must be a number from [^\n]*\.$"):
        params.build(Example, {name: value})


@pytest.mark.parametrize("value", [None, 3, True, ["ddim"], "DDIM", "ddim ", np.array(["ddim"])])
def test_bad_choices_list_the_options(value):
    with pytest.raises(InputError, match=r"^Solver must be one of: ddim, dpm2m\.$"):
        params.build(Example, {"solver": value})


@pytest.mark.parametrize("value", [None, 0, 1, "yes", [], np.bool_(True)])
def test_bad_flags(value):
    with pytest.raises(InputError, match=r"^Refine must be on or off\.$"):
        params.build(Example, {"refine": value})


@pytest.mark.parametrize("name", ["Strength", "", "<script>", 5, None])
def test_unknown_names_are_refused_without_repeating_them(name):
    with pytest.raises(InputError) as caught:
        params.build(Example, {name: 1})
    assert "strength, num_maps, even, solver, refine" in str(caught.value)
    assert "script" not in str(caught.value)


def test_long_text_from_outside_is_never_repeated():
    for item in fields(Example):
        with pytest.raises(InputError) as caught:
            params.build(Example, {item.name: "<b>" + "x" * 200_000})
        assert len(str(caught.value)) < 200
        assert "<b>" not in str(caught.value)


@pytest.mark.parametrize(
    "numbers",
    [(0.5, 0.0, 1.0, 0.0), (0.5, 1.0, 0.0, 0.1), (2.0, 0.0, 1.0, 0.1), (0.55, 0.0, 1.0, 0.1)],
)
def test_declarations_off_their_own_grid_are_bugs(numbers):
    with pytest.raises(ValueError, match="grid"):
        ranged(*numbers, "")


def test_choice_needs_its_default_among_different_options():
    with pytest.raises(ValueError, match="default"):
        choice("mse", "MSE", "bce")
    with pytest.raises(ValueError, match="default"):
        choice("mse", "mse", "mse")


def test_a_field_without_declaration_is_a_bug():
    @dataclass(frozen=True)
    class Undeclared:
        strength: float = 0.5

    with pytest.raises(ValueError, match=r"Undeclared\.strength"):
        params.specs(Undeclared)
