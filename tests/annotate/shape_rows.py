"""Rows as other tools write them, and what of ours each is to become."""


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str, **more) -> dict:
    return {"role": "assistant", "content": text, **more}


ASKED, BETTER, WORSE = user("Why?"), assistant("Because."), assistant("No.")
HUMAN, GPT = {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}
TREE = {
    "message_id": "t",
    "role": "prompter",
    "text": "Why?",
    "replies": [
        {"message_id": "a", "user_id": "u1", "role": "assistant", "text": "No.", "rank": 1},
        {"message_id": "b", "user_id": "u2", "role": "assistant", "text": "Because.", "rank": 0},
    ],
}
TREE_MESSAGES = [
    {**{k: v for k, v in TREE.items() if k != "replies"}, "parent_id": None},
    *({**each, "parent_id": "t"} for each in TREE["replies"]),
]
TREE_MESSAGES = [{"user_id": "u0", "message_tree_id": "t", **each} for each in TREE_MESSAGES]
DATA = {"prompt": "Why?", "one": "Because.", "two": "No."}
SELECTED = {"type": "pairwise", "to_name": "one,two", "value": {"selected": "left"}}
FIELDS = {"prompt": "Why?", "response-1": "No.", "response-2": "Because."}
ORDER = [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]

RANKED = {"Why?": {"Because.": 1, "No.": 2}}
SAID = {"Why?": "Because."}
THUMBS = {("Why?", "Because."): True}

