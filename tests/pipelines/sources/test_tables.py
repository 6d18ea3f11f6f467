"""Tables as people write them: which rows, texts, speakers and languages they give, and which are refused by what."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.command import UsageError
from catalog.reasons import Reason
from pipelines.prepare.known import Known
from pipelines.prepare.pending import Listing, Planned
from pipelines.sources.interface import Recording
from pipelines.sources.metadata import describe_table
from pipelines.sources.open import described_tables, open_source
from pipelines.sources.table_cells import TableLineError, table_rows


def offered(folder: Path, content: str, name: str = "metadata.csv") -> list[Recording]:
    for stem in ("a1", "a2", "a3", "a4", "w001", "w002", "w003"):
        (folder / "wavs").mkdir(exist_ok=True)
        (folder / "wavs" / f"{stem}.wav").write_bytes(b"x")
    (folder / name).write_text(content, encoding="utf-8", newline="")
    return list(open_source(str(folder / name)).recordings())


NOTHING = pa.table({"recording_id": pa.array([], pa.string()), "source_digest": pa.array([], pa.string())})
FORMS = {
    "coqui": "audio_file|text|speaker_name\nwavs/a1.wav|hello there|anna\nwavs/a2.wav|good day|anna\n",
    "f5": "audio_file|text\nwavs/a1.wav|hello there\nwavs/a2.wav|good day\n",
    "ljspeech": "a1|hello there|hello there\na2|good day|good day\n",
    "ljspeech, first normalised empty": "a1|hello there|\na2|It is 9|good day\n",
    "styletts2": "a1.wav|hello there|7\na2.wav|good day|7\n",
    "xtts list": "wavs/a1.wav|hello there|anna\nwavs/a2.wav|good day|bob\n",
    "piper": "a1|7|hello there\na2|7|good day\n",
    "gpt-sovits": "wavs/a1.wav|anna|en|hello there\nwavs/a2.wav|anna|en|good day\n",
    "bert-vits2": "wavs/a1.wav|anna|EN|hello there|_ h|0 0|1 1\nwavs/a2.wav|anna|EN|good day|_ g|0 1|1 1\n",
    "common voice": "client_id\tpath\tsentence\tup_votes\tlocale\nanna\ta1.wav\thello there\t2\ten\n"
    "bob\ta2.wav\tgood day\t0\ten\n",
    "hugging face": "file_name,transcription\nwavs/a1.wav,hello there\nwavs/a2.wav,good day\n",
    "semicolons": "Path;Text;Speaker ID\nwavs/a1.wav;hello there;anna\nwavs/a2.wav;good day;anna\n",
    "csv without header": "wavs/a1.wav,hello there\nwavs/a2.wav,good day\n",
    "tabs without header": "wavs/a1.wav\thello there\nwavs/a2.wav\tgood day\n",
    "spaced pipes": "a1 | hello there | hello there\na2 | good day | good day\n",
    "spaced header": "file | text | speaker\na1.wav | hello there | anna\na2.wav | good day | anna\n",
    "quoted pipes": '"file"|"text"\n"a1.wav"|"hello there"\n"a2.wav"|"good day"\n',
    "spreadsheet": '\ufefffile_name,text\r\nwavs/a1.wav, "hello there"\r\nwavs/a2.wav,good day,\r\n,\r\n,\r\n',
    "backslashes": "file_name,text\nwavs\\a1.wav,hello there\n.\\wavs\\a2.wav,good day\n",
}
SPEAKERS = {"coqui": "anna", "styletts2": "7", "xtts list": "anna", "piper": "7", "gpt-sovits": "anna",
            "bert-vits2": "anna", "common voice": "anna", "semicolons": "anna", "spaced header": "anna"}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["metadata.csv", "train_list.txt", "all.list"])
def test_the_forms_people_have(tmp_path: Path, form: str, name: str) -> None:
    found = offered(tmp_path, FORMS[form], name)
    assert [one.uri for one in found[:1]] == [(tmp_path / "wavs" / "a1.wav").as_uri()]
    texts = ["hello there", "good day"]
    assert [(one.text, one.problem) for one in found] == [(text, None) for text in texts]
    assert found[0].speaker == SPEAKERS.get(form)
    assert found[0].language == {"gpt-sovits": "en", "bert-vits2": "EN", "common voice": "en"}.get(form)


OTHER_ORDERS = {
    "speaker first": "anna|wavs/a1.wav|hello there\nbob|wavs/a2.wav|good day\n",
    "text first": "hello there\twavs/a1.wav\ngood day\twavs/a2.wav\n",
    "file last": "hello there,anna,en,wavs/a1.wav\ngood day,bob,en,wavs/a2.wav\n",
}


@pytest.mark.parametrize("form", OTHER_ORDERS)
def test_a_list_may_name_its_files_in_another_column(tmp_path: Path, form: str) -> None:
    found = offered(tmp_path, OTHER_ORDERS[form], "train_list.txt")
    assert [one.uri for one in found] == [(tmp_path / "wavs" / f"a{at}.wav").as_uri() for at in (1, 2)]
    assert [one.text for one in found] == ["hello there", "good day"]
    assert found[0].speaker == (None if form == "text first" else "anna")


@pytest.mark.parametrize("delimiter", ["\t", "|"])
@pytest.mark.parametrize("header", ["path{}sentence\n", ""])
def test_cells_that_a_csv_writer_quoted_lose_these_quotes(
    tmp_path: Path, delimiter: str, header: str
) -> None:
    texts = ['He said "hi" to me', '"quoted" at first', '"only outer"', "plain"]
    written = ['"He said ""hi"" to me"', '"""quoted"" at first"', '"only outer"', "plain"]
    rows = "".join(f"a{at}.wav{delimiter}{text}\n" for at, text in enumerate(written, start=1))
    found = offered(tmp_path, header.format(delimiter) + rows, "list.tsv")
    assert [one.text for one in found] == texts


