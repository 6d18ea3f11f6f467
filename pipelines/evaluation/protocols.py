"""Published lists of sentences, prompts and references, read from a local copy.

A preset gives the rows of `evaluate`'s input: `id`, `text`, `prompt`, `prompt_text`, `reference`, `language`. A row
that cannot be used has a `problem`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from catalog.command import UsageError
from pipelines.execution.requests import read_lines
from pipelines.rows import Row

SHORTEST_S, LONGEST_S = 4.0, 10.0
"""Of LibriSpeech's utterances (Wang et al. 2023, VALL-E, arXiv:2301.02111, section 5.1)."""
_LANGUAGES = ("en", "zh")


def seed_tts(path: Path) -> list[Row]:
    """A list of Seed-TTS (BytedanceSpeech/seed-tts-eval), `meta.lst` or the folder that has it.

    Lines are `id|prompt_text|prompt_wav|text[|reference_wav]`, files from the list's folder, whose name is the language
    if it is `en` or `zh`. UsageError for a list that cannot be read.
    """
    listing = path / "meta.lst" if path.is_dir() else path
    language = listing.absolute().parent.name
    given = {"language": language} if language in _LANGUAGES else {}
    return [_seed_tts_row(listing, number, line) | given for number, line in read_lines(listing, ".lst .txt")]


def _seed_tts_row(listing: Path, number: int, line: str) -> Row:
    fields = [field.strip() for field in line.split("|")]
    if len(fields) not in (4, 5):
        rule = "must be id|prompt_text|prompt_wav|text[|reference_wav]"
        return {"id": f"{number:06d}", "text": "", "problem": f"line {number}: {line!r:.60}: {rule}"}
    name, prompt_text, prompt, text = fields[:4]
    row = {"id": name, "text": text, "prompt": str(listing.parent / prompt), "prompt_text": prompt_text}
    return row | ({"reference": str(listing.parent / fields[4])} if fields[4:] and fields[4] else {})


def librispeech(path: Path) -> list[Row]:
    """Utterances of 4 to 10 s of LibriSpeech's test-clean, each spoken again.

    The prompt is the speaker's next utterance of 4 to 10 s in the order of ids, the first after the last, whole and
    with its text: the publication draws it and cuts 3 s, for which there is no text. Texts are lower case, since the
    capitals of the corpus mean nothing. UsageError where there are no transcripts.
    """
    root = path / "test-clean" if (path / "test-clean").is_dir() else path
    transcripts = sorted(root.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise UsageError(f"{path}: no SPEAKER/CHAPTER/*.trans.txt; give LibriSpeech's folder test-clean")
    by_speaker: dict[str, list[Row]] = {}
    rows: list[Row] = []
    for transcript in transcripts:
        for row in _utterances(transcript):
            if "problem" in row:
                rows.append(row)
            elif SHORTEST_S <= row.pop("seconds") <= LONGEST_S:
                by_speaker.setdefault(transcript.parent.parent.name, []).append(row)
    for speaker, spoken in by_speaker.items():
        for row, other in zip(spoken, [*spoken[1:], spoken[0]], strict=True):
            prompt = {"prompt": other["reference"], "prompt_text": other["text"]}
            alone = {"problem": f"speaker {speaker} has no other utterance of 4 to 10 s for a prompt"}
            rows.append(row | (alone if other is row else prompt))
    return sorted(rows, key=lambda row: str(row["id"]))


def _utterances(transcript: Path) -> Iterator[Row]:
    import soundfile

    for number, line in read_lines(transcript, ".txt"):
        name, _, text = line.strip().partition(" ")
        recording = transcript.parent / f"{name}.flac"
        row: Row = {"id": name, "text": text.lower(), "language": "en", "reference": str(recording)}
        try:
            info = soundfile.info(str(recording))
        except (OSError, RuntimeError):
            problem = f"{transcript.name}, line {number}: {recording} cannot be read"
            yield row | {"problem": problem, "reference": None}
            continue
        yield row | {"seconds": info.frames / info.samplerate}


PRESETS: Mapping[str, Callable[[Path], list[Row]]] = {
    "seed-tts": seed_tts,
    "librispeech-test-clean": librispeech,
}
