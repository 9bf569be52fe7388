"""A SIMD vector type for Numba: ``^ & | ~``, full adder, load, store, splat, population count.

The type's data model is one LLVM vector, so each operation becomes one instruction on a machine that has it (and a
full adder two ``vpternlog`` on AVX-512).  ``LANES`` 64-bit words are as many as the host's registers hold.

Numba's on-disk cache does not notice an edit here: touch ``sliced_layers.py`` and ``sliced_codes.py`` after one.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from llvmlite import binding, ir
from numba import extending, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

if TYPE_CHECKING:
    from collections.abc import Callable

    Class = TypeVar("Class", bound=type)

# Numba carries no types; these casts keep ours.
intrinsic = cast("Callable[[Callable[..., object]], Callable[..., Any]]", extending.intrinsic)
register_model = cast("Callable[[object], Callable[[Class], Class]]", extending.register_model)

Vector: TypeAlias = Any
"""What compiled code calls a vector; Python code never sees one."""

WORD_BYTES: Final = 8


AVX512_LANES: Final = 8


def host_lanes() -> int:
    """Return the 64-bit words of the host's widest vector register: 8 (AVX-512), 4 (AVX2) or 2."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return AVX512_LANES
    return 4 if features.get("avx2") else 2


LANES: Final = host_lanes()


