#!/usr/bin/env python3
"""Fuzz the parser of expectations: whatever stands in a file, it is refused in so many words, or read and judged.

usage: fuzz_expectations.py fuzz/corpus/expectations
"""

import sys

import atheris

with atheris.instrument_imports():
    from s6tls.accessrules import Rule
    from s6tls.audit.core.loaded import LoadedRules
    from s6tls.audit.policy.expect import violations
    from s6tls.audit.policy.expectations import BadExpectations, parse

RULES = LoadedRules.of([(b"ip4/192.0.2.0_24", Rule(True, ((b"ROLE", b"staff"),))), (b"ip6/::_0", Rule(False))])


def one_input(data: bytes) -> None:
    try:
        expectations = parse(data)
    except BadExpectations as error:
        assert str(error)
        return
    assert expectations
    for violation in violations(RULES, expectations):
        assert violation.addresses > 0
        assert len(violation.lines()) == 3
        assert violation.json()["expectation"] <= len(expectations)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
