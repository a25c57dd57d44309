/** Readable on a phone, in the dark, enlarged, and printed. Colours of the bars are told apart in grey, too. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --text: #1c2126; --quiet: #555e68; --ground: #ffffff; --raised: #f3f5f7; --line: #c9d0d7; --warn: #8a4b00;
  --heap: #1f5fa8; --stack: #d98a1f; --anonymous: #6fa8dc; --shared: #3a7d44; --files: #8e6bb8; --other: #7f8891;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e9ec; --quiet: #a4aeb8; --ground: #14181c; --raised: #1e242a; --line: #3a434c; --warn: #f0b060;
    --heap: #5b9be0; --stack: #f0b060; --anonymous: #9cc7ee; --shared: #6fbf7b; --files: #b99be0; --other: #97a1ab;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 70rem;
  font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground);
}
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
code, pre { font: .875rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { max-height: 20rem; overflow: auto; padding: .5rem; background: var(--raised); white-space: pre-wrap; }
.quiet { color: var(--quiet); }
.warning { border-left: .3rem solid var(--warn); padding: .25rem .75rem; margin: .5rem 0; background: var(--raised); }
.warning b { color: var(--warn); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; }
caption { text-align: left; color: var(--quiet); }
th, td { text-align: left; padding: .15rem .75rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:not(:last-child) { white-space: nowrap; }
.tree, .tree ul { list-style: none; margin: 0; padding-left: 1rem; }
.tree { padding-left: 0; }
.tree ul { border-left: 1px solid var(--line); }
summary { cursor: pointer; overflow-wrap: anywhere; }
:focus-visible { outline: 2px solid var(--heap); outline-offset: 2px; }
figure { margin: .5rem 0; }
figcaption { overflow-wrap: anywhere; }
.bar { display: flex; height: 1.1rem; min-width: 2px; background: var(--raised); }
.bar span { border-right: 1px solid var(--ground); }
.time { background: var(--heap); height: .6rem; }
.heap { background: var(--heap); } .stack { background: var(--stack); } .anonymous { background: var(--anonymous); }
.shared { background: var(--shared); } .files { background: var(--files); } .other { background: var(--other); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; }
.key { display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; vertical-align: -.05rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .35rem; } }
@media print { details > * { display: block; } }
`;
