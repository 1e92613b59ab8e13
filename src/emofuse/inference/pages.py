"""An answer to look at or to go on with: lines for a terminal, JSON, and a page that carries everything with it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from string import Template

from emofuse.inference.manifest import Manifest
from emofuse.inference.model import Answer, Emotion

__all__ = ["as_html", "as_json", "as_text"]

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Emotions of a conversation</title>
<style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --quiet: #666; }
@media (prefers-color-scheme: dark) { :root { --paper: #161616; --ink: #ececec; --quiet: #a0a0a0; } }
body { margin: 0 auto; padding: 1.5rem 1rem; max-width: 44rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; }
p { margin: .3rem 0; }
.quiet { color: var(--quiet); font-size: .875rem; }
ul, ol { list-style: none; margin: 1rem 0; padding: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .875rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .35rem;
  background: var(--class); }
.turn { width: 85%; box-sizing: border-box; margin: 0 0 .8rem; padding: .6rem .8rem; border-radius: .5rem;
  border-left: .4rem solid var(--class);
  background: color-mix(in srgb, var(--class) calc(var(--sure) * 35%), var(--paper)); break-inside: avoid; }
.turn.other { margin-left: 15%; }
.head { display: flex; justify-content: space-between; gap: 1rem; font-size: .875rem; }
.bar { display: flex; height: .4rem; margin-top: .4rem; border-radius: .2rem; overflow: hidden; }
.bar i { background: var(--class); }
* { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
</style>
</head>
<body>
<h1>Emotions of a conversation</h1>
<p class="quiet">$model</p>
$remark<ul class="legend">
$legend
</ul>
<ol>
$turns
</ol>
</body>
</html>""")

_TURN = Template("""<li class="turn$side" style="--class: $colour; --sure: $sure">
<div class="head"><span>$speaker</span><strong>$emotion $percent</strong></div>
<div>$text</div>
$notes<div class="bar" role="img" aria-label="$probabilities">$bar</div>
</li>""")


def as_text(answer: Answer, model: str) -> str:
    """Return a line a turn: number, speaker, emotion, its probability, those of the others, and the words.

    Args:
        answer: what the model said
        model: which model it is, in a line
    """
    rows = [_cells(number, each) for number, each in enumerate(answer.turns, start=1)]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join([model, *([answer.remark] if answer.remark else []), "", *lines])


def as_json(answer: Answer, manifest: Manifest) -> str:
    """Return the answer and what it came from, JSON.

    Args:
        answer: what the model said
        manifest: of the model that was asked
    """
    asked = {name: getattr(manifest, name) for name in ("task", "model", "seed", "fold", "dev")}
    return json.dumps({"asked": asked, **asdict(answer)}, indent=2, ensure_ascii=False)


def as_html(answer: Answer, model: str) -> str:
    """Return a page with the dialogue coloured by emotion, the stronger the surer; it asks nothing of the network.

    Args:
        answer: what the model said
        model: which model it is, in a line
    """
    colours = _colours(list(answer.turns[0].probabilities))
    speakers = list(dict.fromkeys(each.speaker for each in answer.turns))
    legend = (f'<li style="--class: {colour}"><i></i>{escape(name)}</li>' for name, colour in colours.items())
    turns = (_turn(each, colours, speakers.index(each.speaker) % 2 == 1) for each in answer.turns)
    remark = f'<p class="quiet">{escape(answer.remark)}</p>\n' if answer.remark else ""
    return _PAGE.substitute(model=escape(model), remark=remark, legend="\n".join(legend), turns="\n".join(turns))


def _cells(number: int, turn: Emotion) -> list[str]:
    others = (f"{name} {value:.2f}" for name, value in _falling(turn) if name != turn.emotion)
    said = " ".join([turn.text or "", *(f"({note})" for note in turn.notes)]).strip()
    sure = f"{turn.probabilities[turn.emotion]:.2f}"
    return [str(number), turn.speaker or "", turn.emotion, sure, ", ".join(others), said]


def _turn(turn: Emotion, colours: dict[str, str], other: bool) -> str:
    sure = turn.probabilities[turn.emotion]
    bar = (
        f'<i style="--class: {colours[name]}; width: {100 * value:.2f}%"></i>'
        for name, value in turn.probabilities.items()
    )
    return _TURN.substitute(
        side=" other" if other else "",
        colour=colours[turn.emotion],
        sure=f"{sure:.3f}",
        speaker=escape(turn.speaker or ""),
        emotion=escape(turn.emotion),
        percent=f"{100 * sure:.0f} %",
        text=escape(turn.text or "") or '<span class="quiet">no words</span>',
        notes="".join(f'<div class="quiet">{escape(note)}</div>\n' for note in turn.notes),
        probabilities=escape(", ".join(f"{name} {100 * value:.0f} %" for name, value in _falling(turn))),
        bar="".join(bar),
    )


def _falling(turn: Emotion) -> list[tuple[str, float]]:
    return sorted(turn.probabilities.items(), key=lambda each: -each[1])


def _colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour for each class: grey for neutral, the others around the circle of hues."""
    others = [name for name in classes if name != "neutral"]
    hues = {name: f"hsl({360 * index // len(others)} 70% 50%)" for index, name in enumerate(others)}
    return {name: hues.get(name, "hsl(0 0% 55%)") for name in classes}
