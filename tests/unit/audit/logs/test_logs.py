"""Logs in every format, packed or not, beside the addresses that were written into them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from s6tls.accessrules.keys import address_text, parse_address
from s6tls.audit.logs import stream
from s6tls.audit.logs.formats import FORMATS
from s6tls.audit.logs.log import Log
from s6tls.audit.logs.stream import LogError

STAMPS = (
    b"",
    b"@4000000065a0b1c2d3e4f506 ",
    b"2026-11-25 01:02:03.123456789  ",
    b"@4000000065a0b1c2d3e4f506 2026-11-25 01:02:03 ",
)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}

addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
few_addresses = st.lists(addresses, min_size=1, max_size=8).flatmap(lambda few: st.lists(st.sampled_from(few)))
every_packer = pytest.mark.parametrize("packer", PACKERS.values(), ids=PACKERS)


def with_port(text: bytes) -> bytes:
    return b"[%s]:443" % text if b":" in text else b"%s:443" % text


def as_csv(text: bytes) -> bytes:
    row = io.StringIO()
    csv.writer(row, lineterminator="\r\n").writerow(['with "quotes", commas', text.decode(), "two\nlines"])
    return row.getvalue().encode()


def as_tcpserver(text: bytes) -> bytes:
    host_and_port = text.strip(b"[]").replace(b"]:443", b"").removesuffix(b":443") if b"[" in text else text
    return b"tcpserver: ok 12 here:10.0.0.1:25 there:" + host_and_port.removesuffix(b":443") + b"::4321\n"


def as_haproxy(text: bytes) -> bytes:
    port = b"" if text.endswith(b":443") and (b"]" in text or b"." in text) else b":443"
    return text + port + b" [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30 200\n"


ACCESS = b' - - [25/Nov/2026:01:02:03 +0000] "GET / HTTP/1.1" 200 5 "-" "curl"\r\n'
WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text + b" some more\n",
    "s6": lambda text: b"s6-tcpserver-access: info: deny pid 123 ip " + text + b"\n",
    "tcpserver": as_tcpserver,
    "common": lambda text: text + ACCESS,
    "vhost_combined": lambda text: b"192.0.2.99:443 " + text + ACCESS,
    "haproxy": as_haproxy,
    "json": lambda text: json.dumps({"time": 1, "remote_addr": text.decode()}).encode() + b"\n",
    "csv": as_csv,
    "columns": lambda text: b'"a ""b"" c"  ' + text + b" 10.0.0.1\n",
    "w3c": lambda text: b"10.0.0.1 " + text + b" -\n",
}
HEADINGS = {"csv": b"what,ip,then\n", "w3c": b"#Version: 1.0\n#Fields: s-ip c-ip cs(User-Agent)\n"}
TABLES = ("csv", "columns", "w3c")


def write(path: Path, data: bytes) -> bytes:
    (path / "log").write_bytes(data)
    return os.fsencode(path / "log")


def texts(log: Log) -> list[bytes]:
    return [address_text(packed) for packed in log.addresses()]


def read(path: Path, data: bytes, format: str | None = None, field: str | None = None) -> tuple[list[bytes], int]:
    """The addresses, and how many lines have none; counting tells the same."""
    name = write(path, data)
    log = Log(name, format, field)
    found = texts(log)
    assert log.lines - log.unread == len(found)
    for most in (0, 1, 1000):
        again = Log(name, format, field)
        counter: Counter[bytes] = Counter()
        for packed, hits in again.hits(most):
            counter[address_text(packed)] += hits
        assert counter == Counter(found)
        assert (again.lines, again.unread, again.sample) == (log.lines, log.unread, log.sample)
    return found, log.unread


def test_every_format_is_written_here() -> None:
    assert list(WRITERS) == list(FORMATS)


@pytest.mark.parametrize("format", FORMATS)
@given(wanted=few_addresses, stamp=st.sampled_from(STAMPS), ports=st.booleans(), given_format=st.booleans())
def test_addresses_come_back_from_every_format(
    tmp_path_factory: pytest.TempPathFactory,
    format: str,
    wanted: list[bytes],
    stamp: bytes,
    ports: bool,
    given_format: bool,
) -> None:
    path = tmp_path_factory.getbasetemp()
    lines = [HEADINGS.get(format, b"")]
    for packed in wanted:
        text = address_text(packed)
        line = WRITERS[format](with_port(text) if ports else text)
        lines.append(line if format in TABLES else stamp + line)
    field = "2" if format == "columns" else None
    found, unread = read(path, b"".join(lines), format if given_format or not wanted else None, field)
    assert (found, unread) == ([address_text(packed) for packed in wanted], 0)


def test_lines_of_access_with_a_rule_and_without(tmp_path: Path) -> None:
    lines = [
        b"s6-tcpserver-access: info: allow pid 7 ip 192.0.2.1 rule ip4/192.0.2.0_24",
        b"s6-tcpserver-access: info: deny pid 7 ip 2001:db8::1 rule none",
        b"s6-tcpserver-access: info: deny pid 7 ip 192.0.2.2",
        b"s6-tcpserverd: info: session 192.0.2.3_7 pid 7 seconds 1.000 in 1 out 1 rule ip4/192.0.2.0_24 ended",
        b"s6-tcpserverd: info: reject 192.0.2.3_7 rate 1/1,1 rule ip4/192.0.2.0_24",
    ]
    assert read(tmp_path, b"\n".join(lines)) == ([b"192.0.2.1", b"2001:db8::1", b"192.0.2.2"], 2)


@given(st.binary(max_size=300), st.none() | st.sampled_from(list(FORMATS)), st.sampled_from([None, "ip", "1"]))
def test_no_line_is_lost_whatever_a_log_holds(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, format: str | None, field: str | None
) -> None:
    try:
        found, unread = read(tmp_path_factory.getbasetemp(), b"192.0.2.1\n" + data, format, field)
    except LogError:
        return
    if format in ("plain", "common", "s6"):
        lines = b"192.0.2.1\n" + data
        assert len(found) + unread == lines.count(b"\n") + (not lines.endswith(b"\n"))


@pytest.mark.parametrize(
    ("line", "address"),
    [
        (b"192.0.2.1", b"192.0.2.1"),
        (b"  192.0.2.1\t-", b"192.0.2.1"),
        (b"192.0.2.1:65535", b"192.0.2.1"),
        (b"[2001:db8::1]:1", b"2001:db8::1"),
        (b"[2001:db8::1]", b"2001:db8::1"),
        (b"2001:DB8:0::1", b"2001:db8::1"),
        (b"::ffff:192.0.2.1", b"192.0.2.1"),
        (b"\xef\xbb\xbf192.0.2.1", b"192.0.2.1"),
        (b"[192.0.2.1]:1", None),
        (b"192.0.2.01", None),
        (b"192.0.2.1:", None),
        (b"192.0.2.1:123456", None),
        (b"fe80::1%eth0", None),
        (b"192.0.2.1,", None),
        (b"", None),
        (b"-", None),
        (b"\xff\x00\x1b", None),
        (b"1" * 3_000_000, None),
        (b"@4000000065a0b1c2d3e4f506", None),
    ],
)
def test_what_is_an_address(tmp_path: Path, line: bytes, address: bytes | None) -> None:
    wanted = [] if address is None else [parse_address(address)]
    found, unread = read(tmp_path, line + b"\n::9\n", "plain")
    assert ([parse_address(text) for text in found], unread) == ([*wanted, parse_address(b"::9")], 1 - len(wanted))


@pytest.mark.parametrize(
    ("data", "field", "format"),
    [
        (b"", None, ""),
        (b'\n\n\n\n{"ip": "::1"}\n', None, "json"),
        (b"192.0.2.1\n{}\n", None, "plain"),
        (b"s6-tcpserverd: info: starting\ns6-tcpserver-access: info: allow pid 1 ip ::1\n", None, "s6"),
        (b"time,client_ip\n", None, "csv"),
        (b'192.0.2.1 - - "allow pid 1 ip ::1"\n', None, "plain"),
        (b"192.0.2.1\n::1\n192.0.2.1 - - [25/Nov/2026:01:02:03 +0000]\n", None, "plain"),
        (b"x ::1\n", "2", "columns"),
        (b"x;::1\n", "2", "csv"),
    ],
)
def test_what_a_log_looks_like(tmp_path: Path, data: bytes, field: str | None, format: str) -> None:
    assert Log(write(tmp_path, data), None, field).format == format


def test_guessing_reads_on_until_there_is_a_client(tmp_path: Path) -> None:
    data = b"starting up\n" * 200_000 + b"s6-tcpserver-access: info: allow pid 1 ip ::1\n"
    log = Log(write(tmp_path, data))
    assert (texts(log), log.format, log.lines, log.unread) == ([b"::1"], "s6", 200_001, 200_000)


@pytest.mark.parametrize("field", [None, "ip"])
def test_quotes_that_nothing_closes_take_no_time(tmp_path: Path, field: str | None) -> None:
    with pytest.raises(LogError):
        read(tmp_path, b"192.0.2.1 - 192.0.2.2 " + b'"\\' * 400_000 + b"\n", field=field)


def test_with_a_format_lines_are_read_as_they_come() -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb"), open(theirs, "wb", buffering=0) as pipe:
        pipe.write(b"192.0.2.1\n")
        found = Log(b"/dev/fd/%d" % ours, "plain").addresses()
        assert address_text(next(found)) == b"192.0.2.1"
        pipe.write(b"192.0.2.2\n")
        assert address_text(next(found)) == b"192.0.2.2"


def test_a_document_larger_than_a_line_may_be(tmp_path: Path) -> None:
    records = [{"sourceIPAddress": "192.0.2.1", "more": "x" * 100_000}, {"sourceIPAddress": "::1", "more": [{}]}] * 50
    data = json.dumps({"Records": records}).encode()
    assert len(data) > 2 * stream.LINE_LIMIT
    assert read(tmp_path, data) == ([b"192.0.2.1", b"::1"] * 50, 0)


@pytest.mark.parametrize("data", [b'[{"ip": "::1"}, {"ip"', b'[{"ip": "::1"} x]', b'{\n"ip": ::1}\n', b"[{]\n"])
def test_a_broken_document(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LogError, match="broken JSON"):
        read(tmp_path, data)


def test_a_record_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="JSON record has more than"):
        read(tmp_path, b'[{"ip": "' + b"x" * 10_000_000)


def test_the_first_text_that_is_no_address_is_kept(tmp_path: Path) -> None:
    log = Log(write(tmp_path, b"192.0.2.1\n\nlocalhost x\n-\n"))
    assert (texts(log), log.lines, log.unread, log.sample) == ([b"192.0.2.1"], 4, 3, b"localhost")


def test_a_long_line_is_cut_and_the_next_read(tmp_path: Path) -> None:
    long = b"192.0.2.1 " + b"x" * (3 * stream.LINE_LIMIT)
    assert read(tmp_path, long + b"\n192.0.2.2\n") == ([b"192.0.2.1", b"192.0.2.2"], 0)


@pytest.mark.parametrize(
    ("record", "field", "address"),
    [
        ({"client_ip": "192.0.2.1", "ip": "192.0.2.2"}, None, b"192.0.2.1"),
        ({"client": {"ip": "192.0.2.1"}}, None, b"192.0.2.1"),
        ({"request": {"remote_ip": "192.0.2.1"}}, None, b"192.0.2.1"),
        ({"ip": "192.0.2.1", "peer": {"at": ["x"], "addr": "192.0.2.2"}}, "peer.addr", b"192.0.2.2"),
        ({"peer.addr": "192.0.2.1", "peer": {"addr": "192.0.2.2"}}, "peer.addr", b"192.0.2.1"),
        ({"ip": 3221225985}, None, None),
        ({"ip": None}, None, None),
        ({"ip": "\ud800"}, None, None),
        ({"who": "192.0.2.1"}, None, None),
        (["192.0.2.1"], "ip", None),
    ],
)
def test_fields_of_json(tmp_path: Path, record: object, field: str | None, address: bytes | None) -> None:
    good = {"ip": "::9", "peer": {"addr": "::9"}}
    data = json.dumps(record).encode() + b"\n" + json.dumps(good).encode()
    found, unread = read(tmp_path, data, "json", field)
    assert (found, unread) == (([b"::9"], 1) if address is None else ([address, b"::9"], 0))


@pytest.mark.parametrize("line", [b"{", b"[" * 100_000, b'{"ip": ' + b"9" * 10_000 + b"}", b'{"ip": "192.0.2.1"} x'])
def test_broken_json(tmp_path: Path, line: bytes) -> None:
    assert read(tmp_path, b'{"ip": "192.0.2.1"}\n' + line + b'\n{"ip": "\xff"}\n', "json") == ([b"192.0.2.1"], 2)


@pytest.mark.parametrize(
    ("data", "field", "found", "unread"),
    [
        (b"n,ip\n1,192.0.2.1\n", None, [b"192.0.2.1"], 0),
        (b"n;ip\n1;192.0.2.1\n", None, [b"192.0.2.1"], 0),
        (b"n\twho\n1\t192.0.2.1\n", "who", [b"192.0.2.1"], 0),
        (b"n,\xc3\xa9\n1,192.0.2.1\n", "é", [b"192.0.2.1"], 0),
        (b"n,who\n1,192.0.2.1\n", "2", [b"192.0.2.1"], 0),
        (b"1,192.0.2.1\n2,192.0.2.2\n", "2", [b"192.0.2.1", b"192.0.2.2"], 0),
        (b"n,ip\n1\n2,192.0.2.1\n\n", None, [b"192.0.2.1"], 2),
        (b'n,ip\n1,192.0.2.1\n2,"192.0.2.2"x\n3,192.0.2.3\n', None, [b"192.0.2.1", b"192.0.2.3"], 1),
        (b'ip,n\n192.0.2.3,1\n192.0.2.1,"open\n192.0.2.2,3\n', None, [b"192.0.2.3"], 2),
    ],
)
def test_columns_of_csv(tmp_path: Path, data: bytes, field: str | None, found: list[bytes], unread: int) -> None:
    assert read(tmp_path, data, None, field) == (found, unread)


@pytest.mark.parametrize("field", ["nosuch", "0", "3", "9" * 5000, None])
def test_a_column_that_is_not_there(tmp_path: Path, field: str | None) -> None:
    with pytest.raises(LogError, match="column"):
        read(tmp_path, b"n,who\n1,192.0.2.1\n", "csv", field)


def test_a_csv_record_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="record has more than"):
        read(tmp_path, b"ip,n\n192.0.2.1," + b'"\n","\n",' * 1_500_000, "csv")


@every_packer
def test_packed_in_several_members(tmp_path: Path, packer: Callable[[bytes], bytes]) -> None:
    lines = [b"192.0.2.%d\n" % (i % 256) for i in range(10_000)]
    data = b"".join(lines)
    packed = packer(data[:50_001]) + packer(b"") + packer(data[50_001:]) + b"\0" * 512
    assert read(tmp_path, packed) == ([line.strip() for line in lines], 0)


def test_zstd_with_a_frame_to_skip(tmp_path: Path) -> None:
    assert read(tmp_path, b"\x50\x2a\x4d\x18\x04\0\0\0skip" + PACKERS["zstd"](b"::1\n")) == ([b"::1"], 0)


@every_packer
@pytest.mark.parametrize("kept", [5, 0.5, -1], ids=["head", "half", "all but one"])
def test_packed_and_cut_short(tmp_path: Path, packer: Callable[[bytes], bytes], kept: float) -> None:
    packed = packer(os.urandom(10_000).hex().encode())
    with pytest.raises(LogError, match=r"(gzip|zstd) data cut short at byte \d+$"):
        read(tmp_path, packed[: int(kept * len(packed)) if isinstance(kept, float) else kept])


@every_packer
def test_packed_and_followed_by_something_else(tmp_path: Path, packer: Callable[[bytes], bytes]) -> None:
    with pytest.raises(LogError, match=r"broken (gzip|zstd) data before byte \d+: "):
        read(tmp_path, packer(b"192.0.2.1\n") + b"192.0.2.2\n")


@every_packer
@given(at=st.integers(0, 2000), value=st.integers(1, 255))
def test_packed_and_corrupt_is_an_error_or_read(
    tmp_path_factory: pytest.TempPathFactory, packer: Callable[[bytes], bytes], at: int, value: int
) -> None:
    packed = bytearray(packer(b"".join(b"192.0.2.%d\n" % (i * i % 251) for i in range(1000))))
    packed[at % len(packed)] ^= value
    try:
        read(tmp_path_factory.getbasetemp(), bytes(packed), "plain")
    except LogError as error:
        assert "\n" not in str(error)


@every_packer
def test_many_short_lines_come_in_bounded_blocks(tmp_path: Path, packer: Callable[[bytes], bytes]) -> None:
    chunks = stream.line_chunks(stream.pieces(write(tmp_path, packer(b"\n" * 20_000_000))))
    assert all(chunk.count(b"\n") <= 1 << 18 for chunk, _ in zip(chunks, range(10), strict=False))


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Log(os.fsencode(tmp_path / "nosuch"))
    with pytest.raises(IsADirectoryError):
        Log(os.fsencode(tmp_path))
