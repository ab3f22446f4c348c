"""Write GGUF v3 files with numpy alone: metadata, tensors, and every block type the engine reads.

    w = GGUFWriter("tiny.gguf")
    w.add("general.architecture", "llama")
    w.add("llama.block_count", 2)                        # int -> uint32, float -> float32
    w.add("tokenizer.ggml.token_type", types, "i32")     # a list or array -> array of that type
    w.add_tensor("output_norm.weight", ones, "F32")      # shapes as numpy has them: [rows, columns]
    w.add_lazy("token_embd.weight", (rows, columns), "Q8_0", chunks)
    w.write()

Legacy blocks (Q8_0 Q4_0 Q4_1 Q5_0 Q5_1), BF16 and MXFP4 round as the format's own quantiser does.
The K and IQ4 encoders are valid but plain: scales from the range of each sub-block, no search.
`BLOCKS` is the layout of every block as a numpy record, `QUANTIZE` the encoders, `random_blocks`
makes valid random rows without encoding anything, for big files of meaningless weights.

The layouts follow the GGUF specification and the `gguf` package's dequantisers, which are the
judge in tests/golden/make/quants.py. Not here: what a model needs (make_model.py).
"""

import struct

import numpy as np

ALIGNMENT = 32

# ---------------------------------------------------------------------------------------------
# Tensor types: GGUF number, weights in a block, layout of a block

TYPE_ID = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8,
    "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14,
    "IQ4_NL": 20, "IQ4_XS": 23, "BF16": 30, "MXFP4": 39,
}

BLOCKS = {
    "F32": (1, np.dtype("<f4")),
    "F16": (1, np.dtype("<f2")),
    "BF16": (1, np.dtype("<u2")),
    "Q4_0": (32, np.dtype([("d", "<f2"), ("qs", "u1", 16)])),
    "Q4_1": (32, np.dtype([("d", "<f2"), ("m", "<f2"), ("qs", "u1", 16)])),
    "Q5_0": (32, np.dtype([("d", "<f2"), ("qh", "<u4"), ("qs", "u1", 16)])),
    "Q5_1": (32, np.dtype([("d", "<f2"), ("m", "<f2"), ("qh", "<u4"), ("qs", "u1", 16)])),
    "Q8_0": (32, np.dtype([("d", "<f2"), ("qs", "i1", 32)])),
    "IQ4_NL": (32, np.dtype([("d", "<f2"), ("qs", "u1", 16)])),
    "MXFP4": (32, np.dtype([("e", "u1"), ("qs", "u1", 16)])),
    "Q2_K": (256, np.dtype([("scales", "u1", 16), ("qs", "u1", 64),
                            ("d", "<f2"), ("dmin", "<f2")])),
    "Q3_K": (256, np.dtype([("hmask", "u1", 32), ("qs", "u1", 64),
                            ("scales", "u1", 12), ("d", "<f2")])),
    "Q4_K": (256, np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12),
                            ("qs", "u1", 128)])),
    "Q5_K": (256, np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12),
                            ("qh", "u1", 32), ("qs", "u1", 128)])),
    "Q6_K": (256, np.dtype([("ql", "u1", 128), ("qh", "u1", 64),
                            ("scales", "i1", 16), ("d", "<f2")])),
    "IQ4_XS": (256, np.dtype([("d", "<f2"), ("scales_h", "<u2"), ("scales_l", "u1", 4),
                              ("qs", "u1", 128)])),
}

IQ4_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10,
                       1, 13, 25, 38, 53, 69, 89, 113], np.float32)
# Twice the e2m1 values: the block's scale is half of 2^(e - 127).
MXFP4_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def row_bytes(gguf_type, n_cols):
    """Bytes of one row of n_cols weights; the width must divide into whole blocks."""
    weights, layout = BLOCKS[gguf_type]
    if n_cols % weights:
        raise ValueError(f"{gguf_type}: width {n_cols} is not a multiple of {weights}")
    return n_cols // weights * layout.itemsize


# ---------------------------------------------------------------------------------------------
# Encoders: float32 [n, weights of a block] -> n records

def _inverse(d):
    return np.divide(1.0, d, out=np.zeros_like(d), where=d != 0)


