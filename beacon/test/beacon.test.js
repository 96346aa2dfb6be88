// The module in a page of stand-ins: what a browser test can't wait for or can't bring about.
// BEACON names the file under test: the source, or what the collector makes of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";

const SOURCE = readFileSync(process.env.BEACON || new URL("../beacon.js", import.meta.url), "utf8");
const URL_OF_COLLECTOR = "https://impact.example.org";
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const NAMES = ["document", "location", "navigator", "fetch", "addEventListener",
  "removeEventListener", "setTimeout", "Date", "Request"];
const DEADLINE = 20_000;

let copies = 0;
let own;
let page;

/** Answers, in their order: a status, [status, headers], "none" (refused) or "never". The last one repeats. */
function openPage({ answers = [201], flags = {}, tag = null, visibility = "visible" } = {}) {
  const listeners = new Map();
  page = {
    sent: [],
    left: [],
    pauses: [],
    visibility,
    now: 0,
    deadlines: [],
    fire(type, event = {}) {
      for (const listener of [...(listeners.get(type) || [])]) listener({ type, ...event });
    },
    listening: (name) => (listeners.get(name) || new Set()).size,
  };
  const listen = (name, listener) => {
    if (!listeners.has(name)) listeners.set(name, new Set());
    listeners.get(name).add(listener);
  };
  const stand = {
    document: {
      get hidden() {
        return page.visibility !== "visible";
      },
      querySelector: () => tag,
    },
    location: { href: "https://city.example.org/projects/1?x#y", toString() { return this.href; } },
    navigator: { sendBeacon: (url, body) => page.left.push([String(url), body]), ...flags },
    Request: class { get keepalive() { return false; } },
    addEventListener: listen,
    removeEventListener: (name, listener) => listeners.get(name)?.delete(listener),
    fetch: async (url, options) => {
      page.sent.push({ url: String(url), options, body: JSON.parse(options.body) });
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (answer === "none") throw new TypeError("Failed to fetch");
      if (answer === "never") return new Promise(() => {});
      const [status, headers = {}] = [answer].flat();
      return { status, headers: new Headers(headers) };
    },
    setTimeout: (run, pause) => {
      if (pause === DEADLINE) return page.deadlines.push(run);
      page.pauses.push(pause);
      page.now += pause;
      if (!page.asleep) queueMicrotask(run);
    },
    Date: { now: () => page.now },
  };
  for (const name of NAMES) {
    Object.defineProperty(globalThis, name, { value: stand[name], configurable: true, writable: true });
  }
  return page;
}

/** A copy of the module with a state of its own. */
function load() {
  const code = encodeURIComponent(`${SOURCE}\n// ${copies++}`);
  return import(`data:text/javascript,${code}`);
}

/** Until nothing of what was begun is left to do. */
async function settled() {
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
}

beforeEach(() => {
  own = NAMES.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  process.on("unhandledRejection", fail);
});

afterEach(() => {
  for (const [name, descriptor] of own) {
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else delete globalThis[name];
  }
  process.off("unhandledRejection", fail);
});

function fail(reason) {
  throw reason;
}

test("a start is one plain POST that outlives its page and carries no cookie", async () => {
  openPage();
  (await load()).start({ url: URL_OF_COLLECTOR });
  await settled();
  assert.equal(page.sent.length, 1);
  const [{ url, options, body }] = page.sent;
  assert.equal(url, `${URL_OF_COLLECTOR}/web_api/v1/sessions`);
  assert.deepEqual([options.method, options.keepalive, options.credentials], ["POST", true, "omit"]);
  assert.equal(options.headers, undefined, "a header would need a preflight");
  assert.deepEqual(Object.keys(body), ["id"]);
  assert.match(body.id, UUID);
  assert.ok(options.signal instanceof AbortSignal);
  assert.deepEqual(page.pauses, []);
});

test("who is signed in already says so with the start", async () => {
  openPage();
  (await load()).start({ token: "a.b.c" });
  await settled();
  assert.equal(page.sent[0].body.token, "a.b.c");
});

