"""What passes through the gateway to an engine: one row a path of vLLM's HTTP surface.

All of it is JSON that names a `model`, and is treated alike (`serve.requests.forward`). The value
is what metrics and interactions call the endpoint. Routes that an engine has only for other kinds
of models (vectors, classes, scores) are answered with 404 where it has not got them.

Absent on purpose: audio (its bodies are no JSON), stored responses and background ones (they would
live in one engine, and be gone with it), Anthropic's and Cohere's own shapes, and all that manages
an engine.
"""

ROUTES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/tokenize": "tokenize",
    "/detokenize": "detokenize",
    "/pooling": "pooling",
    "/classify": "classify",
    "/score": "score",
    "/v1/score": "score",
    "/rerank": "rerank",
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
}

CHAT = "/v1/chat/completions"
RESPONSES = "responses"
# Vectors: megabytes that nobody reads in a log.
VECTORS = frozenset({"embeddings", "pooling"})
# Endpoints whose answer is a text of the model's, whole or as a stream.
SPEAKING = frozenset({"chat", "completions", RESPONSES})
# Endpoints whose stream says its usage only where it is asked to.
WITH_STREAM_OPTIONS = frozenset({"chat", "completions"})
