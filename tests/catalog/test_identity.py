"""The identity of a dataset's rows, as its table keeps it and as messages tell differences."""

from __future__ import annotations

import dataclasses
import json

import pytest

from catalog.command import UsageError
from catalog.config import digest
from catalog.identity import Identity, columns_from_json, columns_to_json
from models.identity import TokenIdentity

LATENTS = TokenIdentity("encoder", "1", "11ee", 16000, 320, 0, 0, channels=4)
TOKENS = TokenIdentity("semantic", "2", "22ee", 16000, 640, 1, 50)
SETTINGS = {"text": "as given", "segmentation": {"max_s": 30.0, "nothing": {}}, "language": "no"}


@pytest.fixture
def identity(codec: TokenIdentity) -> Identity:
    return Identity(codec, SETTINGS, {"semantic_codes": TOKENS, "latents": LATENTS})


def test_a_table_keeps_it_in_these_properties(identity: Identity, codec: TokenIdentity) -> None:
    found = identity.to_configuration()
    assert set(found) == {
        "speechmill.codec",
        "speechmill.settings",
        "speechmill.settings_digest",
        "speechmill.columns",
    }
    assert json.loads(found["speechmill.codec"])["name"] == "toy"
    assert found["speechmill.settings"].splitlines()[0] == "text: as given", "in the order given, as YAML"
    assert found["speechmill.settings_digest"] == digest(SETTINGS) == identity.settings_digest
    assert list(json.loads(found["speechmill.columns"])) == ["latents", "semantic_codes"]
    assert Identity.from_configuration(found) == identity
    plain = Identity(codec, {})
    assert "speechmill.columns" not in plain.to_configuration()
    assert Identity.from_configuration(plain.to_configuration()) == plain
    with pytest.raises(KeyError, match=r"speechmill\.codec"):
        Identity.from_configuration({})
    with pytest.raises(UsageError, match=r"^speechmill\.settings: not valid YAML at line 1"):
        Identity.from_configuration(found | {"speechmill.settings": "{"})


def test_makers_of_columns_come_back(identity: Identity) -> None:
    assert columns_from_json(columns_to_json(identity.columns)) == identity.columns
    assert columns_to_json(identity.columns) == columns_to_json(dict(reversed(identity.columns.items())))


def test_every_difference_is_told_with_both_values(identity: Identity, codec: TokenIdentity) -> None:
    assert identity.differences(identity) == []
    assert (
        identity.differences(dataclasses.replace(identity, settings=dict(reversed(SETTINGS.items())))) == []
    )
    other = Identity(
        dataclasses.replace(codec, edition="2"),
        {"text": "none", "segmentation": {"max_s": 30.0, "nothing": {"x": 1}}, "new": None},
        {"latents": dataclasses.replace(LATENTS, edition="3")},
    )
    assert identity.differences(other) == [
        "codec.edition is '1', this job has '2'",
        "text is 'as given', this job has 'none'",
        "segmentation.nothing is {}, this job has None",
        "language is 'no', this job has None",
        f"columns.semantic_codes is 'semantic@2 ({TOKENS.digest[:12]})', this job has None",
        f"columns.latents is 'encoder@1 ({LATENTS.digest[:12]})', "
        f"this job has 'encoder@3 ({other.columns['latents'].digest[:12]})'",
        "segmentation.nothing.x is None, this job has 1",
    ]


def test_columns_of_a_file_are_told_in_the_order_of_their_names(
    identity: Identity, codec: TokenIdentity
) -> None:
    right = {"semantic_codes": TOKENS.digest, "latents": LATENTS.digest}
    assert identity.column_differences(right) == []
    assert identity.column_differences({"semantic_codes": "0123456789abcdef"}) == [
        f"has no latents; the dataset's is made by encoder@1 ({LATENTS.digest[:12]})",
        f"semantic_codes is made by another than the dataset's semantic@2 ({TOKENS.digest[:12]}) "
        "(its digest is 0123456789ab)",
    ]
    assert Identity(codec, {}).column_differences(right) == [
        "has latents, which the dataset does not have; declare the column first",
        "has semantic_codes, which the dataset does not have; declare the column first",
    ]
