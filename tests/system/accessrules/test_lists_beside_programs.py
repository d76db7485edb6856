"""Tables and lists beside the programs that read them: Debian's nginx, nft, ipset and iptables."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from s6tls.accessrules import Rule
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import parse_address_number
from s6tls.audit.formats import nft, nginx
from s6tls.audit.formats.entries import BadText, Parsed
from s6tls.audit.formats.firewall import ipset, iptables
from s6tls.audit.formats.web import nginxtables
from tests.support.rules import netfilter, spaces
from tests.support.servers import PATIENCE

CLIENTS = ["192.0.2.1", "192.0.2.7", "192.0.2.200", "192.0.3.1", "10.0.0.1", "10.1.2.3", "203.0.113.9"]
CLIENTS += ["2001:db8::7:1", "2001:db8:1::1", "fd01::1", "2002:c000:207::1"]
NETWORKS = ["192.0.2.0/24", "192.0.2.0/25", "192.0.2.1/32", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"]
NETWORKS += ["203.0.113.9", "0.0.0.0/1"]
NETWORKS6 = ["2001:db8::/32", "2001:db8:1::/48", "fd01::1", "2000::/3", "::/0", "fd00::/8"]


def we_allow(rules: spaces.Rules, client: str) -> bool:
    _, rule = spaces.decide(rules, *parse_address_number(client))
    return rule is not None and rule.allow


def decided(parsed: Parsed, clients: list[str] = CLIENTS) -> list[bool]:
    rules = dict(parsed.rules)
    return [we_allow(rules, client) for client in clients]


# Firewalls


def kernel_decides(*questions: Sequence[object]) -> list[list[bool]]:
    """What became of the clients in a network namespace of its own."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, netfilter.__file__],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    answers: list[list[bool]] = json.loads(done.stdout)
    return answers


def nft_rules(chance: random.Random, chains: list[str]) -> str:
    """Rules of one chain, which may send to these chains."""
    lines = []
    for _ in range(chance.randint(0, 5)):
        word, networks = chance.choice([("ip", NETWORKS), ("ip6", NETWORKS6)])
        some = chance.sample(networks, chance.randint(1, 2))
        conditions = [
            f"{word} saddr {chance.choice(['', '', '!= '])}{{ {', '.join(some[:1])} }}",
            f"{word} saddr {some[0]}",
            "ip saddr 10.1.2.0-10.1.2.9",
            f"ip saddr {chance.choice(['', '!= '])}@some",
            f"ct state {chance.choice(['new', 'established,related', '!= invalid'])}",
            f"meta nfproto {chance.choice(['ipv4', 'ipv6'])} counter",
            f"meta l4proto {chance.choice(['tcp', 'udp', '{ tcp, udp }'])}",
            "udp dport 53",
            'log prefix "x"',
            "",
        ]
        verdicts = ["accept", "drop", "drop", "reject with tcp reset", "return", "counter", *chains]
        lines.append(f"\t\t{chance.choice(conditions)} {chance.choice(verdicts)}")
    return "\n".join(line for line in lines if line.strip())


def nft_ruleset(chance: random.Random) -> str:
    policies = [chance.choice(["accept", "drop"]), chance.choice(["accept", "accept", "drop"])]
    return f"""\
table inet one {{
	set some {{
		type ipv4_addr
		flags interval
		elements = {{ 192.0.2.0/25, 10.1.0.0-10.1.2.200 comment "x" }}
	}}
	chain inner {{
{nft_rules(chance, [])}
	}}
	chain outer {{
{nft_rules(chance, ["jump inner", "goto inner"])}
	}}
	chain input {{
		type filter hook input priority filter + 1; policy {policies[0]};
		ct state established accept
{nft_rules(chance, ["jump outer", "goto outer", "jump inner"])}
	}}
}}
table ip two {{
	set some {{ type ipv4_addr; elements = {{ 203.0.113.9 }}; }}
	chain first {{
		type filter hook prerouting priority raw; policy {policies[1]};
		ct state established accept
{nft_rules(random.Random(chance.random()), []).replace("ip6 saddr", "ip saddr != 10.0.0.9 ip6 saddr")}
	}}
}}
"""


def is_taken(text: str) -> bool:
    """Tell whether nft takes a ruleset, and we do."""
    try:
        nft.parse(text.encode())
    except BadText:
        return False
    checked = subprocess.run(["unshare", "--net", "nft", "-c", "-f", "-"], input=text, text=True, capture_output=True)
    return checked.returncode == 0


