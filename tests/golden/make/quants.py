"""Make the dequantiser goldens, tests/golden/quants/TYPE.bin; the official `gguf` package judges.

Half of the blocks hold random weights as tools/gguf_write.py encodes them, half hold random bits
under finite scales, so that every bit of a block matters. Format: tests/golden/README.md.

    python tests/golden/make/quants.py      needs gguf, numpy
"""

import pathlib
import struct
import sys

import gguf
import numpy as np

HERE = pathlib.Path(__file__).resolve()
OUT = HERE.parents[1] / "quants"
sys.path.insert(0, str(HERE.parents[3] / "tools"))
from gguf_write import BLOCKS, TYPE_ID, quantize  # noqa: E402

N_WEIGHTS = 1024
# RMS error of an encoder on normal weights, over their RMS: a wrong bit order is far above.
ERROR_MAX = {"Q2_K": 0.35, "Q3_K": 0.17, "MXFP4": 0.13, "Q4_0": 0.10, "Q4_1": 0.09, "Q4_K": 0.09,
             "IQ4_NL": 0.09, "IQ4_XS": 0.09, "Q5_0": 0.05, "Q5_1": 0.05, "Q5_K": 0.05,
             "Q6_K": 0.025, "Q8_0": 0.007, "BF16": 0.002, "F16": 0.0003}


def random_bits(kind, n_blocks, rng):
    """Blocks of random bytes with finite, ordinary half-precision scales."""
    layout = BLOCKS[kind][1]
    raw = np.frombuffer(bytearray(rng.bytes(n_blocks * layout.itemsize)), layout)
    for name in layout.names or ():
        if layout[name] == np.dtype("<f2"):
            raw[name] = rng.standard_normal(n_blocks) * 0.1
    if kind == "MXFP4":
        # From the subnormal scales at 0 and 1 up to 2^4.
        raw["e"] = np.r_[[0, 1, 2], rng.integers(110, 131, n_blocks - 3)]
    if kind == "F16":
        raw[:] = rng.standard_normal(n_blocks) * 100
        raw[:5] = [0.0, -0.0, 2.0**-24, -3e-5, 65504.0]     # zeros, subnormals, the largest
    if kind == "BF16":
        raw[:] = quantize(rng.standard_normal(n_blocks)[:, None] * 1e6, kind).view("<u2")[:, 0]
    return raw.view(np.uint8)


def main():
    OUT.mkdir(exist_ok=True)
    for kind in ERROR_MAX:
        weights, layout = BLOCKS[kind]
        qtype = gguf.GGMLQuantizationType[kind]
        assert (TYPE_ID[kind], gguf.GGML_QUANT_SIZES[qtype]) == (qtype, (weights, layout.itemsize))
        rng = np.random.default_rng([7, TYPE_ID[kind]])
        x = (rng.standard_normal(N_WEIGHTS // 2) * 0.05).astype(np.float32)
        encoded = quantize(x, kind).ravel()
        decoded = gguf.quants.dequantize(encoded, qtype)
        error = np.sqrt(((decoded - x) ** 2).sum() / (x ** 2).sum())
        assert error < ERROR_MAX[kind], (kind, error)
        raw = np.r_[encoded, random_bits(kind, N_WEIGHTS // 2 // weights, rng)]
        values = gguf.quants.dequantize(raw, qtype).astype("<f4")
        assert values.size == N_WEIGHTS and np.isfinite(values).all(), kind
        head = struct.pack("<8sIIII", b"BUDQUANT", TYPE_ID[kind], weights, layout.itemsize,
                           N_WEIGHTS // weights)
        (OUT / f"{kind}.bin").write_bytes(head + raw.tobytes() + values.tobytes())
        print(f"{kind:7} {N_WEIGHTS // weights:4} blocks, encoder's error {error:.4f}")


if __name__ == "__main__":
    main()
