// Ticks every prompt of the page at once, and says how many an act is about.

const all = document.getElementById("choose-all");
const which = document.getElementById("with-which");
const boxes = [...document.querySelectorAll("[name=chosen]")];
const otherwise = which?.textContent;

function tell() {
  const ticked = boxes.filter((box) => box.checked).length;
  all.checked = ticked === boxes.length;
  all.indeterminate = ticked > 0 && !all.checked;
  which.textContent = ticked ? `With the ${ticked} selected:` : otherwise;
}

if (all) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    tell();
  });
  for (const box of boxes) box.addEventListener("change", tell);
  tell();
}