test("every page load has another id", async () => {
  const ids = new Set();
  for (let load_ = 0; load_ < 50; load_++) {
    openPage();
    (await load()).start();
    await settled();
    ids.add(page.sent[0].body.id);
  }
  assert.equal(ids.size, 50);
});

test("where the collector is", async () => {
  for (const [url, address] of [
    [undefined, "https://city.example.org/web_api/v1/sessions"],
    ["https://impact.example.org/", "https://impact.example.org/web_api/v1/sessions"],
    ["https://impact.example.org/beacon.js?v=1", "https://impact.example.org/web_api/v1/sessions"],
    ["https://impact.example.org/our-launch.js", "https://impact.example.org/web_api/v1/sessions"],
    ["/impact/", "https://city.example.org/impact/web_api/v1/sessions"],
    ["/impact", "https://city.example.org/impact/web_api/v1/sessions"],
    ["https://impact.example.org", "https://impact.example.org/web_api/v1/sessions"],
    ["https://example.org/impact", "https://example.org/impact/web_api/v1/sessions"],
    ["https://example.org/impact/", "https://example.org/impact/web_api/v1/sessions"],
    ["https://example.org/impact/beacon.js", "https://example.org/impact/web_api/v1/sessions"],
    ["https://impact.js.org", "https://impact.js.org/web_api/v1/sessions"],
    ["impact.example.org", "https://impact.example.org/web_api/v1/sessions"],
    ["impact.example.org/beacon.js", "https://impact.example.org/web_api/v1/sessions"],
    ["localhost:8000", "https://localhost:8000/web_api/v1/sessions"],
    ["//impact.example.org", "https://impact.example.org/web_api/v1/sessions"],
    [new URL("https://impact.example.org"), "https://impact.example.org/web_api/v1/sessions"],
    ["./impact", "https://city.example.org/projects/impact/web_api/v1/sessions"],
  ]) {
    openPage();
    (await load()).start({ url });
    await settled();
    assert.equal(page.sent[0].url, address);
  }
});

test("what can't work does nothing and throws nothing", async () => {
  for (const options of [null, 7, { url: "https://[" }, { url: {} }, { token: 1n }]) {
    openPage();
    const { start, upgrade } = await load();
    assert.equal(start(options), undefined);
    assert.equal(upgrade("a.b.c"), undefined);
    await settled();
    assert.ok(page.sent.every(({ url }) => url.startsWith("https://city.example.org/")));
  }
});

test("without crypto, fetch or sendBeacon nothing is thrown", async () => {
  for (const missing of ["fetch", "sendBeacon", "Request"]) {
    openPage({ answers: ["none"] });
    page.asleep = true;
    if (missing === "sendBeacon") delete navigator.sendBeacon;
    else globalThis[missing] = undefined;
    (await load()).start();
    await settled();
    page.fire("pagehide");
    await settled();
  }
});

test("on a server nothing is sent, and importing and calling is harmless", async () => {
  openPage();
  const ask = globalThis.fetch;
  for (const name of ["document", "location", "addEventListener"]) delete globalThis[name];
  const { start, upgrade } = await load();
  start({ url: URL_OF_COLLECTOR });
  upgrade("a.b.c");
  await settled();
  assert.equal(globalThis.fetch, ask);
  assert.deepEqual(page.sent, []);
});

test("the same start is tried ten times at the most, in ever longer pauses, then given up", async () => {
  for (const answer of ["none", 500, 502, 503, 429, 408]) {
    openPage({ answers: [answer] });
    const { start, upgrade } = await load();
    start({ url: URL_OF_COLLECTOR });
    await settled();
    assert.ok(page.sent.length >= 8 && page.sent.length <= 10, String(page.sent.length));
    assert.equal(new Set(page.sent.map(({ body }) => body.id)).size, 1);
    page.pauses.forEach((pause, tried) => assert.ok(pause < 1000 * 2 ** tried, String(pause)));
    const tries = page.sent.length;
    upgrade("a.b.c");
    await settled();
    page.fire("pagehide");
    await settled();
    assert.equal(page.sent.length, tries);
  }
});

