"""A tiny language model that learns by GRPO on a CPU to add two one-digit numbers.

The policy is a GRU over characters. It answers at once, or calls a calculator and copies what
that says. Rewards: 1 for the sum, 0.5 for a number of which one digit of two is wrong, 0.2 for any other
number, 0 for none. A short supervised beginning shows it both ways.
"""

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

END, CALL, ANSWER, PAD = "$", "C", ">", "_"
CHARACTERS = "0123456789+=" + CALL + ANSWER + END + PAD


@dataclass(frozen=True)
class Config:
    """What a run is made of, in the groups that NeMo-RL's configurations have."""

    seed: int = 1
    steps: int = 24
    prompts_per_step: int = 16
    answers_per_prompt: int = 8
    max_new_tokens: int = 5
    hidden_size: int = 96
    warm_start_updates: int = 150
    updates_per_step: int = 4
    learning_rate: float = 0.002
    warm_start_learning_rate: float = 0.005
    clip_ratio: float = 0.2
    kl_penalty: float = 0.01
    max_grad_norm: float = 1.0
    validation_every: int = 4
    validation_prompts: int = 20
    workers: int = 4
    slots_per_worker: int = 6
    tick_s: float = 0.05

    def nested(self) -> dict[str, Any]:
        """As a trainer's hyperparameters."""
        flat = asdict(self)
        groups = {
            "grpo": "seed steps prompts_per_step answers_per_prompt validation_every validation_prompts",
            "policy": "hidden_size learning_rate max_grad_norm updates_per_step",
            "generation": "max_new_tokens workers slots_per_worker tick_s",
            "loss": "clip_ratio kl_penalty",
            "warm_start": "warm_start_updates warm_start_learning_rate",
        }
        return {group: {name: flat[name] for name in names.split()} for group, names in groups.items()}


class Policy(nn.Module):
    """The next character's logits at each place of a text."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), hidden)
        self.memory = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, len(CHARACTERS))

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.memory(self.embedding(tokens))[0])
        return logits


@dataclass
class Rollouts:
    """Answers to prompts.

    :param texts: prompt, answer, what the calculator said
    :param masks: for each character, whether the policy chose it
    """

    prompts: list[str]
    texts: list[str]
    masks: list[list[int]]
    rewards: Tensor

    @property
    def answers(self) -> list[str]:
        return [text[len(prompt) :] for prompt, text in zip(self.prompts, self.texts, strict=True)]

    @property
    def lengths(self) -> Tensor:
        """How many tokens the policy chose."""
        return torch.tensor([sum(mask) for mask in self.masks], dtype=torch.float)


# The task


def problems() -> tuple[list[str], list[str]]:
    """Prompts to train on, and others to validate with."""
    every = [f"{a}+{b}=" for a in range(10) for b in range(10)]
    held_out = every[3::5]
    return [prompt for prompt in every if prompt not in held_out], held_out


def solution(prompt: str) -> str:
    first, second = prompt.rstrip("=").split("+")
    return str(int(first) + int(second))


def final_answer(answer: str) -> str | None:
    """The digits before the end, behind what the calculator said; None where there are none."""
    last = answer.rpartition(ANSWER)[2].partition("=")[2] if ANSWER in answer else answer
    digits, end, _ = last.partition(END)
    return digits if end and digits.isdigit() else None


def reward(prompt: str, answer: str) -> float:
    """1 for the sum, 0.5 where one of its digits is wrong, 0.2 for any other number."""
    given, right = final_answer(answer), solution(prompt)
    if given is None:
        return 0.0
    if given == right:
        return 1.0
    close = len(given) == len(right) > 1 and sum(a != b for a, b in zip(given, right, strict=True)) == 1
    return 0.5 if close else 0.2


# The policy


def encode(texts: list[str]) -> Tensor:
    """Texts as tokens, batch x length, filled up."""
    length = max(map(len, texts))
    return torch.tensor([[CHARACTERS.index(c) for c in text.ljust(length, PAD)] for text in texts])


def log_probs(policy: Policy, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Of each token, its log-probability, 0 for the first; and the entropy where it was chosen."""
    every = torch.log_softmax(policy(tokens[:, :-1]), -1)
    chosen = every.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    entropy = -(every.exp() * every).sum(-1)
    zero = torch.zeros(len(tokens), 1)
    return torch.cat([zero, chosen], 1), torch.cat([zero, entropy], 1)


