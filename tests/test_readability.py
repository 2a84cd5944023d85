"""The code and its documentation keep the limits of tests/readability.py, which measures rightly."""

import pytest

from tests import readability


def test_each_figure_keeps_its_limit() -> None:
    measures = {measure.name: measure for measure in readability.measures()}
    assert set(readability.LIMITS) <= set(measures)
    for measure in measures.values():
        places = "\n  ".join(map(str, measure.places))
        assert measure.holds, f"{measure.name}: {measure.value:.1f}{measure.unit}, not {measure.limit}\n  {places}"


def test_a_sentence_ends_at_a_full_stop_an_item_a_cell_and_an_empty_line() -> None:
    text = """First one, e.g. this. What is
second? `Who. What` is code.

- An item
  of two lines
- Another

| A cell | Who |
"""
    assert list(readability.split_sentences(text)) == [
        (0, "First one, e.g. this."),
        (0, "What is second?"),
        (1, "X is code."),
        (3, "An item of two lines"),
        (5, "Another"),
        (7, "A cell"),
        (7, "Who"),
    ]


def test_the_prose_of_a_module_is_its_docstrings_and_comments() -> None:
    source = '''"""A module."""

# One comment,
# of two lines.
VALUE = "# no comment"  # noqa: S105, S106  what a test has
OTHER = 1  # type: ignore[misc]


def function() -> None:
    """Return it.

    Who knows.
    """
'''
    assert sorted(readability.python_texts(source)) == [
        (1, "A module."),
        (3, "One comment,\nof two lines."),
        (5, "what a test has"),
        (6, ""),
        (10, "Return it.\n\nWho knows.\n"),
    ]


def test_the_prose_of_sql_is_its_comments_and_that_of_markdown_is_all_but_code() -> None:
    assert list(readability.sql_texts("-- One,\n-- two.\nselect 1  -- three\n")) == [(1, "One,\ntwo."), (3, "three")]
    ((_, text),) = readability.markdown_texts("Before\n```sh\n# What\n```\n<!-- Who -->\nafter\n")
    assert text.split() == ["Before", "after"]


@pytest.mark.parametrize("name", ["parked", "told_time", "_given", "found", "_known_by", "embedded_postgres"])
def test_a_name_that_opens_with_a_participle_is_found(name: str) -> None:
    assert readability.is_participle(name)


@pytest.mark.parametrize("name", ["need_email", "feed", "_embed", "seed_table", "park", "is_parked", "read", "red"])
def test_a_verb_that_ends_like_a_participle_is_none(name: str) -> None:
    assert not readability.is_participle(name)


def test_a_property_may_be_a_participle() -> None:
    source = """
class Event:
    parked: bool

    @property
    def told(self): ...

    @functools.cached_property
    def given(self): ...

    def seen(self): ...
"""
    assert [name for _, name in readability.participles(readability.list_nodes(source))] == ["seen"]


def test_bounds_complexity_and_nested_conditionals_are_found() -> None:
    nodes = readability.list_nodes(
        "MOST = 1\n_LEAST_SECONDS: int = 2\nMAX_IDS = 3\nMOSTLY = 4\nx = 1 if a else (2 if b else 3)\n"
    )
    assert list(readability.bounds(nodes, readability.OLD_BOUNDS)) == [(1, "MOST"), (2, "_LEAST_SECONDS")]
    assert list(readability.bounds(nodes, readability.BOUNDS)) == [(3, "MAX_IDS")]
    assert [line for line, _ in readability.nested_conditionals(nodes)] == [5]
    branches = "".join(f"    if x == {number}: pass\n" for number in range(10))
    functions = readability.list_nodes(f"def simple(x):\n    pass\ndef hard(x):\n{branches}")
    assert list(readability.complex_functions(functions)) == [(3, "hard 11")]


def test_code_lines_hold_code() -> None:
    source = '"""Docstring."""\n\n# Comment.\nVALUE = [\n    1,\n]\n\nTEXT = """\n\n"""\n'
    assert readability.Module("m", source).code_lines == 6
