"""Byte-level BPE of 2,048 entries, trained on stories and written as a Hugging Face tokenizer.json.

    python tokenizer.py OUT/tokenizer.json
"""
import sys
from pathlib import Path
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from stories import NAMES, stories

BOS, EOS, PAD = 0, 1, 2
VOCAB = 2048


def train(count=30000, seed=500_000):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<bos>", "<eos>", "<pad>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    def texts():
        yield from (s["text"] for s, _ in zip(stories(seed), range(count)))
        for name in sorted(NAMES):          # one entry for a name behind a quote or a line break too: easier to copy
            yield from [name] * 2000
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = train()
    tokenizer.save(str(out))
    print(f"{tokenizer.get_vocab_size()} entries -> {out}")
