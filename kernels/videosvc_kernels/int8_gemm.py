"""A product of int8 rows whose scales, bias, gate and residual are put in before anything is written.

out = residual + gate * (codes product * row scale * column scale + bias), in one Triton kernel with its reference.
Tested through Triton's interpreter on the CPU; it has not run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

from videosvc_kernels.quantize import Int8Rows, dequantize_rows

# 96 KiB of shared memory in three stages: what every GPU since compute capability 8.0 has.
BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_INNER = 128, 128, 128
STAGES, WARPS = 3, 8
GROUP = 8  # blocks of rows that go through the columns together: their codes stay in the L2 cache


@triton.jit
def _multiply(
    a, row_scales, b, column_scales, bias, gate, residual, output,
    rows, columns, inner,
    block_rows: tl.constexpr, block_columns: tl.constexpr, block_inner: tl.constexpr, group: tl.constexpr,
):  # fmt: skip
    blocks_down, blocks_across = tl.cdiv(rows, block_rows), tl.cdiv(columns, block_columns)
    top = tl.program_id(0) // (group * blocks_across) * group
    height = tl.minimum(blocks_down - top, group)
    within = tl.program_id(0) % (group * blocks_across)
    first_row, first_column = (top + within % height) * block_rows, within // height * block_columns
    batch = tl.program_id(1).to(tl.int64)
    corner = batch * rows + first_row  # of all the batch's rows; what is counted from here on fits into 32 bits
    # Beyond the last row or column the last one is read again, and not written.
    row = tl.minimum(tl.arange(0, block_rows), rows - 1 - first_row)
    column = tl.minimum(tl.arange(0, block_columns), columns - 1 - first_column)
    k = tl.arange(0, block_inner)
    left_codes = a + corner * inner + row[:, None] * inner + k[None, :]
    right_codes = b + first_column.to(tl.int64) * inner + column[None, :] * inner + k[:, None]
    total = tl.zeros([block_rows, block_columns], tl.int32)
    for start in range(0, inner, block_inner):
        mask = k < inner - start
        left = tl.load(left_codes + start, mask=mask[None, :], other=0)
        right = tl.load(right_codes + start, mask=mask[:, None], other=0)
        total = tl.dot(left, right, total, out_dtype=tl.int32)

    y = total.to(tl.float32) * tl.load(row_scales + corner + row)[:, None]
    y *= tl.load(column_scales + first_column + column)[None, :]
    if bias is not None:
        y += tl.load(bias + first_column + column).to(tl.float32)[None, :]
    if gate is not None:
        y *= tl.load(gate + batch * columns + first_column + column).to(tl.float32)[None, :]
    place = row[:, None] * columns + column[None, :]
    if residual is not None:
        y += tl.load(residual + corner * columns + first_column + place).to(tl.float32)
    mask = (tl.arange(0, block_rows) < rows - first_row)[:, None]
    mask &= (tl.arange(0, block_columns) < columns - first_column)[None, :]
    tl.store(output + corner * columns + first_column + place, y.to(output.dtype.element_ty), mask=mask)


def int8_gemm(
    x: Int8Rows,
    weight: Int8Rows,
    bias: Tensor | None,
    dtype: torch.dtype,
    residual: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """`x`, `(B, L, K)`, by `weight`, `(N, K)`, to `(B, L, N)` of `dtype`; exact in the codes, float32 from there on.

    `bias`: `(N,)`. `gate`: `(B, N)`, what the product is multiplied by. `residual`: `(B, L, N)`, what it is added to.
    """
    batch, rows, inner = x.codes.shape
    columns = weight.codes.shape[0]
    output = torch.empty((batch, rows, columns), dtype=dtype, device=x.codes.device)
    with torch.cuda.device_of(output):
        _multiply[(triton.cdiv(rows, BLOCK_ROWS) * triton.cdiv(columns, BLOCK_COLUMNS), batch)](
            *map(_packed, (x.codes, x.scale, weight.codes, weight.scale, bias, gate, residual)), output,
            rows, columns, inner,
            block_rows=BLOCK_ROWS, block_columns=BLOCK_COLUMNS, block_inner=BLOCK_INNER, group=GROUP,
            num_stages=STAGES, num_warps=WARPS,
        )  # fmt: skip
    return output


def _packed(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def int8_gemm_reference(
    x: Int8Rows, weight: Int8Rows, bias: Tensor | None, residual: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """The same in float64."""
    y = dequantize_rows(x, torch.float64) @ dequantize_rows(weight, torch.float64).T
    y = y if bias is None else y + bias.double()
    y = y if gate is None else y * gate.double()[:, None]
    return y if residual is None else y + residual.double()
