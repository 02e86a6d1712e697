"""The joint objective in plain PyTorch, written from the paper's formulas.

Every term is a pair: its sum over what counts, and how much counted.
"""

import torch
import torch.nn.functional as F

from tests.reference.network import PAD


def weighted_bce(logits, labels, known, weights):
    """Over all known labels; logits, labels, known [b, n], weights [n]."""
    losses = F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="none")
    return losses[known].sum(), known.sum()


def weighted_asymmetric(logits, labels, known, weights):
    """-w [y log p + (1 - y) stop_grad(p) log(1 - p)], over all known labels."""
    p = torch.sigmoid(logits)
    losses = -weights * (labels * p.log() + (1 - labels) * p.detach() * (1 - p).log())
    return losses[known].sum(), known.sum()


def weighted_dice(logits, labels, known, weights):
    """One value for each action unit that is known anywhere in the batch."""
    p = torch.sigmoid(logits)
    total, count = logits.new_zeros(()), 0
    for unit, weight in enumerate(weights):
        rows = known[:, unit]
        if rows.any():
            x, y = p[rows, unit], labels[rows, unit]
            overlap = 2 * (x * y).sum() + 1
            size = (x**2).sum() + (y**2).sum() + 1
            total = total + weight * (1 - overlap / size)
            count += 1
    return total, torch.tensor(count)


def next_word(logits, tokens, counted):
    """Cross-entropy of words that are no <pad>, of sentences that count; tokens [..., t]."""
    logits, targets = logits[counted], tokens[..., 1:][counted]
    loss = F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=PAD, reduction="sum"
    )
    return loss, (targets != PAD).sum()


def joint_loss(outputs, batch, class_weights, au_loss):
    """The terms by name; `batch` as `vlfau_jax.data.read.batch` has it, in tensors."""
    known = batch["au_known"] & batch["valid"][:, None]
    labels = (outputs.au_logits, batch["au"], known, class_weights)
    au = {"bce": weighted_bce, "asymmetric": weighted_asymmetric}[au_loss]
    terms = {"au": au(*labels), "dice": weighted_dice(*labels)}
    if outputs.local_logits is not None:
        terms["local"] = next_word(outputs.local_logits, batch["local_tokens"], known)
    if outputs.global_logits is not None:
        terms["global"] = next_word(outputs.global_logits, batch["global_tokens"], batch["valid"])
    return terms


def total(terms, weights):
    """sum_k weight_k * sum_k / count_k."""
    return sum(weights[name] * value / count for name, (value, count) in terms.items())
