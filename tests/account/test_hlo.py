"""Reading of compiled programs: types, layouts, computations, trips of loops."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.account import hlo

PROGRAM = """
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

FileNames
1 "a (b) = c.py"

%add.1 (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[] parameter(0)
  %y.1 = f32[] parameter(1)
  ROOT %sum.1 = f32[] add(%x.1, %y.1)
}

ENTRY %main.9 (a.1: f32[8,49], b.1: (f32[8], s32[])) -> (f32[8], /*index=1*/bf16[8,49]) {
  %a.1 = f32[8,49]{1,0:T(8,128)} parameter(0), metadata={op_name="a"}
  %b.1 = (f32[8]{0:T(256)}, s32[]{:T(128)S(6)}) parameter(1)
  %zero = f32[]{:T(128)} constant(0)
  %reduced = f32[8]{0:T(256)} reduce(%a.1, %zero), dimensions={1}, to_apply=%add.1, METADATA, NOTES
  %half = HALF convert(%a.1), metadata={op_name="jit(f)/\\"q\\"/convert"}
  ROOT %out = (f32[8]{0:T(256)}, /*index=1*/HALF) tuple(%reduced, %half)
}
"""


for word, long in {
    "METADATA": 'metadata={op_name="jit(f)/x (y)/reduce_sum" stack_frame_id=3}',
    "NOTES": 'backend_config={"to_apply=%no":"(%nobody)"}',
    "HALF": "bf16[8,49]{0,1:T(8,128)(2,1)S(1)}",
}.items():
    PROGRAM = PROGRAM.replace(word, long)


def test_a_program():
    module = hlo.parse(PROGRAM)
    assert module.entry == "main.9" and {*module.computations} == {"main.9", "add.1"}
    main = module.computations["main.9"]
    assert [*main.instructions] == ["a.1", "b.1", "zero", "reduced", "half", "out"]
    assert main.root == "out" and [*main.parameters()] == [0, 1]
    reduced = main.instructions["reduced"]
    assert (reduced.opcode, reduced.operands) == ("reduce", ("a.1", "zero"))
    assert reduced.called == {"to_apply": ("add.1",)}
    assert reduced.op_name == "jit(f)/x (y)/reduce_sum"
    assert main.instructions["half"].op_name == 'jit(f)/\\"q\\"/convert'
    assert main.instructions["zero"].integer() == 0
    assert [i.name for i in main.users()["a.1"]] == ["reduced", "half"]
    assert [(s.dtype, s.sizes, s.space) for s in main.instructions["b.1"].shapes] == [
        ("f32", (8,), 0),
        ("s32", (), 6),
    ]


@pytest.mark.parametrize(
    ("text", "size", "space"),
    [
        ("f32[8,49]{1,0:T(8,128)}", 8 * 128 * 4, 0),
        ("f32[8,49]{1,0}", 8 * 49 * 4, 0),
        ("f32[8,49]", 8 * 49 * 4, 0),
        # 49 along the lanes of 128, in the other order 8 along them and 49 along 8 sublanes.
        ("bf16[8,49]{1,0:T(8,128)(2,1)S(1)}", 8 * 128 * 2, 1),
        ("bf16[8,49]{0,1:T(8,128)(2,1)}", 56 * 128 * 2, 0),
        ("bf16[256,49,3,16,32]{4,3,2,0,1:T(8,128)(2,1)}", 256 * 49 * 3 * 16 * 128 * 2, 0),
        # A tile of (2, 1) fills up sublanes of its own: 7 become 8.
        ("bf16[7,128]{1,0:T(8,128)(2,1)}", 8 * 128 * 2, 0),
        ("bf16[3,128]{1,0:T(1,128)(2,1)}", 3 * 128 * 2 * 2, 0),
        ("f32[]{:T(128)}", 128 * 4, 0),
        ("f32[300]{0:T(256)}", 512 * 4, 0),
        ("f32[4,2,300]{2,1,0:T(256)}", 8 * 512 * 4, 0),
        ("pred[100]{0:T(1024)}", 1024, 0),
        ("pred[2048,512]{1,0:T(8,128)(4,1)}", 2048 * 512, 0),
        ("s4[64,128]{1,0:T(8,128)E(4)}", 64 * 128 // 2, 0),
        ("f8e4m3fn[32]{0}", 32, 0),
        ("u32[]{:S(2)}", 4, 2),
        ("token[]", 0, 0),
        # The last two dimensions are cut as one.
        ("f32[5,3,128]{2,1,0:T(*,8,128)}", 16 * 128 * 4, 0),
    ],
)
def test_bytes_of_a_layout(text, size, space):
    (shape,) = hlo.shapes(text)
    assert (shape.bytes, shape.space) == (size, space)


@given(st.data())
def test_tiles_only_add(data):
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(sizes))))
    rows, lanes = data.draw(st.sampled_from([(1, 128), (2, 128), (4, 128), (8, 128)]))
    layout = ",".join(map(str, order))
    (shape,) = hlo.shapes(f"f32[{','.join(map(str, sizes))}]{{{layout}:T({rows},{lanes})}}")
    slow_to_fast = [1, *(sizes[i] for i in reversed(order))]
    *outer, high, wide = slow_to_fast
    padded = -(-high // rows) * rows * -(-wide // lanes) * lanes
    assert shape.bytes == 4 * math.prod(outer) * padded >= 4 * math.prod(sizes)
    assert shape.sizes == tuple(sizes)


LOOP = """
HloModule m