def test_the_kernel_decides_as_imported_nft_chains() -> None:
    chance = random.Random(6)
    texts = [text for text in (nft_ruleset(chance) for _ in range(60)) if is_taken(text)]
    assert len(texts) > 20
    answers = kernel_decides(*([["nft", "-f", "-"], text, CLIENTS] for text in texts))
    for text, answer in zip(texts, answers, strict=True):
        assert decided(nft.parse(text.encode())) == answer, text
    assert {len({*answer}) for answer in answers} == {1, 2}


def iptables_saved(chance: random.Random, networks: list[str]) -> str:
    def rules(chain: str, targets: list[str]) -> list[str]:
        lines = []
        for _ in range(chance.randint(0, 5)):
            at = chance.choice(networks)
            condition = chance.choice(
                [
                    f"-s {at}",
                    f"! -s {at}",
                    "-p udp",
                    "-p tcp",
                    "-m conntrack --ctstate NEW",
                    "-m state --state ESTABLISHED",
                ]
                + (["-m iprange --src-range 10.1.2.0-10.1.2.9"] if ":" not in at else [])
            )
            target = chance.choice(["-j ACCEPT", "-j DROP", "-j DROP", "-j REJECT", "-j RETURN", "-j LOG", *targets])
            lines.append(f"-A {chain} {condition} -m comment --comment \"a 'b'\" {target}")
        return lines

    lines = ["*filter", f":INPUT {chance.choice(['ACCEPT', 'DROP'])} [0:0]", ":inner - [0:0]", ":outer - [0:0]"]
    lines += ["-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"]
    lines += rules("INPUT", ["-j outer", "-g outer", "-j inner"]) + rules("outer", ["-j inner", "-g inner"])
    return "\n".join([*lines, *rules("inner", []), "COMMIT", ""])


def test_the_kernel_decides_as_imported_iptables() -> None:
    chance = random.Random(7)
    questions: list[list[object]] = []
    ours = []
    for _ in range(16):
        for command, networks, is_ip6 in (("iptables", NETWORKS, False), ("ip6tables", NETWORKS6[:4], True)):
            clients = [client for client in CLIENTS if (":" in client) is is_ip6]
            text = iptables_saved(chance, networks)
            questions.append([[f"{command}-restore"], text, clients])
            ours.append(decided(iptables.parse(f"# {command}-save\n{text}".encode()), clients))
    for question, our, answer in zip(questions, ours, kernel_decides(*questions), strict=True):
        assert our == answer, question


# Sets


def members(commands: list[str]) -> list[bool]:
    """Which commands, run one after the other in a network namespace of their own, succeed."""
    script = "\n".join(f"{command} >/dev/null 2>&1 && echo yes || echo no" for command in commands)
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=True)
    return [word == "yes" for word in done.stdout.split()]


SETS: list[spaces.Rules] = [
    {b"ip4/0.0.0.0_0": Rule(True), b"ip4/10.0.0.0_8": Rule(False), b"ip6/::_0": Rule(True)},
    {b"ip4/192.0.2.0_25": Rule(True), b"ip4/192.0.2.1_32": Rule(False), b"ip6/2001:db8::_32": Rule(True)},
    {b"ip4/255.255.255.254_31": Rule(True), b"ip4/203.0.113.9_32": Rule(True), b"ip6/ffff::_16": Rule(True)},
    {},
]


@pytest.mark.parametrize("allow", [True, False])
def test_sets_have_the_clients_that_were_exported(tmp_path: Path, allow: bool) -> None:
    word = "allowed" if allow else "denied"
    commands, expected = [], []
    for place, rules in enumerate(SETS):
        loaded = LoadedRules.of(rules.items())
        for name, write in (("nft", nft.write), ("ipset", ipset.write)):
            (tmp_path / f"{name}{place}").write_text(write(loaded, allow=allow))
        loads = [f"nft -f {tmp_path}/nft{place}", f"ipset restore < {tmp_path}/ipset{place}"]
        commands += loads * 2
        expected += [True] * 4
        for client in CLIENTS:
            number = 6 if ":" in client else 4
            commands.append(f"nft get element inet s6tls {word}{number} '{{ {client} }}'")
            commands.append(f"ipset test s6-{word}{number} {client}")
            expected += [we_allow(rules, client) is allow] * 2
    assert [*zip(commands, members(commands), strict=True)] == [*zip(commands, expected, strict=True)]


def test_imported_ipsets_have_the_clients_that_ipset_finds(tmp_path: Path) -> None:
    chance = random.Random(8)
    kinds = [
        ("hash:net", "", NETWORKS[:-1]),
        ("hash:net", "family inet6", NETWORKS6[:3]),
        ("hash:ip", "netmask 24", []),
    ]
    commands, ours = [], []
    for place in range(24):
        kind, options, networks = kinds[place % 3]
        addresses = [client for client in CLIENTS if (":" in client) is ("inet6" in options)]
        lines = [f"create s {kind} {options} counters comment"]
        for at in chance.sample(networks or addresses, 3):
            lines.append(f"add s {at}{chance.choice(['', ' nomatch']) if networks else ''} comment \"a 'b'\"")
        text = "\n".join([*lines, ""])
        (tmp_path / str(place)).write_text(text)
        commands += [f"ipset -exist restore < {tmp_path}/{place}", *(f"ipset test s {client}" for client in addresses)]
        commands.append("ipset destroy s")
        ours += [True, *decided(ipset.parse(text.encode()), addresses), True]
    assert [*zip(commands, members(commands), strict=True)] == [*zip(commands, ours, strict=True)]


