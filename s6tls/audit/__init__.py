"""Questions about rule sets, answered exactly for every address there is.  Imports nothing of this project but
`s6tls.accessrules` and `s6tls.pki`.

- `core`: a rule set in memory, its networks, which rule decides each address, and how answers are worded.
- `questions`: explain, coverage, diff.
- `lint`, with a module for each kind of finding.
- `minimise`: the fewest rules, and fewer still.
- `logs`: clients from logs, and replay.
- `suggest`: from logs to rules, and to narrower ones.
- `policy`: expectations, and whether they hold.
- `formats`: rules as other programs write them, and as text.
- `kernel`: what rules deny by address, as a table of nftables.
- `picture`: the address space as a map.
- `report`, with the page that runs in a browser.
"""
