"""What is said of damaged files, and to whom."""

from tests.serve.conftest import MESSAGES, Gateway, Publish
from tests.serve.keyed import Keys, keys  # noqa: F401 - a fixture


async def test_where_they_lie_is_for_who_looks_after_the_hub(
    gateway: Gateway,
    published: Publish,
    keys: Keys,  # noqa: F811
) -> None:
    """An admin reads file and remedy; who only asks reads that it is not their doing."""
    published("support")
    weights = gateway.home.adapters / "support@1" / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    body = {"model": "support", "messages": MESSAGES}
    told = {}
    for name, scope in (("app", "infer"), ("operator", "admin")):
        answer = await gateway.http.post(
            "/v1/chat/completions", json=body, headers=keys(name, scope)
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "integrity_error")
        told[name] = answer.text
    assert str(gateway.home.root) in told["operator"]
    assert str(gateway.home.root) not in told["app"]
    assert "Whoever runs the hub can mend it" in told["app"]
