"""Questions about rule sets, answered exactly for every address there is.

`Contents.load` reads a rule set in either form; each question is a module of its own.  Imports nothing of this
project but `s6tls.accessrules`.
"""