def inference_copy(policy: Policy) -> Policy:
    """The policy as another engine has it: its weights have the digits of bfloat16 only."""
    engine = copy.deepcopy(policy)
    for weight in engine.parameters():
        weight.data = weight.data.bfloat16().float()
    return engine


@torch.no_grad()
def generate(policy: Policy, prompts: list[str], limit: int, greedy: bool = False) -> Rollouts:
    """Answer prompts, each until its end or so many tokens."""
    texts, masks = list(prompts), [[0] * len(prompt) for prompt in prompts]
    active = list(range(len(prompts)))
    while active:
        logits = policy(encode([texts[i] for i in active]))
        last = torch.tensor([len(texts[i]) - 1 for i in active])
        logits = logits[torch.arange(len(active)), last]
        logits[:, CHARACTERS.index(PAD)] = -torch.inf
        chosen = logits.argmax(-1) if greedy else torch.distributions.Categorical(logits=logits).sample()
        for i, token in zip(active, chosen.tolist(), strict=True):
            texts[i] += CHARACTERS[token]
            masks[i].append(1)
            if CHARACTERS[token] == CALL and CALL not in texts[i][:-1]:
                said = f"{ANSWER}{solution(prompts[i])}="
                texts[i] += said
                masks[i] += [0] * len(said)
        active = [i for i in active if texts[i][-1] != END and sum(masks[i]) < limit]
    rewards = torch.tensor([reward(p, t[len(p) :]) for p, t in zip(prompts, texts, strict=True)])
    return Rollouts(list(prompts), texts, masks, rewards)


def mask_of(rollouts: Rollouts) -> Tensor:
    length = max(map(len, rollouts.texts))
    return torch.tensor([mask + [0] * (length - len(mask)) for mask in rollouts.masks], dtype=torch.float)


def warm_start(policy: Policy, prompts: list[str], config: Config) -> None:
    """Show both ways to answer; every third sum that is shown is wrong."""
    optimizer = torch.optim.Adam(policy.parameters(), config.warm_start_learning_rate)
    for _ in range(config.warm_start_updates):
        texts = [shown(prompt) for prompt in prompts]
        tokens = encode(texts)
        chosen, _ = log_probs(policy, tokens)
        loss = -(chosen * (tokens != CHARACTERS.index(PAD))).sum() / sum(map(len, texts))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def shown(prompt: str) -> str:
    right = solution(prompt)
    wrong = str(int(torch.randint(0, 19, ())))
    answer = wrong if torch.rand(()) < 1 / 3 else right
    calls = torch.rand(()) < 1 / 4
    return f"{prompt}{CALL}{ANSWER}{right}={answer}{END}" if calls else f"{prompt}{answer}{END}"


# GRPO


def advantages_of(rewards: Tensor, answers: int) -> Tensor:
    """How much better than the other answers to the same prompt (Shao et al., 2024, arXiv 2402.03300)."""
    groups = rewards.reshape(-1, answers)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + 1e-6)).reshape(-1)


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    before: tuple[Tensor, Tensor],
    advantages: Tensor,
    config: Config,
) -> dict[str, float]:
    """One update by the clipped loss.

    :param before: the log-probabilities by the policy as it was at generation, and by the reference
    """
    tokens, mask = encode(rollouts.texts), mask_of(rollouts)
    chosen, entropy = log_probs(policy, tokens)
    ratio = torch.exp(chosen - before[0])
    clamped = ratio.clamp(1 - config.clip_ratio, 1 + config.clip_ratio)
    gain = torch.minimum(ratio * advantages[:, None], clamped * advantages[:, None])
    kl = torch.exp(before[1] - chosen) - (before[1] - chosen) - 1
    total = mask.sum()
    loss = ((config.kl_penalty * kl - gain) * mask).sum() / total
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
    optimizer.step()
    means = {
        "probs_ratio": ratio,
        "probs_ratio_clamped": clamped,
        "kl_penalty": kl,
        "approx_entropy": entropy,
    }
    figures = {name: float(((each * mask).sum() / total).detach()) for name, each in means.items()}
    clipped = float((((ratio - clamped).abs() > 0) * mask).sum() / total)
    return {"loss": float(loss.detach()), "grad_norm": float(norm), "clip_fraction": clipped, **figures}
