"""OpenAI's fine-tuning API on the demo's server: what comes of it is answered by the real vLLM."""

import time
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Demo

EXAMPLES = Path(__file__).parents[2] / "examples" / "support"
LIMIT_S = 300
QUESTION: Any = [{"role": "user", "content": "There was fraud on my card."}]


def test_a_job_of_the_openai_client_is_called_at_once(demo: Demo) -> None:
    """Files, job, events, chat: the tuned model answers as it was taught, the base does not."""
    with demo.openai() as client:
        rows = client.files.create(file=EXAMPLES / "train.jsonl", purpose="fine-tune")
        jobs = client.fine_tuning.jobs
        job = jobs.create(
            model="base",
            training_file=rows.id,
            suffix="over-http",
            seed=1,
            hyperparameters={"n_epochs": 2},
        )
        deadline = time.monotonic() + LIMIT_S
        while not job.finished_at and time.monotonic() < deadline:
            time.sleep(0.5)
            job = jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        assert jobs.list_events(job.id).data[0].message == "The job has successfully completed"
        answers = {
            model: client.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, max_tokens=40
            )
            for model in (str(job.fine_tuned_model), "over-http", "base")
        }
    tuned, named, base = (str(answer.choices[0].message.content) for answer in answers.values())
    assert tuned == named
    assert tuned.startswith("[Intent: ")
    assert not base.startswith("[Intent: ")
    assert answers["over-http"].model == "over-http@1"
