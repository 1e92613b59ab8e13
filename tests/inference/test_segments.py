"""Files of segments as other programs write them become segments with times, speakers and words, or an error."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.inference.segments import Segment, SegmentError, one_each, read_segments

RTTM = """SPKR-INFO talk 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER talk 1 0.500 1.250 <NA> <NA> ann <NA> <NA>
SPEAKER talk 1 1.500 2.000 <NA> <NA> ben <NA> <NA>
"""

SRT = """\ufeff1
00:00:00,500 --> 00:00:01,750
[Ann]: You are <i>late</i>.

2
00:00:01,500 --> 01:00:03,500 X1:40 X2:600
{\\an8}Sorry!
The bus.

"""

VTT = """WEBVTT - a talk

NOTE written by hand --> not a cue

STYLE
::cue { color: red }

first
00:00.500 --> 00:01.750 align:start
<v.loud Ann>You are &lt;late&gt;.</v>

00:01.500 --> 00:03.500
Sorry!
"""

LABELS = "0.500000\t1.750000\t[Ann]: You are late.\n\\\t100.0\t4000.0\n1.500000\t3.500000\tSorry!\n"

LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "Ann"
        xmin = 0
        xmax = 4
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.75
            text = "You are ""late"" by 5 minutes."
        intervals [3]:
            xmin = 1.75
            xmax = 4
            text = " "
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 4
        points: size = 1
        points [1]:
            number = 1.2
            mark = "click"
    item [3]:
        class = "IntervalTier"
        name = "Ben"
        xmin = 0
        xmax = 4
        intervals: size = 1
        intervals [1]:
            xmin = 1.5
            xmax = 3.5
            text = "Sorry!"
"""

SHORT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
4
<exists>
2
"IntervalTier"
"Ann"
0
4
1
0.5
1.75
"You are late."
"IntervalTier"
"Ben"
0
4
1
1.5
3.5
"Sorry!"
"""

YOUTUBE = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.389 align:start position:0%
\x20
you<00:00:00.480><c> are</c><00:00:00.640><c> late</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
you are late
\x20

00:00:02.399 --> 00:00:04.789 align:start position:0%
you are late
sorry<00:00:02.880><c> the</c>

00:00:04.789 --> 00:00:04.799 align:start position:0%
sorry the
\x20

00:00:04.799 --> 00:00:06.000 align:start position:0%
sorry the
[Music]
"""
"""As it writes what it has heard itself: each line is shown three times, and a line above or below has a blank."""

CLOSE_SRT = """1
00:00:00,500 --> 00:00:01,750
You are late.
2
00:00:01,500 --> 00:00:03,500
It is

5

3
00:00:04,000 --> 00:00:04,000

"""
"""Without a blank line between captions, with one inside of words, and with a moment as Whisper writes it."""


def whisperx(*segments: object) -> str:
    return json.dumps({"segments": segments, "language": "en"})


