"""What the people of the demo corpus talk about: topics, sentence templates, emotional arcs, voices. Tables only.

No sentence carries an exclamation mark: espeak-ng would speak it with another melody, and a line whose wording
is emotional must not sound so.
"""

from dataclasses import dataclass

__all__ = [
    "ARCS",
    "CLEAR",
    "DAYS",
    "DELIVERIES",
    "PEOPLE",
    "PLAIN",
    "REPLIES",
    "TIMES",
    "TOPICS",
    "VOICES",
    "Arc",
    "Delivery",
    "Topic",
    "Voice",
]


@dataclass(frozen=True)
class Topic:
    """What a dialogue is about; its words fill the slots ``{thing}`` and ``{place}`` of a template."""

    things: tuple[str, ...]
    places: tuple[str, ...]


TOPICS = (
    Topic(("spare key", "tall lamp", "oak table", "last box", "blue rug"), ("hallway", "flat", "garage", "cellar")),
    Topic(("green bag", "ticket", "road map", "camera", "tent"), ("station", "hotel", "harbour", "car")),
    Topic(("essay", "timetable", "notebook", "dictionary", "form"), ("library", "school", "canteen", "classroom")),
    Topic(("soup", "recipe", "bread", "pan", "menu"), ("kitchen", "market", "bakery", "dining room")),
    Topic(("ladder", "hose", "apple tree", "fence", "bench"), ("garden", "shed", "yard", "greenhouse")),
    Topic(("bike", "pump", "front wheel", "helmet", "chain"), ("workshop", "park", "shop", "basement")),
    Topic(("guitar", "poster", "microphone", "song", "drum"), ("studio", "club", "theatre", "town hall")),
    Topic(("report", "printer", "contract", "slide", "budget"), ("office", "lobby", "meeting room", "archive")),
    Topic(("cake", "invitation", "long dress", "chair", "guest list"), ("chapel", "restaurant", "ballroom", "barn")),
    Topic(("lead", "basket", "collar", "blanket", "bowl"), ("clinic", "kennel", "field", "living room")),
    Topic(("ball", "jersey", "whistle", "flag", "team photo"), ("stadium", "gym", "changing room", "clubhouse")),
    Topic(("novel", "shelf", "letter", "parcel", "newspaper"), ("bookshop", "post office", "café", "museum")),
)

