"""The colour of each emotion, the same in all pages.

The name always stands beside its colour, so that nothing rests on telling two of them apart.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

__all__ = ["MEANINGS", "emotion_colours"]

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "neutral": "#8a8f98",
        "anger": "#d1342f",
        "joy": "#e8a317",
        "sadness": "#2f6fd0",
        "fear": "#7d4fc4",
        "disgust": "#6f8f1f",
        "surprise": "#e26fb0",
        "excitement": "#f07a1c",
        "frustration": "#96402e",
        "boredom": "#8d7355",
        "contempt": "#5c5470",
        "calm": "#5fb3ce",
        "positive": "#3f9b4b",
        "negative": "#a3285f",
    }
)
"""Colours by meaning, legible as a mark on white and on near-black."""

_SPELLINGS = {
    "neutral": ("neu",),
    "anger": ("ang", "angry"),
    "joy": ("hap", "happiness", "happy"),
    "sadness": ("sad",),
    "fear": ("fea", "fearful", "afraid"),
    "disgust": ("dis", "disgusted"),
    "surprise": ("sur", "surprised"),
    "excitement": ("exc", "excited"),
    "frustration": ("fru", "frustrated"),
    "boredom": ("bored",),
    "contempt": ("contemptuous",),
    "calm": ("calmness",),
    "positive": ("pos",),
    "negative": ("neg",),
}
_MEANING = {word: meaning for meaning, words in _SPELLINGS.items() for word in (meaning, *words)}

_OTHERS = ("#1f9e89", "#b58900", "#5470c6", "#c05d94", "#4d7c0f", "#0e7490", "#9a6fb0", "#7c6f64")
"""Of classes that have no meaning here, in their order."""


def emotion_colours(classes: Sequence[str]) -> dict[str, str]:
    """Return a colour for each class: that of its meaning; another where it has none or the colour is taken.

    >>> emotion_colours(["Angry", "anger", "neutral"])
    {'Angry': '#d1342f', 'anger': '#1f9e89', 'neutral': '#8a8f98'}
    """
    colours: dict[str, str] = {}
    for name in classes:
        own = MEANINGS.get(_MEANING.get(name.lower(), ""))
        free = [each for each in (own, *_OTHERS) if each and each not in colours.values()]
        colours[name] = free[0] if free else _OTHERS[len(colours) % len(_OTHERS)]
    return colours
