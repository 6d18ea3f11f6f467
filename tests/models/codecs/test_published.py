"""The table of published codecs agrees with the architectures; weights come from a path or from the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.codecs.dac.network import PRESETS
from models.codecs.hub import local_or_hub
from models.codecs.maskgct_acoustic.network import MaskGCTAcousticConfig
from models.codecs.published import PUBLISHED, Published, published
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.transformers.load import KINDS


def named(name: str) -> Published:
    found = published(name)
    assert found is not None
    return found


@pytest.mark.parametrize("config", [SpeechTokenizerConfig(), MaskGCTAcousticConfig()])
def test_our_architectures_have_the_published_sizes_by_default(config: Any) -> None:
    one = named({16_000: "speechtokenizer", 24_000: "maskgct-acoustic"}[config.sample_rate])
    sizes = (config.sample_rate, config.hop_length, config.n_codebooks, config.codebook_size)
    assert sizes == (one.sample_rate, one.hop_length, one.n_codebooks, one.codebook_size)


@pytest.mark.parametrize("rate", ["16khz", "24khz", "44khz"])
def test_dac(rate: str) -> None:
    one, preset = named(f"dac-{rate}"), PRESETS[rate]
    assert (one.sample_rate, one.hop_length, one.n_codebooks) == (
        preset.sample_rate,
        preset.hop_length,
        preset.n_codebooks,
    )


@pytest.mark.parametrize(
    ("name", "kind", "config"),
    [
        ("encodec-24khz", "encodec", "EncodecConfig"),
        ("mimi-24khz", "mimi", "MimiConfig"),
        ("xcodec-16khz", "xcodec", "XcodecConfig"),
        ("xcodec2-16khz", "xcodec2", "Xcodec2Config"),
    ],
)
def test_transformers_defaults_are_the_published_sizes(name: str, kind: str, config: str) -> None:
    import transformers

    one = named(name)
    sizes = KINDS[kind].sizes(getattr(transformers, config)())
    assert sizes[:4] == (one.sample_rate, one.hop_length, one.n_codebooks, one.codebook_size)


def test_bit_rates() -> None:
    assert named("encodec-24khz").identity.kbit_s() == 24
    assert [named("facebook/encodec_24khz").identity.kbit_s(levels) for levels in (2, 4, 8, 16)] == [
        1.5,
        3,
        6,
        12,
    ]
    assert named("mimi-24khz").identity.kbit_s(8) == pytest.approx(1.1)
    assert named("xcodec2-16khz").identity.kbit_s() == 0.8
    assert named("speechtokenizer").identity.kbit_s() == 4


def test_terms_that_are_not_stated_are_not_called_free() -> None:
    for one in PUBLISHED:
        assert (one.licence == "") == (one.use == "unstated"), one.name
        assert ("NC" in one.licence) == (one.use == "non-commercial"), one.name
    assert published("opus") is None


def test_a_path_is_taken_as_it_is_and_other_words_are_refused(tmp_path: Path) -> None:
    assert local_or_hub(str(tmp_path)) == tmp_path
    for source in ("opus", "a/b/c", "", "/nowhere/at/all"):
        with pytest.raises(ValueError, match=f"{source!r} is no path that exists, and no id OWNER/NAME"):
            local_or_hub(source)


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[Any] = []

    def out_of_reach(repository: str, **given: Any) -> str:
        asked.append((repository, given["revision"]))
        raise LocalEntryNotFoundError("no\nconnection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", out_of_reach)
    with pytest.raises(
        ValueError, match=r"owner/name is no path .* cannot be fetched from the hub: no connection"
    ):
        local_or_hub("owner/name", "main")
    assert asked == [("owner/name", "main")]

    fetched: Callable[..., str] = lambda _repository, **_given: str(tmp_path)  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert local_or_hub("owner/name") == tmp_path
