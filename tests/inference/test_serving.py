"""``mlflow models serve`` with a real server on loopback, under several requests at once; and the registry."""

import base64
import io
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from socket import create_server
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.pyfunc.model import PythonModelContext
from starlette.testclient import TestClient

from emofuse.audio.sound import Sound, read_sound
from emofuse.encoders import EncoderError
from emofuse.inference import requests, serving, voice_activity
from emofuse.inference import scoring_server as bounded
from emofuse.inference.bundle import Bundle, BundleError, write_bundle
from emofuse.inference.conversation import Conversation, ConversationError, Turn
from emofuse.inference.hearing import TRANSCRIBED, Transcriber
from emofuse.inference.model import Model, Prediction
from emofuse.inference.recording import read_recording
from emofuse.inference.segments import Segment
from emofuse.inference.serving import Served, save
from emofuse.inference.transcripts import recogniser
from emofuse.tracking.fetch import find

Project = Any
STARTED = 300
"""Seconds that the server has to start; it ends by itself after some minutes, whatever becomes of the tests."""


LOAD, CLIENTS = 5.0, 8
"""Seconds for which so many clients ask, each as soon as it was answered."""


@pytest.fixture(scope="module")
def saved(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(bundle, folder)
    return folder


@pytest.fixture(scope="module")
def serving_process(saved: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A server, whose workers are the process's descendants, and its address."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["timeout", "600", "mlflow", "models", "serve", "--model-uri", str(saved), "--env-manager", "local"]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], env=environment)
    try:
        address = f"127.0.0.1:{port}"
        end = time.monotonic() + STARTED
        while not predictions(address):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < end, f"the server did not start in {STARTED} s"
            time.sleep(0.2)
        yield psutil.Process(process.pid), address
    finally:
        process.terminate()  # `timeout` hands it on
        process.wait()


@pytest.fixture(scope="module")
def server(serving_process: tuple[psutil.Process, str]) -> str:
    """Address of the server."""
    return serving_process[1]


@pytest.fixture(scope="module")
def talk(project: Project) -> bytes:
    """Three turns in a WAV file."""
    folder = next(iter(project.conversations.values()))
    clips = [soundfile.read(folder / f"{turn}.flac", dtype="int16")[0] for turn in range(3)]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate(clips), 16_000, format="WAV")
    return buffer.getvalue()


def check(rows: Sequence[dict[str, Any]], expected: Prediction) -> None:
    """The rows of an answer are a model's predictions."""
    for got, turn in zip(rows, expected.turns, strict=True):
        told = (turn.speaker, turn.text, turn.emotion, turn.start_s, turn.end_s, expected.model)
        assert tuple(got[each] for each in ("speaker", "text", "emotion", "start_s", "end_s", "model")) == told
        assert got["probabilities"] == pytest.approx(turn.probabilities, abs=2e-5)


def predictions(server: str) -> bool:
    try:
        return exchange(server, "GET", "/ping")[0] == 200
    except OSError:
        return False


def silence(seconds: int) -> str:
    """A long sound file that is small, in base64."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8_000 * seconds, np.int16), 8_000, format="FLAC")
    return base64.b64encode(buffer.getvalue()).decode()


def ask(server: str, body: bytes) -> tuple[int, Any]:
    """Send a request; return the status and what is answered."""
    status, reply = exchange(server, "POST", "/invocations", body)
    return status, json.loads(reply) if status == 200 else reply


def exchange(
    server: str, method: str, path: str, body: bytes | None = None, kind: str | None = "application/json"
) -> tuple[int, str]:
    connection = HTTPConnection(server, timeout=60)
    connection.request(method, path, body, {"Content-Type": kind} if kind else {})
    with connection.getresponse() as response:
        return response.status, response.read().decode()


def nothing() -> None:
    """What a request that is in time meets between its parts."""


def rows(folder: Path) -> list[dict[str, str]]:
    """A conversation as rows of a request."""
    turns = json.loads((folder / "turns.json").read_text())
    return [
        {
            "conversation": folder.name,
            "speaker": turn["speaker"],
            "text": turn["text"],
            "audio": base64.encodebytes((folder / turn["audio"]).read_bytes()).decode(),
        }
        for turn in turns
    ]


def test_many_at_once_get_what_the_model_says_for_a_while(server: str, project: Project, bundle: Bundle) -> None:
    model, folders = Model(bundle), list(project.conversations.values())
    expected = [model.predict(folder) for folder in folders]
    requests = [json.dumps({"dataframe_records": rows(folder)}).encode() for folder in folders]
    end = time.monotonic() + LOAD

    def keep_asking(client: int) -> int:
        answered = 0
        while time.monotonic() < end:
            chosen = (client + answered) % len(folders)
            status, reply = ask(server, requests[chosen])
            assert status == 200, reply
            for got, turn in zip(reply["predictions"], expected[chosen].turns, strict=True):
                assert got["emotion"] == turn.emotion
                assert got["probabilities"] == pytest.approx(turn.probabilities, abs=2e-5)
            answered += 1
        return answered

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert min(pool.map(keep_asking, range(CLIENTS))) >= 1, "a client was never answered"


def test_conversations_of_one_request_are_apart(server: str, project: Project) -> None:
    first, second = (rows(folder) for folder in list(project.conversations.values())[:2])
    mixed = [row for pair in zip(first, second, strict=False) for row in pair]
    count = len(mixed) // 2
    _, together = ask(server, json.dumps({"dataframe_records": mixed}).encode())
    _, alone = ask(server, json.dumps({"dataframe_records": first[:count]}).encode())
    for got, expected in zip(together["predictions"][::2], alone["predictions"], strict=True):
        assert got["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-5)


def test_without_transcripts_the_answer_says_so(server: str, project: Project) -> None:
    turns = [{"audio": row["audio"]} for row in rows(next(iter(project.conversations.values())))]
    status, reply = ask(server, json.dumps({"dataframe_records": turns}).encode())
    assert status == 200
    assert {row["model"] for row in reply["predictions"]} == {"audio-context"}
    assert "no transcripts" in reply["predictions"][0]["remark"]


def test_a_recording_is_answered_turn_by_turn(server: str, project: Project, bundle: Bundle, tmp_path: Path) -> None:
    """The server's answer to one file is the model's, words and all; on request without words."""
    folder = next(iter(project.conversations.values()))
    pause = np.zeros(12_800)
    clips = [soundfile.read(folder / f"{turn}.flac")[0] for turn in range(3)]
    soundfile.write(tmp_path / "talk.flac", np.concatenate([part for clip in clips for part in (pause, clip)]), 16_000)
    model = Model(bundle)
    expected = model.predict(tmp_path / "talk.flac", recogniser())
    encoded = base64.b64encode((tmp_path / "talk.flac").read_bytes()).decode()
    rows = [{"recording": encoded}]
    status, reply = ask(server, json.dumps({"dataframe_records": rows}).encode())
    assert status == 200, reply
    assert len(reply["predictions"]) == 3
    check(reply["predictions"], expected)
    for got in reply["predictions"]:
        assert (got["model"], got["trained_on"]) == ("hcam", expected.trained_on)
        assert "all turns count as one speaker's" in got["remark"]
        assert got["remark"].endswith(TRANSCRIBED)
    status, reply = ask(server, json.dumps({"dataframe_records": rows, "params": {"transcribe": "none"}}).encode())
    assert status == 200, reply
    check(reply["predictions"], model.predict(tmp_path / "talk.flac"))
    assert {row["model"] for row in reply["predictions"]} == {"audio-context"}
    both = [{"recording": encoded}, {"text": "a"}]
    wrong = "turn 1: expected `recording` in the first row only, `start_s` and `end_s` in every row, and at most"
    for rows, reason in ((both, wrong), ([{"recording": silence(2)}], "no speech was found")):
        status, reply = ask(server, json.dumps({"dataframe_records": rows}).encode())
        assert status == 400
        assert reason in reply
    status, reply = ask(server, json.dumps({"dataframe_records": [{"recording": silence(601)}]}).encode())
    assert status == 400
    assert "over 600 s of sound" in reply


def test_the_turns_of_a_recording_may_be_told(server: str, talk: bytes, bundle: Bundle) -> None:
    """With speakers and words, in any order, of a file whose header a recorder left unfinished."""
    damaged = talk[:40] + bytes(4) + talk[44:]
    encoded = base64.b64encode(damaged).decode()
    ends = [0.0, 1.0, 2.25, 3.5]
    spoken = zip(pairwise(ends), "ABA", ["You are late.", None, "Sorry!"], strict=True)
    found = [Segment(*span, speaker, text) for span, speaker, text in spoken]
    conversation = Conversation("", read_recording(read_sound(talk, "x"), "x", found).turns)
    expected = Model(bundle).predict(conversation, recogniser())
    assert expected.turns[1].text
    rows = [{name: value for name, value in asdict(each).items() if value is not None} for each in found]
    asked = [rows[2] | {"recording": encoded}, rows[0], rows[1]]
    status, reply = ask(server, json.dumps({"dataframe_records": asked}).encode())
    assert status == 200, reply
    check([reply["predictions"][index] for index in (1, 2, 0)], expected)
    for got in reply["predictions"]:
        assert got["remark"].startswith("turn 1: recording: its header says that it has no samples")


def test_each_channel_of_a_recording_may_be_a_speaker(server: str, project: Project, bundle: Bundle) -> None:
    folder = next(iter(project.conversations.values()))
    left, right = (soundfile.read(folder / f"{turn}.flac", dtype="int16")[0] for turn in range(2))
    apart = np.stack([np.concatenate([left, 0 * right]), np.concatenate([0 * left, right])], axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, apart, 16_000, format="FLAC")
    sound = read_sound(buffer.getvalue(), "x")
    expected = Model(bundle).predict(read_recording(sound, "x", channels=True), recogniser())
    assert {each.speaker for each in expected.turns} == {"channel 1", "channel 2"}
    rows = [{"recording": base64.b64encode(buffer.getvalue()).decode()}]
    status, reply = ask(server, json.dumps({"dataframe_records": rows, "params": {"channels": True}}).encode())
    assert status == 200, reply
    check(reply["predictions"], expected)
    assert "one speaker" not in reply["predictions"][0]["remark"]


def test_turns_of_their_own_are_transcribed_on_request(server: str, project: Project, bundle: Bundle) -> None:
    given = rows(next(iter(project.conversations.values())))
    turns = [{"audio": given[0]["audio"]}, {"text": "You are late."}]
    body = {"dataframe_records": turns, "params": {"transcribe": "all"}}
    status, reply = ask(server, json.dumps(body).encode())
    assert status == 200, reply
    sound = Turn(read_sound(base64.b64decode(given[0]["audio"]), "x"))
    check(reply["predictions"], Model(bundle).predict([sound, Turn(text="You are late.")], recogniser()))
    assert reply["predictions"][0]["remark"] == TRANSCRIBED


@pytest.mark.parametrize(
    ("rows", "params", "reason"),
    [
        ([{"text": "a"}], {"canals": True}, "unknown parameter 'canals'; expected some of channels, transcribe"),
        ([{"text": "a"}], {"channels": True}, "turn 1: channels apply to a recording alone"),
        ([{"text": "a"}], {"channels": "yes"}, "channels"),
        ([{"text": "a"}], {"transcribe": "German"}, "expected one of ['recordings', 'all', 'none']"),
        ([{"text": "a"}], {"transcribe": 5}, "transcribe"),
        ([{"recording": silence(2)}], {"channels": True}, "one channel; expected a channel for each speaker"),
        (
            [{"recording": silence(2), "start_s": 0, "end_s": 1}],
            {"channels": True},
            "either segments or channels tell who speaks; give one of the two",
        ),
    ],
)
def test_parameters_that_cannot_be_are_told(
    server: str, rows: list[dict[str, Any]], params: dict[str, Any], reason: str
) -> None:
    status, reply = ask(server, json.dumps({"dataframe_records": rows, "params": params}).encode())
    assert status == 400
    assert reason in reply


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"start_s": 0, "end_s": 1}], "turn 1: expected `recording` in the first row only"),
        ([{"recording": "", "start_s": 0}], "turn 1: expected `recording` in the first row only"),
        (
            [{"recording": "", "start_s": 0, "end_s": 1}, {"text": "a"}],
            "turn 2: expected `recording` in the first row only",
        ),
        ([{"recording": "", "start_s": 1, "end_s": 1}], "turn 1: from 1 s to 1 s; expected an end after a start"),
        (
            [{"recording": "", "start_s": 0, "end_s": 400}, {"start_s": 0, "end_s": 201}],
            "601 s in all turns together; a request may have 600 s",
        ),
        (
            [{"recording": silence(2), "start_s": 1, "end_s": 2}, {"start_s": 0, "end_s": 9}],
            "turn 2 is from 0 s to 9 s, but the sound ends at 2.00 s; is it of another recording?",
        ),
    ],
)
def test_turns_of_a_recording_that_are_none_are_told(server: str, rows: list[dict[str, Any]], reason: str) -> None:
    status, reply = ask(server, json.dumps({"dataframe_records": rows}).encode())
    assert status == 400
    assert reason in reply


def test_turns_that_end_after_the_sound_have_their_own_answers(server: str, talk: bytes) -> None:
    """The sound's end cuts two of them, which then end alike."""
    end = soundfile.info(io.BytesIO(talk)).duration
    turns = [
        {"start_s": 0.5, "end_s": end + 0.4, "speaker": "A", "text": "First."},
        {"start_s": 0.5, "end_s": end + 0.2, "speaker": "B", "text": "Second."},
        {"start_s": 0.0, "end_s": 0.5, "speaker": "C", "text": "Third."},
    ]
    turns[0]["recording"] = base64.b64encode(talk).decode()
    status, reply = ask(server, json.dumps({"dataframe_records": turns}).encode())
    assert status == 200, reply
    told = [(row["speaker"], row["text"], row["start_s"], row["end_s"]) for row in reply["predictions"]]
    assert told == [("A", "First.", 0.5, end), ("B", "Second.", 0.5, end), ("C", "Third.", 0.0, 0.5)]
    assert all(TRANSCRIBED not in (row["remark"] or "") for row in reply["predictions"]), "all words were given"


def test_the_columns_of_a_csv_file_are_checked_too(server: str) -> None:
    status, reply = exchange(server, "POST", "/invocations", b"text,speaker\na,Ann\n", "text/csv")
    assert status == 200, reply
    status, reply = exchange(server, "POST", "/invocations", b"text,speakr\na,Ann\n", "text/csv")
    assert (status, "unknown column 'speakr'" in reply) == (400, True), reply


def test_a_turn_of_silence_has_no_emotion(server: str) -> None:
    turns = [{"text": "You are late."}, {"audio": silence(1)}]
    status, reply = ask(server, json.dumps({"dataframe_records": turns}).encode())
    assert status == 200, reply
    first, second = reply["predictions"]
    assert first["emotion"]
    assert (second["emotion"], second["probabilities"], second["notes"][-1]) == (None, {}, "nothing to hear")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not JSON", "JSON"),
        (b"[1, 2]", "dataframe_records"),
        (100_000 * b"[", "nested too deeply"),
        (b'{"dataframe_records": []}', "no turns"),
        (b'{"dataframe_records": [{"text": "a"}, {"speaker": "Ann", "text": " "}]}', "turn 2: neither audio nor text"),
        (
            b'{"dataframe_records": [{"text": "a"}, {"text": "b", "speakr": "Ann"}]}',
            "unknown column 'speakr'; expected some of conversation, speaker, text, audio, recording, start_s, end_s",
        ),
        (b'{"dataframe_split": {"columns": ["text", "speakr"], "data": [["a", "b"]]}}', "unknown column 'speakr'"),
        (b'{"inputs": {"text": ["a"], "speakr": ["b"]}}', "unknown column 'speakr'"),
        (b'{"inputs": [{"text": "a"}, {"txt": "b"}]}', "unknown column 'txt'"),
        (b'{"instances": [{"text": "a", "speakr": "b"}]}', "unknown column 'speakr'"),
        (b'{"dataframe_records": [{"text": "a"}], "canals": true}', "unknown field 'canals'; expected some of"),
        (b'{"dataframe_records": [{"text": 5}]}', "turn 1: text: 5; expected a string"),
        (b'{"dataframe_records": [{"text": "a"}, {"text": ["b"]}]}', "turn 2: text: ['b']; expected a string"),
        (b'{"dataframe_records": [{"text": "a", "conversation": 1}]}', "turn 1: conversation: 1; expected a string"),
        (b'{"dataframe_records": [{"text": "a"}, {"text": "b\\ud800"}]}', "surrogates not allowed"),
        (b'{"dataframe_records": [{"audio": "%%%"}]}', "turn 1: audio: not base64"),
        (b'{"dataframe_records": [{"audio": "bm90IGEgc291bmQ="}]}', "turn 1: audio: not a sound file"),
        (b'{"dataframe_records": [{"text": ' + 6_000 * b"9" + b"}]}", "integer string conversion"),
        (b'{"dataframe_records": [{"text": ["' + 50_000 * b"a" + b'"]}]}', "turn 1: text: ['aaa"),
        (b'{"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}', "columns"),
        (b'{"dataframe_records": 5}', "must be a list of records"),
        (b'{"dataframe_records": [5]}', "unknown column 0"),
        (b'{"inputs": {"text": [1, [2]]}}', ""),
        (b"\xff\xfe", ""),
        (json.dumps({"dataframe_records": 513 * [{"text": "a"}]}).encode(), "513 turns; a request may have 512"),
        (json.dumps({"dataframe_records": [{"text": "a " * 5_001}]}).encode(), "turn 1: text: 10,002 characters"),
        (json.dumps({"dataframe_records": [{"text": "a", "speaker": "b" * 201}]}).encode(), "speaker: 201 characters"),
        (
            json.dumps({"dataframe_records": [{"audio": silence(1)}, {"audio": silence(600)}]}).encode(),
            "turn 2: with it there are over 600 s of sound; a request may have 600 s",
        ),
    ],
    ids=lambda value: str(value)[:80],
)
def test_a_bad_request_is_told_why(server: str, body: bytes, reason: str) -> None:
    status, reply = ask(server, body)
    assert 400 <= status < 500
    assert reason in reply
    assert len(reply) < 5_000
    assert "Traceback" not in reply
    assert "stack_trace" not in reply
    assert str(Path(sys.prefix)) not in reply


