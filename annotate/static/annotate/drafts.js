// What is typed is kept: on the site after a rest, and at once in this browser, which offers its copy
// after a crash or a lost connection.

const REST_MS = 3_000;

const OWN_FIELDS = new Set([
  "csrfmiddlewaretoken", "idempotency_key", "revision_no", "active_seconds", "pasted_share", "drafted", "seen", "leave_out",
]);
const isOwn = (name) => OWN_FIELDS.has(name) || name.startsWith("flag-");
const valuesOf = (form) => JSON.stringify([...new FormData(form)].filter(([name, value]) => value && !isOwn(name)));

/** What the site gave. A fast hand writes before the page's script is there: that is no less to keep. */
function valuesGiven(form) {
  const given = form.cloneNode(true);
  given.reset();
  return valuesOf(given);
}

const copyKey = (address) => `draft:${document.body.dataset.person}:${address}`;

function keepCopy(form, address) {
  const copy = { values: valuesOf(form), time: Math.floor(Date.now() / 1000) };
  localStorage.setItem(copyKey(address), JSON.stringify(copy));
}

export const dropCopy = (address) => localStorage.removeItem(copyKey(address));

function fill(form, values) {
  const given = new Map();
  for (const [name, value] of JSON.parse(values)) given.set(name, [...(given.get(name) ?? []), value]);
  for (const field of form.elements) {
    if (!field.name || field.type === "submit" || field.type === "button" || isOwn(field.name)) continue;
    const wanted = given.get(field.name) ?? [];
    if (field.type === "radio" || field.type === "checkbox") field.checked = wanted.includes(field.value);
    else field.value = wanted[0] ?? "";
  }
  const missing = [...given].filter(([name]) => !form.elements[name]);
  if (missing.length) grow(form, missing);
  form.dispatchEvent(new Event("input", { bubbles: true }));
}

/** A copy with more rows than the form has: the site makes a form with as many. */
function grow(form, missing) {
  const more = form.elements.more;
  if (!more) return;
  for (const [name, [value]] of missing) {
    const field = Object.assign(document.createElement("input"), { type: "hidden", name, value });
    form.append(field);
  }
  more.click();
}

/** Shows the banner if the copy says something that the form does not, and is no older. */
function offerCopy(form, address) {
  const copy = JSON.parse(localStorage.getItem(copyKey(address)) ?? "null");
  const banner = document.getElementById("restore");
  if (!copy || copy.values === valuesOf(form) || copy.time <= Number(form.dataset.drafted || 0)) return;
  banner.hidden = false;
  banner.addEventListener("click", (event) => {
    if (event.target.closest("[data-restore]")) fill(form, copy.values);
    else if (event.target.closest("[data-discard]")) dropCopy(address);
    else return;
    banner.hidden = true;
  });
}

/** Saves the form's draft by the event `autosave`, for which #draft-state listens. */
export function keepDrafts(form, address) {
  const state = document.getElementById("draft-state");
  let saved = valuesGiven(form);
  let timer = 0;
  offerCopy(form, address);

  const save = () => {
    clearTimeout(timer);
    if (!form.isConnected || valuesOf(form) === saved) return;
    saved = valuesOf(form);
    form.dispatchEvent(new CustomEvent("autosave"));
  };
  const changed = () => {
    if (valuesOf(form) !== saved) keepCopy(form, address);
    clearTimeout(timer);
    timer = setTimeout(save, REST_MS);
  };
  changed();
  form.addEventListener("input", changed);
  form.addEventListener("change", changed);
  form.addEventListener("focusout", (event) => {
    // What is sent in a moment is no draft; and from card to card one goes often.
    if (event.relatedTarget?.type !== "submit" && event.target.matches("textarea, [type=text]")) save();
  });
  form.addEventListener("submit", () => clearTimeout(timer));
  state?.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) return;
    saved = "";
    state.textContent = "Not saved yet. This browser keeps a copy.";
  });
}
