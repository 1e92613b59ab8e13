"""Losses that several models share; every one leaves out utterances without a target."""

import torch
from torch import Tensor, nn

from emofuse.core.schema import IGNORE

__all__ = ["cosine_similarities", "cross_entropy", "supervised_contrastive"]


def cross_entropy(logits_UC: Tensor, targets_U: Tensor, weights_C: Tensor | None = None, gamma: float = 0.0) -> Tensor:
    """Mean cross-entropy over the utterances with a target; zero if there are none.

    Args:
        logits_UC: of any head
        targets_U: class of each utterance, or IGNORE
        weights_C: weight of each class in the mean; None for equal ones
        gamma: gamma of the focal loss ``(1 - p)^gamma CE`` (Lin et al. 2017, equation 4); 0 for none
    """
    kept_U = targets_U != IGNORE
    logits_NC, targets_N = logits_UC[kept_U], targets_U[kept_U]
    loss_N = nn.functional.cross_entropy(logits_NC, targets_N, reduction="none")
    if gamma:
        # A root has no finite slope at zero, where a prediction is certain.
        loss_N = loss_N * (1 - (-loss_N).exp()).clamp(min=1e-6).pow(gamma)
    weights_N = torch.ones_like(loss_N) if weights_C is None else weights_C[targets_N]
    return (weights_N * loss_N).sum() / weights_N.sum().clamp(min=torch.finfo(loss_N.dtype).tiny)


def cosine_similarities(queries_NH: Tensor, keys_MH: Tensor) -> Tensor:
    """Return ``[N, M]``, in float32 at least whatever the precision: a temperature magnifies what was rounded."""
    exact = torch.promote_types(queries_NH.dtype, torch.float32)
    with torch.autocast(queries_NH.device.type, enabled=False):
        queries_NH, keys_MH = (nn.functional.normalize(each.to(exact), dim=1) for each in (queries_NH, keys_MH))
        return queries_NH @ keys_MH.T


def supervised_contrastive(vectors_NH: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, equation 2), zero if no two vectors share a class.

    Args:
        vectors_NH: ``[N, H]``; two views of an utterance are two rows
        targets_N: class of each, or IGNORE; such a row is neither an anchor nor a positive nor a negative
        temperature: divides the cosine similarities
    """
    kept_N = targets_N != IGNORE
    kept_NH, classes_N = vectors_NH[kept_N], targets_N[kept_N]
    own_NN = torch.eye(len(classes_N), dtype=torch.bool, device=vectors_NH.device)
    similarity_NN = (cosine_similarities(kept_NH, kept_NH) / temperature).masked_fill(own_NN, -torch.inf)
    log_share_NN = similarity_NN - similarity_NN.logsumexp(dim=1, keepdim=True)
    positive_NN = (classes_N[:, None] == classes_N) & ~own_NN
    positives_N = positive_NN.sum(dim=1)
    per_anchor_N = -log_share_NN.masked_fill(~positive_NN, 0.0).sum(dim=1)
    anchors_N = positives_N > 0
    if not anchors_N.any():
        return vectors_NH.sum() * 0.0
    return (per_anchor_N[anchors_N] / positives_N[anchors_N]).mean()
