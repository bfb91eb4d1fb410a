#include "comet/study/report/sections.h"

namespace comet::study {

// Colours are Okabe and Ito's, told apart by most colour-blind readers, darkened or lightened to
// stand against either ground; series also differ by shape.
std::string report_style() {
  return R"(
:root { color-scheme: light dark;
  --ground: #fdfdfc; --card: #ffffff; --ink: #1c1f23; --soft: #5b636e; --rule: #dfe2e6; --tint: #f1f4f7;
  --accent: #0b63a5; --good: #00705a; --bad: #b3400e;
  --s0: #59616c; --s1: #0072b2; --s2: #c4560a; --s3: #00805f; --s4: #a8478b; --s5: #a77600; --s6: #2f8fc0; --s7: #7a4fd0; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14171a; --card: #1b1f23; --ink: #e8eaed; --soft: #a2abb6; --rule: #333a42; --tint: #23282e;
  --accent: #6cb8f0; --good: #4cc9a4; --bad: #f2935c;
  --s0: #aab3be; --s1: #56a9e8; --s2: #f08a4b; --s3: #3fc49b; --s4: #dd8fc4; --s5: #e3b341; --s6: #7fd0f5; --s7: #b39bf2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
p, li { max-width: 46rem; }
.lead, .note, figcaption, caption { color: var(--soft); }
.note, figcaption, caption { font-size: .9rem; }
nav { margin: 1rem 0 0; font-size: .92rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 1.1rem 1.4rem; margin: 1rem 0; }
.card h3 { margin-top: 0; }
.choices { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .8rem; margin: .4rem 0 1rem; }
.choice { background: var(--tint); border-radius: 8px; padding: .7rem 1rem; }
.choice b { display: block; font-size: 1.3rem; }
.choice span { color: var(--soft); font-size: .88rem; }
h4 { font-size: .92rem; margin: 1rem 0 .2rem; color: var(--soft); }
.statements { margin: .2rem 0; padding-left: 1.2rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.2rem; }
.pair text { font-size: 16px; } .pair text.label { font-size: 17px; }
.ref { font-size: .78em; color: var(--soft); margin-left: .25em; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; min-width: 60%; }
caption { text-align: left; caption-side: bottom; padding-top: .45rem; max-width: 46rem; }
th, td { padding: .42rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); vertical-align: top; }
th:first-child, td:first-child, .text { text-align: left; }
thead th { border-bottom: 2px solid var(--soft); font-weight: 600; vertical-align: bottom; }
tbody tr:hover { background: var(--tint); }
td small, .sub { color: var(--soft); font-size: .82em; }
.sub { display: block; }
.best a.figure { font-weight: 700; }
.low .sub { color: var(--bad); }
a.figure { color: inherit; }
.text { white-space: normal; }
figure { margin: 1rem 0; }
svg { width: 100%; max-width: 760px; height: auto; display: block; }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); }
.limit { stroke: var(--bad); stroke-dasharray: 6 5; }
text { fill: var(--soft); font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
text.name { fill: var(--ink); font-size: 12.5px; } text.label { font-size: 13px; }
.line { fill: none; stroke-width: 2; } .error, .whisker { stroke-width: 1.4; } .whisker { stroke: var(--ink); }
.mark { stroke: var(--card); stroke-width: 1; } .mark.hollow { fill: var(--card) !important; stroke-width: 2; }
)"
         R"(
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); }
.mark, .bar { fill: var(--c); } .mark.hollow, .line, .error { stroke: var(--c); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; margin: .3rem 0; padding: 0; font-size: .9rem; }
.legend svg { width: 14px; height: 14px; display: inline-block; vertical-align: -2px; margin-right: .35rem; }
.failed { color: var(--bad); }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--accent); }
#rows td, #rows th { padding: .2rem .7rem; font-size: .84rem; }
tr:target { background: var(--tint); outline: 2px solid var(--accent); }
code { font: .88em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
@media print { :root { --ground: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #ccc; --tint: #f3f3f3; }
  main { max-width: none; padding: 0; } body { font-size: 10.5pt; } nav { display: none; }
  h2 { break-after: avoid; } figure, .card, tr { break-inside: avoid; } .scroll { overflow: visible; } th, td { padding: .2rem .45rem; } }
)";
}

// A row that is pointed at from above lies in a folded list: unfold it.
std::string report_script() {
  return R"(
const open = () => { const row = document.getElementById(location.hash.slice(1));
  if (row) { const list = row.closest("details"); if (list) list.open = true; row.scrollIntoView({ block: "center" }); } };
addEventListener("hashchange", open); open();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
)";
}

}  // namespace comet::study
