"""Where Triton's kernels run: on a GPU where there is one, else through Triton's interpreter. Import it before Triton."""

import os

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
os.environ["LIMBECK_TRITON_CHECK"] = "0"  # the tests themselves compare the kernel with the reference
