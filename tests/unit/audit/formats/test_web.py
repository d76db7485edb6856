"""Apache's directives, nginx's tables, HAProxy's maps: what they refuse, and what is known without their programs."""

from __future__ import annotations

import pytest

from s6tls.audit.formats import haproxy, nginx
from s6tls.audit.formats.entries import Parsed
from s6tls.audit.formats.web import apache, nginxtables
from tests.support.rules.formats import refused


def said(parsed: Parsed) -> list[str]:
    verdicts = {True: "+", False: "-"}
    return [verdicts[rule.allow] + key.decode().partition("/")[2].replace("_", "/") for key, rule in parsed.rules]


def test_directives_of_nginx_over_several_lines() -> None:
    parsed = nginx.parse(b'# first\nallow\n\t10.0.0.0/8\n; # ours\n# second\ndeny "all"; # rest\n# last\n')
    assert said(parsed) == ["+10.0.0.0/8", "-0.0.0.0/0", "-::/0"]
    about = [(entry.line, entry.provenance.comments, entry.provenance.note) for entry in parsed.entries]
    assert about == [(2, ("first",), "ours"), (6, ("second",), "rest"), (6, (), "rest")]
    assert parsed.trailing == ("last",)
    unfinished = b"deny all;\nallow 10.0.0.0/8\ndeny 10.0.0.1;\nallow 'x"
    assert [line for line, _ in refused(nginx.parse, unfinished)] == [2, 4]


GEO = b"geo $x {\n default 0;\n# one\n 192.0.2.0/24 1; # two\n 192.0.2.7 0;\n 192.0.2.0/24 0;\n delete 192.0.2.7;\n}\n"


def test_geo() -> None:
    parsed = nginxtables.parse_geo(GEO)
    assert said(parsed) == ["-0.0.0.0/0", "-::/0", "-192.0.2.0/24"]
    assert [entry.line for entry in parsed.entries] == [2, 2, 6]
    assert said(nginxtables.parse_geo(b"geo $x { ::/0 1; default 0; }")) == ["-::/0", "-0.0.0.0/0"]
    named = nginxtables.parse_geo(b"geo $remote_addr $x { 192.0.2.0/24 DE; 10.0.0.0/8 FR; default '';}", values=["DE"])
    assert said(named) == ["+192.0.2.0/24", "-10.0.0.0/8", "-0.0.0.0/0", "-::/0"]
    denied = nginxtables.parse_geo(b"geo $x {\nranges;\n192.0.2.0-192.0.2.2 1;\n}", allow=False)
    assert said(denied) == ["-192.0.2.0/31", "-192.0.2.2/32", "+0.0.0.0/0", "+::/0"]
    assert [entry.line for entry in denied.entries] == [3, 3, 0, 0]


@pytest.mark.parametrize(
    "line",
    [
        "192.0.2.1/24 1;",
        "192.0.2.0/24 yes;",
        "192.0.2.0/24;",
        "192.0.2.0/24 1 2;",
        "include x;",
        "proxy 10.0.0.1;",
        "delete 10.0.0.1;",
        "192.0.2.0/24 {}",
        "::ffff:192.0.2.0/120 1;",
        "ranges;",
        "192.0.2.0-192.0.2.1 1;",
    ],
)
def test_geo_refuses(line: str) -> None:
    data = f"geo $x {{\n10.0.0.0/8 1;\n{line}\n}}\n".encode()
    assert [number for number, _ in refused(nginxtables.parse_geo, data)] == [3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"allow all;",
        b"geo $http_x_forwarded_for $x {}",
        b"geo $x { } geo $y { }",
        b"http { geo $x { } }",
        b"geo $x { ranges; 10.0.0.0-10.0.0.9 1; 10.0.0.5-10.0.0.20 1; }",
        b"geo $x { ranges; 255.255.255.255-255.255.255.255 1; }",
        b"geo $x { ranges; 10.0.0.0/8 1; }",
    ],
)
def test_what_is_no_geo(data: bytes) -> None:
    assert refused(nginxtables.parse_geo, data)


