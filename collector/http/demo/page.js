// The demo page: uses the beacon as a front-end does, and shows what is stored.

import { start, upgrade } from "/beacon.js";

const SESSIONS = "/web_api/v1/sessions";
const ROW_SECONDS = 20;

const status = document.querySelector("#status");
const signIn = document.querySelector("#sign-in");
const askBrowser = window.fetch;
let session;
let shown = {};

// The beacon's calls pass through here, so that the page can show them.
window.fetch = async (address, options) => {
  const url = new URL(address);
  const note = show(url, options);
  try {
    const answer = await askBrowser(address, options);
    note.textContent = `→ ${answer.status} ${meaningOf(answer.status)}`;
    announce(url, answer, JSON.parse(options.body));
    return answer;
  } catch (error) {
    note.textContent = "→ no answer; the beacon will try again";
    say("The collector does not answer. The beacon will try again.");
    throw error;
  }
};

function show(url, { method, body }) {
  const { token, ...rest } = JSON.parse(body);
  const item = document.createElement("li");
  const request = document.createElement("code");
  const sent = JSON.stringify(token ? { ...rest, token: `${token.slice(0, 12)}…` } : rest);
  request.textContent = `${method} ${url.pathname} ${sent}`;
  const answer = document.createElement("code");
  answer.className = "answer";
  answer.textContent = "→ …";
  item.append(request, answer);
  document.querySelector("#requests").append(item);
  return answer;
}

function meaningOf(code) {
  return (
    {
      201: "durably stored: it will become a row",
      202: "durably stored: the row will change",
      204: "recognised as a crawler: nothing is stored",
      401: "the token is not valid",
      503: "Redis is not available; the beacon will try again",
    }[code] || ""
  );
}

function announce(url, answer, sent) {
  if (answer.status === 201) {
    session = sent.id;
    follow((row) => row, "Stored. This is the row.").then((row) => {
      signIn.disabled = !row;
    });
  } else if (answer.status === 202) {
    follow((row) => row?.upgraded_at, "Signed in: the same row is now the user’s, under another hash.");
  } else if (answer.status === 204) {
    say("Your browser was recognised as a crawler, so this visit is not counted.");
  } else if (url.pathname === SESSIONS || answer.status < 500) {
    say(`The collector answered ${answer.status}. ${meaningOf(answer.status)}`);
  }
}

// Reads the row until it is as expected, and shows it.
async function follow(isThere, then) {
  const end = Date.now() + ROW_SECONDS * 1000;
  while (Date.now() < end) {
    const answer = await askBrowser(`/demo/sessions/${session}`);
    if (!answer.ok) {
      say("PostgreSQL does not answer: the session waits in Redis.");
    } else {
      const { data } = await answer.json();
      if (data && isThere(data.row)) {
        showRow(data.row);
        showMonth(data.month, data.row.highest_role === null);
        say(then);
        return data.row;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  say("The session is in Redis, but there is no row yet. Does the flusher run?");
  return null;
}

function showRow(row) {
  for (const [column, value] of Object.entries(row)) {
    const cell = document.querySelector(`[data-column="${column}"]`);
    cell.textContent = value === null ? "empty" : value;
    cell.classList.toggle("empty", value === null);
    cell.classList.toggle("changed", column in shown && shown[column] !== value);
  }
  if (row.highest_role !== null) {
    document.querySelector("#whose").textContent =
      "Now made from the user’s id: the same in all of this user’s browsers, until the month ends. " +
      "The visitor’s hash was removed from this row, and will be removed from the rest of the " +
      "database within the hour.";
  }
  shown = row;
}

function showMonth({ sessions, unique_users: people }, isVisitor) {
  const note = document.querySelector("#month");
  note.hidden = false;
  note.textContent =
    `This site, this month: ${count(sessions, "session")} by ${count(people, "person", "people")}. ` +
    (isVisitor
      ? "Open the page again: one more session, the same person."
      : "A person who also came without signing in is counted twice, as a visitor and as a user.");
}

function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

function say(text) {
  status.textContent = text;
}

signIn.addEventListener("click", async () => {
  signIn.disabled = true;
  const answer = await askBrowser("/demo/token");
  const { token } = (await answer.json()).data;
  if (token) upgrade(token);
  else say("This system has no key for a demo user’s token: JWT_KEY is a public key.");
});
document.querySelector("#again").addEventListener("click", () => location.reload());
document.querySelector("#user-agent").textContent = navigator.userAgent;

start();
