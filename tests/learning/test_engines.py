"""vLLM's protocol, spoken by a small server that answers with a real model."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from accelerate import Accelerator

from rlhf.learning.contract.hyperparameters import ConfigError, Engine
from rlhf.learning.contract.kinds.ppo import PPO
from rlhf.learning.generation import engines
from rlhf.learning.generation.engines import EngineError
from rlhf.learning.generation.sampling import generate, uniforms
from rlhf.learning.models import folders
from rlhf.learning.ppo.learner import PPOLearner
from rlhf.learning.run.run_folder import RunFolder


class FakeVLLM:
    """`/v1/completions` with token ids and log-probabilities, and adapters by name."""

    def __init__(self, folder):
        self.folder, self.lm = folder, folders.load_policy(folder).lm
        self.adapters, self.requests, self.broken, self.off_by = {}, [], [], 0.0
        self.answers_as = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, body))
                status = outer.broken.pop(0) if outer.broken else 200
                reply = outer.answer(self.path, body) if status == 200 else {"error": "busy"}
                if reply is None:
                    status, reply = 404, {"error": "no such adapter"}
                text = reply if isinstance(reply, str) else json.dumps(reply)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self):
                reply = {"data": [{"id": "toy", "root": str(outer.folder)}]}
                self.send_response(200 if self.path == "/v1/models" else 404)
                self.end_headers()
                self.wfile.write(json.dumps(reply).encode())

            def log_message(self, *arguments):
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.lock = threading.Lock()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path, body):
        with self.lock:
            if path == "/v1/load_lora_adapter":
                from peft import PeftModel

                base = folders.load_policy(self.folder).lm
                adapted = PeftModel.from_pretrained(base, body["lora_path"])
                self.adapters[body["lora_name"]] = adapted.merge_and_unload()
                return "Success: LoRA adapter added"
            if path == "/v1/unload_lora_adapter":
                if body["lora_name"] not in self.adapters:
                    return None
                del self.adapters[body["lora_name"]]
                return "Success: LoRA adapter removed"
            lm = self.lm if body["model"] == "toy" else self.adapters[body["model"]]
            noise = uniforms([body["seed"]], body["max_tokens"])
            (one,) = generate(
                lm, [body["prompt"]], noise, body["temperature"], body["stop_token_ids"], 0
            )
        return {
            "model": self.answers_as or body["model"],
            "choices": [
                {
                    "index": 0,
                    "text": "",
                    "token_ids": one.ids,
                    "finish_reason": "stop" if one.finished else "length",
                    "logprobs": {
                        "tokens": [f"token_id:{token}" for token in one.ids],
                        "token_logprobs": [each + self.off_by for each in one.logprobs_T.tolist()],
                    },
                }
            ],
        }


@pytest.fixture
def server(data_dir):
    fake = FakeVLLM(data_dir / "base")
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def make_learner(make_run, data_dir):
    def make(name, **more):
        more = {"tune": {"mode": "lora", "rank": 4}, **more}
        return PPOLearner(RunFolder(make_run("ppo", name, **more), data_dir), Accelerator(cpu=True))

    return make


def at(server, **more):
    return {"name": "vllm", "url": server.url, "model": "toy", **more}


def test_a_server_with_our_weights_gives_the_run_of_the_own_engine(server, make_learner):
    train = {"learning_rate": 1e-2, "critic_learning_rate": 1e-2}
    ours = make_learner("ours", train=train)
    theirs = make_learner("theirs", train=train, engine=at(server))
    for step in range(3):
        one, other = ours.update(step), theirs.update(step)
        for name in ("loss", "objective/scores", "objective/kl_k3", "policy/entropy"):
            assert other[name] == pytest.approx(one[name], abs=2e-3), (step, name)
        assert other["engine/mismatch_max"] < 1e-3
        assert other["engine/importance_mean"] == pytest.approx(1, abs=1e-3)
        assert "engine/mismatch_max" not in one
        assert other["engine/staleness"] == 0 and "engine/staleness" not in one
    # The adapter of the newest weights is loaded, and the one before let go.
    assert len(server.adapters) == 1
    sent = [body for path, body in server.requests if path == "/v1/completions"]
    assert {body["model"] for body in sent} - {"toy"}
    assert all(
        (body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"])
        == (1.0, 1.0, 0, 1.0)
        and body["return_token_ids"] and body["logprobs"] == 0
        for body in sent
    )  # fmt: skip


def test_runs_that_share_a_server_keep_their_adapters_apart(server, make_learner):
    """Both are the first attempt of a run, in a folder of the same name."""
    one, other = (make_learner(name, engine=at(server)) for name in ("one", "other"))
    for step in range(2):
        for learner in (one, other):
            learner.update(step)
    assert len(server.adapters) == 2
    models = {learner.sampler.engine.model for learner in (one, other)}
    assert models == set(server.adapters)


def test_log_probabilities_of_another_engine_are_weighed_and_the_weights_cut(server, make_learner):
    server.off_by = -1.0  # it believes each token e times less likely than we do
    learner = make_learner("run", engine=at(server, importance_cap=2.0))
    rollout = learner.sampler.rollout(learner.prompts, range(8))
    weights = rollout.weights_BT[rollout.mask_BT]
    torch.testing.assert_close(weights, torch.full_like(weights, 2.0))
    numbers = learner.update(0)
    assert numbers["engine/importance_capped"] == 1.0
    assert numbers["engine/mismatch_max"] == pytest.approx(1.0, abs=1e-3)
    # The ratio of PPO is between our own two policies, whatever the engine says.
    assert numbers["policy/first_ratio_deviation"] < 1e-4
    mild = engines.importance(torch.tensor([0.0, -1.0]), torch.tensor([-0.1, 0.0]), 2.0)
    assert mild.tolist() == pytest.approx([1.1052, 0.3679], abs=1e-4)


def test_an_engine_says_which_tokens_are_whose(server, data_dir):
    wanted = Engine("vllm", server.url, "toy")
    settings = PPO(max_new_tokens=12)
    stops = list(range(0, 1024, 8))
    made = engines.VLLMEngine(wanted, settings, stops, None).generate([[5, 6, 7], [9]], [1, 2])
    own = engines.HFEngine(server.lm, settings, stops, 0).generate([[5, 6, 7], [9]], [1, 2])
    for one, other in zip(made, own, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert made.finished_B.any() and made.mask_BT.sum(1).max() == made.ids_BT.shape[1]


def test_a_busy_server_is_asked_again_and_a_refusal_is_told(server, monkeypatch):
    monkeypatch.setattr(engines.time, "sleep", lambda seconds: None)
    engine = engines.VLLMEngine(Engine("vllm", server.url, "toy"), PPO(max_new_tokens=3), [1], None)
    server.broken = [503, 500]
    assert engine.generate([[5]], [1]).mask_BT.any() and len(server.requests) == 3
    server.broken = [400]
    with pytest.raises(EngineError, match=r"completions: 400 .*busy"):
        engine.generate([[5]], [1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.pop("token_ids"), "without 'token_ids'"),
        (lambda c: c["logprobs"]["token_logprobs"].pop(), "3 tokens, 2 logprobs"),
        (lambda c: c.update(finish_reason="stop"), "stopped at token"),
    ],
)
def test_an_answer_that_breaks_the_agreement_is_refused(spoil, message, server, monkeypatch):
    answered = server.answer

    def broken(path, body):
        reply = answered(path, body)
        spoil(reply["choices"][0])
        return reply

    monkeypatch.setattr(server, "answer", broken)
    engine = engines.VLLMEngine(Engine("vllm", server.url, "toy"), PPO(max_new_tokens=3), [1], None)
    with pytest.raises(EngineError, match=message):
        engine.generate([[5]], [1])


def test_what_a_server_needs_is_said_before_it_is_asked(make_learner, server):
    with pytest.raises(ConfigError, match=r"engine.url is missing"):
        make_learner("nowhere", engine={"name": "vllm"})
    with pytest.raises(ConfigError, match="choose Tune.mode lora"):
        make_learner("whole", tune={"mode": "full"}, engine=at(server))


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_the_server_in_the_settings_is_asked_under_the_name_it_has_there(
    path, server, make_learner
):
    learner = make_learner("run", train={"vllm_server": server.url + path})
    assert learner.update(0)["engine/mismatch_max"] < 1e-3
    assert {path for path, _ in server.requests} == {"/v1/completions"}
    assert server.requests[0][1]["model"] == "toy"


def test_a_server_of_another_model_is_refused_with_what_starts_the_right_one(server, make_learner):
    server.folder = server.folder.parent / "another"
    with pytest.raises(ConfigError, match=r"serves toy \(.*another\), and .*vllm serve .*base"):
        make_learner("run", train={"vllm_server": server.url})


def test_a_server_that_is_not_there_is_named(make_learner, monkeypatch):
    monkeypatch.setattr(engines.time, "sleep", lambda seconds: None)
    with pytest.raises(ConfigError, match="http://127.0.0.1:1 does not answer as a vLLM server"):
        make_learner("run", train={"vllm_server": "http://127.0.0.1:1"})


def test_two_servers_for_one_run_are_one_too_many(server, make_learner):
    with pytest.raises(ConfigError, match="leave one out"):
        make_learner("run", train={"vllm_server": server.url}, engine=at(server))
    with pytest.raises(ConfigError, match="must be an address such as"):
        make_learner("other", train={"vllm_server": "127.0.0.1:8000"})


def test_an_answer_by_other_weights_is_refused(server, make_learner):
    learner = make_learner("run", engine=at(server))
    server.answers_as = "toy-before"
    with pytest.raises(EngineError, match="answered as toy-before, not as toy"):
        learner.update(0)
