"""A source's licence: stated by its card or a file, else nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.sources.licence import stated_licence

CARD = "---\nlanguage: en\nlicense: cc-by-4.0\n---\n# Voices\n"


@pytest.mark.parametrize(
    ("files", "stated"),
    [
        ({"README.md": CARD, "LICENSE": "MIT License\n"}, "cc-by-4.0"),
        ({"README.md": "---\nlicense: [mit, cc0-1.0]\n---"}, "mit, cc0-1.0"),
        ({"README.md": "# License: mine\n", "LICENCE.txt": "\n  # Public domain\nmore\n"}, "Public domain"),
        ({"README.md": "---\nlicense: [\n---\n"}, None),
        ({"README.md": "---\n- license\n---\n", "COPYING": "\n \n"}, None),
        ({"LICENSE": "x" * 1000}, "x" * 120),
        ({}, None),
    ],
)
def test_what_a_folder_states(files: dict[str, str], stated: str | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert stated_licence(tmp_path.as_uri()) == stated
    (tmp_path / "metadata.csv").write_text("file\n")
    assert stated_licence((tmp_path / "metadata.csv").as_uri()) == stated


def test_what_lies_elsewhere_states_nothing() -> None:
    assert stated_licence("s3://bucket/voices") is None
    assert stated_licence("file:///nowhere/at/all") is None
