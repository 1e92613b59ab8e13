"""Reading a corpus's features as tensors: modalities joined by utterance id, by utterance and by dialogue."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from emofuse.features.shards import FeatureError, FeatureStore

__all__ = ["JoinedFeatures"]


class JoinedFeatures:
    """The features of all modalities of a corpus, mapped into memory; nothing is copied.

    Args:
        corpus: the corpus's folder, whose utterances every modality must have, all of them and no others
        folders: by modality, where the extraction wrote its shards

    Attributes:
        dialogues: ids of the utterances by dialogue, in the order of the turns

    Raises:
        FeatureError: a modality lacks an utterance or has one that the corpus has not, or its shards are damaged
    """

    def __init__(self, corpus: Path, folders: Mapping[str, Path]) -> None:
        utterances = pl.read_parquet(corpus / "utterances.parquet", columns=["utterance_id", "dialogue_id"])
        self.dialogues: dict[str, list[str]] = {}
        for utterance, dialogue in utterances.iter_rows():
            self.dialogues.setdefault(dialogue, []).append(utterance)
        self._stores = {modality: FeatureStore(folder) for modality, folder in folders.items()}
        known = set(utterances["utterance_id"])
        for modality, store in self._stores.items():
            missing, unknown = known - set(store.utterance_ids), set(store.utterance_ids) - known
            if missing or unknown:
                examples = sorted(missing | unknown)[:3]
                raise FeatureError(
                    f"{folders[modality]}: {len(missing)} utterances of {corpus} are missing and {len(unknown)} are "
                    f"of another corpus, such as {examples}; run the extract stage"
                )

    def utterance(self, utterance_id: str) -> dict[str, Tensor]:
        """Return an utterance's frames by modality: float16 ``[n_frames, dim]``, views of the files.

        Raises:
            FeatureError: there is no such utterance
        """
        return {modality: torch.from_numpy(store[utterance_id]) for modality, store in self._stores.items()}

    def dialogue(self, dialogue_id: str) -> list[dict[str, Tensor]]:
        """Return a dialogue's utterances, in the order of the turns, as :meth:`utterance` does.

        Raises:
            FeatureError: there is no such dialogue
        """
        if dialogue_id not in self.dialogues:
            raise FeatureError(f"{dialogue_id}: no such dialogue; there are {list(self.dialogues)[:3]}")
        return [self.utterance(each) for each in self.dialogues[dialogue_id]]
