"""Voice activity detection with Silero's network, and the turns that follow from it.

The weights are those of the package silero-vad (MIT), which is not imported: it would set the number of torch's
threads for the whole process. The network hears windows of 32 ms at 16 kHz with the 4 ms before each: magnitudes of a
short-time Fourier transform, four convolutions, an LSTM over the windows, and the probability that there is speech.

Sound may come in pieces of any size: state is kept, and turns are the same as those of the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.base import EncoderError

__all__ = ["WINDOW", "Span", "TurnFinder", "VoiceActivity", "find_turns"]

WINDOW = 512
"""Samples that get one probability."""

_CONTEXT = 64
"""Samples before a window that the network hears with it."""

_PACKAGE, _WEIGHTS = "silero_vad", "data/silero_vad_16k.safetensors"

_SPEECH = 0.4
"""Probability at which a turn begins: a little less than the usual half, since shouts get less than words."""

_STILL = 0.25
"""Probability above which it goes on; lower than the other, so that a turn is not cut at every weak sound."""

_PAUSE = round(0.5 * SAMPLE_RATE / WINDOW)
"""Windows without speech that end a turn: half a second, longer than most pauses inside of a sentence."""

_SHORTEST = round(0.25 * SAMPLE_RATE / WINDOW)
"""Windows of speech that make a turn; less is a click or a breath."""

_LONGEST = round(30 * SAMPLE_RATE / WINDOW)
"""Windows of a turn at most: what Whisper hears at once, and less than the limit of any corpus here."""

_AROUND = round(0.1 * SAMPLE_RATE)
"""Samples that a turn has before and after its speech, for the soft sounds at its ends."""

_BLOCK = 2**10
"""Windows that pass the convolutions at once, half a minute: some 75 MB."""


@dataclass(frozen=True)
class Span:
    """A part of a recording, in samples at 16 kHz: from ``start`` up to ``end``."""

    start: int
    end: int


class VoiceActivity(nn.Module):
    """Silero's network at 16 kHz, in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    @classmethod
    def load(cls) -> "VoiceActivity":
        """Read the weights of the installed package.

        Raises:
            EncoderError: the package is not installed, or its weights are not those of this network
        """
        spec = find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise EncoderError(f"voice activity: the package {_PACKAGE.replace('_', '-')} is not installed")
        path = Path(spec.origin).parent / _WEIGHTS
        network = cls()
        try:
            weights = load_file(path)
            network.load_state_dict({_renamed(name): each for name, each in weights.items()})
        except (OSError, RuntimeError, SafetensorError) as error:
            raise EncoderError(f"voice activity: {path}: {' '.join(str(error).split())}") from error
        return network.eval().requires_grad_(False)

    def forward(
        self, windows_NS: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the probabilities ``[N]`` of successive windows, and the state for those that follow.

        Args:
            windows_NS: float32 ``[N, 576]``, each with its context
            state: of the LSTM after the windows before
        """
        x_NCT = nn.functional.pad(windows_NS[:, None], (0, _CONTEXT), "reflect")
        real_NFT, imaginary_NFT = self.stft_conv(x_NCT).chunk(2, dim=1)
        x_NCT = torch.hypot(real_NFT, imaginary_NFT)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x_NCT = layer(x_NCT).relu()
        states_NH, state = self.lstm(x_NCT[..., 0], state)
        return self.final_conv(states_NH.relu().mT).sigmoid()[0], state


def _renamed(name: str) -> str:
    """The LSTM is stored as a cell, which takes a window a call; its weights over all windows at once are the same."""
    return f"{name.replace('lstm_cell', 'lstm')}_l0" if name.startswith("lstm_cell") else name


class TurnFinder:
    """Turns in sound that comes in pieces.

    A turn begins with a window of speech and ends with half a second without; one that becomes longer than 30 s is cut
    where speech is least likely in its second half.
    """

    def __init__(self) -> None:
        self._network = _network()
        self._state: tuple[Tensor, Tensor] | None = None
        self._left = np.zeros(_CONTEXT, np.float32)
        self._windows = 0
        self._samples = 0
        self._start: int | None = None
        self._probabilities: list[float] = []
        self._until = 0

    @property
    def needed_from(self) -> int:
        """First sample that a turn that is still to come may have in it."""
        begin = self._windows if self._start is None else self._start
        return max(self._until, begin * WINDOW - _AROUND)

    def feed(self, samples: np.ndarray) -> Iterator[Span]:
        """Yield the turns that have ended with some more sound, float32 ``[n_samples]`` at 16 kHz."""
        self._samples += len(samples)
        self._left = np.concatenate([self._left, samples])
        while (count := min(_BLOCK, (len(self._left) - _CONTEXT) // WINDOW)) > 0:
            yield from self._hear(count)

    def end(self) -> Iterator[Span]:
        """Yield the turn that the end of the sound ends, if there is one."""
        missing = -(len(self._left) - _CONTEXT) % WINDOW
        if missing:
            self._left = np.concatenate([self._left, np.zeros(missing, np.float32)])
            yield from self._hear(1)
        if self._start is not None:
            yield from self._finish(self._start + len(self._probabilities))

    def _hear(self, count: int) -> Iterator[Span]:
        used = count * WINDOW
        windows = np.lib.stride_tricks.sliding_window_view(self._left[: used + _CONTEXT], WINDOW + _CONTEXT)[::WINDOW]
        with torch.inference_mode():
            probabilities, self._state = self._network(torch.from_numpy(windows.copy()), self._state)
        self._left = self._left[used:]
        for probability in probabilities.tolist():
            yield from self._take(probability)

    def _take(self, probability: float) -> Iterator[Span]:
        number, self._windows = self._windows, self._windows + 1
        if self._start is None:
            if probability >= _SPEECH:
                self._start, self._probabilities = number, [probability]
            return
        self._probabilities.append(probability)
        silent = next(
            (back for back, each in enumerate(reversed(self._probabilities)) if each >= _STILL),
            len(self._probabilities),
        )
        if silent >= _PAUSE:
            yield from self._finish(number + 1 - silent)
        elif len(self._probabilities) >= _LONGEST:
            half = len(self._probabilities) // 2
            cut = half + int(np.argmin(self._probabilities[half:]))
            start, probabilities = self._start + cut, self._probabilities[cut:]
            yield from self._finish(start)
            self._start, self._probabilities = start, probabilities

    def _finish(self, end: int) -> Iterator[Span]:
        start = self._start or 0
        self._start = None
        if end - start >= _SHORTEST:
            span = Span(
                max(self._until, start * WINDOW - _AROUND),
                min(self._samples, end * WINDOW + _AROUND),
            )
            self._until = span.end
            yield span


def find_turns(samples: np.ndarray) -> list[Span]:
    """Return the turns of a recording, float32 ``[n_samples]`` at 16 kHz.

    Raises:
        EncoderError: the package with the network is not there
    """
    finder, step = TurnFinder(), _BLOCK * WINDOW
    parts = (samples[start : start + step] for start in range(0, len(samples), step))
    return [*(span for part in parts for span in finder.feed(part)), *finder.end()]


@lru_cache
def _network() -> VoiceActivity:
    return VoiceActivity.load()
