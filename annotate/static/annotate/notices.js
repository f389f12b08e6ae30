// Tells of new notices while a page is open, in the browsers in which somebody has asked for it.

const EVERY_MS = 30_000;
const bell = document.getElementById("bell");
const { person } = document.body.dataset;
const ask = document.getElementById("notify");
const chosen = `notices:${person}`;
const told = `notices:${person}:${bell.dataset.unseen}`; // the newest that any tab has told of

const isOn = () => localStorage.getItem(chosen) === "on" && Notification.permission === "granted";

function show(unseen) {
  const count = bell.querySelector("[data-count]");
  count.textContent = unseen;
  count.hidden = !unseen;
  bell.setAttribute("aria-label", unseen ? `Notices: ${unseen} new` : "Notices");
}

async function fetchUnseen() {
  const reply = await fetch(bell.dataset.unseen, { headers: { "X-Person": person } });
  if (!reply.ok || reply.redirected) throw new Error(`${reply.status}`);
  return reply.json();
}

async function look({ quiet = false } = {}) {
  if (!isOn()) return;
  try {
    const { unseen, newest } = await fetchUnseen();
    show(unseen);
    const last = Number(localStorage.getItem(told) ?? 0);
    if (!newest || newest.id <= last) return;
    localStorage.setItem(told, newest.id);
    if (quiet) return;
    const notification = new Notification(newest.subject, { tag: `notice-${newest.id}` });
    notification.addEventListener("click", () => { window.focus(); location.assign(bell.href); });
  } catch { /* The site cannot be reached now; the next look is soon. */ }
}

function describe() {
  const button = ask.querySelector("button");
  button.setAttribute("aria-pressed", isOn());
  button.textContent = isOn() ? "Stop notifying me in this browser" : "Notify me in this browser";
  button.disabled = Notification.permission === "denied";
  ask.querySelector("[role=status]").textContent = button.disabled
    ? "Your browser blocks notifications of this site." : "";
}

async function choose() {
  if (isOn()) localStorage.removeItem(chosen);
  else if (await Notification.requestPermission() === "granted") localStorage.setItem(chosen, "on");
  describe();
  await look({ quiet: true });
}

if ("Notification" in window) {
  if (ask) {
    ask.hidden = false;
    describe();
    ask.querySelector("button").addEventListener("click", choose);
  }
  setInterval(look, EVERY_MS);
}
