"""What an attacker sends: small bytes that ask for much."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
from PIL import Image


def png(width: int, height: int) -> bytes:
    """A whole PNG of one bit a pixel, all black: 8,000 pixels a byte once compressed."""
    row = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def jpeg(width: int, height: int, progressive: bool = False) -> bytes:
    out = io.BytesIO()
    picture = Image.new("RGB", (width, height), (90, 120, 150))
    picture.save(out, "JPEG", quality=50, progressive=progressive)
    return out.getvalue()


def scans(width: int, height: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times; each costs as much as the picture."""
    data = jpeg(width, height, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def strips(count: int) -> bytes:
    """A TIFF of one column that says it has `count` strips of one row each."""
    tags = [
        (256, 3, 1, 1),
        (257, 4, 1, count),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 3, count, 200),
        (278, 3, 1, 1),
        (279, 3, count, 200),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    return (head + body).ljust(200, b"\0") + b"\1\0" * count


def compressed(runs: list[int]) -> str:
    """COCO's compression of run lengths of any size."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            text += chr(48 + (code | 32 if more else code))
            if not more:
                break
    return text


def wrapping(pixels: int) -> list[str]:
    """Run lengths that add up to `pixels` modulo 2^64 or 2^32."""
    many = [2**48] * 65_536
    return [
        compressed([*many[:-1], 2**48 + pixels]),
        compressed([*many, pixels]),
        compressed([2**32 + pixels]),
        compressed([2**31, 2**31, pixels]),
        compressed([2**63 - 1, 2**63 - 1, pixels + 2]),
        compressed([-5, pixels + 5]),
        compressed([pixels, 2**34 - 1, -(2**34) + 1]),
    ]


def damaged(pixels: int, count: int, seed: int = 0) -> list[str]:
    """Random strings of the characters of run lengths, and good ones with one character changed."""
    rng = np.random.default_rng(seed)
    found = []
    good = compressed([pixels // 2, pixels - pixels // 2])
    for i in range(count):
        if i % 2:
            text = list(good)
            text[int(rng.integers(len(text)))] = chr(int(rng.integers(48, 112)))
            found.append("".join(text))
        else:
            found.append("".join(map(chr, rng.integers(48, 112, int(rng.integers(1, 2000))))))
    return found


MIB4 = 4 * (1 << 20) - 1000


def json_bodies() -> dict[str, bytes]:
    """JSON of up to four MiB, of every kind that costs more than it should."""
    point = '{"points": [[5, 5]], "labels": %s}'
    labels = "[" + "2," * (MIB4 // 2) + "2]"
    keys = ",".join(f'"k{i}":1' for i in range(MIB4 // 12))
    return {
        "wrong labels": b'{"prompts": [' + (point % labels).encode() + b"]}",
        "unknown keys": b"{" + keys.encode() + b"}",
        "unknown keys of prompts": b'{"prompts": [{' + keys.encode() + b"}]}",
        "empty prompts": b'{"prompts": [' + b"{}," * (MIB4 // 3) + b"{}]}",
        "empty lists": b'{"prompts": [' + b"[]," * (MIB4 // 3) + b"[]]}",
        "deep": b'{"prompts": ' + b"[" * (MIB4 - 20),
        "deep objects": b'{"a":' * (MIB4 // 5),
        "many digits": b'{"prompts": [{"points": [[1' + b"0" * 400 + b", 1]]}]}",
        "very many digits": b'{"prompts": [{"points": [[1' + b"0" * (MIB4 // 2) + b", 1]]}]}",
        "one long text": b'{"prompts": [{"low_res_logits": "' + b"A" * MIB4 + b'"}]}',
        "points": json.dumps({"prompts": [{"points": [[1, 1]] * 20_000}]}).encode(),
        "not UTF-8": b'{"prompts": "\xff\xfe"}',
    }