test("it is given up after a quarter of an hour", async () => {
  openPage({ answers: ["none"] });
  const later = globalThis.setTimeout;
  globalThis.setTimeout = (run, pause) => later(run, pause === DEADLINE ? pause : pause + 300_000); // the machine sleeps
  (await load()).start();
  await settled();
  assert.equal(page.sent.length, 3);
});

test("Retry-After is honoured, within bounds, and so is one that makes no sense", async () => {
  for (const [header, least, most] of [
    ["5", 5000, 6000],
    ["86400", 900_000, 901_000],
    ["Wed, 21 Oct 2026 07:28:00 GMT", 0, 1000],
    ["-1", -1000, 1000],
  ]) {
    openPage({ answers: [[503, { "Retry-After": header }], 201] });
    (await load()).start();
    await settled();
    assert.ok(page.pauses[0] >= least && page.pauses[0] <= most, `${header}: ${page.pauses[0]}`);
  }
});

test("an answer that ends it ends it", async () => {
  for (const status of [204, 400, 401, 403, 404, 413, 415, 451]) {
    openPage({ answers: [status] });
    const { start, upgrade } = await load();
    start();
    upgrade("a.b.c");
    await settled();
    assert.equal(page.sent.length, 1, `${status}, and no upgrade`);
  }
});

test("a start that is too large is sent again without its token", async () => {
  openPage({ answers: [413, 201] });
  const { start, upgrade } = await load();
  start({ token: "t".repeat(20_000) });
  upgrade("a.b.c");
  await settled();
  const [first, second, third] = page.sent;
  assert.deepEqual(second.body, { id: first.body.id }, "the same session, as a visitor's");
  assert.deepEqual(third.body, { token: "a.b.c" });
});

test("being online again ends a pause", async () => {
  openPage({ answers: ["none", 201] });
  page.asleep = true;
  (await load()).start();
  await settled();
  assert.equal(page.sent.length, 1);
  page.fire("online");
  await settled();
  assert.equal(page.sent.length, 2);
});

test("what is unanswered when the page is left or hidden is sent with it, once each time", async () => {
  openPage({ answers: ["never"] });
  const { start, upgrade } = await load();
  start({ url: URL_OF_COLLECTOR, token: "a.b.c" });
  upgrade("d.e.f");
  await settled();
  const [first] = page.sent.splice(0);
  const copies = async (...events) => {
    for (const [type, visibility = page.visibility] of events) {
      page.visibility = visibility;
      page.fire(type);
    }
    await settled();
    return page.sent.splice(0).map(({ url, body }) => [url, body]);
  };
  const both = [
    [first.url, first.body],
    [`${first.url}/${first.body.id}/upgrade`, { token: "d.e.f" }],
  ];
  assert.deepEqual((await copies(["visibilitychange", "hidden"])).sort(), both.sort(), "hidden");
  assert.equal((await copies(["pagehide"])).length, 2, "closed while it was hidden");
  assert.equal((await copies(["visibilitychange", "visible"], ["pageshow"])).length, 0, "shown");
  assert.equal((await copies(["pagehide"], ["visibilitychange", "hidden"])).length, 2, "left");
});

test("what is answered is not sent with the page", async () => {
  openPage({ answers: [201, 202] });
  const { start, upgrade } = await load();
  start();
  upgrade("a.b.c");
  await settled();
  page.fire("pagehide");
  await settled();
  assert.equal(page.sent.length, 2);
});

test("where a fetch ends with its page, sendBeacon sends it as JSON, which has the page's origin", async () => {
  openPage({ answers: ["never"] });
  delete Request.prototype.keepalive;
  (await load()).start({ url: URL_OF_COLLECTOR });
  await settled();
  page.fire("pagehide");
  await settled();
  const [[url, blob]] = page.left;
  const [{ url: address, body }] = page.sent;
  assert.deepEqual([url, blob.type, JSON.parse(await blob.text())], [address, "application/json", body]);
});

test("a request without an answer is given up after 20 seconds, and ended", async () => {
  openPage({ answers: ["never", 201] });
  (await load()).start();
  await settled();
  page.deadlines[0]();
  await settled();
  assert.equal(page.sent.length, 2);
  assert.deepEqual(page.sent.map(({ options }) => options.signal.aborted), [true, false]);
});

