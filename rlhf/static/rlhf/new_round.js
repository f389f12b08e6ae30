// Other stages have other fields, so the details are drawn anew. What was unfolded stays so, and
// what was typed stays typed, also where a stage goes and comes back.

const details = document.getElementById("details");
const typed = new Map();
let unfolded = false;
let focused = "";

const recipe = () => details.querySelector(".recipe");
const fields = () => details.querySelectorAll("input, select");

details.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target !== details) return;
  unfolded = recipe().open;
  focused = details.contains(document.activeElement) ? document.activeElement.id : "";
  for (const field of fields()) typed.set(field.name, field.value);
});

details.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target !== details) return;
  recipe().open = unfolded;
  const forgotten = [...fields()].filter((field) => field.value !== (typed.get(field.name) ?? field.value));
  for (const field of forgotten) field.value = typed.get(field.name);
  document.getElementById(focused)?.focus({ preventScroll: true }); // htmx cannot, while it is folded
  if (forgotten.length) htmx.trigger(recipe(), "change"); // look at the round with them
});
