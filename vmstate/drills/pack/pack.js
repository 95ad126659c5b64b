
"use strict";
// Recomputes from the receipts' exact bytes what this page claims, the way RFC 6962 and C2SP
// describe it. It convinces against accidents and edits by hand; who can rewrite the whole file can
// rewrite this as well, so a checkpoint kept elsewhere decides.
(async () => {
  const $ = (id) => document.getElementById(id);
  const utf8 = (text) => new TextEncoder().encode(text);
  const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  const base64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const concat = (...parts) => Uint8Array.from(parts.flatMap((part) => Array.from(part)));
  const same = (a, b) => hex(a) === hex(b);
  const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const node = (left, right) => sha256(concat([1], left, right));
  // The words as they were before this script adds any.
  const spoken = `${$("heading").textContent} ${$("account").textContent}`;
  const words = spoken.replace(/[ \t\n\r\f]+/g, " ").replace(/^ | $/g, "");

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

  // Whether the checkpoint is signed by its key; null where this browser has no Ed25519.
  const isSigned = async (log, note, verifier) => {
    const parts = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(verifier);
    const key = parts ? base64(parts[3]) : new Uint8Array();
    if (key.length !== 33 || key[0] !== 1) throw new Broken(log, null, "its key can't be read");
    const id = (await sha256(concat(utf8(`${parts[1]}\n`), key))).slice(0, 4);
    if (hex(id) !== parts[2] || !same(id, note.signed.slice(0, 4)) || parts[1] !== note.signer) {
      return false;
    }
    let imported;
    try {
      imported = await crypto.subtle.importKey("raw", key.slice(1), "Ed25519", false, ["verify"]);
    } catch {
      return null;
    }
    return crypto.subtle.verify("Ed25519", imported, note.signed.slice(4), utf8(note.text));
  };

  // One log: each leaf, then the root, then the signature under it.
  const checkLog = async (id, log) => {
    const leaves = [];
    for (const [seq, body] of log.receipts.entries()) {
      const leaf = await sha256(concat([0], utf8(body)));
      if (hex(leaf) !== log.leaves[seq]) throw new Broken(id, seq, "it is not what was recorded");
      leaves.push(leaf);
    }
    const note = readNote(id, log.checkpoint);
    if (leaves.length !== log.leaves.length || leaves.length !== note.size) {
      throw new Broken(id, Math.min(leaves.length, note.size), `here are ${leaves.length} receipts, the checkpoint is over ${note.size}`);
    }
    if (note.origin !== log.origin) throw new Broken(id, null, "its checkpoint is another log's");
    if (!same(await treeRoot(leaves), note.root)) {
      throw new Broken(id, null, "its receipts do not add up to the root in its checkpoint");
    }
    const signed = await isSigned(id, note, log.verifier);
    if (signed === false) throw new Broken(id, null, "the signature on its checkpoint is not good");
    return { id, count: leaves.length, root: hex(note.root), signed };
  };

  // The suite's receipt against what this page shows.
  const checkPack = async (core, suite) => {
    const recorded = suite.receipts.map((body) => JSON.parse(body))
      .find((one) => one.type === "drill_pack")?.what.detail;
    if (!recorded) throw new Broken("suite", null, "no receipt puts this pack on record");
    const digest = `sha256:${hex(await sha256(utf8(canonical(core))))}`;
    for (const drill of core.drills) {
      const said = recorded.drills[drill.id];
      const root = drill.checkpoint ? `sha256:${hex(readNote(drill.id, drill.checkpoint).root)}` : null;
      if (!said || said.verdict !== drill.verdict || said.root !== root) {
        throw new Broken(drill.id, null, "the suite recorded another verdict or root");
      }
    }
    if (recorded.pack !== digest) {
      throw new Broken("pack", null, "its data is not what the suite recorded");
    }
    const said = `sha256:${hex(await sha256(utf8(words)))}`;
    const shown = ["checkpoint", "verifier", "pack"]
      .every((name) => $(`suite-${name}`).textContent.trim() === suite[name].trim());
    if (core.page.words !== said || !shown || suite.pack !== digest) {
      throw new Broken("page", null, "its words are not those that were recorded");
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
    const suite = readBlock("suite");
    const logs = core.drills.filter((one) => one.checkpoint).map((one) => [one.id, one]);
    logs.push(["suite", suite]);
    const found = [];
    const broken = [];
    for (const [id, log] of logs) {
      try {
        log.receipts = readReceipts(id);
        const one = await checkLog(id, log);
        const signature = one.signed ? "signature good" : "signature not checked, this browser has no Ed25519";
        list(`${id}: ${one.count} receipts, root ${one.root.slice(0, 16)}…, ${signature}`);
        found.push(one);
      } catch (error) {
        list(`BROKEN at ${error.message}`);
        broken.push(error);
      }
    }
    // What does not add up in itself comes first: it names the receipt.
    if (broken.length) throw broken[0];
    for (const drill of core.drills) drill.receipts ??= [];
    await checkPack(core, suite);
    const count = found.reduce((sum, one) => sum + one.count, 0);
    const signed = found.filter((one) => one.signed).length;
    const signatures = signed ? `${signed} signatures verified` : "signatures were not checked";
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

  if (!globalThis.crypto?.subtle) {
    tell("Not recomputed: this browser gives this page no SHA-256. Save the file and open it from disk.", "unknown");
    return;
  }
  try {
    await checkAll();
  } catch (error) {
    tell(`BROKEN at ${error instanceof Broken ? error.message : `the page itself: ${error.message}`}`, "bad");
    if (error instanceof Broken && error.seq !== null) {
      $(`${error.log}-${error.seq}`)?.classList.add("broken");
    }
  }
})();