PEOPLE = (
    *("Anna", "Ben", "Carla", "David", "Ella", "Frank", "Grace", "Henry"),
    *("Irene", "Jacob", "Kate", "Leo", "Maria", "Nathan", "Olga", "Peter"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TIMES = ("noon", "two", "three", "half past four", "five", "six", "seven", "eight", "nine", "ten")

PLAIN = (
    "The {thing} is in the {place}.",
    "I put the {thing} next to the door.",
    "{person} will be here at {time}.",
    "We need the {thing} by {day}.",
    "Did {person} bring the {thing}?",
    "The {place} opens at {time}.",
    "So {person} is coming on {day}.",
    "You said the {place} on {day}.",
    "I will be in the {place} at {time}.",
    "{person} has the other {thing}.",
    "Where did you leave the {thing}?",
    "I saw {person} in the {place}.",
    "We can talk about the {thing} on {day}.",
    "The {thing} arrives on {day}.",
    "There is another {thing} in the {place}.",
    "{person} asked about the {thing}.",
    "It starts at {time} on {day}.",
    "I told {person} to wait in the {place}.",
    "What about the {thing} in the {place}?",
    "Take the {thing} over to the {place}.",
    "That is the {thing} {person} was using.",
    "We walked from the {place} with {person}.",
    "{person} moved the {thing} on {day}.",
    "I have to call {person} at {time}.",
    "This is the second {thing} since {day}.",
    "Have you been to the {place} since {day}?",
    "{person} says it was the {thing}.",
    "The {thing} goes with the other one.",
    "You are going to the {place} with {person}.",
    "I looked at the {thing} on {day}.",
    "They changed the {thing} at {time}.",
    "It is about {person} and the {thing}.",
    "I was going to ask {person}.",
    "The people from the {place} called at {time}.",
    "I thought it was {day}.",
    "{person} is still in the {place}.",
    "So this is the {thing}.",
    "You talked to {person} on {day}.",
    "We are meeting {person} at {time}.",
    "That was before {person} came to the {place}.",
)
"""Wording that fits every emotion."""

CLEAR = {
    "happy": (
        "I love how the {thing} turned out.",
        "That is wonderful news about {person}.",
        "I have been smiling since {day}.",
        "The {place} looks beautiful now.",
        "I am so glad {person} is with us.",
        "This is the best {thing} ever.",
        "I cannot wait for {day}.",
        "What a lovely surprise from {person}.",
        "We did it, the {thing} is perfect.",
        "You make me so happy.",
        "I am thrilled about the {place}.",
        "{person} hugged me, it felt great.",
        "It was such fun in the {place}.",
        "I am delighted with the {thing}.",
        "Let us celebrate with {person} on {day}.",
        "I am proud of you and {person}.",
        "We laughed all evening in the {place}.",
        "Fantastic, {person} loved the {thing}.",
        "My dream came true on {day}.",
        "I enjoyed every minute with {person}.",
        "How nice of {person} to share the {thing}.",
        "I feel so lucky with this {thing}.",
        "Everyone cheered in the {place}.",
        "I am excited to see {person} on {day}.",
    ),
    "sad": (
        "I miss {person} so much.",
        "I cried in the {place} on {day}.",
        "It breaks my heart about the {thing}.",
        "I feel so alone since {day}.",
        "We lost {person} on {day}.",
        "The {place} feels empty without {person}.",
        "I wish I could have said goodbye.",
        "I have no hope left for the {thing}.",
        "{person} is gone and it hurts.",
        "I am sorry that I failed you.",
        "Nobody came to the {place} for me.",
        "I was in tears over the {thing}.",
        "I could not stop crying on {day}.",
        "It is so lonely in the {place}.",
        "I lost the {thing} that mother gave me.",
        "I regret what happened with {person}.",
        "I feel miserable about the {thing}.",
        "Everything good ended on {day}.",
        "{person} was very ill on {day}.",
        "I just want to stay in bed.",
        "My heart is heavy because of {person}.",
        "I gave up on the {thing}.",
        "We will never see {person} again.",
        "I am disappointed, it was my last chance.",
    ),
    "angry": (
        "I am sick of the {thing}.",
        "How dare {person} say that.",
        "You ruined the {thing} again.",
        "That is outrageous, tell {person}.",
        "I hate the way {person} talks to me.",
        "Stop lying to me about the {thing}.",
        "This is your fault, not mine.",
        "I have had enough of {person}.",
        "Get out of my {place}.",
        "{person} cheated us with the {thing}.",
        "It makes me furious to see the {place}.",
        "Do not touch my {thing}.",
        "You never listen to me.",
        "Who broke my {thing} on {day}?",
        "What an insult from {person}.",
        "I will not put up with {person}.",
        "This stupid {thing} drives me mad.",
        "You promised, and you lied on {day}.",
        "I demand an apology from {person}.",
        "That is a disgrace, the whole {place}.",
        "{person} had no right to take the {thing}.",
        "Shut up about the {thing}.",
        "I want to scream at {person}.",
        "It is unfair, and {person} knows it.",
    ),
}
"""Wording that gives the emotion away."""

REPLIES = (
    "Yes, I know that.",
    "Yes, I see that.",
    "That is right.",
    "Yes, that is so.",
    "I think so too.",
    "Yes, exactly that.",
    "I heard that too.",
    "You said so before.",
    "I noticed that too.",
    "It is the same for me.",
    "That is what I said.",
    "Yes, it was on {day}.",
    "It was at {time}, yes.",
    "{person} said that too.",
    "Yes, {person} told me.",
    "That goes for me too.",
)
"""Short answers that take over the emotion of the turn before them."""

Arc = tuple[tuple[str, str], ...]

ARCS: tuple[Arc, ...] = (
    (("neutral", "neutral"), ("angry", "neutral"), ("angry", "angry"), ("neutral", "neutral")),
    (("neutral", "neutral"), ("happy", "neutral"), ("happy", "happy")),
    (("sad", "neutral"), ("sad", "sad"), ("neutral", "neutral"), ("happy", "happy")),
    (("happy", "happy"), ("angry", "happy"), ("angry", "angry"), ("sad", "sad")),
    (("angry", "angry"), ("sad", "angry"), ("sad", "sad"), ("neutral", "neutral")),
    (("neutral", "neutral"), ("neutral", "sad"), ("sad", "sad")),
    (("angry", "angry"), ("neutral", "angry"), ("happy", "happy")),
    (("happy", "happy"), ("happy", "sad"), ("sad", "sad"), ("neutral", "neutral")),
    (("sad", "sad"), ("angry", "sad"), ("angry", "angry")),
    (("happy", "happy"), ("happy", "neutral"), ("neutral", "neutral"), ("angry", "angry")),
)
"""Stages of a dialogue, each the emotions of the speaker who opens it and of the other one."""


@dataclass(frozen=True)
class Delivery:
    """How an emotion moves a speaker's own manner.

    Attributes:
        rate: factor on words a minute
        pitch: added to espeak-ng's pitch
        range: added to espeak-ng's pitch range
        volume: factor on the amplitude
    """

    rate: float
    pitch: float
    range: float
    volume: float


DELIVERIES = {
    "neutral": Delivery(rate=1.0, pitch=0, range=0, volume=1.0),
    "happy": Delivery(rate=1.15, pitch=30, range=40, volume=1.5),
    "sad": Delivery(rate=0.72, pitch=-18, range=-35, volume=0.45),
    "angry": Delivery(rate=1.35, pitch=-10, range=10, volume=2.2),
}


@dataclass(frozen=True)
class Voice:
    """A speaker: a voice of espeak-ng and a manner of his or her own.

    Attributes:
        name: espeak-ng's name, an accent and a variant; it is the speaker's id in the corpus
        rate: words a minute when calm
        pitch: espeak-ng's pitch when calm, 0 to 99
        volume: espeak-ng's amplitude when calm; makes voices of different strength about equally loud
    """

    name: str
    rate: int
    pitch: int
    volume: int


VOICES = {
    "train": (
        Voice("en-us+m1", 167, 46, 50),
        Voice("en+m3", 171, 57, 39),
        Voice("en-gb-scotland+m6", 180, 44, 36),
        Voice("en-029+m7", 179, 42, 35),
        Voice("en-gb-x-gbclan+m8", 189, 57, 57),
        Voice("en-us+f1", 168, 49, 38),
        Voice("en+f3", 166, 57, 39),
        Voice("en-gb-x-rp+f5", 177, 57, 41),
        Voice("en-us+Alicia", 172, 46, 37),
        Voice("en-us-nyc+Andy", 167, 46, 28),
        Voice("en-gb-x-gbcwmd+Mike", 187, 58, 54),
        Voice("en+Storm", 172, 42, 25),
        Voice("en-us+boris", 181, 44, 52),
        Voice("en-gb-scotland+grandma", 165, 43, 37),
        Voice("en-029+anika", 169, 42, 26),
        Voice("en-us-nyc+quincy", 186, 50, 53),
        Voice("en+Andrea", 175, 54, 22),
        Voice("en-gb-x-rp+gustave", 182, 55, 23),
        Voice("en-gb-x-gbclan+Annie", 172, 56, 34),
        Voice("en-us+grandpa", 190, 46, 43),
    ),
    "dev": (
        Voice("en-us+m4", 188, 53, 44),
        Voice("en-gb-scotland+f2", 163, 43, 30),
        Voice("en+Denis", 164, 57, 70),
        Voice("en-us-nyc+aunty", 166, 50, 36),
        Voice("en-gb-x-rp+steph", 190, 55, 35),
        Voice("en-029+travis", 184, 51, 33),
    ),
    "test": (
        Voice("en+m2", 173, 58, 48),
        Voice("en-us+m5", 186, 54, 48),
        Voice("en-gb-x-rp+f4", 178, 53, 37),
        Voice("en-us+belinda", 177, 55, 35),
        Voice("en-029+Gene", 178, 49, 27),
        Voice("en-gb-scotland+robert", 188, 52, 43),
        Voice("en-us-nyc+john", 181, 42, 25),
        Voice("en-gb-x-gbclan+shelby", 187, 50, 35),
        Voice("en+Alex", 179, 47, 45),
        Voice("en-us+miguel", 182, 52, 30),
    ),
}
"""The speakers of each split; no variant is in two of them."""
