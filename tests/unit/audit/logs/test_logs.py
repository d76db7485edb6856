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
from s6tls.audit.logs.formats import FORMATS, Log
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


WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text + b" some more\n",
    "common": lambda text: text + b' - - [25/Nov/2026:01:02:03 +0000] "GET / HTTP/1.1" 200 5 "-" "curl"\r\n',
    "json": lambda text: json.dumps({"time": 1, "remote_addr": text.decode()}).encode() + b"\n",
    "csv": as_csv,
    "s6": lambda text: b"s6-tcpserver-access: info: deny pid 123 ip " + text + b"\n",
}


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
    lines = [b"what,ip,then\n"] if format == "csv" else []
    for packed in wanted:
        text = address_text(packed)
        lines.append(stamp + WRITERS[format](with_port(text) if ports else text))
    found, unread = read(path, b"".join(lines), format if given_format or not wanted else None)
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
        found, unread = read(tmp_path_factory.getbasetemp(), data, format, field)
    except LogError:
        return
    if format in ("plain", "common", "json", "s6"):
        assert len(found) + unread == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


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
    found, unread = read(tmp_path, line + b"\n", "plain")
    if address is None:
        assert (found, unread) == ([], 1)
    else:
        assert ([parse_address(text) for text in found], unread) == ([parse_address(address)], 0)


@pytest.mark.parametrize(
    ("data", "field", "format"),
    [
        (b"", None, "plain"),
        (b"\n\n\n\n{}\n", None, "json"),
        (b"starting\n{}\n{}\n", None, "json"),
        (b"192.0.2.1\n{}\n", None, "plain"),
        (b"::1\n{}\n{}\n", None, "json"),
        (b"s6-tcpserverd: info: starting\ns6-tcpserver-access: info: allow pid 1 ip ::1\n", None, "s6"),
        (b"s6-tcpserver-access: info: allow pid 1 ip ::1\n", "x", "csv"),
        (b"{}\n", "x", "json"),
        (b"time,client_ip\n", None, "csv"),
        (b"time,what\n", None, "plain"),
        (b'192.0.2.1 - - "allow pid 1 ip ::1"\n', None, "plain"),
    ],
)
def test_what_a_log_looks_like(tmp_path: Path, data: bytes, field: str | None, format: str) -> None:
    assert Log(write(tmp_path, data), None, field).format == format


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
    found, unread = read(tmp_path, json.dumps(record).encode(), "json", field)
    assert (found, unread) == (([], 1) if address is None else ([address], 0))


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
        (b'ip,n\n192.0.2.1,"open\n192.0.2.2,3\n', None, [], 2),
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
    blocks = stream.line_blocks(write(tmp_path, packer(b"\n" * 20_000_000)))
    assert all(len(lines) <= 1 << 18 for lines, _ in zip(blocks, range(10), strict=False))


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Log(os.fsencode(tmp_path / "nosuch"))
    with pytest.raises(IsADirectoryError):
        Log(os.fsencode(tmp_path))
