import dataclasses
import inspect

import pytest

from pipelines import params
from pipelines.registry import METHODS, methods

NAMES = [
    "diffedit",
    "flexit",
    "diffedit_no_encode",
    "encode_decode",
    "prompt_to_prompt",
    "sdedit",
    "copy",
    "encode",
]


def test_text_edit_methods_in_the_order_shown():
    assert [method.name for method in methods("text_edit")] == NAMES
    assert methods("no such tab") == ()


def test_keys_are_names():
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
class TestEveryMethod:
    def test_function_has_the_signature_of_its_tab(self, method):
        arguments = inspect.signature(method.load()).parameters
        given, named = {
            "text_edit": (
                ["model", "images", "source", "target", "params"],
                {"seeds", "on_step", "memo", "masks"},
            ),
            "layouts": (["model", "layouts", "params"], {"seeds", "on_step"}),
            "retrieval": (["index", "image_embeds", "deltas"], {"scale", "k", "itself"}),
        }[method.tab]
        positional = [n for n, a in arguments.items() if a.kind is a.POSITIONAL_OR_KEYWORD]
        assert positional == given
        assert {n for n, a in arguments.items() if a.kind is a.KEYWORD_ONLY} >= named

    def test_params_are_frozen_and_declared(self, method):
        params_class = method.load_params()
        assert dataclasses.is_dataclass(params_class)
        assert params_class.__dataclass_params__.frozen
        assert all(spec.help for spec in params.specs(params_class))
        assert params.build(params_class, {}) == params_class()

    def test_says_where_it_comes_from(self, method):
        assert "https://" in method.paper
        assert method.summary.endswith(".")
        assert len(method.summary) < 200