def _extreme(x):
    """The value of largest magnitude in each last axis, with its sign."""
    at = np.abs(x).argmax(axis=-1, keepdims=True)
    return np.take_along_axis(x, at, axis=-1)


def _nearest(x, sorted_values):
    middles = (sorted_values[1:] + sorted_values[:-1]) / 2
    return np.searchsorted(middles, x).astype(np.uint8)


def _nibbles(q):
    """32 values of 4 bits -> 16 bytes: value i in the low half of byte i, i + 16 in the high."""
    return q[..., :16] | q[..., 16:] << 4


def _bits(q):
    """32 values, bit 4 of each -> one 32-bit word, value i in bit i."""
    shifts = np.arange(32, dtype=np.uint32)
    return ((q >> 4).astype(np.uint32) << shifts).sum(axis=-1, dtype=np.uint32)


def _f16(x):
    return x[..., 0].astype(np.float16)


def _q4_0(x, out):
    d = _extreme(x) / np.float32(-8)
    out["d"] = _f16(d)
    out["qs"] = _nibbles((x * _inverse(d) + np.float32(8.5)).astype(np.uint8).clip(0, 15))


def _q4_1(x, out):
    low = x.min(axis=-1, keepdims=True)
    d = (x.max(axis=-1, keepdims=True) - low) / np.float32(15)
    out["d"], out["m"] = _f16(d), _f16(low)
    out["qs"] = _nibbles(((x - low) * _inverse(d) + np.float32(0.5)).astype(np.uint8).clip(0, 15))


def _q5_0(x, out):
    d = _extreme(x) / np.float32(-16)
    q = (x * _inverse(d) + np.float32(16.5)).astype(np.uint8).clip(0, 31)
    out["d"], out["qh"], out["qs"] = _f16(d), _bits(q), _nibbles(q & 15)


def _q5_1(x, out):
    low = x.min(axis=-1, keepdims=True)
    d = (x.max(axis=-1, keepdims=True) - low) / np.float32(31)
    q = ((x - low) * _inverse(d) + np.float32(0.5)).astype(np.uint8).clip(0, 31)
    out["d"], out["m"], out["qh"], out["qs"] = _f16(d), _f16(low), _bits(q), _nibbles(q & 15)


def _q8_0(x, out):
    d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    scaled = x * _inverse(d)
    out["d"] = _f16(d)
    out["qs"] = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))


def _iq4_nl(x, out):
    d = _extreme(x) / IQ4_VALUES[0]
    out["d"] = _f16(d)
    out["qs"] = _nibbles(_nearest(x * _inverse(d), IQ4_VALUES))


def _mxfp4(x, out):
    largest = np.abs(x).max(axis=-1, keepdims=True)
    exponent = np.floor(np.log2(largest, out=np.zeros_like(largest), where=largest > 0))
    e = np.where(largest > 0, exponent - 2 + 127, 0).clip(0, 254).astype(np.uint8)
    half = np.ldexp(np.float32(0.5), e.astype(np.int32) - 127)
    size = _nearest(np.abs(x) / half, MXFP4_VALUES[:8])
    out["e"] = e[..., 0]
    negative = (x < 0) & (size > 0)
    out["qs"] = _nibbles(size | negative.astype(np.uint8) << 3)


def _unsigned_scales(x, n_sub, levels, scale_max):
    """x = d*scale*q - dmin*min, with q in 0..levels and scale and min in 0..scale_max.

    Returns (q [n, 256], scale [n, n_sub], min [n, n_sub], d [n], dmin [n])."""
    sub = x.reshape(len(x), n_sub, -1)
    low = np.minimum(sub.min(axis=-1), 0)
    step = (np.maximum(sub.max(axis=-1), 0) - low) / np.float32(levels)
    d = (step.max(axis=-1) / scale_max).astype(np.float16)
    dmin = (-low.min(axis=-1) / scale_max).astype(np.float16)
    d32, dmin32 = (v.astype(np.float32)[:, None] for v in (d, dmin))
    scale = np.rint(step * _inverse(d32)).clip(0, scale_max)
    least = np.rint(-low * _inverse(dmin32)).clip(0, scale_max)
    q = np.rint((sub + (dmin32 * least)[..., None]) * _inverse(d32 * scale)[..., None])
    q = q.clip(0, levels).astype(np.uint8).reshape(len(x), 256)
    return q, scale.astype(np.uint8), least.astype(np.uint8), d, dmin