def test_a_body_that_is_too_large_is_refused_and_others_are_served_meanwhile(server: str) -> None:
    """A few clients ask for more than there may be, again and again, and as much as there may be."""
    small = json.dumps({"dataframe_records": [{"text": "You are late."}]}).encode()
    text = json.dumps({"dataframe_records": [{"text": "a" * 2**25}]}).encode()
    turns = json.dumps({"dataframe_records": 8_000 * [{"text": "You are late, and I said so."}]}).encode()
    most = json.dumps({"dataframe_records": 512 * [{"text": "You are late, and I said so."}]}).encode()
    end, statuses = time.monotonic() + LOAD, {text: 413, turns: 400, most: 200}

    def abuse(body: bytes) -> int:
        asked = 0
        while time.monotonic() < end:
            status, reply = ask(server, body)
            assert status == statuses[body], reply
            asked += 1
        return asked

    def use(_: int) -> int:
        answered = 0
        while time.monotonic() < end:
            status, reply = ask(server, small)
            assert status == 200, reply
            answered += 1
        return answered

    with ThreadPoolExecutor(6) as pool:
        abused, used = pool.map(abuse, [text, turns, most]), pool.map(use, range(3))
        assert min(abused) >= 1
        assert min(used) >= 1, "a client was never answered"


