"""Train a tiny language model by GRPO (grpo.py), and record all that a trainer would log: rl_logging/data/.

With the same seed, torch and machine, all but the times in "timing" is the same again.

The file is JSON Lines. The first line is the header; the others are the steps, from 1 on:

    {"kind": "header", "version": 1, "config": {…nested hyperparameters…}}
    {"kind": "step", "step": 1,
     "metrics": {…nested numbers, as NeMo-RL names them…},      prefix "train" there
     "timing": {…nested seconds…},                              prefix "timing/train" there
     "rewards": [prompts x answers numbers],
     "logprobs": {"token_mask", "generation_logprobs", "prev_logprobs": samples x length,
                  "sample_mask", "prompt_lengths", "full_lengths": samples},
     "workers": {"inflight_requests": {"0": [one number every interval_s], …}, "interval_s": 0.05},
     "batch": {"prompt": [texts], "response", "reward", "advantage", "token_ids", "reference"},
     "validation": {"accuracy": 0.8, "mean_gen_tokens_per_sample": 3.1,    every 4th step only
                    "conversations": [[{"role", "content", "tool_calls"?, "tool_call_id"?}, …], …],
                    "rewards": [numbers], "references": [texts]}}
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpo
import torch
from grpo import ANSWER, CALL, CHARACTERS, END, Config, Policy, Rollouts
from torch import Tensor

SYSTEM = "Add the two numbers. Answer with digits only. You may call the calculator."
DATA = Path(__file__).parents[1] / "rl_logging" / "data" / "grpo_run.jsonl"


class Trainer:
    """The run: all of its state, and a step of it."""

    def __init__(self, config: Config) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.train_prompts, self.held_out = grpo.problems()
        self.policy = Policy(config.hidden_size)
        grpo.warm_start(self.policy, self.train_prompts, config)
        self.reference = copy.deepcopy(self.policy)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), config.learning_rate, weight_decay=0.01)

    def step(self, step: int) -> dict[str, Any]:
        """One line of the file."""
        config, seconds = self.config, dict[str, float]()
        with timed(seconds, "total_step_time"):
            with timed(seconds, "generation"):
                engine = grpo.inference_copy(self.policy)
                prompts = [prompt for prompt in self._prompts() for _ in range(config.answers_per_prompt)]
                rollouts = grpo.generate(engine, prompts, config.max_new_tokens)
            with timed(seconds, "policy_and_reference_logprobs"), torch.no_grad():
                tokens = grpo.encode(rollouts.texts)
                generation, before = grpo.log_probs(engine, tokens)[0], grpo.log_probs(self.policy, tokens)[0]
                reference = grpo.log_probs(self.reference, tokens)[0]
            advantages = grpo.advantages_of(rollouts.rewards, config.answers_per_prompt)
            with timed(seconds, "policy_training"):
                for _ in range(config.updates_per_step):
                    figures = grpo.update(
                        self.policy, self.optimizer, rollouts, (before, reference), advantages, config
                    )
        line = {
            "kind": "step",
            "step": step,
            "metrics": self._metrics(rollouts, advantages, figures, error_of(rollouts, generation, before)),
            "timing": timing(seconds, rollouts),
            "rewards": rollouts.rewards.tolist(),
            "logprobs": logprobs_of(rollouts, generation, before),
            "workers": in_flight(rollouts, config),
            "batch": batch_of(rollouts, advantages),
        }
        if step % config.validation_every == 0:
            line["validation"] = self._validation()
        return line

    def _prompts(self) -> list[str]:
        chosen = torch.randperm(len(self.train_prompts))[: self.config.prompts_per_step]
        return [self.train_prompts[i] for i in chosen.tolist()]

    def _metrics(
        self, rollouts: Rollouts, advantages: Tensor, figures: Mapping[str, float], error: float
    ) -> dict[str, Any]:
        lengths, calls = rollouts.lengths, torch.tensor([float(CALL in text) for text in rollouts.texts])
        return {
            **figures,
            "lr": self.config.learning_rate,
            "wd": 0.01,
            "reward": float(rollouts.rewards.mean()),
            "accuracy": float((rollouts.rewards == 1).float().mean()),
            "token_mult_prob_error": error,
            "mean_prompt_length": sum(map(len, rollouts.prompts)) / len(rollouts.prompts),
            "mean_gen_tokens_per_sample": float(lengths.mean()),
            "total_num_tokens": sum(map(len, rollouts.texts)),
            "global_valid_toks": int(lengths.sum()),
            "global_valid_seqs": len(rollouts.texts),
            "gen_tokens_per_sample": {"min": float(lengths.min()), "max": float(lengths.max())},
            "turns_per_sample": {"mean": 1 + float(calls.mean()), "max": 1 + float(calls.max())},
            "advantages": {"min": float(advantages.min()), "max": float(advantages.max())},
            "calculator": {"calls": int(calls.sum()), "share": float(calls.mean())},
        }

    def _validation(self) -> dict[str, Any]:
        prompts = self.held_out[: self.config.validation_prompts]
        rollouts = grpo.generate(self.policy, prompts, self.config.max_new_tokens, greedy=True)
        return {
            "accuracy": float((rollouts.rewards == 1).float().mean()),
            "mean_gen_tokens_per_sample": float(rollouts.lengths.mean()),
            "conversations": [
                conversation(p, a) for p, a in zip(rollouts.prompts, rollouts.answers, strict=True)
            ],
            "rewards": rollouts.rewards.tolist(),
            "references": [grpo.solution(prompt) for prompt in prompts],
        }


# What is recorded


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def timing(seconds: Mapping[str, float], rollouts: Rollouts) -> dict[str, Any]:
    parts = {name: taken for name, taken in seconds.items() if name != "total_step_time"}
    rate = float(rollouts.lengths.sum()) / seconds["generation"]
    return {
        "total_step_time": seconds["total_step_time"],
        "parts": parts,
        "generation_tokens_per_sec": rate,
    }


def error_of(rollouts: Rollouts, generation: Tensor, before: Tensor) -> float:
    """How far the two engines' probabilities are apart, as NeMo-RL's token_mult_prob_error."""
    mask = grpo.mask_of(rollouts)
    return float((torch.exp((generation - before).abs()) * mask).sum() / mask.sum())


def logprobs_of(rollouts: Rollouts, generation: Tensor, before: Tensor, samples: int = 6) -> dict[str, Any]:
    """Some samples, as they are given to log_plot_token_mult_prob_error."""
    few = slice(0, None, len(rollouts.texts) // samples)
    mask = grpo.mask_of(rollouts)[few].int().tolist()
    return {
        "token_mask": mask,
        "sample_mask": [1] * len(mask),
        "generation_logprobs": generation[few].tolist(),
        "prev_logprobs": before[few].tolist(),
        "prompt_lengths": [len(prompt) for prompt in rollouts.prompts[few]],
        "full_lengths": [len(text) for text in rollouts.texts[few]],
    }


def in_flight(rollouts: Rollouts, config: Config) -> dict[str, Any]:
    """How many answers each worker had in work, if each took a tick for a token, in its slots."""
    found = {}
    for worker in range(config.workers):
        waiting = [int(length) for length in rollouts.lengths[worker :: config.workers]]
        working, counts = list[int](), list[int]()
        while waiting or working:
            while waiting and len(working) < config.slots_per_worker:
                working.append(waiting.pop(0))
            counts.append(len(working))
            working = [left - 1 for left in working if left > 1]
        found[str(worker)] = counts
    return {"inflight_requests": found, "interval_s": config.tick_s}


def batch_of(rollouts: Rollouts, advantages: Tensor, rows: int = 4) -> dict[str, Any]:
    """Some rollouts as columns."""
    few = range(0, len(rollouts.texts), len(rollouts.texts) // rows)
    return {
        "prompt": [rollouts.prompts[i] for i in few],
        "response": [rollouts.answers[i] for i in few],
        "reference": [grpo.solution(rollouts.prompts[i]) for i in few],
        "reward": [float(rollouts.rewards[i]) for i in few],
        "advantage": [float(advantages[i]) for i in few],
        "token_ids": [[CHARACTERS.index(c) for c in rollouts.texts[i]] for i in few],
    }


def conversation(prompt: str, answer: str) -> list[dict[str, Any]]:
    """A rollout as messages; a call of the calculator is a message of its own, and so is its answer."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": prompt},
    ]
    thought, called, rest = answer.partition(CALL)
    if called:
        function = {"name": "calculator", "arguments": json.dumps({"expression": prompt.rstrip("=")})}
        call = {"id": "call_1", "type": "function", "function": function}
        said, _, answer = rest.removeprefix(ANSWER).partition("=")
        messages.append({"role": "assistant", "content": thought, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": said})
    return [*messages, {"role": "assistant", "content": answer.removesuffix(END)}]


def rounded(value: Any) -> Any:
    """Six digits are enough, and take half the room."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description="record a small run of GRPO")
    parser.add_argument("--out", type=Path, default=DATA)
    parser.add_argument("--seed", type=int, default=Config.seed)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums, in the same order
    config = Config(seed=arguments.seed)
    trainer = Trainer(config)
    lines: list[dict[str, Any]] = [{"kind": "header", "version": 1, "config": config.nested()}]
    for step in range(1, config.steps + 1):
        lines.append(trainer.step(step))
        metrics = lines[-1]["metrics"]
        accuracy = lines[-1].get("validation", {}).get("accuracy", "")
        calls = metrics["calculator"]["share"]
        print(f"step {step}: reward {metrics['reward']:.3f}, calls {calls:.2f} {accuracy}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(rounded(line), separators=(",", ":")) + "\n" for line in lines)
    arguments.out.write_text(text)
    print(f"{arguments.out}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
