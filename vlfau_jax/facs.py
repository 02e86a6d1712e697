"""The Facial Action Coding System as a table: its action units of the face, 28 of them.

Numbers, names and muscles follow Ekman, Friesen and Hager, "Facial Action Coding System" (2002),
those of AU 44 the first edition (Ekman and Friesen, 1978). The descriptions are our own words for
the cues an observer looks for; no published list is copied. They use a small vocabulary and have
nearly the same length, because every caption row is padded to the longest, and both cost time in a
word-level captioner. None says left or right: training mirrors faces.
"""

from __future__ import annotations

from dataclasses import dataclass

REGIONS = ("brow", "eye", "nose", "cheek", "mouth", "chin")


@dataclass(frozen=True)
class ActionUnit:
    """One action unit: its name, its muscles, and the sentences for its two states.

    Attributes:
        number: the FACS number.
        name: the FACS name, lower case.
        muscles: anatomical names of the muscles that act, or relax where that is said.
        region: the part of the face that changes most, one of `REGIONS`.
        verb_phrase: third person singular, as it stands in a sentence about the whole face.
        active: the local description when the unit is on; lower case, commas and a final period.
        inactive: the local description when the unit is off.
    """

    number: int
    name: str
    muscles: tuple[str, ...]
    region: str
    verb_phrase: str
    active: str
    inactive: str