ANN = {"start": 0.5, "end": 1.75, "speaker": "SPEAKER_00", "text": " You are late.", "words": [{"word": "You"}]}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("talk.rttm", RTTM, [Segment(0.5, 1.75, "ann"), Segment(1.5, 3.5, "ben")]),
        ("talk.srt", SRT, [Segment(0.5, 1.75, "Ann", "You are late."), Segment(1.5, 3603.5, None, "Sorry! The bus.")]),
        ("talk.vtt", VTT, [Segment(0.5, 1.75, "Ann", "You are <late>."), Segment(1.5, 3.5, None, "Sorry!")]),
        (
            "talk.vtt",
            YOUTUBE,
            [
                Segment(0.16, 2.389, None, "you are late"),
                Segment(2.399, 4.789, None, "sorry the"),
                Segment(4.799, 6, None, "[Music]"),
            ],
        ),
        (
            "talk.vtt",
            "WEBVTT\n\n00:01.000 --> 00:02.000\n42\n\n00:02.000 --> 00:03.000\n",
            [Segment(1, 2, None, "42"), Segment(2, 3)],
        ),
        (
            "talk.vtt",
            "WEBVTT\n\n00:01.000 --> 00:02.000\nFrom A --> B\n \nNOTE a comment\ntwice\n\n00:02.000 --> 00:03.000\nC\n",
            [Segment(1, 2, None, "From A --> B"), Segment(2, 3, None, "C")],
        ),
        ("talk.srt", CLOSE_SRT, [Segment(0.5, 1.75, None, "You are late."), Segment(1.5, 3.5, None, "It is 5")]),
        ("talk.txt", LABELS, [Segment(0.5, 1.75, "Ann", "You are late."), Segment(1.5, 3.5, None, "Sorry!")]),
        (
            "talk.TextGrid",
            LONG_GRID,
            [Segment(0.5, 1.75, "Ann", 'You are "late" by 5 minutes.'), Segment(1.5, 3.5, "Ben", "Sorry!")],
        ),
        (
            "talk.textgrid",
            SHORT_GRID,
            [Segment(0.5, 1.75, "Ann", "You are late."), Segment(1.5, 3.5, "Ben", "Sorry!")],
        ),
        (
            "talk.TextGrid",
            'File type = "ooTextFile short"\n"TextGrid"\n' + SHORT_GRID.partition('"TextGrid"\n')[2],
            [Segment(0.5, 1.75, "Ann", "You are late."), Segment(1.5, 3.5, "Ben", "Sorry!")],
        ),
        (
            "talk.json",
            whisperx({"start": 1.5, "end": 3.5, "text": ""}, ANN, {"start": 3.0, "end": 3.0, "text": " "}),
            [Segment(0.5, 1.75, "SPEAKER_00", "You are late."), Segment(1.5, 3.5)],
        ),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_file_is_read(tmp_path: Path, name: str, content: str, expected: list[Segment], newline: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline=newline)
    assert read_segments(tmp_path / name, "talk") == expected


def test_praat_writes_utf_16(tmp_path: Path) -> None:
    (tmp_path / "talk.TextGrid").write_text(LONG_GRID.replace("Ann", "Änn"), encoding="utf-16")
    assert read_segments(tmp_path / "talk.TextGrid", "talk")[0].speaker == "Änn"


def test_of_several_recordings_the_one_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "all.rttm"
    path.write_text(RTTM + RTTM.replace(" talk ", " other ").replace(" ann ", " cem "))
    assert [each.speaker for each in read_segments(path, "other")] == ["cem", "ben"]
    with pytest.raises(SegmentError, match=r"segments of 2 recordings, none of them named 'third'"):
        read_segments(path, "third")