def _signed_scales(x, n_sub, q_low, scale_low):
    """x = d*scale*q, with q and scale signed and each at least its low limit.

    Returns (x in units of d*scale [n, n_sub, 256 / n_sub], scale [n, n_sub], d [n])."""
    sub = x.reshape(len(x), n_sub, -1)
    step = _extreme(sub)[..., 0] / np.float32(q_low)
    d = (_extreme(step) / np.float32(scale_low)).astype(np.float16)
    d32 = d.astype(np.float32)
    scale = np.rint(step * _inverse(d32)).clip(scale_low, -scale_low - 1)
    return sub * _inverse(d32 * scale)[..., None], scale.astype(np.int8), d[..., 0]


def _pack2(q):
    """256 values of 2 bits -> 64 bytes: four runs of 32 share 32 bytes."""
    q = q.reshape(-1, 2, 4, 32)
    return (q[:, :, 0] | q[:, :, 1] << 2 | q[:, :, 2] << 4 | q[:, :, 3] << 6).reshape(-1, 64)


def _pack4(q):
    """256 values of 4 bits -> 128 bytes: two runs of 32 share 32 bytes."""
    q = q.reshape(-1, 4, 2, 32)
    return (q[:, :, 0] | q[:, :, 1] << 4).reshape(-1, 128)


def _pack1(q):
    """256 values of 1 bit -> 32 bytes: bit i of byte l is value 32 i + l."""
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    return (q.reshape(-1, 8, 32) << shifts).sum(axis=1, dtype=np.uint8)


def _pack_scales6(scale, least):
    """Eight scales and eight minima of 6 bits -> 12 bytes."""
    first = scale[:, :4] | scale[:, 4:] >> 4 << 6
    second = least[:, :4] | least[:, 4:] >> 4 << 6
    return np.concatenate([first, second, scale[:, 4:] & 15 | (least[:, 4:] & 15) << 4], axis=-1)


def _q2_k(x, out):
    q, scale, least, out["d"], out["dmin"] = _unsigned_scales(x, 16, 3, 15)
    out["scales"], out["qs"] = scale | least << 4, _pack2(q)


def _q3_k(x, out):
    scaled, scale, out["d"] = _signed_scales(x, 16, -4, -32)
    q = (np.rint(scaled).clip(-4, 3) + 4).astype(np.uint8).reshape(-1, 256)
    scale = (scale + 32).astype(np.uint8)
    high = (scale >> 4).reshape(-1, 4, 4)
    out["scales"][:, :8] = scale[:, :8] & 15 | (scale[:, 8:] & 15) << 4
    out["scales"][:, 8:] = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    out["hmask"], out["qs"] = _pack1(q >> 2), _pack2(q & 3)


def _q4_k(x, out):
    q, scale, least, out["d"], out["dmin"] = _unsigned_scales(x, 8, 15, 63)
    out["scales"], out["qs"] = _pack_scales6(scale, least), _pack4(q)


def _q5_k(x, out):
    q, scale, least, out["d"], out["dmin"] = _unsigned_scales(x, 8, 31, 63)
    out["scales"], out["qh"] = _pack_scales6(scale, least), _pack1(q >> 4)
    out["qs"] = _pack4(q & 15)


def _q6_k(x, out):
    scaled, out["scales"], out["d"] = _signed_scales(x, 16, -32, -128)
    q = (np.rint(scaled).clip(-32, 31) + 32).astype(np.uint8).reshape(-1, 256)
    low = (q & 15).reshape(-1, 2, 2, 64)
    out["ql"] = (low[:, :, 0] | low[:, :, 1] << 4).reshape(-1, 128)
    out["qh"] = _pack2(q >> 4)


