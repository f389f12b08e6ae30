// What scripts add to rendered texts: formulas, and a button that copies a block of code.

// Formulas are set as MathML, which needs neither styles nor fonts; what KaTeX cannot read stays.
const DELIMITERS = /^(?:\\\(|\\\[|\$\$?)([^]*?)(?:\\\)|\\\]|\$\$?)$/;
async function setFormulas(part) {
  const formulas = part.querySelectorAll(".math:not([data-set])");
  if (!formulas.length) return;
  // Without a wait where it is there: what is shown again while it is written must not blink.
  if (!self.katex) await import("./vendor/katex.min.js");
  for (const formula of formulas) {
    const source = formula.textContent;
    const displayMode = source.startsWith("$$") || source.startsWith("\\[");
    formula.dataset.set = "";
    try {
      self.katex.render(DELIMITERS.exec(source)[1], formula, { displayMode, output: "mathml", strict: false });
    } catch {
      formula.textContent = source;
    }
  }
}

// Each block of code gets a button of its own.
function offerCode(part) {
  const sprite = document.querySelector("#theme use").getAttribute("href").split("#")[0];
  for (const code of part.querySelectorAll(".prose pre:not(.raw, [data-offered])")) {
    code.dataset.offered = "";
    let box = code.closest(".code");
    if (!box) {
      box = document.createElement("div");
      box.className = "code";
      code.replaceWith(box);
      box.append(code);
    }
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "button quiet small icon-only", title: "Copy the code" });
    button.setAttribute("aria-label", "Copy the code");
    button.dataset.copy = "";
    button.innerHTML = `<svg class="icon" aria-hidden="true"><use href="${sprite}#copy"/></svg>`;
    box.append(button);
  }
}

export function dress(part) {
  offerCode(part);
  setFormulas(part);
}
