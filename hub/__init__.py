"""The registry and what stands on it alone: names, versions, aliases, evaluation, feedback.

Light by contract: nothing here imports torch, vllm, transformers, peft, trl or fastapi
(save `hub/merge.py`, which works on tensors and is imported where used).
"""
