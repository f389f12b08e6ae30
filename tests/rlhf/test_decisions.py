"""What an operator decides on the pages of policies, and that no word of it is lost."""

import re

from annotate.chat.inference import InferenceError
from rlhf.registry import promotion


def test_a_policy_is_promoted_and_rolled_back_from_the_page(
    project, base, trained, browse, olga, monkeypatch
):
    monkeypatch.setattr(promotion, "warm", lambda policy: None)
    base.go_live()
    client = browse(olga)
    html = " ".join(client.get("/p/cooking/policies/").content.decode().split())
    assert "against base" in html and "70%" in html and "(55%–82%)" in html
    address = f"/p/cooking/policies/{trained.pk}/gate/"
    gate = client.get(address).content.decode()
    assert 'data-condition="blind_win_rate" class="failed"' in gate
    refused = client.post(address, {"reason": "wins 70 %"})
    assert (refused.status_code, 'value="wins 70 %"' in refused.text) == (422, True)
    assert "people have compared it with base on 0 prompts" in refused.text
    assert "Give a reason for overriding the gate." in refused.text
    assert project.policies.live().get() == base
    decided = {"reason": "wins 70 %", "override": "Guests wait <b>"}
    said = client.post(address, decided, follow=True)
    assert "r1-sft is live." in said.content.decode()
    assert project.policies.live().get() == trained
    said = client.post("/p/cooking/policies/roll-back/", {"reason": "too short"}, follow=True)
    assert "Rolled back to" in said.content.decode()
    assert project.policies.live().get() == base
    trail = client.get("/p/cooking/decisions/").content.decode()
    assert "wins 70 %" in trail and "Guests wait &lt;b&gt;" in trail and "too short" in trail
    assert "Blind win rate" in trail and "olga" in trail


def test_a_promotion_without_a_reason_changes_nothing(project, trained, browse, olga):
    refused = browse(olga).post(f"/p/cooking/policies/{trained.pk}/gate/", {})
    assert (refused.status_code, "Enter a reason" in refused.text) == (422, True)
    assert not project.policies.live().exists()


def test_a_decision_without_a_reason_is_refused_where_the_reason_is_missing(
    project, base, trained, browse, olga
):
    client = browse(olga)
    for act in ("challenge", "reject"):
        refused = client.post(f"/p/cooking/policies/{trained.pk}/{act}/", {"reason": " "})
        assert refused.status_code == 422
        field = re.search(rf'<input dir="auto" id="reason-{trained.pk}"[^>]*>', refused.text)[0]
        assert 'aria-invalid="true"' in field and " autofocus" in field
        said = re.search(rf'<p class="error" id="why-{trained.pk}">(.*?)</p>', refused.text)[1]
        assert said == "Enter a reason."
        assert refused.text.count(" autofocus") == 1, "beside no other policy"
    trained.refresh_from_db()
    assert trained.state == "candidate"


def test_words_for_a_decision_are_not_lost_when_it_is_refused(
    project, base, trained, browse, olga, monkeypatch
):
    def silent(policy):
        raise InferenceError("The model server does not answer.")

    client = browse(olga)
    monkeypatch.setattr(promotion, "warm", silent)
    asked = client.post(f"/p/cooking/policies/{trained.pk}/challenge/", {"reason": "more <b>"})
    assert asked.status_code == 422 and "does not answer" in asked.text
    assert asked.text.count('value="more &lt;b&gt;"') == 1 and asked.text.count(" open>") == 1
    assert asked.text.count("does not answer") == 2, "above, and beside the field"
    # A roll back from a page that is out of date.
    monkeypatch.setattr(promotion, "warm", lambda policy: None)
    for policy in (base, trained):
        promotion.promote(policy, by=olga, reason="next", override="for the test")
    back = client.post("/p/cooking/policies/roll-back/", {"reason": "worse", "to": trained.pk})
    assert back.status_code == 422 and "Nothing was changed" in back.text
    assert back.text.count('value="worse"') == 1 and back.text.count(" open>") == 1


def test_words_for_a_promotion_are_not_lost_when_the_model_server_is_silent(
    project, base, trained, browse, olga, monkeypatch
):
    def silent(policy):
        raise InferenceError("The model server does not answer.")

    monkeypatch.setattr(promotion, "warm", silent)
    base.go_live()
    why = {"reason": "wins 70 %", "override": "Guests wait"}
    refused = browse(olga).post(f"/p/cooking/policies/{trained.pk}/gate/", why)
    assert refused.status_code == 422
    for words in ('value="wins 70 %"', 'value="Guests wait"', "server does not answer"):
        assert words in refused.text
    assert project.policies.live().get() == base
