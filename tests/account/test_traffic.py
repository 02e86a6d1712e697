"""HBM traffic read from a program's text: every kind of instruction, by hand."""

import pytest

from vlfau_jax.account.traffic import largest, table, traffic

KB = 32 * 8 * 4  # f32[32,8] without tiles
A = "f32[32,8]{1,0}"
FAST = "f32[32,8]{1,0:S(1)}"


def program(body, computations="", arguments=f"%a = {A} parameter(0)\n  %b = {A} parameter(1)"):
    return f"""
HloModule m

{computations}

ENTRY %e (a: f32[32,8], b: f32[32,8]) -> f32[32,8] {{
  {arguments}
  {body}
}}
"""


def moved(body, computations="", **given):
    """Bytes read and written by each instruction that moves something, in units of one array."""
    found = traffic(program(body, computations, **given))
    assert found.bytes == sum(one.bytes for one in found.moved)
    return {one.instruction.name: (one.read / KB, one.written / KB) for one in found.moved}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"ROOT %r = {A} add(%a, %b)", (2, 1)),
        (f"ROOT %r = {A} multiply(%a, %a)", (1, 1)),  # read once
        (f"ROOT %r = {FAST} add(%a, %b)", (2, 0)),  # stays in fast memory
        (f"ROOT %r = {A} copy(%a)", (1, 1)),
        ("ROOT %r = f32[4,8]{1,0} slice(%a), slice={[0:4], [0:8]}", (1 / 8, 1 / 8)),
        (f"%s = f32[4,8]{{1,0:S(1)}} constant(0)\n  %i = s32[]{{:S(6)}} constant(3)\n"
         f"  ROOT %r = {A} dynamic-update-slice(%a, %s, %i, %i)", (0, 1 / 8)),
        (f'ROOT %r = {A} custom-call(%a), custom_call_target="tpu_custom_call"', (1, 1)),
    ],
)  # fmt: skip
def test_one_instruction(body, expected):
    assert moved(body) == {"r": expected}


@pytest.mark.parametrize(
    "body",
    [
        "ROOT %r = f32[256]{0} bitcast(%a)",
        f"%t = ({A}) tuple(%a)\n  ROOT %r = {A} get-tuple-element(%t), index=0",
        f'ROOT %r = {A} custom-call(), custom_call_target="AllocateBuffer"',
    ],
)
def test_names_move_nothing(body):
    assert moved(body) == {}


def test_an_asynchronous_copy_counts_once():
    start = f"%c = ({FAST}, {A}, u32[]{{:S(2)}}) copy-start(%a)"
    assert moved(f"{start}\n  ROOT %d = {FAST} copy-done(%c)") == {"c": (1, 0)}
    back = f"%f = {FAST} constant(0)\n  %c = ({A}, {FAST}, u32[]{{:S(2)}}) copy-start(%f)"
    assert moved(f"{back}\n  ROOT %d = {A} copy-done(%c)") == {"c": (0, 1)}


def test_an_asynchronous_slice_reads_the_slice():
    small = "f32[4,8]{1,0:S(1)}"
    start = f"%c = (({A}), {small}, s32[]{{:S(2)}}) slice-start(%a), slice={{[0:4], [0:8]}}"
    assert moved(f"{start}\n  ROOT %d = {small} slice-done(%c)") == {"c": (1 / 8, 0)}


def test_an_asynchronous_call_counts_what_it_computes():
    inner = f"""
%wrapped (p: f32[32,8]) -> f32[4,8] {{
  %p = {A} parameter(0)
  %i = s32[] constant(0)
  ROOT %s = f32[4,8]{{1,0}} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={{4,8}}
}}
"""
    body = f"""%c = (({A}), f32[4,8]{{1,0}}, u32[]) async-start(%a), calls=%wrapped
  ROOT %d = f32[4,8]{{1,0}} async-done(%c)"""
    assert moved(body, inner) == {"c": (1 / 8, 1 / 8)}


def fusion(inner, results=A, operands="%a, %b", more=""):
    computations = f"""
{more}
%fused (p0: f32[32,8], p1: f32[32,8]) -> f32[32,8] {{
  %p0 = {A} parameter(0)
  %p1 = {A} parameter(1)
  %i = s32[] constant(2)
  {inner}
}}
"""
    found = moved(f"ROOT %r = {results} fusion({operands}), kind=kLoop, calls=%fused", computations)
    return found["r"]


SLICED = "%s = f32[4,8]{1,0} dynamic-slice(%p0, %i, %i), dynamic_slice_sizes={4,8}"
NESTED = """
%renamed (q: f32[32,8]) -> f32[256] {
  %q = f32[32,8]{1,0} parameter(0)
  ROOT %n = f32[256]{0} bitcast(%q)
}
"""


