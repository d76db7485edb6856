"""The option parser does what getopt does; the C library's is the model, by way of Python's module of that name."""

from __future__ import annotations

import getopt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s6tls.cli.frame.options import Given, Option, Synopsis, UsageError, number

SYNOPSIS = Synopsis(
    "prog",
    (
        Option("a", ("alpha",), None, "a flag"),
        Option("b", ("beta", "bet"), "value", "an option with a value", alternative=True),
        Option("1", (), None, "a flag without a long name"),
        Option("", ("only-long",), None, "a flag without a letter"),
        Option("", ("long-value",), "x|y", "an option with a value and without a letter", alternative=True),
    ),
    "ip port prog...",
)
SHORT, LONG = "ab:1", ["alpha", "beta=", "bet=", "only-long", "long-value="]

_FLAGS = [b"-", b"--", b"-a", b"-b", b"-1", b"-ab", b"-ba", b"-a1b", b"-c", b"-a-"]
_LONG = [b"--alpha", b"--beta", b"--bet", b"--beta=", b"--beta=x=y", b"--alpha=", b"--only-long", b"--long-value"]
_REST = [b"--long-value=v", b"--nope", b"--=", b"prog", b"", b"7"]
pieces = st.sampled_from([*_FLAGS, *_LONG, *_REST])
words = pieces | st.binary(max_size=6) | st.binary(max_size=4).map(b"-".__add__)


def model(argv: list[bytes]) -> tuple[list[tuple[str, bytes]], list[bytes]] | None:
    """Return what getopt makes of `argv`, or None for an error."""
    try:
        found, rest = getopt.getopt([word.decode("latin-1") for word in argv], SHORT, LONG)
    except getopt.GetoptError:
        return None
    names = {"-a": "a", "--alpha": "a", "-b": "b", "--beta": "b", "--bet": "b", "-1": "1"}
    return (
        [(names.get(name, name[2:]), value.encode("latin-1")) for name, value in found],
        [word.encode("latin-1") for word in rest],
    )


def is_abbreviated(word: bytes) -> bool:
    """Tell whether getopt would take this for a longer name; ours does not."""
    name = word[2:].partition(b"=")[0].decode("latin-1")
    exact = {long.removesuffix("=") for long in LONG}
    return word.startswith(b"--") and name not in exact and any(long.startswith(name) for long in exact) and name != ""


@given(st.lists(words.filter(lambda word: b"\0" not in word), max_size=6))
def test_it_agrees_with_getopt(argv: list[bytes]) -> None:
    assume(not any(is_abbreviated(word) for word in argv))
    try:
        parsed = SYNOPSIS.parse(argv)
    except UsageError:
        parsed = None
    assert parsed == model(argv)


def test_it_stops_at_the_first_word() -> None:
    assert SYNOPSIS.parse([b"-a", b"prog", b"-b", b"--"]) == ([("a", b"")], [b"prog", b"-b", b"--"])
    assert SYNOPSIS.parse([b"--", b"-a"]) == ([], [b"-a"])
    assert SYNOPSIS.parse([b"-", b"-a"]) == ([], [b"-", b"-a"])
    assert SYNOPSIS.parse([b"", b"-a"]) == ([], [b"", b"-a"])


def test_long_names_are_not_abbreviated() -> None:
    with pytest.raises(UsageError, match=r"^unrecognized option: --alp$"):
        SYNOPSIS.parse([b"--alp"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([b"-x"], "unrecognized option: -x"),
        ([b"-ax"], "unrecognized option: -x"),
        ([b"-\n"], r"unrecognized option: -\x0a"),
        ([b"-\xff"], r"unrecognized option: -\xff"),
        (["-é".encode()], r"unrecognized option: -\xc3"),
        ([b"--\xff=1"], r"unrecognized option: --\xff"),
        ([b"-b"], "option needs a value: -b"),
        ([b"--beta"], "option needs a value: --beta"),
        ([b"--alpha=1"], "option takes no value: --alpha"),
    ],
)
def test_errors_name_the_option(argv: list[bytes], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        SYNOPSIS.parse(argv)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("argv", "counting"),
    [
        ("-a -b1", {"b": b"1"}),
        ("-b1 -a", {"a": b""}),
        ("-b1 -a --bet=2 -b3", {"b": b"3"}),
        ("-b1 -1 --only-long -1", {"b": b"1", "1": b"", "only-long": b""}),
        ("--only-long -a --long-value=v", {"a": b"", "long-value": b"v"}),
        ("", {}),
    ],
)
def test_of_options_that_exclude_each_other_the_last_counts(argv: str, counting: dict[str, bytes]) -> None:
    given = read(argv)
    assert {option.name: given.value(option.name) for option in SYNOPSIS.options if given.flag(option.name)} == counting


def test_any_options_last_one_can_be_asked_for() -> None:
    given = read("-1 -b1 --only-long -1")
    assert given.last("1", "only-long") == "1"
    assert given.last("b", "only-long") == "only-long"
    assert given.last("a", "long-value") is None
    assert read("-b1 -a").last("b") is None


def test_all_values_of_an_option_can_be_asked_for() -> None:
    given = read("-b1 --bet=2 -a -b3")
    assert (given.values("b"), given.values("long-value")) == ([b"1", b"2", b"3"], [])
    assert given.pairs == [("b", b"1"), ("b", b"2"), ("a", b""), ("b", b"3")]


