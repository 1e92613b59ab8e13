"""Trained models in use: :func:`load` one, from a project, a bundle or the tracker's registry, and ask it."""

from emofuse.inference.bundle import Bundle, BundleError, write_bundle
from emofuse.inference.conversation import Conversation, ConversationError, Turn
from emofuse.inference.model import Answer, Emotion, Model
from emofuse.inference.sources import best_of_project, find, load

__all__ = [
    "Answer",
    "Bundle",
    "BundleError",
    "Conversation",
    "ConversationError",
    "Emotion",
    "Model",
    "Turn",
    "best_of_project",
    "find",
    "load",
    "write_bundle",
]
