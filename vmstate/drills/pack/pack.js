
"use strict";
// Recomputes from the receipts' exact bytes what this page claims, the way RFC 6962 and C2SP
// describe it: receipts, roots and signatures, also those of whoever gave their word, the data, and
// the page's words, elements, attributes, frame, drawing and style. It convinces against accidents
// and edits by hand; who can rewrite the whole file can rewrite this as well, so a checkpoint kept
// elsewhere decides.
(async () => {
  const $ = (id) => document.getElementById(id);
  const utf8 = (text) => new TextEncoder().encode(text);
  const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  const base64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const concat = (...parts) => Uint8Array.from(parts.flatMap((part) => Array.from(part)));
  const same = (a, b) => hex(a) === hex(b);
  const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const digestOf = async (text) => `sha256:${hex(await sha256(utf8(text)))}`;
  const node = (left, right) => sha256(concat([1], left, right));

  // The page as it was before this script adds anything, without what no record can know of: the
  // parts that log keys sign and the drawing, which are compared with the data instead.
  const drawings = [];
  const recorded = ["heading", "account", "footing"].map((id) => {
    const part = $(id).cloneNode(true);
    for (const one of part.querySelectorAll(".signed")) one.textContent = "";
    for (const one of part.querySelectorAll("img.diagram")) {
      drawings.push(one.getAttribute("src"));
      one.setAttribute("src", "");
    }
    return part;
  });
  const spoken = recorded.map((part) => part.textContent).join(" ");
  const squeezed = (text) => text.replace(/[ \t\n\r\f]+/g, " ").replace(/^ | $/g, "");
  const words = squeezed(spoken);

  // The frame around them, before this script writes into it.
  const header = document.querySelector("header")?.cloneNode(true);
  header?.querySelector("#heading")?.replaceChildren();
  const frame = [...document.querySelectorAll("meta[http-equiv]"), document.querySelector("title")]
    .concat(header).filter(Boolean).map((one) => one.cloneNode(true));

  // Whatever else says or shows something, or could hide the parts: nothing of it may be there.
  // What is silent may: browsers' extensions put elements and attributes of their own into pages.
  const shows = "img, picture, svg, canvas, video, audio, iframe, frame, object, embed, input, textarea, select, button, hr";
  const unseen = new Set(["script", "style", "link", "template", "meta"]);
  const isSilent = (one) => {
    if (one.nodeType === Node.TEXT_NODE) return one.data.trim() === "";
    if (one.nodeType !== Node.ELEMENT_NODE || unseen.has(one.localName)) return true;
    return one.textContent.trim() === "" && !one.matches(shows) && !one.querySelector(shows);
  };
  const places = [document.querySelector("header"), $("account"), $("footing")];
  const isDisturbed = () => {
    const [html, body] = [document.documentElement, document.body];
    const beside = (one) => one !== document.head && one !== body && !places.includes(one);
    return [html, body].some((one) =>
      ["hidden", "style", "inert", "popover"].some((name) => one.hasAttribute(name)))
      || [...html.childNodes, ...body.childNodes].some((one) => beside(one) && !isSilent(one))
      || places.some((one) => one?.parentNode !== body)
      || Array.from(body.children).filter((one) => places.includes(one))
        .some((one, index) => one !== places[index]);
  };

  // Elements with every attribute, texts, and ends, in order: what the markup was read as.
  const empty = new Set(["br", "hr", "img", "meta", "wbr"]);
  const partsOf = (nodes, parts) => {
    for (const one of nodes) {
      const before = parts[parts.length - 1];
      if (one.nodeType === Node.TEXT_NODE) {
        if (before && before[0] === "text") before[1] += one.data;
        else parts.push(["text", one.data]);
      } else if (one.nodeType === Node.ELEMENT_NODE) {
        const name = one.localName.toLowerCase();
        const said = Array.from(one.attributes, (a) => [a.name.toLowerCase(), a.value]);
        said.sort(([a], [b]) => (a < b ? -1 : 1));
        parts.push(["begin", name, ...said.flat()]);
        // Where scripts run, what stands in a <noscript> is one text.
        const inner = name === "noscript"
          ? new DOMParser().parseFromString(one.textContent, "text/html").body : one;
        partsOf(inner.childNodes, parts);
        if (!empty.has(name)) parts.push(["end", name]);
      }
    }
    return parts;
  };

  // The words passage by passage, each with the heading, the row and the column that it stands in.
  const blocks = new Set(["h1", "h2", "h3", "p", "nav", "th", "td", "caption", "summary", "pre", "title", "text"]);
  const passagesOf = (parts) => {
    const found = [{ text: "", place: [] }];
    let heading = found[0];
    let row = null;
    for (const [kind, name, ...said] of parts) {
      const here = found[found.length - 1];
      if (kind === "text") {
        const [first, ...more] = name.split("\n");
        here.text += first;
        found.push(...more.map((text) => ({ text, place: here.place })));
      }
      if (kind !== "begin") continue;
      if (name === "tr") row = null;
      if (name === "div") here.text += " ";  // a line of a cell
      if (!blocks.has(name)) continue;
      const next = { text: "", place: [heading] };
      if (/^h[123]$/.test(name)) heading = next;
      if (name === "td") {
        next.place.push(row, said[said.indexOf("data-label") + 1]);
        row ??= next;
      }
      found.push(next);
    }
    for (const one of found) one.text = squeezed(one.text);
    return found;
  };

  // Where the words are first not those that were recorded, for people; digests can't say what was.
  const differs = async (recordedPassages) => {
    const seen = recorded.flatMap((part) => passagesOf(partsOf([part], [])));
    for (const [index, one] of seen.entries()) {
      const digest = (await digestOf(one.text)).slice(7, 7 + 8);
      if (digest === recordedPassages.slice(8 * index, 8 * index + 8)) continue;
      const [heading, row, column] = one.place;
      const quote = (text) => `“${text.length > 240 ? `${text.slice(0, 240)}…` : text}”`;
      const where = [heading?.text && `below ${quote(heading.text)}`, row && `row ${quote(row.text)}`, column && `column ${quote(column)}`];
      return `${where.filter(Boolean).join(", ") || "at its beginning"}: ${quote(one.text)}`;
    }
    return "at its end something is missing";
  };

  // RFC 8785 within vmstate's profile: ASCII keys, integers, no floats.
  const canonical = (value) => {
    if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
    if (value === null || typeof value !== "object") return JSON.stringify(value);
    const keys = Object.keys(value).sort();
    return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
  };

  class Broken extends Error {
    constructor(log, seq, what) {
      super(`${log}${seq === null ? "" : `, receipt ${seq}`}: ${what}`);
      this.log = log;
      this.seq = seq;
    }
  }

  const readBlock = (id) => {
    try {
      return JSON.parse($(id).textContent);
    } catch {
      throw new Broken(id, null, "this part of the page can't be read");
    }
  };

  // One JSON string to a line, so that damage to one receipt leaves the others readable.
  const readReceipts = (log) => {
    const block = Array.from(document.querySelectorAll("script.receipts"))
      .find((one) => one.dataset.log === log);
    if (!block) throw new Broken(log, null, "its receipts are not in this page");
    const lines = block.textContent.split("\n").filter((line) => line !== "");
    return lines.map((line, seq) => {
      try {
        const body = JSON.parse(line);
        if (typeof body === "string") return body;
      } catch { /* said below */ }
      throw new Broken(log, seq, "its bytes can't be read, the list of them is damaged");
    });
  };

  const treeRoot = async (leaves) => {
    if (leaves.length === 0) return sha256(new Uint8Array());
    if (leaves.length === 1) return leaves[0];
    let split = 1;
    while (split * 2 < leaves.length) split *= 2;
    return node(await treeRoot(leaves.slice(0, split)), await treeRoot(leaves.slice(split)));
  };

  const readNote = (log, note) => {
    const parts = /^(([^\n]+)\n(\d+)\n([^\n]+)\n)\n\u2014 (\S+) (\S+)\n$/.exec(note);
    if (!parts) throw new Broken(log, null, "its checkpoint can't be read");
    const [, text, origin, size, root, signer, signed] = parts;
    return { text, origin, size: Number(size), root: base64(root), signer, signed: base64(signed) };
  };

  // Whether this key signed this text; null where this browser has no Ed25519.
  const verifies = async (key, signature, text) => {
    let imported;
    try {
      imported = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    } catch {
      return null;
    }
    return crypto.subtle.verify("Ed25519", imported, signature, utf8(text));
  };

  // Whether the checkpoint is signed by its key; null where this browser has no Ed25519.
  const isSigned = async (log, note, verifier) => {
    const parts = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(verifier);
    const key = parts ? base64(parts[3]) : new Uint8Array();
    if (key.length !== 33 || key[0] !== 1) throw new Broken(log, null, "its key can't be read");
    const id = (await sha256(concat(utf8(`${parts[1]}\n`), key))).slice(0, 4);
    if (hex(id) !== parts[2] || !same(id, note.signed.slice(0, 4)) || parts[1] !== note.signer) {
      return false;
    }
    return verifies(key.slice(1), note.signed.slice(4), note.text);
  };

  // Who gave their word in this log: each signature by the key that the first receipt gives its
  // stand-in, for this ledger and law, and an approval for this request. Returns how many there are.
  const checkWords = async (id, log) => {
    const receipts = log.receipts.map((body) => JSON.parse(body));
    const keys = receipts[0]?.what.detail?.drill?.stand_ins ?? {};
    let count = 0;
    for (const { seq, what, authority, proofs } of receipts) {
      const request = proofs.request ?? what.detail?.request;
      for (const { by, key, signature, statement } of [...authority.approvals, ...authority.attestations]) {
        const wrong = (why) => new Broken(id, seq, `the ${statement.kind} by ${by} ${why}`);
        if (statement.by !== by || !Object.hasOwn(keys, by) || keys[by] !== key) {
          throw wrong("is not by the key of a stand-in of that name");
        }
        const about = statement.kind !== "approval" || statement.request === request;
        if (statement.origin !== log.origin || statement.constitution !== authority.constitution || !about) {
          throw wrong("is for something else");
        }
        const good = await verifies(base64(key.replace("ed25519:", "")), base64(signature), canonical(statement));
        if (good === null) return null;
        if (!good) throw wrong("has a signature that is not good");
        count += 1;
      }
    }
    return count;
  };

  // One log: each leaf, then the root, then the signature under it.
  const checkLog = async (id, log, signed) => {
    const leaves = [];
    for (const [seq, body] of log.receipts.entries()) {
      const leaf = await sha256(concat([0], utf8(body)));
      if (hex(leaf) !== log.leaves[seq]) throw new Broken(id, seq, "it is not what was recorded");
      leaves.push(leaf);
    }
    if (!signed) throw new Broken(id, null, "its signed checkpoint is not in this page");
    const note = readNote(id, signed.checkpoint);
    if (leaves.length !== log.leaves.length || leaves.length !== note.size) {
      throw new Broken(id, Math.min(leaves.length, note.size), `here are ${leaves.length} receipts, the checkpoint is over ${note.size}`);
    }
    if (note.origin !== log.origin) throw new Broken(id, null, "its checkpoint is another log's");
    if (!same(await treeRoot(leaves), note.root)) {
      throw new Broken(id, null, "its receipts do not add up to the root in its checkpoint");
    }
    const good = await isSigned(id, note, signed.verifier);
    if (good === false) throw new Broken(id, null, "the signature on its checkpoint is not good");
    if (log.checkpoint !== note.text && log !== signed) {
      throw new Broken(id, null, "its checkpoint is not the one that was recorded");
    }
    for (const part of ["checkpoint", "verifier", "pack"]) {
      if (signed[part] !== undefined && shown(id, part) !== signed[part].trim()) {
        throw new Broken("page", null, `the ${part} of ${id} is not the one that was recorded`);
      }
    }
    const vouched = await checkWords(id, log);
    return { id, count: leaves.length, root: hex(note.root), signed: good, vouched };
  };

  // What a part of the page that is blank in the record shows; there must be one of it, of text.
  const shown = (log, part) => {
    const found = Array.from(document.querySelectorAll(".signed"))
      .filter((one) => one.dataset.log === log && one.dataset.part === part);
    const one = found.length === 1 && found[0].children.length === 0 ? found[0] : null;
    return one && one.textContent.trim();
  };

  // The suite's receipt against what this page shows.
  const checkPack = async (core, beside, suite) => {
    const logged = suite.receipts.map((body) => JSON.parse(body))
      .find((one) => one.type === "drill_pack")?.what.detail;
    if (!logged) throw new Broken("suite", null, "no receipt puts this pack on record");
    const digest = await digestOf(canonical(core));
    for (const drill of core.drills) {
      const said = logged.drills[drill.id];
      const root = drill.checkpoint ? `sha256:${hex(base64(drill.checkpoint.split("\n")[2]))}` : null;
      if (!said || said.verdict !== drill.verdict || said.root !== root) {
        throw new Broken(drill.id, null, "the suite recorded another verdict or root");
      }
    }
    if (logged.pack !== digest || suite.pack !== digest) {
      throw new Broken("pack", null, "its data is not what the suite recorded");
    }
    if (core.page.words !== await digestOf(words)) {
      const where = await differs(core.page.passages);
      throw new Broken("page", null, `its words are not those that were recorded, ${where}`);
    }
    const markup = canonical(partsOf(recorded, []));
    if (core.page.markup !== await digestOf(markup)) {
      throw new Broken("page", null, "its elements or their attributes are not those that were recorded");
    }
    if (document.readyState === "loading") {  // what comes after this script counts as well
      await new Promise((go) => { document.addEventListener("DOMContentLoaded", go); });
    }
    if (isDisturbed()) {
      throw new Broken("page", null, "something that is not of this pack stands on this page");
    }
    if (core.page.frame !== await digestOf(canonical(partsOf(frame, [])))) {
      throw new Broken("page", null, "its title, its seal or what stands beside them is not what was packed");
    }
    const data = /^data:image\/svg\+xml;base64,([A-Za-z0-9+/=]+)$/.exec(drawings[0] ?? "");
    const drawn = data ? `sha256:${hex(await sha256(base64(data[1])))}` : null;
    if (drawn !== beside.diagram) {
      throw new Broken("page", null, "its drawing of the constitution is not the one that was made");
    }
    if (beside.style !== await digestOf($("style").textContent)) {
      throw new Broken("page", null, "its style sheet is not the one that was packed");
    }
  };

  const tell = (what, kind) => {
    $("seal").textContent = what;
    $("seal").classList.add(kind);
    $("recomputed").open = kind === "bad";
    document.documentElement.dataset.seal = kind;
  };
  const list = (text) => {
    const line = document.createElement("li");
    line.textContent = text;
    $("checks").append(line);
  };

  const checkAll = async () => {
    const core = readBlock("core");
    const beside = readBlock("beside");
    const suite = readBlock("suite");
    const logs = core.drills.filter((one) => one.checkpoint)
      .map((one) => [one.id, one, beside.signed[one.id]]);
    logs.push(["suite", suite, suite]);
    const found = [];
    const broken = [];
    for (const [id, log, signed] of logs) {
      try {
        log.receipts = readReceipts(id);
        const one = await checkLog(id, log, signed);
        const signatures = one.signed
          ? `signed by its log; approvals and attestations verified: ${one.vouched}`
          : "no signature was checked, this browser has no Ed25519";
        list(`${id}: ${one.count} receipts, root ${one.root.slice(0, 16)}…, ${signatures}`);
        found.push(one);
      } catch (error) {
        list(`BROKEN at ${error.message}`);
        broken.push(error);
      }
    }
    // What does not add up in itself comes first: it names the receipt.
    if (broken.length) throw broken[0];
    for (const drill of core.drills) drill.receipts ??= [];
    await checkPack(core, beside, suite);
    const count = found.reduce((sum, one) => sum + one.count, 0);
    const signed = found.filter((one) => one.signed).length;
    const vouched = found.reduce((sum, one) => sum + one.vouched, 0);
    const signatures = signed
      ? `${signed} signatures under the roots and ${vouched} under approvals and attestations verified`
      : "no signature was checked, neither under the roots nor under approvals and attestations";
    tell(`Intact: ${count} receipts and ${found.length} tree roots recomputed in this browser, ${signatures}`, "good");
  };

  // A receipt's bytes, spread out, below the row that is about it.
  const showReceipt = (button) => {
    const row = button.closest("tr");
    if (row.nextElementSibling?.classList.contains("body")) {
      row.nextElementSibling.remove();
      return;
    }
    const [, log, seq] = /^(.+)-(\d+)$/.exec(row.id);
    const cell = document.createElement("td");
    cell.colSpan = row.cells.length;
    const body = document.createElement("pre");
    try {
      body.textContent = JSON.stringify(JSON.parse(readReceipts(log)[Number(seq)]), null, 2);
    } catch (error) {
      body.textContent = error.message;
    }
    cell.append(body);
    const below = document.createElement("tr");
    below.className = "body";
    below.append(cell);
    row.after(below);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.show");
    if (button) showReceipt(button);
  });
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details")) one.open = true;
  });

  // On a narrow screen the long chapters begin closed; what a link leads to is opened.
  if (matchMedia("(max-width: 900px)").matches) {
    for (const one of document.querySelectorAll("details.fold")) one.open = false;
  }
  const reveal = (one) => {
    for (let up = one; up; up = up.parentElement) if (up.localName === "details") up.open = true;
  };
  // A picture that goes on to the right of its box says so.
  const scrollers = document.querySelectorAll(".scroller");
  const hint = () => {
    for (const one of scrollers) {
      one.classList.toggle("more", one.scrollWidth - one.clientWidth - one.scrollLeft > 8);
    }
  };
  for (const one of scrollers) one.addEventListener("scroll", hint, { passive: true });
  addEventListener("resize", hint);
  addEventListener("load", hint);
  hint();

  const follow = () => {
    const one = $(decodeURIComponent(location.hash.slice(1)));
    reveal(one);
    one?.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  if (location.hash) follow();

  if (!globalThis.crypto?.subtle) {
    tell("Not recomputed: this browser gives this page no SHA-256. Save the file and open it from disk.", "unknown");
    return;
  }
  try {
    await checkAll();
  } catch (error) {
    tell(`BROKEN at ${error instanceof Broken ? error.message : `the page itself: ${error.message}`}`, "bad");
    if (error instanceof Broken && error.seq !== null) {
      const row = $(`${error.log}-${error.seq}`);
      row?.classList.add("broken");
      reveal(row);
    }
  }
})();
