// What a guest writes about an answer stays in this browser until it is saved, of each thumb by itself.

const { person } = document.body.dataset;
const keyOf = ({ form, name }) => `draft:${person}:${form.getAttribute("action")}:${form.dataset.thumb}:${name}`;
const keep = (field) => localStorage.setItem(keyOf(field), field.value);
const drop = (field) => localStorage.removeItem(keyOf(field));
const fieldsIn = (part) => part.querySelectorAll(".why textarea");

function putBack(field) {
  const kept = localStorage.getItem(keyOf(field));
  if (kept === null) return;
  if (kept === field.value) return drop(field);
  field.value = kept;
  field.closest("details").open = true;
}

document.addEventListener("input", ({ target }) => {
  if (target.matches(".why textarea")) keep(target);
});

// The site forgets what explained the one thumb when the other is given.
document.addEventListener("htmx:beforeRequest", ({ detail }) => {
  if (!detail.elt.matches(".thumbs > .row")) return;
  for (const field of fieldsIn(detail.elt.parentElement)) if (field.value) keep(field);
});

document.addEventListener("htmx:beforeOnLoad", ({ detail }) => {
  if (detail.elt.matches(".why") && detail.xhr.status === 200) fieldsIn(detail.elt.parentElement).forEach(drop);
});

htmx.onLoad((part) => fieldsIn(part).forEach(putBack));