# nginx

NGINX = """\
daemon off;
user root;
pid {place}/pid;
error_log stderr emerg;
events {{ }}
http {{
    access_log off; lingering_close off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    {tables}
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        set_real_ip_from 127.0.0.1;
        real_ip_header proxy_protocol;
        {locations}
    }}
}}
"""


@contextlib.contextmanager
def nginx_with(place: Path, tables: list[str], lists: list[str]) -> Iterator[int]:
    """Run an nginx that says the value of table N, a variable, on ``/tN``, and lets clients of list N see ``/lN/``."""
    (place / "index.html").write_text("in")
    locations = [f"location /t{i} {{ return 200 $t{i}; }}" for i in range(len(tables))]
    locations += [f"location /l{i}/ {{ alias {place}/;\n{text}\n}}" for i, text in enumerate(lists)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = NGINX.format(place=place, port=port, tables="\n".join(tables), locations="\n".join(locations))
        (place / "nginx.conf").write_text(text)
        process = subprocess.Popen(
            ["/usr/sbin/nginx", "-e", "stderr", "-c", place / "nginx.conf"],
            stdin=subprocess.DEVNULL,
            env={"NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
        )
    try:
        yield port
    finally:
        process.terminate()  # the worker ends with it
        process.wait(PATIENCE)


def nginx_says(port: int, client: str, path: str) -> tuple[int, str]:
    """The status and the body that a client gets."""
    proxy = f"PROXY TCP6 {client} ::1" if ":" in client else f"PROXY TCP4 {client} 127.0.0.1"
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(f"{proxy} 50000 80\r\nGET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    return int(answer.split()[1]), answer.rpartition("\r\n\r\n")[2]


def a_geo(chance: random.Random, number: int) -> str:
    if chance.random() < 0.3:
        ranges = ["192.0.2.0-192.0.2.99", "10.0.0.0-10.1.2.3", "203.0.113.9-203.0.113.9", "192.0.2.200-192.0.3.0"]
        lines = ["ranges;", *(f"{at} {chance.choice('01')};" for at in chance.sample(ranges, 3))]
    else:
        lines = [f"{at} {chance.choice(['0', '1', chr(34) * 2])};" for at in chance.choices(NETWORKS + NETWORKS6, k=6)]
        lines += [f"delete {chance.choice(lines).split()[0]};"] if chance.random() < 0.5 else []
    lines += ["default 1;"] if chance.random() < 0.4 else []
    return f"geo $t{number} {{\n" + "\n".join(lines) + "\n}"


def a_map(chance: random.Random, number: int) -> str:
    lines = [f"{at.upper()} {chance.choice('01')};" for at in chance.sample(CLIENTS, 5)]
    lines += [f"default {chance.choice('01')};"] if chance.random() < 0.6 else []
    return f"map $remote_addr $t{number} {{\n" + "\n".join(lines) + "\n}"


def a_list_of_nginx(chance: random.Random) -> str:
    words = [*NETWORKS, *NETWORKS6, "all"]
    lines = [
        f"{chance.choice(['allow', 'deny'])}{chance.choice([' ', chr(10)])}{at};" for at in chance.sample(words, 5)
    ]
    return chance.choice(["\n", " "]).join(lines)


def test_nginx_decides_as_what_was_imported(tmp_path: Path) -> None:
    chance = random.Random(9)
    tables = [a_geo(chance, number) for number in range(14)] + [a_map(chance, number) for number in range(14, 20)]
    lists = [a_list_of_nginx(chance) for _ in range(8)]
    with nginx_with(tmp_path, tables, lists) as port:
        for number, table in enumerate(tables):
            parse = nginxtables.parse_geo if table.startswith("geo") else nginxtables.parse_map
            values = [nginx_says(port, client, f"/t{number}")[1] == "1" for client in CLIENTS]
            assert decided(parse(table.encode())) == values, table
            assert decided(parse(table.encode(), allow=False)) == [not value for value in values], table
        for number, text in enumerate(lists):
            let_in = [nginx_says(port, client, f"/l{number}/")[0] == 200 for client in CLIENTS]
            assert decided(nginx.parse(text.encode())) == let_in, text