def _iq4_xs(x, out):
    scaled, scale, out["d"] = _signed_scales(x, 8, IQ4_VALUES[0], -32)
    scale = (scale + 32).astype(np.uint8)
    shifts = np.arange(0, 16, 2, dtype=np.uint16)
    out["scales_h"] = ((scale >> 4).astype(np.uint16) << shifts).sum(axis=-1, dtype=np.uint16)
    out["scales_l"] = scale[:, 0::2] & 15 | (scale[:, 1::2] & 15) << 4
    out["qs"] = _nibbles(_nearest(scaled, IQ4_VALUES)).reshape(-1, 128)


def _float_type(x, out):
    out[:] = x[:, 0]


def _bf16(x, out):
    """Round to nearest even; weights are finite."""
    bits = x[:, 0].view(np.uint32)
    out[:] = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16


QUANTIZE = {
    "F32": _float_type, "F16": _float_type, "BF16": _bf16,
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4,
}


def quantize(x, gguf_type):
    """Float array of any shape -> bytes as a uint8 array [all rows, bytes of a row]."""
    weights, layout = BLOCKS[gguf_type]
    n_bytes = row_bytes(gguf_type, x.shape[-1])
    x = np.ascontiguousarray(x, np.float32).reshape(-1, weights)
    out = np.zeros(len(x), layout)
    step = 1 << 16
    for at in range(0, len(x), step):
        QUANTIZE[gguf_type](x[at:at + step], out[at:at + step])
    return out.view(np.uint8).reshape(-1, n_bytes)


# ---------------------------------------------------------------------------------------------
# Random rows: random payload bits under scales that give weights a chosen spread

def _spread(n, rng, size):
    """Block scales around `size`, +-25 %, so that blocks differ as real ones do."""
    return (size * (0.75 + 0.5 * rng.random(n, np.float32))).astype(np.float32)


def _random_scales6(out, scale, least, rng):
    n = len(out)
    s = rng.integers(scale - 8, scale + 8, (n, 8), dtype=np.uint8)
    m = rng.integers(least - 8, least + 8, (n, 8), dtype=np.uint8)
    out["scales"] = _pack_scales6(s, m)


def _random_scales(gguf_type, out, sigma, rng):
    """Overwrite the scale fields of records that hold random bytes; sigma = spread of a weight."""
    n = len(out)
    if gguf_type == "MXFP4":
        out["e"] = 127 + int(np.rint(np.log2(sigma / 2.9)))
        return
    # Standard deviation of a uniform payload, in units of d (times a typical sub-scale).
    unit = {"Q4_0": 4.6, "Q4_1": 4.6, "Q5_0": 9.2, "Q5_1": 9.2, "Q8_0": 74.0, "IQ4_NL": 69.0,
            "Q2_K": 8 * 1.12, "Q3_K": 9.2 * 2.29, "Q4_K": 40 * 4.6, "Q5_K": 40 * 9.2,
            "Q6_K": 74.0 * 18.5, "IQ4_XS": 9.2 * 69.0}[gguf_type]
    d = _spread(n, rng, sigma / unit)
    out["d"] = d
    if gguf_type in ("Q4_1", "Q5_1"):
        out["m"] = d * (-7.5 if gguf_type == "Q4_1" else -15.5)
    elif gguf_type in ("Q4_K", "Q5_K"):
        # scale and min are both around 40, so dmin = d * middle of the payload centres a block.
        out["dmin"] = d * (7.5 if gguf_type == "Q4_K" else 15.5)
        _random_scales6(out, 40, 40, rng)
    elif gguf_type == "Q2_K":
        scale = rng.integers(6, 11, (n, 16), dtype=np.uint8)
        out["scales"], out["dmin"] = scale | scale << 4, d * 1.5
    elif gguf_type in ("Q3_K", "IQ4_XS"):
        # Sub-scales are 6 bits less 32; high bits of 01 and 10 keep them in -16..15.
        if gguf_type == "Q3_K":
            out["scales"][:, 8:] = np.where(out["scales"][:, 8:] & 1, 0x55, 0xAA)
        else:
            out["scales_h"] = np.where(out["scales_h"] & 1, 0x5555, 0xAAAA)


