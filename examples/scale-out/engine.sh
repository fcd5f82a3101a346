#!/bin/sh
# An engine on its own machine: stock vLLM, told by the gateway what to load.
#
#   BASE=starter MODEL=/srv/hub/.hub/bases/starter ./engine.sh [more of vLLM's own options]
#
# The gateway names folders below its HUB_HOME, so this machine mounts the hub's .hub/adapters at the
# same path, read-only (docs/scale-out.md). Port 8000 has no keys: only the gateway may reach it.
set -eu

: "${BASE:?what the hub calls the base, as in Qwen/Qwen3-0.6B}"
: "${MODEL:=$BASE}"

export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
# No resolver: what is loaded here is what the gateway has checked.
export VLLM_PLUGINS=

exec python -m vllm.entrypoints.openai.api_server \
    --model "$MODEL" --served-model-name "$BASE" \
    --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" \
    --enable-lora --max-loras 8 --max-cpu-loras 32 --max-lora-rank 64 "$@"
