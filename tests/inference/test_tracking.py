"""Who is who in a video: numbers are kept through cuts, crossings and absences."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.films import CROWD, FILM, WIDTH, frames, who
from vlfau_jax.data.crop.registry import crop_rule
from vlfau_jax.inference.faces import look_for_faces
from vlfau_jax.inference.tracking import (
    GAP,
    OTHER,
    SAME,
    People,
    Seen,
    colours_of,
    distance,
    recognise,
)
from vlfau_jax.records import parse_record


def looks(*parts):
    """A histogram with these shares in its first places."""
    colours = np.zeros(864)
    colours[: len(parts)] = parts
    return colours / colours.sum()


ANNA, BEN = looks(1, 0, 0), looks(0, 0, 1)
ALIKE = looks(1, 0.35)  # as Anna in a shadow: not surely her, and not somebody else
LEFT, RIGHT = (0, 0, 50, 50), (300, 0, 50, 50)


def test_the_looks_of_these_tests_are_as_far_apart_as_they_say():
    assert distance(ANNA, ANNA) < 1e-9 and distance(ANNA, BEN) == 1
    assert SAME < distance(ANNA, ALIKE) < OTHER


def numbers(*scenes):
    """The numbers of the faces in each scene, which is its time and its faces."""
    people, found = People(), []
    for timestamp, *faces in scenes:
        here, people = recognise(people, [Seen(*face) for face in faces], timestamp)
        found.append(here)
    return found


def test_people_keep_their_numbers_where_they_swap_places():
    found = numbers((0.0, (LEFT, ANNA), (RIGHT, BEN)), (0.04, (LEFT, BEN), (RIGHT, ANNA)))
    assert found == [[0, 1], [1, 0]]


def test_a_person_who_returns_is_known_and_another_in_the_same_place_is_not():
    found = numbers((0.0, (LEFT, ANNA)), (0.04, (LEFT, BEN)), (0.08,), (9.0, (RIGHT, ANNA)))
    assert found == [[0], [1], [], [0]]


def test_a_changed_look_is_the_same_person_in_the_same_place_only_soon():
    assert numbers((0.0, (LEFT, ANNA)), (GAP, (LEFT, ALIKE))) == [[0], [0]]
    assert numbers((0.0, (LEFT, ANNA)), (GAP + 0.1, (LEFT, ALIKE))) == [[0], [1]]
    assert numbers((0.0, (LEFT, ANNA)), (0.04, (RIGHT, ALIKE))) == [[0], [1]]


def test_what_is_covered_teaches_nothing():
    near = (60, 0, 50, 50)
    mixed = looks(1, 0, 0.8)  # Anna, half covered by Ben
    scenes = [(0.0, (LEFT, ANNA), (RIGHT, BEN)), (0.1, (LEFT, mixed), (near, BEN))]
    people = People()
    for timestamp, *faces in scenes:
        found, people = recognise(people, [Seen(*face) for face in faces], timestamp)
        assert found == [0, 1]
    (anna,) = (person for person in people.seen if person.number == 0)
    np.testing.assert_allclose(anna.colours, ANNA)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3)), max_size=4), max_size=12)
)
def test_no_number_is_given_twice_in_a_frame_and_a_state_is_read_back(film):
    people = People()
    for frame, cast in enumerate(film):
        faces = [Seen((x, 0, 50, 50), looks(*np.eye(4)[k])) for x, k in cast]
        found, after = recognise(people, faces, frame / 25)
        assert len(set(found)) == len(found)
        assert all(0 <= number < after.count for number in found)
        stored = parse_record(people.model_dump_json(), People, "progress.json")
        assert stored == people
        again, _ = recognise(stored, faces, frame / 25)
        assert again == found
        people = after


def told_apart(film, width):
    """Person of the film -> the numbers that the faces had, and the frames with all faces."""
    rule, people, given_to, whole = crop_rule("yunetwheel", 64), People(), {}, 0
    for number, picture in enumerate(frames(film, width), 1):
        faces = [f for f in look_for_faces(picture, rule, turn=False) if f.crop is not None]
        seen = [Seen(face.box, colours_of(face.crop)) for face in faces]
        found, people = recognise(people, seen, number / 10)
        whole += len(faces) == len(film[number - 1])
        for one, face in zip(found, faces, strict=True):
            person = who({"box": face.box, "frame": number}, film)
            given_to.setdefault(person, set()).add(one)
    return given_to, whole


def test_two_rendered_people_keep_their_numbers_through_cuts_and_crossings():
    given_to, whole = told_apart(FILM, WIDTH)
    assert given_to == {"F002": {0}, "F001": {1}}
    assert whole >= len(FILM) - 3  # where one is behind the other


def test_a_rendered_crowd_of_five_has_five_numbers():
    given_to, whole = told_apart(CROWD, 580)
    assert whole == len(CROWD)
    assert sorted(min(numbers) for numbers in given_to.values()) == [0, 1, 2, 3, 4]
    assert all(len(numbers) == 1 for numbers in given_to.values())
