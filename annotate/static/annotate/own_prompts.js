// A prompt of one's own: nothing typed is lost on the way.

import { dropCopy, keepCopy, offerCopy } from "./drafts.js";

const form = document.getElementById("own-prompt");
const address = form.action;

if (document.querySelector("#messages .success")) dropCopy(address);
offerCopy(form, address);
form.addEventListener("input", () => keepCopy(form, address));
