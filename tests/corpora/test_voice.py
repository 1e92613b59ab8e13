import hashlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.corpora.demo.voice import Speech, SpeechError

SPEECH = Speech("The oak table is in the hallway.", "en-us+m3", rate=175, pitch=50, range=50, volume=50, name="a.wav")

# Plain, breathing with an echo, whispering, and of another synthesizer: each keeps another state in the library.
VOICES = ["en-us+m3", "en-gb-scotland+f5", "en-us+whisper", "en-us+klatt2"]


def sha256(speech: Speech) -> str:
    return hashlib.sha256(speech.load()[0].tobytes()).hexdigest()


@pytest.fixture(scope="module")
def baseline() -> str:
    return sha256(SPEECH)


def test_sound_is_one_channel_of_floats_in_range():
    samples, rate = SPEECH.load()
    assert rate == 22_050
    assert samples.dtype == np.float32
    assert samples.shape[0] == 1
    assert 1.0 < samples.shape[1] / rate < 3.0
    assert 0.05 < np.abs(samples).max() < 1.0


@pytest.mark.parametrize("voice", VOICES)
def test_predecessors_leave_no_trace(voice: str):
    speech = replace(SPEECH, voice=voice)
    alone = sha256(speech)
    for other in (replace(SPEECH, voice="en-us+f4", text="Yes."), replace(speech, rate=300, pitch=80, volume=90)):
        other.load()
        assert sha256(speech) == alone


@settings(max_examples=20, deadline=None)
@given(text=st.from_regex(r"[A-Za-z]{1,8}( [a-z]{1,8}){0,4}\??", fullmatch=True), rate=st.integers(80, 450))
def test_any_predecessor_leaves_no_trace(baseline: str, text: str, rate: int):
    replace(SPEECH, text=text, rate=rate).load()
    assert sha256(SPEECH) == baseline


def test_failed_predecessor_leaves_no_trace(baseline: str):
    with pytest.raises(SpeechError):
        replace(SPEECH, voice="en-us+nobody").load()
    assert sha256(SPEECH) == baseline


def test_processes_agree():
    script = (
        "import hashlib, pickle, sys\n"
        "for speech in pickle.load(sys.stdin.buffer):\n"
        "    print(hashlib.sha256(speech.load()[0].tobytes()).hexdigest())\n"
    )
    speeches = [replace(SPEECH, voice=voice) for voice in VOICES]
    run = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(speeches), capture_output=True, check=True)
    assert run.stdout.decode().split() == [sha256(speech) for speech in speeches]


def test_threads_agree():
    speeches = [replace(SPEECH, voice=voice, rate=rate) for voice in VOICES for rate in (120, 180, 240)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sha256, speeches)) == [sha256(speech) for speech in speeches]


def test_slower_is_longer():
    fast, slow = (replace(SPEECH, rate=rate).load()[0] for rate in (240, 120))
    assert slow.shape[1] > 1.5 * fast.shape[1]


def test_volume_is_amplitude():
    soft, loud = (replace(SPEECH, volume=volume).load()[0] for volume in (20, 60))
    assert np.std(loud) == pytest.approx(3 * np.std(soft), rel=0.15)


@pytest.mark.parametrize("other", [{"pitch": 70}, {"range": 90}, {"voice": "en-us+m5"}, {"voice": "en-029+m3"}])
def test_every_instruction_is_heard(other: dict[str, int | str]):
    assert sha256(replace(SPEECH, **other)) != sha256(SPEECH)


def test_pickled_speech_sounds_the_same():
    copy = pickle.loads(pickle.dumps(SPEECH))  # noqa: S301
    assert copy == SPEECH
    assert sha256(copy) == sha256(SPEECH)


@pytest.mark.parametrize("voice", ["en-us+nobody", "xx-nowhere", "xx-nowhere+m3", ""])
def test_unknown_voice_is_named(voice: str):
    with pytest.raises(SpeechError, match=rf"a\.wav: espeak-ng has no voice '{voice.replace('+', '.')}'"):
        replace(SPEECH, voice=voice).load()


@pytest.mark.parametrize("text", ["", " ", "...", "— … «»"])
def test_nothing_to_say_is_an_error(text: str):
    with pytest.raises(SpeechError, match="nothing to say"):
        replace(SPEECH, text=text).load()
