import math
import os
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.crop.tiny_yunet import tiny_yunet
from tests.data.rendered import true_eyes
from vlfau_jax.data.crop import detectors
from vlfau_jax.data.crop.detectors import find_by_cascade, find_by_mediapipe, find_by_yunet
from vlfau_jax.data.crop.rules import crop_rule
from vlfau_jax.data.crop.tables import NotInTable, find_in_boxes, find_in_landmarks
from vlfau_jax.data.raw.frames import Place
from vlfau_jax.data.synthetic.dynamics import BP4D_BEHAVIOUR
from vlfau_jax.data.synthetic.identity import draw_identity
from vlfau_jax.data.synthetic.scenes import draw_sequence
from vlfau_jax.errors import UserError

CASCADE = crop_rule("cascade", 64).parameters
# Right eye, left eye, nose, corners of the mouth, in cells: the person's right is our left.
POINTS = (0.2, 0.3, 0.8, 0.35, 0.5, 0.5, 0.3, 0.8, 0.7, 0.8)


@pytest.fixture(scope="module")
def rendered() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rendered heads of 160 pixels of twelve people, and where their eyes are."""
    noise, out = np.random.default_rng(0), []
    for k in range(24):
        face, scene = draw_identity(0, f"F{k % 12:03}"), draw_sequence(BP4D_BEHAVIOUR, (0, k), 1)
        out.append((scene.picture(face, 0, 160, noise), true_eyes(face, scene.poses[0], 160)))
    return out


def eye_errors(rendered, find) -> list[float]:
    """Distance of each eye found from the true one, in eye distances."""
    faces = [(find(picture), eyes) for picture, eyes in rendered]
    return [
        math.dist(found, true) / math.dist(*eyes)
        for face, eyes in faces
        if face is not None and face.eyes is not None
        for found, true in zip(face.eyes, eyes, strict=True)
    ]


def test_cascades_find_faces_and_their_eyes(rendered):
    faces = [find_by_cascade(picture, CASCADE) for picture, _ in rendered]
    assert sum(face is not None for face in faces) >= 21
    errors = eye_errors(rendered, lambda picture: find_by_cascade(picture, CASCADE))
    assert len(errors) >= 2 * 17
    assert np.mean(errors) < 0.04 and max(errors) < 0.15


def test_faces_are_followed_through_size_and_place(rendered):
    for picture, _ in rendered[:8]:
        face = find_by_cascade(picture, CASCADE)
        if face is None:
            continue
        left, _, width, _ = face.box
        assert 0.3 * 160 < width < 160
        doubled = find_by_cascade(cv2.resize(picture, (320, 320)), CASCADE)
        assert np.abs(np.array(doubled.box) - 2 * np.array(face.box)).max() < 20
        wider = cv2.copyMakeBorder(picture, 0, 0, 12, 0, cv2.BORDER_REPLICATE)
        assert abs(find_by_cascade(wider, CASCADE).box[0] - left - 12) < 12


def test_noise_has_no_face(rng):
    picture = cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), np.uint8), (9, 9), 3)
    assert find_by_cascade(picture, CASCADE) is None


@pytest.mark.parametrize(
    ("places", "weights", "chosen"),
    [
        ([(30, 40), (70, 42)], [1, 1], (0, 1)),
        ([(70, 42), (30, 40)], [1, 1], (1, 0)),  # in any order
        ([(30, 40), (70, 42), (33, 41)], [1, 1, 2], (2, 1)),  # the surer one
        ([(33, 41), (70, 42), (30, 40)], [2, 1, 1], (0, 1)),
        ([(30, 40), (70, 42), (72, 70)], [1, 1, 9], (0, 1)),  # not at the mouth's height
        ([(30, 40), (35, 40)], [1, 1], None),  # both on one side
        ([(45, 40), (55, 40)], [1, 1], None),  # too near for a face of this width
        ([(5, 40), (95, 40)], [1, 1], None),  # too far
        ([(30, 40)], [1], None),
        ([], [], None),
    ],
)
def test_two_plausible_eyes_or_none(places, weights, chosen):
    eyes = detectors._best_pair(places, weights, 50, 100, CASCADE)
    assert (eyes is None) if chosen is None else np.array_equal(eyes, [places[i] for i in chosen])


def yunet(folder, points=POINTS):
    path = folder / "yunet.onnx"
    path.write_bytes(tiny_yunet(points))
    return crop_rule("yunet", 64, str(path))


def test_yunet_gives_the_largest_face_in_source_pixels(tmp_path):
    rule = yunet(tmp_path)
    picture = np.zeros((192, 256, 3), np.uint8)
    assert find_by_yunet(picture, rule.parameters, rule.file) is None
    picture[64:96, 96:128] = 255
    face = find_by_yunet(picture, rule.parameters, rule.file)
    np.testing.assert_allclose(face.box, (64, 16, 96, 128), atol=0.01)
    eyes = np.array([[96 + 0.2 * 32, 64 + 0.3 * 32], [96 + 0.8 * 32, 64 + 0.35 * 32]])
    np.testing.assert_allclose(face.eyes, eyes, atol=0.01)
    # A large picture is searched at 320 pixels, of which these are four times as many.
    large = np.zeros((960, 1280, 3), np.uint8)
    large[256:384, 384:512] = 255
    face = find_by_yunet(large, rule.parameters, rule.file)
    np.testing.assert_allclose(face.eyes, 4 * eyes, atol=0.1)


def test_the_pictures_left_eye_comes_first_whatever_its_name(tmp_path):
    picture = np.zeros((192, 256, 3), np.uint8)
    picture[64:96, 96:128] = 255
    rule = yunet(tmp_path, (*POINTS[2:4], *POINTS[:2], *POINTS[4:]))
    eyes = find_by_yunet(picture, rule.parameters, rule.file).eyes
    assert eyes[0, 0] < eyes[1, 0]
    together = yunet(tmp_path, (*POINTS[:2], *POINTS[:2], *POINTS[4:]))
    detectors._yunet.cache_clear()  # another model under the same name
    assert find_by_yunet(picture, together.parameters, together.file) is None


@pytest.mark.parametrize("data", [b"", b"no model", tiny_yunet(POINTS)[:9000]], ids=len)
def test_what_is_no_yunet_is_told_in_one_quiet_line(data, tmp_path, capfd):
    (tmp_path / "bad.onnx").write_bytes(data)
    rule = crop_rule("yunet", 64, str(tmp_path / "bad.onnx"))
    with pytest.raises(UserError, match=r"bad\.onnx.*expected") as error:
        find_by_yunet(np.zeros((64, 64, 3), np.uint8), rule.parameters, rule.file)
    assert "\n" not in str(error.value) and capfd.readouterr().err == ""


def test_mediapipes_answers_become_boxes_and_eyes():
    points = [SimpleNamespace(x=0.5, y=0.5) for _ in range(478)]
    points[10], points[152] = SimpleNamespace(x=0.4, y=0.1), SimpleNamespace(x=0.6, y=0.9)
    for k, x, y in ((33, 0.3, 0.4), (133, 0.36, 0.42), (362, 0.6, 0.4), (263, 0.7, 0.44)):
        points[k] = SimpleNamespace(x=x, y=y)
    np.testing.assert_allclose(
        detectors._from_landmarker(points), [[0.3, 0.1], [0.7, 0.9], [0.33, 0.41], [0.65, 0.42]]
    )
    face = SimpleNamespace(
        bounding_box=SimpleNamespace(origin_x=20, origin_y=10, width=60, height=50),
        keypoints=[SimpleNamespace(x=0.3, y=0.4), SimpleNamespace(x=0.6, y=0.45), None],
    )
    np.testing.assert_allclose(
        detectors._from_detector(face, (100, 200, 3)),
        [[0.1, 0.1], [0.4, 0.6], [0.3, 0.4], [0.6, 0.45]],
    )


def test_mediapipe_takes_the_largest_face(monkeypatch):
    small = np.array([[0.1, 0.1], [0.2, 0.2], [0.12, 0.12], [0.18, 0.12]])
    large = np.array([[0.4, 0.2], [0.8, 0.8], [0.7, 0.4], [0.5, 0.45]])
    monkeypatch.setattr(detectors, "_mediapipe", lambda file, score: lambda image: [small, large])
    face = find_by_mediapipe(np.zeros((100, 200, 3), np.uint8), {"min_score": 0.5}, "")
    np.testing.assert_allclose(face.box, (80, 20, 80, 60))
    np.testing.assert_allclose(face.eyes, [[100, 45], [140, 40]])
    monkeypatch.setattr(detectors, "_mediapipe", lambda file, score: lambda image: [])
    assert find_by_mediapipe(np.zeros((9, 9, 3), np.uint8), {"min_score": 0.5}, "") is None


def test_a_missing_mediapipe_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(UserError, match="pip install --no-deps mediapipe") as error:
        find_by_mediapipe(np.zeros((9, 9, 3), np.uint8), {"min_score": 0.5}, "gone.tflite")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "variable"), [("yunet", "VLFAU_YUNET_MODEL"), ("mediapipe", "VLFAU_MEDIAPIPE_MODEL")]
)
def test_the_published_model_finds_rendered_eyes(name, variable, rendered, tmp_path):
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: give the path of {name}'s published model to run this")
    rule = crop_rule(name, 64, os.environ[variable])
    find = detectors.finder(name, rule.parameters, rule.file)
    errors = eye_errors(rendered, lambda picture: find(picture, Place("")))
    assert len(errors) >= 2 * 21
    assert np.mean(errors) < 0.08 and max(errors) < 0.2
    (tmp_path / "bad.task").write_bytes(b"no model")
    with pytest.raises(UserError, match="expected"):
        detectors.finder(name, rule.parameters, str(tmp_path / "bad.task"))(
            rendered[0][0], Place("")
        )


EYES = "frame,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
OPENFACE = ["frame", " success", *(f" {axis}_{k}" for axis in "xy" for k in range(68))]


def test_landmarks_of_pictures_and_videos(tmp_path):
    (tmp_path / "landmarks.csv").write_text(EYES + "7,10,20,30,21\n12,1,2,3.5,2e0\n\n")
    found = find_in_landmarks(Place(str(tmp_path / "F001_take2_007.jpg")))
    assert found.tolist() == [[10, 20], [30, 21]]
    assert find_in_landmarks(Place(str(tmp_path / "12.png")))[1].tolist() == [3.5, 2]
    with pytest.raises(NotInTable):
        find_in_landmarks(Place(str(tmp_path / "8.jpg")))
    # As OpenFace writes them: 1-based, spaces in the header, zeros where it failed.
    place = [*(float(k) for k in range(68)), *(float(2 * k) for k in range(68))]
    rows = [[1, 1, *place], [2, 0, *[0.0] * 136]]
    table = [OPENFACE, *rows]
    text = "\n".join(", ".join(map(str, row)) for row in table)
    (tmp_path / "film.csv").write_text("\ufeff" + text + "\n", encoding="utf-8")
    film = str(tmp_path / "film.avi")
    assert find_in_landmarks(Place(film, 0)).tolist() == [[38.5, 77], [44.5, 89]]
    assert find_in_landmarks(Place(film, 1)) is None
    with pytest.raises(NotInTable):
        find_in_landmarks(Place(film, 2))


def test_the_eye_further_left_is_the_left_one(tmp_path):
    """A person's left eye is at the picture's right: both ways of naming them are in use."""
    (tmp_path / "landmarks.csv").write_text(EYES + "1,10,20,30,21\n2,30,21,10,20\n")
    one, other = (find_in_landmarks(Place(str(tmp_path / f"{k}.jpg"))) for k in (1, 2))
    assert one.tolist() == other.tolist() == [[10, 20], [30, 21]]


def test_a_table_that_changes_is_read_again(tmp_path):
    place = Place(str(tmp_path / "7.jpg"))
    for x in (10, 11, 12):
        (tmp_path / "landmarks.csv").write_text(EYES + f"7,{x},20,30,21\n")
        os.utime(tmp_path / "landmarks.csv", ns=(x, x))
        assert find_in_landmarks(place)[0, 0] == x


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"landmarks.csv:1: expected a header"),
        ("frame,x_36\n1,2\n", r":1: expected a header"),
        ("frame,frame," + EYES[6:] + "1,1,2,3,4,5\n", r":1: expected a header"),
        (EYES + "1,2,3,4\n", r":2: 4 cells"),
        (EYES + "1,2,3,9,5\n1.5,2,3,9,5\n", r":3: frame is '1.5'"),
        (EYES + "1,2,3,9,5\n1,2,3,9,5\n", r":3: frame 1 once more"),
        (EYES + "1,2,three,9,5\n", r":2: left_eye_y is 'three'"),
        (EYES + "1,2,nan,9,5\n", r":2: left_eye_y is 'nan'"),
        (EYES + "1,2,1_0,9,5\n", r":2: left_eye_y is '1_0'"),
        (EYES + "1,2,1e9,9,5\n", r":2: left_eye_y is '1e9'"),
        (EYES + "1,2,3,2,3\n", r":2: both eyes at the same place"),
        ("success," + EYES + "yes,1,2,3,9,5\n", r":2: success is 'yes'"),
        (EYES + '1,"2,3,9,5\n', r"landmarks.csv: not a readable CSV"),
    ],
)
def test_malformed_landmarks_are_told_by_line(text, message, tmp_path):
    (tmp_path / "landmarks.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        find_in_landmarks(Place(str(tmp_path / "1.jpg")))
    assert "\n" not in str(error.value)


def test_landmarks_that_cannot_be_looked_up(tmp_path):
    with pytest.raises(UserError, match=r"landmarks\.csv: no such file"):
        find_in_landmarks(Place(str(tmp_path / "1.jpg")))
    with pytest.raises(UserError, match=r"portrait\.jpg: no number"):
        find_in_landmarks(Place(str(tmp_path / "portrait.jpg")))
    with pytest.raises(UserError, match=r"film\.csv: no such file"):
        find_in_landmarks(Place(str(tmp_path / "film.mp4"), 0))


def test_boxes_are_named_by_source(tmp_path):
    (tmp_path / "raw").mkdir()
    table = tmp_path / "boxes.csv"
    table.write_text(
        "source,left,top,width,height,note\nF001/T1/2.jpg,1,2,30,40,a\nraw/v.avi#4,5,6,70,80,b\n"
        f"{tmp_path}/alone.jpg,7,8,9,10,\n"
    )
    root = str(tmp_path / "raw")
    found = find_in_boxes(Place(f"{root}/F001/T1/2.jpg"), str(table), root)
    assert found == (1, 2, 30, 40)
    with pytest.raises(NotInTable):
        find_in_boxes(Place(f"{root}/F001/T1/2.jpg"), str(table))  # not without the root
    assert find_in_boxes(Place(f"{root}/v.avi", 4), str(table)) == (5, 6, 70, 80)
    with pytest.raises(NotInTable):
        find_in_boxes(Place(f"{root}/v.avi", 5), str(table))
    assert find_in_boxes(Place(f"{tmp_path}/alone.jpg"), str(table), root) == (7, 8, 9, 10)


def test_of_several_rows_the_one_below_the_root_counts(tmp_path):
    table, picture = tmp_path / "boxes.csv", Place(f"{tmp_path}/raw/2.jpg")
    rows = ["2.jpg,1,0,9,9", "raw/2.jpg,2,0,9,9", f"{tmp_path}/raw/2.jpg,3,0,9,9"]
    for k in range(3):
        text = "\n".join(["source,left,top,width,height", *reversed(rows[k:])])
        table.write_text(text)
        assert find_in_boxes(picture, str(table), f"{tmp_path}/raw")[0] == k + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,left,top,width\n", r"boxes.csv:1: expected a header"),
        ("source,left,top,width,height\n,1,2,3,4\n", r":2: source '' is empty"),
        ("source,left,top,width,height\na,1,2,3,4\na,1,2,3,4\n", r":3: source 'a'"),
        ("source,left,top,width,height\na,1,2,0,4\n", r":2: a box of 0 by 4 pixels"),
        ("source,left,top,width,height\na,1,2,-,4\n", r":2: width is '-'"),
    ],
)
def test_malformed_boxes_are_told_by_line(text, message, tmp_path):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        find_in_boxes(Place("a"), str(tmp_path / "boxes.csv"))


CELL = st.sampled_from(
    ["frame", "success", "source", *EYES.strip().split(",")[1:], "left", "top", "width", "height"]
) | st.sampled_from(["0", "1", "2", "-3", "1e400", "nan", '"', "", "\x00", "é", "1.5", " 7 "])


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    head=st.sampled_from([EYES, "source,left,top,width,height\n", ""]),
    rows=st.lists(st.lists(CELL, max_size=6), max_size=4),
    tail=st.binary(max_size=8),
)
def test_any_table_is_read_or_told_in_one_line(head, rows, tail, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    data = (head + "\n".join(",".join(row) for row in rows)).encode() + tail
    (folder / "landmarks.csv").write_bytes(data)
    for read in (
        lambda: find_in_landmarks(Place(str(folder / "1.jpg"))),
        lambda: find_in_boxes(Place(str(folder / "1")), str(folder / "landmarks.csv")),
    ):
        try:
            found = read()
        except NotInTable:
            continue
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert found is None or np.isfinite(found).all()