def test_each_of_several_recordings_has_its_own_segments(tmp_path: Path) -> None:
    talks = [tmp_path / "a" / "talk.wav", tmp_path / "b" / "my other.flac"]
    rttm = tmp_path / "all.rttm"
    rttm.write_text(RTTM + RTTM.replace(" talk ", " my_other ").replace(" ann ", " cem "))
    assert one_each(rttm, talks) == [rttm, rttm]
    assert [each.speaker for each in read_segments(rttm, "my other.flac")] == ["cem", "ben"]
    rttm.write_text(RTTM)
    with pytest.raises(SegmentError, match=r"all.rttm: names no recording 'my other', but talk$"):
        one_each(rttm, talks)
    labels = tmp_path / "labels.txt"
    labels.write_text(LABELS)
    with pytest.raises(SegmentError, match=r"labels.txt: one file of segments, but 2 recordings; expected a folder"):
        one_each(labels, talks)
    assert one_each(labels, talks[:1]) == [labels]
    folder = tmp_path / "segments"
    folder.mkdir()
    for name in ("talk.srt", "my other.rttm"):
        (folder / name).touch()
    assert one_each(folder, talks) == [folder / "talk.srt", folder / "my other.rttm"]
    with pytest.raises(SegmentError, match="of one name, by which segments are found"):
        one_each(folder, [tmp_path / "a" / "talk.wav", tmp_path / "b" / "talk.wav"])


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("talk.rttm", "SPEAKER talk 1 0.5\n", "line 1: 4 fields; RTTM has 8 to 10"),
        (
            "talk.rttm",
            "SPEAKER my talk 1 0.5 1 <NA> <NA> ann <NA> <NA>\n",
            "line 1: 11 fields; RTTM has 8 to 10, without",
        ),
        ("talk.rttm", "SPEAKER talk 1 0.5 x <NA> <NA> ann\n", "from '0.5', for 'x'; expected seconds"),
        ("talk.rttm", "SPEAKER talk 1 0.5 0 <NA> <NA> ann\n", "from 0.5 s to 0.5 s; expected an end after a start"),
        ("talk.rttm", "SPEAKER talk 1 nan 1 <NA> <NA> ann\n", "from nan s to nan s"),
        ("talk.rttm", "", "no segments in it"),
        ("talk.srt", "1\n00:00 --> 00:01\nHello\n", "expected times as 00:00:01.500"),
        ("talk.txt", "You are late.\n", "expected seconds"),
        ("talk.TextGrid", "hello", "not a TextGrid"),
        ("talk.TextGrid", SHORT_GRID.rpartition('"Sorry!"')[0], "cut off"),
        ("talk.TextGrid", SHORT_GRID.replace("<exists>", "<absent>"), "not a TextGrid"),
        ("talk.srt", "1\n00:00:01,000 --> 00:00:01,000\nHello\n", "from 1 s to 1 s; expected an end after a start"),
        ("talk.json", whisperx(ANN | {"end": 0.5}), "from 0.5 s to 0.5 s; expected an end after a start"),
        ("talk.json", whisperx({"text": ""}), "from None to None; expected seconds"),
        ("talk.json", "[", "not valid JSON"),
        ("talk.json", "{}", "expected segments, a list"),
        ("talk.json", whisperx({"start": 0.5, "text": "a"}), "segment 1: from 0.5 to None; expected seconds"),
        ("talk.json", whisperx(ANN | {"speaker": 3}), "segment 1: speaker: 3; expected a string"),
        ("talk.json", whisperx(ANN | {"end": "x" * 100_000}), "(100,002 characters); expected seconds"),
        ("talk.json", whisperx(ANN | {"speaker": ["x" * 100_000]}), "characters); expected a string"),
        ("talk.rttm", f"SPEAKER talk 1 0.5 {'x' * 100_000} <NA> <NA> ann\n", "(100,002 characters); expected seconds"),
        ("talk.rttm", "".join(f"SPEAKER {n * 9_999} 1 0.5 1 <NA> <NA> ann\n" for n in "ab"), "(9,999 characters)"),
        ("talk.eaf", "", "expected one that ends in .rttm, .srt"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: str, fault: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SegmentError) as caught:
        read_segments(tmp_path / name, "talk")
    assert fault in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "talk.srt").write_bytes(b"\xff\x00\xd8")
    with pytest.raises(SegmentError, match="not UTF-8"):
        read_segments(tmp_path / "talk.srt", "talk")
    with pytest.raises(SegmentError, match="No such file"):
        read_segments(tmp_path / "gone.srt", "talk")


TIMES = st.tuples(st.integers(0, 10**7), st.integers(1, 10**6))


@given(st.lists(TIMES, min_size=1, max_size=20))
def test_times_come_back_to_the_millisecond(tmp_path: Path, times: list[tuple[int, int]]) -> None:
    def clock(value: int) -> str:
        return f"{value // 3_600_000:02d}:{value // 60_000 % 60:02d}:{value // 1000 % 60:02d},{value % 1000:03d}"

    cues = "\n\n".join(f"{clock(start)} --> {clock(start + length)}\na" for start, length in times)
    path = tmp_path / "talk.srt"
    path.write_text(cues)
    found = [(round(1000 * each.start_s), round(1000 * each.end_s)) for each in read_segments(path, "talk")]
    assert found == sorted((start, start + length) for start, length in times)


def test_segments_that_are_nested_without_end_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"segments": ' + 100_000 * "[")
    with pytest.raises(SegmentError, match=r"a\.json: "):
        read_segments(tmp_path / "a.json", "a")
