"""Parameters declared once: the tab, the API, the command line and validation read one place.

A method's file says, for example:

    @dataclass(frozen=True)
    class DiffEditParams:
        strength: float = ranged(0.7, 0.1, 1.0, 0.05, "encoding ratio r")
        solver: str = choice("ddim", "ddim", "dpm2m", help="how the ODE is followed")

and whoever has values from outside calls `build(DiffEditParams, {"strength": 0.5})`.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipelines.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kind = Literal["int", "float", "choice", "flag", "text"]
Number = int | float
P = TypeVar("P", bound="DataclassInstance")

_KEY = "param"  # where a dataclass field's metadata holds its declaration
MAX_TEXT = 1000  # characters of a text parameter
_DECIMALS = 9  # more than any step has: 0.1 + 4 * 0.05 becomes 0.3 again


@dataclass(frozen=True)
class ParamSpec:
    """One parameter as every reader needs it.

    Attributes:
        kind: "int" or "float" (low, high, step hold), "choice" (options hold), "flag" or "text".
        help: one phrase for the visitor, units included.
        among: "clips" where the roles of the pack's dual encoders are options too; whoever knows
            the pack adds them, and refuses what it has not (`leases`).
    """

    name: str
    label: str
    kind: Kind
    default: Number | str | bool
    low: Number | None
    high: Number | None
    step: Number | None
    options: tuple[str, ...]
    help: str
    among: str = ""


@dataclass(frozen=True)
class _Declared:
    kind: Kind
    help: str
    label: str
    low: Number | None = None
    high: Number | None = None
    step: Number | None = None
    options: tuple[str, ...] = ()
    among: str = ""


def ranged(
    default: Number, low: Number, high: Number, step: Number, help: str, label: str = ""
) -> Any:
    """Declare a number in [low, high] on the grid low + k * step.

    The parameter is an integer if all four numbers are. `label` defaults to the field's name.

    Raises:
        ValueError: the default or `high` is not on the grid, or the range is empty.
    """
    whole = all(isinstance(number, int) for number in (default, low, high, step))
    declared = _Declared("int" if whole else "float", help, label, low, high, step)
    if not (step > 0 and low < high) or _on_grid(high, declared) != high:
        raise ValueError(f"no grid from {low} to {high} in steps of {step}")
    if not low <= default <= high or _on_grid(default, declared) != default:
        raise ValueError(f"default {default} is not on the grid {low}, {low + step}, ... {high}")
    return field(default=default, metadata={_KEY: declared})


def choice(default: str, *options: str, help: str = "", label: str = "", among: str = "") -> Any:
    """Declare one of several strings; `among` as in `ParamSpec`.

    Raises:
        ValueError: the default is not among the options, or an option is listed twice.
    """
    if default not in options or len(set(options)) < len(options):
        raise ValueError(f"default {default!r} must be one of the different options {options}")
    declared = _Declared("choice", help, label, options=options, among=among)
    return field(default=default, metadata={_KEY: declared})


def flag(default: bool, help: str, label: str = "") -> Any:
    """Declare a switch."""
    return field(default=default, metadata={_KEY: _Declared("flag", help, label)})


def text(help: str, label: str = "") -> Any:
    """Declare words of the visitor's own; none unless given."""
    return field(default="", metadata={_KEY: _Declared("text", help, label)})


def specs(params_class: type[DataclassInstance]) -> tuple[ParamSpec, ...]:
    """Return the parameters of a class in the order of their declaration.

    Raises:
        ValueError: a field was declared without `ranged`, `choice`, `flag` or `text`.
    """
    return tuple(_spec(params_class, item) for item in fields(params_class))


def build(params_class: type[P], values: Mapping[str, object]) -> P:
    """Return `params_class` with `values` checked one by one and the rest at their defaults.

    Numbers off the grid move to the nearest grid point; everything else that is not exactly
    right is refused: NaN, infinities, None, booleans as numbers, numbers as strings, lists,
    numbers outside the range, unknown options and unknown names.

    Raises:
        InputError: one sentence that names the parameter by its label. It never repeats text
            that came from outside.
    """
    known = {spec.name: spec for spec in specs(params_class)}
    if any(name not in known for name in values):
        names = ", ".join(known) or "none"  # labels would not help whoever sends names
        raise InputError(f"A parameter is not known here. The parameters are: {names}.")
    return params_class(**{name: _checked(value, known[name]) for name, value in values.items()})


def to_dict(params: DataclassInstance) -> dict[str, Number | str | bool]:
    """Return {name: value}, ready for JSON; `build` takes it back."""
    return {item.name: getattr(params, item.name) for item in fields(params)}


def _spec(params_class: type[DataclassInstance], item: Field[Any]) -> ParamSpec:
    declared = item.metadata.get(_KEY)
    if declared is None or item.default is MISSING:
        where = f"{params_class.__name__}.{item.name}"
        raise ValueError(f"{where} must be declared with ranged, choice, flag or text")
    return ParamSpec(
        name=item.name,
        label=declared.label or item.name.replace("_", " ").capitalize(),
        kind=declared.kind,
        default=item.default,
        low=declared.low,
        high=declared.high,
        step=declared.step,
        options=declared.options,
        help=declared.help,
        among=declared.among,
    )


def _on_grid(number: Number, declared: _Declared | ParamSpec) -> Number:
    """Return the grid point nearest to a finite number in the range."""
    assert declared.low is not None and declared.step is not None
    nearest = declared.low + round((number - declared.low) / declared.step) * declared.step
    return int(nearest) if declared.kind == "int" else round(float(nearest), _DECIMALS)


def _checked(value: object, spec: ParamSpec) -> Number | str | bool:
    if spec.kind == "flag":
        if not isinstance(value, bool):
            raise InputError(f"{spec.label} must be on or off.")
        return value
    if spec.kind == "choice":
        if not isinstance(value, str) or not (value in spec.options or _may_be_role(value, spec)):
            raise InputError(f"{spec.label} must be one of: {', '.join(spec.options)}.")
        return value
    if spec.kind == "text":
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise InputError(f"{spec.label} must be a text of at most {MAX_TEXT} characters.")
        return " ".join(value.split())
    return _checked_number(value, spec)


def _may_be_role(value: str, spec: ParamSpec) -> bool:
    return bool(spec.among) and re.fullmatch("[a-z0-9_]{1,40}", value) is not None


def _checked_number(value: object, spec: ParamSpec) -> Number:
    assert spec.low is not None and spec.high is not None
    allowed = f"{spec.label} must be a number from {spec.low:g} to {spec.high:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{allowed}.")
    try:
        number = float(value)
    except OverflowError:  # an integer too long for a float is as far out of range as infinity
        number = math.inf
    if math.isnan(number):
        raise InputError(f"{allowed}; a value that is not a number was given.")
    if not spec.low <= number <= spec.high:
        raise InputError(f"{allowed}; {number:g} was given.")
    return _on_grid(number, spec)
