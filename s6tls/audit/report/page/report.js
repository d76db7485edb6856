"use strict";

// Explains addresses and searches rules, from what the page itself carries.
// Text of rules is never trusted: it enters the page as text nodes only.

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { keys, outcomes, outcome, decided, hits } = data;
  const opaque = new Set(data.opaque); // rules whose keys are not UTF-8: no text that is typed can mean them
  const hasNames = keys.some((key) => key.startsWith("reversedns/"));
  const encoder = new TextEncoder();
  const UNDECIDED = { verdict: "notfound", env: { set: {}, unset: [] }, exec: null };
  let byKey = null;

  // Addresses. An IPv4 address is four octets, an IPv6 address eight groups.

  function parseOctets(text) {
    const parts = text.split(".");
    const good = parts.length === 4 && parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) < 256);
    return good ? parts.map(Number) : null;
  }

  function parseGroups(text) {
    const halves = text.split("::");
    if (halves.length > 2) return null;
    const read = halves.map((half, number) => {
      const parts = half === "" ? [] : half.split(":");
      if (number === halves.length - 1 && parts.length && parts.at(-1).includes(".")) {
        const octets = parseOctets(parts.pop());
        if (octets === null) return null;
        const words = [octets[0] * 256 + octets[1], octets[2] * 256 + octets[3]];
        parts.push(...words.map((word) => word.toString(16)));
      }
      return parts.every((part) => /^[0-9a-fA-F]{1,4}$/.test(part)) ? parts.map((part) => parseInt(part, 16)) : null;
    });
    if (read.includes(null)) return null;
    const [before, after] = read;
    if (after === undefined) return before.length === 8 ? before : null;
    const zeros = 8 - before.length - after.length;
    return zeros >= 1 ? [...before, ...Array(zeros).fill(0), ...after] : null;
  }

  // The canonical text of rules: lower case, the longest run of two or more zeros (the first of equals) as "::".
  function groupsText(groups) {
    let best = 0;
    let start = 0;
    for (let at = 0; at < 8; at += 1) {
      let run = 0;
      while (at + run < 8 && groups[at + run] === 0) run += 1;
      if (run > best) [best, start] = [run, at];
      at += run;
    }
    const text = (part) => part.map((group) => group.toString(16)).join(":");
    return best < 2 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + best))}`;
  }

  // An IPv4 address that is mapped into IPv6 (::ffff:192.0.2.1) is that of the IPv4 client.
  function unmapped(groups) {
    const mapped = groups !== null && groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
    return mapped ? groups.slice(6).flatMap((group) => [group >> 8, group & 255]) : null;
  }

  function parseAddress(text) {
    const groups = text.includes(":") ? parseGroups(text) : null;
    const octets = text.includes(":") ? unmapped(groups) : parseOctets(text);
    if (octets !== null) return { family: "ip4", parts: octets, width: 8, text: (parts) => parts.join(".") };
    return groups && { family: "ip6", parts: groups, width: 16, text: groupsText };
  }

  function* addressKeys({ family, parts, width, text }) {
    for (let length = parts.length * width; length >= 0; length -= 1) {
      const masked = parts.map((part, at) => {
        const free = Math.min(width, Math.max(0, (at + 1) * width - length));
        return (part >> free) << free;
      });
      yield `${family}/${text(masked)}_${length}`;
    }
  }

  function* nameKeys(name) {
    let rest = name.replace(/[A-Z]/g, (letter) => letter.toLowerCase()).replace(/\.$/, "");
    for (;;) {
      const fits = rest && encoder.encode(rest).length <= 255;
      if (fits && !rest.startsWith(".") && !rest.includes("/") && !rest.includes("\0")) yield `reversedns/${rest}`;
      const dot = rest.indexOf(".");
      if (dot < 0) break;
      rest = rest.slice(dot + 1);
    }
    yield "reversedns/@";
  }

  // Answers as `s6-accessrules explain --json` does; null for a text that is no address.
  function explain(text, name = null) {
    const address = parseAddress(text);
    if (address === null) return null;
    byKey ??= new Map(keys.map((key, number) => [key, number]).filter(([, number]) => !opaque.has(number)));
    const probes = [];
    const find = (candidates) => {
      for (const key of candidates) {
        probes.push(key);
        if (byKey.has(key)) return byKey.get(key);
      }
      return undefined;
    };
    let found = find(addressKeys(address));
    if (found === undefined && name !== null) found = find(nameKeys(name));
    const { verdict, env, exec } = found === undefined ? UNDECIDED : outcomes[outcome[found]];
    return {
      address: address.text(address.parts),
      verdict,
      rule: found === undefined ? null : keys[found],
      probes,
      env,
      exec,
      needs_name: found === undefined && name === null && hasNames,
    };
  }

  // Drawing

  const VERDICTS = { allow: "allow", deny: "deny", notfound: "undecided" };
  const digits = new Intl.NumberFormat("en");

  // Control characters, and what turns the direction of text, stand as escapes.
  function visible(text) {
    return text.replace(/[\p{C}\p{Z}]/gu, (c) => (c === " " ? c : `\\u{${c.codePointAt(0).toString(16)}}`));
  }

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    made.append(...children);
    return made;
  }

  function badge(verdict) {
    return element("span", { class: `verdict ${verdict}` }, VERDICTS[verdict]);
  }

  function code(text) {
    return element("code", {}, text.split("\n").map(visible).join("\n"));
  }

  function ruleLink(key) {
    return element("a", { href: "#rules", "data-rule": key }, code(key));
  }

  function changes({ env, exec }) {
    const lines = Object.entries(env.set).map(([name, value]) => ["sets", `${name}=${value}`]);
    lines.push(...env.unset.map((name) => ["unsets", name]));
    if (exec !== null) lines.push(["runs", exec]);
    return lines.map(([what, text]) => element("div", { class: "change" }, `${what} `, code(text)));
  }

  function explanation(found) {
    const head = element("p", { class: "answer" }, badge(found.verdict), " ", element("code", {}, found.address));
    if (found.rule !== null) head.append(" by ", ruleLink(found.rule));
    const parts = [head, ...changes(found)];
    if (found.needs_name) {
      const why = "A host name is needed: no rule by address decides, and there are rules by name.";
      parts.push(element("p", { class: "note" }, why));
    } else if (found.rule === null) {
      parts.push(element("p", {}, "No rule decides."));
    }
    const title = found.probes.length === 1 ? "1 key probed" : `${found.probes.length} keys probed`;
    const list = element("ol", {}, ...found.probes.map((key) => element("li", {}, code(key))));
    parts.push(element("details", {}, element("summary", {}, title), list));
    return parts;
  }

  const address = document.getElementById("address");
  const host = document.getElementById("host");
  const refusal = document.getElementById("refusal");

  function answer() {
    const found = explain(address.value, host.value || null);
    const good = found !== null;
    address.setAttribute("aria-invalid", String(!good));
    refusal.textContent = good ? "" : "Not an address: it takes IPv4 or IPv6 without leading zeros, blanks or a scope.";
    document.getElementById("explanation").replaceChildren(...(good ? explanation(found) : []));
  }

  // The table of rules

  const WINDOW = 200;
  const words = document.getElementById("words");
  const order = document.getElementById("order");
  const more = document.getElementById("more");
  const rows = document.getElementById("rows");
  const matches = document.getElementById("matches");
  const outcomeTexts = outcomes.map((found) => {
    const parts = [VERDICTS[found.verdict], ...Object.entries(found.env.set).map((pair) => pair.join("="))];
    return [...parts, ...found.env.unset, found.exec ?? ""].join("\n").toLowerCase();
  });
  const orders = {};
  let matching = [];
  let shown = 0;

  // Counts are decimal digits of any length: the longer is the greater.
  function byDecided(one, other) {
    const [a, b] = [decided[one] ?? "", decided[other] ?? ""];
    return b.length - a.length || (a < b ? 1 : a > b ? -1 : one - other);
  }

  function byHits(one, other) {
    return (hits[other] ?? -1) - (hits[one] ?? -1) || one - other;
  }

  function ordered(name) {
    if (!(name in orders)) {
      orders[name] = [...keys.keys()];
      if (name === "decided") orders[name].sort(byDecided);
      if (name === "hits") orders[name].sort(byHits);
    }
    return orders[name];
  }

  function search() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const within = wanted.map((word) => outcomeTexts.map((text) => text.includes(word)));
    const matchesAll = (rule) =>
      wanted.every((word, at) => within[at][outcome[rule]] || keys[rule].toLowerCase().includes(word));
    matching = wanted.length ? ordered(order.value).filter(matchesAll) : ordered(order.value);
    shown = 0;
    rows.replaceChildren();
    show();
  }

  function show() {
    const next = matching.slice(shown, shown + WINDOW);
    rows.append(...next.map(row));
    shown += next.length;
    const left = matching.length - shown;
    const total = digits.format(keys.length);
    let text = `${digits.format(matching.length)} of ${total} ${keys.length === 1 ? "rule" : "rules"}`;
    if (left) text += `; ${digits.format(shown)} shown, ${digits.format(left)} more: refine the search, or show more`;
    matches.textContent = text;
    more.hidden = !left;
    document.getElementById("table").hidden = !matching.length;
  }

  function row(rule) {
    const found = outcomes[outcome[rule]];
    const cell = (label, ...children) => element("td", { role: "cell", "data-label": label }, ...children);
    const number = (label, count) => {
      const made = cell(label, count === null ? "–" : digits.format(BigInt(count)));
      made.classList.add("number");
      return made;
    };
    const numbers = [number("decides", decided[rule])];
    if (hits) numbers.push(number("hits", hits[rule]));
    const cells = [cell("key", code(keys[rule])), cell("verdict", badge(found.verdict)), cell("", ...changes(found))];
    return element("tr", { role: "row" }, ...cells, ...numbers);
  }

  function follow(event) {
    const link = event.target.closest("a[data-rule]");
    if (link === null) return;
    event.preventDefault(); // going to a section takes the focus away
    words.value = link.dataset.rule;
    search();
    document.getElementById("rules").scrollIntoView();
    words.focus({ preventScroll: true });
  }

  let waiting = 0;
  words.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, keys.length > 20000 ? 250 : 0);
  });
  order.addEventListener("change", search);
  more.addEventListener("click", () => {
    const first = shown;
    show();
    rows.children[first].setAttribute("tabindex", "-1");
    rows.children[first].focus({ preventScroll: true });
  });
  document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("question").addEventListener("submit", (event) => {
    event.preventDefault();
    answer();
  });
  document.addEventListener("click", follow);
  window.explain = explain;
  search();
})();
