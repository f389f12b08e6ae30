// A text that is being written. Blocks that are finished stay as they are; only the last one is shown
// anew, so that nothing on the page moves but where it is written. The site sends HTML it has cleaned.

import { dress } from "./prose.js";

export class Growing {
  constructor(place) {
    this.rendered = document.createElement("div");
    this.rendered.className = "rendered";
    this.raw = document.createElement("pre");
    Object.assign(this.raw, { className: "raw", dir: "auto" });
    this.fixed = 0;
    this.place = place;
    place.replaceChildren(this.rendered);
  }

  write(text) {
    this.raw.append(text);
  }

  /** `fixed` is finished; `last` takes the place of the last block before. */
  show([fixed, last]) {
    while (this.rendered.childElementCount > this.fixed) this.rendered.lastElementChild.remove();
    this.append(fixed);
    this.fixed = this.rendered.childElementCount;
    this.append(last);
    if (document.documentElement.dataset.view === "raw") this.place.append(this.raw);
    dress(this.place);
  }

  append(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    this.rendered.append(template.content);
  }
}
