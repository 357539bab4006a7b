"""Compiles every Triton kernel for a GPU that need not be there: `python tests/compiled_kernels.py 90`, compute
capability 9.0. A line of JSON a kernel says what it needs.

A process of its own: where Triton's interpreter was asked for, nothing is compiled.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from videosvc_kernels import coded_attention, fused_quantize, int8_gemm, norm_rotate

INT8, BFLOAT16, FLOAT32 = "*i8", "*bf16", "*fp32"
ODD = ("tokens", "rows", "queries", "keys")  # all other sizes are multiples of 16

# Types of arguments that are not int32, values of those that are known when compiling, and options: in Wan2.1-1.3B.
MODULATE = {"x": BFLOAT16, "gain": FLOAT32, "shift": FLOAT32, "codes": INT8, "scales": FLOAT32, "epsilon": "fp32"}
ACTIVATE = {"x": BFLOAT16, "codes": INT8, "scales": FLOAT32}
ROTATE = {"x": BFLOAT16, "weight": BFLOAT16, "cos": FLOAT32, "sin": FLOAT32, "output": BFLOAT16, "epsilon": "fp32"}
MULTIPLY = {"a": INT8, "row_scales": FLOAT32, "b": INT8, "column_scales": FLOAT32, "bias": FLOAT32, "gate": FLOAT32}
ATTEND = {"query": BFLOAT16, "key_codes": INT8, "key_scales": FLOAT32, "value_codes": INT8, "value_scales": FLOAT32}
KERNELS: tuple[tuple[Any, Mapping[str, str], Mapping[str, Any], Mapping[str, int]], ...] = (
    (fused_quantize._modulate, MODULATE, {"block": 2048}, {"num_warps": fused_quantize.WARPS}),
    (fused_quantize._activate, ACTIVATE, {"gelu": True, "block": 16384}, {"num_warps": fused_quantize.WARPS}),
    (norm_rotate._norm_rotate, ROTATE, {"heads": 12, "half": 64, "block": 1024}, {"num_warps": norm_rotate.WARPS}),
    (
        int8_gemm._multiply,
        {**MULTIPLY, "residual": BFLOAT16, "output": BFLOAT16},
        {
            "block_rows": int8_gemm.BLOCK_ROWS,
            "block_columns": int8_gemm.BLOCK_COLUMNS,
            "block_inner": int8_gemm.BLOCK_INNER,
            "group": int8_gemm.GROUP,
        },
        {"num_warps": int8_gemm.WARPS, "num_stages": int8_gemm.STAGES},
    ),
    (
        coded_attention._attend,
        {**ATTEND, "codebook": FLOAT32, "output": FLOAT32, "weight": FLOAT32, "softmax_scale": "fp32"},
        {"half": 64, "half_block": 64, "four_bits": False, "block_queries": 64, "block_keys": 64},
        {"num_stages": 1},
    ),
)


def compiled(
    kernel: Any, types: Mapping[str, str], known: Mapping[str, Any], options: Mapping[str, int], capability: int
) -> dict[str, Any]:
    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr" if name in known else "i32") for name in names}
    even = [name for name, kind in signature.items() if kind[0] == "*" or (kind == "i32" and name not in ODD)]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in known.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in even},
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(options))
    return {
        "kernel": kernel.fn.__name__,
        "shared_bytes": made.metadata.shared,
        "stack_bytes": stack_bytes(made.asm["cubin"]),
        "int8_products": bool(re.search(r"mma\S*\.s32\.s8\.s8", made.asm["ptx"])),
    }


def stack_bytes(cubin: bytes) -> int:
    """What does not fit into registers."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(int(size) for size in re.findall(r"STACK:(\d+)", usage))


if __name__ == "__main__":
    for entry in KERNELS:
        print(json.dumps(compiled(*entry, capability=int(sys.argv[1]))))