def test_a_body_of_unknown_length_is_bounded_too(server: str) -> None:
    connection = HTTPConnection(server, timeout=60)
    parts = (b'{"dataframe_records": [{"text": "', *(2**20 * b"a" for _ in range(40)), b'"}]}')
    connection.request("POST", "/invocations", iter(parts), {"Content-Type": "application/json"}, encode_chunked=True)
    with connection.getresponse() as response:
        assert response.status == 413
        assert "a request may have 33,554,432" in response.read().decode()


def test_the_server_s_memory_stays_bounded(serving_process: tuple[psutil.Process, str]) -> None:
    """What was refused before has not grown it."""
    process, _ = serving_process
    children = process.children(recursive=True)
    assert any("scoring_server" in " ".join(each.cmdline()) for each in children)
    assert max(each.memory_info().rss for each in children) < 3e9


@pytest.mark.parametrize(
    "kind",
    [None, "application/vnd.apache.parquet", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
def test_a_body_of_another_kind_is_told_what_is_expected(server: str, kind: str | None) -> None:
    status, reply = exchange(server, "POST", "/invocations", b'{"dataframe_records": [{"text": "a"}]}', kind)
    assert status == 415
    assert ("UTF-8" if kind and "charset" in kind else f"Got '{kind or 'none'}'") in reply
    if not kind:
        assert "application/json" in reply


@pytest.mark.parametrize(
    ("rate", "channels", "seconds", "fault"),
    [(8_000, 1, 3_600, "over 600 s of sound"), (48_000, 8, 250, "over 57,600,000 samples of sound; send it at a")],
)
def test_no_more_of_a_sound_is_decoded_than_a_request_may_have(
    rate: int, channels: int, seconds: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, format="FLAC") as file:
        for _ in range(seconds):
            file.write(np.zeros((rate, channels), np.int16))
    decoded = []

    def counted(*values: Any) -> Sound:
        decoded.append(sound := read_sound(*values))
        return sound

    monkeypatch.setattr(requests, "read_sound", counted)
    row = {"audio": base64.b64encode(buffer.getvalue()).decode()}
    with pytest.raises(ConversationError, match=f"turn 1: with it there are {fault}"):
        list(requests._turns([row], nothing))
    most = min(requests.MAX_SAMPLES, requests.MAX_SECONDS * rate * channels)
    assert max(each.samples.size for each in decoded) <= most + 0.2 * rate * channels


def test_what_turns_have_counts_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_SAMPLES", 20_000)
    assert len(list(requests._turns(2 * [{"audio": silence(1)}], nothing))) == 2
    with pytest.raises(ConversationError, match="turn 3: with it there are over 20,000 samples"):
        list(requests._turns(3 * [{"audio": silence(1)}], nothing))


def recorded(channels: int, seconds: float) -> list[dict[str, str]]:
    """A request of a recording of noise, each channel of its own."""
    noise = np.random.default_rng(0).normal(0, 0.1, (round(1_000 * seconds), channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, 1_000, format="WAV")
    return [{"recording": base64.b64encode(buffer.getvalue()).decode()}]


def test_all_channels_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voice activity would hear each for as long as all may be; ten minutes of stereo are fine."""
    heard = []

    def find(samples: np.ndarray) -> list[voice_activity.Span]:
        heard.append(len(samples))
        return [voice_activity.Span(0, 16_000)]

    monkeypatch.setattr(voice_activity, "find_turns", find)
    fault = "turn 1: recording: 7 channels of 200 s; with channels a request may have 1200 s in all of them together"
    with pytest.raises(ConversationError, match=f"{fault}, send fewer channels or a shorter part"):
        requests.read_request(pd.DataFrame(recorded(7, 200)), True, nothing)
    assert not heard
    requests.read_request(pd.DataFrame(recorded(7, 200)), False, nothing)
    requests.read_request(pd.DataFrame(recorded(2, 600)), True, nothing)
    assert heard == [200 * 16_000, 600 * 16_000, 600 * 16_000]


def test_the_time_is_checked_before_each_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    def find(samples: np.ndarray) -> list[voice_activity.Span]:
        heard.append(len(samples))
        monkeypatch.setattr(serving._limit, "end", time.monotonic() - 1, raising=False)
        return []

    monkeypatch.setattr(voice_activity, "find_turns", find)
    with pytest.raises(MlflowException, match="takes too long"):
        requests.read_request(pd.DataFrame(recorded(3, 1)), True, serving._refuse_when_late)
    assert len(heard) == 1


def test_no_more_turns_are_found_than_a_request_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [voice_activity.Span(16 * start, 16 * (start + 1)) for start in range(513)]
    monkeypatch.setattr(voice_activity, "find_turns", lambda _: spans)
    with pytest.raises(ConversationError, match="513 turns are found; a request may have 512, send a shorter part"):
        requests.read_request(pd.DataFrame(recorded(1, 1)), False, nothing)
    spans.pop()
    (places,) = requests.read_request(pd.DataFrame(recorded(1, 1)), False, nothing).places
    assert list(places) == list(range(512))


# In this process, with a model that does as the test says.


@pytest.fixture
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's server, which is as it was before when the test has ended."""
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "false")  # which the server sets, for good
    for name in ("invocations", "_async_catch_mlflow_exception", "_parse_json_data", "parse_csv_input"):
        monkeypatch.setattr(scoring_server, name, getattr(scoring_server, name))


@pytest.fixture
def served(unpatched: None) -> Callable[..., TestClient]:
    """MLflow's own application around a model and a recogniser, as ``mlflow models serve`` has it."""

    def make(model: Any, recogniser: Transcriber | None = None) -> TestClient:
        served = Served()
        served._model, served._recogniser = model, recogniser
        bounded.bound_bodies(scoring_server)
        bounded.refuse_unknown(scoring_server)
        bounded.explain_errors(scoring_server)

        class Implementation:
            def predict(self, table: Any, params: Any = None) -> list[dict[str, Any]]:
                return served.predict(None, table, params)  # type: ignore[arg-type]

        about = mlflow.models.Model(
            signature=serving.SIGNATURE, flavors={"python_function": {"loader_module": "emofuse"}}
        )
        return TestClient(scoring_server.init(PyFuncModel(about, Implementation())))

    return make


SMALL = {"dataframe_records": [{"text": "You are late."}]}


@pytest.mark.parametrize(
    "error",
    [
        EncoderError("voice activity: /srv/secret/weights: no such file"),
        BundleError("/srv/secret/bundle: damaged"),
        OSError(5, "Input/output error", "/srv/secret/model"),
        RuntimeError("/srv/secret: CUDA out of memory"),
        MemoryError("/srv/secret"),
        KeyError("/srv/secret"),
        ValueError("/srv/secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_server_s_own_faults_are_500_and_stay_in_its_log(
    served: Callable[..., TestClient], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def predict_all(self, conversations: Any, transcribe: Any) -> Any:
            raise error

    answer = served(Broken()).post("/invocations", json=SMALL)
    assert answer.status_code == 500
    assert f"the server cannot answer: {type(error).__name__}; its log says why" in answer.text
    assert not {"secret", "Traceback", "stack_trace", "dataframe"} & set(re.findall(r"\w+", answer.text))
    assert "secret" in caplog.text


def test_a_request_has_a_time_after_which_no_more_of_it_is_encoded(
    served: Callable[..., TestClient], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is the variable that the docs name; others are answered meanwhile and afterwards."""
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "1")
    model = Model(bundle, serving._refuse_when_late)
    model.load_encoders()
    encoder, parts = model._encoders["text"], []
    encode = type(encoder).encode

    def slow(self: Any, contents: Sequence[str]) -> Any:
        if contents != ["You are late."]:
            parts.append(contents)
            time.sleep(0.4)
        return encode(self, contents)

    monkeypatch.setattr(type(encoder), "encode", slow)
    large = {"dataframe_records": 200 * [{"text": "late " * 1_000}]}  # 200 parts, 80 s
    with served(model) as client, ThreadPoolExecutor(2) as pool:
        asked = pool.submit(client.post, "/invocations", json=large)
        time.sleep(0.5)
        assert client.post("/invocations", json=SMALL).status_code == 200
        answer = asked.result()
        assert answer.status_code == 504
        assert answer.text
        assert "Traceback" not in answer.text
        time.sleep(1)
        encoded = len(parts)
        time.sleep(1.5)
        assert len(parts) == encoded < 10, "nobody waits for it any more"
        assert client.post("/invocations", json=SMALL).status_code == 200


def test_small_requests_are_answered_while_another_is_transcribed(
    served: Callable[..., TestClient], bundle: Bundle, talk: bytes
) -> None:
    begun, answered = threading.Event(), threading.Event()

    def slow(clips: Sequence[np.ndarray]) -> list[str]:
        begun.set()
        assert answered.wait(60)
        return ["You are late."] * len(clips)

    model = Model(bundle)
    model.load_encoders()
    encoded = base64.b64encode(talk).decode()
    large = {"dataframe_records": [{"recording": encoded, "start_s": 0, "end_s": 2}]}
    with served(model, slow) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/invocations", json=large)
        assert begun.wait(60)
        assert client.post("/invocations", json=SMALL).status_code == 200
        assert not asked.done()
        answered.set()
        (row,) = asked.result().json()["predictions"]
        assert row["text"] == "You are late."


def test_parts_of_all_requests_are_transcribed_in_the_order_in_which_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_TRANSCRIBED_AT_ONCE", 1)  # a turn is a part
    served, begun, queued, heard = Served(), threading.Event(), threading.Event(), []

    def slow(clips: Sequence[np.ndarray]) -> list[str]:
        begun.set()
        assert queued.wait(60)
        heard.append(len(clips[0]))
        return ["a"]

    served._recogniser = slow
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(served._transcribe, 5 * [np.zeros(5)])
        assert begun.wait(60)
        small = pool.submit(served._transcribe, [np.zeros(1)])
        time.sleep(0.5)  # it waits
        queued.set()
        assert (large.result(), small.result()) == (5 * ["a"], ["a"])
    assert heard == [5, 1, 5, 5, 5, 5]


def test_words_are_said_to_be_transcribed_only_where_some_were(
    served: Callable[..., TestClient], project: Project, bundle: Bundle
) -> None:
    """Not where there is nothing to hear, nor in a conversation that has all its words."""
    (given, *_) = rows(next(iter(project.conversations.values())))
    heard, known = {"audio": given["audio"], "conversation": "a"}, {"text": "You are late.", "conversation": "b"}
    body = {"dataframe_records": [heard, known], "params": {"transcribe": "all"}}
    for words in ("Hello.", ""):
        client = served(Model(bundle), lambda clips, words=words: [words] * len(clips))
        first, second = client.post("/invocations", json=body).json()["predictions"]
        assert first["text"] == (words or None)
        assert (TRANSCRIBED in (first["remark"] or "")) == bool(words)
        assert TRANSCRIBED not in second["remark"]


@pytest.mark.parametrize("transcribe", ["recordings", "all"])
def test_a_model_that_reads_no_text_says_that_nothing_is_transcribed(
    served: Callable[..., TestClient], project: Project, talk: bytes, transcribe: str, tmp_path: Path
) -> None:
    found = find(project.model("audio-context"))
    write_bundle(found, tmp_path / "bundle")
    alone = Served()
    alone.load_context(PythonModelContext({"bundle": str(tmp_path / "bundle")}, None))
    assert alone._recogniser is None
    encoded = base64.b64encode(talk).decode()
    remark = "missing words are not transcribed, since the model reads no text"
    with served(Model(found)) as client:
        body: dict[str, Any] = {"dataframe_records": [{"recording": encoded}], "params": {"transcribe": transcribe}}
        answer = client.post("/invocations", json=body)
        assert answer.status_code == 200, answer.text
        for row in answer.json()["predictions"]:
            assert (row["model"], row["text"]) == ("audio-context", None)
            assert row["remark"].endswith(remark)
        for body in (
            {"dataframe_records": [{"recording": encoded}], "params": {"transcribe": "none"}},
            {"dataframe_records": [{"recording": encoded, "start_s": 0, "end_s": 2, "text": "You are late."}]},
        ):
            answer = client.post("/invocations", json=body)
            assert answer.status_code == 200, answer.text
            assert remark not in answer.text


def test_a_request_has_a_time_after_which_no_more_of_it_is_transcribed(monkeypatch: pytest.MonkeyPatch) -> None:
    served, parts = Served(), []

    def slow(clips: Sequence[np.ndarray]) -> list[str]:
        parts.append(len(clips))
        time.sleep(0.4)
        return ["a"] * len(clips)

    served._recogniser = slow
    clips = 10 * [np.zeros(40 * 16_000, np.float32)]
    assert served._transcribe(clips[:2]) == ["a", "a"]
    monkeypatch.setattr(serving._limit, "end", time.monotonic() + 0.5, raising=False)
    with pytest.raises(MlflowException, match="takes too long; send less at once"):
        served._transcribe(clips)
    assert parts[2:] in ([1], [1, 1])


def test_the_limit_ends_with_the_request() -> None:
    with pytest.raises(MlflowException, match="transcribe"):
        Served().predict(None, pd.DataFrame(), {"transcribe": "some"})  # type: ignore[arg-type]
    assert serving._end() == math.inf


def test_decoding_ends_in_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving._limit, "end", time.monotonic() - 1, raising=False)
    with pytest.raises(MlflowException, match="takes too long; send less at once") as raised:
        list(requests._turns([{"audio": silence(1)}], serving._refuse_when_late))
    assert raised.value.get_http_status_code() == 504


@pytest.mark.usefixtures("unpatched")
def test_all_that_answers_take_is_loaded_before_the_first(bundle: Bundle, tmp_path: Path) -> None:
    """Voice activity and the recogniser, too, which recordings alone need."""
    write_bundle(bundle, tmp_path / "bundle")
    voice_activity._network.cache_clear()
    served = Served()
    served.load_context(PythonModelContext({"bundle": str(tmp_path / "bundle")}, None))
    assert served._model._encoders.keys() == bundle.manifest.features.keys()
    assert voice_activity._network.cache_info().currsize == 1
    assert served._recogniser is not None


def test_a_server_without_voice_activity_does_not_start(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    voice_activity._network.cache_clear()
    monkeypatch.setattr(voice_activity, "find_spec", lambda _: None)
    with pytest.raises(EncoderError, match="silero-vad is not installed"):
        Served().load_context(PythonModelContext({"bundle": str(tmp_path / "bundle")}, None))


def test_what_is_saved_has_no_pickle(saved: Path) -> None:
    assert not [path for path in saved.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".bin")]
    assert "emofuse" not in (saved / "requirements.txt").read_text()


def test_a_model_is_found_in_the_registry(
    saved: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("emofuse", (tmp_path / "artifacts").as_uri()))
    client.log_artifacts(run.info.run_id, str(saved), "model")
    client.create_registered_model("emofuse-demo-hcam")
    version = client.create_model_version("emofuse-demo-hcam", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("emofuse-demo-hcam", "best-on-dev", version.version)
    found = find("models:/emofuse-demo-hcam@best-on-dev")
    assert found.manifest == bundle.manifest
    assert {path.name for path in found.folders["hcam"].iterdir()} == {"config.json", "model.safetensors"}
    with pytest.raises(BundleError, match="models:/emofuse-demo-other@best-on-dev: "):
        find("models:/emofuse-demo-other@best-on-dev")
