// A prompt of one's own: nothing typed is lost on the way.

import { dropCopy, keepDrafts } from "./drafts.js";

const form = document.getElementById("own-prompt");

if (document.querySelector("#messages .success")) dropCopy(form.action);
keepDrafts(form, form.action);
