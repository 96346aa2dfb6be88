// Announces a launch to the collector, and later that its visitor signed in. What the two calls
// take is in beacon.d.ts, how to use them in README.md. Nothing is kept but in these variables.
//
// There is no build: /beacon.js is this file without its indentation and its lines of comment.

let begin;
let sessions;
let id;
let left;
let interrupt;

// What has no answer yet, and goes with the page when it is left.
const waiting = new Set();

// Whether the session is counted and still a visitor's. Each step waits for the one before it, and
// none throws into the page.
let anonymous = new Promise((resolve) => {
  begin = resolve;
});

function then(step) {
  anonymous = anonymous.then(step).catch(() => {});
}

then(async ({ url = "", token, respectOptOut = false }) => {
  // An attribute is a text: "false" is a no, and the attribute alone a yes.
  if (respectOptOut + "" != "false" && (navigator.globalPrivacyControl || navigator.doNotTrack == 1)) return;
  // The collector's address, whether it ends with a slash or not, or that of its beacon.js. What
  // begins with neither a scheme nor a path is a host.
  sessions = new URL(
    (url + "").replace(/\/*([\w-]+\.js(\?.*)?)?$/, "/web_api/v1/sessions").replace(/^(?!\w+:\/\/|[/.])/, "//"),
    location,
  );
  await new Promise((resolve) => {
    const look = ({ type, persisted }) => {
      // In the event that says "visible" a prerendered page still is one, and its requests say so.
      const away = type == "pagehide" || document.hidden || document.prerendering;
      // A background tab or a prerendered page is no launch until it is seen.
      if (!away) resolve();
      // A hidden page may be killed without a word.
      if (away && (!left || type == "pagehide"))
        for (const content of waiting) id && send(content).catch(() => {});
      left = away;
      // From the back/forward cache, where requests end without a word.
      if (type == "pageshow" && persisted) interrupt?.();
    };
    look({});
    for (const change of ["visibilitychange", "prerenderingchange", "pagehide", "pageshow"])
      addEventListener(change, look, true);
  });
  // A UUID: crypto.randomUUID is missing from plain HTTP.
  id = URL.createObjectURL(new Blob()).slice(-36);
  let status = await post({ id, token }, true);
  // Too large: counted as a visitor's, rather than not at all.
  if (status == 413 && token) status = await post({ id }, true);
  return status == 201;
});

export function start(options = {}) {
  // A promise is resolved once: further calls do nothing.
  begin(options);
}

export function upgrade(token) {
  if (!token) return;
  const content = { token };
  // It may come before its session.
  waiting.add(content);
  then(async (is) => (await post(content, is)) != 202 && is);
}

// Goes as text/plain, for which no browser asks permission first.
async function send(content, signal) {
  const address = content.id ? sessions : sessions + "/" + id + "/upgrade";
  const body = JSON.stringify(content);
  // Where a fetch ends with its page. As JSON it says whose page it was, whatever that page hides.
  if (!signal && !("keepalive" in Request.prototype))
    return navigator.sendBeacon(address, new Blob([body], { type: "application/json" }));
  return fetch(address, { method: "POST", body, keepalive: true, credentials: "omit", signal });
}

// Sends, if that is still wanted, until an answer ends the matter, and returns its status; undefined
// when it gives up.
async function post(content, wanted) {
  waiting.add(content);
  const end = Date.now() + 9e5;
  let status;
  // Twice as long each time, ten times and for a quarter of an hour; at random, so that not all pages come back at once.
  for (let wait = 1e3; wanted && !status && wait < 1e6 && Date.now() < end; wait *= 2) {
    let pause = wait * Math.random();
    try {
      const answer = await new Promise((resolve, reject) => {
        const control = new AbortController();
        interrupt = () => {
          reject();
          control.abort();
        };
        setTimeout(interrupt, 2e4);
        send(content, control.signal).then(resolve, reject);
      });
      if (!/408|429|5../.test(answer.status)) status = answer.status;
      // Not a number where it is a date: then the pause that there is has to do.
      pause += Math.min(answer.headers.get("Retry-After") * 1e3, 9e5) || 0;
    } catch {
      // No answer, or none that may be read.
    }
    if (!status)
      await new Promise((resolve) => {
        setTimeout(resolve, pause);
        addEventListener("online", resolve, { once: true });
      });
  }
  waiting.delete(content);
  return status;
}

const tag = globalThis.document?.querySelector("[data-impact-start]");
if (tag) start({ url: tag.src, ...tag.dataset });
