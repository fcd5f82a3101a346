"""What the double answers, in vLLM 0.32's shapes: one function an endpoint, whole or in events.

Field for field as that version sends them for a small model, less those that are always null.
"""

from typing import Any

Json = dict[str, Any]

TEXTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
TOKENS = ("/tokenize", "/detokenize")
# Only an engine that was started for such a model has these.
VECTORS = (
    *("/v1/embeddings", "/pooling", "/classify", "/score", "/v1/score"),
    *("/rerank", "/v1/rerank", "/v2/rerank"),
)
CALL = {"name": "look_up", "arguments": '{"id": 7}'}


def usage(text: str) -> Json:
    words = len(text.split())
    return {"prompt_tokens": 3, "completion_tokens": words, "total_tokens": 3 + words}


def whole(path: str, asked: Json, text: str) -> Json:
    """The answer to a request that does not stream; the engine's `text` is its first choice."""
    match path:
        case "/v1/responses":
            return _response(asked, text, "completed")
        case "/tokenize":
            return {"count": 3, "max_model_len": 16, "tokens": [1, 2, 3], "token_strs": None}
        case "/detokenize":
            return {"prompt": "Hello"}
        case _ if path in VECTORS:
            return _figures(path, asked)
    chat = path.endswith("chat/completions")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion" if chat else "text_completion",
        "created": 1,
        "model": asked["model"],
        "choices": [_choice(asked, chat, index, text) for index in range(asked.get("n") or 1)],
        "usage": usage(text),
    }


def events(path: str, asked: Json, text: str) -> list[Json]:
    """A stream's events but for `[DONE]`, in order."""
    if path == "/v1/responses":
        return _response_events(asked, text)
    chat = path.endswith("chat/completions")
    head = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
    parts: list[Json] = []
    for index in range(asked.get("n") or 1):
        own = [
            {**head, "choices": [{"index": index, **part, "finish_reason": None}]}
            for part in _parts(asked, chat, _said(index, text))
        ]
        own[-1]["choices"][0]["finish_reason"] = "tool_calls" if _calls(asked) else "stop"
        parts += own
    # Like vLLM: the fingerprint is on the last chunk, whichever that is.
    if (asked.get("stream_options") or {}).get("include_usage"):
        parts.append({**head, "choices": [], "usage": usage(text)})
    parts[-1]["system_fingerprint"] = "double-0.32"
    return parts


def _said(index: int, text: str) -> str:
    return f"{text} ({index})" if index else text


def _calls(asked: Json) -> bool:
    return bool(asked.get("tools")) and asked.get("tool_choice") != "none"


def _choice(asked: Json, chat: bool, index: int, text: str) -> Json:
    said = _said(index, text)
    if not chat:
        return {"index": index, "text": said, "logprobs": None, "finish_reason": "stop"}
    message: Json = {"role": "assistant", "content": said}
    if _calls(asked):
        call = {"id": "call-1", "type": "function", "function": CALL}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    logprobs = None
    if asked.get("logprobs"):
        entry = {"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": []}
        logprobs = {"content": [entry]}
    reason = "tool_calls" if _calls(asked) else "stop"
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


def _parts(asked: Json, chat: bool, text: str) -> list[Json]:
    words = [f"{word} " for word in text.split(" ")]
    if not chat:
        return [{"text": word} for word in words] + [{"text": ""}]
    role = {"delta": {"role": "assistant", "content": ""}}
    if not _calls(asked):
        return [role, *({"delta": {"content": word}} for word in words), {"delta": {}}]
    head = {"id": "call-1", "type": "function", "index": 0, "function": {"name": CALL["name"]}}
    arguments = ({"index": 0, "function": {"arguments": part}} for part in ('{"id"', ": 7}"))
    return [role, *({"delta": {"tool_calls": [part]}} for part in (head, *arguments))]


# -- /v1/responses ---------------------------------------------------------------------------------


def _response(asked: Json, text: str, status: str) -> Json:
    counts = usage(text)
    done = status == "completed"
    return {
        "id": "resp_1",
        "created_at": 1,
        "incomplete_details": None,
        "metadata": asked.get("metadata"),
        "model": asked["model"],
        "object": "response",
        "output": [_item(text, status)] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "status": status,
        "usage": {
            "input_tokens": counts["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counts["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counts["total_tokens"],
        }
        if done
        else None,
        "user": asked.get("user"),
    }


def _item(text: str, status: str) -> Json:
    part = {"annotations": [], "text": text, "type": "output_text", "logprobs": None}
    content = [part] if status == "completed" else []
    return {
        "id": "msg_1",
        "content": content,
        "role": "assistant",
        "status": status,
        "type": "message",
    }


def _response_events(asked: Json, text: str) -> list[Json]:
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
    begun = _response(asked, text, "in_progress")
    found: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _item(text, "in_progress"),
        },
        {"type": "response.content_part.added", **at, "part": part},
        *(
            {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
            for piece in _pieces(text)
        ),
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": _item(text, "completed")},
        {"type": "response.completed", "response": _response(asked, text, "completed")},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(found)]


def _pieces(text: str) -> list[str]:
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]


# -- vectors and scores ----------------------------------------------------------------------------


def _figures(path: str, asked: Json) -> Json:
    counts = {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}
    if path.endswith("rerank"):
        results = [{"index": 0, "document": {"text": "a"}, "relevance_score": 0.5}]
        return {"id": "score-1", "model": asked["model"], "usage": counts, "results": results}
    texts = asked.get("input")
    data = [_vector(path, index) for index in range(len(texts) if isinstance(texts, list) else 1)]
    return {
        "id": "embd-1",
        "object": "list",
        "created": 1,
        "model": asked["model"],
        "data": data,
        "usage": counts,
    }


def _vector(path: str, index: int) -> Json:
    match path:
        case "/v1/embeddings":
            return {"index": index, "object": "embedding", "embedding": [0.25, -0.5]}
        case "/pooling":
            return {"index": index, "object": "pooling", "data": [0.25, -0.5]}
        case "/classify":
            return {"index": index, "label": "a", "probs": [0.75, 0.25], "num_classes": 2}
        case _:
            return {"index": index, "object": "score", "score": 0.5}
