"""Templates and words that the classifier is judged by, once. Neither templates nor words for things, acts and signs
are in `train` or in `trial`, by which features and templates were settled; the word that gives a kind away is often
another kind's."""

THINGS = (
    "tractor", "nurse", "puppet", "silver coin", "escalator", "torch", "rider", "postman", "glider", "hatch", "camel",
    "toaster", "juggler", "suitcase", "lantern",
)  # fmt: skip
ACTS = (
    ("bounces", "bouncing", "bounce"), ("slips", "slipping", "slip"), ("collapses", "collapsing", "collapse"),
    ("shuts", "shutting", "shut"), ("bows", "bowing", "bow"), ("glows", "glowing", "glow"),
    ("drops the tray", "dropping the tray", "drop the tray"), ("backs off", "backing off", "back off"),
)  # fmt: skip
SIGNS = ("plaque", "receipt", "monitor", "name tag", "road marking", "book cover")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "when": (
        "Could you tell when exactly the {thing} {act}?",
        "What's the timestamp where the {thing} {act}?",
        "During which seconds can the {thing} be seen {acting}?",
        "Until when does the {thing} go on {acting}?",
        "State the time, in seconds, of the {thing} {acting}.",
        "As of which moment is the {thing} {acting}?",
        "How late in the film does the {thing} {do}?",
        "Please return the start second of the event: the {thing} {act}.",
    ),
    "count": (
        "How many {thing}s are {acting}?",
        "What number of times did you see the {thing} {do}?",
        "Give me the total count of the {thing} {acting}.",
        "How many of the {thing}s {do} once the {other} {act}?",
        "Does the {thing} {do} exactly three times?",
        "How many different times does the {thing} {do} before the end?",
        "Please count: {thing} {acting}.",
        "How many {thing}s can you count?",
    ),
    "order": (
        "Who is first to {do}, the {thing} or the {other}?",
        "Does the {thing} {do} earlier or later than the {other}?",
        "What comes right after the {thing} {acting}?",
        "Order the events: the {other} {acting}; the {thing} {acting}; the {sign} shown.",
        "Was the {thing} {acting} before or after the {other}?",
        "Which of these is the last to happen, the {thing} {acting} or the {other} {acting}?",
        "In which sequence do the {thing} and the {other} appear?",
        "Once the {thing} {act}, what is the next event?",
    ),
    "happens": (
        "What is happening in the clip?",
        "Describe the actions of the {thing}.",
        "What has the {thing} just done?",
        "What is the {thing} trying to do with the {other}?",
        "Tell the story of this video in a few words.",
        "What kind of activity is the {thing} engaged in?",
        "How does the {thing} behave?",
        "What event is shown in these scenes?",
    ),
    "say": (
        "What is the text on the {sign}?",
        "Can you read out the {sign}?",
        "Which words does the {sign} show?",
        "What is printed on the {thing}?",
        "What does the writing on the {thing} say?",
        "Which number does the {thing} wear?",
        "Copy the text of the {sign} word for word.",
        "What name is written on the {sign}?",
    ),
    "where": (
        "Where can the {thing} be found?",
        "Where in the image is the {thing}?",
        "Is the {thing} in front of the {other} or behind it?",
        "What is to the right of the {thing}?",
        "Where has the {thing} been put?",
        "On what is the {thing} standing?",
        "Which part of the frame does the {thing} occupy?",
        "How far to the left is the {thing}, seen from the {other}?",
    ),
    "look": (
        "What colour is the {thing}'s top?",
        "What does the {thing} look like in the last scene?",
        "Describe the {thing} visually.",
        "What pattern does the {thing} have?",
        "Is the {thing} bigger than the {other}?",
        "What kind of place is this?",
        "Which objects are in the room with the {thing}?",
        "What is the {other} dressed in?",
    ),
}
