from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from catalog.command import UsageError
from catalog.config import Settings, digest, load_config, to_yaml
from catalog.strict_yaml import parse_yaml


@dataclass(frozen=True)
class Loop:
    steps: int = 3
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, must be at least 1")


@dataclass(frozen=True)
class Small:
    kind: Literal["small"] = "small"
    width: int = 1


@dataclass(frozen=True)
class Deep:
    kind: Literal["deep"] = "deep"
    depth: int = 1


class Source(Settings):
    path: Path | None = None
    sample_rate: int = Field(16000, gt=0)


class Job(Settings):
    name: str
    loop: Loop = Loop()
    sources: tuple[Source, ...] = ()
    by_name: dict[str, Source] = Field(default_factory=dict)
    learning_rate: float = 1e-3
    model: Small | Deep = Small()
    language: str = "en"
    register_as: str | None = Field(None, alias="register")


def load(*overrides: str) -> Job:
    return load_config(Job, None, ["name=x", *overrides])


def test_precedence(tmp_path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: file\nloop: {steps: 5}\nlanguage: de\n")
    config = load_config(Job, path, ["loop.steps=7"], {"language": "fr", "loop": {"betas": [0.5, 0.6]}})
    assert (config.name, config.language, config.loop) == ("file", "de", Loop(7, (0.5, 0.6)))
    with pytest.raises(ValidationError):
        config.name = "other"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("language=no", "language", "no"),
        ("learning_rate=1e-4", "learning_rate", 1e-4),
        ("learning_rate=3", "learning_rate", 3.0),
        ("sources=[{path: a/b}]", "sources", (Source(path=Path("a/b")),)),
        ("by_name.left.sample_rate=8000", "by_name", {"left": Source(sample_rate=8000)}),
        ("model={kind: deep, depth: 4}", "model", Deep(depth=4)),
        ("register=voice", "register_as", "voice"),
        ("register=", "register_as", None),
    ],
)
def test_overrides(override, key, value) -> None:
    assert getattr(load(override), key) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.stpes=3", "--set: unknown key loop.stpes; did you mean steps?"),
        ("lop=3", "--set: unknown key lop; did you mean loop?"),
        ("by_name.left.zzz=3", "--set: unknown key by_name.left.zzz; known: path, sample_rate"),
        ("sources=[{smple_rate: 1}]", "--set: unknown key sources.0.smple_rate; did you mean sample_rate?"),
        ("by_name.left.rate=1", "--set: unknown key by_name.left.rate; known: path, sample_rate"),
        ("model={kind: deep, width: 3}", "--set: unknown key model.width; did you mean depth?"),
        ("loop.steps='8'", "--set: loop.steps = '8': input should be a valid integer"),
        ("loop.steps=true", "--set: loop.steps = True: input should be a valid integer"),
        ("loop.steps=0", "settings: loop: steps is 0, must be at least 1"),
        ("loop.betas=[1]", "--set: loop.betas.1 is required and missing"),
        ("sources=[{sample_rate: 0}]", "--set: sources.0.sample_rate = 0: input should be greater than 0"),
        ("learning_rate=.nan", "--set: learning_rate = nan: input should be a finite number"),
        ("model.kind=wide", "--set: model.kind = 'wide': input should be 'small' or input should be 'deep'"),
        ("model.depth=x", "--set: model.depth = 'x': input should be a valid integer"),
        ("language", "--set language: must be a.b=value"),
        (".a=1", "--set .a=1: must be a.b=value"),
        ("name.a=1", "--set name.a=1: name is 'x', which has no keys"),
        (
            "loop=[1",
            "--set loop: not valid YAML at line 1, column 3: expected ',' or ']', but got '<stream end>'",
        ),
    ],
)
def test_refusals(override, message) -> None:
    with pytest.raises(UsageError) as error:
        load(override)
    assert str(error.value) == message


def test_unknown_keys_are_found_behind_annotations() -> None:
    class Annotations(Settings):
        sources: tuple[Annotated[Source, "voices"], ...] = ()
        model: Annotated[Small | Deep, Field(description="of the two")] = Small()

    for override, message in (
        ("sources=[{smple_rate: 1}]", "--set: unknown key sources.0.smple_rate; did you mean sample_rate?"),
        ("model={kind: deep, width: 3}", "--set: unknown key model.width; did you mean depth?"),
    ):
        with pytest.raises(UsageError) as error:
            load_config(Annotations, None, [override])
        assert str(error.value) == message


def test_missing_key_names_the_file(tmp_path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("# nothing\n")
    with pytest.raises(UsageError) as error:
        load_config(Job, path)
    assert str(error.value) == f"{path}: name is required and missing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: x\nlanguage: \xe9t\xe9\n", "not UTF-8 at byte 18 (line 2); save the file as UTF-8"),
        (b"name: x\n bad: y\n", "not valid YAML at line 2, column 5: mapping values are not allowed here"),
        (b"name: x\nname: y\n", "not valid YAML at line 2, column 1: name is given twice"),
        (b"1: x\n", "not valid YAML at line 1, column 1: a key must be text"),
        (b"- a\n", "holds a list; the file must be a mapping of keys to values"),
        (
            b"name: !!python/name:os.system\n",
            "not valid YAML at line 1, column 7: could not determine a constructor",
        ),
    ],
)
def test_bad_files(content, message, tmp_path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        load_config(Job, path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"job.yaml: No such file or directory$"):
        load_config(Job, tmp_path / "job.yaml")


@given(
    st.builds(
        Job,
        name=st.text(),
        loop=st.builds(Loop, st.integers(1, 10**9), st.tuples(st.floats(0, 1), st.floats(0, 1))),
        sources=st.lists(
            st.builds(Source, path=st.none() | st.just(Path("a b")), sample_rate=st.integers(1, 10**6))
        ),
        by_name=st.dictionaries(st.text(), st.just(Source()), max_size=2),
        learning_rate=st.floats(allow_nan=False, allow_infinity=False),
        model=st.builds(Deep, depth=st.integers()) | st.just(Small()),
        language=st.sampled_from(
            ["no", "on", "1e3", "0x10", "1:30", "2020-01-01", "~", "null", "true", "é", ""]
        ),
        register=st.none() | st.text(),
    )
)
@settings(deadline=None)
@example(Job(name="line\x85break\u2028", register="\x85"))
def test_yaml_reads_back(tmp_path_factory, config) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(Job, path) == config


@pytest.mark.parametrize("text", ["yes", "off", "1:30", "2020-01-01", "0x1F", "1_000"])
def test_yaml_1_2_text(text) -> None:
    assert parse_yaml(text, "") == text


def test_yaml_1_2_numbers() -> None:
    assert parse_yaml("[010, 1e3, -.5, .inf, ~, True]", "") == [10, 1000.0, -0.5, float("inf"), None, True]


json_values = (
    st.none() | st.booleans() | st.integers() | st.text() | st.dictionaries(st.text(), st.integers())
)


@given(st.dictionaries(st.text(), json_values))
@settings(deadline=None)
def test_digest_does_not_depend_on_order(mapping) -> None:
    assert digest(mapping) == digest(dict(reversed(mapping.items())))
    assert digest(mapping) != digest({**mapping, "another": mapping})


def test_digests_of_settings_that_are_stored_stay_what_they_are() -> None:
    canonical = '{"a":{"c":[1,2.5,null],"d":true},"b":"é"}'
    given = {"b": "é", "a": {"d": True, "c": [1, 2.5, None]}}
    assert digest(given) == hashlib.sha256(canonical.encode()).hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"a": float("nan")})