def test_a_first_transcript_that_reads_like_a_column_is_a_transcript(tmp_path: Path) -> None:
    for word in ("Audio", "Path", "File", "Text", "Speaker"):
        found = offered(tmp_path, f"w001|{word}\nw002|Band\nw003|Cat\n")
        assert [one.text for one in found] == [word, "Band", "Cat"]
        found = offered(tmp_path, f"w001|{word}|{word}\nw002|Band|Band\nw003|Cat|Cat\n")
        assert [(one.text, one.speaker) for one in found] == [(each, None) for each in (word, "Band", "Cat")]


@pytest.mark.parametrize("header", ["", "file|text\n", "file|text|speaker\n"])
def test_quotes_are_text_between_pipes(tmp_path: Path, header: str) -> None:
    end = "|anna" if "speaker" in header else ""
    texts = ['"expedient to introduce', "such measures", 'arrangements."', "plain"]
    rows = "".join(f"a{at}|{text}{end}\n" for at, text in enumerate(texts, start=1))
    assert [one.text for one in offered(tmp_path, header + rows)] == texts


@pytest.mark.parametrize("delimiter", [",", "\t", "|", ";"])
def test_a_row_of_more_fields_than_the_header_is_rejected(tmp_path: Path, delimiter: str) -> None:
    content = f"file_name{delimiter}text\na1.wav{delimiter}Hello{delimiter} my friend\na2.wav{delimiter}two\na3.wav\n"
    first, second, third = offered(tmp_path, content)
    assert (first.problem, first.detail) == (Reason.INVALID_ROW, "line 2 has 3 fields, the header 2")
    assert (second.text, second.problem) == ("two", None)
    assert (third.problem, third.detail) == (Reason.INVALID_ROW, "line 4 has 1 fields, the header 2")


@pytest.mark.parametrize(
    "rows",
    [
        'a1.wav,"He said\na2.wav,two\na3.wav,three\n',
        'a1.wav,"He said\na2.wav,"two"\na3.wav,three\n',
        'a1.wav,"He said\na2.wav,two"\na3.wav,three\n',
        'a1.wav,"He" said\na2.wav,two\n',
        'a1,"He said\na2,two"\n',
    ],
)
def test_an_open_quote_is_named_where_it_opens(tmp_path: Path, rows: str) -> None:
    with pytest.raises(UsageError, match=r"metadata\.csv: line 2 is not valid CSV: "):
        offered(tmp_path, f"file_name,text\n{rows}")


def test_cells_of_several_lines_and_of_any_length_are_read(tmp_path: Path) -> None:
    long = "word " * 32_000
    content = f'file_name,text\na1.wav,"one ""two""\nthree, four"\na2.wav,"{long}"\na3.wav,{long}\n'
    found = offered(tmp_path, content)
    assert found[0].text == 'one "two"\nthree, four'
    assert [one.text for one in found[1:]] == [long.strip()] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("clip_title|words|who\na1|hello there|anna\n", "reads like a header (clip_title, words, who)"),
        ("sound\ttext\nwavs/a1.wav\thello\n", "reads like a header (sound, text)"),
        ("take,words\nwavs/a1.wav,hello\n", "reads like a header (take, words)"),
        ("file,text\na1.wav,a\0b\n", "line 2 holds a NUL"),
        ("sep=;\nfile_name;text\nwavs/a1.wav;hello\n", "line 1 reads like a header (sep=, )"),
        ("file_name\u200b,text\nwavs/a1.wav,hello\n", "line 1 reads like a header (file_name"),
        ("\n \n", "line 1 has no file column (the table is empty)"),
        (
            "file,text,start,end\na1.wav,hello,0.5,1.5\na1.wav,there,2,3\n",
            "line 1 has 'start', 'end', which may say a part of a file",
        ),
        ("ID,duration,wav,offset\nx,1,a1.wav,8000\n", "line 1 has 'offset', which may say a part of a file"),
    ],
)
def test_what_cannot_be_placed_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        offered(tmp_path, content)
    assert message in str(caught.value)