@pytest.mark.parametrize(
    ("inner", "results", "expected"),
    [
        (f"%x = {A} exponential(%p0)\n  ROOT %y = {A} add(%x, %p1)", A, (2, 1)),
        (f"{SLICED}\n  ROOT %y = f32[4,8]{{1,0}} negate(%s)", "f32[4,8]{1,0}", (1 / 8, 1 / 8)),
        # Sliced, but read as a whole, too.
        (f"{SLICED}\n  ROOT %y = {A} negate(%p0)", A, (1, 1)),
        # In place: the buffer is neither read nor written but for the new rows.
        (f"%s = f32[4,8]{{1,0}} slice(%p1), slice={{[0:4], [0:8]}}\n"
         f"  ROOT %y = {A} dynamic-update-slice(%p0, %s, %i, %i)", A, (1 / 8, 1 / 8)),
        # The updated buffer is also read inside: all of it.
        (f"%s = f32[4,8]{{1,0}} slice(%p1), slice={{[0:4], [0:8]}}\n"
         f"  %u = {A} dynamic-update-slice(%p0, %s, %i, %i)\n"
         f"  ROOT %y = {A} negate(%u)", A, (1 + 1 / 8, 1)),
        # Two results, one an update in place, one that stays in fast memory.
        (f"%s = f32[4,8]{{1,0}} slice(%p1), slice={{[0:4], [0:8]}}\n"
         f"  %u = {A} dynamic-update-slice(%p0, %s, %i, %i)\n  %w = {A} negate(%p1)\n"
         f"  ROOT %y = ({A}, {A}) tuple(%u, %w)", f"({A}, {FAST})", (1, 1 / 8)),
        # Through a nested fusion that only renames.
        ("%m = f32[256]{0} fusion(%p0), kind=kLoop, calls=%renamed\n"
         "  ROOT %y = f32[256]{0} exponential(%m)", "f32[256]{0}", (1, 1)),
        ("%m = f32[256]{0} fusion(%p0), kind=kLoop, calls=%renamed\n"
         "  ROOT %y = f32[32]{0} dynamic-slice(%m, %i), dynamic_slice_sizes={32}",
         "f32[32]{0}", (1 / 8, 1 / 8)),
        # What leaves as it came was copied.
        ("ROOT %y = f32[256]{0} bitcast(%p0)", "f32[256]{0}", (1, 1)),
        # A row for each of four indices.
        ("%n = s32[4]{0} constant(0)\n  ROOT %y = f32[4,8]{1,0} gather(%p0, %n)",
         "f32[4,8]{1,0}", (1 / 8, 1 / 8)),
    ],
)  # fmt: skip
def test_fusions(inner, results, expected):
    assert fusion(inner, results, more=NESTED) == expected


LOOP = f"""
%body (s: (s32[], f32[32,8])) -> (s32[], f32[32,8]) {{
  %s = (s32[]{{:S(6)}}, {A}) parameter(0)
  %i = s32[]{{:S(6)}} get-tuple-element(%s), index=0
  %x = {A} get-tuple-element(%s), index=1
  %one = s32[]{{:S(6)}} constant(1)
  %next = s32[]{{:S(6)}} add(%i, %one)
  %y = {A} negate(%x), metadata={{op_name="jit(f)/transpose(jvp(V))/local_captioner.b/while"}}
  ROOT %r = (s32[]{{:S(6)}}, {A}) tuple(%next, %y)
}}

%condition (c: (s32[], f32[32,8])) -> pred[] {{
  %c = (s32[]{{:S(6)}}, {A}) parameter(0)
  %j = s32[]{{:S(6)}} get-tuple-element(%c), index=0
  %m = s32[]{{:S(6)}} constant(5)
  ROOT %go = pred[]{{:S(6)}} compare(%j, %m), direction=LT
}}
"""
CALL = f"""%zero = s32[]{{:S(6)}} constant(0)
  %t = (s32[]{{:S(6)}}, {A}) tuple(%zero, %a)
  ROOT %w = (s32[]{{:S(6)}}, {A}) while(%t), condition=%condition, body=%body"""


def test_a_loops_body_counts_as_often_as_it_turns():
    assert moved(CALL, LOOP) == {"y": (5, 5)}
    found = traffic(program(CALL, LOOP))
    assert found.by_address() == {("local captioner", "backward"): 10 * KB}
    assert found.uncounted == ()
    unknown = traffic(program(CALL, LOOP.replace("direction=LT", "direction=EQ")))
    assert (unknown.bytes, unknown.uncounted) == (2 * KB, ("w",))
    assert "unknown trips, counted as one: w" in table(unknown)


def test_of_a_conditional_the_heavier_branch_counts_and_both_are_stated():
    branches = f"""
%light (l: f32[32,8]) -> f32[32,8] {{
  %l = {A} parameter(0)
  ROOT %l1 = {A} negate(%l)
}}

%heavy (h: f32[32,8]) -> f32[32,8] {{
  %h = {A} parameter(0)
  %h1 = {A} negate(%h)
  ROOT %h2 = {A} negate(%h1)
}}
"""
    body = f"""%p = pred[] constant(true)
  ROOT %q = {A} conditional(%p, %a, %b), true_computation=%light, false_computation=%heavy"""
    found = traffic(program(body, branches))
    assert {one.instruction.name for one in found.moved} == {"h1", "h2"}
    assert found.branches == {"q": (2 * KB, 4 * KB)}
    listed = body.replace(
        "true_computation=%light, false_computation=%heavy",
        "branch_computations={%light, %heavy}",
    )
    assert traffic(program(listed, branches)).branches == found.branches


def test_what_has_no_name_belongs_to_whom_it_serves():
    body = f"""%c = ({FAST}, {A}, u32[]{{:S(2)}}) copy-start(%a)
  %d = {FAST} copy-done(%c)
  ROOT %r = {A} negate(%d), metadata={{op_name="jit(f)/jvp(V)/V._encode/fusion/fuse/dot"}}"""
    assert traffic(program(body)).by_address() == {("MSC", "forward"): 2 * KB}


def test_tables():
    found = traffic(program(CALL, LOOP))
    assert table(found, per=KB).splitlines()[1].split() == [
        *("local", "captioner"),
        *("0.00", "10.00", "10.00", "100.0%"),
    ]
    first, rest = largest(found, 1, per=KB).splitlines()[1:]
    assert first.split()[:3] == ["5.00", "5.00", "5"] and "| y |" in first
    assert rest.split() == ["0.00", "in", "0", "more"]