# shape → (lines, rankings, demonstrations, thumbs)
SHAPES = {
    "ours, plain": ("ours", [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}], RANKED),
    "ours, without a prompt": (
        "ours",
        [{"chosen": [ASKED, BETTER], "rejected": [ASKED, WORSE]}],
        RANKED,
    ),
    "UltraFeedback": (
        "ours",
        [
            {
                "prompt": "Why?",
                "prompt_id": "x",
                "chosen": [ASKED, BETTER],
                "rejected": [ASKED, WORSE],
                "messages": [ASKED, BETTER],
                "score_chosen": 8.5,
                "score_rejected": 3.0,
            }
        ],
        RANKED,
    ),
    "Orca's pairs": (
        "ours",
        [{"system": "", "question": "Why?", "chosen": "Because.", "rejected": "No."}],
        RANKED,
    ),
    "a winner by letter": (
        "ours",
        [{"prompt": "Why?", "completions": ["No.", "Because."], "winner": "B"}],
        RANKED,
    ),
    "a winner by number": (
        "ours",
        [{"prompt": "Why?", "completions": ["No.", "Because."], "winner": 2}],
        RANKED,
    ),
    "a winner by name": (
        "ours",
        [
            {
                "prompt": "Why?",
                "completions": ["No.", "Because."],
                "policies": ["x", "y"],
                "winner": "y",
            }
        ],
        RANKED,
    ),
    "HH-RLHF": (
        "hh_rlhf",
        [
            {
                "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
                "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
            }
        ],
        RANKED,
    ),
    "OpenAI's preferences": (
        "openai_preferences",
        [
            {
                "input": {"messages": [ASKED], "tools": [], "parallel_tool_calls": True},
                "preferred_output": [BETTER],
                "non_preferred_output": [WORSE],
            }
        ],
        RANKED,
    ),
    "ShareGPT's pairs": (
        "sharegpt",
        [{"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "No."}}],
        RANKED,
    ),
    "Alpaca's pairs": (
        "alpaca",
        [{"instruction": "Why?", "input": "", "chosen": "Because.", "rejected": "No."}],
        RANKED,
    ),
    "HelpSteer 2": (
        "helpsteer",
        [
            {"prompt": "Why?", "response": "No.", "helpfulness": 1, "verbosity": 4},
            {"prompt": "Why?", "response": "Because.", "helpfulness": 3, "verbosity": 1},
        ],
        RANKED,
    ),
    "HelpSteer 3": (
        "helpsteer3",
        [
            {
                "context": [ASKED],
                "response1": "Because.",
                "response2": "No.",
                "overall_preference": -2,
                "individual_preference": [{"score": -2}],
            }
        ],
        RANKED,
    ),
    "PKU-SafeRLHF": (
        "pku_saferlhf",
        [
            {
                "prompt": "Why?",
                "response_0": "No.",
                "response_1": "Because.",
                "better_response_id": 1,
                "safer_response_id": 0,
                "is_response_0_safe": True,
                "is_response_1_safe": False,
            }
        ],
        RANKED,
    ),
    "SHP": (
        "shp",
        [
            {
                "history": "Why?",
                "human_ref_A": "No.",
                "human_ref_B": "Because.",
                "labels": 0,
                "score_A": 2,
                "score_B": 9,
            }
        ],
        RANKED,
    ),
    "Chatbot Arena": (
        "arena",
        [
            {
                "model_a": "x",
                "model_b": "y",
                "winner": "model_b",
                "judge": "anna",
                "turn": 1,
                "conversation_a": [ASKED, WORSE],
                "conversation_b": [ASKED, BETTER],
            }
        ],
        RANKED,
    ),
    "Chatbot Arena on Kaggle": (
        "arena",
        [
            {
                "model_a": "x",
                "model_b": "y",
                "prompt": '["Why?"]',
                "response_a": '["Because."]',
                "response_b": '["No."]',
                "winner_model_a": 1,
                "winner_model_b": 0,
                "winner_tie": 0,
            }
        ],
        RANKED,
    ),
    "AlpacaEval": (
        "alpaca_eval",
        [
            {
                "instruction": "Why?",
                "output_1": "No.",
                "output_2": "Because.",
                "preference": 1.9,
                "generator_1": "x",
                "generator_2": "y",
                "annotator": "gpt",
            }
        ],
        RANKED,
    ),
    "OpenAssistant": (
        "oasst",
        [{"message_tree_id": "t", "tree_state": "x", "prompt": TREE}],
        RANKED,
        SAID,
    ),
    "OpenAssistant, from its first message": (
        "oasst",
        [TREE | {"parent_id": None, "lang": "en", "rank": None, "labels": None}],
        RANKED,
        SAID,
    ),
    "OpenAssistant, flat": ("oasst_messages", TREE_MESSAGES, RANKED, SAID),
    "Label Studio": (
        "label_studio",
        [{"id": 1, "data": DATA, "annotations": [{"lead_time": "3.2", "result": [SELECTED]}]}],
        RANKED,
    ),
    "Label Studio, JSON-MIN": (
        "label_studio_min",
        [
            {
                "id": 1,
                **DATA,
                "preference": "left",
                "annotator": 1,
                "annotation_id": 2,
                "lead_time": 3.5,
            }
        ],
        RANKED,
    ),
    "Argilla": (
        "argilla",
        [
            {
                "id": "1",
                "fields": FIELDS,
                "responses": {
                    "order": [{"value": ORDER, "user_id": "u"}],
                    "why": [{"value": "It is.", "user_id": "u"}],
                },
            }
        ],
        RANKED,
    ),
    "Argilla, flat": (
        "argilla_flat",
        [
            {
                "id": "1",
                "status": "completed",
                **FIELDS,
                "order.responses": [["response-2", "response-1"]],
                "order.responses.users": ["u"],
                "order.responses.status": ["submitted"],
                "order.suggestion": None,
            }
        ],
        RANKED,
    ),
    "Argilla 1, flat": (
        "argilla_flat",
        [
            {
                **FIELDS,
                "order": [
                    {
                        "user_id": "u",
                        "status": "submitted",
                        "value": {"rank": [1, 2], "value": ["response-2", "response-1"]},
                    }
                ],
                "order-suggestion": None,
            }
        ],
        RANKED,
    ),
    "messages": ("ours", [{"messages": [ASKED, BETTER]}], {}, SAID),
    "messages with extras": (
        "ours",
        [
            {
                "messages": [
                    {"role": "developer", "content": ""},
                    {"role": "user", "content": [{"type": "text", "text": "Why?"}], "name": "tom"},
                    assistant("Because.", weight=1, tool_calls=None),
                ]
            }
        ],
        {},
        SAID,
    ),
    "LLaMA-Factory's messages": (
        "ours",
        [
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "value": "Why?"}]},
                    assistant("Because.", loss_weight=1.0),
                ]
            }
        ],
        {},
        SAID,
    ),
    "LLaMA-Factory's pairs": (
        "ours",
        [{"chosen_messages": [ASKED, BETTER], "rejected_messages": [ASKED, WORSE]}],
        RANKED,
    ),
    "ShareGPT": ("sharegpt", [{"conversations": [HUMAN, GPT], "id": "x"}], {}, SAID),
    "Alpaca": ("alpaca", [{"instruction": "Why?", "input": "", "output": "Because."}], {}, SAID),
    "Dolly": (
        "dolly",
        [{"instruction": "Why?", "context": "", "response": "Because.", "category": "qa"}],
        {},
        SAID,
    ),
    "GSM8K": (
        "gsm8k",
        [{"question": "Why?", "answer": "So.\n#### 42"}],
        {},
        {"Why?": "So.\n#### 42"},
    ),
    "Label Studio, a written answer": (
        "label_studio",
        [
            {
                "data": {"prompt": "Why?"},
                "annotations": [
                    {
                        "result": [
                            {"type": "textarea", "from_name": "a", "value": {"text": ["Because."]}}
                        ]
                    }
                ],
            }
        ],
        {},
        SAID,
    ),
    "prompt and response": ("ours", [{"prompt": "Why?", "response": "Because."}], {}, SAID),
    "KTO": ("ours", [{"prompt": "Why?", "completion": "Because.", "label": True}], {}, {}, THUMBS),
    "KTO with messages": ("ours", [{"messages": [ASKED, BETTER], "label": True}], {}, {}, THUMBS),
    "ShareGPT's KTO": (
        "sharegpt",
        [{"conversations": [HUMAN, GPT], "label": True}],
        {},
        {},
        THUMBS,
    ),
}
