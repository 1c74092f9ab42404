"""The look of the page: plain CSS, light and dark, for screens, narrow screens and paper."""

from __future__ import annotations

STYLE = """
:root {
  --page: #f4f5f7; --card: #ffffff; --text: #1c2127; --muted: #5f6b76; --line: #e1e5ea;
  --accent: #0072b2; --good: #1a7f4b; --warn: #9a5b00; --bad: #b3261e; --mark: #fff3dd; --code: #f7f8fa;
  --heat: 0, 114, 178; --miss: 194, 80, 10;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1215; --card: #171b20; --text: #e6e9ec; --muted: #98a3ad; --line: #2b323a;
    --accent: #56b4e9; --good: #5fd39a; --warn: #f0b35a; --bad: #ff8a80; --mark: #33291a; --code: #12161a;
    --heat: 86, 180, 233; --miss: 240, 160, 60;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 36px 24px 56px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 6px 14px; margin-bottom: 22px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
header p { flex-basis: 100%; margin: 0; color: var(--muted); overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 40px 0 12px; }
.badge { font-size: 13px; font-weight: 600; padding: 2px 11px; border-radius: 99px; border: 1px solid currentColor; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 14px; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 15px 18px 14px; }
.tile span { display: block; color: var(--muted); font-size: 13px; overflow-wrap: anywhere; }
.tile b { display: block; font-size: 25px; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; margin: 2px 0 1px; }
.tile.main b { color: var(--accent); font-size: 30px; line-height: 1.05; margin-top: 4px; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 14px; align-items: start; }
figure { margin: 0; padding: 14px 16px 12px; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px; }
figcaption { color: var(--muted); font-size: 13px; margin-top: 8px; }
.card { padding: 6px 18px; overflow-x: auto; }
figure.card { padding: 14px 16px 12px; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 0 14px; align-items: start; }
.side > section { min-width: 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child > td, tr:last-child > th { border-bottom: 0; }
thead th { color: var(--muted); font-size: 13px; font-weight: 500; }
tbody th { font-weight: 500; color: var(--muted); overflow-wrap: anywhere; }
td { overflow-wrap: anywhere; }
.wide tr > :not(:last-child) { width: 1%; white-space: nowrap; padding-right: 28px; }
.wide tbody th { max-width: 320px; overflow: hidden; text-overflow: ellipsis; }
td.n, th.n { text-align: right; overflow-wrap: normal; white-space: nowrap; }
td.n:last-child, th.n:last-child { padding-right: 0; }
tr.best { background: var(--mark); }
tr.best > td:first-child::after { content: "  best"; color: var(--muted); font-size: 12px; }
.matrix { width: auto; margin: 10px auto; border-spacing: 2px; border-collapse: separate; font-size: 13.5px; }
.matrix td, .matrix th { border: 0; padding: 5px 8px; text-align: center; min-width: 38px; border-radius: 4px; max-width: 160px; }
.matrix td { overflow-wrap: normal; }
.matrix th { color: var(--muted); font-weight: 500; }
.matrix tbody th { text-align: right; }
.matrix .hit { background: rgba(var(--heat), calc(0.06 + 0.5 * var(--share))); }
.matrix .miss { background: rgba(var(--miss), calc(0.12 + 0.75 * var(--share))); }
.matrix .none { color: var(--muted); opacity: 0.55; }
pre { margin: 0; padding: 14px 0; font: 13px/1.55 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre; overflow-x: auto; tab-size: 4; }
.card.code { background: var(--code); max-height: 560px; overflow: auto; }
code { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.note { color: var(--muted); font-size: 13px; margin: 8px 2px 0; }
.alert { border-left: 4px solid var(--warn); padding: 10px 16px; margin-bottom: 16px; }
.alert.failed { border-left-color: var(--bad); }
details > summary { cursor: pointer; color: var(--accent); padding: 8px 0; }
footer { margin-top: 44px; color: var(--muted); font-size: 13px; }
@media (max-width: 560px) { main { padding: 22px 14px 36px; } .tile.main b { font-size: 26px; } }
@media print { body { background: #fff; } .tile, .card { break-inside: avoid; } .card.code { max-height: none; } }
"""