_TABLE = (
    ActionUnit(
        1,
        "inner brow raiser",
        ("frontalis, pars medialis",),
        "brow",
        "raises inner brow",
        "the inner corners of the brows are raised, the centre of the forehead is pushed up, "
        "and short horizontal wrinkles show in its skin.",
        "the inner corners of the brows are not raised, they rest low, "
        "and the skin in the centre of the forehead is flat and smooth.",
    ),
    ActionUnit(
        2,
        "outer brow raiser",
        ("frontalis, pars lateralis",),
        "brow",
        "raises outer brow",
        "the outer parts of the brows are raised into an arch, wrinkles show above them, "
        "and more of the fold of the upper lid shows.",
        "the outer parts of the brows are not raised, they rest without an arch, "
        "and the skin above them is flat on both sides.",
    ),
    ActionUnit(
        4,
        "brow lowerer",
        ("corrugator supercilii", "depressor supercilii", "procerus"),
        "brow",
        "lowers brow",
        "the brows are pulled down and drawn together, the eyes look deeper under them, "
        "and vertical wrinkles show in the skin between the two brows.",
        "the brows are not pulled down or drawn together, they rest apart from each other, "
        "and the skin between them is flat and smooth.",
    ),
    ActionUnit(
        5,
        "upper lid raiser",
        ("levator palpebrae superioris", "superior tarsal muscle"),
        "eye",
        "raises upper lids",
        "the upper lids are raised, more of the white above the iris shows, "
        "the eyes look wide open, and the gaze seems fixed on one point.",
        "the upper lids are not raised, they rest over the top of the iris, "
        "and the white of the eyes shows only at its sides.",
    ),
    ActionUnit(
        6,
        "cheek raiser",
        ("orbicularis oculi, pars orbitalis",),
        "cheek",
        "raises cheek",
        "the cheeks are raised, the furrow under the eyes becomes deeper, "
        "and small wrinkles spread from the outer corners of both eyes to the sides.",
        "the cheeks are not raised, they stay relaxed and low, "
        "and the skin under the eyes and at their outer corners is smooth.",
    ),
    ActionUnit(
        7,
        "lid tightener",
        ("orbicularis oculi, pars palpebralis",),
        "eye",
        "tightens lids",
        "the lids are tightened, the edge of the lower lid is raised and straight, "
        "and the opening of the eyes is narrow on both sides.",
        "the lids are not tightened, the edge of the lower lid is relaxed and curved, "
        "and the opening of the eyes has its normal height.",
    ),
    ActionUnit(
        9,
        "nose wrinkler",
        ("levator labii superioris alaeque nasi",),
        "nose",
        "wrinkles nose",
        "the nose is wrinkled, its skin is drawn up, its wings are lifted, "
        "and wrinkles show along both sides of the bridge of the nose.",
        "the nose is not wrinkled, its wings are not lifted, "
        "and the skin along both sides of the bridge of the nose is smooth.",
    ),
    ActionUnit(
        10,
        "upper lip raiser",
        ("levator labii superioris, caput infraorbitalis",),
        "mouth",
        "raises upper lip",
        "the upper lip is raised straight up, its middle is higher than its corners, "
        "and the furrow beside the nose becomes deeper on both sides.",
        "the upper lip is not raised, it rests in its normal shape, "
        "and the furrow beside the nose is shallow on both sides of the face.",
    ),
    ActionUnit(
        11,
        "nasolabial deepener",
        ("zygomaticus minor",),
        "cheek",
        "deepens fold beside nose",
        "the fold between the nose and the cheek is deepened, its middle is drawn up and out, "
        "and the upper lip is lifted a little at the sides.",
        "the fold between the nose and the cheek is not deepened, "
        "it stays soft from top to bottom, and the sides of the upper lip keep their place.",
    ),
    ActionUnit(
        12,
        "lip corner puller",
        ("zygomaticus major",),
        "mouth",
        "pulls lip corner",
        "the corners of the lips are pulled up and out, the cheeks bunch above them, "
        "and the furrow from nose to mouth becomes deeper.",
        "the corners of the lips are not pulled up or out, "
        "they stay level with the middle of the mouth, and the cheeks are flat.",
    ),
    ActionUnit(
        13,
        "sharp lip puller",
        ("levator anguli oris",),
        "mouth",
        "pulls lips sharply up",
        "the corners of the lips are pulled straight up at a sharp angle, "
        "the cheeks puff out like small balls under the eyes, and the mouth curves up.",
        "the corners of the lips are not pulled straight up, "
        "they are soft and round instead of sharp, and the cheeks stay even under the eyes.",
    ),
    ActionUnit(
        14,
        "dimpler",
        ("buccinator",),
        "mouth",
        "dimples",
        "the corners of the lips are tightened and pulled in, they press against the teeth, "
        "and a small dimple shows beside each corner.",
        "the corners of the lips are not tightened or pulled in, they stay loose, "
        "and no dimple shows in the skin beside each corner.",
    ),
    ActionUnit(
        15,
        "lip corner depressor",
        ("depressor anguli oris",),
        "mouth",
        "depresses lip corner",
        "the corners of the lips are pulled down, the lower lip is stretched flat, "
        "and small pouches show in the skin below the corners.",
        "the corners of the lips are not pulled down, the line of the mouth is level, "
        "and the skin below the corners has no pouches.",
    ),
    ActionUnit(
        16,
        "lower lip depressor",
        ("depressor labii inferioris",),
        "mouth",
        "depresses lower lip",
        "the lower lip is drawn down, its edge turns out and stretches to the sides, "
        "the lower teeth show, and the chin flattens a little.",
        "the lower lip is not drawn down, its edge lies close to the teeth, "
        "it hides the lower teeth, and the chin keeps its form.",
    ),
    ActionUnit(
        17,
        "chin raiser",
        ("mentalis",),
        "chin",
        "raises chin",
        "the chin is pushed up, its skin becomes rough with many small wrinkles, "
        "and the lower lip is pushed up against the upper lip.",
        "the chin is not pushed up, its skin is smooth and has no wrinkles, "
        "and the lower lip rests in its normal place.",
    ),
    ActionUnit(
        18,
        "lip pucker",
        ("incisivii labii superioris", "incisivii labii inferioris"),
        "mouth",
        "puckers lips",
        "the lips are puckered, they are pushed forward and drawn in from the sides, "
        "the mouth looks small and round, and short wrinkles run into the lips.",
        "the lips are not puckered, they lie flat instead of pushed forward, "
        "and the opening between them is as wide as it is at rest.",
    ),
    ActionUnit(
        20,
        "lip stretcher",
        ("risorius", "platysma"),
        "mouth",
        "stretches lips",
        "the lips are stretched to the sides, the mouth looks long and thin, "
        "the corners move back, and the skin over the chin and cheeks is tight.",
        "the lips are not stretched to the sides, the corners stay in front, "
        "and the skin beside the mouth and over the chin is loose.",
    ),
    ActionUnit(
        22,
        "lip funneler",
        ("orbicularis oris",),
        "mouth",
        "funnels lips",
        "the lips are funneled, both turn out and reach forward like the rim of a trumpet, "
        "their inner red shows, and the teeth may be seen.",
        "the lips are not funneled, neither of them turns out, they lie against the teeth, "
        "and only their outer red can be seen.",
    ),
    ActionUnit(
        23,
        "lip tightener",
        ("orbicularis oris",),
        "mouth",
        "tightens lips",
        "the lips are tightened, they roll in and look narrow and hard, "
        "and fine wrinkles show in the skin all around the mouth.",
        "the lips are not tightened, they stay soft and have their normal width, "
        "and the skin around the mouth shows no fine wrinkles.",
    ),
    ActionUnit(
        24,
        "lip pressor",
        ("orbicularis oris",),
        "mouth",
        "presses lips",
        "the lips are pressed together, the line of the mouth becomes straight and thin, "
        "and the skin bulges above and below the lips.",
        "the lips are not pressed together, they touch each other only lightly, "
        "and the skin above and below the lips has no bulges.",
    ),
    ActionUnit(
        25,
        "lips part",
        ("depressor labii inferioris", "mentalis, relaxed", "orbicularis oris, relaxed"),
        "mouth",
        "parts lips",
        "the lips are parted, a gap opens between the upper lip and the lower lip, "
        "and the teeth or the tongue may show.",
        "the lips are not parted, the upper lip rests on the lower lip without a gap, "
        "and no teeth show in the mouth.",
    ),
    ActionUnit(
        26,
        "jaw drop",
        ("masseter, relaxed", "temporalis, relaxed", "medial pterygoid, relaxed"),
        "chin",
        "drops jaw",
        "the jaw is dropped, it hangs low and loose, the teeth are apart, "
        "and the whole lower face looks longer than it is at rest.",
        "the jaw is not dropped, it is held up in its closed place, the teeth are together, "
        "and the lower face has its normal length.",
    ),
    ActionUnit(
        27,
        "mouth stretch",
        ("pterygoids", "digastric"),
        "mouth",
        "stretches mouth open",
        "the mouth is stretched wide open, the jaw is pulled far down, "
        "the cheeks are flat and long, and the opening is tall and oval.",
        "the mouth is not stretched open, the jaw is at most loose and never pulled far down, "
        "and the cheeks keep their round form.",
    ),
    ActionUnit(
        28,
        "lip suck",
        ("orbicularis oris",),
        "mouth",
        "sucks lips in",
        "the lips are sucked in, their red rolls over the teeth and disappears in the mouth, "
        "and the skin around it is stretched and smooth.",
        "the lips are not sucked in, their red can be seen from corner to corner, "
        "and the skin around the mouth is loose over the teeth.",
    ),
    ActionUnit(
        43,
        "eyes closed",
        ("levator palpebrae superioris, relaxed", "orbicularis oculi, pars palpebralis"),
        "eye",
        "closes eyes",
        "the eyes are closed and stay so, the upper lids hang down over them, "
        "the lashes rest on the cheeks, and the lids look loose.",
        "the eyes are not closed, the upper lids are held up, "
        "the iris can be seen in both eyes, and the gaze goes somewhere.",
    ),
    ActionUnit(
        44,
        "squint",
        ("orbicularis oculi, pars palpebralis",),
        "eye",
        "squints",
        "the eyes are squinted, the lids are pressed toward each other to a slit, "
        "the skin below them bulges, and small folds gather beside the nose.",
        "the eyes are not squinted, they are open wider than a slit, "
        "the skin below them is even, and the lids show few small folds.",
    ),
    ActionUnit(
        45,
        "blink",
        ("levator palpebrae superioris, relaxed", "orbicularis oculi, pars palpebralis"),
        "eye",
        "blinks",
        "the eyes are shut for an instant, both lids meet quickly and lightly, "
        "the face around them is calm, and they open again at once.",
        "the eyes are not shut for an instant, both lids stay where they are, "
        "and the look is steady from one moment to the next.",
    ),
    ActionUnit(
        46,
        "wink",
        ("levator palpebrae superioris, relaxed", "orbicularis oculi, pars palpebralis"),
        "eye",
        "winks",
        "one eye is winked shut by itself, the other eye looks on, "
        "the lids of the first meet, and the cheek below it is lifted.",
        "one eye is not winked shut by itself, both eyes do the same, "
        "and the two cheeks have the same height below the lids.",
    ),
)

ACTION_UNITS: dict[int, ActionUnit] = {unit.number: unit for unit in _TABLE}

# The units that the benchmark of a data set scores, in the order of its label vectors.
BP4D_AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
DISFA_AUS = (1, 2, 4, 6, 9, 12, 25, 26)
# Of both: the fifteen units whose words alone are the vocabulary of models that learn no other.
BENCHMARK_AUS = tuple(sorted({*BP4D_AUS, *DISFA_AUS}))
