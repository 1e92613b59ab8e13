"""Speech synthesis with espeak-ng's shared library, reproducible to the sample."""

import ctypes
import threading
from _ctypes import dlclose
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader
import numpy as np

__all__ = ["Speech", "SpeechError"]

_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8 = 1
_FULL_SCALE = 32_768

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

# The library's state is global, and there is one library in a process.
_LOCK = threading.Lock()


class SpeechError(ValueError):
    """The library cannot speak what it was asked to; the message names the voice."""


@dataclass(frozen=True)
class Speech:
    """Instructions to speak one text; an :class:`emofuse.audio.sound.AudioSource`.

    Attributes:
        text: the words, in English
        voice: an accent of espeak-ng, with a variant after a plus sign if one is wanted, as in ``en-us+m3``
        rate: words a minute, 80 to 450
        pitch: 0 to 99; 50 is the voice's own
        range: how far the pitch moves, 0 (monotone) to 99; 50 is the voice's own
        volume: amplitude in percent of the voice's own, 0 to 200; some voices clip at 100
        name: file name that is stored beside the audio
    """

    text: str
    voice: str
    rate: int
    pitch: int
    range: int
    volume: int
    name: str

    def load(self) -> tuple[np.ndarray, int]:
        """Speak the text: samples, float32 ``[1, n_samples]`` in [-1, 1], and their rate in Hz.

        Raises:
            SpeechError: there is no such voice, or the text has nothing to say
        """
        with _LOCK, _library() as (library, sample_rate):
            _choose(library, self)
            pcm = _speak(library, self.text)
        if not any(pcm):
            raise SpeechError(f"{self.name}: voice {self.voice!r} has nothing to say for the text {self.text!r}")
        samples = np.frombuffer(pcm, dtype=np.int16).astype(np.float32) / _FULL_SCALE
        return samples[np.newaxis], sample_rate


@contextmanager
def _library() -> Iterator[tuple[ctypes.CDLL, int]]:
    # The library keeps oscillators, echoes and noise from one utterance to the next, even when it is terminated and
    # initialised again, and seeds its noise with the clock. Loading it anew (4 ms) is the only way to a clean slate.
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        data = espeakng_loader.get_data_path().encode()
        sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
        if sample_rate <= 0:
            raise SpeechError(f"espeak-ng cannot read its data in {espeakng_loader.get_data_path()}")
        library.espeak_ng_SetRandSeed(ctypes.c_long(0))
        yield library, sample_rate
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)


def _choose(library: ctypes.CDLL, speech: Speech) -> None:
    _, _, variant = speech.voice.partition("+")
    # An unknown variant is passed over without a word, only an unknown accent is refused.
    known = not variant or (Path(espeakng_loader.get_data_path()) / "voices" / "!v" / variant).is_file()
    if not known or library.espeak_SetVoiceByName(speech.voice.encode()):
        raise SpeechError(f"{speech.name}: espeak-ng has no voice {speech.voice!r}; expected one like 'en-us+m3'")
    manner = {_RATE: speech.rate, _VOLUME: speech.volume, _PITCH: speech.pitch, _RANGE: speech.range}
    for parameter, value in manner.items():
        library.espeak_SetParameter(parameter, value, 0)


def _speak(library: ctypes.CDLL, text: str) -> bytes:
    chunks: list[bytes] = []

    def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int | None) -> int:
        if samples and count:
            chunks.append(ctypes.string_at(samples, count * ctypes.sizeof(ctypes.c_short)))
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode() + b"\0"
    library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    return b"".join(chunks)
