/* Security keys (WebAuthn): has the browser make one or sign with one, and sends the form with the
   answer. */

const IN_WORDS = {
  NotAllowedError: "Nothing was confirmed. Try again.",
  InvalidStateError: "This key is added already.",
  SecurityError: "Security keys work only with a name and HTTPS, not at a bare address.",
};

function parsed(text, kind) {
  const said = JSON.parse(text).publicKey;
  return kind === "add"
    ? PublicKeyCredential.parseCreationOptionsFromJSON(said)
    : PublicKeyCredential.parseRequestOptionsFromJSON(said);
}

async function ask(button, kind) {
  const form = button.form;
  const trouble = form.querySelector("[data-key-trouble]");
  trouble.textContent = "";
  button.disabled = true;
  try {
    const publicKey = parsed(kind === "add" ? button.dataset.addKey : button.dataset.useKey, kind);
    const keys = navigator.credentials;
    const made = await (kind === "add" ? keys.create({ publicKey }) : keys.get({ publicKey }));
    form.querySelector("[data-key-answer]").value = JSON.stringify(made.toJSON());
    form.submit();
  } catch (error) {
    trouble.textContent = IN_WORDS[error.name] ?? "This browser has no security keys.";
    button.disabled = false;
  }
}

for (const button of document.querySelectorAll("[data-add-key]")) {
  button.addEventListener("click", () => ask(button, "add"));
}
for (const button of document.querySelectorAll("[data-use-key]")) {
  button.addEventListener("click", () => ask(button, "use"));
}
