"""Rules in other forms: our own text, and those of other programs.

One module a format; what they share is in `entries`.
A format has ``parse`` (bytes to entries) and ``write`` (rules to text).  What either cannot express exactly it refuses.
"""