def test_a_table_names_a_missing_first_file_and_the_others(tmp_path: Path) -> None:
    found = offered(tmp_path, "gone|it went away\na2|good day\n")
    assert [(one.recording_id, one.text) for one in found] == [
        ("gone", "it went away"),
        ("wavs/a2.wav", "good day"),
    ]


def test_rows_without_any_value_are_no_rows(tmp_path: Path) -> None:
    """As spreadsheets write below the last one."""
    found = offered(tmp_path, "file_name,text\r\na1.wav,one\r\n,\r\na2.wav,two\r\n,\r\n , \r\n,\r\n")
    assert [(one.text, one.problem) for one in found] == [("one", None), ("two", None)]


def test_columns_of_parts_that_are_empty_say_nothing(tmp_path: Path) -> None:
    (one,) = offered(tmp_path, "file,text,start,end\na1.wav,hello,,\n")
    assert one.text == "hello"


def test_an_empty_value_hides_no_filled_one(tmp_path: Path) -> None:
    header = "file_name,text,normalized_text,speaker,speaker_id"
    content = f"{header}\na1.wav,$5,five dollars,,x\na2.wav,Good morning,,anna,y\n"
    assert [(one.text, one.speaker) for one in offered(tmp_path, content)] == [
        ("five dollars", "x"),
        ("Good morning", "anna"),
    ]


def test_a_column_of_files_gives_texts(tmp_path: Path) -> None:
    (one,) = offered(tmp_path, "file_name,text_file\na1.wav,texts/a1.txt\n")
    assert one.text_uri == (tmp_path / "texts" / "a1.txt").as_uri()


def test_a_table_that_names_a_file_twice_says_in_which_lines(tmp_path: Path) -> None:
    found = offered(tmp_path, "file_name,text\na1.wav,first\na2.wav,x\na1.wav,second\n")
    assert [one.problem for one in found] == [None, None, Reason.DUPLICATE_ID]
    assert found[2].detail == "line 4 names wavs/a1.wav again; line 2 did so first"


def test_what_was_understood_is_said(tmp_path: Path) -> None:
    offered(tmp_path, FORMS["coqui"])
    said = describe_table((tmp_path / "metadata.csv").as_uri())
    assert said[0].endswith(
        "metadata.csv: separated by |; quotes are text; header in line 1; file: column 'audio_file'; "
        "text: column 'text'; speaker: column 'speaker_name'; language: none"
    )
    assert said[1] == "  line 2: wavs/a1.wav: text 'hello there', speaker 'anna'"
    offered(tmp_path, FORMS["common voice"])
    assert describe_table((tmp_path / "metadata.csv").as_uri())[0].endswith("not read: column 'up_votes'")


def test_a_dry_run_says_what_is_unknown(tmp_path: Path) -> None:
    rows = "".join(f"wavs/a{at}.wav,hello\n" for at in range(1, 4))
    offered(tmp_path, f"file_name,text\n{rows}")
    source = open_source(str(tmp_path / "metadata.csv"))
    assert described_tables(source) == described_tables(open_source(str(tmp_path)))
    assert len(described_tables(source)) == 4
    planned = Listing(source).count(Known.of(NOTHING))
    assert planned.on_offer.startswith("0.0 MB on offer, ")
    assert Planned(3, 0, 3, 3).on_offer == "sizes unknown until the files are read"
    assert Planned(3, 2_000_000, 3).on_offer == "2.0 MB on offer"


@given(st.lists(st.lists(st.text("ab,\"\n ' ", max_size=8), min_size=2, max_size=4), min_size=1, max_size=5))
def test_quoted_cells_are_those_of_the_csv_module(rows: list[list[str]]) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    lines = enumerate(written.getvalue().removesuffix("\n").split("\n"), start=1)
    try:
        found = [cells for _, cells in table_rows(iter(lines), ",", True)]
    except TableLineError:
        pytest.fail("refused a table that the csv module wrote")
    stripped = [[cell.strip() for cell in row] for row in rows]
    assert found == [row for row in stripped if any(row)]
