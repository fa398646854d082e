"""Templates and words by which features and templates of the classifier were settled. None of them is in `train`, the
word that gives a kind away is often another kind's, and what is reported is of `held_out`."""

THINGS = (
    "goat", "green van", "waiter", "toy boat", "elevator", "candle", "swimmer", "old lady", "drone", "gate", "horse",
    "blender", "skater", "parcel", "balloon",
)  # fmt: skip
ACTS = (
    ("dives", "diving", "dive"), ("vanishes", "vanishing", "vanish"), ("spins", "spinning", "spin"),
    ("catches fire", "catching fire", "catch fire"), ("waves", "waving", "wave"), ("sinks", "sinking", "sink"),
    ("kicks the bucket over", "kicking the bucket over", "kick the bucket over"), ("blinks", "blinking", "blink"),
)  # fmt: skip
SIGNS = ("billboard", "bottle's sticker", "menu", "whiteboard", "jersey", "ticket")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "when": (
        "At what point can we see the {thing} {do}?",
        "Provide the exact moment of the {thing} {acting}.",
        "Which second of the footage shows the {thing} {acting}?",
        "By what time has the {thing} begun to {do}?",
        "For how many seconds is the {thing} {acting}, and since what time?",
        "Mark the beginning and the end of the part in which the {thing} {act}.",
        "How far into the recording is it that the {thing} {act}?",
        "How much time goes by before the {thing} {act}?",
    ),
    "count": (
        "What is the count of {thing}s that {do}?",
        "How many separate occasions are there of the {thing} {acting}?",
        "By the end, how many times has the {thing} been {acting}?",
        "Number of times the {thing} {act}, please.",
        "Tally every time that the {thing} {act}.",
        "Once, twice or more often: how frequently does the {thing} {do}?",
        "When the {other} is gone, how many {thing}s remain?",
        "How many rounds of {acting} does the {thing} complete?",
    ),
    "order": (
        "Is it the {thing} or the {other} that {act} sooner?",
        "What is the correct sequence of the {thing} {acting} and the {other} {acting}?",
        "Did the {other} {do} prior to the {thing}?",
        "Rank by when they happen: {other} {acting}, {thing} {acting}, {sign}.",
        "Which event precedes the {thing} {acting}?",
        "Of the {thing} and the {other}, whose turn to {do} comes second?",
        "Which came first, the {thing} {acting} or the {other} {acting}?",
        "Are the {thing} and the {other} {acting} one after the other, and which way around?",
    ),
    "happens": (
        "What is taking place here?",
        "What is the {thing} up to?",
        "Can you narrate what the {thing} does?",
        "What occurs between the {thing} and the {other}?",
        "What sort of movement does the {thing} make?",
        "In one sentence, what goes on in the recording?",
        "What did you notice the {thing} doing?",
        "How does the {thing} react to the {other}?",
    ),
    "say": (
        "What can be read on the {sign}?",
        "Which inscription does the {thing} carry?",
        "Spell out what is on the {sign}.",
        "What is the {sign}'s wording?",
        "What do the letters on the {thing} spell?",
        "Which digits appear on the {sign} as the {thing} {act}?",
        "What message is shown on the {sign}?",
        "Please do OCR of the {sign}.",
    ),
    "where": (
        "Whereabouts is the {thing}?",
        "In which corner of the image is the {thing}?",
        "What stands beside the {thing}?",
        "Which side is the {thing} on, left or right?",
        "Is the {thing} above or below the {other}?",
        "Show me the location of the {thing}.",
        "At which place does the {thing} finally rest?",
        "What lies between the {thing} and the {other}?",
    ),
    "look": (
        "Which color does the {thing} have?",
        "What are the looks of the {thing}?",
        "What clothes does the {other} have on?",
        "Is the {thing} striped or plain?",
        "Tell me about the visual details of the {thing}.",
        "What type of {other} can be seen?",
        "How large is the {thing}?",
        "What is the scenery like?",
    ),
}
