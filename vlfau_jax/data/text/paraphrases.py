"""Further wordings of the descriptions in facs.py, for `data.descriptions=paraphrased`.

Our own words, as those are. For each unit: a verb phrase, two sentences for its presence and two
for its absence, in other words and about other cues than the ones of facs.py; none is longer, so
that rows of tokens stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple


class Wordings(NamedTuple):
    """One unit's: as in `facs.ActionUnit`."""

    verb_phrase: str
    active: tuple[str, str]
    inactive: tuple[str, str]


PARAPHRASES: dict[int, Wordings] = {
    1: Wordings(
        "lifts the brows in the middle",
        (
            "both brows slope up toward the centre, their inner ends are lifted, "
            "and the forehead folds above the nose.",
            "an upward pull moves the inner ends of the brows, which form a tent over the nose.",
        ),
        (
            "nothing lifts the inner ends of the brows, and the forehead above the nose is even.",
            "the brows lie in their usual line toward the nose, without a tent or folds above it.",
        ),
    ),
    2: Wordings(
        "arches the brows at the sides",
        (
            "the tails of the brows go up, each brow becomes a high bow, "
            "and the skin beside the temples folds.",
            "the outer half of the brows is lifted away from the eyes, which uncovers the lids.",
        ),
        (
            "the tails of the brows stay down, and no high bow can be seen.",
            "nothing lifts the outer half of the brows, they are as near to the eyes as usual.",
        ),
    ),
    4: Wordings(
        "frowns with the brows",
        (
            "the brows frown, they sink toward the eyes and come closer, "
            "with upright furrows above the nose.",
            "a frown draws the brows low and near to each other, and it shades the eyes.",
        ),
        (
            "there is no frown, the brows lie wide apart and leave the eyes in the light.",
            "the brows stay high and relaxed, without upright furrows above the nose.",
        ),
    ),
    5: Wordings(
        "opens the eyes wide",
        (
            "the eyes are opened wide, the upper lids draw back and uncover white over the pupils.",
            "a stare opens the eyes, since the upper lids go up and almost disappear.",
        ),
        (
            "the eyes are open as usual, the upper lids cover the rim of the iris.",
            "there is no stare, the upper lids lie where they are at rest.",
        ),
    ),
    6: Wordings(
        "lifts the cheeks to the eyes",
        (
            "the cheeks move up toward the eyes, they push the lower lids, "
            "and fans of lines open at the temples.",
            "a ring of muscle around the eyes draws the cheeks up and gathers the skin there.",
        ),
        (
            "the cheeks hang in their usual place, and no fans of lines open at the temples.",
            "the ring of muscle around the eyes is at ease, and nothing gathers the skin there.",
        ),
    ),
    7: Wordings(
        "narrows the eyes with the lids",
        (
            "tension in the lids narrows the eyes, and the lower one rises to a level line.",
            "both lids are tense, they close in on the pupils, and the eyes look hard.",
        ),
        (
            "there is no tension in the lids, and the eyes are as open as usual.",
            "both lids are soft, the lower one hangs in a bow, and the eyes look calm.",
        ),
    ),
    9: Wordings(
        "crinkles the nose",
        (
            "the nose crinkles, folds cross its root, and the nostrils go up and widen.",
            "an upward pull shortens the nose and folds the skin on both of its sides.",
        ),
        (
            "the nose keeps its length, and no folds cross its root.",
            "nothing pulls at the nose, the nostrils are in their usual place.",
        ),
    ),
    10: Wordings(
        "lifts the upper lip",
        (
            "the upper lip goes up in its middle, it may uncover the teeth, "
            "and a bent fold frames the nostrils.",
            "an upward pull squares the upper lip and pushes up the skin beside the nostrils.",
        ),
        (
            "the upper lip stays down over the teeth, and no bent fold frames the nostrils.",
            "nothing pulls the upper lip up, and its line is as at rest.",
        ),
    ),
    11: Wordings(
        "draws the fold of the cheek",
        (
            "a clear line runs from the nostril down the cheek, as the lip is drawn toward it.",
            "the crease that frames the cheek is deeper half way down, where the skin is pulled.",
        ),
        (
            "only a faint line runs from the nostril down the cheek.",
            "the crease that frames the cheek is shallow half way down, since nothing pulls there.",
        ),
    ),
    12: Wordings(
        "smiles with the mouth",
        (
            "the mouth smiles, its ends rise toward the ears, and the cheeks become full.",
            "a smile widens the mouth and bends its line up at both ends.",
        ),
        (
            "the mouth makes no smile, its ends are as low as its centre.",
            "nothing widens the mouth or bends its line up, and the cheeks are as at rest.",
        ),
    ),
    13: Wordings(
        "sharpens the lip corners upward",
        (
            "the ends of the mouth rise steeply and become points, while the cheeks swell.",
            "a steep pull narrows the ends of the mouth and blows up the cheeks above them.",
        ),
        (
            "the ends of the mouth make no points, and the cheeks swell nowhere.",
            "there is no steep pull at the ends of the mouth, nothing blows up the cheeks.",
        ),
    ),
    14: Wordings(
        "presses the mouth corners in",
        (
            "dimples form where the ends of the mouth are sucked toward the teeth.",
            "the cheek muscle holds the ends of the mouth tight, which folds the skin there.",
        ),
        (
            "the ends of the mouth are at ease, and the cheeks form no dimples.",
            "the cheek muscle holds nothing tight, the skin at the ends of the mouth is even.",
        ),
    ),
    15: Wordings(
        "turns the mouth down",
        (
            "the mouth turns down, its ends sink toward the jaw, and the chin tightens beneath.",
            "a downward pull bends the line of the mouth into a bow that hangs at both ends.",
        ),
        (
            "the mouth turns nowhere, its ends are level, and the chin beneath is at ease.",
            "there is no downward pull, the line of the mouth hangs at neither end.",
        ),
    ),
    16: Wordings(
        "pulls the lower lip down",
        (
            "the lower lip goes down and uncovers the teeth behind it, its red widens.",
            "a downward pull opens the mouth from beneath, and the lower lip is tense.",
        ),
        (
            "the lower lip stays up and covers the teeth behind it.",
            "nothing pulls the lower lip down or opens the mouth from beneath.",
        ),
    ),
    17: Wordings(
        "pushes the chin up",
        (
            "the chin rises and dents like the peel of an orange, with the lower lip on top of it.",
            "an upward push of the chin bends the mouth into an arch and thrusts the lip out.",
        ),
        (
            "the chin hangs at ease, its skin has no dents.",
            "nothing pushes the chin up, and the lip above it is not thrust out.",
        ),
    ),
    18: Wordings(
        "rounds the lips to a kiss",
        (
            "the lips form a kiss, they come forward as one, with lines around them.",
            "the mouth is gathered like a bag that is laced up, and its ends move inward.",
        ),
        (
            "the lips form no kiss, and their ends are as far apart as usual.",
            "nothing gathers the mouth, it is flat from end to end.",
        ),
    ),
    20: Wordings(
        "draws the lips sideways",
        (
            "the ends of the mouth are drawn back toward the ears, flat and level.",
            "a sideways pull makes the mouth wide, and it flattens the lips and the chin.",
        ),
        (
            "nothing draws the ends of the mouth back toward the ears.",
            "there is no sideways pull, and the mouth is as wide as usual.",
        ),
    ),
    22: Wordings(
        "turns the lips outward",
        (
            "both lips flare, they stand away from the teeth as in a long vowel.",
            "the mouth makes a funnel, whose wide end is turned to the front.",
        ),
        (
            "the lips make no funnel, they follow the row of the teeth.",
            "neither lip flares or stands away from the teeth.",
        ),
    ),
    23: Wordings(
        "hardens the lips",
        (
            "the red of the lips gets narrow, as they are tense and turn a little inward.",
            "tension makes both lips firm and thin, with many short lines at their rim.",
        ),
        (
            "the red of the lips is as broad as usual, and there is no tension in it.",
            "both lips are full and at ease, without short lines at their rim.",
        ),
    ),
    24: Wordings(
        "squeezes the lips shut",
        (
            "one lip is squeezed against the other, and hardly any red remains to see.",
            "the mouth is shut hard, it is a thin line with swollen skin on both sides of it.",
        ),
        (
            "neither lip is squeezed, and their red is seen as usual.",
            "if the mouth is shut, it is shut softly, and the skin beside it lies flat.",
        ),
    ),
    25: Wordings(
        "opens the lips",
        (
            "the lips are apart, and one can look between them.",
            "the mouth is open at least a little, since the lips have come off each other.",
        ),
        (
            "the lips meet along the whole mouth, and one cannot look between them.",
            "the mouth is closed, each lip touches the other.",
        ),
    ),
    26: Wordings(
        "lets the jaw fall",
        (
            "the jaw falls by its own weight, the rows of teeth leave each other.",
            "the mouth is long because the relaxed jaw hangs beneath it.",
        ),
        (
            "the jaw falls nowhere, the rows of teeth are close to each other.",
            "nothing hangs beneath the mouth, the jaw is held as usual.",
        ),
    ),
    27: Wordings(
        "yawns with the mouth",
        (
            "the mouth gapes as in a yawn, with the jaw forced down as far as it goes.",
            "muscles force the jaw down, and one looks deep into the tall mouth.",
        ),
        (
            "the mouth gapes in no yawn, nothing forces the jaw down.",
            "one cannot look deep into the mouth, which is shut or a little open.",
        ),
    ),
    28: Wordings(
        "hides the lips in the mouth",
        (
            "the lips are hidden, they lie inside between the rows of teeth.",
            "the mouth has swallowed its own red, and a smooth rim is all one sees.",
        ),
        (
            "the lips lie outside, in front of the rows of teeth.",
            "the red of the mouth is there to see, nothing has swallowed it.",
        ),
    ),
    43: Wordings(
        "keeps the eyes closed",
        (
            "the eyes stay closed as in sleep, and no white shows.",
            "the upper lids have sunk over the eyes, and they remain down.",
        ),
        (
            "the eyes are awake and open, one can see where they look.",
            "the upper lids have not sunk, and they let the eyes see.",
        ),
    ),
    44: Wordings(
        "peers through narrow eyes",
        (
            "the eyes peer out between lids that are squeezed nearly shut, as in bright light.",
            "a squint leaves a thin gap for each eye, with bags of skin beneath it.",
        ),
        (
            "there is no squint, and the gap of each eye is as high as usual.",
            "the eyes look out freely, no lids are squeezed, and the skin beneath is flat.",
        ),
    ),
    45: Wordings(
        "shuts the eyes for a moment",
        (
            "the person blinks, the lids come down for less than a second.",
            "a blink covers the eyes in passing, soft and without effort.",
        ),
        (
            "the person does no blinking, the lids are where they were before.",
            "there is no blink that covers the eyes in passing.",
        ),
    ),
    46: Wordings(
        "shuts one eye",
        (
            "the person winks, as a single eye closes and the second one watches.",
            "a wink shuts the lids on one side of the face, where the cheek goes up, too.",
        ),
        (
            "the person does no winking, either eye is as open as the second one.",
            "there is no wink that shuts the lids on one side of the face.",
        ),
    ),
}
