// What all requests of htmx have in common: what they carry, and what becomes of those that fail.

const { csrf, person, signIn } = document.body.dataset;

const isButton = (field) => field.matches("button, input[type=submit]");
const cookie = (name) => document.cookie.split("; ").find((each) => each.startsWith(`${name}=`))?.split("=")[1];

// htmx knows the button that was clicked last. The browser knows the one that sends the form, also by
// Enter, by a key or by a script: its value goes with the form, no other, and to where it leads.
function carrySubmitter({ elt, parameters, triggeringEvent }) {
  const { submitter } = triggeringEvent;
  for (const field of elt.elements) if (field.name && isButton(field)) parameters.delete(field.name);
  if (submitter?.name) parameters.append(submitter.name, submitter.value);
  return submitter?.getAttribute("formaction") ?? elt.getAttribute("hx-post") ?? elt.getAttribute("action");
}

document.addEventListener("htmx:configRequest", ({ detail }) => {
  const { elt, headers, parameters, triggeringEvent } = detail;
  if (triggeringEvent?.type === "submit" && triggeringEvent.target === elt) {
    detail.path = carrySubmitter(detail) ?? detail.path;
  }
  // Signing in, in whichever tab, makes a new token. Whose page this is, the site hears beside it.
  headers["X-CSRFToken"] = cookie("csrftoken") ?? csrf;
  headers["X-Person"] = person;
  parameters.delete("csrfmiddlewaretoken");
});

// What failed and may be sent again by itself: the element that sent it, and how it does

const waiting = new Map();
const AGAIN_MS = 10_000;

function sender({ elt, etc, requestConfig, select, target }) {
  const { path, triggeringEvent: event, verb } = requestConfig;
  if (event?.type === "submit") return () => elt.requestSubmit(event.submitter);
  if (event?.type === "click") return () => elt.click();
  if (event) return () => event.target.dispatchEvent(new Event(event.type, { bubbles: true }));
  return () => htmx.ajax(verb, path, { source: elt, target, swap: etc.swapOverride, select });
}

const isPoll = (elt) => elt.matches("[hx-trigger^=every]");

/** Tells whether it can be sent again later, and cannot do anything twice. */
const isHarmless = ({ elt, requestConfig, xhr }) => xhr.status === 401 || (xhr.status === 0 && (
  !navigator.onLine || requestConfig.verb === "get"
  || requestConfig.triggeringEvent?.type === "autosave" || elt.elements?.idempotency_key !== undefined));

function sendAgain() {
  const all = [...waiting];
  waiting.clear();
  for (const [elt, send] of all) if (elt.isConnected) send();
}

function wait(failed) {
  const { elt, requestConfig } = failed;
  waiting.set(elt, sender(failed));
  if (requestConfig.triggeringEvent?.type !== "submit") return;
  // Whoever writes on sends it when it is ready.
  const stop = () => {
    waiting.delete(elt);
    document.querySelector("#failed .promise")?.remove();
  };
  for (const name of ["input", "change"]) elt.addEventListener(name, stop, { once: true });
}

addEventListener("online", sendAgain);
addEventListener("focus", sendAgain);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && sendAgain());
addEventListener("storage", (event) => event.key === "signed-in" && sendAgain());
if (person) localStorage.setItem("signed-in", `${person} ${Date.now()}`);

// The words: above the button that was pressed if it is seen, else at the lower edge of the window

const KEPT = "What you wrote is kept.";
const AUTOMATICALLY = "It will be sent automatically once you're back.";

function words({ xhr }) {
  if (xhr.status === 0) return [navigator.onLine ? "The site could not be reached." : "You're offline.", KEPT];
  if (xhr.status === 401) return [xhr.responseText, KEPT];
  if (xhr.status === 403) return [xhr.getResponseHeader("Content-Type")?.startsWith("text/plain") ? xhr.responseText : "You don't have access."];
  if (xhr.status === 507) return [xhr.responseText, KEPT];
  if (xhr.status === 404) return ["This no longer exists. Reload the page."];
  return [`The site answered with an error (${xhr.status}).`, KEPT];
}

const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

function tell(failed) {
  const { elt, requestConfig, xhr } = failed;
  const text = make("p", { textContent: words(failed).join(" ") });
  const toast = make("div", { id: "failed", className: "message error toast" });
  toast.setAttribute("role", "alert");
  toast.dataset.status = xhr.status;
  toast.append(text);
  if (waiting.has(elt)) text.append(make("span", { className: "promise", textContent: ` ${AUTOMATICALLY}` }));
  if (xhr.status === 401) {
    const address = `${signIn}?next=${encodeURIComponent(location.pathname + location.search)}`;
    toast.append(make("a", { className: "button small", href: address, target: "_blank", rel: "noopener", textContent: "Sign in" }));
  } else if (!waiting.has(elt) && !isPoll(elt) && (xhr.status === 0 || xhr.status >= 500)) {
    const again = make("button", { type: "button", className: "button small", textContent: "Try again" });
    again.addEventListener("click", () => { toast.remove(); if (elt.isConnected) sender(failed)(); });
    toast.append(again);
  }
  const close = make("button", { type: "button", className: "button quiet small", textContent: "Close" });
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
  show(toast, [requestConfig.triggeringEvent?.submitter, elt]);
}

let told = null;

function show(toast, places) {
  const before = document.getElementById("failed");
  const elt = places.at(-1);
  if (before?.textContent === toast.textContent && told === elt) return; // not aloud once more
  told = elt;
  before?.remove();
  document.body.append(toast);
  // The bar or the row of the button before the button: what stands beside it stays in sight.
  const place = places.filter((each) => each?.matches("form, button, [role=status]"))
    .flatMap((each) => [each.closest(".dock"), each.closest(".row"), each]).find((each) => each && isSeen(each, toast));
  if (place) toast.style.bottom = `${innerHeight - place.getBoundingClientRect().top + 8}px`;
}

function isSeen(element, toast) {
  const { top } = element.getBoundingClientRect();
  return top > toast.offsetHeight + 16 && top < innerHeight;
}

function failed({ detail }) {
  if (isHarmless(detail) && !isPoll(detail.elt)) {
    wait(detail);
    if (detail.xhr.status === 0) setTimeout(sendAgain, AGAIN_MS);
  }
  tell(detail);
}
document.addEventListener("htmx:sendError", failed);
document.addEventListener("htmx:responseError", failed);

document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (!detail.successful) return;
  waiting.delete(detail.elt);
  const toast = document.getElementById("failed");
  // Any answer shows that the site is there again, and the person too.
  if (["0", "401"].includes(toast?.dataset.status) && !waiting.size) toast.remove();
});

// Going back to what htmx has swapped: if the site refuses that, the browser asks for the page itself.
document.addEventListener("htmx:historyCacheMissLoadError", () => location.reload());