class VectorType(types.Type):  # type: ignore[misc]
    """The Numba type of ``LANES`` unsigned 64-bit words."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{LANES}x64")


VECTOR: Final = VectorType()
LLVM_VECTOR: Final = ir.VectorType(ir.IntType(64), LANES)


@register_model(VectorType)
class VectorModel(extending.models.PrimitiveModel):  # type: ignore[misc]
    """Represents the type by one LLVM vector."""

    def __init__(self, manager: object, numba_type: object) -> None:
        super().__init__(manager, numba_type, LLVM_VECTOR)


def _define_binary(operation: Callable[..., object], instruction: str) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: tuple[object, ...], kws: object) -> object:
            del kws
            return signature(VECTOR, VECTOR, VECTOR) if args == (VECTOR, VECTOR) else None

    def lower(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        return getattr(builder, instruction)(args[0], args[1])

    infer_global(operation)(Template)
    extending.lower_builtin(operation, VECTOR, VECTOR)(lower)


_define_binary(operator.xor, "xor")
_define_binary(operator.and_, "and_")
_define_binary(operator.or_, "or_")


@intrinsic
def address(typing: object, array: Any) -> object:  # noqa: ANN401
    """Return where an array's data is, as intp.

    Compiled layers pass addresses, not arrays: Numba counts references to arrays with atomic instructions, and does so
    in inner loops.  Whoever calls the outermost compiled function keeps the arrays alive.
    """
    del typing

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> object:  # noqa: ANN401
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(types.intp.bitwidth))

    return types.intp(array), generate


def _pointer(builder: Any, base: object, index: object, bits: int) -> Any:  # noqa: ANN401
    """Return the pointer to item ``index`` of ``bits`` bits from an address, unchecked."""
    return builder.gep(builder.inttoptr(base, ir.IntType(bits).as_pointer()), [index])


@intrinsic
def load(typing: object, base: object, word: object) -> object:
    """Return the vector at 64-bit word ``word`` from address ``base``."""
    del typing, base, word

    def generate(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        pointer = builder.bitcast(_pointer(builder, args[0], args[1], 64), LLVM_VECTOR.as_pointer())
        return builder.load(pointer, align=WORD_BYTES)

    return VECTOR(types.intp, types.intp), generate


@intrinsic
def store(typing: object, base: object, word: object, value: object) -> object:
    """Write a vector at 64-bit word ``word`` from address ``base``."""
    del typing, base, word, value

    def generate(context: Any, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del sig
        pointer = builder.bitcast(_pointer(builder, args[0], args[1], 64), LLVM_VECTOR.as_pointer())
        builder.store(args[2], pointer, align=WORD_BYTES)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, VECTOR), generate


@intrinsic
def word_at(typing: object, base: object, word: object) -> object:
    """Return 64-bit word ``word`` from address ``base``, as intp."""
    del typing, base, word

    def generate(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        return builder.load(_pointer(builder, args[0], args[1], 64))

    return types.intp(types.intp, types.intp), generate


@intrinsic
def code_at(typing: object, base: object, index: object) -> object:
    """Return 16-bit item ``index`` from address ``base``, as intp, zero-extended."""
    del typing, base, index

    def generate(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        return builder.zext(builder.load(_pointer(builder, args[0], args[1], 16)), ir.IntType(types.intp.bitwidth))

    return types.intp(types.intp, types.intp), generate


@intrinsic
def load_splat(typing: object, base: object, word: object) -> object:
    """Return 64-bit word ``word`` from address ``base`` in every lane."""
    del typing, base, word

    def generate(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        undefined = ir.Constant(LLVM_VECTOR, ir.Undefined)
        first = builder.load(_pointer(builder, args[0], args[1], 64))
        lowest = builder.insert_element(undefined, first, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(lowest, undefined, everywhere)

    return VECTOR(types.intp, types.intp), generate


@intrinsic
def zeros(typing: object) -> object:
    """Return the vector of zeros."""
    del typing

    def generate(context: object, builder: object, sig: object, args: object) -> object:
        del context, builder, sig, args
        return ir.Constant(LLVM_VECTOR, [0] * LANES)

    return VECTOR(), generate


@intrinsic
def invert(typing: object, value: object) -> object:
    """Return every bit flipped."""
    del typing, value

    def generate(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        return builder.not_(args[0])

    return VECTOR(VECTOR), generate


def _majority(builder: Any, one: object, two: object, three: object) -> object:  # noqa: ANN401
    """Return the bits set in two or three of the vectors."""
    if LANES < AVX512_LANES:
        return builder.or_(builder.and_(one, two), builder.and_(three, builder.or_(one, two)))
    # One instruction; LLVM's pattern matching finds it for the sum, but makes two of a majority.
    table = ir.Constant(ir.IntType(32), 0xE8)
    kind = ir.FunctionType(LLVM_VECTOR, [LLVM_VECTOR, LLVM_VECTOR, LLVM_VECTOR, table.type])
    ternary = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pternlog.q.512")
    return builder.call(ternary, [one, two, three, table])


@intrinsic
def full_add(typing: object, first: object, second: object, third: object) -> object:
    """Return (sum, carry) of three bits, in every bit position."""
    del typing, first, second, third
    pair = types.UniTuple(VECTOR, 2)

    def generate(context: Any, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del sig
        one, two, three = args
        total = builder.xor(builder.xor(one, two), three)
        return context.make_tuple(builder, pair, (total, _majority(builder, one, two, three)))

    return pair(VECTOR, VECTOR, VECTOR), generate


@intrinsic
def select(typing: object, condition: object, chosen: object, other: object) -> object:
    """Return ``chosen`` where ``condition`` is set, else ``other``."""
    del typing, condition, chosen, other

    def generate(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        condition, chosen, other = args
        return builder.or_(builder.and_(condition, chosen), builder.and_(builder.not_(condition), other))

    return VECTOR(VECTOR, VECTOR, VECTOR), generate


@intrinsic
def popcount(typing: object, value: object) -> object:
    """Return how many bits of a vector are set, as intp."""
    del typing, value

    def generate(context: object, builder: Any, sig: object, args: Any) -> object:  # noqa: ANN401
        del context, sig
        kind = ir.FunctionType(LLVM_VECTOR, [LLVM_VECTOR])
        count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i64")
        counts = builder.call(count, [args[0]])
        total = ir.Constant(ir.IntType(64), 0)
        for lane in range(LANES):
            total = builder.add(total, builder.extract_element(counts, ir.Constant(ir.IntType(32), lane)))
        return total

    return types.intp(VECTOR), generate
