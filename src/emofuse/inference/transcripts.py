"""Speech recognisers by name."""

from typing import TYPE_CHECKING

from emofuse.encoders.weights import model_folder
from emofuse.inference import whisper

if TYPE_CHECKING:
    from emofuse.inference.hearing import Transcriber

__all__ = ["recogniser"]


def recogniser(name: str | None = None) -> "Transcriber":
    """Load a speech recogniser: a Whisper as CTranslate2 writes it, or any of transformers.

    Args:
        name: a local folder, ``package:<name>/<folder>`` of an installed package, or a hub id with a pinned revision,
            ``id@revision``, that is in the local cache; None for :data:`~emofuse.inference.whisper.PACKAGED`

    Raises:
        EncoderError: the model is not there, is no speech recogniser, or is damaged
    """
    name = whisper.PACKAGED if name is None else name
    folder = model_folder(name)
    if folder is not None and (folder / whisper.WEIGHTS).is_file():
        return whisper.Whisper(folder, name)
    from emofuse.inference.pipelines import Recogniser  # here, since transformers takes seconds to import

    return Recogniser(name)
