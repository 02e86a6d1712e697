"""The report's style sheet: one column of cards, light or dark as the reader's system is."""

STYLE = """
:root { color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --ink: #1b1f27; --soft: #667085; --line: #dfe3ea;
  --accent: #2b63d9; --right: #1d8a57; --wrong: #cf3f3f; --warn: #fff3d6; --warn-ink: #6b4a00;
  --c0: #2b63d9; --c1: #d9722b; --c2: #1d8a57; --c3: #9b45c4; --c4: #c2364f; --c5: #708090; }
@media (prefers-color-scheme: dark) { :root {
  --page: #11141a; --card: #1a1f28; --ink: #e8ebf1; --soft: #98a2b3; --line: #303846;
  --accent: #7ba6ff; --right: #4fc48c; --wrong: #ff7b7b; --warn: #3a2f12; --warn-ink: #ffdf94;
  --c0: #7ba6ff; --c1: #ffa565; --c2: #4fc48c; --c3: #cf94f0; --c4: #ff7b93; --c5: #a9b6c4; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px }
h2 { font-size: 19px; margin: 40px 0 12px }
h3 { font-size: 16px; margin: 0 0 2px }
p { margin: 0 0 10px }
small, .soft { color: var(--soft) }
.warn { background: var(--warn); color: var(--warn-ink); border-radius: 10px; padding: 12px 16px;
  margin: 16px 0 }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 18px 20px; margin: 0 0 16px }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px;
  margin: 18px 0 }
.figures .card { margin: 0 }
.figures b { display: block; font-size: 31px; line-height: 1.2; font-variant-numeric: tabular-nums }
.charts { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)) }
figure { margin: 0 }
.chart { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 14px 10px }
.chart figcaption { font-weight: 600; margin: 0 0 8px 4px }
.chart figcaption small { font-weight: 400 }
.chart svg { width: 100%; height: auto; display: block }
.chart text { font-size: 11.5px; fill: var(--soft) }
.grid { stroke: var(--line); stroke-width: 1 }
.axis { stroke: var(--soft); stroke-width: 1 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.c0 { stroke: var(--c0) } .c1 { stroke: var(--c1) } .c2 { stroke: var(--c2) }
.c3 { stroke: var(--c3) } .c4 { stroke: var(--c4) } .c5 { stroke: var(--c5) }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; padding: 6px 4px 0; font-size: 13px }
.key { display: inline-block; width: 14px; height: 3px; margin-right: 6px; vertical-align: middle }
.k0 { background: var(--c0) } .k1 { background: var(--c1) } .k2 { background: var(--c2) }
.k3 { background: var(--c3) } .k4 { background: var(--c4) } .k5 { background: var(--c5) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: 5px 6px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { font-weight: 600; color: var(--soft); font-size: 13px }
th:first-child, td:first-child, td.text, th.text { text-align: left }
tfoot td { font-weight: 600; border-bottom: 0 }
.meter { position: relative; width: 130px; height: 12px; border-radius: 3px;
  background: var(--line) }
.meter i { position: absolute; inset: 0 auto 0 0; border-radius: 3px; background: var(--accent) }
.meter i.right { background: var(--right) } .meter i.wrong { background: var(--wrong) }
.meter i.unjudged { background: var(--soft) }
.meter u { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--ink) }
.meter u.second { background: var(--c1) }
.face { display: grid; grid-template-columns: 186px 1fr; gap: 8px 24px }
.face header { grid-column: 1 / -1 }
.face img { display: block; border-radius: 8px; width: 100%; height: auto }
.maps { display: flex; flex-wrap: wrap; gap: 10px; margin: 6px 0 4px }
.maps figure { width: 104px } .maps figcaption { font-size: 12px; text-align: center;
  color: var(--soft); line-height: 1.3; margin-bottom: 4px; height: 47px; display: flex;
  flex-direction: column; justify-content: flex-end }
.maps img { margin-bottom: 5px; border-radius: 6px; height: 104px }
.maps .rows { width: 50px; margin-top: 51px; font-size: 12px; color: var(--soft) }
.maps .rows span { display: flex; height: 104px; margin-bottom: 5px; align-items: center;
  line-height: 1.3 }
.bars { display: grid; grid-template-columns: auto 1fr auto; gap: 2px 8px; align-items: center;
  font-size: 12.5px; font-variant-numeric: tabular-nums; margin-top: 12px }
.bars .meter { width: 100%; height: 9px } .bars .meter u { width: 1px; top: -1px; bottom: -1px }
.says { margin: 0; padding: 0; list-style: none }
.says li { padding: 5px 0 5px 12px; border-left: 3px solid var(--soft); margin: 5px 0 }
.says li.right { border-color: var(--right) } .says li.wrong { border-color: var(--wrong) }
.says b { margin-right: 6px }
summary { cursor: pointer; color: var(--accent); margin-top: 8px }
footer { color: var(--soft); font-size: 13px; margin-top: 36px }
@media (max-width: 640px) { .face { grid-template-columns: 1fr } .face img { max-width: 260px } }
"""