def test_map() -> None:
    data = b"map $remote_addr $x {\nvolatile;\ndefault 1;\n192.0.2.1 0;\n2001:DB8::1 1;\n}"
    assert said(nginxtables.parse_map(data)) == ["-192.0.2.1/32", "+2001:db8::1/128", "+0.0.0.0/0", "+::/0"]
    for line in ("192.0.2.0/24 1;", "~^192 1;", "192.0.2.1 1;", "2001:db8:0::1 1;", "::c000:207 1;", "10.1.1.1 $y;"):
        found = refused(nginxtables.parse_map, f"map $remote_addr $x {{\n192.0.2.1 1;\n{line}\n}}".encode())
        assert [number for number, _ in found] == [3], line
    assert refused(nginxtables.parse_map, b"map $binary_remote_addr $x {}")


def test_maps_of_haproxy() -> None:
    parsed = haproxy.parse_map(b"# x\n192.0.2.0/24 1\n192.0.2.7\t0 \n", allow=False)
    assert said(parsed)[:2] == ["+192.0.2.7/32", "-192.0.2.0/24"]
    assert [line for line, _ in refused(haproxy.parse_map, b"10.0.0.0/8\n10.0.0.1 x\n10.0.0.1/8 1\n")] == [1, 2, 3]


APACHE = {
    "Require ip 10 172.20. \\\n  192.168.2\n": [
        "+10.0.0.0/8",
        "+172.20.0.0/16",
        "+192.168.2.0/24",
        "-0.0.0.0/0",
        "-::/0",
    ],
    "<RequireAll>\nRequire all granted\n Require not ip 10.1\n</RequireAll>": ["-10.1.0.0/16", "+0.0.0.0/0", "+::/0"],
    "<RequireAll>\nRequire ip 10\nRequire ip 10.1 11\n</RequireAll>": ["+10.1.0.0/16", "-0.0.0.0/0", "-::/0"],
    "Require all denied\nRequire ip 2001:db8::/32": ["+2001:db8::/32", "-0.0.0.0/0", "-::/0"],
    "Order allow,deny\nAllow from all\nDeny from 10.0.0.1": ["-10.0.0.1/32", "+0.0.0.0/0", "+::/0"],
    "Order Deny,Allow\nDeny from all\nAllow from 10.0.0.1": ["+10.0.0.1/32", "-0.0.0.0/0", "-::/0"],
    "Deny from 10.0.0.1 # x".partition(" #")[0]: ["-10.0.0.1/32", "+0.0.0.0/0", "+::/0"],
    "<IfModule !mod_authz_core.c>\nDeny from all\n</IfModule>\n<IfModule mod_authz_core.c>\nRequire all granted\n"
    "</IfModule>\n": ["+0.0.0.0/0", "+::/0"],
}


@pytest.mark.parametrize("data", APACHE)
def test_apache(data: str) -> None:
    assert said(apache.parse(data.encode())) == APACHE[data]


@pytest.mark.parametrize(
    "line",
    [
        "Require not ip 10",
        "Require host example.org",
        "Require local",
        "Require ip",
        "Require all",
        "Require ip 10.0.0.1/8",
        "Require ip ::/0",
        'Require ip "10',
        "Require ip 10 # x",
        "Allow from env=x",
        "Allow 10",
        "Order x",
        "Satisfy any",
        "<Directory />",
        "</RequireAll>",
        "</IfModule>",
        "<IfModule mod_rewrite.c>",
        "<RequireAll>",
        "Deny from 10",
    ],
)
def test_apache_refuses(line: str) -> None:
    assert [number for number, _ in refused(apache.parse, f"Require all granted\n{line}\n".encode())][-1:] == [2]


def test_apache_without_directives_requires_nothing() -> None:
    assert refused(apache.parse, b"# x\n")
    assert refused(apache.parse, b"<RequireAll>\nRequire not ip 10\n</RequireAll>\n")