test("a request that hangs in the back/forward cache is sent again when the page is back", async () => {
  openPage({ answers: [201, "never", 202] });
  const { start, upgrade } = await load();
  start();
  upgrade("a.b.c");
  await settled();
  page.fire("pageshow", { persisted: false });
  page.fire("pagehide", { persisted: true });
  await settled();
  assert.equal(page.sent.length, 3, "the copy");
  page.fire("pageshow", { persisted: true });
  await settled();
  assert.equal(page.sent.length, 4);
});

test("a page that is never seen sends nothing, not even when it is left", async () => {
  openPage({ visibility: "hidden" });
  (await load()).start();
  await settled();
  page.fire("pagehide");
  page.fire("pageshow", { persisted: true });
  await settled();
  assert.deepEqual([page.sent, page.left], [[], []]);
  page.visibility = "visible";
  page.fire("visibilitychange");
  page.fire("visibilitychange");
  await settled();
  assert.equal(page.sent.length, 1);
});

test("opting out is asked for only where the page says so", async () => {
  const read = [];
  const flags = {
    get globalPrivacyControl() {
      read.push("gpc");
      return false;
    },
    get doNotTrack() {
      read.push("dnt");
      return null;
    },
  };
  openPage();
  Object.defineProperties(navigator, Object.getOwnPropertyDescriptors(flags));
  (await load()).start();
  await settled();
  assert.deepEqual([page.sent.length, read], [1, []]);

  for (const [flag, sent] of [
    [{ globalPrivacyControl: true }, 0],
    [{ doNotTrack: "1" }, 0],
    [{ globalPrivacyControl: false, doNotTrack: "0" }, 1],
    [{ doNotTrack: "unspecified" }, 1],
    [{}, 1],
  ]) {
    openPage({ flags: flag });
    const { start, upgrade } = await load();
    start({ respectOptOut: true });
    upgrade("a.b.c");
    await settled();
    assert.equal(page.sent.filter(({ body }) => body.id).length, sent, JSON.stringify(flag));
    if (!sent) assert.equal(page.sent.length, 0);
  }
});

test("a script element starts it, with its attributes", async () => {
  const tag = { src: `${URL_OF_COLLECTOR}/beacon.js`, dataset: { impactStart: "" } };
  openPage({ tag });
  const { start } = await load();
  start({ url: "https://elsewhere.example.org" });
  await settled();
  assert.equal(page.sent.length, 1);
  assert.equal(page.sent[0].url, `${URL_OF_COLLECTOR}/web_api/v1/sessions`);

  for (const [attribute, sent] of [["true", 0], ["", 0], ["false", 1]]) {
    tag.dataset.respectOptOut = attribute;
    openPage({ tag, flags: { globalPrivacyControl: true } });
    await load();
    await settled();
    assert.equal(page.sent.length, sent, `data-respect-opt-out="${attribute}"`);
  }
});

test("upgrades go one after the other, until one is accepted", async () => {
  openPage({ answers: [201, 401, 202] });
  const { start, upgrade } = await load();
  upgrade("a.b.expired");
  upgrade("a.b.good");
  upgrade("a.b.late");
  start({ url: URL_OF_COLLECTOR });
  await settled();
  const [{ body }, ...upgrades] = page.sent;
  const address = `${URL_OF_COLLECTOR}/web_api/v1/sessions/${body.id}/upgrade`;
  assert.deepEqual(
    upgrades.map(({ url, body }) => [url, body.token]),
    [[address, "a.b.expired"], [address, "a.b.good"]],
  );
  for (const nothing of [undefined, null, ""]) upgrade(nothing);
  await settled();
  assert.equal(page.sent.length, 3);
});

test("an upgrade without a token sends nothing and takes nothing away", async () => {
  openPage({ answers: [201, 202] });
  const { start, upgrade } = await load();
  start();
  for (const nothing of [undefined, null, ""]) upgrade(nothing);
  upgrade("a.b.c");
  await settled();
  assert.deepEqual(page.sent.map(({ body }) => body.token), [undefined, "a.b.c"]);
});