def random_blocks(gguf_type, n_rows, n_cols, rng):
    """Valid random rows as a uint8 array [n_rows, bytes of a row], about N(0, 1/sqrt(n_cols))."""
    weights, layout = BLOCKS[gguf_type]
    n_bytes = row_bytes(gguf_type, n_cols)
    sigma = 1.0 / np.sqrt(n_cols)
    if weights == 1:
        x = rng.standard_normal((n_rows, n_cols), np.float32) * np.float32(sigma)
        return quantize(x, gguf_type)
    n = n_rows * (n_cols // weights)
    raw = np.frombuffer(bytearray(rng.bytes(n * layout.itemsize)), np.uint8)
    _random_scales(gguf_type, raw.view(layout), sigma, rng)
    return raw.reshape(n_rows, n_bytes)


# ---------------------------------------------------------------------------------------------
# The file

VALUE_TYPES = {
    "u8": (0, "<B"), "i8": (1, "<b"), "u16": (2, "<H"), "i16": (3, "<h"), "u32": (4, "<I"),
    "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<?"), "str": (8, None), "array": (9, None),
    "u64": (10, "<Q"), "i64": (11, "<q"), "f64": (12, "<d"),
}


def _string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def _value_type(value):
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (str, bytes)):
        return "str"
    if isinstance(value, (float, np.floating)):
        return "f32"
    if value < 0:
        return "i32" if value >= -2**31 else "i64"
    return "u32" if value < 2**32 else "u64"


def _scalar(value, kind):
    return _string(value) if kind == "str" else struct.pack(VALUE_TYPES[kind][1], value)


def _encode(value, kind):
    if not isinstance(value, (list, tuple, np.ndarray)):
        kind = kind or _value_type(value)
        return struct.pack("<I", VALUE_TYPES[kind][0]) + _scalar(value, kind)
    if kind is None:
        kind = _value_type(value[0])
        kind = "i32" if kind == "u32" else kind
    if kind == "str":
        body = b"".join(map(_string, value))
    else:
        body = np.asarray(value).astype(VALUE_TYPES[kind][1]).tobytes()
    return struct.pack("<IIQ", VALUE_TYPES["array"][0], VALUE_TYPES[kind][0], len(value)) + body


class GGUFWriter:
    """Collects keys and tensors; `write` makes the file. Tensors keep the order they came in."""

    def __init__(self, path):
        self.path = path
        self.keys = {}
        self.tensors = []

    def add(self, key, value, type=None):
        """One metadata key. `type` is a name from VALUE_TYPES (of the elements, for an array)."""
        if key in self.keys:
            raise ValueError(f"key twice: {key}")
        self.keys[key] = _encode(value, type)

    def add_tensor(self, name, array, gguf_type="F32"):
        """A tensor from floats, encoded now."""
        data = quantize(array, gguf_type)
        self.add_lazy(name, array.shape, gguf_type, lambda: [data])

    def add_lazy(self, name, shape, gguf_type, chunks):
        """A tensor whose bytes are made while writing: chunks() yields uint8 arrays in order."""
        n_bytes = int(np.prod(shape[:-1], dtype=np.int64)) * row_bytes(gguf_type, shape[-1])
        self.tensors.append((name, tuple(shape), gguf_type, n_bytes, chunks))

    def write(self):
        with open(self.path, "wb") as f:
            f.write(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys)))
            for key, value in self.keys.items():
                f.write(_string(key) + value)
            offset = 0
            for name, shape, gguf_type, n_bytes, _ in self.tensors:
                f.write(_string(name) + struct.pack("<I", len(shape)))
                f.write(struct.pack(f"<{len(shape)}Q", *reversed(shape)))
                f.write(struct.pack("<IQ", TYPE_ID[gguf_type], offset))
                offset += n_bytes + -n_bytes % ALIGNMENT
            f.write(bytes(-f.tell() % ALIGNMENT))
            for name, _, _, n_bytes, chunks in self.tensors:
                wrote = sum(f.write(memoryview(chunk).cast("B")) for chunk in chunks())
                if wrote != n_bytes:
                    raise ValueError(f"{name}: {wrote} bytes, {n_bytes} promised")
                f.write(bytes(-n_bytes % ALIGNMENT))
