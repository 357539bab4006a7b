"""`partial_attention` over keys and values that stay encoded: a Triton kernel that decodes them in registers.

Decoded keys and values are never written anywhere. Tested through Triton's interpreter on the CPU, and compiled for
compute capability 9.0 in bfloat16; it has not run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

from videosvc_kernels.cache_codec import CacheCodec, Int4Codec, Parts
from videosvc_kernels.partial_attention import Partial

BLOCK_QUERIES, BLOCK_KEYS = 64, 64
LOG2_E = tl.constexpr(1.4426950408889634)


# Numbers 2i and 2i + 1 of a vector share a byte in four bits. So everything here is in two halves, even and odd, and
# nothing is interleaved: an inner product is the sum of the halves' products.
@triton.jit
def _attend(
    query, key_codes, key_scales, value_codes, value_scales, codebook, output, weight,
    queries, keys, softmax_scale,
    half: tl.constexpr, half_block: tl.constexpr, four_bits: tl.constexpr,
    block_queries: tl.constexpr, block_keys: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * block_queries + tl.arange(0, block_queries)
    numbers = tl.arange(0, half_block)
    row_mask = rows[:, None] < queries
    number_mask = numbers[None, :] < half
    here = (head * queries + rows[:, None]) * 2 * half + 2 * numbers[None, :]
    even_query = tl.load(query + here, mask=row_mask & number_mask, other=0.0)
    odd_query = tl.load(query + here + 1, mask=row_mask & number_mask, other=0.0)

    largest = tl.full([block_queries], float("-inf"), tl.float32)
    total = tl.zeros([block_queries], tl.float32)
    even_sum = tl.zeros([block_queries, half_block], tl.float32)
    odd_sum = tl.zeros([block_queries, half_block], tl.float32)
    for start in range(0, keys, block_keys):
        columns = start + tl.arange(0, block_keys)
        column_mask = columns < keys
        mask = column_mask[:, None] & number_mask
        token = head * keys + columns
        even, odd = _decode(key_codes, token, numbers, codebook, mask, half, four_bits, query.dtype.element_ty)
        scores = tl.dot(even_query, tl.trans(even), input_precision="ieee")
        scores += tl.dot(odd_query, tl.trans(odd), input_precision="ieee")
        key_scale = tl.load(key_scales + token, mask=column_mask, other=0.0).to(tl.float32)
        scores = tl.where(column_mask[None, :], scores * key_scale[None, :] * (softmax_scale * LOG2_E), float("-inf"))

        new_largest = tl.maximum(largest, tl.max(scores, 1))
        shares = tl.exp2(scores - new_largest[:, None])
        fading = tl.exp2(largest - new_largest)
        total = total * fading + tl.sum(shares, 1)
        largest = new_largest

        even, odd = _decode(value_codes, token, numbers, codebook, mask, half, four_bits, query.dtype.element_ty)
        value_scale = tl.load(value_scales + token, mask=column_mask, other=0.0).to(tl.float32)
        scaled = (shares * value_scale[None, :]).to(query.dtype.element_ty)
        even_sum = even_sum * fading[:, None] + tl.dot(scaled, even, input_precision="ieee")
        odd_sum = odd_sum * fading[:, None] + tl.dot(scaled, odd, input_precision="ieee")

    tl.store(output + here, even_sum / total[:, None], mask=row_mask & number_mask)
    tl.store(output + here + 1, odd_sum / total[:, None], mask=row_mask & number_mask)
    tl.store(weight + head * queries + rows, largest / LOG2_E + tl.log(total), mask=rows < queries)


@triton.jit
def _decode(codes, token, numbers, codebook, mask, half: tl.constexpr, four_bits: tl.constexpr, dtype: tl.constexpr):
    """The even and the odd numbers of some tokens' vectors, each (tokens, numbers), not scaled yet."""
    if four_bits:
        packed = tl.load(codes + token[:, None] * half + numbers[None, :], mask=mask, other=0).to(tl.int32)
        even = tl.load(codebook + (packed & 15), mask=mask, other=0.0)
        odd = tl.load(codebook + (packed >> 4), mask=mask, other=0.0)
    else:
        here = codes + token[:, None] * 2 * half + 2 * numbers[None, :]
        even = tl.load(here, mask=mask, other=0)
        odd = tl.load(here + 1, mask=mask, other=0)
    return even.to(dtype), odd.to(dtype)  # all int8 codes are exact in bfloat16


def coded_attention(query: Tensor, keys: Parts, values: Parts, codec: CacheCodec) -> Partial:
    """`query`: `(B, H, L, D)`, rotated as `codec` does, D even; the output is still rotated, and float32.

    `keys`, `values`: what an `Int8Codec` or `Int4Codec` made of `(B, H, M, D)`.
    """
    batch, heads, queries, dim = query.shape
    parts = [part.contiguous() for part in (*keys, *values)]
    tokens = parts[0].shape[2]
    output = torch.empty(query.shape, dtype=torch.float32, device=query.device)
    weight = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
    four_bits = isinstance(codec, Int4Codec)
    grid = (triton.cdiv(queries, BLOCK_QUERIES), batch * heads)
    with torch.cuda.device_of(query):
        _attend[grid](
            query.contiguous(), *parts, codec.codebook if isinstance(codec, Int4Codec) else weight, output, weight,
            queries, tokens, dim**-0.5,
            half=dim // 2, half_block=max(16, triton.next_power_of_2(dim // 2)), four_bits=four_bits,
            block_queries=BLOCK_QUERIES, block_keys=BLOCK_KEYS,
            num_stages=1,  # 32 KiB of shared memory at D = 128, which any GPU has; 2 stages would take 96
        )  # fmt: skip
    return Partial(output, weight)
