"""YAML as settings and table properties hold it."""

from __future__ import annotations

import pytest

from catalog.command import UsageError
from catalog.strict_yaml import format_yaml, parse_yaml


def test_texts_are_quoted_only_where_they_would_be_read_as_something_else() -> None:
    value = {"b": "é", "a": {"no": "no", "number": "1e3", "none": "~"}, "list": [1, 0.5, None, True, "x y"]}
    text = (
        "b: é\n"
        "a:\n  'no': 'no'\n  number: '1e3'\n  none: '~'\n"
        "list:\n- 1\n- 0.5\n- null\n- true\n- x y\n"
    )  # fmt: skip
    assert format_yaml(value) == text
    assert parse_yaml(text, "") == value
    breaks = {"text": "a\x85b\u2028c\u2029d"}
    assert format_yaml(breaks) == 'text: "a\\Nb\\Lc\\Pd"\n'
    assert parse_yaml(format_yaml(breaks), "") == breaks


def test_a_mapping_may_take_over_another() -> None:
    text = "base: &base {x: 1, y: {z: 2}}\nmore: {<<: *base, x: 3}\n"
    assert parse_yaml(text, "") == {"base": {"x": 1, "y": {"z": 2}}, "more": {"x": 3, "y": {"z": 2}}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: \x07", "unacceptable character #x0007: special characters are not allowed in"),
        ("a: {b: 1, b: 2}", "at line 1, column 11: b is given twice"),
        ("a:\n  [1]: 2", "at line 2, column 3: a key must be text"),
        ("a: 1\n--- \nb: 2", "at line 2, column 1: but found another document"),
        ("a: *gone", "at line 1, column 4: found undefined alias 'gone'"),
    ],
)
def test_what_is_no_yaml_is_one_line_with_its_place(text: str, why: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_yaml(text, "job.yaml")
    said = str(error.value)
    assert said.startswith("job.yaml: not valid YAML")
    assert why in said
    assert "\n" not in said