def test_a_default_stands_for_an_option_that_does_not_count() -> None:
    given = read("-b1 -a")
    assert (given.value("b"), given.value("b", b"7"), given.number("b", 7)) == (None, b"7", 7)
    assert read("-a -b1").number("b", 7) == 1


def test_an_option_that_there_is_not_is_no_option_that_is_not_given() -> None:
    given = read("")
    for ask in (given.flag, given.value, given.values, given.last, given.choice):
        with pytest.raises(KeyError):
            ask("c")


def test_numbers_and_choices_name_their_options() -> None:
    with pytest.raises(UsageError, match=r"^invalid value for -b: x \(expected 0 to 9\)$"):
        read("--beta=x").number("b", 0, 0, 9)
    with pytest.raises(UsageError, match=r"^invalid value for --long-value: x\|y \(expected x, y\)$"):
        read("--long-value=x|y").choice("long-value")
    assert read("--long-value=y").choice("long-value", "x") == "y"
    assert (read("").choice("long-value"), read("").choice("long-value", "x")) == (None, "x")


@pytest.mark.parametrize(
    ("synopsis", "argv", "words", "rest"),
    [
        ("prog...", "a b -1", "", "a b -1"),
        ("dir prog...", "d a", "d", "a"),
        ("OLD NEW", "o n", "o n", ""),
        ("FORMAT IN [OUT]", "f i", "f i", ""),
        ("FORMAT IN [OUT]", "f i o", "f i o", ""),
        ("RULES [ ADDRESS ]", "r", "r", ""),
        ("RULES [ ADDRESS ]", "r a", "r a", ""),
        ("RULES LOG...", "r l m n", "r", "l m n"),
    ],
)
def test_words_are_those_of_the_synopsis(synopsis: str, argv: str, words: str, rest: str) -> None:
    given = Synopsis("prog", (), synopsis).read(argv.encode().split())
    assert (given.words, given.rest) == (words.encode().split(), rest.encode().split())


@pytest.mark.parametrize(
    ("synopsis", "argv", "why"),
    [
        ("dir prog...", "", "dir is missing"),
        ("OLD NEW", "o", "NEW is missing"),
        ("OLD NEW", "o n x", "one word too many: x"),
        ("FORMAT IN [OUT]", "f", "IN is missing"),
        ("FORMAT IN [OUT]", "f i o x", "one word too many: x"),
        ("RULES [ ADDRESS ]", "", "RULES is missing"),
        ("RULES LOG...", "r", "LOG is missing"),
        ("", "x", "one word too many: x"),
    ],
)
def test_too_few_and_too_many_words_are_wrong_usage(synopsis: str, argv: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"^{why}$"):
        Synopsis("prog", (), synopsis).read(argv.encode().split())


def test_a_program_that_is_missing_is_told() -> None:
    with pytest.raises(UsageError, match=r"^no program to run$"):
        Synopsis("prog", (), "ip port prog...").read([b"::1", b"0"])


def test_words_beyond_the_last_may_be_ignored() -> None:
    assert Synopsis("prog", (), "OLD NEW", ignores_surplus=True).read([b"o", b"n", b"x"]).words == [b"o", b"n"]


def test_options_may_stand_behind_words_where_no_program_is_run() -> None:
    given = Synopsis("prog", SYNOPSIS.table, "OLD NEW").read_mixed([b"o", b"-b", b"1", b"--", b"-a"])
    assert (given.pairs, given.words) == ([("b", b"1")], [b"o", b"-a"])


def read(argv: str) -> Given:
    return SYNOPSIS.read([*argv.encode().split(), b"ip", b"port", b"prog"])


def test_the_usage_line_shows_which_options_exclude_each_other() -> None:
    assert SYNOPSIS.usage() == "prog [ -a | -b value ] [ -1 ] [ --only-long | --long-value=x|y ] ip port prog..."


def test_help_has_a_line_for_each_option() -> None:
    assert SYNOPSIS.help() == (
        "usage: prog [ options ] ip port prog...\n\n"
        "  -a, --alpha\n      a flag\n"
        "  -b, --beta, --bet value\n      an option with a value\n"
        "  -1\n      a flag without a long name\n"
        "  --only-long\n      a flag without a letter\n"
        "  --long-value x|y\n      an option with a value and without a letter\n"
    )


def test_help_is_the_pages_text_without_its_marks() -> None:
    about = "do as `-b` does, but better; this is long enough for a second line. See [another page](page.md#part)"
    table = ("**the first** ([other](other.md))", Option("a", (), None, about))
    assert Synopsis("prog", table, "prog...").help() == (
        "usage: prog [ options ] prog...\n\nthe first (other):\n  -a\n"
        "      do as -b does, but better; this is long enough for a second line. See\n      another page\n"
    )


@given(st.integers(0, 2**32 - 1))
def test_a_number_is_plain_decimal(n: int) -> None:
    assert number("-n", b"%d" % n) == number("-n", b"00%d" % n) == n


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1\n", "1_0", "0x1", "1.0", "1e3", "٣", "4294967296", "9" * 5000]
)
def test_nothing_else_is_a_number(text: str) -> None:
    with pytest.raises(UsageError, match=r"^invalid value for -n: "):
        number("-n", text.encode())


def test_a_number_is_within_its_bounds() -> None:
    assert number("port", b"65535", 1, 65535) == 65535
    for text in (b"0", b"65536"):
        with pytest.raises(UsageError, match=r"\(expected 1 to 65535\)$"):
            number("port", text, 1, 65535)
