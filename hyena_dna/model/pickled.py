"""Reads a pickle as data: its opcodes are interpreted here, and nothing that it names is imported or called.

`pickle` runs whatever callables a file names, and a subclass of its `Unpickler` still calls what `find_class` returns
and sets attributes on it. This interpreter has no such step. It knows the opcodes that checkpoints are made of; the
tensors of a checkpoint become `TensorRecord`s, objects of packages known to be inert become `Placeholder`s without
content, and a name outside those lists is an error.
"""

from __future__ import annotations

import math
import pickletools
import struct
from dataclasses import dataclass
from typing import Any, NoReturn

from hyena_dna.errors import InputError

__all__ = ["Global", "Pickle", "Placeholder", "Storage", "TensorRecord", "read_pickle"]

SIZE_LIMIT = 16 << 20
"""Largest pickle that is read, in bytes; tensors lie outside it, so real ones are well below 1 MiB."""

ITEM_SIZES = {
    "BFloat16Storage": 2, "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1, "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8, "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "IntStorage": 4,
    "LongStorage": 8, "ShortStorage": 2,
}  # fmt: skip
"""Storage classes of torch and the bytes of one element."""

_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_ORDERED_DICT = "collections.OrderedDict"
_UNDERSTOOD = {_REBUILD_TENSOR, *_REBUILD_PARAMETER, _ORDERED_DICT, *(f"torch.{name}" for name in ITEM_SIZES)}

# Names whose objects carry no weights. They stand for themselves only: a placeholder is never called.
_INERT_PACKAGES = {"omegaconf", "typing", "lightning", "lightning_fabric", "pytorch_lightning"}
_INERT = {
    *(f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int",
                                      "list", "long", "set", "str", "tuple", "unicode")),
    *(f"collections.{name}" for name in ("Counter", "defaultdict", "deque")),
    *(f"torch.{name}" for name in ("Size", "device", "bfloat16", "bool", "float16", "float32", "float64", "int32",
                                   "int64", "uint8")),
    "_codecs.encode",
}  # fmt: skip

_LITERALS = {
    "BINBYTES", "BINFLOAT", "BININT", "BININT1", "BININT2", "BINUNICODE", "BINUNICODE8", "LONG1", "LONG4",
    "SHORT_BINBYTES", "SHORT_BINSTRING", "SHORT_BINUNICODE",
}  # fmt: skip
_PYTHON_2 = {"__builtin__": "builtins"}
_SCALARS = (str, bytes, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the file refers to, e.g. `collections.OrderedDict`; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Placeholder:
    """Stands for an object of an inert class, whose content is dropped."""

    kind: Global


@dataclass(frozen=True, slots=True)
class Storage:
    """Where elements of tensors lie: a record of the archive, its class such as `FloatStorage`, its element count."""

    key: str
    kind: str
    numel: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """A tensor as a strided view of a storage; offset and strides in elements, inside the storage's bounds."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pickle:
    """What a pickle holds.

    Attributes:
        content: dicts, lists, tuples, scalars, `TensorRecord`, `Placeholder`, `Global`.
        storages: every storage that it refers to, by key.
    """

    content: Any
    storages: dict[str, Storage]


def read_pickle(data: bytes) -> Pickle:
    """Interpret a pickle written by `torch.save`.

    Raises:
        InputError: a name outside the lists above, an opcode that checkpoints do not need, a tensor that does not fit
            its storage, or no complete pickle. Names no file; the caller knows it.
    """
    if len(data) > SIZE_LIMIT:
        raise InputError(f"its pickle has {len(data):,} bytes; checkpoints need far less than {SIZE_LIMIT:,}")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return Pickle(machine.stack.pop(), machine.storages)
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error) as error:
        raise InputError(f"its pickle is damaged: {error}") from None


class _Machine:
    """The pickle machine: a stack and a memo of plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case _ if name in _LITERALS:
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack.append(tuple(stack.pop() for _ in range(count))[::-1])
            case "MARK":
                self.below_marks.append(stack)
                self.stack = []
            case "TUPLE":
                items = self._pop_mark()
                self.stack.append(tuple(items))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = self._pop_mark()
                self._set_items(self.stack[-1], items)
            case "APPEND":
                item = stack.pop()
                self._extend(stack[-1], [item])
            case "APPENDS" | "ADDITEMS":
                items = self._pop_mark()
                self._extend(self.stack[-1], items)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(_admit(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_admit(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_apply(function, arguments))
            case "BUILD":
                stack.pop()
                if type(stack[-1]) not in (dict, Placeholder):
                    _refuse(f"sets the state of a {type(stack[-1]).__name__}")
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case _:
                _refuse(f"uses the pickle opcode {name}")

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    @staticmethod
    def _set_items(target: Any, items: list[Any]) -> None:
        if type(target) is Placeholder:
            return
        if type(target) is not dict:
            _refuse(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a tuple that is nested deep enough would exhaust the interpreter's C stack.
            if not isinstance(key, (*_SCALARS, Global, Placeholder)):
                _refuse(f"has a {type(key).__name__} as a key")
            target[key] = value

    @staticmethod
    def _extend(target: Any, items: list[Any]) -> None:
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Placeholder:
            _refuse(f"appends to a {type(target).__name__}")

    def _storage(self, identifier: Any) -> Storage:
        match identifier:
            case ("storage", Global("torch", kind), str(key), str(), int(numel)) if kind in ITEM_SIZES and numel >= 0:
                storage = Storage(key, kind, numel)
                if self.storages.setdefault(key, storage) != storage:
                    _refuse(f"describes the storage {key!r} in two ways")
                return storage
        _refuse("refers to something that is not a tensor's storage")


def _refuse(what: str) -> NoReturn:
    raise InputError(f"refused: its pickle {what}", remedy="no checkpoint needs that; do not trust this file")


def _admit(module: Any, name: Any) -> Global:
    if type(module) is not str or type(name) is not str:
        _refuse("makes up the name of a global")
    found = Global(_PYTHON_2.get(module, module), name)
    full = str(found)
    # A dotted name would reach through a module, e.g. typing.sys.
    inert = module.split(".")[0] in _INERT_PACKAGES and "." not in name
    if full not in _UNDERSTOOD and full not in _INERT and not inert:
        _refuse(f"names {full}, which is neither a tensor nor known to be inert")
    return found


def _apply(function: Any, arguments: Any) -> Any:
    if type(function) is not Global or type(arguments) is not tuple:
        _refuse(f"calls a {type(function).__name__}")
    name = str(function)
    if name == _REBUILD_TENSOR:
        return _tensor(arguments)
    if name in _REBUILD_PARAMETER:
        return arguments[0]
    if name == _ORDERED_DICT:
        if arguments:
            _refuse("fills an OrderedDict by calling it")
        return {}
    return Placeholder(function)


def _tensor(arguments: tuple[Any, ...]) -> TensorRecord:
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(stride), *_):
            pass
        case _:
            _refuse("rebuilds a tensor from something else than a storage, an offset, a shape and strides")
    if len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in (offset, *shape, *stride)):
        _refuse("rebuilds a tensor with an impossible shape")
    # Also for strides of zero, which would let a small storage become a tensor of any size.
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    elements = math.prod(shape)
    if elements > storage.numel or (elements and last >= storage.numel):
        _refuse(f"declares a tensor of shape {shape} over a storage of {storage.numel:,} elements")
    return TensorRecord(storage, offset, shape, stride)
