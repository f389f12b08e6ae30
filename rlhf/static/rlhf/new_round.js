// Other stages have other fields, so the details are drawn anew. What was unfolded stays so, and
// what was typed stays typed, also where a stage goes and comes back.

const details = document.getElementById("details");
const typed = new Map();
let unfolded = false;
let focused = "";
let sought = "";

const recipe = () => details.querySelector(".recipe");
const fields = () => details.querySelectorAll("[name]");
const words = () => document.getElementById("setting-words");

// A setting is found by its name, its help and its stage.
function find() {
  const sought = words().value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const group of recipe().querySelectorAll("fieldset")) {
    const stage = group.querySelector("legend").textContent;
    const settings = [...group.querySelectorAll(".setting")];
    for (const each of settings) {
      const text = `${stage} ${each.textContent} ${each.querySelector("[name]").name}`.toLowerCase();
      each.hidden = !sought.every((word) => text.includes(word));
    }
    const left = settings.filter((each) => !each.hidden).length;
    group.hidden = !left;
    found += left;
  }
  document.getElementById("settings-found").textContent = sought.length ? `${found} found` : "";
}

details.addEventListener("input", (event) => { if (event.target === words()) find(); });
// Neither a word to find nor Enter in it is an answer to the form.
details.addEventListener("change", (event) => { if (event.target === words()) event.stopPropagation(); });
details.addEventListener("keydown", (event) => {
  if (event.target === words() && event.key === "Enter") event.preventDefault();
});

details.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target !== details) return;
  unfolded = recipe().open;
  sought = words().value;
  focused = details.contains(document.activeElement) ? document.activeElement.id : "";
  for (const field of fields()) typed.set(field.name, field.value);
});

details.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target !== details) return;
  recipe().open = unfolded;
  words().value = sought;
  find();
  const forgotten = [...fields()].filter((field) => field.value !== (typed.get(field.name) ?? field.value));
  for (const field of forgotten) field.value = typed.get(field.name);
  document.getElementById(focused)?.focus({ preventScroll: true }); // htmx cannot, while it is folded
  if (forgotten.length) htmx.trigger(document.getElementById("settings"), "change"); // look at the round with them
});
