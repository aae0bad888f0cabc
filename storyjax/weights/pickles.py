"""Pickles read without running anything: an interpreter of its own for the opcodes that data needs.

Python's unpickler imports what a file names and calls what a file says. This one knows names only as text, calls nothing but the
few functions its caller hands in, and refuses the rest by name. Opcodes: the standard library's `pickletools`.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

from storyjax.errors import StoryjaxError


@dataclasses.dataclass(frozen=True)
class Name:
    """A class or function that a pickle names. Nothing is imported for it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(frozen=True)
class Known:
    """What a pickle may ask for.

    calls: "module.name" -> our own function that is called in its place with the pickled arguments. inert: whether a name may
    stand there uncalled. persistent: what a persistent identifier (a storage of PyTorch) becomes. ignores_state: whether the
    state that a pickle wants to set on an object (BUILD) may be dropped; any other object's state is refused. makes: what stands
    for an object of a class (NEWOBJ without arguments), which then takes its attributes from BUILD; None: refused.
    """

    calls: Mapping[str, Callable[..., Any]]
    inert: Callable[[Name], bool]
    persistent: Callable[[Any], Any]
    ignores_state: Callable[[Any, Any], bool]
    makes: Callable[[Name], "Made | None"] = lambda name: None


class Made(dict):
    """Stands for an object whose class the file names and nobody imports: its attributes by name."""


def read_pickle(stream: BinaryIO, known: Known, source: str) -> Any:
    """The object of the next pickle in `stream`, which then stands behind it.

    source: the file's name, for errors. Errors: a name or call that is not `known`, by its name; a damaged or cut-off pickle;
    a dictionary key that stands twice.
    """
    machine = _Machine(known, source)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except StoryjaxError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError, RecursionError) as error:
        raise StoryjaxError(
            f"'{source}' is cut off or damaged ({error or type(error).__name__}); copy or save it again"
        ) from None
    raise StoryjaxError(f"'{source}' is cut off; copy or save it again")


_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_VALUES = _NUMBERS | _TEXTS | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SCALARS = (str, bytes, int, float, Name, type(None))


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, known: Known, source: str):
        self.known, self.source = known, source
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def step(self, op: str, argument: Any) -> None:
        """One opcode."""
        if op in _VALUES:
            self.stack.append(argument)
        elif op in _CONSTANTS:
            self.stack.append(_CONSTANTS[op])
        elif op in _EMPTY:
            self.stack.append(_EMPTY[op]())
        elif op in _TUPLES:
            count = _TUPLES[op]
            self.stack[-count:] = [tuple(self._top(count))]
        elif op in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif (method := getattr(self, f"_{op.lower()}", None)) is not None:
            method() if argument is None else method(argument)
        else:
            raise StoryjaxError(f"'{self.source}' is refused: its pickle uses {op}, which no saved tensors need")

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("pickle stack is empty")
        return self.stack[-count:]

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark, taken off the stack."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def _nothing(self, *_: Any) -> None:
        pass

    _proto = _frame = _nothing

    def _mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _pop(self) -> None:
        self.stack.pop() if self.stack else self._marked()

    def _pop_mark(self) -> None:
        self._marked()

    def _dup(self) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _list(self) -> None:
        items = self._marked()
        self.stack.append(items)

    def _tuple(self) -> None:
        items = self._marked()
        self.stack.append(tuple(items))

    def _dict(self) -> None:
        items = self._marked()
        self.stack.append({})
        self._set(items)

    def _frozenset(self) -> None:
        items = self._marked()
        self.stack.append(frozenset(map(self._hashable, items)))

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _appends(self) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError(f"items are appended to a {type(target).__name__}")
        target.extend(items)

    def _additems(self) -> None:
        items = self._marked()
        target = self.stack[-1]
        if type(target) is not set:
            raise TypeError(f"items are added to a {type(target).__name__}")
        target.update(map(self._hashable, items))

    def _setitem(self) -> None:
        items = self._top(2)
        del self.stack[-2:]
        self._set(items)

    def _setitems(self) -> None:
        self._set(self._marked())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise TypeError(f"keys are set on a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if self._hashable(key) in target:
                raise StoryjaxError(f"'{self.source}': '{key}' stands twice in a dictionary; save the file again")
            target[key] = value

    def _hashable(self, key: Any) -> Any:
        """A key as it is; only flat ones, because hashing a deep nest of tuples can overflow the C stack."""
        flat = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, _SCALARS) for part in flat):
            raise TypeError(f"a {type(key).__name__} is used as a key")
        return key

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self) -> None:
        module, name = self._top(2)
        del self.stack[-2:]
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a name is no text")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        asked = Name(module, name)
        if str(asked) not in self.known.calls and not self.known.inert(asked):
            self._refuse(f"asks for {asked}")
        self.stack.append(asked)

    def _binpersid(self) -> None:
        self.stack.append(self.known.persistent(self.stack.pop()))

    def _reduce(self) -> None:
        function, arguments = self._top(2)
        del self.stack[-2:]
        if not isinstance(function, Name) or str(function) not in self.known.calls:
            self._refuse(f"wants to call {_described(function)}")
        if not isinstance(arguments, tuple):
            raise TypeError("arguments are no tuple")
        self.stack.append(self.known.calls[str(function)](*arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Made) and type(state) is dict and all(isinstance(name, str) for name in state):
            target.update(state)
        elif not self.known.ignores_state(self.stack[-1], state):
            self._refuse(f"wants to set the state of {_described(self.stack[-1])}")

    def _newobj(self) -> None:
        kind, arguments = self._top(2)
        made = self.known.makes(kind) if isinstance(kind, Name) and arguments == () else None
        if made is None:
            self._refuse(f"wants to make a {_described(kind)}")
        self.stack[-2:] = [made]

    def _newobj_ex(self) -> NoReturn:
        self._refuse(f"wants to make a {_described(self._top(3)[0])}")

    def _obj(self) -> NoReturn:
        self._refuse(f"wants to make a {_described(self._marked()[0])}")

    def _inst(self, argument: str) -> NoReturn:
        self._refuse(f"wants to make a {Name(*argument.split(' ', 1))}")

    def _refuse(self, what: str) -> NoReturn:
        raise StoryjaxError(
            f"'{self.source}' is refused: its pickle {what}, and only tensors, numbers and plain containers are read; "
            "nothing was run. Where you trust the file, save its weights as .safetensors with PyTorch"
        )


def _described(value: Any) -> str:
    return str(value) if isinstance(value, Name) else f"an object of type {type(value).__name__}"
