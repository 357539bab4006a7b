"""Tensor building blocks: they know shapes and numbers, not models, jobs or video."""

from videosvc_kernels.bfloat16 import bfloat16_refusal
from videosvc_kernels.cache_codec import CacheCodec, Int4Codec, Int8Codec, NativeCodec
from videosvc_kernels.conv3d import use_onednn
from videosvc_kernels.fp8_linear import Fp8Linear, fp8_product_refusal, fp8_refusal
from videosvc_kernels.frame_cache import FrameCache
from videosvc_kernels.gelu import gelu_tanh
from videosvc_kernels.int8_linear import Int8Linear, int8_product_refusal, int8_refusal
from videosvc_kernels.low_bit_linear import LowBitLinear
from videosvc_kernels.quantized_linears import linears, load_quantized, quantize_linears, quantized_state
from videosvc_kernels.rope import Rotation, rotate
from videosvc_kernels.sensitivity import Sensitivity, keep_high, layers_to_keep, sensitivities
from videosvc_kernels.tiles import blend, spans
from videosvc_kernels.triton_refusal import failure_of, triton_refusal
from videosvc_kernels.weight_file import read_weights, write_weights

__all__ = [
    "CacheCodec",
    "Fp8Linear",
    "FrameCache",
    "Int4Codec",
    "Int8Codec",
    "Int8Linear",
    "LowBitLinear",
    "NativeCodec",
    "Rotation",
    "Sensitivity",
    "bfloat16_refusal",
    "blend",
    "failure_of",
    "fp8_product_refusal",
    "fp8_refusal",
    "gelu_tanh",
    "int8_product_refusal",
    "int8_refusal",
    "keep_high",
    "layers_to_keep",
    "linears",
    "load_quantized",
    "quantize_linears",
    "quantized_state",
    "read_weights",
    "rotate",
    "sensitivities",
    "spans",
    "triton_refusal",
    "use_onednn",
    "write_weights",
]
