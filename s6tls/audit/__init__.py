"""Questions about rule sets, answered exactly for every address there is.  Imports nothing of this project but
`s6tls.accessrules`.

- What all stand on: `contents` (a rule set in memory), `networks`, `space` (which rule decides each address),
  `answer` (decisions as text and JSON), `progress`.
- `explain`, `coverage`, `replay` (with `logs` and `logstream`), `expect` (with `expectations`), `diff`.
- `lint`, with a module for each kind of `findings`.
- `minimise`, with `trie`, `ortc` (the fewest rules), `budget` (fewer still) and `writing`.
- `formats`: rules as other programs write them, and as text.
- `mapping`: what a picture shows, from `hilbert`, `treemap`, `colouring` and `charting`; `drawing` draws it.
- `report`, with `report_sections` and the `page` that runs in a browser.
"""
