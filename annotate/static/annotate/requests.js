// What all requests of htmx have in common.

const isButton = (field) => field.matches("button, input[type=submit]");

// htmx knows the button that was clicked last. The browser knows the one that sends the form, also by
// Enter, by a key or by a script: its value goes with the form, no other, and to where it leads.
document.addEventListener("htmx:configRequest", ({ detail }) => {
  const { elt, parameters, triggeringEvent } = detail;
  if (triggeringEvent?.type !== "submit" || triggeringEvent.target !== elt) return;
  const { submitter } = triggeringEvent;
  for (const field of elt.elements) if (field.name && isButton(field)) parameters.delete(field.name);
  if (submitter?.name) parameters.append(submitter.name, submitter.value);
  detail.path = submitter?.getAttribute("formaction") ?? elt.getAttribute("hx-post") ?? elt.getAttribute("action") ?? detail.path;
});
