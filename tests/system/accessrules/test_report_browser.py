"""Reports in a real browser: the box that explains, the table, keyboards, narrow screens and hostile rules."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from s6tls.accessrules import Rule, keys
from s6tls.accessrules.cdb import write_cdb
from s6tls.accessrules.errors import AddressError
from s6tls.audit.core.loaded import LoadedRules
from s6tls.audit.core.networks import Family
from s6tls.audit.logs import Log, Replay
from s6tls.audit.questions.explain import Explainer
from s6tls.audit.report.report import report
from tests.support.rules import model, spaces

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHONES = (320, 390)
DESKTOP = 1280
OWNED = b"<img src=x onerror=window.owned=1></script><script>window.owned=1</script>"
HOSTILE = {
    b"reversedns/" + OWNED.replace(b"/", b""): Rule(True, ((b"<b>\"'&amp;", OWNED), (OWNED, None)), OWNED),
    b"reversedns/line\xe2\x80\xa8end\xe2\x80\xae\x1b[2J": Rule(False),
    b"reversedns/\xff\xfe": Rule(True, ((b"\xff", b"\xfe"),)),
    b"reversedns/" + b"l" * 400: Rule(True, ((b"__proto__", b"v" * 400),)),
    b"<b>" + b"f" * 80 + b"/__proto__": Rule(True),
    b"ip4/0.0.0.0_0": Rule(False),
    b"ip6/2001:db8::_32": Rule(True, ((b"ROLE", b"staff"), (b"DEBUG", None)), b"echo hello"),
}

Open = Callable[..., Chrome]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(executable_path=shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Chrome, tmp_path: Path) -> Iterator[Open]:
    """Opens a page about rules.  In the end it has asked nobody for anything, and nothing was wrong with it."""

    def open_(rules: spaces.Rules, width: int = DESKTOP, name: str = "rules.cdb", **options: Any) -> Chrome:
        write_cdb(str(tmp_path / name), rules.items())
        (tmp_path / "page.html").write_text(report(str(tmp_path / name), **options).html, "utf-8")
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width in PHONES}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get((tmp_path / "page.html").as_uri())
        return browser

    yield open_
    assert browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    assert complaints(browser) == []


def complaints(browser: Chrome) -> list[str]:
    """What the browser has had to say about pages since it was asked last."""
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]


def element(browser: Chrome, css: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, css)


def explained(browser: Chrome, questions: Sequence[tuple[str, str | None]]) -> list[dict[str, Any] | None]:
    script = "return arguments[0].map(([address, name]) => window.explain(address, name))"
    found: list[dict[str, Any] | None] = browser.execute_script(script, questions)
    return found


def shown_keys(browser: Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('#rows tr td:first-child')].map((cell) => cell.textContent)"
    found: list[str] = browser.execute_script(script)
    return found


def search(browser: Chrome, words: str) -> None:
    """Search at once, as a pause in typing does."""
    box = element(browser, "#words")
    box.clear()
    box.send_keys(words)
    browser.execute_async_script("setTimeout(arguments[0], 0)")


# Explaining


def random_number(chance: random.Random, family: Family) -> int:
    """Mostly zeros and ones, so that networks nest and texts have runs of zeros of all lengths in all places."""
    width, count = (8, 4) if family is Family.IP4 else (16, 8)
    parts = [chance.choice([0, 0, 0, 1, (1 << width) - 1, chance.getrandbits(width)]) for _ in range(count)]
    return sum(part << width * place for place, part in enumerate(parts))


def random_rules(chance: random.Random, numbers: dict[Family, list[int]]) -> spaces.Rules:
    found = {}
    for family in Family:
        for number in chance.sample(numbers[family], 60):
            length = chance.randint(1, family.bits)
            found[family.key(number >> family.bits - length << family.bits - length, length)] = chance.choice(
                spaces.FEW_RULES
            )
    for name in (b"example.org", b"www.example.org", b"org", b"upper.example.net", b"\xff.example"):
        found[b"reversedns/" + name] = chance.choice(spaces.FEW_RULES)
    return found


NAMES = (
    *("example.org", "WWW.Example.ORG.", "a.b.example.org", "org", "net", "upper.example.net..", ".example.org"),
    *("a/b.example.org", "\\xff.example", "\N{KELVIN SIGN}.org", "", ".", "nul\0.org", "www..org"),
    *("\N{KELVIN SIGN}" * 84 + ".org", "\N{KELVIN SIGN}" * 83 + "..org", "a." * 200 + "org"),
)


@pytest.mark.parametrize("seed", range(3))
def test_the_box_agrees_with_the_command(opened: Open, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    numbers = {family: [random_number(chance, family) for _ in range(200)] for family in Family}
    numbers[Family.IP4] += [0, 2**32 - 1]
    numbers[Family.IP6] += [0, 1, 2**128 - 1, 0xFFFF << 32 | 0x01020304]
    rules = random_rules(chance, numbers)
    if seed == 2:
        rules |= {b"reversedns/@": Rule(False), b"ip4/0.0.0.0_0": Rule(True)}
    text = {Family.IP4: model.ip4_text, Family.IP6: model.ip6_text}
    questions: list[tuple[str, str | None]] = [
        (text[family](number), chance.choice([None, *NAMES])) for family in Family for number in numbers[family]
    ]
    questions += [(address, name) for address in ("203.0.113.1", "::ffff:1.2.3.4") for name in (None, *NAMES)]
    found = explained(opened(rules), questions)
    explainer = Explainer(str(tmp_path / "rules.cdb"))
    assert found == [explainer.explain(*question).json() for question in questions]
    explainer.close()


TEXTS = (
    *(
        "1.2.3.4",
        "01.2.3.4",
        "1.2.3.4.5",
        "1.2.3",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.256",
        "1.2.3.00",
        "0.0.0.0",
        "1..2.3",
    ),
    *("", ".", ":", "::", ":::", "::1", "1::", "1::2::3", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9"),
    *(
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "1::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:",
    ),
    *(
        ":1:2:3:4:5:6:7",
        "12345::",
        "00001::",
        "0001::",
        "ABCD::ef",
        "g::",
        "fe80::1%eth0",
        "fe80::1%1",
        "[::1]",
        "::1/128",
    ),
    *(
        "::ffff:1.2.3.4",
        "::1.2.3.4",
        "1:2:3:4:5:6:1.2.3.4",
        "1:2:3:4:5:6:7:1.2.3.4",
        "1.2.3.4::",
        "::1.2.3.4:5",
        "::1.2.3",
    ),
    *(
        "::01.2.3.4",
        "::ffff:1.2.3.256",
        "1.2.3.4:1::",
        "1::1.2.3.4",
        "1:2:3:4:5::1.2.3.4",
        "1:2:3:4:5:6::1.2.3.4",
        "1::\0",
    ),
    *(
        "1.2.3.4\n",
        "1.2.3.4\0",
        "\u0661.2.3.4",
        "::\uff11",
        "0x1.2.3.4",
        "1e0.2.3.4",
        "+1.2.3.4",
        "-0.0.0.0",
        "16909060",
    ),
)


def mangled(chance: random.Random) -> str:
    family = chance.choice(list(Family))
    text = list(family.text(random_number(chance, family)))
    for _ in range(chance.randint(0, 3)):
        place = chance.randrange(len(text) + 1)
        text[place : place + chance.randint(0, 2)] = chance.choice(["", ":", "::", ".", "0", "f", "1.2.3.4", "00", "G"])
    return "".join(text)


def canonical(text: str) -> str | None:
    try:
        return keys.address_text(keys.client_address(text)).decode()
    except AddressError:
        return None


def test_the_box_takes_the_texts_that_the_command_takes(opened: Open) -> None:
    chance = random.Random(4)
    texts = [*TEXTS, *(mangled(chance) for _ in range(3000))]
    script = "return arguments[0].map((text) => window.explain(text)?.address ?? null)"
    found = opened({b"ip4/0.0.0.0_0": Rule(True), b"ip6/::_0": Rule(True)}).execute_script(script, texts)
    expected = list(map(canonical, texts))
    assert found == expected
    assert 300 < expected.count(None) < 2700


# People


def test_by_keyboard_alone(opened: Open) -> None:
    browser = opened(HOSTILE)

    def press(*pressed: str) -> WebElement:
        for key in pressed:
            browser.switch_to.active_element.send_keys(key)
        return browser.switch_to.active_element

    assert press(Keys.TAB).text == "Skip to the report"
    press(Keys.ENTER)
    press(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "address"
    press("2001:DB8::7", Keys.ENTER)
    said = element(browser, "#explanation").text
    assert said.splitlines()[0] == "allow 2001:db8::7 by ip6/2001:db8::_32"
    assert "sets ROLE=staff" in said and "unsets DEBUG" in said and "runs echo hello" in said
    press(Keys.TAB, Keys.TAB, Keys.TAB)
    assert press().get_attribute("data-rule") == "ip6/2001:db8::_32"
    press(Keys.TAB, Keys.ENTER)
    assert len(element(browser, "#explanation ol").text.splitlines()) == 97
    assert press(Keys.SHIFT + Keys.TAB).get_attribute("data-rule") == "ip6/2001:db8::_32"
    press(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "words"
    assert shown_keys(browser) == ["ip6/2001:db8::_32"]


def test_what_is_no_address_is_said_and_taken_back(opened: Open) -> None:
    browser = opened(HOSTILE)
    box = element(browser, "#address")
    box.send_keys("192.0.2.01", Keys.ENTER)
    assert element(browser, "#refusal").text.startswith("Not an address")
    assert box.get_attribute("aria-invalid") == "true" and element(browser, "#explanation").text == ""
    box.clear()
    box.send_keys("192.0.2.1", Keys.ENTER)
    assert not element(browser, "#refusal").is_displayed()
    assert element(browser, "#explanation").text.startswith("deny 192.0.2.1 by ip4/0.0.0.0_0")


def test_a_host_name_is_asked_for_and_taken(opened: Open) -> None:
    browser = opened({b"reversedns/example.org": Rule(True)})
    element(browser, "#address").send_keys("192.0.2.1", Keys.ENTER)
    assert "A host name is needed" in element(browser, "#explanation").text
    element(browser, "#host").send_keys("www.example.org", Keys.ENTER)
    assert element(browser, "#explanation").text.startswith("allow 192.0.2.1 by reversedns/example.org")


def test_searching_and_ordering(opened: Open) -> None:
    rules = {Family.IP4.key(number << 8, 24): Rule(bool(number % 2)) for number in range(500)}
    rules[b"ip4/0.0.0.0_0"] = Rule(True, ((b"ROLE", b"Staff"),), b"echo hello")
    browser = opened(rules)
    assert element(browser, "#matches").text == "501 of 501 rules; 200 shown, 301 more: refine the search, or show more"
    assert shown_keys(browser)[:2] == ["ip4/0.0.0.0_0", "ip4/0.0.0.0_24"]
    element(browser, "#more").click()
    assert len(shown_keys(browser)) == 400
    element(browser, "#more").click()
    assert len(shown_keys(browser)) == 501 and not element(browser, "#more").is_displayed()
    for words, expected in (
        ("role=staff", ["ip4/0.0.0.0_0"]),
        ("HELLO allow", ["ip4/0.0.0.0_0"]),
        ("deny 0.0.8.0", ["ip4/0.0.8.0_24"]),
        ("deny 0.0.7.0", []),
    ):
        search(browser, words)
        assert shown_keys(browser) == expected
        assert element(browser, "#matches").text == f"{len(expected)} of 501 rules"
    search(browser, "")
    element(browser, "#order option[value=decided]").click()
    assert shown_keys(browser)[0] == "ip4/0.0.0.0_0"
    assert element(browser, "#rows td:last-child").text == f"{2**32 - 500 * 256:,}"


def test_hits_stand_in_the_table_of_rules(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("10.0.0.1\n10.0.0.1\n192.0.2.1\n")

    def replay(loaded: LoadedRules) -> Replay:
        found = Replay(loaded)
        found.read(Log(os.fsencode(tmp_path / "log")))
        found.finish()
        return found

    browser = opened({b"ip4/0.0.0.0_0": Rule(False), b"ip4/10.0.0.0_8": Rule(True)}, replay=replay)
    element(browser, "#order option[value=hits]").click()
    assert shown_keys(browser) == ["ip4/10.0.0.0_8", "ip4/0.0.0.0_0"]
    assert [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#rows td:last-child")] == ["2", "1"]


def test_the_map_can_be_read_on_a_phone(opened: Open) -> None:
    browser = opened({b"ip4/10.1.0.0_16": Rule(True), b"ip6/::_0": Rule(False)}, 390)
    script = (
        "return Math.min(...[...document.querySelectorAll('#map text')].map((t) => t.getBoundingClientRect().height))"
    )
    assert browser.execute_script(script) > 11
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_hostile_rules_are_text(opened: Open) -> None:
    name = "<img src=x onerror=window.owned=1>$script.cdb"
    browser = opened(HOSTILE, name=name)
    assert element(browser, "h1").text == name
    found = shown_keys(browser)
    assert "reversedns/" + OWNED.decode().replace("/", "") in found
    assert "reversedns/line\\u{2028}end\\u{202e}\\u{1b}[2J" in found and "reversedns/\\xff\\xfe" in found
    rows = element(browser, "#rows").text
    assert f"<b>\"'&amp;={OWNED.decode()}" in rows and f"runs {OWNED.decode()}" in rows and "__proto__=vvv" in rows
    assert browser.execute_script("return window.owned") is None
    assert browser.execute_script("return document.querySelectorAll('img, main script, b').length") == 0


def test_the_policy_keeps_other_scripts_from_running(opened: Open) -> None:
    browser = opened(HOSTILE)
    script = "const made = document.createElement('script'); made.textContent = 'window.owned = 1';"
    browser.execute_script(f"{script} document.body.append(made); window.told = true;")
    assert browser.execute_script("return window.told") and browser.execute_script("return window.owned") is None
    assert all("Content Security Policy" in complaint for complaint in complaints(browser))


@pytest.mark.parametrize("width", [*PHONES, DESKTOP])
def test_nothing_is_wider_than_the_screen(opened: Open, width: int) -> None:
    browser = opened(HOSTILE, width, "l" * 200)
    element(browser, "#address").send_keys("2001:db8:1111:2222:3333:4444:5555:6666", Keys.ENTER)
    element(browser, "#explanation summary").click()
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert element(browser, "#rows tr").is_displayed()


def test_what_those_need_who_listen_to_the_page(opened: Open) -> None:
    browser = opened(HOSTILE)
    for control in browser.find_elements(By.CSS_SELECTOR, "input, select, button, [tabindex='0'], a"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    script = "return [...document.querySelectorAll('h1, h2, h3, h4')].map((heading) => Number(heading.tagName[1]))"
    levels = browser.execute_script(script)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert browser.execute_script("return document.documentElement.lang") == "en"
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((found) => found.id)")
    assert len(ids) == len(set(ids))
    assert browser.title == "Rule set rules.cdb"
    assert os.path.basename(element(browser, "#map svg").get_attribute("aria-label") or "").startswith("rules.cdb")
