// Announces a launch to the collector, and later that its visitor signed in. What the two calls
// take is in beacon.d.ts, how to use them in README.md. Nothing is kept but in these variables.
//
// There is no build: /beacon.js is this file without its indentation and its lines of comment.

let begin;
let session;

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
  // The collector's address, whether it ends with a slash or not, or that of its beacon.js.
  const sessions = new URL(url.replace(/\/*(\w+\.js(\?.*)?)?$/, "/web_api/v1/sessions"), location);
  await shown();
  const id = uuid();
  session = sessions + "/" + id;
  let status = await post(sessions, { id, token });
  // Too large: counted as a visitor's, rather than not at all.
  if (status == 413 && token) status = await post(sessions, { id });
  return status == 201;
});

export function start(options = {}) {
  // A promise is resolved once: further calls do nothing.
  begin(options);
}

export function upgrade(token) {
  then(async (is) => is && (!token || (await post(session + "/upgrade", { token })) != 202));
}

// A background tab or a prerendered page is no launch until it is seen. In the event that says
// "visible" a prerendered page still is one, and its requests say so.
function shown() {
  return new Promise((resolve) => {
    const look = () =>
      document.visibilityState == "visible" && !document.prerendering && resolve();
    look();
    for (const change of ["visibilitychange", "prerenderingchange"])
      document.addEventListener(change, look);
  });
}

// A UUID of version 4. crypto.randomUUID is missing from plain HTTP and older browsers.
function uuid() {
  return "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
    (digit ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> digit / 4).toString(16)
  );
}

// Sends until an answer ends the matter, and returns its status; undefined when it gives up.
// Goes as text/plain, for which no browser asks permission first.
async function post(url, content, body = JSON.stringify(content)) {
  const leave = () => {
    try {
      // For browsers without keepalive, and between two tries. What arrives twice counts once.
      navigator.sendBeacon(url, body);
    } catch {
      // A person can switch it off.
    }
  };
  addEventListener("pagehide", leave);
  const end = Date.now() + 9e5;
  let status;
  // Twice as long each time, ten times and for a quarter of an hour; at random, so that not all pages come back at once.
  for (let wait = 1e3; !status && wait < 1e6 && Date.now() < end; wait *= 2) {
    let pause = wait * Math.random();
    try {
      const answer = await fetch(url, {
        method: "POST",
        body,
        keepalive: true,
        credentials: "omit",
        signal: AbortSignal.timeout?.(2e4),
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
  removeEventListener("pagehide", leave);
  return status;
}

const tag = globalThis.document?.querySelector("[data-impact-start]");
if (tag) start({ url: tag.src, ...tag.dataset });
