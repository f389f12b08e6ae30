"""What a long answer costs the browser that shows it while it is written.

A guest's page follows an answer of so many tokens, Markdown with lists, tables, code and formulas.
Layout shift, as Chromium counts it; milliseconds of the page's own thread for each piece that came
(scripts, styles and layout), as CPU time, which does not depend on what else the machine does; and
the longest of its tasks. One line of JSON.

    python -m benchmarks.chat_page [--tokens 4000] [--width 1280]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from typing import Any

from benchmarks.chat import build
from benchmarks.empty_site import empty_site

PIECE = """## Step {n}

Put **two** eggs into water, take \\(t = {n}\\) minutes of your time, and stir it gently, again and again.

1. Fill a pot
2. Bring it to the boil
   - with salt
   - or without

| size | minutes |
|---|---|
| small | 6 |

```python
def boil(egg: str, minutes: int = {n}) -> str:
    return f"{{egg}} boiled for {{minutes}} minutes"
```

> Cold water stops it, and then another sentence that is long enough to wrap on any screen there is.

"""  # noqa: E501 - a paragraph is a line
WATCH = """
window.moved = 0; window.longest = 0; window.pieces = 0;
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.moved += entry.value;
}).observe({type: "layout-shift", buffered: true});
new PerformanceObserver((list) => {
    window.longest = Math.max(window.longest, ...list.getEntries().map((each) => each.duration));
}).observe({type: "longtask", buffered: true});
const Plain = window.EventSource;
window.EventSource = class extends Plain {
    constructor(...args) { super(...args); this.addEventListener("more", () => window.pieces++); }
};
"""
WORK = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


def pieces(tokens: int) -> list[str]:
    text = "".join(PIECE.format(n=n) for n in range(1, tokens // 60 + 2))
    return re.findall(r"\s*\S+", text)[:tokens]


def measure(width: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    from annotate.models import Message
    from benchmarks.labelling import Browser, web
    from feedback_site.up import free_port
    from tests.browser.conftest import CHROMIUM_NAMES, FLAGS

    port = free_port()
    with web(port), sync_playwright() as playwright:
        executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        context = chromium.new_context(viewport={"width": width, "height": 800})
        page = context.new_page()
        page.add_init_script(WATCH)
        page.set_default_timeout(600_000)
        page.goto(f"http://127.0.0.1:{port}/sign-in/")
        name, answer = build(0)[0]
        cookie = Browser(port, name).headers["cookie"].split("sessionid=")[1]
        here = {"name": "sessionid", "value": cookie, "url": f"http://127.0.0.1:{port}"}
        context.add_cookies([here])
        devtools = context.new_cdp_session(page)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        chat = Message.objects.get(pk=answer).conversation_id
        page.goto(f"http://127.0.0.1:{port}/p/chat/chat/{chat}/")
        page.get_by_role("button", name="Good answer").wait_for()
        spent = {
            each["name"]: each["value"]
            for each in devtools.send("Performance.getMetrics")["metrics"]
        }
        seen = page.evaluate("({moved, pieces, longest})")
        shown = page.get_by_role("article", name="Answer").last.inner_text()
        chromium.close()
    work = 1000 * sum(spent[name] for name in WORK)
    return {
        "layout_shift": seen["moved"], "pieces": seen["pieces"], "characters": len(shown),
        "ms_a_piece": work / seen["pieces"],
        "task_ms_a_piece": 1000 * spent["TaskDuration"] / seen["pieces"],
        "longest_task_ms": seen["longest"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--width", type=int, default=1280)
    arguments = parser.parse_args()

    from feedback_site.up import free_port

    model_port = free_port()
    # Playwright has a loop in this thread.
    told = {"INFERENCE_URL": f"http://127.0.0.1:{model_port}/v1", "DJANGO_ALLOW_ASYNC_UNSAFE": "1"}
    with empty_site(**told):
        from tests.model_server import ModelServer, serving

        script = ModelServer(says=pieces(arguments.tokens), seconds_between=0.005)
        with serving(script, model_port):
            found = measure(arguments.width)
    what = vars(arguments) | found
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in what.items()}))


if __name__ == "__main__":
    main()
