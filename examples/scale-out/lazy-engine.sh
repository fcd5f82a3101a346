#!/bin/sh
# An engine that finds adapters by their names in a shared folder: vLLM with its filesystem resolver.
#
#   BASE=starter MODEL=/srv/models/starter ADAPTERS=/srv/adapters ./lazy-engine.sh [vLLM's options]
#
# Any number of these may stand behind one balanced URL. MODEL is written the same way on all of them:
# the resolver compares it with what the gateway writes into each adapter_config.json.
set -eu

: "${BASE:?what the hub calls the base, as in Qwen/Qwen3-0.6B}"
: "${MODEL:=$BASE}"
: "${ADAPTERS:?the folder that the gateway fills (--adapter-folder), mounted read-only}"

export VLLM_PLUGINS=lora_filesystem_resolver
export VLLM_LORA_RESOLVER_CACHE_DIR="$ADAPTERS"
# Without it vLLM asks no resolver.
export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1

exec python -m vllm.entrypoints.openai.api_server \
    --model "$MODEL" --served-model-name "$BASE" \
    --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" \
    --enable-lora --max-loras 8 --max-cpu-loras 32 --max-lora-rank 64 "$@"