%body (s: (s32[], f32[4], s32[])) -> (s32[], f32[4], s32[]) {
  %s = (s32[], f32[4], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[4] get-tuple-element(%s), index=1
  %n = s32[] get-tuple-element(%s), index=2
  %by = s32[] constant(STEP)
  %next = s32[] add(%i, %by)
  %y = f32[4] negate(%x)
  ROOT %r = (s32[], f32[4], s32[]) tuple(%next, %y, %n)
}

%condition (c: (s32[], f32[4], s32[])) -> pred[] {
  %c = (s32[], f32[4], s32[]) parameter(0)
  %j = s32[] get-tuple-element(%c), index=0
  %m = s32[] LIMIT
  ROOT %go = pred[] compare(OPERANDS), direction=DIRECTION
}

ENTRY %e (v: f32[4]) -> (s32[], f32[4], s32[]) {
  %v = f32[4] parameter(0)
  %first = s32[] constant(FIRST)
  %last = s32[] constant(20)
  %begun = s32[] copy(%first)
  %state = (s32[], f32[4], s32[]) tuple(%begun, %v, %last)
  ROOT %w = (s32[], f32[4], s32[]) while(%state), condition=%condition, body=%body NOTES
}
"""


def loop(**words):
    default = {
        "STEP": "1",
        "FIRST": "0",
        "LIMIT": "constant(32)",
        "OPERANDS": "%j, %m",
        "DIRECTION": "LT",
        "NOTES": "",
    }
    text = LOOP
    for word, value in (default | words).items():
        text = text.replace(word, value)
    return hlo.parse(text)


def trips(module):
    entry = module.computations[module.entry]
    return module.trips(entry, entry.instructions["w"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, 32),
        ({"STEP": "3", "FIRST": "1"}, 11),
        ({"DIRECTION": "LE"}, 33),
        ({"DIRECTION": "NE"}, 32),
        ({"OPERANDS": "%m, %j", "DIRECTION": "GT"}, 32),
        ({"LIMIT": "get-tuple-element(%c), index=2"}, 20),  # carried along
        ({"FIRST": "99"}, 0),
        ({"NOTES": ', backend_config={"known_trip_count":{"n":"7"}}'}, 7),
        # What it counts to depends on a value.
        ({"LIMIT": "get-tuple-element(%c), index=1"}, None),
        ({"STEP": "0"}, None),
    ],
)
def test_trips_of_a_loop(words, expected):
    assert trips(loop(**words)) == expected


def test_an_early_end_is_not_counted():
    text = LOOP.replace(
        "ROOT %go = pred[] compare(OPERANDS), direction=DIRECTION",
        "%less = pred[] compare(%j, %m), direction=LT\n"
        "  %x1 = pred[] constant(true)\n"
        "  ROOT %go = pred[] and(%less, %x1)",
    )
    for word, value in {"STEP": "1", "FIRST": "0", "LIMIT": "constant(9)", "NOTES": ""}.items():
        text = text.replace(word, value)
    assert trips(hlo.parse(text)) is None


def test_what_runs_and_how_often():
    runs = {run.instruction.name: run for run in hlo.walk(loop())}
    assert {name: run.times for name, run in runs.items()} == {
        **dict.fromkeys(("v", "first", "last", "begun", "state", "w"), 1),
        **dict.fromkeys(("s", "i", "x", "n", "by", "next", "y", "r", "c", "j", "m", "go"), 32),
    }
    assert all(run.counted for run in runs.values())
    unknown = {run.instruction.name: run for run in hlo.walk(loop(STEP="0"))}
    assert (unknown["y"].times, unknown["y"].counted, unknown["v"].counted) == (1, False, True)
